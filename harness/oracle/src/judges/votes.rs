//! Promise: a vote never goes back, and a term has one leader, for which a majority voted durably.
//!
//! The vote is read from the dead directory by a separate binary, and compared with the last one
//! known of the same raft log (an id's, never a slot's): its term only grows, and within a term it
//! moves only from a candidate to the leader that a quorum chose. A member that forgot its vote may
//! give it twice, and then a term may have two leaders. So the leader of each term is also compared
//! between all members, as they report it while they live.
//!
//! No message between members is seen, so a vote that was given and lost before any look at the
//! disk is found by counting. A member that leads a term was elected, and votes are durable before
//! they are given. So once a leader is known, a majority of disks holds a vote of that term, or of
//! a later one, for ever. A dead log without one means that its member never gave its vote. If too
//! many lack one, the rest is not a majority, so a member has forgotten a vote that it gave.
//! Members that are being replaced change what a majority is, so terms until then are not counted.

use super::Alarms;
use super::replay_start::Restart;
use ninelives_evidence::Reading;
use ninelives_evidence::verdict::Finding;
use ninelives_evidence::verdict::findings::RaftLogs;
use ninelives_evidence::verdict::findings::parts::Vote;
use std::collections::{BTreeMap, BTreeSet};

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

/// The leader of each term, as all members report it, and the members that cannot have elected it.
#[derive(Debug, Default)]
pub(super) struct Leaders {
    by_term: BTreeMap<u64, Led>,
    /// Leaders of terms up to this one may have been elected by other members than those of now.
    counted_after: u64,
    /// A member is being replaced.
    changing: bool,
}

#[derive(Debug)]
struct Led {
    leader: u64,
    /// The member that named it first.
    said_by: u64,
    /// Members whose dead logs have no vote for it, in this term or a later one.
    without: BTreeSet<u64>,
}

impl Leaders {
    /// Takes the leader of its term, as `member` reported it while it lived.
    pub fn reading(&mut self, member: u64, reading: &Reading) -> Alarms {
        if reading.leader == 0 {
            return Alarms::new();
        }
        let (term, leader) = (reading.term, reading.leader);
        let led = Led { leader, said_by: member, without: BTreeSet::new() };
        let known = self.by_term.entry(term).or_insert(led);
        let (known, said_by) = (known.leader, known.said_by);
        if self.by_term.len() > TERMS_REMEMBERED {
            self.by_term.pop_first();
        }
        if known == leader {
            return Alarms::new();
        }
        let (other, other_said_by) = (leader, member);
        vec![Finding::new(RaftLogs::TwoLeaders { term, leader: known, said_by, other, other_said_by })]
    }

    /// A slot gets another member: until [`Leaders::settle`], majorities are of unknown members.
    pub fn change(&mut self) {
        self.changing = true;
    }

    /// The members of now are all voters.
    pub fn settle(&mut self) {
        if std::mem::take(&mut self.changing) {
            self.counted_after = self.by_term.last_key_value().map_or(0, |(term, _)| *term);
        }
    }

    /// Counts a dead member of `members` voters against the leaders that it cannot have elected.
    pub fn found_dead(&mut self, restart: &Restart<'_>, members: usize) -> Option<Finding> {
        let vote = restart.dead.vote().filter(|_| !self.changing && restart.dead.log_error.is_none())?;
        let minority = members.saturating_sub(1) / 2;
        let later = self.by_term.range_mut(self.counted_after + 1..);
        let mut unelected = None;
        for (term, led) in later {
            let for_another = vote.term == *term && !vote.committed && vote.node != Some(led.leader);
            if (vote.term < *term || for_another) && led.without.insert(restart.member) && led.without.len() > minority
            {
                let (term, leader, without) = (*term, led.leader, led.without.iter().copied().collect());
                unelected = Some(RaftLogs::TermWithoutMajority { term, leader, without });
            }
        }
        unelected.map(|what| restart.finding(what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judges::testing::dead;
    use ninelives_evidence::DeadMember;
    use ninelives_evidence::verdict::Class;

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

    fn named(leaders: &mut Leaders, term: u64, leader: u64) {
        assert!(leaders.reading(leader, &Reading { term, leader, ..Reading::default() }).is_empty());
    }

    /// Whether the dead log of `member` with that vote shows a term without a majority.
    fn found(leaders: &mut Leaders, member: u64, (term, node, committed): (u64, u64, bool), members: usize) -> bool {
        let vote =
            DeadMember { vote_term: Some(term), vote_node: Some(node), vote_committed: Some(committed), ..dead() };
        let restart = Restart { cycle: 1, member, dead: &vote, applied_received: None };
        let finding = leaders.found_dead(&restart, members);
        assert!(finding.iter().all(|finding| finding.class() == Class::VoteWentBack));
        finding.is_some()
    }

    /// Member 3 leads term 5; the old leader died before the election, and member 2, whose vote was
    /// needed, has none of that term.
    #[test]
    fn a_leader_needs_votes_that_are_on_disks() {
        let mut leaders = Leaders::default();
        named(&mut leaders, 4, 1);
        named(&mut leaders, 5, 3);
        assert!(!found(&mut leaders, 1, (4, 1, true), 3), "one of three is not needed");
        assert!(!found(&mut leaders, 1, (4, 1, true), 3), "and counts once");
        assert!(!found(&mut leaders, 2, (5, 3, false), 3) && !found(&mut leaders, 2, (6, 2, false), 3));
        assert!(found(&mut leaders, 2, (4, 1, true), 3));
        assert!(!found(&mut leaders, 2, (4, 1, true), 3), "told once");
        named(&mut leaders, 7, 3);
        assert!(!found(&mut leaders, 1, (7, 2, false), 5) && !found(&mut leaders, 2, (6, 3, true), 5));
        assert!(found(&mut leaders, 4, (7, 4, false), 5), "a vote for another one of that term is none for the leader");
    }

    #[test]
    fn terms_of_a_changing_membership_are_not_counted() {
        let mut leaders = Leaders::default();
        named(&mut leaders, 5, 3);
        leaders.change();
        named(&mut leaders, 6, 3);
        assert!(!found(&mut leaders, 1, (4, 1, true), 3) && !found(&mut leaders, 2, (4, 1, true), 3));
        leaders.settle();
        assert!(!found(&mut leaders, 1, (4, 1, true), 3) && !found(&mut leaders, 2, (4, 1, true), 3));
        named(&mut leaders, 7, 3);
        leaders.settle();
        assert!(!found(&mut leaders, 1, (4, 1, true), 3) && found(&mut leaders, 2, (6, 3, true), 3));
    }
}
