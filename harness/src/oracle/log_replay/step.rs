//! A committed entry as the replay needs it and as the history keeps it: its effect, with each
//! value as a mark.
//!
//! A mark is 16 bytes of the value's SHA-256, and the operation that wrote it. Two marks are equal
//! if and only if the values are, for all practical purposes; so a replay of marks proves as much
//! as one of values, and a line of the history holds a few dozen bytes for an entry in place of a
//! few hundred.

use super::admission;
use crate::operation::OpId;
use crate::raft_log::{Entry, Payload};
use node_proto::command::command::Request;
use node_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use node_proto::etcdserverpb::request_op::Request as Op;
use node_proto::etcdserverpb::{Compare, DeleteRangeRequest, PutRequest, RequestOp, TxnRequest};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;

/// A committed entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logged {
    #[serde(rename = "i")]
    pub index: u64,
    #[serde(rename = "t")]
    pub term: u64,
    /// Digest of the entry's bytes: (term, index) should name one entry, and the digest shows
    /// whether it does.
    #[serde(rename = "d")]
    pub digest: Mark<8>,
    #[serde(rename = "s")]
    pub step: Step,
}

impl Logged {
    pub fn of(entry: &Entry) -> Self {
        let (index, term) = (entry.id.index, entry.id.term);
        Self { index, term, digest: Mark::of(&entry.bytes), step: Step::of(&entry.payload) }
    }
}

/// The first bytes of a SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark<const BYTES: usize>([u8; BYTES]);

impl<const BYTES: usize> Mark<BYTES> {
    pub fn of(bytes: &[u8]) -> Self {
        let digest = Sha256::digest(bytes);
        Self(std::array::from_fn(|at| digest[at]))
    }
}

impl<const BYTES: usize> fmt::Display for Mark<BYTES> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl<const BYTES: usize> fmt::Debug for Mark<BYTES> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<const BYTES: usize> std::str::FromStr for Mark<BYTES> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("expected {BYTES} bytes in hex, found {text:?}");
        let mut bytes = [0; BYTES];
        if text.len() != 2 * BYTES || !text.is_ascii() {
            return Err(wrong());
        }
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).map_err(|_| wrong())?;
        }
        Ok(Self(bytes))
    }
}

impl<const BYTES: usize> Serialize for Mark<BYTES> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, const BYTES: usize> Deserialize<'de> for Mark<BYTES> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A value: its mark, and its writer if it is one of the workload's. Written `MARK` or `MARK,3.17`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Value {
    mark: Mark<16>,
    writer: Option<OpId>,
}

impl Value {
    pub fn of(value: &[u8]) -> Self {
        Self { mark: Mark::of(value), writer: OpId::of_value(value) }
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
            None => write!(f, "a value of SHA-256 {}…", self.mark),
        }
    }
}

impl Serialize for Value {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.writer {
            Some(writer) => serializer.collect_str(&format_args!("{},{writer}", self.mark)),
            None => serializer.collect_str(&self.mark),
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let (mark, writer) = text.split_once(',').map_or((text.as_str(), None), |(mark, writer)| (mark, Some(writer)));
        let writer = writer.and_then(|writer| OpId::of_value(writer.as_bytes()));
        Ok(Self { mark: mark.parse().map_err(serde::de::Error::custom)?, writer })
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

/// The key, the number of it that is compared (all are 0 for an absent key), the comparison, and
/// the other side.
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

impl Step {
    fn of(payload: &Payload) -> Self {
        let step = match payload {
            Payload::Blank => Ok(Step::Blank),
            Payload::Membership(_) => Ok(Step::Membership),
            Payload::Command(request) => Self::of_request(request),
            Payload::NoCommand(why) => Ok(Step::Refused(why.clone())),
        };
        step.unwrap_or_else(Step::Beyond)
    }

    fn of_request(request: &Request) -> Result<Self, String> {
        if let Some(why) = admission::refusal(request) {
            return Ok(Step::Refused(why));
        }
        Ok(match request {
            Request::Put(request) => {
                let (key, value, lease) = put(request)?;
                Step::Put(key, value, lease)
            }
            Request::DeleteRange(request) => Step::Delete(span(request)?),
            Request::Txn(request) => txn(request)?,
            Request::Compact(request) => Step::Compact(request.revision),
            Request::LeaseGrant(request) => Step::Grant(request.id, request.ttl),
            Request::LeaseRevoke(request) => Step::Revoke(request.id),
            Request::Fence(request) => Step::Fence(request.id),
            Request::PublishMember(_) => Step::Publish,
        })
    }
}

fn text(bytes: &[u8]) -> Result<String, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| format!("the key {} is no text", bytes.escape_ascii()))?;
    Ok(text.to_owned())
}

fn put(request: &PutRequest) -> Result<(String, Value, i64), String> {
    if request.ignore_value || request.ignore_lease {
        return Err("a put that keeps the old value or lease".to_owned());
    }
    Ok((text(&request.key)?, Value::of(&request.value), request.lease))
}

fn span(request: &DeleteRangeRequest) -> Result<Span, String> {
    let to = if request.range_end.is_empty() { None } else { Some(text(&request.range_end)?) };
    Ok(Span(text(&request.key)?, to))
}

fn txn(request: &TxnRequest) -> Result<Step, String> {
    let when = request.compare.iter().map(condition).collect::<Result<_, _>>()?;
    Ok(Step::Txn { when, then: branch(&request.success)?, or: branch(&request.failure)? })
}

fn nested(request: &TxnRequest) -> Result<Change, String> {
    let when = request.compare.iter().map(condition).collect::<Result<_, _>>()?;
    Ok(Change::Txn { when, then: branch(&request.success)?, or: branch(&request.failure)? })
}

fn branch(ops: &[RequestOp]) -> Result<Vec<Change>, String> {
    let mut changes = Vec::new();
    for op in ops {
        match &op.request {
            Some(Op::RequestPut(request)) => {
                let (key, value, lease) = put(request)?;
                changes.push(Change::Put(key, value, lease));
            }
            Some(Op::RequestDeleteRange(request)) => changes.push(Change::Delete(span(request)?)),
            // At the newest revision it changes nothing and cannot fail.
            Some(Op::RequestRange(range)) if range.revision <= 0 => {}
            Some(Op::RequestRange(_)) => return Err("a transaction that reads an old revision".to_owned()),
            Some(Op::RequestTxn(request)) => changes.push(nested(request)?),
            None => {}
        }
    }
    Ok(changes)
}

fn condition(compare: &Compare) -> Result<Condition, String> {
    let number = match (compare.target(), &compare.target_union) {
        _ if !compare.range_end.is_empty() => Err("a comparison of a range"),
        (CompareTarget::Version, Some(TargetUnion::Version(number))) => Ok((Number::Version, *number)),
        (CompareTarget::Create, Some(TargetUnion::CreateRevision(number))) => Ok((Number::Created, *number)),
        (CompareTarget::Mod, Some(TargetUnion::ModRevision(number))) => Ok((Number::Changed, *number)),
        (CompareTarget::Lease, Some(TargetUnion::Lease(number))) => Ok((Number::Lease, *number)),
        _ => Err("a comparison of a value"),
    };
    let (number, with) = number?;
    let order = match compare.result() {
        CompareResult::Equal => Order::Equal,
        CompareResult::NotEqual => Order::NotEqual,
        CompareResult::Greater => Order::Greater,
        CompareResult::Less => Order::Less,
    };
    Ok(Condition(text(&compare.key)?, number, order, with))
}
