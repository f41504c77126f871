//! Applying is total: whatever bytes are committed, a member applies them, and all members come to
//! the same state.

use super::command;
use super::mvcc::key::steps;
use super::{Applying, Rejection, Store};
use crate::testing::{AWAITED, MemoryBackend, TestStore};
use bytes::Bytes;
use node_base::LogId;
use node_base::backend::{Backend, consistent_index};
use node_proto::command::command::Request;
use node_proto::command::outcome::Result as Answer;
use node_proto::command::{Command, Fence, PublishMember};
use node_proto::etcdserverpb::compare::TargetUnion;
use node_proto::etcdserverpb::request_op::Request as Op;
use node_proto::etcdserverpb::*;
use node_proto::limits::{COMMAND_ANSWER_BYTES_MAX, REQUEST_BYTES_MAX, TXN_DEPTH_MAX, TXN_KEYS_MAX};
use proptest::prelude::*;
use prost::Message;
use std::sync::Arc;

/// Fresh on a member at which no caller waits, as on a follower; and in a later life of one.
const UNAWAITED: Applying = Applying { awaited: false, replaying: false };
const REPLAYED: Applying = Applying { awaited: false, replaying: true };

/// Members that apply the same log: one that answers, one that follows, one that starts anew before
/// each entry.
#[derive(Default)]
struct Members {
    leader: TestStore,
    follower: TestStore,
    restarting: TestStore,
}

impl Members {
    /// Applies `command` everywhere, and returns the leader's answer.
    fn apply(&mut self, command: &Bytes) -> Answer {
        self.restarting.reopen();
        let index = self.leader.index + 1;
        let mut answers = [AWAITED, UNAWAITED, REPLAYED].into_iter();
        let mut outcome = Bytes::new();
        for member in [&mut self.leader, &mut self.follower, &mut self.restarting] {
            let (at, applying) = (LogId::new(1, index), answers.next().unwrap());
            member.index = index;
            let answer = member.store.apply(at, command, applying).expect("a member that applies whatever comes");
            assert_eq!(consistent_index(&*member.backend.read()).unwrap(), Some(at), "every entry moves the index");
            if applying.awaited {
                outcome = answer;
            } else {
                assert!(answer.is_empty(), "an answer that no caller waits for");
            }
        }
        self.agree();
        command::decode_outcome(outcome).expect("an answer that can be read")
    }

    /// Applies a put everywhere, without a look at what came of it.
    fn put_unseen(&mut self, put: PutRequest) {
        for member in [&mut self.leader, &mut self.follower, &mut self.restarting] {
            member.apply(Request::Put(put.clone()));
        }
    }

    fn agree(&self) {
        let state = |member: &TestStore| (member.store.state_hash().unwrap(), member.store.counted_keys());
        let leader = state(&self.leader);
        for member in [&self.follower, &self.restarting] {
            assert_eq!(state(member), leader);
        }
    }
}

fn bytes(values: &'static [&'static str]) -> impl Strategy<Value = Bytes> {
    proptest::sample::select(values).prop_map(|value| Bytes::from_static(value.as_bytes()))
}

fn key() -> impl Strategy<Value = Bytes> {
    bytes(&["", "a", "b", "c", "d"])
}

fn end() -> impl Strategy<Value = Bytes> {
    bytes(&["", "", "", "\0", "b", "d"])
}

fn put() -> impl Strategy<Value = PutRequest> {
    (key(), bytes(&["", "x", "yy"]), -1i64..3, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(key, value, lease, prev_kv, ignore_value, ignore_lease)| PutRequest {
            key,
            value,
            lease,
            prev_kv,
            ignore_value: ignore_value && prev_kv,
            ignore_lease: ignore_lease && prev_kv,
        },
    )
}

fn delete() -> impl Strategy<Value = DeleteRangeRequest> {
    (key(), end(), any::<bool>()).prop_map(|(key, range_end, prev_kv)| DeleteRangeRequest { key, range_end, prev_kv })
}

fn range() -> impl Strategy<Value = RangeRequest> {
    (key(), end(), -1i64..9, -1i64..3, -1i32..4, -1i32..6).prop_map(
        |(key, range_end, revision, limit, sort_order, sort_target)| RangeRequest {
            key,
            range_end,
            revision,
            limit,
            sort_order,
            sort_target,
            ..RangeRequest::default()
        },
    )
}

fn compare() -> impl Strategy<Value = Compare> {
    let target_union = prop_oneof![
        Just(None),
        (-1i64..4).prop_map(|version| Some(TargetUnion::Version(version))),
        (-1i64..9).prop_map(|revision| Some(TargetUnion::ModRevision(revision))),
        Just(Some(TargetUnion::Value("x".into()))),
    ];
    (-1i32..5, -1i32..6, key(), end(), target_union).prop_map(|(result, target, key, range_end, target_union)| {
        Compare { result, target, key, range_end, target_union }
    })
}

fn txn() -> impl Strategy<Value = TxnRequest> {
    let op = |request| RequestOp { request: Some(request) };
    let leaf = prop_oneof![
        1 => Just(RequestOp { request: None }),
        9 => put().prop_map(move |put| op(Op::RequestPut(put))),
        6 => delete().prop_map(move |delete| op(Op::RequestDeleteRange(delete))),
        4 => range().prop_map(move |range| op(Op::RequestRange(range))),
    ];
    let flat = branches(leaf.boxed());
    flat.prop_recursive(4, 24, 4, move |inner| {
        let nested = inner.prop_map(move |txn| op(Op::RequestTxn(txn)));
        let leaf = put().prop_map(move |put| op(Op::RequestPut(put)));
        branches(prop_oneof![nested, leaf].boxed())
    })
}

fn branches(op: BoxedStrategy<RequestOp>) -> BoxedStrategy<TxnRequest> {
    let ops = || proptest::collection::vec(op.clone(), 0..4);
    (proptest::collection::vec(compare(), 0..2), ops(), ops())
        .prop_map(|(compare, success, failure)| TxnRequest { compare, success, failure })
        .boxed()
}

fn request() -> impl Strategy<Value = Request> {
    prop_oneof![
        6 => put().prop_map(Request::Put),
        2 => delete().prop_map(Request::DeleteRange),
        8 => txn().prop_map(Request::Txn),
        1 => (any::<i64>(), any::<bool>())
            .prop_map(|(revision, physical)| Request::Compact(CompactionRequest { revision: revision % 9, physical })),
        1 => (-1i64..3, any::<i64>()).prop_map(|(id, ttl)| Request::LeaseGrant(LeaseGrantRequest { id, ttl })),
        1 => (-1i64..3).prop_map(|id| Request::LeaseRevoke(LeaseRevokeRequest { id })),
        1 => (any::<u64>(), any::<String>()).prop_map(|(id, name)| {
            Request::PublishMember(PublishMember { id, name: name.clone(), client_addr: name })
        }),
    ]
}

/// Commands as they are encoded; some with a byte changed, some cut short, some that are not
/// commands at all.
/// Commands, and what is none.
pub(super) fn command_bytes() -> impl Strategy<Value = Bytes> {
    let damaged = (request(), any::<proptest::sample::Index>(), any::<u8>()).prop_map(|(request, at, byte)| {
        let mut bytes = command::encode(request).to_vec();
        let at = at.index(bytes.len().max(1));
        bytes.get_mut(at).into_iter().for_each(|old| *old ^= byte);
        bytes.into()
    });
    let cut = (request(), any::<proptest::sample::Index>()).prop_map(|(request, at)| {
        let bytes = command::encode(request);
        bytes.slice(..at.index(bytes.len().max(1)).min(bytes.len()))
    });
    prop_oneof![
        6 => request().prop_map(command::encode),
        2 => damaged,
        1 => cut,
        1 => proptest::collection::vec(any::<u8>(), 0..64).prop_map(Bytes::from),
    ]
}

proptest! {
    /// Whatever is committed is applied by every member alike, in its first life or a later one;
    /// what is not admitted changes nothing; and whatever the services let in is admitted.
    #[test]
    fn every_command_is_applied_by_every_member_alike(log in proptest::collection::vec(command_bytes(), 1..24)) {
        let mut members = Members::default();
        for bytes in log {
            let before = members.leader.store.state_hash().unwrap();
            let answer = members.apply(&bytes);
            if let Err(rejection) = command::admit(&bytes) {
                prop_assert_eq!(answer, Answer::Failure(rejection.into()));
                prop_assert_eq!(members.leader.store.state_hash().unwrap(), before);
            } else {
                prop_assert!(command::vet(&bytes).is_ok());
            }
        }
    }

    /// A client's request is proposed as it is sent: encoding it as a command loses nothing, and
    /// adds nothing that cannot be read.
    #[test]
    fn what_decodes_as_a_request_decodes_as_a_command(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let requests = [
            PutRequest::decode(bytes.as_slice()).ok().map(Request::Put),
            DeleteRangeRequest::decode(bytes.as_slice()).ok().map(Request::DeleteRange),
            TxnRequest::decode(bytes.as_slice()).ok().map(Request::Txn),
            CompactionRequest::decode(bytes.as_slice()).ok().map(Request::Compact),
            LeaseGrantRequest::decode(bytes.as_slice()).ok().map(Request::LeaseGrant),
            LeaseRevokeRequest::decode(bytes.as_slice()).ok().map(Request::LeaseRevoke),
        ];
        for request in requests.into_iter().flatten() {
            let encoded = command::encode(request.clone());
            prop_assert_eq!(Command::decode(encoded.clone()).unwrap().request, Some(request));
            prop_assert_ne!(command::admit(&encoded), Err(Rejection::MALFORMED));
        }
    }
}

fn nested(depth: usize, innermost: RequestOp) -> TxnRequest {
    let mut txn = TxnRequest { success: vec![innermost], ..TxnRequest::default() };
    for _ in 0..depth {
        let op = RequestOp { request: Some(Op::RequestTxn(txn)) };
        txn = TxnRequest { success: vec![op], ..TxnRequest::default() };
    }
    txn
}

fn put_op(key: &str, value: Bytes) -> RequestOp {
    let put = PutRequest { key: key.to_owned().into(), value, prev_kv: true, ..PutRequest::default() };
    RequestOp { request: Some(Op::RequestPut(put)) }
}

/// Every key of the store.
fn everything() -> RequestOp {
    let all = RangeRequest { key: vec![0].into(), range_end: vec![0].into(), ..RangeRequest::default() };
    RequestOp { request: Some(Op::RequestRange(all)) }
}

#[test]
fn the_deepest_transaction_is_answered_and_a_deeper_one_is_refused_and_harmless() {
    let mut members = Members::default();
    members.apply(&command::encode(Request::Put(PutRequest { key: "deep".into(), ..PutRequest::default() })));
    let deepest = command::encode(Request::Txn(nested(TXN_DEPTH_MAX, put_op("deep", "1".into()))));
    assert!(command::vet(&deepest).is_ok());
    assert!(matches!(members.apply(&deepest), Answer::Txn(_)));
    let deeper = command::encode(Request::Txn(nested(TXN_DEPTH_MAX + 1, put_op("deep", "2".into()))));
    assert_eq!(command::vet(&deeper), Err(Rejection::MALFORMED), "one level more than a command can hold");
    assert_eq!(members.apply(&deeper), Answer::Failure(Rejection::MALFORMED.into()));
    let read = RangeRequest { key: "deep".into(), ..RangeRequest::default() };
    assert_eq!(members.follower.store.range(&read).unwrap().kvs[0].value, "1");
}

#[test]
fn a_command_of_another_version_or_too_large_changes_nothing() {
    let mut members = Members::default();
    let refused = |members: &mut Members, bytes: Bytes| match members.apply(&bytes) {
        Answer::Failure(failure) => failure.message,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(&mut members, Bytes::new()), Rejection::MALFORMED.message);
    // Field 100, a message that holds nothing.
    assert_eq!(refused(&mut members, Bytes::from_static(&[0xa2, 0x06, 0x00])), Rejection::MALFORMED.message);
    let put = PutRequest { key: "k".into(), value: vec![0; REQUEST_BYTES_MAX].into(), ..PutRequest::default() };
    assert_eq!(refused(&mut members, command::encode(Request::Put(put))), Rejection::REQUEST_TOO_LARGE.message);
    // A fence of such a log is answered all the same.
    assert_eq!(members.apply(&command::fence(7)), Answer::Fence(Fence { id: 7 }));
}

/// A store of 16 MiB, read 100 times by a transaction that also puts: only the caller's member pays
/// for it, and the caller gets a bounded answer.
#[test]
fn ranges_of_a_transaction_are_read_for_the_caller_alone_and_up_to_a_bound() {
    let mut members = Members::default();
    for row in 0..16 {
        let (key, value) = (format!("k/{row:03}").into(), vec![b'x'; 1 << 20].into());
        members.put_unseen(PutRequest { key, value, ..PutRequest::default() });
    }
    let success = std::iter::repeat_n(everything(), 100).chain([put_op("after", "1".into())]).collect();
    let txn = TxnRequest { success, ..TxnRequest::default() };
    let Answer::Failure(failure) = members.apply(&command::encode(Request::Txn(txn.clone()))) else {
        panic!("an answer of 1.6 GiB")
    };
    assert!(failure.message.starts_with("carried out at revision 18, but the answer would hold more than 32 MiB"));
    // It was carried out: on every member, which `apply` compares.
    let read = RangeRequest { key: "after".into(), ..RangeRequest::default() };
    assert_eq!(members.follower.store.range(&read).unwrap().count, 1);
    let fetched = members.follower.backend.rows_read();
    members.follower.store.apply(LogId::new(1, 99), &command::encode(Request::Txn(txn)), UNAWAITED).unwrap();
    assert_eq!(members.follower.backend.rows_read(), fetched, "rows were fetched that no caller waits for");
    // A reader is refused, and told what to do.
    let only_reads = TxnRequest { success: vec![everything(); 100], ..TxnRequest::default() };
    let refused = members.leader.store.read_txn(&only_reads).unwrap_err();
    assert!(matches!(refused, super::Error::Rejected(Rejection::ANSWER_TOO_LARGE)), "{refused}");
    let fits = TxnRequest { success: vec![everything(); 3], ..TxnRequest::default() };
    assert!(members.leader.store.read_txn(&fits).unwrap().encoded_len() > COMMAND_ANSWER_BYTES_MAX);
}

/// Comparisons and deletes are every member's to evaluate.
#[test]
fn what_every_member_has_to_walk_through_is_bounded() {
    let mut members = Members::default();
    for row in 0..2_000 {
        let put = PutRequest { key: format!("k/{row:05}").into(), value: "v".into(), ..PutRequest::default() };
        members.put_unseen(put);
    }
    let all = Compare { key: vec![0].into(), range_end: vec![0].into(), result: 3, ..Compare::default() };
    let value = Compare { target: 3, target_union: Some(TargetUnion::Value("w".into())), ..all.clone() };
    let lease = Compare { target: 4, target_union: Some(TargetUnion::Lease(1)), ..all };
    let txn = |compare: Vec<Compare>, success| Request::Txn(TxnRequest { compare, success, ..TxnRequest::default() });
    let put = || vec![put_op("k/00001", "w".into())];
    // Twice through the store is nothing; a hundred times, and each row fetched, is more than a put
    // is worth.
    let few = members.apply(&command::encode(txn(vec![value.clone(), lease.clone()], put())));
    assert!(matches!(few, Answer::Txn(TxnResponse { succeeded: true, .. })), "{few:?}");
    let lease_compares = TXN_KEYS_MAX / 2_000 / 8;
    let many = members.apply(&command::encode(txn(vec![lease; lease_compares.min(128)], put())));
    let refused = Answer::Failure(Rejection::TOO_MANY_KEYS.into());
    assert_eq!(many, refused, "{lease_compares} comparisons");
    let delete = DeleteRangeRequest { key: "x".into(), range_end: vec![0].into(), ..DeleteRangeRequest::default() };
    let delete = RequestOp { request: Some(Op::RequestDeleteRange(delete)) };
    let beyond = members.apply(&command::encode(txn(Vec::new(), vec![delete; 128])));
    assert!(matches!(beyond, Answer::Txn(_)), "no key lies there: {beyond:?}");
}

/// As many operations as fit into a request, in each shape that used to take the square of their
/// number. What is bounded is what the check does with keys: comparisons and copies.
#[test]
fn the_overlap_of_many_puts_and_deletes_is_found_by_sorting() {
    /// For each operation. Sorting takes 92 of them, a look at each pair a thousand.
    const STEPS_MAX: u64 = 128;
    let delete = |key: String, range_end: &'static str| {
        let delete = DeleteRangeRequest { key: key.into(), range_end: range_end.into(), ..Default::default() };
        RequestOp { request: Some(Op::RequestDeleteRange(delete)) }
    };
    let nested = |ops: Vec<RequestOp>| RequestOp {
        request: Some(Op::RequestTxn(TxnRequest { success: ops, ..TxnRequest::default() })),
    };
    // 31 × 64 puts below "m" and 32 × 64 deletes above it, nested; whichever come first, or in
    // turns.
    let puts =
        |outer| nested((0..64).map(|inner| put_op(&format!("a/{outer}/{inner}"), Bytes::new())).collect::<Vec<_>>());
    let deletes = |outer| nested((0..64).map(|inner| delete(format!("m/{outer}/{inner}"), "")).collect());
    let puts_first: Vec<_> = (0..31).map(puts).chain((0..32).map(deletes)).collect();
    let deletes_first: Vec<_> = (0..32).map(deletes).chain((0..31).map(puts)).collect();
    let in_turns: Vec<_> = (0..31).flat_map(|outer| [puts(outer), deletes(outer)]).chain([deletes(31)]).collect();
    let admit = |success: &Vec<RequestOp>| {
        let txn = TxnRequest { success: success.clone(), ..TxnRequest::default() };
        let bytes = command::encode(Request::Txn(txn));
        steps::of(|| command::admit(&bytes))
    };
    for (shape, mut success) in [("puts first", puts_first), ("deletes first", deletes_first), ("in turns", in_turns)] {
        let (steps, admitted) = admit(&success);
        assert!(admitted.is_ok(), "{shape}: {admitted:?}");
        assert!((1..=STEPS_MAX * 63 * 64).contains(&steps), "{shape}: {steps} steps");
        success.push(nested(vec![delete("a/30/".to_owned(), "a/31")]));
        let (steps, admitted) = admit(&success);
        assert_eq!(admitted, Err(Rejection::DUPLICATE_KEY), "{shape}");
        assert!((1..=STEPS_MAX * 63 * 64).contains(&steps), "{shape}, and one that overlaps: {steps} steps");
    }
}

/// Of a second store on the same rows, the index is the same: what a budget counts, every member
/// counts alike.
#[test]
fn the_index_is_rebuilt_key_by_key() {
    let backend = Arc::new(MemoryBackend::default());
    let store = Store::open(backend.clone()).unwrap();
    let mut index = 0;
    let mut apply = |request: Request| {
        index += 1;
        store.apply(LogId::new(1, index), &command::encode(request), UNAWAITED).unwrap();
    };
    for key in ["a", "b", "c"] {
        apply(Request::Put(PutRequest { key: key.into(), ..PutRequest::default() }));
    }
    apply(Request::DeleteRange(DeleteRangeRequest { key: "a".into(), ..DeleteRangeRequest::default() }));
    assert_eq!(store.counted_keys(), (2, 3), "a deleted key counts until it may be forgotten");
    assert_eq!(Store::open(backend.clone()).unwrap().counted_keys(), (2, 3));
    apply(Request::Compact(CompactionRequest { revision: 5, physical: false }));
    apply(Request::Put(PutRequest { key: "d".into(), ..PutRequest::default() }));
    apply(Request::Compact(CompactionRequest { revision: 6, physical: false }));
    assert_eq!(store.counted_keys(), (3, 3), "however far the removal has come");
    while store.sweep_step().unwrap() {}
    assert_eq!(store.counted_keys(), (3, 3));
    assert_eq!(Store::open(backend).unwrap().counted_keys(), (3, 3));
}

/// The engines behind the same logs: each comes to the state of the memory engine, and finds it
/// again in a later life.
#[cfg(feature = "member")]
mod engines {
    use super::*;
    use node_backend::engine::{Engine, EngineKind, EngineOptions};
    use node_backend::{dispatch, layout::DataDir};
    use node_base::durable;
    use node_base::watermarks::Watermarks;
    use std::path::Path;

    fn open(kind: EngineKind, root: &Path) -> Arc<dyn Engine> {
        let dir = DataDir::new(root);
        durable::create_dir_durably(&dir.snap()).unwrap();
        let options = EngineOptions { memtable_bytes: 64 << 10, cache_bytes: 1 << 20, ..EngineOptions::default() };
        let engine = dispatch::open(dir, kind, options).unwrap();
        let opened = engine.opened();
        engine.attach(Arc::new(Watermarks::at_start(opened.engine, opened.engine, Some(u64::MAX)))).unwrap();
        if let Some(at) = opened.engine {
            engine.verified(at).unwrap();
        }
        engine
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]
        #[test]
        fn every_engine_comes_to_the_same_state(
            // With each entry, whether the next one may share its commit.
            log in proptest::collection::vec((command_bytes(), any::<bool>()), 1..24),
        ) {
            let mut reference = TestStore::default();
            for (bytes, _) in &log {
                reference.index += 1;
                reference.store.apply(LogId::new(1, reference.index), bytes, AWAITED).unwrap();
            }
            let expected = reference.store.state_hash().unwrap();
            for kind in [EngineKind::Redb, EngineKind::Rocksdb] {
                let root = tempfile::tempdir().unwrap();
                let engine = open(kind, root.path());
                let store = Store::open(engine.clone()).unwrap();
                let mut pending = store.begin();
                for (index, (bytes, joined)) in (1..).zip(&log) {
                    pending.apply(LogId::new(1, index), bytes, UNAWAITED).unwrap();
                    if pending.is_full() || !joined {
                        pending.commit().unwrap();
                        pending = store.begin();
                    }
                }
                pending.commit().unwrap();
                engine.settle().unwrap();
                prop_assert_eq!(store.state_hash().unwrap(), expected.clone());
                engine.flush().unwrap();
                drop(store);
                engine.close().unwrap();
                drop(engine);
                let again = open(kind, root.path());
                prop_assert_eq!(again.opened().engine, Some(LogId::new(1, reference.index)));
                let store = Store::open(again).unwrap();
                prop_assert_eq!(store.state_hash().unwrap(), expected.clone());
                prop_assert_eq!(store.counted_keys(), reference.store.counted_keys());
            }
        }
    }
}
