//! Checks of a request by itself, before it is proposed: they need no state, so every member would
//! answer alike.
//!
//! They are etcd's, with two exceptions: an unknown comparison is refused, where etcd lets it hold;
//! and a key that is put in one nested transaction and deleted in another is refused in whichever
//! order they stand.

use super::interval_set::IntervalSet;
use super::key::Key;
use super::{Interval, Rejection};
use bytes::Bytes;
use node_base::sabotage::{Bug, planted};
use node_proto::command::command::Request as Command;
use node_proto::etcdserverpb::compare::{CompareResult, CompareTarget};
use node_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use node_proto::etcdserverpb::request_op::Request;
use node_proto::etcdserverpb::{Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest};
use node_proto::limits::{TXN_DEPTH_MAX, TXN_OPS_MAX};
use std::collections::BTreeSet;

type Check = Result<(), Rejection>;

/// # Errors
/// The first reason why no state would let the command change anything.
pub fn command(command: &Command) -> Check {
    match command {
        Command::Put(request) => put(request),
        Command::DeleteRange(request) => delete_range(request),
        Command::Txn(request) => txn(request),
        Command::Compact(_)
        | Command::LeaseGrant(_)
        | Command::LeaseRevoke(_)
        | Command::Fence(_)
        | Command::PublishMember(_) => Ok(()),
    }
}

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
    // Without it, what is accepted may be too deep to be decoded inside of a command.
    let depth_max = if planted(Bug::ApplyNotTotal) { usize::MAX } else { TXN_DEPTH_MAX };
    operations(request, TXN_OPS_MAX, depth_max)?;
    changes(&request.success)?;
    changes(&request.failure)?;
    Ok(())
}

/// A nested transaction has what those around it leave of `ops_max`, whatever its neighbours use.
fn operations(request: &TxnRequest, ops_max: usize, depth_max: usize) -> Check {
    let longest = request.compare.len().max(request.success.len()).max(request.failure.len());
    let too_many = if planted(Bug::WrongRefusalCode) { Rejection::TOO_MANY_REQUESTS } else { Rejection::TOO_MANY_OPS };
    let ops_left = ops_max.checked_sub(longest).ok_or(too_many)?;
    request.compare.iter().try_for_each(compare)?;
    for op in request.success.iter().chain(&request.failure) {
        match &op.request {
            Some(Request::RequestRange(request)) => range(request)?,
            Some(Request::RequestPut(request)) => put(request)?,
            Some(Request::RequestDeleteRange(request)) => delete_range(request)?,
            Some(Request::RequestTxn(request)) => {
                operations(request, ops_left, depth_max.checked_sub(1).ok_or(Rejection::TOO_MANY_OPS)?)?;
            }
            // etcd's answer to an operation that asks for nothing, or for something that it does
            // not know.
            None => return Err(Rejection::KEY_NOT_FOUND),
        }
    }
    Ok(())
}

fn compare(compare: &Compare) -> Check {
    if compare.key.is_empty() {
        return Err(Rejection::EMPTY_KEY);
    }
    let unknown = CompareResult::try_from(compare.result).is_err() || CompareTarget::try_from(compare.target).is_err();
    if unknown && !planted(Bug::UnknownCompareHolds) {
        return Err(Rejection::INVALID_COMPARE);
    }
    Ok(())
}

/// Keys that may be changed by one branch, or by operations that can come about together.
#[derive(Default)]
struct Changes {
    puts: BTreeSet<Key>,
    deletes: IntervalSet,
}

impl Changes {
    fn put(key: &Bytes) -> Self {
        Self { puts: BTreeSet::from([key.clone().into()]), ..Self::default() }
    }

    fn delete(request: &DeleteRangeRequest) -> Self {
        let mut changes = Self::default();
        changes.deletes.insert(Interval::new(&request.key, &request.range_end));
        changes
    }

    fn len(&self) -> usize {
        self.puts.len() + self.deletes.len()
    }

    /// Both come about: no key may be changed twice in one revision, but for one that is deleted
    /// twice.
    ///
    /// The smaller side is looked up in the larger one and then moved over, so that the whole costs
    /// little more than sorting does, however transactions are nested.
    fn and(self, other: Self) -> Result<Self, Rejection> {
        let (small, large) = self.by_size(other);
        let twice = |key: &Key| large.puts.contains(key) || large.deletes.contains(key);
        if small.puts.iter().any(twice) || small.deletes.meets(&large.puts) {
            return Err(Rejection::DUPLICATE_KEY);
        }
        Ok(large.absorb(small))
    }

    /// One or the other comes about: they may change the same keys.
    fn or(self, other: Self) -> Self {
        let (small, large) = self.by_size(other);
        large.absorb(small)
    }

    fn by_size(self, other: Self) -> (Self, Self) {
        if self.len() <= other.len() { (self, other) } else { (other, self) }
    }

    fn absorb(mut self, small: Self) -> Self {
        self.puts.extend(small.puts);
        self.deletes.absorb(small.deletes);
        self
    }
}

fn changes(ops: &[RequestOp]) -> Result<Changes, Rejection> {
    let mut all = Changes::default();
    for op in ops {
        let one = match &op.request {
            Some(Request::RequestPut(request)) => Changes::put(&request.key),
            Some(Request::RequestDeleteRange(request)) => Changes::delete(request),
            Some(Request::RequestTxn(request)) => changes(&request.success)?.or(changes(&request.failure)?),
            Some(Request::RequestRange(_)) | None => continue,
        };
        all = all.and(one)?;
    }
    Ok(all)
}

/// True if a transaction can change nothing, whichever branches it takes: then it need not be
/// replicated.
pub fn is_read_only(request: &TxnRequest) -> bool {
    request.success.iter().chain(&request.failure).all(|op| match &op.request {
        Some(Request::RequestPut(_) | Request::RequestDeleteRange(_)) => false,
        Some(Request::RequestTxn(request)) => is_read_only(request),
        Some(Request::RequestRange(_)) | None => true,
    })
}

/// True if a transaction accepts a stale answer: it has operations, and each is a range that does.
/// A comparison has no such mark, so one that is all of an answer (in a nested transaction, or
/// without any operation) is as fresh as a linearizable range.
pub fn is_serializable(request: &TxnRequest) -> bool {
    let mut ops = request.success.iter().chain(&request.failure).peekable();
    ops.peek().is_some()
        && ops.all(|op| match &op.request {
            Some(Request::RequestRange(range)) => range.serializable,
            Some(Request::RequestTxn(_)) => planted(Bug::CompareOnlyStale),
            _ => false,
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

    fn read_op(serializable: bool) -> RequestOp {
        op(Request::RequestRange(RangeRequest { key: "a".into(), serializable, ..RangeRequest::default() }))
    }

    /// A level has what those around it leave: 127 and 1, 64 and 64, and not one more.
    #[test]
    fn nested_transactions_share_the_operations_of_those_around_them() {
        let around = |outer: usize, inner: usize| vec![nested(vec![read_op(true); inner], Vec::new()); outer];
        for (outer, inner) in [(127, 1), (64, 64), (1, 127)] {
            assert_eq!(check(around(outer, inner)), Ok(()), "{outer} of {inner}");
            assert_eq!(check(around(outer + 1, inner)), Err(Rejection::TOO_MANY_OPS), "{outer} + 1 of {inner}");
            assert_eq!(check(around(outer, inner + 1)), Err(Rejection::TOO_MANY_OPS), "{outer} of {inner} + 1");
        }
        assert_eq!(check(around(128, 0)), Ok(()), "which ask for nothing more");
        let compares = vec![Compare { key: "a".into(), ..Compare::default() }; 100];
        let txn_of = |inner| TxnRequest { compare: compares.clone(), success: around(1, inner), failure: Vec::new() };
        assert_eq!(txn(&txn_of(28)), Ok(()));
        assert_eq!(txn(&txn_of(29)), Err(Rejection::TOO_MANY_OPS), "a compare is an operation too");
    }

    #[test]
    fn transactions_are_as_deep_as_commands_can_hold_and_no_deeper() {
        let deep = |depth| (0..depth).fold(vec![put_op("a")], |ops, _| vec![nested(ops, Vec::new())]);
        assert_eq!(check(deep(TXN_DEPTH_MAX)), Ok(()));
        assert_eq!(check(deep(TXN_DEPTH_MAX + 1)), Err(Rejection::TOO_MANY_OPS));
    }

    #[test]
    fn what_is_unknown_is_refused_and_never_taken_for_the_default() {
        assert_eq!(check(vec![RequestOp::default()]), Err(Rejection::KEY_NOT_FOUND));
        assert_eq!(check(vec![nested(vec![], vec![RequestOp::default()])]), Err(Rejection::KEY_NOT_FOUND));
        let compared = |result, target| {
            let compare = vec![Compare { key: "a".into(), result, target, ..Compare::default() }];
            txn(&TxnRequest { compare, ..TxnRequest::default() })
        };
        assert_eq!(compared(3, 4), Ok(()));
        for (result, target) in [(4, 0), (-1, 0), (0, 5), (0, -1)] {
            assert_eq!(compared(result, target), Err(Rejection::INVALID_COMPARE), "{result}, {target}");
        }
        for (sort_order, sort_target) in [(3, 0), (-1, 0), (0, 5), (0, -1)] {
            let request = RangeRequest { key: "a".into(), sort_order, sort_target, ..RangeRequest::default() };
            assert_eq!(range(&request), Err(Rejection::INVALID_SORT_OPTION));
            assert_eq!(check(vec![op(Request::RequestRange(request))]), Err(Rejection::INVALID_SORT_OPTION));
        }
    }

    #[test]
    fn only_ranges_can_accept_a_stale_answer() {
        let compare = vec![Compare { key: "a".into(), ..Compare::default() }];
        let compared = TxnRequest { compare, ..TxnRequest::default() };
        let of = |success| TxnRequest { success, ..compared.clone() };
        let nested = |txn: TxnRequest| op(Request::RequestTxn(txn));
        let stale = of(vec![read_op(true), read_op(true)]);
        assert!(is_read_only(&stale) && is_serializable(&stale));
        for fresh in [
            compared.clone(),
            of(vec![read_op(true), read_op(false)]),
            of(vec![nested(compared.clone())]),
            of(vec![read_op(true), nested(compared.clone())]),
            of(vec![nested(stale)]),
        ] {
            assert!(is_read_only(&fresh) && !is_serializable(&fresh), "{fresh:?}");
        }
    }

    #[test]
    fn nested_changes_overlap_in_whichever_order_they_stand() {
        let (put, delete) = (|| nested(vec![put_op("b")], vec![]), || nested(vec![], vec![delete_op("a", "c")]));
        assert_eq!(check(vec![put(), delete()]), Err(Rejection::DUPLICATE_KEY));
        assert_eq!(check(vec![delete(), put()]), Err(Rejection::DUPLICATE_KEY));
        assert_eq!(check(vec![nested(vec![put_op("b")], vec![delete_op("a", "c")])]), Ok(()));
        assert_eq!(check(vec![delete(), delete()]), Ok(()));
        assert_eq!(check(vec![put_op("d"), delete_op("e", "d"), put_op("f")]), Ok(()), "an interval without a key");
    }
}
