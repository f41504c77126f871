//! Promise: a vote never goes back, and a term has one leader.
//!
//! The vote is read from the dead directory by a separate binary, and compared with the last one known of the same raft log
//! (an id's, never a slot's): its term only grows, and within a term it moves only from a candidate to the leader that
//! a quorum chose. A member that forgot its vote may give it twice, and two leaders of one term is what comes of that: so
//! who leads is also compared between all members, as they say it of themselves while they live.

use super::Alarms;
use super::replay_start::{Restart, words};
use super::watermarks::Reading;
use crate::inspect::DeadMember;
use crate::verdict::{Class, Finding};
use std::collections::BTreeMap;

/// A member's vote, as it was last read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vote {
    pub term: u64,
    /// Whom it voted for, if the source tells.
    pub node: Option<u64>,
    /// A quorum granted that vote: `node` is the leader of `term`.
    pub committed: bool,
}

impl Vote {
    /// The vote in a dead log; `None`: it never voted.
    pub fn of(dead: &DeadMember) -> Option<Self> {
        let committed = dead.vote_committed == Some(true);
        Some(Self { term: dead.vote_term?, node: dead.vote_node, committed })
    }
}

/// Compares a member's vote with the last one known of it. Its term never goes back; within a term the vote
/// moves only from a candidate to the leader that a quorum chose.
pub fn check_vote(restart: &Restart<'_>, known: Option<Vote>) -> Option<Finding> {
    // A log that cannot be read tells no vote; that it cannot be read has been said.
    let known = known.filter(|_| restart.dead.log_error.is_none())?;
    let why = match Vote::of(restart.dead) {
        None => format!("the vote of term {} is gone from the dead log", known.term),
        Some(vote) if vote.term < known.term => {
            format!("the dead log has a vote of term {}, it had one of term {} before", vote.term, known.term)
        }
        Some(vote) if vote.term == known.term && moved(known, vote) => {
            format!("in term {} the vote moved from n{} to n{}", vote.term, words(known.node), words(vote.node))
        }
        Some(_) => return None,
    };
    Some(restart.finding(Class::VoteWentBack, why))
}

/// Whether a vote went to somebody else within its term, other than to the leader that a quorum chose.
fn moved(known: Vote, vote: Vote) -> bool {
    let elsewhere = known.node.is_some() && vote.node.is_some() && vote.node != known.node;
    elsewhere && (known.committed || !vote.committed)
}

/// Terms whose leader is remembered: an old term is over once every member has left it, long before this many.
const TERMS_REMEMBERED: usize = 64;

/// Who led which term, by everybody's account.
#[derive(Debug, Default)]
pub(super) struct Leaders {
    /// By term: the leader, and who said so first.
    by_term: BTreeMap<u64, (u64, u64)>,
}

impl Leaders {
    /// `member` said, alive, who leads its term.
    pub fn reading(&mut self, member: u64, reading: &Reading) -> Alarms {
        if reading.leader == 0 {
            return Alarms::new();
        }
        let (term, leader) = (reading.term, reading.leader);
        let (known, first) = *self.by_term.entry(term).or_insert((leader, member));
        if self.by_term.len() > TERMS_REMEMBERED {
            self.by_term.pop_first();
        }
        if known == leader {
            return Alarms::new();
        }
        let why = format!("term {term} has two leaders: n{known}, said n{first}, and n{leader}, says n{member}");
        vec![Finding::new(Class::VoteWentBack, why)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dead() -> DeadMember {
        DeadMember {
            log_last: Some(20),
            vote_term: Some(3),
            vote_node: Some(1),
            vote_committed: Some(true),
            ..DeadMember::default()
        }
    }

    #[test]
    fn votes_go_forward() {
        let vote = |known: Option<Vote>, alter: &dyn Fn(&mut DeadMember)| {
            let mut dead = dead();
            alter(&mut dead);
            check_vote(&Restart { cycle: 1, member: 2, dead: &dead, applied_received: None }, known).is_some()
        };
        let known = |term, node, committed| Some(Vote { term, node: Some(node), committed });
        assert!(!vote(None, &|_| {}));
        assert!(!vote(known(3, 1, true), &|_| {}));
        assert!(!vote(known(2, 9, true), &|_| {}));
        assert!(!vote(known(3, 2, false), &|_| {}), "a losing candidate accepts the leader");
        assert!(vote(known(4, 1, true), &|_| {}));
        assert!(vote(known(3, 2, true), &|_| {}), "two leaders in a term");
        assert!(vote(known(3, 2, false), &|d| d.vote_committed = Some(false)), "voted twice in a term");
        assert!(vote(known(3, 1, true), &|d| d.vote_term = None));
        let unreadable = |d: &mut DeadMember| (d.vote_term, d.log_error) = (None, Some("bad checksum".into()));
        assert!(!vote(known(3, 1, true), &unreadable), "an unreadable log is its own finding");
    }

    #[test]
    fn a_term_has_one_leader_whoever_says_so() {
        let mut leaders = Leaders::default();
        let mut said = |member, term, leader| {
            let alarms = leaders.reading(member, &Reading { term, leader, ..Reading::default() });
            assert!(alarms.iter().all(|alarm| alarm.class == Class::VoteWentBack));
            alarms.len()
        };
        assert_eq!(said(1, 4, 1) + said(2, 4, 1) + said(3, 4, 0), 0);
        assert_eq!(said(2, 5, 2) + said(1, 4, 1), 0, "one that lags still speaks of its own term");
        assert_eq!(said(3, 4, 3), 1);
        assert_eq!((6..1_000).map(|term| said(1, term, 1)).sum::<usize>(), 0);
        assert!(leaders.by_term.len() <= TERMS_REMEMBERED);
    }
}
