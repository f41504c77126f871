//! The key index: for every key, where its versions lie. In memory only, rebuilt from the rows.
//!
//! A clone is taken in constant time and shares everything, so what readers see is a clone that
//! never changes, while the writer goes on with its own. Invariants: a key's versions ascend by
//! revision; every version that a compaction may drop stands in the writer's [`Garbage`].

use super::garbage::Garbage;
use super::interval::Interval;
use super::row::{Kind, Revision, RowKey};
use super::versions::Versions;
use bytes::Bytes;
use node_proto::mvccpb::KeyValue;
use rpds::RedBlackTreeMapSync;
use std::collections::BTreeMap;

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
    keys: RedBlackTreeMapSync<Bytes, Versions>,
    /// Keys whose newest version is live.
    live: usize,
}

impl KeyIndex {
    /// Records a put of `key` at `revision`, and says what create revision and version it gets.
    pub fn put(&mut self, key: &Bytes, revision: Revision, garbage: &mut Garbage) -> Version {
        let version = match self.newest(key) {
            Some(old) => Version { revision, create: old.create, version: old.version + 1 },
            None => Version { revision, create: revision.main, version: 1 },
        };
        self.push(key, version, garbage);
        version
    }

    pub fn delete(&mut self, key: &Bytes, revision: Revision, garbage: &mut Garbage) {
        self.push(key, Version { revision, create: 0, version: 0 }, garbage);
    }

    fn push(&mut self, key: &Bytes, version: Version, garbage: &mut Garbage) {
        let Some((own, versions)) = self.keys.get_key_value(&key[..]) else {
            // A key that came in a request is a slice of the whole request: keeping it would keep
            // the value too.
            let own = Bytes::copy_from_slice(key);
            discard(&own, None, &version, garbage);
            self.live += usize::from(version.is_live());
            self.keys.insert_mut(own, Versions::of(version));
            return;
        };
        let was_live = versions.newest().is_some_and(Version::is_live);
        self.live = self.live + usize::from(version.is_live()) - usize::from(was_live);
        discard(own, versions.newest(), &version, garbage);
        if let Some(versions) = self.keys.get_mut(&key[..]) {
            versions.push(version);
        }
    }

    /// The version of `key` that a reader at main revision `at` sees; `None` if it is deleted or
    /// not there.
    pub fn get(&self, key: &[u8], at: i64) -> Option<&Version> {
        visible(self.keys.get(key)?, at)
    }

    pub fn newest(&self, key: &[u8]) -> Option<&Version> {
        self.get(key, i64::MAX)
    }

    /// Keys that are there.
    pub fn live(&self) -> usize {
        self.live
    }

    /// Keys in `interval`, counted up to `max`: those that are there, and deleted ones that no
    /// compaction at `compact` may forget. How far the removal of the others has come differs
    /// between members, so they do not count.
    pub fn count_up_to(&self, interval: &Interval, compact: i64, max: usize) -> usize {
        let counts = |newest: &Version| newest.is_live() || newest.revision.main >= compact;
        let keys = (!interval.is_empty()).then(|| self.keys.range::<[u8], _>(interval.bounds()));
        let keys = keys.into_iter().flatten();
        keys.filter(|(_, versions)| versions.newest().is_some_and(counts)).take(max).count()
    }

    /// The live keys of `interval` at main revision `at`, ascending by key.
    pub fn range(&self, interval: &Interval, at: i64) -> impl Iterator<Item = (&Bytes, &Version)> {
        let bounds = (!interval.is_empty()).then(|| interval.bounds());
        bounds
            .into_iter()
            .flat_map(|bounds| self.keys.range::<[u8], _>(bounds))
            .filter_map(move |(key, versions)| Some((key, visible(versions, at)?)))
    }

    /// True if `interval` holds at most `max` keys, deleted ones included. Costs no more than `max`
    /// steps.
    pub fn holds_at_most(&self, interval: &Interval, max: usize) -> bool {
        interval.is_empty() || self.keys.range::<[u8], _>(interval.bounds()).nth(max).is_none()
    }

    /// Forgets a version that no reader can see any more.
    pub fn forget(&mut self, key: &Bytes, revision: Revision) {
        if self.keys.get_mut(&key[..]).is_some_and(|versions| versions.remove(revision)) {
            self.keys.remove_mut(&key[..]);
        }
    }
}

/// Notes what the change of `key` from `old` to `new` leaves behind.
fn discard(key: &Bytes, old: Option<&Version>, new: &Version, garbage: &mut Garbage) {
    let at = new.revision.main;
    if let Some(old) = old.filter(|old| old.is_live()) {
        garbage.add(at, key.clone(), old.row());
    }
    if !new.is_live() {
        garbage.add(at + 1, key.clone(), new.row());
    }
}

fn visible(versions: &Versions, at: i64) -> Option<&Version> {
    versions.at(at).filter(|version| version.is_live())
}

/// Builds an index from rows. The tree is filled in key order in the end, which costs a fraction of
/// what rows in revision order would.
#[derive(Debug, Default)]
pub struct Loading {
    keys: BTreeMap<Bytes, Versions>,
}

impl Loading {
    /// Records a row as it was found in the engine. Rows must come in ascending revision order.
    pub fn load(&mut self, at: RowKey, row: &KeyValue, garbage: &mut Garbage) {
        let (create, version) = match at.kind {
            Kind::Put => (row.create_revision, row.version.max(1)),
            Kind::Tombstone => (0, 0),
        };
        let version = Version { revision: at.revision, create, version };
        match self.keys.get_key_value(&row.key) {
            Some((own, versions)) => {
                discard(own, versions.newest(), &version, garbage);
                if let Some(versions) = self.keys.get_mut(&row.key) {
                    versions.push(version);
                }
            }
            None => {
                discard(&row.key, None, &version, garbage);
                self.keys.insert(row.key.clone(), Versions::of(version));
            }
        }
    }

    pub fn finish(self) -> KeyIndex {
        let mut index = KeyIndex::default();
        for (key, versions) in self.keys {
            index.live += usize::from(versions.newest().is_some_and(Version::is_live));
            index.keys.insert_mut(key, versions);
        }
        index
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(main: i64) -> Revision {
        Revision { main, sub: 0 }
    }

    #[test]
    fn a_delete_starts_a_new_generation() {
        let (mut index, mut garbage) = (KeyIndex::default(), Garbage::default());
        let key = Bytes::from("k");
        index.put(&key, at(2), &mut garbage);
        assert_eq!(index.put(&key, at(3), &mut garbage).version, 2);
        index.delete(&key, at(4), &mut garbage);
        assert_eq!(index.newest(&key), None);
        assert_eq!(index.get(&key, 3).unwrap().create, 2);
        let again = index.put(&key, at(5), &mut garbage);
        assert_eq!((again.create, again.version), (5, 1));
    }

    #[test]
    fn a_tombstone_outlives_the_compaction_at_its_own_revision() {
        let (mut index, mut garbage) = (KeyIndex::default(), Garbage::default());
        let key = Bytes::from("k");
        index.put(&key, at(2), &mut garbage);
        index.delete(&key, at(3), &mut garbage);
        let put = (key.clone(), RowKey { revision: at(2), kind: Kind::Put });
        let tombstone = (key.clone(), RowKey { revision: at(3), kind: Kind::Tombstone });
        assert_eq!(garbage.take(2, 9), []);
        assert_eq!(garbage.take(3, 9), std::slice::from_ref(&put));
        assert_eq!(garbage.take(4, 9), std::slice::from_ref(&tombstone));
        index.forget(&key, put.1.revision);
        assert!(index.holds_at_most(&Interval::new(&key, &Bytes::new()), 1));
        assert!(!index.holds_at_most(&Interval::new(&key, &Bytes::new()), 0));
        index.forget(&key, tombstone.1.revision);
        assert!(index.keys.is_empty() && !garbage.is_due(i64::MAX));
    }

    /// Later writes do not change a published index.
    #[test]
    fn a_clone_never_changes() {
        let (mut index, mut garbage) = (KeyIndex::default(), Garbage::default());
        let key = Bytes::from("k");
        index.put(&key, at(2), &mut garbage);
        let published = index.clone();
        index.put(&key, at(3), &mut garbage);
        index.forget(&key, at(2));
        index.put(&Bytes::from("l"), at(4), &mut garbage);
        let everything = Interval::new(&Bytes::from("a"), &Bytes::from_static(&[0]));
        let revisions = |index: &KeyIndex| -> Vec<i64> {
            index.range(&everything, 9).map(|(_, version)| version.revision.main).collect()
        };
        assert_eq!((revisions(&published), revisions(&index)), (vec![2], vec![3, 4]));
    }
}
