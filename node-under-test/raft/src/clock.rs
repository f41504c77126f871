//! The crate's only way to time: deadlines of remote calls, and nothing that decides what is
//! replicated.

#![allow(clippy::disallowed_methods, reason = "this module is the one that the rule points to")]

use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// As good as for ever.
const MAX_WAIT: Duration = Duration::from_secs(365 * 24 * 3600);

/// A point in time until which something is worth waiting for.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(Instant);

impl Deadline {
    pub fn after(wait: Duration) -> Self {
        Self::at(Moment::now(), wait)
    }

    pub fn at(from: Moment, wait: Duration) -> Self {
        Self(from.0.checked_add(wait).unwrap_or(from.0 + MAX_WAIT))
    }

    pub fn is_over(self) -> bool {
        Instant::now() >= self.0
    }

    /// The output of `work`, or `None` once the deadline has passed.
    pub async fn bound<T>(self, work: impl Future<Output = T>) -> Option<T> {
        tokio::time::timeout_at(self.0, work).await.ok()
    }
}

/// A monotonic point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(Instant);

impl Moment {
    pub fn now() -> Self {
        Self(Instant::now())
    }

    /// The library's `instant`, which is not in the future.
    pub fn of(instant: impl openraft::Instant) -> Self {
        let now = Instant::now();
        Self(now.checked_sub(instant.elapsed()).unwrap_or(now))
    }

    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }

    pub fn saturating_duration_since(self, earlier: Self) -> Duration {
        self.0.saturating_duration_since(earlier.0)
    }
}

/// Lets one thing in each interval happen, and counts the others.
#[derive(Debug)]
pub struct Pace {
    every: Duration,
    last: Mutex<(Option<Instant>, u64)>,
}

impl Pace {
    pub const fn new(every: Duration) -> Self {
        Self { every, last: Mutex::new((None, 0)) }
    }

    /// Admits one event if it may happen now; if so, returns how many were not admitted since the
    /// last one.
    pub fn admit(&self) -> Option<u64> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if last.0.is_some_and(|last| now.duration_since(last) < self.every) {
            last.1 += 1;
            return None;
        }
        last.0 = Some(now);
        Some(std::mem::take(&mut last.1))
    }
}

/// Time that has passed since `moment`.
pub fn ago(moment: impl openraft::Instant) -> Duration {
    moment.elapsed()
}

#[cfg(test)]
impl std::ops::Add<Duration> for Moment {
    type Output = Self;

    fn add(self, rhs: Duration) -> Self {
        Self(self.0 + rhs)
    }
}

/// True if `moment` lies at most `ago` in the past.
pub fn is_within(moment: impl openraft::Instant, ago: Duration) -> bool {
    moment.elapsed() <= ago
}

/// Paces what has no event to wait for.
pub async fn pause(wait: Duration) {
    tokio::time::sleep(wait).await;
}

/// Holds up the calling thread: for planted bugs only.
pub fn stall(wait: Duration) {
    std::thread::sleep(wait);
}
