//! LogIds by the engine's sequence numbers, for batches that no flush has proven yet.

use node_base::{LogId, invariant_broken};
use std::collections::VecDeque;

/// Records in ascending order of sequence number. Bounded by claim 10: a flush is asked for when
/// [`entries`](Self::entries) or [`bytes`](Self::bytes) pass their limits, and a flush drops what
/// it proves.
#[derive(Debug, Default)]
pub struct Ring {
    records: VecDeque<Record>,
    bytes: u64,
}

#[derive(Debug)]
struct Record {
    /// The engine's latest sequence number after the batch was written.
    seqno: u64,
    id: LogId,
    batch_bytes: u64,
}

impl Ring {
    /// Records that the batch of `id` ends at `seqno`. Called by the single writer, *after* the
    /// write (claim 3).
    pub fn record(&mut self, seqno: u64, id: LogId, batch_bytes: u64) {
        if let Some(last) = self.records.back()
            && (last.seqno >= seqno || last.id.index >= id.index)
        {
            invariant_broken(&format!(
                "batches must come in log order from one writer, found {id} at sequence number {seqno} after {last:?}"
            ));
        }
        self.records.push_back(Record { seqno, id, batch_bytes });
        self.bytes += batch_bytes;
    }

    /// Planted bug `noop-does-not-advance`: nothing was written for `id`, and it counts as flushed
    /// with what was written before it.
    pub fn record_unwritten(&mut self, seqno: u64, id: LogId) {
        match self.records.back_mut().filter(|last| last.seqno >= seqno) {
            Some(last) => last.id = id,
            None => self.records.push_back(Record { seqno, id, batch_bytes: 0 }),
        }
    }

    /// The greatest LogId whose batch a flush up to `largest_seqno` contains; drops it and all
    /// before it. `None` if an earlier call has taken them all, or the flush ends inside the first
    /// batch.
    pub fn take_flushed(&mut self, largest_seqno: u64) -> Option<LogId> {
        let mut flushed = None;
        while let Some(record) = self.records.pop_front_if(|record| record.seqno <= largest_seqno) {
            self.bytes -= record.batch_bytes;
            flushed = Some(record.id);
        }
        flushed
    }

    /// Entries applied and not flushed.
    pub fn entries(&self) -> u64 {
        self.records.len() as u64
    }

    /// Their batches' bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(index: u64) -> LogId {
        LogId::new(1, index)
    }

    #[test]
    fn claim_2_a_flush_between_two_batches_selects_the_earlier() {
        let mut ring = Ring::default();
        ring.record(3, id(10), 1);
        ring.record(7, id(11), 1);
        assert_eq!(ring.take_flushed(6), Some(id(10)), "sequence numbers 4 to 6 are part of a batch that ends at 7");
        assert_eq!(ring.take_flushed(7), Some(id(11)));
    }

    #[test]
    fn claim_3_a_flush_beyond_the_last_record_selects_the_last_record() {
        let mut ring = Ring::default();
        ring.record(3, id(10), 1);
        // The batch of entry 11 is written (up to 7) and flushed, its record has not arrived.
        assert_eq!(ring.take_flushed(7), Some(id(10)));
        ring.record(7, id(11), 1);
        assert_eq!(ring.take_flushed(9), Some(id(11)));
    }

    proptest! {
        /// Claims 2 and 4 against a model: after any completions in any order, the maximum returned
        /// is the greatest entry that ends at or below the greatest completion.
        #[test]
        fn claim_4_the_maximum_is_right_in_any_order(
            steps in prop::collection::vec(1u64..5, 1..60),
            flushes in prop::collection::vec(0u64..200, 0..20),
        ) {
            let mut ring = Ring::default();
            let mut ends = Vec::new();
            for (index, step) in steps.iter().enumerate() {
                let seqno = ends.last().copied().unwrap_or(0) + step;
                ring.record(seqno, id(index as u64), *step);
                ends.push(seqno);
            }
            let flushed = flushes.iter().filter_map(|largest| ring.take_flushed(*largest)).map(|id| id.index).max();
            let largest = flushes.iter().copied().max().unwrap_or(0);
            let model = ends.iter().rposition(|end| *end <= largest).map(|index| index as u64);
            prop_assert_eq!(flushed, model);
            let left: u64 = steps.iter().skip(model.map_or(0, |index| index as usize + 1)).sum();
            prop_assert_eq!(ring.bytes(), left);
        }
    }
}
