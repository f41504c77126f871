//! The tally of a report's replays: how often a failure came back.
//!
//! A seed fixes the operations, and not how the operating system interleaves them. The replays
//! measure how much that is worth: the stored plan runs several times, up to the cycle that failed,
//! and the class at the head of each report counts. Kills at windows make a replay land on the same
//! step, so the tally also counts how many of them landed where they had landed before.

use crate::exit::Exit;
use crate::plan::Plan;
use crate::probe::headline;
use ninelives_evidence::record::{AgainRecord, CycleRecord, RunSummary};
use ninelives_evidence::verdict::{Class, Verdict};
use std::collections::{BTreeMap, BTreeSet};

/// The result of a replay that would pass if one plan were enough.
const NOTHING: &str = "nothing";

/// `plan` up to the cycle in which `before` found what heads it; all of it, if that was found in
/// the last look or nothing was.
pub fn up_to_the_failure(plan: &Plan, before: Option<&RunSummary>) -> Plan {
    let failed = before.filter(|run| headline(run).is_some()).and_then(|run| run.findings.first()?.cycle);
    let steps = plan.steps.iter().filter(|step| failed.is_none_or(|failed| step.cycle <= failed));
    Plan { steps: steps.cloned().collect(), ..plan.clone() }
}

/// Kills of one replay that were planned at windows and had landed before, and their results.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Windows {
    /// In the same window, at the same hit.
    pub same: u32,
    /// Cycle, and why not.
    pub missed: Vec<(u32, String)>,
}

/// One replay.
#[derive(Debug, Clone)]
struct Seen {
    headline: Option<Class>,
    verdict: Verdict,
    interrupted: bool,
    cycle: Option<u32>,
    windows: Windows,
}

/// All of them.
#[derive(Debug)]
pub struct Replays {
    class: Option<Class>,
    landed: BTreeMap<u32, CycleRecord>,
    seen: Vec<Seen>,
    planned: u32,
}

impl Replays {
    /// The replays of a report, `planned` of them. `None`: nothing is known of the first run.
    pub fn of(before: Option<&RunSummary>, planned: u32) -> Self {
        let cycles = before.map(|run| run.cycles.as_slice()).unwrap_or_default();
        let landed = cycles.iter().filter(|cycle| cycle.landed()).map(|cycle| (cycle.cycle, cycle.clone())).collect();
        Self { class: before.and_then(headline), landed, seen: Vec::new(), planned }
    }

    /// Takes the next replay, and says it in a line.
    pub fn take(&mut self, run: &RunSummary) -> String {
        let first = run.findings.first().filter(|_| headline(run).is_some());
        let seen = Seen {
            headline: headline(run),
            verdict: run.verdict,
            interrupted: run.interrupted,
            cycle: first.and_then(|finding| finding.cycle),
            windows: self.windows(run),
        };
        let number = self.seen.len() + 1;
        let what = match (seen.headline, self.class) {
            (Some(class), Some(before)) if class != before => format!("another class: {class}"),
            (Some(class), _) => class.to_string(),
            (None, _) => NOTHING.to_owned(),
        };
        let at = seen.cycle.map(|cycle| format!(", cycle {cycle}{}", where_it_was(run, cycle))).unwrap_or_default();
        self.seen.push(seen);
        let (s, tenths) = (run.elapsed_ms / 1000, run.elapsed_ms % 1000 / 100);
        format!("replay {number}/{}: {what}{at}, {s}.{tenths} s\n", self.planned)
    }

    fn windows(&self, run: &RunSummary) -> Windows {
        let mut windows = Windows::default();
        for cycle in &run.cycles {
            let Some(before) = self.landed.get(&cycle.cycle) else { continue };
            if before.planned.window.is_some() {
                if cycle.landed()
                    && (&cycle.planned.window, cycle.planned.hit) == (&before.planned.window, before.planned.hit)
                {
                    windows.same += 1;
                } else {
                    windows.missed.push((cycle.cycle, format!("{}: {:?}", cycle.planned.trigger, cycle.outcome)));
                }
            }
            // Of the lives that followed, each in its turn.
            for (turn, before) in before.kills.again.iter().enumerate().filter(|(_, before)| before.skipped.is_none()) {
                let now = cycle.kills.again.get(turn);
                let same = |now: &AgainRecord| (&now.window, now.hit) == (&before.window, before.hit);
                if now.is_some_and(|now| now.skipped.is_none() && same(now)) {
                    windows.same += 1;
                } else {
                    let why = now.and_then(|now| now.skipped.clone()).unwrap_or_else(|| "not tried".to_owned());
                    windows.missed.push((cycle.cycle, format!("again at {} hit {}: {why}", before.window, before.hit)));
                }
            }
        }
        windows
    }

    fn counted(&self) -> impl Iterator<Item = &Seen> {
        // One that was ended before it found anything says nothing.
        self.seen.iter().filter(|seen| !seen.interrupted || seen.headline.is_some())
    }

    /// Replays in which the report's class came back, and all that count.
    pub fn came_back(&self) -> (usize, usize) {
        let same = self.counted().filter(|seen| seen.headline.is_some() && seen.headline == self.class).count();
        (same, self.counted().count())
    }

    /// The worst verdict of the replays; where the report had failed and none of them did, nothing
    /// is proven.
    pub fn exit(&self) -> Exit {
        let found = self.counted().filter(|seen| seen.headline.is_some());
        let worst = found.map(|seen| seen.verdict).min();
        let cut_short = self.seen.iter().any(|seen| seen.interrupted) || self.seen.len() < self.planned as usize;
        match (worst, self.class) {
            (Some(verdict), _) => verdict.into(),
            (None, _) if cut_short => Exit::Interrupted,
            (None, Some(_)) => Exit::Inconclusive,
            (None, None) => self.counted().map(|seen| seen.verdict).min().unwrap_or(Verdict::Pass).into(),
        }
    }

    /// The last lines.
    pub fn text(&self, elapsed_ms: u64) -> String {
        let (same, all) = self.came_back();
        let seconds = format!("{}.{} s", elapsed_ms / 1000, elapsed_ms % 1000 / 100);
        let mut text = match self.class {
            Some(class) => {
                let percent = (same * 100).checked_div(all).unwrap_or(0);
                format!("{class} came back in {same} of {all} replays ({percent} %), in {seconds}\n")
            }
            None => format!("{all} replays of a report that found nothing, in {seconds}\n"),
        };
        text.push_str(&self.table());
        text.push_str(&self.window_lines());
        text
    }

    fn table(&self) -> String {
        let mut rows: BTreeMap<String, (usize, BTreeSet<u32>)> = BTreeMap::new();
        for seen in self.counted() {
            let name = seen.headline.map_or_else(|| NOTHING.to_owned(), |class| class.to_string());
            let (count, cycles) = rows.entry(name).or_default();
            *count += 1;
            cycles.extend(seen.cycle);
        }
        let mut text = format!("  {:24} {:>7}  {}\n", "class", "replays", "cycles");
        for (name, (count, cycles)) in rows {
            let cycles: Vec<_> = cycles.iter().map(u32::to_string).collect();
            let cycles = if cycles.is_empty() { "-".to_owned() } else { cycles.join(", ") };
            text.push_str(&format!("  {name:24} {count:>7}  {cycles}\n"));
        }
        text
    }

    fn window_lines(&self) -> String {
        let same: u32 = self.counted().map(|seen| seen.windows.same).sum();
        let missed: Vec<_> = (1..)
            .zip(&self.seen)
            .flat_map(|(number, seen)| seen.windows.missed.iter().map(move |(cycle, why)| (number, cycle, why)))
            .collect();
        let all = same as usize + missed.len();
        if all == 0 {
            return "kills at windows: none that had landed before was carried out again\n".to_owned();
        }
        let mut text = format!(
            "kills at windows: {same} of {all} that had landed before landed in the same window, at the same hit\n"
        );
        for (number, cycle, why) in missed {
            text.push_str(&format!("  not in replay {number}, cycle {cycle}: {why}\n"));
        }
        text
    }
}

fn where_it_was(run: &RunSummary, cycle: u32) -> String {
    let record = run.cycles.iter().find(|record| record.cycle == cycle);
    record.map(|record| format!(" ({})", record.planned.trigger)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;
    use ninelives_evidence::record::FaultOutcome;
    use ninelives_evidence::verdict::Finding;

    /// A run of one landed kill at a window that found `classes`.
    fn run(classes: &[Class]) -> RunSummary {
        let mut run = sample::run();
        run.cycles.truncate(1);
        run.findings = classes.iter().map(|class| Finding::of_class(*class).in_cycle(1)).collect();
        run.verdict = Verdict::of(&run.findings);
        run
    }

    fn replays(before: &RunSummary, again: &[RunSummary]) -> Replays {
        let mut replays = Replays::of(Some(before), again.len() as u32);
        for run in again {
            replays.take(run);
        }
        replays
    }

    #[test]
    fn only_the_same_class_counts_as_come_back() {
        let before = run(&[Class::StateHash, Class::Watch]);
        let all = replays(&before, &[before.clone(), run(&[Class::Watch]), run(&[])]);
        assert_eq!(all.came_back(), (1, 3));
        assert_eq!(all.exit(), Exit::Violation);
        let text = all.text(4_250);
        assert!(text.starts_with("state-hash came back in 1 of 3 replays (33 %), in 4.2 s\n"), "{text}");
        assert!(text.contains("watch                          1  1\n") && text.contains("  nothing "), "{text}");
    }

    #[test]
    fn never_again_is_no_pass() {
        let before = run(&[Class::StateHash]);
        assert_eq!(replays(&before, &[run(&[]), run(&[])]).exit(), Exit::Inconclusive);
        assert_eq!(replays(&before, &[run(&[Class::Liveness])]).exit(), Exit::Liveness);
        assert_eq!(replays(&run(&[]), &[run(&[]), run(&[])]).exit(), Exit::Pass);
        assert_eq!(replays(&run(&[]), &[run(&[]), run(&[Class::Model])]).exit(), Exit::Violation);
    }

    #[test]
    fn what_was_interrupted_counts_only_for_what_it_found() {
        let before = run(&[Class::StateHash]);
        let mut cut = run(&[Class::NotProven]);
        cut.interrupted = true;
        let all = replays(&before, &[before.clone(), cut.clone()]);
        assert_eq!((all.came_back(), all.exit()), ((1, 1), Exit::Violation));
        assert_eq!(replays(&before, &[cut]).exit(), Exit::Interrupted);
    }

    #[test]
    fn a_window_that_was_not_passed_again_is_named() {
        let before = run(&[Class::StateHash]);
        let mut missed = run(&[]);
        missed.cycles[0].outcome = FaultOutcome::Skipped { why: "not passed".to_owned() };
        let text = replays(&before, &[before.clone(), missed]).text(0);
        assert!(
            text.contains("1 of 2 that had landed before") && text.contains("not in replay 2, cycle 1: kill"),
            "{text}"
        );
    }

    #[test]
    fn kills_that_follow_have_windows_of_their_own() {
        let again = |skipped: Option<&str>| AgainRecord {
            member: 2,
            window: "recovery.engine-open".to_owned(),
            hit: 1,
            skipped: skipped.map(str::to_owned),
        };
        let mut before = run(&[Class::StateHash]);
        before.cycles[0].kills.again = vec![again(None)];
        let mut missed = before.clone();
        missed.cycles[0].kills.again = vec![again(Some("not passed"))];
        let text = replays(&before, &[before.clone(), missed]).text(0);
        assert!(text.contains("3 of 4 that had landed before"), "{text}");
        assert!(text.contains("not in replay 2, cycle 1: again at recovery.engine-open hit 1: not passed"), "{text}");
    }

    #[test]
    fn a_replay_needs_the_plan_up_to_its_failure() {
        let text =
            "plan 1\nscenario x ab\nseed 1\ncycles 3\ncycle 1  kill all at time 1ms\ncycle 3  kill all at time 1ms\n";
        let plan: Plan = text.parse().unwrap();
        assert_eq!(up_to_the_failure(&plan, Some(&run(&[Class::Model]))).steps.len(), 1);
        let mut in_the_last_read = run(&[Class::Model]);
        in_the_last_read.findings[0].cycle = None;
        assert_eq!(up_to_the_failure(&plan, Some(&in_the_last_read)), plan);
        assert_eq!(up_to_the_failure(&plan, Some(&run(&[]))), plan);
        assert_eq!(up_to_the_failure(&plan, None), plan);
    }
}
