//! Rows. A row's key is its bucket's byte, then its key; so buckets are ranges of one column
//! family.

use super::options;
use node_base::backend::{BackendError, BackendErrorKind, Bucket, Result};
use rocksdb::{DBAccess, DBIteratorWithThreadMode, ErrorKind, ReadOptions};
use std::ops::ControlFlow;

pub(super) fn row_key(bucket: Bucket, key: &[u8]) -> Vec<u8> {
    let mut row = Vec::with_capacity(1 + key.len());
    set_row_key(&mut row, bucket, key);
    row
}

/// Makes `row` that key. Its allocation serves one row after the other.
pub(super) fn set_row_key(row: &mut Vec<u8>, bucket: Bucket, key: &[u8]) {
    row.clear();
    row.push(bucket as u8);
    row.extend_from_slice(key);
}

/// An error of RocksDB, by the class that its status names.
pub(super) fn engine_error(error: rocksdb::Error) -> BackendError {
    let kind = match error.kind() {
        ErrorKind::Corruption => BackendErrorKind::Corrupt,
        ErrorKind::InvalidArgument | ErrorKind::NotSupported => BackendErrorKind::Refused,
        ErrorKind::ShutdownInProgress => BackendErrorKind::Closed,
        _ => BackendErrorKind::Io,
    };
    BackendError::new(kind, "rocksdb").because(error)
}

/// The key at which the rows of `bucket` in `[from, to)` start, and the options to read them with;
/// `None` if the range is empty.
pub(super) fn scan_range(bucket: Bucket, from: &[u8], to: Option<&[u8]>) -> Option<(Vec<u8>, ReadOptions)> {
    let from = row_key(bucket, from);
    // No bucket is 0xff, so the next byte ends the bucket.
    let to = to.map_or_else(|| vec![bucket as u8 + 1], |to| row_key(bucket, to));
    // RocksDB calls a lower bound above the upper one undefined.
    (from < to).then(|| (from.clone(), options::scan(from, to)))
}

/// Hands each row to `visit`, without its bucket's byte, until that breaks.
pub(super) fn visit_rows<D: DBAccess>(
    rows: DBIteratorWithThreadMode<'_, D>,
    visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
) -> Result<()> {
    for row in rows {
        let (key, value) = row.map_err(engine_error)?;
        if visit(&key[1..], &value).is_break() {
            break;
        }
    }
    Ok(())
}
