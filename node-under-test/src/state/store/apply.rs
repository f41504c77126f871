//! Applying commands.

use super::{Store, Writing};
use crate::state::error::{Error, Rejection, Result};
use crate::state::interests::Changed;
#[cfg(feature = "sabotage")]
use crate::state::mvcc::garbage::Garbage;
use crate::state::mvcc::state::State;
use crate::state::mvcc::writer::{Finished, Writer};
use crate::state::mvcc::{Applying, Made, txn};
use crate::state::{command, membership};
use bytes::Bytes;
use node_base::LogId;
#[cfg(feature = "sabotage")]
use node_base::backend::Batch;
use node_base::sabotage::{Bug, planted};
use node_proto::command::command::Request;
use node_proto::command::outcome::Result as Answer;
use node_proto::command::{Failure, Fence};
use node_proto::limits::COMMAND_ANSWER_BYTES_MAX;
use std::sync::Arc;
use tonic::Code;

impl Store {
    /// Lets readers see what an entry made of the state at the revision `before`, and those watches
    /// hear of it that it concerns.
    fn publish_entry(&self, before: i64, state: &State, made: Option<Made>) {
        let revision = state.revision;
        let (changed, kept) = match made {
            _ if revision == before => (Changed::Nothing, None),
            Some(made) => {
                let made = Arc::new(made);
                (Changed::By(revision, made.clone()), Some(made))
            }
            None => (Changed::Anything(revision), None),
        };
        self.interests.publish(changed, || {
            if revision != before {
                self.recent().add(revision, kept);
            }
            self.publish(state);
        });
    }

    /// Applies one command as one batch with its position, and returns the encoded outcome
    /// (nothing, if no caller waits for it). A command that is refused, or is none, commits an
    /// empty batch, so that the consistent index moves with every entry.
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
        let mut writing = self.write();
        let Writing { state, garbage } = &mut *writing;
        let view = self.backend.read();
        let before = state.revision;
        let mut writer = Writer::new(state, garbage, &*view, applying);
        if !self.interests.is_empty() {
            writer = writer.watched();
        }
        let answer = dispatch(&mut writer, admitted)?;
        let Finished { batch, leases, mut made } = writer.finish();
        drop(view);
        if fence {
            // Before the commit, which wakes those who wait for this index to be applied.
            self.fences.expect(at.index);
        }
        self.backend.commit_then(batch, at, &mut || {
            self.leases.publish(leases.iter().copied(), || self.publish_entry(before, state, made.take()));
        })?;
        if fence {
            self.fences.hash_at(at, &self.backend);
        }
        let compact = state.compact;
        drop(writing);
        self.sweep.send_if_modified(|sweep| std::mem::replace(&mut sweep.wanted, compact) != compact);
        Ok(if applying.awaited { command::encode_outcome(answer) } else { Bytes::new() })
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
            let mut writer = Writer::new(&mut state, &mut garbage, &*view, applying);
            writer.batch = batch;
            answer = Some(dispatch(&mut writer, command::admit(&command))?);
            batch = writer.finish().batch;
        }
        Ok(answer.map(command::encode_outcome))
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
