//! A run from beginning to end: launch → drive → fault → heal → verify → report.
//!
//! Loading and planning come before ([`crate::cli`]): a [`Job`] is a scenario and a plan that can
//! be run. The plan's cycles are dealt out to its clusters, which run side by side ([`lane`]). A
//! run ends with its plan, with the first cycle that found something, or with a signal; in each
//! case the nodes are killed and the report is written.

mod fault_classes;
mod floors;
mod lane;
mod launch;
mod planned;
mod resume;

pub use launch::read_inputs;
pub use planned::planned;

use crate::cycle::CycleEnd;
use crate::directory;
use crate::exit::Exit;
use crate::machine::Machine;
use crate::output::say;
use crate::pace::Pace;
use crate::paths::Paths;
use crate::plan::Plan;
use crate::process::{Environment, Spawner};
use crate::progress::Progress;
use crate::scenario::{Floors, Scenario};
use crate::subject::Target;
use crate::{provenance, report};
use anyhow::Context;
use lane::{Halt, LaneEnd};
use ninelives_evidence::End;
use ninelives_evidence::record::crowd::CrowdRecord;
use ninelives_evidence::record::hostile::HostileRecord;
use ninelives_evidence::record::strangers::StrangersRecord;
use ninelives_evidence::record::{
    CycleRecord, EnvironmentRecord, LoadRecord, ProvenanceRecord, QuotaRecord, RunSummary,
};
use ninelives_evidence::verdict::findings::{Harness, Lack};
use ninelives_evidence::verdict::{self, Finding, Verdict};
use ninelives_evidence::{clock, record};
use ninelives_oracle::{LISTED_PER_CLASS_MAX, Sums, Tally};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};

/// The inputs of a run.
#[derive(Debug, Clone)]
pub struct Job {
    pub scenario: Scenario,
    pub plan: Plan,
    pub target: Target,
    pub paths: Paths,
    /// Keep the data directories after a pass as well.
    pub keep: bool,
    /// The plan is a sweep: each of its cells counts by itself.
    pub sweep: bool,
    /// Kills that have to land in each cell of the window grid.
    pub quotas: Vec<QuotaRecord>,
    /// The report directory holds a run whose harness was killed: go on with it.
    pub resume: bool,
    /// The command that repeats this run.
    pub repro: String,
    /// Say nothing about single cycles: the caller of many runs reports their progress.
    pub quiet: bool,
}

/// The result of one cluster's part of a run, beside its cycles: from a lane that was carried out,
/// or from a history that `verify` folded.
#[derive(Debug, Default)]
pub(crate) struct Share {
    pub findings: Vec<Finding>,
    pub sums: Sums,
    pub end: End,
}

impl Share {
    /// Says in each finding that it is about `cluster`, if there are several `clusters`.
    pub fn name_cluster(&mut self, cluster: u32, clusters: u32) {
        let first = self.sums.known.iter_mut().filter_map(|known| known.first.as_mut());
        name_cluster(self.findings.iter_mut().chain(first), cluster, clusters);
    }

    fn add(&mut self, other: Self) {
        self.findings.extend(other.findings);
        self.sums.add(other.sums);
        self.end.add(other.end);
    }
}

/// Says in each finding which cluster it is about, where there are several.
pub(crate) fn name_cluster<'a>(findings: impl IntoIterator<Item = &'a mut Finding>, cluster: u32, clusters: u32) {
    for finding in findings.into_iter().filter(|_| clusters > 1) {
        finding.cluster = Some(cluster);
    }
}

/// The cycles of a run, and the sum of the shares of all clusters.
#[derive(Debug, Default)]
pub(crate) struct RunTotals {
    pub cycles: Vec<CycleRecord>,
    pub crowd: Option<CrowdRecord>,
    pub hostile: Option<HostileRecord>,
    pub strangers: Option<StrangersRecord>,
    share: Share,
}

/// Runs `job` and writes its report. `interrupt` turns true when the run is to end early.
///
/// # Errors
/// The harness could not do its part before there was anything to report, or could not write the
/// report.
pub async fn run(job: &Job, interrupt: watch::Receiver<bool>) -> anyhow::Result<(RunSummary, Exit)> {
    let (started, started_utc) = (clock::now(), clock::utc_now());
    let environment = Environment::of_caller(&job.scenario.environment);
    let inherited = environment.record();
    if job.resume {
        // The verdict of the interrupted run is about to become untrue.
        report::forget(&job.paths)?;
    } else {
        launch::write_inputs(job)?;
    }
    let pace = Pace::watch(job.paths.root()).await.context("cannot measure the machine's pace")?;
    let spawner = Spawner::start_with(environment, pace.clone()).context("cannot start the spawning thread")?;
    report::reserve(&job.paths, job.plan.steps.len() as u32)?;
    let mut summary = describe(job, &spawner, (started_utc, inherited)).await?;
    let outcome = side_by_side(job, &spawner, interrupt, started, &mut summary).await;
    summary.pace = pace.record();
    conclude(&job.scenario.floors, &mut summary, outcome);
    summary.elapsed_ms = clock::ms_since(started);
    summary.children_cpu_ms = Some(spawner.cpu().ms());
    let written = report::write(&job.paths, &summary).map_err(anyhow::Error::from);
    let done = written.and_then(|()| tidy(job, &summary));
    let exit = exit_of(&summary);
    match done {
        // The findings are reported all the same; only a pass needs its whole report.
        Err(error) if exit != Exit::Pass => {
            say(&format!("note: {error:#}; the exit code is the verdict's all the same\n"))
        }
        done => done?,
    }
    Ok((summary, exit))
}

/// Carries the plan out, a lane for each cluster. A finding in one lane ends all: the unfinished
/// cycles of the others do not count as cycles, but their findings up to then count.
async fn side_by_side(
    job: &Job,
    spawner: &Spawner,
    interrupt: watch::Receiver<bool>,
    started: Instant,
    summary: &mut RunSummary,
) -> RunTotals {
    let mut outcome = RunTotals::default();
    let planned = job.plan.steps.len() as u32;
    let mut progress = if job.quiet { Progress::silent() } else { Progress::new(planned) };
    let (halt, halted) = watch::channel(Halt::Go);
    let (ends, mut ended) = mpsc::unbounded_channel::<CycleEnd>();
    let shared = Arc::new(job.clone());
    let machine = Machine::watch(job.paths.root());
    let unchecked = job.target.unchecked(summary.provenance.node.version.as_deref());
    let mut lanes = JoinSet::new();
    for cluster in 1..=job.plan.clusters {
        // The impossible checks go into each lane's own evidence, because a later check has nothing
        // else.
        let end = LaneEnd::skipping(unchecked.clone());
        let hands = (spawner.clone(), Arc::clone(&machine));
        let lane = (Arc::clone(&shared), (cluster, end), hands, halted.clone(), ends.clone());
        let runtime = Handle::current();
        // On a thread of its own: judging takes CPU time, and must hold up neither the clients nor
        // another lane.
        lanes.spawn_blocking(move || {
            let (job, cluster, hands, halted, ends) = lane;
            runtime.block_on(lane::run(job, cluster, hands, halted, ends))
        });
    }
    drop(ends);
    let interrupted = interrupted(interrupt);
    let full = machine.full();
    tokio::pin!(interrupted, full);
    loop {
        tokio::select! {
            biased;
            // Each lane records it in its own evidence.
            _ = &mut full, if *halt.borrow() == Halt::Go => halt_for_a_finding(&halt),
            () = &mut interrupted, if *halt.borrow() != Halt::Interrupted => {
                halt.send_replace(Halt::Interrupted);
            }
            Some(end) = ended.recv() => outcome.take_cycle(end, &halt, &mut progress, started),
            joined = lanes.join_next() => match joined {
                Some(joined) => outcome.take_lane(joined, &halt, summary),
                None => break,
            },
        }
    }
    while let Some(end) = ended.recv().await {
        outcome.take_cycle(end, &halt, &mut progress, started);
    }
    outcome
}

/// An interruption that came first stays one.
fn halt_for_a_finding(halt: &watch::Sender<Halt>) {
    halt.send_if_modified(|halt| {
        let first = *halt == Halt::Go;
        if first {
            *halt = Halt::Found;
        }
        first
    });
}

impl RunTotals {
    fn take_cycle(&mut self, end: CycleEnd, halt: &watch::Sender<Halt>, progress: &mut Progress, started: Instant) {
        progress.cycle(&end.record, Duration::from_millis(clock::ms_since(started)));
        if !end.findings.is_empty() {
            halt_for_a_finding(halt);
        }
        self.cycles.push(end.record);
        self.share.findings.extend(end.findings);
    }

    /// Adds a cluster's share.
    pub fn add(&mut self, share: Share) {
        self.share.add(share);
    }

    /// Adds the result of a lane, and its share of the sums.
    fn take_lane(&mut self, joined: Result<LaneEnd, JoinError>, halt: &watch::Sender<Halt>, summary: &mut RunSummary) {
        let end = joined.unwrap_or_else(|error| LaneEnd {
            share: Share {
                findings: vec![Finding::new(Harness::LanePanicked { error: error.to_string() })],
                ..Share::default()
            },
            ..LaneEnd::default()
        });
        if !end.share.findings.is_empty() {
            halt_for_a_finding(halt);
        }
        self.add(end.share);
        if let Some(crowd) = end.crowd {
            self.crowd.get_or_insert_default().add(crowd);
        }
        if let Some(hostile) = end.hostile {
            self.hostile.get_or_insert_default().add(&hostile);
        }
        if let Some(strangers) = end.strangers {
            self.strangers.get_or_insert_default().add(&strangers);
        }
        summary.localisation = summary.localisation.take().or(end.localisation);
        summary.missing_sync = summary.missing_sync.take().or(end.missing_sync);
    }
}

/// An interruption says how the run ended; a promise that the system broke before is more
/// important.
pub(crate) fn exit_of(summary: &RunSummary) -> Exit {
    match summary.verdict {
        Verdict::Violation => Exit::Violation,
        _ if summary.interrupted => Exit::Interrupted,
        verdict => verdict.into(),
    }
}

/// Becomes ready when the run is to end early; never, once the sender is gone.
async fn interrupted(mut interrupt: watch::Receiver<bool>) {
    if interrupt.wait_for(|interrupted| *interrupted).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Fills in the fields that are known before anything runs.
async fn describe(
    job: &Job,
    spawner: &Spawner,
    (started_utc, environment): (String, EnvironmentRecord),
) -> anyhow::Result<RunSummary> {
    let own = std::env::current_exe().context("cannot find this executable")?;
    let node = provenance::binary(spawner, job.target.binary()).await?;
    let inspector = match job.target.inspector() {
        Some(inspector) => Some(provenance::binary(spawner, inspector).await?),
        None => None,
    };
    let mut summary = planned(&job.scenario, &job.plan, job.quotas.clone());
    summary.cluster.sabotage = job.target.sabotage().map(str::to_owned);
    summary.started_utc = started_utc;
    summary.provenance = ProvenanceRecord {
        harness: provenance::binary(spawner, &own).await?,
        node,
        inspector,
        environment,
        kernel: provenance::kernel(),
        filesystem: provenance::filesystem(job.paths.root()),
        git_revision: provenance::git_revision(spawner).await,
    };
    summary.repro = job.repro.clone();
    Ok(summary)
}

/// Turns the outcome into findings, their order and the verdict.
pub(crate) fn conclude(floors: &Floors, summary: &mut RunSummary, outcome: RunTotals) {
    let RunTotals { mut cycles, crowd, hostile, strangers, share: Share { findings, sums, end } } = outcome;
    let Sums { tally, operations, log_replayed, known, mut resumed, mut books } = sums;
    let End { interrupted, mut slots, skipped_checks, load_ms } = end;
    cycles.sort_by_key(|cycle| cycle.cycle);
    slots.sort_by_key(|slot| (slot.cluster, slot.slot));
    resumed.sort_by_key(|death| (death.cluster, death.after_cycle));
    books.sort_by_key(|books| books.cluster);
    (summary.cycles, summary.cluster.slots, summary.resumed, summary.books) = (cycles, slots, resumed, books);
    summary.fault_classes = fault_classes::fault_classes(&summary.cycles);
    summary.findings = verdict::condense(findings);
    summary.interrupted = interrupted;
    summary.crowd = crowd.or(summary.crowd.take());
    summary.hostile = hostile.or(summary.hostile.take());
    summary.strangers = strangers.or(summary.strangers.take());
    if summary.strangers.as_ref().is_some_and(|strangers| strangers.came > 0) {
        summary.fault_classes.push("strangers".to_owned());
    }
    summary.load = LoadRecord {
        acked_writes: tally.acked_writes,
        unknown_writes: tally.unknown_writes,
        reads: tally.reads,
        operations,
        ran_ms: load_ms,
    };
    summary.log_replayed = log_replayed;
    record::suppressed::add(&mut summary.known, known);
    if let Some(leases) = &mut summary.leases {
        leases.add(tally.leases);
    }
    summary.skipped_checks.extend(unchecked(&tally, summary.load.reads));
    summary.skipped_checks.extend(floors::unverified(summary, tally.cycles_apart));
    summary.skipped_checks.extend(summary.log_replayed.skipped());
    summary.skipped_checks.extend(skipped_checks);
    if summary.interrupted && summary.findings.is_empty() {
        let (done, planned) = (summary.cycles.len() as u64, summary.plan.cycles.into());
        summary.findings.push(Finding::new(Lack::Interrupted { done, planned }));
    }
    // Floors apply only to runs without findings.
    if summary.findings.is_empty() {
        summary.findings = floors::lacking(floors, summary, tally.cycles_apart);
        let stayed_away = summary.crowd.as_ref().and_then(CrowdRecord::lacking);
        let unheard = summary.strangers.as_ref().and_then(StrangersRecord::lacking);
        let unspoken = summary.hostile.as_ref().and_then(HostileRecord::lacking);
        summary.findings.extend(stayed_away.into_iter().chain(unspoken).chain(unheard).map(Finding::new));
        summary.skipped_checks.extend(floors::not_applicable(summary));
    }
    summary.verdict = Verdict::of(&summary.findings);
}

/// The checks that the judges could not make, and why, by their `tally`; `reads`: all of them.
fn unchecked(tally: &Tally, reads: u64) -> Vec<String> {
    let reads = (tally.reads_unchecked > 0)
        .then(|| format!("{} of {reads} reads: compacted before the history reached them", tally.reads_unchecked));
    let fences = (tally.fences_uncompared > 0).then(|| {
        format!(
            "comparison with the model at {} fences: replicas disagreed there, or a watch had left something out",
            tally.fences_uncompared
        )
    });
    let leaderless = (tally.leaderless == 0 && tally.leaderless_unjudged > 0).then(|| {
        format!(
            "watches that require a leader on {} members without a quorum: no cut lasted for their bound",
            tally.leaderless_unjudged
        )
    });
    let costs = (tally.costs_unjudged > 0)
        .then(|| "members' processor time for dear transactions: they took too little of it to compare".to_owned());
    let unlisted = (tally.findings_unlisted > 0).then(|| {
        format!(
            "listing of {} further findings: a cycle lists {} of a class, and counts the rest",
            tally.findings_unlisted, LISTED_PER_CLASS_MAX
        )
    });
    [reads, fences, leaderless, costs, unlisted].into_iter().flatten().collect()
}

/// Removes the files that only a failure needs.
fn tidy(job: &Job, summary: &RunSummary) -> anyhow::Result<()> {
    if summary.verdict != Verdict::Pass {
        return Ok(());
    }
    for slot in &summary.cluster.slots {
        let paths = job.paths.of_cluster(slot.cluster);
        if !job.keep {
            directory::remove(&paths.node_data(slot.member_at_end))?;
            directory::remove(&paths.stranger_data(slot.slot.0))?;
        }
        directory::remove(&paths.dead_copy(slot.member_at_end))?;
    }
    Ok(())
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
}
