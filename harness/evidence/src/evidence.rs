//! Evidence: everything that the harness did and saw, as a type. A line of the history is one piece
//! of it.
//!
//! Evidence is exactly the input of the judges: the oracle's `Ledger` writes each piece down and
//! judges it, and the history's order is the order of judging. A fold over the lines comes to the
//! same books and the same findings. Some findings are testimony, because only
//! the run could see that a bound passed, or that a process died by itself. Those are
//! [`Evidence::Told`], with the finding in full.
//!
//! Both directions of the format are here, and a variant is all that a new kind of evidence needs.
//! Lines are small: filler is a length ([`text`]), a revision that another stream has delivered
//! before is a digest, equal answers are written once.

mod answer;
mod change;
mod dead;
mod fresh_watch;
mod line;
pub mod logged;
mod reading;
mod stranger;
mod timed;

pub use change::Change;
pub use dead::DeadMember;
pub use fresh_watch::{Heard, Resumption};
pub use reading::Reading;
pub use stranger::StrangerSeen;
pub use timed::{Cost, Cut, Healing, HealingBounds, LeaderNamed, Leaderless, Served, WatchEnd};

pub use answer::{Answers, FenceAnswer, IndexRange, KvAnswer, Lease, MemberWatermarks, Recovered};
pub use line::read_line;

use crate::damage::{Damage, Refusal};
use crate::ended::Ended;
use crate::member::{Engine, Slot};
use crate::operation::{Action, KeyState, OpId, Outcome, Purpose, Reason, Reply};
use crate::power::Lost;
use crate::record::{CycleRecord, QuotaRecord, SlotRecord};
use crate::stretched::Stretched;
use crate::verdict::Finding;
use crate::verdict::findings::parts::LongStream;
use logged::{Digest, LogEvidence};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use strum::{EnumDiscriminants, EnumIter, IntoStaticStr};

/// Version of the history's format: raised when a line changes its meaning.
pub const HISTORY_VERSION: u32 = 2;

/// The first line of a history: what its evidence is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    pub version: u32,
    /// From 1.
    pub cluster: u32,
    pub slots: Vec<Slot>,
    pub scenario_digest: String,
    pub plan_digest: String,
    pub seed: u64,
    /// The settings that `run --resume` needs beyond plan and scenario.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobRecord>,
}

/// The settings with which a run was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRecord {
    pub node: PathBuf,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inspector: Option<PathBuf>,
    pub sabotage: Option<String>,
    pub keep: bool,
    pub sweep: bool,
    pub quotas: Vec<QuotaRecord>,
    pub repro: String,
}

/// Reason why a dead directory was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Look {
    /// The member was killed.
    Killed,
    /// `migrate` was killed while it worked on the directory.
    MigrateKilled,
    /// `migrate` ended with success: the engine that it had to make, and the index that it claims.
    Migrated { to: Engine, index: Option<u64> },
}

/// A step on the way through a cycle, written down before it is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Did {
    /// A window is armed on a member that runs.
    Arm,
    /// A member is started, with a window armed if there is one.
    Start,
    Kill,
    /// The power of a dead member fails: its directory is about to lose what was not synced.
    CutPower,
    /// A fault that ends by itself begins.
    Begin,
    /// It ends.
    End,
    /// A fence is proposed.
    Fence,
    MemberRemove,
    MemberAdd,
    /// The cluster gave the new member its id.
    MemberAdded,
    MemberPromote,
    /// A file of a dead member is about to be damaged.
    Damage,
    /// `migrate` starts to work on a member's directory.
    Migrate,
    /// A member is asked for a defragmentation, so that it passes a window of one.
    Defragment,
    /// A member is asked for a snapshot, from which the cluster is to be restored.
    Save,
    /// `snapshot restore` makes a member's directory.
    Restore,
    /// After a known finding all members are killed and started again.
    BeginAnew,
}

/// One action or observation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, EnumDiscriminants)]
#[serde(tag = "event", rename_all = "kebab-case")]
#[strum_discriminants(
    name(EvidenceKind),
    doc = "Which variant of [`Evidence`] a piece is.",
    derive(PartialOrd, Ord, Hash, IntoStaticStr, EnumIter),
    strum(serialize_all = "kebab-case")
)]
pub enum Evidence {
    History(Head),

    /// A request is about to be sent to the `endpoint`-th member.
    Invoke {
        op: OpId,
        endpoint: usize,
        action: Action,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        purpose: Option<Purpose>,
    },
    /// Answered.
    Done {
        op: OpId,
        revision: u64,
        term: u64,
        reply: Reply,
    },
    /// Certainly not done.
    Refused {
        op: OpId,
        why: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<Reason>,
    },
    /// It may or may not have happened, or still happen.
    Unknown {
        op: OpId,
        why: String,
    },

    /// The stream of `slot` starts, or starts again, at `from`.
    Watch {
        slot: Slot,
        from: u64,
    },
    /// The stream of `slot` broke.
    WatchEnded {
        slot: Slot,
        why: String,
    },
    /// The stream of `slot` delivered a revision that the history does not have, or has with other
    /// changes.
    Revision {
        revision: u64,
        slot: Slot,
        changes: Vec<Change>,
    },
    /// The stream of `slot` delivered a revision that the history has already, with the digest of
    /// its changes.
    Again {
        revision: u64,
        slot: Slot,
        #[serde(rename = "mark")]
        digest: Digest<8>,
    },
    /// The stream of `slot` was told that all through `compacted` is gone.
    Skipped {
        slot: Slot,
        compacted: u64,
    },

    /// A cycle begins.
    Cycle {
        cycle: u32,
        what: String,
    },
    /// A step on the way through a cycle: nothing is judged by it.
    Did {
        cycle: u32,
        did: Did,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        member: Option<u64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        what: Option<String>,
    },
    /// `member` is to found the cluster, in `slot`, at these addresses; they stay the slot's.
    Place {
        slot: Slot,
        member: u64,
        engine: Engine,
        peer: SocketAddr,
        client: SocketAddr,
        control: SocketAddr,
    },
    /// From here on `member` is in `slot`.
    MovedIn {
        cycle: u32,
        slot: Slot,
        member: u64,
        engine: Engine,
    },
    /// `member` is about to be asked for a snapshot, which has to hold every write that was
    /// acknowledged by now.
    Saving {
        cycle: u32,
        member: u64,
    },
    /// All members are dead, load and watches have ended, and another cluster goes on: it begins
    /// with the snapshot that was saved last, of `revision`, at raft index `index`. Writes that
    /// were acknowledged at a later revision must not be there.
    Restored {
        cycle: u32,
        revision: u64,
        /// The index at which the restored directories say that they begin; `None`: they name no
        /// index.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        index: Option<u64>,
        /// The founders. The members in other slots are added later.
        founders: Vec<(Slot, u64, Engine)>,
    },
    /// A member's own watermarks, read just before a kill.
    Reading {
        cycle: u32,
        member: u64,
        status: MemberWatermarks,
    },
    /// A SIGKILL of ours ended `member`. `None`: it was `migrate`, working on the member's
    /// directory.
    Killed {
        cycle: u32,
        member: u64,
        engine: Option<Engine>,
    },
    /// `member` ended by itself, of an error that its disk was made to give it.
    EndedByDisk {
        cycle: u32,
        member: u64,
        ended: Ended,
    },
    /// The power failed with the kill of `member` before this, and changes that were not synced
    /// survived with a chance of `keep_percent`.
    PowerLost {
        cycle: u32,
        member: u64,
        keep_percent: u32,
        lost: Lost,
    },
    /// A file of `member`, which is dead and was inspected, was changed.
    Damaged {
        cycle: u32,
        member: u64,
        damage: Damage,
    },
    /// `member` ended by itself, in the life that began with a damaged file.
    RefusedDamage {
        cycle: u32,
        member: u64,
        refusal: Refusal,
    },
    /// A dead directory was read.
    Inspected {
        cycle: u32,
        member: u64,
        look: Look,
        /// The highest applied index that was received of the member before the kill.
        applied_received: Option<u64>,
        dead: DeadMember,
    },
    /// News from the dead member's raft log.
    RaftLog {
        log: LogEvidence,
    },
    /// A member of another cluster, which stood in the place of the dead member of `slot`, was
    /// read.
    Stranger {
        cycle: u32,
        slot: Slot,
        seen: StrangerSeen,
    },
    /// `member`, which is to found the cluster with others, was started from another state than
    /// they: its cluster's id beside theirs, and the leader that it follows, or 0.
    Unlike {
        cycle: u32,
        member: u64,
        ours: u64,
        cluster: u64,
        leader: u64,
    },
    /// A fence is about to be proposed, whose state has to hold every write that was acknowledged
    /// by now: the baseline.
    #[serde(rename = "mark")]
    #[strum_discriminants(strum(serialize = "mark"))]
    Baseline {
        cycle: u32,
    },
    /// A member did not find the fence at `index`, and gives this account of its recovery.
    Missed {
        cycle: u32,
        member: u64,
        index: u64,
        #[serde(flatten)]
        recovery: Recovered,
    },
    /// All members answered for the fence.
    FenceAnswers {
        cycle: u32,
        answers: Answers,
    },
    /// All members showed their state at `revision`. A first `reading` (1) in which they disagree
    /// is followed by a second one, and only that is judged.
    KvFence {
        cycle: u32,
        /// A raft index at or above the one that made the revision.
        index: u64,
        revision: u64,
        reading: u32,
        /// The members are etcd's own, so that the rows are known, and with them the correct HashKV
        /// (by the version).
        etcd: bool,
        answers: Vec<KvAnswer>,
    },
    /// A member's status readings since the fence before, in the order of its answers.
    Readings {
        cycle: u32,
        member: u64,
        readings: Vec<Reading>,
    },
    /// The moment at which a majority that a cut left connected first acknowledged a write, and the
    /// bound for it.
    Cut {
        cut: Cut,
        bound_ms: u64,
    },
    /// The view of a client of a member that a cut left without a quorum, and the bound within
    /// which the member has to say so.
    Leaderless {
        leaderless: Leaderless,
        bound_ms: u64,
    },
    /// The service of the cluster after the fence, and the bounds for it.
    Healed {
        healing: Healing,
        bounds: HealingBounds,
    },
    /// The load has ended, and the leases of seconds had until `bound_ms` beyond their time to end
    /// as well, or have ended.
    LeasesAwaited {
        bound_ms: u64,
        /// The bound on the median time until a renewal was answered.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        answer: Option<Stretched>,
    },
    /// The processor time of dear transactions, and the share of the most that a member took for
    /// them that another one may take.
    Cost {
        cost: Cost,
        percent_max: u64,
    },
    /// The answers on one kind of long stream, and the bound on the median of their times.
    Pulse {
        stream: LongStream,
        answers: u64,
        median_us: u64,
        bound: Stretched,
    },
    /// The result of a watch that was opened anew on a restarted member.
    FreshWatch {
        cycle: u32,
        member: u64,
        asked: Resumption,
        heard: Heard,
    },
    /// A restarted member's account of its recovery, asked for after the fence.
    Recovery {
        cycle: u32,
        member: u64,
        #[serde(flatten)]
        recovery: Recovered,
    },
    /// Every key of a member, read in the end.
    LastRead {
        member: u64,
        revision: u64,
        rows: Vec<KeyState>,
    },

    /// A finding that does not follow from the evidence here: the run's testimony.
    Told {
        finding: Finding,
    },
    /// A finding, as the run judged it; judging again has to lead to it.
    Finding {
        finding: Finding,
        /// The scenario's signature that it is suppressed by.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        known: Option<String>,
    },
    CycleEnd {
        record: CycleRecord,
    },
    /// The harness was killed, and with it all members; it goes on after cycle `after_cycle`, for
    /// the `times`-th time.
    Resumed {
        times: u32,
        after_cycle: u32,
    },
    /// The cluster's part ended; nothing is recorded or judged after this.
    End(End),
}

/// The end of a cluster's part of a run. The ends of all clusters add up to the run's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    pub interrupted: bool,
    pub slots: Vec<SlotRecord>,
    pub skipped_checks: Vec<String>,
    /// Milliseconds for which the load ran, up to the last read; of several clusters the longest.
    #[serde(default)]
    pub load_ms: u64,
}

impl End {
    /// Adds the end of another cluster's part. A check that several skipped is listed once.
    pub fn add(&mut self, other: Self) {
        self.interrupted |= other.interrupted;
        self.slots.extend(other.slots);
        for check in other.skipped_checks {
            if !self.skipped_checks.contains(&check) {
                self.skipped_checks.push(check);
            }
        }
        self.load_ms = self.load_ms.max(other.load_ms);
    }
}

impl EvidenceKind {
    /// The name, as the history has it.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Whether such a piece comes from the load and the watches that run all the time, and not from
    /// a step of a cycle.
    pub fn is_of_the_load(self) -> bool {
        use EvidenceKind::*;
        matches!(self, Invoke | Done | Refused | Unknown | Watch | WatchEnded | Revision | Again | Skipped)
    }

    /// Whether the harness acts on such a piece before another one announces that: it must have
    /// been written down then.
    pub fn announces(self) -> bool {
        !self.is_of_the_load() || self == EvidenceKind::Invoke
    }
}

impl fmt::Display for EvidenceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Evidence {
    pub fn kind(&self) -> EvidenceKind {
        self.into()
    }

    /// The evidence of the end of `op`.
    pub fn of_outcome(op: OpId, outcome: &Outcome) -> Self {
        match outcome.clone() {
            Outcome::Done { revision, term, reply } => Self::Done { op, revision, term, reply },
            Outcome::Refused { why, reason } => Self::Refused { op, why, reason: Some(reason) },
            Outcome::Unknown { why } => Self::Unknown { op, why },
        }
    }
}

/// The digest of the changes that a stream delivered as one revision.
pub fn digest_of_changes(changes: &[Change]) -> Digest<8> {
    // The encoding is that of the history, so that a digest can be computed from its lines. Plain
    // data always has one.
    Digest::of(&serde_json::to_vec(changes).unwrap_or_default())
}

#[cfg(test)]
mod tests;
