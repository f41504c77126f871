//! Benchmark: does one slow operation stop the rest? Three members with many keys, a load of puts,
//! and beside it one long operation after the other: counts, full ranges, a compaction, a delete of
//! everything, defragmentations.
//!
//! `make bench-slow` prints for each operation how long it took, the puts beside it (p50, p99, the
//! longest, and how many failed), and by how many terms raft moved on: more than 0 means that a
//! member missed heartbeats. `KEYS` (default 1000000), `CLIENTS` (default 8) and `ENGINES` (default
//! "redb rocksdb") set the sizes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a benchmark ends where it fails, and measures time"
)]

use node_proto::control::StatusRequest;
use node_proto::control::control_client::ControlClient;
use node_proto::etcdserverpb::kv_client::KvClient;
use node_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use node_proto::etcdserverpb::request_op::Request;
use node_proto::etcdserverpb::{
    CompactionRequest, DefragmentRequest, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};
use std::future::Future;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tonic::transport::Channel;

const VALUE_BYTES: usize = 100;
/// Puts in one transaction of the fill: etcd's own limit.
const OPS: u64 = 128;
const FILLERS: u64 = 8;
const QUIET: Duration = Duration::from_secs(5);

fn main() {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(measure());
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}: expected a number")))
}

async fn measure() {
    let engines = std::env::var("ENGINES").unwrap_or_else(|_| "redb rocksdb".to_owned());
    for engine in engines.split_whitespace() {
        let tmp = tempfile::tempdir().unwrap();
        let cluster = Cluster::start(engine, tmp.path());
        cluster.measure(number("KEYS", 1_000_000), number("CLIENTS", 8)).await;
    }
}

struct Member {
    process: Child,
    client: SocketAddr,
    control: SocketAddr,
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

struct Cluster {
    engine: String,
    members: Vec<Member>,
}

/// Latencies and failures of the puts beside an operation.
#[derive(Default)]
struct Puts {
    micros: Vec<u64>,
    failed: u64,
}

impl Cluster {
    fn start(engine: &str, dir: &Path) -> Self {
        let free = || TcpListener::bind("127.0.0.1:0").unwrap();
        let held: Vec<_> = (0..3).map(|_| [free(), free(), free()]).collect();
        let addresses: Vec<_> = held.iter().map(|of| of.each_ref().map(|one| one.local_addr().unwrap())).collect();
        drop(held);
        let founders: Vec<_> = (1..)
            .zip(&addresses)
            .map(|(id, [peer, client, _])| format!("--member={id}=n{id}@{peer}/{client}"))
            .collect();
        let start = |(id, [_, client, control]): (u32, &[SocketAddr; 3])| {
            let process = Command::new(env!("CARGO_BIN_EXE_node-under-test"))
                .args(["serve", "--id", &id.to_string(), "--backend", engine])
                .arg("--data-dir")
                .arg(dir.join(format!("n{id}")))
                .arg(format!("--control={control}"))
                .args(&founders)
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .expect("the member's binary starts");
            Member { process, client: *client, control: *control }
        };
        let mut members: Vec<_> = (1..).zip(&addresses).map(start).collect();
        for member in &mut members {
            let mut line = String::new();
            let out = member.process.stdout.take().unwrap();
            BufReader::new(out).read_line(&mut line).unwrap();
            assert_eq!(line, "{\"event\":\"serving\"}\n");
        }
        Self { engine: engine.to_owned(), members }
    }

    async fn kv(&self, member: usize) -> KvClient<Channel> {
        let address = format!("http://{}", self.members[member].client);
        KvClient::connect(address).await.unwrap().max_decoding_message_size(usize::MAX)
    }

    /// The highest term, and the place of the leader that it names.
    async fn term_and_leader(&self) -> (u64, usize) {
        loop {
            let mut newest = (0, 0);
            for member in &self.members {
                let mut control = ControlClient::connect(format!("http://{}", member.control)).await.unwrap();
                let status = control.status(StatusRequest {}).await.unwrap().into_inner();
                newest = newest.max((status.term, status.leader_id));
            }
            if newest.1 > 0 {
                return (newest.0, newest.1 as usize - 1);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn measure(&self, keys: u64, clients: u64) {
        let (_, leader) = self.term_and_leader().await;
        println!("\n{}: {keys} keys of {VALUE_BYTES} bytes, {clients} clients put", self.engine);
        let begun = Instant::now();
        self.fill(leader, keys).await;
        println!("  filled in {:.1} s", begun.elapsed().as_secs_f64());
        println!(
            "  {:<34} {:>9} {:>8} {:>9} {:>9} {:>9} {:>7} {:>6}",
            "", "took", "puts", "p50 ms", "p99 ms", "max ms", "failed", "terms"
        );
        let mut kv = self.kv(leader).await;
        let everything = || RangeRequest { key: "k/".into(), range_end: "k0".into(), ..RangeRequest::default() };
        self.beside("nothing", clients, async {
            tokio::time::sleep(QUIET).await;
            Ok(String::new())
        })
        .await;
        self.beside("five counts", clients, async {
            let mut count = 0;
            for _ in 0..5 {
                count = kv.range(RangeRequest { count_only: true, ..everything() }).await?.into_inner().count;
            }
            Ok(format!("{count} keys"))
        })
        .await;
        let mut kv = self.kv(leader).await;
        self.beside("a full range", clients, async {
            let range = kv.range(everything()).await?.into_inner();
            Ok(format!("{} keys", range.kvs.len()))
        })
        .await;
        self.fill(leader, keys).await;
        let mut kv = self.kv(leader).await;
        let revision = async |kv: &mut KvClient<Channel>| {
            let one = RangeRequest { key: "k/".into(), ..RangeRequest::default() };
            // An operation that was given up may still hold up what comes after it.
            loop {
                if let Ok(range) = kv.range(one.clone()).await {
                    return range.into_inner().header.unwrap().revision;
                }
            }
        };
        let at = revision(&mut kv).await;
        self.beside("a compaction of a version each", clients, async {
            kv.compact(CompactionRequest { revision: at, physical: true }).await?;
            Ok(String::new())
        })
        .await;
        let mut kv = self.kv(leader).await;
        self.beside("a delete of everything", clients, async {
            let request =
                DeleteRangeRequest { key: "k/".into(), range_end: "k0".into(), ..DeleteRangeRequest::default() };
            Ok(format!("{} keys", kv.delete_range(request).await?.into_inner().deleted))
        })
        .await;
        let mut kv = self.kv(leader).await;
        let at = revision(&mut kv).await;
        self.beside("a compaction of everything", clients, async {
            kv.compact(CompactionRequest { revision: at, physical: true }).await?;
            Ok(String::new())
        })
        .await;
        self.fill(leader, keys).await;
        for (place, member) in self.members.iter().enumerate() {
            let mut maintenance = MaintenanceClient::connect(format!("http://{}", member.client)).await.unwrap();
            let name = format!("a defragmentation of {}", if place == leader { "the leader" } else { "a follower" });
            self.beside(&name, clients, async {
                maintenance.defragment(DefragmentRequest {}).await?;
                Ok(String::new())
            })
            .await;
        }
    }

    async fn fill(&self, leader: usize, keys: u64) {
        let mut fillers = tokio::task::JoinSet::new();
        for filler in 0..FILLERS {
            let mut kv = self.kv(leader).await;
            fillers.spawn(async move {
                let mut first = filler * OPS;
                while first < keys {
                    let put = |key: u64| {
                        let key = format!("k/{key:09}").into();
                        let put = PutRequest { key, value: vec![b'v'; VALUE_BYTES].into(), ..PutRequest::default() };
                        RequestOp { request: Some(Request::RequestPut(put)) }
                    };
                    let success: Vec<_> = (first..keys.min(first + OPS)).map(put).collect();
                    // Putting twice does no harm.
                    while kv.txn(TxnRequest { success: success.clone(), ..TxnRequest::default() }).await.is_err() {}
                    first += FILLERS * OPS;
                }
            });
        }
        while let Some(done) = fillers.join_next().await {
            done.unwrap();
        }
    }

    /// Runs `work` while clients put, and prints what they met meanwhile.
    async fn beside(&self, name: &str, clients: u64, work: impl Future<Output = Result<String, tonic::Status>>) {
        let (before, leader) = self.term_and_leader().await;
        let puts = Arc::new(Mutex::new(Puts::default()));
        let mut running = tokio::task::JoinSet::new();
        for client in 0..clients {
            let (mut kv, puts) = (self.kv(leader).await, puts.clone());
            running.spawn(async move {
                loop {
                    let key = format!("load/{client}").into();
                    let put = PutRequest { key, value: vec![b'v'; VALUE_BYTES].into(), ..PutRequest::default() };
                    let begun = Instant::now();
                    let answer = kv.put(put).await;
                    let mut puts = puts.lock().unwrap();
                    match answer {
                        Ok(_) => puts.micros.push(begun.elapsed().as_micros() as u64),
                        Err(_) => puts.failed += 1,
                    }
                }
            });
        }
        // The load runs when the first client has its first answer.
        while puts.lock().unwrap().micros.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        *puts.lock().unwrap() = Puts::default();
        let begun = Instant::now();
        let outcome = work.await;
        let took = begun.elapsed();
        // What was under way when the operation ended belongs to it: each client's next answer is
        // waited for.
        let answered = |puts: &Mutex<Puts>| {
            let puts = puts.lock().unwrap();
            puts.micros.len() as u64 + puts.failed
        };
        let all = answered(&puts) + clients;
        while answered(&puts) < all {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        running.shutdown().await;
        let (after, _) = self.term_and_leader().await;
        let mut puts = puts.lock().unwrap();
        puts.micros.sort_unstable();
        let at = |share: f64| {
            let place = ((puts.micros.len() as f64 * share).ceil() as usize).saturating_sub(1);
            puts.micros.get(place).map_or(f64::NAN, |micros| *micros as f64 / 1_000.0)
        };
        println!(
            "  {name:<34} {:>7.2} s {:>8} {:>9.1} {:>9.1} {:>9.1} {:>7} {:>6}   {}",
            took.as_secs_f64(),
            puts.micros.len(),
            at(0.5),
            at(0.99),
            at(1.0),
            puts.failed,
            after - before,
            outcome.unwrap_or_else(|status| format!("failed: {status}"))
        );
    }
}
