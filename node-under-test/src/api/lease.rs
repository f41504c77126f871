//! `etcdserverpb.Lease`. Granting and revoking are replicated; how long a lease still lives only the leader
//! knows, so a follower passes those two questions on to the leader's client address.

use super::{Node, mismatch, stopped};
use crate::entropy;
use crate::membership;
use node_proto::command::command::Request as Command;
use node_proto::command::outcome::Result as Answer;
use node_proto::etcdserverpb::lease_client::LeaseClient;
use node_proto::etcdserverpb::lease_server::Lease;
use node_proto::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseLeasesRequest,
    LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse, LeaseStatus, LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse,
};
use node_raft::Dial;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status, Streaming};

/// Marks a request that a follower passed on: it is not passed on again, or two members that each believe
/// the other leads would play ball with it.
const FORWARDED: &str = "ninelives-forwarded";

/// Answers that a keep-alive stream may hold for a client that does not read.
const ANSWERS_MAX: usize = 16;

#[derive(Clone)]
pub struct LeaseService {
    node: Arc<Node>,
    dial: Arc<Dial>,
    /// Connections to other members, by client address.
    channels: Arc<Mutex<BTreeMap<String, Channel>>>,
}

impl LeaseService {
    pub fn new(node: Arc<Node>, dial: Dial) -> Self {
        Self { node, dial: Arc::new(dial), channels: Arc::default() }
    }

    /// A client of the leader; `None`: this member leads.
    fn leader(&self, forwarded: bool) -> Result<Option<LeaseClient<Channel>>, Status> {
        let status = self.node.raft.status();
        if status.is_leader {
            return Ok(None);
        }
        let leader = status.leader.filter(|leader| !forwarded && *leader != self.node.member_id);
        let rows = membership::list(&*self.node.store.backend().read())?;
        let member = rows.into_iter().find(|member| Some(member.id) == leader && !member.client_addr.is_empty());
        let member = member.ok_or_else(|| Status::unavailable("etcdserver: no leader"))?;
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = channels.get(&member.client_addr) {
            return Ok(Some(LeaseClient::new(channel.clone())));
        }
        let endpoint = Endpoint::from_shared(format!("http://{}", self.dial.resolve(&member.client_addr)))
            .map_err(|error| Status::internal(format!("client address of member {}: {error}", member.id)))?;
        let channel = crate::net::dialled(endpoint).connect_lazy();
        channels.insert(member.client_addr, channel.clone());
        Ok(Some(LeaseClient::new(channel)))
    }

    async fn keep_alive(&self, id: i64, forwarded: bool) -> Result<LeaseKeepAliveResponse, Status> {
        if let Some(mut leader) = self.leader(forwarded)? {
            let request = forward(tokio_stream::once(LeaseKeepAliveRequest { id }));
            let mut answers =
                super::within(super::REQUEST_TIMEOUT, leader.lease_keep_alive(request)).await??.into_inner();
            let answer = super::within(super::REQUEST_TIMEOUT, answers.message()).await??;
            return answer.ok_or_else(stopped);
        }
        let ttl = match self.node.lessor.renew(id) {
            Some(ttl) => ttl,
            None => {
                // A new leader may not have applied the grant yet, and "no such lease" must not be a guess.
                self.node.catch_up().await?;
                self.node.lessor.renew(id).unwrap_or(0)
            }
        };
        Ok(LeaseKeepAliveResponse { header: self.node.header_now(), id, ttl })
    }
}

fn forward<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(FORWARDED, MetadataValue::from_static("1"));
    request
}

fn is_forwarded<T>(request: &Request<T>) -> bool {
    request.metadata().contains_key(FORWARDED)
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
        let forwarded = is_forwarded(&request);
        let mut requests = request.into_inner();
        let (answers, stream) = mpsc::channel(ANSWERS_MAX);
        let service = self.clone();
        tokio::spawn(async move {
            // A stream that broke has nobody left to be told.
            while let Ok(Some(request)) = requests.message().await {
                let answer = service.keep_alive(request.id, forwarded).await;
                let failed = answer.is_err();
                if answers.send(answer).await.is_err() || failed {
                    break;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<LeaseTimeToLiveRequest>,
    ) -> Result<Response<LeaseTimeToLiveResponse>, Status> {
        let forwarded = is_forwarded(&request);
        let request = request.into_inner();
        if let Some(mut leader) = self.leader(forwarded)? {
            return super::within(super::REQUEST_TIMEOUT, leader.lease_time_to_live(forward(request))).await?;
        }
        self.node.catch_up().await?;
        let id = request.id;
        let store = &self.node.store;
        let keys = match request.keys {
            true => self.node.read(move |store| store.lease_keys(id)).await?.unwrap_or_default(),
            false => Vec::new(),
        };
        Ok(Response::new(LeaseTimeToLiveResponse {
            header: self.node.header_now(),
            id,
            ttl: self.node.lessor.remaining_seconds(id).unwrap_or(-1),
            granted_ttl: store.lease_ttl_seconds(id).unwrap_or(0),
            keys,
        }))
    }

    async fn lease_leases(&self, _: Request<LeaseLeasesRequest>) -> Result<Response<LeaseLeasesResponse>, Status> {
        self.node.catch_up().await?;
        let leases = self.node.store.leases().into_iter().map(|(id, _)| LeaseStatus { id }).collect();
        Ok(Response::new(LeaseLeasesResponse { header: self.node.header_now(), leases }))
    }
}
