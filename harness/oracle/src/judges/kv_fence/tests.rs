use super::super::Ledger;
use super::*;
use ninelives_evidence::member::Slot;
use ninelives_evidence::operation::{Action, OpId, Outcome, Reply};
use ninelives_evidence::signature::Signature;
use ninelives_evidence::verdict::Class;
use ninelives_evidence::{Change, Evidence};
use std::sync::Arc;

const A: OpId = OpId { client: 1, seq: 1 };
const GRANT: OpId = OpId { client: 1, seq: 2 };

/// One key at revision 2, one lease; and the answer of a member that has both.
fn scene() -> (Arc<Ledger>, KvAnswer) {
    let ledger = Ledger::new(&[1, 2, 3].map(Slot));
    ledger.invoke(A, &Action::Put { key: "a".into(), value: "1.1".into(), lease: 0 });
    ledger.complete(A, &Outcome::Done { revision: 2, term: 1, reply: Reply::Put });
    let change = Change::Put { key: "a".into(), value: "1.1".into(), create_revision: 2, version: 1, lease: 0 };
    ledger.deliver(Slot(1), 2, &[change]);
    ledger.invoke(GRANT, &Action::Grant { lease: 7, ttl_seconds: 600 });
    ledger.complete(GRANT, &Outcome::Done { revision: 2, term: 1, reply: Reply::Granted });
    let mut books = ledger.books();
    let digest = books.model.live_digest(2).unwrap();
    let hash_kv = books.model.hash_kv(2, 0).unwrap();
    drop(books);
    let answer = KvAnswer {
        member: 1,
        version: "3.4.23".into(),
        applied: 9,
        compact_revision: 0,
        hash_kv,
        sha256: digest.sha256,
        rows: 1,
        leases: vec![7],
    };
    (ledger, answer)
}

fn fence(reading: u32, revision: u64, answer: &KvAnswer, alter: impl Fn(&mut KvAnswer)) -> Evidence {
    let mut answers: Vec<_> = (1..=3).map(|member| KvAnswer { member, ..answer.clone() }).collect();
    answers.iter_mut().for_each(alter);
    Evidence::KvFence { cycle: 5, index: 9, revision, reading, etcd: true, answers }
}

/// Class and member of the findings when the members give these answers.
fn found(alter: impl Fn(&mut KvAnswer)) -> Vec<(Class, Option<u64>)> {
    let (ledger, answer) = scene();
    ledger.record(&Evidence::Baseline { cycle: 5 });
    let findings = ledger.judged(&fence(2, 2, &answer, alter));
    assert!(findings.iter().all(|finding| finding.cycle == Some(5)));
    findings.into_iter().map(|finding| (finding.class(), finding.member)).collect()
}

fn only(member: u64, alter: impl Fn(&mut KvAnswer)) -> impl Fn(&mut KvAnswer) {
    move |answer| {
        if answer.member == member {
            alter(answer);
        }
    }
}

#[test]
fn equal_members_that_match_the_model_pass() {
    assert_eq!(found(|_| {}), []);
}

#[test]
fn a_member_that_shows_other_keys_is_named_by_the_others_and_by_the_model() {
    let expected = [(Class::StateHash, Some(2)), (Class::Model, Some(2))];
    assert_eq!(found(only(2, |answer| answer.sha256[0] ^= 1)), expected);
}

/// Equal keys with a different history, as a compaction or an old revision would show.
#[test]
fn a_member_with_another_hash_is_named_though_its_keys_are_right() {
    let expected = [(Class::StateHash, Some(3)), (Class::Model, Some(3))];
    assert_eq!(found(only(3, |answer| answer.hash_kv ^= 1)), expected);
}

#[test]
fn members_that_are_all_wrong_together_are_found_by_the_model() {
    let wrong = |answer: &mut KvAnswer| answer.sha256[0] ^= 1;
    assert_eq!(found(wrong), [1, 2, 3].map(|member| (Class::Model, Some(member))));
    let lying = |answer: &mut KvAnswer| answer.hash_kv ^= 1;
    assert_eq!(found(lying), [1, 2, 3].map(|member| (Class::Model, Some(member))));
    let unknown_rows = |answer: &mut KvAnswer| (answer.hash_kv, answer.version) = (answer.hash_kv ^ 1, "3.6.0".into());
    assert_eq!(found(unknown_rows), [], "of another version only equality is known");
}

#[test]
fn each_member_has_to_know_the_leases() {
    assert_eq!(found(only(2, |answer| answer.leases.clear())), [(Class::LostWrite, Some(2))]);
    assert_eq!(found(only(1, |answer| answer.leases.push(8))), [(Class::Phantom, Some(1))]);
}

#[test]
fn unasked_compactions_are_phantoms_and_differing_ones_are_not_compared_further() {
    let classes: Vec<_> = found(|answer| answer.compact_revision = 2).into_iter().map(|(class, _)| class).collect();
    assert_eq!(classes.first(), Some(&Class::Phantom), "{classes:?}");
    assert_eq!(found(only(2, |answer| answer.compact_revision = 1)), [(Class::StateHash, Some(2))]);
}

#[test]
fn a_first_reading_that_disagrees_is_not_judged() {
    let (ledger, answer) = scene();
    let odd = only(2, |answer| answer.sha256[0] ^= 1);
    ledger.record(&Evidence::Baseline { cycle: 5 });
    assert_eq!(ledger.judged(&fence(1, 2, &answer, odd)), []);
    // The second reading need not hold writes that came in between.
    ledger.invoke(OpId { client: 1, seq: 3 }, &Action::Put { key: "b".into(), value: "1.3".into(), lease: 0 });
    ledger.complete(OpId { client: 1, seq: 3 }, &Outcome::Done { revision: 3, term: 1, reply: Reply::Put });
    assert_eq!(ledger.judged(&fence(2, 2, &answer, |_| {})), []);
    assert_eq!(ledger.last_agreed(), Some((9, 2)));
}

#[test]
fn a_revision_older_than_what_was_acknowledged_is_a_lost_write() {
    let (ledger, answer) = scene();
    ledger.invoke(OpId { client: 1, seq: 3 }, &Action::Put { key: "b".into(), value: "1.3".into(), lease: 0 });
    ledger.complete(OpId { client: 1, seq: 3 }, &Outcome::Done { revision: 3, term: 1, reply: Reply::Put });
    ledger.record(&Evidence::Baseline { cycle: 5 });
    let classes: Vec<_> = ledger.judged(&fence(1, 2, &answer, |_| {})).into_iter().map(|one| one.class()).collect();
    assert_eq!(classes, [Class::LostWrite]);
}

/// A member that is known to differ hides neither another one nor anything else about itself.
#[test]
fn what_is_known_of_one_member_hides_no_other() {
    let keys = Signature::of("n2", Class::StateHash).saying("replicas-disagree", &[("part", "keys".into())]);
    let model = Signature::of("n2 too", Class::Model).saying("keys-differ", &[]);
    let known = [keys, model].map(|signature| Signature { member: Some(2), ..signature });
    let found = |alter: &dyn Fn(&mut KvAnswer)| {
        let (ledger, answer) = scene();
        ledger.know(&known);
        ledger.record(&Evidence::Baseline { cycle: 5 });
        let news = ledger.judged(&fence(2, 2, &answer, alter));
        let counts: Vec<_> = ledger.known().iter().map(|known| known.count).collect();
        let news: Vec<_> = news.into_iter().map(|finding| (finding.class(), finding.member)).collect();
        (news, counts, ledger.tally().cycles_apart)
    };
    assert_eq!(found(&only(2, |answer| answer.sha256[0] ^= 1)), (vec![], vec![1, 1], 1));
    let other = vec![(Class::StateHash, Some(3)), (Class::Model, Some(3))];
    assert_eq!(found(&only(3, |answer| answer.sha256[0] ^= 1)), (other, vec![0, 0], 0));
    let hash = vec![(Class::StateHash, Some(2)), (Class::Model, Some(2))];
    assert_eq!(found(&only(2, |answer| answer.hash_kv ^= 1)), (hash, vec![0, 0], 0));
}

#[test]
fn a_fence_that_the_model_cannot_be_compared_with_is_counted() {
    let (ledger, answer) = scene();
    let n2 = Signature { member: Some(2), ..Signature::of("n2", Class::StateHash) };
    ledger.know(&[n2, Signature::of("watch", Class::Watch)]);
    ledger.record(&Evidence::Baseline { cycle: 5 });
    assert_eq!(ledger.judged(&fence(2, 2, &answer, only(2, |answer| answer.compact_revision = 1))), []);
    assert_eq!(ledger.tally().fences_uncompared, 1);
    ledger.skipped(Slot(1), 9);
    ledger.record(&Evidence::Baseline { cycle: 6 });
    assert_eq!(ledger.judged(&fence(2, 9, &answer, |_| {})), []);
    assert_eq!(ledger.tally().fences_uncompared, 2);
}

/// Any server may claim a version; only etcd's own rows are known.
#[test]
fn the_hash_of_another_server_is_compared_with_the_others_alone() {
    let (ledger, answer) = scene();
    let other = KvAnswer { hash_kv: answer.hash_kv ^ 1, ..answer };
    let Evidence::KvFence { cycle, index, revision, reading, answers, .. } = fence(1, 2, &other, |_| {}) else {
        panic!("it is a fence")
    };
    ledger.record(&Evidence::Baseline { cycle });
    let fence = Evidence::KvFence { cycle, index, revision, reading, etcd: false, answers };
    assert_eq!(ledger.judged(&fence), []);
}
