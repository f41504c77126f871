//! Reading a history: line by line.

use super::stream::{Broken, GoOn, Stream};
use crate::evidence::{Evidence, read_line};
use serde::Deserialize;
use std::io::{self, BufRead};
use std::path::Path;

/// An error of reading a history.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read {path}: {source}")]
    Io { path: String, source: io::Error },
    /// No kill of the harness leaves it so.
    #[error(transparent)]
    Broken(Broken),
    #[error("{path}, line {line}: expected a line of a history, found {found:?}: {source}")]
    Malformed { path: String, line: u64, found: String, source: serde_json::Error },
}

impl Error {
    fn of(path: &str, source: io::Error) -> Self {
        match source.downcast() {
            Ok(broken) => Self::Broken(broken),
            Err(source) => Self::Io { path: path.to_owned(), source },
        }
    }
}

/// The one reader of histories: line by line, so that memory does not grow with them.
#[derive(Debug)]
pub struct Lines<R = Stream> {
    path: String,
    stream: R,
    line: Vec<u8>,
    number: u64,
    at_us: u64,
    /// Bytes of whole lines so far.
    whole: u64,
    torn: bool,
}

#[derive(Deserialize)]
struct Read {
    at_us: u64,
    #[serde(flatten)]
    evidence: Evidence,
}

impl Lines {
    /// Opens the history whose tail is at `path`.
    ///
    /// # Errors
    /// Those of opening a file, or no kill of the harness leaves a history so.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let name = path.display().to_string();
        let stream = Stream::open(path).map_err(|source| Error::of(&name, source))?;
        Ok(Self::of(name, stream))
    }

    /// Begins with the first whole line of the last `bytes` bytes. The lines before them are
    /// counted, and not read.
    ///
    /// # Errors
    /// Those of reading a history.
    pub fn of_the_end(path: &Path, bytes: u64) -> Result<Self, Error> {
        let mut lines = Self::open(path)?;
        let named = |source| Error::of(&path.display().to_string(), source);
        let skipped = lines.stream.end().map_err(named)?.saturating_sub(bytes);
        while lines.whole < skipped {
            match lines.stream.skip_until(b'\n').map_err(named)? {
                0 => break,
                read => lines.whole += read as u64,
            }
            lines.number += 1;
        }
        Ok(lines)
    }

    /// The place at which the history goes on, once all lines have been read.
    pub fn go_on(&self) -> GoOn {
        self.stream.go_on(self.whole)
    }
}

impl<R: BufRead> Lines<R> {
    /// The lines of `stream`, which errors call `path`.
    pub fn of(path: String, stream: R) -> Self {
        Self { path, stream, line: Vec::new(), number: 0, at_us: 0, whole: 0, torn: false }
    }

    /// The next piece of evidence, and the number of its line; `None` at the end.
    ///
    /// # Errors
    /// The file cannot be read, or a line is not one of a history.
    pub fn read(&mut self) -> Result<Option<(u64, Evidence)>, Error> {
        if self.read_text()?.is_none() {
            return Ok(None);
        }
        let read: Read = read_line(&self.line).map_err(|source| {
            let found = String::from_utf8_lossy(&self.line).chars().take(80).collect();
            Error::Malformed { path: self.path.clone(), line: self.number, found, source }
        })?;
        self.at_us = read.at_us;
        Ok(Some((self.number, read.evidence)))
    }

    /// The next line as it stands, without its end; `None` at the end. A kill of the harness has
    /// cut off a last line without an end: the step that it announces was not taken.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read_text(&mut self) -> Result<Option<&[u8]>, Error> {
        self.line.clear();
        let read = self.stream.read_until(b'\n', &mut self.line);
        read.map_err(|source| Error::of(&self.path, source))?;
        if self.line.pop_if(|last| *last == b'\n').is_none() {
            self.torn = !self.line.is_empty();
            return Ok(None);
        }
        self.number += 1;
        self.whole += self.line.len() as u64 + 1;
        Ok(Some(&self.line))
    }

    /// The moment at which the last line read was written: microseconds since its history was
    /// opened.
    pub fn at_us(&self) -> u64 {
        self.at_us
    }

    /// Whether the last line was cut off.
    pub fn torn(&self) -> bool {
        self.torn
    }
}
