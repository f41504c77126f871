//! The latency of small answers on long streams: to a keep-alive of a lease that does not exist,
//! and to a request for progress on a stream of watches. Neither changes anything. Both streams
//! live as long as the member does, as those of real clients do, so everything that delays a small
//! message on them (Nagle's algorithm, a queue behind a large message) shows here.

use super::Counts;
use crate::dial::channel;
use crate::endpoints::Board;
use crate::timer;
use futures_util::{Stream, stream};
use ninelives_evidence::clock;
use node_proto::etcdserverpb::lease_client::LeaseClient;
use node_proto::etcdserverpb::watch_client::WatchClient;
use node_proto::etcdserverpb::watch_request::RequestUnion;
use node_proto::etcdserverpb::{LeaseKeepAliveRequest, WatchProgressRequest, WatchRequest};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

/// Pause between two questions on one stream.
const EVERY: Duration = Duration::from_millis(100);
/// A later answer does not count: the member is busy with an election, or gone.
const ANSWER: Duration = Duration::from_secs(5);
/// A lease that no client ever grants: they draw theirs from small positive numbers.
const NO_LEASE: i64 = i64::MAX;

/// Asks the member in its place for as long as there is one.
pub(super) async fn keep_alives(at: SocketAddr, (board, place): (Board, usize), counts: Arc<Counts>) {
    loop {
        board.wait_serves(place).await;
        let (ask, asked) = mpsc::channel(1);
        let asking = async {
            let channel = channel(at)?;
            let answers = LeaseClient::new(channel).lease_keep_alive(questions(asked)).await?.into_inner();
            beat(
                answers,
                || ask.try_send(LeaseKeepAliveRequest { id: NO_LEASE }).is_ok(),
                |took| {
                    Counts::note(&counts.keep_alive, took);
                },
            )
            .await
        };
        until_gone(asking, &board, place).await;
    }
}

/// Measures the same on a stream of watches.
pub(super) async fn watch(at: SocketAddr, (board, place): (Board, usize), counts: Arc<Counts>) {
    loop {
        board.wait_serves(place).await;
        let (ask, asked) = mpsc::channel(1);
        let progress = || WatchRequest { request_union: Some(RequestUnion::ProgressRequest(WatchProgressRequest {})) };
        let asking = async {
            let channel = channel(at)?;
            let answers = WatchClient::new(channel).watch(questions(asked)).await?.into_inner();
            beat(answers, || ask.try_send(progress()).is_ok(), |took| Counts::note(&counts.watch, took)).await
        };
        until_gone(asking, &board, place).await;
    }
}

async fn until_gone(asking: impl Future<Output = Result<(), Status>>, board: &Board, place: usize) {
    tokio::select! {
        // Streams break when members die; other judges look at that.
        _ = asking => timer::sleep(EVERY).await,
        () = board.wait_gone(place) => {}
    }
}

fn questions<T: Send + 'static>(asked: mpsc::Receiver<T>) -> impl Stream<Item = T> + Send + 'static {
    stream::unfold(asked, |mut asked| async move { asked.recv().await.map(|question| (question, asked)) })
}

/// Asks one question after the other; ends with the first question without an answer.
async fn beat<T>(mut answers: Streaming<T>, ask: impl Fn() -> bool, note: impl Fn(Duration)) -> Result<(), Status> {
    loop {
        timer::sleep(EVERY).await;
        let asked = clock::now();
        if !ask() {
            return Ok(());
        }
        match timer::within(ANSWER, answers.message()).await {
            Some(Ok(Some(_))) => note(asked.elapsed()),
            Some(Err(status)) => return Err(status),
            Some(Ok(None)) | None => return Ok(()),
        }
    }
}
