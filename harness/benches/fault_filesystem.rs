//! What the fault filesystem costs: the same work on the plain directory, on a mount that hands
//! everything on, and on one that keeps account of what no sync has made durable.
//!
//! The rows are an append of 4 KiB with fdatasync, a file of 64 MiB with fsync, a flush of RocksDB
//! (a memtable of 16 MiB), and puts of 256 bytes by 64 clients on three members of each kind. Each
//! round does a row on the three directories in turn, and the medians of the rounds are printed,
//! so that neighbours of this machine disturb all three alike.
//!
//! `make bench-files` (root and /dev/fuse); `ROUNDS=n` sets the rounds (default 5).

mod support;

use anyhow::{Context, ensure};
use futures_util::future::try_join_all;
use ninelives::cluster::Cluster;
use ninelives::faultfs::Mount;
use ninelives::paths::Paths;
use ninelives::process::Spawner;
use ninelives::subject::Target;
use ninelives_evidence::clock;
use ninelives_evidence::member::Engine;
use ninelives_evidence::power::Names;
use node_proto::control::FlushRequest;
use node_proto::control::control_client::ControlClient;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Tells the process that does a row's file operations from the one that measures.
const WORK: &str = "--work";
const APPENDS: u32 = 400;
const MIB: usize = 1024 * 1024;
const FILE_MIB: usize = 64;
const CLIENTS: usize = 64;
const LOAD: Duration = Duration::from_secs(4);
/// Larger than what the row puts into it: the flush that is measured is the first.
const MEMTABLE: u64 = 64 * MIB as u64;
const FLUSHED_MIB: usize = 16;

/// Where a row's files lie.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Plain,
    /// A mount that can hold operations and lose nothing.
    HandsOn,
    /// A mount that keeps account of what can be lost.
    CanLose,
}

const KINDS: [Kind; 3] = [Kind::Plain, Kind::HandsOn, Kind::CanLose];

/// A figure of a row, and what it is a figure of.
struct Row {
    name: &'static str,
    unit: &'static str,
    /// By kind, a figure for each round.
    figures: [Vec<f64>; 3],
}

fn main() -> anyhow::Result<()> {
    let args: Vec<OsString> = std::env::args_os().collect();
    if let [_, flag, work, dir] = args.as_slice()
        && flag == WORK
    {
        return file_work(&work.to_string_lossy(), Path::new(dir));
    }
    let rounds = support::number("ROUNDS", 5_u32)?;
    ensure!(rounds > 0, "ROUNDS: expected at least 1, found 0");
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(bench(rounds))
}

async fn bench(rounds: u32) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let gate = support::scenario("gate.toml")?;
    let etcd = support::server(&support::scenario("etcd.toml")?);
    if etcd.is_none() {
        println!("puts on etcd: skipped, etcd is not on PATH; `make setup` installs it");
    }
    let members = [
        ("puts, rocksdb", Some(support::node(&gate, gate.cluster.memtable_bytes)?), Engine::Rocksdb),
        ("puts, redb", Some(support::node(&gate, None)?), Engine::Redb),
        ("puts, etcd", etcd, Engine::Rocksdb),
    ];
    let mut rows = vec![row("append of 4 KiB, fdatasync", "a second"), row("64 MiB, fsync", "MiB a second")];
    rows.push(row("flush of 16 MiB, rocksdb", "ms"));
    rows.extend(members.iter().filter(|(_, target, _)| target.is_some()).map(|(name, ..)| row(name, "a second")));
    for round in 0..rounds {
        for (at, kind) in KINDS.into_iter().enumerate() {
            let scratch = |name: &str| dir.path().join(format!("{name}-{round}-{at}"));
            rows[0].figures[at].push(in_a_process("append", kind, &scratch("append"))?);
            rows[1].figures[at].push(in_a_process("file", kind, &scratch("file"))?);
            let roomy = support::node(&gate, Some(MEMTABLE))?;
            rows[2].figures[at].push(flush(&roomy, kind, &scratch("flush")).await?);
            let mut next = 3;
            for (name, target, engine) in &members {
                let Some(target) = target else { continue };
                let dir = scratch(&name.replace([',', ' '], "-"));
                rows[next].figures[at].push(puts(target, *engine, kind, &dir).await?);
                next += 1;
            }
        }
        println!("round {} of {rounds}", round + 1);
    }
    println!("\n{:<28}{:>12}{:>12}{:>12}", "median", "plain", "hands on", "can lose");
    for Row { name, unit, figures } in rows {
        let [plain, hands_on, can_lose] = figures.map(support::median);
        println!(
            "{name:<28}{plain:>12.0}{hands_on:>12.0}{can_lose:>12.0}  {unit:<14} {:.2}, {:.2} of plain",
            hands_on / plain,
            can_lose / plain
        );
    }
    Ok(())
}

fn row(name: &'static str, unit: &'static str) -> Row {
    Row { name, unit, figures: Default::default() }
}

impl Kind {
    fn over(self, dir: &Path) -> anyhow::Result<Option<Mount>> {
        match self {
            Kind::Plain => std::fs::create_dir_all(dir).map(|()| None).map_err(anyhow::Error::from),
            Kind::HandsOn => Mount::over(dir, None).map(Some),
            Kind::CanLose => Mount::over(dir, Some(Names::Inode)).map(Some),
        }
    }

    async fn cluster(self, target: &Target, engine: Engine, dir: &Path) -> anyhow::Result<Cluster> {
        let mut cluster = Cluster::prepare(Spawner::start()?, target.clone(), Paths::new(dir), &[engine; 3])?;
        let mounted = match self {
            Kind::Plain => Ok(()),
            Kind::HandsOn => cluster.mount(None, true),
            Kind::CanLose => cluster.mount(Some(Names::Inode), false),
        };
        let started = match mounted {
            Ok(()) => cluster.start_all(support::BOUND).await,
            unable => unable,
        };
        started.map_err(|trouble| anyhow::anyhow!("{}", trouble.finding(None)))?;
        Ok(cluster)
    }
}

/// The figure of a row of file operations, which a process of its own makes: no process may wait
/// for its own mount.
fn in_a_process(work: &str, kind: Kind, dir: &Path) -> anyhow::Result<f64> {
    let _mount = kind.over(dir)?;
    let done = Command::new(std::env::current_exe()?).args([WORK, work]).arg(dir).output()?;
    ensure!(done.status.success(), "{work}: {}", String::from_utf8_lossy(&done.stderr));
    let said = String::from_utf8_lossy(&done.stdout);
    said.trim().parse().with_context(|| format!("{work}: expected a number, found {said:?}"))
}

/// Does the operations of a row in `dir`, and prints its figure.
fn file_work(work: &str, dir: &Path) -> anyhow::Result<()> {
    let mut file = OpenOptions::new().create_new(true).write(true).open(dir.join("file"))?;
    let start = clock::now();
    let amount = match work {
        "append" => {
            for _ in 0..APPENDS {
                file.write_all(&[7; 4096])?;
                file.sync_data()?;
            }
            f64::from(APPENDS)
        }
        _ => {
            let piece = vec![7; MIB];
            for _ in 0..FILE_MIB {
                file.write_all(&piece)?;
            }
            file.sync_all()?;
            FILE_MIB as f64
        }
    };
    println!("{}", amount / start.elapsed().as_secs_f64());
    Ok(())
}

/// Milliseconds of a flush at one member, the mean of three.
async fn flush(target: &Target, kind: Kind, dir: &Path) -> anyhow::Result<f64> {
    let mut cluster = kind.cluster(target, Engine::Rocksdb, dir).await?;
    let clients = support::clients(&cluster, CLIENTS).await?;
    let each = FLUSHED_MIB * 16 / clients.len();
    try_join_all(clients.into_iter().enumerate().map(|(client, mut to)| async move {
        for step in 0..each {
            // Bytes that compress badly.
            let mut value = vec![0_u8; MIB / 16];
            for (at, byte) in value.iter_mut().enumerate() {
                *byte = (at.wrapping_mul(2_654_435_761 + client * 64 + step) >> 13) as u8;
            }
            to.put(format!("{client}/{step}"), value, None).await?;
        }
        Ok::<_, etcd_client::Error>(())
    }))
    .await?;
    let mut ms = 0.0;
    for member in &cluster.members {
        let mut control = ControlClient::connect(format!("http://{}", member.addresses.control)).await?;
        let start = clock::now();
        control.flush(FlushRequest {}).await?;
        ms += start.elapsed().as_secs_f64() * 1000.0 / cluster.members.len() as f64;
    }
    cluster.kill_all().await;
    Ok(ms)
}

/// Acknowledged puts per second.
async fn puts(target: &Target, engine: Engine, kind: Kind, dir: &Path) -> anyhow::Result<f64> {
    let mut cluster = kind.cluster(target, engine, dir).await?;
    let start = clock::now();
    let counts = try_join_all(support::clients(&cluster, CLIENTS).await?.into_iter().enumerate().map(
        |(client, mut to)| async move {
            let mut count = 0_u32;
            while start.elapsed() < LOAD {
                to.put(format!("{client}/{}", count % 64), [7; 256], None).await?;
                count += 1;
            }
            Ok::<_, etcd_client::Error>(count)
        },
    ))
    .await?;
    let seconds = start.elapsed().as_secs_f64();
    cluster.kill_all().await;
    Ok(f64::from(counts.into_iter().sum::<u32>()) / seconds)
}
