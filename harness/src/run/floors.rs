//! The judgement whether a run without findings proved anything: each floor that was not reached is
//! a finding.

use crate::report;
use crate::report::worth::{BIT_FLOOR, Worth};
use crate::scenario::Floors;
use ninelives_evidence::limits;
use ninelives_evidence::record::operations::{self, StepRecord};
use ninelives_evidence::record::{CycleRecord, LeasesJudged, QuotaRecord, RunSummary};
use ninelives_evidence::verdict::Finding;
use ninelives_evidence::verdict::findings::Lack;
use ninelives_evidence::verdict::findings::parts::Unmet;
use std::collections::BTreeMap;

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

#[cfg(test)]
pub(super) mod tests;
