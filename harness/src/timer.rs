//! The only place that waits for time.
//!
//! Waiting is always for an event with a bound ([`within`]); [`sleep`] exists for the workload's
//! pacing and for kills that the plan wants at a time, never as a stand-in for a condition.
#![allow(clippy::disallowed_methods, reason = "this file is where the rest of the crate waits for time")]

use std::time::{Duration, Instant};

/// Waits for `duration`.
pub async fn sleep(duration: Duration) {
    tokio::time::sleep(duration).await;
}

/// Waits until `deadline`; returns at once if that is over.
pub async fn sleep_until(deadline: Instant) {
    tokio::time::sleep_until(deadline.into()).await;
}

/// `future`'s output, or `None` if it takes longer than `bound`; the future is dropped then.
pub async fn within<F: Future>(bound: Duration, future: F) -> Option<F::Output> {
    tokio::time::timeout(bound, future).await.ok()
}

/// `future`'s output, or `None` once `deadline` is over.
pub async fn before<F: Future>(deadline: Instant, future: F) -> Option<F::Output> {
    tokio::time::timeout_at(deadline.into(), future).await.ok()
}
