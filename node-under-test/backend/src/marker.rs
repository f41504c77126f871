//! The engine marker: which engine a data directory belongs to, written durably before that engine exists.
//!
//! One text line, `<engine> <layout version>`, for example `rocksdb 1`. The engine's directory comes into
//! being after the marker, so a database without a marker is not something a crash of ours leaves behind.

use crate::layout::DataDir;
use node_base::durable;
use std::io;

/// The engines of this build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineKind {
    Rocksdb,
}

impl EngineKind {
    /// The value of `--backend`, and the first word of the marker.
    pub fn name(self) -> &'static str {
        match self {
            EngineKind::Rocksdb => "rocksdb",
        }
    }

    fn line(self) -> String {
        format!("{} {LAYOUT_VERSION}\n", self.name())
    }
}

/// Version of the data directory's layout.
const LAYOUT_VERSION: u32 = 1;

#[derive(Debug, thiserror::Error)]
pub enum MarkerError {
    #[error(
        "data directory {dir} belongs to engine {found:?}, but --backend={asked} was given: start it with the flag \
         that its marker names, or give this member an empty data directory under a new id"
    )]
    Mismatch { dir: String, found: String, asked: &'static str },
    #[error(
        "data directory {dir} holds {what} but no engine-marker, which this program writes first: restore the marker \
         (one line, for example {example:?}), or use another directory"
    )]
    Unmarked { dir: String, what: &'static str, example: String },
    #[error(
        "data directory {dir} is marked {asked:?}, so {path} must be a directory, found something else: restore the directory from a backup"
    )]
    WrongNature { dir: String, asked: &'static str, path: String },
    #[error("engine marker of {dir}: {source}")]
    Io { dir: String, source: io::Error },
}

/// Claims `dir` for `engine`: creates the directory and its marker if there is none, and refuses a directory
/// that belongs to another engine, or that holds data and no marker.
pub fn claim(dir: &DataDir, engine: EngineKind) -> Result<(), MarkerError> {
    let name = || dir.root().display().to_string();
    let io_error = |source| MarkerError::Io { dir: name(), source };
    match read(dir).map_err(io_error)? {
        Some(found) if found == engine.line() => {}
        Some(found) => {
            return Err(MarkerError::Mismatch {
                dir: name(),
                found: found.trim_end().to_owned(),
                asked: engine.name(),
            });
        }
        None => {
            let data =
                [(dir.db(), "a database"), (dir.raft(), "a raft log"), (dir.last_flushed_index(), "an index file")];
            if let Some((_, what)) = data.iter().find(|(path, _)| path.exists()) {
                return Err(MarkerError::Unmarked { dir: name(), what, example: engine.line().trim_end().to_owned() });
            }
            durable::create_dir_durably(dir.root()).map_err(io_error)?;
            durable::replace_file(&dir.engine_marker(), engine.line().as_bytes(), |_| {}).map_err(io_error)?;
        }
    }
    if dir.db().exists() && !dir.db().is_dir() {
        let path = dir.db().display().to_string();
        return Err(MarkerError::WrongNature { dir: name(), asked: engine.name(), path });
    }
    Ok(())
}

/// The marker's content, if there is a marker.
pub fn read(dir: &DataDir) -> io::Result<Option<String>> {
    match std::fs::read(dir.engine_marker()) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh() -> (tempfile::TempDir, DataDir) {
        let tmp = tempfile::tempdir().unwrap();
        let dir = DataDir::new(tmp.path().join("n1"));
        (tmp, dir)
    }

    #[test]
    fn the_first_claim_writes_and_later_ones_agree() {
        let (_tmp, dir) = fresh();
        claim(&dir, EngineKind::Rocksdb).unwrap();
        assert_eq!(std::fs::read(dir.engine_marker()).unwrap(), b"rocksdb 1\n");
        claim(&dir, EngineKind::Rocksdb).unwrap();
    }

    #[test]
    fn another_engine_or_layout_version_is_refused_by_name() {
        let (_tmp, dir) = fresh();
        for other in ["redb 1\n", "rocksdb 2\n", "rocksdb 1", ""] {
            std::fs::create_dir_all(dir.root()).unwrap();
            std::fs::write(dir.engine_marker(), other).unwrap();
            let error = claim(&dir, EngineKind::Rocksdb).unwrap_err();
            assert!(error.to_string().contains("--backend=rocksdb"), "{error}");
        }
    }

    #[test]
    fn data_without_a_marker_is_never_adopted() {
        let (_tmp, dir) = fresh();
        std::fs::create_dir_all(dir.db()).unwrap();
        assert!(matches!(claim(&dir, EngineKind::Rocksdb), Err(MarkerError::Unmarked { what: "a database", .. })));
        assert!(!dir.engine_marker().exists());
    }

    #[test]
    fn a_file_where_the_directory_belongs_is_refused() {
        let (_tmp, dir) = fresh();
        claim(&dir, EngineKind::Rocksdb).unwrap();
        std::fs::create_dir_all(dir.snap()).unwrap();
        std::fs::write(dir.db(), b"a redb file").unwrap();
        assert!(matches!(claim(&dir, EngineKind::Rocksdb), Err(MarkerError::WrongNature { .. })));
    }
}
