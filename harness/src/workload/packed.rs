//! Transactions of unusual shapes as they go over the wire, and what came of them.
//!
//! The client library makes no request that a server has to refuse, so these are made by hand.

use super::connection::answered;
use super::refusal;
use ninelives_evidence::operation::{Effect, Outcome, Reply, Shape};
use node_proto::etcdserverpb::kv_client::KvClient;
use node_proto::etcdserverpb::request_op::Request;
use node_proto::etcdserverpb::response_op::Response;
use node_proto::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, TxnResponse};
use tonic::transport::Channel;

/// The limit of operations that is kept or broken here; etcd's default.
const OPS_MAX: usize = 128;

/// Sends `then` once, packed into `shape`.
pub(super) async fn send(channel: &Channel, shape: Shape, then: &[Effect]) -> Outcome {
    match KvClient::new(channel.clone()).txn(request(shape, then)).await {
        Ok(answer) => {
            let answer = answer.into_inner();
            let header = answer.header.as_ref().map(|header| (header.revision, header.raft_term));
            answered(header, Reply::Txn { succeeded: succeeded(&answer) })
        }
        Err(status) => refusal::outcome_of_status(&status),
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
    let mut failure = Vec::new();
    match shape {
        Shape::Deep(depth) => {
            for _ in 0..depth {
                success = vec![nested(success)];
            }
        }
        Shape::Wide => success = success.into_iter().map(|op| nested(vec![op])).collect(),
        Shape::Padded(bytes) => failure.push(put("padding", vec![b'x'; bytes as usize])),
        Shape::Crowded => success.resize(OPS_MAX + 1, read()),
        // As many side by side as are allowed, less what is in each of them, plus one.
        Shape::Overspent => success.resize(OPS_MAX / 2 + 1, nested(vec![read(); OPS_MAX / 2])),
        Shape::Twice => {
            let again = success.iter().take(1).cloned().collect();
            success.push(nested(again));
        }
        Shape::Empty => success.push(RequestOp::default()),
    }
    TxnRequest { compare: Vec::new(), success, failure }
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

/// A read of the whole store; members at which no caller waits have no use for its rows.
fn read() -> RequestOp {
    let all = RangeRequest { key: vec![0].into(), range_end: vec![0].into(), count_only: true, ..Default::default() };
    RequestOp { request: Some(Request::RequestRange(all)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ninelives_evidence::operation::Fate;
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
    }
}
