//! The detection table: does the harness catch the bugs that it should catch, and how soon?
//!
//! A gate that never went red proves nothing. Each planted bug of a table ([`table`]) is run with
//! several seeds through the same pipeline as any run, until it is detected; a control without a
//! bug has to stay green. A row holds if *every* seed ends in the expected class, within the
//! budget: [`limits::MUTANT_MEDIAN_CYCLES_MAX`] cycles in the median and
//! [`limits::MUTANT_CYCLES_MAX`] at most. Another class does not count: it would mislead the reader
//! of the report.
//!
//! The result is a certificate: what was caught, at what cost, by which harness on which node. Each
//! trial is written to a [`journal`] as it ends, so that a certificate that takes hours can be
//! continued.

mod html;
pub mod journal;
pub mod table;
mod text;

pub use html::page;
pub use journal::Journal;
pub use table::{CONTROL, Expected, Table};
pub use text::render;

use crate::probe::{Sighting, headline};
use ninelives_evidence::limits;
use ninelives_evidence::record::{BinaryId, RunSummary};
use ninelives_evidence::verdict::{Finding, Verdict};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Version of `certificate.json`.
pub const SCHEMA_VERSION: u32 = 2;

/// Result of one run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    pub seed: u64,
    /// It ended as expected.
    pub caught: bool,
    /// The class at the head of its report, or its verdict if the report has none.
    pub class: String,
    /// The first finding, if it is not an expected one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    pub cycles: u32,
    pub elapsed_ms: u64,
    /// CPU time of the members and the inspectors; the harness's own is not in it.
    pub cpu_ms: u64,
}

/// A bug, or none, and its trials.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// `control` if there is none.
    pub bug: String,
    pub scenario: String,
    /// The binary as the table names it, if it is not the node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub binary: Option<String>,
    /// The binary that was found under that name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub binary_id: Option<BinaryId>,
    /// Classes that may head its report; empty: it has to pass.
    pub expected: Vec<String>,
    /// Trials that were to be made.
    pub planned: u32,
    pub trials: Vec<Trial>,
}

/// All rows of the chosen tables.
#[derive(Debug, Clone, Serialize)]
pub struct Certificate {
    pub schema_version: u32,
    /// The tables, and the digest of each.
    pub tables: Vec<journal::Source>,
    pub rows: Vec<Row>,
    /// Bugs of the table that no trial can show, because their fault is not among those that are
    /// injected.
    pub elsewhere: Vec<String>,
    pub median_cycles_max: u32,
    pub cycles_max: u32,
    /// Of the command that ended it; one that was continued took longer.
    pub elapsed_ms: u64,
    /// CPU time of the harness itself in that command.
    pub harness_cpu_ms: u64,
    pub started_utc: String,
    /// SHA-256 of the harness that made it; `None`: its file was replaced meanwhile.
    pub harness: Option<String>,
    /// The binary that ran the rows without a binary of their own.
    pub node: Option<BinaryId>,
    pub inspector: Option<BinaryId>,
    pub holds: bool,
}

impl Certificate {
    /// Trials of the controls, and how many of them were no pass: the false alarms.
    pub fn false_alarms(&self) -> (usize, usize) {
        let of_controls = || self.rows.iter().filter(|row| row.is_control()).flat_map(|row| &row.trials);
        (of_controls().filter(|trial| !trial.caught).count(), of_controls().count())
    }
}

impl Row {
    pub fn new(expected: &Expected, planned: u32) -> Self {
        Self {
            bug: expected.name.clone(),
            scenario: expected.scenario.clone(),
            binary: expected.binary.clone(),
            binary_id: None,
            expected: expected.headline.iter().map(|class| class.to_string()).collect(),
            planned,
            trials: Vec::new(),
        }
    }

    /// The bug, and the binary it runs on.
    pub fn title(&self) -> String {
        self.binary.as_ref().map_or_else(|| self.bug.clone(), |binary| format!("{} on {binary}", self.bug))
    }

    pub fn is_control(&self) -> bool {
        self.expected.is_empty()
    }

    pub fn caught(&self) -> usize {
        self.trials.iter().filter(|trial| trial.caught).count()
    }

    /// Cycles until it was caught, ascending.
    fn cycles(&self) -> Vec<u32> {
        let mut cycles: Vec<_> = self.trials.iter().filter(|trial| trial.caught).map(|trial| trial.cycles).collect();
        cycles.sort_unstable();
        cycles
    }

    /// The median; of an even number the greater one of the two in the middle.
    pub fn median(&self) -> Option<u32> {
        let cycles = self.cycles();
        cycles.get(cycles.len() / 2).copied()
    }

    pub fn largest(&self) -> Option<u32> {
        self.cycles().last().copied()
    }

    /// The classes that are expected, in words.
    fn expected_in_words(&self) -> String {
        if self.is_control() { "pass".to_owned() } else { self.expected.join(" or ") }
    }

    /// Other results of its trials, with how often each came, in words; empty: there was none.
    fn others_in_words(&self) -> String {
        let mut others: BTreeMap<&str, usize> = BTreeMap::new();
        for trial in self.trials.iter().filter(|trial| !trial.caught) {
            *others.entry(trial.class.as_str()).or_default() += 1;
        }
        let others: Vec<_> = others.iter().map(|(class, count)| format!("{class} {count}")).collect();
        others.join(", ")
    }

    pub fn elapsed_ms(&self) -> u64 {
        self.trials.iter().map(|trial| trial.elapsed_ms).sum()
    }

    pub fn cpu_ms(&self) -> u64 {
        self.trials.iter().map(|trial| trial.cpu_ms).sum()
    }

    /// Reason why the row does not hold; `None`: it does.
    pub fn lacks(&self) -> Option<String> {
        let (caught, planned) = (self.caught(), self.planned as usize);
        let (what, max) = (if self.is_control() { "green" } else { "caught" }, limits::MUTANT_MEDIAN_CYCLES_MAX);
        if caught < planned {
            return Some(format!("{what} {caught} of {planned}"));
        }
        match (self.is_control(), self.median(), self.largest()) {
            (false, Some(median), _) if median > max => {
                Some(format!("a median of {median} cycles, at most {max} expected"))
            }
            (false, _, Some(largest)) if largest > limits::MUTANT_CYCLES_MAX => {
                Some(format!("{largest} cycles, at most {} expected", limits::MUTANT_CYCLES_MAX))
            }
            _ => None,
        }
    }
}

/// Judges one run.
pub fn judge(expected: &Expected, sighting: &Sighting) -> Trial {
    let run = &sighting.summary;
    let found = headline(run);
    let class = match found {
        Some(class) => class.to_string(),
        None if sighting.late => "took too long".to_owned(),
        None if run.interrupted => "interrupted".to_owned(),
        None => run.verdict.to_string(),
    };
    let caught = is_as_expected(expected, run);
    let first = run.findings.first().filter(|_| !caught);
    Trial {
        seed: run.plan.seed,
        caught,
        class,
        why: first.map(Finding::sentence),
        cycles: run.cycles.len() as u32,
        elapsed_ms: run.elapsed_ms,
        cpu_ms: run.children_cpu_ms.unwrap_or(0),
    }
}

fn is_as_expected(expected: &Expected, run: &RunSummary) -> bool {
    let Some(class) = headline(run) else {
        return expected.is_control() && run.verdict == Verdict::Pass;
    };
    let shows = |finding: &Finding| expected.symptom().contains(&finding.class());
    expected.headline.contains(&class) && run.verdict == class.verdict() && run.findings.iter().any(shows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;
    use crate::report::sample;
    use ninelives_evidence::verdict::Class;

    fn expected(headline: &[Class], symptom: Option<&[Class]>) -> Expected {
        Expected::for_test("b", headline, symptom)
    }

    fn sighting(classes: &[Class]) -> Sighting {
        let mut summary = sample::run();
        summary.findings = classes.iter().map(|class| Finding::of_class(*class)).collect();
        summary.verdict = Verdict::of(&summary.findings);
        let exit = Exit::from(summary.verdict);
        Sighting { summary, exit, late: false }
    }

    #[test]
    fn only_the_expected_class_at_the_head_is_a_catch() {
        let bug = expected(&[Class::IndexAheadOfEngine], Some(&[Class::StateHash, Class::LostWrite]));
        let caught = |classes: &[Class]| judge(&bug, &sighting(classes)).caught;
        assert!(caught(&[Class::IndexAheadOfEngine, Class::LostWrite]));
        assert!(!caught(&[Class::IndexAheadOfEngine]), "the effect did not show");
        assert!(!caught(&[Class::StateHash, Class::IndexAheadOfEngine]));
        assert!(!caught(&[]) && !caught(&[Class::NotProven]));
        assert_eq!(judge(&bug, &sighting(&[])).class, "pass");
    }

    #[test]
    fn the_control_has_to_pass() {
        let control = expected(&[], None);
        assert!(judge(&control, &sighting(&[])).caught);
        assert!(!judge(&control, &sighting(&[Class::NotProven])).caught);
        assert!(!judge(&control, &sighting(&[Class::Watch])).caught);
    }

    #[test]
    fn what_was_not_expected_says_why() {
        let why = |classes: &[Class]| judge(&expected(&[], None), &sighting(classes)).why;
        assert_eq!(why(&[Class::NotProven]), Some(Finding::of_class(Class::NotProven).sentence()));
        assert_eq!(why(&[]), None);
        let bug = expected(&[Class::Watch], None);
        assert_eq!(judge(&bug, &sighting(&[Class::Watch])).why, None);
    }

    fn row(cycles: &[u32]) -> Row {
        let mut row = Row::new(&expected(&[Class::StateHash], None), cycles.len() as u32);
        row.trials = (1..)
            .zip(cycles)
            .map(|(seed, cycles)| Trial {
                seed,
                caught: true,
                class: String::new(),
                why: None,
                cycles: *cycles,
                elapsed_ms: 10,
                cpu_ms: 20,
            })
            .collect();
        row
    }

    #[test]
    fn a_row_holds_within_its_budget() {
        assert_eq!(row(&[300, 50, 1]).lacks(), None);
        assert!(row(&[51, 51, 1]).lacks().unwrap().contains("a median of 51"));
        assert!(row(&[1, 1, 301]).lacks().unwrap().contains("301 cycles"));
        let mut missed = row(&[1, 1]);
        missed.trials[1].caught = false;
        assert_eq!(missed.lacks().unwrap(), "caught 1 of 2");
        missed.trials.pop();
        assert!(missed.lacks().is_some(), "a trial that was not made is not a catch");
    }
}
