//! `hasleader`, the metadata by which a client says that it wants no answer of a member without a
//! leader (clientv3's `WithRequireLeader`).
//!
//! As in etcd: a call that carries it is refused at once while this member knows no leader, and a
//! stream that carries it ends once there has been none for a while, so that the client goes to
//! another member. Other metadata of etcd: `client-api-version` is for its metrics alone, `token`
//! and `authorization` belong to auth, which is not served.

use crate::clock;
use futures_util::stream::{self, BoxStream};
use futures_util::{Stream, StreamExt};
use node_base::sabotage::{Bug, planted};
use node_raft::RaftNode;
use std::future::Future;
use std::time::Duration;
use tokio::sync::watch;
use tonic::metadata::MetadataMap;
use tonic::service::Interceptor;
use tonic::{Request, Status};

const HAS_LEADER: &str = "hasleader";
/// Silences (see `RaftNode::silence`) without a leader after which a stream ends, beyond the one in
/// which it was forgotten: etcd looks once an election timeout, and ends a stream at the third look
/// without one.
const SILENCES: u32 = 2;

/// Watches the leader for the streams of a service; clones share it.
#[derive(Debug, Clone)]
pub struct LeaderRequired {
    believed: watch::Receiver<Option<u64>>,
    patience: Duration,
}

impl LeaderRequired {
    pub fn new(raft: &RaftNode) -> Self {
        Self { believed: raft.believed_leader(), patience: raft.silence() * SILENCES }
    }

    /// Completes when a stream that was asked for with `metadata` must end for want of a leader.
    pub fn lost(&self, metadata: &MetadataMap) -> impl Future<Output = Status> + Send + use<> {
        let (required, mut believed, patience) = (is_required(metadata), self.believed.clone(), self.patience);
        async move {
            while required && believed.wait_for(Option::is_none).await.is_ok() {
                tokio::select! {
                    known = believed.wait_for(Option::is_some) => if known.is_err() { break },
                    () = clock::sleep_until(clock::now() + patience) => return no_leader(),
                }
            }
            std::future::pending().await
        }
    }
}

impl LeaderRequired {
    /// `items`, which end with an error once `lost` has come.
    pub fn guard<T: Send + 'static>(
        &self,
        metadata: &MetadataMap,
        items: impl Stream<Item = Result<T, Status>> + Send + Unpin + 'static,
    ) -> BoxStream<'static, Result<T, Status>> {
        stream::unfold((items, Some(Box::pin(self.lost(metadata)))), |(mut items, lost)| async move {
            let mut lost = lost?;
            tokio::select! {
                biased;
                status = &mut lost => Some((Err(status), (items, None))),
                item = items.next() => item.map(|item| (item, (items, Some(lost)))),
            }
        })
        .boxed()
    }
}

impl Interceptor for LeaderRequired {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let refused = is_required(request.metadata()) && self.believed.borrow().is_none();
        if refused { Err(no_leader()) } else { Ok(request) }
    }
}

/// As etcd reads it: the first value, which has to be `true`.
fn is_required(metadata: &MetadataMap) -> bool {
    metadata.get(HAS_LEADER).is_some_and(|value| value == "true") && !planted(Bug::HasleaderIgnored)
}

fn no_leader() -> Status {
    Status::unavailable("etcdserver: no leader")
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use tonic::Code;

    fn with(value: Option<&'static str>) -> Request<()> {
        let mut request = Request::new(());
        if let Some(value) = value {
            request.metadata_mut().insert(HAS_LEADER, value.parse().unwrap());
        }
        request
    }

    #[test]
    fn a_call_is_refused_only_if_it_asks_for_a_leader_and_there_is_none() {
        let leader = watch::Sender::new(Some(1));
        let mut required = LeaderRequired { believed: leader.subscribe(), patience: Duration::ZERO };
        assert!(required.call(with(Some("true"))).is_ok());
        leader.send_replace(None);
        assert!(required.call(with(None)).is_ok() && required.call(with(Some("false"))).is_ok());
        let refused = required.call(with(Some("true"))).unwrap_err();
        assert_eq!((refused.code(), refused.message()), (Code::Unavailable, "etcdserver: no leader"));
    }

    #[tokio::test]
    async fn a_stream_ends_only_if_there_is_no_leader_for_a_while() {
        let leader = watch::Sender::new(None);
        let patient = LeaderRequired { believed: leader.subscribe(), patience: Duration::from_secs(3600) };
        let mut lost = Box::pin(patient.lost(with(Some("true")).metadata()));
        assert!((&mut lost).now_or_never().is_none());
        let soon = LeaderRequired { patience: Duration::ZERO, ..patient.clone() };
        assert!(soon.lost(with(None).metadata()).now_or_never().is_none(), "not asked for");
        assert_eq!(soon.lost(with(Some("true")).metadata()).await.message(), "etcdserver: no leader");
        let mut guarded = soon.guard(with(Some("true")).metadata(), stream::pending::<Result<(), Status>>());
        assert!(guarded.next().await.unwrap().is_err() && guarded.next().await.is_none());
        leader.send_replace(Some(2));
        assert!(
            (&mut lost).now_or_never().is_none() && soon.lost(with(Some("true")).metadata()).now_or_never().is_none()
        );
    }
}
