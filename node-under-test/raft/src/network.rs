//! Carrying the library's own messages to the other members.
//!
//! Appends go by one stream for each follower (`pipeline`), everything else by calls with one
//! answer. A call that is dropped resets its own HTTP/2 stream and nothing else, so the next call
//! cannot read a stale answer.

use crate::api::StateMachine;
use crate::checked::{Checked, Known};
use crate::clock::Deadline;
use crate::identity::Identity;
use crate::peers::Peers;
use crate::pipeline::{Append, Follower, Pipeline, Replies, RpcResult};
use crate::silence::Silence;
use crate::snapshot_stream;
use crate::types::{MemberNode, RawSnapshot, RawVote, SnapshotData, TypeConfig, decode, encode};
use bytes::Bytes;
use futures_util::stream;
use futures_util::{Stream, StreamExt, TryStreamExt};
use node_proto::peer::peer_client::PeerClient;
use node_proto::peer::{RaftMessage, RaftReply};
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable};
use openraft::network::{RPCOption, RPCTypes, stream_append_sequential};
use openraft::raft::{
    AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderRequest, TransferLeaderResponse,
    VoteRequest, VoteResponse,
};
use openraft::{RaftNetworkFactory, RaftNetworkV2};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

/// An append waits for the follower's fsync, which shared disks stall for 150 ms now and then: the
/// library's own limit, one heartbeat interval, would send the same entries again and again.
const APPEND_TIMEOUT: Duration = Duration::from_millis(500);

fn append_limit(option: &RPCOption) -> Duration {
    option.hard_ttl().max(APPEND_TIMEOUT)
}

/// Makes the library's clients.
pub struct Network {
    pub peers: Peers,
    pub identity: Identity,
    pub state_machine: Arc<dyn StateMachine>,
    pub silence: Silence,
}

impl Network {
    fn client_of(&self, target: u64, node: &MemberNode, snapshots: bool) -> PeerNetwork {
        self.peers.learn(target, &node.peer_addr);
        PeerNetwork {
            target,
            snapshots,
            peers: self.peers.clone(),
            identity: self.identity.clone(),
            state_machine: self.state_machine.clone(),
            silence: self.silence.clone(),
        }
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = PeerNetwork;

    async fn new_client(&mut self, target: u64, node: &MemberNode) -> PeerNetwork {
        self.client_of(target, node, false)
    }

    async fn new_snapshot_client(&mut self, target: u64, node: &MemberNode) -> PeerNetwork {
        self.client_of(target, node, true)
    }
}

/// The library's client for one member. Where that is, is looked up for each call: the library
/// keeps this for as long as the member is one, and the member may move.
pub struct PeerNetwork {
    target: u64,
    snapshots: bool,
    peers: Peers,
    identity: Identity,
    state_machine: Arc<dyn StateMachine>,
    silence: Silence,
}

impl PeerNetwork {
    fn client(&self) -> Result<PeerClient<Channel>, Unreachable<TypeConfig>> {
        let client = if self.snapshots { self.peers.snapshots(self.target) } else { self.peers.messages(self.target) };
        client.ok_or_else(|| Unreachable::from_string(format!("member {} has no usable address", self.target)))
    }

    /// The facts that an answer is held against.
    fn known(&self) -> Known {
        Known { own_id: self.identity.own_id(), term: self.identity.term(), committed: None }
    }

    /// One unary call of a library message, bounded by `limit`; its answer is `check`ed.
    async fn call<M, R, F>(
        &self,
        (action, limit): (RPCTypes, Duration),
        message: &M,
        check: impl FnOnce(&Known, &M, &R) -> Checked,
        call: impl FnOnce(PeerClient<Channel>, Request<RaftMessage>) -> F,
    ) -> RpcResult<R>
    where
        M: Serialize,
        R: DeserializeOwned,
        F: Future<Output = Result<Response<RaftReply>, Status>>,
    {
        let client = self.client()?;
        let request = Request::new(self.message(message)?);
        match Deadline::after(limit).bound(call(client, request)).await {
            None => Err(self.no_answer(action, limit)),
            Some(Err(status)) => Err(self.call_failed(&status)),
            Some(Ok(reply)) => self.answer_in(reply.into_inner(), message, check).await,
        }
    }

    fn message<M: Serialize>(&self, message: &M) -> RpcResult<RaftMessage> {
        let payload = encode(message).map_err(|error| unusable(&error))?;
        let short_of_space = self.state_machine.is_short_of_space() || self.peers.shortage.any().is_some();
        Ok(RaftMessage { route: self.identity.route(self.target), payload, short_of_space })
    }

    /// The answer to `message` in `reply`, counted and `check`ed.
    async fn answer_in<M, R: DeserializeOwned>(
        &self,
        reply: RaftReply,
        message: &M,
        check: impl FnOnce(&Known, &M, &R) -> Checked,
    ) -> RpcResult<R> {
        let RaftReply { payload, from, short_of_space } = reply;
        self.identity.count(self.target, from).await.map_err(|error| unusable(&error))?;
        self.peers.shortage.note(self.target, short_of_space);
        let answer = decode("answer", &payload).map_err(|error| unusable(&error))?;
        check(&self.known(), message, &answer).map_err(|why| unusable(&io::Error::other(why)))?;
        Ok(answer)
    }

    /// The library's word for a call that ended with `status`. Back off when no process listens or
    /// the answer was a refusal; a broken connection is tried again at once.
    fn call_failed(&self, status: &Status) -> RPCError<TypeConfig> {
        self.identity.heed(self.target, status);
        let broken = status.code() == Code::Unknown || status.code() == Code::Cancelled;
        if broken { NetworkError::new(status).into() } else { Unreachable::new(status).into() }
    }

    fn no_answer(&self, action: RPCTypes, limit: Duration) -> RPCError<TypeConfig> {
        Timeout { action, id: self.identity.own_id(), target: self.target, timeout: limit }.into()
    }

    /// # Errors
    /// An append would keep the others from electing another leader.
    fn check_silence(&self) -> Result<(), Unreachable<TypeConfig>> {
        if self.silence.is_kept() {
            return Err(Unreachable::from_string("this leader keeps silent: no quorum answers it"));
        }
        Ok(())
    }

    async fn send_snapshot(&self, vote: RawVote, snapshot: RawSnapshot) -> Result<Bytes, StreamingError<TypeConfig>> {
        if snapshot.snapshot != SnapshotData::Deferred {
            return Err(NetworkError::from_string("a staged snapshot is for installing, not for sending").into());
        }
        let client = self.client()?;
        let vote = encode(&vote).map_err(|error| NetworkError::new(&error))?;
        let sent = snapshot_stream::send(client, &self.identity, self.target, vote, self.state_machine.clone()).await?;
        let counted = self.identity.count(self.target, sent.from).await;
        counted.map_err(|error| Unreachable::new(&error))?;
        Ok(sent.payload)
    }
}

/// A message that cannot be encoded or decoded will not get better by trying again at once.
fn unusable(error: &io::Error) -> RPCError<TypeConfig> {
    Unreachable::new(error).into()
}

impl Follower for PeerNetwork {
    fn write(&self, request: &Append) -> RpcResult<RaftMessage> {
        self.check_silence()?;
        self.message(request)
    }

    fn open(&self, messages: mpsc::Receiver<RaftMessage>) -> RpcResult<Replies> {
        let mut client = self.client()?;
        let call = async move { client.append_stream(ReceiverStream::new(messages)).await.map(Response::into_inner) };
        Ok(stream::once(call).try_flatten().boxed())
    }

    async fn read(&self, asked: &Append, reply: RaftReply) -> RpcResult<AppendEntriesResponse<TypeConfig>> {
        self.answer_in(reply, asked, Known::append_answer).await
    }

    fn failed(&self, status: &Status) -> RPCError<TypeConfig> {
        self.call_failed(status)
    }

    fn late(&self, limit: Duration) -> RPCError<TypeConfig> {
        self.no_answer(RPCTypes::AppendEntries, limit)
    }
}

impl RaftNetworkV2<TypeConfig> for PeerNetwork {
    type SnapshotData = SnapshotData;

    async fn append_entries(&mut self, rpc: Append, option: RPCOption) -> RpcResult<AppendEntriesResponse<TypeConfig>> {
        self.check_silence()?;
        let limit = append_limit(&option);
        self.call((RPCTypes::AppendEntries, limit), &rpc, Known::append_answer, |mut client, request| async move {
            client.append_entries(request).await
        })
        .await
    }

    /// Input that says of itself that it holds one request is a heartbeat, and is sent as a call:
    /// a stream would end the one on which entries travel, because a follower keeps one for each
    /// member.
    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, RpcResult<BoxStream<'s, RpcResult<StreamAppendResult<TypeConfig>>>>>
    where
        S: Stream<Item = Append> + Send + Unpin + 'static,
    {
        if input.size_hint() == (1, Some(1)) {
            return stream_append_sequential(self, input, option);
        }
        let answers = Pipeline::new(&*self, input, append_limit(&option)).answers();
        Box::pin(std::future::ready(Ok(answers)))
    }

    async fn vote(&mut self, rpc: VoteRequest<TypeConfig>, option: RPCOption) -> RpcResult<VoteResponse<TypeConfig>> {
        let limit = option.hard_ttl();
        self.call((RPCTypes::Vote, limit), &rpc, Known::vote_answer, |mut client, request| async move {
            client.vote(request).await
        })
        .await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> RpcResult<VoteResponse<TypeConfig>> {
        let limit = option.hard_ttl();
        self.call((RPCTypes::Vote, limit), &rpc, Known::vote_answer, |mut client, request| async move {
            client.pre_vote(request).await
        })
        .await
    }

    async fn full_snapshot(
        &mut self,
        vote: RawVote,
        snapshot: RawSnapshot,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let answer = tokio::select! {
            closed = cancel => return Err(closed.into()),
            answer = self.send_snapshot(vote, snapshot) => answer?,
        };
        let answer = decode("answer", &answer).map_err(|error| Unreachable::new(&error))?;
        self.known().snapshot_answer(&vote, &answer).map_err(Unreachable::from_string)?;
        Ok(answer)
    }

    async fn transfer_leader(
        &mut self,
        rpc: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> RpcResult<TransferLeaderResponse<TypeConfig>> {
        let limit = option.hard_ttl();
        // What the other one did about it says nothing about this member.
        let any = |_: &Known, _: &TransferLeaderRequest<TypeConfig>, _: &TransferLeaderResponse<TypeConfig>| Ok(());
        self.call((RPCTypes::TransferLeader, limit), &rpc, any, |mut client, request| async move {
            client.transfer_leader(request).await
        })
        .await
    }
}
