//! The end of a process, and whether this harness caused it.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The end of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    /// It ended by itself, with this exit code.
    Exited(i32),
    /// This signal ended it, and we had sent it.
    KilledByUs(i32),
    /// This signal ended it, and we had not: its own abort, the OOM killer, a stranger.
    KilledByOther(i32),
    /// It is gone, and its end is unknown: another process reaped it, or a real-time signal ended
    /// it.
    Unknown,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ended::Exited(code) => write!(f, "exit code {code}"),
            Ended::KilledByUs(signal) => write!(f, "signal {signal} from the harness"),
            Ended::KilledByOther(9) => {
                f.write_str("signal 9 that the harness did not send (out of memory, or a stranger)")
            }
            Ended::KilledByOther(signal) => write!(f, "signal {signal} that the harness did not send"),
            Ended::Unknown => f.write_str("an end that this harness did not learn of"),
        }
    }
}
