//! Reads of one state of the database.

use super::open_db::OpenDb;
use super::options;
use super::rows::{engine_error, row_key, scan_range, visit_rows};
use super::sys::PinnedSnapshot;
use node_base::backend::{Bucket, ReadView, Result};
use rocksdb::{Direction, IteratorMode};
use std::ops::ControlFlow;

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
        self.pinned()?.get().get_opt(row_key(bucket, key), options::read()).map_err(engine_error)
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
