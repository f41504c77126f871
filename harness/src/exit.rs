//! Exit codes as a type: the one table of the codes that the shell sees.

use ninelives_evidence::verdict::Verdict;
use std::process::ExitCode;

/// The end of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Every check ran and held.
    Pass = 0,
    /// The system under test broke a promise.
    Violation = 1,
    /// Too little happened for a pass to mean anything.
    Inconclusive = 2,
    /// The system under test did not come back within its bound.
    Liveness = 3,
    /// The command line, the scenario or the plan cannot be run.
    Usage = 64,
    /// The harness itself failed: says nothing about the system under test.
    Harness = 70,
    /// Ended by SIGINT or SIGTERM; the report is partial.
    Interrupted = 130,
}

impl From<Verdict> for Exit {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Violation => Exit::Violation,
            Verdict::Liveness => Exit::Liveness,
            Verdict::HarnessError => Exit::Harness,
            Verdict::Inconclusive => Exit::Inconclusive,
            Verdict::Pass => Exit::Pass,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// A failure that ends the command, with the exit code that it ends with.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A mistake that the user can correct; the message names it.
    #[error("{0}")]
    Usage(String),
    /// The harness failed.
    #[error(transparent)]
    Harness(#[from] anyhow::Error),
}

impl Failure {
    pub fn exit(&self) -> Exit {
        match self {
            Failure::Usage(_) => Exit::Usage,
            Failure::Harness(_) => Exit::Harness,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_pass_exits_zero() {
        for verdict in [Verdict::Violation, Verdict::Liveness, Verdict::HarnessError, Verdict::Inconclusive] {
            assert_ne!(Exit::from(verdict) as u8, 0, "{verdict}");
        }
        assert_eq!(Exit::from(Verdict::Pass) as u8, 0);
    }
}
