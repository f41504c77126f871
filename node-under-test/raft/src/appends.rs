//! Leaders' appends as they come in: several at a time, on one stream for each leader.
//!
//! 1. *In order.* The messages of a stream are let in, handed to raft and answered one after the
//!    other.
//! 2. *No fsync holds up the next message.* Raft puts entries into the log's queue and goes on; a
//!    message is answered when the log is durable through it, and one fsync may do that for some.
//! 3. *Each message is let in by itself*, and held against the state that the one before it left,
//!    answered or not.
//! 4. *A refusal ends the stream*, behind the answers to what came before it. So does raft's own
//!    refusal (a conflict, a higher vote), because what follows builds on what was refused.
//! 5. *Bounded.* Of a stream, at most [`APPENDS_UNDER_WAY_MAX`] messages are read and not answered.
//!    A member has one stream: a later one ends it, because its sender has given it up or lost it.
//!    The first message has to come within [`FIRST_TIMEOUT`].
//! 6. *A stream ends with its answers*, even where its sender does not end it: nothing is read for
//!    a caller that is gone.

use crate::clock::Deadline;
use crate::peers::APPENDS_UNDER_WAY_MAX;
use crate::state_machine::RawRaft;
use crate::types::{TypeConfig, vote_parts};
use futures_util::stream::{self, BoxStream, Stream};
use futures_util::{StreamExt, TryStreamExt};
use node_proto::peer::RaftMessage;
use openraft::errors::Fatal;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, StreamAppendResult};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, oneshot};
use tonic::Status;

/// A leader opens a stream to send something.
const FIRST_TIMEOUT: Duration = Duration::from_secs(5);

type Append = AppendEntriesRequest<TypeConfig>;
type Answer = AppendEntriesResponse<TypeConfig>;
/// The end of a stream, for its answers.
type End = oneshot::Sender<Status>;

/// The streams that are open, by member. Clones share them.
#[derive(Clone, Default)]
pub struct AppendStreams {
    /// Dropped when a later stream takes its place: an ended stream's stays, for one of each member
    /// that was let in.
    open: Arc<Mutex<HashMap<u64, oneshot::Sender<()>>>>,
}

impl AppendStreams {
    /// Answers to `messages`, which `let_in` decodes and checks. Must be called in a runtime.
    pub fn answer<M, L, F>(&self, raft: &RawRaft, messages: M, let_in: L) -> BoxStream<'static, Result<Answer, Status>>
    where
        M: Stream<Item = Result<RaftMessage, Status>> + Send + Unpin + 'static,
        L: FnMut(RaftMessage) -> F + Send + 'static,
        F: Future<Output = Result<Append, Status>> + Send + 'static,
    {
        let places = Arc::new(Semaphore::new(APPENDS_UNDER_WAY_MAX));
        let (end, ended) = oneshot::channel();
        let arriving = Arriving { messages, let_in, streams: self.clone(), from: None, places: places.clone(), end };
        let arriving = stream::unfold(arriving, Arriving::next);
        let answering = Answering { results: raft.stream_append(arriving).boxed(), places, ended };
        stream::unfold(Some(answering), |answering| async move { answering?.next().await }).boxed()
    }

    /// Resolves, to an error, when a later stream of `member` takes the place of this one.
    fn enter(&self, member: u64) -> oneshot::Receiver<()> {
        let (place, lost) = oneshot::channel();
        self.open.lock().unwrap_or_else(PoisonError::into_inner).insert(member, place);
        lost
    }
}

/// The messages of a stream, on their way to raft.
struct Arriving<M, L> {
    messages: M,
    let_in: L,
    streams: AppendStreams,
    /// The member that speaks, once it has spoken, and the loss of its stream's place.
    from: Option<(u64, oneshot::Receiver<()>)>,
    /// A permit for each message that may be read; the answers give them back.
    places: Arc<Semaphore>,
    end: End,
}

impl<M, L, F> Arriving<M, L>
where
    M: Stream<Item = Result<RaftMessage, Status>> + Unpin,
    L: FnMut(RaftMessage) -> F,
    F: Future<Output = Result<Append, Status>>,
{
    async fn next(mut self) -> Option<(Append, Self)> {
        match self.take().await {
            Ok(append) => append.map(|append| (append, self)),
            Err(status) => {
                // No answers are wanted any more: nor is their end.
                let _ = self.end.send(status);
                None
            }
        }
    }

    /// The next message, once there is a place for it. `None`: it is the last, or no answers are
    /// wanted.
    async fn take(&mut self) -> Result<Option<Append>, Status> {
        let Self { messages, let_in, from, places, end, .. } = self;
        let (member, lost) = from.as_mut().map_or((None, None), |(member, lost)| (Some(*member), Some(lost)));
        let next = async {
            // Never closed.
            if let Ok(place) = places.acquire().await {
                place.forget();
            }
            let message = match member {
                Some(_) => messages.try_next().await?,
                None => Deadline::after(FIRST_TIMEOUT).bound(messages.try_next()).await.ok_or_else(late)??,
            };
            match message {
                Some(message) => let_in(message).await.map(Some),
                None => Ok(None),
            }
        };
        let append = tokio::select! {
            biased;
            () = end.closed() => return Ok(None),
            () = lost_place(lost) => return Err(Status::aborted("expected one stream of a member, found a later one")),
            append = next => append?,
        };
        let Some(append) = append else { return Ok(None) };
        let (_, found) = vote_parts(&append.vote);
        match member {
            None => self.from = Some((found, self.streams.enter(found))),
            Some(expected) if expected != found => {
                let sentence = format!("expected another message of member {expected}, found one of member {found}");
                return Err(Status::invalid_argument(sentence));
            }
            Some(_) => {}
        }
        Ok(Some(append))
    }
}

fn late() -> Status {
    Status::deadline_exceeded(format!("expected the first append within {FIRST_TIMEOUT:?}"))
}

async fn lost_place(lost: Option<&mut oneshot::Receiver<()>>) {
    match lost {
        Some(lost) => {
            // An error: nothing is ever sent.
            let _ = lost.await;
        }
        None => std::future::pending().await,
    }
}

/// Raft's answers, on their way back.
struct Answering {
    results: BoxStream<'static, Result<StreamAppendResult<TypeConfig>, Fatal<TypeConfig>>>,
    places: Arc<Semaphore>,
    /// Dropped with the answers, which ends what arrives.
    ended: oneshot::Receiver<Status>,
}

impl Answering {
    /// The next answer, and what follows it. Claim 4.
    async fn next(mut self) -> Option<(Result<Answer, Status>, Option<Self>)> {
        match self.results.next().await {
            Some(Ok(result)) => {
                self.places.add_permits(1);
                let goes_on = result.is_ok();
                Some((Ok(result.into()), goes_on.then_some(self)))
            }
            Some(Err(fatal)) => Some((Err(Status::internal(fatal.to_string())), None)),
            None => self.ended.try_recv().ok().map(|status| (Err(status), None)),
        }
    }
}

#[cfg(test)]
mod tests;
