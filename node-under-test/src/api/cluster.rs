//! `etcdserverpb.Cluster`: the membership is fixed when the cluster is founded, so this only lists it.

use super::Node;
use node_proto::etcdserverpb::cluster_server::Cluster;
use node_proto::etcdserverpb::{Member, MemberListRequest, MemberListResponse};
use std::sync::Arc;
use tonic::{Request, Response, Status};

pub struct ClusterService(pub Arc<Node>);

#[tonic::async_trait]
impl Cluster for ClusterService {
    async fn member_list(&self, _: Request<MemberListRequest>) -> Result<Response<MemberListResponse>, Status> {
        let members = self.0.members.iter().map(|member| Member {
            id: member.id,
            name: member.name.clone(),
            peer_ur_ls: vec![format!("http://{}", member.peer_addr)],
            // Without a scheme: etcdctl 3.4 copies an advertised URL into `:authority` for its per-member calls, and a
            // server that holds to RFC 9113, as ours does, resets a stream whose authority is a URL.
            client_ur_ls: vec![member.client_addr.clone()],
            is_learner: false,
        });
        Ok(Response::new(MemberListResponse { header: self.0.header_now(), members: members.collect() }))
    }
}
