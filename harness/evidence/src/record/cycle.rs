//! The record of one cycle.

use super::explored::ExploredRecord;
use crate::damage::DamageRecord;
use crate::member::{Engine, Role};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Victim {
    pub member: u64,
    /// Its role when it was chosen.
    pub role: Role,
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
    /// The victims' disks had no room, or little.
    Fill,
    /// A sync of each victim failed.
    FailSync,
    /// The victims' syncs took longer.
    Slow,
    /// Reads of the victims failed.
    FailRead,
    /// Writes of the victims failed.
    FailWrite,
    /// Writes of the victims were carried out in part, and said so.
    Shorten,
}

/// A pause, a disturbance of peer links or a fault of disks, and its result.
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
    /// Operations of the victims that met a disk's ailment.
    #[serde(default, skip_serializing_if = "super::is_zero")]
    pub met: u64,
    /// The reads or writes that failed or were cut short: `sst.read`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// Reason why it did not begin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
    /// It did not begin, because its window does not exist on the victim's engine.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub not_applicable: bool,
}

impl LastingRecord {
    /// The record of a fault that has not begun.
    pub fn planned(fault: String, kind: LastingKind) -> Self {
        Self {
            fault,
            kind,
            victims: Vec::new(),
            links: 0,
            lasted_ms: None,
            behind: 0,
            majority: Vec::new(),
            majority_wrote_ms: None,
            met: 0,
            operation: None,
            skipped: None,
            not_applicable: false,
        }
    }
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

/// The step of a cycle, as planned.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedRecord {
    /// The plan's step, as text: `kill follower#1 at flush.completed hit 2`.
    pub trigger: String,
    /// The crash window in which the kill was planned; `None` for a kill at an applied index or a
    /// time.
    pub window: Option<String>,
    pub hit: Option<u64>,
}

/// The kills of a cycle.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KillsRecord {
    /// SIGKILLs of ours that landed in this cycle (several for a majority, or a second kill in
    /// recovery).
    #[serde(rename = "kills")]
    pub landed: u32,
    /// Those of them with which the power failed.
    #[serde(default, skip_serializing_if = "super::is_zero")]
    pub power_losses: u32,
    /// Explored crash states of its cuts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub explored: Vec<ExploredRecord>,
    /// Members that ended by themselves, of an error that their disks were made to give them.
    #[serde(default, skip_serializing_if = "super::is_zero")]
    pub disk_ends: u32,
    /// Kills that hit a member, by its engine.
    #[serde(default, rename = "kills_by_engine")]
    pub by_engine: BTreeMap<Engine, u32>,
    /// The step planned no kill, so that no memtable can be lost.
    #[serde(default, rename = "without_kill", skip_serializing_if = "std::ops::Not::not")]
    pub none_planned: bool,
    /// Kills that followed the first one; a skip here does not skip the cycle.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub again: Vec<AgainRecord>,
}

/// The loss by the kills of a cycle, and the recovery from it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoveryRecord {
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
    #[serde(default, skip_serializing_if = "super::is_zero")]
    pub behind: u64,
    /// N of the first victim, as the dead directory has it; `None`: never persisted.
    pub persisted_before: Option<u64>,
    /// N of the first victim at the end of the cycle.
    pub persisted_after: Option<u64>,
    /// A snapshot was installed by a restarted member.
    pub snapshot_installed: bool,
    /// Kill until serving again, the slowest victim.
    #[serde(rename = "recovery_ms")]
    pub serving_ms: u64,
    /// Serving until caught up, the slowest victim.
    pub catch_up_ms: u64,
}

/// One cycle: one fault on its victims, restart, catch up, fence, verify.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CycleRecord {
    /// From 1.
    pub cycle: u32,
    /// The cluster that it was carried out on, from 1.
    #[serde(default = "super::first", skip_serializing_if = "super::is_first")]
    pub cluster: u32,
    pub victims: Vec<Victim>,
    #[serde(flatten)]
    pub planned: PlannedRecord,
    pub outcome: FaultOutcome,
    /// The planned step does not exist on the engine of the member that it was for: a skip that
    /// says nothing about how well the faults landed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub not_applicable: bool,
    #[serde(flatten)]
    pub kills: KillsRecord,
    /// Pauses, disturbances of links and faults of disks; beside a kill, a skip here does not skip
    /// the cycle.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lasting: Vec<LastingRecord>,
    /// The planned damage of a file of the victim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damage: Option<Box<DamageRecord>>,
    /// Raft terms that passed from the first of them until all had ended.
    #[serde(default, skip_serializing_if = "super::is_zero")]
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
    #[serde(flatten)]
    pub recovery: RecoveryRecord,
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
        !self.kills.by_engine.is_empty() && self.kills.by_engine.keys().all(|engine| *engine == Engine::Opaque)
    }

    /// Whether a member with an LSM engine died. It has memtables to lose; a member on redb loses
    /// one group of entries at most.
    pub fn killed_an_lsm(&self) -> bool {
        self.kills.by_engine.get(&Engine::Rocksdb).is_some_and(|kills| *kills > 0)
    }
}
