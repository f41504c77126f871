//! The effect of an operation on a state: the rules of the store, applied to the model.

use super::asked::first;
use crate::model::Model;
use ninelives_evidence::Change;
use ninelives_evidence::operation::{Action, Compare, Effect, Keys};
use std::collections::BTreeMap;

/// One change that an operation makes: the key, and value and lease if it is a put.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Expected {
    key: Vec<u8>,
    put: Option<(Vec<u8>, i64)>,
}

/// The changes of `action` on the newest state of `model`, ascending by key (an operation changes a
/// key once).
///
/// # Errors
/// The comparison that does not hold there: the operation changes nothing.
pub(super) fn predict(model: &Model, action: &Action) -> Result<Vec<Expected>, String> {
    let mut changes = Vec::new();
    match action {
        Action::Put { key, value, lease } => changes.push(put(key, value, *lease)),
        Action::Delete { keys } => deletes(model, keys, &mut changes),
        Action::Txn { when, then } => {
            if let Some(broken) = first_broken(model, when, model.revision()) {
                return Err(broken);
            }
            effects(model, then, &mut changes);
        }
        Action::Packed { then, .. } => effects(model, then, &mut changes),
        Action::Revoke { lease } => {
            let attached = model.attached_at(*lease, model.revision());
            changes.extend(attached.into_iter().map(|key| Expected { key: key.to_vec(), put: None }));
        }
        Action::Check { .. }
        | Action::Grant { .. }
        | Action::KeepAlive { .. }
        | Action::Compact { .. }
        | Action::Defragment
        | Action::Read { .. } => {}
    }
    changes.sort_unstable();
    Ok(changes)
}

fn effects(model: &Model, then: &[Effect], changes: &mut Vec<Expected>) {
    for effect in then {
        match effect {
            Effect::Put { key, value } => changes.push(put(key, value, 0)),
            Effect::Delete { keys } => deletes(model, keys, changes),
        }
    }
}

/// The first comparison that does not hold at `revision`, in words.
pub(super) fn first_broken(model: &Model, when: &[Compare], revision: u64) -> Option<String> {
    when.iter().find_map(|compare| {
        let found = at(model, compare.key.as_bytes(), revision);
        (found != compare.mod_revision)
            .then(|| format!("{} was last changed at revision {found}, not {}", compare.key, compare.mod_revision))
    })
}

fn at(model: &Model, key: &[u8], revision: u64) -> u64 {
    let end = [key, &[0]].concat();
    model.range_at(key, Some(&end), revision).next().map_or(0, |(_, live)| live.mod_revision)
}

/// The live keys of `keys` at `revision`.
pub(super) fn live_in(model: &Model, keys: &Keys, revision: u64) -> Vec<Vec<u8>> {
    let end = keys.to.as_ref().map_or_else(|| [keys.from.as_bytes(), &[0]].concat(), |to| to.clone().into_bytes());
    model.range_at(keys.from.as_bytes(), Some(&end), revision).map(|(key, _)| key.to_vec()).collect()
}

fn put(key: &str, value: &str, lease: i64) -> Expected {
    Expected { key: key.into(), put: Some((value.into(), lease)) }
}

fn deletes(model: &Model, keys: &Keys, changes: &mut Vec<Expected>) {
    let live = live_in(model, keys, model.revision());
    changes.extend(live.into_iter().map(|key| Expected { key, put: None }));
}

/// Whether a revision's changes are exactly the `expected` ones.
pub(super) fn matches(expected: &[Expected], changes: &[Change]) -> bool {
    found(changes) == expected
}

/// The keys in which a revision's changes are not the `expected` ones.
pub(super) fn difference(expected: &[Expected], changes: &[Change]) -> String {
    let by_key = |changes: &[Expected]| -> BTreeMap<Vec<u8>, Expected> {
        changes.iter().map(|change| (change.key.clone(), change.clone())).collect()
    };
    let (expected, found) = (by_key(expected), by_key(&found(changes)));
    let missing = expected.keys().filter(|key| !found.contains_key(*key));
    let extra = found.keys().filter(|key| !expected.contains_key(*key));
    let other = expected.iter().filter(|(key, change)| found.get(*key).is_some_and(|one| one != *change));
    let kinds = [
        ("missing", missing.collect::<Vec<_>>()),
        ("not asked for", extra.collect()),
        ("different", other.map(|(key, _)| key).collect()),
    ];
    let words: Vec<String> = kinds
        .iter()
        .filter(|(_, keys)| !keys.is_empty())
        .map(|(kind, keys)| format!("{kind}: {}", first(keys.iter().map(|key| key.escape_ascii().to_string()))))
        .collect();
    words.join("; ")
}

/// A revision's changes, ascending by key.
fn found(changes: &[Change]) -> Vec<Expected> {
    let mut found: Vec<Expected> = changes
        .iter()
        .map(|change| match change {
            Change::Put { key, value, lease, .. } => Expected { key: key.clone(), put: Some((value.clone(), *lease)) },
            Change::Delete { key } => Expected { key: key.clone(), put: None },
        })
        .collect();
    found.sort_unstable();
    found
}

/// A revision's changes, for a sentence.
pub(super) fn in_words(changes: &[Change]) -> String {
    let words = first(changes.iter().map(|change| match change {
        Change::Put { key, value, .. } => {
            let tail = &value[value.len().saturating_sub(24)..];
            format!("put {} …{}", key.escape_ascii(), tail.escape_ascii())
        }
        Change::Delete { key } => format!("delete {}", key.escape_ascii()),
    }));
    format!("[{words}]")
}
