//! A lane: one cluster with a load, watches, a ledger and a history of its own, and its share of
//! the plan.
//!
//! Lanes run side by side and share nothing but the report directory. Each one launches, carries
//! its steps out one after the other, takes the last read and ends; a finding of its own ends it at
//! once, another's through [`Halt`].

mod drive;

use super::launch::{self, Running};
use super::resume::{self, Reopened};
use super::{Job, Share};
use crate::cluster::Trouble;
use crate::crowd::Crowd;
use crate::cycle::CycleEnd;
use crate::hostile::Hostile;
use crate::machine::Machine;
use crate::process::Spawner;
use crate::provenance;
use ninelives_evidence::history::History;
use ninelives_evidence::limits;
use ninelives_evidence::member::{Engine, Slot};
use ninelives_evidence::record::SlotRecord;
use ninelives_evidence::record::crowd::CrowdRecord;
use ninelives_evidence::record::hostile::HostileRecord;
use ninelives_evidence::record::localisation::Localisation;
use ninelives_evidence::record::missing_sync::MissingSync;
use ninelives_evidence::record::strangers::StrangersRecord;
use ninelives_evidence::verdict::Finding;
use ninelives_evidence::verdict::findings::Harness;
use ninelives_evidence::{End, Evidence};
use ninelives_oracle::Ledger;
use std::future::Future;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

/// Order to the lanes: go on or stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Halt {
    Go,
    /// A lane found something.
    Found,
    /// The user wants no more.
    Interrupted,
}

/// Result of a lane, beside its cycles.
#[derive(Default)]
pub(super) struct LaneEnd {
    pub share: Share,
    pub localisation: Option<Localisation>,
    pub missing_sync: Option<MissingSync>,
    pub crowd: Option<CrowdRecord>,
    pub hostile: Option<HostileRecord>,
    pub strangers: Option<StrangersRecord>,
}

impl LaneEnd {
    /// The result of a lane that has not run yet, and that will not do `checks`.
    pub fn skipping(checks: Vec<String>) -> Self {
        let end = End { skipped_checks: checks, ..End::default() };
        Self { share: Share { end, ..Share::default() }, ..Self::default() }
    }
}

/// Runs the lane of `cluster` (from 1) to its end, and adds its result to `end`; each cycle that
/// was carried out goes to `ends`.
pub(super) async fn run(
    job: Arc<Job>,
    (cluster, end): (u32, LaneEnd),
    (spawner, machine): (Spawner, Arc<Machine>),
    halt: watch::Receiver<Halt>,
    ends: mpsc::UnboundedSender<CycleEnd>,
) -> LaneEnd {
    let mut end = end;
    end.share.end.slots = founders(&job, cluster);
    let clusters = job.plan.clusters;
    let mut lane = Lane { number: cluster, clusters, halt, ends, machine, history: None, ledger: None, end };
    let carried_out = if job.resume {
        lane.resume(&job, spawner).await
    } else {
        match launch::ledger(&job, cluster) {
            Ok(books) => {
                lane.carry_out(&job, spawner, books).await;
                Ok(())
            }
            Err(error) => Err(error),
        }
    };
    if let Err(error) = carried_out {
        let finding = lane.weigh(&Trouble::Harness(error));
        lane.end.share.findings.push(finding);
    }
    let Lane { number, clusters, history, ledger, mut end, .. } = lane;
    // A lane that failed before it had a ledger has judged nothing.
    end.share.findings.extend(ledger.map(|ledger| left_with(&ledger)).unwrap_or_default());
    end.share.findings.extend(history.and_then(|history| history.failure()));
    end.share.name_cluster(number, clusters);
    end
}

/// The findings that are still with `ledger` although its lane has ended: they are not lost, and
/// that they were left is a finding as well.
fn left_with(ledger: &Ledger) -> Vec<Finding> {
    let mut left: Vec<_> = ledger.drain().into_iter().map(|raised| raised.finding).collect();
    if !left.is_empty() {
        left.push(Finding::new(Harness::FindingsLeft { left: left.len() as u64 }));
    }
    left
}

struct Lane {
    number: u32,
    clusters: u32,
    halt: watch::Receiver<Halt>,
    ends: mpsc::UnboundedSender<CycleEnd>,
    machine: Arc<Machine>,
    /// Absent until the lane has opened it.
    history: Option<Arc<History>>,
    /// Absent until the history is open.
    ledger: Option<Arc<Ledger>>,
    end: LaneEnd,
}

impl Lane {
    async fn carry_out(&mut self, job: &Job, spawner: Spawner, (ledger, history): (Arc<Ledger>, Arc<History>)) {
        (self.history, self.ledger) = (Some(history), Some(Arc::clone(&ledger)));
        let launched = launch::launch(job, self.number, spawner, Arc::clone(&ledger));
        let launched = self.unless(launched).await;
        self.see_through(job, &ledger, launched, None).await;
    }

    /// Drives the launched cluster to its end, if it was launched.
    async fn see_through(
        &mut self,
        job: &Job,
        ledger: &Ledger,
        launched: Option<Result<Running, Trouble>>,
        reopened: Option<&Reopened>,
    ) {
        match launched {
            None => self.close(ledger),
            Some(Ok(mut running)) => {
                self.drive(job, &mut running, reopened).await;
                for (slot, member) in self.end.share.end.slots.iter_mut().zip(&running.cluster.members) {
                    (slot.member_at_end, slot.engine_at_end) = (member.id, member.engine);
                }
                self.end.crowd = running.crowd.as_ref().map(Crowd::record);
                let bound = running.cluster.site.pace().of_the_run().stretched(limits::STREAM_MEDIAN);
                for (stream, answers, median_us) in self.end.crowd.iter().flat_map(CrowdRecord::pulses) {
                    ledger.record(&Evidence::Pulse { stream, answers, median_us, bound });
                }
                self.end.hostile = running.hostile.as_ref().map(Hostile::record);
                self.end.strangers = running.cluster.strangers.as_ref().map(|strangers| strangers.record.clone());
                self.close(ledger);
                running.finish().await;
            }
            Some(Err(trouble)) => {
                let finding = self.weigh(&trouble);
                self.tell(ledger, finding);
                self.close(ledger);
            }
        }
    }

    /// Goes on where the history ends.
    async fn resume(&mut self, job: &Job, spawner: Spawner) -> anyhow::Result<()> {
        let (fold, mut reopened) = resume::read(job, self.number)?;
        let ledger = fold.ledger();
        self.ledger = Some(Arc::clone(&ledger));
        // The findings from the evidence so far count, even if the rest fails.
        self.drain(&ledger);
        self.history = Some(reopened.go_on(job, self.number, fold)?);
        for record in &reopened.cycles {
            let _ = self.ends.send(CycleEnd { record: record.clone(), findings: Vec::new() });
        }
        self.drain(&ledger);
        if let Some(end) = &reopened.end {
            self.end.share.end = end.clone();
            self.end.share.sums = ledger.sums(self.number, provenance::own_build());
            return Ok(());
        }
        if !self.end.share.findings.is_empty() {
            // It was ending anyway.
            self.close(&ledger);
            return Ok(());
        }
        let relaunched = launch::relaunch(job, self.number, spawner, Arc::clone(&ledger), &reopened);
        let relaunched = self.unless(relaunched).await;
        self.see_through(job, &ledger, relaunched, Some(&reopened)).await;
        Ok(())
    }

    /// The finding for trouble outside of any cycle.
    fn weigh(&self, trouble: &Trouble) -> Finding {
        trouble.weighed(&self.machine.short(limits::SHORTAGE_AFTERMATH), None, None)
    }

    /// `future`'s output; or `None` if the lane has to halt, or if nothing can be written down any
    /// more: then the future is dropped.
    async fn unless<T>(&mut self, future: impl Future<Output = T>) -> Option<T> {
        let mut halt = self.halt.clone();
        let history = self.history.clone();
        let unwritten = async {
            match &history {
                Some(history) => history.failed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = unwritten => None,
            halt = halted(&mut halt) => {
                self.end.share.end.interrupted |= halt == Halt::Interrupted;
                None
            }
            output = future => Some(output),
        }
    }

    fn tell(&mut self, ledger: &Ledger, finding: Finding) {
        ledger.record(&Evidence::Told { finding });
        self.drain(ledger);
    }

    /// Takes the findings that were raised by now.
    fn drain(&mut self, ledger: &Ledger) {
        self.end.share.findings.extend(ledger.drain().into_iter().map(|raised| raised.finding));
    }

    /// Records the final evidence; later observations are discarded.
    fn close(&mut self, ledger: &Ledger) {
        if let Some(short) = self.machine.was_full() {
            self.tell(ledger, Finding::new(Harness::ReportDiskFull { short: short.to_string() }));
        }
        ledger.record(&Evidence::End(self.end.share.end.clone()));
        self.drain(ledger);
        self.end.share.sums = ledger.sums(self.number, provenance::own_build());
    }
}

/// The founders of the cluster: ids are the numbers of the slots.
fn founders(job: &Job, cluster: u32) -> Vec<SlotRecord> {
    let founder = |(slot, engine): (u64, &Engine)| SlotRecord {
        cluster,
        slot: Slot(slot),
        member_at_start: slot,
        engine_at_start: *engine,
        member_at_end: slot,
        engine_at_end: *engine,
    };
    (1..).zip(&job.scenario.cluster.engines).map(founder).collect()
}

/// Becomes ready when lanes are to halt; never, once the sender is gone.
async fn halted(halt: &mut watch::Receiver<Halt>) -> Halt {
    let seen = halt.wait_for(|halt| *halt != Halt::Go).await.map(|halt| *halt);
    match seen {
        Ok(halt) => halt,
        Err(_) => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::super::name_cluster;
    use super::*;
    use ninelives_evidence::resource::Resource;
    use ninelives_evidence::verdict::findings::Watches;

    #[tokio::test]
    async fn a_halt_drops_what_is_under_way() {
        let (publish, halt) = watch::channel(Halt::Go);
        let (ends, _ended) = mpsc::unbounded_channel();
        let machine = Machine::that_was_short(Resource::Files);
        let (history, ledger, end) = (None, None, LaneEnd::default());
        let mut lane = Lane { number: 2, clusters: 2, halt, ends, machine, history, ledger, end };
        assert_eq!(lane.unless(async { 7 }).await, Some(7));
        publish.send_replace(Halt::Found);
        assert_eq!(lane.unless(std::future::pending::<()>()).await, None);
        assert!(!lane.end.share.end.interrupted, "another lane's finding is not an interruption");
        publish.send_replace(Halt::Interrupted);
        assert_eq!(lane.unless(std::future::pending::<()>()).await, None);
        assert!(lane.end.share.end.interrupted);
    }

    #[test]
    fn a_finding_names_its_cluster_only_where_there_are_several() {
        let what = Watches::DeliveredTwice { slot: Slot(2), revision: 9, after: 9 };
        let sentence = what.to_string();
        let mut findings = [Finding::new(what).in_cycle(4).at_member(2)];
        name_cluster(&mut findings, 1, 1);
        assert_eq!(findings[0].to_string(), format!("watch, cycle 4, n2: {sentence}"));
        name_cluster(&mut findings, 2, 2);
        assert_eq!(findings[0].to_string(), format!("watch, cycle 4, cluster 2, n2: {sentence}"));
    }
}
