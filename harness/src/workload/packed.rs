//! Transactions of unusual shapes as they go over the wire, and what came of them.
//!
//! The client library makes no request that a server has to refuse, so these are made by hand.

use super::connection::{answered, signed};
use super::refusal;
use ninelives_evidence::operation::{Compare, Effect, Fate, Outcome, Reply, Shape};
use node_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use node_proto::etcdserverpb::kv_client::KvClient;
use node_proto::etcdserverpb::request_op::Request;
use node_proto::etcdserverpb::response_op::Response;
use node_proto::etcdserverpb::{
    Compare as ProtoCompare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, TxnResponse,
};
use tonic::Status;
use tonic::transport::Channel;

/// The limit of operations that is kept or broken here; etcd's default.
const OPS_MAX: usize = 128;
/// A number that no version of the protocol gives to a target, a result or an order.
const UNKNOWN: i32 = 99;

/// Sends `then` once, packed into `shape`.
pub(super) async fn send(channel: &Channel, shape: Shape, then: &[Effect]) -> Outcome {
    let unfit = shape.fate() == Fate::Refused;
    txn(channel, request(shape, then), if unfit { refusal::outcome_of_unfit } else { refusal::outcome_of_status }).await
}

/// Asks once whether all of `when` hold, in the innermost of `depth` transactions.
pub(super) async fn check(channel: &Channel, when: &[Compare], depth: u32) -> Outcome {
    txn(channel, comparison(when, depth), refusal::outcome_of_status).await
}

async fn txn(channel: &Channel, request: TxnRequest, failed: fn(&Status) -> Outcome) -> Outcome {
    match KvClient::new(channel.clone()).txn(request).await {
        Ok(answer) => {
            let answer = answer.into_inner();
            let header = answer.header.as_ref().map(|header| (header.revision, header.raft_term));
            answered(header, Reply::Txn { succeeded: succeeded(&answer) })
        }
        Err(status) => failed(&status),
    }
}

/// Whether the transaction and all that are nested in it took their first branch, as all of these
/// do.
fn succeeded(answer: &TxnResponse) -> bool {
    let nested = answer.responses.iter().filter_map(|response| match &response.response {
        Some(Response::ResponseTxn(nested)) => Some(nested),
        _ => None,
    });
    answer.succeeded && nested.into_iter().all(succeeded)
}

fn request(shape: Shape, then: &[Effect]) -> TxnRequest {
    let mut success: Vec<RequestOp> = then.iter().map(effect).collect();
    let (mut compare, mut failure) = (Vec::new(), Vec::new());
    match shape {
        Shape::Deep(depth) => {
            for _ in 0..depth {
                success = vec![nested(success)];
            }
        }
        Shape::Wide => success = success.into_iter().map(|op| nested(vec![op])).collect(),
        Shape::Padded(bytes) => failure.push(put("padding", vec![b'x'; bytes as usize])),
        Shape::Dear => success.resize(OPS_MAX, read()),
        Shape::Crowded => success.resize(OPS_MAX + 1, read()),
        // As many side by side as are allowed, less what is in each of them, plus one.
        Shape::Overspent => success.resize(OPS_MAX / 2 + 1, nested(vec![read(); OPS_MAX / 2])),
        Shape::Twice => {
            let again = success.iter().take(1).cloned().collect();
            success.push(nested(again));
        }
        Shape::Empty => success.push(RequestOp::default()),
        Shape::Nameless => success.push(put("", Vec::new())),
        Shape::UnknownTarget => compare.push(ProtoCompare { target: UNKNOWN, ..last_changed("padding", 0) }),
        Shape::UnknownResult => compare.push(ProtoCompare { result: UNKNOWN, ..last_changed("padding", 0) }),
        Shape::UnknownOrder => {
            let ordered = RangeRequest { sort_order: UNKNOWN, ..all() };
            success.push(RequestOp { request: Some(Request::RequestRange(ordered)) });
        }
    }
    TxnRequest { compare, success, failure }
}

fn comparison(when: &[Compare], depth: u32) -> TxnRequest {
    let compare = when.iter().map(|one| last_changed(&one.key, signed(one.mod_revision))).collect();
    let innermost = TxnRequest { compare, ..TxnRequest::default() };
    (0..depth).fold(innermost, |txn, _| {
        let success = vec![RequestOp { request: Some(Request::RequestTxn(txn)) }];
        TxnRequest { success, ..TxnRequest::default() }
    })
}

/// The comparison of the revision at which `key` was last changed.
fn last_changed(key: &str, mod_revision: i64) -> ProtoCompare {
    ProtoCompare {
        key: key.to_owned().into(),
        result: CompareResult::Equal.into(),
        target: CompareTarget::Mod.into(),
        target_union: Some(TargetUnion::ModRevision(mod_revision)),
        ..ProtoCompare::default()
    }
}

fn nested(success: Vec<RequestOp>) -> RequestOp {
    RequestOp { request: Some(Request::RequestTxn(TxnRequest { success, ..TxnRequest::default() })) }
}

fn effect(effect: &Effect) -> RequestOp {
    match effect {
        Effect::Put { key, value } => put(key, value.clone().into_bytes()),
        Effect::Delete { keys } => {
            let range_end = keys.to.clone().unwrap_or_default().into();
            let delete = DeleteRangeRequest { key: keys.from.clone().into(), range_end, ..Default::default() };
            RequestOp { request: Some(Request::RequestDeleteRange(delete)) }
        }
    }
}

fn put(key: &str, value: Vec<u8>) -> RequestOp {
    let put = PutRequest { key: key.to_owned().into(), value: value.into(), ..PutRequest::default() };
    RequestOp { request: Some(Request::RequestPut(put)) }
}

fn all() -> RangeRequest {
    RangeRequest { key: vec![0].into(), range_end: vec![0].into(), count_only: true, ..Default::default() }
}

/// A read of the whole store; members at which no caller waits have no use for its rows.
fn read() -> RequestOp {
    RequestOp { request: Some(Request::RequestRange(all())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use node_proto::etcdserverpb::ResponseOp;
    use prost::Message;

    fn effects() -> Vec<Effect> {
        ["a", "b"].map(|key| Effect::Put { key: key.to_owned(), value: "x,1.1".to_owned() }).to_vec()
    }

    /// The most operations on any way down.
    fn spent(txn: &TxnRequest) -> usize {
        let ops = txn.success.iter().chain(&txn.failure);
        let below = ops.filter_map(|op| match &op.request {
            Some(Request::RequestTxn(txn)) => Some(spent(txn)),
            _ => None,
        });
        txn.compare.len().max(txn.success.len()).max(txn.failure.len()) + below.max().unwrap_or(0)
    }

    #[test]
    fn shapes_are_what_they_are_named_for() {
        let packed = |shape| request(shape, &effects());
        assert_eq!(spent(&packed(Shape::Deep(40))), 42);
        assert_eq!(spent(&packed(Shape::Wide)), 3);
        assert_eq!(spent(&packed(Shape::Dear)), OPS_MAX);
        assert_eq!(spent(&packed(Shape::Crowded)), OPS_MAX + 1);
        assert_eq!(spent(&packed(Shape::Overspent)), OPS_MAX + 1);
        for bytes in [1_400 << 10, 1_537 << 10] {
            let request = packed(Shape::Padded(bytes));
            let fits = request.encoded_len() < 1_536 << 10;
            assert_eq!(fits, Shape::Padded(bytes).fate() == Fate::Taken);
            assert_eq!((request.success.len(), request.failure.len()), (2, 1));
        }
        assert!(packed(Shape::Padded(2_049 << 10)).encoded_len() > 2 << 20);
        assert!(packed(Shape::Empty).success.last().unwrap().request.is_none());
        assert_eq!(packed(Shape::Twice).success.len(), 3);
        assert_eq!(packed(Shape::UnknownTarget).compare[0].target, UNKNOWN);
        assert_eq!(packed(Shape::UnknownResult).compare[0].result, UNKNOWN);
    }

    #[test]
    fn comparisons_stand_in_the_innermost_transaction_and_nothing_beside_them() {
        let when = [Compare { key: "a".to_owned(), mod_revision: 7 }];
        let mut txn = comparison(&when, 2);
        for _ in 0..2 {
            assert!(txn.compare.is_empty() && txn.failure.is_empty() && txn.success.len() == 1);
            let Some(Request::RequestTxn(nested)) = txn.success.remove(0).request else { panic!("no transaction") };
            txn = nested;
        }
        assert_eq!((txn.compare.len(), txn.success.len()), (1, 0));
        assert_eq!(txn.compare[0].target_union, Some(TargetUnion::ModRevision(7)));
    }

    /// The answer is that of the innermost transaction: those around it have nothing that could
    /// fail.
    #[test]
    fn a_comparison_that_fails_inside_fails() {
        let around = |nested: TxnResponse| TxnResponse {
            succeeded: true,
            responses: vec![ResponseOp { response: Some(Response::ResponseTxn(nested)) }],
            ..TxnResponse::default()
        };
        assert!(succeeded(&around(around(TxnResponse { succeeded: true, ..TxnResponse::default() }))));
        assert!(!succeeded(&around(around(TxnResponse::default()))));
    }
}
