//! What the benchmarks share: the subjects that they measure side by side, their clients, and
//! numbers from the environment.

#![allow(dead_code, reason = "each benchmark uses a part of it")]

use anyhow::{Context, ensure};
use etcd_client::Client;
use futures_util::future::try_join_all;
use ninelives::cluster::Cluster;
use ninelives::scenario::{Scenario, TargetSpec};
use ninelives::subject::{Node, Server, Target};
use ninelives::{cli, contact, timer};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

/// After this long, members that do not serve and clients that do not connect end a benchmark.
pub const BOUND: Duration = Duration::from_secs(30);

/// The number in the environment variable `name`.
pub fn number<N: FromStr>(name: &str, default: N) -> anyhow::Result<N> {
    match std::env::var(name) {
        Ok(text) => text.parse().ok().with_context(|| format!("expected a number in {name}, found {text:?}")),
        Err(_) => Ok(default),
    }
}

pub fn scenario(name: &str) -> anyhow::Result<Scenario> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios").join(name);
    Scenario::load(&path).map_err(|refusal| anyhow::anyhow!("{refusal}"))
}

/// The server that the scenario names, if it is here.
pub fn server(scenario: &Scenario) -> Option<Target> {
    let TargetSpec::Server(spec) = &scenario.target else { return None };
    let binary = cli::subject::on_path(&spec.program)?;
    Some(Target::Server(Server::new(binary, spec.clone())))
}

/// The node binary that the same build made; `memtable_bytes` is RocksDB's alone.
pub fn node(scenario: &Scenario, memtable_bytes: Option<u64>) -> anyhow::Result<Target> {
    let own = std::env::current_exe()?;
    let release = own.parent().and_then(Path::parent).context("this executable has no target directory")?;
    let node: PathBuf = release.join("node-under-test");
    ensure!(node.exists(), "expected {}, found none: `make build` first", node.display());
    Ok(Target::Node(Node {
        inspector: node.clone(),
        node,
        memtable_bytes,
        keep_entries: scenario.cluster.keep_entries,
        snapshot_every_entries: scenario.cluster.snapshot_every_entries,
        sabotage: None,
    }))
}

/// Clients with a connection each, spread over the members.
pub async fn clients(cluster: &Cluster, count: usize) -> anyhow::Result<Vec<Client>> {
    let endpoints = cluster.endpoints();
    let clients = (0..count).map(|client| contact::connect(&endpoints[client % endpoints.len()].1));
    let clients = timer::within(BOUND, try_join_all(clients)).await;
    Ok(clients.context("the clients did not connect")??)
}

pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or_default()
}
