//! Promise: a dead directory, and the start of its member alone, are what they must be after
//! nothing but our own crash.
//!
//! These judges need no cluster and no history beyond what was known of the member, so they can be
//! asked about crash states that no run has left: those of the same instant.

use super::replay_start::{Restart, check_dead, check_replay_start};
use super::votes::check_vote;
use ninelives_evidence::verdict::Finding;
use ninelives_evidence::verdict::findings::parts::Vote;
use ninelives_evidence::verdict::findings::{Restarts, What};
use ninelives_evidence::{DeadMember, Recovered};

/// What was known of a member before the crash.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Known {
    pub cycle: u32,
    pub member: u64,
    /// The highest applied index that was received of it: its log was durable to there.
    pub applied: Option<u64>,
    pub vote: Option<Vote>,
}

/// Judges a dead directory.
pub fn check_left(known: &Known, dead: &DeadMember) -> Vec<Finding> {
    let restart = known.restart(dead, known.applied);
    let mut findings = check_dead(&restart);
    findings.extend(check_vote(&restart, known.vote));
    findings
}

/// Judges the account of a member that recovered alone, and applied what its own log has saved as
/// committed. That may be less than it had applied, and nothing at all.
pub fn check_started(known: &Known, dead: &DeadMember, recovered: &Recovered) -> Vec<Finding> {
    let nothing_scanned =
        |found: &Finding| matches!(found.what, What::Restarts(Restarts::ScannedFromElsewhere { found: None, .. }));
    let findings = check_replay_start(&known.restart(dead, None), recovered);
    findings.into_iter().filter(|found| !nothing_scanned(found)).collect()
}

impl Known {
    fn restart<'a>(&self, dead: &'a DeadMember, applied_received: Option<u64>) -> Restart<'a> {
        Restart { cycle: self.cycle, member: self.member, dead, applied_received }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judges::testing;
    use ninelives_evidence::verdict::Class;

    fn dead() -> DeadMember {
        DeadMember { install_under_way: Some(false), ..testing::dead() }
    }

    /// A member alone may replay nothing, because nothing is committed.
    fn recovered() -> Recovered {
        Recovered { replayed: None, ..testing::recovered() }
    }

    #[test]
    fn a_directory_is_judged_by_what_was_known_of_its_member() {
        let found = |alter: fn(&mut DeadMember, &mut Known)| {
            let (mut dead, mut known) = (dead(), Known { cycle: 3, member: 2, ..Known::default() });
            alter(&mut dead, &mut known);
            check_left(&known, &dead).into_iter().map(|found| (found.class(), found.member)).collect::<Vec<_>>()
        };
        assert_eq!(found(|_, known| known.applied = Some(20)), []);
        let of_n2 = |class| vec![(class, Some(2))];
        assert_eq!(found(|dead, _| dead.last_purged = Some(11)), of_n2(Class::PurgedAboveN));
        assert_eq!(found(|dead, _| dead.last_flushed_index = Some(15)), of_n2(Class::IndexAheadOfEngine));
        assert_eq!(found(|_, known| known.applied = Some(23)), of_n2(Class::LostWrite));
        let later = |_: &mut DeadMember, known: &mut Known| {
            known.vote = Some(Vote { term: 4, node: Some(2), committed: false });
        };
        assert_eq!(found(later), of_n2(Class::VoteWentBack));
    }

    #[test]
    fn a_member_alone_may_know_nothing_committed() {
        let known = Known::default();
        assert_eq!(check_started(&known, &dead(), &recovered()), []);
        let idle = Recovered { scan_start: None, verified: None, ..recovered() };
        let dead_at_n = DeadMember { engine_index: Some(10), ..dead() };
        let idle = Recovered { engine_index: Some(10), ..idle };
        assert_eq!(check_started(&known, &dead_at_n, &idle), []);
        let elsewhere = Recovered { scan_start: Some(12), ..recovered() };
        assert_eq!(check_started(&known, &dead(), &elsewhere).len(), 1);
        let other_n = Recovered { last_flushed_index: Some(9), ..recovered() };
        assert_eq!(check_started(&known, &dead(), &other_n).len(), 1);
    }
}
