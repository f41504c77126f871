//! A digest of what a client can read at one revision: the live keys, without their history.
//!
//! Ascending by key: `u32 key length, key, u64 create revision, u64 mod revision, u64 version, u64
//! lease (two's complement), u32 value length, value`, all integers big-endian.

use super::{KvDigest, Live, Model};
use sha2::{Digest, Sha256};

/// The digest of `rows`, which are ascending by key.
pub fn live_digest<'a>(rows: impl Iterator<Item = (&'a [u8], Live<'a>)>) -> KvDigest {
    let (mut hash, mut count) = (Sha256::new(), 0);
    for (key, live) in rows {
        sized(&mut hash, key);
        for number in [live.create_revision, live.mod_revision, live.version] {
            hash.update(number.to_be_bytes());
        }
        hash.update(live.lease.to_be_bytes());
        sized(&mut hash, live.value);
        count += 1;
    }
    KvDigest { sha256: hash.finalize().into(), rows: count }
}

fn sized(hash: &mut Sha256, bytes: &[u8]) {
    // As in the rows of the kv section: a message is smaller than 4 GiB.
    hash.update((bytes.len() as u32).to_be_bytes());
    hash.update(bytes);
}

impl Model {
    /// The digest of the live keys at `revision`.
    ///
    /// # Errors
    /// When the model cannot know: it has not seen `revision` yet, or has compacted beyond it.
    pub fn live_digest(&self, revision: u64) -> Result<KvDigest, String> {
        if revision > self.revision || revision < self.compacted {
            let (from, to) = (self.compacted, self.revision);
            return Err(format!("the model knows revisions {from} to {to}, and cannot judge {revision}"));
        }
        Ok(live_digest(self.range_at(b"", None, revision)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ninelives_evidence::Change;

    fn put(key: &str, value: &str, create_revision: u64, version: u64, lease: i64) -> Change {
        Change::Put { key: key.into(), value: value.into(), create_revision, version, lease }
    }

    #[test]
    fn every_part_of_a_row_is_in_it_and_its_past_is_not() {
        let of = |changes: &[Change]| {
            let mut model = Model::default();
            assert!((2..).zip(changes).all(|(at, change)| model.apply(at, std::slice::from_ref(change)).is_empty()));
            model.live_digest(model.revision()).unwrap()
        };
        let base = of(&[put("a", "1", 2, 1, 0), put("b", "2", 3, 1, 0)]);
        assert_eq!(base.rows, 2);
        for other in [
            [put("a", "1", 2, 1, 0), put("b", "3", 3, 1, 0)],
            [put("a", "1", 2, 1, 0), put("b", "2", 3, 1, 9)],
            [put("a", "1", 2, 1, 0), put("c", "2", 3, 1, 0)],
            [put("b", "2", 2, 1, 0), put("a", "1", 3, 1, 0)],
        ] {
            assert_ne!(of(&other), base, "{other:?}");
        }
        let deleted = of(&[put("a", "1", 2, 1, 0), put("b", "2", 3, 1, 0), Change::Delete { key: "b".into() }]);
        assert_eq!(deleted, of(&[put("a", "1", 2, 1, 0)]));
    }

    #[test]
    fn what_it_cannot_know_it_does_not_digest() {
        let mut model = Model::default();
        (2..6).for_each(|at| drop(model.apply(at, &[put("a", "1", 2, at - 1, 0)])));
        model.compact(4);
        assert!(model.live_digest(3).is_err() && model.live_digest(6).is_err());
        assert_eq!(model.live_digest(4).unwrap().rows, 1);
    }
}
