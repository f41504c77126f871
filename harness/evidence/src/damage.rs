//! Vocabulary of damage at rest: which file of a dead member was changed, how, and what became of
//! the member.

use crate::ended::Ended;
use crate::member::Engine;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;

/// A class of the node's files, as `harness/docs/faults.md` lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileClass {
    /// The raft log, with the vote in it: `member/raft/raft-log.redb`.
    RaftLog,
    /// The number of its last commit: `member/raft/raft-log.commits`.
    RaftLogCommits,
    /// `engine-marker`.
    Marker,
    /// `member/snap/last-flushed-index`.
    LastFlushedIndex,
    /// RocksDB: `member/snap/db/*.sst`.
    Sst,
    /// RocksDB: `member/snap/db/MANIFEST-*`.
    Manifest,
    /// RocksDB: `member/snap/db/CURRENT`.
    Current,
    /// redb: `member/snap/db`.
    Database,
}

impl FileClass {
    pub const ALL: [FileClass; 8] = [
        FileClass::RaftLog,
        FileClass::RaftLogCommits,
        FileClass::Marker,
        FileClass::LastFlushedIndex,
        FileClass::Sst,
        FileClass::Manifest,
        FileClass::Current,
        FileClass::Database,
    ];

    pub fn name(self) -> &'static str {
        match self {
            FileClass::RaftLog => "raft-log",
            FileClass::RaftLogCommits => "raft-log-commits",
            FileClass::Marker => "marker",
            FileClass::LastFlushedIndex => "last-flushed-index",
            FileClass::Sst => "sst",
            FileClass::Manifest => "manifest",
            FileClass::Current => "current",
            FileClass::Database => "database",
        }
    }

    /// The class that is called `name`.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.name() == name)
    }

    pub fn exists_on(self, engine: Engine) -> bool {
        match self {
            FileClass::RaftLog | FileClass::RaftLogCommits | FileClass::Marker => engine != Engine::Opaque,
            FileClass::LastFlushedIndex | FileClass::Sst | FileClass::Manifest | FileClass::Current => {
                engine == Engine::Rocksdb
            }
            FileClass::Database => engine == Engine::Redb,
        }
    }

    /// Whether files of this class can be damaged in that way: some are written once or appended
    /// to, and have no earlier chunk, and some are one chunk, and have no other.
    pub fn takes(self, kind: DamageKind) -> bool {
        match kind {
            DamageKind::BitFlip | DamageKind::MisdirectedWrite | DamageKind::Truncation => true,
            DamageKind::OlderChunk => {
                matches!(self, FileClass::RaftLog | FileClass::LastFlushedIndex | FileClass::Database)
            }
            DamageKind::CopiedChunk => matches!(self, FileClass::RaftLog | FileClass::Sst | FileClass::Database),
        }
    }
}

impl fmt::Display for FileClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What a disk did to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DamageKind {
    /// One bit is another.
    BitFlip,
    /// A chunk is as it was when the cycle began.
    OlderChunk,
    /// A chunk holds what another one of the same file holds.
    CopiedChunk,
    /// A chunk of another file of the member lies in the place of one.
    MisdirectedWrite,
    /// The file ends earlier.
    Truncation,
}

impl DamageKind {
    pub const ALL: [DamageKind; 5] = [
        DamageKind::BitFlip,
        DamageKind::OlderChunk,
        DamageKind::CopiedChunk,
        DamageKind::MisdirectedWrite,
        DamageKind::Truncation,
    ];

    pub fn name(self) -> &'static str {
        match self {
            DamageKind::BitFlip => "bit-flip",
            DamageKind::OlderChunk => "older-chunk",
            DamageKind::CopiedChunk => "copied-chunk",
            DamageKind::MisdirectedWrite => "misdirected-write",
            DamageKind::Truncation => "truncation",
        }
    }
}

impl fmt::Display for DamageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A change that was made to a file of a dead member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damage {
    pub class: FileClass,
    pub kind: DamageKind,
    /// Within the data directory.
    pub file: PathBuf,
    pub offset: u64,
    /// Bytes from the offset on that were changed, or cut off.
    pub bytes: u64,
    /// The first 8 bytes of the SHA-256 of those bytes, before and after, in hex.
    pub was: String,
    pub is: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, file, offset, bytes, .. } = self;
        write!(f, "{kind} of {bytes} bytes at {offset} of {}", file.display())
    }
}

/// The end of a member that its damaged file explains.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    pub ended: Ended,
    /// It had begun to serve.
    pub served: bool,
    /// The last line of its log.
    pub words: String,
}

/// A planned damage, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DamageRecord {
    pub class: FileClass,
    pub kind: DamageKind,
    /// `None`: it did not land.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damage: Option<Damage>,
    /// Reason why it did not land.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
    /// The class of file does not exist on the victim's engine.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub not_applicable: bool,
    /// How the member ended of it; `None`: it served until it was replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Refusal>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_serialised_names() {
        for class in FileClass::ALL {
            assert_eq!(serde_json::to_string(&class).unwrap(), format!("\"{class}\""));
        }
        for kind in DamageKind::ALL {
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{kind}\""));
        }
    }

    #[test]
    fn every_class_takes_some_damage_and_belongs_to_an_engine() {
        for class in FileClass::ALL {
            assert!(DamageKind::ALL.iter().any(|kind| class.takes(*kind)), "{class}");
            assert!(Engine::ALL.iter().any(|engine| class.exists_on(*engine)), "{class}");
            assert!(!class.exists_on(Engine::Opaque), "{class}");
        }
    }
}
