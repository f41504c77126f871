//! The seam between the replicated state machine and a storage engine.
//!
//! Above it nothing knows an engine; below it nothing knows keys, leases or revisions. A commit carries the
//! [`LogId`] of the raft entry that it belongs to, and the engine stores it as the *last key of the same
//! batch*: whatever state an engine recovers is therefore an exact prefix of the raft log.

use crate::LogId;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

pub type Result<T> = std::result::Result<T, BackendError>;

/// A storage engine failed. There is no retry: the caller ends the process, because an engine that failed
/// once (above all at a sync) can no longer say what is durable.
#[derive(Debug, thiserror::Error)]
#[error("storage engine: {0}")]
pub struct BackendError(pub String);

/// The key spaces. The discriminant is the first byte of a row's key in an engine without tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Bucket {
    /// Bookkeeping of the node: `consistent_index`, the compact revision. Not hashed as rows.
    Meta = b'm',
    /// MVCC rows by revision.
    Key = b'k',
    /// Leases by id.
    Lease = b'l',
    /// Users, roles, enabled flag.
    Auth = b'a',
    /// Cluster members by id.
    Member = b'c',
}

/// Key, in [`Bucket::Meta`], of the [`LogId`] of the last applied entry.
pub const CONSISTENT_INDEX: &[u8] = b"consistent_index";

/// A consistent, unchanging view of the engine.
pub trait ReadView: Send {
    fn get(&self, bucket: Bucket, key: &[u8]) -> Result<Option<Vec<u8>>>;
    /// Visits the rows of `bucket` with `from <= key` (and `key < to`, if there is one) in ascending key
    /// order until `visit` breaks.
    fn scan(
        &self,
        bucket: Bucket,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<()>;
}

/// A storage engine. All methods may be called from any thread; `commit` from one at a time.
pub trait Backend: Send + Sync {
    /// A view of everything committed so far. It holds no lock: writers go on, and it may outlive a commit.
    fn read(&self) -> Box<dyn ReadView + '_>;
    /// Makes `batch` and `at` visible in one step, `at` last; when that becomes *durable* is the engine's matter.
    fn commit(&self, batch: Batch, at: LogId) -> Result<()>;
    /// The consistent index: the last [`LogId`] committed.
    fn consistent_index(&self) -> Result<Option<LogId>>;
    /// Makes everything committed so far durable, and waits until it is.
    fn flush(&self) -> Result<()>;
    /// Bytes on disk (allocated, in use).
    fn size(&self) -> Result<(u64, u64)>;
}

/// The changes of one raft entry, with reads that see them.
#[derive(Debug, Default, Clone)]
pub struct Batch {
    changes: BTreeMap<(Bucket, Vec<u8>), Option<Vec<u8>>>,
}

impl Batch {
    pub fn put(&mut self, bucket: Bucket, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.changes.insert((bucket, key.into()), Some(value.into()));
    }

    pub fn delete(&mut self, bucket: Bucket, key: impl Into<Vec<u8>>) {
        self.changes.insert((bucket, key.into()), None);
    }

    /// The row as it will be once this batch is committed on top of `under`.
    pub fn get(&self, under: &dyn ReadView, bucket: Bucket, key: &[u8]) -> Result<Option<Vec<u8>>> {
        match self.changes.get(&(bucket, key.to_vec())) {
            Some(change) => Ok(change.clone()),
            None => under.get(bucket, key),
        }
    }

    /// The changes in ascending (bucket, key) order; a `None` value deletes the row.
    pub fn changes(&self) -> impl Iterator<Item = (Bucket, &[u8], Option<&[u8]>)> {
        self.changes.iter().map(|((bucket, key), value)| (*bucket, key.as_slice(), value.as_deref()))
    }

    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}
