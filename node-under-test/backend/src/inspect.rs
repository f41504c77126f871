//! Facts that a dead member's data directory proves, read from a copy.
//!
//! Never from the original: opening a database replays and deletes files. Nothing here repairs or
//! refuses; each fact is read by itself and says what is wrong with it.

use crate::dispatch;
use crate::engine::EngineKind;
use crate::layout::DataDir;
use crate::marker;
use node_base::LogId;
use node_base::caught::caught;
use node_base::chain::chain;
use serde::Serialize;
use std::io;
use std::path::Path;

/// The facts; an `Err` holds the sentence that a start would refuse with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Inspection {
    /// The engine that the marker names, if there is one.
    pub engine_marker: Result<Option<&'static str>, String>,
    /// The engine whose database is there, by its nature: while a migration is under way the marker
    /// may still say another.
    pub engine: Result<Option<&'static str>, String>,
    /// N; `Ok(None)`: nothing was persisted. Of redb it is E by definition.
    pub last_flushed_index: Result<Option<u64>, String>,
    /// E; `Ok(None)`: no database, or one that nothing was ever flushed into.
    pub consistent_index: Result<Option<LogId>, String>,
    /// Names of what a kill left of snapshots and migrations.
    pub leftovers: Vec<String>,
}

impl Inspection {
    /// True if N ≤ E, the invariant across lives; `None` if one of the two could not be read.
    pub fn index_within_engine(&self) -> Option<bool> {
        let n = self.last_flushed_index.as_ref().ok()?;
        let e = self.consistent_index.as_ref().ok()?;
        Some(*n <= e.map(|e| e.index))
    }
}

/// Inspects `copy`, a copy of a stopped member's data directory. redb repairs the copy of its file
/// first.
pub fn inspect_dead(copy: &Path) -> Inspection {
    let dir = DataDir::new(copy);
    let leftovers = [dir.incoming(), dir.foreign(), dir.fresh(), dir.old(), dir.outgoing(), dir.engine_migration()];
    let nature = EngineKind::by_nature(&dir.db()).map_err(|error| error.to_string());
    let consistent_index = match &nature {
        Ok(Some(EngineKind::Rocksdb)) if !dir.db().join("CURRENT").exists() => Ok(None),
        Ok(Some(engine)) => {
            caught(|| engine.image_index(&dir.db())).and_then(|index| index.map_err(|error| chain(&error)))
        }
        Ok(None) => Ok(None),
        Err(error) => Err(error.clone()),
    };
    // Without a database the marker says whose N it would be.
    let whose = nature.clone().ok().flatten().or_else(|| marker::read(&dir).ok().flatten());
    let known_index = consistent_index.clone().ok().flatten();
    let last_flushed_index = dispatch::persisted_index(&dir, whose.unwrap_or(EngineKind::Rocksdb), known_index);
    Inspection {
        engine_marker: marker::read(&dir).map(|engine| engine.map(EngineKind::name)).map_err(|error| error.to_string()),
        engine: nature.map(|engine| engine.map(EngineKind::name)),
        last_flushed_index: last_flushed_index.map_err(|error| chain(&error)),
        consistent_index,
        leftovers: leftovers
            .iter()
            .filter(|path| path.exists())
            .filter_map(|path| path.file_name().map(|name| name.to_string_lossy().into_owned()))
            .collect(),
    }
}

/// Copies the data directory `from` of a *stopped* member to the new directory `to`: SSTs, which
/// never change, as hard links where that is possible, all else byte by byte. `skip` names what to
/// leave out.
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
