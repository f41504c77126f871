//! Planted bugs `raft-log-no-fsync` and `vote-not-persisted`: the raft log's file, with syncs that
//! succeed and do nothing. Kills keep the page cache, so only a power loss shows them. And
//! `fsync-error-ignored`: a sync that failed is tried again, and believed; `write-error-ignored`: a
//! write that failed counts as done.

use node_base::sabotage::{Bug, planted};
use redb::backends::FileBackend;
use redb::{BackendError, StorageBackend};
use std::fs::File;
use std::io;
use std::ops::Bound;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// The transaction under way holds votes alone.
static VOTES_ALONE: AtomicBool = AtomicBool::new(false);

/// True if the log's file is to be opened through [`WithoutSync`].
pub(super) fn is_planted() -> bool {
    [Bug::RaftLogNoFsync, Bug::VoteNotPersisted, Bug::FsyncErrorIgnored, Bug::WriteErrorIgnored]
        .into_iter()
        .any(planted)
}

/// Says what the next commit holds.
pub(super) fn next_holds(votes_alone: bool) {
    if is_planted() {
        VOTES_ALONE.store(votes_alone, Ordering::Release);
    }
}

#[derive(Debug)]
pub(super) struct WithoutSync(FileBackend);

type Locked<T> = Result<T, BackendError>;

impl WithoutSync {
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::options().read(true).write(true).open(path)?;
        FileBackend::new(file).map(Self).map_err(io::Error::other)
    }
}

impl StorageBackend for WithoutSync {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        let skipped = planted(Bug::RaftLogNoFsync) || VOTES_ALONE.load(Ordering::Acquire);
        if skipped {
            return Ok(());
        }
        let synced = self.0.sync_data();
        if synced.is_err() && planted(Bug::FsyncErrorIgnored) { self.0.sync_data() } else { synced }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let written = self.0.write(offset, data);
        if planted(Bug::WriteErrorIgnored) { Ok(()) } else { written }
    }

    fn close(&self) -> io::Result<()> {
        self.0.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<bool> {
        self.0.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<bool> {
        self.0.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<()> {
        self.0.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<()> {
        self.0.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<()> {
        self.0.unlock_range(start, end)
    }
}
