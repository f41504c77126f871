//! `etcdserverpb.Maintenance`.
//!
//! Hashes are of the logical state, not of etcd's bytes: they compare between members of this program only.

use super::{Node, blocking};
use crate::state_hash::short;
use node_backend::snapshot::saved;
use node_base::backend::SnapshotError;
use node_proto::etcdserverpb::maintenance_server::Maintenance;
use node_proto::etcdserverpb::{
    AlarmRequest, AlarmResponse, AlarmType, DefragmentRequest, DefragmentResponse, HashKvRequest, HashKvResponse,
    HashRequest, HashResponse, ResponseHeader, SnapshotRequest, SnapshotResponse, StatusRequest, StatusResponse,
    alarm_request::AlarmAction,
};
use std::io::Read;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

/// The etcd version whose API this is, as clients expect it to look.
const API_VERSION: &str = "3.5.0";
/// Bytes of a snapshot in one message: etcd's own chunk.
const BLOB_BYTES: u64 = 32 << 10;
/// Messages between the thread that reads the image and the transport.
const BLOBS_QUEUED: usize = 16;

pub struct MaintenanceService(pub Arc<Node>);

#[tonic::async_trait]
impl Maintenance for MaintenanceService {
    /// This member raises no alarms. As with etcd, the list is then empty, and an alarm that is not
    /// raised is disarmed without an error; what cannot be an alarm, or cannot be done with one, is
    /// refused.
    async fn alarm(&self, request: Request<AlarmRequest>) -> Result<Response<AlarmResponse>, Status> {
        check_alarm(&request.into_inner())?;
        Ok(Response::new(AlarmResponse { header: self.0.header_now(), alarms: Vec::new() }))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let raft = self.0.raft.status();
        let backend = self.0.store.backend().clone();
        // An engine may have to read much to tell what of its file is in use.
        let size = blocking(move || backend.size()).await?.map_err(|error| Status::internal(error.to_string()))?;
        let bytes = |bytes| i64::try_from(bytes).unwrap_or(i64::MAX);
        let errors = if raft.leader.is_none() { vec!["etcdserver: no leader".to_owned()] } else { Vec::new() };
        Ok(Response::new(StatusResponse {
            header: self.0.header_now(),
            version: API_VERSION.to_owned(),
            db_size: bytes(size.allocated),
            leader: raft.leader.unwrap_or(0),
            raft_index: raft.committed.unwrap_or(0),
            raft_term: raft.term,
            raft_applied_index: self.0.marks.now().applied.map_or(0, |id| id.index),
            errors,
            db_size_in_use: bytes(size.in_use),
            is_learner: self.0.raft.is_learner(),
        }))
    }

    async fn defragment(&self, _: Request<DefragmentRequest>) -> Result<Response<DefragmentResponse>, Status> {
        let backend = self.0.store.backend().clone();
        blocking(move || backend.defrag()).await?.map_err(|error| Status::internal(error.to_string()))?;
        Ok(Response::new(DefragmentResponse { header: self.0.header_now() }))
    }

    async fn hash(&self, _: Request<HashRequest>) -> Result<Response<HashResponse>, Status> {
        let store = self.0.store.clone();
        let hash = blocking(move || store.state_hash()).await??;
        let header = Some(self.0.header(hash.kv.revision));
        Ok(Response::new(HashResponse { header, hash: short(&hash.whole()) }))
    }

    async fn hash_kv(&self, request: Request<HashKvRequest>) -> Result<Response<HashKvResponse>, Status> {
        let revision = request.into_inner().revision;
        let store = self.0.store.clone();
        let (hash, now) = blocking(move || store.kv_hash(revision)).await??;
        // As etcd answers before the first compaction.
        let compact_revision = if hash.compact_revision == 0 { -1 } else { hash.compact_revision };
        Ok(Response::new(HashKvResponse {
            header: Some(self.0.header(now)),
            hash: short(&hash.digest),
            compact_revision,
        }))
    }

    type SnapshotStream = ReceiverStream<Result<SnapshotResponse, Status>>;

    async fn snapshot(&self, _: Request<SnapshotRequest>) -> Result<Response<Self::SnapshotStream>, Status> {
        let backend = self.0.store.backend().clone();
        let snapshot = blocking(move || backend.snapshot()).await?.map_err(|error| match error {
            SnapshotError::NotYet(_) => Status::unavailable(error.to_string()),
            _ => Status::internal(error.to_string()),
        })?;
        let (wire_size, reader) = saved::for_client(snapshot);
        let header = self.0.header_now();
        let (blobs, stream) = mpsc::channel(BLOBS_QUEUED);
        // Ends with the stream: when the client goes away, the next blob finds nobody.
        tokio::task::spawn_blocking(move || send_blobs(header, wire_size, reader, &blobs));
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

fn check_alarm(request: &AlarmRequest) -> Result<(), Status> {
    let (action, kind) = (request.action, request.alarm);
    AlarmType::try_from(kind)
        .map_err(|_| Status::invalid_argument(format!("etcdserver: expected an alarm type, found {kind}")))?;
    match AlarmAction::try_from(action) {
        Ok(AlarmAction::Get | AlarmAction::Deactivate) => Ok(()),
        Ok(AlarmAction::Activate) => Err(Status::unimplemented("etcdserver: alarms cannot be raised on this server")),
        Err(_) => Err(Status::invalid_argument(format!("etcdserver: expected an alarm action, found {action}"))),
    }
}

/// Sends exactly `wire_size` bytes, with what remains after each blob beside it.
fn send_blobs(
    header: Option<ResponseHeader>,
    wire_size: u64,
    mut reader: Box<dyn Read + Send>,
    blobs: &mpsc::Sender<Result<SnapshotResponse, Status>>,
) {
    let mut remaining = wire_size;
    while remaining > 0 {
        let mut blob = vec![0; remaining.min(BLOB_BYTES) as usize];
        if let Err(error) = reader.read_exact(&mut blob) {
            let _ = blobs.blocking_send(Err(Status::internal(format!("reading the snapshot: {error}"))));
            return;
        }
        remaining -= blob.len() as u64;
        let response = SnapshotResponse { header, remaining_bytes: remaining, blob: blob.into() };
        if blobs.blocking_send(Ok(response)).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;

    #[test]
    fn an_alarm_that_is_not_raised_is_disarmed_and_what_is_no_alarm_is_refused() {
        let check = |action, alarm| check_alarm(&AlarmRequest { action, alarm, ..AlarmRequest::default() });
        let code = |action, alarm| check(action, alarm).unwrap_err().code();
        let (get, activate, deactivate) = (0, 1, 2);
        for kind in [AlarmType::None, AlarmType::Nospace, AlarmType::Corrupt] {
            assert!(check(get, kind.into()).is_ok() && check(deactivate, kind.into()).is_ok());
            assert_eq!(code(activate, kind.into()), Code::Unimplemented);
        }
        assert_eq!(code(3, 0), Code::InvalidArgument);
        assert_eq!(code(deactivate, 3), Code::InvalidArgument);
        assert_eq!(code(get, -1), Code::InvalidArgument);
    }
}
