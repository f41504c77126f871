//! The store against a plain model: a list of changes, nothing indexed, nothing removed.

use super::hash::Digest;
use super::mvcc::row::Kind;
use super::{Error, History, Wanted};
use crate::testing::TestStore;
use bytes::Bytes;
use node_base::backend::Bucket;
use node_proto::command::command::Request;
use node_proto::command::outcome::Result as Answer;
use node_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use node_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use node_proto::etcdserverpb::*;
use node_proto::mvccpb::KeyValue;
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

/// A key that is live has a `KeyValue`; a deleted one has none.
#[derive(Debug, Clone)]
struct Entry {
    main: i64,
    sub: i64,
    key: String,
    kv: Option<KeyValue>,
}

#[derive(Default)]
struct Model {
    log: Vec<Entry>,
    main: i64,
    compact: i64,
    leases: BTreeMap<i64, i64>,
}

impl Model {
    fn new() -> Self {
        Self { main: 1, ..Self::default() }
    }

    fn at(&self, main: i64) -> BTreeMap<String, KeyValue> {
        let mut live = BTreeMap::new();
        for entry in self.log.iter().filter(|entry| entry.main <= main) {
            match &entry.kv {
                Some(kv) => drop(live.insert(entry.key.clone(), kv.clone())),
                None => drop(live.remove(&entry.key)),
            }
        }
        live
    }

    /// Applies puts (`Some`) and deletes (`None`) as one revision.
    fn change(&mut self, changes: Vec<(String, Option<(String, i64)>)>) {
        let main = self.main + 1;
        let live = self.at(i64::MAX);
        for (sub, (key, put)) in changes.into_iter().enumerate() {
            self.main = main;
            let old = live.get(&key);
            let kv = put.map(|(value, lease)| KeyValue {
                key: key.clone().into(),
                value: value.into(),
                create_revision: old.map_or(main, |old| old.create_revision),
                mod_revision: main,
                version: old.map_or(1, |old| old.version + 1),
                lease,
            });
            self.log.push(Entry { main, sub: sub as i64, key, kv });
        }
    }

    fn survivors(&self, through: i64) -> Vec<&Entry> {
        let survives = |place: usize, entry: &Entry| {
            entry.main > self.compact
                || (entry.kv.is_some()
                    && !self.log[place + 1..].iter().any(|later| later.main <= self.compact && later.key == entry.key))
        };
        let all = self.log.iter().enumerate();
        all.filter(|(place, entry)| entry.main <= through && survives(*place, entry)).map(|(_, entry)| entry).collect()
    }

    fn kv_digest(&self, through: i64) -> Digest {
        let mut bytes = Vec::new();
        for entry in self.survivors(through) {
            bytes.extend(entry.main.to_be_bytes());
            bytes.extend(entry.sub.to_be_bytes());
            bytes.push(u8::from(entry.kv.is_none()));
            bytes.extend((entry.key.len() as u32).to_be_bytes());
            bytes.extend(entry.key.as_bytes());
            if let Some(kv) = &entry.kv {
                bytes.extend(kv.create_revision.to_be_bytes());
                bytes.extend(kv.version.to_be_bytes());
                bytes.extend(kv.lease.to_be_bytes());
                bytes.extend((kv.value.len() as u32).to_be_bytes());
                bytes.extend(&kv.value);
            }
        }
        bytes.extend(self.compact.to_be_bytes());
        Sha256::digest(&bytes).into()
    }

    fn lease_digest(&self) -> Digest {
        let bytes: Vec<u8> =
            self.leases.iter().flat_map(|(id, ttl)| [id.to_be_bytes(), ttl.to_be_bytes()].concat()).collect();
        Sha256::digest(&bytes).into()
    }
}

#[derive(Debug, Clone)]
enum Op {
    Put {
        key: String,
        value: String,
        lease: i64,
    },
    Delete {
        key: String,
        end: String,
    },
    /// If `key` has `version`: put it and delete `other`; else read `key`.
    Txn {
        key: String,
        version: i64,
        other: String,
    },
    Compact {
        back: i64,
        physical: bool,
    },
    Grant {
        id: i64,
        ttl: i64,
    },
    Revoke {
        id: i64,
    },
    /// A step of a removal.
    Sweep,
    Reopen,
}

fn key() -> impl Strategy<Value = String> {
    "[a-d]{1,2}"
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (key(), "[xyz]{0,3}", 0i64..4).prop_map(|(key, value, lease)| Op::Put { key, value, lease }),
        2 => (key(), prop_oneof![Just(String::new()), Just("\0".to_owned()), key()])
            .prop_map(|(key, end)| Op::Delete { key, end }),
        4 => (key(), 0i64..3, key()).prop_map(|(key, version, other)| Op::Txn { key, version, other }),
        2 => (-1i64..6, any::<bool>()).prop_map(|(back, physical)| Op::Compact { back, physical }),
        2 => (1i64..4, 0i64..99).prop_map(|(id, ttl)| Op::Grant { id, ttl }),
        1 => (1i64..4).prop_map(|id| Op::Revoke { id }),
        2 => Just(Op::Sweep),
        1 => Just(Op::Reopen),
    ]
}

fn within(key: &str, start: &str, end: &str) -> bool {
    match end {
        "" => key == start,
        "\0" => key >= start,
        end => key >= start && key < end,
    }
}

fn text(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn header_revision(header: &Option<ResponseHeader>) -> i64 {
    header.as_ref().unwrap().revision
}

/// Applies `op` to both, and compares what it answered.
fn step(op: &Op, real: &mut TestStore, model: &mut Model) {
    match op.clone() {
        Op::Put { key, value, lease } => {
            let previous = model.at(i64::MAX).get(&key).cloned();
            let request =
                PutRequest { key: text(&key), value: text(&value), lease, prev_kv: true, ..Default::default() };
            match real.apply(Request::Put(request)) {
                Answer::Put(response) => {
                    model.change(vec![(key, Some((value, lease)))]);
                    assert_eq!((header_revision(&response.header), response.prev_kv), (model.main, previous));
                }
                Answer::Failure(failure) => {
                    assert!(lease != 0 && !model.leases.contains_key(&lease), "{failure:?}");
                }
                other => panic!("{other:?}"),
            }
        }
        Op::Delete { key, end } => {
            let live = model.at(i64::MAX);
            let gone: Vec<_> = live.into_iter().filter(|(live, _)| within(live, &key, &end)).collect();
            let request = DeleteRangeRequest { key: text(&key), range_end: text(&end), prev_kv: true };
            let Answer::DeleteRange(response) = real.apply(Request::DeleteRange(request)) else { panic!() };
            model.change(gone.iter().map(|(key, _)| (key.clone(), None)).collect());
            let expected: Vec<_> = gone.into_iter().map(|(_, kv)| kv).collect();
            assert_eq!((response.deleted, response.prev_kvs), (expected.len() as i64, expected));
            assert_eq!(header_revision(&response.header), model.main);
        }
        Op::Txn { key, version, other } => txn(key, version, other, real, model),
        Op::Compact { back, physical } => {
            let revision = model.main - back;
            let request = CompactionRequest { revision, physical };
            let accepted = matches!(real.apply(Request::Compact(request)), Answer::Compact(_));
            assert_eq!(accepted, revision > model.compact && revision <= model.main);
            if accepted {
                model.compact = revision;
            }
        }
        Op::Grant { id, ttl } => {
            let granted =
                matches!(real.apply(Request::LeaseGrant(LeaseGrantRequest { id, ttl })), Answer::LeaseGrant(_));
            assert_eq!(granted, !model.leases.contains_key(&id));
            model.leases.entry(id).or_insert(ttl.max(1));
        }
        Op::Revoke { id } => {
            let revoked = matches!(real.apply(Request::LeaseRevoke(LeaseRevokeRequest { id })), Answer::LeaseRevoke(_));
            assert_eq!(revoked, model.leases.remove(&id).is_some());
            if revoked {
                let live = model.at(i64::MAX);
                model.change(live.into_iter().filter(|(_, kv)| kv.lease == id).map(|(key, _)| (key, None)).collect());
            }
        }
        Op::Sweep => assert!(!real.store.sweep_step().unwrap(), "few rows are removed in one step"),
        Op::Reopen => real.reopen(),
    }
}

fn txn(key: String, version: i64, other: String, real: &mut TestStore, model: &mut Model) {
    let request_op = |request| RequestOp { request: Some(request) };
    let put = PutRequest { key: text(&key), value: text("t"), ..Default::default() };
    let delete = DeleteRangeRequest { key: text(&other), ..Default::default() };
    let range = RangeRequest { key: text(&key), ..Default::default() };
    let read = request_op(request_op::Request::RequestRange(range));
    let request = TxnRequest {
        compare: vec![Compare {
            result: CompareResult::Equal.into(),
            target: CompareTarget::Version.into(),
            key: text(&key),
            range_end: Bytes::new(),
            target_union: Some(TargetUnion::Version(version)),
        }],
        success: vec![
            request_op(request_op::Request::RequestPut(put)),
            read.clone(),
            request_op(request_op::Request::RequestDeleteRange(delete)),
        ],
        failure: vec![read],
    };
    let live = model.at(i64::MAX);
    let holds = live.get(&key).map_or(0, |kv| kv.version) == version;
    let answer = real.apply(Request::Txn(request));
    if key == other {
        assert!(matches!(answer, Answer::Failure(failure) if failure.message.contains("duplicate key")));
        return;
    }
    let Answer::Txn(response) = answer else { panic!("{answer:?}") };
    if holds {
        let mut changes = vec![(key.clone(), Some(("t".to_owned(), 0)))];
        changes.extend(live.contains_key(&other).then_some((other, None)));
        model.change(changes);
    }
    assert_eq!((response.succeeded, header_revision(&response.header)), (holds, model.main));
    let read = response.responses.iter().find_map(|op| match &op.response {
        Some(response_op::Response::ResponseRange(range)) => Some(range.kvs.clone()),
        _ => None,
    });
    let expected: Vec<_> = model.at(i64::MAX).get(&key).cloned().into_iter().collect();
    assert_eq!(read, Some(expected), "a read inside a transaction sees what was written before it");
}

/// Everything that can be asked, at every revision.
fn compare(real: &TestStore, model: &Model) {
    let hash = real.store.state_hash().unwrap();
    assert_eq!(hash.kv.digest, model.kv_digest(i64::MAX));
    assert_eq!(hash.lease, model.lease_digest());
    assert_eq!((hash.kv.revision, hash.kv.compact_revision), (model.main, model.compact));
    assert_eq!((real.store.revision(), real.store.compact_revision()), (model.main, model.compact));
    for revision in 1..=model.main + 1 {
        let request = RangeRequest { key: text("\0"), range_end: text("\0"), revision, ..Default::default() };
        match real.store.range(&request) {
            Ok(response) => {
                let expected: Vec<_> = model.at(revision).into_values().collect();
                assert_eq!(response.count, expected.len() as i64);
                assert_eq!(response.kvs, expected, "at {revision}");
                assert!(revision >= model.compact && revision <= model.main);
            }
            Err(Error::Rejected(_)) => assert!(revision < model.compact || revision > model.main),
            Err(error) => panic!("{error}"),
        }
        match real.store.kv_hash(revision) {
            Ok((hash, _)) => assert_eq!(hash.digest, model.kv_digest(revision)),
            Err(Error::Rejected(_)) => assert!(revision <= model.compact || revision > model.main),
            Err(error) => panic!("{error}"),
        }
    }
    for id in 1..4 {
        let live = model.at(i64::MAX);
        let keys: Vec<_> = live.into_iter().filter(|(_, kv)| kv.lease == id).map(|(key, _)| text(&key)).collect();
        assert_eq!(real.store.lease_keys(id), model.leases.contains_key(&id).then_some(keys));
    }
}

/// Short or not, it is the same.
fn history(real: &TestStore, from: i64, bytes_max: usize) -> History {
    let wanted = Wanted { from, bytes_max, with_previous: true, key: &|_| true };
    let history = real.store.history(&wanted).unwrap();
    if let Some(short) = real.store.history_if_short(&wanted).unwrap() {
        assert_eq!((short.through, &short.changes), (history.through, &history.changes));
    }
    history
}

/// History in pieces of any size is the whole log, in order, from the compact revision on.
fn compare_history(real: &TestStore, model: &Model, bytes_max: usize) {
    let mut next = model.compact;
    let mut seen = Vec::new();
    while next <= model.main {
        let history = history(real, next, bytes_max);
        assert!(history.through >= next);
        for change in history.changes {
            assert!(change.kv.mod_revision <= history.through, "a revision is never cut");
            let before = model.at(change.kv.mod_revision - 1).remove(std::str::from_utf8(&change.kv.key).unwrap());
            if change.previous.is_some() || change.kv.mod_revision > model.compact + 1 {
                assert_eq!(change.previous, before);
            }
            seen.push((change.kv.mod_revision, change.kv.key, change.kind == Kind::Put));
        }
        next = history.through + 1;
    }
    let logged = model.log.iter().filter(|entry| entry.main >= model.compact);
    let expected: Vec<_> = logged.map(|entry| (entry.main, text(&entry.key), entry.kv.is_some())).collect();
    assert_eq!(seen, expected);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn the_store_is_the_model(ops in proptest::collection::vec(op(), 1..60), bytes_max in 0usize..200, joins_at in 0usize..60) {
        let (mut real, mut model) = (TestStore::default(), Model::new());
        let mut watching = None;
        for (at, op) in ops.iter().enumerate() {
            // From then on the newest changes are kept in memory, and read from there.
            if at == joins_at {
                watching = Some(real.store.join());
            }
            step(op, &mut real, &mut model);
        }
        compare(&real, &model);
        compare_history(&real, &model, bytes_max);
        drop(watching);
        real.reopen();
        compare(&real, &model);
        compare_history(&real, &model, bytes_max);
    }

    /// The same log twice, once with a restart after every entry: the same bytes answered, the same
    /// rows.
    #[test]
    fn replay_is_deterministic(ops in proptest::collection::vec(op(), 1..40)) {
        let (mut once, mut again) = (TestStore::default(), TestStore::default());
        let (mut model, mut model_again) = (Model::new(), Model::new());
        for op in &ops {
            step(op, &mut once, &mut model);
            step(op, &mut again, &mut model_again);
            again.reopen();
        }
        prop_assert_eq!(once.store.state_hash().unwrap(), again.store.state_hash().unwrap());
    }

    #[test]
    fn ranges_are_cut_sorted_and_filtered(
        puts in proptest::collection::vec((key(), "[xyz]{0,3}"), 1..30),
        limit in 0i64..5,
        target in 0i32..5,
        order in 0i32..3,
        min_mod_revision in 0i64..10,
    ) {
        let (mut real, mut model) = (TestStore::default(), Model::new());
        for (key, value) in puts {
            step(&Op::Put { key, value, lease: 0 }, &mut real, &mut model);
        }
        let request = RangeRequest {
            key: text("a"),
            range_end: text("\0"),
            limit,
            sort_order: if target != 0 && order == 0 { 1 } else { order },
            sort_target: target,
            min_mod_revision,
            ..Default::default()
        };
        let response = real.store.range(&request).unwrap();
        let live = model.at(i64::MAX);
        prop_assert_eq!(response.count, live.len() as i64);
        let mut expected: Vec<_> = live.into_values().filter(|kv| kv.mod_revision >= min_mod_revision).collect();
        match request.sort_target() {
            SortTarget::Key => {}
            SortTarget::Version => expected.sort_by_key(|kv| kv.version),
            SortTarget::Create => expected.sort_by_key(|kv| kv.create_revision),
            SortTarget::Mod => expected.sort_by_key(|kv| kv.mod_revision),
            SortTarget::Value => expected.sort_by_key(|kv| kv.value.clone()),
        }
        if request.sort_order() == SortOrder::Descend {
            expected.reverse();
        }
        let cut = if limit == 0 { expected.len() } else { expected.len().min(limit as usize) };
        prop_assert_eq!(response.more, cut < expected.len());
        expected.truncate(cut);
        prop_assert_eq!(response.kvs, expected);
    }
}

/// Removing rows takes several steps, and the hash is the same before, in the middle and after, and
/// after a restart in the middle, which goes on where the life before it was.
#[test]
fn the_hash_does_not_see_how_far_removal_got() {
    let (mut real, mut model) = (TestStore::default(), Model::new());
    for _ in 0..2_501 {
        step(&Op::Put { key: "a".into(), value: "v".into(), lease: 0 }, &mut real, &mut model);
    }
    step(&Op::Compact { back: 0, physical: false }, &mut real, &mut model);
    let mut counts = Vec::new();
    let hash = real.store.state_hash().unwrap();
    assert_eq!(hash.kv.digest, model.kv_digest(i64::MAX));
    loop {
        counts.push(real.backend.row_count(Bucket::Key));
        assert_eq!(real.store.state_hash().unwrap(), hash);
        real.reopen();
        if !real.store.sweep_step().unwrap() {
            break;
        }
    }
    assert_eq!(counts, [2_501, 1_989, 1_477, 965, 453]);
    assert_eq!(real.backend.row_count(Bucket::Key), 1);
    assert_eq!(real.store.state_hash().unwrap(), hash);
    let swept = *real.store.sweep_watch().borrow();
    assert_eq!((swept.wanted, swept.done), (model.compact, model.compact));
}

/// A reader that began before a compaction finds every row of its state, although the compaction is
/// done meanwhile.
#[test]
fn a_read_that_has_begun_outlives_a_compaction() {
    let mut real = TestStore::default();
    for value in ["1", "2", "3"] {
        real.put("a", value);
    }
    let store = real.store.clone();
    let begun = store.begin_range();
    real.put("a", "4");
    real.compact(5);
    while real.store.sweep_step().unwrap() {}
    assert_eq!(real.backend.row_count(Bucket::Key), 1);
    for (revision, value) in [(2, "1"), (3, "2"), (4, "3"), (0, "3")] {
        let request = RangeRequest { key: text("a"), revision, ..Default::default() };
        assert_eq!(begun(&request).unwrap().kvs[0].value, value, "at {revision}");
    }
    let late = RangeRequest { key: text("a"), revision: 4, ..Default::default() };
    assert!(real.store.range(&late).is_err(), "a read that begins now is told that 4 is compacted");
}

#[test]
fn a_transaction_that_is_refused_changes_nothing() {
    let (mut real, model) = (TestStore::default(), Model::new());
    let put = |key: &'static str, lease| {
        let put = PutRequest { key: key.into(), lease, ..Default::default() };
        RequestOp { request: Some(request_op::Request::RequestPut(put)) }
    };
    let request = TxnRequest { success: vec![put("a", 0), put("b", 77)], ..Default::default() };
    let answer = real.apply(Request::Txn(request));
    assert!(matches!(answer, Answer::Failure(failure) if failure.message == "etcdserver: requested lease not found"));
    compare(&real, &model);
}

/// A value compare on a missing key fails even against the empty value; a version compare sees 0.
#[test]
fn compares_on_a_missing_key() {
    let mut real = TestStore::default();
    let mut succeeded = |target: CompareTarget, target_union| {
        let compare = Compare {
            result: CompareResult::Equal.into(),
            target: target.into(),
            key: "nope".into(),
            range_end: Bytes::new(),
            target_union: Some(target_union),
        };
        let Answer::Txn(response) =
            real.apply(Request::Txn(TxnRequest { compare: vec![compare], ..Default::default() }))
        else {
            panic!()
        };
        response.succeeded
    };
    assert!(!succeeded(CompareTarget::Value, TargetUnion::Value(Bytes::new())));
    assert!(succeeded(CompareTarget::Version, TargetUnion::Version(0)));
    assert!(succeeded(CompareTarget::Lease, TargetUnion::Lease(0)));
}
