//! The place where a divergence begins, and its cause: the data that `verdict.json` stores under
//! `localisation`.

mod text;

pub use text::ids;

use crate::verdict::Class;
use serde::{Deserialize, Serialize};

/// An account for an engineer who was not there. Questions without an answer are listed in
/// `unknown`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Localisation {
    /// The class of the finding that is looked into.
    pub class: Class,
    pub cycle: Option<u32>,
    /// The cluster, where several ran side by side.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<u32>,
    /// The conclusion, a sentence each: what is wrong where, and what came before it.
    pub sentences: Vec<String>,
    /// The members whose state is wrong by the model; empty: none, or it cannot be said.
    pub wrong: Vec<u64>,
    /// The revision at which the first of them leaves the model.
    pub first: Option<FirstWrong>,
    /// The keys of that revision, as they must be and as each member has them.
    pub keys: Vec<WrongKey>,
    /// The watermarks of the members in that cycle, in order of time.
    pub watermarks: Vec<WatermarksRow>,
    pub excerpt: Option<Excerpt>,
    /// Questions that could not be answered, and why.
    pub unknown: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstWrong {
    pub member: u64,
    pub revision: u64,
    /// The raft entry that was applied wrongly; `None`: no raft log tells.
    pub index: Option<u64>,
    pub term: Option<u64>,
    /// The operation of the workload (`client.number`) that proposed it, if it can be told.
    pub operation: Option<String>,
    /// The effect of that entry.
    pub does: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrongKey {
    pub key: String,
    /// By the model.
    pub expected: String,
    /// Groups of members, each with the value that all of them have.
    pub found: Vec<(Vec<u64>, String)>,
}

/// One reading of one member; all are raft indexes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatermarksRow {
    pub member: u64,
    /// The moment in the cycle.
    pub when: String,
    /// N.
    pub persisted: Option<u64>,
    /// The index that the engine has flushed; in a dead directory and at its recovery E, the index
    /// that the engine proves.
    pub flushed: Option<u64>,
    pub applied: Option<u64>,
    pub committed: Option<u64>,
    pub log_last: Option<u64>,
    pub purged: Option<u64>,
    /// Further facts about that moment.
    pub remark: Option<String>,
}

/// A few entries of one member's raft log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Excerpt {
    /// The member whose log it is.
    pub member: u64,
    pub entries: Vec<ExcerptLine>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExcerptLine {
    pub index: u64,
    pub term: u64,
    pub does: String,
    /// The revision that it makes, by the model; `None`: none, or unknown.
    pub revision: Option<u64>,
    /// It is the one that was applied wrongly.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub here: bool,
}
