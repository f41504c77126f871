//! Blame as a type: what a check found ([`Class`]), the finding in words ([`Finding`]), and what a whole run
//! amounts to ([`Verdict`]).
//!
//! A violation by the system, an inconclusive run and a broken harness never share a class, a verdict or an
//! exit code.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What kind of thing a finding is about. The kebab-case names are part of the `verdict.json` schema, and
/// are what a planted bug is expected to be caught as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// The persisted index N is above what the engine proves (E < N).
    IndexAheadOfEngine,
    /// Two replicas hash differently at the same fence.
    StateHash,
    /// An acknowledged write is gone.
    LostWrite,
    /// The raft log was purged above N.
    PurgedAboveN,
    /// A member refuses to start after nothing but our own crash.
    RefusedAfterOwnCrash,
    /// Within one life, a member's own watermarks went back or stood in the wrong order.
    Watermarks,
    /// The replay did not start at N+1, skipped or repeated an entry, or claims what the dead directory denies.
    ReplayStart,
    /// An operation was applied twice, or counts for more or less than one.
    ExactlyOnce,
    /// A lease ended before its acknowledged time, was renewed after its end, or did not end.
    Lease,
    /// Something is there that nobody wrote.
    Phantom,
    /// All replicas agree, and the independent model does not.
    Model,
    /// No order of the operations explains their answers and the real time between them: a stale read, most often.
    Linearizability,
    /// A watch had a gap, a duplicate, or went back, or could not be resumed where it promised to be.
    Watch,
    /// The raft log that a member wrote breaks its own order: a hole, an entry in another's place,
    /// a term that falls.
    RaftLog,
    /// A vote in the raft log went back, or a term had two leaders, which takes a voter that forgot its vote.
    VoteWentBack,
    /// A member that needs a snapshot was sent some and refused them all, so that it never caught up: liveness, with a cause.
    SnapshotTransfer,
    /// A node ended by its own doing (panic, own invariant), and nothing more precise is known.
    NodeDied,
    /// It did not come back, or not catch up, inside its bound.
    Liveness,
    /// The machine ran out of something (disk, memory, descriptors), by the kernel's own account:
    /// says nothing about the system.
    MachineExhausted,
    /// The harness itself failed, or a stranger interfered: says nothing about the system.
    HarnessError,
    /// Too little happened for a pass to mean anything.
    NotProven,
}

impl Class {
    /// The verdict that a finding of this class alone leads to.
    pub fn verdict(self) -> Verdict {
        match self {
            Class::Liveness | Class::SnapshotTransfer => Verdict::Liveness,
            Class::HarnessError | Class::MachineExhausted => Verdict::HarnessError,
            Class::NotProven => Verdict::Inconclusive,
            _ => Verdict::Violation,
        }
    }

    /// The kebab-case name, as in `verdict.json`.
    pub fn name(self) -> &'static str {
        match self {
            Class::IndexAheadOfEngine => "index-ahead-of-engine",
            Class::StateHash => "state-hash",
            Class::LostWrite => "lost-write",
            Class::PurgedAboveN => "purged-above-n",
            Class::RefusedAfterOwnCrash => "refused-after-own-crash",
            Class::ReplayStart => "replay-start",
            Class::Watermarks => "watermarks",
            Class::ExactlyOnce => "exactly-once",
            Class::Lease => "lease",
            Class::Phantom => "phantom",
            Class::Model => "model",
            Class::Linearizability => "linearizability",
            Class::Watch => "watch",
            Class::RaftLog => "raft-log",
            Class::VoteWentBack => "vote-went-back",
            Class::SnapshotTransfer => "snapshot-transfer",
            Class::NodeDied => "node-died",
            Class::Liveness => "liveness",
            Class::MachineExhausted => "machine-exhausted",
            Class::HarnessError => "harness-error",
            Class::NotProven => "not-proven",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One thing that a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    pub class: Class,
    /// The cycle in which it was found; `None` for a finding about the whole run.
    pub cycle: Option<u32>,
    /// Where several clusters ran side by side, the one (from 1) that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<u32>,
    /// The member it is about; `None` if it is about several, or about none.
    pub member: Option<u64>,
    /// The revision that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// The keys that it is about, the first few.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
    /// What was expected, what was found, and what to look at next.
    pub sentence: String,
}

impl Finding {
    pub fn new(class: Class, sentence: impl Into<String>) -> Self {
        Self {
            class,
            cycle: None,
            cluster: None,
            member: None,
            revision: None,
            keys: Vec::new(),
            sentence: sentence.into(),
        }
    }

    pub fn in_cycle(mut self, cycle: u32) -> Self {
        self.cycle = Some(cycle);
        self
    }

    pub fn at_member(mut self, member: u64) -> Self {
        self.member = Some(member);
        self
    }

    pub fn at_revision(mut self, revision: u64) -> Self {
        self.revision = Some(revision);
        self
    }

    pub fn about(mut self, keys: impl IntoIterator<Item = String>) -> Self {
        self.keys = keys.into_iter().collect();
        self
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.class)?;
        if let Some(cycle) = self.cycle {
            write!(f, ", cycle {cycle}")?;
        }
        if let Some(cluster) = self.cluster {
            write!(f, ", cluster {cluster}")?;
        }
        if let Some(member) = self.member {
            write!(f, ", n{member}")?;
        }
        write!(f, ": {}", self.sentence)
    }
}

/// What a run amounts to, in order of precedence: the first that any finding leads to wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    Violation,
    Liveness,
    HarnessError,
    Inconclusive,
    Pass,
}

impl Verdict {
    /// The verdict over all `findings`; none at all is a pass.
    pub fn of(findings: &[Finding]) -> Self {
        findings.iter().map(|finding| finding.class.verdict()).min().unwrap_or(Verdict::Pass)
    }

    /// The kebab-case name, as in `verdict.json`.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Violation => "violation",
            Verdict::Liveness => "liveness",
            Verdict::HarnessError => "harness-error",
            Verdict::Inconclusive => "inconclusive",
            Verdict::Pass => "pass",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_finding_decides_whatever_the_order() {
        let of =
            |classes: &[Class]| Verdict::of(&classes.iter().map(|class| Finding::new(*class, "")).collect::<Vec<_>>());
        assert_eq!(of(&[]), Verdict::Pass);
        assert_eq!(of(&[Class::NotProven, Class::HarnessError]), Verdict::HarnessError);
        assert_eq!(of(&[Class::HarnessError, Class::Liveness, Class::NotProven]), Verdict::Liveness);
        assert_eq!(of(&[Class::NotProven, Class::SnapshotTransfer]), Verdict::Liveness);
        assert_eq!(of(&[Class::Liveness, Class::StateHash, Class::HarnessError]), Verdict::Violation);
    }

    #[test]
    fn names_are_the_serialised_names() {
        for class in
            [Class::PurgedAboveN, Class::RaftLog, Class::MachineExhausted, Class::NotProven, Class::ExactlyOnce]
        {
            assert_eq!(serde_json::to_string(&class).unwrap(), format!("\"{}\"", class.name()));
        }
        assert_eq!(serde_json::to_string(&Verdict::HarnessError).unwrap(), "\"harness-error\"");
    }
}
