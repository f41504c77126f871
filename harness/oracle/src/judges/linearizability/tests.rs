use super::register::{Register, fingerprint};
use super::*;
use ninelives_evidence::operation::{Compare, Effect, KeyState, Keys};
use ninelives_evidence::verdict::Class;
use proptest::prelude::*;

const A: OpId = OpId { client: 1, seq: 1 };
const B: OpId = OpId { client: 2, seq: 1 };
const C: OpId = OpId { client: 3, seq: 1 };
const D: OpId = OpId { client: 4, seq: 1 };
const E: OpId = OpId { client: 5, seq: 1 };

fn put(key: &str, id: OpId) -> Action {
    Action::Put { key: key.into(), value: format!("x,{id}"), lease: 0 }
}

fn delete(from: &str, to: Option<&str>) -> Action {
    Action::Delete { keys: Keys { from: from.into(), to: to.map(str::to_owned) } }
}

fn read(from: &str, to: Option<&str>) -> Action {
    Action::Read { keys: Keys { from: from.into(), to: to.map(str::to_owned) }, revision: None, serializable: false }
}

fn swap(key: &str, mod_revision: u64, id: OpId) -> Action {
    Action::Txn {
        when: vec![Compare { key: key.into(), mod_revision }],
        then: vec![Effect::Put { key: key.into(), value: format!("x,{id}") }],
    }
}

fn both(id: OpId) -> Action {
    let put = |key: &str| Effect::Put { key: key.into(), value: format!("x,{id}") };
    Action::Txn { when: vec![], then: vec![put("a"), put("b")] }
}

fn done(revision: u64, reply: Reply) -> Outcome {
    Outcome::Done { revision, term: 1, reply }
}

fn never() -> Outcome {
    Outcome::Unknown { why: "no answer".into() }
}

/// Row of `key`: written by `id` at `at`, created at `created`, in its `version`.
fn row(key: &str, id: OpId, at: u64, created: u64, version: u64) -> KeyState {
    let value = format!("x,{id}").into_bytes();
    KeyState { key: key.into(), value, create_revision: created, mod_revision: at, version, lease: 0 }
}

fn sees(revision: u64, rows: &[KeyState]) -> Outcome {
    done(revision, Reply::Read(rows.to_vec()))
}

#[derive(Default)]
struct Book(Linearizability);

impl Book {
    /// One operation after the other: sent, answered.
    fn then(&mut self, id: OpId, action: &Action, outcome: Outcome) -> &mut Self {
        self.0.invoke(id, action);
        self.0.complete(id, &outcome);
        self
    }

    fn sends(&mut self, id: OpId, action: &Action) -> &mut Self {
        self.0.invoke(id, action);
        self
    }

    fn hears(&mut self, id: OpId, outcome: Outcome) -> &mut Self {
        self.0.complete(id, &outcome);
        self
    }

    fn classes(&mut self) -> Vec<Class> {
        self.0.check(Basis::Answers).into_iter().map(|alarm| alarm.class()).collect()
    }

    fn refused(&mut self) -> bool {
        let classes = self.classes();
        assert!(classes.iter().all(|class| *class == Class::Linearizability), "{classes:?}");
        !classes.is_empty()
    }
}

#[test]
fn a_stale_read_is_refused() {
    let mut book = Book::default();
    book.then(A, &put("a", A), done(2, Reply::Put)).then(B, &put("a", B), done(3, Reply::Put));
    book.then(C, &read("a", None), sees(2, &[row("a", A, 2, 2, 1)]));
    let alarms = book.0.check(Basis::Answers);
    assert_eq!(alarms.len(), 1);
    let (class, why) = (&alarms[0].class(), alarms[0].sentence());
    assert_eq!(*class, Class::Linearizability);
    for words in
        ["history of a", "2 answers have an order", "2.1 puts it at revision 3", "3.1 reads it as of revision 2"]
    {
        assert!(why.contains(words), "{words} in {why}");
    }
    assert!(!book.refused(), "said once");
}

#[test]
fn a_stale_read_with_a_fresh_header_is_refused() {
    let mut book = Book::default();
    book.then(A, &put("a", A), done(2, Reply::Put)).then(B, &put("a", B), done(3, Reply::Put));
    assert!(book.then(C, &read("a", None), sees(3, &[row("a", A, 2, 2, 1)])).refused());
}

#[test]
fn a_comparison_is_a_read_of_each_key() {
    let compares = |keys: [&str; 2], mod_revision| {
        let when = keys.map(|key| Compare { key: key.into(), mod_revision }).to_vec();
        Action::Check { when, depth: 1 }
    };
    for (mod_revision, revision, refused) in [(2, 3, false), (0, 2, true), (0, 3, true)] {
        let mut book = Book::default();
        book.then(A, &both(A), done(2, Reply::Txn { succeeded: true })).then(B, &put("c", B), done(3, Reply::Put));
        book.then(C, &compares(["a", "b"], mod_revision), done(revision, Reply::Txn { succeeded: true }));
        assert_eq!(book.refused(), refused, "{mod_revision} at {revision}");
    }
}

#[test]
fn a_lost_update_is_refused() {
    let mut book = Book::default();
    book.then(A, &put("a", A), done(2, Reply::Put));
    book.sends(B, &swap("a", 2, B)).sends(C, &swap("a", 2, C));
    book.hears(B, done(3, Reply::Txn { succeeded: true })).hears(C, done(4, Reply::Txn { succeeded: true }));
    assert!(book.refused(), "both swaps of revision 2 succeeded");
}

#[test]
fn a_swap_that_fails_although_it_holds_is_refused() {
    let mut book = Book::default();
    book.then(A, &put("a", A), done(2, Reply::Put));
    assert!(book.then(B, &swap("a", 2, B), done(2, Reply::Txn { succeeded: false })).refused());
    let mut book = Book::default();
    book.then(A, &put("a", A), done(2, Reply::Put));
    assert!(!book.then(B, &swap("a", 0, B), done(2, Reply::Txn { succeeded: false })).refused());
}

#[test]
fn a_read_from_the_future_is_refused() {
    let mut book = Book::default();
    book.then(C, &read("a", None), sees(2, &[row("a", A, 2, 2, 1)]));
    book.then(A, &put("a", A), done(2, Reply::Put));
    assert!(book.refused());
}

#[test]
fn a_write_that_is_acknowledged_and_not_there_is_refused() {
    let mut book = Book::default();
    book.then(A, &put("a", A), done(2, Reply::Put));
    assert!(book.then(B, &read("a", None), sees(2, &[])).refused());
    let mut book = Book::default();
    book.then(A, &put("p/1", A), done(2, Reply::Put));
    assert!(book.then(B, &read("p/", Some("p0")), sees(2, &[])).refused(), "nor in its range");
}

#[test]
fn reads_that_go_back_are_refused_whoever_answers() {
    let mut book = Book::default();
    book.sends(A, &put("a", A));
    book.then(B, &read("a", None), sees(2, &[row("a", A, 2, 2, 1)]));
    book.then(C, &read("a", None), sees(1, &[]));
    book.hears(A, done(2, Reply::Put));
    assert!(book.refused(), "one member had it, another had it not");
}

#[test]
fn a_torn_transaction_is_refused() {
    let mut book = Book::default();
    book.then(A, &both(A), done(2, Reply::Txn { succeeded: true }));
    assert!(book.then(B, &read("b", None), sees(2, &[])).refused(), "a part is missing");
    let mut book = Book::default();
    book.then(A, &both(A), done(2, Reply::Txn { succeeded: true }));
    assert!(book.then(B, &read("b", None), sees(3, &[row("b", A, 3, 3, 1)])).refused(), "in two revisions");
    let mut book = Book::default();
    book.then(A, &both(A), never());
    book.then(B, &read("a", None), sees(2, &[row("a", A, 2, 2, 1)]));
    assert!(book.then(C, &read("b", None), sees(2, &[])).refused(), "one part tells where the other has to be");
}

#[test]
fn a_second_apply_is_refused() {
    let mut book = Book::default();
    book.then(A, &put("a", A), done(2, Reply::Put));
    assert!(book.then(B, &read("a", None), sees(3, &[row("a", A, 3, 2, 2)])).refused());
}

#[test]
fn a_delete_is_a_write_like_any_other() {
    let mut book = Book::default();
    book.then(A, &put("a", A), done(2, Reply::Put)).then(B, &delete("a", None), done(3, Reply::Deleted(1)));
    assert!(book.then(C, &read("a", None), sees(3, &[row("a", A, 2, 2, 1)])).refused(), "back from the dead");
    let mut book = Book::default();
    book.then(A, &put("a", A), done(2, Reply::Put)).then(B, &delete("a", None), done(3, Reply::Deleted(1)));
    book.then(C, &read("a", None), sees(3, &[])).then(D, &delete("a", Some("b")), done(3, Reply::Deleted(0)));
    assert!(!book.refused());
    assert!(book.then(E, &delete("a", None), done(4, Reply::Deleted(1))).refused(), "deleted, and it was not there");
}

#[test]
fn a_revocation_takes_its_keys_by_the_time_it_is_answered() {
    let leased = || {
        let mut book = Book::default();
        book.then(A, &Action::Put { key: "l".into(), value: format!("x,{A}"), lease: 7 }, done(2, Reply::Put));
        book
    };
    let there = KeyState { lease: 7, ..row("l", A, 2, 2, 1) };
    let revoke = Action::Revoke { lease: 7 };
    assert!(!leased().then(B, &revoke, done(3, Reply::Revoked)).then(C, &read("l", None), sees(3, &[])).refused());
    assert!(
        leased()
            .then(B, &revoke, done(3, Reply::Revoked))
            .then(C, &read("l", None), sees(3, std::slice::from_ref(&there)))
            .refused()
    );
    let mut during = leased();
    during.sends(B, &revoke).then(C, &read("l", None), sees(3, &[])).then(D, &read("l", None), sees(3, &[]));
    assert!(!during.hears(B, done(4, Reply::Revoked)).refused());
    let mut never_answered = leased();
    never_answered.then(B, &revoke, never()).then(C, &read("l", None), sees(2, &[there]));
    assert!(!never_answered.then(D, &read("l", None), sees(3, &[])).refused(), "it may come late");
}

#[test]
fn concurrent_writes_may_come_in_either_order() {
    for (first, second) in [(A, B), (B, A)] {
        let mut book = Book::default();
        book.sends(A, &put("a", A)).sends(B, &put("a", B));
        book.hears(first, done(2, Reply::Put)).hears(second, done(3, Reply::Put));
        assert!(!book.then(C, &read("a", None), sees(3, &[row("a", second, 3, 2, 2)])).refused());
    }
}

#[test]
fn an_unanswered_write_may_come_late_or_never_but_not_before_it_was_sent() {
    let mut late = Book::default();
    late.then(A, &put("a", A), never()).then(B, &read("a", None), sees(1, &[]));
    late.then(C, &put("a", C), done(2, Reply::Put)).then(D, &read("a", None), sees(3, &[row("a", A, 3, 2, 2)]));
    assert!(!late.refused());
    let mut overwritten = Book::default();
    overwritten.then(A, &put("a", A), never()).then(C, &put("a", C), done(3, Reply::Put));
    assert!(
        !overwritten.then(D, &read("a", None), sees(3, &[row("a", C, 3, 2, 2)])).refused(),
        "only the version tells"
    );
    let mut none = Book::default();
    none.then(C, &put("a", C), done(3, Reply::Put)).then(D, &read("a", None), sees(3, &[row("a", C, 3, 2, 2)]));
    assert!(none.refused(), "no client wrote the first version");
    let mut early = Book::default();
    early.then(D, &read("a", None), sees(2, &[row("a", A, 2, 2, 1)])).then(A, &put("a", A), never());
    assert!(early.refused());
}

#[test]
fn an_unanswered_range_delete_may_take_a_key_that_came_after_it() {
    let mut book = Book::default();
    book.then(A, &delete("p/", Some("p0")), never()).then(B, &put("p/7", B), done(2, Reply::Put));
    assert!(!book.then(C, &read("p/7", None), sees(3, &[])).refused());
}

#[test]
fn with_a_history_what_it_does_not_hold_did_not_happen() {
    let unanswered = |basis, found: Option<u64>| {
        let mut book = Linearizability::default();
        book.invoke(A, &put("a", A));
        book.complete(A, &never());
        book.invoke(B, &put("a", B));
        book.complete(B, &done(3, Reply::Put));
        book.invoke(C, &read("a", None));
        book.complete(C, &sees(3, &[row("a", B, 3, 2, 2)]));
        if let Some(revision) = found {
            book.found(A, revision);
        }
        (book.check(basis).len(), book.judged())
    };
    assert_eq!(unanswered(Basis::History(3), Some(2)), (0, 2));
    assert_eq!(unanswered(Basis::History(3), None).0, 1);
    assert_eq!(unanswered(Basis::History(2), Some(2)), (0, 0), "what is later than the history waits");
}

#[test]
fn what_is_in_flight_holds_the_judgement_back_and_nothing_is_lost() {
    let mut book = Book::default();
    book.sends(A, &put("a", A)).then(B, &read("a", None), sees(2, &[row("a", A, 2, 2, 1)]));
    assert!(!book.refused());
    assert_eq!(book.0.judged(), 0);
    assert!(!book.hears(A, done(2, Reply::Put)).refused());
    assert_eq!(book.0.judged(), 2);
}

#[test]
fn a_search_without_revisions_ends_at_its_budget_and_names_the_key() {
    let mut book = Book::default();
    for client in 0..40 {
        let id = OpId { client, seq: 1 };
        book.then(id, &put("a", id), never());
    }
    for client in 0..4 {
        let id = OpId { client, seq: 2 };
        book.then(id, &put("a", id), done(100 + u64::from(client), Reply::Put));
    }
    let alarms = book.0.check(Basis::Answers);
    assert_eq!(alarms.len(), 1);
    assert_eq!(alarms[0].class(), Class::NotProven);
    assert!(
        alarms[0].sentence().contains("linearizability of a ") && alarms[0].sentence().contains("explanations"),
        "{}",
        alarms[0].sentence()
    );
}

#[test]
fn memory_follows_what_is_open() {
    let mut book = Book::default();
    for seq in 0..20_000 {
        let id = OpId { client: 1, seq };
        book.then(id, &put("a", id), done(seq + 2, Reply::Put));
        if seq % 100 == 0 {
            assert!(!book.refused());
        }
    }
    assert!(!book.refused());
    let search = book.0.keys.values().next().unwrap();
    assert_eq!((search.kept(), book.0.open.len(), book.0.missing.len()), (1, 0, 0));
}

/// One operation of a random history on one key, with its true position.
#[derive(Debug, Clone)]
struct Random {
    id: OpId,
    action: Action,
    outcome: Outcome,
    /// The moments at which it was sent and answered, in arbitrary units.
    sent: u32,
    answered: u32,
}

/// Carries `kinds` out on one register, one after the other, each sent up to `before` earlier and
/// answered up to `after` later than it happened.
fn history(kinds: &[(u8, u8, u8)]) -> Vec<Random> {
    let (mut revision, mut now): (u64, Option<KeyState>) = (1, None);
    let mut all = Vec::new();
    for (at, (kind, before, after)) in (0u32..).zip(kinds) {
        let id = OpId { client: at, seq: 1 };
        let lost = *after >= 9;
        let modified = now.as_ref().map_or(0, |row| row.mod_revision);
        let mut write = |now: &mut Option<KeyState>| {
            revision += 1;
            let (created, version) = now.as_ref().map_or((revision, 1), |row| (row.create_revision, row.version + 1));
            *now = Some(row("k", id, revision, created, version));
            revision
        };
        let (action, outcome) = match kind % 5 {
            0 => (put("k", id), done(write(&mut now), Reply::Put)),
            1 => (swap("k", modified, id), done(write(&mut now), Reply::Txn { succeeded: true })),
            2 => (swap("k", modified + 1, id), done(revision, Reply::Txn { succeeded: false })),
            3 if now.take().is_some() => {
                revision += 1;
                (delete("k", None), done(revision, Reply::Deleted(1)))
            }
            3 => (delete("k", None), done(revision, Reply::Deleted(0))),
            _ => (read("k", None), sees(revision, now.as_slice())),
        };
        let outcome = if lost { never() } else { outcome };
        let sent = (at * 10).saturating_sub(u32::from(*before) * 5);
        all.push(Random { id, action, outcome, sent, answered: at * 10 + 1 + u32::from(*after) * 5 });
    }
    all
}

fn judge(all: &[Random]) -> Vec<Class> {
    let mut events: Vec<(u32, bool, usize)> = Vec::new();
    for (at, one) in all.iter().enumerate() {
        events.push((one.sent * 2, false, at));
        events.push((one.answered.max(one.sent) * 2 + 1, true, at));
    }
    events.sort_unstable();
    let mut book = Linearizability::default();
    for (_, answered, at) in events {
        match answered {
            false => book.invoke(all[at].id, &all[at].action),
            true => book.complete(all[at].id, &all[at].outcome),
        }
    }
    book.check(Basis::Answers).into_iter().map(|alarm| alarm.class()).collect()
}

/// Whether any order explains the history: tries them all. It shares the specification of the
/// register with the search, and nothing of the search.
fn explicable(all: &[Random]) -> bool {
    let known: BTreeMap<Box<[u8]>, ()> = [(Box::from(&b"k"[..]), ())].into();
    let parts: Vec<(u32, u32, bool, Vec<Projection>)> = all
        .iter()
        .map(|one| {
            let answer = match &one.outcome {
                Outcome::Done { revision, reply, .. } => Some((*revision, reply)),
                _ => None,
            };
            let parts = project(&one.action, answer, &known, &BTreeMap::new());
            (one.sent, one.answered.max(one.sent), answer.is_some(), parts)
        })
        .collect();
    fn go(parts: &[(u32, u32, bool, Vec<Projection>)], left: u32, register: Register) -> bool {
        let open = |at: usize| left & (1 << at) != 0;
        if (0..parts.len()).all(|at| !open(at) || !parts[at].2) {
            return true;
        }
        // The next operation was sent before any remaining one was answered.
        let first_answer = (0..parts.len()).filter(|at| open(*at) && parts[*at].2).map(|at| parts[at].1).min();
        (0..parts.len()).filter(|at| open(*at) && first_answer.is_none_or(|answer| parts[*at].0 <= answer)).any(|at| {
            let after = parts[at].3.iter().try_fold(register, |register, part| part.does.apply(part.place, register));
            after.is_some_and(|after| go(parts, left & !(1 << at), after))
        })
    }
    go(&parts, (1 << parts.len()) - 1, Register::default())
}

proptest! {
    #[test]
    fn what_really_happened_is_accepted(kinds in prop::collection::vec((0u8..5, 0u8..6, 0u8..10), 0..120)) {
        let classes = judge(&history(&kinds));
        prop_assert!(!classes.contains(&Class::Linearizability), "{classes:?}");
    }

    /// A falsified history is refused if and only if no order explains it.
    #[test]
    fn a_mutated_history_is_judged_as_by_trying_every_order(
        kinds in prop::collection::vec((0u8..5, 0u8..4, 0u8..10), 1..7),
        victim in 0usize..7, change in 0u8..5, by in 1u64..3,
    ) {
        let mut all = history(&kinds);
        let at = victim % all.len();
        match (&mut all[at].outcome, change) {
            (Outcome::Done { revision, .. }, 0) => *revision = revision.saturating_sub(by).max(1),
            (Outcome::Done { revision, .. }, 1) => *revision += by,
            (Outcome::Done { reply: Reply::Read(rows), .. }, 2) => rows.clear(),
            (Outcome::Done { reply: Reply::Read(rows), .. }, 3) => rows.iter_mut().for_each(|row| row.version += by),
            _ => {
                all[at].sent += 15;
                all[at].answered += 15;
            }
        }
        // The book learns the place of an unanswered write from the reads that show it. The trial
        // of every order does not learn it: it may explain less than the search, never more.
        let refused = judge(&all).contains(&Class::Linearizability);
        let shown = all.iter().any(|one| matches!(one.outcome, Outcome::Unknown { .. }));
        if !shown {
            prop_assert_eq!(refused, !explicable(&all));
        } else if refused {
            let told = all.iter().any(|one| matches!(&one.outcome, Outcome::Done { reply: Reply::Read(rows), .. } if !rows.is_empty()));
            prop_assert!(told || !explicable(&all));
        } else {
            prop_assert!(explicable(&all));
        }
    }
}

#[test]
fn equal_values_have_equal_fingerprints_and_others_hardly_ever() {
    assert_eq!(fingerprint(b"x,1.1"), fingerprint(b"x,1.1"));
    assert_ne!(fingerprint(b"x,1.1"), fingerprint(b"x,1.2"));
}

#[test]
fn a_restored_book_begins_with_the_keys_of_the_snapshot() {
    let mut model = Model::default();
    let change = |key: &str, id: OpId| ninelives_evidence::Change::Put {
        key: key.into(),
        value: format!("x,{id}").into_bytes(),
        create_revision: 2,
        version: 1,
        lease: 0,
    };
    assert!(model.apply(2, &[change("a", A), change("b", B)]).is_empty());
    let judged = |outcome: Outcome| {
        let mut book = Book(Linearizability::restored(&model));
        book.then(C, &read("a", Some("c")), outcome);
        book.0.check(Basis::Answers).len()
    };
    let (a, b) = (row("a", A, 2, 2, 1), row("b", B, 2, 2, 1));
    assert_eq!(judged(sees(2, &[a.clone(), b])), 0);
    assert_eq!(judged(sees(2, &[a])), 1, "b is lost");
}
