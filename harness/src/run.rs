//! A run from beginning to end: launch → drive → fault → heal → verify → report.
//!
//! Loading and planning come before ([`crate::cli`]): a [`Job`] is a scenario and a plan that can be run. A run ends with its
//! plan, with the first cycle that found something, or with a signal; in each case the nodes are killed and the
//! report is written.

mod launch;
mod worth;

pub use crate::record::RunSummary;

use crate::cluster::Cluster;
use crate::cycle::{CycleRecord, Stage, Work};
use crate::exit::Exit;
use crate::history::History;
use crate::inspect::remove_dir;
use crate::last_read;
use crate::observe::Observer;
use crate::oracle::{self, Ledger};
use crate::paths::Paths;
use crate::plan::Plan;
use crate::process::Spawner;
use crate::progress::Progress;
use crate::record::{SCHEMA_VERSION, SlotRecord};
use crate::scenario::Scenario;
use crate::seed::Seed;
use crate::target::{Engine, Slot, Target};
use crate::verdict::{Class, Finding, Verdict};
use crate::workload::Workload;
use crate::{clock, provenance, report};
use anyhow::Context;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Everything that a run needs to know.
#[derive(Debug, Clone)]
pub struct Job {
    pub scenario: Scenario,
    pub plan: Plan,
    pub target: Target,
    pub paths: Paths,
    /// Keep the data directories after a pass as well.
    pub keep: bool,
    /// The command that repeats this run.
    pub repro: String,
}

/// What the cycles came to.
#[derive(Default)]
struct Outcome {
    cycles: Vec<CycleRecord>,
    findings: Vec<Finding>,
    skipped_checks: Vec<String>,
    interrupted: bool,
}

/// Everything that is alive during a run.
struct Running {
    cluster: Cluster,
    ledger: Arc<Ledger>,
    history: Arc<History>,
    observer: Observer,
    /// `None` once it was stopped.
    workload: Option<Workload>,
}

/// Runs `job` and writes its report. `interrupt` turns true when the run is to end early.
///
/// # Errors
/// The harness could not do its part before there was anything to report, or could not write the report.
pub async fn run(job: &Job, interrupt: watch::Receiver<bool>) -> anyhow::Result<(RunSummary, Exit)> {
    let (started, started_utc) = (clock::now(), clock::utc_now());
    let spawner = Spawner::start().context("cannot start the spawning thread")?;
    launch::write_inputs(job)?;
    let mut summary = describe(job, &spawner, started_utc).await?;
    let launched = unless(&interrupt, launch::launch(job, spawner)).await;
    let outcome = match launched {
        None => Outcome { interrupted: true, ..Outcome::default() },
        Some(Ok(mut running)) => {
            let outcome = drive(job, &mut running, interrupt, started).await;
            count(&mut summary, &running);
            finish(running).await;
            outcome
        }
        Some(Err(trouble)) => Outcome { findings: vec![trouble.finding(None)], ..Outcome::default() },
    };
    conclude(job, &mut summary, outcome);
    summary.elapsed_ms = clock::ms_since(started);
    report::write(&job.paths, &summary)?;
    tidy(job, &summary)?;
    let exit = exit_of(&summary);
    Ok((summary, exit))
}

/// An interruption says how the run ended; that the system broke a promise before it is the greater news.
fn exit_of(summary: &RunSummary) -> Exit {
    match summary.verdict {
        Verdict::Violation => Exit::Violation,
        _ if summary.interrupted => Exit::Interrupted,
        verdict => verdict.into(),
    }
}

/// All cycles, then the last look. Ends early at the first finding, and when it is interrupted.
async fn drive(job: &Job, running: &mut Running, interrupt: watch::Receiver<bool>, started: Instant) -> Outcome {
    let mut outcome = Outcome::default();
    let mut progress = Progress::new(job.plan.steps.len() as u32);
    let Running { cluster, ledger, history, observer, workload } = running;
    let mut stage = Stage::new(&job.scenario, cluster, Arc::clone(ledger), observer, Arc::clone(history));
    for step in &job.plan.steps {
        let mut work = Work::new(step);
        if unless(&interrupt, stage.run(&mut work)).await.is_none() {
            outcome.interrupted = true;
            // What the cycle had found by then counts, though the cycle does not.
            outcome.findings.extend(stage.findings_of(&mut work));
            break;
        }
        let end = stage.close(work);
        progress.cycle(&end.record, Duration::from_millis(clock::ms_since(started)));
        outcome.cycles.push(end.record);
        outcome.findings.extend(end.findings);
        if !outcome.findings.is_empty() {
            break;
        }
    }
    if outcome.interrupted || !outcome.findings.is_empty() {
        outcome.skipped_checks.push("last look: the run ended before its last cycle".to_owned());
        return outcome;
    }
    // Writes go on through every cycle; only the last look is at a store that nobody writes to.
    let mut work = Work::without_fault();
    let look = async {
        let stopped = match workload.take() {
            Some(workload) => workload.stop().await,
            None => Ok(()),
        };
        stage.final_look(&mut work).await;
        stopped
    };
    let looked = unless(&interrupt, look).await;
    outcome.findings.extend(stage.findings_of(&mut work));
    let read = match looked {
        Some(stopped) => {
            let broken = stopped.err().map(|error| Finding::new(Class::HarnessError, format!("{error:#}")));
            outcome.findings.extend(broken);
            unless(&interrupt, last_read::read_and_check(cluster, ledger, &mut outcome.findings)).await
        }
        None => None,
    };
    if read.is_none() {
        outcome.interrupted = true;
        outcome.skipped_checks.push("last look: it was interrupted".to_owned());
    }
    outcome.findings.extend(ledger.take_findings());
    outcome.findings.extend(history.failure().map(|why| Finding::new(Class::HarnessError, why)));
    outcome
}

/// `future`'s output, or `None` if the run is to end early; the future is dropped then.
async fn unless<T>(interrupt: &watch::Receiver<bool>, future: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        () = interrupted(interrupt.clone()) => None,
        output = future => Some(output),
    }
}

/// Becomes ready when the run is to end early; never, if nobody can ask for that any more.
async fn interrupted(mut interrupt: watch::Receiver<bool>) {
    if interrupt.wait_for(|interrupted| *interrupted).await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn finish(running: Running) {
    let Running { mut cluster, observer, workload, .. } = running;
    cluster.kill_all().await;
    drop(workload);
    observer.stop().await;
}

fn count(summary: &mut RunSummary, running: &Running) {
    for (slot, member) in summary.slots.iter_mut().zip(&running.cluster.members) {
        (slot.member_at_end, slot.engine_at_end) = (member.id, member.engine);
    }
    let tally = running.ledger.tally();
    summary.acked_writes = tally.acked_writes;
    summary.unknown_writes = tally.unknown_writes;
    summary.reads = tally.reads;
    if tally.reads_unchecked > 0 {
        let why =
            format!("{} of {} reads: compacted before the history reached them", tally.reads_unchecked, tally.reads);
        summary.skipped_checks.push(why);
    }
}

/// Who founds the cluster: ids are the numbers of the slots.
fn slots(job: &Job) -> Vec<SlotRecord> {
    let founder = |(slot, engine): (u64, &Engine)| SlotRecord {
        slot: Slot(slot),
        member_at_start: slot,
        engine_at_start: *engine,
        member_at_end: slot,
        engine_at_end: *engine,
    };
    (1..).zip(&job.scenario.cluster.engines).map(founder).collect()
}

/// Fills in what can be said before anything runs.
async fn describe(job: &Job, spawner: &Spawner, started_utc: String) -> anyhow::Result<RunSummary> {
    let own = std::env::current_exe().context("cannot find this executable")?;
    Ok(RunSummary {
        schema_version: SCHEMA_VERSION,
        verdict: Verdict::Inconclusive,
        findings: Vec::new(),
        scenario: job.scenario.name.clone(),
        scenario_path: job.scenario.path.display().to_string(),
        scenario_digest: job.scenario.digest(),
        plan_digest: job.plan.digest(),
        seed: job.plan.seed,
        cycles_planned: job.plan.steps.len() as u32,
        cycles: Vec::new(),
        members: job.scenario.cluster.members,
        backend: job.scenario.cluster.backend(),
        slots: slots(job),
        sabotage: job.target.sabotage.clone(),
        // What was covered is known at the end.
        fault_classes: Vec::new(),
        acked_writes: 0,
        unknown_writes: 0,
        reads: 0,
        skipped_checks: Vec::new(),
        interrupted: false,
        started_utc,
        elapsed_ms: 0,
        harness: provenance::binary(spawner, &own).await?,
        node: provenance::binary(spawner, &job.target.node).await?,
        inspector: provenance::binary(spawner, &job.target.inspector).await?,
        kernel: provenance::kernel(),
        filesystem: provenance::filesystem(job.paths.root()),
        git_revision: provenance::git_revision(spawner).await,
        repro: job.repro.clone(),
    })
}

/// Turns the outcome into findings, their order and the verdict.
fn conclude(job: &Job, summary: &mut RunSummary, outcome: Outcome) {
    summary.cycles = outcome.cycles;
    summary.fault_classes = worth::fault_classes(&summary.cycles);
    summary.findings = oracle::condense(outcome.findings);
    summary.interrupted = outcome.interrupted;
    summary.skipped_checks.extend(outcome.skipped_checks);
    if summary.interrupted && summary.findings.is_empty() {
        let (done, planned) = (summary.cycles.len(), summary.cycles_planned);
        let why = format!("interrupted after {done} of {planned} cycles: what it did not reach is not proven");
        summary.findings.push(Finding::new(Class::NotProven, why));
    }
    // A run that a finding ended early proves that finding; what it would have been worth is no question any more.
    if summary.findings.is_empty() {
        summary.findings = worth::lacking(&job.scenario.floors, summary);
        summary.skipped_checks.extend(worth::not_applicable(summary));
    }
    summary.verdict = Verdict::of(&summary.findings);
}

/// Removes what only a failure needs.
fn tidy(job: &Job, summary: &RunSummary) -> anyhow::Result<()> {
    if summary.verdict != Verdict::Pass {
        return Ok(());
    }
    for slot in &summary.slots {
        if !job.keep {
            remove_dir(&job.paths.node_data(slot.member_at_end))?;
        }
        remove_dir(&job.paths.dead_copy(slot.member_at_end))?;
    }
    Ok(())
}

/// The seed of the workload: the plan's, so that a replay draws the same operations.
fn workload_seed(plan: &Plan) -> Seed {
    Seed::new(plan.seed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn a_violation_outranks_the_interruption_that_followed_it() {
        let mut run = sample::failing();
        run.interrupted = true;
        assert_eq!(exit_of(&run), Exit::Violation);
        run.verdict = Verdict::Inconclusive;
        assert_eq!(exit_of(&run), Exit::Interrupted);
        run.interrupted = false;
        assert_eq!(exit_of(&run), Exit::Inconclusive);
    }

    #[tokio::test]
    async fn an_interruption_drops_what_is_under_way() {
        let (publish, interrupt) = watch::channel(false);
        assert_eq!(unless(&interrupt, async { 7 }).await, Some(7));
        publish.send_replace(true);
        assert_eq!(unless(&interrupt, std::future::pending::<()>()).await, None);
    }
}
