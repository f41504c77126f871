//! A committed entry of a raft log as the history keeps it: what it does, with each value as a
//! digest.
//!
//! A value is 16 bytes of its SHA-256, and the operation that wrote it. Two digests are equal if
//! and only if the values are, as far as can be told; so a replay of digests proves as much as one
//! of values, and a line of the history holds a few dozen bytes for an entry in place of a few
//! hundred.

use crate::hex::{hex, unhex_exactly};
use crate::operation::OpId;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fmt;

/// News from a dead member's log. A line of the history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEvidence {
    pub cycle: u32,
    pub member: u64,
    /// The entries that the log holds; `None`: none.
    pub first: Option<u64>,
    pub last: Option<u64>,
    /// The last entry that is certainly committed.
    pub committed: Option<u64>,
    /// The committed ones among them that were not known before, or not so, ascending.
    pub entries: Vec<Logged>,
}

/// A committed entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logged {
    #[serde(rename = "i")]
    pub index: u64,
    #[serde(rename = "t")]
    pub term: u64,
    /// Of the entry's bytes: (term, index) names an entry, and this shows whether it does.
    #[serde(rename = "d")]
    pub digest: Digest<8>,
    #[serde(rename = "s")]
    pub step: Step,
}

/// The first bytes of a SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Digest<const BYTES: usize>([u8; BYTES]);

impl<const BYTES: usize> Digest<BYTES> {
    pub fn of(bytes: &[u8]) -> Self {
        let sha256 = Sha256::digest(bytes);
        Self(std::array::from_fn(|at| sha256[at]))
    }
}

impl<const BYTES: usize> fmt::Display for Digest<BYTES> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl<const BYTES: usize> fmt::Debug for Digest<BYTES> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<const BYTES: usize> std::str::FromStr for Digest<BYTES> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        unhex_exactly(text).map(Self)
    }
}

impl<const BYTES: usize> Serialize for Digest<BYTES> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, const BYTES: usize> Deserialize<'de> for Digest<BYTES> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A value: its digest, and its writer if it is one of the workload's. Written `DIGEST` or
/// `DIGEST,3.17`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Value {
    digest: Digest<16>,
    writer: Option<OpId>,
}

impl Value {
    pub fn of(value: &[u8]) -> Self {
        Self { digest: Digest::of(value), writer: OpId::of_value(value) }
    }

    /// The operation of the workload that wrote it.
    pub fn writer(&self) -> Option<OpId> {
        self.writer
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.writer {
            Some(writer) => write!(f, "…,{writer}"),
            None => write!(f, "a value of SHA-256 {}…", self.digest),
        }
    }
}

impl Serialize for Value {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.writer {
            Some(writer) => serializer.collect_str(&format_args!("{},{writer}", self.digest)),
            None => serializer.collect_str(&self.digest),
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let (digest, writer) =
            text.split_once(',').map_or((text.as_str(), None), |(digest, writer)| (digest, Some(writer)));
        let writer = writer.and_then(|writer| OpId::of_value(writer.as_bytes()));
        Ok(Self { digest: digest.parse().map_err(serde::de::Error::custom)?, writer })
    }
}

/// Keys as a request names them: one; from one up to before another; or all from one on, which etcd
/// writes as `to` of one zero.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span(pub String, #[serde(default)] pub Option<String>);

/// The effect of an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    Blank,
    Membership,
    Publish,
    Fence(u64),
    /// Key, value, lease (0: none).
    Put(String, Value, i64),
    Delete(Span),
    Txn {
        when: Vec<Condition>,
        then: Vec<Change>,
        or: Vec<Change>,
    },
    /// An entry that every member refuses by its bytes alone, and why: it changes nothing.
    Refused(String),
    Compact(i64),
    /// Lease, seconds.
    Grant(i64, i64),
    Revoke(i64),
    /// An entry that this model does not follow, in words: the replay goes on from the next fence.
    Beyond(String),
}

/// One step of a transaction's branch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    Put(String, Value, i64),
    Delete(Span),
    Txn { when: Vec<Condition>, then: Vec<Change>, or: Vec<Change> },
}

/// Key, which of its numbers (of an absent key all are 0), how it must compare, with what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition(pub String, pub Number, pub Order, pub i64);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Number {
    Version,
    Created,
    Changed,
    Lease,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    #[serde(rename = "=")]
    Equal,
    #[serde(rename = "!=")]
    NotEqual,
    #[serde(rename = ">")]
    Greater,
    #[serde(rename = "<")]
    Less,
}
