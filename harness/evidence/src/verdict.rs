//! Blame as a type: the class of a finding ([`Class`]), the finding itself ([`Finding`]), and the
//! verdict on a whole run ([`Verdict`]).
//!
//! A violation by the system, an inconclusive run and a broken harness never share a class, a
//! verdict or an exit code.

pub mod findings;
mod ranking;

pub use ranking::{cause_first, condense};

use findings::What;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The class of a finding. The kebab-case names are part of the `verdict.json` schema, and tables
/// of planted bugs name the expected findings by them.
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
    /// The replay did not start at N+1, skipped or repeated an entry, or claims what the dead
    /// directory denies.
    ReplayStart,
    /// An operation was applied twice, or counts for more or less than one.
    ExactlyOnce,
    /// A lease ended before its acknowledged time, was renewed after its end, or did not end.
    Lease,
    /// The store holds something that no client wrote.
    Phantom,
    /// All replicas agree, and the independent model does not.
    Model,
    /// No order of the operations explains their answers and the real time between them: a stale
    /// read, most often.
    Linearizability,
    /// A watch had a gap, a duplicate, or went back, or could not be resumed where it promised to
    /// be.
    Watch,
    /// The raft log that a member wrote breaks its own order: a hole, an entry in another's place,
    /// a term that falls.
    RaftLog,
    /// A vote in the raft log went back, or a term had two leaders, which takes a voter that forgot
    /// its vote.
    VoteWentBack,
    /// A member that needs a snapshot was sent some and refused them all, so that it never caught
    /// up: liveness, with a cause.
    SnapshotTransfer,
    /// A member went on after a sync that failed.
    FailedSyncBelieved,
    /// A node ended by itself (panic, own invariant), and nothing more precise is known.
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
            Class::FailedSyncBelieved => "failed-sync-believed",
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
///
/// The written form has the class and the sentence beside `what` and `fields`, for readers. When it
/// is read back, the class has to be that of the kind, and the sentence is made anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Finding {
    pub what: What,
    /// The cycle in which it was found; `None` for a finding about the whole run.
    pub cycle: Option<u32>,
    /// The cluster that it is about, from 1, if several ran side by side.
    pub cluster: Option<u32>,
    /// The member it is about; `None` if it is about several, or about none.
    pub member: Option<u64>,
    /// The revision that it is about.
    pub revision: Option<u64>,
    /// The keys that it is about, the first few.
    pub keys: Vec<String>,
    /// Consequences of it, which are not findings of their own.
    pub then: Vec<What>,
    /// The number of further findings of its class, which a report leaves out.
    pub more: u64,
    /// It is about a crash state that was made of a cut's instant, by its number from 1; `None`: it
    /// is about what really was.
    pub state: Option<u64>,
}

impl Finding {
    pub fn new(what: impl Into<What>) -> Self {
        Self {
            what: what.into(),
            cycle: None,
            cluster: None,
            member: None,
            revision: None,
            keys: Vec::new(),
            then: Vec::new(),
            more: 0,
            state: None,
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

    pub fn class(&self) -> Class {
        self.what.class()
    }

    /// A sentence for human readers: the expectation, the finding, and where to look next. Code
    /// matches [`Finding::what`].
    pub fn sentence(&self) -> String {
        let mut sentence = match self.state {
            Some(state) => format!("in explored crash state {state} of the last cut: {}", self.what),
            None => self.what.to_string(),
        };
        for then in &self.then {
            sentence.push_str(&format!("; then {then}"));
        }
        if self.more > 0 {
            let more = self.more;
            sentence.push_str(&format!(" (and {more} more of this class; the history has them all)"));
        }
        sentence
    }

    /// Some finding of `class`: a sample.
    pub fn of_class(class: Class) -> Self {
        Self::new(What::of_class(class))
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.class())?;
        if let Some(cycle) = self.cycle {
            write!(f, ", cycle {cycle}")?;
        }
        if let Some(cluster) = self.cluster {
            write!(f, ", cluster {cluster}")?;
        }
        if let Some(member) = self.member {
            write!(f, ", n{member}")?;
        }
        write!(f, ": {}", self.sentence())
    }
}

/// A finding as it is written down.
#[derive(Serialize, Deserialize)]
struct Written {
    class: Class,
    #[serde(flatten)]
    what: What,
    cycle: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cluster: Option<u32>,
    member: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    keys: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    then: Vec<What>,
    #[serde(default, skip_serializing_if = "is_zero")]
    more: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    state: Option<u64>,
    sentence: String,
}

fn is_zero(value: &u64) -> bool {
    *value == 0
}

impl From<Finding> for Written {
    fn from(finding: Finding) -> Self {
        let (class, sentence) = (finding.class(), finding.sentence());
        let Finding { what, cycle, cluster, member, revision, keys, then, more, state } = finding;
        Self { class, what, cycle, cluster, member, revision, keys, then, more, state, sentence }
    }
}

impl TryFrom<Written> for Finding {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let Written { class, what, cycle, cluster, member, revision, keys, then, more, state, sentence: _ } = written;
        if class != what.class() {
            return Err(format!("expected class {}, which {} has, found {class}", what.class(), what.name()));
        }
        Ok(Self { what, cycle, cluster, member, revision, keys, then, more, state })
    }
}

/// The verdict on a run, in order of precedence: the first one that any finding leads to wins.
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
        findings.iter().map(|finding| finding.class().verdict()).min().unwrap_or(Verdict::Pass)
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
            |classes: &[Class]| Verdict::of(&classes.iter().map(|class| Finding::of_class(*class)).collect::<Vec<_>>());
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
