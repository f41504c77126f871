//! The way of a lane whose cluster is up: what a killed harness left, its share of the cycles, the
//! last read, and the search after a divergence.

use super::super::launch::{self, Running};
use super::super::resume::Reopened;
use super::super::{Job, name_cluster};
use super::{Halt, Lane};
use crate::cluster::Cluster;
use crate::cycle::{Stage, Work};
use crate::last_read;
use crate::localise::localise;
use crate::plan::Plan;
use crate::seed::Seed;
use crate::states::missing_sync;
use crate::workload::{Load, Workload};
use ninelives_evidence::verdict::Finding;
use ninelives_evidence::verdict::findings::Harness;
use ninelives_oracle::Ledger;
use std::ops::ControlFlow;
use std::sync::Arc;

const NO_LAST_READ: &str = "last read: the run ended before its last cycle";

/// The reason of a lane to end before the last read.
enum Early {
    /// The findings that ended it.
    Found(Vec<Finding>),
    Halted,
}

impl Lane {
    /// Takes the launched cluster through its share of the plan, and looks for the place where a
    /// divergence begins.
    pub(super) async fn drive(&mut self, job: &Job, running: &mut Running, reopened: Option<&Reopened>) {
        let Running { cluster, ledger, observer, crowd, workload, .. } = running;
        let options = launch::options_of(job, self.number, reopened);
        let load = Load::new(workload, options, Seed::new(job.plan.seed));
        let parts = (observer, load, Arc::clone(&self.machine), Seed::new(job.plan.seed));
        let mut stage = Stage::new(self.number, &job.scenario, cluster, Arc::clone(ledger), parts);
        stage.crowd = crowd.as_ref();
        match self.go_through(&mut stage, &job.plan, reopened).await {
            ControlFlow::Continue(()) => {
                let findings = self.end.share.findings.clone();
                self.localise(cluster, ledger, workload, &findings).await;
            }
            ControlFlow::Break(early) => {
                if let Early::Found(findings) = early {
                    self.localise(cluster, ledger, workload, &findings).await;
                }
                self.end.share.end.skipped_checks.push(NO_LAST_READ.to_owned());
            }
        }
    }

    async fn go_through(
        &mut self,
        stage: &mut Stage<'_>,
        plan: &Plan,
        reopened: Option<&Reopened>,
    ) -> ControlFlow<Early> {
        if let Some(reopened) = reopened {
            self.look_at_the_dead(stage, reopened).await?;
        }
        self.carry_out_steps(stage, plan, reopened).await?;
        self.take_last_read(stage).await;
        ControlFlow::Continue(())
    }

    /// Judges what the death of the harness left, before the first cycle after it.
    async fn look_at_the_dead(&mut self, stage: &mut Stage<'_>, reopened: &Reopened) -> ControlFlow<Early> {
        let mut work = Work::without_fault(stage.cluster.site.pace());
        let looked = self.unless(stage.look_at_the_dead(&mut work, reopened.times, &reopened.migrating)).await;
        let findings = stage.findings_of(&mut work);
        if looked.is_some() && findings.is_empty() {
            return ControlFlow::Continue(());
        }
        self.end.share.findings.extend(findings.iter().cloned());
        ControlFlow::Break(Early::Found(findings))
    }

    /// Runs the lane's cycles that are not done yet, up to the first with a finding.
    async fn carry_out_steps(
        &mut self,
        stage: &mut Stage<'_>,
        plan: &Plan,
        reopened: Option<&Reopened>,
    ) -> ControlFlow<Early> {
        let done = reopened.map_or(0, Reopened::done_cycles);
        let mut found = None;
        for step in plan.steps_of(self.number).filter(|step| step.cycle > done) {
            let mut work = Work::new(step, stage.cluster.site.pace());
            if self.unless(stage.run(&mut work)).await.is_none() {
                // The findings of the cycle up to then count, although the cycle does not.
                self.end.share.findings.extend(stage.findings_of(&mut work));
                break;
            }
            let mut end = stage.close(work);
            name_cluster(&mut end.findings, self.number, self.clusters);
            found = Some(end.findings.clone()).filter(|findings| !findings.is_empty());
            // Only a run that ends by a panic does not listen any more.
            let _ = self.ends.send(end);
            if found.is_some() {
                break;
            }
        }
        self.end.share.end.load_ms = reopened.map_or(0, Reopened::load_ms) + stage.load.ran_ms();
        match found {
            Some(findings) => ControlFlow::Break(Early::Found(findings)),
            None if self.has_to_halt() => ControlFlow::Break(Early::Halted),
            None => ControlFlow::Continue(()),
        }
    }

    /// Ends the load, and reads every key of every member. Writes go on through every cycle; only
    /// the last read is of a store without writers.
    async fn take_last_read(&mut self, stage: &mut Stage<'_>) {
        let mut work = Work::without_fault(stage.cluster.site.pace());
        let look = async {
            let stopped = stage.load.stop().await;
            stage.await_leases(&mut work).await;
            stage.spend(&mut work).await;
            stage.last_read(&mut work).await;
            stopped
        };
        let looked = self.unless(look).await;
        self.end.share.findings.extend(stage.findings_of(&mut work));
        let read = match looked {
            Some(stopped) => {
                if let Err(error) = stopped {
                    self.tell(&stage.ledger, Finding::new(Harness::HarnessFailed { error: format!("{error:#}") }));
                }
                self.unless(last_read::read_and_check(stage.cluster, &stage.ledger)).await
            }
            None => None,
        };
        if read.is_none() {
            self.end.share.end.skipped_checks.push("last read: it was cut short".to_owned());
        }
        self.drain(&stage.ledger);
    }

    /// The lanes are to halt, or nothing can be written down any more.
    fn has_to_halt(&self) -> bool {
        *self.halt.borrow() != Halt::Go || self.history.as_ref().is_some_and(|history| history.failure().is_some())
    }

    /// Looks for the place where a divergence begins, and for the sync that is missing, unless a
    /// signal asked the run to stop: then the user waits a few seconds at most, not a minute.
    async fn localise(
        &mut self,
        cluster: &mut Cluster,
        ledger: &Ledger,
        workload: &mut Option<Workload>,
        findings: &[Finding],
    ) {
        let mut halt = self.halt.clone();
        let wanted = halt.wait_for(|halt| *halt == Halt::Interrupted);
        tokio::select! {
            biased;
            Ok(_) = wanted => {
                self.end.share.end.interrupted = true;
                self.end.share.end.skipped_checks.push("where it begins: interrupted".to_owned());
            }
            found = async {
                let found = localise(cluster, ledger, workload, findings).await;
                (found, missing_sync(cluster, findings).await)
            } => (self.end.localisation, self.end.missing_sync) = found,
        }
    }
}
