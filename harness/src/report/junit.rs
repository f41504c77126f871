//! `junit.xml` for CI systems: one test case for the run, and one for each class of evidence.
//!
//! No test case passes without evidence: a class without a finding passes only if at least one
//! cycle was a trial (see [`worth`](super::worth)) and the run came to its end; otherwise it is
//! reported as skipped.

use super::worth::{BIT_FLOOR, Worth, landed};
use super::{Error, partial, percent, suppressed, verdict_sentence};
use ninelives_evidence::record::{RunSummary, SlotRecord};
use ninelives_evidence::verdict::{Class, Finding, Verdict};
use quick_junit::{NonSuccessKind, Property, Report, TestCase, TestCaseStatus, TestSuite};
use std::time::Duration;

/// The classes of evidence, in the order of the test cases, and what each one states when it
/// passes.
const CLASSES: &[(Class, &str)] = &[
    (Class::StateHash, "replicas agree at every fence"),
    (Class::Model, "the independent model agrees with the replicas"),
    (Class::LostWrite, "every acknowledged write is there"),
    (Class::ExactlyOnce, "every operation is applied once"),
    (Class::Lease, "every lease lives as long as was acknowledged"),
    (Class::Phantom, "everything that is there was written"),
    (Class::Linearizability, "the history of every key is linearizable"),
    (Class::IndexAheadOfEngine, "the persisted index is never ahead of the engine"),
    (Class::PurgedAboveN, "the raft log is never purged above the persisted index"),
    (Class::Watermarks, "watermarks are ordered and never go back in one life"),
    (Class::ReplayStart, "replay starts at N+1, contiguous, nothing twice"),
    (Class::RefusedAfterOwnCrash, "no member refuses to start after a crash"),
    (Class::RaftLog, "every raft log is in order"),
    (Class::VoteWentBack, "no vote went back"),
    (Class::SnapshotTransfer, "every member that needed a snapshot installed one"),
    (Class::Watch, "watches are ordered, without gaps or duplicates"),
    (Class::FailedSyncBelieved, "no member went on after a sync that failed"),
    (Class::NodeDied, "no node died of its own doing"),
    (Class::Liveness, "every member came back inside its bound"),
    (Class::MachineExhausted, "the machine had room"),
    (Class::HarnessError, "the harness worked"),
    (Class::NotProven, "the faults bit"),
];

/// The text of `junit.xml`.
pub fn render(run: &RunSummary) -> Result<String, Error> {
    let worth = Worth::of(run);
    let elapsed = Duration::from_millis(run.elapsed_ms);
    let mut suite = TestSuite::new(format!("ninelives.{}", run.plan.scenario));
    suite.set_time(elapsed);
    suite.add_properties(properties(run, &worth));
    suite.add_test_case(whole_run(run, &worth, elapsed));
    suite.add_test_cases(CLASSES.iter().map(|(class, promise)| evidence(run, &worth, *class, promise)));
    let mut report = Report::new("ninelives");
    report.set_time(elapsed);
    report.add_test_suite(suite);
    Ok(report.to_string()?)
}

fn properties(run: &RunSummary, worth: &Worth) -> Vec<Property> {
    let bound = worth
        .divergence_rate_max_95
        .map_or_else(|| "none".to_owned(), |rate| format!("{rate} ({})", worth.divergence_rate_caveat));
    [
        ("seed", run.plan.seed.to_string()),
        ("cycles", format!("{} of {}", worth.cycles_run, worth.cycles_planned)),
        ("kills-landed", run.kills_alone().to_string()),
        ("power-losses-landed", worth.power_losses.to_string()),
        ("disks-filled", worth.disks_filled.to_string()),
        ("io-errors", worth.io_errors.to_string()),
        ("short-writes", worth.short_writes.to_string()),
        ("cycles-skipped", worth.skipped.to_string()),
        ("entries-lost", worth.entries_lost.to_string()),
        ("entries-replayed", worth.entries_replayed.to_string()),
        ("writes-acknowledged", run.load.acked_writes.to_string()),
        ("writes-unknown", format!("{} ({})", run.load.unknown_writes, percent(run.unknown_share()))),
        ("writes-per-second", run.writes_per_second().map_or_else(|| "unknown".to_owned(), |rate| rate.to_string())),
        ("divergence-rate-max-95", bound),
        ("members", run.cluster.slots.iter().map(slot).collect::<Vec<_>>().join("; ")),
        ("fault-classes-covered", worth.fault_classes_covered.join(" ")),
        ("fault-classes-not-covered", worth.fault_classes_not_covered.join(" ")),
        ("plan-sha256", run.plan.digest.clone()),
        ("scenario-sha256", run.plan.scenario_digest.clone()),
        ("node-sha256", run.provenance.node.sha256.clone()),
        ("harness-sha256", run.provenance.harness.sha256.clone()),
        ("started", run.started_utc.clone()),
        ("reproduce", run.repro.clone()),
    ]
    .into_iter()
    .chain(run.pace.map(|pace| ("machine", pace.sentence())))
    .chain(run.leases.map(|leases| ("lease-renewals-judged", leases.renewals.to_string())))
    .chain(run.leases.map(|leases| ("lease-expiries-seen", leases.expiries.to_string())))
    .chain(super::refused::line(run).map(|line| ("operations-refused", line)))
    .chain((!run.known.is_empty()).then(|| ("known-findings-suppressed", run.suppressed().to_string())))
    .map(|(name, value)| Property::new(name, value))
    .collect()
}

fn slot(slot: &SlotRecord) -> String {
    format!(
        "{}: n{} on {}, at the end n{} on {}",
        slot.slot, slot.member_at_start, slot.engine_at_start, slot.member_at_end, slot.engine_at_end
    )
}

fn whole_run(run: &RunSummary, worth: &Worth, elapsed: Duration) -> TestCase {
    let mut status = match run.verdict {
        Verdict::Pass if partial(run).is_some() => TestCaseStatus::skipped(),
        Verdict::Pass => TestCaseStatus::success(),
        Verdict::HarnessError => TestCaseStatus::non_success(NonSuccessKind::Error),
        Verdict::Violation | Verdict::Liveness | Verdict::Inconclusive => {
            TestCaseStatus::non_success(NonSuccessKind::Failure)
        }
    };
    if run.verdict != Verdict::Pass {
        status.set_type(run.verdict.name());
    }
    status.set_message(
        partial(run).map_or_else(|| verdict_sentence(run), |why| format!("{}; {why}", verdict_sentence(run))),
    );
    let mut case = TestCase::new("run", status);
    case.set_classname(format!("ninelives.{}", run.plan.scenario)).set_time(elapsed);
    case.set_system_out(format!(
        "{} cycles, {}, {} skipped, {} entries lost, {} replayed, {} trials\nreproduce: {}\n{}{}",
        worth.cycles_run,
        landed(run),
        worth.skipped,
        worth.entries_lost,
        worth.entries_replayed,
        worth.trials,
        run.repro,
        suppressed::lines(run).iter().map(|line| format!("{line}\n")).collect::<String>(),
        run.skipped_checks.iter().map(|check| format!("skipped check: {check}\n")).collect::<String>(),
    ));
    case
}

fn evidence(run: &RunSummary, worth: &Worth, class: Class, promise: &str) -> TestCase {
    let found: Vec<&Finding> = run.findings.iter().filter(|finding| finding.class() == class).collect();
    let status = match found.first() {
        Some(first) => {
            let blameless = matches!(class, Class::HarnessError | Class::MachineExhausted);
            let kind = if blameless { NonSuccessKind::Error } else { NonSuccessKind::Failure };
            let mut status = TestCaseStatus::non_success(kind);
            status.set_type(class.name()).set_message(first.to_string());
            status.set_description(found.into_iter().map(described).collect::<String>());
            status
        }
        None => match unproven(run, worth, class) {
            Some(why) => {
                let mut status = TestCaseStatus::skipped();
                status.set_message(why);
                status
            }
            None => TestCaseStatus::success(),
        },
    };
    let mut case = TestCase::new(format!("{class}: {promise}"), status);
    case.set_classname(format!("ninelives.{}", run.plan.scenario));
    case
}

/// A finding for human readers, and below it its kind and fields for programs.
fn described(finding: &Finding) -> String {
    // Fields of a finding are numbers, strings and lists of them: writing them down cannot fail.
    let what = serde_json::to_string(&finding.what).unwrap_or_default();
    format!("{finding}\n{what}\n")
}

/// Reason why the absence of findings of `class` says nothing; `None`: it says something.
fn unproven(run: &RunSummary, worth: &Worth, class: Class) -> Option<String> {
    let ended_by_a_finding = matches!(run.verdict, Verdict::Violation | Verdict::Liveness | Verdict::HarnessError);
    match class {
        _ if worth.trials == 0 => Some("no cycle proved anything".to_owned()),
        Class::SnapshotTransfer if worth.snapshots_installed == 0 => Some("no member needed a snapshot".to_owned()),
        _ if suppressed::of_class(run, class).is_some() => suppressed::of_class(run, class),
        _ if partial(run).is_some() || ended_by_a_finding => {
            Some("the run ended early: not all of it was checked".to_owned())
        }
        // A floor that could not be judged was not reached.
        Class::NotProven => run.skipped_checks.iter().find(|check| check.starts_with(BIT_FLOOR)).cloned(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn golden_pass() {
        ninelives_golden::assert_golden("junit-pass.xml", &render(&sample::run()).unwrap());
    }

    #[test]
    fn golden_failing() {
        ninelives_golden::assert_golden("junit-failing.xml", &render(&sample::failing()).unwrap());
    }

    #[test]
    fn no_evidence_is_not_a_green_test_case() {
        let mut run = sample::run();
        run.cycles.clear();
        run.plan.cycles = 0;
        run.verdict = Verdict::Inconclusive;
        run.findings.push(Finding::of_class(Class::NotProven));
        let text = render(&run).unwrap();
        assert_eq!(text.matches("<testcase").count(), CLASSES.len() + 1);
        assert_eq!(text.matches("<skipped").count(), CLASSES.len() - 1);
        assert_eq!(text.matches("<failure").count(), 2, "{text}");
    }

    #[test]
    fn transfers_are_judged_where_there_were_any() {
        let mut run = sample::run();
        assert_eq!(render(&run).unwrap().matches("<skipped").count(), 0);
        run.cycles.iter_mut().for_each(|cycle| cycle.recovery.snapshot_installed = false);
        let text = render(&run).unwrap();
        assert_eq!(text.matches("<skipped").count(), 1, "{text}");
        assert!(text.contains("<skipped message=\"no member needed a snapshot\""), "{text}");
    }

    #[test]
    fn a_floor_that_is_not_applicable_is_no_green_test_case() {
        let mut run = sample::run();
        run.skipped_checks = vec![format!("{BIT_FLOOR}: n/a: no rocksdb member died")];
        let text = render(&run).unwrap();
        assert!(text.contains("<skipped message=\"floors.bit_percent_min: n/a: no rocksdb member died\""), "{text}");
        assert!(text.contains("skipped check: floors.bit_percent_min"), "{text}");
        assert_eq!(text.matches("<skipped").count(), 1, "{text}");
    }

    #[test]
    fn a_run_that_ended_early_is_green_nowhere() {
        let mut run = sample::run();
        run.interrupted = true;
        let text = render(&run).unwrap();
        assert_eq!(text.matches("<skipped").count(), CLASSES.len() + 1, "{text}");
        let failing = sample::failing();
        let classes = 2;
        let text = render(&failing).unwrap();
        assert_eq!(text.matches("<skipped").count(), CLASSES.len() - classes, "{text}");
    }

    /// A class that is added to the vocabulary must get its test case; `match` makes forgetting it
    /// an error.
    #[test]
    fn every_class_has_a_test_case() {
        let listed = |class| CLASSES.iter().any(|(listed, _)| *listed == class);
        for class in CLASSES.iter().map(|(class, _)| *class) {
            match class {
                Class::IndexAheadOfEngine | Class::StateHash | Class::LostWrite | Class::PurgedAboveN => {}
                Class::RefusedAfterOwnCrash
                | Class::ReplayStart
                | Class::Phantom
                | Class::Lease
                | Class::Model
                | Class::Watch => {}
                Class::VoteWentBack | Class::SnapshotTransfer | Class::NodeDied | Class::Liveness => {}
                Class::Linearizability | Class::ExactlyOnce | Class::Watermarks | Class::RaftLog => {}
                Class::FailedSyncBelieved | Class::MachineExhausted | Class::HarnessError | Class::NotProven => {}
            }
            assert!(listed(class));
        }
        assert_eq!(CLASSES.len(), 22);
    }
}
