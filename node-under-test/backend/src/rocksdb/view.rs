//! Keys and reads. A row's key is its bucket's byte, then its key; so buckets are ranges of one column family.

use super::open_db::OpenDb;
use super::options;
use super::sys::PinnedSnapshot;
use node_base::backend::{BackendError, Bucket, ReadView, Result};
use rocksdb::{DBAccess, DBIteratorWithThreadMode, Direction, IteratorMode, ReadOptions};
use std::ops::ControlFlow;

pub(super) fn row_key(bucket: Bucket, key: &[u8]) -> Vec<u8> {
    let mut row = Vec::with_capacity(1 + key.len());
    row.push(bucket as u8);
    row.extend_from_slice(key);
    row
}

pub(super) fn engine_error(error: rocksdb::Error) -> BackendError {
    BackendError(error.into_string())
}

/// A view that never changes. It keeps its database open: an install waits until it is dropped.
pub(super) struct View {
    /// `None` after an install that failed halfway; the process is about to end.
    pub snapshot: Option<PinnedSnapshot<OpenDb>>,
}

impl View {
    fn pinned(&self) -> Result<&PinnedSnapshot<OpenDb>> {
        self.snapshot.as_ref().ok_or_else(super::closed)
    }
}

impl ReadView for View {
    fn get(&self, bucket: Bucket, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.pinned()?.get().get(row_key(bucket, key)).map_err(engine_error)
    }

    fn scan(
        &self,
        bucket: Bucket,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<()> {
        let Some((from, options)) = scan_range(bucket, from, to) else { return Ok(()) };
        visit_rows(self.pinned()?.get().iterator_opt(IteratorMode::From(&from, Direction::Forward), options), visit)
    }
}

/// Where the rows of `bucket` in `[from, to)` start, and how to read them; `None`: there can be none.
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
