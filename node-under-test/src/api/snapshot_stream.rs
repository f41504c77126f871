//! An image on its way to a client that may stop reading at any time.
//!
//! 1. *No thread waits for a client.* A blocking thread reads a piece of the image and ends; the
//!    task that hands the piece on waits without one.
//! 2. *A client that takes nothing for a while loses the stream*, and the image goes: it holds room
//!    on the disk.
//! 3. *A stream that did not get to its end never looks complete*: it ends with an error, also when
//!    the task died.

use futures_util::{Stream, stream};
use node_base::chain::chain;
use node_proto::etcdserverpb::{ResponseHeader, SnapshotResponse};
use std::io::{self, Read};
use std::time::Duration;
use tokio::sync::mpsc;
use tonic::Status;

/// Time for which a client may take nothing.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Bytes of a snapshot in one message: etcd's own chunk.
const BLOB_BYTES: usize = 32 << 10;
/// Bytes that one visit of a blocking thread reads.
const PIECE_BYTES: u64 = 512 << 10;
/// Messages between the task and the transport.
const BLOBS_QUEUED: usize = 16;

type Item = Result<SnapshotResponse, Status>;

/// An image, and whatever is held for as long as it exists.
pub struct Outgoing<T> {
    pub header: Option<ResponseHeader>,
    pub wire_size: u64,
    pub reader: Box<dyn Read + Send>,
    pub held: T,
}

/// Exactly `wire_size` bytes, with what remains after each blob beside it; or an error at the end.
pub fn send<T: Send + 'static>(image: Outgoing<T>, patience: Duration) -> impl Stream<Item = Item> + Send + 'static {
    let (blobs, queue) = mpsc::channel(BLOBS_QUEUED);
    tokio::spawn(pump(image, blobs, patience));
    stream::unfold((queue, false), move |(mut queue, over)| async move {
        if over {
            return None;
        }
        let item = queue.recv().await.unwrap_or_else(|| Err(broken_off(patience)));
        let over = !matches!(&item, Ok(response) if response.remaining_bytes > 0);
        Some((item, (queue, over)))
    })
}

fn broken_off(patience: Duration) -> Status {
    Status::aborted(format!("the snapshot was broken off: the client took nothing for {patience:?}"))
}

/// Ends with the stream, with the image, or with its patience.
async fn pump<T: Send + 'static>(image: Outgoing<T>, blobs: mpsc::Sender<Item>, patience: Duration) {
    let Outgoing { header, wire_size, mut reader, held } = image;
    let mut remaining = wire_size;
    loop {
        let read = tokio::task::spawn_blocking(move || (read_piece(&mut reader, remaining), reader)).await;
        let piece = match read {
            Ok((Ok(piece), back)) => {
                reader = back;
                piece
            }
            Ok((Err(error), _)) => return fail(&blobs, patience, &chain(&error)).await,
            Err(error) => return fail(&blobs, patience, &chain(&error)).await,
        };
        for blob in blobs_of(&piece) {
            remaining -= blob.len() as u64;
            let response = SnapshotResponse { header, remaining_bytes: remaining, blob: blob.to_vec().into() };
            if !hand_on(&blobs, patience, Ok(response)).await {
                return;
            }
        }
        if remaining == 0 {
            break;
        }
    }
    drop((reader, held));
}

/// At least one, so that an empty image is a message too.
fn blobs_of(piece: &[u8]) -> impl Iterator<Item = &[u8]> {
    let empty = piece.is_empty().then_some(piece);
    piece.chunks(BLOB_BYTES).chain(empty)
}

fn read_piece(reader: &mut dyn Read, remaining: u64) -> io::Result<Vec<u8>> {
    let mut piece = vec![0; remaining.min(PIECE_BYTES) as usize];
    reader.read_exact(&mut piece)?;
    Ok(piece)
}

async fn fail(blobs: &mpsc::Sender<Item>, patience: Duration, error: &str) {
    hand_on(blobs, patience, Err(Status::internal(format!("reading the snapshot: {error}")))).await;
}

/// Hands `item` to the client; false if it is gone, or takes nothing within `patience`.
async fn hand_on(blobs: &mpsc::Sender<Item>, patience: Duration, item: Item) -> bool {
    match super::within(patience, blobs.send(item)).await {
        Ok(sent) => sent.is_ok(),
        Err(_) => {
            tracing::warn!(?patience, "a client does not read its snapshot: broken off");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::StreamExt;
    use std::pin::pin;
    use tokio::sync::oneshot;
    use tonic::Code;

    const LONG: Duration = Duration::from_secs(600);

    fn image(bytes: Vec<u8>, wire_size: u64) -> (Outgoing<oneshot::Sender<()>>, oneshot::Receiver<()>) {
        let (held, gone) = oneshot::channel();
        (Outgoing { header: None, wire_size, reader: Box::new(io::Cursor::new(bytes)), held }, gone)
    }

    #[tokio::test]
    async fn a_client_that_reads_gets_every_byte() {
        for length in [0, 1, BLOB_BYTES, PIECE_BYTES as usize, 3 * PIECE_BYTES as usize + 5] {
            let bytes: Vec<u8> = (0..length).map(|place| (place % 251) as u8).collect();
            let (image, _gone) = image(bytes.clone(), length as u64);
            let mut stream = pin!(send(image, LONG));
            let mut got = Vec::new();
            while let Some(item) = stream.next().await {
                let response = item.unwrap();
                got.extend_from_slice(&response.blob);
                assert_eq!(response.remaining_bytes, (length - got.len()) as u64);
            }
            assert_eq!(got, bytes);
        }
    }

    /// Before there was a bound, the image and a thread stayed for as long as the connection.
    #[tokio::test]
    async fn a_client_that_never_reads_loses_the_stream_and_the_image_goes() {
        let length = 4 * PIECE_BYTES;
        let (image, gone) = image(vec![7; length as usize], length);
        let mut stream = pin!(send(image, Duration::from_millis(20)));
        assert!(gone.await.is_err(), "what was held is dropped");
        let mut got = 0;
        let end = loop {
            match stream.next().await {
                Some(Ok(response)) => got += response.blob.len(),
                end => break end,
            }
        };
        assert_eq!(got, BLOBS_QUEUED * BLOB_BYTES);
        assert_eq!(end.unwrap().unwrap_err().code(), Code::Aborted);
        assert!(stream.next().await.is_none());
    }

    #[tokio::test]
    async fn an_image_that_is_too_short_is_an_error_and_no_end() {
        let (image, _gone) = image(vec![7; 10], 20);
        let mut stream = pin!(send(image, LONG));
        assert_eq!(stream.next().await.unwrap().unwrap_err().code(), Code::Internal);
        assert!(stream.next().await.is_none());
    }
}
