//! Promise: the watch of each slot, resumed after every crash and every change of the member in it where it broke off,
//! delivers every revision once, in order, whole, and the same as every other's.
//!
//! The store's revision grows by one with each change and a watch of all keys sees each, so the sequence has
//! no holes to guess at: after r comes r + 1. The first stream to deliver a revision feeds the model; a
//! mark of it is kept until the slowest stream has delivered it as well.

use super::Alarms;
use super::log_replay::Mark;
use crate::model::Change;
use crate::target::Slot;
use crate::verdict::Class;
use std::collections::{BTreeMap, VecDeque};

#[derive(Debug)]
pub(super) struct Streams {
    /// Last revision delivered, by slot. An empty store is at revision 1.
    last: BTreeMap<Slot, u64>,
    /// Marks of the revisions from `first` on.
    recent: VecDeque<Mark<8>>,
    first: u64,
}

/// A revision as a stream delivered it.
#[derive(Debug)]
pub(super) struct Delivered<'a> {
    pub slot: Slot,
    pub revision: u64,
    /// Of its changes.
    pub mark: Mark<8>,
    /// `None`: they are those of the history, if the mark is.
    pub changes: Option<&'a [Change]>,
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

    /// Whether `slot`'s next revision is `revision`, and the history has it with that mark.
    pub fn expects(&self, slot: Slot, revision: u64, mark: Mark<8>) -> bool {
        revision == self.last(slot) + 1 && self.known(revision) == Some(mark)
    }

    fn known(&self, revision: u64) -> Option<Mark<8>> {
        self.recent.get(usize::try_from(revision.checked_sub(self.first)?).ok()?).copied()
    }

    pub fn deliver(&mut self, delivered: &Delivered<'_>, alarms: &mut Alarms) -> Delivery {
        let Delivered { slot, revision, mark, changes } = *delivered;
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
        let newest = self.newest();
        let delivery = if revision == newest + 1 {
            self.recent.push_back(mark);
            Delivery::New
        } else {
            if self.known(revision).is_some_and(|known| known != mark) {
                let found = changes.map_or_else(|| format!("changes with the mark {mark}"), super::predict::in_words);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::mark_of;

    fn delete(key: &str) -> Vec<Change> {
        vec![Change::Delete { key: key.into() }]
    }

    fn deliver(streams: &mut Streams, slot: u64, revision: u64, key: &str, alarms: &mut Alarms) -> Delivery {
        let changes = delete(key);
        let mark = mark_of(&changes);
        streams.deliver(&Delivered { slot: Slot(slot), revision, mark, changes: Some(&changes) }, alarms)
    }

    fn run(deliveries: &[(u64, u64, &str)]) -> (Streams, usize) {
        let mut streams = Streams::new(&[1, 2, 3].map(Slot));
        let mut alarms = Alarms::new();
        for (slot, revision, key) in deliveries {
            deliver(&mut streams, *slot, *revision, key, &mut alarms);
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
        assert_eq!(deliver(&mut streams, 2, 2, "a", &mut alarms), Delivery::New);
        assert_eq!(deliver(&mut streams, 1, 2, "a", &mut alarms), Delivery::Old);
        assert_eq!(deliver(&mut streams, 1, 3, "a", &mut alarms), Delivery::New);
    }
}
