//! Fixed runs for the golden files: a pass that holds every kind of cycle, and a failure with text
//! that must be escaped.

use ninelives_evidence::member::{Engine, Role, Slot};
use ninelives_evidence::record::localisation::{
    Excerpt, ExcerptLine, FirstWrong, Localisation, WatermarksRow, WrongKey,
};
use ninelives_evidence::record::*;
use ninelives_evidence::verdict::findings::parts::{Anchor, Part, Says};
use ninelives_evidence::verdict::findings::{Lack, Replicas};
use ninelives_evidence::verdict::{Class, Finding, Verdict};

fn cycle(number: u32, victims: &[(u64, Role)], window: Option<(&str, u64)>, outcome: FaultOutcome) -> CycleRecord {
    let landed = outcome == FaultOutcome::Landed;
    let n = u64::from(number);
    let from_kill = |value| if landed { value } else { 0 };
    CycleRecord {
        cycle: number,
        cluster: 1,
        victims: victims.iter().map(|(member, role)| Victim { member: *member, role: *role }).collect(),
        planned: PlannedRecord {
            trigger: match window {
                Some((name, hit)) => {
                    format!("kill {} at {name} hit {hit}", victims.first().map_or("leader", |_| "follower#1"))
                }
                None => "kill all at index +400".to_owned(),
            },
            window: window.map(|(name, _)| name.to_owned()),
            hit: window.map(|(_, hit)| hit),
        },
        outcome,
        not_applicable: false,
        kills: KillsRecord {
            landed: from_kill(victims.len() as u64) as u32,
            by_engine: [(Engine::Rocksdb, from_kill(victims.len() as u64) as u32)].into(),
            ..KillsRecord::default()
        },
        lasting: Vec::new(),
        damage: None,
        terms_passed: 0,
        machine_percent: 100 + 5 * number,
        unforced_terms: victims.iter().all(|(_, role)| *role == Role::Follower).then_some(n / 3),
        upgraded: false,
        restored: false,
        recovery: RecoveryRecord {
            lost_entries: from_kill(40 * n),
            verified: from_kill(3 * n),
            replayed: from_kill(37 * n),
            behind: 0,
            persisted_before: (number > 1).then_some(100 * n),
            persisted_after: Some(100 * n + 80),
            snapshot_installed: number == 3,
            serving_ms: from_kill(90 + 10 * n),
            catch_up_ms: from_kill(20 + n),
        },
        fence_index: landed.then_some(100 * n + 99),
        findings: 0,
        duration_ms: 400 + 10 * n,
        phases: PhasesMs { kill: 60, inspect: 30, restart: 90 + 10 * n, catch_up: 20 + n, fence: 15, verify: 5 },
        proved_nothing: None,
    }
}

fn slot(slot: u64) -> SlotRecord {
    let (member_at_start, engine_at_start) = (slot, Engine::Rocksdb);
    // The third one was replaced.
    let (member_at_end, engine_at_end) = if slot == 3 { (4, Engine::Redb) } else { (slot, Engine::Rocksdb) };
    SlotRecord { cluster: 1, slot: Slot(slot), member_at_start, engine_at_start, member_at_end, engine_at_end }
}

fn binary(path: &str, digit: &str) -> BinaryId {
    BinaryId { path: path.to_owned(), sha256: digit.repeat(64), version: Some("0.1.0".to_owned()) }
}

/// A pass of six cycles: landed (window, all members, proved nothing), skipped, indeterminate.
pub fn run() -> RunSummary {
    use Role::{Follower, Leader};
    let mut cycles = vec![
        cycle(1, &[(2, Follower)], Some(("flush.completed", 2)), FaultOutcome::Landed),
        cycle(2, &[(1, Leader)], Some(("raft.fsync", 5)), FaultOutcome::Landed),
        cycle(3, &[(1, Follower), (2, Leader), (3, Follower)], None, FaultOutcome::Landed),
        cycle(4, &[(3, Follower)], Some(("flush.completed", 1)), FaultOutcome::Landed),
        cycle(
            5,
            &[],
            Some(("purge.between", 1)),
            FaultOutcome::Skipped { why: "window not passed within 5000 ms".to_owned() },
        ),
        cycle(
            6,
            &[(3, Follower)],
            Some(("index.renamed", 1)),
            FaultOutcome::Indeterminate { why: "exit status 9, but no stop was seen".to_owned() },
        ),
    ];
    cycles[3].proved_nothing = Some("nothing was lost or replayed".to_owned());
    RunSummary {
        schema_version: SCHEMA_VERSION,
        verdict: Verdict::Pass,
        findings: Vec::new(),
        known: Vec::new(),
        plan: PlanRecord {
            scenario: "sample".to_owned(),
            scenario_path: "scenarios/sample.toml".to_owned(),
            scenario_digest: "a".repeat(64),
            digest: "b".repeat(64),
            seed: 7,
            cycles: 6,
            quotas: Vec::new(),
        },
        cycles,
        cluster: ClusterRecord {
            clusters: 1,
            members: 3,
            backend: "rocksdb".to_owned(),
            slots: (1..=3).map(slot).collect(),
            sabotage: None,
        },
        fault_classes: vec!["kill".to_owned()],
        load: LoadRecord {
            acked_writes: 12_345,
            unknown_writes: 67,
            reads: 890,
            operations: Vec::new(),
            ran_ms: 30_000,
        },
        pace: Some(pace::PaceRecord {
            reference_floor_us: 40_000,
            launch_floor_us: 12_900,
            mean_floor_us: 48_100,
            factor_percent_min: 100,
            factor_percent_max: 310,
            factor_percent_mean: 120,
        }),
        log_replayed: Default::default(),
        crowd: None,
        hostile: None,
        strangers: None,
        leases: None,
        books: Vec::new(),
        localisation: None,
        missing_sync: None,
        skipped_checks: Vec::new(),
        interrupted: false,
        resumed: Vec::new(),
        started_utc: "2026-01-02T03:04:05Z".to_owned(),
        elapsed_ms: 3_661_000,
        children_cpu_ms: None,
        provenance: ProvenanceRecord {
            harness: binary("/opt/ninelives", "c"),
            node: binary("/opt/node-under-test", "d"),
            inspector: Some(binary("/opt/node-under-test", "d")),
            kernel: "Linux 6.1.0 x86_64".to_owned(),
            filesystem: "ext4".to_owned(),
            git_revision: Some("0123456789abcdef0123456789abcdef01234567".to_owned()),
            environment: EnvironmentRecord::default(),
        },
        repro: "ninelives run scenarios/sample.toml --seed 7".to_owned(),
    }
}

/// The same run, cut short by a violation whose words try to break out of every format.
pub fn failing() -> RunSummary {
    let mut run = run();
    run.verdict = Verdict::Violation;
    run.plan.scenario = "it's <b>\"bold\"</b> & more".to_owned();
    run.cycles[2].findings = 2;
    run.cycles.truncate(3);
    run.cluster.sabotage = Some("hash-constant".to_owned());
    run.localisation = Some(localisation());
    run.skipped_checks = vec!["watch: no watch was open".to_owned()];
    run.findings = vec![
        disagree(2, "<script>alert(1)</script>"),
        disagree(3, "]]> & \"c0ffee\""),
        Finding::new(Lack::Interrupted { done: 3, planned: 6 }),
    ];
    run
}

/// `member` has another kv section than the others.
fn disagree(member: u64, value: &str) -> Finding {
    let others = (1..=3).filter(|one| *one != member).collect();
    let says = vec![
        Says { members: others, value: "0b5e55ed (9 rows)".to_owned() },
        Says { members: vec![member], value: value.to_owned() },
    ];
    let what = Replicas::ReplicasDisagree { at: Anchor::Fence { index: 5200 }, part: Part::KvSection, says };
    Finding::new(what).in_cycle(3).at_member(member)
}

/// A member that lost a row in its replay, and another that is down.
pub fn localisation() -> Localisation {
    let reading = |when: &str, numbers: [Option<u64>; 6], remark: Option<&str>| WatermarksRow {
        member: 2,
        when: when.to_owned(),
        persisted: numbers[0],
        flushed: numbers[1],
        applied: numbers[2],
        committed: numbers[3],
        log_last: numbers[4],
        purged: numbers[5],
        remark: remark.map(str::to_owned),
    };
    let line = |index: u64, does: &str, revision: Option<u64>| ExcerptLine {
        index,
        term: 7,
        does: does.to_owned(),
        revision,
        here: index == 5123,
    };
    Localisation {
        class: Class::StateHash,
        cycle: Some(3),
        cluster: None,
        sentences: vec![
            "n2 is wrong, measured by the raft logs; n1 is right.".to_owned(),
            "The first wrong revision of n2 is 4711, which is made by raft index 5123, term 7: delete <b>k/7</b>."
                .to_owned(),
        ],
        wrong: vec![2],
        first: Some(FirstWrong {
            member: 2,
            revision: 4711,
            index: Some(5123),
            term: Some(7),
            operation: Some("3.17".to_owned()),
            does: Some("delete <b>k/7</b>".to_owned()),
        }),
        keys: vec![WrongKey {
            key: "<b>k/7</b>".to_owned(),
            expected: "delete <b>k/7</b>".to_owned(),
            found: vec![(vec![1], "delete <b>k/7</b>".to_owned()), (vec![2], "no row".to_owned())],
        }],
        watermarks: vec![
            reading("before the kill", [Some(5100), Some(5110), Some(5140), Some(5140), Some(5141), Some(4700)], None),
            reading(
                "dead, from its directory",
                [Some(5100), Some(5110), None, Some(5139), Some(5141), Some(4700)],
                Some("heard: 5140"),
            ),
            reading("at the fence", [None, None, Some(5200), None, None, None], Some("revision 4780")),
        ],
        excerpt: Some(Excerpt {
            member: 2,
            entries: vec![
                line(5122, "blank, the first entry of a new leader", None),
                line(5123, "delete <b>k/7</b>", Some(4711)),
                line(5124, &"put k/8 = …,4.2, ".repeat(8), Some(4712)),
            ],
        }),
        unknown: vec!["what n3 holds, because it does not answer: n3 is down".to_owned()],
    }
}
