//! Taking in a snapshot: strict, streaming, and into a directory that nobody opens until all of it was proven.

use super::SnapshotError;
use super::format::{
    self, BLOCK_BYTES, ENGINE_ID, FILES_MAX, HEADER_BYTES, MAGIC, PADDING_BYTES, TAR_END_BYTES, TRAILER_BYTES, VERSION,
};
use node_base::failpoint::{Window, pass};
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

const CHUNK_BYTES: usize = 64 << 10;
const WIRE_SIZE_MIN: u64 = HEADER_BYTES + TAR_END_BYTES + PADDING_BYTES + TRAILER_BYTES;

/// Bytes that claim to be a snapshot. The only way on is [`unpack`](Self::unpack), which proves length, form
/// and digest.
pub struct RawSnapshot<'a> {
    source: &'a mut dyn Read,
    /// Bytes up to the trailer that may still come, by the declared length.
    left: u64,
    hash: Sha256,
}

/// A directory that holds exactly a proven snapshot's files; not synced yet. Dropped without
/// [`keep`](Self::keep), it removes them.
#[derive(Debug)]
pub struct Unpacked {
    dir: Option<PathBuf>,
}

impl Unpacked {
    pub fn keep(mut self) -> PathBuf {
        self.dir.take().unwrap_or_default()
    }
}

impl Drop for Unpacked {
    fn drop(&mut self) {
        if let Some(dir) = &self.dir
            && let Err(error) = std::fs::remove_dir_all(dir)
        {
            tracing::warn!("removing staging area {}: {error}", dir.display());
        }
    }
}

fn refused<T>(why: impl Into<String>) -> Result<T, SnapshotError> {
    Err(SnapshotError::Refused(why.into()))
}

impl<'a> RawSnapshot<'a> {
    /// `wire_size`: what the carrier declared.
    pub fn new(source: &'a mut dyn Read, wire_size: u64) -> Result<Self, SnapshotError> {
        if wire_size < WIRE_SIZE_MIN || wire_size % BLOCK_BYTES != TRAILER_BYTES {
            return refused(format!(
                "the declared length must be at least {WIRE_SIZE_MIN} and {TRAILER_BYTES} modulo {BLOCK_BYTES}, found {wire_size}"
            ));
        }
        Ok(Self { source, left: wire_size - TRAILER_BYTES, hash: Sha256::new() })
    }

    /// Unpacks into the new directory `dir`, and checks everything there is to check.
    pub fn unpack(mut self, dir: &Path) -> Result<Unpacked, SnapshotError> {
        self.header()?;
        std::fs::create_dir(dir).map_err(SnapshotError::io(format!("creating {}", dir.display())))?;
        let unpacked = Unpacked { dir: Some(dir.to_owned()) };
        let mut names = HashSet::new();
        while let Some((name, len)) = self.entry(&mut names)? {
            self.file(&dir.join(name), len)?;
            pass(Window::SnapshotUnpack);
        }
        self.zeros(PADDING_BYTES, "the padding after the tar")?;
        self.trailer()?;
        Ok(unpacked)
    }

    fn header(&mut self) -> Result<(), SnapshotError> {
        let mut header = [0; HEADER_BYTES as usize];
        self.take(&mut header)?;
        let (magic, rest) = header.split_at(16);
        if magic != MAGIC {
            return refused(format!(
                "expected the magic ETCDSNAP, found {magic:02x?}: a legacy stream or none of ours"
            ));
        }
        if rest[0] != ENGINE_ID {
            return refused(format!("expected engine id {ENGINE_ID:#04x}, found {:#04x}", rest[0]));
        }
        let version = u32::from_be_bytes([rest[1], rest[2], rest[3], rest[4]]);
        if version != VERSION {
            return refused(format!("expected format version {VERSION}, found {version}"));
        }
        Ok(())
    }

    /// The next file's name and length; `None` at the tar's end.
    fn entry(&mut self, names: &mut HashSet<String>) -> Result<Option<(String, u64)>, SnapshotError> {
        let mut block = [0; BLOCK_BYTES as usize];
        self.take(&mut block)?;
        if block == [0; BLOCK_BYTES as usize] {
            self.zeros(BLOCK_BYTES, "the tar's second end block")?;
            return if self.left == PADDING_BYTES {
                Ok(None)
            } else {
                refused(format!("the tar must end {PADDING_BYTES} bytes before the trailer, found {} bytes", self.left))
            };
        }
        let (name, len) = parse_entry(&block)?;
        if !names.insert(name.clone()) {
            return refused(format!("each file must come once, found {name:?} twice"));
        }
        if names.len() > FILES_MAX {
            return refused(format!("expected at most {FILES_MAX} files, found more"));
        }
        if len > self.left {
            return refused(format!("{name:?} claims {len} bytes, of the declared length only {} are left", self.left));
        }
        Ok(Some((name, len)))
    }

    fn file(&mut self, path: &Path, len: u64) -> Result<(), SnapshotError> {
        let failed = || SnapshotError::io(format!("writing {}", path.display()));
        let mut file = File::create_new(path).map_err(failed())?;
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut left = len;
        while left > 0 {
            let n = usize::try_from(left).unwrap_or(usize::MAX).min(CHUNK_BYTES);
            self.take(&mut chunk[..n])?;
            file.write_all(&chunk[..n]).map_err(failed())?;
            left -= n as u64;
        }
        self.zeros(format::padding_after(len), "the padding after a file")
    }

    fn zeros(&mut self, len: u64, what: &str) -> Result<(), SnapshotError> {
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(usize::MAX).min(CHUNK_BYTES)];
        self.take(&mut bytes)?;
        match bytes.iter().position(|byte| *byte != 0) {
            Some(at) => refused(format!("{what} must be zero, found {:#04x} at its byte {at}", bytes[at])),
            None => Ok(()),
        }
    }

    fn trailer(&mut self) -> Result<(), SnapshotError> {
        let expected = std::mem::take(&mut self.hash).finalize();
        let mut found = [0; TRAILER_BYTES as usize];
        self.source.read_exact(&mut found).map_err(short)?;
        if found[..] != expected[..] {
            return refused(format!("wrong digest: expected {expected:02x?}, found {found:02x?}"));
        }
        match self.source.read(&mut [0]) {
            Ok(0) => Ok(()),
            Ok(_) => refused("the stream is longer than declared"),
            Err(error) => Err(SnapshotError::io("reading the stream")(error)),
        }
    }

    /// The next bytes, hashed; refused beyond the declared length.
    fn take(&mut self, buf: &mut [u8]) -> Result<(), SnapshotError> {
        let len = buf.len() as u64;
        let Some(left) = self.left.checked_sub(len) else {
            return refused(format!(
                "the content needs {len} bytes where {} are left of the declared length",
                self.left
            ));
        };
        self.source.read_exact(buf).map_err(short)?;
        self.left = left;
        self.hash.update(&*buf);
        Ok(())
    }
}

fn short(error: io::Error) -> SnapshotError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => SnapshotError::Refused("the stream is shorter than declared".into()),
        _ => SnapshotError::io("reading the stream")(error),
    }
}

/// Name and length from a tar header, which must be the very block that the writer makes for them.
fn parse_entry(block: &[u8; BLOCK_BYTES as usize]) -> Result<(String, u64), SnapshotError> {
    let header = tar::Header::from_byte_slice(block);
    let path = header.path_bytes();
    let name = String::from_utf8_lossy(&path).into_owned();
    if header.entry_type() != tar::EntryType::Regular {
        return refused(format!("only regular files are accepted, found {name:?} of type {:?}", header.entry_type()));
    }
    if !format::is_plain_name(&name) {
        return refused(format!("a file's name must be one plain component, found {name:?}"));
    }
    let len = header.entry_size().map_err(|error| SnapshotError::Refused(format!("length of {name:?}: {error}")))?;
    if format::file_header(&name, len)? != *block {
        return refused(format!("the tar header of {name:?} is not in the form that this format prescribes"));
    }
    Ok((name, len))
}
