//! Small logs and watches: each must be accepted, or refused as exactly the expected class.

use super::*;
use crate::raft_log::Entry;
use ninelives_evidence::Lease;
use ninelives_evidence::verdict::Class;
use ninelives_evidence::verdict::findings::What;
use node_proto::command::command::Request;
use node_proto::command::{Command, Fence};
use node_proto::etcdserverpb::compare::TargetUnion;
use node_proto::etcdserverpb::request_op::Request as Op;
use node_proto::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest, PutRequest, RequestOp,
    TxnRequest,
};
use proptest::prelude::*;
use prost::Message;

fn put(key: &str, value: &str, lease: i64) -> Request {
    Request::Put(put_request(key, value, lease))
}

fn put_request(key: &str, value: &str, lease: i64) -> PutRequest {
    let (key, value) = (key.to_owned().into(), value.to_owned().into());
    PutRequest { key, value, lease, ..PutRequest::default() }
}

fn delete(key: &str, to: &str) -> Request {
    let (key, range_end) = (key.to_owned().into(), to.to_owned().into());
    Request::DeleteRange(DeleteRangeRequest { key, range_end, ..DeleteRangeRequest::default() })
}

/// Puts `key` if it was last changed at `revision`, and deletes `gone`.
fn txn(key: &str, revision: i64, value: &str, gone: &str) -> Request {
    let compare = Compare {
        key: key.to_owned().into(),
        target: 2,
        target_union: Some(TargetUnion::ModRevision(revision)),
        ..Compare::default()
    };
    let op = |request| RequestOp { request: Some(request) };
    let delete = DeleteRangeRequest { key: gone.to_owned().into(), ..DeleteRangeRequest::default() };
    let success = vec![op(Op::RequestPut(put_request(key, value, 0))), op(Op::RequestDeleteRange(delete))];
    Request::Txn(TxnRequest { compare: vec![compare], success, failure: Vec::new() })
}

fn grant(id: i64) -> Request {
    Request::LeaseGrant(LeaseGrantRequest { id, ttl: 600 })
}

fn fence(id: u64) -> Request {
    Request::Fence(Fence { id })
}

fn compact(revision: i64) -> Request {
    Request::Compact(CompactionRequest { revision, ..CompactionRequest::default() })
}

fn entry(term: u64, index: u64, request: Option<Request>) -> Entry {
    let id = LogId { term, index };
    let bytes = Command { request: request.clone() }.encode_to_vec();
    Entry { id, bytes, payload: request.map_or(Payload::Blank, Payload::Command) }
}

use crate::raft_log::Payload;

/// The entries from `first` on, all of term 1.
fn log(first: u64, requests: &[Option<Request>]) -> RaftLog {
    let entries = (first..).zip(requests).map(|(index, request)| entry(1, index, request.clone())).collect();
    let purged = first.checked_sub(1).map(|index| LogId { term: 1, index });
    RaftLog { entries, purged, ..RaftLog::default() }
}

/// The log of a small life: a blank, a put under a lease, two more, a transaction that holds and
/// one that does not, a delete of a range, a revocation, a compaction, a fence at index 10.
fn life() -> RaftLog {
    log(
        0,
        &[
            None,
            Some(grant(7)),
            Some(put("a", "x,1.1", 7)),
            Some(put("b", "x,1.2", 0)),
            Some(put("c", "x,1.3", 99)),
            Some(txn("b", 3, "1,1.4", "zz")),
            Some(txn("b", 3, "1,1.5", "b")),
            Some(delete("b", "c")),
            Some(Request::LeaseRevoke(LeaseRevokeRequest { id: 7 })),
            Some(compact(3)),
            Some(fence(1)),
        ],
    )
}

fn told(key: &str, value: &str, created: u64, version: u64, lease: i64) -> Change {
    Change::Put { key: key.into(), value: value.into(), create_revision: created, version, lease }
}

fn gone(key: &str) -> Change {
    Change::Delete { key: key.into() }
}

/// The revisions of that life, as the watches have to deliver them.
fn revisions() -> Vec<(u64, Vec<Change>)> {
    vec![
        (2, vec![told("a", "x,1.1", 2, 1, 7)]),
        (3, vec![told("b", "x,1.2", 3, 1, 0)]),
        (4, vec![told("b", "1,1.4", 3, 2, 0)]),
        (5, vec![gone("b")]),
        (6, vec![gone("a")]),
    ]
}

fn answer(index: u64, revision: i64, compact: i64, leases: &[i64]) -> FenceAnswer {
    let leases = leases.iter().map(|id| Lease { id: *id, granted_ttl_seconds: 600 }).collect();
    FenceAnswer { index, term: 1, revision, compact_revision: compact, leases, ..FenceAnswer::default() }
}

/// Feeds the watches first, then the fence, then the log of n2, as in a run, and returns the
/// findings.
fn judge(log: &RaftLog, revisions: &[(u64, Vec<Change>)], fence: Option<FenceAnswer>) -> (Replayed, Alarms) {
    let (mut replay, mut model, mut alarms) = (LogReplay::default(), Model::default(), Alarms::new());
    for (revision, changes) in revisions {
        replay.deliver(*revision, changes, &mut alarms);
        assert_eq!(model.apply(*revision, changes), []);
    }
    if let Some(answer) = fence {
        replay.fenced(&answer, &model);
    }
    let evidence = replay.evidence(1, 2, log, log.last().map(|last| last.index));
    // The written form is the one that is judged.
    let line = serde_json::to_string(&evidence).unwrap();
    assert_eq!(ninelives_evidence::read_line::<LogEvidence>(line.as_bytes()).unwrap(), evidence, "{line}");
    replay.read(&evidence, &mut alarms);
    (replay.totals(), alarms)
}

fn classes(found: (Replayed, Alarms)) -> Vec<Class> {
    found.1.into_iter().map(|alarm| alarm.class()).collect()
}

#[test]
fn a_log_that_makes_what_the_watches_told_is_accepted() {
    let (totals, alarms) = judge(&life(), &revisions(), Some(answer(10, 6, 3, &[])));
    assert_eq!(alarms, []);
    assert_eq!((totals.entries, totals.revisions, totals.fences, totals.unreplayed), (11, 5, 1, 0));
    assert_eq!(totals.skipped(), None);
}

#[test]
fn the_order_in_which_log_and_watches_tell_makes_no_difference() {
    let mut replay = LogReplay::default();
    let mut alarms = Alarms::new();
    let evidence = replay.evidence(1, 2, &life(), Some(10));
    replay.read(&evidence, &mut alarms);
    for (revision, changes) in revisions() {
        replay.deliver(revision, &changes, &mut alarms);
    }
    assert_eq!((alarms.len(), replay.totals().revisions), (0, 5));
    assert_eq!(replay.lately()[&4].0, LogId { term: 1, index: 5 });
}

/// As a deposed leader leaves it that died while a snapshot of its successor was installed.
#[test]
fn what_a_snapshot_brought_commits_no_tail_of_a_log() {
    let replay = LogReplay::default();
    let log = RaftLog { committed: None, ..life() };
    assert_eq!(replay.evidence(1, 2, &log, Some(10)).committed, Some(10));
    assert_eq!(replay.evidence(1, 2, &log, Some(11)).committed, None);
}

#[test]
fn whatever_the_watches_tell_otherwise_is_a_divergence_from_the_log() {
    let refused = |alter: fn(&mut Vec<(u64, Vec<Change>)>)| {
        let mut told = revisions();
        alter(&mut told);
        let mut replay = LogReplay::default();
        let mut alarms = Alarms::new();
        for (revision, changes) in told {
            replay.deliver(revision, &changes, &mut alarms);
        }
        let evidence = replay.evidence(1, 2, &life(), Some(10));
        replay.read(&evidence, &mut alarms);
        alarms.into_iter().map(|alarm| alarm.class()).collect::<Vec<_>>()
    };
    assert_eq!(refused(|told| told[0].1[0] = self::told("a", "y,1.1", 2, 1, 7)), [Class::Model], "another value");
    assert_eq!(refused(|told| told[0].1[0] = self::told("a", "x,1.1", 2, 1, 0)), [Class::Model], "without its lease");
    assert_eq!(
        refused(|told| told[2].1[0] = self::told("b", "1,1.4", 4, 1, 0)),
        [Class::Model],
        "not the second version"
    );
    assert_eq!(refused(|told| told[3].1 = vec![gone("a")]), [Class::Model], "another key was deleted");
    assert_eq!(refused(|told| told[4].1.push(gone("c"))), [Class::Model], "one change too many");
    // An entry that was applied twice, or skipped, moves everything behind it; that is reported
    // once.
    assert_eq!(refused(|told| told[4].1 = told[3].1.clone()), [Class::Model], "the revocation did nothing");
}

#[test]
fn a_fence_that_stands_elsewhere_than_the_log_is_refused() {
    let at = |fence| classes(judge(&life(), &revisions(), Some(fence)));
    assert_eq!(at(answer(10, 5, 3, &[])), [Class::Model], "its revision");
    assert_eq!(at(answer(10, 6, 2, &[])), [Class::Model], "its compact revision");
    assert_eq!(at(answer(10, 6, 3, &[7])), [Class::Model], "a lease that was revoked");
    assert_eq!(at(answer(9, 6, 3, &[])), [Class::Model], "no fence is there");
    let mut other = answer(10, 6, 3, &[]);
    other.term = 2;
    // Then only the member's own word says that the log's entry is the committed one, and that word
    // is wrong.
    assert_eq!(at(other), [Class::Model], "another term");
}

#[test]
fn two_logs_that_hold_different_committed_entries_have_diverged() {
    let (mut replay, mut alarms) = (LogReplay::default(), Alarms::new());
    let evidence = replay.evidence(1, 2, &life(), Some(10));
    replay.read(&evidence, &mut alarms);
    // The same log brings no news the second time.
    let again = replay.evidence(2, 3, &life(), Some(10));
    assert_eq!((again.entries.len(), again.committed), (0, Some(10)));
    let mut other = life();
    other.entries[7] = entry(1, 7, Some(delete("a", "")));
    let evidence = replay.evidence(3, 1, &other, Some(10));
    assert_eq!(evidence.entries.len(), 1);
    replay.read(&evidence, &mut alarms);
    assert_eq!(alarms.len(), 1);
    assert_eq!(alarms[0].class(), Class::StateHash);
    let What::RaftLogs(RaftLogs::LogsDisagree { index, first, second, .. }) = &alarms[0].what else {
        panic!("{}", alarms[0])
    };
    assert_eq!((*index, first.member, second.member), (7, 2, 1));
}

/// A follower may die with a tail that was never committed, and that its next leader overwrites.
#[test]
fn a_tail_that_was_never_committed_accuses_no_member() {
    let (mut replay, mut alarms) = (LogReplay::default(), Alarms::new());
    let mut overwritten = life();
    for entry in &mut overwritten.entries[8..] {
        entry.id.term = 2;
        entry.bytes.push(1);
    }
    let evidence = replay.evidence(1, 2, &life(), Some(10));
    replay.read(&evidence, &mut alarms);
    let evidence = replay.evidence(2, 3, &overwritten, Some(5));
    assert_eq!((evidence.committed, evidence.entries.len()), (Some(7), 0), "entry 7 is known, those behind it are not");
    replay.read(&evidence, &mut alarms);
    assert_eq!(alarms, []);
    // The same tail, if its member is known to have applied it, is another committed history.
    let evidence = replay.evidence(2, 3, &overwritten, Some(9));
    replay.read(&evidence, &mut alarms);
    assert_eq!(alarms.len(), 1);
}

#[test]
fn after_a_gap_the_replay_goes_on_from_a_fence_and_counts_what_it_missed() {
    let (mut replay, mut model, mut alarms) = (LogReplay::default(), Model::default(), Alarms::new());
    for (revision, changes) in revisions() {
        replay.deliver(revision, &changes, &mut alarms);
        assert!(model.apply(revision, &changes).is_empty());
    }
    let first = RaftLog { entries: life().entries[..3].to_vec(), ..RaftLog::default() };
    let evidence = replay.evidence(1, 2, &first, Some(2));
    replay.read(&evidence, &mut alarms);
    replay.fenced(&answer(10, 6, 3, &[]), &model);
    // The next log begins behind what was read, and holds the fence.
    let mut next = log(10, &[Some(fence(1)), Some(put("d", "x,1.6", 0)), Some(put("d", "x,1.7", 0))]);
    let evidence = replay.evidence(2, 3, &next, Some(12));
    replay.deliver(7, &[told("d", "x,1.6", 7, 1, 0)], &mut alarms);
    replay.read(&evidence, &mut alarms);
    replay.deliver(8, &[told("d", "x,1.7", 7, 2, 0)], &mut alarms);
    assert_eq!(alarms, []);
    let totals = replay.totals();
    assert_eq!((totals.entries, totals.revisions, totals.unreplayed, totals.gaps), (5, 3, 8, 1));
    let words = totals.skipped().unwrap();
    assert!(words.starts_with("raft log replay: 8 of 13 committed entries (in 1 gaps"), "{words}");
    // Later entries are judged as before.
    next.entries.push(entry(1, 13, Some(delete("d", ""))));
    let evidence = replay.evidence(3, 3, &next, Some(13));
    replay.read(&evidence, &mut alarms);
    replay.deliver(9, &[gone("e")], &mut alarms);
    assert_eq!(alarms.len(), 1);
}

/// A wrong member's log was taken for committed after the fence: a replay that begins at the fence
/// again does not hold it.
#[test]
fn a_replay_that_begins_at_the_last_fence_forgets_what_single_logs_told() {
    let (mut replay, mut model) = (LogReplay::default(), Model::default());
    for (revision, changes) in revisions() {
        assert!(model.apply(revision, &changes).is_empty());
    }
    replay.fenced(&answer(10, 6, 3, &[]), &model);
    let lie = log(11, &[Some(put("d", "x,9.9", 0))]);
    let evidence = replay.evidence(2, 2, &RaftLog { committed: Some(LogId { term: 1, index: 11 }), ..lie }, None);
    assert_eq!(evidence.entries.len(), 1, "its own word is taken there");
    replay.read(&evidence, &mut Alarms::new());
    let mut again = replay.at_last_fence();
    let truth = log(11, &[Some(put("d", "x,1.6", 0)), Some(put("d", "x,1.7", 0))]);
    again.read_committed(&truth.entries.iter().map(logged).collect::<Vec<_>>());
    let made: Vec<(u64, u64)> = again.lately().iter().map(|(revision, (id, _))| (*revision, id.index)).collect();
    assert_eq!(made, [(7, 11), (8, 12)]);
    let writer = again.lately()[&7].1[0].row.unwrap().value.writer().unwrap();
    assert_eq!(writer.to_string(), "1.6");
    assert_eq!(LogReplay::default().at_last_fence().lately().len(), 0);
}

#[test]
fn what_lies_beyond_this_model_is_counted_and_not_guessed() {
    let mut strange = put_request("a", "", 0);
    strange.ignore_value = true;
    let log = log(0, &[None, Some(Request::Put(strange)), Some(put("b", "x,1.1", 0)), Some(fence(1))]);
    let revisions = [(2, vec![told("a", "x,1.0", 2, 1, 0)]), (3, vec![told("b", "x,1.1", 3, 1, 0)])];
    let (totals, alarms) = judge(&log, &revisions, Some(answer(3, 3, 0, &[])));
    assert_eq!(alarms, []);
    assert_eq!((totals.entries, totals.unreplayed, totals.gaps), (1, 3, 1));
}

#[test]
fn a_transaction_is_refused_as_a_whole() {
    let mut store = Store::default();
    let value = Value::of(b"x,1.1");
    let step = Step::Txn {
        when: Vec::new(),
        then: vec![logged::Change::Put("a".into(), value, 0), logged::Change::Put("b".into(), value, 5)],
        or: Vec::new(),
    };
    assert_eq!(store.apply(&step), Ok(Vec::new()), "there is no lease 5");
    assert_eq!(store, Store::default());
    let twice = Step::Txn {
        when: Vec::new(),
        then: vec![logged::Change::Put("a".into(), value, 0), logged::Change::Delete(Span("a".into(), None))],
        or: Vec::new(),
    };
    assert!(store.apply(&twice).is_err());
}

fn nested(depth: usize, innermost: Vec<RequestOp>) -> TxnRequest {
    let mut txn = TxnRequest { success: innermost, ..TxnRequest::default() };
    for _ in 0..depth {
        txn = TxnRequest { success: vec![RequestOp { request: Some(Op::RequestTxn(txn)) }], ..TxnRequest::default() };
    }
    txn
}

fn put_op(key: &str, value: &str) -> RequestOp {
    RequestOp { request: Some(Op::RequestPut(put_request(key, value, 0))) }
}

/// Nested transactions do what they say. Those that members refuse do nothing, and neither do bytes
/// that are not a command.
#[test]
fn what_a_member_refuses_by_its_bytes_changes_nothing() {
    let mut log = log(
        0,
        &[
            None,
            Some(Request::Txn(nested(40, vec![put_op("a", "x,1.1"), put_op("b", "x,1.1")]))),
            Some(Request::Txn(nested(49, vec![put_op("a", "x,1.2")]))),
            Some(Request::Txn(nested(1, vec![put_op("a", "x,1.3"), put_op("a", "x,1.3")]))),
            Some(Request::Txn(nested(0, vec![put_op("a", "x,1.4"), RequestOp::default()]))),
            Some(Request::Txn(nested(0, vec![put_op("a", "x,1.5"); 129]))),
            Some(put("c", "x,1.6", 0)),
            Some(fence(1)),
        ],
    );
    // The payload of a node's entry whose command is garbage, read from its bytes, as they lie in a
    // log.
    let garbage = Entry::decode(&[1, 8, 1, 2, 0xff, 0xff]).expect("an entry, if not a command");
    assert!(matches!(&garbage.payload, Payload::NoCommand(_)), "{garbage:?}");
    log.entries.push(garbage);
    log.entries.push(entry(1, 9, Some(put("d", "x,1.7", 0))));
    let revisions = [
        (2, vec![told("a", "x,1.1", 2, 1, 0), told("b", "x,1.1", 2, 1, 0)]),
        (3, vec![told("c", "x,1.6", 3, 1, 0)]),
        (4, vec![told("d", "x,1.7", 4, 1, 0)]),
    ];
    let (totals, alarms) = judge(&log, &revisions, Some(answer(7, 3, 0, &[])));
    assert_eq!(alarms, []);
    assert_eq!((totals.entries, totals.revisions, totals.unreplayed, totals.gaps), (10, 3, 0, 0));
}

/// All branches are chosen on the state before the first change.
#[test]
fn a_nested_transaction_is_decided_before_anything_is_changed() {
    let absent = |key: &str| {
        vec![Compare {
            key: key.to_owned().into(),
            target: 2,
            target_union: Some(TargetUnion::ModRevision(0)),
            ..Compare::default()
        }]
    };
    let inner =
        TxnRequest { compare: absent("a"), success: vec![put_op("b", "x,1.1")], failure: vec![put_op("c", "x,1.1")] };
    let outer = TxnRequest {
        compare: absent("a"),
        success: vec![put_op("a", "x,1.1"), RequestOp { request: Some(Op::RequestTxn(inner)) }],
        ..TxnRequest::default()
    };
    let log = log(0, &[None, Some(Request::Txn(outer.clone())), Some(Request::Txn(outer))]);
    let revisions = [(2, vec![told("a", "x,1.1", 2, 1, 0), told("b", "x,1.1", 2, 1, 0)])];
    let (totals, alarms) = judge(&log, &revisions, None);
    assert_eq!((alarms, totals.entries, totals.gaps), (Alarms::new(), 3, 0));
}

/// A value of every kind, and its form in the history.
#[test]
fn golden_line() {
    let mut log = life();
    log.entries.push(entry(2, 11, Some(put("ü", "no value of ours", 0))));
    let evidence = LogReplay::default().evidence(4, 2, &log, Some(11));
    let text = serde_json::to_string(&evidence).unwrap().replace("{\"i\"", "\n{\"i\"");
    ninelives_golden::assert_golden("raft-log-evidence.txt", &text);
}

proptest! {
    /// The store against a list of everything that ever happened, asked anew each time.
    #[test]
    fn the_store_is_what_its_steps_lead_to(steps in proptest::collection::vec((0u8..4, 0u8..5, 0u8..5), 1..60)) {
        let mut store = Store::default();
        let mut naive: Vec<(u64, String, bool)> = Vec::new();
        let exists = |naive: &[(u64, String, bool)], key: &str| {
            naive.iter().rev().find(|(_, other, _)| other == key).is_some_and(|(_, _, put)| *put)
        };
        for (kind, a, b) in steps {
            let (from, to) = (format!("k{a}"), format!("k{b}"));
            let mut expected = Vec::new();
            let at = store.revision + 1;
            let step = match kind {
                0 | 1 => {
                    expected.push((at, from.clone(), true));
                    Step::Put(from, Value::of(b"v"), 0)
                }
                2 => {
                    if exists(&naive, &from) { expected.push((at, from.clone(), false)); }
                    Step::Delete(Span(from, None))
                }
                _ => {
                    for key in (a..b).map(|key| format!("k{key}")) {
                        if exists(&naive, &key) { expected.push((at, key, false)); }
                    }
                    Step::Delete(Span(from, Some(to)))
                }
            };
            let made = store.apply(&step).unwrap();
            let made: Vec<_> = made.into_iter().map(|effect| (at, effect.key, effect.row.is_some())).collect();
            prop_assert_eq!(&made, &expected);
            prop_assert_eq!(store.revision, if expected.is_empty() { at - 1 } else { at });
            naive.extend(expected);
        }
        for (key, row) in &store.keys {
            let mine: Vec<_> = naive.iter().filter(|(_, other, _)| other == key).collect();
            let life = mine.iter().rev().take_while(|(_, _, put)| *put).count() as u64;
            prop_assert_eq!((row.version, row.changed), (life, mine.last().unwrap().0));
        }
    }
}
