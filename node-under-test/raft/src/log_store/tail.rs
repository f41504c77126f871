//! The end of the log in memory: what is not written yet, and what replication and apply are about
//! to read.

use crate::types::{RawEntry, RawPayload};
use std::collections::VecDeque;

/// Kept at most, once durable. Entries that are not durable are kept whatever they weigh.
const BYTES_MAX: usize = 16 << 20;
const ENTRIES_MAX: usize = 16_384;
/// Charged for an entry beside its command.
const OVERHEAD_BYTES: usize = 64;

/// Consecutive entries from `first` on. An index below `first` is on disk, or purged.
#[derive(Debug, Default)]
pub(super) struct Tail {
    first: u64,
    entries: VecDeque<RawEntry>,
    bytes: usize,
}

/// Bytes that an entry counts for in every limit of this crate.
pub(super) fn weight_bytes(entry: &RawEntry) -> usize {
    match &entry.payload {
        RawPayload::Normal(command) => command.0.len() + OVERHEAD_BYTES,
        RawPayload::Blank | RawPayload::Membership(_) => OVERHEAD_BYTES,
    }
}

impl Tail {
    /// Nothing in memory; the next entry has index `first`.
    pub fn starting_at(first: u64) -> Self {
        Self { first, ..Self::default() }
    }

    pub fn first(&self) -> u64 {
        self.first
    }

    /// The caller has checked that `entry` follows what is there; into an empty tail any index
    /// goes.
    pub fn push(&mut self, entry: RawEntry) {
        if self.entries.is_empty() {
            self.first = entry.log_id.index;
        }
        self.bytes += weight_bytes(&entry);
        self.entries.push_back(entry);
    }

    /// Removes the entries from `from` on.
    pub fn truncate(&mut self, from: u64) {
        while self.entries.back().is_some_and(|entry| entry.log_id.index >= from) {
            self.bytes -= self.entries.pop_back().as_ref().map_or(0, weight_bytes);
        }
        if self.entries.is_empty() {
            self.first = self.first.min(from);
        }
    }

    /// Forgets the entries up to `upto`: they are purged.
    pub fn purge(&mut self, upto: u64) {
        while self.entries.front().is_some_and(|entry| entry.log_id.index <= upto) {
            self.pop_front();
        }
        self.first = self.first.max(upto + 1);
    }

    /// Forgets the oldest entries, down to the limits, but none that is not durable.
    pub fn evict(&mut self, durable: Option<u64>) {
        while (self.bytes > BYTES_MAX || self.entries.len() > ENTRIES_MAX)
            && self.entries.front().is_some_and(|entry| Some(entry.log_id.index) <= durable)
        {
            self.pop_front();
        }
    }

    pub fn get(&self, index: u64) -> Option<&RawEntry> {
        self.entries.get(usize::try_from(index.checked_sub(self.first)?).ok()?)
    }

    /// The entries of `from..end`, `from ≥ first`, until together they exceed `bytes_max`.
    pub fn read(&self, from: u64, end: u64, bytes_max: usize) -> Vec<RawEntry> {
        let mut out = Vec::new();
        let mut bytes = 0;
        for entry in (from..end).map_while(|index| self.get(index)) {
            out.push(entry.clone());
            bytes += weight_bytes(entry);
            if bytes > bytes_max {
                break;
            }
        }
        out
    }

    fn pop_front(&mut self) {
        if let Some(entry) = self.entries.pop_front() {
            self.bytes -= weight_bytes(&entry);
            self.first = entry.log_id.index + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Blob, raw_log_id};
    use node_base::LogId;

    fn entry(index: u64, bytes: usize) -> RawEntry {
        RawEntry { log_id: raw_log_id(LogId::new(1, index)), payload: RawPayload::Normal(Blob(vec![0; bytes].into())) }
    }

    fn indexes(entries: &[RawEntry]) -> Vec<u64> {
        entries.iter().map(|entry| entry.log_id.index).collect()
    }

    #[test]
    fn what_is_not_durable_is_never_evicted() {
        let mut tail = Tail::starting_at(0);
        for index in 0..40 {
            tail.push(entry(index, 1 << 20));
        }
        tail.evict(Some(3));
        assert_eq!(tail.first(), 4);
        tail.evict(Some(39));
        assert!(tail.first() > 20 && tail.get(39).is_some());
    }

    #[test]
    fn truncation_and_purge_move_the_ends() {
        let mut tail = Tail::starting_at(5);
        (5..10).for_each(|index| tail.push(entry(index, 1)));
        tail.truncate(8);
        tail.purge(5);
        assert_eq!(indexes(&tail.read(6, 99, usize::MAX)), [6, 7]);
        tail.truncate(2);
        assert_eq!(tail.first(), 2);
        tail.purge(20);
        assert_eq!(tail.first(), 21);
        assert_eq!(tail.bytes, 0);
    }

    #[test]
    fn a_limited_read_returns_at_least_one() {
        let mut tail = Tail::starting_at(0);
        (0..4).for_each(|index| tail.push(entry(index, 100)));
        assert_eq!(indexes(&tail.read(1, 4, 0)), [1]);
        assert_eq!(indexes(&tail.read(1, 4, 200)), [1, 2]);
    }
}
