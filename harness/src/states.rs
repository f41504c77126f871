//! Crash states of one instant, tried without a cluster: a cut takes one of them, and the others
//! say which lost operation mattered, and what another loss would have done.
//!
//! ```text
//!   a cut ──▶ the instant, kept (faultfs) ──▶ a crash state, materialised in a directory
//!     ──▶ its look, by the inspector ──▶ the start of the member alone ──▶ findings (alone.rs)
//! ```
//!
//! [`missing_sync`] makes the losses of a failing state fewer until each is needed; [`explore`]
//! tries many states of an instant that did not fail.

mod bench;
mod ddmin;
mod enumerate;
mod explore;
mod missing_sync;

#[cfg(test)]
mod tests;

pub use explore::explore;
pub use missing_sync::missing_sync;
