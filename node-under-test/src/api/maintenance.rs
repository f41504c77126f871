//! `etcdserverpb.Maintenance`.
//!
//! Hashes are of the logical state, not of etcd's bytes: they compare between members of this program only.

use super::leader_required::LeaderRequired;
use super::{Node, blocking};
use crate::state_hash::short;
use futures_util::stream::BoxStream;
use node_backend::snapshot::saved;
use node_base::backend::SnapshotError;
use node_proto::etcdserverpb::maintenance_server::Maintenance;
use node_proto::etcdserverpb::{
    AlarmRequest, AlarmResponse, DefragmentRequest, DefragmentResponse, HashKvRequest, HashKvResponse, HashRequest,
    HashResponse, ResponseHeader, SnapshotRequest, SnapshotResponse, StatusRequest, StatusResponse,
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

pub struct MaintenanceService {
    pub node: Arc<Node>,
    pub leader_required: LeaderRequired,
}

#[tonic::async_trait]
impl Maintenance for MaintenanceService {
    /// This member raises no alarms: the list is empty, and there is nothing to disarm.
    async fn alarm(&self, request: Request<AlarmRequest>) -> Result<Response<AlarmResponse>, Status> {
        match request.into_inner().action() {
            AlarmAction::Get | AlarmAction::Deactivate => {
                Ok(Response::new(AlarmResponse { header: self.node.header_now(), alarms: Vec::new() }))
            }
            AlarmAction::Activate => Err(Status::unimplemented("alarms cannot be raised on this server")),
        }
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let raft = self.node.raft.status();
        let backend = self.node.store.backend().clone();
        // An engine may have to read much to tell what of its file is in use.
        let size = blocking(move || backend.size()).await?.map_err(|error| Status::internal(error.to_string()))?;
        let bytes = |bytes| i64::try_from(bytes).unwrap_or(i64::MAX);
        let leader = *self.node.raft.believed_leader().borrow();
        let errors = if leader.is_none() { vec!["etcdserver: no leader".to_owned()] } else { Vec::new() };
        Ok(Response::new(StatusResponse {
            header: self.node.header_now(),
            version: API_VERSION.to_owned(),
            db_size: bytes(size.allocated),
            leader: leader.unwrap_or(0),
            raft_index: raft.committed.unwrap_or(0),
            raft_term: raft.term,
            raft_applied_index: self.node.marks.now().applied.map_or(0, |id| id.index),
            errors,
            db_size_in_use: bytes(size.in_use),
            is_learner: self.node.raft.is_learner(),
        }))
    }

    async fn defragment(&self, _: Request<DefragmentRequest>) -> Result<Response<DefragmentResponse>, Status> {
        let backend = self.node.store.backend().clone();
        blocking(move || backend.defrag()).await?.map_err(|error| Status::internal(error.to_string()))?;
        Ok(Response::new(DefragmentResponse { header: self.node.header_now() }))
    }

    async fn hash(&self, _: Request<HashRequest>) -> Result<Response<HashResponse>, Status> {
        let store = self.node.store.clone();
        let hash = blocking(move || store.state_hash()).await??;
        let header = Some(self.node.header(hash.kv.revision));
        Ok(Response::new(HashResponse { header, hash: short(&hash.whole()) }))
    }

    async fn hash_kv(&self, request: Request<HashKvRequest>) -> Result<Response<HashKvResponse>, Status> {
        let revision = request.into_inner().revision;
        let store = self.node.store.clone();
        let (hash, now) = blocking(move || store.kv_hash(revision)).await??;
        // As etcd answers before the first compaction.
        let compact_revision = if hash.compact_revision == 0 { -1 } else { hash.compact_revision };
        Ok(Response::new(HashKvResponse {
            header: Some(self.node.header(now)),
            hash: short(&hash.digest),
            compact_revision,
        }))
    }

    type SnapshotStream = BoxStream<'static, Result<SnapshotResponse, Status>>;

    async fn snapshot(&self, request: Request<SnapshotRequest>) -> Result<Response<Self::SnapshotStream>, Status> {
        let backend = self.node.store.backend().clone();
        let snapshot = blocking(move || backend.snapshot()).await?.map_err(|error| match error {
            SnapshotError::NotYet(_) => Status::unavailable(error.to_string()),
            _ => Status::internal(error.to_string()),
        })?;
        let (wire_size, reader) = saved::for_client(snapshot);
        let header = self.node.header_now();
        let (blobs, stream) = mpsc::channel(BLOBS_QUEUED);
        // Ends with the stream: when the client goes away, the next blob finds nobody.
        tokio::task::spawn_blocking(move || send_blobs(header, wire_size, reader, &blobs));
        Ok(Response::new(self.leader_required.guard(request.metadata(), ReceiverStream::new(stream))))
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
