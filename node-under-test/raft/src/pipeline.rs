//! A leader's appends on their way to one follower: several at a time, on one stream.
//!
//! 1. *In order.* Requests leave in the library's order, and the stream's answers are taken for
//!    them in that order. An answer to nothing ends the pipeline.
//! 2. *Several are under way*, at most [`APPENDS_UNDER_WAY_MAX`]: the next append travels while the
//!    follower syncs the one before. What is proposed while all places are taken shares the next
//!    message.
//! 3. *A success is not taken for the answer to a later request.* The library takes it for the
//!    answer to every request that ends where the confirmed entries end, also to a later one that
//!    only carries a commit position; and it takes the time at which the last of them was sent for
//!    a time at which the follower still followed, by which it confirms reads. So a success is
//!    passed on once no such request is under way. Otherwise a deposed leader could confirm a read
//!    by an answer from before the read.
//! 4. *Progress is timed, not the stream.* The oldest request without an answer has to get one
//!    within a limit that begins anew with each answer. A stream without a request may last for
//!    ever.
//! 5. *A stream that failed is not read again.* After an error, a late answer, or one that is no
//!    full success, the call is dropped with all that would have come on it. The library sends
//!    again what is not confirmed, on another stream, so no answer is taken for another request's.
//! 6. *Requests end with the answers.* They are polled here alone, and dropped together: the
//!    library would wait for a lock that a request in the making holds.
//!
//! What a dropped stream had sent may arrive later than what the next one sends. A follower takes
//! such a message as it takes any delayed one: it holds what the message brings, or appends it.

use crate::clock::{Deadline, Moment};
use crate::peers::APPENDS_UNDER_WAY_MAX;
use crate::types::{RawLogId, TypeConfig};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream, Stream};
use node_proto::peer::{RaftMessage, RaftReply};
use openraft::errors::{NetworkError, RPCError, Unreachable};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, StreamAppendResult};
use std::collections::VecDeque;
use std::future::pending;
use std::time::Duration;
use tokio::sync::mpsc;
use tonic::Status;

pub type Append = AppendEntriesRequest<TypeConfig>;
pub type RpcResult<T> = Result<T, RPCError<TypeConfig>>;
/// The follower's side of a call; its end is the call's.
pub type Replies = BoxStream<'static, Result<RaftReply, Status>>;
/// The library's word for an answer.
type Outcome = RpcResult<StreamAppendResult<TypeConfig>>;

/// One follower, as its leader reaches it.
pub trait Follower: Sync {
    /// The message that carries `request`.
    ///
    /// # Errors
    /// It must not be sent.
    fn write(&self, request: &Append) -> RpcResult<RaftMessage>;

    /// A call that sends `messages`, made when its replies are first asked for.
    ///
    /// # Errors
    /// The follower has no address.
    fn open(&self, messages: mpsc::Receiver<RaftMessage>) -> RpcResult<Replies>;

    /// The answer in `reply`, if it may be believed and fits `asked`.
    fn read(
        &self,
        asked: &Append,
        reply: RaftReply,
    ) -> impl Future<Output = RpcResult<AppendEntriesResponse<TypeConfig>>> + Send;

    /// The library's word for a call that ended with `status`.
    fn failed(&self, status: &Status) -> RPCError<TypeConfig>;

    /// The library's word for an answer that did not come within `limit`.
    fn late(&self, limit: Duration) -> RPCError<TypeConfig>;
}

/// Appends of one session of the library's. `S` makes them.
pub struct Pipeline<'a, F, S> {
    follower: &'a F,
    /// Claim 4.
    limit: Duration,
    /// `None`: there are no more.
    requests: Option<S>,
    /// Without an answer, the oldest first.
    under_way: VecDeque<Append>,
    /// Made with the first request.
    call: Option<Call>,
    /// When the oldest request without an answer was sent, or the last answer came, whichever is
    /// later.
    progress: Moment,
}

struct Call {
    /// Has a place for each request that may be under way. `None`: there are no more.
    messages: Option<mpsc::Sender<RaftMessage>>,
    replies: Replies,
}

enum Event {
    Request(Option<Append>),
    Reply(Option<Result<RaftReply, Status>>),
    Late,
}

impl<'a, F, S> Pipeline<'a, F, S>
where
    F: Follower,
    S: Stream<Item = Append> + Send + Unpin + 'static,
{
    pub fn new(follower: &'a F, requests: S, limit: Duration) -> Self {
        let under_way = VecDeque::with_capacity(APPENDS_UNDER_WAY_MAX);
        Self { follower, limit, requests: Some(requests), under_way, call: None, progress: Moment::now() }
    }

    /// Answers to the requests, in order; ends with them, or behind the first answer that is no
    /// full success, or where the follower ends a stream on which it owes none.
    pub fn answers(self) -> BoxStream<'a, Outcome> {
        stream::unfold(Some(self), |pipeline| async move { pipeline?.next().await }).boxed()
    }

    /// The next answer, and the pipeline if it goes on.
    async fn next(mut self) -> Option<(Outcome, Option<Self>)> {
        loop {
            let ended = match self.event().await {
                Event::Request(Some(request)) => match self.send(request) {
                    Ok(()) => continue,
                    Err(error) => error,
                },
                Event::Request(None) => {
                    self.end_requests();
                    if self.under_way.is_empty() {
                        return None;
                    }
                    continue;
                }
                Event::Reply(Some(Ok(reply))) => match self.take(reply).await {
                    Ok(Taken { is_held: true, .. }) => continue,
                    Ok(Taken { result, goes_on, .. }) => return Some((Ok(result), goes_on.then_some(self))),
                    Err(error) => error,
                },
                Event::Reply(Some(Err(status))) => self.follower.failed(&status),
                Event::Reply(None) if self.under_way.is_empty() => return None,
                Event::Reply(None) => {
                    let left = self.under_way.len();
                    NetworkError::from_string(format!("expected {left} more answers, found the stream's end")).into()
                }
                Event::Late => self.follower.late(self.limit),
            };
            return Some((Err(ended), None));
        }
    }

    /// Replies go first: each makes place for a request.
    async fn event(&mut self) -> Event {
        let has_place = self.under_way.len() < APPENDS_UNDER_WAY_MAX;
        let (call, requests) = (&mut self.call, &mut self.requests);
        let reply = async {
            match call {
                Some(call) => call.replies.next().await,
                None => pending().await,
            }
        };
        let request = async {
            match requests.as_mut().filter(|_| has_place) {
                Some(requests) => requests.next().await,
                None => pending().await,
            }
        };
        let event = async {
            tokio::select! {
                biased;
                reply = reply => Event::Reply(reply),
                request = request => Event::Request(request),
            }
        };
        if self.under_way.is_empty() {
            return event.await;
        }
        Deadline::at(self.progress, self.limit).bound(event).await.unwrap_or(Event::Late)
    }

    fn send(&mut self, request: Append) -> RpcResult<()> {
        let message = self.follower.write(&request)?;
        let call = match &mut self.call {
            Some(call) => call,
            none => {
                let (messages, waiting) = mpsc::channel(APPENDS_UNDER_WAY_MAX);
                none.insert(Call { messages: Some(messages), replies: self.follower.open(waiting)? })
            }
        };
        if self.under_way.is_empty() {
            self.progress = Moment::now();
        }
        self.under_way.push_back(request);
        if let Some(messages) = &call.messages {
            // There is a place. A call that has ended takes no more, and its replies say why.
            let _ = messages.try_send(message);
        }
        Ok(())
    }

    fn end_requests(&mut self) {
        self.requests = None;
        if let Some(call) = &mut self.call {
            call.messages = None;
        }
    }

    /// The answer to the oldest request.
    async fn take(&mut self, reply: RaftReply) -> RpcResult<Taken> {
        let unasked =
            || Unreachable::<TypeConfig>::from_string("expected an answer to a request, found one to nothing");
        let asked = self.under_way.pop_front().ok_or_else(unasked)?;
        self.progress = Moment::now();
        let answer = self.follower.read(&asked, reply).await?;
        let last = end_of(&asked);
        let partial = matches!(&answer, AppendEntriesResponse::PartialSuccess(at) if *at != last);
        let result = answer.into_stream_result(asked.prev_log_id, last);
        let is_done = self.requests.is_none() && self.under_way.is_empty();
        let succeeded = result.is_ok() && !partial;
        let is_held = succeeded && self.under_way.front().is_some_and(|next| end_of(next) == last);
        Ok(Taken { result, goes_on: succeeded && !is_done, is_held })
    }
}

struct Taken {
    result: StreamAppendResult<TypeConfig>,
    /// Others are to come.
    goes_on: bool,
    /// Claim 3.
    is_held: bool,
}

/// The position up to which a success confirms the follower's log.
fn end_of(request: &Append) -> Option<RawLogId> {
    request.entries.last().map(|entry| entry.log_id).or(request.prev_log_id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{RawEntry, RawPayload, raw_log_id};
    use node_base::LogId;
    use openraft::Vote;
    use openraft::errors::Timeout;
    use openraft::network::RPCTypes;
    use openraft::raft::StreamAppendError;
    use std::sync::Mutex;

    type Answer = AppendEntriesResponse<TypeConfig>;

    const FOR_EVER: Duration = Duration::from_secs(1 << 20);
    const MAX: u64 = APPENDS_UNDER_WAY_MAX as u64;

    /// The ends of a call that the pipeline made.
    struct Called {
        messages: mpsc::Receiver<RaftMessage>,
        replies: mpsc::UnboundedSender<Result<RaftReply, Status>>,
    }

    /// Plays a follower: a message is the index before its entries, an answer is what the test
    /// says.
    #[derive(Default)]
    struct Puppet {
        calls: Mutex<Vec<Called>>,
        silent: bool,
    }

    impl Puppet {
        fn last_call(&self) -> Called {
            self.calls.lock().unwrap().pop().expect("a call was made")
        }
    }

    impl Follower for Puppet {
        fn write(&self, request: &Append) -> RpcResult<RaftMessage> {
            if self.silent {
                return Err(Unreachable::from_string("silent").into());
            }
            let before = request.prev_log_id.map_or(0, |at| at.index);
            Ok(RaftMessage { payload: before.to_be_bytes().to_vec().into(), ..RaftMessage::default() })
        }

        fn open(&self, messages: mpsc::Receiver<RaftMessage>) -> RpcResult<Replies> {
            let (replies, coming) = mpsc::unbounded_channel();
            self.calls.lock().unwrap().push(Called { messages, replies });
            Ok(tokio_stream::wrappers::UnboundedReceiverStream::new(coming).boxed())
        }

        async fn read(&self, _: &Append, reply: RaftReply) -> RpcResult<Answer> {
            Ok(crate::types::decode("answer", &reply.payload).unwrap())
        }

        fn failed(&self, status: &Status) -> RPCError<TypeConfig> {
            NetworkError::new(status).into()
        }

        fn late(&self, limit: Duration) -> RPCError<TypeConfig> {
            Timeout { action: RPCTypes::AppendEntries, id: 1, target: 2, timeout: limit }.into()
        }
    }

    fn at(index: u64) -> RawLogId {
        raw_log_id(LogId::new(1, index))
    }

    /// One entry, at `index + 1`.
    fn append(index: u64) -> Append {
        let entry = RawEntry { log_id: at(index + 1), payload: RawPayload::Blank };
        let vote = Vote::new_committed(1, 1);
        AppendEntriesRequest { vote, prev_log_id: Some(at(index)), entries: vec![entry], leader_commit: None }
    }

    fn reply(answer: &Answer) -> Result<RaftReply, Status> {
        let payload = crate::types::encode(answer).unwrap();
        Ok(RaftReply { payload, ..RaftReply::default() })
    }

    /// Indexes before the messages that have left.
    fn left(call: &mut Called) -> Vec<u64> {
        let index = |message: RaftMessage| u64::from_be_bytes(message.payload.as_ref().try_into().unwrap());
        std::iter::from_fn(|| call.messages.try_recv().ok()).map(index).collect()
    }

    fn pipeline(puppet: &Puppet, requests: std::ops::Range<u64>) -> BoxStream<'_, Outcome> {
        // Pending at their end, as the library's requests are while there is nothing to send.
        let requests = stream::iter(requests.map(append)).chain(stream::pending());
        Pipeline::new(puppet, Box::pin(requests), FOR_EVER).answers()
    }

    /// The next answer, if it is there by now.
    async fn now(answers: &mut BoxStream<'_, Outcome>) -> Option<Option<Outcome>> {
        tokio::select! {
            biased;
            answer = answers.next() => Some(answer),
            () = std::future::ready(()) => None,
        }
    }

    #[tokio::test]
    async fn claims_1_and_2_several_are_under_way_and_their_answers_are_in_order() {
        let puppet = Puppet::default();
        let mut answers = pipeline(&puppet, 0..9);
        assert!(now(&mut answers).await.is_none());
        let mut call = puppet.last_call();
        assert_eq!(left(&mut call), (0..MAX).collect::<Vec<_>>(), "as many as may be, none answered");
        for answered in 0..9 {
            call.replies.send(reply(&Answer::Success)).unwrap();
            let Some(Ok(Ok(last))) = answers.next().await else { panic!("expected a success") };
            assert_eq!(last, Some(at(answered + 1)), "the answer to the oldest");
            assert!(now(&mut answers).await.is_none());
            let next = (answered + MAX < 9).then_some(answered + MAX);
            assert_eq!(left(&mut call), Vec::from_iter(next), "an answer makes place for one");
        }
        call.replies.send(reply(&Answer::Success)).unwrap();
        assert!(matches!(answers.next().await, Some(Err(_))), "an answer to nothing");
        assert!(answers.next().await.is_none() && call.replies.is_closed());
    }

    /// The answer to the first says nothing about the time at which the second was sent.
    #[tokio::test]
    async fn claim_3_a_success_waits_for_the_answer_to_a_later_request_of_the_same_end() {
        let puppet = Puppet::default();
        let commit = AppendEntriesRequest { entries: Vec::new(), ..append(1) };
        let requests = [append(0), commit.clone(), commit, append(1)];
        let mut answers = Pipeline::new(&puppet, stream::iter(requests), FOR_EVER).answers();
        assert!(now(&mut answers).await.is_none());
        let call = puppet.last_call();
        for _ in 0..2 {
            call.replies.send(reply(&Answer::Success)).unwrap();
            assert!(now(&mut answers).await.is_none());
        }
        for index in [1, 2] {
            call.replies.send(reply(&Answer::Success)).unwrap();
            let Some(Ok(Ok(last))) = answers.next().await else { panic!("expected a success") };
            assert_eq!(last, Some(at(index)));
        }
        assert!(answers.next().await.is_none());
    }

    #[tokio::test]
    async fn claim_4_a_late_answer_ends_the_stream() {
        let puppet = Puppet::default();
        let requests = stream::iter([append(0)]).chain(stream::pending());
        let mut answers = Pipeline::new(&puppet, Box::pin(requests), Duration::ZERO).answers();
        assert!(matches!(answers.next().await, Some(Err(RPCError::Timeout(_)))));
        assert!(answers.next().await.is_none() && puppet.last_call().replies.is_closed());
        // Without a request there is nothing to be late.
        let mut idle = Pipeline::new(&puppet, stream::pending(), Duration::ZERO).answers();
        assert!(now(&mut idle).await.is_none());
    }

    #[tokio::test]
    async fn claim_5_nothing_is_read_behind_an_answer_that_is_no_full_success() {
        let higher = Vote::new_committed(7, 3);
        let partial = Answer::PartialSuccess(Some(at(0)));
        for answer in [Answer::Conflict, Answer::HigherVote(higher), partial] {
            let puppet = Puppet::default();
            let mut answers = pipeline(&puppet, 0..3);
            assert!(now(&mut answers).await.is_none());
            let call = puppet.last_call();
            // Had it been read, this success would confirm an entry that conflicts.
            for answer in [&answer, &Answer::Success] {
                call.replies.send(reply(answer)).unwrap();
            }
            let expected = match answer {
                Answer::Conflict => Err(StreamAppendError::Conflict(at(0))),
                Answer::HigherVote(vote) => Err(StreamAppendError::HigherVote(vote)),
                _ => Ok(Some(at(0))),
            };
            assert_eq!(answers.next().await.unwrap().unwrap(), expected);
            assert!(answers.next().await.is_none() && call.replies.is_closed(), "{expected:?}");
        }
    }

    #[tokio::test]
    async fn claim_5_a_failed_stream_is_dropped() {
        for end in [Some(Err(Status::internal("broken"))), None] {
            let puppet = Puppet::default();
            let mut answers = pipeline(&puppet, 0..2);
            assert!(now(&mut answers).await.is_none());
            let Called { messages, replies } = puppet.last_call();
            if let Some(end) = end.clone() {
                replies.send(end).unwrap();
            }
            drop(replies);
            assert!(matches!(answers.next().await, Some(Err(RPCError::Network(_)))), "{end:?}");
            assert!(answers.next().await.is_none() && messages.is_closed());
        }
    }

    /// The library opens another one when it has something to send.
    #[tokio::test]
    async fn a_follower_may_end_a_stream_on_which_it_owes_nothing() {
        let puppet = Puppet::default();
        let mut answers = pipeline(&puppet, 0..1);
        assert!(now(&mut answers).await.is_none());
        let call = puppet.last_call();
        call.replies.send(reply(&Answer::Success)).unwrap();
        assert!(matches!(answers.next().await, Some(Ok(Ok(_)))));
        drop(call);
        assert!(answers.next().await.is_none());
    }

    #[tokio::test]
    async fn requests_that_end_are_answered_to_the_last() {
        let puppet = Puppet::default();
        let mut answers = Pipeline::new(&puppet, stream::iter((0..2).map(append)), FOR_EVER).answers();
        assert!(now(&mut answers).await.is_none());
        let mut call = puppet.last_call();
        assert_eq!(left(&mut call), [0, 1]);
        assert!(call.messages.is_closed(), "the follower sees the end");
        for _ in 0..2 {
            call.replies.send(reply(&Answer::Success)).unwrap();
            assert!(matches!(answers.next().await, Some(Ok(Ok(_)))));
        }
        assert!(answers.next().await.is_none());
    }

    #[tokio::test]
    async fn claim_6_requests_are_dropped_with_the_answers() {
        let puppet = Puppet::default();
        let (request, requests) = mpsc::channel(1);
        let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
        let mut answers = Pipeline::new(&puppet, requests, FOR_EVER).answers();
        request.send(append(0)).await.unwrap();
        assert!(now(&mut answers).await.is_none());
        drop(answers);
        assert!(request.is_closed() && puppet.last_call().messages.is_closed());
    }

    #[tokio::test]
    async fn what_must_not_be_sent_is_not() {
        let puppet = Puppet { silent: true, ..Puppet::default() };
        let mut answers = pipeline(&puppet, 0..2);
        assert!(matches!(answers.next().await, Some(Err(RPCError::Unreachable(_)))));
        assert!(answers.next().await.is_none() && puppet.calls.lock().unwrap().is_empty());
    }
}
