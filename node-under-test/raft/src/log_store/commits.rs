//! The number of the raft log's last commit, beside the log: the file `raft-log.commits`.
//!
//! redb keeps the last two commits of its file, and opens the one before the last where the last
//! does not verify. After a crash within a commit that is right, because nothing of it was
//! answered. Damage of a commit that was answered looks the same, and a log that opened the one
//! before would have forgotten what this member acknowledged.
//!
//! 1. *Each transaction of the log has a number*, one above that of the transaction before it, in
//!    the log's own table `meta`.
//! 2. *The number is written here once its commit is durable*, and before anything of it is
//!    answered. It has no sync of its own: a kill keeps it, and a power loss may take it back to an
//!    earlier one. A start syncs it with the log.
//! 3. *So it is a lower bound*: no crash leaves a log whose number is below it. A log with a lower
//!    number has lost what it had answered, and is refused.
//! 4. *A torn write leaves the number before it*: numbers are written in turn to two sectors, and
//!    the greater one that verifies counts. A file in which neither verifies is damaged, and is
//!    refused.
//! 5. *It is there before the first number is*: it is made, durably, before the first transaction
//!    that has one. A log with a number and without this file is refused.
//!
//! | offset | bytes | field |
//! | --- | --- | --- |
//! | 0 and 512 | 4 | `NLRC` |
//! | 4 and 516 | 8 | the number, big-endian |
//! | 12 and 524 | 4 | CRC-32 (IEEE) of the twelve bytes before it, big-endian |
//!
//! Damage that a power loss hides is left: the number may be an earlier one then, and of the
//! commits after it the last one could be lost unseen until the next start has synced it.

use super::LogError;
use node_base::durable;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const FILE_NAME: &str = "raft-log.commits";
const MAGIC: [u8; 4] = *b"NLRC";
const RECORD_BYTES: usize = 16;
/// A disk writes a sector whole, so that a torn write leaves the other record alone.
const SECTOR: usize = 512;
const FILE_BYTES: usize = 2 * SECTOR;

/// The open file, whose holder writes the log.
#[derive(Debug)]
pub(super) struct Commits {
    file: File,
}

impl Commits {
    /// Opens the file in `dir` beside a log that was [checked](check); makes it if the log has none
    /// yet.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn open(dir: &Path) -> Result<Self, LogError> {
        let path = dir.join(FILE_NAME);
        if !path.exists() {
            durable::replace_file(&path, &content(0), |_| {})?;
        }
        Ok(Self { file: File::options().write(true).open(&path)? })
    }

    /// Claim 2: the transaction `number` is durable.
    pub fn answered(&self, number: u64) -> io::Result<()> {
        self.file.write_all_at(&record(number), place(number) as u64)
    }

    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }
}

/// The number in `dir`; `None`: the file does not exist.
///
/// # Errors
/// Claim 4.
pub(super) fn answered(dir: &Path) -> Result<Option<u64>, LogError> {
    let path = dir.join(FILE_NAME);
    match std::fs::read(&path) {
        Ok(bytes) => decode(&bytes).map(Some).ok_or_else(|| {
            let expected = "expected 1024 bytes, with a number of commits and its checksum in one of two sectors";
            broken(path, format!("{expected}, found none"))
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(LogError::unreadable(&path, error)),
    }
}

/// Claims 3 to 5, of a log in `dir` whose last transaction has `number`. Changes nothing.
pub(super) fn check(dir: &Path, number: Option<u64>) -> Result<(), LogError> {
    let Some(answered) = answered(dir)? else {
        let missing = |number| format!("expected it beside a raft log with {number} commits, found none");
        return number.map_or(Ok(()), |number| Err(broken(dir.join(FILE_NAME), missing(number))));
    };
    let number = number.unwrap_or(0);
    if number < answered {
        let log = dir.join(super::disk::FILE_NAME);
        let detail = format!(
            "expected commit {answered}, which was answered, or a later one, found {number}: the end of the log is damaged, \
             and what this member acknowledged is gone from it"
        );
        return Err(broken(log, detail));
    }
    Ok(())
}

fn broken(path: PathBuf, detail: String) -> LogError {
    LogError::Unreadable { path, detail }
}

fn content(number: u64) -> [u8; FILE_BYTES] {
    let mut bytes = [0; FILE_BYTES];
    let at = place(number);
    bytes[at..at + RECORD_BYTES].copy_from_slice(&record(number));
    bytes
}

fn place(number: u64) -> usize {
    if number.is_multiple_of(2) { 0 } else { SECTOR }
}

fn record(number: u64) -> [u8; RECORD_BYTES] {
    let mut out = [0; RECORD_BYTES];
    out[..4].copy_from_slice(&MAGIC);
    out[4..12].copy_from_slice(&number.to_be_bytes());
    let crc = crc32fast::hash(&out[..12]);
    out[12..].copy_from_slice(&crc.to_be_bytes());
    out
}

/// The greater number that verifies; `None` as well if the file has another length, which no write
/// of this program changes.
fn decode(bytes: &[u8]) -> Option<u64> {
    if bytes.len() != FILE_BYTES {
        return None;
    }
    [0, SECTOR].into_iter().filter_map(|at| number_at(bytes, at)).max()
}

fn number_at(bytes: &[u8], at: usize) -> Option<u64> {
    let found = bytes.get(at..at + RECORD_BYTES)?;
    let number = u64::from_be_bytes(found[4..12].try_into().ok()?);
    (found == record(number) && place(number) == at).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    fn open(dir: &Path, number: Option<u64>) -> Result<Commits, LogError> {
        check(dir, number)?;
        Commits::open(dir)
    }

    fn refusal(dir: &Path, number: Option<u64>) -> String {
        open(dir, number).unwrap_err().to_string()
    }

    #[test]
    fn claim_3_a_lower_number_is_refused_and_a_higher_one_is_not() {
        let dir = dir();
        let commits = open(dir.path(), None).unwrap();
        (1..=7).for_each(|number| commits.answered(number).unwrap());
        for number in [Some(7), Some(8), Some(90)] {
            open(dir.path(), number).unwrap();
        }
        for number in [None, Some(0), Some(6)] {
            let why = refusal(dir.path(), number);
            assert!(why.contains("raft-log.redb") && why.contains("expected commit 7"), "{why}");
            assert!(why.contains("add it under a new id"), "{why}");
        }
    }

    #[test]
    fn claim_4_a_torn_write_leaves_the_number_before_it() {
        let dir = dir();
        let commits = open(dir.path(), None).unwrap();
        (1..=7).for_each(|number| commits.answered(number).unwrap());
        let path = dir.path().join(FILE_NAME);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[place(7) + 9] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        open(dir.path(), Some(6)).unwrap();
        assert!(refusal(dir.path(), Some(5)).contains("expected commit 6"));
        bytes[place(6)] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let why = refusal(dir.path(), Some(7));
        assert!(why.contains("raft-log.commits") && why.contains("one of two sectors"), "{why}");
        for length in [0, 5, SECTOR + 3] {
            std::fs::write(&path, &content(1)[..length]).unwrap();
            assert!(refusal(dir.path(), Some(1)).contains("raft-log.commits"), "{length}");
        }
    }

    #[test]
    fn claim_5_a_log_with_a_number_has_the_file() {
        let dir = dir();
        let why = refusal(dir.path(), Some(1));
        assert!(why.contains("raft-log.commits") && why.contains("found none"), "{why}");
        assert!(!dir.path().join(FILE_NAME).exists());
        open(dir.path(), None).unwrap();
        check(dir.path(), Some(0)).unwrap();
    }
}
