//! Records of cycles and runs: the data that `verdict.json` stores, and that every report is drawn
//! from.
//!
//! Plain data, no behaviour beyond sums: a stored record must read back without a cluster.

pub mod books;
pub mod crowd;
mod cycle;
pub mod explored;
pub mod hostile;
pub mod localisation;
pub mod missing_sync;
pub mod operations;
pub mod pace;
mod run;
pub mod strangers;
pub mod suppressed;

pub use cycle::{
    AgainRecord, CycleRecord, FaultOutcome, KillsRecord, LastingKind, LastingRecord, PhasesMs, PlannedRecord,
    RecoveryRecord, Victim,
};
pub use run::{
    BinaryId, ClusterRecord, EnvironmentRecord, LeasesJudged, LoadRecord, PlanRecord, ProvenanceRecord, QuotaRecord,
    Replayed, ResumedRecord, RunSummary, SCHEMA_VERSION, SlotRecord,
};

/// The number of the first cluster, the only one of most runs.
fn first() -> u32 {
    1
}

fn is_first(cluster: &u32) -> bool {
    *cluster == 1
}

fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
