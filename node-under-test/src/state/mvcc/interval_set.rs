//! A set of keys as the intervals that it is made of, disjoint and apart.

use super::interval::Interval;
use super::key::Key;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

#[derive(Debug, Default, Clone)]
pub struct IntervalSet {
    /// First key → the first key behind the interval; `None`: it has no end.
    intervals: BTreeMap<Key, Option<Key>>,
}

impl IntervalSet {
    pub fn len(&self) -> usize {
        self.intervals.len()
    }

    pub fn insert(&mut self, interval: Interval) {
        if !interval.is_empty() {
            let (start, end) = interval.half_open();
            self.add(start.into(), end.map(Key::from));
        }
    }

    pub fn absorb(&mut self, other: Self) {
        other.intervals.into_iter().for_each(|(start, end)| self.add(start, end));
    }

    fn add(&mut self, mut start: Key, mut end: Option<Key>) {
        if let Some((before, _)) = self.at_or_before(&start).filter(|(_, end)| reaches(end, &start)) {
            start = before.clone();
        }
        // Everything from here on that begins before the new end, or at it, becomes one interval
        // with it.
        while let Some((next, _)) = self.intervals.range(start.clone()..).next().filter(|(next, _)| reaches(&end, next))
        {
            let next = next.clone();
            let reached = self.intervals.remove(&next).flatten();
            end = end.zip(reached).map(|(end, reached)| end.max(reached));
        }
        self.intervals.insert(start, end);
    }

    fn at_or_before(&self, key: &Key) -> Option<(&Key, &Option<Key>)> {
        self.intervals.range((Bound::Unbounded, Bound::Included(key))).next_back()
    }

    pub fn contains(&self, key: &Key) -> bool {
        let is_before = |end: &Option<Key>| end.as_ref().is_none_or(|end| key < end);
        self.at_or_before(key).is_some_and(|(_, end)| is_before(end))
    }

    /// True if any of `keys` lies in the set: a look-up for each interval, however many keys there
    /// are.
    pub fn meets(&self, keys: &BTreeSet<Key>) -> bool {
        self.intervals.iter().any(|(start, end)| {
            let end = end.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
            keys.range((Bound::Included(start), end)).next().is_some()
        })
    }
}

/// True if an interval that ends before `end` goes up to `key` at least.
fn reaches(end: &Option<Key>, key: &Key) -> bool {
    end.as_ref().is_none_or(|end| end >= key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(0u8..4, 0..4)
    }

    proptest! {
        #[test]
        fn it_holds_what_any_of_its_intervals_holds(
            all in proptest::collection::vec((bytes(), bytes(), any::<bool>()), 0..20),
            keys in proptest::collection::vec(bytes(), 1..20),
        ) {
            let (mut one, mut other, mut intervals) = (IntervalSet::default(), IntervalSet::default(), Vec::new());
            for (start, end, here) in all {
                let interval = Interval::new(&start.into(), &end.into());
                intervals.push(interval.clone());
                if here { one.insert(interval) } else { other.insert(interval) }
            }
            one.absorb(other);
            for key in &keys {
                let expected = intervals.iter().any(|interval| interval.contains(key));
                let key = Key::from(Bytes::from(key.clone()));
                prop_assert_eq!(one.contains(&key), expected);
                prop_assert_eq!(one.meets(&BTreeSet::from([key])), expected);
            }
            let apart = one.intervals.iter().zip(one.intervals.iter().skip(1));
            for ((_, end), (next, _)) in apart {
                prop_assert!(end.as_ref().is_some_and(|end| end < next));
            }
        }
    }
}
