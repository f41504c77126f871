//! Cycles per minute beside the floor, where a cycle's time goes, and committed writes per second
//! at 64 clients; then the workload of `scenarios/etcd.toml` on the node and on etcd, side by side.
//!
//! Absolute times drift with the machine and its neighbours; the ratios are of one run. The *floor*
//! is what no verified cycle can go below: kill a member of an idle cluster, reap it, spawn it
//! again, open the engine, serve. The cycles are the gate's own, on one cluster and on `--clusters
//! auto`.
//!
//! `make bench`; `BENCH_CYCLES=n` sets the length (default 120).

mod support;

use anyhow::{Context, ensure};
use ninelives::cluster::Cluster;
use ninelives::observe::Observer;
use ninelives::paths::Paths;
use ninelives::plan::Plan;
use ninelives::process::Spawner;
use ninelives::report::split::Split;
use ninelives::run::{self as runner, Job};
use ninelives::scenario::Scenario;
use ninelives::seed::Seed;
use ninelives::subject::Target;
use ninelives::workload::{Workload, WorkloadOptions};
use ninelives::{cli, timer};
use ninelives_evidence::clock;
use ninelives_evidence::history::History;
use ninelives_evidence::record::RunSummary;
use ninelives_oracle::Ledger;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

const SEED: u64 = 1;
const FLOOR_ROUNDS: u32 = 40;
const CLIENTS: u32 = 64;
const LOAD: Duration = Duration::from_secs(8);

fn main() -> anyhow::Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(bench())
}

async fn bench() -> anyhow::Result<()> {
    let cycles = support::number("BENCH_CYCLES", 120)?;
    let dir = tempfile::tempdir()?;
    let gate = support::scenario("gate.toml")?;
    let node = support::node(&gate, gate.cluster.memtable_bytes)?;
    let all = cli::clusters("auto").map_err(anyhow::Error::msg)?;
    measure("gate", &gate, &node, &dir.path().join("gate"), (cycles, &[1, all])).await?;

    let etcd = support::scenario("etcd.toml")?;
    let on_node = Scenario { target: gate.target.clone(), cluster: gate.cluster.clone(), ..etcd.clone() };
    measure("etcd's workload on node-under-test", &on_node, &node, &dir.path().join("node"), (cycles, &[1])).await?;
    match support::server(&etcd) {
        Some(server) => {
            measure("etcd's workload on etcd", &etcd, &server, &dir.path().join("etcd"), (cycles, &[1])).await
        }
        None => {
            println!("\netcd's workload on etcd: skipped, etcd is not on PATH; `make setup` installs it");
            Ok(())
        }
    }
}

/// Floor, cycles on so many clusters, and writes of one scenario on one target.
async fn measure(
    name: &str,
    scenario: &Scenario,
    target: &Target,
    dir: &Path,
    (cycles, clusters): (u32, &[u32]),
) -> anyhow::Result<()> {
    println!("\n{name}");
    let floor = floor(scenario, target, &dir.join("floor")).await?;
    println!("  {:<48} {floor:7.1} ms   {:6.0} per minute", "floor: kill, reap, spawn, open, serve", 60_000.0 / floor);
    for count in clusters {
        let report = Paths::new(dir.join(format!("run-{count}")));
        let run = run(scenario, target, report, cycles, *count).await?;
        let split = Split::of(&run).context("no cycle was carried out")?;
        let each = 60_000.0 / split.cycles_per_minute;
        println!(
            "  {:<48} {each:7.1} ms   {:6.0} per minute   {:.1} times the floor",
            format!("cycles on {count} cluster{}", if *count == 1 { "" } else { "s" }),
            split.cycles_per_minute,
            each / floor
        );
        if *count == 1 {
            for (name, mean) in split.phases {
                println!("    {name:<46} {mean:7.1} ms");
            }
            let rate = run.writes_per_second().unwrap_or_default();
            println!("    {:<46} {rate:7.0} per second, while members die", "committed writes");
        }
    }
    let (writes, unknown) = writes(target, scenario, &dir.join("writes")).await?;
    println!(
        "  {:<48} {writes:7.0} per second   ({unknown} without an answer)",
        format!("committed writes at {CLIENTS} clients, no member dies")
    );
    Ok(())
}

async fn cluster(scenario: &Scenario, target: &Target, dir: &Path) -> anyhow::Result<Cluster> {
    let (spawner, engines) = (Spawner::start()?, &scenario.cluster.engines);
    let mut cluster = Cluster::prepare(spawner, target.clone(), Paths::new(dir), engines)?;
    cluster.start_all(support::BOUND).await.map_err(|trouble| anyhow::anyhow!("{}", trouble.finding(None)))?;
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
            member.wait_serving(support::BOUND).await
        };
        lived.await.map_err(|trouble| anyhow::anyhow!("{}", trouble.finding(None)))?;
        ms += start.elapsed().as_micros();
    }
    cluster.kill_all().await;
    Ok(ms as f64 / 1000.0 / f64::from(FLOOR_ROUNDS))
}

async fn run(
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
    let (run, _) = runner::run(&job, interrupt).await?;
    ensure!(run.cycles.len() as u32 == cycles, "the run ended early: {:?}", run.findings);
    Ok(run)
}

/// Acknowledged writes per second of a cluster without kills, and how many had no answer.
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
    timer::sleep(LOAD).await;
    load.stop().await?;
    let seconds = start.elapsed().as_secs_f64();
    let tally = ledger.tally();
    cluster.kill_all().await;
    observer.stop().await;
    ensure!(ledger.drain().is_empty(), "the load itself found something");
    Ok((tally.acked_writes as f64 / seconds, tally.unknown_writes))
}
