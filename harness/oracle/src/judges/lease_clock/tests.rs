//! Hand-written evidence: a ledger that is told what happened, and when.

use crate::judges::Ledger;
use ninelives_evidence::member::Slot;
use ninelives_evidence::operation::{Action, OpId, Reply};
use ninelives_evidence::stretched::Stretched;
use ninelives_evidence::verdict::findings::parts::LongStream;
use ninelives_evidence::verdict::{Class, Finding};
use ninelives_evidence::{Change, Evidence, limits};
use std::sync::Arc;

const SECOND: u64 = 1_000_000;
const LEASE: i64 = 7;

/// Lease 7 of two seconds, granted by a request that was sent at second 1; its key is put at
/// revision 2.
struct Told {
    ledger: Arc<Ledger>,
    seq: u64,
}

impl Told {
    fn new() -> Self {
        let mut told = Self { ledger: Ledger::new(&[Slot(1), Slot(2), Slot(3)]), seq: 0 };
        told.asked(SECOND, 1, Action::Grant { lease: LEASE, ttl_seconds: 2 }, 1, Some((1, Reply::Granted)));
        let op = told.asked(SECOND, 1, put("e/1"), SECOND / 100, Some((2, Reply::Put)));
        let value = format!("x,{op}").into_bytes();
        let key = b"e/1".to_vec();
        told.revision(SECOND, 2, vec![Change::Put { key, value, create_revision: 2, version: 1, lease: LEASE }]);
        told
    }

    /// An operation sent to the `member`-th slot at `sent_us`, answered `took_us` later.
    fn asked(
        &mut self,
        sent_us: u64,
        member: usize,
        action: Action,
        took_us: u64,
        reply: Option<(u64, Reply)>,
    ) -> OpId {
        self.seq += 1;
        let op = OpId { client: 1, seq: self.seq };
        let action = match action {
            Action::Put { key, lease, .. } => Action::Put { key, value: format!("x,{op}"), lease },
            action => action,
        };
        self.ledger.record_at(sent_us, &Evidence::Invoke { op, endpoint: member - 1, action, purpose: None });
        let ended = match reply {
            Some((revision, reply)) => Evidence::Done { op, revision, term: 1, reply },
            None => Evidence::Unknown { op, why: "no answer".to_owned() },
        };
        self.ledger.record_at(sent_us + took_us, &ended);
        op
    }

    fn renewed(&mut self, sent_us: u64, member: usize, ttl_seconds: i64) {
        let reply = Some((2, Reply::Renewed { ttl_seconds }));
        self.asked(sent_us, member, Action::KeepAlive { lease: LEASE }, SECOND / 10, reply);
    }

    fn revision(&self, at_us: u64, revision: u64, changes: Vec<Change>) {
        self.ledger.record_at(at_us, &Evidence::Revision { revision, slot: Slot(2), changes });
    }

    fn deleted(&self, at_us: u64, revision: u64) {
        self.revision(at_us, revision, vec![Change::Delete { key: b"e/1".to_vec() }]);
    }

    fn findings(&self) -> Vec<Finding> {
        self.ledger.findings()
    }

    fn lease_finding(&self) -> String {
        let findings = self.findings();
        assert_eq!(findings.iter().map(|finding| finding.class()).collect::<Vec<_>>(), [Class::Lease], "{findings:?}");
        findings[0].sentence()
    }
}

fn put(key: &str) -> Action {
    Action::Put { key: key.to_owned(), value: String::new(), lease: LEASE }
}

#[test]
fn a_lease_that_ends_after_its_time_is_fine_and_counted() {
    let mut told = Told::new();
    told.renewed(2 * SECOND, 1, 2);
    told.deleted(4 * SECOND, 3);
    assert_eq!(told.findings(), []);
    let judged = told.ledger.tally().leases;
    assert_eq!((judged.promises, judged.renewals, judged.expiries, judged.revocations), (2, 1, 1, 0));
}

#[test]
fn a_lease_that_ends_before_the_time_of_a_grant_or_of_a_renewal_is_found() {
    let told = Told::new();
    told.deleted(3 * SECOND - 1, 3);
    assert!(told.lease_finding().contains("ended 1999 ms after that was sent"));
    let mut told = Told::new();
    told.renewed(2 * SECOND, 3, 2);
    told.deleted(4 * SECOND - 1, 3);
    let findings = told.findings();
    assert_eq!((findings[0].class(), findings[0].member, findings.len()), (Class::Lease, Some(3), 1), "{findings:?}");
}

#[test]
fn the_answer_of_a_renewal_may_come_after_the_event() {
    let mut told = Told::new();
    told.seq += 1;
    let op = OpId { client: 1, seq: told.seq };
    let action = Action::KeepAlive { lease: LEASE };
    told.ledger.record_at(2 * SECOND, &Evidence::Invoke { op, endpoint: 0, action, purpose: None });
    told.deleted(3 * SECOND, 3);
    assert_eq!(told.findings(), [], "no member has promised more");
    let reply = Reply::Renewed { ttl_seconds: 2 };
    told.ledger.record_at(3 * SECOND + 1, &Evidence::Done { op, revision: 3, term: 1, reply });
    assert!(told.lease_finding().contains("1000 ms after that was sent"));
}

#[test]
fn a_renewal_of_what_has_ended_is_found_and_one_without_an_answer_promises_nothing() {
    let mut told = Told::new();
    told.asked(2 * SECOND, 1, Action::KeepAlive { lease: LEASE }, SECOND, None);
    told.deleted(3 * SECOND, 3);
    told.renewed(4 * SECOND, 2, 0);
    assert_eq!(told.findings(), []);
    told.renewed(5 * SECOND, 1, 2);
    assert!(told.lease_finding().contains("ended 2000 ms before that was sent"));
}

#[test]
fn an_answer_that_there_is_no_such_lease_is_an_end_as_well() {
    let mut told = Told::new();
    told.renewed(2 * SECOND, 1, 2);
    told.renewed(3 * SECOND, 2, 0);
    assert!(told.lease_finding().contains("with a TTL of 0"));
    told.deleted(3 * SECOND + 1, 3);
    assert_eq!(told.findings(), [], "said once");
}

#[test]
fn a_revoked_lease_may_go_at_once_and_never_comes_back() {
    let mut told = Told::new();
    told.renewed(2 * SECOND, 1, 2);
    told.asked(2 * SECOND, 1, Action::Revoke { lease: LEASE }, SECOND / 10, Some((3, Reply::Revoked)));
    told.deleted(3 * SECOND, 3);
    told.renewed(3 * SECOND, 2, 0);
    assert_eq!(told.findings(), []);
    told.renewed(3 * SECOND, 1, 2);
    assert!(told.lease_finding().contains("after the revocation of lease 7 was acknowledged"));
    assert_eq!(told.ledger.tally().leases.expiries, 0);
}

#[test]
fn an_expiry_deletes_the_keys_of_its_lease_and_no_others() {
    let mut told = Told::new();
    let op = told.asked(SECOND, 1, put("e/2"), 1, Some((3, Reply::Put)));
    let value = format!("x,{op}").into_bytes();
    let key = b"e/2".to_vec();
    told.revision(SECOND, 3, vec![Change::Put { key, value, create_revision: 3, version: 1, lease: LEASE }]);
    told.deleted(9 * SECOND, 4);
    let findings = told.findings();
    assert_eq!(
        findings.iter().map(|finding| finding.class()).collect::<Vec<_>>(),
        [Class::Phantom],
        "half of it: {findings:?}"
    );
}

#[test]
fn what_nobody_renews_has_to_end() {
    let told = Told::new();
    let awaited = |at_us, bound_ms| {
        told.ledger.record_at(at_us, &Evidence::LeasesAwaited { bound_ms, answer: None });
        told.findings()
    };
    assert_eq!(awaited(15 * SECOND, 10_000), []);
    let findings = awaited(16 * SECOND, 10_000);
    assert_eq!((findings.len(), findings[0].class()), (1, Class::Lease), "{findings:?}");
    assert_eq!(told.ledger.short_leases(), [(LEASE, 2)]);
    told.deleted(16 * SECOND, 3);
    assert_eq!(awaited(17 * SECOND, 0), []);
}

#[test]
fn a_harness_that_was_killed_forgets_its_promises() {
    let told = Told::new();
    told.ledger.record_at(0, &Evidence::Resumed { times: 1, after_cycle: 1 });
    told.deleted(SECOND, 3);
    assert_eq!(told.findings(), []);
}

/// As many answers as are judged, each `first_us` after its renewal, or 100 ms after that one where
/// another renewal was answered then, and the judge's findings.
fn answered((answers, first_us): (u64, u64), idle_ms: u64, factor_percent: u32) -> Vec<Class> {
    let mut told = Told::new();
    let mut renewed = |sent_us, took_us| {
        let reply = Some((2, Reply::Renewed { ttl_seconds: 2 }));
        told.asked(sent_us, 1, Action::KeepAlive { lease: LEASE }, took_us, reply);
    };
    // Two of three are late, so that half of them are.
    for round in 0..answers / 3 {
        let sent_us = SECOND + round * SECOND;
        renewed(sent_us, first_us);
        renewed(sent_us, first_us + SECOND / 10);
        renewed(sent_us, first_us + SECOND / 10);
    }
    assert_eq!(told.findings(), []);
    let answer = Some(Stretched { idle_ms, factor_percent });
    told.ledger.record_at(SECOND, &Evidence::LeasesAwaited { bound_ms: 30_000, answer });
    told.findings().into_iter().map(|finding| finding.class()).collect()
}

#[test]
fn renewals_are_answered_within_their_bound() {
    let enough = limits::STREAM_ANSWERS_MIN.next_multiple_of(3);
    assert_eq!(answered((enough, 1), 99, 100), [Class::Liveness]);
    assert_eq!(answered((enough, 1), 99, 120), [], "on a slower machine");
    assert_eq!(answered((enough, 1), 100, 100), []);
    assert_eq!(answered((enough - 3, 1), 99, 100), [], "too few to tell");
}

/// An election holds up all renewals of a round.
#[test]
fn renewals_that_wait_for_no_other_one_may_take_longer() {
    let enough = limits::STREAM_ANSWERS_MIN.next_multiple_of(3);
    assert_eq!(answered((enough, SECOND / 4), 100, 100), []);
    assert_eq!(answered((enough, SECOND / 4), 99, 100), [Class::Liveness]);
}

#[test]
fn long_streams_beside_a_crowd_are_held_to_the_same_bound() {
    let ledger = Ledger::new(&[Slot(1)]);
    let pulse = |median_us| {
        let (answers, bound) = (limits::STREAM_ANSWERS_MIN, Stretched { idle_ms: 100, factor_percent: 100 });
        let pulse = Evidence::Pulse { stream: LongStream::WatchProgress, answers, median_us, bound };
        ledger.judged(&pulse).len()
    };
    assert_eq!((pulse(100_000), pulse(100_100)), (0, 1));
}
