//! The private control endpoint (`control.proto`): crash windows, watermarks, replay evidence,
//! fences.
//!
//! Every wait is on an event of [`Watermarks`] or of the fence book; nothing here polls.

use crate::applier::Applier;
use crate::state::command;
use node_base::chain::chain;
use node_base::failpoint::{self, Window};
use node_base::watermarks::{Marks, Watermarks};
use node_proto::control::control_server::{Control, ControlServer};
use node_proto::control::{
    ArmRequest, ArmResponse, FenceAnswerRequest, FenceAnswerResponse, FenceRequest, FenceResponse, FlushRequest,
    IndexRange, RecoveryRequest, RecoveryResponse, StatusRequest, StatusResponse, WaitAppliedRequest,
};
use node_raft::{LogStore, RaftNode};
use std::ops::RangeInclusive;
use std::sync::Arc;
use tonic::{Request, Response, Status};

pub struct ControlService {
    pub member_id: u64,
    pub raft: RaftNode,
    pub log: LogStore,
    pub marks: Arc<Watermarks>,
    pub applier: Arc<Applier>,
    pub open_micros: u64,
}

impl ControlService {
    pub fn into_server(self) -> ControlServer<Self> {
        ControlServer::new(self)
    }

    fn status_now(&self) -> StatusResponse {
        let raft = self.raft.status();
        let marks = self.marks.now();
        let log = self.log.facts();
        let store = self.applier.store();
        let transfers = self.applier.transfers();
        StatusResponse {
            member_id: self.member_id,
            term: raft.term,
            leader_id: raft.leader.unwrap_or(0),
            persisted: marks.persisted.map(|id| id.index),
            flushed: marks.flushed.map(|id| id.index),
            applied: marks.applied.map(|id| id.index),
            committed: marks.committed,
            log_last: log.last.map(|id| id.index),
            log_durable: log.durable,
            last_purged: log.last_purged.map(|id| id.index),
            revision: store.revision(),
            compact_revision: store.compact_revision(),
            snapshots_refused: transfers.refused,
            last_snapshot_refusal: transfers.last_refusal,
            snapshots_installed: transfers.installed,
            messages_refused: self.raft.refused_messages(),
        }
    }

    async fn wait_marks(&self, reached: impl FnMut(&Marks) -> bool) -> Result<(), Status> {
        let mut marks = self.marks.subscribe();
        marks.wait_for(reached).await.map_err(|_| Status::unavailable("the node is shutting down"))?;
        Ok(())
    }
}

#[tonic::async_trait]
impl Control for ControlService {
    async fn arm(&self, request: Request<ArmRequest>) -> Result<Response<ArmResponse>, Status> {
        let ArmRequest { window, hit } = request.into_inner();
        let window: Window = window.parse().map_err(|error| Status::invalid_argument(format!("{error}")))?;
        failpoint::arm(window, hit);
        Ok(Response::new(ArmResponse {}))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        Ok(Response::new(self.status_now()))
    }

    async fn wait_applied(&self, request: Request<WaitAppliedRequest>) -> Result<Response<StatusResponse>, Status> {
        let index = request.into_inner().index;
        if index > 0 {
            self.wait_marks(|marks| marks.applied.is_some_and(|id| id.index >= index)).await?;
        }
        Ok(Response::new(self.status_now()))
    }

    async fn recovery(&self, _: Request<RecoveryRequest>) -> Result<Response<RecoveryResponse>, Status> {
        let evidence = self.applier.evidence();
        let found = evidence.found;
        Ok(Response::new(RecoveryResponse {
            last_flushed_index: found.last_flushed.map(|id| id.index),
            engine_index: found.engine.map(|id| id.index),
            log_first: found.log_first,
            log_last: found.log_last.map(|id| id.index),
            last_purged: found.last_purged.map(|id| id.index),
            scan_start: evidence.scan_start,
            verified: evidence.verified.map(range),
            replayed: evidence.replayed.map(range),
            complete: evidence.complete,
            open_micros: self.open_micros,
            snapshot_installed: evidence.snapshot_installed,
        }))
    }

    async fn fence(&self, request: Request<FenceRequest>) -> Result<Response<FenceResponse>, Status> {
        let command = command::fence(request.into_inner().id);
        let proposed = self.raft.propose(command).await.map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(Response::new(FenceResponse { index: proposed.log_id.index, term: proposed.log_id.term }))
    }

    async fn fence_answer(
        &self,
        request: Request<FenceAnswerRequest>,
    ) -> Result<Response<FenceAnswerResponse>, Status> {
        let index = request.into_inner().index;
        self.wait_marks(|marks| marks.applied.is_some_and(|id| id.index >= index)).await?;
        Ok(Response::new(self.applier.store().fences().answer(index).await))
    }

    async fn flush(&self, _: Request<FlushRequest>) -> Result<Response<StatusResponse>, Status> {
        self.applier.flush().await.map_err(|error| Status::internal(chain(&error)))?;
        Ok(Response::new(self.status_now()))
    }
}

fn range(range: RangeInclusive<u64>) -> IndexRange {
    IndexRange { first: *range.start(), last: *range.end() }
}
