//! The members by the ids that servers give themselves.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The harness's id by the server's own.
#[derive(Debug, Clone, Default)]
pub struct Ids(Arc<Mutex<BTreeMap<u64, u64>>>);

impl Ids {
    pub fn met(&self, theirs: u64, ours: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(theirs, ours);
    }

    /// The harness's id of the server `theirs`; 0: unknown.
    pub fn ours(&self, theirs: u64) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&theirs).copied().unwrap_or(0)
    }
}
