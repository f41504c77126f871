//! Tests of the floors, on runs that are made up.

use super::*;
use crate::report::sample;
use ninelives_evidence::member::{Engine, Role};
use ninelives_evidence::record::{FaultOutcome, LastingKind, LastingRecord, Victim};

pub(in crate::run) fn run(landed: usize, skipped: usize, idle: usize) -> RunSummary {
    let mut run = sample::run();
    let mut cycle = run.cycles[0].clone();
    cycle.planned.window = None;
    cycle.outcome = FaultOutcome::Landed;
    cycle.proved_nothing = None;
    run.cycles = vec![cycle.clone(); landed];
    cycle.proved_nothing = Some("nothing was lost".to_owned());
    run.cycles.extend(vec![cycle.clone(); idle]);
    cycle.outcome = FaultOutcome::Skipped { why: "not reached".to_owned() };
    run.cycles.extend(vec![cycle; skipped]);
    run.load.acked_writes = 100_000;
    run
}

/// The shortcomings of a run whose replicas agreed at every fence.
fn lacking(floors: &Floors, run: &RunSummary) -> Vec<Finding> {
    super::lacking(floors, run, 0)
}

#[test]
fn floors_are_inclusive() {
    let floors = Floors {
        landed_percent_min: 95,
        bit_percent_min: 50,
        acked_writes_per_cycle_min: 20,
        writes_per_second_min: 0,
        carried_out_percent_min: 50,
    };
    assert_eq!(lacking(&floors, &run(95, 5, 0)), []);
    assert!(lacking(&floors, &run(94, 6, 0))[0].sentence().contains("94 of 100"));
    assert_eq!(lacking(&floors, &run(50, 0, 50)), []);
    assert!(lacking(&floors, &run(49, 0, 51))[0].sentence().contains("49 of 100"));
}

#[test]
fn many_elections_that_nothing_forced_are_too_many() {
    let floors = Floors::default();
    let mut run = run(40, 0, 0);
    run.cycles.iter_mut().for_each(|cycle| cycle.unforced_terms = Some(0));
    run.cycles[7].unforced_terms = Some(10);
    assert_eq!(lacking(&floors, &run), []);
    run.cycles[8].unforced_terms = Some(1);
    assert!(lacking(&floors, &run)[0].sentence().contains("at most 10 elections in the 40 cycles"));
    let mut busy = run.clone();
    busy.cycles.iter_mut().for_each(|cycle| cycle.machine_percent = 150);
    assert_eq!(lacking(&floors, &busy), [], "15 are not too many on a machine that is half as fast again");
    run.cycles[..21].iter_mut().for_each(|cycle| cycle.unforced_terms = None);
    run.cycles[22].unforced_terms = Some(19);
    assert_eq!(lacking(&floors, &run), [], "19 cycles are too few to judge by");
}

#[test]
fn an_unmet_quota_names_its_cell() {
    let floors = Floors { landed_percent_min: 0, ..Floors::default() };
    let mut run = run(50, 0, 0);
    for cycle in &mut run.cycles[..2] {
        cycle.planned.window = Some("purge.between".to_owned());
        cycle.victims = vec![Victim { member: 1, role: Role::Leader }];
    }
    let quota = |role, kills| QuotaRecord { window: "purge.between".to_owned(), role, kills };
    run.plan.quotas = vec![quota(Role::Leader, 2)];
    assert_eq!(lacking(&floors, &run), []);
    run.plan.quotas = vec![quota(Role::Leader, 3), quota(Role::Follower, 1)];
    let sentence = lacking(&floors, &run)[0].sentence();
    assert!(
        sentence.ends_with("found 2 unmet: purge.between × leader: 2 of 3; purge.between × follower: 0 of 1"),
        "{sentence}"
    );
}

#[test]
fn a_window_planned_three_times_has_to_be_reached_once() {
    let floors = Floors { landed_percent_min: 0, ..Floors::default() };
    let mut missed = run(50, 3, 0);
    for cycle in &mut missed.cycles[50..] {
        cycle.planned.window = Some("purge.between".to_owned());
    }
    assert!(lacking(&floors, &missed)[0].sentence().contains("purge.between, planned 3 times"));
    missed.cycles[52].outcome = FaultOutcome::Landed;
    assert_eq!(lacking(&floors, &missed), []);
    missed.cycles.pop();
    assert_eq!(lacking(&floors, &missed), [], "twice may be chance");
}

#[test]
fn a_snapshot_alone_did_not_bite() {
    let mut run = run(10, 0, 0);
    for cycle in &mut run.cycles[..6] {
        (cycle.recovery.snapshot_installed, cycle.recovery.lost_entries, cycle.recovery.replayed) = (true, 0, 0);
    }
    assert!(lacking(&Floors::default(), &run)[0].sentence().contains("4 of 10"));
    run.cycles[0].recovery.lost_entries = 1;
    assert_eq!(lacking(&Floors::default(), &run), []);
}

pub(in crate::run) fn pause() -> LastingRecord {
    LastingRecord::planned("pause leader for 9ms at time 0ms".to_owned(), LastingKind::Pause)
}

#[test]
fn a_read_that_was_to_fail_three_times_has_to_be_asked_for_once() {
    let mut run = run(3, 0, 0);
    let read = LastingRecord { kind: LastingKind::FailRead, operation: Some("sst.read".to_owned()), ..pause() };
    run.cycles.iter_mut().for_each(|cycle| cycle.lasting = vec![read.clone()]);
    assert!(lacking(&Floors::default(), &run)[0].sentence().contains("fail sst.read, planned 3 times"));
    run.cycles[1].lasting[0].met = 1;
    assert_eq!(lacking(&Floors::default(), &run), []);
    (run.cycles[1].lasting[0].met, run.cycles[2].lasting[0].skipped) = (0, Some("n/a on redb".to_owned()));
    assert_eq!(lacking(&Floors::default(), &run), [], "twice may be chance");
}

fn on_redb(cycle: &mut CycleRecord) {
    cycle.kills.by_engine = [(Engine::Redb, 1)].into();
}

#[test]
fn where_no_rocksdb_member_died_the_bite_is_not_judged() {
    let mut run = run(10, 0, 40);
    assert!(lacking(&Floors::default(), &run)[0].sentence().contains("10 of 50"));
    assert!(not_applicable(&run).is_empty());
    run.cycles[10..].iter_mut().for_each(on_redb);
    assert_eq!(lacking(&Floors::default(), &run), [], "10 of 10");
    assert!(not_applicable(&run).is_empty());
    run.cycles.iter_mut().for_each(on_redb);
    assert_eq!(lacking(&Floors::default(), &run), []);
    let skipped = not_applicable(&run);
    assert!(skipped.len() == 1 && skipped[0].starts_with("floors.bit_percent_min: n/a: "), "{skipped:?}");
}

#[test]
fn a_handful_of_kills_is_too_few_to_judge_the_bite_by() {
    let (few, enough) = (run(0, 0, 9), run(0, 0, 10));
    assert_eq!(lacking(&Floors::default(), &few), []);
    assert_eq!(
        not_applicable(&few),
        [
            "floors.bit_percent_min: n/a: a kill could take something away in 9 cycles, and with fewer than 10 chance decides"
        ]
    );
    assert!(lacking(&Floors::default(), &enough)[0].sentence().contains("found 0 of 10"));
    assert!(not_applicable(&enough).is_empty());
}

#[test]
fn a_server_that_had_nothing_to_catch_up_with_was_not_bitten() {
    let mut run = run(10, 0, 0);
    run.cluster.slots.truncate(1);
    run.cluster.slots[0].engine_at_start = Engine::Opaque;
    for (nth, cycle) in (1..).zip(&mut run.cycles) {
        cycle.kills.by_engine = [(Engine::Opaque, 1)].into();
        (cycle.recovery.lost_entries, cycle.recovery.replayed, cycle.recovery.behind) = (0, 0, 7);
        cycle.proved_nothing = (nth > 4).then(|| "nothing was written between kill and restart".to_owned());
    }
    assert!(lacking(&Floors::default(), &run)[0].sentence().contains("catch up with, found 4 of 10"));
    run.cycles[4].proved_nothing = None;
    assert_eq!(lacking(&Floors::default(), &run), []);
    assert!(not_applicable(&run).is_empty());
}

#[test]
fn a_step_that_does_not_exist_on_the_victim_eats_no_floor() {
    let mut run = run(95, 15, 0);
    assert!(lacking(&Floors::default(), &run)[0].sentence().contains("95 of 110"));
    for cycle in &mut run.cycles[95..105] {
        (cycle.not_applicable, cycle.planned.window) = (true, Some("flush.begin".to_owned()));
    }
    assert_eq!(lacking(&Floors::default(), &run), []);
}

#[test]
fn a_fault_that_a_known_finding_forestalled_eats_no_floor() {
    let mut run = run(11, 1, 0);
    assert!(lacking(&Floors::default(), &run)[0].sentence().contains("11 of 12"));
    run.cycles[11].fence_index = None;
    assert_eq!(lacking(&Floors::default(), &run), []);
    run.cycles[11].findings = 1;
    assert!(lacking(&Floors::default(), &run)[0].sentence().contains("11 of 12"), "a new finding ended it");
}

#[test]
fn a_run_that_is_nothing_but_a_known_bug_is_worth_nothing() {
    let mut run = run(10, 0, 0);
    assert_eq!(unverified(&run, 0), [""; 0]);
    run.cycles[..5].iter_mut().for_each(|cycle| cycle.fence_index = None);
    assert_eq!(lacking(&Floors::default(), &run), []);
    assert!(unverified(&run, 0)[0].contains("5 of 10 cycles"));
    run.cycles[5].fence_index = None;
    assert!(lacking(&Floors::default(), &run)[0].sentence().contains("found 4 of 10"));
}

#[test]
fn replicas_that_are_known_to_disagree_verify_nothing() {
    let run = run(10, 0, 0);
    assert_eq!(super::lacking(&Floors::default(), &run, 5), []);
    assert!(unverified(&run, 5)[0].contains("the state of 5 of 10 cycles"));
    assert!(super::lacking(&Floors::default(), &run, 6)[0].sentence().contains("found 4 of 10"));
    assert!(super::lacking(&Floors::default(), &run, 11)[0].sentence().contains("found 0 of 10"), "a cycle run again");
}

fn kind(step: &str, done: u64, refused: u64, expected: u64, unknown: u64) -> StepRecord {
    let reasons = if refused > 0 { [("InvalidArgument: no".to_owned(), refused)].into() } else { BTreeMap::new() };
    let (step, action) = (step.to_owned(), "txn".to_owned());
    StepRecord { step, action, done, refused, expected, unknown, reasons, ..StepRecord::default() }
}

#[test]
fn a_kind_of_step_that_is_refused_proves_nothing() {
    let lacking_with = |operations: Vec<StepRecord>, percent| {
        let floors = Floors { carried_out_percent_min: percent, ..Floors::default() };
        let mut run = run(50, 0, 0);
        run.load.operations = operations;
        lacking(&floors, &run).into_iter().map(|finding| finding.sentence()).collect::<Vec<_>>()
    };
    let put = || kind("put", 9_000, 10, 0, 5);
    assert_eq!(lacking_with(vec![put(), kind("block", 500, 500, 0, 9)], 50), [""; 0], "the floor is inclusive");
    let sentences = lacking_with(vec![put(), kind("block", 499, 501, 0, 9)], 50);
    assert_eq!(sentences.len(), 1);
    let words = "\"block txn\" to be carried out (`floors.carried_out_percent_min`), found 499 of 1000, and 501 refused: \
                 InvalidArgument: no";
    assert!(sentences[0].contains(words), "{sentences:?}");
    assert_eq!(lacking_with(vec![put(), kind("block", 499, 501, 0, 9)], 49), [""; 0], "the scenario's own floor");
    assert_eq!(lacking_with(vec![put(), kind("block", 0, 19, 0, 0)], 50), [""; 0], "too few to judge");
    assert_eq!(lacking_with(vec![kind("a", 9, 19, 0, 0), kind("b", 0, 19, 0, 0)], 50).len(), 2, "a, and all");
}

#[test]
fn what_may_be_refused_has_to_be_carried_out_at_times_and_what_must_be_has_not() {
    let sentences = |record: StepRecord| refused(&Floors::default(), &[record]);
    assert_eq!(sentences(kind("read-old", 1, 0, 900, 0)), []);
    assert!(
        sentences(kind("read-old", 0, 0, 900, 0))[0]
            .to_string()
            .contains("found never: 0 without an answer, 900 refused")
    );
    assert_eq!(sentences(StepRecord { always_refused: true, ..kind("beyond", 0, 0, 900, 0) }), []);
    assert!(sentences(kind("put", 0, 0, 0, 40))[0].to_string().contains("40 without an answer"));
}

#[test]
fn a_load_below_its_floor_proves_nothing() {
    let floor = |writes_per_second_min| Floors { writes_per_second_min, ..Floors::default() };
    let mut run = run(50, 0, 0);
    run.load.ran_ms = 200_000;
    assert_eq!(lacking(&floor(500), &run), []);
    let sentence = lacking(&floor(501), &run)[0].sentence();
    assert!(sentence.contains("at least 501 ") && sentence.contains("found 500: 100000 in 200000 ms"), "{sentence}");
    run.load.ran_ms = 0;
    assert_eq!(lacking(&floor(0), &run), [], "no floor");
    assert!(lacking(&floor(1), &run)[0].sentence().contains("found 0"), "a rate that is not known reaches no floor");
}

#[test]
fn an_idle_run_is_never_worth_a_pass() {
    let mut idle = run(10, 0, 0);
    idle.load.acked_writes = 199;
    assert!(lacking(&Floors::default(), &idle)[0].sentence().contains("199"));
    assert!(!lacking(&Floors::default(), &run(0, 0, 0)).is_empty());
}
