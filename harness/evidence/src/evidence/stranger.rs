//! What a stranger shows of itself.

use serde::{Deserialize, Serialize};

/// Keys of strangers begin with this; no operation of the load has such a key.
const OWN_KEYS: &str = "stranger/";

/// A member of another cluster, as it was read over its own client endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StrangerSeen {
    /// The id of its cluster when it was read for the first time in this run.
    pub founded: u64,
    /// The id of its cluster now.
    pub cluster: u64,
    /// Keys that it holds.
    pub keys: u64,
    /// Keys that it holds and that are not its own, the first few.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub foreign: Vec<String>,
}

impl StrangerSeen {
    /// The key that the stranger in slot number `slot` writes in `cycle`.
    pub fn own_key(cycle: u32, slot: u64) -> String {
        format!("{OWN_KEYS}{cycle}/{slot}")
    }

    /// Whether `key` is one that strangers write.
    pub fn is_own_key(key: &[u8]) -> bool {
        key.starts_with(OWN_KEYS.as_bytes())
    }
}
