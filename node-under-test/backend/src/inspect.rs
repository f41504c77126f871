//! What a dead member's data directory proves, read from a copy.
//!
//! Never from the original: opening a database replays and deletes files. Nothing here repairs or refuses; each fact is
//! read by itself and says what is wrong with it.

use crate::layout::DataDir;
use crate::{last_flushed_index, marker, rocksdb};
use node_base::LogId;
use serde::Serialize;
use std::io;
use std::path::Path;

/// The facts; an `Err` holds the sentence that a start would refuse with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Inspection {
    /// The engine marker's line, if there is one.
    pub engine_marker: Result<Option<String>, String>,
    /// N; `Ok(None)`: no file.
    pub last_flushed_index: Result<Option<u64>, String>,
    /// E; `Ok(None)`: no database, or one that nothing was ever flushed into.
    pub consistent_index: Result<Option<LogId>, String>,
    /// Names of snapshots' leftovers: `db.incoming`, `db.old`, `outgoing`.
    pub leftovers: Vec<String>,
}

impl Inspection {
    /// Whether N ≤ E, the invariant across lives; `None` if one of the two could not be read.
    pub fn index_within_engine(&self) -> Option<bool> {
        let n = self.last_flushed_index.as_ref().ok()?;
        let e = self.consistent_index.as_ref().ok()?;
        Some(*n <= e.map(|e| e.index))
    }
}

/// Inspects `copy`, a copy of a stopped member's data directory. Reads only, but through RocksDB.
pub fn inspect_dead(copy: &Path) -> Inspection {
    let dir = DataDir::new(copy);
    let leftovers = [dir.incoming(), dir.old(), dir.outgoing()];
    let consistent_index = if dir.db().join("CURRENT").exists() {
        rocksdb::read_consistent_index(&dir.db()).map_err(|error| error.to_string())
    } else {
        Ok(None)
    };
    Inspection {
        engine_marker: marker::read(&dir)
            .map(|line| line.map(|line| line.trim_end().to_owned()))
            .map_err(|error| format!("engine marker: {error}")),
        last_flushed_index: last_flushed_index::read(&dir.last_flushed_index()).map_err(|error| error.to_string()),
        consistent_index,
        leftovers: leftovers
            .iter()
            .filter(|path| path.exists())
            .filter_map(|path| path.file_name().map(|name| name.to_string_lossy().into_owned()))
            .collect(),
    }
}

/// Copies the data directory `from` of a *stopped* member to the new directory `to`: SSTs, which never change, as hard links
/// where that is possible, all else byte by byte. `skip` names what to leave out.
pub fn copy_dead(from: &Path, to: &Path, skip: &dyn Fn(&Path) -> bool) -> io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let (source, name) = entry.map(|entry| (entry.path(), entry.file_name()))?;
        let target = to.join(name);
        if skip(&source) {
            continue;
        }
        if source.is_dir() {
            copy_dead(&source, &target, skip)?;
        } else if source.extension().is_none_or(|extension| extension != "sst")
            || std::fs::hard_link(&source, &target).is_err()
        {
            std::fs::copy(&source, &target)?;
        }
    }
    Ok(())
}
