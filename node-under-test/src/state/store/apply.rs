//! Applying commands: what is ready at once is *pending* until one commit holds it.
//!
//! 1. *An entry sees the rows of the entries before it*, those that are pending with it included:
//!    the state in memory and the batch are the same for all of them. So the entries' outcomes do
//!    not depend on which of them share a commit. *Broken by* a read of the view that passes by the
//!    batch.
//! 2. *An answer exists only once readers see what its entry changed*: [`Pending::commit`] gives
//!    it. Until then no reader sees anything of the entry, and a kill loses it as if it had never
//!    been applied; the raft log has it.
//! 3. *A fence is the last entry of its commit*, because its hash is that of the state at its own
//!    index.
//! 4. *What is pending is bounded in bytes*, and so is the time for which the first of the entries
//!    waits for the last.
//!
//! Entries share a commit where the engine asks for it ([`Backend::commits_are_costly`]). On
//! RocksDB each has its own: a `WriteBatch` costs little more than its rows, and the index of a
//! flush, the bound on the replay and the windows between two batches are exact to the entry.
//!
//! [`Backend::commits_are_costly`]: node_base::backend::Backend::commits_are_costly

use super::{Store, Writing};
use crate::state::error::{Error, Rejection, Result};
use crate::state::interests::Changed;
#[cfg(feature = "sabotage")]
use crate::state::mvcc::garbage::Garbage;
use crate::state::mvcc::state::State;
use crate::state::mvcc::writer::{Finished, Writer};
use crate::state::mvcc::{Applying, txn};
use crate::state::{command, membership};
use bytes::Bytes;
use node_base::LogId;
use node_base::backend::{Batch, ReadView};
use node_base::sabotage::{Bug, planted};
use node_proto::command::command::Request;
use node_proto::command::outcome::Result as Answer;
use node_proto::command::{Failure, Fence};
use node_proto::limits::COMMAND_ANSWER_BYTES_MAX;
use std::sync::{Arc, MutexGuard};
use tonic::Code;

/// Bytes of changes and answers from which on pending entries are committed.
const PENDING_BYTES: usize = 1 << 20;

/// Entries that are applied to the writer's state, and that no reader sees yet. It holds the
/// writer's turn. Dropped before its commit, it leaves a state that the engine does not hold: the
/// store must not be used any more.
pub struct Pending<'a> {
    store: &'a Store,
    writing: MutexGuard<'a, Writing>,
    /// Of what was committed before them.
    view: Box<dyn ReadView + 'a>,
    batch: Batch,
    /// Encoded outcomes, in the order of the entries.
    answers: Vec<Bytes>,
    answer_bytes: usize,
    /// Leases that came or went.
    leases: Vec<(i64, bool)>,
    /// Ascending by revision.
    changed: Vec<Changed>,
    last: Option<LogId>,
    /// The last one is a fence.
    at_fence: bool,
}

impl Store {
    /// Waits for the writer's turn. Nothing is pending at first.
    pub fn begin(&self) -> Pending<'_> {
        let writing = self.write();
        Pending {
            store: self,
            writing,
            view: self.backend.read(),
            batch: Batch::default(),
            answers: Vec::new(),
            answer_bytes: 0,
            leases: Vec::new(),
            changed: Vec::new(),
            last: None,
            at_fence: false,
        }
    }

    /// Applies one command with a commit of its own, and returns its encoded outcome; as
    /// [`Pending::apply`].
    ///
    /// # Errors
    /// The engine failed: the process must end.
    pub fn apply(&self, at: LogId, command: &Bytes, applying: Applying) -> Result<Bytes> {
        let mut pending = self.begin();
        pending.apply(at, command, applying)?;
        Ok(pending.commit()?.pop().unwrap_or_default())
    }

    /// Lets readers see what pending entries made of the state, and those watches hear of it that
    /// it concerns.
    fn publish_entries(&self, state: &State, changed: &[Changed]) {
        self.interests.publish(changed, || {
            let mut recent = self.recent();
            for changed in changed {
                match changed {
                    Changed::By(revision, made) => recent.add(*revision, Some(Arc::clone(made))),
                    Changed::Anything(revision) => recent.add(*revision, None),
                }
            }
            drop(recent);
            self.publish(state);
        });
    }

    /// The answer that applying the last of `unapplied` will give, if all of them are applied to
    /// the state as it is. `unapplied` is asked while nothing can be applied.
    ///
    /// # Errors
    /// As [`Store::apply`].
    #[cfg(feature = "sabotage")]
    pub fn foresee(&self, unapplied: impl FnOnce() -> Vec<Bytes>) -> Result<Option<Bytes>> {
        let held = self.write();
        let commands = unapplied();
        let (mut state, mut garbage) = (held.state.clone(), Garbage::default());
        let view = self.backend.read();
        let (mut batch, mut answer) = (Batch::default(), None);
        for command in commands {
            let applying = Applying { awaited: true, replaying: false };
            let mut writer = Writer::new(&mut state, &mut garbage, &*view, applying).after(batch);
            answer = Some(dispatch(&mut writer, command::admit(&command))?);
            batch = writer.finish().batch;
        }
        Ok(answer.map(command::encode_outcome))
    }
}

impl Pending<'_> {
    /// Applies one command. A command that is refused, or is none, changes nothing; the consistent
    /// index moves with every entry. The answer, empty if no caller waits for it, comes with
    /// [`commit`](Self::commit).
    ///
    /// # Errors
    /// The engine failed: the process must end.
    pub fn apply(&mut self, at: LogId, command: &Bytes, applying: Applying) -> Result<()> {
        if let Some(reason) = self.store.fences.failure() {
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
        self.last = Some(at);
        self.at_fence = matches!(admitted, Ok(Request::Fence(_)));
        let Writing { state, garbage } = &mut *self.writing;
        let before = state.revision;
        let batch = std::mem::take(&mut self.batch);
        let mut writer = Writer::new(state, garbage, &*self.view, applying).after(batch);
        if !self.store.interests.is_empty() {
            writer = writer.watched();
        }
        let answer = dispatch(&mut writer, admitted)?;
        let Finished { batch, leases, made } = writer.finish();
        self.batch = batch;
        self.leases.extend(leases);
        let revision = state.revision;
        if revision != before {
            let by = |made| Changed::By(revision, Arc::new(made));
            self.changed.push(made.map_or(Changed::Anything(revision), by));
        }
        let answer = if applying.awaited { command::encode_outcome(answer) } else { Bytes::new() };
        self.answer_bytes += answer.len();
        self.answers.push(answer);
        Ok(())
    }

    /// True if no more entries may join.
    pub fn is_full(&self) -> bool {
        let alone = !self.store.backend.commits_are_costly();
        alone || self.at_fence || self.batch.bytes() + self.answer_bytes >= PENDING_BYTES
    }

    /// Lets everyone see what is pending, and returns the answers, one for each entry, in their
    /// order.
    ///
    /// # Errors
    /// The engine failed: the process must end.
    pub fn commit(self) -> Result<Vec<Bytes>> {
        let Self { store, writing, view, batch, answers, leases, changed, last, at_fence, .. } = self;
        let Some(last) = last else { return Ok(answers) };
        drop(view);
        if at_fence {
            // Before the commit, which wakes those who wait for this index to be applied.
            store.fences.expect(last.index);
        }
        store.backend.commit_then(batch, last, &mut || {
            store.leases.publish(leases.iter().copied(), || store.publish_entries(&writing.state, &changed));
        })?;
        if at_fence {
            store.fences.hash_at(last, &store.backend);
        }
        let compact = writing.state.compact;
        drop(writing);
        store.sweep.send_if_modified(|sweep| std::mem::replace(&mut sweep.wanted, compact) != compact);
        Ok(answers)
    }
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

#[cfg(test)]
mod tests;
