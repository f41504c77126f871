//! The engines of this build, and what a member needs of its engine beyond the seam.
//!
//! | engine | id | `db` is | a commit is durable | N |
//! | --- | --- | --- | --- | --- |
//! | redb, the default | 0x00 | a file | at the end of its group ([`Backend::settle`]) | the consistent index of the last durable commit, by definition |
//! | rocksdb | 0x01 | a directory | when its memtable is flushed | the file `last-flushed-index` |
//!
//! This is vocabulary: it knows no engine. A new engine is a kind here and an arm in each `match`
//! of `dispatch`.

use crate::layout::DataDir;
use node_base::LogId;
use node_base::backend::{Backend, Result, SnapshotError};
use node_base::watermarks::Watermarks;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// An engine of this build. The names and ids are part of the formats: the marker's first word, a
/// snapshot's byte 16.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineKind {
    Redb,
    Rocksdb,
}

impl EngineKind {
    pub const ALL: [EngineKind; 2] = [EngineKind::Redb, EngineKind::Rocksdb];

    /// The value of `--backend`.
    pub fn name(self) -> &'static str {
        match self {
            EngineKind::Redb => "redb",
            EngineKind::Rocksdb => "rocksdb",
        }
    }

    pub fn id(self) -> u8 {
        match self {
            EngineKind::Redb => 0x00,
            EngineKind::Rocksdb => 0x01,
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The engine whose `db` could be what lies at `path`: a file is redb's, a directory is
    /// RocksDB's.
    pub fn by_nature(path: &Path) -> io::Result<Option<Self>> {
        match std::fs::symlink_metadata(path) {
            Ok(meta) if meta.is_file() => Ok(Some(EngineKind::Redb)),
            Ok(meta) if meta.is_dir() => Ok(Some(EngineKind::Rocksdb)),
            Ok(_) => Err(io::Error::other(format!("{}: expected a file or a directory", path.display()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Settings of an engine that the operator chooses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineOptions {
    /// Bytes of the engine's own cache of pages or blocks.
    pub cache_bytes: usize,
    /// RocksDB: tables that it may hold open. At least 20.
    pub open_files_max: u32,
    /// RocksDB: a memtable of this size is sealed and flushed. At least
    /// [`MEMTABLE_BYTES_MIN`](crate::rocksdb::MEMTABLE_BYTES_MIN).
    pub memtable_bytes: usize,
    /// RocksDB: a flush is asked for when this many entries are applied and not flushed: the bound
    /// on the replay.
    pub lag_entries_max: u64,
    /// RocksDB: the same in bytes of batches.
    pub lag_bytes_max: u64,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            cache_bytes: 64 << 20,
            open_files_max: 512,
            memtable_bytes: 16 << 20,
            lag_entries_max: 50_000,
            lag_bytes_max: 64 << 20,
        }
    }
}

/// N and E as open found them; the caller refuses to serve if E < N.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// N.
    pub persisted: Option<u64>,
    /// E: the consistent index of the recovered state.
    pub engine: Option<LogId>,
}

/// A member's engine: the seam, and what start-up, recovery and snapshots need beside it.
pub trait Engine: Backend {
    fn kind(&self) -> EngineKind;
    fn dir(&self) -> &DataDir;
    /// N and E as they were found at open.
    fn opened(&self) -> Opened;
    /// Finishes an install that a kill interrupted between the exchange and N: persists N = E.
    /// Before [`attach`](Self::attach), and after the exchange was made durable
    /// ([`DataDir::sync_leftovers`]).
    fn finish_install(&self) -> Result<()>;
    /// Starts to move `marks`. Once, before the first commit.
    fn attach(&self, marks: Arc<Watermarks>) -> Result<()>;
    /// Says that the entry `id` of (N, E] was found, with this LogId, in the durable raft log. Only
    /// such entries and committed ones can become N.
    fn verified(&self, id: LogId) -> Result<()>;
    /// Installs what [`snapshot::receive`](crate::snapshot::receive()) staged, in the order that
    /// [`snapshot`](crate::snapshot) explains. `purge_log` purges the raft log durably up to
    /// `image`. The calling thread holds no view.
    ///
    /// # Errors
    /// [`SnapshotError::Refused`] if this member is already at `image` or beyond. Any other error
    /// is final: the process must end.
    fn install_snapshot(
        &self,
        image: LogId,
        purge_log: &mut dyn FnMut() -> io::Result<()>,
    ) -> std::result::Result<(), SnapshotError>;
}
