//! Making streams of images: the length is known before the first byte, and memory does not grow
//! with it.

use super::format::{self, HEADER_BYTES, PADDING_BYTES, TAR_END_BYTES, TRAILER_BYTES};
use super::install;
use node_base::LogId;
use node_base::backend::{Declared, Snapshot, SnapshotError};
use node_base::sabotage::{Bug, planted};
use sha2::{Digest, Sha256};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// An image made for sending, deleted when this is dropped.
#[derive(Debug)]
pub struct Outgoing(PathBuf);

impl Outgoing {
    /// Takes charge of `path`, which may not exist yet.
    pub fn own(path: PathBuf) -> Self {
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        // What is left behind, the next start's tidy removes.
        if let Err(error) = install::remove(&self.0) {
            tracing::warn!("removing image {}: {error}", self.0.display());
        }
    }
}

/// The legacy form of `image`, a file that no longer changes. Reads it once for its digest.
pub(crate) fn legacy_stream(image: Outgoing, log_id: LogId) -> Result<Snapshot, SnapshotError> {
    let failed = || SnapshotError::io(format!("reading image {}", image.path().display()));
    let mut file = File::open(image.path()).map_err(failed())?;
    let mut hasher = Sha256::new();
    let len = io::copy(&mut file, &mut HashWriter(&mut hasher)).map_err(failed())?;
    let reader = File::open(image.path()).map_err(failed())?;
    let wire_size = if planted(Bug::WireSizeTooBig) { len + format::BLOCK_BYTES } else { len };
    let sha256 = Some(hasher.finalize().into());
    Ok(Snapshot {
        log_id,
        declared: Declared { wire_size, sha256 },
        reader: Box::new(LegacyStream { reader, _image: image }),
    })
}

struct LegacyStream {
    reader: File,
    /// Only to delete it at the end.
    _image: Outgoing,
}

impl Read for LegacyStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buf)
    }
}

struct HashWriter<'a>(&'a mut Sha256);

impl io::Write for HashWriter<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.update(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

enum Part {
    Bytes(io::Cursor<Vec<u8>>),
    Zeros(u64),
    File {
        path: PathBuf,
        opened: Option<File>,
        left: u64,
    },
    /// Always the last one; becomes bytes when everything before it has been hashed.
    Digest,
}

impl Part {
    fn len(&self) -> u64 {
        match self {
            Part::Bytes(bytes) => bytes.get_ref().len() as u64,
            Part::Zeros(left) | Part::File { left, .. } => *left,
            Part::Digest => TRAILER_BYTES,
        }
    }
}

/// The snapshot as a stream of exactly [`wire_size`](Self::wire_size) bytes.
pub struct SnapshotStream {
    parts: VecDeque<Part>,
    wire_size: u64,
    hash: Sha256,
    /// Only to delete it at the end.
    _checkpoint: Outgoing,
}

impl SnapshotStream {
    /// Plans the stream of the files in `checkpoint`, which no longer change.
    pub fn new(checkpoint: Outgoing) -> Result<Self, SnapshotError> {
        let mut parts = VecDeque::from([Part::Bytes(io::Cursor::new(format::header().to_vec()))]);
        for (name, len) in files(checkpoint.path())? {
            parts.push_back(Part::Bytes(io::Cursor::new(format::file_header(&name, len)?.to_vec())));
            parts.push_back(Part::File { path: checkpoint.path().join(&name), opened: None, left: len });
            parts.push_back(Part::Zeros(format::padding_after(len)));
        }
        parts.push_back(Part::Zeros(TAR_END_BYTES + PADDING_BYTES));
        parts.push_back(Part::Digest);
        // From the list that is sent, not from a formula beside it: the two cannot disagree.
        let mut wire_size = parts.iter().map(Part::len).sum();
        if planted(Bug::WireSizeBodyOnly) {
            wire_size -= HEADER_BYTES + TRAILER_BYTES;
        }
        if planted(Bug::WireSizeTooBig) {
            wire_size += format::BLOCK_BYTES;
        }
        Ok(Self { parts, wire_size, hash: Sha256::new(), _checkpoint: checkpoint })
    }

    /// Header, body and trailer: every byte that this stream yields.
    pub fn wire_size(&self) -> u64 {
        self.wire_size
    }
}

/// Names and lengths of a checkpoint's files, ascending by name.
fn files(dir: &Path) -> Result<Vec<(String, u64)>, SnapshotError> {
    let failed = || SnapshotError::io(format!("listing checkpoint {}", dir.display()));
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed())? {
        let entry = entry.map_err(failed())?;
        let meta = entry.metadata().map_err(failed())?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !meta.is_file() {
            return Err(SnapshotError::Refused(format!("a checkpoint must hold regular files only, found {name:?}")));
        }
        files.push((name, meta.len()));
    }
    files.sort();
    Ok(files)
}

impl Read for SnapshotStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        while let Some(part) = self.parts.front_mut() {
            if matches!(part, Part::Digest) {
                let digest = std::mem::take(&mut self.hash).finalize();
                *part = Part::Bytes(io::Cursor::new(digest.to_vec()));
            }
            let n = read_part(part, buf)?;
            if n > 0 {
                self.hash.update(&buf[..n]);
                return Ok(n);
            }
            self.parts.pop_front();
        }
        Ok(0)
    }
}

/// Bytes of `part`; 0 when it has no more.
fn read_part(part: &mut Part, buf: &mut [u8]) -> io::Result<usize> {
    let upto = |left: u64| usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
    match part {
        Part::Bytes(bytes) => bytes.read(buf),
        Part::Zeros(left) => {
            let n = upto(*left);
            buf[..n].fill(0);
            *left -= n as u64;
            Ok(n)
        }
        Part::File { left: 0, .. } => Ok(0),
        Part::File { path, opened, left } => {
            let file = match opened {
                Some(file) => file,
                None => opened.insert(File::open(&*path)?),
            };
            let n = upto(*left);
            let n = file.read(&mut buf[..n])?;
            if n == 0 {
                let what = format!("checkpoint file {} became {left} bytes shorter while it was sent", path.display());
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, what));
            }
            *left -= n as u64;
            Ok(n)
        }
        Part::Digest => unreachable!("turned into bytes before it is read"),
    }
}
