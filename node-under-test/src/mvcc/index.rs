//! The key index: for every key, where its versions lie. In memory only, rebuilt from the rows.
//!
//! Invariants: a key's versions ascend by revision; every version that a compaction at C may drop stands in
//! `garbage` under the smallest such C. A superseded version may go once its successor is ≤ C. A tombstone at
//! revision t may go only from C = t + 1 on, although the state hash drops it at C = t already: a watch may
//! start *at* the compact revision, and would otherwise miss the delete.

use super::interval::Interval;
use super::row::{Kind, Revision, RowKey};
use bytes::Bytes;
use node_proto::mvccpb::KeyValue;
use std::collections::{BTreeMap, VecDeque};

/// One version of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    pub revision: Revision,
    pub create: i64,
    /// 0: a tombstone.
    pub version: i64,
}

impl Version {
    pub fn is_live(&self) -> bool {
        self.version > 0
    }

    pub fn row(&self) -> RowKey {
        let kind = if self.is_live() { Kind::Put } else { Kind::Tombstone };
        RowKey { revision: self.revision, kind }
    }
}

#[derive(Debug, Default, Clone)]
pub struct KeyIndex {
    keys: BTreeMap<Bytes, VecDeque<Version>>,
    garbage: BTreeMap<i64, Vec<(Bytes, RowKey)>>,
}

impl KeyIndex {
    /// Records a put of `key` at `revision`, and says what create revision and version it gets.
    pub fn put(&mut self, key: &Bytes, revision: Revision) -> Version {
        let version = match self.newest(key) {
            Some(old) => Version { revision, create: old.create, version: old.version + 1 },
            None => Version { revision, create: revision.main, version: 1 },
        };
        self.push(key, version);
        version
    }

    pub fn delete(&mut self, key: &Bytes, revision: Revision) {
        self.push(key, Version { revision, create: 0, version: 0 });
    }

    /// Records a row as it was found in the engine. Rows must come in ascending revision order.
    pub fn load(&mut self, at: RowKey, row: &KeyValue) {
        let (create, version) = match at.kind {
            Kind::Put => (row.create_revision, row.version.max(1)),
            Kind::Tombstone => (0, 0),
        };
        self.push(&row.key, Version { revision: at.revision, create, version });
    }

    fn push(&mut self, key: &Bytes, version: Version) {
        // A key that came in a request is a slice of the whole request: keeping it would keep the value too.
        let key = match self.keys.get_key_value(key) {
            Some((own, _)) => own.clone(),
            None => Bytes::copy_from_slice(key),
        };
        let versions = self.keys.entry(key.clone()).or_default();
        let at = version.revision.main;
        if let Some(old) = versions.back().filter(|old| old.is_live()) {
            self.garbage.entry(at).or_default().push((key.clone(), old.row()));
        }
        if !version.is_live() {
            self.garbage.entry(at + 1).or_default().push((key, version.row()));
        }
        versions.push_back(version);
    }

    /// The version of `key` that a reader at main revision `at` sees; `None` if it is deleted or not there.
    pub fn get(&self, key: &[u8], at: i64) -> Option<&Version> {
        visible(self.keys.get(key)?, at)
    }

    pub fn newest(&self, key: &[u8]) -> Option<&Version> {
        self.get(key, i64::MAX)
    }

    /// Keys that it knows, deleted ones included until a compaction forgets them.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Keys in `interval`, deleted ones included, counted up to `max`.
    pub fn count_up_to(&self, interval: &Interval, max: usize) -> usize {
        if interval.is_empty() { 0 } else { self.keys.range::<[u8], _>(interval.bounds()).take(max).count() }
    }

    /// The live keys of `interval` at main revision `at`, ascending by key.
    pub fn range(&self, interval: &Interval, at: i64) -> impl Iterator<Item = (&Bytes, &Version)> {
        let bounds = (!interval.is_empty()).then(|| interval.bounds());
        bounds
            .into_iter()
            .flat_map(|bounds| self.keys.range::<[u8], _>(bounds))
            .filter_map(move |(key, versions)| Some((key, visible(versions, at)?)))
    }

    /// Forgets what no reader at `compact` or later can see, and returns the rows to remove.
    pub fn compact(&mut self, compact: i64) -> Vec<RowKey> {
        let kept = self.garbage.split_off(&(compact + 1));
        let dropped = std::mem::replace(&mut self.garbage, kept);
        let mut rows = Vec::new();
        for (key, row) in dropped.into_values().flatten() {
            if let Some(versions) = self.keys.get_mut(&key) {
                // Oldest first, so this is the front of the queue.
                if let Some(place) = versions.iter().position(|version| version.revision == row.revision) {
                    versions.remove(place);
                }
                if versions.is_empty() {
                    self.keys.remove(&key);
                }
            }
            rows.push(row);
        }
        rows
    }
}

fn visible(versions: &VecDeque<Version>, at: i64) -> Option<&Version> {
    let seen = versions.partition_point(|version| version.revision.main <= at);
    versions.get(seen.checked_sub(1)?).filter(|version| version.is_live())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(main: i64) -> Revision {
        Revision { main, sub: 0 }
    }

    #[test]
    fn a_delete_starts_a_new_generation() {
        let mut index = KeyIndex::default();
        let key = Bytes::from("k");
        index.put(&key, at(2));
        assert_eq!(index.put(&key, at(3)).version, 2);
        index.delete(&key, at(4));
        assert_eq!(index.newest(&key), None);
        assert_eq!(index.get(&key, 3).unwrap().create, 2);
        let again = index.put(&key, at(5));
        assert_eq!((again.create, again.version), (5, 1));
    }

    #[test]
    fn a_tombstone_outlives_the_compaction_at_its_own_revision() {
        let mut index = KeyIndex::default();
        let key = Bytes::from("k");
        index.put(&key, at(2));
        index.delete(&key, at(3));
        let put = RowKey { revision: at(2), kind: Kind::Put };
        let tombstone = RowKey { revision: at(3), kind: Kind::Tombstone };
        assert_eq!(index.compact(2), []);
        assert_eq!(index.compact(3), [put]);
        assert_eq!(index.compact(4), [tombstone]);
        assert!(index.keys.is_empty() && index.garbage.is_empty());
    }
}
