//! The one thread that writes the log: it takes everything that waits, commits it with one fsync,
//! and only then reports it.
//!
//! Purging happens in small transactions between the groups, so that a vote or an append never
//! waits for a long one. Any error ends the log: all waiters hear it, the thread ends, and nothing
//! is tried again.

use super::disk::Changes;
use super::disk_without_sync;
use super::shared::{Op, Shared};
use crate::clock;
use node_base::LogId;
use node_base::failpoint::{Window, pass};
use node_base::sabotage::{Bug, planted};
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// Entries per purging transaction: about a millisecond of work.
const PURGE_CHUNK: u64 = 512;

/// Time for which the planted bug `leader-restore` holds up a leader's fsync.
const PLANTED_STALL: Duration = Duration::from_millis(40);

pub(super) fn spawn(shared: Arc<Shared>) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("raft-log".to_owned()).spawn(move || {
        let last_on_disk = shared.lock().last.map(|id| id.index);
        let mut writer = Writer { shared, last_on_disk, purging: false };
        let end = writer.run().err().unwrap_or_else(|| io::Error::other("the raft log is closed"));
        writer.end(&end);
    })
}

struct Writer {
    shared: Arc<Shared>,
    last_on_disk: Option<u64>,
    /// In the middle of a purge: at least one of its transactions is done, and at least one is not.
    purging: bool,
}

/// Everything that waited, in order, and the commit position to save along with it.
struct Group {
    ops: Vec<Op>,
    committed: Option<LogId>,
    leading: bool,
}

impl Writer {
    fn run(&mut self) -> io::Result<()> {
        while let Some(group) = self.next_group() {
            // A snapshot may have moved the log's start beyond its end: what follows must not leave
            // a hole behind.
            while self.purge_is_ahead() {
                self.purge_chunk()?;
            }
            if !group.ops.is_empty() || group.committed.is_some() {
                self.commit(group)?;
            }
            if self.shared.lock().purge_is_due() {
                self.purge_chunk()?;
            }
            self.answer_purge_waiters();
        }
        Ok(())
    }

    /// Waits for work. `None`: asked to stop, and nothing waits.
    fn next_group(&self) -> Option<Group> {
        let ready = |state: &super::shared::State| {
            state.stopping || !state.queue.is_empty() || state.purge_is_due() || !state.purge_waiters.is_empty()
        };
        let mut state = self.shared.wait_until(ready);
        let ops: Vec<_> = state.queue.drain(..).collect();
        // The commit position never costs an fsync of its own, except for the last one.
        let save = state.committed_unsaved && (state.stopping || !ops.is_empty());
        if state.stopping && ops.is_empty() && !save {
            return None;
        }
        let committed = state.committed.filter(|_| save);
        state.committed_unsaved &= !save;
        Some(Group { ops, committed, leading: state.leads() })
    }

    fn commit(&mut self, group: Group) -> io::Result<()> {
        let appends = group.ops.iter().any(|op| matches!(op, Op::Append { .. }));
        let votes = group.ops.iter().any(|op| matches!(op, Op::SaveVote { .. }));
        pass_if(votes, Window::VoteSave);
        pass_if(appends, Window::RaftAppend);
        let mut last = self.last_on_disk;
        let purged = self.shared.lock().purged_on_disk.map(|id| id.index);
        let written = self.shared.disk.transact(
            |changes| {
                group.ops.iter().try_for_each(|op| write(changes, op, purged, &mut last))?;
                group.committed.map_or(Ok(()), |id| changes.save_committed(id))
            },
            || {
                pass_if(appends, Window::RaftFsync);
                disk_without_sync::next_holds(planted(Bug::VoteNotPersisted) && votes && !appends);
                if planted(Bug::LeaderRestore) && group.leading && appends {
                    clock::stall(PLANTED_STALL);
                }
            },
        );
        disk_without_sync::next_holds(false);
        if let Err(error) = written {
            group.ops.into_iter().for_each(|op| answer(op, Err(copy(&error))));
            return Err(error);
        }
        self.last_on_disk = last;
        pass_if(appends, Window::RaftSynced);
        pass_if(votes, Window::VoteSaved);
        pass_if(group.committed.is_some(), Window::RaftCommitted);
        if appends {
            self.shared.written(last);
        }
        for op in &group.ops {
            match op {
                Op::Meet { member, .. } => self.shared.met_durably(*member),
                Op::Join { .. } => self.shared.joined_durably(),
                Op::Append { .. } | Op::SaveVote { .. } | Op::Truncate { .. } => {}
            }
        }
        group.ops.into_iter().for_each(|op| answer(op, Ok(())));
        Ok(())
    }

    fn purge_is_ahead(&self) -> bool {
        let state = self.shared.lock();
        state.purge_is_due() && state.purge_target.map(|id| id.index) >= self.last_on_disk
    }

    /// One small transaction. Every purge of two entries or more takes at least two.
    fn purge_chunk(&mut self) -> io::Result<()> {
        let (from, target) = {
            let state = self.shared.lock();
            let Some(target) = state.purge_target else { return Ok(()) };
            (state.purged_on_disk.map_or(0, |id| id.index + 1), target)
        };
        let end = self.last_on_disk.unwrap_or(0).min(target.index);
        let left = (end + 1).saturating_sub(from);
        let upto = match left {
            0..=1 => target,
            _ => self.chunk_end(from, from + left.div_ceil(2).min(PURGE_CHUNK) - 1, target)?,
        };
        pass_if(!self.purging, Window::PurgeBefore);
        self.shared.disk.transact(|changes| changes.purge(upto), || {})?;
        self.last_on_disk = self.last_on_disk.max(Some(upto.index));
        self.shared.lock().purged_on_disk = Some(upto);
        self.purging = upto != target;
        pass(if self.purging { Window::PurgeBetween } else { Window::PurgeDone });
        Ok(())
    }

    /// The LogId at `index`, or of the first entry after it when the log starts later.
    fn chunk_end(&self, from: u64, index: u64, target: LogId) -> io::Result<LogId> {
        let found = self.shared.disk.read(index.max(from), target.index + 1, 0)?;
        Ok(found.first().map_or(target, crate::types::entry_log_id))
    }

    fn answer_purge_waiters(&self) {
        let mut state = self.shared.lock();
        let purged = state.purged_on_disk.map(|id| id.index);
        for (_, done) in state.purge_waiters.extract_if(.., |(index, _)| Some(*index) <= purged) {
            let _ = done.send(Ok(()));
        }
    }

    /// Nothing is written from here on; all waiters hear it.
    fn end(&self, error: &io::Error) {
        self.shared.failed.send_replace(Some(error.to_string()));
        let mut state = self.shared.lock();
        state.queue.drain(..).for_each(|op| answer(op, Err(copy(error))));
        for (_, done) in state.purge_waiters.drain(..) {
            let _ = done.send(Err(copy(error)));
        }
    }
}

fn pass_if(condition: bool, window: Window) {
    if condition {
        pass(window);
    }
}

/// An append may have waited while a snapshot purged the log beyond it: what the purge covers is
/// not written, or the log would end before it begins.
fn write(changes: &mut Changes<'_>, op: &Op, purged: Option<u64>, last: &mut Option<u64>) -> io::Result<()> {
    match op {
        Op::Append { entries, .. } => {
            *last = (*last).max(entries.last().map(|entry| entry.log_id.index));
            let kept = entries.iter().filter(|entry| Some(entry.log_id.index) > purged);
            kept.into_iter().try_for_each(|entry| changes.append(entry))
        }
        Op::SaveVote { vote, .. } => changes.save_vote(vote),
        Op::Truncate { from, .. } => {
            *last = (*last).min(from.checked_sub(1));
            changes.truncate(*from)
        }
        Op::Join { cluster, .. } => changes.save_cluster(*cluster),
        Op::Meet { member, incarnation, .. } => changes.save_met(*member, *incarnation),
    }
}

/// The receiver is gone only when raft is shutting down.
fn answer(op: Op, result: io::Result<()>) {
    match op {
        Op::Append { done, .. } => done.io_completed(result),
        Op::SaveVote { done, .. } | Op::Truncate { done, .. } | Op::Join { done, .. } | Op::Meet { done, .. } => {
            let _ = done.send(result);
        }
    }
}

fn copy(error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), error.to_string())
}
