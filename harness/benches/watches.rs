//! What watches cost: puts per second of 64 clients on three members, without watches, beside 1,000
//! streams that each watch a key which does not change, and beside 1,000 that each watch one of the
//! keys that do; the node on each engine and etcd, in turns.
//!
//! `make bench-watches`; `STREAMS=n` (default 1000) and `ROUNDS=n` (default 3) set the sizes. The
//! medians of the rounds are printed, and the ratio to the same cluster without watches.

mod support;

use anyhow::ensure;
use futures_util::future::try_join_all;
use ninelives::cluster::Cluster;
use ninelives::paths::Paths;
use ninelives::process::Spawner;
use ninelives::subject::Target;
use ninelives_evidence::clock;
use ninelives_evidence::member::Engine;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;

const CLIENTS: usize = 64;
/// Streams of watches on one connection.
const STREAMS_EACH: usize = 50;
const LOAD: Duration = Duration::from_secs(4);
/// So large that it is never flushed: this is about watches.
const MEMTABLE: u64 = 64 << 20;

/// The keys that the watches are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Watched {
    Nothing,
    Others,
    Written,
}

const KINDS: [Watched; 3] = [Watched::Nothing, Watched::Others, Watched::Written];

fn main() -> anyhow::Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(bench())
}

async fn bench() -> anyhow::Result<()> {
    let (streams, rounds) = (support::number("STREAMS", 1000_usize)?, support::number("ROUNDS", 3_u32)?);
    ensure!(rounds > 0, "ROUNDS: expected at least 1, found 0");
    let dir = tempfile::tempdir()?;
    let gate = support::scenario("gate.toml")?;
    let mut targets = vec![
        ("rocksdb", support::node(&gate, Some(MEMTABLE))?, Engine::Rocksdb),
        ("redb", support::node(&gate, None)?, Engine::Redb),
    ];
    match support::server(&support::scenario("etcd.toml")?) {
        Some(etcd) => targets.push(("etcd", etcd, Engine::Rocksdb)),
        None => println!("etcd: skipped, it is not on PATH; `make setup` installs it"),
    }
    let mut figures = vec![[const { Vec::new() }; 3]; targets.len()];
    let mut events = vec![Vec::new(); targets.len()];
    for round in 0..rounds {
        for (place, kind) in KINDS.into_iter().enumerate() {
            for (at, (name, target, engine)) in targets.iter().enumerate() {
                let dir = dir.path().join(format!("{name}-{place}-{round}"));
                let (puts, heard) = measure(target, *engine, (kind, streams), &dir).await?;
                figures[at][place].push(puts);
                if kind == Watched::Written {
                    events[at].push(heard);
                }
            }
        }
    }
    println!("{:<10}{:>12}{:>24}{:>24}{:>14}", "puts/s", "no watches", "of other keys", "of written keys", "events/s");
    for (((name, ..), figures), events) in targets.iter().zip(figures).zip(events) {
        let [nothing, others, written] = figures.map(support::median);
        println!(
            "{name:<10}{nothing:>12.0}{:>24}{:>24}{:>14.0}",
            format!("{others:.0} ({:.2})", others / nothing),
            format!("{written:.0} ({:.2})", written / nothing),
            support::median(events)
        );
    }
    Ok(())
}

/// Acknowledged puts per second, and events that the watches heard per second.
async fn measure(
    target: &Target,
    engine: Engine,
    (watched, streams): (Watched, usize),
    dir: &Path,
) -> anyhow::Result<(f64, f64)> {
    let mut cluster = Cluster::prepare(Spawner::start()?, target.clone(), Paths::new(dir), &[engine; 3])?;
    cluster.start_all(support::BOUND).await.map_err(|trouble| anyhow::anyhow!("{}", trouble.finding(None)))?;
    let heard = Arc::new(AtomicU64::new(0));
    let mut hearing = JoinSet::new();
    if watched != Watched::Nothing {
        for (at, mut client) in
            support::clients(&cluster, streams.div_ceil(STREAMS_EACH)).await?.into_iter().enumerate()
        {
            for stream in at * STREAMS_EACH..streams.min((at + 1) * STREAMS_EACH) {
                let key = match watched {
                    Watched::Written => key(stream % CLIENTS, stream / CLIENTS),
                    _ => format!("other/{stream}"),
                };
                let mut watch = client.watch(key, None).await?;
                let heard = Arc::clone(&heard);
                hearing.spawn(async move {
                    while let Ok(Some(response)) = watch.message().await {
                        heard.fetch_add(response.events().len() as u64, Ordering::Relaxed);
                    }
                });
            }
        }
    }
    let keys = streams.div_ceil(CLIENTS);
    let start = clock::now();
    let loads = support::clients(&cluster, CLIENTS).await?.into_iter().enumerate().map(|(client, mut to)| async move {
        let mut count = 0_u32;
        while start.elapsed() < LOAD {
            to.put(key(client, count as usize % keys), [7; 256], None).await?;
            count += 1;
        }
        Ok::<_, etcd_client::Error>(count)
    });
    let counts = try_join_all(loads).await?;
    let seconds = start.elapsed().as_secs_f64();
    let heard = heard.load(Ordering::Relaxed) as f64 / seconds;
    hearing.shutdown().await;
    cluster.kill_all().await;
    Ok((f64::from(counts.into_iter().sum::<u32>()) / seconds, heard))
}

fn key(client: usize, number: usize) -> String {
    format!("{client}/{number}")
}
