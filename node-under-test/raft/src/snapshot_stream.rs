//! A snapshot on its way between two members: a blocking reader here, a blocking writer there, and
//! a stream of chunks between them.
//!
//! Both ends hold a handful of chunks, whatever the snapshot weighs. A stream that breaks off is an
//! error to its reader, never an end: only the sender's own end of stream ends it, and the
//! receiver, which unpacks it, refuses a stream that is too short or too long.

use crate::api::{SnapshotMeta, StateMachine};
use crate::clock::{Deadline, Moment};
use crate::hello::hello;
use crate::identity::Identity;
use crate::peers::never_sent;
use crate::types::TypeConfig;
use bytes::{Buf, Bytes};
use node_base::LogId;
use node_base::backend::Declared;
use node_base::failpoint::{Window, pass};
use node_proto::peer::peer_client::PeerClient;
use node_proto::peer::snapshot_frame::Frame;
use node_proto::peer::{RaftReply, SnapshotFrame, SnapshotHead};
use openraft::StorageError;
use openraft::errors::{ErrorSource, NetworkError, StreamingError, Unreachable};
use openraft::impls::BoxedErrorSource;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

const CHUNK_BYTES_MAX: u64 = 256 << 10;
/// Chunks in flight between a blocking thread and the transport.
const CHUNKS_QUEUED: usize = 4;
/// A transfer may take this long, plus a second for each MiB: neither side must hold the other one
/// for ever. A receiver counts what has arrived, not what was announced.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(30);
/// Until the first frame of a stream.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// Takes an image and sends it; the receiver's answer comes when it has installed it. The cost of
/// an image may grow with the state, so it is taken only for a receiver that is there.
///
/// # Errors
/// An image that cannot be taken is a storage error, and fatal. Anything on the way backs off and
/// starts anew.
pub async fn send(
    mut client: PeerClient<Channel>,
    identity: &Identity,
    to: u64,
    vote: Bytes,
    state_machine: Arc<dyn StateMachine>,
) -> Result<RaftReply, StreamingError<TypeConfig>> {
    let greeted = hello(&mut client, identity, to).await;
    greeted.map_err(|error| Unreachable::from_string(format!("no snapshot for member {to}: {error}")))?;
    let opened = tokio::task::spawn_blocking(move || state_machine.open_snapshot()).await;
    let outgoing = opened.map_err(io::Error::other).and_then(|opened| opened).map_err(checkpoint_failed)?;
    pass(Window::SnapshotSend);
    let SnapshotMeta { log_id, membership } = outgoing.meta;
    let Declared { wire_size, sha256 } = outgoing.declared;
    let sha256 = sha256.map_or_else(Bytes::new, |digest| Bytes::copy_from_slice(&digest));
    let route = identity.route(to);
    let head = SnapshotHead { route, vote, term: log_id.term, index: log_id.index, membership, wire_size, sha256 };
    tracing::info!(to, %log_id, wire_size, "sending a snapshot");
    let (frames, stream) = mpsc::channel(CHUNKS_QUEUED);
    let reader = tokio::task::spawn_blocking(move || read_frames(head, outgoing.reader, &frames));
    let limit = patience(wire_size);
    let answer = Deadline::after(limit).bound(client.install_snapshot(ReceiverStream::new(stream))).await;
    match answer {
        Some(Ok(answer)) => Ok(answer.into_inner()),
        Some(Err(status)) => {
            identity.heed(to, &status);
            // The checkpoint's own error says more than the stream that broke because of it.
            let cause =
                reader.await.ok().and_then(|read| read.err()).map_or(String::new(), |error| format!(": {error}"));
            let sent = if never_sent(&status) { "not connected" } else { "broken off or refused" };
            Err(Unreachable::from_string(format!("snapshot to member {to} {sent}: {status}{cause}")).into())
        }
        None => Err(NetworkError::from_string(format!("snapshot to member {to}: no answer in {limit:?}")).into()),
    }
}

fn checkpoint_failed(error: io::Error) -> StreamingError<TypeConfig> {
    if error.kind() == io::ErrorKind::WouldBlock {
        // A leader that has just restarted may be asked before its own replay is through: the
        // library backs off and asks again. Anything else is a storage error, and those end the
        // process.
        return Unreachable::from_string(error.to_string()).into();
    }
    StorageError::read_snapshot(None, BoxedErrorSource::from_error(&error)).into()
}

/// Turns `reader` into frames until as many bytes as the head announces are out, or until the
/// receiver is gone.
fn read_frames(
    head: SnapshotHead,
    reader: Box<dyn Read + Send>,
    frames: &mpsc::Sender<SnapshotFrame>,
) -> io::Result<()> {
    // At least a few chunks, so that "part of it is sent" exists for a small snapshot too.
    let chunk_bytes = head.wire_size.div_ceil(4).clamp(1, CHUNK_BYTES_MAX);
    let mut left = head.wire_size;
    let mut reader = reader.take(left);
    let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "the receiver is gone");
    frames.blocking_send(SnapshotFrame { frame: Some(Frame::Head(head)) }).map_err(gone)?;
    loop {
        let mut chunk = Vec::new();
        let read = reader.by_ref().take(chunk_bytes).read_to_end(&mut chunk)?;
        if read == 0 {
            pass(Window::SnapshotSent);
            return Ok(());
        }
        frames.blocking_send(SnapshotFrame { frame: Some(Frame::Chunk(chunk.into())) }).map_err(gone)?;
        left = left.saturating_sub(read as u64);
        if left > 0 {
            pass(Window::SnapshotSending);
        }
    }
}

/// One thing that arrives at the receiver.
enum Item {
    Chunk(Bytes),
    /// The sender ended the stream.
    End,
    Broken(String),
}

/// The head of an incoming snapshot, checked for form only.
pub struct Incoming {
    pub head: SnapshotHead,
    stream: Streaming<SnapshotFrame>,
}

impl Incoming {
    /// Takes the first frame.
    pub async fn open(mut stream: Streaming<SnapshotFrame>) -> Result<Self, tonic::Status> {
        let first = Deadline::after(HEAD_TIMEOUT).bound(stream.message()).await;
        let late = || tonic::Status::deadline_exceeded(format!("expected the snapshot's head within {HEAD_TIMEOUT:?}"));
        match first.ok_or_else(late)??.and_then(|frame| frame.frame) {
            Some(Frame::Head(head)) => Ok(Self { head, stream }),
            found => {
                let found = if found.is_some() { "a chunk" } else { "nothing" };
                Err(tonic::Status::invalid_argument(format!("expected the snapshot's head first, found {found}")))
            }
        }
    }

    pub fn meta(&self) -> SnapshotMeta {
        let log_id = LogId::new(self.head.term, self.head.index);
        SnapshotMeta { log_id, membership: self.head.membership.clone() }
    }

    fn declared(&self) -> io::Result<Declared> {
        let found = self.head.sha256.len();
        let invalid = |_| {
            let why = format!("the head's sha256: expected 32 bytes or none, found {found}");
            io::Error::new(io::ErrorKind::InvalidData, why)
        };
        let sha256 = (found > 0).then(|| self.head.sha256.as_ref().try_into().map_err(invalid)).transpose()?;
        Ok(Declared { wire_size: self.head.wire_size, sha256 })
    }

    /// Has the state machine unpack the body; returns when it is staged, or refused.
    pub async fn receive(mut self, state_machine: Arc<dyn StateMachine>) -> io::Result<SnapshotMeta> {
        let meta = self.meta();
        let declared = self.declared()?;
        let (size, room) = (declared.wire_size, state_machine.snapshot_room()?);
        if size > room {
            let why =
                format!("expected a snapshot of {room} bytes at most, which there is room for, found one of {size}");
            return Err(io::Error::new(io::ErrorKind::StorageFull, why));
        }
        let (items, incoming) = mpsc::channel(CHUNKS_QUEUED);
        let staged = tokio::task::spawn_blocking(move || {
            let mut reader = ChunkReader { items: incoming, chunk: Bytes::new(), ended: false };
            state_machine.receive_snapshot(&meta, declared, &mut reader).map(|()| meta)
        });
        self.pump(items).await;
        staged.await.map_err(io::Error::other)?
    }

    /// Hands the chunks over until the stream ends, or until the reader wants no more.
    async fn pump(&mut self, items: mpsc::Sender<Item>) {
        let (begun, mut received) = (Moment::now(), 0);
        loop {
            // A sender that stands still, or sends a byte now and then, must not keep others from
            // sending.
            let item = match Deadline::at(begun, patience(received)).bound(self.stream.message()).await {
                Some(Ok(Some(SnapshotFrame { frame: Some(Frame::Chunk(chunk)) }))) => chunk_item(chunk),
                Some(Ok(Some(_))) => Item::Broken("expected a chunk, found another frame".to_owned()),
                Some(Ok(None)) => Item::End,
                Some(Err(status)) => Item::Broken(status.to_string()),
                None => Item::Broken(format!("{received} bytes came in {:?}: too slow", patience(received))),
            };
            if received == 0 && matches!(item, Item::Chunk(_)) {
                pass(Window::SnapshotReceive);
            }
            let last = match &item {
                Item::Chunk(chunk) => {
                    received += chunk.len() as u64;
                    false
                }
                Item::End | Item::Broken(_) => true,
            };
            if items.send(item).await.is_err() || last {
                return;
            }
        }
    }
}

/// Time that the transfer of `bytes` may take.
fn patience(bytes: u64) -> Duration {
    TRANSFER_TIMEOUT + Duration::from_secs(bytes >> 20)
}

fn chunk_item(chunk: Bytes) -> Item {
    let found = chunk.len();
    if found == 0 || found as u64 > CHUNK_BYTES_MAX {
        return Item::Broken(format!("expected a chunk of 1 to {CHUNK_BYTES_MAX} bytes, found one of {found}"));
    }
    Item::Chunk(chunk)
}

/// The blocking end of the receiver.
struct ChunkReader {
    items: mpsc::Receiver<Item>,
    chunk: Bytes,
    ended: bool,
}

impl Read for ChunkReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() && !self.ended {
            match self.items.blocking_recv() {
                Some(Item::Chunk(chunk)) => self.chunk = chunk,
                Some(Item::End) => self.ended = true,
                Some(Item::Broken(reason)) => return Err(broken(&reason)),
                None => return Err(broken("the transfer was given up")),
            }
        }
        let count = out.len().min(self.chunk.len());
        self.chunk.copy_to_slice(&mut out[..count]);
        Ok(count)
    }
}

fn broken(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, format!("the snapshot stream broke off: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Roster;
    use crate::log_store::LogStore;
    use crate::testing::Machine;

    #[tokio::test]
    async fn no_image_is_taken_for_a_member_that_is_away() {
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect_lazy();
        let dir = tempfile::tempdir().unwrap();
        let roster = Roster { members: [(1, false), (2, false)].into(), greatest_id: 2 };
        let identity = Identity::new(1, LogStore::open(dir.path(), 7).unwrap(), &[], roster);
        let sent = send(PeerClient::new(channel), &identity, 2, Bytes::new(), Arc::new(Machine::default())).await;
        // A storage error, which the state machine's would be, ends the process; this one is asked
        // again.
        assert!(matches!(sent, Err(StreamingError::Unreachable(_))), "{sent:?}");
    }

    #[test]
    fn a_transfer_has_to_go_on_at_some_pace_and_in_bounded_chunks() {
        // What was announced counts for nothing: a byte now and then does not hold the place.
        assert_eq!(
            (patience(0), patience(1_000), patience(90 << 20)),
            (TRANSFER_TIMEOUT, TRANSFER_TIMEOUT, TRANSFER_TIMEOUT * 4)
        );
        let broken = |bytes| matches!(chunk_item(Bytes::from(vec![0; bytes])), Item::Broken(_));
        assert!(broken(0) && broken(CHUNK_BYTES_MAX as usize + 1));
        assert!(!broken(1) && !broken(CHUNK_BYTES_MAX as usize));
    }

    fn frames_of(body: Vec<u8>) -> Vec<SnapshotFrame> {
        let head = SnapshotHead { wire_size: body.len() as u64, ..SnapshotHead::default() };
        let (frames, mut stream) = mpsc::channel(64);
        read_frames(head, Box::new(io::Cursor::new(body)), &frames).unwrap();
        drop(frames);
        std::iter::from_fn(|| stream.blocking_recv()).collect()
    }

    #[test]
    fn a_small_body_is_sent_in_parts_and_a_large_one_in_bounded_chunks() {
        let sizes = |body| -> Vec<usize> {
            let chunk = |frame: &SnapshotFrame| match &frame.frame {
                Some(Frame::Chunk(chunk)) => Some(chunk.len()),
                _ => None,
            };
            frames_of(body).iter().filter_map(chunk).collect()
        };
        assert_eq!(sizes(vec![7; 10]), [3, 3, 3, 1]);
        assert_eq!(sizes(Vec::new()), [0; 0]);
        let large = sizes(vec![7; 3 << 20]);
        assert!(large.iter().all(|size| *size <= CHUNK_BYTES_MAX as usize), "{large:?}");
        assert_eq!(large.iter().sum::<usize>(), 3 << 20);
    }

    #[test]
    fn a_stream_that_breaks_off_is_an_error_and_not_an_end() {
        let (items, incoming) = mpsc::channel(4);
        items.blocking_send(Item::Chunk(Bytes::from_static(b"part"))).unwrap();
        drop(items);
        let mut reader = ChunkReader { items: incoming, chunk: Bytes::new(), ended: false };
        let mut out = Vec::new();
        assert_eq!(reader.read_to_end(&mut out).unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        assert_eq!(out, b"part");
    }

    #[test]
    fn the_senders_end_is_the_end() {
        let (items, incoming) = mpsc::channel(4);
        for item in [Item::Chunk(Bytes::from_static(b"wh")), Item::Chunk(Bytes::from_static(b"ole")), Item::End] {
            items.blocking_send(item).unwrap_or_else(|_| unreachable!("the receiver lives"));
        }
        let mut reader = ChunkReader { items: incoming, chunk: Bytes::new(), ended: false };
        let mut out = Vec::new();
        reader.read_to_end(&mut out).unwrap();
        assert_eq!(out, b"whole");
    }
}
