//! Hostile peers: how often they spoke, and what they heard.

use crate::limits;
use crate::verdict::findings::Lack;
use serde::{Deserialize, Serialize};

/// The return of one call, or of bytes that are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Return {
    Answered,
    Refused,
    /// The connection ended.
    Ended,
    Unanswered,
}

/// Counts over a whole run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostileRecord {
    /// Members that had to be spoken to.
    pub members: u64,
    /// Those of them that refused enough to have been heard.
    pub heard: u64,
    /// Calls that were answered, in the name of a member to come.
    pub answered: u64,
    pub refused: u64,
    /// Connections that ended.
    pub ended: u64,
    /// Neither answered nor refused in time.
    pub unanswered: u64,
}

impl HostileRecord {
    pub fn note(&mut self, heard: Return) {
        *match heard {
            Return::Answered => &mut self.answered,
            Return::Refused => &mut self.refused,
            Return::Ended => &mut self.ended,
            Return::Unanswered => &mut self.unanswered,
        } += 1;
    }

    /// Whether one member, whose counts these are, was spoken to often enough.
    pub fn is_heard(&self) -> bool {
        self.refused >= limits::HOSTILE_REFUSED_MIN
    }

    pub fn calls(&self) -> u64 {
        self.answered + self.refused + self.ended + self.unanswered
    }

    pub fn add(&mut self, other: &Self) {
        self.members += other.members;
        self.heard += other.heard;
        self.answered += other.answered;
        self.refused += other.refused;
        self.ended += other.ended;
        self.unanswered += other.unanswered;
    }

    /// The reason why the run says nothing about hostile peers; `None`: it says something.
    pub fn lacking(&self) -> Option<Lack> {
        let Self { members, heard, refused, .. } = *self;
        let refused_min = limits::HOSTILE_REFUSED_MIN;
        (heard < members).then_some(Lack::HostilePeersUnheard { members, heard, refused_min, refused })
    }

    /// A line for a report.
    pub fn sentence(&self) -> String {
        let Self { members, heard, answered, refused, ended, unanswered } = self;
        format!(
            "{calls} acts at {members} members, and {heard} of these heard enough: {refused} were refused, {answered} answered, \
             {ended} ended with their connection, {unanswered} had no answer in time",
            calls = self.calls()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_that_refused_little_was_not_heard_from() {
        let mut one = HostileRecord { members: 1, ..HostileRecord::default() };
        for _ in 0..limits::HOSTILE_REFUSED_MIN {
            assert!(!one.is_heard());
            one.note(Return::Refused);
        }
        assert!(one.is_heard());
        [Return::Answered, Return::Ended, Return::Unanswered].into_iter().for_each(|heard| one.note(heard));
        assert_eq!(one.calls(), limits::HOSTILE_REFUSED_MIN + 3);
        assert!(one.lacking().is_some());
        one.heard = 1;
        assert_eq!(one.lacking(), None);
        one.add(&HostileRecord { members: 1, refused: 2, ..HostileRecord::default() });
        let (heard, members, refused) = (1, 2, limits::HOSTILE_REFUSED_MIN + 2);
        let refused_min = limits::HOSTILE_REFUSED_MIN;
        assert_eq!(one.lacking(), Some(Lack::HostilePeersUnheard { members, heard, refused_min, refused }));
    }
}
