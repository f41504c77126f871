//! Explored crash states: the data that `verdict.json` stores with a cycle.

use serde::{Deserialize, Serialize};

/// The crash states of one cut's instant that were tried.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExploredRecord {
    pub member: u64,
    /// Operations that could be lost at that instant.
    pub operations: u64,
    /// Distinct states that were tried.
    pub states: u64,
    /// States that equalled an earlier one.
    pub equal: u64,
    pub elapsed_ms: u64,
    /// They were made in memory; where this user may not mount one, on the report's disk.
    #[serde(default)]
    pub in_memory: bool,
}

impl ExploredRecord {
    /// Distinct states per minute; `None`: none was tried.
    pub fn per_minute<'a>(all: impl IntoIterator<Item = &'a Self>) -> Option<(u64, u64)> {
        let (mut states, mut elapsed_ms) = (0, 0);
        for one in all {
            states += one.states;
            elapsed_ms += one.elapsed_ms;
        }
        (states > 0).then(|| (states, states * 60_000 / elapsed_ms.max(1)))
    }
}
