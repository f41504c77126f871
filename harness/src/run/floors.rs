//! The judgement whether a run without findings proved anything: each floor that was not reached is
//! a finding.

use crate::report;
use crate::report::worth::{BIT_FLOOR, Worth};
use crate::scenario::Floors;
use ninelives_evidence::limits;
use ninelives_evidence::record::operations::{self, StepRecord};
use ninelives_evidence::record::{CycleRecord, LastingKind, LastingRecord, LeasesJudged, QuotaRecord, RunSummary};
use ninelives_evidence::verdict::Finding;
use ninelives_evidence::verdict::findings::Lack;
use ninelives_evidence::verdict::findings::parts::Unmet;
use std::collections::{BTreeMap, BTreeSet};

/// The shortcomings that keep the run from being worth a pass; empty: it has none. `apart`: cycles
/// at whose fence replicas disagreed, as is known.
pub(super) fn lacking(floors: &Floors, run: &RunSummary, apart: u64) -> Vec<Finding> {
    let cycles = run.cycles.len() as u64;
    let landed = run.landed() as u64;
    let planned = run.cycles.iter().filter(|cycle| could_land(cycle)).count() as u64;
    let judged = run.cycles.iter().filter(|cycle| judged_for_bite(cycle)).count() as u64;
    let bit = run.cycles.iter().filter(|cycle| bit(cycle)).count() as u64;
    let mut lacks = Vec::new();
    if cycles == 0 {
        lacks.push(Lack::NoCycle {});
    }
    let fenced = run.cycles.iter().filter(|cycle| cycle.fence_index.is_some()).count() as u64;
    let verified = fenced.saturating_sub(apart);
    if verified * 100 < cycles * u64::from(limits::VERIFIED_PERCENT_MIN) {
        lacks.push(Lack::TooFewVerified { percent_min: limits::VERIFIED_PERCENT_MIN, verified, cycles });
    }
    if landed * 100 < planned * u64::from(floors.landed_percent_min) {
        lacks.push(Lack::TooFewLanded { percent_min: floors.landed_percent_min, landed, planned });
    }
    if judged >= limits::BIT_JUDGED_MIN && bit * 100 < judged * u64::from(floors.bit_percent_min) {
        let percent_min = floors.bit_percent_min;
        lacks.push(if run.is_opaque() {
            Lack::TooFewToCatchUp { percent_min, bit, judged }
        } else {
            Lack::TooFewBit { percent_min, bit, judged }
        });
    }
    let ((damaged, planned), percent_min) = (run.damages(), limits::DAMAGED_PERCENT_MIN);
    if damaged * 100 < planned * u64::from(percent_min) {
        lacks.push(Lack::TooFewDamaged { percent_min, damaged, planned });
    }
    let writes_min = floors.acked_writes_per_cycle_min * cycles;
    let writes = run.load.acked_writes;
    if writes < writes_min {
        lacks.push(Lack::TooFewWrites { writes_min, cycles, writes });
    }
    let (per_second_min, per_second) = (floors.writes_per_second_min, run.writes_per_second().unwrap_or(0));
    if per_second < per_second_min {
        lacks.push(Lack::TooSlow { per_second_min, per_second, writes, load_ms: run.load.ran_ms });
    }
    lacks.extend(run.leases.and_then(unjudged_leases));
    lacks.extend(refused(floors, &run.load.operations));
    for (window, planned) in never_reached(&run.cycles) {
        lacks.push(Lack::WindowNeverReached { window: window.to_owned(), planned });
    }
    for (operation, planned) in never_asked(&run.cycles) {
        lacks.push(Lack::NeverAsked { operation: operation.to_owned(), planned });
    }
    lacks.extend(unmet_quotas(run));
    lacks.extend(restless(run));
    lacks.into_iter().map(Finding::new).collect()
}

/// Elections that no fault forced, if they are many. The machine causes one now and then, because
/// heartbeats are some tens of milliseconds apart. Many do not prove a fault of the members, but
/// they make the run worth little.
fn restless(run: &RunSummary) -> Option<Lack> {
    let Worth { quiet_cycles, unforced_terms, .. } = Worth::of(run);
    // A busy machine delays heartbeats, and members cannot prevent that: the bound follows the pace
    // of the cycles that count.
    let quiet = run.cycles.iter().filter(|cycle| cycle.unforced_terms.is_some());
    let factor = quiet.map(|cycle| u64::from(cycle.machine_percent)).sum::<u64>() / u64::from(quiet_cycles.max(1));
    let percent_max = limits::UNFORCED_TERMS_PERCENT_MAX;
    let max = u64::from(quiet_cycles) * u64::from(percent_max) * factor / 10_000;
    (quiet_cycles >= limits::QUIET_CYCLES_MIN && unforced_terms > max).then(|| Lack::Restless {
        elections_max: max,
        cycles: quiet_cycles.into(),
        percent_max,
        factor_percent: u32::try_from(factor).unwrap_or(u32::MAX),
        elections: unforced_terms,
    })
}

/// The shortcoming of a run that did not test the promises of leases of seconds.
fn unjudged_leases(leases: LeasesJudged) -> Option<Lack> {
    let LeasesJudged { renewals, expiries, .. } = leases;
    (renewals == 0 || expiries == 0).then_some(Lack::LeasesUnjudged { renewals, expiries })
}

/// Kinds of operations that were mostly refused, or never answered at all: the load was not the one
/// that was asked for.
fn refused(floors: &Floors, operations: &[StepRecord]) -> Vec<Lack> {
    let min = floors.carried_out_percent_min;
    let sum = operations::all(operations);
    let below = |record: &&StepRecord| {
        let share =
            record.carried_out_percent().filter(|_| record.done + record.refused >= limits::CARRIED_OUT_JUDGED_MIN);
        share.is_some_and(|share| share < u64::from(min))
    };
    let mostly_refused = |record: &StepRecord| Lack::MostlyRefused {
        percent_min: min,
        step: record.title(),
        done: record.done,
        answered: record.done + record.refused,
        refused: record.refused,
        reasons: report::refused::reasons(record),
    };
    let mut lacks: Vec<Lack> = operations.iter().chain([&sum]).filter(below).map(mostly_refused).collect();
    let never = operations.iter().filter(|record| {
        // For a request that has to be refused a refusal is the right answer; a request that may be
        // refused has to be carried out at times.
        min > 0
            && record.done + record.refused == 0
            && record.unknown.max(may_be(record)) >= limits::CARRIED_OUT_JUDGED_MIN
    });
    lacks.extend(never.map(|record| Lack::NeverCarriedOut {
        step: record.title(),
        unknown: record.unknown,
        refused: record.expected,
        reasons: (!record.reasons.is_empty()).then(|| report::refused::reasons(record)),
    }));
    lacks
}

/// Expected refusals of a kind that has to be carried out at times.
fn may_be(record: &StepRecord) -> u64 {
    if record.always_refused { 0 } else { record.expected }
}

/// The cells of the window grid in which too few kills landed.
fn unmet_quotas(run: &RunSummary) -> Option<Lack> {
    let windows = Worth::of(run).windows;
    let cell = |quota: &QuotaRecord| {
        let landed = windows.get(&quota.window).map_or(0, |hits| hits.of(quota.role));
        Unmet { window: quota.window.clone(), role: quota.role, landed, kills: quota.kills }
    };
    let unmet: Vec<_> = run.plan.quotas.iter().map(cell).filter(|cell| cell.landed < cell.kills).collect();
    (!unmet.is_empty()).then_some(Lack::QuotasUnmet { unmet })
}

/// Cycles that a known finding ended before there was anything to verify, or whose replicas
/// disagreed by one.
pub(super) fn unverified(run: &RunSummary, apart: u64) -> Vec<String> {
    let ended = run.cycles.iter().filter(|cycle| ended_by_known(cycle)).count();
    let cycles = run.cycles.len();
    let ended =
        (ended > 0).then(|| format!("the fence of {ended} of {cycles} cycles: a known finding ended them before it"));
    let apart = (apart > 0).then(|| {
        format!("the state of {apart} of {cycles} cycles: replicas disagreed by a known finding, and nothing new can be seen in that")
    });
    ended.into_iter().chain(apart).collect()
}

/// The floors that could not be judged, and why: never a pass, and never a failure.
pub(super) fn not_applicable(run: &RunSummary) -> Vec<String> {
    let landed = run.landed();
    let judged = run.cycles.iter().filter(|cycle| judged_for_bite(cycle)).count() as u64;
    let why = match judged {
        _ if landed == 0 => None,
        0 => Some(format!(
            "in none of the {landed} cycles whose kill landed did a rocksdb member die; redb makes entries durable in groups, so \
             that a kill loses at most the group that is under way, and N is E by definition"
        )),
        few if few < limits::BIT_JUDGED_MIN => Some(format!(
            "a kill could take something away in {few} cycles, and with fewer than {} chance decides",
            limits::BIT_JUDGED_MIN
        )),
        _ => None,
    };
    why.map(|why| format!("{BIT_FLOOR}: n/a: {why}")).into_iter().collect()
}

/// Whether the cycle's fault had its chance. A step that does not exist on the victim's engine had
/// none, and neither had a fault before which a known finding ended the cycle.
fn could_land(cycle: &CycleRecord) -> bool {
    !cycle.not_applicable && (cycle.landed() || !ended_by_known(cycle))
}

/// Whether a known finding ended the cycle before its fence.
fn ended_by_known(cycle: &CycleRecord) -> bool {
    cycle.fence_index.is_none() && cycle.findings == 0
}

/// Whether the cycle killed a member that had a memtable to lose, or only servers whose data is
/// unknown, which are judged by what they had to catch up with.
fn judged_for_bite(cycle: &CycleRecord) -> bool {
    cycle.landed() && (cycle.killed_an_lsm() || cycle.killed_only_opaque())
}

/// Whether a kill landed, and took something away that had to come back. The installation of a
/// snapshot alone, which replaced nothing that the kill had taken, does not count.
fn bit(cycle: &CycleRecord) -> bool {
    judged_for_bite(cycle)
        && cycle.proved_nothing.is_none()
        && (cycle.recovery.lost_entries > 0 || cycle.recovery.replayed > 0 || cycle.killed_only_opaque())
}

/// Windows that were planned often enough to count, and never reached, with how often.
fn never_reached(cycles: &[CycleRecord]) -> Vec<(&str, u32)> {
    let mut windows: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
    for cycle in cycles {
        if let Some(window) = cycle.planned.window.as_ref().filter(|_| !cycle.not_applicable) {
            let (planned, landed) = windows.entry(window).or_default();
            *planned += 1;
            *landed += u32::from(cycle.landed());
        }
    }
    let missed =
        windows.into_iter().filter(|(_, (planned, landed))| *planned >= limits::WINDOW_PLANNED_MIN && *landed == 0);
    missed.map(|(window, (planned, _))| (window, planned)).collect()
}

/// Reads and writes that disks were to refuse often enough to count, and were never asked for, with
/// how often.
fn never_asked(cycles: &[CycleRecord]) -> Vec<(&str, u32)> {
    let mut operations: BTreeMap<&str, (u32, u64)> = BTreeMap::new();
    for lasting in cycles.iter().flat_map(|cycle| &cycle.lasting) {
        if let Some(operation) = lasting.operation.as_ref().filter(|_| lasting.skipped.is_none()) {
            let (planned, met) = operations.entry(operation).or_default();
            *planned += 1;
            *met += lasting.met;
        }
    }
    let never =
        operations.into_iter().filter(|(_, (planned, met))| *planned >= limits::WINDOW_PLANNED_MIN && *met == 0);
    never.map(|(operation, (planned, _))| (operation, planned)).collect()
}

/// The fault classes that `cycles` cover.
pub(super) fn fault_classes(cycles: &[CycleRecord]) -> Vec<String> {
    let again = |cycle: &CycleRecord| {
        let members: BTreeSet<u64> = cycle.victims.iter().map(|victim| victim.member).collect();
        cycle.landed() && cycle.kills.landed as usize > members.len()
    };
    let upgraded = |cycle: &CycleRecord| cycle.landed() && cycle.upgraded;
    let restored = |cycle: &CycleRecord| cycle.landed() && cycle.restored;
    let damaged = |cycle: &CycleRecord| cycle.damage.as_ref().is_some_and(|damage| damage.damage.is_some());
    let lasted = |kind| {
        // A disk that was not asked for what it refused has tested nothing.
        let of_disks = !matches!(kind, LastingKind::Pause | LastingKind::Network);
        let met = move |lasting: &LastingRecord| !of_disks || lasting.met > 0;
        let ended = move |lasting: &LastingRecord| lasting.kind == kind && lasting.lasted_ms.is_some() && met(lasting);
        cycles.iter().any(|cycle| cycle.lasting.iter().any(ended))
    };
    let covered = [
        ("kill", cycles.iter().any(|cycle| cycle.kills.landed > cycle.kills.power_losses)),
        ("kill again", cycles.iter().any(again)),
        ("power-loss", cycles.iter().any(|cycle| cycle.kills.power_losses > 0)),
        ("pause", lasted(LastingKind::Pause)),
        ("network", lasted(LastingKind::Network)),
        ("disk-full", lasted(LastingKind::Fill)),
        ("slow-disk", lasted(LastingKind::Slow)),
        ("io-error", lasted(LastingKind::FailSync)),
        ("read-error", lasted(LastingKind::FailRead)),
        ("write-error", lasted(LastingKind::FailWrite)),
        ("short-write", lasted(LastingKind::Shorten)),
        ("corruption", cycles.iter().any(damaged)),
        ("upgrade", cycles.iter().any(upgraded)),
        ("restore", cycles.iter().any(restored)),
    ];
    covered.into_iter().filter(|(_, covered)| *covered).map(|(class, _)| class.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;
    use ninelives_evidence::member::{Engine, Role};
    use ninelives_evidence::record::{FaultOutcome, Victim};

    fn run(landed: usize, skipped: usize, idle: usize) -> RunSummary {
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

    #[test]
    fn killing_again_takes_a_member_that_died_twice() {
        let mut run = run(1, 0, 0);
        assert_eq!(fault_classes(&run.cycles), ["kill"]);
        run.cycles[0].kills.landed = 2;
        assert_eq!(fault_classes(&run.cycles), ["kill", "kill again"]);
        run.cycles[0].outcome = FaultOutcome::Skipped { why: "not reached".to_owned() };
        assert_eq!(fault_classes(&run.cycles), ["kill"]);
        assert!(fault_classes(&[]).is_empty());
    }

    fn pause() -> LastingRecord {
        LastingRecord {
            fault: "pause leader for 9ms at time 0ms".to_owned(),
            kind: LastingKind::Pause,
            victims: Vec::new(),
            links: 0,
            lasted_ms: None,
            behind: 0,
            majority: Vec::new(),
            majority_wrote_ms: None,
            met: 0,
            operation: None,
            skipped: None,
            not_applicable: false,
        }
    }

    #[test]
    fn a_disk_that_failed_is_covered_once_it_was_asked() {
        let mut run = run(1, 0, 0);
        for (kind, class) in [
            (LastingKind::Fill, "disk-full"),
            (LastingKind::FailSync, "io-error"),
            (LastingKind::FailRead, "read-error"),
            (LastingKind::FailWrite, "write-error"),
            (LastingKind::Shorten, "short-write"),
            (LastingKind::Slow, "slow-disk"),
        ] {
            let mut lasting = LastingRecord { kind, lasted_ms: Some(9), ..pause() };
            run.cycles[0].lasting = vec![lasting.clone()];
            assert_eq!(fault_classes(&run.cycles), ["kill"], "{class}");
            lasting.met = 1;
            run.cycles[0].lasting = vec![lasting];
            assert_eq!(fault_classes(&run.cycles), ["kill", class]);
        }
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

    #[test]
    fn a_pause_is_covered_once_it_has_ended() {
        let mut run = run(1, 0, 0);
        let mut lasting = pause();
        run.cycles[0].lasting = vec![lasting.clone()];
        assert_eq!(fault_classes(&run.cycles), ["kill"]);
        lasting.lasted_ms = Some(9);
        run.cycles[0].lasting = vec![lasting.clone(), LastingRecord { kind: LastingKind::Network, ..lasting }];
        assert_eq!(fault_classes(&run.cycles), ["kill", "pause", "network"]);
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
        assert!(
            super::lacking(&Floors::default(), &run, 11)[0].sentence().contains("found 0 of 10"),
            "a cycle run again"
        );
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
        assert!(
            sentence.contains("at least 501 ") && sentence.contains("found 500: 100000 in 200000 ms"),
            "{sentence}"
        );
        run.load.ran_ms = 0;
        assert_eq!(lacking(&floor(0), &run), [], "no floor");
        assert!(
            lacking(&floor(1), &run)[0].sentence().contains("found 0"),
            "a rate that is not known reaches no floor"
        );
    }

    #[test]
    fn an_idle_run_is_never_worth_a_pass() {
        let mut idle = run(10, 0, 0);
        idle.load.acked_writes = 199;
        assert!(lacking(&Floors::default(), &idle)[0].sentence().contains("199"));
        assert!(!lacking(&Floors::default(), &run(0, 0, 0)).is_empty());
    }
}
