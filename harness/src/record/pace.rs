//! How slowly the machine went during a run, and by how much that stretched a bound.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// The pace of a machine over one run, as the harness measured it by itself. Of a run that was
/// resumed, since the last time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaceRecord {
    /// The floor of a cycle beside a run that has an idle machine for itself, microseconds: what
    /// the factors refer to.
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
    /// One line for people.
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

/// A factor in percent, shown as `1.25`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Factor(pub u32);

impl fmt::Display for Factor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}", self.0 / 100, self.0 % 100)
    }
}

/// Not stretched: as where bounds were measured.
pub const AS_IDLE: u32 = 100;

/// The default of stored factors that are older than factors.
pub fn as_idle() -> u32 {
    AS_IDLE
}

/// A bound that was measured on an idle machine, stretched by the pace of this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stretched {
    pub idle_ms: u64,
    /// Percent; at least [`AS_IDLE`].
    pub factor_percent: u32,
}

impl Stretched {
    /// Not stretched.
    pub fn idle(bound: Duration) -> Self {
        Self { idle_ms: u64::try_from(bound.as_millis()).unwrap_or(u64::MAX), factor_percent: AS_IDLE }
    }

    /// What it comes to, milliseconds.
    pub fn ms(&self) -> u64 {
        self.idle_ms.saturating_mul(u64::from(self.factor_percent)) / u64::from(AS_IDLE)
    }
}

impl fmt::Display for Stretched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms ({} ms × {}, the machine's factor)", self.ms(), self.idle_ms, Factor(self.factor_percent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_shown_with_its_factor() {
        let bound = Stretched { idle_ms: 4_000, factor_percent: 205 };
        assert_eq!(bound.ms(), 8_200);
        assert_eq!(bound.to_string(), "8200 ms (4000 ms × 2.05, the machine's factor)");
        assert_eq!(Stretched::idle(Duration::from_secs(30)).ms(), 30_000);
    }

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
