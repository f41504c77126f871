//! An entry in words, for those who read a report.

use super::entry::{Entry, Membership, Payload};
use ninelives_evidence::operation::OpId;
use node_proto::command::command::Request;
use node_proto::etcdserverpb::compare::TargetUnion;
use node_proto::etcdserverpb::request_op::Request as Op;
use node_proto::etcdserverpb::{Compare, DeleteRangeRequest, PutRequest, RequestOp, TxnRequest};

/// Bytes of a value that are shown: its end, which names the operation that wrote it.
const VALUE_SHOWN: usize = 24;
/// Steps of a transaction that are shown.
const STEPS_SHOWN: usize = 4;

/// The effect of the entry, on one line: `put k/7 = …,3.17`.
pub fn describe(entry: &Entry) -> String {
    match &entry.payload {
        Payload::Blank => "blank, the first entry of a new leader".to_owned(),
        Payload::Command(request) => describe_request(request),
        Payload::NoCommand(why) => format!("nothing: {why}"),
        Payload::Membership(membership) => describe_membership(membership),
    }
}

fn describe_request(request: &Request) -> String {
    match request {
        Request::Put(request) => put(request),
        Request::DeleteRange(request) => delete(request),
        Request::Txn(request) => txn(request),
        Request::Compact(request) => format!("compact at revision {}", request.revision),
        Request::LeaseGrant(request) => format!("grant lease {} for {} s", request.id, request.ttl),
        Request::LeaseRevoke(request) => format!("revoke lease {}, with the keys that it holds", request.id),
        Request::Fence(request) => format!("fence {}", request.id),
        Request::PublishMember(request) => format!("n{} publishes its name and address", request.id),
    }
}

/// The operation of a client that proposed the entry, if its values say so. Deletes and leases do
/// not.
pub fn operation(request: &Request) -> Option<OpId> {
    match request {
        Request::Put(put) => OpId::of_value(&put.value),
        Request::Txn(txn) => operation_of_txn(txn),
        _ => None,
    }
}

fn operation_of_txn(txn: &TxnRequest) -> Option<OpId> {
    txn.success.iter().chain(&txn.failure).find_map(|op| match &op.request {
        Some(Op::RequestPut(put)) => OpId::of_value(&put.value),
        Some(Op::RequestTxn(txn)) => operation_of_txn(txn),
        _ => None,
    })
}

fn put(put: &PutRequest) -> String {
    let lease = if put.lease == 0 { String::new() } else { format!(" under lease {}", put.lease) };
    format!("put {} = {}{lease}", put.key.escape_ascii(), shown_value(&put.value))
}

fn delete(delete: &DeleteRangeRequest) -> String {
    if delete.range_end.is_empty() {
        format!("delete {}", delete.key.escape_ascii())
    } else {
        format!("delete [{}, {})", delete.key.escape_ascii(), delete.range_end.escape_ascii())
    }
}

fn txn(txn: &TxnRequest) -> String {
    let when: Vec<String> = txn.compare.iter().take(STEPS_SHOWN).map(compare).collect();
    let branch = |ops: &[RequestOp]| {
        let mut steps: Vec<String> = ops.iter().take(STEPS_SHOWN).map(step).collect();
        if ops.len() > STEPS_SHOWN {
            steps.push(format!("{} more", ops.len() - STEPS_SHOWN));
        }
        steps.join(", ")
    };
    let otherwise =
        if txn.failure.is_empty() { String::new() } else { format!("; otherwise {}", branch(&txn.failure)) };
    let condition = if when.is_empty() { "always".to_owned() } else { format!("if {}", when.join(" and ")) };
    format!("txn: {condition}: {}{otherwise}", branch(&txn.success))
}

fn compare(compare: &Compare) -> String {
    let key = compare.key.escape_ascii();
    match &compare.target_union {
        Some(TargetUnion::ModRevision(0)) => format!("{key} is absent"),
        Some(TargetUnion::ModRevision(revision)) => format!("{key} was last changed at revision {revision}"),
        _ => format!("a condition on {key}"),
    }
}

fn step(op: &RequestOp) -> String {
    match &op.request {
        Some(Op::RequestPut(request)) => put(request),
        Some(Op::RequestDeleteRange(request)) => delete(request),
        Some(Op::RequestRange(_)) => "a read".to_owned(),
        Some(Op::RequestTxn(_)) => "a nested transaction".to_owned(),
        None => "nothing".to_owned(),
    }
}

/// The end of a value, which names its writer; the padding of a plain put is left out.
pub fn shown_value(value: &[u8]) -> String {
    let padding = value.iter().take_while(|byte| value.first() == Some(byte)).count();
    let shown = if padding >= 4 { padding } else { 0 }.max(value.len().saturating_sub(VALUE_SHOWN));
    let cut = if shown > 0 { "…" } else { "" };
    format!("{cut}{}", value[shown..].escape_ascii())
}

fn describe_membership(membership: &Membership) -> String {
    let ids = |ids: &mut dyn Iterator<Item = u64>| ids.map(|id| format!("n{id}")).collect::<Vec<_>>().join(", ");
    let configs: Vec<String> = membership.voters.iter().map(|voters| ids(&mut voters.iter().copied())).collect();
    let learns = |id: &u64| membership.voters.iter().all(|voters| !voters.contains(id));
    let learners = ids(&mut membership.members.iter().map(|member| member.id).filter(learns));
    let learners = if learners.is_empty() { String::new() } else { format!("; learners {learners}") };
    format!("membership: voters {}{learners}", configs.join(" then "))
}
