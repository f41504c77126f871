//! The first revision at which a member's rows differ from those that the model demands, and the
//! shape of the difference.

use crate::judges::log_replay::Effect;
use crate::raft_log::LogId;
use std::collections::BTreeMap;

/// The correct history, revision by revision.
pub(super) type Truth = BTreeMap<u64, (Option<LogId>, Vec<Effect>)>;

/// A member's own history.
#[derive(Debug, Clone, Default)]
pub struct Shown {
    /// The revisions from which and up to which it was asked for, both inclusive.
    pub from: u64,
    pub through: u64,
    pub changes: BTreeMap<u64, Vec<Effect>>,
}

/// The way in which a member's history leaves the truth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// The revision holds nothing, or too little, and the following revisions are in their places.
    Missing,
    /// It holds the effect of an entry so many revisions later: the entries in between were
    /// skipped, and everything behind them is early by that number.
    Skipped(u64),
    /// It holds the effect of an earlier entry again, the one of this revision: that entry was
    /// applied twice.
    Again(u64),
    /// Something else is there.
    Other,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Difference {
    pub revision: u64,
    pub shape: Shape,
    pub expected: Vec<Effect>,
    pub found: Vec<Effect>,
}

/// Compares member and truth over the revisions that both know.
pub(super) fn first_difference(truth: &Truth, shown: &Shown) -> Option<Difference> {
    let (first, last) = (*truth.first_key_value()?.0, *truth.last_key_value()?.0);
    let nothing = (None, Vec::new());
    for revision in shown.from.max(first)..=shown.through.min(last) {
        let expected = &truth.get(&revision).unwrap_or(&nothing).1;
        let found = shown.changes.get(&revision).map_or(&[][..], Vec::as_slice);
        if expected != found {
            let shape = shape(truth, shown, revision);
            return Some(Difference { revision, shape, expected: expected.clone(), found: found.to_vec() });
        }
    }
    None
}

fn shape(truth: &Truth, shown: &Shown, at: u64) -> Shape {
    let nothing = Vec::new();
    let found = |revision: u64| shown.changes.get(&revision).unwrap_or(&nothing);
    let made = |revision: u64| truth.get(&revision).map_or(&nothing, |(_, effects)| effects);
    // Whether the member's history goes on as the truth does `ahead` revisions later.
    let goes_on = |shift: i64| {
        let alike = |revision: u64| {
            revision.checked_add_signed(shift).is_some_and(|there| same_writes(found(revision), made(there)))
        };
        // Two rows in sequence have to match, if the member has two: one may match by chance.
        alike(at)
            && (at + 1 > shown.through
                || at.checked_add_signed(shift + 1).is_none_or(|next| !truth.contains_key(&next) || alike(at + 1)))
    };
    // One entry may be skipped, or all entries that a kill took.
    let skipped = (1..=SKIPPED_MAX).find(|ahead| truth.contains_key(&(at + ahead)) && goes_on(*ahead as i64));
    let few = found(at).len() < made(at).len() && found(at).iter().all(|effect| made(at).contains(effect));
    // The next rows may be lost as well; a row in its place behind them shows that no revision was
    // skipped.
    let behind = (at + 1..=at + IN_PLACE_MAX).any(|next| next > shown.through || same_writes(found(next), made(next)));
    if few && behind && !goes_on(1) {
        return Shape::Missing;
    }
    if let Some(ahead) = skipped {
        return Shape::Skipped(ahead);
    }
    // One of the entries that had been applied last is applied again.
    let again = truth.range(..at).rev().take(AGAIN_MAX).map(|(revision, _)| *revision);
    let again = again.filter(|revision| !found(at).is_empty() && same_writes(found(at), made(*revision)));
    again.last().map_or(Shape::Other, Shape::Again)
}

/// Distance ahead of its place within which a row is looked for.
const SKIPPED_MAX: u64 = 400;

/// Distance behind a missing row within which a row in its place is looked for.
const IN_PLACE_MAX: u64 = 8;

/// Distance back within which an entry that may have been applied again is looked for.
const AGAIN_MAX: usize = 400;

/// Whether the same keys get the same values, whatever else differs: an entry that is applied at
/// another place gets other revisions.
fn same_writes(a: &[Effect], b: &[Effect]) -> bool {
    !a.is_empty()
        && a.len() == b.len()
        && a.iter().zip(b).all(|(a, b)| a.key == b.key && a.row.map(|row| row.value) == b.row.map(|row| row.value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judges::log_replay::effect;
    use ninelives_evidence::Change;

    fn put(revision: u64, key: &str, writer: u64) -> Vec<Effect> {
        let value = format!("x,1.{writer}").into_bytes();
        let change = Change::Put { key: key.into(), value, create_revision: revision, version: 1, lease: 0 };
        vec![effect(revision, &change)]
    }

    /// Revision r is a put of key `k{r}` by operation r.
    fn truth() -> Truth {
        (2..=9)
            .map(|revision| {
                let id = LogId { term: 1, index: revision + 10 };
                (revision, (Some(id), put(revision, &format!("k{revision}"), revision)))
            })
            .collect()
    }

    fn shown(alter: impl Fn(&mut BTreeMap<u64, Vec<Effect>>)) -> Option<(u64, Shape)> {
        let mut changes: BTreeMap<_, _> =
            truth().into_iter().map(|(revision, (_, effects))| (revision, effects)).collect();
        alter(&mut changes);
        let through = *changes.last_key_value().unwrap().0;
        let shown = Shown { from: 2, through, changes };
        first_difference(&truth(), &shown).map(|difference| (difference.revision, difference.shape))
    }

    #[test]
    fn the_same_history_has_no_difference() {
        assert_eq!(shown(|_| {}), None);
        let late = Shown { from: 20, through: 30, changes: BTreeMap::new() };
        assert_eq!(first_difference(&truth(), &late), None, "nothing to compare is not a difference");
    }

    #[test]
    fn a_row_that_is_not_there_is_missing() {
        assert_eq!(shown(|changes| drop(changes.remove(&5))), Some((5, Shape::Missing)));
        let two = shown(|changes| changes.retain(|revision, _| *revision != 5 && *revision != 6));
        assert_eq!(two, Some((5, Shape::Missing)), "two in a row");
    }

    #[test]
    fn an_entry_that_was_skipped_moves_all_behind_it_forward() {
        let skipped = shown(|changes| {
            for revision in 5..9 {
                let next = revision + 1;
                changes.insert(revision, put(revision, &format!("k{next}"), next));
            }
            changes.remove(&9);
        });
        assert_eq!(skipped, Some((5, Shape::Skipped(1))));
        let three = shown(|changes| {
            for revision in 4..=6 {
                let next = revision + 3;
                changes.insert(revision, put(revision, &format!("k{next}"), next));
            }
            changes.retain(|revision, _| *revision <= 6);
        });
        assert_eq!(three, Some((4, Shape::Skipped(3))));
    }

    #[test]
    fn an_entry_that_was_applied_again_is_there_twice() {
        let again = shown(|changes| {
            changes.insert(6, put(6, "k4", 4));
            for revision in 7..=9 {
                changes.insert(revision, put(revision, &format!("k{}", revision - 1), revision - 1));
            }
        });
        assert_eq!(again, Some((6, Shape::Again(4))));
    }

    #[test]
    fn anything_else_is_only_another_row() {
        assert_eq!(shown(|changes| drop(changes.insert(7, put(7, "k7", 99)))), Some((7, Shape::Other)));
    }
}
