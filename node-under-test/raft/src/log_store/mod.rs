//! The raft log on disk: entries, vote, commit position and what was purged, in one file.
//!
//! 1. *Nothing is said before its fsync.* A vote's caller returns, and an append's callback runs,
//!    after the transaction that holds it is durable. Appends, votes and truncations are committed
//!    in the order in which they were made, as many as wait in one transaction, by one thread.
//! 2. *[`LogStore::durable`] is a promise about indexes as they read now.* It falls when entries
//!    are truncated and rises when what took their place is durable; it never counts an entry that
//!    a later write has replaced.
//! 3. *Entries are readable the moment `append` returns*, durable or not: from memory.
//! 4. *The disk is purged only up to N*, whatever raft asks for; the rest follows when N grows. A
//!    snapshot that is installed purges up to itself, after N was persisted there.
//! 5. *The saved commit position never exceeds the log* and has no fsync of its own: it rides on
//!    the next transaction, behind the entries that it speaks of, and may lag.
//! 6. *A life is met once, and a cluster joined once.* The log has an incarnation of its own, and
//!    remembers, durably before [`LogStore::meet`] and [`LogStore::join`] return, the first one
//!    that it met of every other member, and the first cluster.
//! 7. *What was answered is there, or the log is refused*: every checksum of the file is verified
//!    when it is opened, and a log that redb opened at an earlier commit than the last one that was
//!    answered is refused (`commits.rs` has the claims).
//! 8. *An error is final.* redb's state after a failed commit is not trusted, and nothing is tried
//!    again.

mod commits;
mod disk;
mod disk_without_sync;
mod io_thread;
mod reader;
mod shared;
mod tail;
#[cfg(test)]
mod tests;

use crate::api::Entry;
use crate::types::{RawEntry, RawLogId, RawVote, TypeConfig, entry, entry_log_id, log_id, raw_log_id, vote_parts};
use disk::Disk;
use node_base::LogId;
use node_base::durable::remedy;
use node_base::sabotage::{Bug, planted};
use node_base::watermarks::Watermarks;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use shared::{First, Shared, State};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use tokio::sync::{oneshot, watch};

/// The log cannot be opened or read. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("{0}: expected a raft log, found none")]
    Missing(PathBuf),
    #[error("{0}: expected no raft log, found one: a log that exists is never replaced")]
    Exists(PathBuf),
    #[error("{0}: another process has this raft log open; stop it first")]
    InUse(PathBuf),
    #[error("{path}: cannot read the raft log: {detail}. {next}", next = next_step(detail))]
    Unreadable { path: PathBuf, detail: String },
    #[error("raft log: {0}")]
    Failed(#[from] io::Error),
}

/// Advice for an error whose text is `detail`: trouble with the machine is not damage of the log.
fn next_step(detail: &str) -> &'static str {
    remedy(detail).unwrap_or("Remove this member from the cluster and add it under a new id")
}

impl LogError {
    fn unreadable(path: &Path, error: impl std::fmt::Display) -> Self {
        Self::Unreadable { path: path.to_owned(), detail: error.to_string() }
    }
}

/// For whom this member voted last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VoteFacts {
    pub term: u64,
    pub node_id: u64,
    /// The member that was voted for has won.
    pub committed: bool,
}

impl VoteFacts {
    fn of(vote: &RawVote) -> Self {
        let (term, node_id) = vote_parts(vote);
        Self { term, node_id, committed: vote.committed }
    }
}

/// Extent and votes of the log. Of a running member: as they will be once everything queued is
/// written, except `last_purged` and `durable`, which are about the disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogFacts {
    /// The first entry that is there.
    pub first: Option<u64>,
    /// The last entry, or the last purged one when there is none.
    pub last: Option<LogId>,
    pub last_purged: Option<LogId>,
    /// May lag what was applied.
    pub committed: Option<LogId>,
    pub vote: Option<VoteFacts>,
    /// Fsynced through here.
    pub durable: Option<u64>,
}

impl LogFacts {
    /// The facts of a stopped member's log, or of a copy of it. What the member had answered is not
    /// looked at. redb may have to repair the file after a kill, so it is opened for writing; what
    /// it says does not change.
    ///
    /// # Errors
    /// [`LogError::Missing`] if there is no log in `dir`: it is not made.
    pub fn read(dir: &Path) -> Result<Self, LogError> {
        disk::caught_in(dir, || Ok(Self::of(&Disk::open(dir, None)?.found()?)))
    }

    /// The same, and whether its last commit had been answered: then the log may not lose any of
    /// it. Where a kill came between a commit and its number, it had not.
    ///
    /// # Errors
    /// As [`LogFacts::read`].
    pub fn read_dead(dir: &Path) -> Result<(Self, bool), LogError> {
        disk::caught_in(dir, || {
            let disk = Disk::open(dir, None)?;
            let found = disk.found()?;
            Ok((Self::of(&found), disk.last_is_answered(&found)?))
        })
    }

    /// The same, after every entry was read: they decode, and follow each other without a gap, and
    /// the last commit that was answered is there.
    ///
    /// # Errors
    /// As [`LogFacts::read`]; [`LogError::Unreadable`] says where it is broken.
    pub fn verify(dir: &Path) -> Result<Self, LogError> {
        disk::caught_in(dir, || {
            let disk = Disk::open(dir, None)?;
            let found = disk.found()?;
            disk.check_commits(&found)?;
            disk.check_entries(&found)?;
            Ok(Self::of(&found))
        })
    }

    fn of(found: &disk::Found) -> Self {
        Self {
            first: found.first,
            last: found.last,
            last_purged: found.purged,
            committed: found.committed,
            vote: found.vote.as_ref().map(VoteFacts::of),
            durable: found.last.map(|id| id.index),
        }
    }
}

/// A handle on the log; clones share it. The file is closed when the last one is dropped.
#[derive(Clone)]
pub struct LogStore {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl LogStore {
    /// Opens the log in `dir`, making both durably if need be. Blocking; repairs the file after a
    /// kill. `fresh` is the incarnation of a log that has none yet: random, not 0.
    ///
    /// # Errors
    /// [`LogError::InUse`] while another process has it open; a damaged file is refused.
    pub fn open(dir: &Path, fresh: u64) -> Result<Self, LogError> {
        // 0 stands for "never met" on the wire.
        let fresh = fresh.max(1);
        let (disk, mut found) = disk::caught_in(dir, || {
            let disk = Disk::open(dir, Some(fresh))?;
            let found = disk.found()?;
            disk.number_commits(&found)?;
            Ok((disk, found))
        })?;
        if found.incarnation.is_none() {
            disk.transact(|changes| changes.save_incarnation(fresh), || {})?;
            found.incarnation = Some(fresh);
        }
        let shared = Arc::new(Shared::new(disk, found));
        let writer = io_thread::spawn(shared.clone())?;
        Ok(Self { inner: Arc::new(Inner { shared, writer: Mutex::new(Some(writer)) }) })
    }

    /// Makes the log of a member that begins at `position` without a single entry: durable when
    /// this returns, and read by the next [`LogStore::open`]. `incarnation` is random, not 0.
    ///
    /// # Errors
    /// [`LogError::Exists`] if there is a log in `dir`.
    pub fn create_at(dir: &Path, incarnation: u64, position: LogId) -> Result<(), LogError> {
        Disk::create_purged(dir, incarnation.max(1), position)
    }

    pub fn facts(&self) -> LogFacts {
        let state = self.inner.shared.lock();
        let first = state.purge_target.map_or(0, |id| id.index + 1);
        LogFacts {
            first: state.last.filter(|last| last.index >= first).map(|_| first),
            last: state.last,
            last_purged: state.purged_on_disk,
            committed: state.committed,
            vote: state.vote.as_ref().map(VoteFacts::of),
            durable: state.durable,
        }
    }

    /// The term in which this member voted last; 0: it never did.
    pub(crate) fn vote_term(&self) -> u64 {
        self.inner.shared.lock().vote.map_or(0, |vote| vote_parts(&vote).0)
    }

    /// The LogId at `index`, if the log holds that entry or purged it last.
    pub fn log_id(&self, index: u64) -> Result<Option<LogId>, LogError> {
        let purged = self.inner.shared.lock().purge_target.filter(|id| id.index == index);
        if purged.is_some() {
            return Ok(purged);
        }
        let found = self.inner.shared.read(index, index.saturating_add(1), usize::MAX)?;
        Ok(found.first().map(entry_log_id))
    }

    /// The entries of `first..=last` that the log holds. Blocking.
    pub fn read_range(&self, first: u64, last: u64) -> Result<Vec<Entry>, LogError> {
        let found = self.inner.shared.read(first, last.saturating_add(1), usize::MAX)?;
        Ok(found.into_iter().map(entry).collect::<io::Result<_>>()?)
    }

    /// The local log is fsynced through here. Falls when entries are truncated.
    pub fn durable(&self) -> watch::Receiver<Option<u64>> {
        self.inner.shared.durable.subscribe()
    }

    /// From here on the disk is purged only up to `marks.persisted`, and commit positions move
    /// `marks.committed`.
    pub fn attach(&self, marks: Arc<Watermarks>) {
        self.inner.shared.attach(marks);
    }

    /// Fsyncs what an earlier life may have left in the page cache: the file and its name.
    pub fn sync_leftovers(&self) -> Result<(), LogError> {
        if planted(Bug::ReopenWithoutSync) {
            return Ok(());
        }
        Ok(self.inner.shared.disk.sync()?)
    }

    /// The life of this log: the same for as long as the file lives, and another one for another
    /// file.
    pub fn incarnation(&self) -> u64 {
        self.inner.shared.incarnation
    }

    /// The life that member `id` is known by here, if it was ever met.
    pub fn known_incarnation(&self, id: u64) -> Option<u64> {
        self.inner.shared.known_incarnation(id)
    }

    /// Meets member `id` in its life `incarnation`, and returns the first life that was met of it,
    /// which is durable then: the caller may act on what it heard only if the two are equal.
    pub(crate) async fn meet(&self, id: u64, incarnation: u64) -> io::Result<u64> {
        durably(self.inner.shared.meet(id, incarnation)?).await
    }

    /// The members that were met in some life.
    pub(crate) fn met_members(&self) -> Vec<u64> {
        self.inner.shared.met_members()
    }

    /// The cluster that this member belongs to; `None`: it has not joined one yet.
    pub fn cluster(&self) -> Option<u64> {
        self.inner.shared.cluster()
    }

    /// Joins `cluster` if this member belongs to none, and returns the one that it belongs to,
    /// which is durable then.
    pub(crate) async fn join(&self, cluster: u64) -> io::Result<u64> {
        durably(self.inner.shared.join(cluster)?).await
    }

    /// Sets this member's id: the planted bug `leader-restore` bites leaders only.
    pub(crate) fn set_own_id(&self, id: u64) {
        self.inner.shared.lock().own_id = Some(id);
    }

    /// Purges up to `upto`, which is durable in the engine. Blocking: returns when the disk is
    /// purged.
    pub(crate) fn purge_through_blocking(&self, upto: LogId) -> io::Result<()> {
        self.inner.shared.purge_through(upto)?.blocking_recv().unwrap_or_else(|_| Err(closed()))
    }

    /// The same, in an asynchronous context.
    pub(crate) async fn purge_through(&self, upto: LogId) -> io::Result<()> {
        let purged = self.inner.shared.purge_through(upto)?;
        wait(purged).await
    }

    /// Drops every entry after `after`, durably.
    pub(crate) async fn drop_after(&self, after: Option<LogId>) -> io::Result<()> {
        let dropped = self.inner.shared.truncate_after(after)?;
        wait(dropped).await
    }

    /// N moved.
    pub(crate) fn recheck_purge(&self) {
        self.inner.shared.recheck_purge();
    }

    /// Nothing is synced while the result lives.
    #[cfg(test)]
    pub(crate) fn hold_commits(&self) -> impl Sized + '_ {
        self.inner.shared.disk.hold_commits()
    }

    /// Reason why the log died, once it has.
    pub(crate) fn failed(&self) -> watch::Receiver<Option<String>> {
        self.inner.shared.failed.subscribe()
    }

    /// Writes what is queued and closes the file. Blocking. What comes after fails.
    pub(crate) fn close(&self) {
        self.inner.close();
    }
}

impl Inner {
    fn close(&self) {
        self.shared.lock().stopping = true;
        self.shared.work.notify_all();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer
            && writer.join().is_err()
        {
            tracing::error!("the raft log's thread panicked");
        }
        self.shared.disk.close();
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

fn closed() -> io::Error {
    io::Error::other("the raft log is closed")
}

async fn durably(first: First) -> io::Result<u64> {
    match first {
        First::Known(first) => Ok(first),
        First::New(first, saved) => {
            wait(saved).await?;
            Ok(first)
        }
    }
}

async fn wait(done: oneshot::Receiver<io::Result<()>>) -> io::Result<()> {
    done.await.unwrap_or_else(|_| Err(closed()))
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let state: &State = &self.inner.shared.lock();
        Ok(LogState { last_purged_log_id: state.purge_target.map(raw_log_id), last_log_id: state.last.map(raw_log_id) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &RawVote) -> io::Result<()> {
        let saved = self.inner.shared.save_vote(*vote)?;
        wait(saved).await
    }

    async fn save_committed(&mut self, committed: Option<RawLogId>) -> io::Result<()> {
        if let Some(committed) = &committed {
            self.inner.shared.save_committed(log_id(committed));
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<RawLogId>> {
        Ok(self.inner.shared.lock().committed.map(raw_log_id))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = RawEntry> + Send,
        I::IntoIter: Send,
    {
        self.inner.shared.append(entries.into_iter().collect(), callback)
    }

    async fn truncate_after(&mut self, last: Option<RawLogId>) -> io::Result<()> {
        self.drop_after(last.as_ref().map(log_id)).await
    }

    async fn purge(&mut self, upto: RawLogId) -> io::Result<()> {
        self.inner.shared.purge(log_id(&upto));
        Ok(())
    }
}
