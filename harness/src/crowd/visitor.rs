//! One client of the crowd: it opens something, and holds it.

use super::Counts;
use crate::scenario::CrowdSpec;
use crate::timer;
use futures_util::{StreamExt, stream};
use ninelives_evidence::limits;
use node_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use node_proto::etcdserverpb::watch_client::WatchClient;
use node_proto::etcdserverpb::watch_request::RequestUnion;
use node_proto::etcdserverpb::{SnapshotRequest, WatchCreateRequest, WatchRequest};
use std::future::{pending, ready};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

/// The beginning of HTTP/2, with an empty SETTINGS frame behind it. Pings are never answered.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Bytes that a client of the crowd takes in before its member has to wait: HTTP/2's own default,
/// which is small.
const WINDOW_BYTES: u32 = 65_535;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Idle,
    HalfOpen,
    StalledWatch,
    StalledSnapshot,
}

impl Kind {
    /// Each kind with its number at each member.
    pub fn of(spec: &CrowdSpec) -> [(Self, u32); 4] {
        [
            (Kind::Idle, spec.idle),
            (Kind::HalfOpen, spec.half_open),
            (Kind::StalledWatch, spec.stalled_watches),
            (Kind::StalledSnapshot, spec.stalled_snapshots),
        ]
    }

    /// Returns when it is sent away, or not let in.
    pub async fn visit(self, at: SocketAddr, counts: &Counts, arrival: &mut Arrival<'_>) {
        match self {
            Kind::Idle => hold(at, &[], counts, arrival).await,
            Kind::HalfOpen => hold(at, PREFACE, counts, arrival).await,
            Kind::StalledWatch => watch(at, counts, arrival).await,
            Kind::StalledSnapshot => snapshot(at, counts, arrival).await,
        }
    }
}

/// The arrival of one client, which counts once in a life of its member.
#[derive(Debug)]
pub(super) struct Arrival<'a> {
    arrived: &'a watch::Sender<Vec<u32>>,
    place: usize,
    came: bool,
}

impl<'a> Arrival<'a> {
    /// A client that has yet to come to the member in `place`.
    pub fn new(arrived: &'a watch::Sender<Vec<u32>>, place: usize) -> Self {
        Self { arrived, place, came: false }
    }

    fn comes(&mut self) {
        if !std::mem::replace(&mut self.came, true) {
            self.arrived.send_modify(|arrived| arrived[self.place] += 1);
        }
    }
}

impl Drop for Arrival<'_> {
    fn drop(&mut self) {
        if self.came {
            self.arrived.send_modify(|arrived| arrived[self.place] -= 1);
        }
    }
}

/// Sends `first`, and listens until the member closes the connection.
async fn hold(at: SocketAddr, first: &[u8], counts: &Counts, arrival: &mut Arrival<'_>) {
    let Some(Ok(mut stream)) = timer::within(limits::CONTROL_CONNECT, TcpStream::connect(at)).await else {
        return arrival.comes();
    };
    let _ = stream.set_nodelay(true);
    Counts::add(&counts.connections);
    arrival.comes();
    let mut heard = [0; 256];
    if stream.write_all(first).await.is_ok() {
        while matches!(stream.read(&mut heard).await, Ok(1..)) {}
    }
    Counts::add(&counts.ended_by_members);
}

/// `None`: the member did not let it in. It has come all the same.
async fn connect(at: SocketAddr, counts: &Counts, arrival: &mut Arrival<'_>) -> Option<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{at}")).ok()?;
    let endpoint = endpoint
        .connect_timeout(limits::CONTROL_CONNECT)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES);
    let channel = endpoint.connect().await.ok();
    if channel.is_some() {
        Counts::add(&counts.connections);
    }
    arrival.comes();
    channel
}

/// A watch of everything from the beginning; its deliveries are never read.
async fn watch(at: SocketAddr, counts: &Counts, arrival: &mut Arrival<'_>) {
    let Some(channel) = connect(at, counts, arrival).await else { return };
    let all = WatchCreateRequest {
        key: vec![0].into(),
        range_end: vec![0].into(),
        start_revision: 1,
        prev_kv: true,
        ..WatchCreateRequest::default()
    };
    let create = WatchRequest { request_union: Some(RequestUnion::CreateRequest(all)) };
    // The stream of requests stays open: its end would be the watch's.
    let requests = stream::once(ready(create)).chain(stream::pending());
    let Ok(_unread) = WatchClient::new(channel).watch(requests).await else { return };
    Counts::add(&counts.watches);
    pending::<()>().await;
}

async fn snapshot(at: SocketAddr, counts: &Counts, arrival: &mut Arrival<'_>) {
    let Some(channel) = connect(at, counts, arrival).await else { return };
    match MaintenanceClient::new(channel).snapshot(SnapshotRequest {}).await {
        Ok(_unread) => {
            Counts::add(&counts.snapshots);
            pending::<()>().await;
        }
        Err(status) if status.code() == Code::ResourceExhausted => Counts::add(&counts.snapshots_refused),
        // The member dies, or has nothing to send yet.
        Err(_) => {}
    }
}
