//! `verify`: a report's evidence, judged again. Offline: no cluster, no node, no clock.
//!
//! The lines of a history go through the very judges that the run's evidence went through
//! ([`ninelives_oracle::fold`]), in the same order, so they raise the same findings; the run's own
//! function concludes from them. A report can disagree only by claims without evidence, or because
//! its evidence was changed since. The ledger's books of both are compared as well, field by field:
//! that finds a judge that goes by anything but the evidence.
//!
//! Testimony is not judged again: that a bound passed or that a process died of itself, only the
//! run could see. It counts as it was told, and is told apart. So are the records of cycles; what
//! the evidence says of them is compared.
//!
//! A run whose harness was killed has no verdict, and a history that ends somewhere. What is there
//! is judged; it proves no pass.

mod replayed;

pub use replayed::Counts;

use crate::exit::{Exit, Failure};
use crate::paths::Paths;
use crate::plan::Plan;
use crate::report;
use crate::run::{self, RunTotals};
use crate::scenario::Scenario;
use ninelives_evidence::record::RunSummary;
use ninelives_evidence::record::books::BooksRecord;
use ninelives_evidence::record::operations::StepRecord;
use ninelives_evidence::record::suppressed::SuppressedRecord;
use ninelives_evidence::verdict::findings::Lack;
use ninelives_evidence::verdict::{self, Class, Finding, Verdict};
use replayed::FoldedHistory;
use std::collections::BTreeMap;
use std::io;

/// Result of judging a report again.
#[derive(Debug)]
pub struct Verification {
    /// The run, as the evidence has it.
    pub run: RunSummary,
    /// The summary in the report; `None`: the run ended before it wrote one.
    pub claimed: Option<RunSummary>,
    pub counts: Counts,
    /// By class, all findings: judged again, and told.
    pub classes: BTreeMap<&'static str, (u64, u64)>,
    /// Histories whose last line is cut off.
    pub torn: u32,
    /// Histories that have no end.
    unended: u32,
    /// Differences between evidence and report, in words.
    pub disagreements: Vec<String>,
}

impl Verification {
    /// The verdict's, if evidence and report agree.
    pub fn exit(&self) -> Exit {
        let found = self.run.verdict == Verdict::Violation;
        match &self.claimed {
            _ if self.disagreements.is_empty() => run::exit_of(&self.run),
            Some(claimed) if found && claimed.verdict != Verdict::Violation => Exit::Violation,
            None if found => Exit::Violation,
            _ => Exit::Harness,
        }
    }
}

impl Verification {
    /// Ledgers whose books were compared, and how many fields those have; `None`: none was.
    pub fn books_compared(&self) -> Option<(usize, usize)> {
        let pairs = self.claimed.iter().flat_map(|claimed| claimed.books.iter().zip(&self.run.books));
        let fields: Vec<_> =
            pairs.filter(|(claims, shows)| claims.same_build(shows)).map(|(_, shows)| shows.fields.len()).collect();
        (!fields.is_empty()).then(|| (fields.len(), fields.iter().sum()))
    }
}

/// Says what `paths` lacks to be the report of a run; `None`: nothing.
pub fn not_a_report(paths: &Paths) -> Option<String> {
    paths.lacking(&[paths.scenario_toml(), paths.plan_txt(), paths.history_jsonl()])
}

/// The claims of a report: all of it but its evidence.
#[derive(Debug)]
pub struct Claims {
    scenario: Scenario,
    plan: Plan,
    /// `None`: the run ended before it wrote one.
    run: Option<RunSummary>,
}

impl Claims {
    /// Reads them from the report at `paths`.
    ///
    /// # Errors
    /// A usage error if a part cannot be read as what it should be, or the parts are not those of
    /// one run; the harness's own if `verdict.json` is there and the system cannot read it.
    pub fn read(paths: &Paths) -> Result<Self, Failure> {
        let (scenario, plan) = run::read_inputs(paths)?;
        let run = match report::read(paths) {
            Ok(run) => Some(run),
            Err(report::Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => None,
            Err(error @ (report::Error::Malformed { .. } | report::Error::Version { .. })) => {
                return Err(Failure::Usage(error.to_string()));
            }
            Err(error) => return Err(Failure::Harness(error.into())),
        };
        Ok(Self { scenario, plan, run })
    }
}

/// Judges the evidence of the report at `paths` again, beside its `claims`.
///
/// # Errors
/// A history is missing or unreadable, or of another run.
pub fn verify(paths: &Paths, claims: Claims) -> anyhow::Result<Verification> {
    let Claims { scenario, plan, run: claimed } = claims;
    let mut verification = Verification {
        run: run::planned(&scenario, &plan, Vec::new()),
        claimed,
        counts: Counts::default(),
        classes: BTreeMap::new(),
        torn: 0,
        unended: 0,
        disagreements: Vec::new(),
    };
    let mut outcome = RunTotals::default();
    for cluster in 1..=plan.clusters {
        let replayed = replayed::replay(paths, cluster, &scenario, &plan)?;
        verification.take(replayed, &mut outcome);
    }
    if let Some(claimed) = &verification.claimed {
        // No evidence counts these: the run's own count stands, and its floors are held to it.
        let run = &mut verification.run;
        run.crowd = claimed.crowd.clone();
        run.hostile = claimed.hostile.clone();
        run.strangers = claimed.strangers.clone();
    }
    run::conclude(&scenario.floors, &mut verification.run, outcome);
    verification.compare();
    Ok(verification)
}

impl Verification {
    fn take(&mut self, replayed: FoldedHistory, outcome: &mut RunTotals) {
        let FoldedHistory {
            cluster, mut share, told, ended, counts, torn, quotas, mut cycles, mut disagreements, ..
        } = replayed;
        for (place, finding) in share.findings.iter().enumerate() {
            let (judged, testimony) = self.classes.entry(finding.class().name()).or_default();
            *(if told.contains(&place) { testimony } else { judged }) += 1;
        }
        self.counts.add(&counts);
        self.torn += u32::from(torn);
        self.disagreements.append(&mut disagreements);
        outcome.cycles.append(&mut cycles);
        if !ended {
            self.unended += 1;
            share.findings.push(Finding::new(Lack::HistoryUnended { cluster }));
        }
        share.name_cluster(cluster, self.run.cluster.clusters);
        outcome.add(share);
        if let Some(quotas) = quotas {
            self.run.plan.quotas = quotas;
        }
    }

    /// The report's claims against the evidence, field by field.
    fn compare(&mut self) {
        let Some(claimed) = &self.claimed else { return };
        let exhausted = claimed.verdict == Verdict::HarnessError
            && claimed.findings.iter().any(|finding| finding.class() == Class::MachineExhausted);
        if self.unended > 0 && exhausted && self.run.verdict != Verdict::Violation {
            // The report says itself why its evidence ends, and that nothing behind that is proven.
            let why = "whatever the report says beyond the end of its history, which could not be written any more";
            self.run.skipped_checks.push(why.to_owned());
            (self.run.verdict, self.run.findings) = (claimed.verdict, claimed.findings.clone());
            return;
        }
        let run = &self.run;
        let mut differ = |what: &str, claims: String, shows: String| {
            if claims != shows {
                self.disagreements.push(format!("{what}: verdict.json says {claims}, the evidence {shows}"));
            }
        };
        differ("verdict", claimed.verdict.to_string(), run.verdict.to_string());
        differ("classes", classes(&claimed.findings), classes(&run.findings));
        differ("known findings", known(&claimed.known), known(&run.known));
        differ("interrupted", claimed.interrupted.to_string(), run.interrupted.to_string());
        differ("cycles", claimed.cycles.len().to_string(), run.cycles.len().to_string());
        for (claims, shows) in claimed.cycles.iter().zip(&run.cycles).filter(|(claims, shows)| claims != shows) {
            let (claims, shows) = (serde_json::to_string(claims), serde_json::to_string(shows));
            let cycle = "the record of a cycle";
            differ(cycle, claims.unwrap_or_default(), shows.unwrap_or_default());
        }
        differ("kills", claimed.kills().to_string(), run.kills().to_string());
        differ("acknowledged writes", claimed.load.acked_writes.to_string(), run.load.acked_writes.to_string());
        differ("unknown writes", claimed.load.unknown_writes.to_string(), run.load.unknown_writes.to_string());
        differ("time of the load", claimed.load.ran_ms.to_string(), run.load.ran_ms.to_string());
        differ("reads", claimed.load.reads.to_string(), run.load.reads.to_string());
        if !claimed.load.operations.is_empty() {
            differ("operations", operations(&claimed.load.operations), operations(&run.load.operations));
        }
        differ("resumptions", format!("{:?}", claimed.resumed), format!("{:?}", run.resumed));
        differ("leases", format!("{:?}", claimed.leases), format!("{:?}", run.leases));
        differ("raft log replay", format!("{:?}", claimed.log_replayed), format!("{:?}", run.log_replayed));
        differ("skipped checks", sorted(&claimed.skipped_checks), sorted(&run.skipped_checks));
        differ("fault classes", sorted(&claimed.fault_classes), sorted(&run.fault_classes));
        differ("cycles planned", claimed.plan.cycles.to_string(), run.plan.cycles.to_string());
        differ("quotas", format!("{:?}", claimed.plan.quotas), format!("{:?}", run.plan.quotas));
        differ("slots", format!("{:?}", claimed.cluster.slots), format!("{:?}", run.cluster.slots));
        differ("seed", claimed.plan.seed.to_string(), run.plan.seed.to_string());
        let clusters = |books: &[BooksRecord]| format!("those of {} clusters", books.len());
        differ("books", clusters(&claimed.books), clusters(&run.books));
        for (claims, shows) in claimed.books.iter().zip(&run.books).filter(|(claims, shows)| claims.same_build(shows)) {
            for field in claims.differing(shows) {
                let of =
                    |books: &BooksRecord| books.fields.get(&field).cloned().unwrap_or_else(|| "nothing".to_owned());
                differ(&format!("books of cluster {}, field {field}", claims.cluster), of(claims), of(shows));
            }
        }
        differ("scenario digest", claimed.plan.scenario_digest.clone(), run.plan.scenario_digest.clone());
        differ("plan digest", claimed.plan.digest.clone(), run.plan.digest.clone());
        let another = claimed.books.iter().zip(&run.books).any(|(claims, shows)| !claims.same_build(shows));
        if another {
            let why = "comparison of the books, field by field: another build of the harness wrote the report";
            self.run.skipped_checks.push(why.to_owned());
        }
    }
}

/// The number of findings of each class that a report keeps. (Their order within a class depends on
/// the order of tasks.)
fn classes(findings: &[Finding]) -> String {
    let mut findings = findings.to_vec();
    verdict::cause_first(&mut findings);
    let classes =
        findings.chunk_by(|a, b| a.class() == b.class()).map(|same| format!("{} ({})", same[0].class(), same.len()));
    let classes: Vec<_> = classes.collect();
    if classes.is_empty() { "none".to_owned() } else { classes.join(", ") }
}

/// The number of suppressed findings, by signature.
fn known(records: &[SuppressedRecord]) -> String {
    let counts: Vec<_> = records.iter().map(|one| format!("{} as {:?}", one.count, one.name)).collect();
    if counts.is_empty() { "none".to_owned() } else { counts.join(", ") }
}

/// The outcomes of the operations, kind by kind.
fn operations(records: &[StepRecord]) -> String {
    serde_json::to_string(records).unwrap_or_default()
}

fn sorted(words: &[String]) -> String {
    let mut words = words.to_vec();
    words.sort();
    format!("{words:?}")
}

#[cfg(test)]
mod tests;
