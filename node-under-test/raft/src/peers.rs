//! Connections to the other members, which the library's messages and this crate's own questions
//! share.
//!
//! One HTTP/2 connection per member, made when it is first needed and again after it broke, plus
//! one for snapshots, so that a transfer never stands before a heartbeat.

use crate::api::Member;
use crate::dial::Dial;
use crate::space::Shortage;
use node_proto::peer::peer_client::PeerClient;
use std::collections::HashMap;
use std::error::Error;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tonic::transport::{Channel, Endpoint};
use tonic::{ConnectError, Status};

/// An append message is at most 4 MiB of entries and one more, which is a command of at most
/// [`COMMAND_BYTES_MAX`].
pub const REQUEST_BYTES_MAX: usize = 8 << 20;
/// An answer to a command may hold the keys that the command read.
pub const ANSWER_BYTES_MAX: usize = 64 << 20;
/// A longer command could not be replicated: no message would hold it.
pub const COMMAND_BYTES_MAX: usize = 2 << 20;

/// Appends on the way to one follower, or on the way in from one leader, that have no answer yet:
/// one that the follower's log syncs, one that waits to share the next sync, and two on the wire to
/// it and back. More would not be synced earlier; they would only be smaller, and cost more in all.
pub const APPENDS_UNDER_WAY_MAX: usize = 4;

const CONNECT_TIMEOUT: Duration = Duration::from_millis(300);

/// A member whose machine is gone does not end its connections: pings find out, and the next call
/// connects anew.
const PING_EVERY: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// A channel to `address` (`host:port`) that connects on demand.
///
/// # Errors
/// `address` cannot be parsed.
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

fn client(channel: Channel) -> PeerClient<Channel> {
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
    /// A member's peer address is not a `host:port`.
    pub fn new(own_id: u64, members: &[Member], dial: &Dial) -> Result<Self, tonic::transport::Error> {
        let open = |member: &Member| Ok((member.id, PeerChannels::open(&member.peer_addr, dial)?));
        let others = members.iter().filter(|member| member.id != own_id);
        let channels = others.map(open).collect::<Result<_, _>>()?;
        let (dial, channels) = (Arc::new(dial.clone()), Arc::new(RwLock::new(channels)));
        Ok(Self { own_id, dial, shortage: Shortage::default(), channels })
    }

    /// Member `id` is at `address`, as a membership has it: the word of a membership goes over what
    /// was known before.
    pub fn learn(&self, id: u64, address: &str) {
        if id == self.own_id || self.read(id, |known| known.address == address).unwrap_or(false) {
            return;
        }
        match PeerChannels::open(address, &self.dial) {
            Ok(channels) => {
                self.channels.write().unwrap_or_else(PoisonError::into_inner).insert(id, channels);
            }
            // The address is unreachable; its proposer should have checked it.
            Err(error) => tracing::error!(id, address, %error, "the membership names no usable peer address"),
        }
    }

    /// `None`: no such member.
    pub fn messages(&self, id: u64) -> Option<PeerClient<Channel>> {
        self.read(id, |channels| client(channels.messages.clone()))
    }

    /// A client for the member at `address`, which no membership names. The client is not kept.
    ///
    /// # Errors
    /// `address` cannot be parsed.
    pub fn stranger(&self, address: &str) -> Result<PeerClient<Channel>, tonic::transport::Error> {
        Ok(client(channel(&self.dial.resolve(address))?))
    }

    /// The connection that snapshots have to themselves; `None`: no such member.
    pub fn snapshots(&self, id: u64) -> Option<PeerClient<Channel>> {
        self.read(id, |channels| client(channels.snapshots.clone()))
    }

    /// All members whose address is known.
    pub fn ids(&self) -> Vec<u64> {
        self.channels.read().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
    }

    fn read<T>(&self, id: u64, look: impl FnOnce(&PeerChannels) -> T) -> Option<T> {
        self.channels.read().unwrap_or_else(PoisonError::into_inner).get(&id).map(look)
    }
}

/// True if a call that ended with `status` certainly never left this process: its connection was
/// not made.
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

#[cfg(test)]
mod tests {
    use super::*;
    use node_proto::peer::ReadIndexRequest;
    use rustix::net::sockopt::tcp_nodelay;
    use rustix::process::{PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
    use std::net::SocketAddr;

    /// A proposal is safe to send elsewhere if no process listened. This fails when the transport
    /// stops telling.
    #[tokio::test]
    async fn a_refused_connection_is_known_to_have_carried_nothing() {
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut client = client(channel(&address.to_string()).unwrap());
        let status = client.read_index(ReadIndexRequest { route: None }).await.unwrap_err();
        assert!(never_sent(&status), "{status:?}");
        assert!(!never_sent(&Status::unavailable("said by the other side")));
    }

    /// True if small messages leave at once on the socket of this process that is bound to `own`.
    fn is_nodelay(own: SocketAddr) -> bool {
        let this = pidfd_open(rustix::process::getpid(), PidfdFlags::empty()).unwrap();
        let bound = std::fs::read_dir("/proc/self/fd").unwrap().find_map(|entry| {
            let number = entry.unwrap().file_name().to_string_lossy().parse().unwrap();
            // It may be no socket, or be closed by now: other tests run in this process.
            let socket = pidfd_getfd(&this, number, PidfdGetfdFlags::empty()).ok()?;
            let name = rustix::net::getsockname(&socket).ok()?;
            (SocketAddr::try_from(name) == Ok(own)).then_some(socket)
        });
        tcp_nodelay(bound.expect("the dialled socket is open")).unwrap()
    }

    /// A heartbeat, or a small append, must not wait until what was sent before is acknowledged.
    #[tokio::test]
    async fn small_messages_leave_at_once_on_every_dialled_connection() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let other = Member { id: 2, name: String::new(), peer_addr: address.clone(), client_addr: String::new() };
        let peers = Peers::new(1, &[other], &Dial::default()).unwrap();
        let clients = [peers.messages(2).unwrap(), peers.snapshots(2).unwrap(), peers.stranger(&address).unwrap()];
        for mut client in clients {
            let call = tokio::spawn(async move { client.read_index(ReadIndexRequest { route: None }).await });
            let (mut accepted, dialled_from) = listener.accept().await.unwrap();
            // Options are set before HTTP/2's greeting is sent.
            tokio::io::AsyncReadExt::read_exact(&mut accepted, &mut [0; 24]).await.unwrap();
            assert!(is_nodelay(dialled_from), "small messages wait on the connection from {dialled_from}");
            drop(accepted);
            call.await.unwrap().unwrap_err();
        }
    }

    /// A connection that breaks after the request was written may have carried it.
    #[tokio::test]
    async fn a_broken_connection_may_have_carried_the_request() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = client(channel(&listener.local_addr().unwrap().to_string()).unwrap());
        let call = tokio::spawn(async move { client.read_index(ReadIndexRequest { route: None }).await });
        let (mut stream, _) = listener.accept().await.unwrap();
        // An HTTP/2 server's empty SETTINGS frame completes the connection; then the client's bytes
        // arrive.
        tokio::io::AsyncWriteExt::write_all(&mut stream, &[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
        let mut bytes = [0; 64];
        tokio::io::AsyncReadExt::read_exact(&mut stream, &mut bytes).await.unwrap();
        drop(stream);
        let status = call.await.unwrap().unwrap_err();
        assert!(!never_sent(&status), "{status:?}");
    }
}
