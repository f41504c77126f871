//! Changing the membership on the leader, wherever it is.
//!
//! A change goes the way of a proposal (`propose`), and its outcome is as honest: made, certainly
//! not proposed, or unknown. On the leader, changes take turns, and each is derived from one state
//! that is applied there, after everything that was committed before it began is applied; the entry
//! is refused, before it is written, if the membership has moved on since.

use crate::api::{ChangeError, ChangeRefusal, Changed, MembershipChange, ProposeError};
use crate::clock::{self, Deadline};
use crate::membership::{LeaderView, Step, plan};
use crate::propose::{Attempt, COMMIT_WAIT, FORWARD_WAIT, LEADER_WAIT, LEASE_WAIT, READ_WAIT, Router};
use crate::propose::{certainly_not_proposed, refused_by_transport, unknown_member};
use crate::types::{RawMembership, TypeConfig, log_id, raw_membership};
use node_base::LogId;
use node_proto::peer;
use node_proto::peer::change_response::Outcome;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ClientWriteError, ForwardReason, RaftError};
use openraft::raft::{ClientWriteResponse, Precondition};
use openraft::type_config::alias::SerdeInstantOf;
use openraft::{ChangeMembers, EntryPayload};
use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

/// A member that answered the leader within this time counts as running: some dozen heartbeats by
/// default.
const ACTIVE_WITHIN: Duration = Duration::from_secs(1);

/// Made, or refused for what it is.
pub type Verdict = Result<Changed, ChangeRefusal>;

type Written = Result<ClientWriteResponse<TypeConfig>, RaftError<TypeConfig, ClientWriteError<TypeConfig>>>;

impl Router {
    pub async fn change(&self, change: MembershipChange) -> Result<Changed, ChangeError> {
        let removes_itself = change == MembershipChange::Remove { id: self.own_id() };
        let verdict = self
            .route(|leader| {
                let (router, change) = (self.clone(), change.clone());
                async move {
                    if leader == router.own_id() {
                        router.change_here(&change).await
                    } else {
                        router.change_at(leader, change).await
                    }
                }
            })
            .await?;
        let changed = verdict?;
        if !removes_itself {
            self.wait_applied(changed.log_id).await?;
        }
        Ok(changed)
    }

    /// Makes the change if this member leads.
    pub async fn change_here(&self, change: &MembershipChange) -> Attempt<Verdict> {
        let Some(_turn) = Deadline::after(LEADER_WAIT).bound(self.changing.lock()).await else {
            return Attempt::Refused { leader: None, reason: "another membership change is under way".to_owned() };
        };
        let index = match self.read_index_here().await {
            Attempt::Done(index) => index,
            Attempt::Refused { leader, reason } => return Attempt::Refused { leader, reason },
            // Nothing was proposed yet, and a process that is ending will answer no second question
            // either.
            Attempt::Failed(error) => return Attempt::Failed(error),
        };
        if !self.has_applied(index).await {
            return Attempt::Refused { leader: None, reason: format!("it has not applied index {index} yet") };
        }
        let (now, greatest_id) = match self.applied_membership() {
            Ok(applied) => applied,
            Err(error) => return Attempt::Failed(ProposeError::Fatal(error.to_string())),
        };
        match self.plan(&now, greatest_id, change).await {
            Ok((member_id, step)) => self.take(member_id, step, &now).await,
            Err(refusal) => Attempt::Done(Err(refusal)),
        }
    }

    /// A leader that was elected a moment ago has heard from a quorum only: the others get the time
    /// to answer.
    async fn plan(
        &self,
        now: &RawMembership,
        greatest_id: u64,
        change: &MembershipChange,
    ) -> Result<(u64, Step), ChangeRefusal> {
        let deadline = Deadline::after(ACTIVE_WITHIN);
        let mut metrics = self.raft.metrics();
        loop {
            let planned = plan(now, greatest_id, change, &self.leader_view());
            let wait = planned == Err(ChangeRefusal::NotEnoughStarted);
            if !wait || deadline.bound(metrics.changed()).await.is_none_or(|changed| changed.is_err()) {
                return planned;
            }
        }
    }

    async fn has_applied(&self, index: u64) -> bool {
        let deadline = Deadline::after(READ_WAIT);
        let mut metrics = self.raft.metrics();
        loop {
            if metrics.borrow_watched().last_applied.as_ref().is_some_and(|id| id.index >= index) {
                return true;
            }
            if deadline.bound(metrics.changed()).await.is_none_or(|changed| changed.is_err()) {
                return false;
            }
        }
    }

    /// The membership first: the greatest id may then be newer than it, never older.
    fn applied_membership(&self) -> io::Result<(RawMembership, u64)> {
        let membership = raw_membership(&self.state_machine.membership()?.unwrap_or_default())?;
        Ok((membership, self.state_machine.greatest_member_id()?))
    }

    fn leader_view(&self) -> LeaderView {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let heard = |(id, at): (&u64, &Option<SerdeInstantOf<TypeConfig>>)| {
            at.as_ref().is_some_and(|at| clock::is_within(at.into_inner(), ACTIVE_WITHIN)).then_some(*id)
        };
        let matched = |(id, at): (&u64, &Option<crate::types::RawLogId>)| at.as_ref().map(|at| (*id, at.index));
        LeaderView {
            last_log: metrics.last_log_index.unwrap_or_default(),
            active: metrics.heartbeat.iter().flatten().filter_map(heard).chain([self.own_id()]).collect(),
            matched: metrics.replication.iter().flatten().filter_map(matched).collect(),
        }
    }

    /// Proposes the step, unless the membership is no longer `now`.
    async fn take(&self, member_id: u64, step: Step, now: &RawMembership) -> Attempt<Verdict> {
        let deadline = Deadline::after(LEASE_WAIT);
        let mut metrics = self.raft.metrics();
        loop {
            let Some(written) = Deadline::after(COMMIT_WAIT).bound(self.write(member_id, step.clone(), now)).await
            else {
                return Attempt::Failed(ProposeError::Unknown(format!(
                    "not committed and applied within {COMMIT_WAIT:?}"
                )));
            };
            let forward = match written {
                Ok(done) => return Attempt::Done(Ok(Changed { log_id: log_id(&done.log_id), member_id })),
                Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward))) => forward,
                Err(RaftError::APIError(
                    error @ (ClientWriteError::ChangeMembershipError(_) | ClientWriteError::PreconditionFailed(_)),
                )) => return Attempt::Refused { leader: None, reason: error.to_string() },
                Err(RaftError::APIError(error)) => return Attempt::Failed(ProposeError::Unknown(error.to_string())),
                Err(RaftError::Fatal(error)) => return Attempt::Failed(ProposeError::Fatal(error.to_string())),
            };
            let retry = forward.reason == ForwardReason::LeaseExpired;
            if !retry || deadline.bound(metrics.changed()).await.is_none_or(|changed| changed.is_err()) {
                return Attempt::not_leading(&forward);
            }
        }
    }

    /// Either way it is one entry, and every refusal comes before it is written.
    async fn write(&self, member_id: u64, step: Step, now: &RawMembership) -> Written {
        let unmoved = [Precondition::LastMembershipLogId { last_membership_log_id: *now.log_id() }];
        match step {
            Step::Replace(next) => self.raft.append_membership(next, EntryPayload::Blank, unmoved).await,
            Step::Describe(node) => {
                let described = ChangeMembers::SetNodes(BTreeMap::from([(member_id, node)]));
                self.raft.change_membership_if(described, true, unmoved).await
            }
        }
    }

    async fn change_at(&self, leader: u64, change: MembershipChange) -> Attempt<Verdict> {
        let Some(mut client) = self.messages(leader) else { return unknown_member(leader) };
        let request = peer::ChangeRequest { route: self.identity.route(leader), change: Some(to_wire(change)) };
        let answer = match Deadline::after(FORWARD_WAIT).bound(client.change_membership(request)).await {
            None => {
                let sentence = format!("no answer from member {leader} within {FORWARD_WAIT:?}");
                return Attempt::Failed(ProposeError::Unknown(sentence));
            }
            Some(Err(status)) if certainly_not_proposed(&status) => {
                self.identity.heed(leader, &status);
                return refused_by_transport(&status);
            }
            Some(Err(status)) => return Attempt::Failed(ProposeError::Unknown(format!("member {leader}: {status}"))),
            Some(Ok(answer)) => answer.into_inner(),
        };
        if let Err(error) = self.identity.count(leader, answer.from).await {
            return Attempt::Failed(ProposeError::Unknown(error.to_string()));
        }
        match answer.outcome {
            Some(Outcome::Changed(changed)) => {
                let log_id = LogId::new(changed.term, changed.index);
                Attempt::Done(Ok(Changed { log_id, member_id: changed.member_id }))
            }
            Some(Outcome::NotProposed(not)) => Attempt::refused(not),
            Some(Outcome::Unknown(reason)) => Attempt::Failed(ProposeError::Unknown(reason)),
            Some(Outcome::Refused(refusal)) => match from_wire_refusal(refusal) {
                Some(refusal) => Attempt::Done(Err(refusal)),
                // A reason of a newer version; what it says in any case is that nothing was
                // proposed.
                None => Attempt::Failed(ProposeError::Unavailable(format!("member {leader}: refusal {refusal}"))),
            },
            None => Attempt::Failed(ProposeError::Unknown(format!("member {leader} gave no outcome"))),
        }
    }
}

/// The leader's answer on the wire.
pub fn outcome(attempt: Attempt<Verdict>) -> Outcome {
    match attempt {
        Attempt::Done(Ok(Changed { log_id, member_id })) => {
            Outcome::Changed(peer::Changed { term: log_id.term, index: log_id.index, member_id })
        }
        Attempt::Done(Err(refusal)) => Outcome::Refused(to_wire_refusal(refusal).into()),
        Attempt::Refused { leader, reason } => {
            Outcome::NotProposed(peer::NotProposed { leader_id: leader.unwrap_or(0), reason })
        }
        Attempt::Failed(error) => Outcome::Unknown(error.to_string()),
    }
}

fn to_wire(change: MembershipChange) -> peer::change_request::Change {
    use peer::change_request::Change;
    match change {
        MembershipChange::Add { peer_addr, is_learner } => Change::Add(peer::AddMember { peer_addr, is_learner }),
        MembershipChange::Promote { id } => Change::Promote(id),
        MembershipChange::Remove { id } => Change::Remove(id),
        MembershipChange::Update { id, peer_addr } => Change::Update(peer::UpdateMember { id, peer_addr }),
    }
}

pub fn from_wire(change: peer::change_request::Change) -> MembershipChange {
    use peer::change_request::Change;
    match change {
        Change::Add(peer::AddMember { peer_addr, is_learner }) => MembershipChange::Add { peer_addr, is_learner },
        Change::Promote(id) => MembershipChange::Promote { id },
        Change::Remove(id) => MembershipChange::Remove { id },
        Change::Update(peer::UpdateMember { id, peer_addr }) => MembershipChange::Update { id, peer_addr },
    }
}

fn to_wire_refusal(refusal: ChangeRefusal) -> peer::ChangeRefusal {
    match refusal {
        ChangeRefusal::NotFound => peer::ChangeRefusal::MemberNotFound,
        ChangeRefusal::AddressInUse => peer::ChangeRefusal::AddressInUse,
        ChangeRefusal::NotALearner => peer::ChangeRefusal::NotALearner,
        ChangeRefusal::NotInSync => peer::ChangeRefusal::NotInSync,
        ChangeRefusal::NotEnoughStarted => peer::ChangeRefusal::NotEnoughStarted,
    }
}

fn from_wire_refusal(refusal: i32) -> Option<ChangeRefusal> {
    match peer::ChangeRefusal::try_from(refusal).ok()? {
        peer::ChangeRefusal::Unspecified => None,
        peer::ChangeRefusal::MemberNotFound => Some(ChangeRefusal::NotFound),
        peer::ChangeRefusal::AddressInUse => Some(ChangeRefusal::AddressInUse),
        peer::ChangeRefusal::NotALearner => Some(ChangeRefusal::NotALearner),
        peer::ChangeRefusal::NotInSync => Some(ChangeRefusal::NotInSync),
        peer::ChangeRefusal::NotEnoughStarted => Some(ChangeRefusal::NotEnoughStarted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_over_the_wire_comes_back() {
        let address = || "127.0.0.1:7".to_owned();
        for change in [
            MembershipChange::Add { peer_addr: address(), is_learner: true },
            MembershipChange::Promote { id: 4 },
            MembershipChange::Remove { id: 5 },
            MembershipChange::Update { id: 6, peer_addr: address() },
        ] {
            assert_eq!(from_wire(to_wire(change.clone())), change);
        }
        for refusal in [
            ChangeRefusal::NotFound,
            ChangeRefusal::AddressInUse,
            ChangeRefusal::NotALearner,
            ChangeRefusal::NotInSync,
            ChangeRefusal::NotEnoughStarted,
        ] {
            assert_eq!(from_wire_refusal(to_wire_refusal(refusal).into()), Some(refusal));
        }
        assert_eq!(from_wire_refusal(0), None);
    }
}
