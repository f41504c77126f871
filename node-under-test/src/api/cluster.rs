//! `etcdserverpb.Cluster`: the members, and changes of the membership, in etcd's words.
//!
//! Any member takes a change and hands it to the leader. The answer lists the members as this one
//! has them once it has applied the change; a member that removes itself answers without.

use super::{Node, propose_status};
use crate::requests::check;
use crate::state::Rejection;
use crate::state::membership;
use node_proto::command::MemberRecord;
use node_proto::etcdserverpb::cluster_server::Cluster;
use node_proto::etcdserverpb::{
    Member, MemberAddRequest, MemberAddResponse, MemberListRequest, MemberListResponse, MemberPromoteRequest,
    MemberPromoteResponse, MemberRemoveRequest, MemberRemoveResponse, MemberUpdateRequest, MemberUpdateResponse,
};
use node_raft::{ChangeError, ChangeRefusal, Changed, MembershipChange};
use std::sync::Arc;
use tonic::{Request, Response, Status};

pub struct ClusterService(pub Arc<Node>);

impl ClusterService {
    async fn members(&self) -> Result<Vec<Member>, Status> {
        // A few rows; but a view may have to wait while a snapshot is installed.
        let backend = self.0.store.backend().clone();
        let rows = self.0.engine_calls.run(move || membership::list(&*backend.read())).await??;
        Ok(rows.into_iter().map(member).collect())
    }

    /// Makes the change, and returns it with the members afterwards.
    async fn change(&self, change: MembershipChange) -> Result<(Changed, Vec<Member>), Status> {
        // No timeout of its own: raft bounds each of its steps, and a cut here would only make the
        // outcome unknown.
        let changed = self.0.raft.change_membership(change).await.map_err(change_status)?;
        Ok((changed, self.members().await?))
    }
}

#[tonic::async_trait]
impl Cluster for ClusterService {
    async fn member_list(&self, request: Request<MemberListRequest>) -> Result<Response<MemberListResponse>, Status> {
        if request.into_inner().linearizable {
            self.0.catch_up().await?;
        }
        Ok(Response::new(MemberListResponse { header: self.0.header_now(), members: self.members().await? }))
    }

    async fn member_add(&self, request: Request<MemberAddRequest>) -> Result<Response<MemberAddResponse>, Status> {
        let request = request.into_inner();
        let (peer_addr, is_learner) = (check::peer_addr(&request.peer_ur_ls)?, request.is_learner);
        let added = MembershipChange::Add { peer_addr: peer_addr.clone(), is_learner };
        let (Changed { member_id, .. }, members) = self.change(added).await?;
        let new = MemberRecord { id: member_id, peer_addr, is_learner, ..MemberRecord::default() };
        Ok(Response::new(MemberAddResponse { header: self.0.header_now(), member: Some(member(new)), members }))
    }

    async fn member_remove(
        &self,
        request: Request<MemberRemoveRequest>,
    ) -> Result<Response<MemberRemoveResponse>, Status> {
        let id = request.into_inner().id;
        let (_, mut members) = self.change(MembershipChange::Remove { id }).await?;
        members.retain(|member| member.id != id);
        Ok(Response::new(MemberRemoveResponse { header: self.0.header_now(), members }))
    }

    async fn member_update(
        &self,
        request: Request<MemberUpdateRequest>,
    ) -> Result<Response<MemberUpdateResponse>, Status> {
        let MemberUpdateRequest { id, peer_ur_ls } = request.into_inner();
        let peer_addr = check::peer_addr(&peer_ur_ls)?;
        let (_, members) = self.change(MembershipChange::Update { id, peer_addr }).await?;
        Ok(Response::new(MemberUpdateResponse { header: self.0.header_now(), members }))
    }

    async fn member_promote(
        &self,
        request: Request<MemberPromoteRequest>,
    ) -> Result<Response<MemberPromoteResponse>, Status> {
        let id = request.into_inner().id;
        let (_, members) = self.change(MembershipChange::Promote { id }).await?;
        Ok(Response::new(MemberPromoteResponse { header: self.0.header_now(), members }))
    }
}

fn member(row: MemberRecord) -> Member {
    Member {
        id: row.id,
        name: row.name,
        peer_ur_ls: vec![format!("http://{}", row.peer_addr)],
        // Without a scheme: etcdctl 3.4 copies an advertised URL into `:authority` for its
        // per-member calls, and a server that holds to RFC 9113, as ours does, resets a stream
        // whose authority is a URL.
        client_ur_ls: Some(row.client_addr).filter(|address| !address.is_empty()).into_iter().collect(),
        is_learner: row.is_learner,
    }
}

fn change_status(error: ChangeError) -> Status {
    let refusal = match error {
        ChangeError::Failed(error) => return propose_status(error),
        ChangeError::Refused(refusal) => refusal,
    };
    let rejection = match refusal {
        ChangeRefusal::NotFound => Rejection::MEMBER_NOT_FOUND,
        ChangeRefusal::AddressInUse => Rejection::PEER_URL_EXISTS,
        ChangeRefusal::NotALearner => Rejection::MEMBER_NOT_LEARNER,
        ChangeRefusal::NotInSync => Rejection::LEARNER_NOT_READY,
        ChangeRefusal::NotEnoughStarted => Rejection::NOT_ENOUGH_STARTED,
    };
    rejection.into()
}
