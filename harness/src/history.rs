//! `history.jsonl`: everything that the harness did and saw, one JSON line per event, in the order in which it
//! learnt of it.
//!
//! An invocation is written before its operation is sent, a completion after the answer came: an operation
//! without a completion is one whose outcome nobody knows. Each line is one `write` to a file opened for
//! appending, straight to the kernel with no buffer of ours in between, so a SIGKILL of the harness loses
//! nothing that it acted on. (Power loss of the harness's machine is out of scope: the file is not synced.)

use crate::clock;
use crate::model::Change;
use crate::operation::{Action, OpId, Reply};
use crate::target::Slot;
use serde::Serialize;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Mutex;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

/// What the workload and the observer write. The pipeline's own events are any [`Serialize`] with an `event`
/// field of its own.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event<'a> {
    /// About to be sent to the `endpoint`-th member.
    Invoke { op: OpId, endpoint: usize, action: &'a Action },
    /// Answered.
    Done { op: OpId, revision: u64, term: u64, reply: &'a Reply },
    /// Certainly not done.
    Refused { op: OpId, why: &'a str },
    /// It may or may not have happened, or still happen.
    Unknown { op: OpId, why: &'a str },
    /// The first delivery of a revision, by the stream of `slot`.
    Revision { revision: u64, slot: Slot, changes: &'a [Change] },
    /// The stream of `slot` starts, or starts again, at `from`.
    Watch { slot: Slot, from: u64 },
    /// The stream of `slot` broke.
    WatchEnded { slot: Slot, why: &'a str },
}

/// An append-only file of events. Shared by everything that acts.
#[derive(Debug)]
pub struct History {
    file: Mutex<File>,
    start: Instant,
    /// The first error, kept until somebody asks: a history with a hole proves nothing.
    failed: Mutex<Option<io::Error>>,
}

#[derive(Serialize)]
struct Line<'a, T> {
    at_us: u64,
    #[serde(flatten)]
    event: &'a T,
}

impl History {
    /// Opens `path` for appending, creating it if need be: a resumed run goes on where the last one stopped.
    ///
    /// # Errors
    /// Those of opening a file.
    pub fn create(path: &Path) -> io::Result<Arc<Self>> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Arc::new(Self { file: Mutex::new(file), start: clock::now(), failed: Mutex::new(None) }))
    }

    /// Appends one event: a JSON object with `at_us`, microseconds since this history was opened, beside the
    /// event's own fields. An error is kept for [`History::failure`], and ends nothing by itself.
    pub fn record<T: Serialize>(&self, event: &T) {
        let at_us = u64::try_from((clock::now() - self.start).as_micros()).unwrap_or(u64::MAX);
        let written = serde_json::to_vec(&Line { at_us, event }).map_err(io::Error::from).and_then(|mut line| {
            line.push(b'\n');
            self.file.lock().unwrap_or_else(PoisonError::into_inner).write_all(&line)
        });
        if let Err(error) = written {
            self.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        }
    }

    /// The first event that could not be written, if any: the run's evidence is incomplete from there on.
    pub fn failure(&self) -> Option<String> {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.as_ref().map(|error| format!("history.jsonl could not be written: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_on_disk_when_record_returns_and_reopening_appends() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history.jsonl");
        let op = OpId { client: 3, seq: 17 };
        for round in 1..=2 {
            let history = History::create(&path).unwrap();
            history.record(&Event::Unknown { op, why: "transport error" });
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
