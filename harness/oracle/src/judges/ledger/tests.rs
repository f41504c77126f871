//! Small histories: each must be accepted, or refused as exactly the expected class.

use super::*;
use Class::{Linearizability, LostWrite, Model as Wrong, Phantom};
use ninelives_evidence::member::Engine;
use ninelives_evidence::operation::{
    Action, Compare, Effect, KeyState, Keys, PADDING_OVERFLOWS, PADDING_REFUSED, Reason, Reply, Shape,
};
use ninelives_evidence::verdict::findings::Watches;

const A: OpId = OpId { client: 1, seq: 1 };
const B: OpId = OpId { client: 2, seq: 1 };
const C: OpId = OpId { client: 1, seq: 2 };

fn ledger() -> Arc<Ledger> {
    Ledger::new(&[1].map(Slot))
}

fn put(key: &str, id: OpId) -> Action {
    Action::Put { key: key.into(), value: format!("x,{id}"), lease: 0 }
}

fn delete(from: &str, to: Option<&str>) -> Action {
    Action::Delete { keys: Keys { from: from.into(), to: to.map(str::to_owned) } }
}

fn add(key: &str, mod_revision: u64, id: OpId) -> Action {
    let value = format!("1,{id}");
    Action::Txn {
        when: vec![Compare { key: key.into(), mod_revision }],
        then: vec![Effect::Put { key: key.into(), value }],
    }
}

fn done(revision: u64, reply: Reply) -> Outcome {
    Outcome::Done { revision, term: 1, reply }
}

fn unknown() -> Outcome {
    Outcome::Unknown { why: "transport error".into() }
}

fn refused() -> Outcome {
    Outcome::Refused { why: "connection refused".into(), reason: Reason::NotSent }
}

fn written(key: &str, value: &str, create_revision: u64, version: u64) -> Change {
    Change::Put { key: key.into(), value: value.into(), create_revision, version, lease: 0 }
}

fn new(key: &str, id: OpId, revision: u64) -> Change {
    written(key, &format!("x,{id}"), revision, 1)
}

fn gone(key: &str) -> Change {
    Change::Delete { key: key.into() }
}

fn row(key: &str, id: OpId, revision: u64) -> KeyState {
    let value = format!("x,{id}").into_bytes();
    KeyState { key: key.into(), value, create_revision: revision, mod_revision: revision, version: 1, lease: 0 }
}

fn read(keys: Keys, serializable: bool) -> Action {
    Action::Read { keys, revision: None, serializable }
}

fn classes(ledger: &Ledger) -> Vec<Class> {
    ledger.findings().into_iter().map(|finding| finding.class()).collect()
}

#[test]
fn an_acknowledged_write_is_found_before_or_after_its_answer() {
    let ledger = ledger();
    ledger.invoke(A, &put("a", A));
    ledger.complete(A, &done(2, Reply::Put));
    ledger.deliver(Slot(1), 2, &[new("a", A, 2)]);
    ledger.invoke(B, &put("b", B));
    ledger.deliver(Slot(1), 3, &[new("b", B, 3)]);
    ledger.complete(B, &done(3, Reply::Put));
    assert_eq!(classes(&ledger), []);
    assert_eq!((ledger.tally().open, ledger.tally().acked_writes, ledger.revision()), (0, 2, 3));
}

#[test]
fn an_acknowledged_write_whose_revision_holds_something_else_is_lost() {
    let ledger = ledger();
    ledger.invoke(A, &put("a", A));
    ledger.invoke(B, &put("b", B));
    ledger.complete(A, &done(2, Reply::Put));
    ledger.deliver(Slot(1), 2, &[new("b", B, 2)]);
    assert_eq!(classes(&ledger), [LostWrite]);
    ledger.invoke(C, &put("c", C));
    ledger.complete(C, &done(2, Reply::Put));
    assert_eq!(classes(&ledger), [LostWrite, LostWrite], "the revision is used again, and does not hold it");
}

fn packed(shape: Shape) -> Action {
    Action::Packed { shape, then: vec![Effect::Put { key: "a".into(), value: format!("x,{A}") }] }
}

fn judged(why: &str) -> Outcome {
    let (code, text) = why.split_once(": ").expect("a code and words");
    let reason = Reason::Judged { code: code.to_owned(), text: text.to_owned() };
    Outcome::Refused { why: why.into(), reason }
}

/// Requests within the limits are carried out like any write, and those beyond them are refused.
/// Where servers differ, both answers are right.
#[test]
fn a_request_at_the_limits_is_taken_and_one_beyond_them_refused() {
    const TOO_MANY: &str = "InvalidArgument: etcdserver: too many operations in txn request";
    let carried_out = || done(2, Reply::Txn { succeeded: true });
    let cases: [(Shape, Outcome, &[Class]); 10] = [
        (Shape::Deep(40), carried_out(), &[]),
        (Shape::Wide, carried_out(), &[]),
        (Shape::Deep(49), carried_out(), &[]),
        (Shape::Deep(49), judged(TOO_MANY), &[]),
        (Shape::Crowded, judged(TOO_MANY), &[]),
        (Shape::Crowded, unknown(), &[]),
        (Shape::Crowded, carried_out(), &[Wrong]),
        (Shape::Deep(40), judged(TOO_MANY), &[Wrong]),
        (Shape::Deep(40), judged("ResourceExhausted: etcdserver: too many requests"), &[]),
        (Shape::Wide, refused(), &[]),
    ];
    for (shape, outcome, expected) in cases {
        let ledger = ledger();
        ledger.invoke(A, &packed(shape));
        ledger.complete(A, &outcome);
        if matches!(outcome, Outcome::Done { .. }) {
            ledger.deliver(Slot(1), 2, &[new("a", A, 2)]);
        }
        assert_eq!(classes(&ledger), expected, "{shape:?}: {outcome:?}");
    }
    // Acknowledged, and not there.
    let ledger = ledger();
    ledger.invoke(A, &packed(Shape::Deep(40)));
    ledger.complete(A, &carried_out());
    ledger.deliver(Slot(1), 2, &[gone("b")]);
    let found = classes(&ledger);
    assert!(found.contains(&Wrong), "{found:?}");
}

/// A client knows by the code whether a request may be sent again.
#[test]
fn a_refusal_has_the_code_of_its_reason() {
    let cases: [(Shape, &str, &[Class]); 8] = [
        (Shape::Crowded, "InvalidArgument: etcdserver: no", &[]),
        (Shape::Crowded, "ResourceExhausted: etcdserver: no", &[Wrong]),
        (Shape::Deep(128), "Internal: etcdserver: no", &[Wrong]),
        (Shape::Deep(100), "ResourceExhausted: etcdserver: no", &[]),
        (Shape::UnknownTarget, "OutOfRange: etcdserver: no", &[Wrong]),
        (Shape::Padded(PADDING_REFUSED), "InvalidArgument: etcdserver: no", &[]),
        (Shape::Padded(PADDING_OVERFLOWS), "InvalidArgument: etcdserver: no", &[Wrong]),
        (Shape::Padded(PADDING_OVERFLOWS), "ResourceExhausted: grpc: no", &[]),
    ];
    for (shape, answer, expected) in cases {
        let ledger = ledger();
        ledger.invoke(A, &packed(shape));
        ledger.complete(A, &judged(answer));
        assert_eq!(classes(&ledger), expected, "{shape:?}: {answer}");
    }
}

/// The node refuses comparisons that it does not know; an etcd lets them hold.
#[test]
fn what_the_node_refuses_another_server_may_take() {
    for (engine, expected) in [(Engine::Redb, vec![Wrong]), (Engine::Opaque, vec![])] {
        let ledger = ledger();
        let at = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
        ledger.record(&Evidence::Place { slot: Slot(1), member: 1, engine, peer: at, client: at, control: at });
        ledger.invoke(A, &packed(Shape::UnknownTarget));
        ledger.complete(A, &done(2, Reply::Txn { succeeded: true }));
        ledger.deliver(Slot(1), 2, &[new("a", A, 2)]);
        assert_eq!(classes(&ledger), expected, "{engine}");
    }
}

/// `a` was written at revision 2; the question whether it is of revision `mod_revision` is answered
/// with `succeeded`, at `revision`.
fn compared(mod_revision: u64, succeeded: bool, revision: u64) -> Vec<Class> {
    let ledger = ledger();
    ledger.invoke(A, &put("a", A));
    ledger.complete(A, &done(2, Reply::Put));
    ledger.deliver(Slot(1), 2, &[new("a", A, 2)]);
    ledger.invoke(B, &Action::Check { when: vec![Compare { key: "a".into(), mod_revision }], depth: 1 });
    ledger.complete(B, &done(revision, Reply::Txn { succeeded }));
    assert_eq!((ledger.tally().reads, ledger.tally().acked_writes), (1, 1));
    classes(&ledger)
}

#[test]
fn a_transaction_that_only_compares_is_a_fresh_read_of_its_keys() {
    assert_eq!((compared(2, true, 2), compared(0, false, 2)), (vec![], vec![]));
    assert_eq!((compared(0, true, 2), compared(2, false, 2)), (vec![Wrong], vec![Wrong]));
    assert_eq!(compared(0, true, 1), [Linearizability], "the state of before, which is stale");
    let ledger = ledger();
    ledger.invoke(A, &Action::Check { when: vec![], depth: 1 });
    ledger.complete(A, &unknown());
    assert_eq!((ledger.tally().unknown_writes, ledger.tally().open), (0, 0), "nothing can come of it later");
}

#[test]
fn an_unknown_write_may_come_later_once_or_never() {
    let ledger = ledger();
    for (id, key) in [(A, "a"), (B, "b")] {
        ledger.invoke(id, &put(key, id));
        ledger.complete(id, &unknown());
    }
    assert_eq!(ledger.tally().open, 2);
    ledger.deliver(Slot(1), 2, &[new("a", A, 2)]);
    assert_eq!((classes(&ledger), ledger.tally().open), (vec![], 1), "B never comes, and stays unknown");
    ledger.deliver(Slot(1), 3, &[written("a", &format!("x,{A}"), 2, 2)]);
    assert_eq!(classes(&ledger), [Class::ExactlyOnce], "applied twice");
}

#[test]
fn what_was_refused_or_never_sent_must_not_be_there() {
    let ledger = ledger();
    ledger.invoke(A, &put("a", A));
    ledger.complete(A, &refused());
    ledger.deliver(Slot(1), 2, &[new("a", A, 2)]);
    assert_eq!(classes(&ledger), [Phantom]);
    ledger.deliver(Slot(1), 3, &[new("b", B, 3)]);
    assert_eq!(classes(&ledger), [Phantom], "no such operation");
    ledger.deliver(Slot(1), 4, &[written("c", "somebody else's", 4, 1)]);
    assert_eq!(classes(&ledger), [Phantom], "not a value of ours");
    ledger.invoke(C, &put("d", C));
    ledger.deliver(Slot(1), 5, &[new("d", C, 5)]);
    ledger.complete(C, &refused());
    assert_eq!(classes(&ledger), [Phantom], "refused, and done");
}

#[test]
fn a_write_has_exactly_its_effects() {
    let ledger = ledger();
    ledger.invoke(A, &put("a", A));
    ledger.deliver(Slot(1), 2, &[new("a", A, 2), new("b", A, 2)]);
    assert_eq!(classes(&ledger), [Wrong]);
    ledger.invoke(B, &put("c", B));
    ledger.complete(B, &done(3, Reply::Put));
    ledger.deliver(Slot(1), 3, &[written("c", &format!("y,{B}"), 3, 1)]);
    assert_eq!(classes(&ledger), [Wrong]);
}

#[test]
fn a_compare_and_swap_is_judged_on_the_state_before_it() {
    let ledger = ledger();
    ledger.invoke(A, &add("n", 0, A));
    ledger.complete(A, &done(2, Reply::Txn { succeeded: true }));
    ledger.deliver(Slot(1), 2, &[written("n", &format!("1,{A}"), 2, 1)]);
    ledger.invoke(B, &add("n", 0, B));
    ledger.complete(B, &done(2, Reply::Txn { succeeded: false }));
    assert_eq!(classes(&ledger), []);
    ledger.invoke(C, &add("n", 0, C));
    ledger.deliver(Slot(1), 3, &[written("n", &format!("1,{C}"), 2, 2)]);
    assert_eq!(classes(&ledger), [Wrong], "applied although the comparison fails");
    ledger.complete(C, &done(3, Reply::Txn { succeeded: false }));
    assert_eq!(classes(&ledger), [Phantom], "answered as failed, and there");
    let next = OpId { client: 2, seq: 2 };
    ledger.invoke(next, &add("n", 3, next));
    ledger.complete(next, &done(3, Reply::Txn { succeeded: false }));
    assert_eq!(classes(&ledger), [Wrong], "answered as failed, although it holds");
}

/// Keys p/1 and p/2 at revisions 2 and 3.
fn with_two_keys() -> Arc<Ledger> {
    let ledger = ledger();
    for (seq, key) in [(11, "p/1"), (12, "p/2")] {
        let id = OpId { client: 9, seq };
        ledger.invoke(id, &put(key, id));
        ledger.deliver(Slot(1), seq - 9, &[new(key, id, seq - 9)]);
        ledger.complete(id, &done(seq - 9, Reply::Put));
    }
    ledger
}

#[test]
fn deletes_are_claimed_by_their_answers_in_either_order() {
    let ledger = with_two_keys();
    ledger.invoke(A, &delete("p/", Some("p0")));
    ledger.complete(A, &done(4, Reply::Deleted(2)));
    ledger.deliver(Slot(1), 4, &[gone("p/1"), gone("p/2")]);
    assert_eq!((classes(&ledger), ledger.tally().open), (vec![], 0));
    let ledger = with_two_keys();
    ledger.invoke(A, &delete("p/1", None));
    ledger.deliver(Slot(1), 4, &[gone("p/1")]);
    ledger.complete(A, &done(4, Reply::Deleted(1)));
    assert_eq!((classes(&ledger), ledger.tally().open), (vec![], 0));
}

#[test]
fn a_range_delete_that_forgets_a_key_or_takes_one_too_many_is_refused() {
    let ledger = with_two_keys();
    ledger.invoke(A, &delete("p/", Some("p0")));
    ledger.complete(A, &done(4, Reply::Deleted(2)));
    ledger.deliver(Slot(1), 4, &[gone("p/1")]);
    assert_eq!(classes(&ledger), [Wrong]);
    let ledger = with_two_keys();
    ledger.invoke(A, &delete("p/1", None));
    ledger.deliver(Slot(1), 4, &[gone("p/1"), gone("p/2")]);
    assert_eq!(classes(&ledger), [Phantom], "no open operation does that");
}

#[test]
fn an_unanswered_delete_explains_a_revision_and_an_answered_one_elsewhere_does_not() {
    let ledger = with_two_keys();
    ledger.invoke(A, &delete("p/1", None));
    ledger.complete(A, &unknown());
    ledger.deliver(Slot(1), 4, &[gone("p/1")]);
    ledger.books().operations.writes.tidy();
    assert_eq!((classes(&ledger), ledger.tally().open), (vec![], 0), "a sole candidate is found");
    let ledger = with_two_keys();
    ledger.invoke(A, &delete("p/1", None));
    ledger.deliver(Slot(1), 4, &[gone("p/1")]);
    ledger.complete(A, &refused());
    assert_eq!(classes(&ledger), [Phantom]);
    let ledger = with_two_keys();
    ledger.deliver(Slot(1), 4, &[gone("p/1")]);
    assert_eq!(classes(&ledger), [Phantom]);
}

#[test]
fn a_delete_that_found_nothing_is_judged_at_its_revision() {
    let ledger = with_two_keys();
    ledger.invoke(A, &delete("q", None));
    ledger.complete(A, &done(3, Reply::Deleted(0)));
    assert_eq!((classes(&ledger), ledger.tally().open), (vec![], 0));
    ledger.invoke(B, &delete("p/2", None));
    ledger.complete(B, &done(3, Reply::Deleted(0)));
    assert_eq!(classes(&ledger), [Wrong]);
}

#[test]
fn a_revocation_takes_its_keys_whenever_its_answer_comes() {
    let leased = |ledger: &Ledger| {
        let grant = OpId { client: 9, seq: 1 };
        ledger.invoke(grant, &Action::Grant { lease: 7, ttl_seconds: 600 });
        ledger.complete(grant, &done(1, Reply::Granted));
        ledger.invoke(A, &Action::Put { key: "l".into(), value: format!("x,{A}"), lease: 7 });
        ledger.complete(A, &done(2, Reply::Put));
        let value = format!("x,{A}").into_bytes();
        ledger.deliver(Slot(1), 2, &[Change::Put { key: "l".into(), value, create_revision: 2, version: 1, lease: 7 }]);
        ledger.invoke(B, &Action::Revoke { lease: 7 });
    };
    let late = ledger();
    leased(&late);
    late.complete(B, &done(3, Reply::Revoked));
    late.deliver(Slot(1), 3, &[gone("l")]);
    assert_eq!((classes(&late), late.tally().open), (vec![], 0));
    let early = ledger();
    leased(&early);
    early.deliver(Slot(1), 3, &[gone("l")]);
    early.complete(B, &done(3, Reply::Revoked));
    assert_eq!((classes(&early), early.tally().open), (vec![], 0));
    let forgotten = ledger();
    leased(&forgotten);
    forgotten.complete(B, &done(2, Reply::Revoked));
    assert_eq!(classes(&forgotten), [LostWrite], "the key is still attached");
}

#[test]
fn reads_are_judged_at_their_revision_even_if_it_is_still_to_come() {
    let ledger = with_two_keys();
    let both = || Keys { from: "p/".into(), to: Some("p0".into()) };
    let rows = [row("p/1", OpId { client: 9, seq: 11 }, 2), row("p/2", OpId { client: 9, seq: 12 }, 3)];
    let asked = std::cell::Cell::new(0);
    let reading = |ledger: &Ledger, rows: &[KeyState], revision| {
        // Each at another member, and none at the one that acknowledged the writes.
        asked.set(asked.get() + 1);
        send(ledger, asked.get(), A, &read(both(), true));
        ledger.complete(A, &done(revision, Reply::Read(rows.to_vec())));
        classes(ledger)
    };
    assert_eq!(reading(&ledger, &rows, 3), []);
    assert_eq!(reading(&ledger, &rows[..1], 2), [], "a replica that lags tells the past");
    assert_eq!(reading(&ledger, &rows[..1], 3), [LostWrite]);
    assert_eq!(reading(&ledger, &rows[1..], 3), [LostWrite]);
    assert_eq!(reading(&ledger, &rows, 2), [Phantom]);
    assert_eq!(reading(&ledger, &[rows[0].clone(), row("p/15", A, 3), rows[1].clone()], 3), [Phantom]);
    assert_eq!(reading(&ledger, &[rows[0].clone(), row("p/2", A, 3)], 3), [Wrong], "another value");
    assert_eq!(reading(&ledger, &rows[1..], 4), [], "not known yet");
    ledger.invoke(B, &delete("p/1", None));
    ledger.deliver(Slot(1), 4, &[gone("p/1")]);
    assert_eq!(classes(&ledger), [], "and right, now that it is");
    assert_eq!(ledger.tally().reads_checked, 8);
}

#[test]
fn a_linearizable_read_sees_what_was_acknowledged_before_it() {
    let ledger = with_two_keys();
    ledger.invoke(A, &read(Keys::one("q"), false));
    ledger.complete(A, &done(2, Reply::Read(vec![])));
    assert_eq!(classes(&ledger), [Linearizability], "stale: what it missed is there");
    send(&ledger, 1, B, &read(Keys::one("q"), true));
    ledger.complete(B, &done(2, Reply::Read(vec![])));
    assert_eq!(classes(&ledger), [], "a serializable one at another member need not");
}

#[test]
fn settled_operations_are_forgotten() {
    let ledger = ledger();
    for seq in 0..5_000 {
        let id = OpId { client: 1, seq };
        ledger.invoke(id, &put("a", id));
        ledger.complete(id, &done(seq + 2, Reply::Put));
        ledger.deliver(Slot(1), seq + 2, &[written("a", &format!("x,{id}"), 2, seq + 1)]);
        if seq % 100 == 99 {
            ledger.books().model.digest(seq + 2, seq - 50).unwrap();
            assert!(ledger.books().model.rows() < 200);
        }
    }
    assert_eq!((classes(&ledger), ledger.tally().open), (vec![], 0));
}

/// The watch belongs to the slot, so a member that moves in takes it over, and is to blame for its
/// errors.
#[test]
fn a_replaced_member_takes_its_slots_watch_over() {
    let ledger = Ledger::new(&[1, 2].map(Slot));
    let deliver = |slot, revision| {
        ledger.deliver(Slot(slot), revision, &[written("p/1", "1.1", 2, revision - 1)]);
    };
    (1..=2).for_each(|slot| deliver(slot, 2));
    ledger.record(&Evidence::MovedIn { cycle: 3, slot: Slot(2), member: 4, engine: Engine::Redb });
    assert_eq!(ledger.delivered(Slot(2)), 2);
    (3..=4).for_each(|revision| deliver(1, revision));
    assert_eq!(ledger.compaction_ceiling(), 2, "what the newcomer's watch still needs is kept");
    deliver(2, 3);
    deliver(2, 3);
    let findings: Vec<_> = ledger.findings().into_iter().filter(|finding| finding.class() == Class::Watch).collect();
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(findings[0].member, Some(4));
    assert_eq!(findings[0].what, Watches::DeliveredTwice { slot: Slot(2), revision: 3, after: 3 }.into());
}

/// Slots 1 and 2 with members 1 and 4.
fn with_a_successor() -> Arc<Ledger> {
    let ledger = Ledger::new(&[1, 2].map(Slot));
    ledger.record(&Evidence::MovedIn { cycle: 1, slot: Slot(2), member: 4, engine: Engine::Redb });
    ledger
}

fn send(ledger: &Ledger, endpoint: usize, op: OpId, action: &Action) {
    ledger.record(&Evidence::Invoke { op, endpoint, action: action.clone(), purpose: None });
}

/// Each finding's class, member and sentence.
fn told(ledger: &Ledger) -> Vec<(Class, Option<u64>, String)> {
    ledger.findings().into_iter().map(|finding| (finding.class(), finding.member, finding.sentence())).collect()
}

#[test]
fn of_two_that_were_acknowledged_at_one_revision_the_history_says_who_lied() {
    for liar_first in [true, false] {
        let ledger = with_a_successor();
        send(&ledger, 1, A, &put("a", A));
        send(&ledger, 0, B, &put("b", B));
        let mut answers = [A, B];
        if !liar_first {
            answers.reverse();
        }
        answers.iter().for_each(|id| ledger.complete(*id, &done(2, Reply::Put)));
        assert_eq!(told(&ledger), [], "the watches have not told yet");
        ledger.deliver(Slot(1), 2, &[new("b", B, 2)]);
        let why = "n4 acknowledged operation 1.1 (put a) at revision 2, which holds [put b …x,2.1] instead".to_owned();
        assert_eq!(told(&ledger), [(LostWrite, Some(4), why)]);
        assert_eq!(ledger.tally().open, 0);
    }
}

#[test]
fn deletes_are_not_a_claims_that_cannot_have_done_them_while_another_operation_can() {
    let ledger = with_a_successor();
    send(&ledger, 0, C, &put("c", C));
    ledger.complete(C, &done(2, Reply::Put));
    ledger.deliver(Slot(1), 2, &[new("c", C, 2)]);
    send(&ledger, 1, A, &put("a", A));
    send(&ledger, 0, B, &delete("c", None));
    ledger.complete(A, &done(3, Reply::Put));
    ledger.deliver(Slot(1), 3, &[gone("c")]);
    let why = "n4 acknowledged operation 1.1 (put a) at revision 3, which holds [delete c] instead".to_owned();
    assert_eq!(told(&ledger), [(LostWrite, Some(4), why)]);
    ledger.complete(B, &done(3, Reply::Deleted(1)));
    assert_eq!(told(&ledger), [], "the delete is at the revision of its answer");
    assert_eq!(ledger.tally().open, 0);
}

#[test]
fn an_answer_is_its_members_even_if_another_one_moves_in_before_it_is_judged() {
    let ledger = with_a_successor();
    send(&ledger, 1, A, &put("a", A));
    send(&ledger, 1, B, &read(Keys::one("b"), true));
    ledger.complete(A, &done(3, Reply::Put));
    ledger.complete(B, &done(2, Reply::Read(vec![row("b", B, 2)])));
    ledger.record(&Evidence::MovedIn { cycle: 2, slot: Slot(2), member: 5, engine: Engine::Redb });
    send(&ledger, 0, C, &put("c", C));
    ledger.deliver(Slot(1), 2, &[new("c", C, 2)]);
    let phantom = "at revision 2, operation 2.1 (read b), answered by n4, returns b of revision 2, which is not there";
    assert_eq!(told(&ledger), [(Phantom, Some(4), phantom.to_owned())]);
    ledger.deliver(Slot(1), 3, &[gone("c")]);
    let lost = told(&ledger);
    assert_eq!((lost[0].0, lost[0].1), (Wrong, Some(4)), "{lost:?}");
    assert!(
        lost[0].2.contains("operation 1.1 (put a), sent to n4, does to the state before; missing: a; not asked for: c")
    );
}

#[test]
fn a_write_that_is_not_whole_is_its_members_and_names_the_keys() {
    let both = Action::Txn {
        when: vec![],
        then: ["a", "b"].map(|key| Effect::Put { key: key.into(), value: format!("x,{A}") }).to_vec(),
    };
    for answered_first in [true, false] {
        let ledger = with_a_successor();
        send(&ledger, 1, A, &both);
        let answer = || ledger.complete(A, &done(2, Reply::Txn { succeeded: true }));
        if answered_first {
            answer();
        }
        ledger.deliver(Slot(1), 2, &[new("a", A, 2)]);
        if !answered_first {
            answer();
        }
        let why = "revision 2 holds [put a …x,1.1], which is not what operation 1.1 (put a, put b), sent to n4, does to the \
                   state before; missing: b";
        assert_eq!(told(&ledger), [(Wrong, Some(4), why.to_owned())]);
    }
}

#[test]
fn an_acknowledgement_at_or_below_an_older_one_names_both_and_accuses_neither() {
    let ledger = with_two_keys();
    ledger.invoke(A, &put("a", A));
    ledger.complete(A, &done(3, Reply::Put));
    let found = told(&ledger);
    assert_eq!(
        found.iter().map(|(class, member, _)| (*class, *member)).collect::<Vec<_>>(),
        [(LostWrite, Some(1)), (LostWrite, None)]
    );
    assert_eq!(found[0].2, "n1 acknowledged operation 1.1 (put a) at revision 3, which does not hold it");
    let both = "at revision 3, though n1 had answered operation 9.12 (put p/2) at revision 3 before it was sent";
    assert!(found[1].2.contains(both), "{}", found[1].2);
}

#[test]
fn what_is_known_is_counted_and_leaves_room_for_what_is_not() {
    let ledger = ledger();
    let compaction = Signature::of("compaction", Class::Watch).saying("told-of-no-compaction", &[("asked", 0.into())]);
    ledger.know(&[compaction, Signature::of("never", Class::Model)]);
    let findings = crate::judges::LISTED_PER_CLASS_MAX + 50;
    (1..=findings).for_each(|n| ledger.skipped(Slot(1), 10 * n));
    let told = |asked| {
        let what = Watches::ToldOfNoCompaction { slot: Slot(1), compacted: 9, asked };
        Evidence::Told { finding: Finding::new(what) }
    };
    assert_eq!(ledger.judged(&told(0)), []);
    assert_eq!(classes(&ledger), []);
    let known = ledger.known();
    let first = known[0].first.as_ref().unwrap();
    assert_eq!((known[0].count, first.member), (findings + 1, Some(1)));
    assert_eq!(first.what, Watches::ToldOfNoCompaction { slot: Slot(1), compacted: 10, asked: 0 }.into());
    assert_eq!((known[1].count, &known[1].first), (0, &None));
    assert_eq!(ledger.judged(&told(5)).len(), 1, "the same kind with another field is news");
}

/// A write before the snapshot (revision 2), one after it (revision 3), and a restore from revision
/// `revision`.
fn restored(revision: u64) -> (Arc<Ledger>, Vec<Finding>) {
    let ledger = ledger();
    ledger.invoke(A, &put("a", A));
    ledger.complete(A, &done(2, Reply::Put));
    ledger.deliver(Slot(1), 2, &[new("a", A, 2)]);
    ledger.record(&Evidence::Saving { cycle: 4, member: 1 });
    ledger.invoke(B, &put("b", B));
    ledger.deliver(Slot(1), 3, &[new("b", B, 3)]);
    ledger.complete(B, &done(3, Reply::Put));
    let founders = vec![(Slot(1), 4, Engine::Redb)];
    let findings = ledger.judged(&Evidence::Restored { cycle: 4, revision, index: Some(1), founders });
    (ledger, findings)
}

#[test]
fn what_was_acknowledged_after_the_snapshot_is_expected_to_be_gone() {
    let (ledger, findings) = restored(2);
    assert_eq!((findings, ledger.revision(), ledger.delivered(Slot(1))), (vec![], 2, 2));
    assert_eq!(ledger.last_agreed(), Some((1, 2)));
    // Revision 3 holds a different write now, and B is nowhere.
    let (d, e) = (OpId { client: 1_001, seq: 1 }, OpId { client: 1_001, seq: 2 });
    ledger.invoke(d, &put("a", d));
    ledger.deliver(Slot(1), 3, &[written("a", &format!("x,{d}"), 2, 2)]);
    ledger.complete(d, &done(3, Reply::Put));
    let b = Keys { from: "b".into(), to: None };
    ledger.invoke(e, &read(b, false));
    ledger.complete(e, &done(3, Reply::Read(vec![])));
    assert_eq!(classes(&ledger), []);
}

#[test]
fn what_the_snapshot_holds_has_to_be_there_and_nothing_that_came_later() {
    let (ledger, _) = restored(2);
    let (d, e) = (OpId { client: 1_001, seq: 1 }, OpId { client: 1_001, seq: 2 });
    let all = Keys { from: "a".into(), to: Some("c".into()) };
    ledger.invoke(d, &read(all.clone(), true));
    ledger.complete(d, &done(2, Reply::Read(vec![])));
    assert_eq!(classes(&ledger), [LostWrite], "a");
    ledger.invoke(e, &read(all, true));
    ledger.complete(e, &done(2, Reply::Read(vec![row("a", A, 2), row("b", B, 3)])));
    assert_eq!(classes(&ledger), [Phantom], "b");
}

#[test]
fn a_snapshot_without_what_was_acknowledged_before_it_is_a_lost_write() {
    let (_, findings) = restored(1);
    assert_eq!(
        findings.iter().map(|finding| (finding.class(), finding.member)).collect::<Vec<_>>(),
        [(LostWrite, Some(1))]
    );
    let (_, findings) = restored(9);
    assert_eq!(findings.iter().map(|finding| finding.class()).collect::<Vec<_>>(), [Phantom], "no watch told it");
}

/// An operation of the old cluster that comes back is in the history twice, or is one that no
/// client sent.
#[test]
fn nothing_of_the_old_cluster_comes_back() {
    for (id, class) in [(A, Class::ExactlyOnce), (B, Phantom)] {
        let (ledger, _) = restored(2);
        ledger.deliver(Slot(1), 3, &[new("z", id, 3)]);
        assert_eq!(classes(&ledger), [class], "{id}");
    }
}
