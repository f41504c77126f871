//! Operations of clients: request ([`Action`]), outcome ([`Outcome`]), and the values by which a
//! write is recognised in the state.
//!
//! Every value ends with the id of the operation that wrote it, after the last comma: `2.9,3.17` is
//! an append list whose last entry was added by operation 17 of client 3; `41,3.17` a counter;
//! `xxxx,3.17` a plain put.

mod shape;

use shape::UNFIT;
pub use shape::{DEPTH_REFUSED, DEPTH_TAKEN, Fate, PADDING_OVERFLOWS, PADDING_REFUSED, PADDING_TAKEN, Shape};

use crate::text::{self, Text};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;

/// An operation: the `seq`-th of client `client`, written `client.seq`. Sent once, never again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId {
    pub client: u32,
    pub seq: u64,
}

impl OpId {
    /// The operation that wrote `value`; `None` if no client of ours can have.
    pub fn of_value(value: &[u8]) -> Option<Self> {
        let tail = value.rsplit(|byte| *byte == b',').next()?;
        Self::of_text(std::str::from_utf8(tail).ok()?)
    }

    fn of_text(text: &str) -> Option<Self> {
        let (client, seq) = text.split_once('.')?;
        Some(Self { client: client.parse().ok()?, seq: seq.parse().ok()? })
    }
}

impl fmt::Display for OpId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.client, self.seq)
    }
}

impl Serialize for OpId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for OpId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::of_text(&text)
            .ok_or_else(|| serde::de::Error::custom(format!("expected client.seq, like 3.17, found {text:?}")))
    }
}

/// A key (`to` is `None`), or the keys of `[from, to)`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keys {
    pub from: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

impl Keys {
    pub fn one(key: impl Into<String>) -> Self {
        Self { from: key.into(), to: None }
    }

    pub fn contains(&self, key: &[u8]) -> bool {
        match &self.to {
            None => key == self.from.as_bytes(),
            Some(to) => key >= self.from.as_bytes() && key < to.as_bytes(),
        }
    }
}

/// One step of a transaction's success branch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    Put {
        key: String,
        #[serde(with = "text::string")]
        value: String,
    },
    Delete {
        keys: Keys,
    },
}

/// The only comparison that the workload uses: the revision of the key's last change (0: the key is
/// absent).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compare {
    pub key: String,
    pub mod_revision: u64,
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Action {
    /// `lease` 0: none.
    Put {
        key: String,
        #[serde(with = "text::string")]
        value: String,
        lease: i64,
    },
    Delete {
        keys: Keys,
    },
    /// Does all of `then` if all of `when` hold, nothing otherwise. Keys in `then` are disjoint,
    /// and at least one is put.
    Txn {
        when: Vec<Compare>,
        then: Vec<Effect>,
    },
    /// Does all of `then`, as a transaction that compares nothing, in an unusual shape. Keys in
    /// `then` are disjoint, and at least one is put.
    Packed {
        shape: Shape,
        then: Vec<Effect>,
    },
    /// Asks whether all of `when` hold, in the innermost of `depth` transactions, each alone in the
    /// one around it: a read, though none of its operations is one.
    Check {
        when: Vec<Compare>,
        depth: u32,
    },
    Grant {
        lease: i64,
        ttl_seconds: i64,
    },
    Revoke {
        lease: i64,
    },
    /// Renews a lease.
    KeepAlive {
        lease: i64,
    },
    Compact {
        revision: u64,
    },
    /// Has the asked member give back unused space. It changes nothing that a client can
    /// read.
    Defragment,
    /// At `revision`, or at the newest one.
    Read {
        keys: Keys,
        revision: Option<u64>,
        serializable: bool,
    },
}

impl Action {
    /// Whether it changes keys, and so may take a revision.
    pub fn writes_keys(&self) -> bool {
        matches!(
            self,
            Action::Put { .. }
                | Action::Delete { .. }
                | Action::Txn { .. }
                | Action::Packed { .. }
                | Action::Revoke { .. }
        )
    }

    /// The fate that a server has to give it, as far as the request alone can tell; for most
    /// requests it depends on the state.
    pub fn fate(&self) -> Fate {
        match self {
            Action::Packed { shape, .. } => shape.fate(),
            _ => Fate::Either,
        }
    }

    /// The gRPC codes with which it is refused where it has to be, in any state; `None`: a refusal
    /// depends on the state.
    pub fn refusal_codes(&self) -> Option<&'static [&'static str]> {
        match self {
            Action::Packed { shape, .. } => shape.refusal_codes(),
            _ => None,
        }
    }

    /// Whether it only asks, so that an answer that never comes leaves nothing open.
    pub fn only_asks(&self) -> bool {
        matches!(self, Action::Read { .. } | Action::Check { .. } | Action::Defragment | Action::KeepAlive { .. })
    }
}

/// A key as a read returned it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyState {
    pub key: Vec<u8>,
    pub value: Vec<u8>,
    pub create_revision: u64,
    pub mod_revision: u64,
    pub version: u64,
    pub lease: i64,
}

impl Serialize for KeyState {
    /// `[key, value, create revision, mod revision, version, lease]`.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (key, value) = (text::encode(&self.key), text::encode(&self.value));
        (key, value, self.create_revision, self.mod_revision, self.version, self.lease).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for KeyState {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (Text(key), Text(value), create_revision, mod_revision, version, lease) =
            Deserialize::deserialize(deserializer)?;
        Ok(Self { key, value, create_revision, mod_revision, version, lease })
    }
}

impl Action {
    /// The kind of operation, in a word.
    pub fn name(&self) -> &'static str {
        match self {
            Action::Put { .. } => "put",
            Action::Delete { .. } => "delete",
            Action::Txn { .. } => "txn",
            Action::Grant { .. } => "grant",
            Action::Revoke { .. } => "revoke",
            Action::Packed { .. } => "packed-txn",
            Action::Check { .. } => "check",
            Action::KeepAlive { .. } => "keep-alive",
            Action::Defragment => "defragment",
            Action::Compact { .. } => "compact",
            Action::Read { .. } => "read",
        }
    }
}

/// The step that a request is a part of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purpose {
    /// The kind of step that its client drew.
    pub step: Cow<'static, str>,
    #[serde(default, skip_serializing_if = "Expected::is_never")]
    pub refusal: Expected,
}

/// Expectation of a refusal: whether it is a good answer to a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Expected {
    #[default]
    Never,
    /// A refusal is a good answer if it says that another request came first: the read revision is
    /// compacted, a lease is revoked.
    Sometimes,
    /// The request is beyond a limit on purpose.
    Always,
}

impl Expected {
    fn is_never(&self) -> bool {
        *self == Expected::Never
    }
}

/// Reason why an operation was certainly not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// There was no connection, or no serving member, to send it to.
    NotSent,
    /// The client library refused its arguments.
    NotSendable,
    /// The server judged it: the gRPC code, and its words without their numbers.
    Judged { code: String, text: String },
    /// The history is older than this question.
    Unrecorded,
}

impl Reason {
    /// Whether the request was refused as one that no state could make good.
    pub fn is_unfit(&self) -> bool {
        matches!(self, Reason::Judged { code, .. } if code == UNFIT)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::NotSent => f.write_str("not sent"),
            Reason::NotSendable => f.write_str("refused by the client library"),
            Reason::Judged { code, text } => write!(f, "{code}: {text}"),
            Reason::Unrecorded => f.write_str("refused, the history does not say why"),
        }
    }
}

/// The answer to a request, beside its revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    Put,
    Deleted(u64),
    Txn {
        succeeded: bool,
    },
    Granted,
    Revoked,
    /// Seconds; 0: there is no such lease.
    Renewed {
        ttl_seconds: i64,
    },
    Compacted,
    Defragmented,
    Read(Vec<KeyState>),
}

/// The end of an operation, as far as its client can know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Answered, with the store's revision and raft term in the answer's header.
    Done { revision: u64, term: u64, reply: Reply },
    /// The server certainly did not do it, and never will.
    Refused { why: String, reason: Reason },
    /// No error proves absence: it may have happened, or happen later.
    Unknown { why: String },
}

/// The beginning of a server's own refusal, after its code; and gRPC's refusal of a message that is
/// too large.
const SERVERS_WORDS: &str = "etcdserver: ";
const TOO_LARGE_A_MESSAGE: &str = "grpc: received message larger than max";

impl Outcome {
    /// Whether `message`, which came with a code, can only be a server's own word.
    pub fn is_servers_word(message: &str) -> bool {
        message.starts_with(SERVERS_WORDS) || message.starts_with(TOO_LARGE_A_MESSAGE)
    }

    /// Whether a server did it, or judged that it must not be done.
    pub fn is_answer(&self) -> bool {
        match self {
            Outcome::Done { .. } => true,
            Outcome::Refused { reason, .. } => matches!(reason, Reason::Judged { .. }),
            Outcome::Unknown { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_entry_of_a_value_names_its_writer() {
        let id = |value: &str| OpId::of_value(value.as_bytes());
        assert_eq!(id("3.17"), Some(OpId { client: 3, seq: 17 }));
        assert_eq!(id("2.9,10.4,3.17"), Some(OpId { client: 3, seq: 17 }));
        assert_eq!(id("41,3.17"), Some(OpId { client: 3, seq: 17 }));
        for foreign in ["", "3.17,", "x", "3.17,x.1", "3", "-1.2"] {
            assert_eq!(id(foreign), None, "{foreign:?}");
        }
    }

    #[test]
    fn a_range_excludes_its_end_and_a_key_is_only_itself() {
        let range = Keys { from: "p/1".into(), to: Some("p/3".into()) };
        assert!(range.contains(b"p/1") && range.contains(b"p/2") && range.contains(b"p/2x"));
        assert!(!range.contains(b"p/3") && !range.contains(b"p/0"));
        assert!(Keys::one("p/1").contains(b"p/1") && !Keys::one("p/1").contains(b"p/11"));
    }
}
