//! Calling the other members: the library's messages, and ours.
//!
//! One HTTP/2 connection per member, made when it is first needed and again after it broke, plus one for
//! snapshots, so that a transfer never stands before a heartbeat. A call that is dropped resets its own stream
//! and nothing else, so the next call cannot read a stale answer.

use crate::api::{Member, StateMachine};
use crate::clock::Deadline;
use crate::snapshot_stream;
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
use std::sync::Arc;
use std::time::Duration;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, ConnectError, Request, Response, Status};

/// Either way; an append message is limited to a few MiB by its sender, a single entry may be larger.
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;

const CONNECT_TIMEOUT: Duration = Duration::from_millis(300);

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
        .initial_connection_window_size(16 << 20);
    Ok(endpoint.connect_lazy())
}

pub fn client(channel: Channel) -> PeerClient<Channel> {
    PeerClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX).max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// Connections to the other members. Clones share them.
#[derive(Clone)]
pub struct Peers {
    own_id: u64,
    channels: Arc<HashMap<u64, PeerChannels>>,
}

struct PeerChannels {
    messages: Channel,
    snapshots: Channel,
}

impl Peers {
    /// # Errors
    /// When a member's peer address is no `host:port`.
    pub fn new(own_id: u64, members: &[Member]) -> Result<Self, tonic::transport::Error> {
        let open = |member: &Member| {
            let channels =
                PeerChannels { messages: channel(&member.peer_addr)?, snapshots: channel(&member.peer_addr)? };
            Ok((member.id, channels))
        };
        let others = members.iter().filter(|member| member.id != own_id);
        Ok(Self { own_id, channels: Arc::new(others.map(open).collect::<Result<_, _>>()?) })
    }

    /// `None`: no such member.
    pub fn messages(&self, id: u64) -> Option<PeerClient<Channel>> {
        self.channels.get(&id).map(|channels| client(channels.messages.clone()))
    }

    fn snapshots(&self, id: u64) -> Option<PeerClient<Channel>> {
        self.channels.get(&id).map(|channels| client(channels.snapshots.clone()))
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
    pub state_machine: Arc<dyn StateMachine>,
}

impl Network {
    fn client_of(&self, target: u64, client: Option<PeerClient<Channel>>) -> PeerNetwork {
        PeerNetwork { own_id: self.peers.own_id, target, client, state_machine: self.state_machine.clone() }
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = PeerNetwork;

    async fn new_client(&mut self, target: u64, _node: &MemberNode) -> PeerNetwork {
        self.client_of(target, self.peers.messages(target))
    }

    async fn new_snapshot_client(&mut self, target: u64, _node: &MemberNode) -> PeerNetwork {
        self.client_of(target, self.peers.snapshots(target))
    }
}

/// The library's client for one member.
pub struct PeerNetwork {
    own_id: u64,
    target: u64,
    /// `None`: the membership names a member that this one was not told of.
    client: Option<PeerClient<Channel>>,
    state_machine: Arc<dyn StateMachine>,
}

type RpcResult<T> = Result<T, RPCError<TypeConfig>>;

impl PeerNetwork {
    fn client(&self) -> Result<PeerClient<Channel>, Unreachable<TypeConfig>> {
        self.client.clone().ok_or_else(|| {
            Unreachable::from_string(format!(
                "member {} is in the membership, but not among the configured members",
                self.target
            ))
        })
    }

    /// One unary call of a library message, bounded by `limit`.
    async fn call<M, R, F>(
        &self,
        action: RPCTypes,
        message: &M,
        limit: Duration,
        call: impl FnOnce(PeerClient<Channel>, Request<RaftMessage>) -> F,
    ) -> RpcResult<R>
    where
        M: Serialize,
        R: DeserializeOwned,
        F: Future<Output = Result<Response<RaftReply>, Status>>,
    {
        let client = self.client()?;
        let payload = encode(message).map_err(|error| unusable(&error))?;
        let request = Request::new(RaftMessage { to: self.target, payload });
        match Deadline::after(limit).bound(call(client, request)).await {
            None => Err(Timeout { action, id: self.own_id, target: self.target, timeout: limit }.into()),
            Some(Err(status)) => Err(rpc_error(&status)),
            Some(Ok(reply)) => decode("answer", &reply.into_inner().payload).map_err(|error| unusable(&error)),
        }
    }

    async fn send_snapshot(&self, vote: RawVote, snapshot: RawSnapshot) -> Result<Bytes, StreamingError<TypeConfig>> {
        if snapshot.snapshot != SnapshotData::Deferred {
            return Err(NetworkError::from_string("a staged snapshot is for installing, not for sending").into());
        }
        let client = self.client()?;
        let vote = encode(&vote).map_err(|error| NetworkError::new(&error))?;
        snapshot_stream::send(client, self.target, vote, self.state_machine.clone()).await
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
        let limit = option.hard_ttl().max(APPEND_TIMEOUT);
        self.call(RPCTypes::AppendEntries, &rpc, limit, |mut client, request| async move {
            client.append_entries(request).await
        })
        .await
    }

    async fn vote(&mut self, rpc: VoteRequest<TypeConfig>, option: RPCOption) -> RpcResult<VoteResponse<TypeConfig>> {
        self.call(
            RPCTypes::Vote,
            &rpc,
            option.hard_ttl(),
            |mut client, request| async move { client.vote(request).await },
        )
        .await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> RpcResult<VoteResponse<TypeConfig>> {
        self.call(RPCTypes::Vote, &rpc, option.hard_ttl(), |mut client, request| async move {
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
        decode("answer", &answer).map_err(|error| Unreachable::new(&error).into())
    }

    async fn transfer_leader(
        &mut self,
        rpc: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> RpcResult<TransferLeaderResponse<TypeConfig>> {
        self.call(RPCTypes::TransferLeader, &rpc, option.hard_ttl(), |mut client, request| async move {
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
        let status = client.read_index(ReadIndexRequest { to: 1 }).await.unwrap_err();
        assert!(never_sent(&status), "{status:?}");
        assert!(!never_sent(&Status::unavailable("said by the other side")));
    }

    /// A connection that breaks after the request was written may have carried it.
    #[tokio::test]
    async fn a_broken_connection_may_have_carried_the_request() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = client(channel(&listener.local_addr().unwrap().to_string()).unwrap());
        let call = tokio::spawn(async move { client.read_index(ReadIndexRequest { to: 1 }).await });
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
