//! `history.jsonl`: everything that the harness did and saw, one JSON line per event, in the order
//! in which it learnt of it.
//!
//! An invocation is written before its operation is sent, a completion after the answer came: an
//! operation without a completion has an unknown outcome. Each line is one `write` to a file opened
//! for appending, straight to the kernel with no buffer of ours in between, so a SIGKILL of the
//! harness loses nothing that it acted on. (Power loss of the harness's machine is out of scope:
//! the file is not synced.)

mod lines;

pub use lines::{Error, Lines};

use crate::clock;
use crate::evidence::Evidence;
use crate::resource::Resource;
use crate::set_once::SetOnce;
use crate::verdict::Finding;
use crate::verdict::findings::Harness;
use serde::Serialize;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::OpId;
    use crate::verdict::findings::What;
    use std::pin::pin;
    use std::task::{Context, Waker};

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
