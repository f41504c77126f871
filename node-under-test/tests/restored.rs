//! Real processes: a saved snapshot becomes a new cluster, which then grows; and a kill at any step
//! of a restore leaves nothing, or a whole member.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail there")]

mod common;

use common::Member as Source;
use node_backend::engine::EngineKind;
use node_backend::layout::DataDir;
use node_backend::marker;
use node_base::LogId;
use node_base::backend::{Backend, Batch};
use node_base::memory::MemoryBackend;
use node_proto::etcdserverpb::cluster_client::ClusterClient;
use node_proto::etcdserverpb::kv_client::KvClient;
use node_proto::etcdserverpb::lease_client::LeaseClient;
use node_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use node_proto::etcdserverpb::{
    HashKvRequest, HashKvResponse, LeaseGrantRequest, LeaseLeasesRequest, MemberAddRequest, MemberPromoteRequest,
    PutRequest, RangeRequest, RangeResponse, SnapshotRequest,
};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};

/// Far above what anything here takes.
const PATIENCE: Duration = Duration::from_secs(120);
const ENGINES: [&str; 2] = ["redb", "rocksdb"];
const LEASE: i64 = 77;

/// Peer, client and control address.
type Addresses = [SocketAddr; 3];

/// A member that is to be started.
struct Place {
    id: u64,
    engine: &'static str,
    join: bool,
}

/// Member processes by id, on one temporary directory; killed when the test lets go of them.
struct Cluster {
    dir: TempDir,
    addresses: BTreeMap<u64, Addresses>,
    founders: Vec<u64>,
    running: BTreeMap<u64, Child>,
}

impl Cluster {
    /// Addresses for five members; `founders` are to found the cluster. Nothing is started.
    fn new(founders: &[u64]) -> Self {
        // All are bound before any is released, so that no two get the same port.
        let listeners: Vec<_> = (0..15).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let ports: Vec<_> = listeners.iter().map(|listener| listener.local_addr().unwrap()).collect();
        let addresses = ports.chunks(3).zip(1..).map(|(three, id)| (id, [three[0], three[1], three[2]])).collect();
        let dir = tempfile::tempdir().unwrap();
        Self { dir, addresses, founders: founders.to_vec(), running: BTreeMap::new() }
    }

    fn data_dir(&self, id: u64) -> PathBuf {
        self.dir.path().join(format!("n{id}"))
    }

    fn stderr(&self, id: u64) -> String {
        std::fs::read_to_string(self.dir.path().join(format!("n{id}.log"))).unwrap()
    }

    fn restore(&self, saved: &Path, id: u64, engine: &str) {
        let done = restore_command(saved, &self.data_dir(id), engine).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    fn command(&self, place: &Place) -> Command {
        let Place { id, engine, join } = *place;
        let mut command = Command::new(env!("CARGO_BIN_EXE_node-under-test"));
        command.args(["serve", "--id", &id.to_string(), "--backend", engine]);
        if engine == "rocksdb" {
            command.args(["--memtable-bytes", "65536"]);
        }
        command.arg("--data-dir").arg(self.data_dir(id)).arg(format!("--control={}", self.addresses[&id][2]));
        let named = if join { vec![id] } else { self.founders.clone() };
        for named in named {
            let [peer, client, _] = self.addresses[&named];
            command.arg(format!("--member={named}=n{named}@{peer}/{client}"));
        }
        command.args(join.then_some("--join"));
        let log = File::options().create(true).append(true).open(self.dir.path().join(format!("n{id}.log"))).unwrap();
        command.stdout(Stdio::piped()).stderr(log);
        command
    }

    fn spawn(&mut self, place: &Place) {
        let process = self.command(place).spawn().unwrap();
        self.running.insert(place.id, process);
    }

    /// Starts them all, and waits until each says that it serves.
    fn start(&mut self, places: &[Place]) {
        places.iter().for_each(|place| self.spawn(place));
        for place in places {
            let process = self.running.get_mut(&place.id).unwrap();
            let line = first_line(process);
            assert_eq!(line, "{\"event\":\"serving\"}\n", "member {}: {}", place.id, self.stderr(place.id));
        }
    }

    fn kill(&mut self, id: u64) {
        let mut process = self.running.remove(&id).unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    fn channel(&self, id: u64) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.addresses[&id][1])).unwrap().connect_lazy()
    }

    /// Writes through member `id`, as soon as there is a leader.
    async fn put(&self, id: u64, key: &str) {
        eventually(async || {
            let put = PutRequest { key: key.to_owned().into(), value: "v".into(), ..PutRequest::default() };
            KvClient::new(self.channel(id)).put(put).await.ok()
        })
        .await;
    }

    /// Every key, by a linearizable read at `id`.
    async fn all(&self, id: u64) -> RangeResponse {
        let range = RangeRequest { key: vec![0].into(), range_end: vec![0].into(), ..RangeRequest::default() };
        eventually(async || KvClient::new(self.channel(id)).range(range.clone()).await.ok()).await.into_inner()
    }

    async fn hash(&self, id: u64) -> HashKvResponse {
        let request = HashKvRequest { revision: 0 };
        let asked = async || MaintenanceClient::new(self.channel(id)).hash_kv(request).await.ok();
        eventually(asked).await.into_inner()
    }

    async fn leases(&self, id: u64) -> Vec<i64> {
        let asked = async || LeaseClient::new(self.channel(id)).lease_leases(LeaseLeasesRequest {}).await.ok();
        eventually(asked).await.into_inner().leases.iter().map(|lease| lease.id).collect()
    }

    /// Adds a learner through member 1, starts it, waits until it holds what the cluster does, and
    /// promotes it.
    async fn grow(&mut self, id: u64, engine: &'static str) {
        let peer = format!("http://{}", self.addresses[&id][0]);
        let add = MemberAddRequest { peer_ur_ls: vec![peer], is_learner: true };
        let added = eventually(async || ClusterClient::new(self.channel(1)).member_add(add.clone()).await.ok()).await;
        assert_eq!(added.into_inner().member.unwrap().id, id);
        self.start(&[Place { id, engine, join: true }]);
        self.is_like(id, 1).await;
        let promote = MemberPromoteRequest { id };
        eventually(async || ClusterClient::new(self.channel(1)).member_promote(promote).await.ok()).await;
    }

    /// Waits until the two hash alike, and compares what they say.
    async fn is_like(&self, id: u64, other: u64) {
        // A linearizable read: it has applied all that was acknowledged.
        let (own, others) = (self.all(id).await, self.all(other).await);
        assert_eq!(own.kvs, others.kvs, "n{id} and n{other}: {}", self.stderr(id));
        assert_eq!(own.header.unwrap().revision, others.header.unwrap().revision);
        assert_eq!(self.hash(id).await.hash, self.hash(other).await.hash, "n{id} and n{other}");
        assert_eq!(self.leases(id).await, self.leases(other).await);
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

/// Asks again until there is an answer.
#[allow(clippy::disallowed_methods, reason = "another process gives no event")]
async fn eventually<T>(mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asked = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.expect("it comes about in time")
}

fn first_line(process: &mut Child) -> String {
    let mut line = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
    line
}

fn restore_command(saved: &Path, data_dir: &Path, engine: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_node-under-test"));
    command.args(["snapshot", "restore", "--backend", engine]).arg(saved).arg("--data-dir").arg(data_dir);
    command
}

/// A saved snapshot of a store with `keys` keys, one of them under a lease, and its HashKV.
async fn saved(dir: &Path, engine: &str, keys: u32) -> (PathBuf, u32) {
    let source = Source::start_on(&dir.join(format!("source-{keys}")), engine);
    source.lease().await.lease_grant(LeaseGrantRequest { ttl: 3_600, id: LEASE }).await.unwrap();
    for key in 0..keys {
        source.put(&format!("key-{key}"), "restored").await;
    }
    let leased = PutRequest { key: "leased".into(), value: "v".into(), lease: LEASE, ..PutRequest::default() };
    source.kv().await.put(leased).await.unwrap();
    let hash = source.hash_kv().await;
    let mut stream = source.maintenance().await.snapshot(SnapshotRequest {}).await.unwrap().into_inner();
    let mut bytes = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        bytes.extend_from_slice(&message.blob);
    }
    source.kill();
    let path = dir.join(format!("saved-{keys}"));
    std::fs::write(&path, bytes).unwrap();
    (path, hash)
}

fn founder(id: u64, engine: &'static str) -> Place {
    Place { id, engine, join: false }
}

/// The restored state is there on every member, newcomers of both engines included, and after a
/// kill of all.
async fn grows(mut cluster: Cluster, places: &[Place], hash: u32, newcomers: [(u64, &'static str); 2]) {
    cluster.start(places);
    assert_eq!(cluster.all(1).await.count, 41);
    for place in places {
        assert_eq!(cluster.hash(place.id).await.hash, hash, "n{} on {}", place.id, place.engine);
        assert_eq!(cluster.leases(place.id).await, [LEASE]);
    }
    for (id, engine) in newcomers {
        cluster.grow(id, engine).await;
        cluster.put(id, &format!("written-at-{id}")).await;
    }
    let mut everybody: Vec<(u64, &str)> = places.iter().map(|place| (place.id, place.engine)).collect();
    everybody.extend(newcomers);
    everybody.iter().for_each(|(id, _)| cluster.kill(*id));
    let joined = |id: u64| newcomers.iter().any(|(newcomer, _)| *newcomer == id);
    let again: Vec<_> =
        everybody.iter().map(|(id, engine)| Place { id: *id, engine: named(engine), join: joined(*id) }).collect();
    cluster.start(&again);
    cluster.put(1, "after the kill").await;
    assert_eq!(cluster.all(1).await.count, 44);
    for (id, _) in &everybody {
        cluster.is_like(*id, 1).await;
        assert_eq!(cluster.leases(*id).await, [LEASE]);
    }
}

fn named(engine: &str) -> &'static str {
    ENGINES.into_iter().find(|known| *known == engine).unwrap()
}

#[tokio::test]
async fn three_founders_restored_from_one_file_grow_by_two() {
    let cluster = Cluster::new(&[1, 2, 3]);
    let (saved, hash) = saved(cluster.dir.path(), "rocksdb", 40).await;
    let places = [founder(1, "rocksdb"), founder(2, "redb"), founder(3, "rocksdb")];
    places.iter().for_each(|place| cluster.restore(&saved, place.id, place.engine));
    grows(cluster, &places, hash, [(4, "redb"), (5, "rocksdb")]).await;
}

#[tokio::test]
async fn one_restored_founder_grows_on_both_engines() {
    for engine in ENGINES {
        let cluster = Cluster::new(&[1]);
        let (saved, hash) = saved(cluster.dir.path(), engine, 40).await;
        cluster.restore(&saved, 1, engine);
        grows(cluster, &[founder(1, engine)], hash, [(2, "rocksdb"), (3, "redb")]).await;
    }
}

/// The cluster's id, in the header of an answer, tells founders apart that hold different states.
#[tokio::test]
async fn founders_that_were_restored_from_different_states_are_other_clusters() {
    let mut ids = Vec::new();
    // The id depends on the addresses, too.
    let addresses = Cluster::new(&[1]).addresses.clone();
    for (keys, engine) in [(Some(3), "redb"), (Some(3), "rocksdb"), (Some(4), "redb"), (None, "redb")] {
        let mut cluster = Cluster::new(&[1]);
        cluster.addresses.clone_from(&addresses);
        if let Some(keys) = keys {
            let (saved, _) = saved(cluster.dir.path(), engine, keys).await;
            cluster.restore(&saved, 1, engine);
        }
        cluster.start(&[founder(1, engine)]);
        ids.push(cluster.all(1).await.header.unwrap().cluster_id);
    }
    assert_eq!(ids[0], ids[1], "the engine does not matter");
    assert!(ids[0] != ids[2] && ids[0] != ids[3] && ids[2] != ids[3], "{ids:?}");
}

/// Two founders that were restored alike are a quorum; the third one, which was not, never gets
/// anything from them, and all say why.
#[tokio::test]
async fn a_founder_that_was_not_restored_alike_is_refused_in_words() {
    for (keys, held) in [(None, 0), (Some(5), 6)] {
        let mut cluster = Cluster::new(&[1, 2, 3]);
        let (alike, _) = saved(cluster.dir.path(), "redb", 40).await;
        (1..=2).for_each(|id| cluster.restore(&alike, id, "redb"));
        if let Some(keys) = keys {
            let (other, _) = saved(cluster.dir.path(), "redb", keys).await;
            cluster.restore(&other, 3, "redb");
        }
        cluster.start(&[1, 2, 3].map(|id| founder(id, "redb")));
        cluster.put(1, "written").await;
        let said = |id: u64| cluster.stderr(id).contains("belongs to cluster").then_some(());
        eventually(async || said(1).and(said(3))).await;
        let range =
            RangeRequest { key: vec![0].into(), range_end: vec![0].into(), serializable: true, ..Default::default() };
        let own = KvClient::new(cluster.channel(3)).range(range).await.unwrap().into_inner();
        assert_eq!(own.count, held, "{}", cluster.stderr(3));
        assert_eq!(cluster.all(2).await.count, 42);
    }
}

/// Kills `command` in `window`; whether it got there.
fn killed_at(mut command: Command, window: &str) -> bool {
    let mut process = command.arg(format!("--arm={window}=1")).stdout(Stdio::piped()).spawn().unwrap();
    let there = first_line(&mut process).contains(window);
    process.kill().unwrap();
    process.wait().unwrap();
    there
}

#[tokio::test]
async fn a_kill_at_any_step_of_a_restore_leaves_nothing_or_a_whole_member() {
    for engine in ENGINES {
        let source = tempfile::tempdir().unwrap();
        let (saved, hash) = saved(source.path(), engine, 5).await;
        for window in ["restore.unpacked", "restore.image", "restore.logged", "restore.synced", "restore.renamed"] {
            let mut cluster = Cluster::new(&[1]);
            let dir = cluster.data_dir(1);
            assert!(killed_at(restore_command(&saved, &dir, engine), window), "{window} on {engine}");
            assert_eq!(dir.exists(), window == "restore.renamed", "{window} on {engine}");
            if !dir.exists() {
                cluster.restore(&saved, 1, engine);
                assert!(!cluster.dir.path().join(".n1.restoring").exists(), "what the kill had left is gone");
            }
            cluster.start(&[founder(1, engine)]);
            assert_eq!(cluster.all(1).await.count, 6);
            assert_eq!(cluster.hash(1).await.hash, hash, "{window} on {engine}");
        }
    }
}

#[tokio::test]
async fn a_kill_while_a_restored_member_founds_its_cluster_is_made_good_by_the_next_start() {
    for engine in ENGINES {
        let source = tempfile::tempdir().unwrap();
        let (saved, hash) = saved(source.path(), engine, 5).await;
        for window in ["raft.append", "raft.fsync", "raft.synced", "recovery.founded", "recovery.raft-started"] {
            let mut cluster = Cluster::new(&[1]);
            cluster.restore(&saved, 1, engine);
            let place = founder(1, engine);
            assert!(killed_at(cluster.command(&place), window), "{window} on {engine}: {}", cluster.stderr(1));
            cluster.start(&[place]);
            assert_eq!(cluster.hash(1).await.hash, hash, "{window} on {engine}");
            cluster.grow(2, engine).await;
        }
    }
}

/// A directory as earlier versions restored it: keys, and no position.
#[test]
fn keys_without_a_position_are_refused() {
    for engine in EngineKind::ALL {
        let cluster = Cluster::new(&[1]);
        let dir = DataDir::new(cluster.data_dir(1));
        std::fs::create_dir_all(dir.snap()).unwrap();
        marker::claim(&dir, engine).unwrap();
        let old = MemoryBackend::default();
        let mut batch = Batch::default();
        batch.put(node_base::backend::Bucket::Meta, b"compact_revision", 9i64.to_be_bytes());
        old.commit(batch, LogId::new(1, 1)).unwrap();
        engine.write_image(&dir.db(), &Positionless(old.read()), &mut |_| ()).unwrap();
        let refused = cluster.command(&founder(1, named(engine.name()))).output().unwrap();
        assert_eq!(refused.status.code(), Some(1));
        assert!(cluster.stderr(1).contains("Restore the snapshot again"), "{}", cluster.stderr(1));
    }
}

/// Everything but the consistent index.
struct Positionless<'a>(Box<dyn node_base::backend::ReadView + 'a>);

impl node_base::backend::ReadView for Positionless<'_> {
    fn get(&self, bucket: node_base::backend::Bucket, key: &[u8]) -> node_base::backend::Result<Option<Vec<u8>>> {
        if key == node_base::backend::CONSISTENT_INDEX { Ok(None) } else { self.0.get(bucket, key) }
    }

    fn scan(
        &self,
        bucket: node_base::backend::Bucket,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> std::ops::ControlFlow<()>,
    ) -> node_base::backend::Result<()> {
        self.0.scan(bucket, from, to, &mut |key, value| {
            if key == node_base::backend::CONSISTENT_INDEX {
                return std::ops::ControlFlow::Continue(());
            }
            visit(key, value)
        })
    }
}
