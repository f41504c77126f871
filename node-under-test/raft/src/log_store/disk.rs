//! The log's file, `raft-log.redb`, and its format.
//!
//! Table `log`: entry index (redb `u64` key) → postcard bytes of the library's entry: term and
//! index as varints, then the payload's tag (0 blank, 1 command, 2 membership) and the payload.
//! Table `meta`, by name:
//!
//! | key | value |
//! | --- | --- |
//! | `format` | one byte, 1 |
//! | `vote` | postcard bytes of (term, member voted for, committed) as the library encodes its vote |
//! | `committed` | LogId, 16 bytes: term, index, big-endian. May lag; never beyond the log |
//! | `purged` | LogId of the last purged entry |
//! | `incarnation` | the life of this log: u64, big-endian, random, never 0 |
//! | `cluster` | the id of the cluster that this member belongs to: u64, big-endian, not 0; absent while it has not joined one |
//! | `met:ID` | the first incarnation that this member met of member ID (decimal): u64, big-endian |
//! | `commits` | the number of the last transaction: u64, big-endian; see `commits.rs` |
//!
//! The incarnation is written with the log itself. A log that was made before there were
//! incarnations gets one when it is opened, which is sound: no member can have met another
//! incarnation of it.
//!
//! Each transaction commits with one fsync (`Durability::Immediate`, one phase, no quick-repair).
//! Whenever the file is opened, redb verifies every checksum in it, and repairs it after a kill; a
//! new file is made under a temporary name, so that a kill in between leaves no half-made log
//! behind.

use super::LogError;
use super::commits::{self, Commits};
use super::disk_without_sync::{self, WithoutSync};
use crate::types::{RawEntry, RawVote, decode, encode, entry_log_id};
use node_base::LogId;
use node_base::caught::caught;
use node_base::durable::{create_dir_durably, sync_dir};
use node_base::sabotage::{Bug, planted};
use redb::{
    Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, Table, TableDefinition, WriteTransaction,
};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, RwLock};

const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const FORMAT: &str = "format";
const VOTE: &str = "vote";
const COMMITTED: &str = "committed";
const PURGED: &str = "purged";
const INCARNATION: &str = "incarnation";
const CLUSTER: &str = "cluster";
const MET: &str = "met:";
const COMMITS: &str = "commits";
const FORMAT_VERSION: &[u8] = &[1];
pub(super) const FILE_NAME: &str = "raft-log.redb";

/// The tail of the log is served from memory, so redb's own cache only has to hold the tree's
/// spine.
const CACHE_BYTES: usize = 32 << 20;

/// Bytes of entries that a check of all of them holds at a time.
const READ_BYTES: usize = 1 << 20;

/// Contents of the file when it is opened.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub first: Option<u64>,
    pub last: Option<LogId>,
    pub purged: Option<LogId>,
    pub committed: Option<LogId>,
    pub vote: Option<RawVote>,
    /// `None`: a log from before there were incarnations.
    pub incarnation: Option<u64>,
    /// `None`: a member that has not joined a cluster yet, or a log from before this was written
    /// down.
    pub cluster: Option<u64>,
    /// By member, the first incarnation that was met of it.
    pub met: BTreeMap<u64, u64>,
    /// `None`: a log without a transaction since there are numbers.
    pub commits: Option<u64>,
}

/// The result of `read`, which opens the log in `dir`. redb panics on some damaged files: when it
/// opens them, and once more when it closes them. Where it closes one while the first panic is
/// under way, the process ends all the same.
pub(super) fn caught_in<T>(dir: &Path, read: impl FnOnce() -> Result<T, LogError>) -> Result<T, LogError> {
    caught(read).unwrap_or_else(|panic| Err(LogError::unreadable(&dir.join(FILE_NAME), panic)))
}

pub(super) struct Disk {
    dir: PathBuf,
    db: RwLock<Option<Database>>,
    /// The number of the last transaction, and where it is written; `None`: nothing is written.
    commits: Mutex<Option<(u64, Commits)>>,
}

impl Disk {
    /// Opens the log in `dir`, making it durably, as the life `create`, if there is none.
    pub fn open(dir: &Path, create: Option<u64>) -> Result<Self, LogError> {
        let path = dir.join(FILE_NAME);
        if !path.exists() {
            let Some(incarnation) = create else { return Err(LogError::Missing(path)) };
            create_file(dir, &path, incarnation, None).map_err(|error| LogError::unreadable(&path, error))?;
        }
        Self::open_file(dir, path)
    }

    /// Makes a log in `dir`, durably, as the life `incarnation`, that holds nothing and was purged
    /// through `purged`.
    pub fn create_purged(dir: &Path, incarnation: u64, purged: LogId) -> Result<(), LogError> {
        let path = dir.join(FILE_NAME);
        if path.exists() {
            return Err(LogError::Exists(path));
        }
        create_file(dir, &path, incarnation, Some(purged)).map_err(|error| LogError::unreadable(&path, error))
    }

    /// redb verifies by itself after a kill alone, and never again while it reads: what a disk has
    /// changed at rest is found here, or nowhere.
    fn open_file(dir: &Path, path: PathBuf) -> Result<Self, LogError> {
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
        let opened = if disk_without_sync::is_planted() {
            let file = WithoutSync::open(&path).map_err(|error| LogError::unreadable(&path, error))?;
            builder.create_with_backend(file)
        } else {
            builder.open(&path)
        };
        let db = match opened {
            Ok(db) => db,
            Err(DatabaseError::DatabaseAlreadyOpen) => return Err(LogError::InUse(path)),
            Err(error) => return Err(LogError::unreadable(&path, error)),
        };
        Ok(Self { dir: dir.to_owned(), db: RwLock::new(Some(db)), commits: Mutex::default() })
    }

    /// Checks that the log holds what it had answered.
    ///
    /// # Errors
    /// [`LogError::Unreadable`]: the last commit is not there any more.
    pub fn check_commits(&self, found: &Found) -> Result<(), LogError> {
        if planted(Bug::LogBitflipTruncates) {
            return Ok(());
        }
        commits::check(&self.dir, found.commits)
    }

    /// Whether the last transaction in the log had been answered. A log without numbers does not
    /// say.
    ///
    /// # Errors
    /// The number of those that were cannot be read.
    pub fn last_is_answered(&self, found: &Found) -> Result<bool, LogError> {
        let answered = commits::answered(&self.dir)?;
        Ok(found.commits.is_some_and(|last| answered >= Some(last)))
    }

    /// The same as [`Disk::check_commits`], and numbers the transactions from now on.
    pub fn number_commits(&self, found: &Found) -> Result<(), LogError> {
        self.check_commits(found)?;
        let commits = Commits::open(&self.dir)?;
        *self.commits.lock().unwrap_or_else(PoisonError::into_inner) = Some((found.commits.unwrap_or(0), commits));
        Ok(())
    }

    /// Reads every entry between `found`'s ends.
    pub fn check_entries(&self, found: &Found) -> Result<(), LogError> {
        let (Some(first), Some(last)) = (found.first, found.last) else { return Ok(()) };
        let broken = |detail: String| LogError::unreadable(&self.dir.join(FILE_NAME), detail);
        if found.purged.is_some_and(|purged| purged.index + 1 != first) {
            return Err(broken(format!(
                "expected the first entry after the last purged {:?}, found {first}",
                found.purged
            )));
        }
        let mut next = first;
        while next <= last.index {
            let entries = self.read(next, last.index + 1, READ_BYTES).map_err(|error| broken(error.to_string()))?;
            if entries.is_empty() {
                return Err(broken(format!("expected an entry at index {next}, found none up to {last}")));
            }
            for entry in entries {
                let id = entry_log_id(&entry);
                if id.index != next {
                    return Err(broken(format!("expected an entry at index {next}, found {id}")));
                }
                next += 1;
            }
        }
        Ok(())
    }

    /// Closes the file and gives up its lock. Whatever comes after fails.
    pub fn close(&self) {
        self.db.write().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn with<T>(&self, work: impl FnOnce(&Database) -> io::Result<T>) -> io::Result<T> {
        let db = self.db.read().unwrap_or_else(PoisonError::into_inner);
        work(db.as_ref().ok_or_else(|| io::Error::other("the raft log is closed"))?)
    }

    /// Fsyncs the file and its name. redb's locks belong to its own open file, so opening it again
    /// is harmless.
    pub fn sync(&self) -> io::Result<()> {
        File::open(self.dir.join(FILE_NAME))?.sync_all()?;
        if let Some((_, commits)) = &*self.commits.lock().unwrap_or_else(PoisonError::into_inner) {
            commits.sync()?;
        }
        sync_dir(&self.dir)
    }

    pub fn found(&self) -> Result<Found, LogError> {
        // Caught before the file is closed: redb would panic again while the first panic is under
        // way.
        caught_in(&self.dir, || {
            self.read_found().map_err(|error| LogError::unreadable(&self.dir.join(FILE_NAME), error))
        })
    }

    fn read_found(&self) -> io::Result<Found> {
        self.with(|db| {
            let txn = db.begin_read().map_err(io::Error::other)?;
            let log = txn.open_table(LOG).map_err(io::Error::other)?;
            let meta = txn.open_table(META).map_err(io::Error::other)?;
            check_format(&meta)?;
            let purged = read_log_id(&meta, PURGED)?;
            let first = log.first().map_err(io::Error::other)?.map(|(index, _)| index.value());
            let last = match log.last().map_err(io::Error::other)? {
                Some((_, bytes)) => Some(entry_log_id(&decode::<RawEntry>("log entry", bytes.value())?)),
                None => purged,
            };
            let vote = match meta.get(VOTE).map_err(io::Error::other)? {
                Some(bytes) => Some(decode("vote", bytes.value())?),
                None => None,
            };
            Ok(Found {
                first,
                last,
                purged,
                committed: read_log_id(&meta, COMMITTED)?,
                vote,
                incarnation: read_u64(&meta, INCARNATION)?,
                cluster: read_u64(&meta, CLUSTER)?,
                met: read_met(&meta)?,
                commits: read_u64(&meta, COMMITS)?,
            })
        })
    }

    /// The entries of `first..end` in ascending order, until together they exceed `bytes_max`.
    pub fn read(&self, first: u64, end: u64, bytes_max: usize) -> io::Result<Vec<RawEntry>> {
        self.with(|db| {
            let txn = db.begin_read().map_err(io::Error::other)?;
            let log = txn.open_table(LOG).map_err(io::Error::other)?;
            let mut entries = Vec::new();
            let mut bytes_read = 0;
            for row in log.range(first..end).map_err(io::Error::other)? {
                let (_, bytes) = row.map_err(io::Error::other)?;
                entries.push(decode("log entry", bytes.value())?);
                bytes_read += bytes.value().len();
                if bytes_read > bytes_max {
                    break;
                }
            }
            Ok(entries)
        })
    }

    #[cfg(test)]
    pub fn hold_commits(&self) -> impl Sized + '_ {
        self.commits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `work` in a transaction; `before_commit` runs when everything is written and nothing is
    /// synced. Returns once the commit is durable, and its number written.
    pub fn transact(
        &self,
        work: impl FnOnce(&mut Changes<'_>) -> io::Result<()>,
        before_commit: impl FnOnce(),
    ) -> io::Result<()> {
        self.with(|db| {
            let mut txn = db.begin_write().map_err(io::Error::other)?;
            txn.set_durability(Durability::Immediate).map_err(io::Error::other)?;
            let mut numbered = self.commits.lock().unwrap_or_else(PoisonError::into_inner);
            let mut changes = Changes::new(&txn)?;
            work(&mut changes)?;
            if let Some((number, _)) = &*numbered {
                changes.put(COMMITS, &(number + 1).to_be_bytes())?;
            }
            drop(changes);
            before_commit();
            txn.commit().map_err(io::Error::other)?;
            if let Some((number, commits)) = &mut *numbered {
                *number += 1;
                commits.answered(*number)?;
            }
            Ok(())
        })
    }
}

/// The writes of one transaction.
pub(super) struct Changes<'txn> {
    log: Table<'txn, u64, &'static [u8]>,
    meta: Table<'txn, &'static str, &'static [u8]>,
}

impl<'txn> Changes<'txn> {
    fn new(txn: &'txn WriteTransaction) -> io::Result<Self> {
        let log = txn.open_table(LOG).map_err(io::Error::other)?;
        let meta = txn.open_table(META).map_err(io::Error::other)?;
        Ok(Self { log, meta })
    }

    pub fn append(&mut self, entry: &RawEntry) -> io::Result<()> {
        if planted(Bug::LogHole) && entry.log_id.index % 53 == 7 {
            return Ok(());
        }
        self.log.insert(entry.log_id.index, encode(entry)?.as_ref()).map_err(io::Error::other)?;
        Ok(())
    }

    pub fn save_vote(&mut self, vote: &RawVote) -> io::Result<()> {
        self.put(VOTE, &encode(vote)?)
    }

    pub fn save_committed(&mut self, committed: LogId) -> io::Result<()> {
        self.put(COMMITTED, &committed.encode())
    }

    /// Removes every entry from `first` on.
    pub fn truncate(&mut self, first: u64) -> io::Result<()> {
        self.log.retain_in(first.., |_, _| false).map_err(io::Error::other)
    }

    /// Removes every entry up to `upto.index`, and says so.
    pub fn purge(&mut self, upto: LogId) -> io::Result<()> {
        self.log.retain_in(..=upto.index, |_, _| false).map_err(io::Error::other)?;
        self.put(PURGED, &upto.encode())
    }

    pub fn save_incarnation(&mut self, incarnation: u64) -> io::Result<()> {
        self.put(INCARNATION, &incarnation.to_be_bytes())
    }

    #[cfg(test)]
    pub fn forget_incarnation(&mut self) -> io::Result<()> {
        self.meta.remove(INCARNATION).map_err(io::Error::other)?;
        Ok(())
    }

    pub fn save_cluster(&mut self, cluster: u64) -> io::Result<()> {
        self.put(CLUSTER, &cluster.to_be_bytes())
    }

    pub fn save_met(&mut self, member: u64, incarnation: u64) -> io::Result<()> {
        self.put(&format!("{MET}{member}"), &incarnation.to_be_bytes())
    }

    fn put(&mut self, key: &str, value: &[u8]) -> io::Result<()> {
        self.meta.insert(key, value).map_err(io::Error::other)?;
        Ok(())
    }
}

fn create_file(dir: &Path, path: &Path, incarnation: u64, purged: Option<LogId>) -> io::Result<()> {
    create_dir_durably(dir)?;
    let tmp = dir.join(format!("{FILE_NAME}.tmp"));
    match fs::remove_file(&tmp) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let db = Database::builder().create(&tmp).map_err(io::Error::other)?;
    let txn = db.begin_write().map_err(io::Error::other)?;
    let mut changes = Changes::new(&txn)?;
    changes.put(FORMAT, FORMAT_VERSION)?;
    changes.save_incarnation(incarnation)?;
    if let Some(purged) = purged {
        changes.purge(purged)?;
    }
    drop(changes);
    txn.commit().map_err(io::Error::other)?;
    db.close().map_err(io::Error::other)?;
    File::open(&tmp)?.sync_all()?;
    fs::rename(&tmp, path)?;
    sync_dir(dir)
}

fn check_format(meta: &impl ReadableTable<&'static str, &'static [u8]>) -> io::Result<()> {
    let found = meta.get(FORMAT).map_err(io::Error::other)?;
    match found.as_ref().map(|bytes| bytes.value()) {
        Some(FORMAT_VERSION) => Ok(()),
        found => Err(io::Error::other(format!(
            "expected format {FORMAT_VERSION:?}, found {found:?}; use the version that wrote it"
        ))),
    }
}

fn read_log_id(meta: &impl ReadableTable<&'static str, &'static [u8]>, key: &str) -> io::Result<Option<LogId>> {
    let Some(bytes) = meta.get(key).map_err(io::Error::other)? else { return Ok(None) };
    let id = LogId::decode(bytes.value());
    let found = bytes.value().len();
    id.map(Some)
        .ok_or_else(|| io::Error::other(format!("`{key}`: expected {} bytes, found {found}", LogId::ENCODED_BYTES)))
}

fn read_u64(meta: &impl ReadableTable<&'static str, &'static [u8]>, key: &str) -> io::Result<Option<u64>> {
    let Some(bytes) = meta.get(key).map_err(io::Error::other)? else { return Ok(None) };
    decode_u64(key, bytes.value()).map(Some)
}

fn decode_u64(key: &str, bytes: &[u8]) -> io::Result<u64> {
    let found = bytes.len();
    let fixed = bytes.try_into().map_err(|_| io::Error::other(format!("`{key}`: expected 8 bytes, found {found}")))?;
    Ok(u64::from_be_bytes(fixed))
}

fn read_met(meta: &impl ReadableTable<&'static str, &'static [u8]>) -> io::Result<BTreeMap<u64, u64>> {
    let mut met = BTreeMap::new();
    for row in meta.range(MET..).map_err(io::Error::other)? {
        let (key, value) = row.map_err(io::Error::other)?;
        let Some(member) = key.value().strip_prefix(MET) else { break };
        let member = member
            .parse()
            .map_err(|_| io::Error::other(format!("`{}`: expected a member id after `{MET}`", key.value())))?;
        met.insert(member, decode_u64(key.value(), value.value())?);
    }
    Ok(met)
}
