//! The lines of a history as one stream of bytes: its frames, then its tail.
//!
//! Positions are bytes of lines, from the history's first one on. The frames hold its beginning, up
//! to some position, and the tail the rest; how lines get from one to the other is in `sealer.rs`.
//! After a kill in the middle of that, both may hold some of the same lines, and the last frame may
//! be cut off: the tail then has what that frame was to hold. So a frame that is cut off is no
//! loss, as long as the tail goes on where the whole frames end. Anything else is refused.

use super::frames::{self, Next};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// The first line of a tail that does not begin with the history's first line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TailHead {
    /// The position of the tail's first line.
    pub sealed_bytes: u64,
}

/// Longer than any head.
const HEAD_BYTES_MAX: u64 = 64;

/// The file of the frames whose tail is at `tail`.
pub(super) fn frames_of(tail: &Path) -> PathBuf {
    let mut name = tail.as_os_str().to_owned();
    name.push(".zst");
    name.into()
}

/// A history that is not what a kill of its writer can leave.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    #[error(
        "expected whole frames in {frames}, found damage behind the first {sealed} bytes of lines ({why}): a kill \
         only cuts the end off; restore the file from where it was written"
    )]
    Damaged { frames: String, sealed: u64, why: io::Error },
    #[error(
        "expected {tail} to go on behind the {sealed} bytes of lines in {frames}, found bytes {from} to {to} there: a \
         part of the history is missing; restore both files from where they were written"
    )]
    Apart { frames: String, tail: String, sealed: u64, from: u64, to: u64 },
}

/// The tail of a history, as it is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TailStart {
    /// The position of its first line.
    pub from: u64,
    /// Bytes before that line.
    pub head: u64,
}

/// The place at which a history goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GoOn {
    pub(super) tail: TailStart,
    /// The position at which the whole frames end, and their bytes in the file.
    pub(super) sealed: u64,
    pub(super) frames: u64,
    /// The position at which the last whole line ends.
    pub(super) whole: u64,
}

/// See the module's documentation. Reads what was there when it was opened.
#[derive(Debug)]
pub struct Stream {
    path: PathBuf,
    /// Until they have been read.
    frames: Option<Frames>,
    part: Vec<u8>,
    /// Bytes of the part that were read.
    used: usize,
    tail: BufReader<File>,
    start: TailStart,
    /// The position at which the frames end that were read, and their bytes in the file.
    sealed: u64,
    whole_frames: u64,
}

#[derive(Debug)]
struct Frames {
    file: BufReader<File>,
    /// Bytes of the file when it was opened.
    bytes: u64,
}

impl Stream {
    /// Opens the history whose tail is at `path`.
    ///
    /// # Errors
    /// Those of opening a file.
    pub fn open(path: &Path) -> io::Result<Self> {
        // The tail first: lines that leave it while this opens the frames are in both.
        let mut tail = BufReader::new(File::open(path)?);
        let start = start_of(&mut tail)?;
        let frames = match File::open(frames_of(path)) {
            Ok(file) => Some(Frames { bytes: file.metadata()?.len(), file: BufReader::new(file) }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let mut stream =
            Self { path: path.to_owned(), frames, part: Vec::new(), used: 0, tail, start, sealed: 0, whole_frames: 0 };
        if stream.frames.is_none() {
            stream.join()?;
        }
        Ok(stream)
    }

    /// The position at which the stream ends, a last line that is cut off included.
    ///
    /// # Errors
    /// Those of reading a file.
    pub fn end(&self) -> io::Result<u64> {
        Ok(self.start.from + self.tail.get_ref().metadata()?.len().saturating_sub(self.start.head))
    }

    /// The place at which to go on, once all has been read; the last whole line ends at `whole`.
    pub(super) fn go_on(&self, whole: u64) -> GoOn {
        GoOn { tail: self.start, sealed: self.sealed, frames: self.whole_frames, whole }
    }

    /// Reads the next frame, or goes over to the tail.
    fn advance(&mut self) -> io::Result<()> {
        let Some(frames) = &mut self.frames else { return Ok(()) };
        self.used = 0;
        let next = if self.whole_frames < frames.bytes {
            frames::read(&mut frames.file, &mut self.part)
        } else {
            Ok(Next::End)
        };
        match next {
            Ok(Next::Frame) => {
                self.sealed += self.part.len() as u64;
                self.whole_frames = frames.file.stream_position()?;
                Ok(())
            }
            Ok(Next::Torn | Next::End) => {
                (self.frames, self.part) = (None, Vec::new());
                self.join()
            }
            Err(why) if why.kind() == io::ErrorKind::InvalidData => {
                let frames = frames_of(&self.path).display().to_string();
                Err(broken(Broken::Damaged { frames, sealed: self.sealed, why }))
            }
            Err(error) => Err(error),
        }
    }

    /// Goes to where the tail goes on behind the frames.
    fn join(&mut self) -> io::Result<()> {
        let (from, to, sealed) = (self.start.from, self.end()?, self.sealed);
        if !(from..=to).contains(&sealed) {
            let (frames, tail) = (frames_of(&self.path).display().to_string(), self.path.display().to_string());
            return Err(broken(Broken::Apart { frames, tail, sealed, from, to }));
        }
        self.tail.seek(SeekFrom::Start(self.start.head + sealed - from))?;
        Ok(())
    }
}

/// Reads the head of a tail, if it has one.
fn start_of(tail: &mut BufReader<File>) -> io::Result<TailStart> {
    let mut line = Vec::new();
    tail.by_ref().take(HEAD_BYTES_MAX).read_until(b'\n', &mut line)?;
    Ok(match serde_json::from_slice(&line) {
        Ok(TailHead { sealed_bytes }) if line.ends_with(b"\n") => {
            TailStart { from: sealed_bytes, head: line.len() as u64 }
        }
        _ => TailStart { from: 0, head: 0 },
    })
}

fn broken(broken: Broken) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, broken)
}

impl BufRead for Stream {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.used == self.part.len() && self.frames.is_some() {
            self.advance()?;
        }
        if self.used < self.part.len() { Ok(&self.part[self.used..]) } else { self.tail.fill_buf() }
    }

    fn consume(&mut self, bytes: usize) {
        if self.used < self.part.len() {
            self.used += bytes;
        } else {
            self.tail.consume(bytes);
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(buffer)?;
        self.consume(read);
        Ok(read)
    }
}
