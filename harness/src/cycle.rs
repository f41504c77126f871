//! One cycle: choose victims, strike, inspect the dead, restart, catch up, fence, verify.
//!
//! Writes go on all the time. Whatever goes wrong on the way ends the cycle with a finding that says whom it speaks
//! against; a step that cannot be reached (no leader, a window not passed) ends as a recorded skip. A
//! cycle is written down step by step in the history, each step before it is taken.

mod fence;
mod revive;
mod strike;
mod victims;

pub use crate::record::{CycleRecord, Outcome, PhasesMs, Role, Victim};

use crate::clock;
use crate::cluster::{Cluster, Death, Trouble};
use crate::history::History;
use crate::inspect::DeadMember;
use crate::observe::Observer;
use crate::oracle::{Ledger, Vote};
use crate::plan::{Step, When};
use crate::scenario::Scenario;
use crate::verdict::{Finding, Verdict};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// What cycles need and hand on to each other.
pub struct Stage<'a> {
    pub scenario: &'a Scenario,
    pub cluster: &'a mut Cluster,
    pub ledger: Arc<Ledger>,
    pub observer: &'a Observer,
    pub history: Arc<History>,
    /// Each member's last known vote.
    votes: BTreeMap<u64, Vote>,
    fences: u64,
}

/// A cycle that ended, well or not.
#[derive(Debug)]
pub struct CycleEnd {
    pub record: CycleRecord,
    pub findings: Vec<Finding>,
}

/// A kill of ours, and what it left.
struct Casualty {
    member: u64,
    death: Death,
    dead: Option<DeadMember>,
}

/// A cycle under way. Whoever drives it owns it, so that what it has found outlives an interruption.
pub struct Work {
    step: Step,
    started: Instant,
    victims: Vec<Victim>,
    /// In the order of the kills; a member that is killed twice is here twice.
    casualties: Vec<Casualty>,
    findings: Vec<Finding>,
    record: CycleRecord,
}

/// A line of the history.
#[derive(Serialize)]
struct Note<'a> {
    event: &'static str,
    cycle: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    member: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    what: Option<&'a str>,
}

impl<'a> Stage<'a> {
    pub fn new(
        scenario: &'a Scenario,
        cluster: &'a mut Cluster,
        ledger: Arc<Ledger>,
        observer: &'a Observer,
        history: Arc<History>,
    ) -> Self {
        Self { scenario, cluster, ledger, observer, history, votes: BTreeMap::new(), fences: 0 }
    }

    /// Carries out one step of the plan; [`Stage::close`] says what came of it.
    pub async fn run(&mut self, work: &mut Work) {
        let step = work.step;
        self.ledger.begin_cycle(step.cycle);
        self.note(step.cycle, "cycle", None, Some(&step.action()));
        if let Err(trouble) = self.carry_out(work).await {
            work.blame(&trouble);
        }
    }

    /// A step that is skipped is verified like any other: the writes that went on meanwhile have to be there.
    async fn carry_out(&mut self, work: &mut Work) -> Result<(), Trouble> {
        match self.cluster.roles().await {
            Some(roles) => {
                work.victims = victims::choose(&work.step.whom, &roles);
                self.strike(work).await?;
                work.record.phases.kill = clock::ms_since(work.started);
            }
            None => {
                work.skip("no leader was elected in time, so there was nobody to choose from");
                self.cluster.stray_death().map_or(Ok(()), Err)?;
            }
        }
        self.inspect_dead(work).await?;
        self.restart(work).await?;
        self.catch_up(work).await?;
        let fence = self.fence(work).await?;
        self.verify(work, &fence).await
    }

    /// A last look at all members without a fault: heal, fence, verify. `work` is [`Work::without_fault`].
    pub async fn final_look(&mut self, work: &mut Work) {
        let looked = async {
            self.catch_up(work).await?;
            let fence = self.fence(work).await?;
            self.verify(work, &fence).await
        };
        if let Err(trouble) = looked.await {
            work.blame(&trouble);
        }
    }

    /// Takes what `work` has found so far, however far it came, and the ledger's alarms; writes it down.
    pub fn findings_of(&self, work: &mut Work) -> Vec<Finding> {
        let mut findings = std::mem::take(&mut work.findings);
        findings.extend(self.ledger.take_findings());
        for finding in &mut findings {
            // The look without a fault is no cycle.
            finding.cycle = finding.cycle.filter(|cycle| *cycle > 0);
            self.history.record(&serde_json::json!({ "event": "finding", "finding": finding }));
        }
        findings
    }

    /// The record of a cycle that was carried out, and its findings.
    pub fn close(&self, mut work: Work) -> CycleEnd {
        let findings = self.findings_of(&mut work);
        let Work { started, victims, casualties, mut record, .. } = work;
        record.victims = victims;
        record.kills = casualties.len() as u32;
        record.findings = findings.len() as u32;
        record.duration_ms = clock::ms_since(started);
        record.proved_nothing = proved_nothing(&record);
        self.history.record(&serde_json::json!({ "event": "cycle-end", "record": &record }));
        CycleEnd { record, findings }
    }

    fn note(&self, cycle: u32, event: &'static str, member: Option<u64>, what: Option<&str>) {
        self.history.record(&Note { event, cycle, member, what });
    }
}

fn proved_nothing(record: &CycleRecord) -> Option<String> {
    match &record.outcome {
        Outcome::Skipped { why } if record.kills == 0 => Some(why.clone()),
        _ if record.fence_index.is_none() => Some("no fence was answered".to_owned()),
        _ if record.snapshot_installed => None,
        _ if record.lost_entries == 0 => Some("nothing was lost from a memtable".to_owned()),
        _ if record.replayed == 0 => Some("nothing was replayed".to_owned()),
        _ => None,
    }
}

impl Work {
    /// For a look at all members that kills nobody, and whose findings belong to no cycle.
    pub fn without_fault() -> Self {
        Self::new(&Step { cycle: 0, whom: victims::NOBODY, when: When::Time { ms: 0 } })
    }

    pub fn new(step: &Step) -> Self {
        let (window, hit) = match step.when {
            When::Window { window, hit } => (Some(window.name.to_owned()), Some(hit)),
            _ => (None, None),
        };
        let record = CycleRecord {
            cycle: step.cycle,
            victims: Vec::new(),
            trigger: step.action(),
            window,
            hit,
            outcome: Outcome::Indeterminate { why: "the cycle ended before its kill".to_owned() },
            kills: 0,
            lost_entries: 0,
            verified: 0,
            replayed: 0,
            persisted_before: None,
            persisted_after: None,
            snapshot_installed: false,
            recovery_ms: 0,
            catch_up_ms: 0,
            fence_index: None,
            findings: 0,
            duration_ms: 0,
            phases: PhasesMs::default(),
            proved_nothing: None,
        };
        let (victims, casualties, findings) = (Vec::new(), Vec::new(), Vec::new());
        Self { step: *step, started: clock::now(), victims, casualties, findings, record }
    }

    fn skip(&mut self, why: impl Into<String>) {
        self.record.outcome = Outcome::Skipped { why: why.into() };
    }

    /// Files a trouble as a finding. A member whose dead directory is already known to be wrong died of that:
    /// its death adds words, and no second class.
    fn blame(&mut self, trouble: &Trouble) {
        let finding = trouble.finding(Some(self.step.cycle));
        let cause = self.findings.iter_mut().find(|known| {
            known.member == finding.member && finding.member.is_some() && known.class.verdict() == Verdict::Violation
        });
        match (cause, trouble) {
            (Some(cause), Trouble::Died { .. }) => {
                cause.sentence.push_str("; then ");
                cause.sentence.push_str(&finding.sentence);
            }
            _ => self.findings.push(finding),
        }
    }

    /// The last kill of each member, ascending by member.
    fn last_casualties(&self) -> impl Iterator<Item = &Casualty> {
        let last: BTreeMap<u64, &Casualty> =
            self.casualties.iter().map(|casualty| (casualty.member, casualty)).collect();
        last.into_values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Ended;
    use crate::verdict::Class;

    fn work() -> Work {
        Work::new(&Step { cycle: 4, whom: victims::NOBODY, when: When::Time { ms: 0 } })
    }

    fn died() -> Trouble {
        Trouble::Died { member: 2, ended: Ended::Exited(65), served: false, lived_before: true, remark: None }
    }

    #[test]
    fn a_death_that_the_dead_directory_explains_keeps_its_class() {
        let mut work = work();
        work.findings.push(Finding::new(Class::IndexAheadOfEngine, "N > E").in_cycle(4).at_member(2));
        work.blame(&died());
        assert_eq!(work.findings.len(), 1);
        assert_eq!(work.findings[0].class, Class::IndexAheadOfEngine);
        assert!(work.findings[0].sentence.contains("exit code 65"), "{}", work.findings[0].sentence);
    }

    #[test]
    fn a_death_that_nothing_explains_is_a_refusal() {
        let mut work = work();
        work.findings.push(Finding::new(Class::IndexAheadOfEngine, "N > E").in_cycle(4).at_member(1));
        work.blame(&died());
        assert_eq!(work.findings[1].class, Class::RefusedAfterOwnCrash);
    }

    #[test]
    fn a_cycle_says_when_it_proved_nothing() {
        let mut record = work().record;
        record.fence_index = Some(9);
        record.kills = 1;
        assert!(proved_nothing(&record).unwrap().contains("memtable"));
        record.lost_entries = 3;
        assert!(proved_nothing(&record).unwrap().contains("replayed"));
        record.replayed = 3;
        assert_eq!(proved_nothing(&record), None);
        record.fence_index = None;
        assert!(proved_nothing(&record).unwrap().contains("fence"));
    }
}
