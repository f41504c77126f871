//! A member's own figures, on one line of the history.

use serde::{Deserialize, Serialize};

/// What a member said of itself, at some moment of one of its lives. Indexes are counts of entries:
/// one more than the index, 0 for none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "[u64; 13]", into = "[u64; 13]")]
pub struct Reading {
    /// Its lives so far, this one included.
    pub life: u64,
    /// Readings of this life that had been answered when this one was asked for.
    pub after: u64,
    pub term: u64,
    /// 0: it knows none.
    pub leader: u64,
    pub purged: u64,
    pub persisted: u64,
    pub flushed: u64,
    pub applied: u64,
    pub committed: u64,
    pub log_durable: u64,
    pub log_last: u64,
    pub revision: u64,
    pub compacted: u64,
}

/// In the order of the fields: a history has many of them.
impl From<Reading> for [u64; 13] {
    fn from(one: Reading) -> Self {
        [
            one.life,
            one.after,
            one.term,
            one.leader,
            one.purged,
            one.persisted,
            one.flushed,
            one.applied,
            one.committed,
            one.log_durable,
            one.log_last,
            one.revision,
            one.compacted,
        ]
    }
}

impl From<[u64; 13]> for Reading {
    fn from(of: [u64; 13]) -> Self {
        let [
            life,
            after,
            term,
            leader,
            purged,
            persisted,
            flushed,
            applied,
            committed,
            log_durable,
            log_last,
            revision,
            compacted,
        ] = of;
        Self {
            life,
            after,
            term,
            leader,
            purged,
            persisted,
            flushed,
            applied,
            committed,
            log_durable,
            log_last,
            revision,
            compacted,
        }
    }
}
