//! The node's control endpoint.

use super::{Standing, wire};
use crate::dial::channel;
use anyhow::Context;
use ninelives_evidence::{FenceAnswer, Recovered};
use node_proto::control::control_client::ControlClient;
use node_proto::control::{
    ArmRequest, FenceAnswerRequest, FenceRequest, RecoveryRequest, StatusRequest, StatusResponse, WaitAppliedRequest,
};
use std::net::SocketAddr;
use tonic::transport::Channel;
use tonic::{Response, Status};

/// Connects with the first request.
#[derive(Debug, Clone)]
pub struct Control(ControlClient<Channel>);

impl Control {
    pub(super) fn new(at: SocketAddr) -> anyhow::Result<Self> {
        Ok(Self(ControlClient::new(channel(at).context("a control address is not a URI")?)))
    }

    pub(super) async fn status(&self) -> Result<Standing, Status> {
        self.0.clone().status(StatusRequest {}).await.map(standing)
    }

    pub(super) async fn wait_applied(&self, index: u64) -> Result<Standing, Status> {
        self.0.clone().wait_applied(WaitAppliedRequest { index }).await.map(standing)
    }

    pub(super) async fn arm(&self, window: &str, hit: u64) -> Result<(), Status> {
        self.0.clone().arm(ArmRequest { window: window.to_owned(), hit }).await.map(|_| ())
    }

    pub(super) async fn recovery(&self) -> Result<Recovered, Status> {
        let said = self.0.clone().recovery(RecoveryRequest {}).await?;
        Ok(wire::recovered(said.into_inner()))
    }

    /// The fence's raft index.
    pub(super) async fn propose_fence(&self, id: u64) -> Result<u64, Status> {
        self.0.clone().fence(FenceRequest { id }).await.map(|response| response.into_inner().index)
    }

    pub(super) async fn fence_answer(&self, index: u64) -> Result<FenceAnswer, Status> {
        let said = self.0.clone().fence_answer(FenceAnswerRequest { index }).await?;
        Ok(wire::fence_answer(said.into_inner()))
    }
}

fn standing(said: Response<StatusResponse>) -> Standing {
    said.into_inner().into()
}
