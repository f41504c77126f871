//! Reading the log: from memory where it can, from disk below that, and never a mixture of two
//! histories.

use super::LogStore;
use super::shared::Shared;
use crate::types::{RawEntry, RawVote, TypeConfig};
use openraft::RaftLogReader;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};

/// One message to a follower carries at most about this much, far below the transport's limit.
const MESSAGE_BYTES_MAX: usize = 4 << 20;

impl Shared {
    /// The entries of `first..end` that the log holds, in order and without a hole, until together
    /// they exceed `bytes_max`.
    pub fn read(&self, first: u64, end: u64, bytes_max: usize) -> io::Result<Vec<RawEntry>> {
        loop {
            let (from, end, tail_first, truncations, in_memory) = {
                let state = self.lock();
                let from = first.max(state.purge_target.map_or(0, |id| id.index + 1));
                let end = end.min(state.last.map_or(0, |id| id.index + 1));
                let tail_first = state.tail.first();
                let in_memory = state.tail.read(from.max(tail_first), end, bytes_max);
                (from, end, tail_first, state.truncations, in_memory)
            };
            if from >= end || from >= tail_first {
                return Ok(in_memory);
            }
            let mut entries = self.disk.read(from, end.min(tail_first), bytes_max)?;
            let (purged, truncated) = {
                let state = self.lock();
                (state.purge_target.map_or(0, |id| id.index + 1), state.truncations != truncations)
            };
            // Entries may have been replaced between the two looks, or purged: look again.
            if truncated || purged > from {
                continue;
            }
            if entries.last().is_none_or(|last| last.log_id.index + 1 == tail_first) {
                entries.extend(in_memory);
            }
            check_holes(from, &entries)?;
            return Ok(entries);
        }
    }
}

/// A log that never held index 0 starts wherever it starts; anything else must be where it belongs.
fn check_holes(from: u64, entries: &[RawEntry]) -> io::Result<()> {
    let first = entries.first().map_or(from, |entry| entry.log_id.index);
    match (first..).zip(entries).find(|(expected, entry)| *expected != entry.log_id.index) {
        None => Ok(()),
        Some((expected, entry)) => {
            let found = entry.log_id.index;
            Err(io::Error::other(format!("the raft log has a hole: expected index {expected}, found {found}")))
        }
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> io::Result<Vec<RawEntry>>
    where
        RB: RangeBounds<u64> + Clone + Debug + Send,
    {
        let (first, end) = bounds(&range);
        self.inner.shared.read(first, end, usize::MAX)
    }

    async fn read_vote(&mut self) -> io::Result<Option<RawVote>> {
        Ok(self.inner.shared.lock().vote)
    }

    async fn limited_get_log_entries(&mut self, first: u64, end: u64) -> io::Result<Vec<RawEntry>> {
        self.inner.shared.read(first, end, MESSAGE_BYTES_MAX)
    }
}

/// As first index and end, exclusive.
fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let first = match range.start_bound() {
        Bound::Included(first) => *first,
        Bound::Excluded(before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(last) => last.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    (first, end)
}
