//! Cycles per minute beside the floor, where a cycle's time goes, and committed writes per second at 64 clients.
//!
//! Absolute times drift with the machine and its neighbours; the ratios are of one run. The *floor* is what no verified cycle can
//! go below: kill a member of an idle cluster, reap it, spawn it again, open the engine, serve. The cycles are the gate's own, on
//! one cluster and on `--clusters auto`.
//!
//! `make bench`; `BENCH_CYCLES=n` sets the length (default 120).

use anyhow::{Context, ensure};
use ninelives::cluster::Cluster;
use ninelives::history::History;
use ninelives::observe::Observer;
use ninelives::oracle::Ledger;
use ninelives::paths::Paths;
use ninelives::plan::Plan;
use ninelives::process::Spawner;
use ninelives::record::{CycleRecord, RunSummary};
use ninelives::run::{self, Job};
use ninelives::scenario::Scenario;
use ninelives::seed::Seed;
use ninelives::target::{Node, Target};
use ninelives::workload::{Workload, WorkloadOptions};
use ninelives::{cli, clock};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

const SEED: u64 = 1;
const FLOOR_ROUNDS: u32 = 40;
const CLIENTS: u32 = 64;
const LOAD: Duration = Duration::from_secs(8);
const BOUND: Duration = Duration::from_secs(30);

fn main() -> anyhow::Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(bench())
}

async fn bench() -> anyhow::Result<()> {
    let cycles = match std::env::var("BENCH_CYCLES") {
        Ok(text) => text.parse().with_context(|| format!("expected a number in BENCH_CYCLES, found {text:?}"))?,
        Err(_) => 120,
    };
    let dir = tempfile::tempdir()?;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/gate.toml");
    let scenario = Scenario::load(&path).map_err(|refusal| anyhow::anyhow!("{refusal}"))?;
    let target = target(&scenario)?;

    let floor = floor(&scenario, &target, &dir.path().join("floor")).await?;
    println!("floor: kill, reap, spawn, open, serve          {floor:7.1} ms   {:6.0} per minute", 60_000.0 / floor);
    for clusters in [1, cli::clusters("auto").map_err(anyhow::Error::msg)?] {
        let report = Paths::new(dir.path().join(format!("gate-{clusters}")));
        let run = gate(&scenario, &target, report, cycles, clusters).await?;
        let each = run.elapsed_ms as f64 / f64::from(cycles);
        println!(
            "gate, {clusters} cluster{}                              {each:7.1} ms   {:6.0} per minute   {:.1} times the floor",
            if clusters == 1 { " " } else { "s" },
            60_000.0 / each,
            each / floor
        );
        if clusters == 1 {
            split(&run);
        }
    }
    let (writes, unknown) = writes(&target, &scenario, &dir.path().join("writes")).await?;
    println!(
        "committed writes at {CLIENTS} clients, nobody dies      {:7.0} per second   ({unknown} without an answer)",
        writes
    );
    Ok(())
}

/// The node binary that the same build made.
fn target(scenario: &Scenario) -> anyhow::Result<Target> {
    let own = std::env::current_exe()?;
    let release = own.parent().and_then(Path::parent).context("this executable has no target directory")?;
    let node: PathBuf = release.join("node-under-test");
    ensure!(node.exists(), "expected {}, found none: `make build` first", node.display());
    Ok(Target::Node(Node {
        inspector: node.clone(),
        node,
        memtable_bytes: scenario.cluster.memtable_bytes,
        keep_entries: scenario.cluster.keep_entries,
        snapshot_every_entries: scenario.cluster.snapshot_every_entries,
        sabotage: None,
    }))
}

async fn cluster(scenario: &Scenario, target: &Target, dir: &Path) -> anyhow::Result<Cluster> {
    let (spawner, engines) = (Spawner::start()?, &scenario.cluster.engines);
    let mut cluster = Cluster::prepare(spawner, target.clone(), Paths::new(dir), engines)?;
    cluster.start_all(BOUND).await.map_err(|trouble| anyhow::anyhow!("{}", trouble.finding(None)))?;
    Ok(cluster)
}

/// Milliseconds of one floor cycle, the mean over all rounds; members take turns.
async fn floor(scenario: &Scenario, target: &Target, dir: &Path) -> anyhow::Result<f64> {
    let mut cluster = cluster(scenario, target, dir).await?;
    let count = cluster.members.len();
    let mut ms = 0;
    for round in 0..FLOOR_ROUNDS as usize {
        let Cluster { site, members, .. } = &mut cluster;
        let member = &mut members[round % count];
        let start = clock::now();
        let lived = async {
            if let Some(killed) = member.kill().await {
                killed?;
            }
            member.start(site, None).await?;
            member.wait_serving(BOUND).await
        };
        lived.await.map_err(|trouble| anyhow::anyhow!("{}", trouble.finding(None)))?;
        ms += start.elapsed().as_micros();
    }
    cluster.kill_all().await;
    Ok(ms as f64 / 1000.0 / f64::from(FLOOR_ROUNDS))
}

async fn gate(
    scenario: &Scenario,
    target: &Target,
    paths: Paths,
    cycles: u32,
    clusters: u32,
) -> anyhow::Result<RunSummary> {
    let plan = Plan::generate(scenario, &Seed::new(SEED), cycles, clusters);
    let job = Job {
        scenario: scenario.clone(),
        plan,
        target: target.clone(),
        paths,
        keep: false,
        sweep: false,
        quotas: Vec::new(),
        repro: String::new(),
        quiet: true,
        resume: false,
    };
    let (_open, interrupt) = watch::channel(false);
    let (run, _) = run::run(&job, interrupt).await?;
    ensure!(run.cycles.len() as u32 == cycles, "the run ended early: {:?}", run.findings);
    Ok(run)
}

/// Where the time of a cycle goes, in the mean.
fn split(run: &RunSummary) {
    type Phase = (&'static str, fn(&CycleRecord) -> u64);
    const PHASES: &[Phase] = &[
        ("reach the place, and kill", |cycle| cycle.phases.kill),
        ("copy and inspect the dead", |cycle| cycle.phases.inspect),
        ("restart until all serve", |cycle| cycle.phases.restart),
        ("catch up", |cycle| cycle.phases.catch_up),
        ("fence", |cycle| cycle.phases.fence),
        ("verify", |cycle| cycle.phases.verify),
    ];
    for (name, of) in PHASES {
        let mean = run.cycles.iter().map(of).sum::<u64>() as f64 / run.cycles.len().max(1) as f64;
        println!("  {name:<42}   {mean:7.1} ms");
    }
}

/// Acknowledged writes per second of a cluster in which nobody dies, and how many had no answer.
async fn writes(target: &Target, scenario: &Scenario, dir: &Path) -> anyhow::Result<(f64, u64)> {
    let mut cluster = cluster(scenario, target, dir).await?;
    let history = History::create(&Paths::new(dir).history_jsonl())?;
    let ledger = Ledger::recorded(&cluster.members.iter().map(|member| member.slot).collect::<Vec<_>>(), history);
    let observer = Observer::start(&cluster.endpoints(), &cluster.site.board, Arc::clone(&ledger)).await?;
    let urls: Vec<String> = cluster.endpoints().into_iter().map(|(_, url)| url).collect();
    let options = WorkloadOptions {
        clients: CLIENTS,
        keys: scenario.load.keys,
        value_bytes_max: scenario.load.value_bytes_max,
        ..WorkloadOptions::default()
    };
    let load =
        Workload::start(&options, (&urls, cluster.site.board.clone()), &Seed::new(SEED), Arc::clone(&ledger)).await?;
    let start = clock::now();
    clock::sleep(LOAD).await;
    load.stop().await?;
    let seconds = start.elapsed().as_secs_f64();
    let tally = ledger.tally();
    cluster.kill_all().await;
    observer.stop().await;
    ensure!(ledger.take_findings().is_empty(), "the load itself found something");
    Ok((tally.acked_writes as f64 / seconds, tally.unknown_writes))
}
