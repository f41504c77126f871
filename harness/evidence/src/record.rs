//! Records of cycles and runs: the data that `verdict.json` stores, and that every report is drawn
//! from.
//!
//! Plain data, no behaviour beyond sums: a stored record must read back without a cluster.

pub mod books;
pub mod crowd;
pub mod explored;
pub mod known;
pub mod localisation;
pub mod missing_sync;
pub mod pace;
pub mod refused;

use crate::member::{Engine, Role, Slot};
use crate::verdict::{Finding, Verdict};
use books::BooksRecord;
use crowd::CrowdRecord;
use explored::ExploredRecord;
use known::KnownRecord;
use localisation::Localisation;
use missing_sync::MissingSync;
use pace::PaceRecord;
use refused::StepRecord;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Version of the `verdict.json` schema: raised when a field changes its meaning or goes away.
pub const SCHEMA_VERSION: u32 = 2;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Victim {
    pub member: u64,
    /// Its role when it was chosen.
    pub role: Role,
}

/// The number of the first cluster, the only one of most runs.
fn first() -> u32 {
    1
}

fn is_first(cluster: &u32) -> bool {
    *cluster == 1
}

/// Result of a planned fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultOutcome {
    /// The SIGKILL was ours, and it landed where the plan said.
    Landed,
    /// The planned step was not reached (no leader to kill, window not passed in its bound): data,
    /// not an error.
    Skipped { why: String },
    /// The process is dead, but not provably by our signal in the planned place.
    Indeterminate { why: String },
}

/// Milliseconds spent in each phase of a cycle. Phases of several victims overlap: the longest one
/// counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhasesMs {
    /// From the cycle's start until the last victim is dead.
    pub kill: u64,
    /// Copying and inspecting the dead directories.
    pub inspect: u64,
    /// From spawn until the listeners are bound.
    pub restart: u64,
    /// From serving until recovery is complete and the member has applied what the cluster had.
    pub catch_up: u64,
    /// From proposing the fence until every member has answered for it.
    pub fence: u64,
    /// Checking the evidence.
    pub verify: u64,
}

/// The effect of a fault that ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LastingKind {
    /// The victims stood still.
    Pause,
    /// Links between the victims and the others were disturbed.
    Network,
}

/// A pause, or a disturbance of peer links, and its result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastingRecord {
    /// The fault in the words of the plan: `pause leader for 400ms at applied +12`.
    pub fault: String,
    pub kind: LastingKind,
    pub victims: Vec<Victim>,
    /// Links that were disturbed, counted in directions.
    #[serde(default)]
    pub links: u32,
    /// Milliseconds for which it lasted; `None`: it never began, or the run ended before it.
    pub lasted_ms: Option<u64>,
    /// Entries that the victim furthest behind lacked in the end, as far as it was heard of.
    #[serde(default)]
    pub behind: u64,
    /// The members that all heard each other while it lasted, if they are a majority and it was the
    /// only fault: they had to acknowledge a write.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub majority: Vec<u64>,
    /// From its beginning until they did, milliseconds; `None`: not while it lasted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub majority_wrote_ms: Option<u64>,
    /// Reason why it did not begin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
    /// It did not begin, because its window does not exist on the victim's engine.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub not_applicable: bool,
}

/// A further kill of the first victim, in a life that the one before it had led to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgainRecord {
    pub member: u64,
    pub window: String,
    pub hit: u64,
    /// Reason why the window was not reached; `None`: the kill landed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
}

/// One cycle: one fault on its victims, restart, catch up, fence, verify.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CycleRecord {
    /// From 1.
    pub cycle: u32,
    /// The cluster that it was carried out on, from 1.
    #[serde(default = "first", skip_serializing_if = "is_first")]
    pub cluster: u32,
    pub victims: Vec<Victim>,
    /// The plan's step, as text: `kill follower#1 at flush.completed hit 2`.
    pub trigger: String,
    /// The crash window in which the kill was planned; `None` for a kill at an applied index or a
    /// time.
    pub window: Option<String>,
    pub hit: Option<u64>,
    pub outcome: FaultOutcome,
    /// The planned step does not exist on the engine of the member that it was for: a skip that
    /// says nothing about how well the faults landed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub not_applicable: bool,
    /// SIGKILLs of ours that landed in this cycle (several for a majority, or a second kill in
    /// recovery).
    pub kills: u32,
    /// Those of them with which the power failed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub power_losses: u32,
    /// Explored crash states of its cuts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub explored: Vec<ExploredRecord>,
    /// Kills that hit a member, by its engine.
    #[serde(default)]
    pub kills_by_engine: BTreeMap<Engine, u32>,
    /// The step planned no kill, so that no memtable can be lost.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub without_kill: bool,
    /// Kills that followed the first one; a skip here does not skip the cycle.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub again: Vec<AgainRecord>,
    /// Pauses and disturbances of links; beside a kill, a skip here does not skip the cycle.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lasting: Vec<LastingRecord>,
    /// Raft terms that passed from the first of them until all had ended.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub terms_passed: u64,
    /// Raft terms that passed in a cycle whose fault cannot have caused an election; `None`: the
    /// fault may have caused one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unforced_terms: Option<u64>,
    /// The machine's factor over the cycle, percent: how much slower than idle it was.
    #[serde(default = "crate::stretched::as_idle")]
    pub machine_percent: u32,
    /// A member changed its engine.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub upgraded: bool,
    /// The cluster was restored from a snapshot, and is a new one since.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub restored: bool,
    /// Lower bound of the applied entries that the kills took out of memtables, summed over the
    /// victims: the highest applied index received before the kill, minus what the dead directory
    /// still proves (E).
    pub lost_entries: u64,
    /// Entries of (N, E] that the restarted members verified, summed.
    pub verified: u64,
    /// Entries above E that the restarted members applied again, summed.
    pub replayed: u64,
    /// Entries that the cluster had applied, when all served again, beyond what the victim furthest
    /// behind was heard to have applied before its death.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub behind: u64,
    /// N of the first victim, as the dead directory has it; `None`: never persisted.
    pub persisted_before: Option<u64>,
    /// N of the first victim at the end of the cycle.
    pub persisted_after: Option<u64>,
    /// A snapshot was installed by a restarted member.
    pub snapshot_installed: bool,
    /// Kill until serving again, the slowest victim.
    pub recovery_ms: u64,
    /// Serving until caught up, the slowest victim.
    pub catch_up_ms: u64,
    /// Raft index of the fence that every replica answered; `None`: there was none.
    pub fence_index: Option<u64>,
    /// Number of findings of this cycle.
    pub findings: u32,
    /// Whole cycle, milliseconds.
    pub duration_ms: u64,
    pub phases: PhasesMs,
    /// Reason why this cycle proved nothing about replay ("nothing was lost or replayed"); `None`:
    /// it proved something.
    pub proved_nothing: Option<String>,
}

fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl LastingRecord {
    pub fn began(&self) -> bool {
        self.skipped.is_none()
    }
}

impl CycleRecord {
    pub fn landed(&self) -> bool {
        self.outcome == FaultOutcome::Landed
    }

    /// Whether only servers died whose data is unknown.
    pub fn killed_only_opaque(&self) -> bool {
        !self.kills_by_engine.is_empty() && self.kills_by_engine.keys().all(|engine| *engine == Engine::Opaque)
    }

    /// Whether a member with an LSM engine died. It has memtables to lose; a member on redb loses
    /// one group of entries at most.
    pub fn killed_an_lsm(&self) -> bool {
        self.kills_by_engine.get(&Engine::Rocksdb).is_some_and(|kills| *kills > 0)
    }
}

/// A binary that took part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    #[serde(default = "first", skip_serializing_if = "is_first")]
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

/// A whole run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunSummary {
    pub schema_version: u32,
    pub verdict: Verdict,
    pub findings: Vec<Finding>,
    /// The findings that the scenario knows, one record for each signature: they count for no
    /// verdict.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub known: Vec<KnownRecord>,
    /// The scenario's name, the stem of its file.
    pub scenario: String,
    /// Path of the scenario, as it was given.
    pub scenario_path: String,
    /// SHA-256 of the scenario's text and of the plan's text, lower-case hex.
    pub scenario_digest: String,
    pub plan_digest: String,
    pub seed: u64,
    pub cycles_planned: u32,
    /// The quotas of this run; a run shorter than the scenario's has a share of them, rounded down.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quotas: Vec<QuotaRecord>,
    pub cycles: Vec<CycleRecord>,
    /// Clusters that ran side by side, each with `members` members.
    #[serde(default = "first", skip_serializing_if = "is_first")]
    pub clusters: u32,
    pub members: u32,
    /// The engine with which the members started: one name for all, or one for each.
    pub backend: String,
    #[serde(default)]
    pub slots: Vec<SlotRecord>,
    /// The planted bug that the nodes ran with, if any.
    pub sabotage: Option<String>,
    /// Fault classes that this run covers; it does not cover the others.
    pub fault_classes: Vec<String>,
    pub acked_writes: u64,
    pub unknown_writes: u64,
    pub reads: u64,
    /// The outcomes of the operations, by the kind of step that asked for them. Empty: the record
    /// is older than this field.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub operations: Vec<StepRecord>,
    /// Milliseconds for which the load ran; of several clusters the longest. 0: it did not run, or
    /// the record is older than this field.
    #[serde(default)]
    pub load_ms: u64,
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
    pub elapsed_ms: u64,
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
        self.acked_writes.saturating_mul(1_000).checked_div(self.load_ms)
    }

    /// The share (0 to 1) of writes whose answer never came, among all that may have happened.
    pub fn unknown_share(&self) -> f64 {
        self.unknown_writes as f64 / (self.acked_writes + self.unknown_writes).max(1) as f64
    }

    /// SIGKILLs of ours that landed.
    pub fn kills(&self) -> u64 {
        self.cycles.iter().map(|cycle| u64::from(cycle.kills)).sum()
    }

    /// The kills with which the power stayed.
    pub fn kills_alone(&self) -> u64 {
        self.kills().saturating_sub(self.power_losses())
    }

    /// The kills with which the power failed.
    pub fn power_losses(&self) -> u64 {
        self.cycles.iter().map(|cycle| u64::from(cycle.power_losses)).sum()
    }

    pub fn lost_entries(&self) -> u64 {
        self.cycles.iter().map(|cycle| cycle.lost_entries).sum()
    }

    /// Whether the members' engine is unknown.
    pub fn is_opaque(&self) -> bool {
        !self.slots.is_empty() && self.slots.iter().all(|slot| slot.engine_at_start == Engine::Opaque)
    }

    /// Entries that killed members had to catch up with, summed over the victim furthest behind of
    /// each cycle.
    pub fn behind(&self) -> u64 {
        self.cycles.iter().map(|cycle| cycle.behind).sum()
    }

    pub fn replayed(&self) -> u64 {
        self.cycles.iter().map(|cycle| cycle.replayed).sum()
    }
}
