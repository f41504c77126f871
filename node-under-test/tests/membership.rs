//! Real processes: a cluster that grows, shrinks, and refuses a member that lost its raft log.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail there")]

use node_proto::control::control_client::ControlClient;
use node_proto::control::{FenceAnswerRequest, FenceRequest, FlushRequest, RecoveryRequest};
use node_proto::etcdserverpb::cluster_client::ClusterClient;
use node_proto::etcdserverpb::kv_client::KvClient;
use node_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use node_proto::etcdserverpb::{
    Member, MemberAddRequest, MemberListRequest, MemberListResponse, MemberPromoteRequest, MemberRemoveRequest,
    PutRequest, RangeRequest, StatusRequest,
};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

/// Far above what anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Peer, client and control address.
type Addresses = [SocketAddr; 3];

/// Member processes by id, on one temporary directory; killed when the test lets go of them.
struct Cluster {
    dir: TempDir,
    addresses: BTreeMap<u64, Addresses>,
    running: BTreeMap<u64, Child>,
}

impl Cluster {
    /// Three founding members, started, and addresses for two more.
    fn start() -> Self {
        // All are bound before any is released, so that no two get the same port.
        let listeners: Vec<_> = (0..15).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let ports: Vec<_> = listeners.iter().map(|listener| listener.local_addr().unwrap()).collect();
        let addresses = ports.chunks(3).zip(1..).map(|(three, id)| (id, [three[0], three[1], three[2]])).collect();
        drop(listeners);
        let mut cluster = Self { dir: tempfile::tempdir().unwrap(), addresses, running: BTreeMap::new() };
        (1..=3).for_each(|id| cluster.spawn(id, false));
        (1..=3).for_each(|id| cluster.serving(id));
        cluster
    }

    fn data_dir(&self, id: u64) -> PathBuf {
        self.dir.path().join(format!("n{id}"))
    }

    fn stderr(&self, id: u64) -> String {
        std::fs::read_to_string(self.dir.path().join(format!("n{id}.log"))).unwrap()
    }

    fn spawn(&mut self, id: u64, join: bool) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_node-under-test"));
        command.args(["serve", "--id", &id.to_string()]);
        // A mixed cluster: odd ids on the default engine, redb; so snapshots have to be converted
        // both ways.
        if id.is_multiple_of(2) {
            command.args(["--backend", "rocksdb", "--memtable-bytes", "65536"]);
        }
        command.args(["--keep-entries", "0", "--snapshot-every-entries", "1"]);
        command.arg("--data-dir").arg(self.data_dir(id)).arg(format!("--control={}", self.addresses[&id][2]));
        for named in if join { id..=id } else { 1..=3 } {
            let [peer, client, _] = self.addresses[&named];
            command.arg(format!("--member={named}=n{named}@{peer}/{client}"));
        }
        command.args(join.then_some("--join"));
        let log = File::create(self.dir.path().join(format!("n{id}.log"))).unwrap();
        let process = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        self.running.insert(id, process);
    }

    /// Waits until the member says that it serves.
    fn serving(&mut self, id: u64) {
        let stdout = self.running.get_mut(&id).unwrap().stdout.take().unwrap();
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        assert_eq!(line, "{\"event\":\"serving\"}\n", "member {id}: {}", self.stderr(id));
    }

    fn kill(&mut self, id: u64) {
        let mut process = self.running.remove(&id).unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// Waits until the member ends by itself: its exit code, and what it said.
    async fn ended(&mut self, id: u64) -> (Option<i32>, String) {
        let mut process = self.running.remove(&id).unwrap();
        let waited = tokio::task::spawn_blocking(move || process.wait().unwrap());
        let code = tokio::time::timeout(PATIENCE, waited).await.expect("it ends in time").unwrap().code();
        (code, self.stderr(id))
    }

    fn channel(&self, id: u64, which: usize) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.addresses[&id][which])).unwrap().connect_lazy()
    }

    fn members(&self, id: u64) -> ClusterClient<Channel> {
        ClusterClient::new(self.channel(id, 1))
    }

    fn control(&self, id: u64) -> ControlClient<Channel> {
        ControlClient::new(self.channel(id, 2))
    }

    async fn list(&self, id: u64) -> Result<MemberListResponse, Status> {
        let request = MemberListRequest { linearizable: true };
        self.members(id).member_list(request).await.map(tonic::Response::into_inner)
    }

    /// The members as `id` lists them once `so` holds of them.
    async fn listed(&self, id: u64, so: impl Fn(&[Member]) -> bool) -> MemberListResponse {
        eventually(async || self.list(id).await.ok().filter(|list| so(&list.members))).await
    }

    /// Writes through member `id`, as soon as there is a leader.
    async fn put(&self, id: u64, key: &str) {
        eventually(async || {
            let put = PutRequest { key: key.to_owned().into(), value: "v".into(), ..PutRequest::default() };
            KvClient::new(self.channel(id, 1)).put(put).await.ok()
        })
        .await;
    }

    async fn has(&self, id: u64, key: &str) -> bool {
        let range = RangeRequest { key: key.to_owned().into(), ..RangeRequest::default() };
        let answer = eventually(async || KvClient::new(self.channel(id, 1)).range(range.clone()).await.ok()).await;
        answer.into_inner().count == 1
    }

    /// Writes until no member's log reaches back to its beginning: a member that joins then gets a
    /// snapshot.
    async fn purge_all(&self) {
        for (id, round) in self.running.keys().zip(0..) {
            eventually(async || {
                self.put(*id, &format!("purged-{round}")).await;
                let status = self.control(*id).flush(FlushRequest {}).await.unwrap().into_inner();
                status.last_purged
            })
            .await;
        }
    }

    async fn leader(&self, id: u64) -> u64 {
        let mut client = MaintenanceClient::new(self.channel(id, 1));
        client.status(StatusRequest {}).await.unwrap().into_inner().leader
    }

    async fn add_learner(&self, by: u64, id: u64) {
        let peer_ur_ls = vec![format!("http://{}", self.addresses[&id][0])];
        let added = self.members(by).member_add(MemberAddRequest { peer_ur_ls, is_learner: true }).await.unwrap();
        let added = added.into_inner();
        let member = added.member.unwrap();
        assert_eq!((member.id, member.is_learner, member.name.as_str()), (id, true, ""));
        assert!(added.members.iter().any(|listed| listed.id == id));
    }

    /// Starts the added member, waits until it has published its name, and promotes it once it is
    /// in sync.
    async fn join_and_promote(&mut self, by: u64, id: u64) {
        self.spawn(id, true);
        self.serving(id);
        let name = format!("n{id}");
        let client = self.addresses[&id][1].to_string();
        self.listed(by, |members| {
            members.iter().any(|of| of.id == id && of.name == name && of.client_ur_ls == [client.clone()])
        })
        .await;
        eventually(async || match self.members(by).member_promote(MemberPromoteRequest { id }).await {
            Ok(promoted) => Some(promoted),
            Err(status) => {
                assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
                None
            }
        })
        .await;
        let list = self.list(by).await.unwrap();
        assert!(list.members.iter().all(|member| !member.is_learner), "{list:?}");
    }

    /// All running members hash the same membership at the same index.
    async fn same_membership(&self, by: u64) {
        let fence = self.control(by).fence(FenceRequest { id: 1 }).await.unwrap().into_inner();
        let mut digests = Vec::new();
        for id in self.running.keys() {
            let request = FenceAnswerRequest { index: fence.index };
            let answer = self.control(*id).fence_answer(request).await.unwrap().into_inner();
            assert!(!answer.missed, "member {id} has no answer");
            digests.push((answer.membership, answer.kv));
        }
        digests.dedup();
        assert_eq!(digests.len(), 1, "the members differ");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for process in self.running.values_mut() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// Looks, by asking a member, until there is something to see.
#[allow(clippy::disallowed_methods, reason = "another process gives no event")]
async fn eventually<T>(look: impl AsyncFn() -> Option<T>) -> T {
    let look = async {
        loop {
            if let Some(seen) = look().await {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, look).await.expect("seen in time")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_grows_shrinks_and_refuses_a_wiped_member() {
    let mut cluster = Cluster::start();
    cluster.put(1, "founded").await;
    let founded = cluster.list(1).await.unwrap();
    assert_eq!(founded.members.len(), 3);
    let cluster_id = founded.header.unwrap().cluster_id;
    assert_ne!(cluster_id, 0);

    // Grow: a learner, listed without a name until it runs, then a voter. It starts with a
    // snapshot.
    cluster.purge_all().await;
    cluster.add_learner(2, 4).await;
    let unready = cluster.members(3).member_promote(MemberPromoteRequest { id: 4 }).await.unwrap_err();
    assert_eq!(
        (unready.code(), unready.message()),
        (Code::FailedPrecondition, "etcdserver: can only promote a learner member which is in sync with leader")
    );
    cluster.join_and_promote(3, 4).await;
    let seen_by_it = cluster.listed(4, |members| members.len() == 4).await;
    assert_eq!(seen_by_it.header.unwrap().cluster_id, cluster_id, "a member that joined is in the same cluster");
    assert_eq!(seen_by_it.members, cluster.list(1).await.unwrap().members);
    cluster.put(4, "grown").await;
    assert!(cluster.has(1, "grown").await && cluster.has(4, "founded").await);
    cluster.same_membership(4).await;
    let recovery = cluster.control(4).recovery(RecoveryRequest {}).await.unwrap().into_inner();
    assert!(recovery.snapshot_installed.is_some(), "{recovery:?}");
    // And it is the same after a life of its own, cut short.
    cluster.kill(4);
    cluster.spawn(4, true);
    cluster.serving(4);
    cluster.put(4, "back").await;
    cluster.same_membership(4).await;

    // Shrink: the leader itself, asked through itself.
    let leader = cluster.leader(4).await;
    let removed = if leader == 4 { 2 } else { leader };
    let gone = cluster.members(removed).member_remove(MemberRemoveRequest { id: removed }).await.unwrap();
    assert_eq!(gone.into_inner().members.len(), 3);
    let (code, said) = cluster.ended(removed).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(&format!("member {removed} was removed from the cluster")), "{said}");
    let left: Vec<u64> = cluster.running.keys().copied().collect();
    let (stays, wiped) = (left[0], left[1]);
    cluster.put(4, "shrunk").await;
    let missing = cluster.members(4).member_remove(MemberRemoveRequest { id: removed }).await.unwrap_err();
    assert_eq!((missing.code(), missing.message()), (Code::NotFound, "etcdserver: member not found"));

    // A member that lost its disk comes back under its id, as its operator would start it.
    cluster.kill(wiped);
    std::fs::remove_dir_all(cluster.data_dir(wiped)).unwrap();
    cluster.spawn(wiped, false);
    let (code, said) = cluster.ended(wiped).await;
    assert_eq!(code, Some(1), "{said}");
    let sentence = format!("member {wiped} has lost its raft log (expected incarnation ");
    assert!(said.contains(&sentence) && said.contains("remove it and add it again under a new id"), "{said}");
    // The same when it waits for the leader instead of asking for votes.
    std::fs::remove_dir_all(cluster.data_dir(wiped)).unwrap();
    cluster.spawn(wiped, true);
    let (code, said) = cluster.ended(wiped).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&sentence), "{said}");

    // What the sentence asks for. The old ids are not given again.
    cluster.members(4).member_remove(MemberRemoveRequest { id: wiped }).await.unwrap();
    cluster.add_learner(stays, 5).await;
    cluster.join_and_promote(stays, 5).await;
    cluster.put(5, "replaced").await;
    for key in ["founded", "grown", "shrunk", "replaced"] {
        assert!(cluster.has(stays, key).await && cluster.has(5, key).await, "{key}");
    }
    cluster.same_membership(5).await;
}
