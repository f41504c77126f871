//! The store: entries in, one batch out, and reads of any state that is not compacted.
//!
//! One writer at a time ([`Writing`]: entries that share a commit, or a step that removes what
//! compactions made unreachable) changes its own copy of the state and *publishes* a clone when its
//! batch is in the engine. Readers hold what was published and a view of the engine, and no lock:
//! neither waits for the other, however long either takes. How entries come to share a commit, and
//! their answers to follow it: [`apply`].
//!
//! 1. *A reader takes the state first, the view second*, so its view holds every row that an entry
//!    had written when the state was published. Rows of later entries it may hold as well: a reader
//!    never looks beyond its state's revision.
//! 2. *A row goes only after no state that names it can be taken any more*: a step first publishes
//!    an index without it, then waits until all that were between state and view have both
//!    ([`Store::pin`]), and only then commits the removal.
//! 3. *A state is published before its entries count as applied*, so a reader that waits for an
//!    applied index finds it published. The watches that it concerns are marked in the same moment
//!    (`interests`), and the changes themselves are kept for them in memory (`mvcc::recent`).
//! 4. *An install shuts out everything*: it holds the writer's turn, and no reader is between state
//!    and view. It waits for the last view to be dropped, so no reader asks for a second view while
//!    it holds one.

mod apply;

pub use apply::Pending;

use super::error::{Error, Rejection, Result};
use super::fence::FenceBook;
use super::hash::{self, KvHash, StateHash};
use super::interests::{Changed, Interest, Interests};
use super::leases::LeaseChanges;
use super::mvcc::budget::Room;
use super::mvcc::garbage::Garbage;
use super::mvcc::index::Version;
use super::mvcc::recent::Recent;
use super::mvcc::row::{self, RowKey};
use super::mvcc::state::State;
use super::mvcc::{Change, History, Interval, Wanted, range, reader, txn};
use bytes::Bytes;
use node_base::backend::{Backend, Batch, ReadView};
use node_base::chain::io_error;
use node_base::failpoint::{self, Window};
use node_proto::etcdserverpb::request_op::Request as Op;
use node_proto::etcdserverpb::{RangeRequest, RangeResponse, TxnRequest, TxnResponse};
use node_proto::mvccpb::KeyValue;
use std::io;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, TryLockError};
use tokio::sync::watch;

/// Keys up to which a read is short: what one of etcd's usual requests spans.
const SHORT_KEYS: usize = 32;
/// Rows of history up to which reading it is short.
const SHORT_HISTORY_ROWS: usize = 256;
/// Rows that one step removes: a few milliseconds in which no entry is applied.
const SWEEP_ROWS: usize = 512;

pub struct Store {
    backend: Arc<dyn Backend>,
    /// Taken for the entries that share a commit, or for one step of a removal.
    writing: Mutex<Writing>,
    /// The state that readers see. Held for as long as it takes to copy or to exchange a pointer.
    published: RwLock<Arc<State>>,
    /// Shared: by a reader between its state and its view. Exclusively: to let all of those pass
    /// (claim 2), and through an install (claim 4). Taken after `writing`.
    pinning: RwLock<()>,
    /// Changed with what is published, and before anyone can see that.
    recent: Mutex<Recent>,
    interests: Arc<Interests>,
    sweep: watch::Sender<Sweep>,
    leases: Arc<LeaseChanges>,
    fences: Arc<FenceBook>,
}

/// The writer's own copy of the state, and what only a writer needs.
struct Writing {
    state: State,
    garbage: Garbage,
}

/// Progress in removing what compactions made unreachable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sweep {
    /// The compact revision.
    pub wanted: i64,
    /// Nothing that a compaction at this revision made unreachable is left in the engine.
    pub done: i64,
}

/// A state and a view of the engine that belong together (claim 1).
struct Pinned<'a> {
    state: Arc<State>,
    view: Box<dyn ReadView + 'a>,
}

impl Store {
    /// Reads the state out of the engine.
    ///
    /// # Errors
    /// [`Error::Engine`], or [`Error::Corrupt`] for rows that this program cannot have written.
    pub fn open(backend: Arc<dyn Backend>) -> Result<Self> {
        let (state, garbage) = State::load(&*backend.read())?;
        Ok(Self {
            recent: Mutex::new(Recent::after(state.revision)),
            interests: Arc::default(),
            sweep: watch::Sender::new(Sweep { wanted: state.compact, done: 0 }),
            published: RwLock::new(Arc::new(state.clone())),
            writing: Mutex::new(Writing { state, garbage }),
            pinning: RwLock::default(),
            leases: Arc::default(),
            fences: Arc::default(),
            backend,
        })
    }

    /// Reads everything again after `exchange` has put another state into the engine. Readers wait
    /// meanwhile: an index and an engine that do not belong together would look like corruption to
    /// them.
    ///
    /// # Errors
    /// The error of `exchange`, after which the old state is still what is read; or as
    /// [`Store::open`].
    pub fn install(&self, exchange: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let mut writing = self.write();
        let no_reader_between = self.pinning.write().unwrap_or_else(PoisonError::into_inner);
        exchange()?;
        self.reload(&mut writing).map_err(io_error)?;
        drop(no_reader_between);
        self.sweep.send_replace(Sweep { wanted: writing.state.compact, done: 0 });
        Ok(())
    }

    fn reload(&self, writing: &mut Writing) -> Result<()> {
        let (state, garbage) = State::load(&*self.backend.read())?;
        let before = std::mem::replace(writing, Writing { state, garbage }).state;
        let gone_or_come = before.leases.granted().chain(writing.state.leases.granted());
        let publish = || {
            *self.recent() = Recent::after(writing.state.revision);
            self.publish(&writing.state);
        };
        let changed = [Changed::Anything(before.revision + 1)];
        self.leases.publish(gone_or_come.map(|(id, _)| (id, true)), || self.interests.publish(&changed, publish));
        Ok(())
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets readers see `state`. The old one may be the last of its kind and large, so it goes
    /// after the lock.
    fn publish(&self, state: &State) {
        let new = Arc::new(state.clone());
        let mut published = self.published.write().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *published, new);
        drop(published);
        drop(old);
    }

    /// Removes a bounded part of what compactions made unreachable, and says whether more is left.
    /// The removal belongs to no entry: each member does it in its own time, and a kill between two
    /// steps leaves rows that the next life finds again.
    ///
    /// # Errors
    /// [`Error::Engine`]: the process must end.
    pub fn sweep_step(&self) -> Result<bool> {
        let mut writing = self.write();
        let Writing { state, garbage } = &mut *writing;
        let compact = state.compact;
        let rows = garbage.take(compact, SWEEP_ROWS);
        if !rows.is_empty() {
            rows.iter().for_each(|(key, row)| state.index.forget(key, row.revision));
            self.publish(state);
            // Claim 2: a reader that took an older state has its view when this returns.
            drop(self.pinning.write().unwrap_or_else(PoisonError::into_inner));
            let mut batch = Batch::default();
            rows.iter().for_each(|(_, row)| batch.delete(row::BUCKET, row.encode()));
            self.backend.sweep(batch)?;
            failpoint::pass(Window::CompactBatch);
        }
        let more = garbage.is_due(compact);
        drop(writing);
        if !more {
            self.sweep.send_if_modified(|sweep| std::mem::replace(&mut sweep.done, compact) != compact);
        }
        Ok(more)
    }

    /// Woken when there is something to remove, and when that is done.
    pub fn sweep_watch(&self) -> watch::Receiver<Sweep> {
        self.sweep.subscribe()
    }

    fn write(&self) -> MutexGuard<'_, Writing> {
        self.writing.lock().expect("no thread panics in the middle of a change")
    }

    /// The published state. Its last holder frees what is only in it, which may take long: not for
    /// threads that other work waits for.
    fn state(&self) -> Arc<State> {
        self.published.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A glance at the published state, without keeping it.
    fn glance<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.published.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Claim 1. Waits for an install, and for nothing else.
    fn pin(&self) -> Pinned<'_> {
        let _between = self.pinning.read().unwrap_or_else(PoisonError::into_inner);
        self.pinned()
    }

    /// The same, or `None` where that would have to wait.
    fn try_pin(&self) -> Option<Pinned<'_>> {
        let _between = match self.pinning.try_read() {
            Ok(between) => between,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        Some(self.pinned())
    }

    /// Only while `pinning` is held.
    fn pinned(&self) -> Pinned<'_> {
        let state = self.state();
        Pinned { state, view: self.backend.read() }
    }

    pub fn backend(&self) -> &Arc<dyn Backend> {
        &self.backend
    }

    pub fn revision(&self) -> i64 {
        self.glance(|state| state.revision)
    }

    /// Counts that a budget is made of: keys that are there, and keys that a walk over everything
    /// counts.
    #[cfg(test)]
    pub fn counted_keys(&self) -> (usize, usize) {
        let everything = Interval::new(&Bytes::from_static(&[0]), &Bytes::from_static(&[0]));
        self.glance(|state| (state.index.live(), state.index.count_up_to(&everything, state.compact, usize::MAX)))
    }

    /// 0: never compacted.
    pub fn compact_revision(&self) -> i64 {
        self.glance(|state| state.compact)
    }

    /// A new stream of watches, which is woken by the changes that concern it.
    pub fn join(&self) -> Interest {
        self.interests.join()
    }

    pub fn fences(&self) -> &FenceBook {
        &self.fences
    }

    /// A range over what is applied here; its header holds the revision alone. It may take as long
    /// as the store is large: for threads that hold up no other work.
    ///
    /// # Errors
    /// A rejection, or [`Error::Engine`].
    pub fn range(&self, request: &RangeRequest) -> Result<RangeResponse> {
        self.pin().range(request)
    }

    /// For tests: ranges over the state and the view of this moment, whenever they are asked for.
    #[cfg(test)]
    pub fn begin_range(&self) -> impl Fn(&RangeRequest) -> Result<RangeResponse> {
        let pinned = self.pin();
        move |request| pinned.range(request)
    }

    /// The same if that is short work and has to wait for nothing; else `None`.
    ///
    /// # Errors
    /// As [`Store::range`].
    pub fn range_if_short(&self, request: &RangeRequest) -> Result<Option<RangeResponse>> {
        let Some(pinned) = self.try_pin() else { return Ok(None) };
        let interval = Interval::new(&request.key, &request.range_end);
        let short = pinned.state.index.holds_at_most(&interval, SHORT_KEYS);
        short.then(|| pinned.range(request)).transpose()
    }

    /// As [`Store::read_txn`] if that is short work and has to wait for nothing; else `None`.
    ///
    /// # Errors
    /// As [`Store::range`].
    pub fn read_txn_if_short(&self, request: &TxnRequest) -> Result<Option<TxnResponse>> {
        let pinned = if names_keys_alone(request) { self.try_pin() } else { None };
        pinned.map(|pinned| pinned.read_txn(request)).transpose()
    }

    /// A transaction for which [`is_read_only`](super::mvcc::check::is_read_only) holds. As
    /// [`Store::range`].
    ///
    /// # Errors
    /// As [`Store::range`].
    pub fn read_txn(&self, request: &TxnRequest) -> Result<TxnResponse> {
        self.pin().read_txn(request)
    }

    /// The changes that `wanted` asks for: whole revisions, at least one of them, and then no more
    /// than it takes to reach [`Wanted::bytes_max`]. One revision may be as large as the store: for
    /// threads that hold up no other work.
    ///
    /// # Errors
    /// [`Rejection::COMPACTED`] if the first revision lies below the compact one.
    pub fn history(&self, wanted: &Wanted<'_>) -> Result<History> {
        if let Some(history) = self.recent_history(wanted, || Some(self.pin()))? {
            return Ok(history);
        }
        let history = self.pin().history(wanted, usize::MAX)?;
        history.ok_or_else(|| Error::Corrupt("a history without an end".to_owned()))
    }

    /// The same if that is short work and has to wait for nothing; else `None`.
    ///
    /// # Errors
    /// As [`Store::history`].
    pub fn history_if_short(&self, wanted: &Wanted<'_>) -> Result<Option<History>> {
        if let Some(history) = self.recent_history(wanted, || self.try_pin())? {
            return Ok(Some(history));
        }
        self.try_pin().map_or(Ok(None), |pinned| pinned.history(wanted, SHORT_HISTORY_ROWS))
    }

    /// The same if all of it is in memory; the versions before are read from what `pin` gives.
    fn recent_history<'a>(
        &'a self,
        wanted: &Wanted<'_>,
        pin: impl FnOnce() -> Option<Pinned<'a>>,
    ) -> Result<Option<History>> {
        if wanted.from < self.compact_revision() {
            return Err(Rejection::COMPACTED.into());
        }
        let piece = self.recent().since(wanted.from, wanted.bytes_max);
        let Some(mut history) = piece.map(|piece| piece.history(wanted)) else { return Ok(None) };
        if wanted.with_previous {
            let Some(Pinned { state, view }) = pin() else { return Ok(None) };
            add_previous(&state, &*view, &mut history)?;
        }
        Ok(Some(history))
    }

    /// Granted TTL of a lease, in seconds.
    pub fn lease_ttl_seconds(&self, id: i64) -> Option<i64> {
        self.glance(|state| state.leases.granted_ttl_seconds(id))
    }

    /// Ids and granted TTLs (seconds) of all leases, ascending by id.
    pub fn leases(&self) -> Vec<(i64, i64)> {
        self.state().leases.granted().collect()
    }

    /// The keys attached to a lease, ascending: as many as the store has.
    pub fn lease_keys(&self, id: i64) -> Option<Vec<Bytes>> {
        self.state().leases.keys(id)
    }

    /// The leases that came or went. One consumer.
    pub fn lease_changes(&self) -> Arc<LeaseChanges> {
        self.leases.clone()
    }

    /// The kv section as of revision `at` (0: the newest), with the store's revision when it was
    /// computed.
    ///
    /// # Errors
    /// [`Rejection::COMPACTED`] at or below the compact revision unless it is the newest;
    /// [`Rejection::FUTURE_REVISION`].
    pub fn kv_hash(&self, at: i64) -> Result<(KvHash, i64)> {
        let Pinned { state, view } = self.pin();
        let now = state.revision;
        drop(state);
        if at > now {
            return Err(Rejection::FUTURE_REVISION.into());
        }
        let hash = hash::kv(&*view, if at > 0 { at } else { i64::MAX })?;
        // The view may be newer than the state, and what it was compacted at decides what can be
        // hashed.
        if at > 0 && at <= hash.compact_revision {
            return Err(Rejection::COMPACTED.into());
        }
        let now = if at > 0 { now } else { now.max(hash.revision) };
        Ok((hash, now))
    }

    /// All sections, read from the engine.
    ///
    /// # Errors
    /// [`Error::Engine`], [`Error::Corrupt`].
    pub fn state_hash(&self) -> Result<StateHash> {
        hash::compute(&*self.backend.read())
    }
}

impl Pinned<'_> {
    /// `None`: there are more than `rows_max` rows to look at.
    fn history(self, wanted: &Wanted<'_>, rows_max: usize) -> Result<Option<History>> {
        let Pinned { state, view } = self;
        if wanted.from < state.compact {
            return Err(Rejection::COMPACTED.into());
        }
        let mut history = History { changes: Vec::new(), through: state.revision };
        // Only the versions before need the index, and a scan may take long.
        let state = wanted.with_previous.then_some(state);
        if !scan_history(&*view, wanted, rows_max, &mut history)? {
            return Ok(None);
        }
        if let Some(state) = state {
            add_previous(&state, &*view, &mut history)?;
        }
        Ok(Some(history))
    }

    fn range(&self, request: &RangeRequest) -> Result<RangeResponse> {
        let selection = range::select(&self.state, self.state.revision, request)?;
        let mut room = Room::to_read(&self.state);
        range::finish(request, selection, &mut room, |row| fetch(&*self.view, row))
    }

    fn read_txn(&self, request: &TxnRequest) -> Result<TxnResponse> {
        let Pinned { state, view } = self;
        txn::read(&reader::Reader { state, view: &**view, batch: None, now: state.revision }, request)
    }
}

/// True if a transaction compares and reads single keys only.
fn names_keys_alone(request: &TxnRequest) -> bool {
    let ops = request.success.iter().chain(&request.failure);
    request.compare.iter().all(|compare| compare.range_end.is_empty())
        && ops.into_iter().all(|op| match &op.request {
            Some(Op::RequestRange(range)) => range.range_end.is_empty(),
            Some(Op::RequestTxn(nested)) => names_keys_alone(nested),
            _ => true,
        })
}

/// Adds the versions before, where they are not compacted.
fn add_previous(state: &State, view: &dyn ReadView, history: &mut History) -> Result<()> {
    for change in &mut history.changes {
        let before = state.index.get(&change.kv.key, change.kv.mod_revision - 1).map(Version::row);
        change.previous = before.map(|row| fetch(view, row)).transpose()?;
    }
    Ok(())
}

fn fetch(view: &dyn ReadView, at: RowKey) -> Result<KeyValue> {
    reader::expect_row(at, view.get(row::BUCKET, &at.encode())?)
}

/// Fills `history` up to its `through`, or to the end of the revision that reaches `bytes_max`.
/// False: there are more than `rows_max` rows to look at.
fn scan_history(view: &dyn ReadView, wanted: &Wanted<'_>, rows_max: usize, history: &mut History) -> Result<bool> {
    let mut rows = 0;
    let mut bytes = 0;
    let mut last_main = None;
    let mut failure = None;
    // The view may hold rows of entries that the state does not know.
    let end = history.through.checked_add(1).map(row::first_key_of);
    view.scan(row::BUCKET, &row::first_key_of(wanted.from), end.as_ref().map(|end| &end[..]), &mut |key, value| {
        let decoded = RowKey::decode(key).and_then(|at| Ok((at, row::decode_value(at, value)?)));
        let (at, kv) = match decoded {
            Ok(decoded) => decoded,
            Err(error) => {
                failure = Some(error);
                return ControlFlow::Break(());
            }
        };
        if let Some(last) = last_main.filter(|last| bytes >= wanted.bytes_max && *last != at.revision.main) {
            history.through = last;
            return ControlFlow::Break(());
        }
        rows += 1;
        if rows > rows_max {
            return ControlFlow::Break(());
        }
        last_main = Some(at.revision.main);
        bytes += key.len() + value.len();
        if (wanted.key)(&kv.key) {
            history.changes.push(Change { kind: at.kind, kv, previous: None });
        }
        ControlFlow::Continue(())
    })?;
    failure.map_or(Ok(rows <= rows_max), Err)
}
