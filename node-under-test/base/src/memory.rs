//! For tests only: an engine that is an ordered map. The conformance suite runs over it as over the
//! others, and whatever stands above the seam can be tested without a disk.

use crate::LogId;
use crate::backend::{Backend, Batch, Bucket, CONSISTENT_INDEX, ReadView, Result, Size, Snapshot, SnapshotError};
use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

type Rows = BTreeMap<(Bucket, Vec<u8>), Vec<u8>>;

/// Rows in memory; a view is a share of them, and a commit beside a view copies them.
#[derive(Default)]
pub struct MemoryBackend {
    rows: Mutex<Arc<Rows>>,
    rows_read: Arc<AtomicU64>,
}

impl MemoryBackend {
    fn rows(&self) -> MutexGuard<'_, Arc<Rows>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of single rows that its views were asked for.
    pub fn rows_read(&self) -> u64 {
        self.rows_read.load(Ordering::Relaxed)
    }

    fn change(&self, batch: &Batch, at: Option<LogId>) {
        let mut locked = self.rows();
        let rows = Arc::make_mut(&mut locked);
        for (bucket, key, value) in batch.changes() {
            match value {
                Some(value) => drop(rows.insert((bucket, key.to_vec()), value.to_vec())),
                None => drop(rows.remove(&(bucket, key.to_vec()))),
            }
        }
        if let Some(at) = at {
            rows.insert((Bucket::Meta, CONSISTENT_INDEX.to_vec()), at.encode().to_vec());
        }
    }

    pub fn row_count(&self, bucket: Bucket) -> usize {
        self.rows().keys().filter(|(of, _)| *of == bucket).count()
    }
}

struct MemoryView(Arc<Rows>, Arc<AtomicU64>);

impl ReadView for MemoryView {
    fn get(&self, bucket: Bucket, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.1.fetch_add(1, Ordering::Relaxed);
        Ok(self.0.get(&(bucket, key.to_vec())).cloned())
    }

    fn scan(
        &self,
        bucket: Bucket,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<()> {
        let rows = self.0.range((Bound::Included((bucket, from.to_vec())), Bound::Unbounded));
        for ((of, key), value) in rows {
            let outside = *of != bucket || to.is_some_and(|to| key.as_slice() >= to);
            if outside || visit(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }
}

impl Backend for MemoryBackend {
    fn read(&self) -> Box<dyn ReadView + '_> {
        Box::new(MemoryView(self.rows().clone(), self.rows_read.clone()))
    }

    fn commit_then(&self, batch: Batch, at: LogId, visible: &mut dyn FnMut()) -> Result<()> {
        self.change(&batch, Some(at));
        visible();
        Ok(())
    }

    /// So that what stands above the seam is tested with entries that share one.
    fn commits_are_costly(&self) -> bool {
        true
    }

    fn sweep(&self, batch: Batch) -> Result<()> {
        self.change(&batch, None);
        Ok(())
    }

    fn settle(&self) -> Result<()> {
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        Ok(())
    }

    fn snapshot(&self) -> std::result::Result<Snapshot, SnapshotError> {
        Err(SnapshotError::Refused("the memory engine has no image".into()))
    }

    fn size(&self) -> Result<Size> {
        let in_use = self.rows().iter().map(|((_, key), value)| (key.len() + value.len()) as u64).sum();
        Ok(Size { allocated: in_use, in_use })
    }

    fn defrag(&self) -> Result<()> {
        Ok(())
    }

    fn close(&self) -> Result<()> {
        Ok(())
    }
}
