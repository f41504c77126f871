//! N on disk, with RocksDB: the file `last-flushed-index`.
//!
//! | offset | bytes | field |
//! | --- | --- | --- |
//! | 0 | 4 | `NLFI` |
//! | 4 | 8 | N, big-endian |
//! | 12 | 4 | CRC-32 (IEEE) of the twelve bytes before it, big-endian |
//!
//! An index, not a log position: its term is looked up in the raft log (or is that of the last
//! purged entry, or, right after an installed snapshot, of the engine's consistent index when E =
//! N). It is never stored in the engine, because it must prove something *about* the engine.

use node_base::backend::{BackendError, BackendErrorKind};
use node_base::durable::{self, Step};
use node_base::failpoint::{Window, pass};
use node_base::sabotage::{Bug, planted};
use std::io;
use std::path::{Path, PathBuf};

const MAGIC: [u8; 4] = *b"NLFI";
/// Length of the file.
pub const FILE_BYTES: usize = 16;

#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    #[error(
        "{path} is corrupt: expected {expected}, found {found}; it was never torn by a crash of this program, so do not \
         guess: restore the file from a backup of this member, or remove the member and add it again under a new id"
    )]
    Corrupt { path: String, expected: String, found: String },
    #[error("{path}")]
    Io { path: String, source: io::Error },
}

impl From<IndexError> for BackendError {
    fn from(error: IndexError) -> Self {
        let kind = match error {
            IndexError::Corrupt { .. } => BackendErrorKind::Corrupt,
            IndexError::Io { .. } => BackendErrorKind::Io,
        };
        BackendError::new(kind, "reading last-flushed-index").because(error)
    }
}

/// Reads N; `None` if there is no file, which is right only on a member whose log was never purged.
pub fn read(path: &Path) -> Result<Option<u64>, IndexError> {
    match std::fs::read(path) {
        Ok(bytes) => decode(&bytes).map(Some).map_err(|(expected, found)| IndexError::Corrupt {
            path: path.display().to_string(),
            expected,
            found,
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(IndexError::Io { path: path.display().to_string(), source }),
    }
}

/// The file's content for `n`.
pub fn encode(n: u64) -> [u8; FILE_BYTES] {
    let mut out = [0; FILE_BYTES];
    out[..4].copy_from_slice(&MAGIC);
    out[4..12].copy_from_slice(&n.to_be_bytes());
    let crc = crc32fast::hash(&out[..12]);
    out[12..].copy_from_slice(&crc.to_be_bytes());
    out
}

/// N, or (expected, found).
fn decode(bytes: &[u8]) -> Result<u64, (String, String)> {
    let Ok(file) = <&[u8; FILE_BYTES]>::try_from(bytes) else {
        return Err((format!("{FILE_BYTES} bytes"), format!("{} bytes", bytes.len())));
    };
    let mut n = [0; 8];
    n.copy_from_slice(&file[4..12]);
    let n = u64::from_be_bytes(n);
    let right = encode(n);
    if file[..4] != MAGIC {
        return Err((format!("the magic {MAGIC:?}"), format!("{:?}", &file[..4])));
    }
    if file[12..] != right[12..] {
        return Err((format!("checksum {:02x?}", &right[12..]), format!("{:02x?}", &file[12..])));
    }
    Ok(n)
}

/// The one writer of N. It is owned, never shared: only its holder can move N.
#[derive(Debug)]
pub struct IndexFile {
    path: PathBuf,
    value: Option<u64>,
}

impl IndexFile {
    /// Reads the file; its directory must exist before the first [`advance`](Self::advance).
    pub fn open(path: PathBuf) -> Result<Self, IndexError> {
        let value = read(&path)?;
        Ok(Self { path, value })
    }

    /// N as it is on disk, durably.
    pub fn value(&self) -> Option<u64> {
        self.value
    }

    /// Makes N at least `n`, durably; N only grows, so a lower `n` changes nothing.
    ///
    /// # Errors
    /// Any failed step. Not to be retried: the process must end.
    pub fn advance(&mut self, n: u64) -> io::Result<()> {
        if self.value >= Some(n) {
            return Ok(());
        }
        let after = |step| {
            pass(match step {
                Step::TmpWritten => Window::IndexTmpWritten,
                Step::TmpSynced => Window::IndexTmpSynced,
                Step::Renamed => Window::IndexRenamed,
                Step::DirectorySynced => Window::IndexPersisted,
            });
        };
        if planted(Bug::TornIndexFile) {
            overwrite(&self.path, &encode(n), after)?;
        } else if planted(Bug::IndexNoFsync) || planted(Bug::IndexNoDirFsync) {
            replace_without_a_sync(&self.path, &encode(n), after)?;
        } else {
            durable::replace_file(&self.path, &encode(n), after)?;
        }
        self.value = Some(n);
        Ok(())
    }
}

/// Planted bug `torn-index-file`: the steps of [`durable::replace_file`] on the file itself. A kill
/// after either of the first two leaves a part of it.
fn overwrite(path: &Path, bytes: &[u8], mut after: impl FnMut(Step)) -> io::Result<()> {
    use std::io::Write;
    let (head, rest) = bytes.split_at(bytes.len() / 2);
    let mut file = std::fs::File::create(path)?;
    after(Step::TmpWritten);
    file.write_all(head)?;
    after(Step::TmpSynced);
    file.write_all(rest)?;
    file.sync_all()?;
    after(Step::Renamed);
    after(Step::DirectorySynced);
    Ok(())
}

/// Planted bugs `index-no-fsync` and `index-no-dir-fsync`: the steps of [`durable::replace_file`]
/// without one of the two syncs. Kills keep the page cache, so only a power loss shows them.
fn replace_without_a_sync(path: &Path, bytes: &[u8], mut after: impl FnMut(Step)) -> io::Result<()> {
    let tmp = path.with_extension("tmp");
    std::fs::write(&tmp, bytes)?;
    after(Step::TmpWritten);
    if !planted(Bug::IndexNoFsync) {
        std::fs::File::open(&tmp)?.sync_all()?;
    }
    after(Step::TmpSynced);
    std::fs::rename(&tmp, path)?;
    after(Step::Renamed);
    if !planted(Bug::IndexNoDirFsync) {
        durable::sync_dir(path.parent().unwrap_or(Path::new(".")))?;
    }
    after(Step::DirectorySynced);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_format_is_frozen() {
        assert_eq!(encode(0x0102), *b"NLFI\0\0\0\0\0\0\x01\x02\x68\x55\xbb\x7f");
    }

    #[test]
    fn n_only_grows_and_survives_reopening() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("last-flushed-index");
        let mut file = IndexFile::open(path.clone()).unwrap();
        assert_eq!(file.value(), None);
        file.advance(0).unwrap();
        assert_eq!(read(&path).unwrap(), Some(0), "index 0 is an index, not an absence");
        file.advance(9).unwrap();
        file.advance(4).unwrap();
        assert_eq!(IndexFile::open(path).unwrap().value(), Some(9));
    }

    #[test]
    fn an_empty_file_is_corrupt_not_missing() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("last-flushed-index");
        std::fs::write(&path, b"").unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("expected 16 bytes, found 0 bytes") && error.contains("restore"), "{error}");
    }

    proptest! {
        #[test]
        fn every_index_round_trips(n: u64) {
            prop_assert_eq!(decode(&encode(n)).unwrap(), n);
        }

        #[test]
        fn any_single_flipped_bit_is_noticed(n: u64, bit in 0..FILE_BYTES * 8) {
            let mut bytes = encode(n);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(decode(&bytes).is_err());
        }

        #[test]
        fn any_truncation_is_noticed(n: u64, len in 0..FILE_BYTES) {
            prop_assert!(decode(&encode(n)[..len]).is_err());
        }
    }
}
