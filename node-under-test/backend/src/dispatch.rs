//! From an engine's kind to its module: the one file that names both, and neither crate.

use crate::engine::{Engine, EngineKind, EngineOptions};
use crate::last_flushed_index;
use crate::layout::DataDir;
use crate::redb::{self, RedbBackend};
use crate::rocksdb::{self, RocksBackend};
use node_base::LogId;
use node_base::backend::{ReadView, Result, consistent_index, hash};
use std::path::Path;
use std::sync::Arc;

impl EngineKind {
    /// Opens the image at `path`, which has no other writer. A redb image is repaired first if a
    /// kill left it so; hence a dead member's is to be a copy, or the tool's own to repair.
    ///
    /// # Errors
    /// It is not this engine's, or is damaged.
    pub fn open_image(self, path: &Path) -> Result<Box<dyn ReadView>> {
        match self {
            EngineKind::Redb => redb::open_image(path, redb::Trust::Ours),
            EngineKind::Rocksdb => rocksdb::open_image(path),
        }
    }

    /// The same for bytes that came from elsewhere: a redb image has every page's checksum verified
    /// before it is trusted.
    ///
    /// # Errors
    /// As [`open_image`](Self::open_image).
    pub fn open_foreign_image(self, path: &Path) -> Result<Box<dyn ReadView>> {
        match self {
            EngineKind::Redb => redb::open_image(path, redb::Trust::Nobody),
            EngineKind::Rocksdb => rocksdb::open_image(path),
        }
    }

    /// Writes every row that `source` sees into a new image at `path`, where nothing is yet.
    /// Complete when it returns, and not synced. Memory does not grow with the image. `progress` is
    /// told after each batch of rows.
    ///
    /// # Errors
    /// Either engine failed; what is at `path` is to be removed.
    pub fn write_image(self, path: &Path, source: &dyn ReadView, progress: &mut dyn FnMut(u64)) -> Result<u64> {
        match self {
            EngineKind::Redb => redb::write_image(path, source, progress),
            EngineKind::Rocksdb => rocksdb::write_image(path, source, progress),
        }
    }

    /// True if the image at `path` holds exactly what `source` sees: the same rows at the same
    /// consistent index. Reads both.
    pub fn is_copy(self, path: &Path, source: &dyn ReadView) -> Result<bool> {
        let copy = self.open_image(path)?;
        Ok(hash(source)? == hash(&*copy)? && consistent_index(source)? == consistent_index(&*copy)?)
    }

    /// The consistent index of the image at `path`.
    pub fn image_index(self, path: &Path) -> Result<Option<LogId>> {
        consistent_index(&*self.open_image(path)?)
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
        EngineKind::Rocksdb => Ok(last_flushed_index::read(&dir.last_flushed_index())?),
    }
}
