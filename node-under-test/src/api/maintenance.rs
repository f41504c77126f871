//! `etcdserverpb.Maintenance`.
//!
//! Hashes are of the logical state, not of etcd's bytes: they compare between members of this
//! program only.

use super::Node;
use super::leader_required::LeaderRequired;
use super::snapshot_stream::{self, Outgoing, PATIENCE};
use crate::requests::check;
use crate::space::Space;
use crate::state::Store;
use crate::state::hash::short;
use futures_util::stream::BoxStream;
use node_backend::snapshot::saved;
use node_base::backend::SnapshotError;
use node_base::chain::chain;
use node_base::sabotage::{Bug, planted};
use node_proto::etcdserverpb::maintenance_server::Maintenance;
use node_proto::etcdserverpb::{
    AlarmRequest, AlarmResponse, DefragmentRequest, DefragmentResponse, HashKvRequest, HashKvResponse, HashRequest,
    HashResponse, SnapshotRequest, SnapshotResponse, StatusRequest, StatusResponse,
};
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// The etcd version whose API this is, as clients expect it to look.
const API_VERSION: &str = "3.5.0";

pub struct MaintenanceService {
    pub node: Arc<Node>,
    pub space: Arc<Space>,
    pub leader_required: LeaderRequired,
}

#[tonic::async_trait]
impl Maintenance for MaintenanceService {
    /// This member raises no alarms. As with etcd, the list is then empty, and an alarm that is not
    /// raised is disarmed without an error; what cannot be an alarm, or cannot be done with one, is
    /// refused.
    async fn alarm(&self, request: Request<AlarmRequest>) -> Result<Response<AlarmResponse>, Status> {
        check::alarm(&request.into_inner())?;
        Ok(Response::new(AlarmResponse { header: self.node.header_now(), alarms: Vec::new() }))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let raft = self.node.raft.status();
        let backend = self.node.store.backend().clone();
        // An engine may have to read much to tell what of its file is in use.
        let size = self.node.engine_calls.run(move || backend.size()).await?;
        let size = size.map_err(|error| Status::internal(chain(&error)))?;
        let bytes = |bytes| i64::try_from(bytes).unwrap_or(i64::MAX);
        let believed = *self.node.raft.believed_leader().borrow();
        let leader = if planted(Bug::StatusNamesLostLeader) { raft.leader } else { believed };
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
        let (backend, space) = (self.node.store.backend().clone(), self.space.clone());
        let defrag = move || {
            space.for_image(&*backend).map_err(Status::resource_exhausted)?;
            backend.defrag().map_err(|error| Status::internal(chain(&error)))
        };
        self.node.engine_calls.run(defrag).await??;
        Ok(Response::new(DefragmentResponse { header: self.node.header_now() }))
    }

    async fn hash(&self, _: Request<HashRequest>) -> Result<Response<HashResponse>, Status> {
        let hash = self.node.read(Store::state_hash).await??;
        let header = Some(self.node.header(hash.kv.revision));
        Ok(Response::new(HashResponse { header, hash: short(&hash.whole()) }))
    }

    async fn hash_kv(&self, request: Request<HashKvRequest>) -> Result<Response<HashKvResponse>, Status> {
        let revision = request.into_inner().revision;
        let (hash, now) = self.node.read(move |store| store.kv_hash(revision)).await??;
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
        let held = self.node.limits.image()?;
        let (backend, space) = (self.node.store.backend().clone(), self.space.clone());
        let image = move || {
            space.for_image(&*backend).map_err(Status::resource_exhausted)?;
            backend.snapshot().map(saved::for_client).map_err(|error| match error {
                SnapshotError::NotYet(_) => Status::unavailable(chain(&error)),
                _ => Status::internal(chain(&error)),
            })
        };
        let (wire_size, reader) = self.node.engine_calls.run(image).await??;
        let image = Outgoing { header: self.node.header_now(), wire_size, reader, held };
        let blobs = Box::pin(snapshot_stream::send(image, PATIENCE));
        Ok(Response::new(self.leader_required.guard(request.metadata(), blobs)))
    }
}
