//! The rules by which every member refuses requests by their bytes alone, written a second time: an
//! entry with such a request changes nothing.
//!
//! No member proposes such a request. One that is in a log all the same came from another source,
//! and no replica may act on it.

use node_proto::command::command::Request;
use node_proto::etcdserverpb::request_op::Request as Op;
use node_proto::etcdserverpb::{Compare, DeleteRangeRequest, PutRequest, RequestOp, TxnRequest};

/// Operations from the outermost transaction down, compares counted beside them, the longest list
/// of each level.
const OPS_MAX: usize = 128;
/// Transactions around the innermost one.
const DEPTH_MAX: usize = 48;
/// Results, targets, orders and sort targets that a protocol of etcd 3.4 to 3.6 knows: 0 up to
/// these.
const RESULT_MAX: i32 = 3;
const TARGET_MAX: i32 = 4;
const ORDER_MAX: i32 = 2;
const SORT_TARGET_MAX: i32 = 4;

/// The reason to refuse `request` in any state; `None`: some state admits it.
pub(super) fn refusal(request: &Request) -> Option<String> {
    let admitted = match request {
        Request::Put(request) => put(request),
        Request::DeleteRange(request) => key(&request.key),
        Request::Txn(request) => txn(request),
        _ => Ok(()),
    };
    admitted.err()
}

fn txn(txn: &TxnRequest) -> Result<(), String> {
    operations(txn, OPS_MAX, DEPTH_MAX)?;
    changes(&txn.success)?;
    changes(&txn.failure)?;
    Ok(())
}

fn put(put: &PutRequest) -> Result<(), String> {
    key(&put.key)?;
    if (put.ignore_value && !put.value.is_empty()) || (put.ignore_lease && put.lease != 0) {
        return Err("a put that keeps and replaces".to_owned());
    }
    Ok(())
}

fn operations(txn: &TxnRequest, ops_max: usize, depth_max: usize) -> Result<(), String> {
    let longest = txn.compare.len().max(txn.success.len()).max(txn.failure.len());
    let left =
        ops_max.checked_sub(longest).ok_or_else(|| format!("a transaction of more than {OPS_MAX} operations"))?;
    txn.compare.iter().try_for_each(compare)?;
    for op in txn.success.iter().chain(&txn.failure) {
        match &op.request {
            Some(Op::RequestTxn(nested)) => {
                let deeper =
                    depth_max.checked_sub(1).ok_or_else(|| format!("more than {DEPTH_MAX} transactions deep"))?;
                operations(nested, left, deeper)?;
            }
            Some(Op::RequestPut(request)) => put(request)?,
            Some(Op::RequestDeleteRange(delete)) => key(&delete.key)?,
            Some(Op::RequestRange(range)) => {
                key(&range.key)?;
                known("sort order", range.sort_order, ORDER_MAX)?;
                known("sort target", range.sort_target, SORT_TARGET_MAX)?;
            }
            None => return Err("an operation that asks for nothing".to_owned()),
        }
    }
    Ok(())
}

fn compare(compare: &Compare) -> Result<(), String> {
    key(&compare.key)?;
    known("result of a comparison", compare.result, RESULT_MAX)?;
    known("target of a comparison", compare.target, TARGET_MAX)
}

fn key(key: &[u8]) -> Result<(), String> {
    if key.is_empty() { Err("an operation without a key".to_owned()) } else { Ok(()) }
}

fn known(what: &str, number: i32, max: i32) -> Result<(), String> {
    if (0..=max).contains(&number) { Ok(()) } else { Err(format!("an unknown {what}, {number}")) }
}

/// The puts and deletes of a branch. Speed does not matter here: an entry of the workload's log
/// holds a few dozen operations.
#[derive(Default)]
struct Changes<'t> {
    puts: Vec<&'t [u8]>,
    deletes: Vec<&'t DeleteRangeRequest>,
}

impl<'t> Changes<'t> {
    fn both(mut self, other: Self) -> Result<Self, String> {
        let put_twice = self.puts.iter().find(|key| other.puts.contains(key));
        let gone = |puts: &[&'t [u8]], deletes: &[&DeleteRangeRequest]| {
            puts.iter().copied().find(|key| deletes.iter().any(|delete| within(delete, key)))
        };
        let twice = put_twice
            .copied()
            .or_else(|| gone(&self.puts, &other.deletes))
            .or_else(|| gone(&other.puts, &self.deletes));
        if let Some(key) = twice {
            return Err(format!("a transaction that changes {} twice", key.escape_ascii()));
        }
        self.puts.extend(other.puts);
        self.deletes.extend(other.deletes);
        Ok(self)
    }
}

fn changes(ops: &[RequestOp]) -> Result<Changes<'_>, String> {
    let mut all = Changes::default();
    for op in ops {
        let one = match &op.request {
            Some(Op::RequestPut(put)) => Changes { puts: vec![&put.key], ..Changes::default() },
            Some(Op::RequestDeleteRange(delete)) => Changes { deletes: vec![delete], ..Changes::default() },
            Some(Op::RequestTxn(txn)) => {
                let (mut success, failure) = (changes(&txn.success)?, changes(&txn.failure)?);
                success.puts.extend(failure.puts);
                success.deletes.extend(failure.deletes);
                success
            }
            Some(Op::RequestRange(_)) | None => Changes::default(),
        };
        all = all.both(one)?;
    }
    Ok(all)
}

fn within(delete: &DeleteRangeRequest, key: &[u8]) -> bool {
    match delete.range_end.as_ref() {
        [] => delete.key == key,
        [0] => *delete.key <= *key,
        end => *delete.key <= *key && key < end,
    }
}
