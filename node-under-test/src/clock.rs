//! The node's only way to time. Nothing that is replicated may come from here: apply is
//! deterministic.

#![expect(clippy::disallowed_methods, reason = "this module is the one that the rule points to")]

use std::time::{Duration, Instant};

/// A monotonic point in time.
pub type Moment = Instant;

/// The monotonic clock.
pub fn now() -> Moment {
    Instant::now()
}

/// Completes at `deadline`.
pub async fn sleep_until(deadline: Moment) {
    tokio::time::sleep_until(deadline.into()).await;
}

/// Measures how long something took.
pub struct Stopwatch(Instant);

impl Stopwatch {
    pub fn start() -> Self {
        Self(now())
    }

    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    /// Microseconds, saturating.
    pub fn elapsed_micros(&self) -> u64 {
        u64::try_from(self.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}
