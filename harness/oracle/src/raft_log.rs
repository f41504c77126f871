//! The second decoder of a member's raft log: what the log of a stopped member says, read without a
//! line of the node's code.
//!
//! It reads a *copy* of the member's directory (the inspector's) into memory, because redb writes
//! to every file that it opens, and repairs one that a kill left half-written. So neither the
//! original changes, where the next life must find what the kill left, nor the copy, which the
//! inspector reads. It costs no sync either.
//!
//! # Format
//! `<data-dir>/member/raft/raft-log.redb` is a redb file with two tables. `meta`, by name: `format`
//! (one byte, 1), `vote`, `committed` and `purged` (LogIds of 16 bytes: term, index, big-endian),
//! and more that no judge needs. `log`: entry index (`u64`) → the entry. An entry and the vote are
//! postcard bytes, without names, lengths or padding between their fields:
//!
//! | what | bytes |
//! | --- | --- |
//! | integer | LEB128: seven bits a byte, the least significant first, the top bit set on all but the last; ten bytes at most |
//! | text, blob | its length, an integer; then the bytes |
//! | list, map | its length, an integer; then the elements, or key and value in turn |
//! | entry | term, index, tag; then nothing (tag 0, blank), the command as a blob (1), or a membership (2) |
//! | command | prost bytes of `ninelives.command.v1.Command`; bytes that are none are a command that changes nothing |
//! | membership | a list of configurations, each a list of voters' ids, ascending; then a map from id to (name, peer address, client address), three texts |
//! | vote | term, the byte 1, the id of the member voted for, one byte: 1 if a quorum granted it |
//!
//! An entry's own index must be its key, the indexes follow each other, the first one follows the
//! last purged, and terms never fall. Whatever differs from this is an [`Error`] that names the
//! file, the index, what was expected and what was found. Bytes that do not decode may be a newer
//! format than this decoder knows; an order that is broken ([`Error::Order`]) is the member's own
//! doing, and a violation.

mod bytes;
mod entry;
mod words;

pub use entry::{Enrolled, Entry, LogId, Membership, Payload};
pub use words::{describe, operation, shown_value};

use bytes::Reader;
use redb::backends::InMemoryBackend;
use redb::{Database, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition};
use std::path::{Path, PathBuf};

const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const FORMAT_VERSION: &[u8] = &[1];

/// The log of a killed member is a few hundred entries; redb's own default cache would be a
/// gigabyte.
const CACHE_BYTES: usize = 4 << 20;

/// A stopped member's raft log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RaftLog {
    /// Ascending and contiguous; the first one follows `purged`.
    pub entries: Vec<Entry>,
    pub vote: Option<Vote>,
    /// The entry that the log had saved as committed; it may lag, and may be above the last entry
    /// only if the log lies.
    pub committed: Option<LogId>,
    /// The last purged entry.
    pub purged: Option<LogId>,
}

/// The vote of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vote {
    pub term: u64,
    pub node: u64,
    /// A quorum granted it.
    pub committed: bool,
}

impl RaftLog {
    /// The entry at `index`, if it is there.
    pub fn at(&self, index: u64) -> Option<&Entry> {
        let first = self.entries.first()?.id.index;
        self.entries.get(usize::try_from(index.checked_sub(first)?).ok()?)
    }

    pub fn last(&self) -> Option<LogId> {
        self.entries.last().map(|entry| entry.id).or(self.purged)
    }
}

/// The log cannot be read as what a member writes.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{}: cannot read it: {source}", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{}: cannot read it as a redb file: {source}", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: redb::Error,
    },
    #[error("{}: cannot read it as a redb file: redb panicked on it: {why}", path.display())]
    Panicked { path: PathBuf, why: String },
    #[error("{}: `{what}`: {why}", path.display())]
    Meta { path: PathBuf, what: &'static str, why: String },
    #[error("{}: entry at raft index {index}: {why}", path.display())]
    Entry { path: PathBuf, index: u64, why: String },
    /// Each entry reads well, and they do not stand in the order of a log.
    #[error("{}: entry at raft index {index}: {why}", path.display())]
    Order { path: PathBuf, index: u64, why: String },
}

/// The path of the log in a member's data directory.
pub fn path_in(data_dir: &Path) -> PathBuf {
    data_dir.join("member/raft/raft-log.redb")
}

/// Reads the whole log in `data_dir`, a copy of a stopped member's data directory.
///
/// # Errors
/// The file is not a redb file, or holds what no member can have written.
pub fn read(data_dir: &Path) -> Result<RaftLog, Error> {
    read_file(&path_in(data_dir))
}

/// Reads the raft log at `path`. redb panics on some damaged files; the panic becomes an error
/// here.
fn read_file(path: &Path) -> Result<RaftLog, Error> {
    std::panic::catch_unwind(|| read_tables(path)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let why = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(Error::Panicked { path: path.to_owned(), why: why.unwrap_or_else(|| "without a word".to_owned()) })
    })
}

fn read_tables(path: &Path) -> Result<RaftLog, Error> {
    let broken = |source: redb::Error| Error::File { path: path.to_owned(), source };
    let wrong = |what: &'static str, why: String| Error::Meta { path: path.to_owned(), what, why };
    let bytes = std::fs::read(path).map_err(|source| Error::Io { path: path.to_owned(), source })?;
    let image = InMemoryBackend::new();
    let filled = image.set_len(bytes.len() as u64).and_then(|()| image.write(0, &bytes));
    filled.map_err(|error| wrong("the file", error.to_string()))?;
    let mut builder = Database::builder();
    let db = builder.set_cache_size(CACHE_BYTES).create_with_backend(image).map_err(|error| broken(error.into()))?;
    let txn = db.begin_read().map_err(|error| broken(error.into()))?;
    let meta = txn.open_table(META).map_err(|error| broken(error.into()))?;
    let value = |name: &'static str| -> Result<Option<Vec<u8>>, Error> {
        Ok(meta.get(name).map_err(|error| broken(error.into()))?.map(|bytes| bytes.value().to_vec()))
    };
    let format = value("format")?;
    if format.as_deref() != Some(FORMAT_VERSION) {
        return Err(wrong("format", format!("expected {FORMAT_VERSION:?}, found {format:?}")));
    }
    let log_id = |what: &'static str| -> Result<Option<LogId>, Error> {
        value(what)?.map(|bytes| fixed_log_id(&bytes).map_err(|why| wrong(what, why))).transpose()
    };
    let mut log = RaftLog {
        entries: Vec::new(),
        vote: value("vote")?.map(|bytes| decode_vote(&bytes).map_err(|why| wrong("vote", why))).transpose()?,
        committed: log_id("committed")?,
        purged: log_id("purged")?,
    };
    let table = txn.open_table(LOG).map_err(|error| broken(error.into()))?;
    let mut before = log.purged;
    for row in table.iter().map_err(|error| broken(error.into()))? {
        let (index, bytes) = row.map_err(|error| broken(error.into()))?;
        let index = index.value();
        let path = || path.to_owned();
        let entry = Entry::decode(bytes.value()).map_err(|why| Error::Entry { path: path(), index, why })?;
        follows(index, &entry, before).map_err(|why| Error::Order { path: path(), index, why })?;
        before = Some(entry.id);
        log.entries.push(entry);
    }
    Ok(log)
}

/// Checks that `entry`, which lies under `index`, is the one that follows `before`.
fn follows(index: u64, entry: &Entry, before: Option<LogId>) -> Result<(), String> {
    if entry.id.index != index {
        return Err(format!("expected an entry that says this index, found one that says {}", entry.id.index));
    }
    match before {
        Some(before) if before.index.checked_add(1) != Some(index) => {
            Err(format!("expected entry {} after {before}, found {}", before.index.saturating_add(1), entry.id))
        }
        Some(before) if before.term > entry.id.term => {
            Err(format!("expected a term of {} or more after {before}, found {}", before.term, entry.id.term))
        }
        // A log that was never purged begins with the founding membership, at 0.
        None if index != 0 => Err(format!("expected entry 0 of a log that was never purged, found {}", entry.id)),
        _ => Ok(()),
    }
}

fn fixed_log_id(bytes: &[u8]) -> Result<LogId, String> {
    let word = |at: usize| bytes.get(at..at + 8).and_then(|word| word.try_into().ok()).map(u64::from_be_bytes);
    match (word(0), word(8), bytes.len()) {
        (Some(term), Some(index), 16) => Ok(LogId { term, index }),
        _ => Err(format!("expected 16 bytes (term, index), found {}", bytes.len())),
    }
}

fn decode_vote(bytes: &[u8]) -> Result<Vote, String> {
    let mut reader = Reader::new(bytes);
    let term = reader.integer("the vote's term")?;
    match reader.byte("the tag of a member voted for")? {
        1 => {}
        found => return Err(format!("expected 1, the tag of a member voted for, found {found}")),
    }
    let node = reader.integer("the member voted for")?;
    let committed = match reader.byte("whether the vote is committed")? {
        0 => false,
        1 => true,
        found => return Err(format!("expected 0 or 1, whether the vote is committed, found {found}")),
    };
    reader.end("the vote")?;
    Ok(Vote { term, node, committed })
}

#[cfg(test)]
mod tests;
