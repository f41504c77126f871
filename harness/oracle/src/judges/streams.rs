//! Promise: the watch of each slot delivers every revision once, in order, whole, and the same as
//! every other watch. After every crash and every change of the member in the slot it is resumed
//! where it broke off. And a fresh watch from any revision that is not compacted, of all keys or of
//! some, delivers the history from there on; a watch from below a finished compaction is refused,
//! with the compact revision in the refusal.
//!
//! The store's revision grows by one with each change and a watch of all keys sees each, so the
//! sequence has no holes to guess at: after r comes r + 1. The first stream to deliver a revision
//! feeds the model; a digest of it is kept until the slowest stream has delivered it as well.

use super::Alarms;
use crate::model::Model;
use ninelives_evidence::limits;
use ninelives_evidence::logged::Digest;
use ninelives_evidence::member::Slot;
use ninelives_evidence::operation::Keys;
use ninelives_evidence::verdict::Finding;
use ninelives_evidence::verdict::findings::Watches;
use ninelives_evidence::verdict::findings::parts::FreshWatch;
use ninelives_evidence::{Change, Heard, Resumption, digest_of_changes};
use std::collections::{BTreeMap, VecDeque};

#[derive(Debug)]
pub(super) struct Streams {
    /// Last revision delivered, by slot. An empty store is at revision 1.
    last: BTreeMap<Slot, u64>,
    /// Digests of the revisions from `first` on.
    recent: VecDeque<Digest<8>>,
    first: u64,
}

/// A revision as a stream delivered it.
#[derive(Debug)]
pub(super) struct Delivered<'a> {
    pub slot: Slot,
    pub revision: u64,
    /// The digest of its changes.
    pub digest: Digest<8>,
    /// `None`: they are those of the history, if the digest is.
    pub changes: Option<&'a [Change]>,
}

/// The effect of a delivery on the history.
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

    /// For watches that begin behind `revision`.
    pub fn behind(slots: impl Iterator<Item = Slot>, revision: u64) -> Self {
        Self { last: slots.map(|slot| (slot, revision)).collect(), recent: VecDeque::new(), first: revision + 1 }
    }

    pub fn slots(&self) -> impl Iterator<Item = Slot> {
        self.last.keys().copied()
    }

    /// The last revision that `slot`'s stream delivered.
    pub fn last(&self, slot: Slot) -> u64 {
        self.last.get(&slot).copied().unwrap_or(1)
    }

    /// The last revision that every stream has delivered. Compacting above it would make a stream
    /// lose events that it still needs when it resumes.
    pub fn slowest(&self) -> u64 {
        self.last.values().copied().min().unwrap_or(1)
    }

    fn newest(&self) -> u64 {
        self.first + self.recent.len() as u64 - 1
    }

    /// Whether `slot`'s next revision is `revision`, and the history has it with that digest.
    pub fn expects(&self, slot: Slot, revision: u64, digest: Digest<8>) -> bool {
        revision == self.last(slot) + 1 && self.known(revision) == Some(digest)
    }

    fn known(&self, revision: u64) -> Option<Digest<8>> {
        self.recent.get(usize::try_from(revision.checked_sub(self.first)?).ok()?).copied()
    }

    pub fn deliver(&mut self, delivered: &Delivered<'_>, alarms: &mut Alarms) -> Delivery {
        let Delivered { slot, revision, digest, changes } = *delivered;
        let last = self.last(slot);
        if revision <= last {
            alarms.push(Finding::new(Watches::DeliveredTwice { slot, revision, after: last }));
            return Delivery::Old;
        }
        if revision > last + 1 {
            alarms.push(Finding::new(Watches::RevisionsMissing { slot, after: last, revision }));
        }
        self.last.insert(slot, revision);
        let newest = self.newest();
        let delivery = if revision == newest + 1 {
            self.recent.push_back(digest);
            Delivery::New
        } else {
            if self.known(revision).is_some_and(|known| known != digest) {
                let holds =
                    changes.map_or_else(|| format!("changes with the digest {digest}"), super::predict::in_words);
                alarms.push(Finding::new(Watches::DeliveredOtherwise { slot, revision, holds }));
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

/// The watches to be opened on a restarted member, when all streams have delivered `upto`: `draw`
/// chooses how far back. Compactions up to `compact_sent` may be under way, those up to
/// `compact_acked` are done.
pub(super) fn resumptions(model: &Model, upto: u64, draw: u64, (sent, acked): (u64, u64)) -> Vec<Resumption> {
    let lowest = sent.max(model.compacted()).max(1) + 1;
    let mut asked = Vec::new();
    let back = draw % limits::RESUMED_REVISIONS_MAX;
    let from = upto.saturating_sub(back).max(lowest);
    for keys in [None, Some(Keys { from: "p/".to_owned(), to: Some("p0".to_owned()) })] {
        // Where nothing is to come there is nothing to wait for.
        if let Some((last, _)) = expected(model, from, upto, keys.as_ref()).last() {
            asked.push(Resumption { from, keys, upto: *last, half_closed: false });
        }
    }
    if acked > 1 {
        asked.push(Resumption { from: 1 + draw % (acked - 1), keys: None, upto: 0, half_closed: false });
    }
    asked
}

/// The revisions from `from` to `upto` that changed any of `keys`, each with the digest of those
/// changes.
fn expected(model: &Model, from: u64, upto: u64, keys: Option<&Keys>) -> Vec<(u64, Digest<8>)> {
    let wanted = model
        .changes_since(from)
        .into_iter()
        .filter(|(revision, change)| *revision <= upto && keys.is_none_or(|keys| keys.contains(change.key())))
        .collect::<Vec<_>>();
    let whole = wanted.chunk_by(|a, b| a.0 == b.0);
    whole
        .map(|one| {
            let changes: Vec<Change> = one.iter().map(|(_, change)| change.clone()).collect();
            (one.first().map_or(0, |(revision, _)| *revision), digest_of_changes(&changes))
        })
        .collect()
}

/// Judges the result of a resumption. `sent`: the highest compaction that was asked for by now,
/// `acked`: the highest that was done when the watch was opened.
pub(super) fn judge_resumed(model: &Model, asked: &Resumption, heard: &Heard, (sent, acked): (u64, u64)) -> Alarms {
    let watch = FreshWatch { keys: asked.keys.clone(), from: asked.from, half_closed: asked.half_closed };
    let alarm = |what: Watches| vec![Finding::new(what)];
    if asked.upto == 0 {
        return match heard.compacted {
            Some(at) if at >= acked && at <= sent => Alarms::new(),
            Some(told) => alarm(Watches::FreshToldOtherCompaction { watch, told, least: acked, most: sent }),
            None => alarm(Watches::FreshNotRefused { watch, compacted: acked }),
        };
    }
    if asked.from <= model.compacted() || heard.compacted.is_some_and(|at| at > asked.from && at <= sent) {
        return Alarms::new();
    }
    let expected = expected(model, asked.from, asked.upto, asked.keys.as_ref());
    let mut heard_at = heard.revisions.iter();
    for (revision, digest) in &expected {
        match heard_at.next() {
            Some((at, found)) if at == revision && found == digest => {}
            Some((at, _)) if at == revision => {
                return alarm(Watches::FreshHasOtherChanges { watch, revision: *at });
            }
            Some((at, _)) => {
                return alarm(Watches::FreshHasAnotherRevision { watch, revision: *at, expected: *revision });
            }
            None => {
                let ended = heard.ended.clone();
                return alarm(Watches::FreshEnds { watch, before: *revision, upto: asked.upto, ended });
            }
        }
    }
    heard_at.next().map_or_else(Alarms::new, |(at, _)| alarm(Watches::FreshHasTooMuch { watch, revision: *at }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ninelives_evidence::verdict::Class;

    fn delete(key: &str) -> Vec<Change> {
        vec![Change::Delete { key: key.into() }]
    }

    fn deliver(streams: &mut Streams, slot: u64, revision: u64, key: &str, alarms: &mut Alarms) -> Delivery {
        let changes = delete(key);
        let digest = digest_of_changes(&changes);
        streams.deliver(&Delivered { slot: Slot(slot), revision, digest, changes: Some(&changes) }, alarms)
    }

    fn run(deliveries: &[(u64, u64, &str)]) -> (Streams, usize) {
        let mut streams = Streams::new(&[1, 2, 3].map(Slot));
        let mut alarms = Alarms::new();
        for (slot, revision, key) in deliveries {
            deliver(&mut streams, *slot, *revision, key, &mut alarms);
        }
        assert!(alarms.iter().all(|alarm| alarm.class() == Class::Watch));
        (streams, alarms.len())
    }

    #[test]
    fn every_stream_must_tell_the_same_in_any_order() {
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

    fn model() -> Model {
        let mut model = Model::default();
        for revision in 2..=9 {
            let key = if revision % 2 == 0 { "p/1" } else { "q/1" };
            let (created, version) = if revision < 4 { (revision, 1) } else { (2 + revision % 2, revision / 2) };
            let (key, value) = (key.into(), format!("x,1.{revision}").into_bytes());
            assert_eq!(
                model.apply(revision, &[Change::Put { key, value, create_revision: created, version, lease: 0 }]),
                []
            );
        }
        model.compact(4);
        model
    }

    fn resumed(alter: impl Fn(&mut Heard)) -> usize {
        let asked = Resumption { from: 6, keys: None, upto: 9, half_closed: true };
        let mut heard = Heard { revisions: expected(&model(), 6, 9, None), ..Heard::default() };
        alter(&mut heard);
        let alarms = judge_resumed(&model(), &asked, &heard, (4, 4));
        assert!(alarms.iter().all(|alarm| alarm.class() == Class::Watch));
        alarms.len()
    }

    #[test]
    fn a_fresh_watch_delivers_what_the_history_holds() {
        assert_eq!(resumed(|_| {}), 0);
        assert_eq!(resumed(|heard| heard.revisions.retain(|(revision, _)| *revision != 7)), 1, "a gap");
        assert_eq!(resumed(|heard| heard.revisions.truncate(3)), 1, "an end too early");
        assert_eq!(resumed(|heard| heard.revisions.insert(1, heard.revisions[0])), 1, "twice");
        assert_eq!(resumed(|heard| heard.revisions[2].1 = digest_of_changes(&[])), 1, "something else");
        assert_eq!(resumed(|heard| heard.revisions.swap(0, 1)), 1, "another order");
        assert_eq!(resumed(|heard| (heard.revisions.clear(), heard.compacted = Some(5)).1), 1, "5 was never compacted");
    }

    #[test]
    fn a_watch_of_some_keys_delivers_theirs_alone() {
        let keys = Keys { from: "p/".into(), to: Some("p0".into()) };
        let asked = Resumption { from: 5, keys: Some(keys.clone()), upto: 8, half_closed: false };
        let heard = |revisions| Heard { revisions, ..Heard::default() };
        let right = expected(&model(), 5, 8, Some(&keys));
        assert_eq!(right.iter().map(|(revision, _)| *revision).collect::<Vec<_>>(), [6, 8]);
        assert_eq!(judge_resumed(&model(), &asked, &heard(right), (4, 4)), []);
        assert_eq!(judge_resumed(&model(), &asked, &heard(expected(&model(), 5, 8, None)), (4, 4)).len(), 1);
    }

    #[test]
    fn a_watch_from_below_a_compaction_is_refused_with_its_revision() {
        let asked = Resumption { from: 2, keys: None, upto: 0, half_closed: false };
        let told = |compacted| {
            let heard = Heard { compacted, ..Heard::default() };
            judge_resumed(&model(), &asked, &heard, (6, 4)).len()
        };
        assert_eq!((told(Some(4)), told(Some(6))), (0, 0));
        assert_eq!((told(Some(3)), told(Some(7)), told(None)), (1, 1, 1));
    }

    #[test]
    fn what_is_asked_for_lies_between_the_compactions_and_now() {
        let model = model();
        for draw in 1..50 {
            let asked = resumptions(&model, 9, draw, (4, 3));
            assert_eq!(asked.len(), 3, "{asked:?}");
            assert!(asked[..2].iter().all(|one| one.from > 4 && one.from <= one.upto), "{asked:?}");
            assert!(asked[2].from < 3 && asked[2].from >= 1 && asked[2].upto == 0);
        }
        assert_eq!(resumptions(&Model::default(), 1, 7, (0, 0)), [], "nothing happened yet");
    }
}
