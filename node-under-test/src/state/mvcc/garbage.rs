//! Versions that a compaction may drop, and from which compact revision on.
//!
//! Only the writer keeps this; readers see the index, in which garbage stays until a step of a
//! compaction takes it. A superseded version may go once its successor is ≤ C. A tombstone at
//! revision t may go only from C = t + 1 on, although the state hash drops it at C = t already: a
//! watch may start *at* the compact revision, and would otherwise miss the delete.

use super::row::RowKey;
use bytes::Bytes;
use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub struct Garbage {
    /// By the smallest compact revision from which on they may go.
    due: BTreeMap<i64, Vec<(Bytes, RowKey)>>,
}

impl Garbage {
    pub fn add(&mut self, due_from: i64, key: Bytes, row: RowKey) {
        self.due.entry(due_from).or_default().push((key, row));
    }

    pub fn is_due(&self, compact: i64) -> bool {
        self.due.first_key_value().is_some_and(|(due_from, _)| *due_from <= compact)
    }

    /// Takes at most `max` versions that a compaction at `compact` may drop; of each key the oldest
    /// come first.
    pub fn take(&mut self, compact: i64, max: usize) -> Vec<(Bytes, RowKey)> {
        let mut taken = Vec::new();
        while let Some(mut first) = self.due.first_entry().filter(|first| *first.key() <= compact) {
            let rows = first.get_mut();
            // One revision holds a key once at most, so that within it any order will do.
            let left = rows.len().saturating_sub(max - taken.len());
            taken.extend(rows.drain(left..));
            if left > 0 {
                break;
            }
            first.remove();
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::super::row::{Kind, Revision};
    use super::*;

    #[test]
    fn garbage_is_taken_in_steps_and_never_too_early() {
        let mut garbage = Garbage::default();
        for sub in 0..5 {
            garbage.add(3, Bytes::from("k"), RowKey { revision: Revision { main: 2, sub }, kind: Kind::Put });
        }
        garbage.add(4, Bytes::from("k"), RowKey { revision: Revision { main: 3, sub: 0 }, kind: Kind::Put });
        assert!(!garbage.is_due(2) && garbage.take(2, 9).is_empty());
        let steps: Vec<_> = std::iter::repeat_with(|| garbage.take(3, 2).len()).take(4).collect();
        assert_eq!(steps, [2, 2, 1, 0]);
        assert!(garbage.is_due(4));
        assert_eq!(garbage.take(9, 2).len(), 1);
        assert!(!garbage.is_due(i64::MAX));
    }
}
