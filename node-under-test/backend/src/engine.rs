//! The engines of this build, and what a member needs of its engine beyond the seam.
//!
//! | engine | id | `db` is | a commit is durable | N |
//! | --- | --- | --- | --- | --- |
//! | redb, the default | 0x00 | a file | at the end of its group ([`Backend::settle`]) | the consistent index of the last durable commit, by definition |
//! | rocksdb | 0x01 | a directory | when its memtable is flushed | the file `last-flushed-index` |
//!
//! This file names both modules and neither crate: whoever adds an engine adds an arm to each `match` here.

use crate::last_flushed_index;
use crate::layout::DataDir;
use crate::redb::{self, RedbBackend};
use crate::rocksdb::{self, RocksBackend};
use crate::snapshot;
use node_base::LogId;
use node_base::backend::{Backend, BackendError, Declared, ReadView, Result, SnapshotError, consistent_index};
use node_base::watermarks::Watermarks;
use std::fmt;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

/// An engine of this build. The names and ids are part of the formats: the marker's first word, a snapshot's byte 16.
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

    /// The engine whose `db` could be what lies at `path`: a file is redb's, a directory is RocksDB's.
    pub fn by_nature(path: &Path) -> io::Result<Option<Self>> {
        match std::fs::symlink_metadata(path) {
            Ok(meta) if meta.is_file() => Ok(Some(EngineKind::Redb)),
            Ok(meta) if meta.is_dir() => Ok(Some(EngineKind::Rocksdb)),
            Ok(_) => Err(io::Error::other(format!("{}: expected a file or a directory", path.display()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Opens the image at `path`, to which nobody else writes. A redb image is repaired first if a kill left it so; hence
    /// a dead member's is to be a copy, or the tool's own to repair.
    ///
    /// # Errors
    /// It is not this engine's, or is damaged.
    pub fn open_image(self, path: &Path) -> Result<Box<dyn ReadView>> {
        match self {
            EngineKind::Redb => redb::open_image(path, redb::Trust::Ours),
            EngineKind::Rocksdb => rocksdb::open_image(path),
        }
    }

    /// The same for bytes that came from elsewhere: a redb image has every page's checksum verified before it is trusted.
    ///
    /// # Errors
    /// As [`open_image`](Self::open_image).
    pub fn open_foreign_image(self, path: &Path) -> Result<Box<dyn ReadView>> {
        match self {
            EngineKind::Redb => redb::open_image(path, redb::Trust::Nobody),
            EngineKind::Rocksdb => rocksdb::open_image(path),
        }
    }

    /// Writes every row that `source` sees into a new image at `path`, where nothing is yet. Complete when it returns, and
    /// not synced. Memory does not grow with the image. `progress` is told after each batch of rows.
    ///
    /// # Errors
    /// Either engine failed; what is at `path` is to be removed.
    pub fn write_image(self, path: &Path, source: &dyn ReadView, progress: &mut dyn FnMut(u64)) -> Result<u64> {
        match self {
            EngineKind::Redb => redb::write_image(path, source, progress),
            EngineKind::Rocksdb => rocksdb::write_image(path, source, progress),
        }
    }

    /// The consistent index of the image at `path`.
    pub fn image_index(self, path: &Path) -> Result<Option<LogId>> {
        consistent_index(&*self.open_image(path)?)
    }
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What the operator chooses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineOptions {
    /// Bytes of the engine's own cache of pages or blocks.
    pub cache_bytes: usize,
    /// RocksDB: a memtable of this size is sealed and flushed. At least [`MEMTABLE_BYTES_MIN`](rocksdb::MEMTABLE_BYTES_MIN).
    pub memtable_bytes: usize,
    /// RocksDB: a flush is asked for when this many entries are applied and not flushed: the bound on the replay.
    pub lag_entries_max: u64,
    /// RocksDB: the same in bytes of batches.
    pub lag_bytes_max: u64,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self { cache_bytes: 64 << 20, memtable_bytes: 16 << 20, lag_entries_max: 50_000, lag_bytes_max: 64 << 20 }
    }
}

/// What open found; the caller refuses to serve if E < N.
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
    /// Finishes an install that a kill interrupted between the exchange and N: persists N = E. Before
    /// [`attach`](Self::attach), and after the exchange was made durable ([`DataDir::sync_leftovers`]).
    fn finish_install(&self) -> Result<()>;
    /// Starts to move `marks`. Once, before the first commit.
    fn attach(&self, marks: Arc<Watermarks>) -> Result<()>;
    /// Says that the entry `id` of (N, E] was found, with this LogId, in the durable raft log. Only such entries
    /// and committed ones can become N.
    fn verified(&self, id: LogId) -> Result<()>;
    /// Installs what [`receive_snapshot`](Self::receive_snapshot) staged, in the order that [`snapshot`]
    /// explains. `purge_log` purges the raft log durably up to `image`. The calling thread holds no view.
    ///
    /// # Errors
    /// [`SnapshotError::Refused`] if this member is already at `image` or beyond. Any other error is final: the process must end.
    fn install_snapshot(
        &self,
        image: LogId,
        purge_log: &mut dyn FnMut() -> io::Result<()>,
    ) -> std::result::Result<(), SnapshotError>;

    /// Takes a stream into the staging area and proves it; see [`snapshot::receive`]. One at a time; the running database
    /// is not involved.
    ///
    /// # Errors
    /// [`SnapshotError::Refused`] for anything wrong with the stream; nothing is left behind then.
    fn receive_snapshot(
        &self,
        expected: LogId,
        declared: Declared,
        source: &mut dyn Read,
    ) -> std::result::Result<(), SnapshotError> {
        snapshot::receive(self.dir(), self.kind(), expected, declared, source)
    }
}

/// Opens, or creates, the database of `dir` and reads N and E. Blocking.
///
/// # Errors
/// Bad options, a corrupt N, an N without a database, a database that does not open.
pub fn open(dir: DataDir, kind: EngineKind, options: EngineOptions) -> Result<Arc<dyn Engine>> {
    Ok(match kind {
        EngineKind::Redb => Arc::new(RedbBackend::open(dir, &options)?),
        EngineKind::Rocksdb => Arc::new(RocksBackend::open(dir, options)?),
    })
}

/// N of a member that does not run, by the rule of `kind`; `engine` is its E.
pub fn persisted_index(dir: &DataDir, kind: EngineKind, engine: Option<LogId>) -> Result<Option<u64>> {
    match kind {
        EngineKind::Redb => Ok(engine.map(|id| id.index)),
        EngineKind::Rocksdb => {
            last_flushed_index::read(&dir.last_flushed_index()).map_err(|error| BackendError(error.to_string()))
        }
    }
}
