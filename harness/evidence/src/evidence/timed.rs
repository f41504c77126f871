//! What was timed: cuts that left a majority, and how a cycle healed.

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
