//! Whole files: an empty one, a copy of a view, and opening what a copy or a stranger made.

use super::failed;
use super::view::{View, table};
use crate::layout::DataDir;
use crate::snapshot::install;
use node_base::backend::{Bucket, ReadView, Result};
use node_base::durable;
use redb::Database;
use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

/// An image is written or read once, from end to end: more cache would not be hit.
const CACHE_BYTES: usize = 16 << 20;
/// Rows of this many bytes go into one transaction of a copy: what a copy holds in memory, beside
/// its cache.
const CHUNK_BYTES: usize = 8 << 20;

/// Origin of an image file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// This program, on this machine.
    Ours,
    /// Bytes that came from elsewhere: every page's checksum is verified before any is followed.
    Nobody,
}

/// See [`EngineKind::open_image`](crate::engine::EngineKind::open_image).
pub fn open_image(path: &Path, trust: Trust) -> Result<Box<dyn ReadView>> {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(trust == Trust::Nobody);
    let db = builder.open(path).map_err(|error| failed(error).during(format!("cannot open {}", path.display())))?;
    let view = View::of(Arc::new(db));
    for bucket in Bucket::ALL {
        // A redb file that is not ours has other tables.
        view.get(bucket, &[]).map_err(|error| error.during(format!("{} is not an image of ours", path.display())))?;
    }
    Ok(Box::new(view))
}

/// See [`EngineKind::write_image`](crate::engine::EngineKind::write_image).
pub fn write_image(path: &Path, source: &dyn ReadView, progress: &mut dyn FnMut(u64)) -> Result<u64> {
    let copy = Copy::create(path)?;
    let copied = copy.rows(source, progress)?;
    copy.close()?;
    Ok(copied)
}

/// A file in the making.
pub(super) struct Copy {
    db: Database,
}

impl Copy {
    /// Makes an empty file at `path`, where nothing is yet.
    pub fn create(path: &Path) -> Result<Self> {
        Ok(Self { db: Database::builder().set_cache_size(CACHE_BYTES).create(path).map_err(failed)? })
    }

    /// Copies every row of `source`, and says how many these are.
    pub fn rows(&self, source: &dyn ReadView, progress: &mut dyn FnMut(u64)) -> Result<u64> {
        let mut copied = 0;
        for bucket in Bucket::ALL {
            let mut chunk = Chunk { db: &self.db, bucket, rows: Vec::new(), bytes: 0 };
            let mut broken = None;
            source.scan(bucket, &[], None, &mut |key, value| {
                copied += 1;
                match chunk.add(key, value) {
                    Ok(false) => ControlFlow::Continue(()),
                    Ok(true) => {
                        progress(copied);
                        ControlFlow::Continue(())
                    }
                    Err(error) => {
                        broken = Some(error);
                        ControlFlow::Break(())
                    }
                }
            })?;
            broken.map_or(Ok(()), Err)?;
            // An empty bucket has a table too.
            chunk.write()?;
        }
        progress(copied);
        Ok(copied)
    }

    /// Copies the rows that `changed` names once more, as `source` has them: those that it has no
    /// more are removed.
    pub fn again<'a>(&self, source: &dyn ReadView, changed: impl Iterator<Item = (Bucket, &'a [u8])>) -> Result<()> {
        let txn = self.db.begin_write().map_err(failed)?;
        for (bucket, key) in changed {
            let mut table = txn.open_table(table(bucket)).map_err(failed)?;
            match source.get(bucket, key)? {
                Some(value) => drop(table.insert(key, value.as_slice()).map_err(failed)?),
                None => drop(table.remove(key).map_err(failed)?),
            }
        }
        txn.commit().map_err(failed)
    }

    pub fn close(self) -> Result<()> {
        self.db.close().map_err(failed)
    }
}

/// Rows of one bucket that are not written yet.
struct Chunk<'a> {
    db: &'a Database,
    bucket: Bucket,
    rows: Vec<(Vec<u8>, Vec<u8>)>,
    bytes: usize,
}

impl Chunk<'_> {
    /// Adds a row and writes the chunk if it is full by then; true if it was written.
    fn add(&mut self, key: &[u8], value: &[u8]) -> Result<bool> {
        self.bytes += key.len() + value.len();
        self.rows.push((key.to_vec(), value.to_vec()));
        let full = self.bytes >= CHUNK_BYTES;
        if full {
            self.write()?;
        }
        Ok(full)
    }

    fn write(&mut self) -> Result<()> {
        let txn = self.db.begin_write().map_err(failed)?;
        let mut open = txn.open_table(table(self.bucket)).map_err(failed)?;
        for (key, value) in self.rows.drain(..) {
            open.insert(key.as_slice(), value.as_slice()).map_err(failed)?;
        }
        drop(open);
        self.bytes = 0;
        txn.commit().map_err(failed)
    }
}

/// Makes `db` with its empty tables, durably, under another name first: a kill in between leaves no
/// half-made file.
pub(super) fn create_empty(dir: &DataDir) -> io::Result<()> {
    let fresh = dir.fresh();
    install::remove(&fresh)?;
    write_image(&fresh, &Nothing, &mut |_| ())?;
    File::open(&fresh)?.sync_all()?;
    std::fs::rename(&fresh, dir.db())?;
    durable::sync_dir(&dir.snap())
}

struct Nothing;

impl ReadView for Nothing {
    fn get(&self, _: Bucket, _: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(None)
    }

    fn scan(
        &self,
        _: Bucket,
        _: &[u8],
        _: Option<&[u8]>,
        _: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<()> {
        Ok(())
    }
}
