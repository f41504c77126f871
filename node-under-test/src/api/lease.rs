//! `etcdserverpb.Lease`. Granting and revoking are replicated; how long a lease still lives only
//! the leader knows, so it is asked that, from whichever member.

use super::leader_required::LeaderRequired;
use super::{Node, REQUEST_TIMEOUT, mismatch, propose_status};
use crate::entropy;
use crate::lease::{self, Renewals};
use crate::requests::keep_alive::KeepAlive;
use node_proto::command::command::Request as Command;
use node_proto::command::outcome::Result as Answer;
use node_proto::etcdserverpb::lease_server::Lease;
use node_proto::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseLeasesRequest,
    LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse, LeaseStatus, LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse,
};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// Answers that a keep-alive stream may hold for a client that does not read.
const ANSWERS_MAX: usize = 64;

pub struct LeaseService {
    node: Arc<Node>,
    renewals: Renewals,
    leader_required: LeaderRequired,
}

impl LeaseService {
    /// Must be called in a runtime.
    pub fn new(node: Arc<Node>, leader_required: LeaderRequired) -> Self {
        let renewals = Renewals::spawn(node.raft.clone());
        Self { node, renewals, leader_required }
    }
}

#[tonic::async_trait]
impl Lease for LeaseService {
    async fn lease_grant(&self, request: Request<LeaseGrantRequest>) -> Result<Response<LeaseGrantResponse>, Status> {
        let mut request = request.into_inner();
        if request.id == 0 {
            request.id = entropy::lease_id();
        }
        let answer = self.node.propose(Command::LeaseGrant(request)).await?;
        let Answer::LeaseGrant(mut response) = answer else { return Err(mismatch()) };
        self.node.complete(&mut response.header);
        Ok(Response::new(response))
    }

    async fn lease_revoke(
        &self,
        request: Request<LeaseRevokeRequest>,
    ) -> Result<Response<LeaseRevokeResponse>, Status> {
        let answer = self.node.propose(Command::LeaseRevoke(request.into_inner())).await?;
        let Answer::LeaseRevoke(mut response) = answer else { return Err(mismatch()) };
        self.node.complete(&mut response.header);
        Ok(Response::new(response))
    }

    type LeaseKeepAliveStream = ReceiverStream<Result<LeaseKeepAliveResponse, Status>>;

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        let lost = self.leader_required.lost(request.metadata());
        let requests = request.into_inner();
        let (answers, stream) = mpsc::channel(ANSWERS_MAX);
        let node = self.node.clone();
        let keep_alive = KeepAlive::new(Arc::new(node.raft.clone()), self.renewals.clone(), move || node.header_now());
        tokio::spawn(async move {
            if let Err(status) = keep_alive.run(requests, &answers, lost).await {
                // The receiver is gone only if the client is.
                let _ = answers.send(Err(status)).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<LeaseTimeToLiveRequest>,
    ) -> Result<Response<LeaseTimeToLiveResponse>, Status> {
        let asked = lease::time_to_live(&self.node.raft, request.into_inner());
        let mut response = super::within(REQUEST_TIMEOUT, asked).await?.map_err(propose_status)?;
        self.node.complete(&mut response.header);
        Ok(Response::new(response))
    }

    async fn lease_leases(&self, _: Request<LeaseLeasesRequest>) -> Result<Response<LeaseLeasesResponse>, Status> {
        self.node.catch_up().await?;
        let leases = self.node.store.leases().into_iter().map(|(id, _)| LeaseStatus { id }).collect();
        Ok(Response::new(LeaseLeasesResponse { header: self.node.header_now(), leases }))
    }
}
