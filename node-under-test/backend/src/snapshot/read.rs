//! Receives a snapshot: strictly, as a stream, to a place where it is not opened until all of it is
//! proven.

use super::format::{
    self, BLOCK_BYTES, FILES_MAX, HEADER_BYTES, LEGACY_MAGIC, MAGIC, PADDING_BYTES, ROUTING_BYTES, TAR_END_BYTES,
    TRAILER_BYTES, VERSION,
};
use super::install;
use crate::engine::EngineKind;
use node_base::backend::{Declared, SnapshotError};
use node_base::failpoint::{Window, pass};
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

const CHUNK_BYTES: usize = 64 << 10;
const WIRE_SIZE_MIN: u64 = HEADER_BYTES + TAR_END_BYTES + PADDING_BYTES + TRAILER_BYTES;

/// Bytes that claim to be a snapshot. The only way on is [`unpack`](Self::unpack), which proves
/// length, form and digest.
pub struct RawSnapshot<'a> {
    source: &'a mut dyn Read,
    engine: EngineKind,
    /// The bytes that were read to choose a reader, as far as they have not been taken.
    routing: io::Cursor<[u8; ROUTING_BYTES]>,
    sha256: Option<[u8; 32]>,
    /// Bytes up to the trailer that may still come, by the declared length.
    left: u64,
    hash: Sha256,
}

/// A path that holds exactly a proven snapshot's content; not synced yet. Dropped without
/// [`keep`](Self::keep), it is removed.
#[derive(Debug)]
pub struct Unpacked {
    path: Option<PathBuf>,
}

impl Unpacked {
    /// Takes charge of `path`.
    pub(super) fn own(path: &Path) -> Self {
        Self { path: Some(path.to_owned()) }
    }

    pub fn keep(mut self) -> PathBuf {
        self.path.take().unwrap_or_default()
    }
}

impl Drop for Unpacked {
    fn drop(&mut self) {
        if let Some(path) = &self.path
            && let Err(error) = install::remove(path)
        {
            tracing::warn!("removing staging area {}: {error}", path.display());
        }
    }
}

fn refused<T>(why: impl Into<String>) -> Result<T, SnapshotError> {
    Err(SnapshotError::Refused(why.into()))
}

impl<'a> RawSnapshot<'a> {
    /// Reads the first bytes, and with them chooses the form; checks the declaration against it.
    pub fn new(source: &'a mut dyn Read, declared: Declared) -> Result<Self, SnapshotError> {
        let mut routing = [0; ROUTING_BYTES];
        source.read_exact(&mut routing).map_err(short)?;
        let Declared { wire_size, sha256 } = declared;
        let engine = engine_of(&routing)?;
        let left = match (engine, sha256) {
            (EngineKind::Redb, None) => {
                return refused("a legacy stream needs its SHA-256 from its carrier, found none");
            }
            (EngineKind::Redb, Some(_)) if wire_size < ROUTING_BYTES as u64 => {
                return refused(format!("the declared length must be at least {ROUTING_BYTES}, found {wire_size}"));
            }
            (EngineKind::Redb, Some(_)) => wire_size,
            (EngineKind::Rocksdb, Some(_)) => {
                return refused("a stream with a trailer needs no other SHA-256, found one");
            }
            (EngineKind::Rocksdb, None) => {
                if wire_size < WIRE_SIZE_MIN || wire_size % BLOCK_BYTES != TRAILER_BYTES {
                    return refused(format!(
                        "the declared length must be at least {WIRE_SIZE_MIN} and {TRAILER_BYTES} modulo {BLOCK_BYTES}, found {wire_size}"
                    ));
                }
                wire_size - TRAILER_BYTES
            }
        };
        Ok(Self { source, engine, routing: io::Cursor::new(routing), sha256, left, hash: Sha256::new() })
    }

    /// Whose form the stream has.
    pub fn engine(&self) -> EngineKind {
        self.engine
    }

    /// Unpacks to `path`, where nothing is yet, and checks everything there is to check.
    pub fn unpack(self, path: &Path) -> Result<Unpacked, SnapshotError> {
        match self.engine {
            EngineKind::Redb => self.unpack_file(path),
            EngineKind::Rocksdb => self.unpack_tar(path),
        }
    }

    fn unpack_file(mut self, path: &Path) -> Result<Unpacked, SnapshotError> {
        let mut file = File::create_new(path).map_err(SnapshotError::io(format!("creating {}", path.display())))?;
        let unpacked = Unpacked::own(path);
        let (len, mut windows) = (self.left, 0);
        while self.left > 0 {
            // At least a few chunks, so that "the middle" exists for a small file too.
            let chunk = self.left.min(len.div_ceil(4)).min(CHUNK_BYTES as u64);
            self.copy(path, &mut file, chunk)?;
            windows += 1;
            if windows < 4 {
                pass(Window::SnapshotUnpack);
            }
        }
        let found: [u8; 32] = std::mem::take(&mut self.hash).finalize().into();
        let expected = self.sha256.unwrap_or_default();
        if found != expected {
            return refused(format!(
                "wrong digest: expected {}, found {}",
                format::hex(&expected),
                format::hex(&found)
            ));
        }
        self.end()?;
        Ok(unpacked)
    }

    fn unpack_tar(mut self, dir: &Path) -> Result<Unpacked, SnapshotError> {
        self.version()?;
        std::fs::create_dir(dir).map_err(SnapshotError::io(format!("creating {}", dir.display())))?;
        let unpacked = Unpacked::own(dir);
        let mut names = HashSet::new();
        while let Some((name, len)) = self.entry(&mut names)? {
            self.file(&dir.join(name), len)?;
            pass(Window::SnapshotUnpack);
        }
        self.zeros(PADDING_BYTES, "the padding after the tar")?;
        self.trailer()?;
        Ok(unpacked)
    }

    /// The rest of the header.
    fn version(&mut self) -> Result<(), SnapshotError> {
        let mut header = [0; HEADER_BYTES as usize];
        self.take(&mut header)?;
        let [.., a, b, c, d] = header;
        match u32::from_be_bytes([a, b, c, d]) {
            VERSION => Ok(()),
            version => refused(format!("expected format version {VERSION}, found {version}")),
        }
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
        let mut file = File::create_new(path).map_err(SnapshotError::io(format!("creating {}", path.display())))?;
        self.copy(path, &mut file, len)?;
        self.zeros(format::padding_after(len), "the padding after a file")
    }

    /// Moves the next `len` bytes into `file`, which is at `path`.
    fn copy(&mut self, path: &Path, file: &mut File, len: u64) -> Result<(), SnapshotError> {
        let mut chunk = vec![0; usize::try_from(len).unwrap_or(usize::MAX).min(CHUNK_BYTES)];
        let mut left = len;
        while left > 0 {
            let n = usize::try_from(left).unwrap_or(usize::MAX).min(CHUNK_BYTES);
            self.take(&mut chunk[..n])?;
            file.write_all(&chunk[..n]).map_err(SnapshotError::io(format!("writing {}", path.display())))?;
            left -= n as u64;
        }
        Ok(())
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
            return refused(format!(
                "wrong digest: expected {}, found {}",
                format::hex(&expected),
                format::hex(&found)
            ));
        }
        self.end()
    }

    fn end(&mut self) -> Result<(), SnapshotError> {
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
        let routed = self.routing.read(buf).unwrap_or(0);
        self.source.read_exact(&mut buf[routed..]).map_err(short)?;
        self.left = left;
        self.hash.update(&*buf);
        Ok(())
    }
}

/// Whose stream begins like this.
fn engine_of(routing: &[u8; ROUTING_BYTES]) -> Result<EngineKind, SnapshotError> {
    let (magic, id) = (&routing[..MAGIC.len()], routing[MAGIC.len()]);
    let (header, legacy) = (EngineKind::Rocksdb.id(), LEGACY_MAGIC);
    if magic == MAGIC {
        return if id == header {
            Ok(EngineKind::Rocksdb)
        } else {
            refused(format!("expected engine id {header:#04x} behind the magic, found {id:#04x}"))
        };
    }
    if magic.starts_with(&legacy) {
        return Ok(EngineKind::Redb);
    }
    let (legacy, found) = (format::hex(&legacy), format::hex(magic));
    refused(format!("expected the magic ETCDSNAP or that of a redb file ({legacy}), found {found}"))
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
