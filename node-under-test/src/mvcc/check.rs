//! Checks of a request by itself, before it is proposed: they need no state, so every member would answer alike.

use super::{Interval, Rejection};
use bytes::Bytes;
use node_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use node_proto::etcdserverpb::request_op::Request;
use node_proto::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest};
use std::collections::BTreeSet;

/// Compares, or operations of one branch, in a transaction; etcd's own default.
const TXN_OPS_MAX: usize = 128;

type Check = Result<(), Rejection>;

pub fn range(request: &RangeRequest) -> Check {
    if request.key.is_empty() {
        return Err(Rejection::EMPTY_KEY);
    }
    if SortOrder::try_from(request.sort_order).is_err() || SortTarget::try_from(request.sort_target).is_err() {
        return Err(Rejection::INVALID_SORT_OPTION);
    }
    Ok(())
}

pub fn put(request: &PutRequest) -> Check {
    if request.key.is_empty() {
        return Err(Rejection::EMPTY_KEY);
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(Rejection::VALUE_PROVIDED);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(Rejection::LEASE_PROVIDED);
    }
    Ok(())
}

pub fn delete_range(request: &DeleteRangeRequest) -> Check {
    if request.key.is_empty() { Err(Rejection::EMPTY_KEY) } else { Ok(()) }
}

pub fn txn(request: &TxnRequest) -> Check {
    operations(request)?;
    changes(&request.success)?;
    changes(&request.failure)?;
    Ok(())
}

fn operations(request: &TxnRequest) -> Check {
    let longest = request.compare.len().max(request.success.len()).max(request.failure.len());
    if longest > TXN_OPS_MAX {
        return Err(Rejection::TOO_MANY_OPS);
    }
    if request.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(Rejection::EMPTY_KEY);
    }
    for op in request.success.iter().chain(&request.failure) {
        match &op.request {
            Some(Request::RequestRange(request)) => range(request)?,
            Some(Request::RequestPut(request)) => put(request)?,
            Some(Request::RequestDeleteRange(request)) => delete_range(request)?,
            Some(Request::RequestTxn(request)) => operations(request)?,
            None => {}
        }
    }
    Ok(())
}

/// What one branch may change.
#[derive(Default)]
struct Changes {
    puts: BTreeSet<Bytes>,
    deletes: Vec<Interval>,
}

impl Changes {
    fn put(&mut self, key: &Bytes) -> Check {
        let deleted = self.deletes.iter().any(|interval| interval.contains(key));
        if deleted || !self.puts.insert(key.clone()) { Err(Rejection::DUPLICATE_KEY) } else { Ok(()) }
    }
}

/// No key may be changed twice in one revision. The two branches of one nested transaction exclude each
/// other, so they may put the same key.
fn changes(ops: &[RequestOp]) -> Result<Changes, Rejection> {
    let mut all = Changes::default();
    for op in ops {
        if let Some(Request::RequestDeleteRange(request)) = &op.request {
            all.deletes.push(Interval::new(&request.key, &request.range_end));
        }
    }
    for op in ops {
        if let Some(Request::RequestTxn(request)) = &op.request {
            let (success, failure) = (changes(&request.success)?, changes(&request.failure)?);
            for key in success.puts.union(&failure.puts) {
                all.put(key)?;
            }
            all.deletes.extend(success.deletes.into_iter().chain(failure.deletes));
        }
    }
    for op in ops {
        if let Some(Request::RequestPut(request)) = &op.request {
            all.put(&request.key)?;
        }
    }
    Ok(all)
}

/// Whether a transaction can change nothing, whichever branches it takes: then it need not be replicated.
pub fn is_read_only(request: &TxnRequest) -> bool {
    request.success.iter().chain(&request.failure).all(|op| match &op.request {
        Some(Request::RequestPut(_) | Request::RequestDeleteRange(_)) => false,
        Some(Request::RequestTxn(request)) => is_read_only(request),
        Some(Request::RequestRange(_)) | None => true,
    })
}

/// Whether every range of a transaction accepts a stale answer.
pub fn is_serializable(request: &TxnRequest) -> bool {
    request.success.iter().chain(&request.failure).all(|op| match &op.request {
        Some(Request::RequestRange(range)) => range.serializable,
        Some(Request::RequestTxn(request)) => is_serializable(request),
        _ => true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(request: Request) -> RequestOp {
        RequestOp { request: Some(request) }
    }

    fn put_op(key: &'static str) -> RequestOp {
        op(Request::RequestPut(PutRequest { key: key.into(), ..PutRequest::default() }))
    }

    fn delete_op(key: &'static str, end: &'static str) -> RequestOp {
        let request = DeleteRangeRequest { key: key.into(), range_end: end.into(), ..DeleteRangeRequest::default() };
        op(Request::RequestDeleteRange(request))
    }

    fn nested(success: Vec<RequestOp>, failure: Vec<RequestOp>) -> RequestOp {
        op(Request::RequestTxn(TxnRequest { compare: Vec::new(), success, failure }))
    }

    fn check(success: Vec<RequestOp>) -> Check {
        txn(&TxnRequest { success, ..TxnRequest::default() })
    }

    #[test]
    fn a_key_is_changed_once_per_branch() {
        assert_eq!(check(vec![put_op("a"), put_op("b")]), Ok(()));
        assert_eq!(check(vec![put_op("a"), put_op("a")]), Err(Rejection::DUPLICATE_KEY));
        assert_eq!(check(vec![put_op("b"), delete_op("a", "c")]), Err(Rejection::DUPLICATE_KEY));
        assert_eq!(check(vec![put_op("c"), delete_op("a", "c")]), Ok(()));
        assert_eq!(check(vec![delete_op("a", "c"), delete_op("b", "")]), Ok(()));
    }

    #[test]
    fn nested_branches_exclude_each_other() {
        assert_eq!(check(vec![nested(vec![put_op("a")], vec![put_op("a")])]), Ok(()));
        assert_eq!(check(vec![nested(vec![put_op("a")], vec![]), put_op("a")]), Err(Rejection::DUPLICATE_KEY));
        let twice = vec![nested(vec![put_op("a")], vec![]), nested(vec![], vec![put_op("a")])];
        assert_eq!(check(twice), Err(Rejection::DUPLICATE_KEY));
        assert_eq!(check(vec![nested(vec![delete_op("a", "")], vec![]), put_op("a")]), Err(Rejection::DUPLICATE_KEY));
    }

    #[test]
    fn too_many_operations_and_empty_keys_are_refused() {
        assert_eq!(check(vec![delete_op("a", ""); 129]), Err(Rejection::TOO_MANY_OPS));
        assert_eq!(check(vec![nested(vec![put_op("")], vec![])]), Err(Rejection::EMPTY_KEY));
    }
}
