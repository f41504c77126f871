//! The projection of an operation of the workload onto each single key.

use super::register::{Does, Place, Row, fingerprint};
use ninelives_evidence::operation::{Action, Compare, Effect, KeyState, Keys, Reply};
use std::collections::{BTreeMap, BTreeSet};

/// One key's part of an operation.
#[derive(Debug)]
pub(super) struct Projection {
    pub key: Box<[u8]>,
    pub does: Does,
    pub place: Place,
    /// A value names its operation, so a reader knows that, and where, it happened.
    pub shows: bool,
}

/// The parts of `action`, which was answered with `answer` (a revision and a reply), or never.
/// There are none for operations that touch no key, and for reads without a promise about real
/// time.
pub(super) fn project<S>(
    action: &Action,
    answer: Option<(u64, &Reply)>,
    known: &BTreeMap<Box<[u8]>, S>,
    leased: &BTreeMap<i64, BTreeSet<Box<[u8]>>>,
) -> Vec<Projection> {
    let place = answer.map_or(Place::Anywhere, |(revision, _)| Place::At(revision));
    let reply = answer.map(|(_, reply)| reply);
    let part = |key: &[u8], does| Projection { key: key.into(), does, place, shows: false };
    match (action, reply) {
        (Action::Put { key, value, lease }, None | Some(Reply::Put)) => {
            let does = Does::Put { when: None, value: fingerprint(value.as_bytes()), lease: *lease };
            vec![Projection { shows: true, ..part(key.as_bytes(), does) }]
        }
        (Action::Delete { keys }, Some(Reply::Deleted(0))) => {
            touched(keys, known).map(|key| part(key, Does::Reads(None))).collect()
        }
        (Action::Delete { keys }, None | Some(Reply::Deleted(_))) => {
            // The number of existing keys in the range is known, but not which keys.
            let found = keys.to.is_none() && reply.is_some();
            touched(keys, known).map(|key| part(key, Does::Delete { when: None, found })).collect()
        }
        (Action::Check { when, .. }, Some(Reply::Txn { succeeded: true })) => {
            when.iter().map(|one| part(one.key.as_bytes(), Does::Holds { modified: one.mod_revision })).collect()
        }
        (Action::Txn { when, .. } | Action::Check { when, .. }, Some(Reply::Txn { succeeded: false })) => {
            match when.as_slice() {
                [only] => vec![part(only.key.as_bytes(), Does::Fails { modified: only.mod_revision })],
                // One of several comparisons failed: no single key can be blamed.
                _ => Vec::new(),
            }
        }
        (Action::Txn { when, then }, None | Some(Reply::Txn { succeeded: true })) => {
            let mut parts = transaction(when, then, known);
            parts.iter_mut().for_each(|part| (part.place, part.shows) = (place, true));
            if answer.is_none() {
                // A condition on an unchanged key is not an effect.
                parts.retain(|part| part.does.writes());
            }
            parts
        }
        (Action::Packed { then, .. }, None | Some(Reply::Txn { succeeded: true })) => {
            let mut parts = transaction(&[], then, known);
            parts.iter_mut().for_each(|part| (part.place, part.shows) = (place, true));
            parts
        }
        (Action::Revoke { lease }, None | Some(Reply::Revoked)) => {
            // The answer's revision is the store's by then; the deletes may be before it.
            let place = answer.map_or(Place::Anywhere, |(revision, _)| Place::UpTo(revision));
            let keys = leased.get(lease).into_iter().flatten();
            keys.map(|key| Projection { place, ..part(key, Does::Detach { lease: *lease }) }).collect()
        }
        (Action::Read { keys, revision: None, serializable: false }, Some(Reply::Read(rows))) => {
            read(keys, rows, known).map(|(key, row)| part(key, Does::Reads(row))).collect()
        }
        _ => Vec::new(),
    }
}

/// The known keys among `keys`; a single key whether it is known or not.
fn touched<'a, S>(keys: &'a Keys, known: &'a BTreeMap<Box<[u8]>, S>) -> Box<dyn Iterator<Item = &'a [u8]> + 'a> {
    match &keys.to {
        None => Box::new(std::iter::once(keys.from.as_bytes())),
        Some(to) if *to <= keys.from => Box::new(std::iter::empty()),
        Some(to) => {
            let range = known.range::<[u8], _>((
                std::ops::Bound::Included(keys.from.as_bytes()),
                std::ops::Bound::Excluded(to.as_bytes()),
            ));
            Box::new(range.map(|(key, _)| &**key))
        }
    }
}

fn transaction<S>(when: &[Compare], then: &[Effect], known: &BTreeMap<Box<[u8]>, S>) -> Vec<Projection> {
    let condition = |key: &[u8]| when.iter().find(|one| one.key.as_bytes() == key).map(|one| one.mod_revision);
    let part = |key: &[u8], does| Projection { key: key.into(), does, place: Place::Anywhere, shows: true };
    let mut parts = Vec::new();
    for effect in then {
        match effect {
            Effect::Put { key, value } => {
                let when = condition(key.as_bytes());
                parts.push(part(key.as_bytes(), Does::Put { when, value: fingerprint(value.as_bytes()), lease: 0 }));
            }
            Effect::Delete { keys } => {
                let delete = |key| part(key, Does::Delete { when: condition(key), found: false });
                parts.extend(touched(keys, known).map(delete));
            }
        }
    }
    for one in when.iter().filter(|one| !parts.iter().any(|part| *part.key == *one.key.as_bytes())).collect::<Vec<_>>()
    {
        parts.push(part(one.key.as_bytes(), Does::Holds { modified: one.mod_revision }));
    }
    parts
}

/// The statements of a read about single keys: the keys that it returned, and the others of its
/// range, which are absent.
fn read<'a, S>(
    keys: &'a Keys,
    rows: &'a [KeyState],
    known: &'a BTreeMap<Box<[u8]>, S>,
) -> impl Iterator<Item = (&'a [u8], Option<Row>)> {
    let found: BTreeMap<&[u8], Row> = rows.iter().map(|row| (row.key.as_slice(), Row::of(row))).collect();
    let mut all: BTreeMap<&[u8], Option<Row>> = touched(keys, known).map(|key| (key, None)).collect();
    all.extend(found.into_iter().map(|(key, row)| (key, Some(row))));
    all.into_iter()
}
