//! The summary of a run when only its scenario and plan are known.

use crate::plan::Plan;
use crate::scenario::Scenario;
use ninelives_evidence::record::{
    ClusterRecord, LeasesJudged, LoadRecord, PlanRecord, ProvenanceRecord, QuotaRecord, Replayed, RunSummary,
    SCHEMA_VERSION,
};
use ninelives_evidence::signature::Signature;
use ninelives_evidence::verdict::Verdict;

/// A summary from scenario and plan alone, before the run.
pub fn planned(scenario: &Scenario, plan: &Plan, quotas: Vec<QuotaRecord>) -> RunSummary {
    RunSummary {
        schema_version: SCHEMA_VERSION,
        verdict: Verdict::Inconclusive,
        findings: Vec::new(),
        known: scenario.known.iter().map(Signature::unseen).collect(),
        plan: PlanRecord {
            scenario: scenario.name.clone(),
            scenario_path: scenario.path.display().to_string(),
            scenario_digest: scenario.digest(),
            digest: plan.digest(),
            seed: plan.seed,
            cycles: plan.steps.len() as u32,
            quotas,
        },
        cycles: Vec::new(),
        cluster: ClusterRecord {
            clusters: plan.clusters,
            members: scenario.cluster.members,
            backend: scenario.backend(),
            slots: Vec::new(),
            sabotage: None,
        },
        fault_classes: Vec::new(),
        load: LoadRecord::default(),
        pace: None,
        log_replayed: Replayed::default(),
        crowd: None,
        hostile: None,
        strangers: None,
        leases: scenario.load.has_short_leases().then(LeasesJudged::default),
        books: Vec::new(),
        localisation: None,
        missing_sync: None,
        skipped_checks: Vec::new(),
        interrupted: false,
        resumed: Vec::new(),
        started_utc: String::new(),
        elapsed_ms: 0,
        children_cpu_ms: None,
        provenance: ProvenanceRecord::default(),
        repro: String::new(),
    }
}
