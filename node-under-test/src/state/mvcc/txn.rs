//! Transactions: decide every branch on the state before the first change, check, then execute.
//!
//! Nothing is changed until every operation of the chosen branches is known to succeed, so a
//! refused transaction leaves no trace. What its comparisons and deletes cost is bounded, because
//! every member pays for them; what its ranges cost, on the member at which a caller waits: the
//! others do not read them.

use super::budget::{Keys, Room};
use super::interval::Interval;
use super::range::{check_revision, header};
use super::reader::Reader;
use super::writer::Writer;
use super::{Error, Rejection, Result};
use node_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use node_proto::etcdserverpb::request_op::Request;
use node_proto::etcdserverpb::response_op::Response;
use node_proto::etcdserverpb::{Compare, PutRequest, RequestOp, ResponseOp, TxnRequest, TxnResponse};
use node_proto::mvccpb::KeyValue;
use std::cmp::Ordering;

/// The branch that a transaction takes, and those that the transactions nested in it take, in
/// order.
struct Decision {
    succeeded: bool,
    nested: Vec<Decision>,
}

impl Decision {
    fn of(reader: &Reader<'_>, txn: &TxnRequest, keys: &mut Keys) -> Result<Self> {
        let mut succeeded = true;
        for compare in &txn.compare {
            succeeded = succeeded && holds(reader, compare, keys)?;
        }
        let mut decision = Decision { succeeded, nested: Vec::new() };
        for op in decision.ops(txn) {
            if let Some(Request::RequestTxn(txn)) = &op.request {
                decision.nested.push(Decision::of(reader, txn, keys)?);
            }
        }
        Ok(decision)
    }

    fn ops<'t>(&self, txn: &'t TxnRequest) -> &'t [RequestOp] {
        if self.succeeded { &txn.success } else { &txn.failure }
    }
}

/// True if every key that the comparison names compares so.
fn holds(reader: &Reader<'_>, compare: &Compare, keys: &mut Keys) -> Result<bool> {
    let index = &reader.state.index;
    let interval = Interval::new(&compare.key, &compare.range_end);
    keys.pass(reader.state, &interval)?;
    // The rest the index knows by itself.
    let stored = matches!(compare.target(), CompareTarget::Value | CompareTarget::Lease);
    let mut found = false;
    for (_, version) in index.range(&interval, reader.now) {
        found = true;
        let kv = if stored {
            let kv = reader.fetch(version.row())?;
            keys.fetch(&kv)?;
            kv
        } else {
            let (create_revision, mod_revision, version) = (version.create, version.revision.main, version.version);
            KeyValue { create_revision, mod_revision, version, ..KeyValue::default() }
        };
        if !matches(compare, &kv) {
            return Ok(false);
        }
    }
    // A key that is not there has revisions of 0, but no value: not even the empty one.
    Ok(found || (compare.target() != CompareTarget::Value && matches(compare, &KeyValue::default())))
}

fn matches(compare: &Compare, kv: &KeyValue) -> bool {
    let union = compare.target_union.as_ref();
    let number = |pick: fn(&TargetUnion) -> Option<i64>| union.and_then(pick).unwrap_or(0);
    let ordering = match compare.target() {
        CompareTarget::Version => kv.version.cmp(&number(|target| match target {
            TargetUnion::Version(version) => Some(*version),
            _ => None,
        })),
        CompareTarget::Create => kv.create_revision.cmp(&number(|target| match target {
            TargetUnion::CreateRevision(revision) => Some(*revision),
            _ => None,
        })),
        CompareTarget::Mod => kv.mod_revision.cmp(&number(|target| match target {
            TargetUnion::ModRevision(revision) => Some(*revision),
            _ => None,
        })),
        CompareTarget::Lease => kv.lease.cmp(&number(|target| match target {
            TargetUnion::Lease(lease) => Some(*lease),
            _ => None,
        })),
        CompareTarget::Value => match union {
            Some(TargetUnion::Value(value)) => kv.value.cmp(value),
            _ => kv.value.as_ref().cmp(&[]),
        },
    };
    match compare.result() {
        CompareResult::Equal => ordering == Ordering::Equal,
        CompareResult::NotEqual => ordering != Ordering::Equal,
        CompareResult::Greater => ordering == Ordering::Greater,
        CompareResult::Less => ordering == Ordering::Less,
    }
}

/// Refuses what would fail half-way.
fn check(reader: &Reader<'_>, txn: &TxnRequest, decision: &Decision, keys: &mut Keys) -> Result<()> {
    let mut nested = decision.nested.iter();
    for op in decision.ops(txn) {
        match &op.request {
            Some(Request::RequestPut(put)) => check_put(reader, put)?,
            Some(Request::RequestRange(range)) if range.revision > 0 => {
                check_revision(reader.state, reader.now, range.revision)?;
            }
            Some(Request::RequestDeleteRange(delete)) => {
                keys.pass(reader.state, &Interval::new(&delete.key, &delete.range_end))?;
            }
            Some(Request::RequestTxn(txn)) => check(reader, txn, next(&mut nested)?, keys)?,
            Some(Request::RequestRange(_)) | None => {}
        }
    }
    Ok(())
}

fn check_put(reader: &Reader<'_>, put: &PutRequest) -> Result<()> {
    if (put.ignore_value || put.ignore_lease) && reader.state.index.newest(&put.key).is_none() {
        return Err(Rejection::KEY_NOT_FOUND.into());
    }
    if put.lease != 0 && !reader.state.leases.contains(put.lease) {
        return Err(Rejection::LEASE_NOT_FOUND.into());
    }
    Ok(())
}

fn next<'d>(nested: &mut impl Iterator<Item = &'d Decision>) -> Result<&'d Decision> {
    nested.next().ok_or_else(|| Error::Corrupt("a nested transaction without a decision".to_owned()))
}

/// Applies a transaction that [`super::check::txn`] let pass.
///
/// # Errors
/// A rejection only before the first change.
pub fn apply(writer: &mut Writer<'_>, txn: &TxnRequest) -> Result<TxnResponse> {
    let mut keys = Keys::of(writer.state);
    let decision = Decision::of(&writer.reader(), txn, &mut keys)?;
    check(&writer.reader(), txn, &decision, &mut keys)?;
    let mut response = execute(writer, txn, &decision).map_err(|error| match error {
        Error::Rejected(rejection) => {
            Error::Corrupt(format!("a checked transaction was refused half-way: {rejection}"))
        }
        other => other,
    })?;
    response.header = header(writer.now());
    Ok(response)
}

fn execute(writer: &mut Writer<'_>, txn: &TxnRequest, decision: &Decision) -> Result<TxnResponse> {
    let mut nested = decision.nested.iter();
    let mut responses = Vec::new();
    for op in decision.ops(txn) {
        let response = match &op.request {
            Some(Request::RequestRange(range)) => Some(Response::ResponseRange(writer.range(range)?)),
            Some(Request::RequestPut(put)) => Some(Response::ResponsePut(writer.put(put)?)),
            Some(Request::RequestDeleteRange(delete)) => {
                Some(Response::ResponseDeleteRange(writer.delete_range(delete)?))
            }
            Some(Request::RequestTxn(txn)) => Some(Response::ResponseTxn(execute(writer, txn, next(&mut nested)?)?)),
            None => None,
        };
        responses.push(ResponseOp { response });
    }
    Ok(TxnResponse { header: header(writer.now()), succeeded: decision.succeeded, responses })
}

/// Evaluates a transaction whose branches hold ranges only.
///
/// # Errors
/// A rejection; the engine failed.
pub fn read(reader: &Reader<'_>, txn: &TxnRequest) -> Result<TxnResponse> {
    let mut keys = Keys::of(reader.state);
    let decision = Decision::of(reader, txn, &mut keys)?;
    check(reader, txn, &decision, &mut keys)?;
    read_branch(reader, txn, &decision, &mut Room::to_read(reader.state))
}

fn read_branch(reader: &Reader<'_>, txn: &TxnRequest, decision: &Decision, room: &mut Room) -> Result<TxnResponse> {
    let mut nested = decision.nested.iter();
    let mut responses = Vec::new();
    for op in decision.ops(txn) {
        let response = match &op.request {
            Some(Request::RequestRange(range)) => Some(Response::ResponseRange(reader.range(range, room)?)),
            Some(Request::RequestTxn(txn)) => {
                Some(Response::ResponseTxn(read_branch(reader, txn, next(&mut nested)?, room)?))
            }
            _ => None,
        };
        responses.push(ResponseOp { response });
    }
    Ok(TxnResponse { header: header(reader.now), succeeded: decision.succeeded, responses })
}
