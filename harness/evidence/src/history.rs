//! The history: everything that the harness did and saw, one JSON line per event, in the order in
//! which it learnt of it.
//!
//! An invocation is written before its operation is sent, a completion after the answer came: an
//! operation without a completion has an unknown outcome. A line that announces what the harness is
//! about to do is written before it does that, in one `write` to a file opened for appending, with
//! the lines that came since the one before: what clients were answered and watches delivered. So a
//! SIGKILL of the harness loses nothing that it acted on. (Power loss of the harness's machine is
//! out of scope: the file is not synced.)
//!
//! The file that lines are written to, `history.jsonl`, is the history's tail. Older lines are
//! compressed, in the frames of `history.jsonl.zst`; `sealer.rs` moves them there, with its claims
//! about kills. [`Stream`] reads both as one.

mod frames;
mod lines;
mod sealer;
mod stream;
mod tail;

pub use lines::{Error, Lines};
pub use stream::{Broken, GoOn, Stream};

use crate::clock;
use crate::evidence::Evidence;
use crate::resource::Resource;
use crate::set_once::SetOnce;
use crate::verdict::Finding;
use crate::verdict::findings::Harness;
use sealer::Sealing;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use stream::{TailStart, frames_of};
use tail::Tail;

/// An append-only file of events. Shared by everything that acts; the last to drop it waits until
/// all lines are compressed.
#[derive(Debug)]
pub struct History {
    shared: Arc<Shared>,
    sealing: Sealing,
    start: Instant,
}

/// The part of a history that its compression works on as well.
#[derive(Debug)]
struct Shared {
    tail: Mutex<Tail>,
    /// The first error. Nothing is written after it: a history with a hole proves nothing.
    failed: SetOnce<io::Error>,
}

impl Shared {
    fn tail(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A piece of evidence as its line has it, but for the time. It is made before the line's place in
/// the history is taken, so that others do not wait for that.
#[derive(Debug)]
pub struct Text {
    json: serde_json::Result<Vec<u8>>,
    /// It must be written before the harness goes on.
    announces: bool,
}

impl Text {
    pub fn of(evidence: &Evidence) -> Self {
        Self { json: serde_json::to_vec(evidence), announces: evidence.kind().announces() }
    }
}

impl History {
    /// Begins a history, whose tail is at `path`.
    ///
    /// # Errors
    /// There is another history, or those of opening a file and of starting a thread.
    pub fn create(path: &Path) -> io::Result<Arc<Self>> {
        let file = Tail::open(path)?;
        if file.metadata()?.len() > 0 {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "it is another run's"));
        }
        let tail = TailStart { from: 0, head: 0 };
        Self::start(path, file, GoOn { tail, sealed: 0, frames: 0, whole: 0 })
    }

    /// Goes on with the history whose tail is at `path`, and which was read to its end: `at` is
    /// where its lines end. A piece of a line, or of a frame, behind that is cut off: it stands for
    /// a step that was not taken.
    ///
    /// # Errors
    /// Those of opening and changing a file, and of starting a thread.
    pub fn go_on(path: &Path, at: GoOn) -> io::Result<Arc<Self>> {
        if at.whole < at.sealed {
            let cut = "expected whole lines in its frames, found the end of the last one nowhere";
            return Err(io::Error::new(io::ErrorKind::InvalidData, cut));
        }
        let file = Tail::open(path)?;
        file.set_len(at.tail.head + at.whole - at.tail.from)?;
        match OpenOptions::new().write(true).open(frames_of(path)) {
            Ok(frames) => frames.set_len(at.frames)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Self::start(path, file, at)
    }

    fn start(path: &Path, file: File, at: GoOn) -> io::Result<Arc<Self>> {
        let tail = Mutex::new(Tail::new(file, at.tail, at.whole));
        let shared = Arc::new(Shared { tail, failed: SetOnce::default() });
        let sealing = Sealing::start(path.to_owned(), at, Arc::clone(&shared))?;
        Ok(Arc::new(Self { shared, sealing, start: clock::now() }))
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
        self.append(at_us, &Text::of(evidence));
    }

    /// [`History::record_at`], for evidence whose text was made before.
    pub fn append(&self, at_us: u64, text: &Text) {
        match &text.json {
            Ok(json) => self.append_to(|tail| {
                tail.push(at_us, json);
                if text.announces { tail.write() } else { tail.write_if_many() }
            }),
            Err(error) => self.shared.failed.set(io::Error::other(error.to_string())),
        }
    }

    /// Writes the lines that wait for the next announcement.
    pub fn flush(&self) {
        self.append_to(Tail::write);
    }

    fn append_to(&self, append: impl FnOnce(&mut Tail) -> io::Result<()>) {
        if self.shared.failed.get().is_some() {
            return;
        }
        let mut tail = self.shared.tail();
        let written = append(&mut tail).map(|()| tail.is_newly_full());
        drop(tail);
        match written {
            Ok(false) => {}
            Ok(true) => self.sealing.tell(),
            Err(error) => self.shared.failed.set(error),
        }
    }

    /// The first event that could not be written, if any: the run's evidence is incomplete from
    /// there on.
    pub fn failure(&self) -> Option<Finding> {
        let error = self.shared.failed.get()?;
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
        self.shared.failed.wait().await;
    }
}

impl Drop for History {
    fn drop(&mut self) {
        self.flush();
    }
}

#[cfg(test)]
mod tests;
