//! Promise: an operation that was requested once happened at most once, and had its effect once: no
//! operation is in two revisions of the history, a counter goes up by one with each operation, and
//! an append list grows by the operation's id at its end.
//!
//! The judge goes through the history's revisions alone, in their order, and looks at the values
//! themselves. It is independent of the answers, of the open operations in `durability`, and of the
//! model. `durability` judges that every acknowledged operation is there at all; both together
//! prove *exactly* once.
//!
//! Memory is bounded by the clients and the keys.

use super::Alarms;
use crate::model::Model;
use ninelives_evidence::Change;
use ninelives_evidence::limits;
use ninelives_evidence::operation::OpId;
use ninelives_evidence::verdict::Finding;
use ninelives_evidence::verdict::findings::Writes as Broken;
use std::collections::{BTreeMap, BTreeSet};

/// Operations that are remembered per client, the newest. A client has one in flight, so one that
/// comes back after this many was given up long ago, and `durability` calls it a phantom.
const REMEMBERED_PER_CLIENT: usize = 2_048;
/// Keys of counters and of append lists begin so.
const COUNTERS: &[u8] = b"c/";
const LISTS: &[u8] = b"a/";

#[derive(Debug, Default)]
pub(super) struct ExactlyOnce {
    /// By client, the sequence numbers that the history holds, and where.
    held: BTreeMap<u32, BTreeMap<u64, u64>>,
    /// Counters and lists that exist.
    values: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl ExactlyOnce {
    /// The cluster was restored: the history ends with the last revision of `model`, which holds
    /// what is left of it.
    pub fn restored(&mut self, model: &Model) {
        let last = model.revision();
        self.held.values_mut().for_each(|held| held.retain(|_, revision| *revision <= last));
        let kept =
            model.range_at(b"", None, last).filter(|(key, _)| key.starts_with(COUNTERS) || key.starts_with(LISTS));
        self.values = kept.map(|(key, live)| (key.to_vec(), live.value.to_vec())).collect();
    }

    /// The next revision of the history. Returns whether an operation of it was in the history
    /// before.
    pub fn deliver(&mut self, revision: u64, changes: &[Change], alarms: &mut Alarms) -> bool {
        let mut again = false;
        let authors: BTreeSet<OpId> = changes.iter().filter_map(author).collect();
        for id in authors {
            let held = self.held.entry(id.client).or_default();
            if let Some(first) = held.insert(id.seq, revision) {
                again = true;
                alarms.push(Finding::new(Broken::HeldTwice { operation: id, first, second: revision }));
            }
            if held.len() > REMEMBERED_PER_CLIENT {
                held.pop_first();
            }
        }
        for change in changes {
            let wrong = match change {
                Change::Delete { key } => {
                    self.values.remove(key);
                    None
                }
                Change::Put { key, value, .. } if key.starts_with(COUNTERS) || key.starts_with(LISTS) => {
                    let before = self.values.insert(key.clone(), value.clone()).unwrap_or_default();
                    let judge = if key.starts_with(COUNTERS) { counted } else { appended };
                    judge((revision, key), &before, value, author(change))
                }
                Change::Put { .. } => None,
            };
            // A second apply of the same operation explains its effect on a value.
            alarms.extend(wrong.filter(|_| !again).map(Finding::new));
        }
        again
    }
}

fn author(change: &Change) -> Option<OpId> {
    match change {
        Change::Put { value, .. } => OpId::of_value(value),
        Change::Delete { .. } => None,
    }
}

fn number(value: &[u8]) -> Option<u64> {
    let head = value.split(|byte| *byte == b',').next()?;
    std::str::from_utf8(head).ok()?.parse().ok()
}

/// A counter counts the increments since it came to be; absent counts as 0.
fn counted((revision, key): (u64, &[u8]), before: &[u8], after: &[u8], _: Option<OpId>) -> Option<Broken> {
    let (was, is) = (number(before).unwrap_or(0), number(after));
    (is != Some(was + 1)).then(|| Broken::Miscounted { revision, key: key.escape_ascii().to_string(), was, is })
}

/// A list is its old value and the new id. It starts over with that id alone only when it is long.
fn appended((revision, key): (u64, &[u8]), before: &[u8], after: &[u8], id: Option<OpId>) -> Option<Broken> {
    let own = id?.to_string().into_bytes();
    let longer = [before, b",", &own].concat();
    let starts_over = after == own && (before.is_empty() || longer.len() > limits::VALUE_BYTES_MIN as usize);
    (after != longer && !starts_over).then(|| {
        let tail = |list: &[u8]| list[list.len().saturating_sub(32)..].escape_ascii().to_string();
        let key = key.escape_ascii().to_string();
        Broken::Misappended { revision, key, before: tail(before), after: tail(after) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ninelives_evidence::verdict::Class;

    fn put(key: &str, value: &str) -> Change {
        Change::Put { key: key.into(), value: value.into(), create_revision: 1, version: 1, lease: 0 }
    }

    fn alarms(revisions: &[&[Change]]) -> usize {
        let (mut book, mut alarms) = (ExactlyOnce::default(), Alarms::new());
        for (revision, changes) in (2..).zip(revisions) {
            book.deliver(revision, changes, &mut alarms);
        }
        assert!(alarms.iter().all(|alarm| alarm.class() == Class::ExactlyOnce));
        alarms.len()
    }

    #[test]
    fn an_operation_in_two_revisions_is_refused_and_in_several_keys_of_one_it_is_not() {
        assert_eq!(alarms(&[&[put("p/1", "x,1.1"), put("p/2", "x,1.1")], &[put("p/1", "x,2.1")]]), 0);
        assert_eq!(alarms(&[&[put("p/1", "x,1.1")], &[put("p/2", "x,2.1")], &[put("p/1", "x,1.1")]]), 1);
        assert_eq!(alarms(&[&[put("c/1", "1,1.1")], &[put("c/1", "2,1.1")]]), 1, "said once, whatever it did");
    }

    #[test]
    fn a_counter_goes_up_by_one_and_starts_at_one() {
        let gone = || Change::Delete { key: b"c/1".to_vec() };
        assert_eq!(alarms(&[&[put("c/1", "1,1.1")], &[put("c/1", "2,2.1")], &[gone()], &[put("c/1", "1,1.2")]]), 0);
        assert_eq!(alarms(&[&[put("c/1", "1,1.1")], &[put("c/1", "3,2.1")]]), 1, "twice");
        assert_eq!(alarms(&[&[put("c/1", "1,1.1")], &[put("c/1", "1,2.1")]]), 1, "a lost increment");
        assert_eq!(alarms(&[&[put("c/1", "1,1.1")], &[gone()], &[put("c/1", "2,2.1")]]), 1, "a lost delete");
        assert_eq!(alarms(&[&[put("c/1", "x,1.1")]]), 1);
    }

    #[test]
    fn a_list_holds_each_append_once_and_loses_none() {
        assert_eq!(alarms(&[&[put("a/1", "1.1")], &[put("a/1", "1.1,2.1")], &[put("a/1", "1.1,2.1,1.2")]]), 0);
        assert_eq!(alarms(&[&[put("a/1", "1.1")], &[put("a/1", "1.1,2.1,2.1")]]), 1, "twice");
        assert_eq!(alarms(&[&[put("a/1", "1.1")], &[put("a/1", "2.1")]]), 1, "the first is gone");
        assert_eq!(alarms(&[&[put("a/1", "1.1")], &[put("a/1", "1.1,2.1")], &[put("a/1", "2.1,1.2")]]), 1);
        let long = format!("{},7.1", "9.9,".repeat(20).trim_end_matches(','));
        let start = [put("a/1", &long)];
        let (mut book, mut alarms) = (ExactlyOnce::default(), Alarms::new());
        book.deliver(2, &start, &mut alarms);
        alarms.clear();
        book.deliver(3, &[put("a/1", "8.1")], &mut alarms);
        assert_eq!(alarms, [], "a long list starts over");
    }

    #[test]
    fn memory_is_bounded() {
        let (mut book, mut alarms) = (ExactlyOnce::default(), Alarms::new());
        for seq in 0..10_000 {
            book.deliver(seq + 2, &[put("p/1", &format!("x,1.{seq}"))], &mut alarms);
        }
        assert_eq!(book.held[&1].len(), REMEMBERED_PER_CLIENT);
        assert!(alarms.is_empty() && book.values.is_empty());
    }

    #[test]
    fn after_a_restore_counters_go_on_from_the_snapshot_and_what_it_holds_stays_remembered() {
        let (mut book, mut alarms, mut model) = (ExactlyOnce::default(), Alarms::new(), Model::default());
        let counted = |value: &str, version| Change::Put {
            key: b"c/1".to_vec(),
            value: value.into(),
            create_revision: 2,
            version,
            lease: 0,
        };
        for (revision, change) in [(2, counted("1,1.1", 1)), (3, counted("2,1.2", 2))] {
            book.deliver(revision, std::slice::from_ref(&change), &mut alarms);
            model.apply(revision, &[change]);
        }
        model.forget_above(2);
        book.restored(&model);
        assert!(!book.deliver(3, &[counted("2,1001.1", 2)], &mut alarms));
        assert!(!book.deliver(4, &[counted("3,1.2", 3)], &mut alarms), "forgotten with the revision that held it");
        assert_eq!(alarms, []);
        assert!(book.deliver(5, &[counted("4,1.1", 4)], &mut alarms), "it is in the snapshot");
    }
}
