//! Between the library and the node's [`StateMachine`]: apply in order behind the local fsync, and
//! snapshots that exist only as a promise until one is needed.
//!
//! 0. *Entries are applied on a thread of their own* ([`ApplyThread`]), and so are snapshots
//!    installed: an entry may change as many keys as the store has, and an engine may stall. What
//!    raft's core, its timers and its peers need goes on meanwhile. All entries that are ready go
//!    to the state machine at once, which may let them share what a commit costs; each is answered
//!    when the state machine says so, and not before. The thread also asks it to make durable what
//!    was applied ([`Group`]).
//! 1. *An entry is applied only when the local log is durable through it*, though a quorum without
//!    this member may have committed it earlier: the engine is then never ahead of the log, and
//!    after a crash L ≥ E.
//! 2. *A snapshot's position is min(N, what the library was told is applied).* N alone can be ahead
//!    at start-up, when the engine holds (N, E] and flushes it again before those entries were
//!    handed over; the library would then install its own promise. It is `None` only while nothing
//!    is flushed, and then nothing was purged either.
//! 3. *The library believes that a follower that took a snapshot matches at that position.* The
//!    image that was sent is newer, never older, so the follower holds more than it is believed to;
//!    entries below what it committed it accepts without looking (`has_log_id`), so being sent some
//!    of them again is harmless.
//! 4. *An image's membership is the one that its meta names*: the library goes by the meta, the
//!    rest of the node by the image. What the library was promised earlier plays no part in it.

use crate::api::{StateMachine, ToApply};
use crate::clock::Moment;
use crate::identity::Identity;
use crate::log_store::LogStore;
use crate::membership::roster;
use crate::types::{
    Blob, RawEntry, RawLogId, RawMembership, RawSnapshot, RawSnapshotMeta, SnapshotData, TypeConfig, entry,
    entry_log_id, log_id, raw_log_id, raw_membership, snapshot_meta,
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use node_base::LogId;
use node_base::failpoint::{Window, pass};
use node_base::sabotage::{Bug, planted};
use node_base::watermarks::Watermarks;
use openraft::storage::{ApplyResponder, EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::{EntryPayload, Raft};
use std::collections::VecDeque;
use std::io;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{oneshot, watch};

/// The library, on this state machine.
pub type RawRaft = Raft<TypeConfig, Adapter>;

/// Entries applied in one go before the task looks up again.
const BATCH_ENTRIES: usize = 256;

pub struct Adapter {
    log: LogStore,
    durable: watch::Receiver<Option<u64>>,
    marks: Arc<Watermarks>,
    thread: ApplyThread,
    /// Locked by the one job of `thread`, or between two jobs.
    applied: Arc<Mutex<Applied>>,
    /// The error that ended raft, with its causes: the library hands on its text alone.
    failed: watch::Sender<Option<Arc<io::Error>>>,
}

/// The part that moves with every entry that is applied.
struct Applied {
    inner: Arc<dyn StateMachine>,
    /// The last entry that the library was told is applied.
    last: Option<LogId>,
    membership: RawMembership,
    identity: Identity,
}

type Item = (RawEntry, Option<ApplyResponder<TypeConfig>>);

/// What is left to do for an entry once it is applied.
struct Unanswered {
    id: LogId,
    membership: Option<RawMembership>,
    responder: Option<ApplyResponder<TypeConfig>>,
}

/// Claim 0. Takes one job at a time, and ends with its owner.
struct ApplyThread {
    jobs: mpsc::SyncSender<Job>,
}

type Job = Box<dyn FnOnce(&mut Group) + Send>;

impl ApplyThread {
    fn spawn(state_machine: Arc<dyn StateMachine>) -> io::Result<Self> {
        // Its one user waits for each job, so there is never a second one in the queue.
        let (jobs, queue) = mpsc::sync_channel::<Job>(1);
        let work = move || Group { state_machine, begun: None, entries: 0, failed: None }.serve(&queue);
        std::thread::Builder::new().name("apply".to_owned()).spawn(work)?;
        Ok(Self { jobs })
    }

    /// # Errors
    /// The error of `work`; or an earlier job panicked, and the thread with it.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Group) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let gone = || io::Error::other("the thread that applies entries is gone");
        let (done, outcome) = oneshot::channel();
        let job = move |group: &mut Group| {
            // The waiter is gone when raft is shutting down.
            let _ = done.send(work(group));
        };
        self.jobs.try_send(Box::new(job)).map_err(|_| gone())?;
        outcome.await.map_err(|_| gone())?
    }
}

/// Entries that were applied and not settled yet. No acknowledgement waits for that, and it may
/// cost an fsync, which holds up the next entry: so entries share it for a while.
struct Group {
    state_machine: Arc<dyn StateMachine>,
    /// Since the first of them.
    begun: Option<Moment>,
    entries: usize,
    /// No job waited for the error.
    failed: Option<io::Error>,
}

impl Group {
    /// Time after which a group is settled, though it is small.
    const AGE_MAX: Duration = Duration::from_millis(20);
    /// Entries after which it is settled at once. What a group has superseded is not free before.
    const ENTRIES_MAX: usize = 256;

    /// Runs jobs until their sender is gone.
    fn serve(&mut self, queue: &mpsc::Receiver<Job>) {
        loop {
            let job = match self.begun {
                None => queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(begun) => queue.recv_timeout(Self::AGE_MAX.saturating_sub(begun.elapsed())),
            };
            match job {
                Ok(job) => job(self),
                Err(RecvTimeoutError::Timeout) => {
                    if let Err(error) = self.settle() {
                        tracing::error!(%error, "what was applied cannot be made durable");
                        self.failed = Some(error);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// # Errors
    /// The state machine's, of this settling or of one that no job waited for.
    fn grow(&mut self, entries: usize) -> io::Result<()> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let begun = *self.begun.get_or_insert_with(Moment::now);
        self.entries += entries;
        let is_due = self.entries >= Self::ENTRIES_MAX || begun.elapsed() >= Self::AGE_MAX;
        if is_due { self.settle() } else { Ok(()) }
    }

    fn settle(&mut self) -> io::Result<()> {
        (self.begun, self.entries) = (None, 0);
        self.state_machine.settle()
    }
}

impl Applied {
    /// Applies what is ready at once.
    fn apply(&mut self, ready: Vec<Item>, group: &mut Group) -> io::Result<()> {
        let count = ready.len();
        let (mut entries, mut unanswered) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for (raw, responder) in ready {
            let membership = match &raw.payload {
                EntryPayload::Membership(membership) => Some(RawMembership::new(Some(raw.log_id), membership.clone())),
                _ => None,
            };
            let (id, awaited) = (entry_log_id(&raw), responder.is_some());
            unanswered.push(Unanswered { id, membership, responder });
            entries.push(ToApply { entry: entry(raw)?, awaited });
        }
        let mut unanswered = unanswered.into_iter();
        let miscounted = || io::Error::other(format!("the state machine did not answer each of {count} entries once"));
        self.inner.clone().apply(entries, &mut |answer| {
            let applied = unanswered.next().ok_or_else(miscounted)?;
            self.answer(applied, answer)
        })?;
        if unanswered.next().is_some() {
            return Err(miscounted());
        }
        group.grow(count)
    }

    fn answer(&mut self, Unanswered { id, membership, responder }: Unanswered, answer: Bytes) -> io::Result<()> {
        self.last = Some(id);
        // While replay goes through (N, E], the state machine holds a later one already.
        if let Some(membership) = membership.filter(|membership| membership.log_id() > self.membership.log_id()) {
            self.membership = membership;
            self.identity.enrolled(roster(&*self.inner)?);
        }
        if let Some(responder) = responder {
            responder.send(Blob(answer));
            pass(Window::ApplyAnswered);
        }
        Ok(())
    }

    fn install(&mut self, meta: &RawSnapshotMeta, log: &LogStore) -> io::Result<()> {
        let install = snapshot_meta(meta)?;
        self.inner.install_snapshot(&install, &mut || log.purge_through_blocking(install.log_id))?;
        self.last = meta.last_log_id.as_ref().map(log_id);
        self.membership = meta.last_membership.clone();
        // Claim 4. The exchange is done: a member that goes on would believe in two memberships.
        let held = raw_membership(&self.inner.membership()?.unwrap_or_default())?;
        if held != self.membership {
            let (announced, held) = (&self.membership, &held);
            let sentence =
                format!("the snapshot {meta} announced the membership {announced}, and its image holds {held}");
            return Err(io::Error::other(sentence));
        }
        self.identity.enrolled(roster(&*self.inner)?);
        Ok(())
    }
}

impl Adapter {
    /// # Errors
    /// The membership that the state machine kept cannot be decoded, or no thread can be started.
    pub fn new(
        inner: Arc<dyn StateMachine>,
        log: LogStore,
        marks: Arc<Watermarks>,
        identity: Identity,
        failed: watch::Sender<Option<Arc<io::Error>>>,
    ) -> io::Result<Self> {
        let membership = raw_membership(&inner.membership()?.unwrap_or_default())?;
        let last = inner.replay_after();
        let durable = log.durable();
        let thread = ApplyThread::spawn(inner.clone())?;
        let applied = Arc::new(Mutex::new(Applied { inner, last, membership, identity }));
        Ok(Self { log, durable, marks, thread, applied, failed })
    }

    /// Keeps `error`, which ends raft, and returns its text for the library.
    fn ends_raft(&self, error: io::Error) -> io::Error {
        let text = io::Error::new(error.kind(), error.to_string());
        self.failed.send_replace(Some(Arc::new(error)));
        text
    }

    fn applied(&self) -> MutexGuard<'_, Applied> {
        // A job that panicked has ended the thread, and raft with it.
        self.applied.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Claim 2.
    fn promised(&self, applied: Option<LogId>) -> Option<LogId> {
        let marks = self.marks.now();
        // The planted bug promises, and so lets the log be purged up to, what only the memtable
        // holds.
        let flushed = if planted(Bug::PurgePastFlushed) { marks.applied } else { marks.persisted };
        let (flushed, applied) = (flushed?, applied?);
        Some(if flushed.index <= applied.index { flushed } else { applied })
    }

    fn promise(&self) -> Option<RawSnapshot> {
        let applied = self.applied();
        let promised = self.promised(applied.last)?;
        let meta =
            RawSnapshotMeta { last_log_id: Some(raw_log_id(promised)), last_membership: applied.membership.clone() };
        Some(RawSnapshot { meta, snapshot: SnapshotData::Deferred })
    }

    /// Claim 1. Returns how far the log is durable, at least `index`.
    async fn wait_durable(&mut self, index: u64) -> io::Result<u64> {
        let durable = self.durable.wait_for(|durable| *durable >= Some(index)).await;
        let durable = durable.map_err(|_| io::Error::other("the raft log is closed"))?;
        Ok(durable.unwrap_or(index))
    }

    /// Applies the entries of `batch` as the local log becomes durable through them.
    async fn apply_batch(&mut self, mut batch: VecDeque<Item>) -> io::Result<()> {
        while let Some((first, _)) = batch.front() {
            let durable = self.wait_durable(first.log_id.index).await?;
            let ready = batch.iter().take_while(|(raw, _)| raw.log_id.index <= durable).count();
            let ready: Vec<_> = batch.drain(..ready).collect();
            let applied = self.applied.clone();
            let apply =
                move |group: &mut Group| applied.lock().unwrap_or_else(PoisonError::into_inner).apply(ready, group);
            self.thread.run(apply).await?;
        }
        Ok(())
    }
}

impl RaftStateMachine<TypeConfig> for Adapter {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Promise;

    async fn applied_state(&mut self) -> io::Result<(Option<RawLogId>, RawMembership)> {
        let applied = self.applied();
        Ok((applied.last.map(raw_log_id), applied.membership.clone()))
    }

    async fn apply<Strm>(&mut self, entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + Send,
    {
        let mut batches = entries.ready_chunks(BATCH_ENTRIES);
        while let Some(batch) = batches.next().await {
            let batch = batch.into_iter().collect::<io::Result<_>>()?;
            self.apply_batch(batch).await.map_err(|error| self.ends_raft(error))?;
        }
        Ok(())
    }

    async fn try_create_snapshot_builder(&mut self, _force: bool) -> Option<Promise> {
        self.promise().map(Promise)
    }

    async fn get_snapshot_builder(&mut self) -> Promise {
        // Deprecated, and never called: the library asks `try_create_snapshot_builder`.
        Promise(
            self.promise()
                .unwrap_or(RawSnapshot { meta: RawSnapshotMeta::default(), snapshot: SnapshotData::Deferred }),
        )
    }

    async fn install_snapshot(&mut self, meta: &RawSnapshotMeta, data: SnapshotData) -> io::Result<()> {
        if data != SnapshotData::Staged {
            return Err(io::Error::other(format!("asked to install a snapshot that only promises something: {meta}")));
        }
        let (applied, log, staged) = (self.applied.clone(), self.log.clone(), meta.clone());
        let install =
            move |_: &mut Group| applied.lock().unwrap_or_else(PoisonError::into_inner).install(&staged, &log);
        self.thread.run(install).await.map_err(|error| self.ends_raft(error))?;
        if let Some(id) = self.applied().last {
            self.marks.installed(id);
        }
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<RawSnapshot>> {
        Ok(self.promise())
    }
}

/// A snapshot "built" by remembering a position.
pub struct Promise(RawSnapshot);

impl RaftSnapshotBuilder<TypeConfig> for Promise {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> io::Result<RawSnapshot> {
        Ok(self.0.clone())
    }
}
