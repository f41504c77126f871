//! Tables and reads.

use super::failed;
use node_base::backend::{BackendError, Bucket, ReadView, Result};
use redb::{Database, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTableMetadata, TableDefinition};
use std::cell::OnceCell;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

type Bytes = &'static [u8];

/// The table of a bucket.
pub(super) const fn table(bucket: Bucket) -> TableDefinition<'static, Bytes, Bytes> {
    TableDefinition::new(match bucket {
        Bucket::Meta => "meta",
        Bucket::Key => "key",
        Bucket::Lease => "lease",
        Bucket::Auth => "auth",
        Bucket::Member => "member",
    })
}

/// The rows that one read transaction sees. It keeps its file open even when another file takes
/// that file's place.
pub(super) struct View {
    open: Result<Open>,
}

struct Open {
    /// Opened when first read; in the order of [`Bucket::ALL`].
    tables: [OnceCell<ReadOnlyTable<Bytes, Bytes>>; Bucket::ALL.len()],
    txn: ReadTransaction,
    /// Dropped last: a database that closes takes its transactions along.
    _db: Arc<Database>,
}

impl View {
    pub fn of(db: Arc<Database>) -> Self {
        let open = db.begin_read().map_err(failed).map(|txn| Open { tables: Default::default(), txn, _db: db });
        Self { open }
    }

    pub fn failed(error: BackendError) -> Self {
        Self { open: Err(error) }
    }

    fn table(&self, bucket: Bucket) -> Result<&ReadOnlyTable<Bytes, Bytes>> {
        let open = self.open.as_ref().map_err(BackendError::clone)?;
        let slot = Bucket::ALL.iter().position(|of| *of == bucket).map(|at| &open.tables[at]);
        let slot = slot.ok_or_else(|| BackendError::refused("a bucket without a table"))?;
        match slot.get() {
            Some(table) => Ok(table),
            None => {
                let table = open.txn.open_table(table(bucket)).map_err(failed)?;
                Ok(slot.get_or_init(|| table))
            }
        }
    }

    /// Bytes of the pages that hold rows or lead to them. Reads every page.
    pub fn bytes_in_use(&self) -> Result<u64> {
        const PAGE_BYTES: u64 = 4096;
        Bucket::ALL.into_iter().try_fold(0, |sum, bucket| {
            let stats = self.table(bucket)?.stats().map_err(failed)?;
            Ok(sum + (stats.leaf_pages() + stats.branch_pages()) * PAGE_BYTES)
        })
    }
}

impl ReadView for View {
    fn get(&self, bucket: Bucket, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let found = self.table(bucket)?.get(key).map_err(failed)?;
        Ok(found.map(|value| value.value().to_vec()))
    }

    fn scan(
        &self,
        bucket: Bucket,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<()> {
        if to.is_some_and(|to| from >= to) {
            return Ok(());
        }
        let range = (Bound::Included(from), to.map_or(Bound::Unbounded, Bound::Excluded));
        for row in self.table(bucket)?.range::<&[u8]>(range).map_err(failed)? {
            let (key, value) = row.map_err(failed)?;
            if visit(key.value(), value.value()).is_break() {
                break;
            }
        }
        Ok(())
    }
}
