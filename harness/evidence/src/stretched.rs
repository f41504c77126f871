//! Bounds that were measured on an idle machine, stretched by the pace of this one.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

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

    /// The stretched bound, in milliseconds.
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
}
