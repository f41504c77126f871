//! Planted bugs: the wrong answers to "which index goes with this flush". In a build without the
//! feature `sabotage` every function here is empty.
//!
//! Expected class, in dead data, for the first three: index-ahead-of-engine (N > E). With
//! `open-check-missing` the restart goes on from N+1 all the same, the entries in (E, N] are lost,
//! and the class is state-hash.

use crate::durability::Progress;
use crate::last_flushed_index;
use node_base::LogId;
use node_base::sabotage::{Bug, planted};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

pub(super) struct Capture {
    pub progress: Arc<Progress>,
    pub index_path: PathBuf,
    /// "Applied", as an OnFlushBegin saw it, until its flush completes.
    pub at_begin: Mutex<Option<LogId>>,
}

impl Capture {
    pub fn at_flush_begin(&self) {
        if planted(Bug::CaptureAtFlushBegin) || planted(Bug::OpenCheckMissing) {
            // The memtables of this flush were sealed before; the next one takes writes already.
            *crate::lock(&self.at_begin) = self.progress.proven();
        }
        if planted(Bug::PersistBeforeFlush)
            && let Some(id) = self.progress.proven()
        {
            // Here, not by way of the persister: N is on disk before this flush writes its first
            // byte. A failure leaves N low, which is harmless, so it is ignored here.
            let path = self.index_path.with_extension("early");
            let early = last_flushed_index::read(&self.index_path);
            if early.is_ok_and(|n| n < Some(id.index))
                && std::fs::write(&path, last_flushed_index::encode(id.index)).is_ok()
            {
                let _ = std::fs::rename(path, &self.index_path);
                node_base::failpoint::pass(node_base::failpoint::Window::IndexPersisted);
            }
        }
    }

    pub fn at_flush_completed(&self) -> Option<LogId> {
        if planted(Bug::CaptureAtFlushBegin) || planted(Bug::OpenCheckMissing) {
            return crate::lock(&self.at_begin).take();
        }
        // By now the writer is well into the next memtable.
        if planted(Bug::CaptureAtFlushEnd) { self.progress.proven() } else { None }
    }
}
