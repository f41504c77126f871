//! `etcdserverpb.Watch`: one task for each stream, however many watches it carries.
//!
//! Events are not pushed to it. The task is woken when keys change that its watches want, and reads
//! from the store what they have not seen. A client that does not read stops only its own task,
//! which later goes on where it was, from the store. So no watch buffers more than a few responses,
//! and none can miss an event.

use super::Node;
use super::leader_required::LeaderRequired;
use crate::clock;
use crate::requests::watch::{Session, Step};
use node_base::sabotage::{Bug, planted};
use node_proto::etcdserverpb::watch_server::Watch;
use node_proto::etcdserverpb::{WatchRequest, WatchResponse};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// Responses that a stream may hold for a client that does not read.
const RESPONSES_MAX: usize = 4;
/// Interval at which a watch without events hears how far it has come, if it asked for that; as in
/// etcd.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(600);

pub struct WatchService {
    pub node: Arc<Node>,
    pub leader_required: LeaderRequired,
}

type Responses = mpsc::Sender<Result<WatchResponse, Status>>;

#[tonic::async_trait]
impl Watch for WatchService {
    type WatchStream = ReceiverStream<Result<WatchResponse, Status>>;

    async fn watch(&self, request: Request<Streaming<WatchRequest>>) -> Result<Response<Self::WatchStream>, Status> {
        let (responses, stream) = mpsc::channel(RESPONSES_MAX);
        let node = self.node.clone();
        let lost = self.leader_required.lost(request.metadata());
        let requests = request.into_inner();
        tokio::spawn(async move {
            if let Err(status) = serve(&node, requests, &responses, lost).await {
                // The receiver is gone only if the client is.
                let _ = responses.send(Err(status)).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// Runs until the client goes away, or `lost` comes. A client that ends only its own side goes on
/// hearing.
async fn serve(
    node: &Node,
    mut requests: Streaming<WatchRequest>,
    responses: &Responses,
    lost: impl Future<Output = Status>,
) -> Result<(), Status> {
    tokio::pin!(lost);
    let mut open = true;
    let mut session = Session::new(node.store.clone());
    let woken = session.woken();
    let mut progress_at = clock::now() + PROGRESS_INTERVAL;
    loop {
        let idle = !session.is_behind();
        let answers = tokio::select! {
            biased;
            () = responses.closed() => return Ok(()),
            status = &mut lost => return Err(status),
            request = requests.message(), if open => match request? {
                Some(request) => session.handle(request),
                None if planted(Bug::HalfCloseEndsWatch) => return Ok(()),
                None => {
                    open = false;
                    Vec::new()
                }
            },
            () = woken.notified(), if idle => Vec::new(),
            () = clock::sleep_until(progress_at), if idle => {
                progress_at = clock::now() + PROGRESS_INTERVAL;
                session.periodic_progress()
            }
            () = std::future::ready(()), if !idle => Vec::new(),
        };
        let steps;
        (session, steps) = step(node, session).await?;
        for answer in answers.into_iter().chain(steps) {
            if !send(node, responses, answer).await {
                return Ok(());
            }
        }
    }
}

/// The session's next step. History may be as long as the store: what is not short is read where it
/// blocks no other request, in its turn. At most one read of each stream waits, so their queue is
/// as long as there are streams.
async fn step(node: &Node, mut session: Session) -> Result<(Session, Vec<Step>), Status> {
    if let Some(steps) = session.short_step()? {
        return Ok((session, steps));
    }
    let stepped = node.catch_ups.run(move || session.step().map(|steps| (session, steps))).await?;
    Ok(stepped?)
}

/// Sends a response; true if the client is still there.
async fn send(node: &Node, responses: &Responses, Step { revision, mut response }: Step) -> bool {
    response.header = Some(node.header(revision));
    responses.send(Ok(response)).await.is_ok()
}
