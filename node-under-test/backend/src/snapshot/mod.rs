//! Snapshots between members with an LSM engine: a checkpoint directory as one stream.
//!
//! | offset | bytes | field |
//! | --- | --- | --- |
//! | 0 | 16 | magic: `ETCDSNAP` and eight zero bytes; with the engine id, the routing header that chooses a reader |
//! | 16 | 1 | engine id: 0x01 |
//! | 17 | 4 | format version, big-endian: 0 |
//! | 21 | N | body: tar of the checkpoint's files, then exactly 491 zero bytes |
//! | 21+N | 32 | SHA-256 of all bytes before it |
//!
//! The tar holds regular files in one directory, in ascending order of name, each header byte for byte what
//! [`format::file_header`] makes, and ends with two zero blocks. So 21 + 512·k + 491 + 32 bytes go out: 32 modulo 512.
//!
//! [`write`] streams a checkpoint, [`read`] accepts exactly what [`write`] can produce, both in constant memory.
//! [`install`] exchanges directories. None of them knows the engine.
//!
//! # Install: what each step leaves behind
//! | killed | `db` | N | raft log | what the next start finds |
//! | --- | --- | --- | --- | --- |
//! | before the exchange | old | old | old | the old state; [`tidy`](install::tidy) removes the rest |
//! | exchanged, N not persisted | E = M | old N < M | old | E that the log does not know: the start persists N = E, then as below |
//! | N = M persisted, log not purged | E = M | M | ends anywhere | E = N: LogId(N) *is* the engine's; purge the log to ≤ M, then go on |
//! | later | E = M | M | ≤ M purged | the new state; `tidy` deletes the old database |
//!
//! In the second row the log may end before E, or hold, between N and E, entries of a lost leader that conflict with E's history.
//! The exchange was the point of no return: whatever the log says up to E is void, exactly as if the kill had
//! come a step later. Only committed entries are ever applied, so E's history is the cluster's.

pub mod format;
pub mod install;
pub mod read;
pub mod write;

pub use install::tidy;

use std::io;

/// Why a snapshot was not taken, or not taken in.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The stream, or what it holds, is not acceptable; this member's state is untouched.
    #[error("snapshot refused: {0}; this member's state is untouched, ask for the snapshot again")]
    Refused(String),
    /// Nothing is wrong; it is too early.
    #[error("snapshot: not yet: {0}; ask again")]
    NotYet(String),
    /// This member's disk failed.
    #[error("snapshot: {what}: {source}")]
    Io { what: String, source: io::Error },
    /// This member's engine failed.
    #[error("snapshot: {0}")]
    Engine(#[from] node_base::backend::BackendError),
}

impl SnapshotError {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
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
        io::Error::new(kind, error)
    }
}
