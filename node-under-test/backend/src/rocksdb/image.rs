//! Databases without a writer: a checkpoint, a staged snapshot, a dead member's, a copy just made.

use super::options;
use super::rows::{engine_error, row_key, scan_range, visit_rows};
use node_base::backend::{Bucket, ReadView, Result};
use rocksdb::{DB, Direction, IteratorMode, WriteBatch};
use std::borrow::Borrow;
use std::ops::ControlFlow;
use std::path::Path;

/// Batches of this many bytes are written by a copy.
const CHUNK_BYTES: usize = 1 << 20;

/// The rows of a database as they are.
pub(super) struct RowsOf<D>(pub D);

impl<D: Borrow<DB> + Send> ReadView for RowsOf<D> {
    fn get(&self, bucket: Bucket, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.0.borrow().get(row_key(bucket, key)).map_err(engine_error)
    }

    fn scan(
        &self,
        bucket: Bucket,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<()> {
        let Some((from, options)) = scan_range(bucket, from, to) else { return Ok(()) };
        visit_rows(self.0.borrow().iterator_opt(IteratorMode::From(&from, Direction::Forward), options), visit)
    }
}

/// See [`EngineKind::open_image`](crate::engine::EngineKind::open_image).
pub fn open_image(path: &Path) -> Result<Box<dyn ReadView>> {
    let db = DB::open_for_read_only(&options::read_only(), path, false)
        .map_err(|error| engine_error(error).during(format!("cannot open {} for reading", path.display())))?;
    Ok(Box::new(RowsOf(db)))
}

/// See [`EngineKind::write_image`](crate::engine::EngineKind::write_image).
pub fn write_image(path: &Path, source: &dyn ReadView, progress: &mut dyn FnMut(u64)) -> Result<u64> {
    let db = DB::open(&options::copy(), path).map_err(engine_error)?;
    let mut copied = 0;
    for bucket in Bucket::ALL {
        let mut batch = WriteBatch::default();
        let mut broken = None;
        source.scan(bucket, &[], None, &mut |key, value| {
            copied += 1;
            batch.put(row_key(bucket, key), value);
            if batch.size_in_bytes() >= CHUNK_BYTES {
                if let Err(error) = db.write_opt(std::mem::take(&mut batch), &options::write()) {
                    broken = Some(engine_error(error));
                    return ControlFlow::Break(());
                }
                progress(copied);
            }
            ControlFlow::Continue(())
        })?;
        broken.map_or(Ok(()), Err)?;
        db.write_opt(batch, &options::write()).map_err(engine_error)?;
    }
    progress(copied);
    // Without a write-ahead log the rows are where this flush puts them, and nowhere else.
    db.flush_opt(&options::flush(true)).map_err(engine_error)?;
    Ok(copied)
}
