//! What a committed entry does, read from its bytes.

use super::admission;
use crate::raft_log::{Entry, Payload};
use ninelives_evidence::logged::{Change, Condition, Digest, Logged, Number, Order, Span, Step, Value};
use node_proto::command::command::Request;
use node_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use node_proto::etcdserverpb::request_op::Request as Op;
use node_proto::etcdserverpb::{Compare, DeleteRangeRequest, PutRequest, RequestOp, TxnRequest};

/// The entry as the history keeps it.
pub fn logged(entry: &Entry) -> Logged {
    let (index, term) = (entry.id.index, entry.id.term);
    Logged { index, term, digest: Digest::of(&entry.bytes), step: step(&entry.payload) }
}

fn step(payload: &Payload) -> Step {
    let step = match payload {
        Payload::Blank => Ok(Step::Blank),
        Payload::Membership(_) => Ok(Step::Membership),
        Payload::Command(request) => of_request(request),
        Payload::NoCommand(why) => Ok(Step::Refused(why.clone())),
    };
    step.unwrap_or_else(Step::Beyond)
}

fn of_request(request: &Request) -> Result<Step, String> {
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

fn text(bytes: &[u8]) -> Result<String, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| format!("the key {} is not text", bytes.escape_ascii()))?;
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
