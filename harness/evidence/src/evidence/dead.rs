//! What is left of a dead member.

use crate::member::Engine;
use crate::verdict::findings::parts::Vote;
use serde::{Deserialize, Serialize};

/// A dead member, as `inspect --json` prints it. All indexes are raft indexes; `None`: there is
/// none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeadMember {
    /// What the `db` in there is by nature.
    pub engine: Option<Engine>,
    /// N. On redb it is E by definition.
    pub last_flushed_index: Option<u64>,
    /// Why `last-flushed-index` cannot be read, if it exists and cannot.
    pub last_flushed_index_error: Option<String>,
    /// E: the engine's own consistent index.
    pub engine_index: Option<u64>,
    /// Why the engine cannot be opened, if it cannot.
    pub engine_error: Option<String>,
    /// First and last entry that the raft log holds.
    pub log_first: Option<u64>,
    pub log_last: Option<u64>,
    pub last_purged: Option<u64>,
    /// The member had answered the last commit of its log, by the number that it keeps beside it.
    /// `None`: the record is older than this, or its member keeps no such number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_answered: Option<bool>,
    pub vote_term: Option<u64>,
    pub vote_node: Option<u64>,
    pub vote_committed: Option<bool>,
    /// What the log had saved as committed; may lag what was applied.
    pub committed: Option<u64>,
    /// Why the raft log cannot be read, if it cannot; all that it would tell is absent then.
    pub log_error: Option<String>,
    /// A staged or an exchanged database lies beside `db`: a snapshot was being installed. Seen by
    /// the harness itself. `None`: the record is older than this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub install_under_way: Option<bool>,
}

impl DeadMember {
    /// The vote in its log; `None`: it never voted.
    pub fn vote(&self) -> Option<Vote> {
        let committed = self.vote_committed == Some(true);
        Some(Vote { term: self.vote_term?, node: self.vote_node, committed })
    }
}
