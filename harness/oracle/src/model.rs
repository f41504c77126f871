//! The independent model: the key-value state by revision, as the watch streams spelt it out.
//!
//! It shares no code with the node. It computes create revisions and versions itself, encodes rows
//! as `node-under-test/docs/state-hash.md` says, and compacts *logically*: a row survives a
//! compaction at C if its main revision is above C, or if it is a put and the newest row of its key
//! at or below C. Rows are encoded once, when they arrive, and hashed straight from there; rows
//! that a compaction drops are freed, so memory follows the state and not the run.

mod hash_kv;
mod live;
mod row;

pub use hash_kv::predicts_hash_kv;
pub use live::live_digest;
pub use row::Live;

use ninelives_evidence::Change;
use ninelives_evidence::verdict::findings::Writes;
use row::Row;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

/// Main revision, and the change's position in it.
type Position = (u64, u32);

/// The state at every revision from the last compaction on.
#[derive(Debug, Clone)]
pub struct Model {
    /// The newest revision applied. An empty store is at revision 1.
    revision: u64,
    /// The newest compaction executed here; 0: none.
    compacted: u64,
    rows: BTreeMap<Position, Row>,
    /// The positions of each key's rows, ascending; never empty.
    keys: BTreeMap<Arc<[u8]>, Vec<Position>>,
}

/// SHA-256 of rows, and how many went into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvDigest {
    pub sha256: [u8; 32],
    pub rows: u64,
}

impl Default for Model {
    fn default() -> Self {
        Self { revision: 1, compacted: 0, rows: BTreeMap::new(), keys: BTreeMap::new() }
    }
}

impl Model {
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The newest revision below which only surviving rows are remembered.
    pub fn compacted(&self) -> u64 {
        self.compacted
    }

    /// Rows held: those above the last compaction, and the survivors below it.
    pub fn rows(&self) -> usize {
        self.rows.len()
    }

    /// Applies the changes of the next revision, in their order. The delivered values of a put
    /// (create revision, version) are compared with the correct ones; each difference is in the
    /// result, and the model keeps the values that *it* computed.
    pub fn apply(&mut self, revision: u64, changes: &[Change]) -> Vec<Writes> {
        let mut complaints = Vec::new();
        for (sub, change) in (0u32..).zip(changes) {
            let key = change.key();
            let before = self.live(key).map(|live| (live.create_revision, live.version));
            let row = match change {
                Change::Put { value, create_revision, version, lease, .. } => {
                    let must = before.map_or((revision, 1), |(create, version)| (create, version + 1));
                    if (*create_revision, *version) != must {
                        complaints.push(Writes::PutMisversioned {
                            revision,
                            key: key.escape_ascii().to_string(),
                            create_revision: *create_revision,
                            version: *version,
                            create_revision_expected: must.0,
                            version_expected: must.1,
                        });
                    }
                    Row::put((revision, sub), key, value, must, *lease)
                }
                Change::Delete { .. } => {
                    if before.is_none() {
                        let key = key.escape_ascii().to_string();
                        complaints.push(Writes::DeletesNothing { revision, key });
                    }
                    Row::tombstone((revision, sub), key)
                }
            };
            self.insert((revision, sub), row);
        }
        self.revision = self.revision.max(revision);
        complaints
    }

    fn insert(&mut self, at: Position, row: Row) {
        let key = match self.keys.get_key_value(row.key()) {
            Some((key, _)) => Arc::clone(key),
            None => Arc::from(row.key()),
        };
        self.keys.entry(key).or_default().push(at);
        self.rows.insert(at, row);
    }

    /// The key as it stands at the newest revision; `None`: absent.
    pub fn live(&self, key: &[u8]) -> Option<Live<'_>> {
        self.newest(self.keys.get(key)?, u64::MAX)
    }

    /// The live keys of `[from, to)` at `revision`, ascending; with `to` `None`, all from `from`
    /// on. Sound for `compacted() <= revision <= revision()`.
    pub fn range_at<'a>(
        &'a self,
        from: &[u8],
        to: Option<&[u8]>,
        revision: u64,
    ) -> impl Iterator<Item = (&'a [u8], Live<'a>)> {
        let to = to.map_or(Bound::Unbounded, Bound::Excluded);
        // An inverted range is empty, as it is to the store; BTreeMap would panic.
        let inverted = matches!(to, Bound::Excluded(end) if end <= from);
        let bounds =
            if inverted { (Bound::Included(from), Bound::Included(from)) } else { (Bound::Included(from), to) };
        self.keys
            .range::<[u8], _>(bounds)
            .filter(move |_| !inverted)
            .filter_map(move |(key, positions)| Some((key.as_ref(), self.newest(positions, revision)?)))
    }

    /// The changes of the revisions above the last compaction and from `from` on, in their order.
    pub fn changes_since(&self, from: u64) -> Vec<(u64, Change)> {
        let from = from.max(self.compacted + 1);
        let change = |row: &Row| match row.live() {
            Some(live) => Change::Put {
                key: row.key().to_vec(),
                value: live.value.to_vec(),
                create_revision: live.create_revision,
                version: live.version,
                lease: live.lease,
            },
            None => Change::Delete { key: row.key().to_vec() },
        };
        self.rows.range((from, 0)..).map(|((revision, _), row)| (*revision, change(row))).collect()
    }

    /// The live keys attached to `lease` at `revision`, ascending.
    pub fn attached_at(&self, lease: i64, revision: u64) -> Vec<&[u8]> {
        self.range_at(b"", None, revision).filter(|(_, live)| live.lease == lease).map(|(key, _)| key).collect()
    }

    fn newest(&self, positions: &[Position], revision: u64) -> Option<Live<'_>> {
        let upto = positions.partition_point(|(main, _)| *main <= revision);
        self.rows.get(positions[..upto].last()?)?.live()
    }

    /// Forgets every revision above `revision`: the cluster was restored from a snapshot of it.
    pub fn forget_above(&mut self, revision: u64) {
        drop(self.rows.split_off(&(revision + 1, 0)));
        self.keys.retain(|_, positions| {
            positions.truncate(positions.partition_point(|(main, _)| *main <= revision));
            !positions.is_empty()
        });
        self.revision = self.revision.min(revision);
    }

    /// Drops what a finished compaction at `at` drops. Never goes back.
    pub fn compact(&mut self, at: u64) {
        if at <= self.compacted {
            return;
        }
        self.compacted = at;
        let rows = &mut self.rows;
        self.keys.retain(|_, positions| {
            let upto = positions.partition_point(|(main, _)| *main <= at);
            let newest_lives = upto > 0 && rows.get(&positions[upto - 1]).is_some_and(|row| row.live().is_some());
            let drop = if newest_lives { upto - 1 } else { upto };
            for position in positions.drain(..drop) {
                rows.remove(&position);
            }
            positions.shrink_to(64);
            !positions.is_empty()
        });
    }

    /// The kv section at `revision` with compact revision `compact`. Executes that compaction.
    ///
    /// # Errors
    /// When the model cannot know: it has not seen `revision` yet, or has compacted beyond
    /// `compact`.
    pub fn digest(&mut self, revision: u64, compact: u64) -> Result<KvDigest, String> {
        if revision > self.revision {
            return Err(format!("the model stands at revision {} and cannot judge {revision}", self.revision));
        }
        if compact < self.compacted || compact > revision {
            return Err(format!(
                "compact revision {compact} at revision {revision} is impossible: {} was compacted before",
                self.compacted
            ));
        }
        self.compact(compact);
        let mut hash = Sha256::new();
        let mut rows = 0;
        for (_, row) in self.rows.range(..=(revision, u32::MAX)) {
            hash.update(row.encoded());
            rows += 1;
        }
        hash.update(compact.to_be_bytes());
        Ok(KvDigest { sha256: hash.finalize().into(), rows })
    }
}

#[cfg(test)]
mod tests;
