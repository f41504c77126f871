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
        let read = read_piece(&mut self.line).map_err(|source| {
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

/// Reads the line of a piece of evidence, which is the same again afterwards.
///
/// Lines of ours begin with `at_us`, and the rest is an object if it begins like one. To read that
/// alone saves a copy of all of its fields, a third of the time.
fn read_piece(line: &mut [u8]) -> serde_json::Result<Read> {
    let Some((at_us, comma)) = time_of(line) else { return read_line(line) };
    line[comma] = b'{';
    let evidence = read_line(&line[comma..]);
    line[comma] = b',';
    Ok(Read { at_us, evidence: evidence? })
}

/// The time at the beginning of a line, and the place of the comma behind it.
fn time_of(line: &[u8]) -> Option<(u64, usize)> {
    const NAME: &[u8] = b"{\"at_us\":";
    let digits = line.strip_prefix(NAME)?;
    let end = digits.iter().position(|byte| !byte.is_ascii_digit())?;
    let at_us = std::str::from_utf8(&digits[..end]).ok()?.parse().ok()?;
    (digits[end] == b',').then_some((at_us, NAME.len() + end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_reads_alike_whatever_its_first_field_is() {
        let read = |line: &str| {
            let mut bytes = line.as_bytes().to_vec();
            let read = read_piece(&mut bytes).map(|read| (read.at_us, read.evidence));
            assert_eq!(bytes, line.as_bytes());
            read
        };
        let piece = (7, Evidence::Baseline { cycle: 3 });
        for line in [
            r#"{"at_us":7,"event":"mark","cycle":3}"#,
            r#"{"event":"mark","at_us":7,"cycle":3}"#,
            r#"{ "at_us": 7, "cycle": 3, "event": "mark" }"#,
        ] {
            assert_eq!(read(line).unwrap(), piece, "{line}");
        }
        for line in [
            r#"{"at_us":7}"#,
            r#"{"at_us":,"event":"mark","cycle":3}"#,
            r#"{"at_us":99999999999999999999,"event":"mark","cycle":3}"#,
            r#"{"at_us":7,"event":"mork","cycle":3}"#,
            r#"{"at_us":7,"event":"mark","cycle":3}}"#,
        ] {
            assert!(read(line).is_err(), "{line}");
        }
    }
}
