//! Every kind of line reads back as it was written, and small.

use super::*;
use crate::damage::{DamageKind, FileClass};
use crate::ended::Ended;
use crate::evidence::Served;
use crate::operation::{Compare, Effect, Expected, Keys, Shape};
use crate::power::{LostData, LostName, NameChange};
use crate::record::RunSummary;
use crate::verdict::Class;
use proptest::prelude::*;
use strum::IntoEnumIterator;

const OP: OpId = OpId { client: 3, seq: 17 };

fn reads_back(evidence: &Evidence) -> String {
    let line = serde_json::to_string(evidence).unwrap();
    assert_eq!(&read_line::<Evidence>(line.as_bytes()).unwrap(), evidence, "{line}");
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

fn answer(kv: u8) -> FenceAnswer {
    FenceAnswer {
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

/// Pieces of evidence of `kind`. A new variant does not compile before it has a sample here.
fn samples(kind: EvidenceKind) -> Vec<Evidence> {
    use EvidenceKind as K;
    let (slot, cycle, member) = (Slot(2), 1, 2);
    let at = "127.0.0.1:9".parse().unwrap();
    let run: RunSummary = serde_json::from_str(&ninelives_golden::stored("verdict.json")).unwrap();
    let finding = || Finding::of_class(Class::StateHash).in_cycle(4).at_member(2);
    let recovery = || Recovered {
        last_flushed_index: Some(1),
        log_first: Some(0),
        log_last: Some(9),
        scan_start: Some(2),
        verified: Some(IndexRange { first: 2, last: 3 }),
        complete: true,
        open_micros: 7,
        ..Recovered::default()
    };
    match kind {
        K::History => vec![Evidence::History(Head {
            version: HISTORY_VERSION,
            cluster: 1,
            slots: vec![Slot(1), slot],
            scenario_digest: "ab".into(),
            plan_digest: "cd".into(),
            seed: u64::MAX,
            job: Some(JobRecord {
                node: "/node".into(),
                inspector: None,
                sabotage: Some("torn-index-file".into()),
                keep: true,
                sweep: false,
                quotas: run.plan.quotas.clone(),
                repro: "ninelives run".into(),
            }),
        })],
        K::Invoke => {
            let purpose = || Some(Purpose { step: "block".into(), refusal: Expected::Sometimes });
            let invoke = |action| Evidence::Invoke { op: OP, endpoint: 2, action, purpose: purpose() };
            actions().into_iter().map(invoke).collect()
        }
        K::Done => {
            let done = |reply| Evidence::Done { op: OP, revision: 8, term: 2, reply };
            replies().into_iter().map(done).collect()
        }
        K::Refused => {
            let judged = Reason::Judged { code: "NotFound".into(), text: "etcdserver: no".into() };
            let reasons = [None, Some(judged), Some(Reason::NotSent), Some(Reason::NotSendable)];
            reasons.into_iter().map(|reason| Evidence::Refused { op: OP, why: "no".into(), reason }).collect()
        }
        K::Unknown => vec![Evidence::Unknown { op: OP, why: "lost".into() }],
        K::Watch => vec![Evidence::Watch { slot, from: 2 }],
        K::WatchEnded => vec![Evidence::WatchEnded { slot, why: "killed".into() }],
        K::Revision => {
            let changes = vec![put(b"1,3.17"), Change::Delete { key: b"k".to_vec() }];
            vec![Evidence::Revision { revision: 9, slot, changes }]
        }
        K::Again => vec![Evidence::Again { revision: 9, slot, digest: digest_of_changes(&[put(b"1,3.17")]) }],
        K::Skipped => vec![Evidence::Skipped { slot, compacted: 4 }],
        K::Cycle => vec![Evidence::Cycle { cycle, what: "kill all at time 3ms".into() }],
        K::Did => vec![
            Evidence::Did { cycle, did: Did::Arm, member: Some(2), what: None },
            Evidence::Did { cycle, did: Did::End, member: None, what: Some("pause".into()) },
        ],
        K::Place => {
            vec![Evidence::Place { slot, member, engine: Engine::Rocksdb, peer: at, client: at, control: at }]
        }
        K::MovedIn => vec![Evidence::MovedIn { cycle, slot, member: 4, engine: Engine::Redb }],
        K::Saving => vec![Evidence::Saving { cycle, member }],
        K::Restored => {
            let restored = |index| {
                let founders = vec![(slot, 4, Engine::Redb)];
                Evidence::Restored { cycle, revision: 70, index, founders }
            };
            vec![restored(Some(1)), restored(None)]
        }
        K::Reading => {
            vec![Evidence::Reading {
                cycle,
                member,
                status: MemberWatermarks { flushed: Some(4), ..MemberWatermarks::default() },
            }]
        }
        K::Killed => vec![
            Evidence::Killed { cycle, member, engine: Some(Engine::Redb) },
            Evidence::Killed { cycle, member, engine: None },
        ],
        K::EndedByDisk => vec![Evidence::EndedByDisk { cycle, member, ended: Ended::Exited(74) }],
        K::PowerLost => {
            let (from, path) = (Some("last-flushed-index.tmp".into()), "last-flushed-index".into());
            let name = LostName { operation: 4, change: NameChange::Rename, path, from, synced: None };
            let (path, synced) = ("raft-log.redb".into(), Some(2));
            let data = LostData { operation: 3, path, pages: 2, torn: 1, size: Some(4096), synced };
            let lost = Lost { operations: 9, names: vec![name], files: vec![data] };
            vec![
                Evidence::PowerLost { cycle, member, keep_percent: 0, lost },
                Evidence::PowerLost { cycle, member, keep_percent: 50, lost: Lost::default() },
            ]
        }
        K::Damaged => vec![Evidence::Damaged {
            cycle,
            member,
            damage: Damage {
                class: FileClass::Sst,
                kind: DamageKind::BitFlip,
                file: "member/snap/db/000012.sst".into(),
                offset: 4711,
                bytes: 1,
                was: "0a".into(),
                is: "0b".into(),
            },
        }],
        K::RefusedDamage => {
            let refusal = Refusal { ended: Ended::Exited(1), served: false, words: "cannot open".into() };
            vec![Evidence::RefusedDamage { cycle, member, refusal }]
        }
        K::Inspected => {
            let dead = || DeadMember { engine: Some(Engine::Redb), engine_index: Some(9), ..DeadMember::default() };
            let looks = [Look::Killed, Look::MigrateKilled, Look::Migrated { to: Engine::Redb, index: Some(4) }];
            let inspected = |look| Evidence::Inspected { cycle, member, look, applied_received: Some(3), dead: dead() };
            looks.into_iter().map(inspected).collect()
        }
        K::Stranger => [Vec::new(), vec!["p/1".into()]]
            .map(|foreign| {
                let seen = StrangerSeen { founded: u64::MAX, cluster: 7, keys: 2, foreign };
                Evidence::Stranger { cycle, slot, seen }
            })
            .into(),
        K::Unlike => vec![Evidence::Unlike { cycle, member, ours: u64::MAX, cluster: 7, leader: 0 }],
        K::RaftLog => {
            let log = r#"{"cycle":4,"member":2,"first":10,"last":61,"committed":60,"entries":[{"i":60,"t":2,"d":"0123456789abcdef","s":"blank"}]}"#;
            vec![Evidence::RaftLog { log: serde_json::from_str(log).unwrap() }]
        }
        K::Baseline => vec![Evidence::Baseline { cycle }],
        K::Missed => vec![Evidence::Missed { cycle, member, index: 9, recovery: recovery() }],
        K::FenceAnswers => {
            let same: Vec<_> = (1..=3).map(|member| (member, answer(1))).collect();
            vec![Evidence::FenceAnswers { cycle, answers: Answers::new(&same) }]
        }
        K::KvFence => {
            let shown = |member| KvAnswer {
                member,
                version: "3.5.1".into(),
                applied: 90,
                compact_revision: 3,
                hash_kv: u32::MAX,
                sha256: [7; 32],
                rows: 12,
                leases: vec![-1, 5],
            };
            let answers = vec![shown(1), shown(2)];
            vec![Evidence::KvFence { cycle, index: 90, revision: 70, reading: 2, etcd: true, answers }]
        }
        K::Readings => {
            let readings = vec![Reading { life: 1, applied: 9, revision: 3, ..Reading::default() }];
            vec![Evidence::Readings { cycle, member, readings }]
        }
        K::Leaderless => {
            let seen = |ended, named| Leaderless {
                cycle,
                fault: "isolate leader for 9000ms".into(),
                member,
                lasted_ms: 9_000,
                ended,
                named,
                machine_percent: 150,
            };
            let ended = WatchEnd { after_ms: 3_100, by_error: true, why: "Unavailable: no leader".into() };
            [seen(Some(ended), Some(LeaderNamed { after_ms: 8_500, leader: 0 })), seen(None, None)]
                .map(|leaderless| Evidence::Leaderless { leaderless, bound_ms: 6_000 })
                .into()
        }
        K::Cut => {
            let cut = |wrote_ms| Cut {
                cycle,
                fault: "cut leader for 900ms".into(),
                majority: vec![1, 3],
                lasted_ms: 900,
                wrote_ms,
                machine_percent: 205,
            };
            [Some(40), None].map(|wrote_ms| Evidence::Cut { cut: cut(wrote_ms), bound_ms: 800 }).into()
        }
        K::Healed => {
            let served = |answer| Served { member, ms: 3, answer };
            let served = vec![served(Ok(70)), served(Err("no leader".into()))];
            let healing = Healing { cycle, caught_up_ms: 9, fence_ms: 4, revision: 70, served };
            vec![Evidence::Healed {
                healing,
                bounds: HealingBounds { catch_up: 100, fence: 50, read: 20, machine_percent: 205 },
            }]
        }
        K::LeasesAwaited => [None, Some(Stretched { idle_ms: 100, factor_percent: 150 })]
            .map(|answer| Evidence::LeasesAwaited { bound_ms: 30_000, answer })
            .into(),
        K::Cost => {
            let cost = Cost { requests: 40, asked: 2, cpu_ms: vec![(1, 30), (2, 800), (3, 20)] };
            vec![Evidence::Cost { cost, percent_max: 50 }]
        }
        K::Pulse => {
            let (stream, bound) = (LongStream::KeepAlives, Stretched { idle_ms: 100, factor_percent: 150 });
            vec![Evidence::Pulse { stream, answers: 1_000, median_us: 4_200, bound }]
        }
        K::FreshWatch => {
            let asked = Resumption { from: 4, keys: Some(Keys::one("p/")), upto: 9, half_closed: true };
            let revisions = vec![(4, digest_of_changes(&[put(b"x,3.17")]))];
            let heard = Heard { revisions, compacted: Some(3), ended: Some("compacted".into()) };
            vec![Evidence::FreshWatch { cycle, member, asked, heard }]
        }
        K::Recovery => vec![Evidence::Recovery { cycle, member, recovery: recovery() }],
        K::LastRead => vec![Evidence::LastRead { member, revision: 9, rows: vec![row(b"1,3.17")] }],
        K::Told => vec![Evidence::Told { finding: finding() }],
        K::Finding => {
            [None, Some("etcd#13766".into())].map(|known| Evidence::Finding { finding: finding(), known }).into()
        }
        K::CycleEnd => run.cycles.iter().map(|record| Evidence::CycleEnd { record: record.clone() }).collect(),
        K::Resumed => vec![Evidence::Resumed { times: 2, after_cycle: 9 }],
        K::End => vec![Evidence::End(End {
            interrupted: false,
            slots: run.cluster.slots.clone(),
            skipped_checks: vec!["last read: no".into()],
            load_ms: 9,
        })],
    }
}

fn actions() -> Vec<Action> {
    let keys = Keys { from: "a".into(), to: Some("b".into()) };
    let put = || Effect::Put { key: "a".into(), value: "x,3.17".into() };
    vec![
        Action::Put { key: "p/1".into(), value: format!("{},3.17", "x".repeat(99)), lease: 4 },
        Action::Delete { keys: keys.clone() },
        Action::Txn {
            when: vec![Compare { key: "a".into(), mod_revision: u64::MAX }],
            then: vec![put(), Effect::Delete { keys: Keys::one("b") }],
        },
        Action::Packed { shape: Shape::Deep(40), then: vec![put()] },
        Action::Packed { shape: Shape::Empty, then: vec![] },
        Action::Check { when: vec![Compare { key: "a".into(), mod_revision: 0 }], depth: 2 },
        Action::Grant { lease: -1, ttl_seconds: 5 },
        Action::Revoke { lease: 1 },
        Action::KeepAlive { lease: 7 },
        Action::Compact { revision: 5 },
        Action::Defragment,
        Action::Read { keys, revision: Some(4), serializable: true },
    ]
}

fn replies() -> Vec<Reply> {
    vec![
        Reply::Put,
        Reply::Deleted(3),
        Reply::Txn { succeeded: false },
        Reply::Granted,
        Reply::Revoked,
        Reply::Renewed { ttl_seconds: 2 },
        Reply::Compacted,
        Reply::Defragmented,
        Reply::Read(vec![row(b"\xff\x00"), row(b"~"), row(b"")]),
    ]
}

#[test]
fn every_kind_of_line_reads_back() {
    for kind in EvidenceKind::iter() {
        let samples = samples(kind);
        assert!(!samples.is_empty(), "{kind}");
        for evidence in samples {
            assert_eq!(evidence.kind(), kind);
            let line = reads_back(&evidence);
            assert!(line.starts_with(&format!(r#"{{"event":"{kind}""#)), "{kind}: {line}");
        }
    }
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
