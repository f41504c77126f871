//! Progress of each stage of one member, as one value with one invariant.
//!
//! ```text
//!   raft log   … ───────────────────────────────────────────────► index
//!                 persisted N    flushed     applied     committed
//!                     │             │           │            │
//!   engine     ═══════╪═════════════╪-----------┤
//!              SSTs   │  SSTs       │ memtable  │
//!              N on   │  N not yet  │ (lost by  │
//!              disk   │  persisted  │  a kill)  │
//! ```
//!
//! Within one life of a process: `persisted N ≤ flushed ≤ applied ≤ committed`, checked at every
//! move; a move that breaks it ends the process with exit code 65. Across lives only N ≤ E holds
//! (E: what the engine proves when it is opened), because `committed` restarts from what the log
//! and the engine prove.

use crate::{LogId, invariant_broken};
use tokio::sync::watch;

/// One reading of all four watermarks. `None`: nothing yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Marks {
    /// N: `last-flushed-index` on disk says so, and the file, its rename and its directory are
    /// synced.
    pub persisted: Option<LogId>,
    /// The SSTs hold every entry up to here.
    pub flushed: Option<LogId>,
    /// The engine (memtable included) holds every entry up to here.
    pub applied: Option<LogId>,
    /// Raft has declared every entry up to here committed.
    pub committed: Option<u64>,
}

impl Marks {
    /// The broken half of the invariant, as a sentence.
    fn broken(&self) -> Option<String> {
        let index = |id: Option<LogId>| id.map(|id| id.index);
        let steps = [
            ("persisted", index(self.persisted)),
            ("flushed", index(self.flushed)),
            ("applied", index(self.applied)),
            ("committed", self.committed),
        ];
        steps.windows(2).find(|pair| pair[0].1 > pair[1].1).map(|pair| {
            format!("{} must be ≤ {}, found {:?} > {:?} in {self:?}", pair[0].0, pair[1].0, pair[0].1, pair[1].1)
        })
    }
}

/// The process's watermarks. Each only grows; each has one writer. Waiters are woken by events.
pub struct Watermarks {
    marks: watch::Sender<Marks>,
    /// `marks.persisted` by itself.
    persisted: watch::Sender<Option<LogId>>,
}

impl Watermarks {
    /// The marks at start: N from its file, E from the engine (flushed and applied), and what
    /// raft's log had saved as committed, which may lag E.
    pub fn at_start(persisted: Option<LogId>, engine: Option<LogId>, saved_committed: Option<u64>) -> Self {
        let marks = Marks {
            persisted,
            flushed: engine,
            applied: engine,
            committed: saved_committed.max(engine.map(|id| id.index)),
        };
        if let Some(sentence) = marks.broken() {
            invariant_broken(&sentence);
        }
        Self { marks: watch::Sender::new(marks), persisted: watch::Sender::new(persisted) }
    }

    pub fn now(&self) -> Marks {
        *self.marks.borrow()
    }

    /// A receiver that is woken at every move: several times for each entry.
    pub fn subscribe(&self) -> watch::Receiver<Marks> {
        self.marks.subscribe()
    }

    /// A receiver that is woken when N moves, and by no other mark.
    pub fn subscribe_persisted(&self) -> watch::Receiver<Option<LogId>> {
        self.persisted.subscribe()
    }

    pub fn persisted(&self, id: LogId) {
        self.advance(|marks| &mut marks.persisted, id);
        self.publish_persisted();
    }

    fn publish_persisted(&self) {
        // Read under the channel's own lock, so that of two movers the later one's N stays.
        self.persisted.send_if_modified(|known| {
            let persisted = self.now().persisted;
            std::mem::replace(known, persisted) != persisted
        });
    }

    pub fn flushed(&self, id: LogId) {
        self.advance(|marks| &mut marks.flushed, id);
    }

    pub fn applied(&self, id: LogId) {
        self.advance(|marks| &mut marks.applied, id);
    }

    pub fn committed(&self, index: u64) {
        self.change(|marks| {
            let moved = marks.committed < Some(index);
            marks.committed = marks.committed.max(Some(index));
            moved
        });
    }

    /// A snapshot at `id` was installed: every mark is at least there, moved together.
    pub fn installed(&self, id: LogId) {
        self.change(|marks| {
            for mark in [&mut marks.persisted, &mut marks.flushed, &mut marks.applied] {
                *mark = (*mark).max(Some(id));
            }
            marks.committed = marks.committed.max(Some(id.index));
            true
        });
        self.publish_persisted();
    }

    fn advance(&self, mark: impl FnOnce(&mut Marks) -> &mut Option<LogId>, id: LogId) {
        self.change(|marks| {
            let mark = mark(marks);
            let moved = mark.is_none_or(|old| old.index < id.index);
            if moved {
                *mark = Some(id);
            }
            moved
        });
    }

    fn change(&self, change: impl FnOnce(&mut Marks) -> bool) {
        let mut broken = None;
        self.marks.send_if_modified(|marks| {
            let moved = change(marks);
            broken = marks.broken();
            moved
        });
        if let Some(sentence) = broken {
            invariant_broken(&sentence);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn committed_starts_at_least_at_what_the_engine_proves() {
        let marks = Watermarks::at_start(Some(LogId::new(1, 3)), Some(LogId::new(1, 9)), Some(5));
        assert_eq!(marks.now().committed, Some(9));
    }

    #[test]
    fn marks_never_go_back() {
        let marks = Watermarks::at_start(None, Some(LogId::new(1, 9)), None);
        marks.flushed(LogId::new(1, 4));
        assert_eq!(marks.now().flushed, Some(LogId::new(1, 9)));
    }

    #[test]
    fn who_follows_n_is_woken_by_n_alone() {
        let marks = Watermarks::at_start(None, Some(LogId::new(1, 4)), Some(9));
        let mut follower = marks.subscribe_persisted();
        marks.applied(LogId::new(1, 6));
        marks.flushed(LogId::new(1, 6));
        marks.committed(12);
        assert!(!follower.has_changed().unwrap());
        marks.persisted(LogId::new(1, 5));
        assert!(follower.has_changed().unwrap());
        assert_eq!(*follower.borrow_and_update(), Some(LogId::new(1, 5)));
        marks.installed(LogId::new(2, 30));
        assert_eq!(*follower.borrow_and_update(), Some(LogId::new(2, 30)));
    }

    #[test]
    fn a_broken_order_is_named() {
        let marks = Marks { persisted: Some(LogId::new(1, 5)), flushed: Some(LogId::new(1, 4)), ..Marks::default() };
        assert!(marks.broken().unwrap().starts_with("persisted must be ≤ flushed"));
        let marks = Marks { applied: Some(LogId::new(1, 5)), committed: Some(4), ..Marks::default() };
        assert!(marks.broken().unwrap().starts_with("applied must be ≤ committed"));
    }
}
