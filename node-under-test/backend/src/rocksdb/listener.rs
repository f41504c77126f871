//! Callbacks of a live database: each passes its crash window and sends an event, and the persister
//! does the rest. A window is passed *before* the send, so that a kill there finds N untouched.

use super::capture::Capture;
use super::sys::FlushListener;
use crate::durability::Event;
use node_base::backend::{BackendError, BackendErrorKind};
use node_base::failpoint::{Window, pass};
use std::sync::mpsc::Sender;

pub(super) struct Listener {
    pub events: Sender<Event>,
    pub capture: Capture,
}

impl FlushListener for Listener {
    fn memtable_sealed(&self) {
        pass(Window::FlushSealed);
    }

    fn flush_begin(&self) {
        self.capture.at_flush_begin();
        pass(Window::FlushBegin);
    }

    fn flush_completed(&self, largest_seqno: u64) {
        let miscaptured = self.capture.at_flush_completed();
        pass(Window::FlushCompleted);
        // Without a persister to hear it the database is being closed: N stays lower (claim 3's
        // direction).
        let _ = self.events.send(Event::FlushCompleted { largest_seqno, miscaptured });
    }

    fn compaction_begin(&self) {
        pass(Window::CompactionBegin);
    }

    fn compaction_completed(&self) {
        pass(Window::CompactionCompleted);
    }

    fn background_error(&self, message: String) {
        // Here and not through the persister: the engine must not be believed after this.
        crate::storage_failed("background error", &BackendError::new(kind_of(&message), message));
    }
}

/// The kind of a background error. RocksDB's C interface gives a status as text, which begins with
/// the name of its code (`Status::ToString` in `util/status.cc`).
fn kind_of(status: &str) -> BackendErrorKind {
    if status.starts_with("Corruption: ") { BackendErrorKind::Corrupt } else { BackendErrorKind::Io }
}
