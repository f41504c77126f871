//! Launch: the report directory, the members, the watches and the load.

use super::Job;
use super::resume::Reopened;
use crate::cluster::{Cluster, Trouble};
use crate::crowd::Crowd;
use crate::exit::Failure;
use crate::hostile::Hostile;
use crate::observe::Observer;
use crate::paths::Paths;
use crate::plan::Plan;
use crate::process::Spawner;
use crate::scenario::Scenario;
use crate::seed::Seed;
use crate::workload::{Workload, WorkloadOptions};
use anyhow::Context;
use ninelives_evidence::history::History;
use ninelives_evidence::member::Slot;
use ninelives_evidence::verdict::findings::Lack;
use ninelives_evidence::{Evidence, HISTORY_VERSION, Head, JobRecord};
use ninelives_oracle::Ledger;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Writes the inputs of the run into its report directory, before anything acts on them.
///
/// # Errors
/// The directory cannot be made, or holds another run already.
pub(super) fn write_inputs(job: &Job) -> anyhow::Result<()> {
    let root = job.paths.root();
    fs::create_dir_all(root).with_context(|| format!("cannot create {}", root.display()))?;
    let write = |path: std::path::PathBuf, text: &str| {
        let mut options = fs::OpenOptions::new();
        // Never over another run's evidence.
        let opened = options.write(true).create_new(true).open(&path);
        let mut file =
            opened.with_context(|| format!("expected a fresh report directory, cannot create {}", path.display()))?;
        std::io::Write::write_all(&mut file, text.as_bytes())
            .with_context(|| format!("cannot write {}", path.display()))
    };
    write(job.paths.plan_txt(), &job.plan.to_string())?;
    write(job.paths.scenario_toml(), &job.scenario.text)
}

/// Reads back what [`write_inputs`] wrote into the report directory at `paths`. The scenario has
/// the name that it was run under, not that of the copy's file.
///
/// # Errors
/// One of them cannot be read as scenario or plan, or they are not of one run.
pub fn read_inputs(paths: &Paths) -> Result<(Scenario, Plan), Failure> {
    let scenario = Scenario::load(&paths.scenario_toml()).map_err(|refusal| Failure::Usage(refusal.to_string()))?;
    let path = paths.plan_txt();
    let text = fs::read_to_string(&path).map_err(|error| {
        Failure::Usage(format!("expected the plan of a report at {}, found: {error}", path.display()))
    })?;
    let plan: Plan = text.parse().map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))?;
    if plan.scenario_digest != scenario.digest() {
        return Err(Failure::Usage(format!(
            "expected a plan for the scenario beside it, whose digest is {}, found one for {}: {} and {} are not of one \
             run, or one of them was changed; restore it, or run the scenario anew",
            scenario.digest(),
            plan.scenario_digest,
            path.display(),
            paths.scenario_toml().display()
        )));
    }
    let scenario = Scenario { name: plan.scenario.clone(), ..scenario };
    Ok((scenario, plan))
}

/// Everything that is alive in one lane.
pub(super) struct Running {
    pub cluster: Cluster,
    pub ledger: Arc<Ledger>,
    pub observer: Observer,
    /// `None`: the scenario has none.
    pub crowd: Option<Crowd>,
    /// `None`: the scenario has none.
    pub hostile: Option<Hostile>,
    /// `None` once it was stopped.
    pub workload: Option<Workload>,
}

impl Running {
    pub async fn finish(self) {
        let Running { mut cluster, observer, workload, .. } = self;
        cluster.kill_all().await;
        drop(workload);
        observer.stop().await;
    }
}

/// The ledger of cluster `number`, from 1, and the history that it writes.
pub(super) fn ledger(job: &Job, number: u32) -> anyhow::Result<(Arc<Ledger>, Arc<History>)> {
    let path = job.paths.of_cluster(number).history_jsonl();
    let history = History::create(&path).context("cannot create the history")?;
    let slots: Vec<Slot> = (1..).map(Slot).take(job.scenario.cluster.engines.len()).collect();
    let ledger = Ledger::recorded(&slots, Arc::clone(&history));
    ledger.know(&job.scenario.known);
    ledger.record(&Evidence::History(Head {
        version: HISTORY_VERSION,
        cluster: number,
        slots,
        scenario_digest: job.scenario.digest(),
        plan_digest: job.plan.digest(),
        seed: job.plan.seed,
        job: Some(JobRecord {
            node: job.target.binary().to_owned(),
            inspector: job.target.inspector().map(Path::to_owned),
            sabotage: job.target.sabotage().map(str::to_owned),
            keep: job.keep,
            sweep: job.sweep,
            quotas: job.quotas.clone(),
            repro: job.repro.clone(),
        }),
    }));
    Ok((ledger, history))
}

/// Launches cluster `number` of the run, from 1.
pub(super) async fn launch(job: &Job, number: u32, spawner: Spawner, ledger: Arc<Ledger>) -> Result<Running, Trouble> {
    let paths = job.paths.of_cluster(number);
    let engines = &job.scenario.cluster.engines;
    let mut cluster = Cluster::prepare(spawner, job.target.clone(), paths, engines)?;
    cluster.site.nofile = job.scenario.cluster.nofile;
    cluster.site.full_logs.clone_from(&job.scenario.cluster.full_logs);
    for member in &cluster.members {
        let (slot, at) = (member.slot, member.addresses);
        let (peer, client, control) = (at.peer, at.client, at.control);
        ledger.record(&Evidence::Place { slot, member: member.id, engine: member.engine, peer, client, control });
    }
    if job.plan.disturbs_links() {
        cluster.interpose().await?;
    }
    cluster.mount(job.scenario.power.map(|power| power.names), job.plan.ails_disks())?;
    cluster.start_all(Duration::from_millis(job.scenario.bounds.restart_ms_max)).await?;
    run_beside(job, cluster, options_of(job, number, None), ledger).await
}

/// Prepares cluster `number` of a run whose harness was killed for a look: its members are dead.
pub(super) async fn relaunch(
    job: &Job,
    number: u32,
    spawner: Spawner,
    ledger: Arc<Ledger>,
    reopened: &Reopened,
) -> Result<Running, Trouble> {
    let mut cluster = reopened.cluster(job, number, spawner)?;
    cluster.site.nofile = job.scenario.cluster.nofile;
    cluster.site.full_logs.clone_from(&job.scenario.cluster.full_logs);
    if job.plan.disturbs_links() {
        cluster.interpose().await?;
    }
    cluster.mount(job.scenario.power.map(|power| power.names), job.plan.ails_disks())?;
    run_beside(job, cluster, options_of(job, number, Some(reopened)), ledger).await
}

/// Starts watches and load beside `cluster`, whose members may be dead or alive.
async fn run_beside(
    job: &Job,
    cluster: Cluster,
    options: WorkloadOptions,
    ledger: Arc<Ledger>,
) -> Result<Running, Trouble> {
    let endpoints = cluster.endpoints();
    let observer = Observer::start(&endpoints, &cluster.site.board, Arc::clone(&ledger)).await?;
    let members: Vec<_> = cluster.members.iter().map(|member| member.addresses.client).collect();
    let crowd = job.scenario.crowd.map(|spec| Crowd::start(spec, &members, &cluster.site.board)).transpose();
    let crowd = crowd.map_err(|error| Trouble::Unproven(Lack::NoCrowd { error: format!("{error:#}") }))?;
    let urls: Vec<String> = endpoints.into_iter().map(|(_, url)| url).collect();
    let seed = Seed::new(job.plan.seed);
    let hostile = job.scenario.hostile.map(|spec| {
        let members: Vec<_> = cluster.members.iter().map(|member| member.addresses).collect();
        let name = format!("{}/{}", options.cluster, options.resumed);
        Hostile::start(spec, &members, (&cluster.site.board, &ledger), (&seed, &name))
    });
    let workload = Workload::start(&options, (&urls, cluster.site.board.clone()), &seed, Arc::clone(&ledger)).await?;
    Ok(Running { cluster, ledger, observer, crowd, hostile, workload: Some(workload) })
}

/// The load of cluster `cluster`, from 1; a resumed run has a different load.
pub(super) fn options_of(job: &Job, cluster: u32, reopened: Option<&Reopened>) -> WorkloadOptions {
    let load = &job.scenario.load;
    WorkloadOptions {
        cluster,
        first_client: reopened.map_or(0, Reopened::first_client),
        resumed: reopened.map_or(0, |reopened| reopened.times),
        mix: load.mix,
        clients: load.clients,
        keys: load.keys,
        value_bytes_max: load.value_bytes_max,
        op_timeout: Duration::from_millis(load.op_timeout_ms),
        compact_every: load.compact_every_ops,
        compact_keep: u64::from(load.compact_keep_revisions),
        lease_holders: load.lease_holders,
        kept_leases: load.kept_leases,
        lease_ttl_seconds: load.lease_ttl_seconds,
        ..WorkloadOptions::default()
    }
}
