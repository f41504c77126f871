//! Promise: a vote never goes back, and a term has one leader.
//!
//! The vote is read from the dead directory by a separate binary, and compared with the last one
//! known of the same raft log (an id's, never a slot's): its term only grows, and within a term it
//! moves only from a candidate to the leader that a quorum chose. A member that forgot its vote may
//! give it twice, and then a term may have two leaders. So the leader of each term is also compared
//! between all members, as they report it while they live.

use super::Alarms;
use super::replay_start::Restart;
use ninelives_evidence::Reading;
use ninelives_evidence::verdict::Finding;
use ninelives_evidence::verdict::findings::RaftLogs;
use ninelives_evidence::verdict::findings::parts::Vote;
use std::collections::BTreeMap;

/// Compares a member's vote with the last one known of it. Its term never goes back; within a term
/// the vote moves only from a candidate to the leader that a quorum chose.
pub fn check_vote(restart: &Restart<'_>, known: Option<Vote>) -> Option<Finding> {
    // A log that cannot be read tells no vote; that it cannot be read has been reported.
    let known = known.filter(|_| restart.dead.log_error.is_none())?;
    let what = match restart.dead.vote() {
        None => RaftLogs::VoteGone { term: known.term },
        Some(vote) if vote.term < known.term => RaftLogs::VoteOfOlderTerm { was: known.term, is: vote.term },
        Some(vote) if vote.term == known.term => {
            let (from, to) = moved(known, vote)?;
            RaftLogs::VoteMoved { term: vote.term, from, to }
        }
        Some(_) => return None,
    };
    Some(restart.finding(what))
}

/// The old and the new receiver of a vote that moved within its term, unless it moved to the leader
/// that a quorum chose.
fn moved(known: Vote, vote: Vote) -> Option<(u64, u64)> {
    let (from, to) = (known.node?, vote.node?);
    (from != to && (known.committed || !vote.committed)).then_some((from, to))
}

/// Terms whose leader is remembered: an old term is over once every member has left it, long before
/// this many.
const TERMS_REMEMBERED: usize = 64;

/// The leader of each term, as all members report it.
#[derive(Debug, Default)]
pub(super) struct Leaders {
    /// By term: the leader, and the member that named it first.
    by_term: BTreeMap<u64, (u64, u64)>,
}

impl Leaders {
    /// Takes the leader of its term, as `member` reported it while it lived.
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
        let (said_by, other, other_said_by) = (first, leader, member);
        vec![Finding::new(RaftLogs::TwoLeaders { term, leader: known, said_by, other, other_said_by })]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ninelives_evidence::DeadMember;
    use ninelives_evidence::verdict::Class;

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
            assert!(alarms.iter().all(|alarm| alarm.class() == Class::VoteWentBack));
            alarms.len()
        };
        assert_eq!(said(1, 4, 1) + said(2, 4, 1) + said(3, 4, 0), 0);
        assert_eq!(said(2, 5, 2) + said(1, 4, 1), 0, "one that lags still speaks of its own term");
        assert_eq!(said(3, 4, 3), 1);
        assert_eq!((6..1_000).map(|term| said(1, term, 1)).sum::<usize>(), 0);
        assert!(leaders.by_term.len() <= TERMS_REMEMBERED);
    }
}
