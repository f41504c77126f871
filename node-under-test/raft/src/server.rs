//! Answering the other members.
//!
//! 1. *A request is let in, or refused and forgotten*: `identity` examines its sender (ports are
//!    used again, and a message for a dead cluster's member, or by one that lost its log, must not
//!    reach this one's), it decodes, `checked` finds nothing in it that contradicts what is known,
//!    and only then is its sender remembered, and only then is it acted on. Appends of a leader
//!    follow each other unanswered (`appends`), so what a leader says is held against the state
//!    that raft is in once it has taken all that came before.
//! 2. *One snapshot is received at a time*, in a task of its own, so that a sender that goes away
//!    in the middle never leaves two of them writing into the staging area; and its place is held
//!    only for as long as enough bytes arrive.
//! 3. *A snapshot is handed to the library only with its body*, held once more against the
//!    library's own state: one that is not needed is answered here.

use crate::api::ProposeError;
use crate::appends::AppendStreams;
use crate::ask::Desk;
use crate::change;
use crate::checked::{Checked, ENTRIES_MAX, Known};
use crate::forward::FRAME_PROPOSALS_MAX;
use crate::identity::{Identity, Word};
use crate::log_store::VoteFacts;
use crate::peers::{ANSWER_BYTES_MAX, REQUEST_BYTES_MAX};
use crate::propose::{Attempt, Router};
use crate::read_index::ReadRounds;
use crate::snapshot_stream::Incoming;
use crate::state_machine::RawRaft;
use crate::types::{
    RawSnapshot, RawSnapshotMeta, RawVote, SnapshotData, TypeConfig, decode, decode_append, encode, log_id,
    raw_snapshot_meta, vote_parts,
};
use bytes::Bytes;
use futures_util::stream::{BoxStream, FuturesOrdered, Stream};
use futures_util::{FutureExt, StreamExt};
use node_base::failpoint::{Window, pass};
use node_proto::delimited;
use node_proto::peer::ask_response::Outcome as AskOutcome;
use node_proto::peer::peer_server::{Peer, PeerServer};
use node_proto::peer::propose_response::Outcome;
use node_proto::peer::read_index_response::Outcome as ReadOutcome;
use node_proto::peer::{
    Applied, AskRequest, AskResponse, ChangeRequest, ChangeResponse, HelloRequest, HelloResponse, NotProposed,
    ProposeRequest, ProposeResponse, RaftMessage, RaftReply, ReadIndexRequest, ReadIndexResponse, Route, SnapshotFrame,
};
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::Fatal;
use openraft::raft::{AppendEntriesRequest, SnapshotResponse, TransferLeaderRequest, VoteRequest};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Display;
use std::io;
use std::sync::Arc;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tonic::{Request, Response, Status, Streaming};

#[derive(Clone)]
pub struct PeerService {
    router: Arc<Router>,
    reads: Arc<ReadRounds<ReadOutcome>>,
    receiving: Arc<Mutex<()>>,
    appends: AppendStreams,
    desk: Desk,
}

type Answer<T> = Result<Response<T>, Status>;

impl PeerService {
    /// Must be called in a runtime.
    pub fn new(router: Router, desk: Desk) -> Self {
        let router = Arc::new(router);
        let reads = ReadRounds::spawn({
            let router = router.clone();
            move || {
                let router = router.clone();
                async move { read_outcome(router.read_index_here().await) }
            }
        });
        Self { router, reads: Arc::new(reads), receiving: Arc::default(), appends: AppendStreams::default(), desk }
    }

    pub fn into_server(self) -> PeerServer<Self> {
        PeerServer::new(self).max_decoding_message_size(REQUEST_BYTES_MAX).max_encoding_message_size(ANSWER_BYTES_MAX)
    }

    fn identity(&self) -> &Identity {
        &self.router.identity
    }

    /// The facts that a message is held against. Claim 1: a leader's are held against raft's own
    /// state, others' against what raft published last. The library may know of a later commit; the
    /// check of a snapshot asks it again.
    async fn known(&self, word: Word) -> Result<Known, Status> {
        if word == Word::Leader {
            return self.exactly_known().await.map(|(_, known)| known);
        }
        let metrics = self.raft().metrics();
        let committed = metrics.borrow_watched().local_committed.as_ref().map(log_id);
        Ok(Known { own_id: self.router.own_id(), term: self.router.log.vote_term(), committed })
    }

    /// This member's vote, and the facts, behind all that raft was handed before.
    async fn exactly_known(&self) -> Result<(RawVote, Known), Status> {
        let state = self.raft().with_raft_state(|state| (*state.vote_ref(), state.local_committed().map(log_id)));
        let (vote, committed) = state.await.map_err(|error| Status::internal(error.to_string()))?;
        Ok((vote, Known { own_id: self.router.own_id(), term: vote_parts(&vote).0, committed }))
    }

    /// Claim 1. `read` decodes and checks, and is told who speaks.
    async fn let_in<M>(
        &self,
        route: Option<&Route>,
        word: Word,
        read: impl FnOnce(u64, Known) -> Result<M, String>,
    ) -> Result<M, Status> {
        let sender = self.identity().examine(route, word)?;
        let known = self.known(word).await?;
        let message = read(sender.id(), known).map_err(|why| self.identity().refuse_invalid(sender, &why))?;
        self.identity().remember(sender).await?;
        Ok(message)
    }

    /// An append of a leader, which may be handed to raft.
    async fn append(&self, message: RaftMessage) -> Result<AppendEntriesRequest<TypeConfig>, Status> {
        let RaftMessage { route, payload, short_of_space } = message;
        let read = |from, known: Known| {
            let message = decode_append(&payload, ENTRIES_MAX).map_err(|error| error.to_string())?;
            known.append_request(from, &message).map(|()| message)
        };
        let append = self.let_in(route.as_ref(), Word::Leader, read).await?;
        self.identity().note_leader();
        self.router.peers.shortage.note(vote_parts(&append.vote).1, short_of_space);
        if self.voted_for(&append.vote) {
            pass(Window::VoteAnswered);
        }
        Ok(append)
    }

    /// Answers to a leader's appends.
    pub(crate) fn appends<M>(&self, messages: M) -> BoxStream<'static, Result<RaftReply, Status>>
    where
        M: Stream<Item = Result<RaftMessage, Status>> + Send + Unpin + 'static,
    {
        let service = Arc::new(self.clone());
        let answers = self.appends.answer(self.raft(), messages, {
            let service = service.clone();
            move |message| {
                let service = service.clone();
                async move { service.append(message).await }
            }
        });
        answers.map(move |answer| service.reply(Ok::<_, Fatal<TypeConfig>>(answer?)).map(Response::into_inner)).boxed()
    }

    /// A message of the library's.
    async fn message<M: DeserializeOwned>(
        &self,
        request: Request<RaftMessage>,
        word: Word,
        check: impl FnOnce(&Known, u64, &M) -> Checked,
    ) -> Result<M, Status> {
        // Only a leader's appends and the answers to them tell of a disk that is short of space.
        let RaftMessage { route, payload, short_of_space: _ } = request.into_inner();
        let read = |from, known| {
            let message = decode("message", &payload).map_err(|error| error.to_string())?;
            check(&known, from, &message).map(|()| message)
        };
        self.let_in(route.as_ref(), word, read).await
    }

    /// A request that says nothing about the library's state.
    async fn plain(&self, route: Option<&Route>) -> Result<(), Status> {
        self.let_in(route, Word::Other, |_, _| Ok(())).await
    }

    fn reply<M: Serialize, E: Display>(&self, answer: Result<M, E>) -> Answer<RaftReply> {
        // The library's own errors are fatal ones: this member is going down.
        let answer = answer.map_err(|error| Status::internal(error.to_string()))?;
        let payload = encode(&answer).map_err(|error| Status::internal(error.to_string()))?;
        let short_of_space = self.router.state_machine.is_short_of_space();
        Ok(Response::new(RaftReply { payload, from: self.identity().own(), short_of_space }))
    }

    /// True if this is the first message of the leader that this member has just voted for.
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
        let append = self.append(request.into_inner()).await?;
        self.reply(self.raft().append_entries(append).await)
    }

    type AppendStreamStream = BoxStream<'static, Result<RaftReply, Status>>;

    async fn append_stream(&self, request: Request<Streaming<RaftMessage>>) -> Answer<Self::AppendStreamStream> {
        Ok(Response::new(self.appends(request.into_inner())))
    }

    async fn vote(&self, request: Request<RaftMessage>) -> Answer<RaftReply> {
        let asked: VoteRequest<_> = self.message(request, Word::Other, Known::vote_request).await?;
        self.reply(self.raft().vote(asked).await)
    }

    async fn pre_vote(&self, request: Request<RaftMessage>) -> Answer<RaftReply> {
        let asked: VoteRequest<_> = self.message(request, Word::Other, Known::vote_request).await?;
        self.reply(self.raft().pre_vote(asked).await)
    }

    async fn transfer_leader(&self, request: Request<RaftMessage>) -> Answer<RaftReply> {
        let asked: TransferLeaderRequest<_> = self.message(request, Word::Other, Known::transfer_request).await?;
        self.reply(self.raft().handle_transfer_leader(asked).await)
    }

    async fn install_snapshot(&self, request: Request<Streaming<SnapshotFrame>>) -> Answer<RaftReply> {
        let incoming = Incoming::open(request.into_inner()).await?;
        let read = |from, known: Known| {
            let vote: RawVote = decode("vote", &incoming.head.vote).map_err(|error| error.to_string())?;
            let offered = raw_snapshot_meta(&incoming.meta()).map_err(|error| error.to_string())?;
            known.snapshot(from, &vote, &offered).map(|()| Offer { from, vote, offered })
        };
        let offer = self.let_in(incoming.head.route.as_ref(), Word::Leader, read).await?;
        self.identity().note_leader();
        let receiving = self.receiving.clone().try_lock_owned();
        let receiving = receiving.map_err(|_| Status::resource_exhausted("another snapshot is being received"))?;
        let taken = tokio::spawn(Transfer { service: self.clone(), offer }.run(incoming, receiving)).await;
        taken.map_err(|error| Status::internal(error.to_string()))?
    }

    type ProposeStream = BoxStream<'static, Result<ProposeResponse, Status>>;

    async fn propose(&self, request: Request<ProposeRequest>) -> Answer<Self::ProposeStream> {
        let ProposeRequest { route, commands } = request.into_inner();
        let read = |_, _| delimited::split(commands, FRAME_PROPOSALS_MAX);
        let commands = self.let_in(route.as_ref(), Word::Other, read).await?;
        let router = &self.router;
        // All of them are proposed when the first answer is asked for.
        let answers: FuturesOrdered<_> =
            commands.into_iter().map(|command| proposed(router.clone(), command).map(Ok)).collect();
        Ok(Response::new(answers.boxed()))
    }

    async fn read_index(&self, request: Request<ReadIndexRequest>) -> Answer<ReadIndexResponse> {
        self.plain(request.into_inner().route.as_ref()).await?;
        let outcome = self.reads.next().await.map_err(|error: ProposeError| Status::internal(error.to_string()))?;
        Ok(Response::new(ReadIndexResponse { outcome: Some(outcome), from: self.identity().own() }))
    }

    async fn change_membership(&self, request: Request<ChangeRequest>) -> Answer<ChangeResponse> {
        let request = request.into_inner();
        self.plain(request.route.as_ref()).await?;
        let wanted = request.change.ok_or_else(|| Status::invalid_argument("expected a change, found none"))?;
        let (router, from) = (self.router.clone(), self.identity().own());
        // In a task of its own: a caller that goes away must not leave the turn to the next one
        // before the outcome is known.
        let changed = tokio::spawn(async move { router.change_here(&change::from_wire(wanted)).await }).await;
        let outcome = change::outcome(changed.map_err(|error| Status::internal(error.to_string()))?);
        Ok(Response::new(ChangeResponse { outcome: Some(outcome), from }))
    }

    async fn ask(&self, request: Request<AskRequest>) -> Answer<AskResponse> {
        let request = request.into_inner();
        self.plain(request.route.as_ref()).await?;
        let outcome = match self.desk.answer_here(request.question).await {
            Attempt::Done(answer) => AskOutcome::Answer(answer),
            Attempt::Refused { leader, reason } => AskOutcome::NotLeading(not_proposed(leader, reason)),
            Attempt::Failed(ProposeError::TooLarge { found, .. }) => AskOutcome::TooLarge(found as u64),
            Attempt::Failed(error) => AskOutcome::NotLeading(not_proposed(None, error.to_string())),
        };
        Ok(Response::new(AskResponse { outcome: Some(outcome), from: self.identity().own() }))
    }

    async fn hello(&self, request: Request<HelloRequest>) -> Answer<HelloResponse> {
        self.plain(request.into_inner().route.as_ref()).await?;
        Ok(Response::new(HelloResponse { from: self.identity().own() }))
    }
}

async fn proposed(router: Arc<Router>, command: Bytes) -> ProposeResponse {
    let attempt = match router.vet(&command) {
        Ok(()) => router.propose_here(command).await,
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
    ProposeResponse { outcome: Some(outcome), from: router.identity.own() }
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

/// A snapshot that was announced, and by whom.
struct Offer {
    from: u64,
    vote: RawVote,
    offered: RawSnapshotMeta,
}

/// One snapshot's way in.
struct Transfer {
    service: PeerService,
    offer: Offer,
}

impl Transfer {
    async fn run(self, incoming: Incoming, receiving: OwnedMutexGuard<()>) -> Answer<RaftReply> {
        if let Some(vote) = self.unneeded().await? {
            return self.service.reply(Ok::<_, Fatal<TypeConfig>>(SnapshotResponse::<TypeConfig>::new(vote)));
        }
        let offered = incoming.meta().log_id;
        let received = incoming.receive(self.service.router.state_machine.clone()).await;
        received.map_err(|error| {
            tracing::warn!(%error, log_id = %offered, "refused a snapshot");
            let sentence = format!("snapshot {offered} refused: {error}");
            let full = error.kind() == io::ErrorKind::StorageFull;
            if full { Status::resource_exhausted(sentence) } else { Status::aborted(sentence) }
        })?;
        // Much may have been committed meanwhile.
        if let Some(vote) = self.unneeded().await? {
            return self.service.reply(Ok::<_, Fatal<TypeConfig>>(SnapshotResponse::<TypeConfig>::new(vote)));
        }
        let snapshot = RawSnapshot { meta: self.offer.offered.clone(), snapshot: SnapshotData::Staged };
        let installed = self.service.raft().install_full_snapshot(self.offer.vote, snapshot).await;
        let installed = self.service.reply(installed);
        drop(receiving);
        installed
    }

    /// This member's vote, if it has no use for the snapshot: it has committed as much, or knows of
    /// a later leader; both stay so. Claim 3.
    async fn unneeded(&self) -> Result<Option<RawVote>, Status> {
        let Offer { from, vote: leader, offered } = &self.offer;
        let (vote, known) = self.service.exactly_known().await?;
        let index = offered.last_log_id.as_ref().map(|at| at.index);
        if *leader < vote || known.committed.map(|at| at.index) >= index {
            return Ok(Some(vote));
        }
        known.snapshot(*from, leader, offered).map_err(Status::invalid_argument)?;
        Ok(None)
    }
}
