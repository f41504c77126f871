//! The harness's contact to one life of a member, for every kind of target.

mod api;
mod control;
pub mod rows;
mod wire;

pub use api::KvLook;
pub use wire::Standing;

use crate::subject::events::NodeState;
use crate::subject::{Addresses, Target};
use api::Api;
use control::Control;
use etcd_client::{Client, ConnectOptions};
use ninelives_evidence::limits;
use ninelives_evidence::{FenceAnswer, Recovered};
use tokio::sync::watch;
use tonic::Status;

/// A cheap handle: clones share the connection. A request that the target does not support ends in
/// an `Unimplemented`; the pipeline asks beforehand.
#[derive(Debug, Clone)]
pub enum Contact {
    Control(Control),
    Api(Api),
}

impl Contact {
    /// A contact to the member `id` of `target` at `at`, for one of its lives.
    ///
    /// # Errors
    /// The address is not a URI.
    pub async fn with(target: &Target, id: u64, at: Addresses) -> anyhow::Result<Self> {
        Ok(match target {
            Target::Node(_) => Self::Control(Control::new(at.control)?),
            Target::Server(server) => Self::Api(Api::new(id, at.client, server.ids()).await?),
        })
    }

    /// Becomes ready when the member serves. `false`: its standard output closed before, so it
    /// never will.
    pub async fn serves(&self, said: watch::Receiver<NodeState>) -> bool {
        match self {
            Contact::Control(_) => says_so(said).await,
            Contact::Api(api) => {
                api.serves().await;
                true
            }
        }
    }

    /// Its present standing.
    pub async fn status(&self) -> Result<Standing, Status> {
        match self {
            Contact::Control(control) => control.status().await,
            Contact::Api(api) => api.status().await,
        }
    }

    /// Its standing once it has applied `index`.
    pub async fn wait_applied(&self, index: u64) -> Result<Standing, Status> {
        match self {
            Contact::Control(control) => control.wait_applied(index).await,
            Contact::Api(api) => api.wait_applied(index).await,
        }
    }

    /// The part of `status` that can be compared with others of the same life, because its values
    /// were read at one moment.
    pub fn testimony(&self, status: &Standing) -> Standing {
        match self {
            Contact::Control(_) => status.clone(),
            Contact::Api(_) => Api::testimony(status),
        }
    }

    pub async fn arm(&self, window: &str, hit: u64) -> Result<(), Status> {
        match self {
            Contact::Control(control) => control.arm(window, hit).await,
            Contact::Api(_) => Err(Status::unimplemented("it has no windows")),
        }
    }

    /// This life's account of its recovery so far; `None`: it gives none.
    pub async fn recovery(&self) -> Result<Option<Recovered>, Status> {
        match self {
            Contact::Control(control) => control.recovery().await.map(Some),
            Contact::Api(_) => Ok(None),
        }
    }

    /// Proposes a fence, and gives its raft index.
    pub async fn propose_fence(&self, id: u64) -> Result<u64, Status> {
        match self {
            Contact::Control(control) => control.propose_fence(id).await,
            Contact::Api(_) => Err(Status::unimplemented("it has no fence command")),
        }
    }

    pub async fn fence_answer(&self, index: u64) -> Result<FenceAnswer, Status> {
        match self {
            Contact::Control(control) => control.fence_answer(index).await,
            Contact::Api(_) => Err(Status::unimplemented("it has no fence command")),
        }
    }

    /// The newest revision of the cluster, by a linearizable read here.
    pub async fn newest_revision(&self) -> Result<u64, Status> {
        match self {
            Contact::Control(_) => Err(Status::unimplemented("it is fenced by a command")),
            Contact::Api(api) => api.newest_revision().await,
        }
    }

    /// This member's own state at `revision`, which it has applied.
    pub async fn look(&self, revision: u64) -> Result<KvLook, Status> {
        match self {
            Contact::Control(_) => Err(Status::unimplemented("it is fenced by a command")),
            Contact::Api(api) => api.look(revision).await,
        }
    }
}

/// A client of etcd's API at `endpoint`, for the harness's own questions.
///
/// # Errors
/// The endpoint is not a URI.
pub async fn connect(endpoint: &str) -> Result<Client, etcd_client::Error> {
    let options = ConnectOptions::new().with_connect_timeout(limits::CONTROL_CONNECT);
    Client::connect([endpoint], Some(options)).await
}

async fn says_so(mut said: watch::Receiver<NodeState>) -> bool {
    // The pipe closes after the last line: that ends a wait for a line that will not come.
    said.wait_for(|said| said.serving || said.closed).await.is_ok_and(|said| said.serving)
}
