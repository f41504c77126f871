//! Finding the leader, and asking it at most once.
//!
//! 1. *A proposal that may have been sent is never sent again.* It goes to another member only
//!    after an answer that says it was not proposed, or when the connection for it was never made.
//! 2. *Waiting is for leadership (or the membership, which says where the leader is) to change*, an
//!    event, and bounded: with no leader in time, the answer is `NoLeader`.
//! 3. *Nothing is proposed that cannot be applied*: it is vetted before it is passed on, and once
//!    more by the leader. A peer may be of another version, or no peer; and what is committed is
//!    applied by every member, for ever.
//! 4. *A leader forwards nothing*: what it is asked remotely it does itself or refuses, so requests
//!    do not wander.
//! 5. *An outcome is told by a member that has applied it*: a member that forwarded a proposal
//!    waits until it has applied the entry itself, so that its client reads there what was written.
//!    The wait is bounded; a member that lags for longer knows that the proposal was applied, but
//!    cannot show it yet, so it answers that the outcome is unknown.

use crate::api::{ProposeError, Proposed, StateMachine};
use crate::clock::Deadline;
use crate::forward::Forwards;
use crate::identity::Identity;
use crate::log_store::LogStore;
use crate::peers::{COMMAND_BYTES_MAX, Peers, never_sent};
use crate::state_machine::RawRaft;
use crate::types::{Blob, RawLogId, TypeConfig, log_id};
use bytes::Bytes;
use node_base::LogId;
use node_base::sabotage::{Bug, planted};
use node_base::watermarks::Watermarks;
use node_proto::peer::peer_client::PeerClient;
use node_proto::peer::read_index_response::Outcome as ReadOutcome;
use node_proto::peer::{NotProposed, ReadIndexRequest};
use openraft::LinearizerOption;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ClientWriteError, ForwardReason, ForwardToLeader, LinearizableReadError, RaftError};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, watch};
use tonic::transport::Channel;
use tonic::{Code, Status};

/// Time that a request waits for a leader that takes it.
pub const LEADER_WAIT: Duration = Duration::from_secs(2);
/// Time that a leader waits for its own quorum before it refuses a proposal.
pub const LEASE_WAIT: Duration = Duration::from_secs(1);
/// Time that a proposal may take once it was made; after that its outcome is unknown.
pub const COMMIT_WAIT: Duration = Duration::from_secs(7);
/// The same as seen by a member that forwarded it, so that the leader's answer comes first.
pub const FORWARD_WAIT: Duration = Duration::from_secs(9);
/// Time in which the member that forwarded a proposal has to apply it, once the leader has.
pub const OWN_APPLY_WAIT: Duration = Duration::from_secs(5);
/// Time that a quorum has to confirm a leader for a read; followers confirm behind their fsyncs.
pub const READ_WAIT: Duration = Duration::from_secs(1);

/// Term and leader, as this member knows them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Leadership {
    pub term: u64,
    pub leader: Option<u64>,
    /// Position in the log of the membership in force. A member that has just joined hears of its
    /// leader first, and learns the leader's address from the membership.
    pub membership: Option<RawLogId>,
}

/// Outcome of asking one member.
pub enum Attempt<T> {
    Done(T),
    /// Certainly not done there.
    Refused {
        leader: Option<u64>,
        reason: String,
    },
    Failed(ProposeError),
}

impl<T> Attempt<T> {
    pub fn not_leading(forward: &ForwardToLeader<TypeConfig>) -> Self {
        let reason = match forward.reason {
            ForwardReason::NotLeader => "it does not lead",
            ForwardReason::LeadershipTransfer => "it is handing over its leadership",
            ForwardReason::LeaseExpired => "it lost contact with its quorum",
        };
        Self::Refused { leader: forward.leader_id, reason: reason.to_owned() }
    }

    pub fn refused(not: NotProposed) -> Self {
        Self::Refused { leader: Some(not.leader_id).filter(|id| *id != 0), reason: not.reason }
    }
}

#[derive(Clone)]
pub struct Router {
    pub identity: Identity,
    pub raft: RawRaft,
    pub log: LogStore,
    pub peers: Peers,
    pub leadership: watch::Receiver<Leadership>,
    pub state_machine: Arc<dyn StateMachine>,
    pub marks: Arc<Watermarks>,
    pub forwards: Forwards<Attempt<Proposed>>,
    /// Held during a change of the membership here.
    pub changing: Arc<Mutex<()>>,
}

impl Router {
    pub fn own_id(&self) -> u64 {
        self.identity.own_id()
    }

    pub fn leads(&self) -> bool {
        self.leadership.borrow().leader == Some(self.own_id())
    }

    /// All other members that the membership in force names, or, before there is one, whom this
    /// member was told of.
    pub fn others(&self) -> Vec<u64> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let named: Vec<_> = metrics.membership_config.membership().nodes().map(|(id, _)| *id).collect();
        let others = if named.is_empty() { self.peers.ids() } else { named };
        others.into_iter().filter(|id| *id != self.own_id()).collect()
    }

    /// A client for member `id`; `None`: nothing says where it is. The membership in force may be
    /// news to `peers`.
    pub fn messages(&self, id: u64) -> Option<PeerClient<Channel>> {
        let metrics = self.raft.metrics();
        if let Some(node) = metrics.borrow_watched().membership_config.membership().get_node(&id) {
            self.peers.learn(id, &node.peer_addr);
        }
        self.peers.messages(id)
    }

    pub async fn propose(&self, command: Bytes) -> Result<Proposed, ProposeError> {
        self.vet(&command)?;
        let proposed = self.route(|leader| {
            let (router, command) = (self.clone(), command.clone());
            async move {
                if leader == router.own_id() {
                    router.propose_here(command).await
                } else {
                    router.propose_at(leader, command).await
                }
            }
        });
        let proposed = proposed.await?;
        self.wait_applied(proposed.log_id).await?;
        Ok(proposed)
    }

    /// Claim 5: waits until this member has applied what the leader has.
    ///
    /// # Errors
    /// `Unknown`: not in time.
    pub async fn wait_applied(&self, done: LogId) -> Result<(), ProposeError> {
        if planted(Bug::AckBeforeOwnApply) {
            return Ok(());
        }
        let mut marks = self.marks.subscribe();
        let applied = marks.wait_for(|marks| marks.applied.is_some_and(|id| id.index >= done.index));
        match Deadline::after(OWN_APPLY_WAIT).bound(applied).await {
            Some(Ok(_)) => Ok(()),
            Some(Err(_)) => Err(ProposeError::Fatal("this member is shutting down".to_owned())),
            None => Err(ProposeError::Unknown(format!(
                "applied at {done}, but member {} has not come so far within {OWN_APPLY_WAIT:?}",
                self.own_id()
            ))),
        }
    }

    /// Claim 3.
    pub fn vet(&self, command: &Bytes) -> Result<(), ProposeError> {
        self.state_machine.vet(command).map_err(ProposeError::Unfit)
    }

    pub async fn read_index(&self) -> Result<u64, ProposeError> {
        self.route(|leader| {
            let router = self.clone();
            async move {
                if leader == router.own_id() {
                    router.read_index_here().await
                } else {
                    router.read_index_at(leader).await
                }
            }
        })
        .await
    }

    /// Asks the leader of the moment until one does it, or time is up.
    pub async fn route<T, F>(&self, ask: impl Fn(u64) -> F) -> Result<T, ProposeError>
    where
        F: Future<Output = Attempt<T>>,
    {
        let deadline = Deadline::after(LEADER_WAIT);
        let mut leadership = self.leadership.clone();
        let mut last_refusal = None;
        let mut redirected = None;
        loop {
            let known = leadership.borrow_and_update().leader;
            let was_redirected = redirected.is_some();
            if let Some(leader) = redirected.take().or(known) {
                match ask(leader).await {
                    Attempt::Done(done) => return Ok(done),
                    Attempt::Failed(error) => return Err(error),
                    Attempt::Refused { leader: next, reason } => {
                        last_refusal = Some(format!("member {leader}: {reason}"));
                        // One redirection per change of leadership: two confused members must not
                        // play ping-pong.
                        redirected = next.filter(|next| *next != leader && !was_redirected);
                    }
                }
            }
            if redirected.is_none() && deadline.bound(leadership.changed()).await.is_none_or(|changed| changed.is_err())
            {
                return Err(last_refusal.map_or(ProposeError::NoLeader, ProposeError::Unavailable));
            }
        }
    }

    /// Proposes here, if this member leads, what was vetted.
    pub async fn propose_here(&self, command: Bytes) -> Attempt<Proposed> {
        let found = command.len();
        if found > COMMAND_BYTES_MAX {
            let reason = format!("expected a command of {COMMAND_BYTES_MAX} bytes at most, found one of {found}");
            return Attempt::Refused { leader: None, reason };
        }
        let deadline = Deadline::after(LEASE_WAIT);
        let mut metrics = self.raft.metrics();
        loop {
            let written = self.raft.client_write(Blob(command.clone()));
            let Some(written) = Deadline::after(COMMIT_WAIT).bound(written).await else {
                return Attempt::Failed(ProposeError::Unknown(format!(
                    "not committed and applied within {COMMIT_WAIT:?}"
                )));
            };
            let forward = match written {
                Ok(done) => return Attempt::Done(Proposed { log_id: log_id(&done.log_id), response: done.data.0 }),
                Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward))) => forward,
                Err(RaftError::APIError(error)) => return Attempt::Failed(ProposeError::Unknown(error.to_string())),
                Err(RaftError::Fatal(error)) => return Attempt::Failed(ProposeError::Fatal(error.to_string())),
            };
            // Rejected before it entered the log, by a leader whose quorum is slow: it may have it
            // back in a moment.
            let retry = forward.reason == ForwardReason::LeaseExpired;
            if !retry || deadline.bound(metrics.changed()).await.is_none_or(|changed| changed.is_err()) {
                return Attempt::not_leading(&forward);
            }
        }
    }

    /// A read index if this member leads and a quorum confirms it.
    pub async fn read_index_here(&self) -> Attempt<u64> {
        if planted(Bug::StaleRead)
            && let Some(index) = self.believed_index()
        {
            return Attempt::Done(index);
        }
        let confirm = LinearizerOption::new(Some(Duration::ZERO), true).with_wait_timeout(READ_WAIT);
        match self.raft.get_read_log_id(confirm).await {
            // The planted bug takes whatever its own log holds for committed, and answered it.
            Ok((read, _applied)) if planted(Bug::AckBeforeQuorum) => {
                Attempt::Done(self.log.facts().last.map_or(read.index(), |last| last.index.max(read.index())))
            }
            Ok((read, _applied)) => Attempt::Done(read.index()),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward))) => Attempt::not_leading(&forward),
            Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(error))) => {
                Attempt::Refused { leader: None, reason: error.to_string() }
            }
            Err(RaftError::Fatal(error)) => Attempt::Failed(ProposeError::Fatal(error.to_string())),
        }
    }

    /// The planted bug `stale-read`: where this member's own commits stand, if it has committed as
    /// the leader that it last knew itself to be. True for as long as it leads; a member that was
    /// paused or cut off does not know that it was deposed.
    fn believed_index(&self) -> Option<u64> {
        let facts = self.log.facts();
        let elected = facts.vote.filter(|vote| vote.committed && vote.node_id == self.own_id())?;
        facts.committed.filter(|committed| committed.term == elected.term).map(|committed| committed.index)
    }

    async fn read_index_at(&self, leader: u64) -> Attempt<u64> {
        let Some(mut client) = self.messages(leader) else { return unknown_member(leader) };
        let request = ReadIndexRequest { route: self.identity.route(leader) };
        // Asking twice does no harm, so every failure is a refusal.
        match Deadline::after(READ_WAIT * 2).bound(client.read_index(request)).await {
            None => Attempt::Refused { leader: None, reason: "no answer".to_owned() },
            Some(Err(status)) => {
                self.identity.heed(leader, &status);
                refused_by_transport(&status)
            }
            Some(Ok(answer)) => {
                let answer = answer.into_inner();
                if let Err(error) = self.identity.count(leader, answer.from).await {
                    return Attempt::Refused { leader: None, reason: error.to_string() };
                }
                match answer.outcome {
                    Some(ReadOutcome::Index(index)) => Attempt::Done(index),
                    Some(ReadOutcome::NotLeading(not)) => Attempt::refused(not),
                    None => Attempt::Refused { leader: None, reason: "no outcome".to_owned() },
                }
            }
        }
    }
}

/// The connection was never made, or the one who answered is not the member that was meant.
pub fn certainly_not_proposed(status: &Status) -> bool {
    never_sent(status) || status.code() == Code::FailedPrecondition
}

pub fn refused_by_transport<T>(status: &Status) -> Attempt<T> {
    Attempt::Refused { leader: None, reason: status.to_string() }
}

pub fn unknown_member<T>(id: u64) -> Attempt<T> {
    Attempt::Refused { leader: None, reason: format!("member {id} is not in the membership that is known here") }
}
