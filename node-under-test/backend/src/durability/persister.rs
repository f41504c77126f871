//! The thread that turns completed flushes into N.
//!
//! Callbacks of the engine may neither block nor call the engine, so they send an [`Event`] and
//! return. The persister owns the [`IndexFile`], hence it is the only writer of N while it lives;
//! it takes what has queued up in one go, so a burst of flushes costs one replacement of the file.

use super::Ring;
use crate::last_flushed_index::IndexFile;
use crate::{lock, storage_failed};
use node_base::LogId;
use node_base::watermarks::Watermarks;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Arc, Mutex};

/// A message to the persister.
#[derive(Debug)]
pub enum Event {
    /// SST and MANIFEST of a flush up to this sequence number are durable.
    FlushCompleted {
        largest_seqno: u64,
        /// Planted bugs only: what a wrong capture took for the flush's index.
        miscaptured: Option<LogId>,
    },
    /// The SSTs hold everything up to here, shown by other means than an event; `done` hears when N
    /// does too.
    Proven { id: LogId, done: SyncSender<()> },
    /// Too much is applied and not flushed (claim 10).
    LagExceeded,
    /// The engine is closed, nothing will follow: the persister ends.
    Closed,
}

/// State that the writer, the callbacks and the persister share in the life of one open database.
#[derive(Debug, Default)]
pub struct Progress {
    pub ring: Mutex<Ring>,
    /// The last LogId that *this life* committed or verified against its log (claim 6).
    proven: Mutex<Option<LogId>>,
    /// A flush was asked for because of claim 10 and has not completed.
    lag_flush_asked: AtomicBool,
}

impl Progress {
    /// The last LogId that this life committed or verified.
    pub fn proven(&self) -> Option<LogId> {
        *lock(&self.proven)
    }

    pub fn prove(&self, id: LogId) {
        let mut proven = lock(&self.proven);
        *proven = later(*proven, Some(id));
    }

    /// True for one caller, which asks for the flush that claim 10 wants; false until that flush
    /// has completed.
    pub fn claim_lag_flush(&self) -> bool {
        !self.lag_flush_asked.swap(true, Ordering::AcqRel)
    }
}

fn later(a: Option<LogId>, b: Option<LogId>) -> Option<LogId> {
    if a.map(|id| id.index) >= b.map(|id| id.index) { a } else { b }
}

/// The persister's state; [`run`](Persister::run) is its life.
pub struct Persister {
    pub index: IndexFile,
    pub marks: Arc<Watermarks>,
    pub progress: Arc<Progress>,
    /// Asks the engine for a flush and does not wait for its end.
    pub start_flush: Box<dyn Fn() + Send>,
}

/// The sum of one round of events.
#[derive(Default)]
struct Round {
    flushed: Option<LogId>,
    miscaptured: Option<LogId>,
    waiting: Vec<SyncSender<()>>,
    flush_wanted: bool,
    closed: bool,
}

impl Persister {
    /// Serves events until [`Event::Closed`], then gives the index file back (claim 8).
    pub fn run(mut self, events: Receiver<Event>) -> IndexFile {
        while let Ok(first) = events.recv() {
            let mut round = Round::default();
            for event in std::iter::once(first).chain(events.try_iter()) {
                self.take(event, &mut round);
            }
            if let Err(error) = self.persist(&round) {
                storage_failed("writing last-flushed-index", &error);
            }
            for done in round.waiting {
                // A waiter that has gone no longer needs the answer.
                let _ = done.send(());
            }
            if round.closed {
                break;
            }
            if round.flush_wanted {
                (self.start_flush)();
            }
        }
        self.index
    }

    fn take(&self, event: Event, round: &mut Round) {
        match event {
            Event::FlushCompleted { largest_seqno, miscaptured } => {
                self.progress.lag_flush_asked.store(false, Ordering::Release);
                round.flushed = later(round.flushed, lock(&self.progress.ring).take_flushed(largest_seqno));
                round.miscaptured = later(round.miscaptured, miscaptured);
            }
            Event::Proven { id, done } => {
                round.flushed = later(round.flushed, Some(id));
                round.waiting.push(done);
            }
            Event::LagExceeded => round.flush_wanted = true,
            Event::Closed => round.closed = true,
        }
    }

    fn persist(&mut self, round: &Round) -> std::io::Result<()> {
        if let Some(wrong) = round.miscaptured {
            // Planted bugs: the wrong N goes to disk, the marks stay right. Their assertion would
            // stop this process at once, and the harness would learn nothing about its own eyes: it
            // must find index-ahead-of-engine in the dead data.
            self.index.advance(wrong.index)?;
        }
        let Some(flushed) = round.flushed else { return Ok(()) };
        self.marks.flushed(flushed);
        self.index.advance(flushed.index)?;
        self.marks.persisted(flushed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    struct Rig {
        _tmp: tempfile::TempDir,
        marks: Arc<Watermarks>,
        progress: Arc<Progress>,
        persister: Persister,
        flushes_started: Receiver<()>,
    }

    fn rig(applied: u64) -> Rig {
        let tmp = tempfile::tempdir().unwrap();
        let marks = Arc::new(Watermarks::at_start(None, None, Some(applied)));
        marks.applied(LogId::new(1, applied));
        let progress = Arc::new(Progress::default());
        for index in 0..=applied {
            lock(&progress.ring).record(10 * (index + 1), LogId::new(1, index), 100);
        }
        let (started, flushes_started) = mpsc::channel();
        let persister = Persister {
            index: IndexFile::open(tmp.path().join("last-flushed-index")).unwrap(),
            marks: marks.clone(),
            progress: progress.clone(),
            start_flush: Box::new(move || started.send(()).unwrap()),
        };
        Rig { _tmp: tmp, marks, progress, persister, flushes_started }
    }

    fn completed(largest_seqno: u64) -> Event {
        Event::FlushCompleted { largest_seqno, miscaptured: None }
    }

    #[test]
    fn claim_4_an_older_completion_that_arrives_later_does_not_move_n_back() {
        let rig = rig(9);
        let (send, events) = mpsc::channel();
        for event in [completed(80), completed(30), Event::Closed] {
            send.send(event).unwrap();
        }
        let index = rig.persister.run(events);
        assert_eq!(index.value(), Some(7));
        assert_eq!(rig.marks.now().persisted, Some(LogId::new(1, 7)));
        assert_eq!(lock(&rig.progress.ring).entries(), 2);
    }

    #[test]
    fn claim_7_a_waiter_hears_only_after_n_is_on_disk() {
        let rig = rig(9);
        let (send, events) = mpsc::channel();
        let (done, heard) = mpsc::sync_channel(1);
        send.send(Event::Proven { id: LogId::new(1, 5), done }).unwrap();
        let marks = rig.marks.clone();
        let persister = std::thread::spawn(move || rig.persister.run(events));
        heard.recv().unwrap();
        assert_eq!(marks.now().persisted, Some(LogId::new(1, 5)));
        send.send(Event::Closed).unwrap();
        assert_eq!(persister.join().unwrap().value(), Some(5));
    }

    #[test]
    fn claim_10_one_flush_is_asked_for_until_one_completes() {
        let rig = rig(9);
        assert!(rig.progress.claim_lag_flush());
        assert!(!rig.progress.claim_lag_flush());
        let (send, events) = mpsc::channel();
        send.send(Event::LagExceeded).unwrap();
        let progress = rig.progress.clone();
        let persister = std::thread::spawn(move || rig.persister.run(events));
        rig.flushes_started.recv().unwrap();
        send.send(completed(100)).unwrap();
        send.send(Event::Closed).unwrap();
        persister.join().unwrap();
        assert!(progress.claim_lag_flush());
    }
}
