//! What was timed: the cost of dear requests, cuts that left a majority, members that a cut left
//! without one, and how a cycle healed.

use crate::stretched::{Stretched, as_idle};
use serde::{Deserialize, Serialize};

/// Links that were cut, and left a majority whose members heard each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    pub cycle: u32,
    /// As the plan has it.
    pub fault: String,
    pub majority: Vec<u64>,
    pub lasted_ms: u64,
    /// From its beginning until the majority acknowledged a write; `None`: not while it lasted.
    pub wrote_ms: Option<u64>,
    /// The factor by which the machine's pace stretches the bound, percent.
    #[serde(default = "as_idle")]
    pub machine_percent: u32,
}

/// A member that a cut left without a quorum, as a client saw it that wants a member with a leader.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaderless {
    pub cycle: u32,
    /// As the plan has it.
    pub fault: String,
    pub member: u64,
    pub lasted_ms: u64,
    /// The end of a watch that requires a leader; `None`: it was open as long as the cut lasted.
    pub ended: Option<WatchEnd>,
    /// The answer to the last question of who leads; `None`: it was not answered.
    pub named: Option<LeaderNamed>,
    /// The factor by which the machine's pace stretches the bound, percent.
    #[serde(default = "as_idle")]
    pub machine_percent: u32,
}

/// The end of a watch, from the member's side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchEnd {
    /// From the beginning of the cut.
    pub after_ms: u64,
    /// A client takes an end without an error for the end of what it asked for.
    pub by_error: bool,
    pub why: String,
}

/// The leader that a member names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderNamed {
    /// From the beginning of the cut until the question.
    pub after_ms: u64,
    /// 0: none.
    pub leader: u64,
}

/// Processor time that members took for transactions of the dearest kind, and for nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    pub requests: u32,
    /// The member that they were sent to; it may have another one evaluate what they read.
    pub asked: u64,
    /// Milliseconds of each member.
    pub cpu_ms: Vec<(u64, u64)>,
}

/// How a cycle healed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Healing {
    pub cycle: u32,
    /// From serving until every member had applied what the cluster had.
    pub caught_up_ms: u64,
    /// From proposing a write until every member had applied it, elections included.
    pub fence_ms: u64,
    /// The store's revision at the fence: every read is asked for after that.
    pub revision: u64,
    pub served: Vec<Served>,
}

/// A linearizable read at one member, after the fence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Served {
    pub member: u64,
    pub ms: u64,
    /// The revision of its answer, or why there is none.
    pub answer: Result<u64, String>,
}

/// Milliseconds, on an idle machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealingBounds {
    pub catch_up: u64,
    pub fence: u64,
    pub read: u64,
    /// The factor by which the machine's pace stretches them, percent.
    #[serde(default = "as_idle")]
    pub machine_percent: u32,
}

impl HealingBounds {
    /// `idle_ms`, stretched.
    pub fn stretched(&self, idle_ms: u64) -> Stretched {
        Stretched { idle_ms, factor_percent: self.machine_percent }
    }
}
