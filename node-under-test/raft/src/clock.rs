//! The crate's only way to time: deadlines of remote calls, and nothing that decides what is replicated.

#![allow(clippy::disallowed_methods, reason = "this module is the one that the rule points to")]

use std::future::Future;
use std::time::Duration;
use tokio::time::Instant;

/// A point in time until which something is worth waiting for.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(Instant);

impl Deadline {
    pub fn after(wait: Duration) -> Self {
        Self(Instant::now() + wait)
    }

    pub fn is_over(self) -> bool {
        Instant::now() >= self.0
    }

    /// The output of `work`, or `None` once the deadline has passed.
    pub async fn bound<T>(self, work: impl Future<Output = T>) -> Option<T> {
        tokio::time::timeout_at(self.0, work).await.ok()
    }
}

/// Whether `moment` lies at most `ago` in the past.
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
