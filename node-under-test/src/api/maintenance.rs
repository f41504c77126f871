//! `etcdserverpb.Maintenance`.
//!
//! Hashes are of the logical state, not of etcd's bytes: they compare between members of this program only.

use super::snapshot_stream::{self, Outgoing, PATIENCE};
use super::{Node, blocking};
use crate::space::Space;
use crate::state_hash::short;
use futures_util::Stream;
use node_backend::snapshot::saved;
use node_base::backend::SnapshotError;
use node_proto::etcdserverpb::maintenance_server::Maintenance;
use node_proto::etcdserverpb::{
    AlarmRequest, AlarmResponse, DefragmentRequest, DefragmentResponse, HashKvRequest, HashKvResponse, HashRequest,
    HashResponse, SnapshotRequest, SnapshotResponse, StatusRequest, StatusResponse, alarm_request::AlarmAction,
};
use std::pin::Pin;
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// The etcd version whose API this is, as clients expect it to look.
const API_VERSION: &str = "3.5.0";

pub struct MaintenanceService {
    node: Arc<Node>,
    space: Arc<Space>,
}

impl MaintenanceService {
    pub fn new(node: Arc<Node>, space: Arc<Space>) -> Self {
        Self { node, space }
    }
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
        let errors = if raft.leader.is_none() { vec!["etcdserver: no leader".to_owned()] } else { Vec::new() };
        Ok(Response::new(StatusResponse {
            header: self.node.header_now(),
            version: API_VERSION.to_owned(),
            db_size: bytes(size.allocated),
            leader: raft.leader.unwrap_or(0),
            raft_index: raft.committed.unwrap_or(0),
            raft_term: raft.term,
            raft_applied_index: self.node.marks.now().applied.map_or(0, |id| id.index),
            errors,
            db_size_in_use: bytes(size.in_use),
            is_learner: self.node.raft.is_learner(),
        }))
    }

    async fn defragment(&self, _: Request<DefragmentRequest>) -> Result<Response<DefragmentResponse>, Status> {
        let (backend, space) = (self.node.store.backend().clone(), self.space.clone());
        blocking(move || {
            space.for_image(&*backend).map_err(Status::resource_exhausted)?;
            backend.defrag().map_err(|error| Status::internal(error.to_string()))
        })
        .await??;
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

    type SnapshotStream = Pin<Box<dyn Stream<Item = Result<SnapshotResponse, Status>> + Send>>;

    async fn snapshot(&self, _: Request<SnapshotRequest>) -> Result<Response<Self::SnapshotStream>, Status> {
        let held = self.node.limits.image()?;
        let (backend, space) = (self.node.store.backend().clone(), self.space.clone());
        let (wire_size, reader) = blocking(move || {
            space.for_image(&*backend).map_err(Status::resource_exhausted)?;
            backend.snapshot().map(saved::for_client).map_err(|error| match error {
                SnapshotError::NotYet(_) => Status::unavailable(error.to_string()),
                _ => Status::internal(error.to_string()),
            })
        })
        .await??;
        let image = Outgoing { header: self.node.header_now(), wire_size, reader, held };
        Ok(Response::new(Box::pin(snapshot_stream::send(image, PATIENCE))))
    }
}
