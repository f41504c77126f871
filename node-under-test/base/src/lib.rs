//! Basics that all parts of the node share: log positions, crash windows, planted bugs, durable
//! file replacement, and the seam between the state machine and a storage engine.
//!
//! Nothing here knows an engine, raft or gRPC.

#![deny(clippy::print_stdout, clippy::print_stderr, reason = "a print that fails panics: see `diagnostics`")]

pub mod backend;
mod backend_error;
pub mod caught;
pub mod chain;
pub mod diagnostics;
pub mod durable;
pub mod failpoint;
pub mod log_id;
pub mod memory;
pub mod process;
pub mod sabotage;
pub mod watermarks;

pub use log_id::LogId;

/// Exit code of a node that found its own durability invariant broken (E < N, a gap in the replay,
/// …).
pub const EXIT_INVARIANT: i32 = 65;

/// Reports a broken durability invariant on standard error and ends the process with
/// [`EXIT_INVARIANT`].
///
/// Unwinding would run destructors on state that is known to be wrong, so the process ends at once.
pub fn invariant_broken(sentence: &str) -> ! {
    say!("invariant broken: {sentence}");
    process::end(EXIT_INVARIANT)
}
