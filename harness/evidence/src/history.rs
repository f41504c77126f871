//! `history.jsonl`: everything that the harness did and saw, one JSON line per event, in the order
//! in which it learnt of it.
//!
//! An invocation is written before its operation is sent, a completion after the answer came: an
//! operation without a completion has an unknown outcome. Each line is one `write` to a file opened
//! for appending, straight to the kernel with no buffer of ours in between, so a SIGKILL of the
//! harness loses nothing that it acted on. (Power loss of the harness's machine is out of scope:
//! the file is not synced.)

use crate::clock;
use crate::evidence::{Evidence, read_line};
use crate::resource::Resource;
use crate::set_once::SetOnce;
use crate::verdict::Finding;
use crate::verdict::findings::Harness;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// An append-only file of events. Shared by everything that acts.
#[derive(Debug)]
pub struct History {
    file: Mutex<Appended>,
    start: Instant,
    /// The first error. Nothing is written after it: a history with a hole proves nothing.
    failed: SetOnce<io::Error>,
}

#[derive(Debug)]
struct Appended {
    file: File,
    /// Bytes of whole lines.
    whole: u64,
}

impl Appended {
    /// Appends `line`, or cuts off the part of it that was written: the file ends with a whole
    /// line.
    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        let written = self.file.write_all(line);
        match &written {
            Ok(()) => self.whole += line.len() as u64,
            // The error of the write is the one to report.
            Err(_) => drop(self.file.set_len(self.whole)),
        }
        written
    }
}

#[derive(Serialize)]
struct Line<'a> {
    at_us: u64,
    #[serde(flatten)]
    evidence: &'a Evidence,
}

impl History {
    /// Opens `path` for appending, creating it if need be: a resumed run goes on where the last one
    /// stopped.
    ///
    /// # Errors
    /// Those of opening a file.
    pub fn create(path: &Path) -> io::Result<Arc<Self>> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let whole = file.metadata()?.len();
        Ok(Arc::new(Self {
            file: Mutex::new(Appended { file, whole }),
            start: clock::now(),
            failed: SetOnce::default(),
        }))
    }

    /// Appends one line: a JSON object with `at_us`, microseconds since this history was opened,
    /// beside the evidence's own fields. An error is kept for [`History::failure`], and ends every
    /// wait for [`History::failed`].
    pub fn record(&self, evidence: &Evidence) {
        self.record_at(self.now_us(), evidence);
    }

    /// Microseconds since this history was opened.
    pub fn now_us(&self) -> u64 {
        u64::try_from((clock::now() - self.start).as_micros()).unwrap_or(u64::MAX)
    }

    /// [`History::record`], for evidence that came `at_us` microseconds after the history was
    /// opened.
    pub fn record_at(&self, at_us: u64, evidence: &Evidence) {
        if self.failed.get().is_some() {
            return;
        }
        let written = serde_json::to_vec(&Line { at_us, evidence }).map_err(io::Error::from).and_then(|mut line| {
            line.push(b'\n');
            self.file.lock().unwrap_or_else(PoisonError::into_inner).append(&line)
        });
        if let Err(error) = written {
            self.failed.set(error);
        }
    }

    /// The first event that could not be written, if any: the run's evidence is incomplete from
    /// there on.
    pub fn failure(&self) -> Option<Finding> {
        let error = self.failed.get()?;
        let no_room = Resource::of_io(error).is_some();
        let error = error.to_string();
        Some(Finding::new(if no_room {
            Harness::NoRoomForHistory { error }
        } else {
            Harness::HistoryUnwritable { error }
        }))
    }

    /// Becomes ready once an event could not be written.
    pub async fn failed(&self) {
        self.failed.wait().await;
    }
}

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
    use super::*;
    use crate::operation::OpId;
    use crate::verdict::findings::What;
    use std::pin::pin;
    use std::task::{Context, Waker};

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

    /// `/dev/full` takes nothing, as a full disk.
    #[test]
    fn a_history_that_cannot_be_written_says_whose_fault_that_is_and_goes_no_further() {
        let history = History::create(Path::new("/dev/full")).unwrap();
        assert!(history.failure().is_none());
        history.record(&Evidence::Baseline { cycle: 1 });
        assert!(pin!(history.failed()).poll(&mut Context::from_waker(Waker::noop())).is_ready());
        let finding = history.failure().unwrap();
        let What::Harness(Harness::NoRoomForHistory { error }) = finding.what else { panic!("{finding}") };
        assert!(error.contains("No space left on device"), "{error}");
    }

    #[test]
    fn a_line_is_on_disk_when_record_returns_and_reopening_appends() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history.jsonl");
        let op = OpId { client: 3, seq: 17 };
        for round in 1..=2 {
            let history = History::create(&path).unwrap();
            history.record(&Evidence::Unknown { op, why: "transport error".to_owned() });
            let text = std::fs::read_to_string(&path).unwrap();
            assert_eq!(text.lines().count(), round, "one line per event: {text}");
            assert!(history.failure().is_none());
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let line: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        assert_eq!(line["event"], "unknown");
        assert_eq!(line["op"], "3.17");
        assert!(line["at_us"].is_u64());
    }
}
