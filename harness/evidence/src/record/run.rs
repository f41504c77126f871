//! The record of a whole run.

use super::books::BooksRecord;
use super::crowd::CrowdRecord;
use super::hostile::HostileRecord;
use super::localisation::Localisation;
use super::missing_sync::MissingSync;
use super::operations::StepRecord;
use super::pace::PaceRecord;
use super::strangers::StrangersRecord;
use super::suppressed::SuppressedRecord;
use super::{CycleRecord, LastingKind};
use crate::member::{Engine, Role, Slot};
use crate::verdict::{Finding, Verdict};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Version of the `verdict.json` schema: raised when a field changes its meaning or goes away.
pub const SCHEMA_VERSION: u32 = 2;

/// A binary that took part.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BinaryId {
    pub path: String,
    /// SHA-256 of the file, lower-case hex.
    pub sha256: String,
    /// The first line that `--version` prints, if any.
    pub version: Option<String>,
}

/// Sums of the replay of dead members' raft logs by a model of our own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replayed {
    /// Committed entries that were replayed.
    pub entries: u64,
    /// Revisions that log and watches both told, and that were compared.
    pub revisions: u64,
    /// Fences whose revision, compact revision and leases were compared.
    pub fences: u64,
    /// Committed entries that no log held when it was read, or that lie beyond this model.
    pub unreplayed: u64,
    /// Number of times that the replay had to start anew.
    pub gaps: u64,
    /// Revisions that the log made and the watches never delivered, or that were too old by then.
    pub uncompared: u64,
}

impl Replayed {
    pub fn add(&mut self, other: Self) {
        self.entries += other.entries;
        self.revisions += other.revisions;
        self.fences += other.fences;
        self.unreplayed += other.unreplayed;
        self.gaps += other.gaps;
        self.uncompared += other.uncompared;
    }

    /// The part that was not checked, in words; `None`: everything was checked.
    pub fn skipped(&self) -> Option<String> {
        if self.unreplayed == 0 && self.uncompared == 0 {
            return None;
        }
        Some(format!(
            "raft log replay: {} of {} committed entries (in {} gaps: purged before a log was read; it went on from the next \
             fence), and {} of {} revisions (the watches had not told them, or too long ago)",
            self.unreplayed,
            self.unreplayed + self.entries,
            self.gaps,
            self.uncompared,
            self.uncompared + self.revisions,
        ))
    }
}

/// Number of promises about leases of seconds that were judged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeasesJudged {
    /// Grants and renewals that were acknowledged, each a promise of that lease's time.
    pub promises: u64,
    /// Renewals among these promises.
    pub renewals: u64,
    /// Leases that were seen to end by themselves.
    pub expiries: u64,
    /// Leases whose revocation was acknowledged.
    pub revocations: u64,
}

impl LeasesJudged {
    pub fn add(&mut self, other: Self) {
        self.promises += other.promises;
        self.renewals += other.renewals;
        self.expiries += other.expiries;
        self.revocations += other.revocations;
    }
}

/// The member in a slot, at the start of a run and at its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotRecord {
    /// From 1.
    #[serde(default = "super::first", skip_serializing_if = "super::is_first")]
    pub cluster: u32,
    pub slot: Slot,
    pub member_at_start: u64,
    pub engine_at_start: Engine,
    pub member_at_end: u64,
    pub engine_at_end: Engine,
}

/// The harness was killed, and the run resumed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResumedRecord {
    /// From 1.
    pub cluster: u32,
    /// The last cycle that this cluster had carried out by then; 0: none.
    pub after_cycle: u32,
}

/// Kills that had to land in one cell of the window grid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaRecord {
    pub window: String,
    pub role: Role,
    pub kills: u32,
}

/// The environment that children inherit from the caller.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvironmentRecord {
    /// The variables that they have; `None`: the scenario passes it on, and the caller had none.
    pub variables: BTreeMap<String, Option<String>>,
    /// Names of the caller's variables that were kept from them.
    pub withheld: Vec<String>,
    /// Limits, priority, control group, working directory: by name.
    pub inherited: BTreeMap<String, String>,
}

impl EnvironmentRecord {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The scenario and the plan of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanRecord {
    /// The scenario's name, the stem of its file.
    pub scenario: String,
    /// Path of the scenario, as it was given.
    pub scenario_path: String,
    /// SHA-256 of the scenario's text and of the plan's text, lower-case hex.
    pub scenario_digest: String,
    #[serde(rename = "plan_digest")]
    pub digest: String,
    pub seed: u64,
    #[serde(rename = "cycles_planned")]
    pub cycles: u32,
    /// The quotas of this run; a run shorter than the scenario's has a share of them, rounded down.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quotas: Vec<QuotaRecord>,
}

/// The clusters of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterRecord {
    /// Clusters that ran side by side, each with `members` members.
    #[serde(default = "super::first", skip_serializing_if = "super::is_first")]
    pub clusters: u32,
    pub members: u32,
    /// The engine with which the members started: one name for all, or one for each.
    pub backend: String,
    #[serde(default)]
    pub slots: Vec<SlotRecord>,
    /// The planted bug that the nodes ran with, if any.
    pub sabotage: Option<String>,
}

/// Counts of the load.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadRecord {
    pub acked_writes: u64,
    pub unknown_writes: u64,
    pub reads: u64,
    /// The outcomes of the operations, by the kind of step that asked for them. Empty: the record
    /// is older than this field.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub operations: Vec<StepRecord>,
    /// Milliseconds for which the load ran; of several clusters the longest. 0: it did not run, or
    /// the record is older than this field.
    #[serde(default, rename = "load_ms")]
    pub ran_ms: u64,
}

/// The binaries of a run, and the machine that it ran on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProvenanceRecord {
    pub harness: BinaryId,
    pub node: BinaryId,
    /// `None`: the target's dead directories are not read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inspector: Option<BinaryId>,
    /// The environment that members and inspector inherited.
    #[serde(default, skip_serializing_if = "EnvironmentRecord::is_empty")]
    pub environment: EnvironmentRecord,
    pub kernel: String,
    /// Type of the filesystem that held the data directories.
    pub filesystem: String,
    /// Git revision of the working tree, if there is one.
    pub git_revision: Option<String>,
}

/// A whole run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunSummary {
    pub schema_version: u32,
    pub verdict: Verdict,
    pub findings: Vec<Finding>,
    /// The findings that the scenario knows, one record for each signature: they count for no
    /// verdict.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub known: Vec<SuppressedRecord>,
    #[serde(flatten)]
    pub plan: PlanRecord,
    pub cycles: Vec<CycleRecord>,
    #[serde(flatten)]
    pub cluster: ClusterRecord,
    /// Fault classes that this run covers; it does not cover the others.
    pub fault_classes: Vec<String>,
    #[serde(flatten)]
    pub load: LoadRecord,
    /// The slowness of the machine; `None`: the record is older than this field, or nothing was
    /// measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pace: Option<PaceRecord>,
    /// Sums of the replay of dead members' raft logs by a model of our own.
    #[serde(default)]
    pub log_replayed: Replayed,
    /// Results of the crowd; `None`: the scenario has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crowd: Option<CrowdRecord>,
    /// Results of hostile peers; `None`: the scenario has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostile: Option<HostileRecord>,
    /// Members of another cluster in the places of dead ones; `None`: the plan has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strangers: Option<StrangersRecord>,
    /// `None`: the load had no leases of seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leases: Option<LeasesJudged>,
    /// The books of each cluster's ledger at the end; a fold over the histories has to lead to the
    /// same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub books: Vec<BooksRecord>,
    /// The place where a divergence begins, if one was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub localisation: Option<Localisation>,
    /// The missing sync behind a finding after a power loss, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing_sync: Option<MissingSync>,
    /// Checks that did not run, and why.
    pub skipped_checks: Vec<String>,
    /// A SIGINT or SIGTERM ended the run early.
    pub interrupted: bool,
    /// Deaths of the harness; each killed all members, and the run continued after it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resumed: Vec<ResumedRecord>,
    /// Start, UTC, `YYYY-MM-DDTHH:MM:SSZ`.
    pub started_utc: String,
    /// Since the run was started, or resumed the last time.
    pub elapsed_ms: u64,
    /// CPU time, user and system, of the members, the inspectors and the other children that have
    /// ended. `None`: the record is older than this field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub children_cpu_ms: Option<u64>,
    #[serde(flatten)]
    pub provenance: ProvenanceRecord,
    /// The command that repeats this run.
    pub repro: String,
}

impl RunSummary {
    /// Findings that were suppressed because the scenario knows them.
    pub fn suppressed(&self) -> u64 {
        self.known.iter().map(|known| known.count).sum()
    }

    /// Cycles whose fault landed as planned.
    pub fn landed(&self) -> usize {
        self.cycles.iter().filter(|cycle| cycle.landed()).count()
    }

    /// Acknowledged writes per second of load, all clusters together, rounded down; `None`: it is
    /// not known how long the load ran.
    pub fn writes_per_second(&self) -> Option<u64> {
        self.load.acked_writes.saturating_mul(1_000).checked_div(self.load.ran_ms)
    }

    /// The share (0 to 1) of writes whose answer never came, among all that may have happened.
    pub fn unknown_share(&self) -> f64 {
        self.load.unknown_writes as f64 / (self.load.acked_writes + self.load.unknown_writes).max(1) as f64
    }

    /// SIGKILLs of ours that landed.
    pub fn kills(&self) -> u64 {
        self.cycles.iter().map(|cycle| u64::from(cycle.kills.landed)).sum()
    }

    /// The kills with which the power stayed.
    pub fn kills_alone(&self) -> u64 {
        // The power that fails after a failed sync needs no kill.
        let cut = self.cycles.iter().filter(|cycle| !cycle.kills.none_planned);
        self.kills().saturating_sub(cut.map(|cycle| u64::from(cycle.kills.power_losses)).sum())
    }

    /// The kills with which the power failed.
    pub fn power_losses(&self) -> u64 {
        self.cycles.iter().map(|cycle| u64::from(cycle.kills.power_losses)).sum()
    }

    /// Disks that were full, and that were asked for room meanwhile.
    pub fn disks_filled(&self) -> u64 {
        let all = self.cycles.iter().flat_map(|cycle| &cycle.lasting);
        let met = all.filter(|lasting| lasting.kind == LastingKind::Fill && lasting.met > 0);
        met.map(|lasting| lasting.victims.len() as u64).sum()
    }

    /// Syncs, reads and writes that failed.
    pub fn io_errors(&self) -> u64 {
        let kinds = [LastingKind::FailSync, LastingKind::FailRead, LastingKind::FailWrite];
        kinds.into_iter().map(|kind| self.met(kind)).sum()
    }

    /// Operations that met disks that failed in that way.
    pub fn met(&self, kind: LastingKind) -> u64 {
        let all = self.cycles.iter().flat_map(|cycle| &cycle.lasting);
        all.filter(|lasting| lasting.kind == kind).map(|lasting| lasting.met).sum()
    }

    /// Members that ended by themselves, of an error that their disks were made to give them.
    pub fn disk_ends(&self) -> u64 {
        self.cycles.iter().map(|cycle| u64::from(cycle.kills.disk_ends)).sum()
    }

    /// Cycles that were carried out in `elapsed_ms`: since the run was resumed the last time.
    pub fn cycles_of_this_life(&self) -> usize {
        let before = |cycle: &&CycleRecord| {
            let resumed = self.resumed.iter().filter(|one| one.cluster == cycle.cluster);
            resumed.map(|one| one.after_cycle).max().is_some_and(|after| cycle.cycle <= after)
        };
        self.cycles.len() - self.cycles.iter().filter(before).count()
    }

    /// Files of dead members that were damaged, of so many that were planned and could be.
    pub fn damages(&self) -> (u64, u64) {
        let planned = || self.cycles.iter().filter_map(|cycle| cycle.damage.as_ref()).filter(|one| !one.not_applicable);
        (planned().filter(|one| one.damage.is_some()).count() as u64, planned().count() as u64)
    }

    /// Members that ended of a damaged file.
    pub fn damages_refused(&self) -> u64 {
        let damages = self.cycles.iter().filter_map(|cycle| cycle.damage.as_ref());
        damages.filter(|one| one.refusal.is_some()).count() as u64
    }

    pub fn lost_entries(&self) -> u64 {
        self.cycles.iter().map(|cycle| cycle.recovery.lost_entries).sum()
    }

    /// Whether the members' engine is unknown.
    pub fn is_opaque(&self) -> bool {
        !self.cluster.slots.is_empty() && self.cluster.slots.iter().all(|slot| slot.engine_at_start == Engine::Opaque)
    }

    /// Entries that killed members had to catch up with, summed over the victim furthest behind of
    /// each cycle.
    pub fn behind(&self) -> u64 {
        self.cycles.iter().map(|cycle| cycle.recovery.behind).sum()
    }

    pub fn replayed(&self) -> u64 {
        self.cycles.iter().map(|cycle| cycle.recovery.replayed).sum()
    }
}
