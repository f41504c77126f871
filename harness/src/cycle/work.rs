//! A cycle under way: what was done in it, and what was found.

use super::{damage, disks, lasting, victims};
use crate::cluster::{Death, Trouble};
use crate::pace::{Lap, Pace};
use crate::plan::{Fault, Power, Step, When};
use ninelives_evidence::ended::Ended;
use ninelives_evidence::member::{Engine, Role};
use ninelives_evidence::record::{
    CycleRecord, FaultOutcome, KillsRecord, PhasesMs, PlannedRecord, RecoveryRecord, Victim,
};
use ninelives_evidence::stretched::AS_IDLE;
use ninelives_evidence::verdict::{Finding, Verdict};
use ninelives_evidence::{DeadMember, EvidenceKind};
use ninelives_oracle::Raised;
use std::collections::{BTreeMap, BTreeSet};

/// A kill of ours, or an end that we brought about, and what it left.
pub(super) struct Casualty {
    pub(super) member: u64,
    /// The engine that it ran when it died.
    pub(super) engine: Engine,
    pub(super) death: Death,
    pub(super) dead: Option<DeadMember>,
}

impl Casualty {
    pub(super) fn by_us(&self) -> bool {
        matches!(self.death.ended, Ended::KilledByUs(_))
    }

    /// Whether it ended by itself, of its disk. (A member that was removed may end with 0.)
    pub(super) fn by_its_disk(&self) -> bool {
        matches!(self.death.ended, Ended::Exited(code) if code != 0)
    }
}

/// A cycle under way. The caller owns it, so that its findings outlive an interruption.
pub struct Work {
    pub(super) step: Step,
    /// From its beginning.
    pub(super) lap: Lap,
    /// The machine's highest factor over the steps of the healing, percent.
    pub(super) healing_percent: u32,
    pub(super) victims: Vec<Victim>,
    /// With the kill that is under way the power fails, and changes that were not synced survive
    /// with this chance; `None`: the power stays.
    pub(super) keep_percent: Option<u32>,
    /// Faults that have begun and not ended.
    pub(super) lasting: lasting::UnderWay,
    /// Syncs that disks were made to fail, and whose consequences are not drawn yet.
    pub(super) failures: Vec<disks::Failure>,
    pub(super) damages: damage::Damages,
    /// In the order of the kills; a member that is killed twice is here twice.
    pub(super) casualties: Vec<Casualty>,
    /// Kills of `migrate` and of `snapshot restore`, which are not members.
    pub(super) kills_of_tools: u32,
    /// Members that left the cluster; their directories are evidence only of a failure.
    pub(super) retired: Vec<u64>,
    /// A member that was added on the way to a window of its first life, and does not vote yet.
    pub(super) joined: Option<u64>,
    pub(super) findings: Vec<Raised>,
    pub(super) record: CycleRecord,
}

fn kill_nobody() -> Fault {
    Fault::Kill { whom: victims::NOBODY, when: When::Time { ms: 0 }, again: Vec::new(), power: Power::Stays }
}

impl Work {
    /// For a check of all members without a kill; its findings belong to no cycle.
    pub fn without_fault(pace: &Pace) -> Self {
        Self::new(&Step { cycle: 0, faults: vec![kill_nobody()] }, pace)
    }

    pub fn new(step: &Step, pace: &Pace) -> Self {
        let at = step.faults.iter().find_map(|fault| match fault {
            Fault::Kill { when: When::Window { window, hit }, .. } => Some((*window, *hit)),
            Fault::Upgrade(upgrade) => upgrade.kill().map(|at| (at.window, at.hit)),
            Fault::Restore(restore) => restore.kill.map(|at| (at.window, at.hit)),
            _ => None,
        });
        let kills = step.faults.iter().any(|fault| !lasting::lasts(fault));
        let (window, hit) = at.map(|(window, hit)| (window.name.to_owned(), hit)).unzip();
        let record = CycleRecord {
            cycle: step.cycle,
            cluster: 1,
            victims: Vec::new(),
            planned: PlannedRecord { trigger: step.action(), window, hit },
            outcome: FaultOutcome::Indeterminate { why: "the cycle ended before its kill".to_owned() },
            not_applicable: false,
            kills: KillsRecord { none_planned: !kills, ..KillsRecord::default() },
            lasting: Vec::new(),
            damage: None,
            terms_passed: 0,
            unforced_terms: None,
            machine_percent: AS_IDLE,
            upgraded: false,
            restored: false,
            recovery: RecoveryRecord::default(),
            fence_index: None,
            findings: 0,
            duration_ms: 0,
            phases: PhasesMs::default(),
            proved_nothing: None,
        };
        Self {
            step: step.clone(),
            lap: pace.begin(),
            healing_percent: AS_IDLE,
            victims: Vec::new(),
            keep_percent: None,
            lasting: lasting::UnderWay::default(),
            failures: Vec::new(),
            damages: damage::Damages::default(),
            casualties: Vec::new(),
            kills_of_tools: 0,
            retired: Vec::new(),
            joined: None,
            findings: Vec::new(),
            record,
        }
    }

    /// Whether no leader was touched and none can have lost its quorum. With pre-vote a returning
    /// follower starts no election, so a new term has another cause, in the members or in the
    /// machine.
    pub(super) fn forces_no_election(&self, members: usize) -> bool {
        let followers_alone = self.victims.iter().all(|victim| victim.role == Role::Follower);
        let killed: BTreeSet<u64> = self.casualties.iter().map(|casualty| casualty.member).collect();
        let as_chosen = killed.iter().all(|member| self.victims.iter().any(|victim| victim.member == *member));
        let quorum_left = (members - killed.len().min(members)) * 2 > members;
        let kills_alone = self.record.lasting.is_empty() && self.retired.is_empty() && !self.record.upgraded;
        !self.victims.is_empty() && followers_alone && as_chosen && quorum_left && kills_alone
    }

    /// Whether a piece of evidence of this kind raised a finding in this cycle.
    pub(super) fn found_by(&self, kind: EvidenceKind) -> bool {
        self.findings.iter().any(|raised| raised.by.kind == kind)
    }

    pub(super) fn skip(&mut self, why: impl Into<String>) {
        self.record.outcome = FaultOutcome::Skipped { why: why.into() };
    }

    /// A skip because the step does not exist on the engine of the member that it is for.
    pub(super) fn skip_as_not_applicable(&mut self, why: impl Into<String>) {
        self.skip(why);
        self.record.not_applicable = true;
    }

    /// The finding for a trouble. `None`: the member died because of its dead directory, which is
    /// already known to be wrong; its death adds words to that finding, but no second class.
    pub(super) fn unexplained(&mut self, trouble: &Trouble, finding: Finding) -> Option<Finding> {
        let of_a_step = self.findings.iter_mut().filter(|raised| !raised.by.kind.is_of_the_load());
        let cause = of_a_step.map(|raised| &mut raised.finding).find(|known| {
            known.member == finding.member && finding.member.is_some() && known.class().verdict() == Verdict::Violation
        });
        match (cause, trouble) {
            (Some(cause), Trouble::Died { .. }) => {
                cause.then.push(finding.what);
                None
            }
            _ => Some(finding),
        }
    }

    /// The last kill of each member, ascending by member.
    pub(super) fn last_casualties(&self) -> impl Iterator<Item = &Casualty> {
        let last: BTreeMap<u64, &Casualty> =
            self.casualties.iter().map(|casualty| (casualty.member, casualty)).collect();
        last.into_values()
    }
}

#[cfg(test)]
pub(super) mod tests;
