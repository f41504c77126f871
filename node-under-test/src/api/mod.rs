//! etcd's v3 services: they check, replicate or read, and answer in etcd's words.
//!
//! Nothing here holds state of its own beyond a stream's. A write is answered by what applying it
//! answered; a linearizable read asks a quorum for the read index and waits until that is applied
//! here.

mod cluster;
#[cfg(feature = "sabotage")]
mod hasty;
mod kv;
mod leader_required;
mod lease;
mod limits;
mod long_reads;
mod maintenance;
mod message_size;
mod snapshot_stream;
mod watch;

use crate::cli::Serve;
use crate::clock;
use crate::lease::Lessor;
use crate::requests::{REQUEST_TIMEOUT, check, propose_status, stopped};
use crate::space::Space;
use crate::state::Store;
use crate::state::command;
use crate::state::membership;
use bytes::Bytes;
use leader_required::LeaderRequired;
use limits::Limits;
use long_reads::LongReads;
use message_size::Limited;
use node_base::watermarks::Watermarks;
use node_proto::command::command::Request as Command;
use node_proto::command::outcome::Result as Answer;
use node_proto::etcdserverpb::ResponseHeader;
use node_proto::etcdserverpb::cluster_server::ClusterServer;
use node_proto::etcdserverpb::kv_server::KvServer;
use node_proto::etcdserverpb::lease_server::LeaseServer;
use node_proto::etcdserverpb::maintenance_server::MaintenanceServer;
use node_proto::etcdserverpb::watch_server::WatchServer;
use node_raft::{Member, RaftNode};
use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tonic::service::Routes;
use tonic::service::interceptor::InterceptedService;
use tonic::{Code, Status};

/// The services of one member. Starts the task that expires leases, so it needs a running runtime.
///
/// # Errors
/// Another service answers the members' questions about leases already, or the engine cannot be
/// read.
pub fn routes(
    options: &Serve,
    raft: RaftNode,
    store: Arc<Store>,
    marks: Arc<Watermarks>,
    space: Arc<Space>,
) -> anyhow::Result<Routes> {
    let lessor = Lessor::new(store.clone(), raft.clone());
    anyhow::ensure!(raft.answer_by(lessor.clone()), "this member's leases are served already");
    tokio::spawn(lessor.run());
    let node = Arc::new(Node {
        cluster_id: OnceLock::new(),
        founded_as: if options.join { None } else { Some(founded_as(&store, &options.members)?) },
        member_id: options.id,
        raft,
        store,
        marks,
        reads: LongReads::default(),
        catch_ups: LongReads::with_endless_queue(),
        engine_calls: LongReads::of_the_engine(),
        limits: Limits::default(),
    });
    let required = LeaderRequired::new(&node.raft);
    let leases = lease::LeaseService::new(node.clone(), required.clone());
    let watches = watch::WatchService { node: node.clone(), leader_required: required.clone() };
    let maintenance = maintenance::MaintenanceService { node: node.clone(), space, leader_required: required.clone() };
    Ok(Routes::new(admitted(KvServer::new(kv::KvService(node.clone())), &required))
        .add_service(admitted(WatchServer::new(watches), &required))
        .add_service(admitted(LeaseServer::new(leases), &required))
        .add_service(admitted(MaintenanceServer::new(maintenance), &required))
        .add_service(admitted(ClusterServer::new(cluster::ClusterService(node)), &required)))
}

/// A service that is handed no message above the limit, and no call that asks for a leader while
/// there is none.
fn admitted<S>(service: S, required: &LeaderRequired) -> Limited<InterceptedService<S, LeaderRequired>> {
    Limited(InterceptedService::new(service, required.clone()))
}

/// The cluster that this member belongs to, as far as its state or, if it founds one, the founding
/// list says.
///
/// # Errors
/// The engine cannot be read.
pub fn cluster_id(options: &Serve, store: &Store) -> anyhow::Result<Option<u64>> {
    let applied = membership::cluster_id(&*store.backend().read())?;
    if applied.is_some() || options.join {
        return Ok(applied);
    }
    founded_as(store, &options.members).map(Some)
}

fn founded_as(store: &Store, members: &[Member]) -> anyhow::Result<u64> {
    let mut members: Vec<_> = members.iter().collect();
    members.sort_unstable_by_key(|member| member.id);
    let members = members.into_iter().map(|member| (member.id, &*member.name, &*member.peer_addr));
    Ok(membership::founded_as(&*store.backend().read(), members)?)
}

/// The parts of a member that every service needs.
struct Node {
    /// Once a membership was applied here: it never changes.
    cluster_id: OnceLock<u64>,
    /// Until then, if this is a founding member.
    founded_as: Option<u64>,
    member_id: u64,
    raft: RaftNode,
    store: Arc<Store>,
    marks: Arc<Watermarks>,
    /// Ranges, hashes and their like.
    reads: LongReads,
    /// Watches that are far behind.
    catch_ups: LongReads,
    /// Its size, its images, its defragmentation, and small views that may have to wait.
    engine_calls: LongReads,
    limits: Limits,
}

impl Node {
    fn header(&self, revision: i64) -> ResponseHeader {
        let raft_term = self.raft.status().term;
        ResponseHeader { cluster_id: self.cluster_id(), member_id: self.member_id, revision, raft_term }
    }

    /// The same on every member, also on one that joined later; 0: this one has not heard of its
    /// cluster yet.
    fn cluster_id(&self) -> u64 {
        if let Some(id) = self.cluster_id.get() {
            return *id;
        }
        match membership::cluster_id(&*self.store.backend().read()) {
            Ok(Some(id)) => *self.cluster_id.get_or_init(|| id),
            // An engine that cannot be read shows elsewhere.
            Ok(None) | Err(_) => self.founded_as.unwrap_or(0),
        }
    }

    fn header_now(&self) -> Option<ResponseHeader> {
        Some(self.header(self.store.revision()))
    }

    /// Completes the header that apply or a read left with the revision alone.
    fn complete(&self, header: &mut Option<ResponseHeader>) {
        let revision = header.as_ref().map_or(0, |header| header.revision);
        *header = Some(self.header(revision));
    }

    /// Reads of the store that may take long, in their turn.
    async fn read<T: Send + 'static>(&self, read: impl FnOnce(&Store) -> T + Send + 'static) -> Result<T, Status> {
        let store = self.store.clone();
        self.reads.run(move || read(&store)).await
    }

    /// Replicates a command, and returns what applying it answered.
    async fn propose(&self, request: Command) -> Result<Answer, Status> {
        if check::adds_data(&request)
            && let Some(member) = self.raft.short_of_space()
        {
            tracing::debug!(member, "refused for want of room on a disk");
            return Err(limits::no_space());
        }
        let command = command::encode(request);
        command::vet(&command)?;
        let _under_way = self.limits.propose(command.len())?;
        #[cfg(feature = "sabotage")]
        if node_base::sabotage::planted(node_base::sabotage::Bug::AckBeforeQuorum) {
            return within(REQUEST_TIMEOUT, self.propose_hastily(command)).await?;
        }
        let proposed = within(REQUEST_TIMEOUT, self.raft.propose(command)).await?.map_err(propose_status)?;
        outcome(proposed.response)
    }

    /// Waits until nothing that a compaction at `revision` made unreachable is left in this
    /// member's engine. As in etcd it takes as long as it takes: until the client goes away.
    async fn swept(&self, revision: i64) -> Result<(), Status> {
        let mut sweep = self.store.sweep_watch();
        sweep.wait_for(|sweep| sweep.done >= revision).await.map(|_| ()).map_err(|_| stopped())
    }

    /// Waits until this member has applied everything that was acknowledged anywhere before the
    /// call.
    async fn catch_up(&self) -> Result<(), Status> {
        let caught_up = async {
            let index = self.raft.read_index().await.map_err(propose_status)?;
            let mut marks = self.marks.subscribe();
            let applied = marks.wait_for(|marks| marks.applied.is_some_and(|id| id.index >= index)).await;
            applied.map(|_| ()).map_err(|_| stopped())
        };
        within(REQUEST_TIMEOUT, caught_up).await?
    }
}

fn outcome(response: Bytes) -> Result<Answer, Status> {
    match command::decode_outcome(response)? {
        Answer::Failure(failure) => Err(Status::new(Code::from_i32(failure.code), failure.message)),
        answer => Ok(answer),
    }
}

/// The leader answered another kind of command than was proposed.
fn mismatch() -> Status {
    Status::internal("the outcome belongs to another kind of request")
}

/// # Errors
/// etcd's timeout; what was begun may still happen.
async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Result<T, Status> {
    tokio::select! {
        biased;
        done = work => Ok(done),
        () = clock::sleep_until(clock::now() + limit) => Err(Status::unavailable("etcdserver: request timed out")),
    }
}
