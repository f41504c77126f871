//! The store: one entry in, one batch out, and reads of any state that is not compacted.
//!
//! The lock is the link between memory and engine: whoever holds it (either way) sees an index and an engine
//! that belong to the same entry. So a reader takes its view of the engine while it holds the lock, may then
//! let go of it, and still finds in that view every row that the index named.
//!
//! The lock comes first, the view second, never the other way round: an install holds the lock and waits until
//! the last view is gone.

use super::budget::Room;
use super::history::{Change, History};
use super::index::Version;
use super::row::{self, RowKey};
use super::state::State;
use super::writer::Writer;
use super::{Error, Rejection, Result, range, reader, txn};
use crate::command;
use crate::fence::FenceBook;
use crate::membership;
use crate::state_hash::{self, KvHash, StateHash};
use bytes::Bytes;
use node_base::LogId;
use node_base::backend::{Backend, ReadView};
use node_base::sabotage::{Bug, planted};
use node_proto::command::command::Request;
use node_proto::command::outcome::Result as Answer;
use node_proto::command::{Failure, Fence};
use node_proto::etcdserverpb::{RangeRequest, RangeResponse, TxnRequest, TxnResponse};
use node_proto::limits::COMMAND_ANSWER_BYTES_MAX;
use node_proto::mvccpb::KeyValue;
use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::sync::{Notify, watch};
use tonic::Code;

/// How an entry comes to be applied.
#[derive(Debug, Clone, Copy)]
pub struct Applying {
    /// Its proposer waits for the outcome here.
    pub awaited: bool,
    /// An earlier life had applied it, and lost it.
    pub replaying: bool,
}

pub struct Store {
    backend: Arc<dyn Backend>,
    state: RwLock<State>,
    revision: watch::Sender<i64>,
    leases: Arc<LeaseChanges>,
    fences: Arc<FenceBook>,
}

impl Store {
    /// Reads the state out of the engine.
    ///
    /// # Errors
    /// [`Error::Engine`], or [`Error::Corrupt`] for rows that this program cannot have written.
    pub fn open(backend: Arc<dyn Backend>) -> Result<Self> {
        let state = State::load(&*backend.read())?;
        Ok(Self {
            revision: watch::Sender::new(state.revision),
            state: RwLock::new(state),
            leases: Arc::default(),
            fences: Arc::default(),
            backend,
        })
    }

    /// Reads everything again after `exchange` has put another state into the engine. Readers wait meanwhile:
    /// an index and an engine that do not belong together would look like corruption to them.
    ///
    /// # Errors
    /// That of `exchange`, after which the old state is still what is read; or as [`Store::open`].
    pub fn install(&self, exchange: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let mut state = self.write_state();
        exchange()?;
        self.reload(&mut state).map_err(io::Error::other)
    }

    fn reload(&self, state: &mut State) -> Result<()> {
        let loaded = State::load(&*self.backend.read())?;
        self.leases.touch(state.leases.granted().chain(loaded.leases.granted()).map(|(id, _)| (id, true)));
        *state = loaded;
        self.revision.send_replace(state.revision);
        Ok(())
    }

    /// Applies one command as one batch with its position, and returns the encoded outcome
    /// (nothing, if no caller waits for it). A command that is refused, or is none, commits an empty
    /// batch, so that the consistent index moves with every entry.
    ///
    /// # Errors
    /// The engine failed: the process must end.
    pub fn apply(&self, at: LogId, command: &Bytes, applying: Applying) -> Result<Bytes> {
        if let Some(reason) = self.fences.failure() {
            return Err(Error::Corrupt(format!("an earlier fence could not be hashed: {reason}")));
        }
        let admitted = command::admit(command);
        if let Err(rejection) = &admitted {
            let bytes = command.len();
            tracing::warn!(index = at.index, term = at.term, bytes, %rejection, "a committed command changes nothing");
        }
        // The planted bug takes a command that cannot be decoded for a damaged log.
        if planted(Bug::ApplyNotTotal) && admitted == Err(Rejection::MALFORMED) {
            return Err(Error::Corrupt("a command that cannot be decoded".to_owned()));
        }
        let fence = matches!(admitted, Ok(Request::Fence(_)));
        let mut state = self.write_state();
        let answer = {
            let view = self.backend.read();
            let mut writer = Writer::new(&mut state, &*view, applying);
            let answer = dispatch(&mut writer, admitted)?;
            let (batch, leases) = writer.finish();
            drop(view);
            if fence {
                // Before the commit, which wakes those who wait for this index to be applied.
                self.fences.expect(at.index);
            }
            self.backend.commit(batch, at)?;
            self.leases.touch(leases);
            answer
        };
        if fence {
            self.fences.hash_at(at, &self.backend);
        }
        let revision = state.revision;
        drop(state);
        self.revision.send_if_modified(|known| std::mem::replace(known, revision) != revision);
        Ok(if applying.awaited { command::encode_outcome(answer) } else { Bytes::new() })
    }

    /// What applying the last of `unapplied` will answer, if all of them are applied to the state as it is. `unapplied` is
    /// asked while nothing can be applied.
    ///
    /// # Errors
    /// As [`Store::apply`].
    #[cfg(feature = "sabotage")]
    pub fn foresee(&self, unapplied: impl FnOnce() -> Vec<Bytes>) -> Result<Option<Bytes>> {
        let held = self.read_state();
        let commands = unapplied();
        let mut state = held.clone();
        let view = self.backend.read();
        let (mut batch, mut answer) = (node_base::backend::Batch::default(), None);
        for command in commands {
            let mut writer = Writer::new(&mut state, &*view, Applying { awaited: true, replaying: false });
            writer.batch = batch;
            answer = Some(dispatch(&mut writer, command::admit(&command))?);
            (batch, _) = writer.finish();
        }
        Ok(answer.map(command::encode_outcome))
    }

    fn read_state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().expect("nobody panics while holding the state")
    }

    fn write_state(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().expect("nobody panics while holding the state")
    }

    pub fn backend(&self) -> &Arc<dyn Backend> {
        &self.backend
    }

    pub fn revision(&self) -> i64 {
        self.read_state().revision
    }

    /// Keys that the index knows.
    #[cfg(test)]
    pub fn index_len(&self) -> usize {
        self.read_state().index.len()
    }

    /// 0: never compacted.
    pub fn compact_revision(&self) -> i64 {
        self.read_state().compact
    }

    /// Woken at every new revision.
    pub fn revision_watch(&self) -> watch::Receiver<i64> {
        self.revision.subscribe()
    }

    pub fn fences(&self) -> &FenceBook {
        &self.fences
    }

    /// A range over what is applied here; its header holds the revision alone.
    ///
    /// # Errors
    /// A rejection, or [`Error::Engine`].
    pub fn range(&self, request: &RangeRequest) -> Result<RangeResponse> {
        let state = self.read_state();
        let selection = range::select(&state, state.revision, request)?;
        let mut room = Room::to_read(&state.index);
        let view = self.backend.read();
        drop(state);
        range::finish(request, selection, &mut room, |row| fetch(&*view, row))
    }

    /// A transaction for which [`check::is_read_only`] holds.
    ///
    /// # Errors
    /// As [`Store::range`].
    pub fn read_txn(&self, request: &TxnRequest) -> Result<TxnResponse> {
        let state = self.read_state();
        let view = self.backend.read();
        let reader = reader::Reader { state: &state, view: &*view, batch: None, now: state.revision };
        txn::read(&reader, request)
    }

    /// The changes from revision `from` on, whole revisions, at least one of them, and no more than it takes
    /// to reach `bytes_max`.
    ///
    /// # Errors
    /// [`Rejection::COMPACTED`] if `from` lies below the compact revision.
    pub fn history(&self, from: i64, bytes_max: usize, with_previous: bool) -> Result<History> {
        let state = self.read_state();
        if from < state.compact {
            return Err(Rejection::COMPACTED.into());
        }
        let mut history = History { changes: Vec::new(), through: state.revision };
        let view = self.backend.read();
        drop(state);
        scan_history(&*view, from, bytes_max, &mut history)?;
        drop(view);
        if with_previous {
            self.add_previous(&mut history)?;
        }
        Ok(history)
    }

    fn add_previous(&self, history: &mut History) -> Result<()> {
        let state = self.read_state();
        let before = |kv: &KeyValue| state.index.get(&kv.key, kv.mod_revision - 1).map(Version::row);
        let rows: Vec<_> = history.changes.iter().map(|change| before(&change.kv)).collect();
        let view = self.backend.read();
        drop(state);
        for (change, row) in history.changes.iter_mut().zip(rows) {
            change.previous = row.map(|row| fetch(&*view, row)).transpose()?;
        }
        Ok(())
    }

    /// Granted TTL of a lease, in seconds.
    pub fn lease_ttl_seconds(&self, id: i64) -> Option<i64> {
        self.read_state().leases.granted_ttl_seconds(id)
    }

    /// Ids and granted TTLs (seconds) of all leases, ascending by id.
    pub fn leases(&self) -> Vec<(i64, i64)> {
        self.read_state().leases.granted().collect()
    }

    /// The keys attached to a lease, ascending.
    pub fn lease_keys(&self, id: i64) -> Option<Vec<Bytes>> {
        self.read_state().leases.keys(id)
    }

    /// Which leases came or went. One consumer.
    pub fn lease_changes(&self) -> Arc<LeaseChanges> {
        self.leases.clone()
    }

    /// The kv section as of revision `at` (0: the newest), with the store's revision when it was computed.
    ///
    /// # Errors
    /// [`Rejection::COMPACTED`] at or below the compact revision unless it is the newest;
    /// [`Rejection::FUTURE_REVISION`].
    pub fn kv_hash(&self, at: i64) -> Result<(KvHash, i64)> {
        let state = self.read_state();
        if at > state.revision {
            return Err(Rejection::FUTURE_REVISION.into());
        }
        if at > 0 && at <= state.compact {
            return Err(Rejection::COMPACTED.into());
        }
        let now = state.revision;
        let view = self.backend.read();
        drop(state);
        Ok((state_hash::kv(&*view, if at > 0 { at } else { i64::MAX })?, now))
    }

    /// All sections, read from the engine.
    ///
    /// # Errors
    /// [`Error::Engine`], [`Error::Corrupt`].
    pub fn state_hash(&self) -> Result<StateHash> {
        state_hash::compute(&*self.backend.read())
    }
}

fn fetch(view: &dyn ReadView, at: RowKey) -> Result<KeyValue> {
    reader::expect_row(at, view.get(row::BUCKET, &at.encode())?)
}

/// A rejection becomes an answer; every other error ends the process.
fn dispatch(writer: &mut Writer<'_>, admitted: std::result::Result<Request, Rejection>) -> Result<Answer> {
    match admitted.map_err(Error::from).and_then(|request| carry_out(writer, &request)) {
        Err(Error::Rejected(rejection)) => Ok(Answer::Failure(rejection.into())),
        Ok(_) if writer.answer_is_too_large() => Ok(Answer::Failure(too_large_to_tell(writer.now()))),
        answer => answer,
    }
}

/// # Errors
/// A rejection only before the first change.
fn carry_out(writer: &mut Writer<'_>, request: &Request) -> Result<Answer> {
    match request {
        Request::Put(put) => writer.put(put).map(Answer::Put),
        Request::DeleteRange(delete) => writer.delete_range(delete).map(Answer::DeleteRange),
        Request::Txn(request) => txn::apply(writer, request).map(Answer::Txn),
        Request::Compact(compact) => writer.compact(compact).map(Answer::Compact),
        Request::LeaseGrant(grant) => writer.lease_grant(grant).map(Answer::LeaseGrant),
        Request::LeaseRevoke(revoke) => writer.lease_revoke(revoke).map(Answer::LeaseRevoke),
        Request::PublishMember(said) => {
            membership::publish(writer.view, &mut writer.batch, said).map(|()| Answer::PublishMember(said.clone()))
        }
        Request::Fence(fence) => Ok(Answer::Fence(Fence { id: fence.id })),
    }
}

/// Not in the words of a refusal, which say that nothing was done.
fn too_large_to_tell(revision: i64) -> Failure {
    let mib = COMMAND_ANSWER_BYTES_MAX >> 20;
    let message = format!(
        "carried out at revision {revision}, but the answer would hold more than {mib} MiB or pass by too many keys: ask for \
         fewer keys, with a limit, or for keys only"
    );
    Failure { code: Code::ResourceExhausted as i32, message }
}

/// Fills `history` from `from` up to its `through`, or to the end of the revision that reaches `bytes_max`.
fn scan_history(view: &dyn ReadView, from: i64, bytes_max: usize, history: &mut History) -> Result<()> {
    let mut bytes = 0;
    let mut last_main = None;
    let mut failure = None;
    view.scan(row::BUCKET, &row::first_key_of(from), None, &mut |key, value| {
        let decoded = RowKey::decode(key).and_then(|at| Ok((at, row::decode_value(at, value)?)));
        let (at, kv) = match decoded {
            Ok(decoded) => decoded,
            Err(error) => {
                failure = Some(error);
                return ControlFlow::Break(());
            }
        };
        if let Some(last) = last_main.filter(|last| bytes >= bytes_max && *last != at.revision.main) {
            history.through = last;
            return ControlFlow::Break(());
        }
        last_main = Some(at.revision.main);
        bytes += key.len() + value.len();
        history.changes.push(Change { kind: at.kind, kv, previous: None });
        ControlFlow::Continue(())
    })?;
    failure.map_or(Ok(()), Err)
}

/// The set of leases that came or went since somebody last looked: bounded by the leases, not by time.
#[derive(Debug, Default)]
pub struct LeaseChanges {
    /// Id → whether it was granted (again) since.
    touched: Mutex<BTreeMap<i64, bool>>,
    notify: Notify,
}

impl LeaseChanges {
    fn touch(&self, leases: impl IntoIterator<Item = (i64, bool)>) {
        let mut touched = self.touched.lock().unwrap_or_else(PoisonError::into_inner);
        let mut any = false;
        for (id, granted) in leases {
            any = true;
            *touched.entry(id).or_default() |= granted;
        }
        if any {
            self.notify.notify_one();
        }
    }

    /// The leases that came or went, and whether each was granted since somebody last looked: one that was revoked
    /// and granted again in between is another lease, with a deadline of its own.
    pub fn take(&self) -> BTreeMap<i64, bool> {
        std::mem::take(&mut *self.touched.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Completes when there is something to take.
    pub async fn changed(&self) {
        self.notify.notified().await;
    }
}
