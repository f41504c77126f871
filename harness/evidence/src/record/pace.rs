//! The pace of the machine during a run, and the factors by which it stretched bounds.

use crate::stretched::Factor;
use serde::{Deserialize, Serialize};

/// The pace of a machine over one run, as the harness measured it by itself. For a resumed run it
/// covers the time since the last resumption.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaceRecord {
    /// The floor of a cycle beside a run that has an idle machine for itself, microseconds: the
    /// reference of the factors.
    pub reference_floor_us: u64,
    /// The same floor on this machine before the run began, …
    pub launch_floor_us: u64,
    /// … and its mean since then.
    pub mean_floor_us: u64,
    /// The factor by which bounds were stretched, percent: the lowest, …
    pub factor_percent_min: u32,
    /// … the highest, …
    pub factor_percent_max: u32,
    /// … and the mean over time.
    pub factor_percent_mean: u32,
}

impl PaceRecord {
    /// One line for human readers.
    pub fn sentence(&self) -> String {
        format!(
            "a cycle's floor took {} ms at launch and {} ms on average, {} ms where bounds were measured; they were stretched by {} to \
             {}, {} on average",
            thousandths(self.launch_floor_us),
            thousandths(self.mean_floor_us),
            thousandths(self.reference_floor_us),
            Factor(self.factor_percent_min),
            Factor(self.factor_percent_max),
            Factor(self.factor_percent_mean)
        )
    }
}

/// Microseconds as milliseconds with one decimal.
pub fn thousandths(us: u64) -> String {
    format!("{}.{}", us / 1_000, us % 1_000 / 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back_and_speaks() {
        let record = PaceRecord {
            reference_floor_us: 40_000,
            launch_floor_us: 31_250,
            mean_floor_us: 84_800,
            factor_percent_min: 100,
            factor_percent_max: 480,
            factor_percent_mean: 212,
        };
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<PaceRecord>(&text).unwrap(), record);
        assert!(
            record.sentence().contains("31.2 ms at launch and 84.8 ms on average, 40.0 ms where"),
            "{}",
            record.sentence()
        );
        assert!(record.sentence().ends_with("by 1.00 to 4.80, 2.12 on average"), "{}", record.sentence());
    }
}
