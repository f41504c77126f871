//! From the membership in force to the next one.
//!
//! 1. *One entry, one step.* A change adds or removes at most one voter, so any quorum of the old
//!    voters meets any quorum of the new ones, and no joint membership is needed: the change is in
//!    force when its entry is in the log, and its outcome is as certain as that of any other
//!    proposal.
//! 2. *Ids ascend and are never given twice*: the next one is one more than the greatest that any
//!    member ever had.
//! 3. *A change must leave a quorum of running voters.* In raft the *new* voters commit it: one
//!    that they cannot commit would hold up everything behind it.

use crate::api::{ChangeRefusal, MembershipChange, Roster, StateMachine};
use crate::types::{MemberNode, RawMembership, decode_membership};
use openraft::Membership;
use std::collections::{BTreeMap, BTreeSet};
use std::io;

/// A learner that lacks more entries than this is not in sync, whatever its share of the log.
const LAG_ENTRIES_MAX: u64 = 1_000;

/// The leader's knowledge about the others.
#[derive(Debug, Clone, Default)]
pub struct LeaderView {
    pub last_log: u64,
    /// Members that have answered lately, the leader included.
    pub active: BTreeSet<u64>,
    /// Last index up to which each member's log is known to agree with the leader's.
    pub matched: BTreeMap<u64, u64>,
}

impl LeaderView {
    /// As etcd has it, at least nine tenths of the leader's log; and few entries in absolute terms
    /// too.
    fn is_in_sync(&self, id: u64) -> bool {
        self.matched.get(&id).is_some_and(|matched| {
            let lag = self.last_log.saturating_sub(*matched);
            lag <= LAG_ENTRIES_MAX && lag <= self.last_log / 10
        })
    }

    /// Claim 3.
    fn can_commit(&self, voters: &BTreeSet<u64>) -> bool {
        voters.intersection(&self.active).count() > voters.len() / 2
    }
}

/// A change to propose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The whole next membership.
    Replace(Membership<u64, MemberNode>),
    /// Other data about a member that stays what it is.
    Describe(MemberNode),
}

/// The step that makes `change` out of `now`, and which member it is about.
///
/// # Errors
/// [`ChangeRefusal`], when it makes no sense as things are.
pub fn plan(
    now: &RawMembership,
    greatest_id: u64,
    change: &MembershipChange,
    leader: &LeaderView,
) -> Result<(u64, Step), ChangeRefusal> {
    let mut nodes: BTreeMap<_, _> = now.membership().nodes().map(|(id, node)| (*id, node.clone())).collect();
    let before: BTreeSet<u64> = now.membership().voter_ids().collect();
    let mut voters = before.clone();
    let in_use = |nodes: &BTreeMap<u64, MemberNode>, address: &str, but: u64| {
        nodes.iter().any(|(id, node)| *id != but && node.peer_addr == address)
    };
    let member_id = match change {
        MembershipChange::Add { peer_addr, is_learner } => {
            if in_use(&nodes, peer_addr, 0) {
                return Err(ChangeRefusal::AddressInUse);
            }
            let id = greatest_id + 1;
            nodes.insert(id, MemberNode { peer_addr: peer_addr.clone(), ..MemberNode::default() });
            if !is_learner {
                voters.insert(id);
            }
            id
        }
        MembershipChange::Promote { id } => {
            if !nodes.contains_key(id) {
                return Err(ChangeRefusal::NotFound);
            }
            if !voters.insert(*id) {
                return Err(ChangeRefusal::NotALearner);
            }
            if !leader.is_in_sync(*id) {
                return Err(ChangeRefusal::NotInSync);
            }
            *id
        }
        MembershipChange::Remove { id } => {
            nodes.remove(id).ok_or(ChangeRefusal::NotFound)?;
            voters.remove(id);
            *id
        }
        MembershipChange::Update { id, peer_addr } => {
            if in_use(&nodes, peer_addr, *id) {
                return Err(ChangeRefusal::AddressInUse);
            }
            let node = nodes.remove(id).ok_or(ChangeRefusal::NotFound)?;
            return Ok((*id, Step::Describe(MemberNode { peer_addr: peer_addr.clone(), ..node })));
        }
    };
    if voters != before && !leader.can_commit(&voters) {
        return Err(ChangeRefusal::NotEnoughStarted);
    }
    // Every voter has a node: it had one before, or got it above.
    let next = Membership::new(vec![voters], nodes).map_err(|_| ChangeRefusal::NotFound)?;
    Ok((member_id, Step::Replace(next)))
}

/// The members as the state machine has them.
///
/// # Errors
/// The engine failed, or holds what this program cannot have written.
pub fn roster(state_machine: &dyn StateMachine) -> io::Result<Roster> {
    let members = decode_membership(&state_machine.membership()?.unwrap_or_default())?;
    // Asked second: it may be newer than the members are, and then is never too small.
    let greatest_id = state_machine.greatest_member_id()?;
    Ok(Roster { members: members.into_iter().map(|member| (member.id, member.is_learner)).collect(), greatest_id })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: u64) -> MemberNode {
        MemberNode { peer_addr: format!("127.0.0.1:{id}"), ..MemberNode::default() }
    }

    fn membership(voters: &[u64], learners: &[u64]) -> RawMembership {
        let nodes: BTreeMap<_, _> = voters.iter().chain(learners).map(|id| (*id, node(*id))).collect();
        RawMembership::new(None, Membership::new(vec![voters.iter().copied().collect()], nodes).unwrap())
    }

    fn view(active: &[u64], matched: &[(u64, u64)]) -> LeaderView {
        LeaderView {
            last_log: 5_000,
            active: active.iter().copied().collect(),
            matched: matched.iter().copied().collect(),
        }
    }

    fn add(port: u64, is_learner: bool) -> MembershipChange {
        MembershipChange::Add { peer_addr: format!("127.0.0.1:{port}"), is_learner }
    }

    fn replaced(planned: (u64, Step)) -> (u64, RawMembership) {
        match planned {
            (id, Step::Replace(next)) => (id, RawMembership::new(None, next)),
            (_, Step::Describe(_)) => unreachable!("the members change"),
        }
    }

    #[test]
    fn claim_2_an_id_is_never_given_twice() {
        let planned = plan(&membership(&[1, 2, 3], &[]), 7, &add(8, true), &view(&[], &[])).unwrap();
        let (id, next) = replaced(planned);
        assert_eq!((id, next), (8, membership(&[1, 2, 3], &[8])));
        let taken = plan(&membership(&[1, 2, 3], &[]), 7, &add(3, true), &view(&[], &[]));
        assert_eq!(taken, Err(ChangeRefusal::AddressInUse));
    }

    #[test]
    fn claim_3_a_change_of_voters_needs_a_running_quorum_of_the_next_ones() {
        let three = membership(&[1, 2, 3], &[]);
        let added = plan(&three, 3, &add(4, false), &view(&[1, 2, 3], &[])).unwrap();
        assert_eq!(replaced(added), (4, membership(&[1, 2, 3, 4], &[])));
        let refused = Err(ChangeRefusal::NotEnoughStarted);
        assert_eq!(plan(&three, 3, &add(4, false), &view(&[1, 2], &[])), refused);
        let remove = |id| MembershipChange::Remove { id };
        assert_eq!(plan(&three, 3, &remove(2), &view(&[1, 2], &[])), refused, "1 and the dead 3 would be left");
        let removed = plan(&three, 3, &remove(3), &view(&[1, 2], &[])).unwrap();
        assert_eq!(replaced(removed), (3, membership(&[1, 2], &[])));
        assert_eq!(plan(&membership(&[1], &[]), 1, &remove(1), &view(&[1], &[])), refused, "no voter would be left");
        let learner_gone = plan(&membership(&[1], &[2]), 2, &remove(2), &view(&[], &[])).unwrap();
        assert_eq!(replaced(learner_gone), (2, membership(&[1], &[])));
        assert_eq!(plan(&three, 3, &remove(9), &view(&[1, 2, 3], &[])), Err(ChangeRefusal::NotFound));
    }

    #[test]
    fn a_learner_is_promoted_when_it_has_caught_up() {
        let promote =
            |id, view: &LeaderView| plan(&membership(&[1, 2, 3], &[4]), 4, &MembershipChange::Promote { id }, view);
        let all = [1, 2, 3, 4];
        assert_eq!(promote(4, &view(&all, &[])), Err(ChangeRefusal::NotInSync));
        assert_eq!(promote(4, &view(&all, &[(4, 4_499)])), Err(ChangeRefusal::NotInSync));
        assert_eq!(promote(3, &view(&all, &[(3, 5_000)])), Err(ChangeRefusal::NotALearner));
        assert_eq!(promote(5, &view(&all, &[(5, 5_000)])), Err(ChangeRefusal::NotFound));
        assert_eq!(promote(4, &view(&[1, 2], &[(4, 5_000)])), Err(ChangeRefusal::NotEnoughStarted));
        let promoted = promote(4, &view(&all, &[(4, 4_500)])).unwrap();
        assert_eq!(replaced(promoted), (4, membership(&all, &[])));
    }

    #[test]
    fn an_update_changes_the_address_and_nothing_else() {
        let update = |id, port: u64| MembershipChange::Update { id, peer_addr: format!("127.0.0.1:{port}") };
        let three = membership(&[1, 2, 3], &[]);
        let planned = plan(&three, 3, &update(2, 9), &view(&[1], &[])).unwrap();
        assert_eq!(planned, (2, Step::Describe(node(9))));
        assert_eq!(plan(&three, 3, &update(2, 3), &view(&[], &[])), Err(ChangeRefusal::AddressInUse));
        assert_eq!(plan(&three, 3, &update(4, 9), &view(&[], &[])), Err(ChangeRefusal::NotFound));
    }
}
