//! The seam between the replicated state machine and a storage engine.
//!
//! Above it nothing knows an engine; below it nothing knows keys, leases or revisions. A commit
//! takes the changes of one raft entry, or of consecutive ones, and the [`LogId`] of the last of
//! them, which the engine stores as the *last key of the same batch*: whatever state an engine
//! recovers is therefore an exact prefix of the raft log.

use crate::LogId;
use crate::chain::Chained;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::ops::ControlFlow;

pub use crate::backend_error::{BackendError, BackendErrorKind, is_damage};

pub type Result<T> = std::result::Result<T, BackendError>;

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

impl Bucket {
    /// In ascending order of their bytes: the order of [`hash`].
    pub const ALL: [Bucket; 5] = [Bucket::Auth, Bucket::Member, Bucket::Key, Bucket::Lease, Bucket::Meta];
}

/// Key, in [`Bucket::Meta`], of the [`LogId`] of the last applied entry.
pub const CONSISTENT_INDEX: &[u8] = b"consistent_index";

/// A consistent, unchanging view of the engine.
pub trait ReadView: Send {
    fn get(&self, bucket: Bucket, key: &[u8]) -> Result<Option<Vec<u8>>>;
    /// Visits the rows of `bucket` with `from <= key` (and `key < to`, if there is one) in
    /// ascending key order until `visit` breaks.
    fn scan(
        &self,
        bucket: Bucket,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<()>;
}

/// SHA-256 over every row of `view` except the consistent index: engine-neutral, so two engines
/// with the same rows have the same hash. Per bucket, in ascending order of their bytes: `u8
/// bucket`, then for each row, ascending by key, `u32 key length, key, u32 value length, value`,
/// all big-endian. Unlike the state hash it sees rows that a compaction has yet to sweep.
pub fn hash(view: &dyn ReadView) -> Result<[u8; 32]> {
    let mut hasher = Sha256::new();
    for bucket in Bucket::ALL {
        hasher.update([bucket as u8]);
        view.scan(bucket, &[], None, &mut |key, value| {
            if (bucket, key) != (Bucket::Meta, CONSISTENT_INDEX) {
                for part in [key, value] {
                    // Rows are bounded by a request's size, far below 4 GiB.
                    hasher.update(u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
                    hasher.update(part);
                }
            }
            ControlFlow::Continue(())
        })?;
    }
    Ok(hasher.finalize().into())
}

/// The consistent index that `view` sees; `None`: nothing was ever applied.
pub fn consistent_index(view: &dyn ReadView) -> Result<Option<LogId>> {
    let Some(bytes) = view.get(Bucket::Meta, CONSISTENT_INDEX)? else { return Ok(None) };
    LogId::decode(&bytes).map(Some).ok_or_else(|| {
        let (expected, found) = (LogId::ENCODED_BYTES, bytes.len());
        BackendError::corrupt(format!(
            "consistent_index must have {expected} bytes, found {found}: this database is not ours"
        ))
    })
}

/// Bytes on disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    pub allocated: u64,
    /// The part of `allocated` that holds live data; a defragmentation brings the two together.
    pub in_use: u64,
}

/// A storage engine. All methods may be called from any thread; commits come one at a time.
pub trait Backend: Send + Sync {
    /// A view of everything committed so far. It holds no lock: writers go on, and it may outlive a
    /// commit.
    fn read(&self) -> Box<dyn ReadView + '_>;
    /// Makes `batch` and `at` visible in one step, `at` last; when that becomes *durable* is the
    /// engine's matter. `at` is the last entry that `batch` holds the changes of. Between that step
    /// and the moment from which on `at` counts as applied it calls `visible`, once, which must not
    /// come back to the engine.
    fn commit_then(&self, batch: Batch, at: LogId, visible: &mut dyn FnMut()) -> Result<()>;
    /// [`commit_then`](Self::commit_then) with nothing in between.
    fn commit(&self, batch: Batch, at: LogId) -> Result<()> {
        self.commit_then(batch, at, &mut || ())
    }
    /// True if the entries that are ready at once should share a commit, because each commit costs
    /// far more than what it writes.
    fn commits_are_costly(&self) -> bool {
        false
    }
    /// Removes rows that no entry's outcome depends on any more. It belongs to no entry, so it
    /// moves no index, and a kill may take it back. May be called beside a commit.
    fn sweep(&self, batch: Batch) -> Result<()>;
    /// Ends the group of an engine that makes commits durable in groups; blocking.
    fn settle(&self) -> Result<()>;
    /// Makes everything committed so far durable, and waits until it is.
    fn flush(&self) -> Result<()>;
    /// An image of everything committed so far, or a little later, as a stream. Blocking; commits
    /// go on meanwhile.
    fn snapshot(&self) -> std::result::Result<Snapshot, SnapshotError>;
    /// See [`hash`].
    fn hash(&self) -> Result<[u8; 32]> {
        hash(&*self.read())
    }
    fn size(&self) -> Result<Size>;
    /// True if an image, or a defragmented database, takes as much room on the disk as the state
    /// while it is made.
    fn images_are_copies(&self) -> bool {
        false
    }
    /// Gives unused space back to the filesystem. Readers go on, commits may wait.
    fn defrag(&self) -> Result<()>;
    /// Waits until nothing of this engine runs any more. What comes after fails.
    fn close(&self) -> Result<()>;
}

/// Size and digest of a snapshot's stream, as its carrier states them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Declared {
    /// Every byte of the stream.
    pub wire_size: u64,
    /// Of a stream that carries no digest of its own (the legacy form), and only of that.
    pub sha256: Option<[u8; 32]>,
}

/// An image of an engine, ready to be sent once.
pub struct Snapshot {
    /// M: the consistent index of the image itself.
    pub log_id: LogId,
    /// `wire_size` is exactly what `reader` yields.
    pub declared: Declared,
    /// Deletes the image when it is dropped.
    pub reader: Box<dyn Read + Send>,
}

/// Reason why a snapshot was not taken, or not taken in.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The stream, or what it holds, is not acceptable; this member's state is untouched.
    #[error("snapshot refused: {0}; this member's state is untouched, ask for the snapshot again")]
    Refused(String),
    /// Nothing is wrong; it is too early.
    #[error("snapshot: not yet: {0}; ask again")]
    NotYet(String),
    /// This member's disk failed.
    #[error("snapshot: {what}")]
    Io { what: String, source: io::Error },
    /// This member's engine failed.
    #[error("snapshot")]
    Engine(#[from] BackendError),
}

impl SnapshotError {
    pub fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

impl From<SnapshotError> for io::Error {
    fn from(error: SnapshotError) -> Self {
        let kind = match &error {
            SnapshotError::Refused(_) => io::ErrorKind::InvalidData,
            SnapshotError::NotYet(_) => io::ErrorKind::WouldBlock,
            SnapshotError::Io { source, .. } => source.kind(),
            SnapshotError::Engine(_) => io::ErrorKind::Other,
        };
        io::Error::new(kind, Chained(error))
    }
}

/// The changes of one raft entry, or of consecutive ones, with reads that see them.
#[derive(Debug, Default, Clone)]
pub struct Batch {
    changes: BTreeMap<(Bucket, Vec<u8>), Option<Vec<u8>>>,
    bytes: usize,
}

impl Batch {
    pub fn put(&mut self, bucket: Bucket, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.change(bucket, key.into(), Some(value.into()));
    }

    pub fn delete(&mut self, bucket: Bucket, key: impl Into<Vec<u8>>) {
        self.change(bucket, key.into(), None);
    }

    fn change(&mut self, bucket: Bucket, key: Vec<u8>, value: Option<Vec<u8>>) {
        self.bytes += key.len() + value.as_ref().map_or(0, Vec::len);
        self.changes.insert((bucket, key), value);
    }

    /// Bytes of all keys and values that were changed, those that were changed again included.
    pub fn bytes(&self) -> usize {
        self.bytes
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
