//! Every kind of line reads back as it was written, and small.

use super::*;
use crate::operation::{Compare, Effect, Expected, Keys, Shape};
use crate::record::Role;
use crate::report::sample;
use crate::verdict::Class;
use node_proto::control::{FenceAnswerResponse, Lease, StatusResponse};
use proptest::prelude::*;

const OP: OpId = OpId { client: 3, seq: 17 };

fn reads_back(evidence: &Evidence) -> String {
    let line = serde_json::to_string(evidence).unwrap();
    assert_eq!(&serde_json::from_str::<Evidence>(&line).unwrap(), evidence, "{line}");
    line
}

fn put(value: &[u8]) -> Change {
    Change::Put { key: b"p/1".to_vec(), value: value.to_vec(), create_revision: 4, version: 2, lease: -7 }
}

fn row(value: &[u8]) -> KeyState {
    KeyState {
        key: b"p/1".to_vec(),
        value: value.to_vec(),
        create_revision: 4,
        mod_revision: 9,
        version: 2,
        lease: i64::MAX,
    }
}

fn answer(kv: u8) -> FenceAnswerResponse {
    FenceAnswerResponse {
        missed: false,
        index: 90,
        term: 4,
        revision: 70,
        compact_revision: 3,
        kv: vec![kv; 32],
        lease: vec![2; 32],
        auth: vec![3; 32],
        membership: vec![4; 32],
        kv_rows: 12,
        leases: vec![Lease { id: 5, granted_ttl_seconds: 600 }],
    }
}

#[test]
fn every_kind_of_line_reads_back() {
    let keys = Keys { from: "a".into(), to: Some("b".into()) };
    let actions = [
        Action::Put { key: "p/1".into(), value: format!("{},3.17", "x".repeat(99)), lease: 4 },
        Action::Delete { keys: keys.clone() },
        Action::Txn {
            when: vec![Compare { key: "a".into(), mod_revision: u64::MAX }],
            then: vec![
                Effect::Put { key: "a".into(), value: "1,3.17".into() },
                Effect::Delete { keys: Keys::one("b") },
            ],
        },
        Action::Packed { shape: Shape::Deep(40), then: vec![Effect::Put { key: "a".into(), value: "x,3.17".into() }] },
        Action::Packed { shape: Shape::Empty, then: vec![] },
        Action::Grant { lease: -1, ttl_seconds: 5 },
        Action::Revoke { lease: 1 },
        Action::KeepAlive { lease: 7 },
        Action::Compact { revision: 5 },
        Action::Read { keys, revision: Some(4), serializable: true },
    ];
    for action in actions {
        let purpose = Some(Purpose { step: "block".into(), refusal: Expected::Sometimes });
        reads_back(&Evidence::Invoke { op: OP, endpoint: 2, action, purpose });
    }
    let replies = [
        Reply::Put,
        Reply::Deleted(3),
        Reply::Txn { succeeded: false },
        Reply::Granted,
        Reply::Revoked,
        Reply::Renewed { ttl_seconds: 2 },
        Reply::Compacted,
        Reply::Read(vec![row(b"\xff\x00"), row(b"~"), row(b"")]),
    ];
    for reply in replies {
        reads_back(&Evidence::Done { op: OP, revision: 8, term: 2, reply });
    }
    let slot = Slot(2);
    let at = "127.0.0.1:9".parse().unwrap();
    let run = sample::failing();
    let dead = DeadMember { engine: Some(Engine::Redb), engine_index: Some(9), ..DeadMember::default() };
    let recovery = Recovered {
        last_flushed_index: Some(1),
        engine_index: None,
        log_first: Some(0),
        log_last: Some(9),
        last_purged: None,
        scan_start: Some(2),
        verified: Some([2, 3]),
        replayed: None,
        complete: true,
        open_micros: 7,
        snapshot_installed: None,
    };
    let finding = Finding::of_class(Class::StateHash).in_cycle(4).at_member(2);
    let mut lines = vec![
        Evidence::History(Head {
            version: HISTORY_VERSION,
            cluster: 1,
            slots: vec![Slot(1), slot],
            scenario_digest: "ab".into(),
            plan_digest: "cd".into(),
            seed: u64::MAX,
            job: None,
        }),
        Evidence::Refused { op: OP, why: "no".into(), reason: None },
        Evidence::Refused {
            op: OP,
            why: "no".into(),
            reason: Some(Reason::Judged { code: "NotFound".into(), text: "etcdserver: no".into() }),
        },
        Evidence::Unknown { op: OP, why: "lost".into() },
        Evidence::Watch { slot, from: 2 },
        Evidence::WatchEnded { slot, why: "killed".into() },
        Evidence::Revision { revision: 9, slot, changes: vec![put(b"1,3.17"), Change::Delete { key: b"k".to_vec() }] },
        Evidence::Again { revision: 9, slot, mark: mark_of(&[put(b"1,3.17")]) },
        Evidence::Skipped { slot, compacted: 4 },
        Evidence::Cycle { cycle: 1, what: "kill all at time 3ms".into() },
        Evidence::Did { cycle: 1, did: Did::Arm, member: Some(2), what: None },
        Evidence::Place { slot, member: 2, engine: Engine::Rocksdb, peer: at, client: at, control: at },
        Evidence::MovedIn { cycle: 1, slot, member: 4, engine: Engine::Redb },
        Evidence::Killed { cycle: 1, member: 2, engine: Some(Engine::Redb) },
        Evidence::Mark { cycle: 1 },
        Evidence::LeasesAwaited { bound_ms: 30_000 },
        Evidence::Resumed { times: 2, after_cycle: 9 },
        Evidence::Reading { cycle: 1, member: 2, status: Marks::from(&StatusResponse::default()) },
        Evidence::Missed { cycle: 1, member: 2, index: 9, recovery: recovery.clone() },
        Evidence::Recovery { cycle: 1, member: 2, recovery },
        Evidence::LastRead { member: 2, revision: 9, rows: vec![row(b"1,3.17")] },
        Evidence::Told { finding: finding.clone() },
        Evidence::Finding { finding: finding.clone(), known: None },
        Evidence::Finding { finding, known: Some("etcd#13766".into()) },
        Evidence::CycleEnd { record: run.cycles[0].clone() },
        Evidence::End {
            interrupted: false,
            slots: run.slots.clone(),
            skipped_checks: vec!["last look: no".into()],
            load_ms: 9,
        },
    ];
    for look in [Look::Killed, Look::MigrateKilled, Look::Migrated { to: Engine::Redb, index: Some(4) }] {
        lines.push(Evidence::Inspected { cycle: 1, member: 2, look, applied_received: Some(3), dead: dead.clone() });
    }
    lines.iter().for_each(|line| drop(reads_back(line)));
    assert!(run.cycles[0].victims.iter().any(|victim| victim.role == Role::Leader || victim.role == Role::Follower));
}

#[test]
fn equal_answers_are_written_once_and_different_ones_apart() {
    let same: Vec<_> = (1..=3).map(|member| (member, answer(1))).collect();
    let line = reads_back(&Evidence::FenceAnswers { cycle: 1, answers: Answers::new(&same) });
    assert_eq!(line.matches("\"kv\"").count(), 1, "{line}");
    let mut odd = same;
    odd[1].1 = answer(9);
    let line = reads_back(&Evidence::FenceAnswers { cycle: 1, answers: Answers::new(&odd) });
    assert_eq!(line.matches("\"kv\"").count(), 2, "{line}");
}

proptest! {
    #[test]
    fn whatever_a_store_holds_reads_back(values: Vec<Vec<u8>>, key: Vec<u8>) {
        let changes: Vec<_> = values
            .iter()
            .map(|value| put(value))
            .chain([Change::Delete { key: key.clone() }])
            .collect();
        reads_back(&Evidence::Revision { revision: 3, slot: Slot(1), changes });
        let rows = values.iter().map(|value| KeyState { key: key.clone(), ..row(value) }).collect();
        reads_back(&Evidence::Done { op: OP, revision: 3, term: 1, reply: Reply::Read(rows) });
    }
}
