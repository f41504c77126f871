//! The engine marker: which engine a data directory belongs to, written durably before that engine
//! exists.
//!
//! One text line, `<engine> <layout version>`, for example `rocksdb 1`. The engine's files come
//! into being after the marker, so a database without a marker is not something a crash of ours
//! leaves behind; and a marker without a database is what a crash right after the marker leaves:
//! the engine is made then, and the raft log replayed from its beginning.

use crate::engine::EngineKind;
use crate::layout::DataDir;
use node_base::durable;
use node_base::sabotage::{Bug, planted};
use std::io;

/// Version of the data directory's layout.
const LAYOUT_VERSION: u32 = 1;

fn line(engine: EngineKind) -> String {
    format!("{} {LAYOUT_VERSION}\n", engine.name())
}

#[derive(Debug, thiserror::Error)]
pub enum MarkerError {
    #[error(
        "data directory {dir} belongs to engine {found}, but --backend={asked} was asked for{by_default}: start it with \
         --backend={found}, or convert it with `node-under-test migrate --data-dir {dir} --to {asked}`"
    )]
    Mismatch { dir: String, found: EngineKind, asked: EngineKind, by_default: &'static str },
    #[error(
        "{dir}/engine-marker: expected \"redb {LAYOUT_VERSION}\\n\" or \"rocksdb {LAYOUT_VERSION}\\n\", found {found:?}: if another \
         version wrote it, use that one; otherwise it is damaged: remove this member and add it again under a new id"
    )]
    Unknown { dir: String, found: String },
    #[error(
        "data directory {dir} holds {what} but no engine-marker, which this program writes first: restore the marker \
         (one line, for example {example:?}), or use another directory"
    )]
    Unmarked { dir: String, what: &'static str, example: String },
    #[error(
        "data directory {dir} is marked {marked}, but its db is a {nature}, as {holds} has it: it is not opened as if it were empty; \
         restore the marker or the database from a backup"
    )]
    WrongNature { dir: String, marked: EngineKind, nature: &'static str, holds: EngineKind },
    #[error(
        "data directory {dir} is marked redb, and has a last-flushed-index file, which only rocksdb has: it does not belong \
         to this database; find out where it came from, and remove it"
    )]
    StrayIndex { dir: String },
    #[error("engine marker of {dir}: {source}")]
    Io { dir: String, source: io::Error },
}

/// Claims `dir` for `engine`: creates the directory and its marker if there is none, and refuses a
/// directory that belongs to another engine, that is not what its marker says, or that holds data
/// and no marker.
pub fn claim(dir: &DataDir, engine: EngineKind) -> Result<(), MarkerError> {
    let io_error = |source| MarkerError::Io { dir: name(dir), source };
    match read(dir)? {
        Some(found) if found == engine => {}
        Some(found) => {
            let by_default = if engine == EngineKind::Redb { " (the default)" } else { "" };
            return Err(MarkerError::Mismatch { dir: name(dir), found, asked: engine, by_default });
        }
        None => {
            let data =
                [(dir.db(), "a database"), (dir.raft(), "a raft log"), (dir.last_flushed_index(), "an index file")];
            if let Some((_, what)) = data.iter().find(|(path, _)| path.exists()) {
                let example = line(engine).trim_end().to_owned();
                return Err(MarkerError::Unmarked { dir: name(dir), what, example });
            }
            durable::create_dir_durably(dir.root()).map_err(io_error)?;
            write(dir, engine).map_err(io_error)?;
        }
    }
    check_nature(dir, engine)
}

/// Checks that `db`, if it exists, and the index file are as `engine` leaves them.
pub fn check_nature(dir: &DataDir, engine: EngineKind) -> Result<(), MarkerError> {
    let found = EngineKind::by_nature(&dir.db()).map_err(|source| MarkerError::Io { dir: name(dir), source })?;
    if let Some(holds) = found.filter(|holds| *holds != engine) {
        let nature = if holds == EngineKind::Redb { "file" } else { "directory" };
        return Err(MarkerError::WrongNature { dir: name(dir), marked: engine, nature, holds });
    }
    if engine == EngineKind::Redb && dir.last_flushed_index().exists() {
        return Err(MarkerError::StrayIndex { dir: name(dir) });
    }
    Ok(())
}

/// The engine that the marker names; `None`: there is no marker.
///
/// # Errors
/// It cannot be read, or is not one of ours.
pub fn read(dir: &DataDir) -> Result<Option<EngineKind>, MarkerError> {
    match std::fs::read(dir.engine_marker()) {
        Ok(bytes) => match EngineKind::ALL.into_iter().find(|engine| line(*engine).as_bytes() == bytes) {
            Some(engine) => Ok(Some(engine)),
            None => Err(MarkerError::Unknown { dir: name(dir), found: String::from_utf8_lossy(&bytes).into_owned() }),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(MarkerError::Io { dir: name(dir), source }),
    }
}

/// Makes `engine` the owner of `dir`, durably.
pub(crate) fn write(dir: &DataDir, engine: EngineKind) -> io::Result<()> {
    let (path, line) = (dir.engine_marker(), line(engine));
    if planted(Bug::MarkerNoDirFsync) {
        // Kills keep the page cache: only a power loss takes the name back, from under an engine
        // that is durable.
        let tmp = path.with_extension("unsynced");
        std::fs::write(&tmp, line)?;
        return std::fs::rename(tmp, path);
    }
    durable::replace_file(&path, line.as_bytes(), |_| {})
}

fn name(dir: &DataDir) -> String {
    dir.root().display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use EngineKind::{Redb, Rocksdb};

    fn fresh() -> (tempfile::TempDir, DataDir) {
        let tmp = tempfile::tempdir().unwrap();
        let dir = DataDir::new(tmp.path().join("n1"));
        (tmp, dir)
    }

    #[test]
    fn the_first_claim_writes_and_later_ones_agree() {
        for (engine, line) in [(Redb, b"redb 1\n".as_slice()), (Rocksdb, b"rocksdb 1\n")] {
            let (_tmp, dir) = fresh();
            claim(&dir, engine).unwrap();
            assert_eq!(std::fs::read(dir.engine_marker()).unwrap(), line);
            claim(&dir, engine).unwrap();
        }
    }

    #[test]
    fn another_engine_is_refused_with_the_flag_that_opens_it_and_the_way_over() {
        for (owner, asked) in [(Redb, Rocksdb), (Rocksdb, Redb)] {
            let (_tmp, dir) = fresh();
            claim(&dir, owner).unwrap();
            let error = claim(&dir, asked).unwrap_err().to_string();
            assert!(error.contains(&format!("start it with --backend={owner}")), "{error}");
            assert!(error.contains(&format!("migrate --data-dir {} --to {asked}", dir.root().display())), "{error}");
            assert_eq!(error.contains("(the default)"), asked == Redb, "{error}");
        }
    }

    #[test]
    fn a_marker_that_is_none_of_ours_is_refused() {
        let (_tmp, dir) = fresh();
        for other in ["pebble 1\n", "rocksdb 2\n", "rocksdb 1", ""] {
            std::fs::create_dir_all(dir.root()).unwrap();
            std::fs::write(dir.engine_marker(), other).unwrap();
            assert!(matches!(claim(&dir, Rocksdb), Err(MarkerError::Unknown { .. })), "{other:?}");
        }
    }

    #[test]
    fn data_without_a_marker_is_never_adopted() {
        let (_tmp, dir) = fresh();
        std::fs::create_dir_all(dir.db()).unwrap();
        assert!(matches!(claim(&dir, Rocksdb), Err(MarkerError::Unmarked { what: "a database", .. })));
        assert!(!dir.engine_marker().exists());
    }

    #[test]
    fn a_database_of_the_other_nature_is_refused() {
        let (_tmp, dir) = fresh();
        claim(&dir, Rocksdb).unwrap();
        std::fs::create_dir_all(dir.snap()).unwrap();
        std::fs::write(dir.db(), b"a redb file").unwrap();
        assert!(matches!(claim(&dir, Rocksdb), Err(MarkerError::WrongNature { holds: Redb, .. })));
        let (_tmp, dir) = fresh();
        claim(&dir, Redb).unwrap();
        std::fs::create_dir_all(dir.db()).unwrap();
        assert!(matches!(claim(&dir, Redb), Err(MarkerError::WrongNature { holds: Rocksdb, .. })));
    }

    #[test]
    fn an_index_file_beside_redb_is_refused() {
        let (_tmp, dir) = fresh();
        claim(&dir, Redb).unwrap();
        std::fs::create_dir_all(dir.snap()).unwrap();
        std::fs::write(dir.last_flushed_index(), crate::last_flushed_index::encode(7)).unwrap();
        assert!(matches!(claim(&dir, Redb), Err(MarkerError::StrayIndex { .. })));
    }

    /// Each step of the marker's replacement: a crash there leaves no marker and no data, or the
    /// marker.
    #[test]
    fn a_crash_before_the_rename_leaves_an_unclaimed_directory() {
        let (_tmp, dir) = fresh();
        std::fs::create_dir_all(dir.root()).unwrap();
        std::fs::write(dir.root().join("engine-marker.tmp"), "redb 1\n").unwrap();
        claim(&dir, Rocksdb).unwrap();
        assert_eq!(read(&dir).unwrap(), Some(Rocksdb));
    }
}
