//! A request's key range, as etcd writes it: `key` alone, `[key, range_end)`, or `key` and all that
//! follow.

use bytes::Bytes;
use std::ops::Bound;

/// `range_end` of one zero byte: no upper bound.
const FROM_KEY: &[u8] = &[0];

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interval {
    start: Bytes,
    end: End,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    Single,
    Unbounded,
    Before(Bytes),
}

impl Interval {
    pub fn new(key: &Bytes, range_end: &Bytes) -> Self {
        let end = match range_end.as_ref() {
            [] => End::Single,
            FROM_KEY => End::Unbounded,
            _ => End::Before(range_end.clone()),
        };
        Self { start: key.clone(), end }
    }

    pub fn is_empty(&self) -> bool {
        matches!(&self.end, End::Before(end) if *end <= self.start)
    }

    /// Its first key, and the first one behind it (`None`: there is none); not for an interval that
    /// is empty.
    pub fn half_open(self) -> (Bytes, Option<Bytes>) {
        let end = match self.end {
            // No key lies between a key and itself with a zero behind.
            End::Single => Some([self.start.as_ref(), &[0]].concat().into()),
            End::Unbounded => None,
            End::Before(end) => Some(end),
        };
        (self.start, end)
    }

    pub fn is_single(&self) -> bool {
        matches!(self.end, End::Single)
    }

    pub fn contains(&self, key: &[u8]) -> bool {
        match &self.end {
            End::Single => self.start == key,
            End::Unbounded => self.start <= key,
            End::Before(end) => self.start <= key && key < end.as_ref(),
        }
    }

    /// Bounds for a sorted map; only for an interval that is not empty (an inverted pair panics
    /// there).
    pub fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        let start = Bound::Included(self.start.as_ref());
        match &self.end {
            End::Single => (start, Bound::Included(self.start.as_ref())),
            End::Unbounded => (start, Bound::Unbounded),
            End::Before(end) => (start, Bound::Excluded(end.as_ref())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn bounds_and_contains_agree(
            keys in proptest::collection::btree_set(proptest::collection::vec(0u8..4, 1..4), 0..20),
            key in proptest::collection::vec(0u8..4, 1..4),
            end in proptest::collection::vec(0u8..4, 0..4),
        ) {
            let interval = Interval::new(&key.into(), &end.into());
            let by_contains: Vec<_> = keys.iter().filter(|key| interval.contains(key)).cloned().collect();
            let keys: BTreeSet<Bytes> = keys.into_iter().map(Bytes::from).collect();
            let by_bounds: Vec<_> = if interval.is_empty() {
                Vec::new()
            } else {
                keys.range::<[u8], _>(interval.bounds()).map(|key| key.to_vec()).collect()
            };
            prop_assert_eq!(by_contains, by_bounds);
        }
    }
}
