//! The answer that etcd's `Maintenance.HashKV` has to give, from the model, so that a member's own
//! hash is not taken on trust.
//!
//! etcd 3.4 and 3.5 (`HashByRev` of package `mvcc`): CRC-32C over the bucket's name, then over each
//! row's key and value, ascending, as the engine holds them: rows above the compact revision and up
//! to the one asked for, and of the older ones those that are live at it. If none is live,
//! everything that the engine still holds is hashed, and the model cannot know that. It cannot know
//! the answer at the compact revision itself either: 3.4 and the first 3.5 refuse that, and 3.5.16
//! answers with the tombstones that it keeps there.
//!
//! A row's key is `u64 main, '_', u64 sub`, with a `t` behind it for a tombstone; its value is a
//! `mvccpb.KeyValue`, where a tombstone has only the key.

use super::row::Row;
use super::{Model, Position};
use node_proto::mvccpb::KeyValue;
use prost::Message;

const BUCKET: &[u8] = b"key";

/// Versions whose HashKV was seen to cover the rows that the model says.
const PREDICTED: [&str; 2] = ["3.4.", "3.5."];

/// Whether HashKV of this version (`3.4.23`) is the one that the model predicts.
pub fn predicts_hash_kv(version: &str) -> bool {
    PREDICTED.iter().any(|series| version.starts_with(series))
}

impl Model {
    /// The answer for `revision`, from a member whose compact revision is `compact`. Executes that
    /// compaction. `None`: the model cannot know.
    pub fn hash_kv(&mut self, revision: u64, compact: u64) -> Option<u32> {
        if revision > self.revision || compact < self.compacted || compact >= revision {
            return None;
        }
        self.compact(compact);
        let mut hash = crc32c::crc32c(BUCKET);
        let mut any_live = false;
        for (at, row) in self.rows.range(..=(revision, u32::MAX)) {
            let live = row.live().is_some() && self.is_newest(at, row, revision);
            any_live |= live;
            if at.0 <= compact && !live {
                continue;
            }
            hash = crc32c::crc32c_append(hash, &key_of(*at, row));
            hash = crc32c::crc32c_append(hash, &value_of(row));
        }
        (any_live || compact == 0).then_some(hash)
    }

    /// Whether no newer row of its key is there up to `revision`.
    fn is_newest(&self, at: &Position, row: &Row, revision: u64) -> bool {
        self.keys.get(row.key()).and_then(|all| all.iter().rfind(|one| one.0 <= revision)) == Some(at)
    }
}

fn key_of((main, sub): Position, row: &Row) -> Vec<u8> {
    let mut key = Vec::with_capacity(18);
    key.extend(main.to_be_bytes());
    key.push(b'_');
    key.extend(u64::from(sub).to_be_bytes());
    if row.live().is_none() {
        key.push(b't');
    }
    key
}

fn value_of(row: &Row) -> Vec<u8> {
    let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let key = row.key().to_vec().into();
    let value = match row.live() {
        None => KeyValue { key, ..KeyValue::default() },
        Some(live) => KeyValue {
            key,
            create_revision: signed(live.create_revision),
            mod_revision: signed(live.mod_revision),
            version: signed(live.version),
            value: live.value.to_vec().into(),
            lease: live.lease,
        },
    };
    value.encode_to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ninelives_evidence::Change;

    fn put(key: &str, value: &str, create_revision: u64, version: u64, lease: i64) -> Change {
        Change::Put { key: key.into(), value: value.into(), create_revision, version, lease }
    }

    fn model() -> Model {
        let mut model = Model::default();
        let history = [
            vec![put("a", "1", 2, 1, 0)],
            vec![put("b", "2", 3, 1, 0), put("c", "3", 3, 1, 0)],
            vec![put("a", "4", 2, 2, 0)],
            vec![Change::Delete { key: "b".into() }],
            vec![put("b", "5", 6, 1, 0)],
            vec![Change::Delete { key: "c".into() }],
            vec![put("d", "6", 8, 1, 0)],
        ];
        for (revision, changes) in (2..).zip(history) {
            assert_eq!(model.apply(revision, &changes), []);
        }
        model
    }

    /// Answers of etcd 3.4.23, 3.5.1, 3.5.16 and 3.5.30 for that history: revision, compact
    /// revision, hash.
    #[test]
    fn it_is_what_etcd_answers() {
        let mut model = model();
        let answered = [
            (3, 0, 3_827_101_964),
            (5, 0, 2_344_359_256),
            (8, 0, 1_352_138_874),
            (6, 5, 3_470_458_606),
            (8, 5, 3_820_334_439),
            (8, 7, 3_128_461_608),
        ];
        for (revision, compact, hash) in answered {
            assert_eq!(model.hash_kv(revision, compact), Some(hash), "revision {revision}, compacted at {compact}");
        }
    }

    #[test]
    fn what_it_cannot_know_it_does_not_say() {
        let mut model = model();
        assert_eq!(model.hash_kv(9, 0), None);
        assert_eq!(model.hash_kv(5, 6), None);
        assert_eq!(model.hash_kv(7, 7), None);
        assert!(model.hash_kv(8, 7).is_some());
        assert_eq!(model.hash_kv(8, 5), None, "it has forgotten what was there before");
        let deletes = ["a", "b", "d"].map(|key| Change::Delete { key: key.into() });
        assert_eq!(model.apply(9, &deletes), []);
        assert_eq!(model.hash_kv(9, 8), None, "nothing is live: what the engine has not dropped yet is hashed as well");
    }
}
