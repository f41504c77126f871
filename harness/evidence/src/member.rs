//! A member in words: its place, its role, its engine.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What a member was, as far as the harness could see, when the cycle chose its victims.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    Leader,
    Follower,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Role::Leader => "leader",
            Role::Follower => "follower",
        })
    }
}

/// What a member keeps its state in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Engine {
    /// A B+ tree in one file; N is E.
    Redb,
    /// LSM, its write-ahead log disabled.
    Rocksdb,
    /// The unknown engine of a server whose API alone is known.
    Opaque,
}

impl Engine {
    /// Those of the node.
    pub const ALL: &'static [Engine] = &[Engine::Redb, Engine::Rocksdb];

    pub fn name(self) -> &'static str {
        match self {
            Engine::Redb => "redb",
            Engine::Rocksdb => "rocksdb",
            Engine::Opaque => "opaque",
        }
    }

    /// The one that a member with this engine changes to.
    pub fn other(self) -> Self {
        match self {
            Engine::Redb => Engine::Rocksdb,
            Engine::Rocksdb => Engine::Redb,
            Engine::Opaque => Engine::Opaque,
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|engine| engine.name() == name)
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A place in the cluster, from 1: its ports, and all that is tied to them. Never an id: those
/// change when a member is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Slot(pub u64);

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "slot#{}", self.0)
    }
}
