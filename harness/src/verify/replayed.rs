//! One cluster's history, from its first line to its last.

use crate::paths::Paths;
use crate::plan::Plan;
use crate::provenance;
use crate::run::Share;
use crate::scenario::Scenario;
use anyhow::bail;
use ninelives_evidence::record::{CycleRecord, QuotaRecord};
use ninelives_evidence::signature::Signature;
use ninelives_evidence::verdict::Finding;
use ninelives_evidence::{End, Evidence, EvidenceKind, Head};
use ninelives_oracle::Raised;
use ninelives_oracle::fold::Fold;
use std::collections::BTreeSet;
use std::path::Path;

/// Evidence that was judged again, by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub lines: u64,
    pub operations: u64,
    pub revisions: u64,
    /// Deliveries of a revision by another stream than the first.
    pub redelivered: u64,
    pub fences: u64,
    pub dead_directories: u64,
    pub recoveries: u64,
    pub raft_logs: u64,
    pub last_reads: u64,
}

impl Counts {
    pub fn add(&mut self, other: &Self) {
        self.lines += other.lines;
        self.operations += other.operations;
        self.revisions += other.revisions;
        self.redelivered += other.redelivered;
        self.fences += other.fences;
        self.dead_directories += other.dead_directories;
        self.recoveries += other.recoveries;
        self.raft_logs += other.raft_logs;
        self.last_reads += other.last_reads;
    }

    fn count(&mut self, evidence: &Evidence) {
        self.lines += 1;
        match evidence {
            Evidence::Invoke { .. } => self.operations += 1,
            Evidence::Revision { .. } => self.revisions += 1,
            Evidence::Again { .. } => self.redelivered += 1,
            Evidence::FenceAnswers { .. } | Evidence::KvFence { .. } => self.fences += 1,
            Evidence::Inspected { .. } => self.dead_directories += 1,
            Evidence::Recovery { .. } => self.recoveries += 1,
            Evidence::RaftLog { .. } => self.raft_logs += 1,
            Evidence::LastRead { .. } => self.last_reads += 1,
            _ => {}
        }
    }
}

/// The result of folding a history.
#[derive(Debug, Default)]
pub(super) struct FoldedHistory {
    pub cluster: u32,
    pub share: Share,
    /// Places in the share's findings of those that are testimony.
    pub told: BTreeSet<usize>,
    /// The findings that the run wrote down.
    claimed: Vec<Finding>,
    /// The findings that it wrote down as known, each with its signature's name.
    claimed_known: Vec<(String, Finding)>,
    pub cycles: Vec<CycleRecord>,
    /// The history has its last line.
    pub ended: bool,
    pub counts: Counts,
    pub torn: bool,
    /// The quotas of the plan.
    pub quotas: Option<Vec<QuotaRecord>>,
    pub disagreements: Vec<String>,
    /// Kills in the cycle under way, and indexes of its answered fences.
    kills: u32,
    power_losses: u32,
    disk_ends: u32,
    fences: BTreeSet<u64>,
}

/// Folds the history of `cluster`.
///
/// # Errors
/// The history cannot be read, or is of another run or version.
pub(super) fn replay(paths: &Paths, cluster: u32, scenario: &Scenario, plan: &Plan) -> anyhow::Result<FoldedHistory> {
    let path = paths.of_cluster(cluster).history_jsonl();
    let mut fold = Fold::open(&path, &scenario.known)?;
    check_head(&path, fold.head(), cluster, scenario, plan)?;
    let quotas = fold.head().job.as_ref().map(|job| job.quotas.clone());
    let mut replayed = FoldedHistory { cluster, quotas, ..FoldedHistory::default() };
    while let Some((line, evidence)) = fold.step()? {
        if matches!(evidence, Evidence::Resumed { .. }) && (!replayed.ended || replayed.share.end.interrupted) {
            (replayed.ended, replayed.share.end) = (false, End::default());
            replayed.kills = 0;
        }
        if replayed.ended {
            bail!("{}, line {line}: expected nothing after the end of the run's evidence", path.display());
        }
        replayed.follow(evidence);
    }
    replayed.torn = fold.torn();
    let ledger = fold.ledger();
    for (place, Raised { finding, by }) in ledger.drain().into_iter().enumerate() {
        if by.kind == EvidenceKind::Told {
            replayed.told.insert(place);
        }
        replayed.share.findings.push(finding);
    }
    replayed.share.sums = ledger.sums(cluster, provenance::own_build());
    replayed.compare_findings();
    replayed.compare_known(&scenario.known);
    Ok(replayed)
}

fn check_head(path: &Path, head: &Head, cluster: u32, scenario: &Scenario, plan: &Plan) -> anyhow::Result<()> {
    for (what, expected, found) in [
        ("cluster", cluster.to_string(), head.cluster.to_string()),
        ("seed", plan.seed.to_string(), head.seed.to_string()),
        ("scenario digest", scenario.digest(), head.scenario_digest.clone()),
        ("plan digest", plan.digest(), head.plan_digest.clone()),
    ] {
        if expected != found {
            bail!(
                "{}: expected the history of this plan and scenario ({what} {expected}), found one with {what} {found}",
                path.display()
            );
        }
    }
    Ok(())
}

impl FoldedHistory {
    fn follow(&mut self, evidence: Evidence) {
        self.counts.count(&evidence);
        match evidence {
            Evidence::Cycle { .. } => {
                (self.kills, self.power_losses, self.disk_ends) = (0, 0, 0);
                self.fences.clear();
            }
            Evidence::Killed { .. } => self.kills += 1,
            Evidence::PowerLost { .. } => self.power_losses += 1,
            Evidence::EndedByDisk { .. } => self.disk_ends += 1,
            Evidence::FenceAnswers { answers, .. } => {
                self.fences.extend(answers.0.iter().map(|(_, answer)| answer.index))
            }
            Evidence::KvFence { index, .. } => drop(self.fences.insert(index)),
            Evidence::Finding { finding, known: None } => self.claimed.push(finding),
            Evidence::Finding { finding, known: Some(name) } => self.claimed_known.push((name, finding)),
            Evidence::CycleEnd { record } => self.close(record),
            Evidence::End(end) => (self.ended, self.share.end) = (true, end),
            _ => {}
        }
    }

    /// A cycle's record is the run's own; what the evidence says of it has to be the same.
    fn close(&mut self, record: CycleRecord) {
        let cycle = record.cycle;
        for (what, claims, shows) in [
            ("kills", record.kills.landed, self.kills),
            ("power losses", record.kills.power_losses, self.power_losses),
            ("ends by disks", record.kills.disk_ends, self.disk_ends),
        ] {
            if claims != shows {
                self.disagreements
                    .push(format!("{what} of cycle {cycle}: its record says {claims}, the evidence {shows}"));
            }
        }
        if let Some(index) = record.fence_index.filter(|index| !self.fences.contains(index)) {
            // A fence that no member's watch ever reached is answered, and not judged: the finding
            // says so.
            if record.findings == 0 {
                self.disagreements.push(format!("cycle {cycle}: no evidence of the fence at raft index {index}"));
            }
        }
        if let Some(last) = self.cycles.last().filter(|last| last.cycle >= cycle) {
            self.disagreements.push(format!("cycle {cycle} ends after cycle {}", last.cycle));
        }
        self.cycles.push(record);
    }

    /// Checks that the findings that the run wrote down are found again.
    fn compare_findings(&mut self) {
        let key = |finding: &Finding| (finding.class(), finding.cycle, finding.member);
        let found: BTreeSet<_> = self.share.findings.iter().map(key).collect();
        for claim in self.claimed.iter().filter(|claim| !found.contains(&key(claim))) {
            self.disagreements.push(format!("the run found what the evidence does not lead to: {claim}"));
        }
    }

    /// Checks that the findings that the run wrote down as known match the scenario's signature of
    /// that name, and are found again.
    fn compare_known(&mut self, signatures: &[Signature]) {
        let matches = |(name, finding): &&(String, Finding)| {
            signatures.iter().any(|signature| signature.name == *name && signature.matches(finding))
        };
        for (name, claim) in self.claimed_known.iter().filter(|claim| !matches(claim)) {
            self.disagreements.push(format!("the run suppressed as {name:?} what the scenario does not know: {claim}"));
        }
        for known in &self.share.sums.known {
            let claimed = self.claimed_known.iter().filter(|(name, _)| *name == known.name).count() as u64;
            if claimed > known.count {
                self.disagreements.push(format!(
                    "the run suppressed {claimed} findings as {:?}, and the evidence leads to {}",
                    known.name, known.count
                ));
            }
        }
    }
}
