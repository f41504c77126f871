//! Promise: the watch of each slot, resumed after every crash and every change of the member in it where it broke off,
//! delivers every revision once, in order, whole, and the same as every other's.
//!
//! The store's revision grows by one with each change and a watch of all keys sees each, so the sequence has
//! no holes to guess at: after r comes r + 1. The first stream to deliver a revision feeds the model; a
//! fingerprint of it is kept until the slowest stream has delivered it as well.

use super::Alarms;
use crate::model::Change;
use crate::target::Slot;
use crate::verdict::Class;
use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

#[derive(Debug)]
pub(super) struct Streams {
    /// Last revision delivered, by slot. An empty store is at revision 1.
    last: BTreeMap<Slot, u64>,
    /// Fingerprints of the revisions from `first` on.
    recent: VecDeque<u64>,
    first: u64,
}

/// What a delivery means for the history.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    /// The revision is new.
    New,
    /// It is known already, or it cannot be used.
    Old,
}

impl Streams {
    pub fn new(slots: &[Slot]) -> Self {
        Self { last: slots.iter().map(|slot| (*slot, 1)).collect(), recent: VecDeque::new(), first: 2 }
    }

    /// The last revision that `slot`'s stream delivered.
    pub fn last(&self, slot: Slot) -> u64 {
        self.last.get(&slot).copied().unwrap_or(1)
    }

    /// What every stream has delivered. Compacting above it would make a stream lose events that it still
    /// needs when it resumes.
    pub fn slowest(&self) -> u64 {
        self.last.values().copied().min().unwrap_or(1)
    }

    fn newest(&self) -> u64 {
        self.first + self.recent.len() as u64 - 1
    }

    pub fn deliver(&mut self, slot: Slot, revision: u64, changes: &[Change], alarms: &mut Alarms) -> Delivery {
        let last = self.last(slot);
        if revision <= last {
            alarms.push((
                Class::Watch,
                format!("the watch of {slot} delivered revision {revision} after {last}: twice, in parts, or back"),
            ));
            return Delivery::Old;
        }
        if revision > last + 1 {
            alarms.push((
                Class::Watch,
                format!(
                    "the watch of {slot} went from revision {last} to {revision}: {} are missing",
                    revision - last - 1
                ),
            ));
        }
        self.last.insert(slot, revision);
        let print = fingerprint(changes);
        let newest = self.newest();
        let delivery = if revision == newest + 1 {
            self.recent.push_back(print);
            Delivery::New
        } else {
            let known = revision.checked_sub(self.first).and_then(|at| self.recent.get(usize::try_from(at).ok()?));
            if known.is_some_and(|known| *known != print) {
                let found = super::predict::in_words(changes);
                alarms.push((
                    Class::Watch,
                    format!("the watch of {slot} has {found} at revision {revision}, another slot's something else"),
                ));
            }
            Delivery::Old
        };
        self.forget();
        delivery
    }

    /// The server says that everything up to `compacted` is gone for `slot`'s stream.
    pub fn skip_to(&mut self, slot: Slot, compacted: u64) {
        let last = self.last.entry(slot).or_insert(1);
        *last = (*last).max(compacted);
        self.forget();
    }

    fn forget(&mut self) {
        let slowest = self.slowest();
        while self.first <= slowest && self.recent.pop_front().is_some() {
            self.first += 1;
        }
    }
}

fn fingerprint(changes: &[Change]) -> u64 {
    let mut hasher = DefaultHasher::new();
    changes.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delete(key: &str) -> Vec<Change> {
        vec![Change::Delete { key: key.into() }]
    }

    fn run(deliveries: &[(u64, u64, &str)]) -> (Streams, usize) {
        let mut streams = Streams::new(&[1, 2, 3].map(Slot));
        let mut alarms = Alarms::new();
        for (slot, revision, key) in deliveries {
            streams.deliver(Slot(*slot), *revision, &delete(key), &mut alarms);
        }
        assert!(alarms.iter().all(|(class, _)| *class == Class::Watch));
        (streams, alarms.len())
    }

    #[test]
    fn whoever_is_first_every_stream_must_tell_the_same() {
        let (streams, alarms) =
            run(&[(1, 2, "a"), (1, 3, "b"), (2, 2, "a"), (3, 2, "a"), (3, 3, "b"), (3, 4, "c"), (2, 3, "b")]);
        assert_eq!(alarms, 0);
        assert_eq!(streams.slowest(), 3);
        assert_eq!(streams.recent.len(), 1, "only revision 4 is still awaited");
    }

    #[test]
    fn gaps_duplicates_and_differences_are_refused() {
        assert_eq!(run(&[(1, 2, "a"), (1, 4, "c")]).1, 1, "gap");
        assert_eq!(run(&[(1, 3, "b")]).1, 1, "gap at the beginning");
        assert_eq!(run(&[(1, 2, "a"), (1, 2, "a")]).1, 1, "duplicate, or a revision in parts");
        assert_eq!(run(&[(1, 2, "a"), (1, 3, "b"), (1, 2, "a")]).1, 1, "back");
        assert_eq!(run(&[(1, 2, "a"), (2, 2, "b")]).1, 1, "two members disagree");
    }

    #[test]
    fn only_the_first_delivery_is_new() {
        let mut streams = Streams::new(&[1, 2].map(Slot));
        let mut alarms = Alarms::new();
        assert_eq!(streams.deliver(Slot(2), 2, &delete("a"), &mut alarms), Delivery::New);
        assert_eq!(streams.deliver(Slot(1), 2, &delete("a"), &mut alarms), Delivery::Old);
        assert_eq!(streams.deliver(Slot(1), 3, &delete("a"), &mut alarms), Delivery::New);
    }
}
