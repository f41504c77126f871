//! The log as all but the I/O thread see it: one lock, one queue, and the `durable` watermark.
//!
//! Every write changes this state and enters the queue under the same lock, so that the order in
//! which the disk sees the writes is the order in which readers saw them. `durable` is lowered
//! *here*, when a truncation is queued: the entries that will take the truncated ones' places are
//! not durable until they are. It is published before the lock is released, so readers never see it
//! above the log's end.

use super::disk::{Disk, Found};
use super::tail::Tail;
use crate::types::{RawEntry, RawVote, TypeConfig, entry_log_id};
use node_base::LogId;
use node_base::sabotage::{Bug, planted};
use node_base::watermarks::Watermarks;
use openraft::storage::IOFlushed;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use tokio::sync::{oneshot, watch};

pub(super) type Done = oneshot::Sender<io::Result<()>>;

/// A write that waits for the I/O thread.
pub(super) enum Op {
    /// Not empty.
    Append {
        entries: Vec<RawEntry>,
        done: IOFlushed<TypeConfig>,
    },
    SaveVote {
        vote: RawVote,
        done: Done,
    },
    /// Removes the entries from this index on.
    Truncate {
        from: u64,
        done: Done,
    },
    /// Remembers the cluster that this member belongs to.
    Join {
        cluster: u64,
        done: Done,
    },
    /// Remembers the first life that was met of a member.
    Meet {
        member: u64,
        incarnation: u64,
        done: Done,
    },
}

/// A value that is remembered once: the first life that was met of a member, or the first cluster
/// that was joined.
pub(super) enum First {
    /// It is durable.
    Known(u64),
    /// The same, durable once the receiver hears.
    New(u64, oneshot::Receiver<io::Result<()>>),
}

/// A first value, and whether it would survive a kill.
#[derive(Clone, Copy)]
struct Remembered {
    first: u64,
    durable: bool,
}

pub(super) struct State {
    pub queue: VecDeque<Op>,
    pub tail: Tail,
    pub last: Option<LogId>,
    /// The last entry that readers must no longer see; the disk follows.
    pub purge_target: Option<LogId>,
    /// The last entry that the library asked to purge; N may hold it back.
    purge_wanted: Option<LogId>,
    /// Callers that wait until the disk is purged up to an index.
    pub purge_waiters: Vec<(u64, Done)>,
    /// The last entry that is purged on the disk.
    pub purged_on_disk: Option<LogId>,
    pub vote: Option<RawVote>,
    pub committed: Option<LogId>,
    /// `committed` is to be written along with the next transaction.
    pub committed_unsaved: bool,
    pub(super) durable: Option<u64>,
    /// Grows at each truncation: a reader that saw it change reads again.
    pub truncations: u64,
    marks: Option<Arc<Watermarks>>,
    pub own_id: Option<u64>,
    pub stopping: bool,
}

pub(super) struct Shared {
    pub incarnation: u64,
    /// Beside the state, because every message looks here. Where both are locked, this one comes
    /// first.
    met: Mutex<BTreeMap<u64, Remembered>>,
    /// Beside the state for the same reason.
    cluster: Mutex<Option<Remembered>>,
    state: Mutex<State>,
    /// Wakes the I/O thread.
    pub work: Condvar,
    pub disk: Disk,
    pub durable: watch::Sender<Option<u64>>,
    /// Reason why the log died; nothing is written from then on.
    pub failed: watch::Sender<Option<String>>,
}

impl Shared {
    pub fn new(disk: Disk, found: Found) -> Self {
        let durable = found.last.map(|id| id.index);
        let state = State {
            queue: VecDeque::new(),
            tail: Tail::starting_at(durable.map_or(0, |index| index + 1)),
            last: found.last,
            purge_target: found.purged,
            purge_wanted: None,
            purge_waiters: Vec::new(),
            purged_on_disk: found.purged,
            vote: found.vote,
            // Never beyond the log: the library would look for entries that are not there, and not
            // start.
            committed: found
                .committed
                .map(|id| found.last.map_or(id, |last| if last.index < id.index { last } else { id })),
            committed_unsaved: false,
            durable,
            truncations: 0,
            marks: None,
            own_id: None,
            stopping: false,
        };
        let durably = |first| Remembered { first, durable: true };
        Self {
            incarnation: found.incarnation.unwrap_or_default(),
            met: Mutex::new(found.met.into_iter().map(|(member, life)| (member, durably(life))).collect()),
            cluster: Mutex::new(found.cluster.map(durably)),
            state: Mutex::new(state),
            work: Condvar::new(),
            disk,
            durable: watch::Sender::new(durable),
            failed: watch::Sender::new(None),
        }
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `ready`, without holding the lock meanwhile.
    pub fn wait_until(&self, ready: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        let guard = self.work.wait_while(self.lock(), |state| !ready(state));
        guard.unwrap_or_else(PoisonError::into_inner)
    }

    /// The error of all callers after a failure. Writers ask under the lock: the dying thread
    /// empties the queue under it, so that nothing waits in there for ever.
    pub fn check_alive(&self) -> io::Result<()> {
        match &*self.failed.borrow() {
            None => Ok(()),
            Some(reason) => Err(io::Error::other(format!("the raft log failed earlier: {reason}"))),
        }
    }

    /// # Errors
    /// `entries` do not follow the log: a hole would be found only when it is read, much later.
    pub fn append(&self, entries: Vec<RawEntry>, done: IOFlushed<TypeConfig>) -> io::Result<()> {
        let mut state = self.lock();
        self.check_alive()?;
        for entry in &entries {
            let index = entry.log_id.index;
            if let Some(last) = state.last.filter(|last| last.index + 1 != index) {
                let expected = last.index + 1;
                return Err(io::Error::other(format!(
                    "append must leave no hole: expected index {expected}, found {index}"
                )));
            }
            state.last = Some(entry_log_id(entry));
            state.tail.push(entry.clone());
        }
        if entries.is_empty() {
            done.io_completed(Ok(()));
            return Ok(());
        }
        state.queue.push_back(Op::Append { entries, done });
        drop(state);
        self.work.notify_all();
        Ok(())
    }

    pub fn save_vote(&self, vote: RawVote) -> io::Result<oneshot::Receiver<io::Result<()>>> {
        self.enqueue(|state, done| {
            state.vote = Some(vote);
            Op::SaveVote { vote, done }
        })
    }

    /// The cluster that this member belongs to, once that is durable.
    pub fn cluster(&self) -> Option<u64> {
        self.lock_cluster().filter(|cluster| cluster.durable).map(|cluster| cluster.first)
    }

    /// Joins `cluster`, unless this member belongs to one. A caller that comes while the first one
    /// is being written writes it again, and so waits for it as well.
    pub fn join(&self, cluster: u64) -> io::Result<First> {
        let mut joined = self.lock_cluster();
        let Remembered { first, durable } = *joined.get_or_insert(Remembered { first: cluster, durable: false });
        if durable {
            return Ok(First::Known(first));
        }
        let saved = self.enqueue(|_, done| Op::Join { cluster: first, done })?;
        Ok(First::New(first, saved))
    }

    /// The I/O thread wrote the cluster.
    pub fn joined_durably(&self) {
        if let Some(cluster) = self.lock_cluster().as_mut() {
            cluster.durable = true;
        }
    }

    fn lock_cluster(&self) -> MutexGuard<'_, Option<Remembered>> {
        self.cluster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn known_incarnation(&self, member: u64) -> Option<u64> {
        self.lock_met().get(&member).map(|met| met.first)
    }

    /// The members that were met in some life.
    pub fn met_members(&self) -> Vec<u64> {
        self.lock_met().keys().copied().collect()
    }

    /// A caller that comes while the first meeting is being written writes it again, and so waits
    /// for it as well.
    pub fn meet(&self, member: u64, incarnation: u64) -> io::Result<First> {
        let mut met = self.lock_met();
        let Remembered { first, durable } =
            *met.entry(member).or_insert(Remembered { first: incarnation, durable: false });
        if durable {
            return Ok(First::Known(first));
        }
        let saved = self.enqueue(|_, done| Op::Meet { member, incarnation: first, done })?;
        Ok(First::New(first, saved))
    }

    /// The I/O thread wrote the first meeting with `member`.
    pub fn met_durably(&self, member: u64) {
        if let Some(met) = self.lock_met().get_mut(&member) {
            met.durable = true;
        }
    }

    fn lock_met(&self) -> MutexGuard<'_, BTreeMap<u64, Remembered>> {
        self.met.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes everything after `after`; `None`: everything.
    pub fn truncate_after(&self, after: Option<LogId>) -> io::Result<oneshot::Receiver<io::Result<()>>> {
        let after = after.max_by_index(self.lock().purge_target);
        let from = after.map_or(0, |id| id.index + 1);
        self.enqueue(|state, done| {
            state.tail.truncate(from);
            // Nothing is there to truncate when the log ends before `after`, and it must not seem
            // to end later.
            if state.last.map(|id| id.index) > after.map(|id| id.index) {
                state.last = after;
            }
            state.truncations += 1;
            state.durable = state.durable.min(from.checked_sub(1));
            if state.committed.map(|id| id.index) > after.map(|id| id.index) {
                (state.committed, state.committed_unsaved) = (after, after.is_some());
            }
            Op::Truncate { from, done }
        })
    }

    fn enqueue(&self, op: impl FnOnce(&mut State, Done) -> Op) -> io::Result<oneshot::Receiver<io::Result<()>>> {
        let (done, receiver) = oneshot::channel();
        let mut state = self.lock();
        self.check_alive()?;
        let op = op(&mut state, done);
        state.queue.push_back(op);
        self.publish_durable(&state);
        drop(state);
        self.work.notify_all();
        Ok(receiver)
    }

    /// Remembered, and written with the next transaction: losing it costs only time.
    pub fn save_committed(&self, id: LogId) {
        let marks = {
            let mut state = self.lock();
            if Some(id.index) <= state.last.map(|last| last.index)
                && state.committed.is_none_or(|old| old.index < id.index)
            {
                state.committed = Some(id);
                state.committed_unsaved = true;
            }
            state.marks.clone()
        };
        if let Some(marks) = marks {
            marks.committed(id.index);
        }
    }

    /// Purges up to `upto` as far as N allows, and the rest when N has grown. Does not wait for the
    /// disk.
    pub fn purge(&self, upto: LogId) {
        self.lock().purge_wanted.raise(upto);
        self.recheck_purge();
    }

    /// N moved: more of what was asked for may be purged.
    pub fn recheck_purge(&self) {
        let mut state = self.lock();
        let Some(wanted) = state.purge_wanted else { return };
        match state.purge_cap() {
            Cap::None => state.purge_to(wanted),
            Cap::At(Some(cap)) => state.purge_to(if wanted.index <= cap.index { wanted } else { cap }),
            Cap::At(None) => return,
        }
        self.publish_durable(&state);
        drop(state);
        self.work.notify_all();
    }

    /// Purges up to `upto`, which the caller knows to be durable in the engine; the receiver hears
    /// when the disk is.
    pub fn purge_through(&self, upto: LogId) -> io::Result<oneshot::Receiver<io::Result<()>>> {
        let (done, receiver) = oneshot::channel();
        let mut state = self.lock();
        self.check_alive()?;
        state.purge_to(upto);
        state.purge_waiters.push((upto.index, done));
        self.publish_durable(&state);
        drop(state);
        self.work.notify_all();
        Ok(receiver)
    }

    pub fn attach(&self, marks: Arc<Watermarks>) {
        self.lock().marks = Some(marks);
    }

    /// The I/O thread wrote a group that leaves the log durable through `upto`.
    pub fn written(&self, upto: Option<u64>) {
        let mut state = self.lock();
        state.durable = state.durable.max(state.durable_after(upto));
        let durable = state.durable;
        state.tail.evict(durable);
        self.publish_durable(&state);
    }

    /// Publishes what `state`, which the caller holds locked, says: two publishers must not
    /// overtake each other.
    fn publish_durable(&self, state: &State) {
        let durable = state.durable;
        self.durable.send_if_modified(|published| std::mem::replace(published, durable) != durable);
    }
}

/// Bound of a purge.
enum Cap {
    None,
    At(Option<LogId>),
}

impl State {
    fn purge_cap(&self) -> Cap {
        match &self.marks {
            None => Cap::None,
            Some(marks) if planted(Bug::PurgePastFlushed) => Cap::At(marks.now().applied),
            Some(marks) => Cap::At(marks.now().persisted),
        }
    }

    /// Readers no longer see what is at or below `upto`. Beyond the log's end the log restarts
    /// there.
    fn purge_to(&mut self, upto: LogId) {
        if self.purge_target.is_some_and(|target| target.index >= upto.index) {
            return;
        }
        self.purge_target = Some(upto);
        self.tail.purge(upto.index);
        if self.last.is_none_or(|last| last.index <= upto.index) {
            self.last = Some(upto);
            // A snapshot stands for these entries.
            self.durable = self.durable.max(Some(upto.index));
        }
    }

    /// The last index that counts as durable once everything through `upto` is written: a
    /// truncation that was queued meanwhile has taken some of it back.
    pub fn durable_after(&self, upto: Option<u64>) -> Option<u64> {
        self.queue.iter().fold(upto, |durable, op| match op {
            Op::Truncate { from, .. } => durable.min(from.checked_sub(1)),
            _ => durable,
        })
    }

    pub fn purge_is_due(&self) -> bool {
        self.purge_target.map(|id| id.index) > self.purged_on_disk.map(|id| id.index)
    }

    pub fn leads(&self) -> bool {
        self.vote.is_some_and(|vote| vote.committed && Some(crate::types::vote_parts(&vote).1) == self.own_id)
    }
}

trait ByIndex {
    fn max_by_index(self, other: Self) -> Self;
    fn raise(&mut self, to: LogId);
}

impl ByIndex for Option<LogId> {
    fn max_by_index(self, other: Self) -> Self {
        if self.map(|id| id.index) < other.map(|id| id.index) { other } else { self }
    }

    fn raise(&mut self, to: LogId) {
        *self = self.max_by_index(Some(to));
    }
}
