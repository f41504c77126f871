//! Reading a history: line by line.

use crate::evidence::{Evidence, read_line};
use serde::Deserialize;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

/// An error of reading a history.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read {path}: {source}")]
    Io { path: String, source: io::Error },
    #[error("{path}, line {line}: expected a line of a history, found {found:?}: {source}")]
    Malformed { path: String, line: u64, found: String, source: serde_json::Error },
}

/// The one reader of histories: line by line, so that memory does not grow with them.
#[derive(Debug)]
pub struct Lines<R = BufReader<File>> {
    path: String,
    file: R,
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
    /// # Errors
    /// The file cannot be opened.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let name = path.display().to_string();
        let file = File::open(path).map_err(|source| Error::Io { path: name.clone(), source })?;
        Ok(Self::of(name, BufReader::new(file)))
    }

    /// Begins with the first whole line of the last `bytes` bytes. The lines before them are
    /// counted, and not read.
    ///
    /// # Errors
    /// Those of reading a file.
    pub fn of_the_end(path: &Path, bytes: u64) -> Result<Self, Error> {
        let mut lines = Self::open(path)?;
        let io = |source| Error::Io { path: path.display().to_string(), source };
        let length = lines.file.get_ref().metadata().map_err(io)?.len();
        let skipped = length.saturating_sub(bytes);
        while lines.whole < skipped {
            match lines.file.skip_until(b'\n').map_err(io)? {
                0 => break,
                read => lines.whole += read as u64,
            }
            lines.number += 1;
        }
        Ok(lines)
    }
}

impl<R: BufRead> Lines<R> {
    /// The lines of `file`, which errors call `path`.
    pub fn of(path: String, file: R) -> Self {
        Self { path, file, line: Vec::new(), number: 0, at_us: 0, whole: 0, torn: false }
    }

    /// The next piece of evidence, and the number of its line; `None` at the end. A kill of the
    /// harness has cut off a last line without an end: the step that it announces was not taken.
    ///
    /// # Errors
    /// The file cannot be read, or a line is not one of a history.
    pub fn read(&mut self) -> Result<Option<(u64, Evidence)>, Error> {
        self.line.clear();
        let read = self.file.read_until(b'\n', &mut self.line);
        read.map_err(|source| Error::Io { path: self.path.clone(), source })?;
        if self.line.pop_if(|last| *last == b'\n').is_none() {
            self.torn = !self.line.is_empty();
            return Ok(None);
        }
        self.number += 1;
        self.whole += self.line.len() as u64 + 1;
        let read: Read = read_line(&self.line).map_err(|source| {
            let found = String::from_utf8_lossy(&self.line).chars().take(80).collect();
            Error::Malformed { path: self.path.clone(), line: self.number, found, source }
        })?;
        self.at_us = read.at_us;
        Ok(Some((self.number, read.evidence)))
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

    /// The position at which the last whole line ends.
    pub fn whole_bytes(&self) -> u64 {
        self.whole
    }
}

#[cfg(test)]
mod tests {
    use super::super::History;
    use super::*;

    #[test]
    fn the_end_of_a_history_begins_with_a_whole_line_and_knows_its_number() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history.jsonl");
        let history = History::create(&path).unwrap();
        (1..=9).for_each(|cycle| history.record_at(0, &Evidence::Baseline { cycle }));
        let line = std::fs::metadata(&path).unwrap().len() / 9;
        let first = |bytes| Lines::of_the_end(&path, bytes).unwrap().read().unwrap();
        let nth = |cycle: u32| Some((u64::from(cycle), Evidence::Baseline { cycle }));
        assert_eq!(first(2 * line), nth(8));
        assert_eq!(first(2 * line + 1), nth(8), "the end of the seventh line is left out");
        assert_eq!(first(2 * line - 1), nth(9));
        assert_eq!((first(1_000_000), first(0)), (nth(1), None));
    }

    #[test]
    fn a_torn_last_line_is_tolerated_and_any_other_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history.jsonl");
        let history = History::create(&path).unwrap();
        for cycle in 1..=3 {
            history.record(&Evidence::Baseline { cycle });
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            let mut lines = Lines::open(&path).unwrap();
            let mut read = 0;
            while lines.read()?.is_some() {
                read += 1;
            }
            Ok::<_, Error>((read, lines.torn()))
        };
        assert_eq!(read(&text).unwrap(), (3, false));
        assert_eq!(read(&text[..text.len() - 5]).unwrap(), (2, true));
        assert_eq!(read(&text[..text.len() - 1]).unwrap(), (2, true), "whole, but for its end");
        let error = read(&text.replacen("mark", "mork", 1)).unwrap_err().to_string();
        assert!(error.contains("line 1:"), "{error}");
    }
}
