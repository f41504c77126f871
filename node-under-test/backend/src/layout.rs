//! The paths of a member's data directory. Nobody else joins path components.
//!
//! ```text
//! <data-dir>/engine-marker                    which engine owns this directory
//! <data-dir>/member/raft/                     the raft log's
//! <data-dir>/member/snap/db/                  the engine's
//! <data-dir>/member/snap/last-flushed-index   N
//! <data-dir>/member/snap/db.incoming/         a snapshot being received; after the exchange, the old database
//! <data-dir>/member/snap/db.old/              the old database, where the filesystem cannot exchange names
//! <data-dir>/member/snap/outgoing/            checkpoints being sent
//! ```

use node_base::durable;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

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

    pub fn old(&self) -> PathBuf {
        self.snap().join("db.old")
    }

    pub fn outgoing(&self) -> PathBuf {
        self.snap().join("outgoing")
    }

    /// Syncs what an earlier life may have left in the page cache: the marker, N, and the names of
    /// everything down to the engine's directory.
    ///
    /// A kill leaves a rename or a new directory visible but not durable. Whoever builds on it without this
    /// (answers a peer, purges a log) loses it in a power failure *after* having promised something that
    /// stands on it. The engine's own files need no help: RocksDB syncs an SST and its directory before the
    /// MANIFEST names it, and writes and syncs a new MANIFEST at each open.
    pub fn sync_leftovers(&self) -> io::Result<()> {
        for file in [self.engine_marker(), self.last_flushed_index()] {
            match File::open(file) {
                Ok(file) => file.sync_all()?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        let above = self.root.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        for dir in [self.snap(), self.member(), self.root.clone(), above.to_owned()] {
            if dir.is_dir() {
                durable::sync_dir(&dir)?;
            }
        }
        Ok(())
    }
}
