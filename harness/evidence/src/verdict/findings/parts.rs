//! Parts of findings: values of several variants, each with its words in a sentence.

use super::{Lack, What};
use crate::ended::Ended;
use crate::member::{Engine, Role, Slot};
use crate::operation::{Keys, OpId};
use crate::stretched::Stretched;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Some value of a field's type. Kinds of findings are sampled with it, and a scenario's
/// `[[known]]` fields are checked against the sample.
pub trait Sample {
    fn sample() -> Self;
}

macro_rules! sample {
    ($($type:ty = $value:expr),* $(,)?) => {
        $(impl Sample for $type {
            fn sample() -> Self {
                $value
            }
        })*
    };
}

/// Declares a part with named fields, and its sample.
macro_rules! part {
    ($(#[$doc:meta])* $part:ident { $($(#[$about:meta])* $field:ident: $type:ty),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        pub struct $part {
            $($(#[$about])* pub $field: $type),*
        }

        impl Sample for $part {
            fn sample() -> Self {
                Self { $($field: <$type as Sample>::sample()),* }
            }
        }
    };
}

/// Declares a part that is one of several words.
macro_rules! words {
    ($(#[$doc:meta])* $part:ident { $($(#[$about:meta])* $variant:ident = $word:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum $part {
            $($(#[$about])* $variant),*
        }

        impl fmt::Display for $part {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $($part::$variant => $word),*
                })
            }
        }

        impl Sample for $part {
            fn sample() -> Self {
                [$($part::$variant),*][0]
            }
        }
    };
}

sample!(
    u64 = 57,
    u32 = 3,
    i64 = 5,
    bool = true,
    String = "words".to_owned(),
    Slot = Slot(2),
    OpId = OpId { client: 3, seq: 17 },
    Keys = Keys { from: "p/".to_owned(), to: Some("p0".to_owned()) },
    Engine = Engine::Redb,
    Ended = Ended::KilledByOther(6),
    Role = Role::Leader,
    Stretched = Stretched { idle_ms: 4_000, factor_percent: 205 },
    Box<What> = Box::new(Lack::NoCycle {}.into()),
);

impl<T: Sample> Sample for Vec<T> {
    fn sample() -> Self {
        vec![T::sample()]
    }
}

impl<T: Sample> Sample for Option<T> {
    fn sample() -> Self {
        Some(T::sample())
    }
}

part! {
    /// An operation, and its effects in words.
    Request {
        id: OpId,
        /// With its first few keys: `put p/1, delete [q/, q0)`.
        does: String,
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "operation {} ({})", self.id, self.does)
    }
}

part! {
    /// An answer of a member.
    Answered { member: u64, request: Request }
}

part! {
    /// The newest revision that had been acknowledged when a request was sent, and by which answer;
    /// `None`: the store began there.
    Floor { revision: u64, answered: Option<Answered> }
}

impl fmt::Display for Floor {
    /// `n2 had answered operation 3.17 (put p/1) at revision 57`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.answered {
            Some(Answered { member, request }) => {
                write!(f, "n{member} had answered {request} at revision {}", self.revision)
            }
            None => write!(f, "the store began at revision {}", self.revision),
        }
    }
}

/// The place at which all replicas were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Anchor {
    /// At a fence on whose revisions they need not agree.
    Fence { index: u64 },
    /// At a fence on whose revisions they agree.
    Agreed { index: u64, revision: u64, compact_revision: u64 },
    /// At a revision, over the public API.
    Revision { revision: u64, compact_revision: u64 },
}

impl Anchor {
    /// The action at that place, after which something is missing.
    pub(super) fn done(&self) -> &'static str {
        match self {
            Anchor::Fence { .. } | Anchor::Agreed { .. } => "proposed",
            Anchor::Revision { .. } => "read",
        }
    }

    /// The beginning of a sentence about something that was read together with it, or right after
    /// it.
    pub(super) fn around(&self) -> String {
        match self {
            Anchor::Fence { .. } | Anchor::Agreed { .. } => self.to_string(),
            Anchor::Revision { .. } => format!("after {self}"),
        }
    }
}

impl fmt::Display for Anchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Anchor::Fence { index } => write!(f, "the fence of raft index {index}"),
            Anchor::Agreed { index, revision, compact_revision } => {
                write!(f, "the fence of raft index {index} (revision {revision}, compact revision {compact_revision})")
            }
            Anchor::Revision { revision, compact_revision } => {
                write!(f, "revision {revision} (compact revision {compact_revision})")
            }
        }
    }
}

sample!(Anchor = Anchor::Agreed { index: 90, revision: 57, compact_revision: 4 });

words! {
    /// The name in which a hostile peer speaks.
    Pretence {
        Unnamed = "a program that names no member",
        OtherCluster = "a member of another cluster",
        OtherLife = "a member that takes it for another life",
        FarId = "a member whose id is far from all others",
        Itself = "a program that claims its own id",
        Misdirected = "a member that asks another one",
        Guest = "a member to come",
    }
}

impl Pretence {
    /// Whether a member may answer one who speaks in this name.
    pub fn may_be_let_in(self) -> bool {
        self == Pretence::Guest
    }
}

words! {
    /// A part of a replica's answer.
    Part {
        Index = "index",
        Term = "term",
        Revision = "revision",
        CompactRevision = "compact revision",
        KvSection = "kv section",
        LeaseSection = "lease section",
        AuthSection = "auth section",
        MembershipSection = "membership section",
        LeaseList = "lease list",
        HashKv = "hash of their rows (HashKV)",
        Keys = "keys",
    }
}

part! {
    /// Members that say the same.
    Says { members: Vec<u64>, value: String }
}

impl fmt::Display for Says {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let says = if self.members.len() == 1 { "says" } else { "say" };
        write!(f, "{} {says} {}", ids(&self.members).join(" and "), self.value)
    }
}

words! {
    /// The reason why an operation was answered without having written anything.
    NoEffect {
        DeletedNothing = "was answered as deleting nothing",
        ComparisonFailed = "was answered as failing its comparison",
        Refused = "was refused",
    }
}

/// The read that returned rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reader {
    /// A request of the load, answered as of `revision`.
    Request { member: u64, revision: u64, request: Request },
    /// A read of all keys at `revision`.
    FullRead { revision: u64 },
}

impl fmt::Display for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reader::Request { member, revision, request } => {
                write!(f, "at revision {revision}, {request}, answered by n{member},")
            }
            Reader::FullRead { revision } => write!(f, "a full read at revision {revision}"),
        }
    }
}

sample!(Reader = Reader::Request { member: 2, revision: 57, request: Request::sample() });

part! {
    /// A watch that was opened anew.
    FreshWatch {
        /// `None`: all keys.
        keys: Option<Keys>,
        from: u64,
        /// Its client had ended its own side of the stream.
        #[serde(default)]
        half_closed: bool,
    }
}

impl fmt::Display for FreshWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.keys {
            None => f.write_str("a fresh watch of all keys")?,
            Some(keys) => write!(f, "a fresh watch of [{}, {})", keys.from, keys.to.as_deref().unwrap_or_default())?,
        }
        write!(f, " from revision {}", self.from)?;
        f.write_str(if self.half_closed { ", whose client has nothing more to ask," } else { "" })
    }
}

/// The evidence that a lease had ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LeaseEnd {
    /// A renewal was answered with a TTL of 0.
    NotRenewed { member: u64, request: Request },
    /// The watches told that a key was deleted with it.
    KeyDeleted { key: String },
}

impl fmt::Display for LeaseEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LeaseEnd::NotRenewed { member, request } => write!(f, "n{member} answered {request} with a TTL of 0"),
            LeaseEnd::KeyDeleted { key } => write!(f, "the watches told that {key} is deleted with it"),
        }
    }
}

sample!(LeaseEnd = LeaseEnd::KeyDeleted { key: "e/1".to_owned() });

words! {
    /// Small messages on a long stream.
    LongStream {
        Renewals = "keep-alives of leases of seconds",
        KeepAlives = "keep-alives on a stream of their own, beside a crowd",
        WatchProgress = "questions for a watch's progress, beside a crowd",
    }
}

words! {
    /// A figure of a dead directory.
    DeadWatermark {
        Persisted = "N",
        Engine = "E",
        LastPurged = "last purged",
        LogLast = "the last log entry",
    }
}

words! {
    /// The end of a migration.
    Migration {
        Finished = "after the migration",
        Killed = "after our kill of the migration",
    }
}

words! {
    /// A store of a member's directory.
    Store {
        Engine = "engine",
        RaftLog = "raft log",
    }
}

words! {
    /// A figure that a living member tells of itself.
    Watermark {
        Purged = "purged",
        Persisted = "persisted",
        Flushed = "flushed",
        Applied = "applied",
        Committed = "committed",
        LogDurable = "the durable log's end",
        LogLast = "the log's end",
        Revision = "the revision",
        CompactRevision = "the compact revision",
    }
}

part! {
    /// Indexes from `first` to `last`.
    #[derive(Copy)]
    Span { first: u64, last: u64 }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.first, self.last)
    }
}

part! {
    /// A vote in a raft log.
    #[derive(Copy)]
    Vote {
        term: u64,
        /// The member that it was given to, if the source tells.
        node: Option<u64>,
        /// A quorum granted it: `node` is the leader of `term`.
        committed: bool,
    }
}

impl fmt::Display for Vote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.node {
            Some(node) => write!(f, "for n{node} in term {}", self.term)?,
            None => write!(f, "of term {}", self.term)?,
        }
        f.write_str(if self.committed { ", committed" } else { "" })
    }
}

part! {
    /// The entry of a member's raft log at an index.
    Told {
        member: u64,
        term: u64,
        /// The first bytes of the entry's digest, in hex.
        digest: String,
    }
}

words! {
    /// A figure of the state at a fence.
    Figure {
        Term = "term",
        Entry = "entry",
        Revision = "revision",
        CompactRevision = "compact revision",
        Leases = "leases",
    }
}

part! {
    /// A figure at a fence, as the raft log leads to it and as the members answered.
    Differs { figure: Figure, log: String, fence: String }
}

impl fmt::Display for Differs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}, where the fence says {}", self.figure, self.log, self.fence)
    }
}

words! {
    /// The service that a healed cluster owes within a bound.
    Healed {
        CatchUp = "catch up",
        Fence = "commit a write, and every member to apply it,",
        Read = "serve a linearizable read",
    }
}

part! {
    /// A cell of the window grid in which too few kills landed.
    Unmet { window: String, role: Role, landed: u32, kills: u32 }
}

impl fmt::Display for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} × {}: {} of {}", self.window, self.role, self.landed, self.kills)
    }
}

part! {
    /// The compact revision that a member showed; `None`: it had compacted the revision that it was
    /// asked for.
    Shown { member: u64, compact_revision: Option<u64> }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.compact_revision {
            Some(level) => write!(f, "n{} showed {level}", self.member),
            None => write!(f, "n{} had compacted that revision", self.member),
        }
    }
}

/// An index, or "nothing".
pub(super) fn or_nothing<T: fmt::Display>(value: Option<T>) -> String {
    value.map_or_else(|| "nothing".to_owned(), |value| value.to_string())
}

/// A count of entries as the index of the last one.
pub(super) fn last_of(entries: u64) -> String {
    entries.checked_sub(1).map_or_else(|| "nothing".to_owned(), |index| format!("index {index}"))
}

/// `n1`, `n3`.
pub(super) fn ids(members: &[u64]) -> Vec<String> {
    members.iter().map(|member| format!("n{member}")).collect()
}

/// The parts, joined by `between`.
pub(super) fn join<T: fmt::Display>(parts: &[T], between: &str) -> String {
    parts.iter().map(T::to_string).collect::<Vec<_>>().join(between)
}

/// Exit code of a node that found its own durability invariant broken.
pub const EXIT_INVARIANT: i32 = 65;
/// The exit code of a node whose storage failed under it while it served.
pub const EXIT_STORAGE: i32 = 74;
/// The exit code of a node that did not start: its disk failed, among other reasons.
pub const EXIT_NOT_STARTED: i32 = 1;
