//! The paths of a member's data directory. No other file joins path components.
//!
//! ```text
//! <data-dir>/lock                             held by the process that works on this directory, while it lives
//! <data-dir>/engine-marker                    which engine owns this directory
//! <data-dir>/engine-migration                 the intent of a change of engine, while one is under way
//! <data-dir>/member/raft/                     the raft log's
//! <data-dir>/member/snap/db                   the engine's: a file (redb) or a directory (RocksDB)
//! <data-dir>/member/snap/last-flushed-index   N, with RocksDB only
//! <data-dir>/member/snap/db.incoming          a snapshot being received; after the exchange, the old database
//! <data-dir>/member/snap/db.foreign           the same in the other engine's form, until it is converted
//! <data-dir>/member/snap/db.fresh             a file of redb's being made, for a new or a defragmented database
//! <data-dir>/member/snap/db.old               the old database, where the filesystem cannot exchange names
//! <data-dir>/member/snap/outgoing/            images being sent
//! ```

use node_base::durable;
use node_base::sabotage::{Bug, planted};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// A data directory that is this process's; let go when this is dropped.
#[derive(Debug)]
pub struct DirLock {
    _file: File,
}

#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("data directory {dir} is in use by another process: stop that one first")]
    Held { dir: String },
    #[error("{path}: {source}")]
    Io { path: String, source: io::Error },
}

/// A data directory; creates and opens nothing by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataDir {
    root: PathBuf,
}

impl DataDir {
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn engine_marker(&self) -> PathBuf {
        self.root.join("engine-marker")
    }

    pub fn engine_migration(&self) -> PathBuf {
        self.root.join("engine-migration")
    }

    pub fn member(&self) -> PathBuf {
        self.root.join("member")
    }

    pub fn raft(&self) -> PathBuf {
        self.member().join("raft")
    }

    pub fn snap(&self) -> PathBuf {
        self.member().join("snap")
    }

    pub fn db(&self) -> PathBuf {
        self.snap().join("db")
    }

    pub fn last_flushed_index(&self) -> PathBuf {
        self.snap().join("last-flushed-index")
    }

    pub fn incoming(&self) -> PathBuf {
        self.snap().join("db.incoming")
    }

    pub fn foreign(&self) -> PathBuf {
        self.snap().join("db.foreign")
    }

    pub fn fresh(&self) -> PathBuf {
        self.snap().join("db.fresh")
    }

    pub fn old(&self) -> PathBuf {
        self.snap().join("db.old")
    }

    pub fn outgoing(&self) -> PathBuf {
        self.snap().join("outgoing")
    }

    /// Takes this directory, which exists, for this process: until the lock is dropped, or the
    /// process ends in whatever way, no other process gets it.
    ///
    /// # Errors
    /// [`LockError::Held`] at once if another process has it.
    pub fn lock(&self) -> Result<DirLock, LockError> {
        let path = self.root.join("lock");
        let io = |source| LockError::Io { path: path.display().to_string(), source };
        let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(io)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(DirLock { _file: file }),
            Err(Errno::WOULDBLOCK) => Err(LockError::Held { dir: self.root.display().to_string() }),
            Err(error) => Err(io(error.into())),
        }
    }

    /// Syncs what an earlier life may have left in the page cache: the marker, N, and the names of
    /// everything down to the engine's directory.
    ///
    /// A kill leaves a rename or a new directory visible but not durable. A process that builds on
    /// it without this (answers a peer, purges a log) loses it in a power failure *after* having
    /// promised something that stands on it. RocksDB's own files need no help: it syncs an SST and
    /// its directory before the MANIFEST names it, and writes and syncs a new MANIFEST at each
    /// open. redb's file is synced like the others.
    pub fn sync_leftovers(&self) -> io::Result<()> {
        if planted(Bug::ReopenWithoutSync) {
            return Ok(());
        }
        for path in [self.engine_marker(), self.last_flushed_index(), self.db()] {
            match File::open(&path) {
                Ok(_) if path.is_dir() => {}
                Ok(file) => file.sync_all()?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        for dir in [self.snap(), self.member(), self.root.clone(), self.above().to_owned()] {
            if dir.is_dir() {
                durable::sync_dir(&dir)?;
            }
        }
        Ok(())
    }

    /// Syncs every file and directory of a stopped member, and the name of its directory.
    ///
    /// A killed life leaves the raft log, the vote and the database visible beyond what is durable.
    /// A start opens them, and its repairs sync them; a command that works on one of them makes
    /// durable what stands beside the others, which a power failure would then take back.
    pub fn sync_all(&self) -> io::Result<()> {
        durable::sync_tree(&self.root)?;
        durable::sync_dir(self.above())
    }

    /// The directory that this one has its name in.
    fn above(&self) -> &Path {
        self.root.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_holder_at_a_time() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = DataDir::new(tmp.path());
        let held = dir.lock().unwrap();
        let refused = dir.lock().unwrap_err();
        assert!(matches!(refused, LockError::Held { .. }), "{refused}");
        drop(held);
        dir.lock().unwrap();
    }
}
