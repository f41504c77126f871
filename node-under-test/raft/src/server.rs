//! Answering the other members.
//!
//! Every request is let in by `identity` first: ports are reused, and a message meant for a dead cluster's member, or sent
//! by one that lost its log, must not reach this one's. One snapshot is received at a time, in a task of its own, so that a
//! sender that goes away in the middle never leaves two of them writing into the staging area.

use crate::api::{ProposeError, SnapshotMeta};
use crate::ask::Desk;
use crate::change;
use crate::identity::Identity;
use crate::log_store::VoteFacts;
use crate::network::MESSAGE_BYTES_MAX;
use crate::propose::{Attempt, RawRaft, Router};
use crate::read_index::ReadRounds;
use crate::snapshot_stream::Incoming;
use crate::types::{RawSnapshot, RawVote, SnapshotData, TypeConfig, decode, encode, raw_snapshot_meta, vote_parts};
use node_base::failpoint::{Window, pass};
use node_proto::peer::ask_response::Outcome as AskOutcome;
use node_proto::peer::peer_server::{Peer, PeerServer};
use node_proto::peer::propose_response::Outcome;
use node_proto::peer::read_index_response::Outcome as ReadOutcome;
use node_proto::peer::{
    Applied, AskRequest, AskResponse, ChangeRequest, ChangeResponse, HelloRequest, HelloResponse, NotProposed,
    ProposeRequest, ProposeResponse, RaftMessage, RaftReply, ReadIndexRequest, ReadIndexResponse, SnapshotFrame,
};
use openraft::async_runtime::watch::WatchReceiver;
use openraft::raft::AppendEntriesRequest;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Display;
use std::sync::Arc;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tonic::{Request, Response, Status, Streaming};

#[derive(Clone)]
pub struct PeerService {
    router: Router,
    reads: Arc<ReadRounds<ReadOutcome>>,
    receiving: Arc<Mutex<()>>,
    desk: Desk,
}

type Answer<T> = Result<Response<T>, Status>;

impl PeerService {
    /// Must be called in a runtime.
    pub fn new(router: Router, desk: Desk) -> Self {
        let reads = ReadRounds::spawn({
            let router = router.clone();
            move || {
                let router = router.clone();
                async move { read_outcome(router.read_index_here().await) }
            }
        });
        Self { router, reads: Arc::new(reads), receiving: Arc::default(), desk }
    }

    pub fn into_server(self) -> PeerServer<Self> {
        PeerServer::new(self).max_decoding_message_size(MESSAGE_BYTES_MAX).max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    fn identity(&self) -> &Identity {
        &self.router.identity
    }

    async fn message<M: DeserializeOwned>(&self, request: Request<RaftMessage>) -> Result<M, Status> {
        let message = request.into_inner();
        self.identity().admit(message.route.as_ref()).await?;
        decode("message", &message.payload).map_err(|error| Status::invalid_argument(error.to_string()))
    }

    fn reply<M: Serialize, E: Display>(&self, answer: Result<M, E>) -> Answer<RaftReply> {
        // The library's own errors are fatal ones: this member is going down.
        let answer = answer.map_err(|error| Status::internal(error.to_string()))?;
        let payload = encode(&answer).map_err(|error| Status::internal(error.to_string()))?;
        let short_of_space = self.router.state_machine.is_short_of_space();
        Ok(Response::new(RaftReply { payload, from: self.identity().own(), short_of_space }))
    }

    /// Whether this is the first message of the leader that this member has just voted for.
    fn voted_for(&self, leader: &RawVote) -> bool {
        let (term, node_id) = vote_parts(leader);
        self.router.log.facts().vote == Some(VoteFacts { term, node_id, committed: false })
    }

    fn raft(&self) -> &RawRaft {
        &self.router.raft
    }
}

#[tonic::async_trait]
impl Peer for PeerService {
    async fn append_entries(&self, request: Request<RaftMessage>) -> Answer<RaftReply> {
        let short_of_space = request.get_ref().short_of_space;
        let message: AppendEntriesRequest<TypeConfig> = self.message(request).await?;
        self.identity().note_leader();
        self.router.peers.shortage.note(vote_parts(&message.vote).1, short_of_space);
        if self.voted_for(&message.vote) {
            pass(Window::VoteAnswered);
        }
        self.reply(self.raft().append_entries(message).await)
    }

    async fn vote(&self, request: Request<RaftMessage>) -> Answer<RaftReply> {
        self.reply(self.raft().vote(self.message(request).await?).await)
    }

    async fn pre_vote(&self, request: Request<RaftMessage>) -> Answer<RaftReply> {
        self.reply(self.raft().pre_vote(self.message(request).await?).await)
    }

    async fn transfer_leader(&self, request: Request<RaftMessage>) -> Answer<RaftReply> {
        self.reply(self.raft().handle_transfer_leader(self.message(request).await?).await)
    }

    async fn install_snapshot(&self, request: Request<Streaming<SnapshotFrame>>) -> Answer<RaftReply> {
        let incoming = Incoming::open(request.into_inner()).await?;
        self.identity().admit(incoming.head.route.as_ref()).await?;
        self.identity().note_leader();
        let vote: RawVote =
            decode("vote", &incoming.head.vote).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let receiving = self.receiving.clone().try_lock_owned();
        let receiving = receiving.map_err(|_| Status::resource_exhausted("another snapshot is being received"))?;
        let taken = tokio::spawn(Transfer { service: self.clone(), vote }.run(incoming, receiving)).await;
        taken.map_err(|error| Status::internal(error.to_string()))?
    }

    async fn propose(&self, request: Request<ProposeRequest>) -> Answer<ProposeResponse> {
        let request = request.into_inner();
        self.identity().admit(request.route.as_ref()).await?;
        let attempt = match self.router.vet(&request.command) {
            Ok(()) => self.router.propose_here(request.command).await,
            Err(unfit) => Attempt::Failed(unfit),
        };
        let outcome = match attempt {
            Attempt::Done(done) => {
                let (term, index) = (done.log_id.term, done.log_id.index);
                Outcome::Applied(Applied { term, index, response: done.response })
            }
            Attempt::Refused { leader, reason } => Outcome::NotProposed(not_proposed(leader, reason)),
            Attempt::Failed(ProposeError::Unfit(reason)) => Outcome::Unfit(reason),
            Attempt::Failed(error) => Outcome::Unknown(error.to_string()),
        };
        Ok(Response::new(ProposeResponse { outcome: Some(outcome), from: self.identity().own() }))
    }

    async fn read_index(&self, request: Request<ReadIndexRequest>) -> Answer<ReadIndexResponse> {
        self.identity().admit(request.into_inner().route.as_ref()).await?;
        let outcome = self.reads.next().await.map_err(|error: ProposeError| Status::internal(error.to_string()))?;
        Ok(Response::new(ReadIndexResponse { outcome: Some(outcome), from: self.identity().own() }))
    }

    async fn change_membership(&self, request: Request<ChangeRequest>) -> Answer<ChangeResponse> {
        let request = request.into_inner();
        self.identity().admit(request.route.as_ref()).await?;
        let wanted = request.change.ok_or_else(|| Status::invalid_argument("expected a change, found none"))?;
        let (router, from) = (self.router.clone(), self.identity().own());
        // In a task of its own: a caller that goes away must not leave the turn to the next one before the outcome is known.
        let changed = tokio::spawn(async move { router.change_here(&change::from_wire(wanted)).await }).await;
        let outcome = change::outcome(changed.map_err(|error| Status::internal(error.to_string()))?);
        Ok(Response::new(ChangeResponse { outcome: Some(outcome), from }))
    }

    async fn ask(&self, request: Request<AskRequest>) -> Answer<AskResponse> {
        let request = request.into_inner();
        self.identity().admit(request.route.as_ref()).await?;
        let outcome = match self.desk.answer_here(request.question).await {
            Attempt::Done(answer) => AskOutcome::Answer(answer),
            Attempt::Refused { leader, reason } => AskOutcome::NotLeading(not_proposed(leader, reason)),
            Attempt::Failed(ProposeError::TooLarge { found, .. }) => AskOutcome::TooLarge(found as u64),
            Attempt::Failed(error) => AskOutcome::NotLeading(not_proposed(None, error.to_string())),
        };
        Ok(Response::new(AskResponse { outcome: Some(outcome), from: self.identity().own() }))
    }

    async fn hello(&self, request: Request<HelloRequest>) -> Answer<HelloResponse> {
        self.identity().admit(request.into_inner().route.as_ref()).await?;
        Ok(Response::new(HelloResponse { from: self.identity().own() }))
    }
}

fn not_proposed(leader: Option<u64>, reason: String) -> NotProposed {
    NotProposed { leader_id: leader.unwrap_or(0), reason }
}

fn read_outcome(attempt: Attempt<u64>) -> ReadOutcome {
    match attempt {
        Attempt::Done(index) => ReadOutcome::Index(index),
        Attempt::Refused { leader, reason } => ReadOutcome::NotLeading(not_proposed(leader, reason)),
        Attempt::Failed(error) => ReadOutcome::NotLeading(not_proposed(None, error.to_string())),
    }
}

/// One snapshot's way in.
struct Transfer {
    service: PeerService,
    vote: RawVote,
}

impl Transfer {
    async fn run(self, incoming: Incoming, receiving: OwnedMutexGuard<()>) -> Answer<RaftReply> {
        let offered = incoming.meta();
        let meta = if self.needs(&offered) {
            let received = incoming.receive(self.service.router.state_machine.clone()).await;
            received.map_err(|error| {
                tracing::warn!(%error, log_id = %offered.log_id, "refused a snapshot");
                Status::aborted(format!("snapshot {} refused: {error}", offered.log_id))
            })?
        } else {
            offered
        };
        let meta = raw_snapshot_meta(&meta).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let snapshot = RawSnapshot { meta, snapshot: SnapshotData::Staged };
        let installed = self.service.raft().install_full_snapshot(self.vote, snapshot).await;
        let installed = self.service.reply(installed);
        drop(receiving);
        installed
    }

    /// Whether the body has to be unpacked at all. If it need not be, the library will not install it either: it
    /// skips what is at or below its commit position and refuses a stale leader, and both only grow.
    fn needs(&self, offered: &SnapshotMeta) -> bool {
        let metrics = self.service.raft().metrics();
        let metrics = metrics.borrow_watched();
        let committed = metrics.local_committed.as_ref().map(|id| id.index);
        let stale = self.vote < metrics.vote;
        !stale && committed < Some(offered.log_id.index)
    }
}
