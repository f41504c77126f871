use super::super::Ledger;
use super::*;
use ninelives_evidence::member::Slot;
use ninelives_evidence::operation::{Action, OpId, Outcome, Reply};
use ninelives_evidence::signature::Signature;
use ninelives_evidence::verdict::Class;
use ninelives_evidence::verdict::findings::What;
use ninelives_evidence::{Answers, Change, Evidence, IndexRange, Lease};
use std::sync::Arc;

const A: OpId = OpId { client: 1, seq: 1 };
const GRANT: OpId = OpId { client: 1, seq: 2 };

fn sha(bytes: &[u8]) -> Vec<u8> {
    Sha256::digest(bytes).to_vec()
}

/// One key at revision 2, one lease; and the answer of a replica that has both.
fn scene() -> (Arc<Ledger>, Answer) {
    let ledger = Ledger::new(&[1, 2, 3].map(Slot));
    ledger.invoke(A, &Action::Put { key: "a".into(), value: "1.1".into(), lease: 0 });
    ledger.complete(A, &Outcome::Done { revision: 2, term: 1, reply: Reply::Put });
    let change = Change::Put { key: "a".into(), value: "1.1".into(), create_revision: 2, version: 1, lease: 0 };
    ledger.deliver(Slot(1), 2, &[change]);
    ledger.invoke(GRANT, &Action::Grant { lease: 7, ttl_seconds: 600 });
    ledger.complete(GRANT, &Outcome::Done { revision: 2, term: 1, reply: Reply::Granted });
    let digest = ledger.kv_digest(2, 0).unwrap();
    let answer = Answer {
        missed: false,
        index: 40,
        term: 3,
        revision: 2,
        compact_revision: 0,
        kv: digest.sha256.to_vec(),
        lease: sha(&[7u64.to_be_bytes(), 600u64.to_be_bytes()].concat()),
        auth: sha(b""),
        membership: sha(b"three members"),
        kv_rows: 1,
        leases: vec![Lease { id: 7, granted_ttl_seconds: 600 }],
    };
    (ledger, answer)
}

fn judge(ledger: &Ledger, answers: [Answer; 3]) -> Vec<Finding> {
    let baseline = ledger.baseline();
    let [one, two, three] = answers;
    check_fence(&mut ledger.books(), 5, &baseline, &[(1, one), (2, two), (3, three)])
}

/// The classes found when every replica gives the same, altered answer.
fn all_wrong(alter: impl Fn(&mut Answer)) -> Vec<Class> {
    let (ledger, mut answer) = scene();
    alter(&mut answer);
    judge(&ledger, [answer.clone(), answer.clone(), answer]).into_iter().map(|finding| finding.class()).collect()
}

#[test]
fn equal_replicas_that_match_the_model_pass() {
    assert_eq!(all_wrong(|_| {}), []);
}

#[test]
fn a_replica_that_differs_is_named_with_its_section() {
    type Alter = fn(&mut Answer);
    let sections: [(Part, Alter); 4] = [
        (Part::KvSection, |a| a.kv[0] ^= 1),
        (Part::LeaseSection, |a| a.lease[0] ^= 1),
        (Part::AuthSection, |a| a.auth[0] ^= 1),
        (Part::MembershipSection, |a| a.membership[0] ^= 1),
    ];
    for (section, alter) in sections {
        let (ledger, good) = scene();
        let mut bad = good.clone();
        alter(&mut bad);
        let findings = judge(&ledger, [good.clone(), bad, good]);
        assert_eq!(findings.len(), 1, "{findings:?}");
        let finding = &findings[0];
        assert_eq!((finding.class(), finding.member, finding.cycle), (Class::StateHash, Some(2), Some(5)));
        let What::Replicas(Replicas::ReplicasDisagree { part, says, .. }) = &finding.what else { panic!("{finding}") };
        assert_eq!(*part, section);
        assert!(says.iter().any(|one| one.members == [1, 3]), "{finding}");
    }
}

#[test]
fn what_all_replicas_agree_on_must_be_right() {
    assert_eq!(all_wrong(|a| a.kv = sha(b"constant")), [Class::Model]);
    assert_eq!(all_wrong(|a| a.kv_rows = 2), [Class::Model]);
    assert_eq!(all_wrong(|a| a.auth = sha(b"a user")), [Class::Model]);
    assert_eq!(all_wrong(|a| a.compact_revision = 1), [Class::Phantom, Class::Model], "no client compacted");
    assert_eq!(all_wrong(|a| a.revision = 1), [Class::LostWrite], "it stands before an acknowledged revision");
    assert_eq!(all_wrong(|a| a.revision = 3), [Class::HarnessError], "the watches have not come that far");
}

#[test]
fn the_lease_list_is_judged_by_digest_and_by_what_was_granted() {
    assert_eq!(all_wrong(|a| a.leases[0].id = 8), [Class::Model, Class::LostWrite, Class::Phantom]);
    let lost = |a: &mut Answer| {
        a.leases.clear();
        a.lease = sha(b"");
    };
    assert_eq!(all_wrong(lost), [Class::LostWrite]);
}

#[test]
fn a_missed_answer_is_no_answer() {
    assert_eq!(all_wrong(|a| a.missed = true), [Class::HarnessError; 3]);
    let (ledger, _) = scene();
    let baseline = ledger.baseline();
    assert_eq!(check_fence(&mut ledger.books(), 1, &baseline, &[])[0].class(), Class::HarnessError);
}

#[test]
fn only_an_index_that_was_applied_here_must_hold_its_fence() {
    let life =
        Recovered { scan_start: Some(10), verified: Some(IndexRange { first: 10, last: 20 }), ..Recovered::default() };
    assert!(applied_by_itself(&life, 21));
    assert!(!applied_by_itself(&life, 20), "recovery skipped it");
    assert!(!applied_by_itself(&life, 9), "an earlier life had it");
    assert!(!applied_by_itself(&Recovered { scan_start: None, ..life }, 21), "nothing was scanned");
    assert!(!applied_by_itself(&Recovered { snapshot_installed: Some(15), ..life }, 21), "a snapshot may have");
}

fn know(ledger: &Ledger, class: Class, what: &str, fields: &[(&str, serde_json::Value)]) {
    ledger.know(&[Signature::of("known", class).saying(what, fields)]);
}

/// Takes the answers as evidence, so that known findings are left out.
fn take(ledger: &Ledger, answers: [Answer; 3]) -> Vec<Finding> {
    ledger.record(&Evidence::Baseline { cycle: 5 });
    let answers: Vec<_> = (1..).zip(answers).collect();
    ledger.judged(&Evidence::FenceAnswers { cycle: 5, answers: Answers::new(&answers) })
}

#[test]
fn replicas_that_are_known_to_disagree_are_not_compared_with_the_model_and_it_is_counted() {
    let (ledger, good) = scene();
    know(&ledger, Class::StateHash, "replicas-disagree", &[("part", "kv-section".into())]);
    let mut bad = good.clone();
    bad.kv[0] ^= 1;
    assert_eq!(take(&ledger, [good.clone(), bad.clone(), good.clone()]), []);
    assert_eq!((ledger.known()[0].count, ledger.tally().fences_uncompared), (1, 1));
    bad.lease[0] ^= 1;
    let news = take(&ledger, [good.clone(), bad, good.clone()]);
    assert!(
        news.len() == 1
            && matches!(&news[0].what, What::Replicas(Replicas::ReplicasDisagree { part: Part::LeaseSection, .. })),
        "{news:?}"
    );
    assert_eq!(take(&ledger, [good.clone(), good.clone(), good]), []);
    assert_eq!((ledger.known()[0].count, ledger.tally().fences_uncompared), (2, 2));
}

#[test]
fn a_watch_that_is_known_to_break_leaves_a_fence_that_cannot_be_compared() {
    let (ledger, mut answer) = scene();
    know(&ledger, Class::Watch, "told-of-no-compaction", &[]);
    ledger.skipped(Slot(1), 9);
    answer.revision = 9;
    assert_eq!(take(&ledger, [answer.clone(), answer.clone(), answer]), []);
    assert_eq!((ledger.known()[0].count, ledger.tally().fences_uncompared), (1, 1));
}

/// A lost write that counts explains a different model; a suppressed one would hide all other
/// causes.
#[test]
fn a_lost_write_that_is_known_does_not_silence_the_model() {
    let differs = |known: bool| {
        let (ledger, mut answer) = scene();
        if known {
            ledger.know(&[Signature::of("known", Class::LostWrite)]);
        }
        let again = OpId { client: 2, seq: 1 };
        ledger.invoke(again, &Action::Put { key: "b".into(), value: "2.1".into(), lease: 0 });
        ledger.complete(again, &Outcome::Done { revision: 2, term: 1, reply: Reply::Put });
        let lost = ledger.findings().iter().any(|finding| finding.class() == Class::LostWrite);
        answer.kv = sha(b"another");
        let found = take(&ledger, [answer.clone(), answer.clone(), answer]);
        (lost, found.into_iter().map(|finding| finding.class()).collect::<Vec<_>>())
    };
    assert_eq!(differs(false), (true, vec![]));
    assert_eq!(differs(true), (false, vec![Class::Model]));
}
