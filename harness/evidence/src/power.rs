//! Vocabulary of power losses: which syncs make names durable, and what a loss took.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The syncs that make a change of names durable, in ascending order of what can be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Names {
    /// Any sync makes all of them durable, and a prefix of the others survives: one journal, as
    /// ext4 and XFS have it.
    Journal,
    /// A sync of a file carries the names of that file and of the directories above it; a sync of
    /// a directory carries the names in it. Of the others a subset survives.
    Inode,
    /// Only a sync of the directory counts, as POSIX promises.
    Posix,
}

impl Names {
    pub const ALL: [Names; 3] = [Names::Journal, Names::Inode, Names::Posix];

    pub fn name(self) -> &'static str {
        match self {
            Names::Journal => "journal",
            Names::Inode => "inode",
            Names::Posix => "posix",
        }
    }

    /// The next mode, in which more can be lost.
    pub fn stricter(self) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| *mode > self)
    }
}

/// Changes that one power loss took from one directory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// Number of the last operation that changed something, since the directory was mounted.
    pub operations: u64,
    pub names: Vec<LostName>,
    pub files: Vec<LostData>,
}

/// The kind of a change of names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NameChange {
    Creation,
    Removal,
    Rename,
    Exchange,
}

/// A change of names that was lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostName {
    pub operation: u64,
    pub change: NameChange,
    /// The name, from the root of the directory; of a rename, the new one.
    pub path: PathBuf,
    /// The old name of what was renamed, and the other one of two that were exchanged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<PathBuf>,
    /// The operation that was the last sync of the directory that holds the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub synced: Option<u64>,
}

/// Data of a file that was lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostData {
    /// First operation that lost something.
    pub operation: u64,
    pub path: PathBuf,
    /// Pages of 4 KiB that are as they were before, or torn.
    pub pages: u64,
    /// Pages in which sectors of both states stand.
    pub torn: u64,
    /// The size that the file has now, if the loss changed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// The operation that was the last sync of the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub synced: Option<u64>,
}
