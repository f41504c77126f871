//! Calling the other members: the library's messages, and ours.
//!
//! One HTTP/2 connection per member, made when it is first needed and again after it broke, plus one for
//! snapshots, so that a transfer never stands before a heartbeat. A call that is dropped resets its own stream
//! and nothing else, so the next call cannot read a stale answer.

use crate::api::{Member, StateMachine};
use crate::checked::{Checked, Known};
use crate::clock::Deadline;
use crate::dial::Dial;
use crate::identity::Identity;
use crate::silence::Silence;
use crate::snapshot_stream;
use crate::space::Shortage;
use crate::types::{MemberNode, RawSnapshot, RawVote, SnapshotData, TypeConfig, decode, encode};
use bytes::Bytes;
use node_proto::peer::peer_client::PeerClient;
use node_proto::peer::{RaftMessage, RaftReply};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable};
use openraft::network::{RPCOption, RPCTypes};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, TransferLeaderResponse,
    VoteRequest, VoteResponse,
};
use openraft::{RaftNetworkFactory, RaftNetworkV2};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use std::error::Error;
use std::future::Future;
use std::io;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, ConnectError, Request, Response, Status};

/// An append message is at most 4 MiB of entries and one more, which is a command of at most [`COMMAND_BYTES_MAX`].
pub const REQUEST_BYTES_MAX: usize = 8 << 20;
/// What applying a command answers may be the keys that it read.
pub const ANSWER_BYTES_MAX: usize = 64 << 20;
/// A longer command could not be replicated: no message would hold it.
pub const COMMAND_BYTES_MAX: usize = 2 << 20;

const CONNECT_TIMEOUT: Duration = Duration::from_millis(300);

/// A member whose machine is gone does not end its connections: pings find out, and the next call connects anew.
const PING_EVERY: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// An append waits for the follower's fsync, which shared disks stall for 150 ms now and then: the library's own
/// limit, one heartbeat interval, would send the same entries again and again.
const APPEND_TIMEOUT: Duration = Duration::from_millis(500);

/// A channel to `address` (`host:port`) that connects on demand.
///
/// # Errors
/// When that is no address.
fn channel(address: &str) -> Result<Channel, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(16 << 20)
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true);
    Ok(endpoint.connect_lazy())
}

pub fn client(channel: Channel) -> PeerClient<Channel> {
    PeerClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX).max_encoding_message_size(REQUEST_BYTES_MAX)
}

/// Connections to the other members, by the addresses that are known now. Clones share them.
#[derive(Clone)]
pub struct Peers {
    own_id: u64,
    dial: Arc<Dial>,
    pub shortage: Shortage,
    channels: Arc<RwLock<HashMap<u64, PeerChannels>>>,
}

struct PeerChannels {
    /// As the membership names it, wherever that leads.
    address: String,
    messages: Channel,
    snapshots: Channel,
}

impl PeerChannels {
    fn open(address: &str, dial: &Dial) -> Result<Self, tonic::transport::Error> {
        let at = dial.resolve(address);
        Ok(Self { address: address.to_owned(), messages: channel(&at)?, snapshots: channel(&at)? })
    }
}

impl Peers {
    /// `members` are what is known before any membership is.
    ///
    /// # Errors
    /// When a member's peer address is no `host:port`.
    pub fn new(own_id: u64, members: &[Member], dial: &Dial) -> Result<Self, tonic::transport::Error> {
        let open = |member: &Member| Ok((member.id, PeerChannels::open(&member.peer_addr, dial)?));
        let others = members.iter().filter(|member| member.id != own_id);
        let channels = others.map(open).collect::<Result<_, _>>()?;
        let (dial, channels) = (Arc::new(dial.clone()), Arc::new(RwLock::new(channels)));
        Ok(Self { own_id, dial, shortage: Shortage::default(), channels })
    }

    /// Member `id` is at `address`, as a membership has it: the word of a membership goes over what was known before.
    pub fn learn(&self, id: u64, address: &str) {
        if id == self.own_id || self.read(id, |known| known.address == address).unwrap_or(false) {
            return;
        }
        match PeerChannels::open(address, &self.dial) {
            Ok(channels) => {
                self.channels.write().unwrap_or_else(PoisonError::into_inner).insert(id, channels);
            }
            // Nobody can be reached there; who proposed it should have looked.
            Err(error) => tracing::error!(id, address, %error, "the membership names no usable peer address"),
        }
    }

    /// `None`: no such member.
    pub fn messages(&self, id: u64) -> Option<PeerClient<Channel>> {
        self.read(id, |channels| client(channels.messages.clone()))
    }

    /// A client for who is at `address`, which no membership names: it is not kept.
    ///
    /// # Errors
    /// When that is no address.
    pub fn stranger(&self, address: &str) -> Result<PeerClient<Channel>, tonic::transport::Error> {
        Ok(client(channel(&self.dial.resolve(address))?))
    }

    fn snapshots(&self, id: u64) -> Option<PeerClient<Channel>> {
        self.read(id, |channels| client(channels.snapshots.clone()))
    }

    /// Everybody whose address is known.
    pub fn ids(&self) -> Vec<u64> {
        self.channels.read().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
    }

    fn read<T>(&self, id: u64, look: impl FnOnce(&PeerChannels) -> T) -> Option<T> {
        self.channels.read().unwrap_or_else(PoisonError::into_inner).get(&id).map(look)
    }
}

/// Whether a call that ended with `status` certainly never left this process: its connection was not made.
pub fn never_sent(status: &Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        if error.is::<ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
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

/// The library's client for one member. Where that is, is looked up for each call: the library keeps this for as long as
/// the member is one, and the member may move.
pub struct PeerNetwork {
    target: u64,
    snapshots: bool,
    peers: Peers,
    identity: Identity,
    state_machine: Arc<dyn StateMachine>,
    silence: Silence,
}

type RpcResult<T> = Result<T, RPCError<TypeConfig>>;

impl PeerNetwork {
    fn client(&self) -> Result<PeerClient<Channel>, Unreachable<TypeConfig>> {
        let client = if self.snapshots { self.peers.snapshots(self.target) } else { self.peers.messages(self.target) };
        client.ok_or_else(|| Unreachable::from_string(format!("member {} has no usable address", self.target)))
    }

    /// What an answer is held against.
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
        let payload = encode(message).map_err(|error| unusable(&error))?;
        let short_of_space = self.state_machine.is_short_of_space() || self.peers.shortage.any().is_some();
        let request = Request::new(RaftMessage { route: self.identity.route(self.target), payload, short_of_space });
        match Deadline::after(limit).bound(call(client, request)).await {
            None => {
                let id = self.identity.own_id();
                Err(Timeout { action, id, target: self.target, timeout: limit }.into())
            }
            Some(Err(status)) => {
                self.identity.heed(self.target, &status);
                Err(rpc_error(&status))
            }
            Some(Ok(reply)) => {
                let RaftReply { payload, from, short_of_space } = reply.into_inner();
                self.identity.count(self.target, from).await.map_err(|error| unusable(&error))?;
                self.peers.shortage.note(self.target, short_of_space);
                let answer = decode("answer", &payload).map_err(|error| unusable(&error))?;
                check(&self.known(), message, &answer).map_err(|why| unusable(&io::Error::other(why)))?;
                Ok(answer)
            }
        }
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

/// Back off when nobody listens or the answer was a refusal; a broken connection is tried again at once.
fn rpc_error(status: &Status) -> RPCError<TypeConfig> {
    let broken = status.code() == Code::Unknown || status.code() == Code::Cancelled;
    if broken { NetworkError::new(status).into() } else { Unreachable::new(status).into() }
}

impl RaftNetworkV2<TypeConfig> for PeerNetwork {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> RpcResult<AppendEntriesResponse<TypeConfig>> {
        if self.silence.is_kept() {
            return Err(Unreachable::from_string("this leader keeps silent: no quorum answers it").into());
        }
        let limit = option.hard_ttl().max(APPEND_TIMEOUT);
        self.call((RPCTypes::AppendEntries, limit), &rpc, Known::append_answer, |mut client, request| async move {
            client.append_entries(request).await
        })
        .await
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

#[cfg(test)]
mod tests {
    use super::*;
    use node_proto::peer::ReadIndexRequest;

    /// What makes a proposal safe to send elsewhere: nobody listened. This fails when the transport stops telling.
    #[tokio::test]
    async fn a_refused_connection_is_known_to_have_carried_nothing() {
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut client = client(channel(&address.to_string()).unwrap());
        let status = client.read_index(ReadIndexRequest { route: None }).await.unwrap_err();
        assert!(never_sent(&status), "{status:?}");
        assert!(!never_sent(&Status::unavailable("said by the other side")));
    }

    /// A connection that breaks after the request was written may have carried it.
    #[tokio::test]
    async fn a_broken_connection_may_have_carried_the_request() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = client(channel(&listener.local_addr().unwrap().to_string()).unwrap());
        let call = tokio::spawn(async move { client.read_index(ReadIndexRequest { route: None }).await });
        let (mut stream, _) = listener.accept().await.unwrap();
        // An HTTP/2 server's empty SETTINGS frame completes the connection; then the client's bytes arrive.
        tokio::io::AsyncWriteExt::write_all(&mut stream, &[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
        let mut bytes = [0; 64];
        tokio::io::AsyncReadExt::read_exact(&mut stream, &mut bytes).await.unwrap();
        drop(stream);
        let status = call.await.unwrap().unwrap_err();
        assert!(!never_sent(&status), "{status:?}");
    }
}
