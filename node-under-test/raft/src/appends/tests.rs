//! A member that follows member 2, which the tests play. `claim_n` is the n-th claim of the module.

use super::*;
use crate::api::{Member, RaftOptions};
use crate::dial::Dial;
use crate::log_store::LogStore;
use crate::node::RaftNode;
use crate::testing::Machine;
use crate::types::{RawEntry, RawLogId, RawPayload, decode, encode, raw_log_id};
use node_base::LogId;
use node_proto::peer::{Life, RaftReply, Route};
use openraft::Vote;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

const CLUSTER: u64 = 0xc1;
const INCARNATION: u64 = 11;
const LEADER: Life = Life { id: 2, incarnation: 22, cluster: CLUSTER };
const TERM: u64 = 5;
const MAX: u64 = APPENDS_UNDER_WAY_MAX as u64;

struct Follower {
    node: RaftNode,
    _dir: TempDir,
}

impl Follower {
    /// Its log holds the founding membership, at index 0 of term 0.
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = LogStore::open(dir.path(), INCARNATION).unwrap();
        let machine = Arc::new(Machine::default());
        let marks = machine.marks.clone();
        let member = |id: u64| Member {
            id,
            name: String::new(),
            // Discard: no process listens there.
            peer_addr: format!("127.0.0.{id}:9"),
            client_addr: String::new(),
        };
        let options = RaftOptions {
            id: 1,
            members: (1..=2).map(member).collect(),
            join: false,
            cluster: Some(CLUSTER),
            heartbeat_ms: 1_000,
            // It must not campaign.
            election_ms: (60_000, 90_000),
            snapshot_every_entries: 1_000,
            keep_entries: 1_000,
            dial: Dial::default(),
        };
        let node = RaftNode::start(options, log, machine, marks).await.unwrap();
        Self { node, _dir: dir }
    }

    /// A stream of the leader's.
    fn stream(&self) -> Link {
        let (messages, arriving) = mpsc::channel(64);
        Link { messages, answers: self.node.service().appends(ReceiverStream::new(arriving)) }
    }

    async fn ends_at(&self, index: u64) {
        self.node.status_watch().wait_for(|status| status.last_log == Some(index)).await.unwrap();
    }
}

/// Both ends of a stream, as a leader has them.
struct Link {
    messages: mpsc::Sender<Result<RaftMessage, Status>>,
    answers: BoxStream<'static, Result<RaftReply, Status>>,
}

impl Link {
    async fn send(&self, message: RaftMessage) {
        self.messages.send(Ok(message)).await.unwrap();
    }

    async fn answer(&mut self) -> Option<Result<Answer, Code>> {
        let reply = self.answers.next().await?;
        Some(reply.map(|reply| decode("answer", &reply.payload).unwrap()).map_err(|status| status.code()))
    }

    /// True if no answer is there by now.
    async fn waits(&mut self) -> bool {
        tokio::select! {
            biased;
            _ = self.answers.next() => false,
            () = std::future::ready(()) => true,
        }
    }
}

fn at(term: u64, index: u64) -> RawLogId {
    raw_log_id(LogId::new(term, index))
}

fn route() -> Route {
    Route { to: 1, to_incarnation: INCARNATION, from: Some(LEADER), ..Route::default() }
}

fn message(route: Route, append: &Append) -> RaftMessage {
    RaftMessage { route: Some(route), payload: encode(append).unwrap(), short_of_space: false }
}

/// One entry, behind `before`.
fn append(before: RawLogId, entry: RawLogId, commit: Option<RawLogId>) -> Append {
    let entries = vec![RawEntry { log_id: entry, payload: RawPayload::Blank }];
    let vote = Vote::new_committed(TERM, LEADER.id);
    AppendEntriesRequest { vote, prev_log_id: Some(before), entries, leader_commit: commit }
}

/// The leader's entry at `index`, of which there are no others.
fn entry(index: u64) -> Append {
    let before = if index == 1 { at(0, 0) } else { at(TERM, index - 1) };
    append(before, at(TERM, index), None)
}

const SUCCESS: Option<Result<Answer, Code>> = Some(Ok(Answer::Success));

#[tokio::test]
async fn claims_1_2_and_5_the_next_are_in_the_log_before_the_first_is_durable() {
    let follower = Follower::start().await;
    let mut stream = follower.stream();
    stream.send(message(route(), &entry(1))).await;
    assert_eq!(stream.answer().await, SUCCESS);
    let log = follower.node.log().clone();
    let held = log.hold_commits();
    for index in 2..=9 {
        stream.send(message(route(), &entry(index))).await;
    }
    follower.ends_at(1 + MAX).await;
    assert_eq!(log.facts().durable, Some(1));
    assert!(stream.waits().await, "nothing is answered that is not durable");
    let unread = stream.messages.max_capacity() - stream.messages.capacity();
    assert_eq!(unread as u64, 8 - MAX, "as many are read as may be under way");
    drop(held);
    for index in 2..=9 {
        assert_eq!(stream.answer().await, SUCCESS);
        assert!(log.facts().durable >= Some(index), "answered, and not durable");
    }
    drop(stream.messages);
    assert!(stream.answers.next().await.is_none());
    follower.node.shutdown().await;
}

/// When it is let in, neither of the two is answered, and the second would replace what the first
/// commits.
#[tokio::test]
async fn claim_3_a_message_is_held_against_what_the_one_before_it_did() {
    let follower = Follower::start().await;
    let mut stream = follower.stream();
    stream.send(message(route(), &append(at(0, 0), at(TERM, 1), Some(at(TERM, 1))))).await;
    stream.send(message(route(), &append(at(0, 0), at(TERM - 1, 1), None))).await;
    assert_eq!(stream.answer().await, SUCCESS);
    assert_eq!(stream.answer().await, Some(Err(Code::InvalidArgument)));
    assert_eq!(stream.answer().await, None);
    assert_eq!(follower.node.log().log_id(1).unwrap(), Some(LogId::new(TERM, 1)));
    follower.node.shutdown().await;
}

#[tokio::test]
async fn claims_3_and_4_strangers_and_other_lives_are_refused_in_the_middle_of_a_stream() {
    let follower = Follower::start().await;
    let from = |life| Route { from: Some(life), ..route() };
    let refused = [
        (from(Life { cluster: CLUSTER + 1, ..LEADER }), Code::FailedPrecondition),
        (from(Life { incarnation: 23, ..LEADER }), Code::FailedPrecondition),
        (Route { to_incarnation: INCARNATION + 1, ..route() }, Code::FailedPrecondition),
        (Route { to: 3, ..route() }, Code::FailedPrecondition),
        (Route { from: None, ..route() }, Code::InvalidArgument),
        // Let in, and the leader speaks for itself.
        (from(Life { id: 3, ..LEADER }), Code::InvalidArgument),
    ];
    for (index, (stranger, code)) in (1..).zip(refused) {
        let mut stream = follower.stream();
        stream.send(message(route(), &entry(index))).await;
        stream.send(message(stranger, &entry(index + 1))).await;
        stream.send(message(route(), &entry(index + 1))).await;
        assert_eq!(stream.answer().await, SUCCESS, "before the refusal, and not touched by it");
        assert_eq!(stream.answer().await, Some(Err(code)));
        assert_eq!(stream.answer().await, None);
        assert_eq!(follower.node.log().facts().last, Some(LogId::new(TERM, index)), "nothing behind it is taken");
    }
    assert_eq!(*follower.node.farewell().borrow(), None);
    follower.node.shutdown().await;
}

#[tokio::test]
async fn claims_1_and_4_a_message_out_of_order_is_a_conflict_and_the_streams_end() {
    let follower = Follower::start().await;
    let mut stream = follower.stream();
    for index in [1, 3, 2] {
        stream.send(message(route(), &entry(index))).await;
    }
    assert_eq!(stream.answer().await, SUCCESS);
    assert_eq!(stream.answer().await, Some(Ok(Answer::Conflict)));
    assert_eq!(stream.answer().await, None);
    follower.node.shutdown().await;
}

#[tokio::test]
async fn claim_5_a_later_stream_of_a_member_ends_the_earlier() {
    let follower = Follower::start().await;
    let (mut earlier, mut later) = (follower.stream(), follower.stream());
    earlier.send(message(route(), &entry(1))).await;
    assert_eq!(earlier.answer().await, SUCCESS);
    assert!(!earlier.messages.is_closed(), "it is open before it has spoken");
    later.send(message(route(), &entry(2))).await;
    assert_eq!(later.answer().await, SUCCESS);
    assert_eq!(earlier.answer().await, Some(Err(Code::Aborted)));
    assert_eq!(earlier.answer().await, None);
    earlier.messages.closed().await;
    later.send(message(route(), &entry(3))).await;
    assert_eq!(later.answer().await, SUCCESS);
    follower.node.shutdown().await;
}

#[tokio::test]
async fn claim_6_nothing_is_read_for_a_caller_that_is_gone() {
    let follower = Follower::start().await;
    let Link { messages, answers } = follower.stream();
    drop(answers);
    messages.closed().await;
    // Nor behind raft's own refusal, while the caller holds on to both ends.
    let mut stream = follower.stream();
    stream.send(message(route(), &entry(3))).await;
    assert_eq!(stream.answer().await, Some(Ok(Answer::Conflict)));
    stream.messages.closed().await;
    follower.node.shutdown().await;
}
