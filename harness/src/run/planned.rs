//! The summary of a run when only its scenario and plan are known.

use crate::plan::Plan;
use crate::scenario::Scenario;
use ninelives_evidence::known::Signature;
use ninelives_evidence::record::{
    BinaryId, EnvironmentRecord, LeasesJudged, QuotaRecord, Replayed, RunSummary, SCHEMA_VERSION,
};
use ninelives_evidence::verdict::Verdict;

/// A summary from scenario and plan alone, before the run.
pub fn planned(scenario: &Scenario, plan: &Plan, quotas: Vec<QuotaRecord>) -> RunSummary {
    let unknown = || BinaryId { path: String::new(), sha256: String::new(), version: None };
    RunSummary {
        schema_version: SCHEMA_VERSION,
        verdict: Verdict::Inconclusive,
        findings: Vec::new(),
        known: scenario.known.iter().map(Signature::unseen).collect(),
        scenario: scenario.name.clone(),
        scenario_path: scenario.path.display().to_string(),
        scenario_digest: scenario.digest(),
        plan_digest: plan.digest(),
        seed: plan.seed,
        cycles_planned: plan.steps.len() as u32,
        quotas,
        cycles: Vec::new(),
        members: scenario.cluster.members,
        backend: scenario.backend(),
        clusters: plan.clusters,
        slots: Vec::new(),
        sabotage: None,
        fault_classes: Vec::new(),
        acked_writes: 0,
        unknown_writes: 0,
        reads: 0,
        operations: Vec::new(),
        load_ms: 0,
        pace: None,
        log_replayed: Replayed::default(),
        crowd: None,
        leases: (scenario.load.lease_holders > 0).then(LeasesJudged::default),
        books: Vec::new(),
        localisation: None,
        missing_sync: None,
        skipped_checks: Vec::new(),
        interrupted: false,
        resumed: Vec::new(),
        started_utc: String::new(),
        elapsed_ms: 0,
        harness: unknown(),
        node: unknown(),
        inspector: None,
        environment: EnvironmentRecord::default(),
        kernel: String::new(),
        filesystem: String::new(),
        git_revision: None,
        repro: String::new(),
    }
}
