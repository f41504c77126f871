//! The state hash: one SHA-256 per section of the *logical* state, read back from the engine.
//!
//! The format is a promise, written down in `node-under-test/docs/state-hash.md`: other members,
//! other engines and the harness's own model compute the same. How far the removal of compacted
//! rows got does not enter it, nor does anything in this process's memory.

use super::error::{Error, Result};
use super::mvcc::FIRST_REVISION;
use super::mvcc::row::{self, Kind, Revision, RowKey};
use super::mvcc::state::compact_revision;
use super::rows::for_each;
use node_base::backend::{Bucket, ReadView};
use node_base::sabotage::{Bug, planted};
use node_proto::command::{LeaseRecord, MemberRecord};
use prost::Message;
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;

pub type Digest = [u8; 32];

/// The kv section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvHash {
    pub digest: Digest,
    /// Rows that a finished compaction would keep.
    pub rows: u64,
    /// The newest main revision that was read.
    pub revision: i64,
    /// 0: never compacted.
    pub compact_revision: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateHash {
    pub kv: KvHash,
    pub lease: Digest,
    /// Ids and granted TTLs (seconds), ascending by id as an unsigned number.
    pub leases: Vec<(i64, i64)>,
    pub auth: Digest,
    pub membership: Digest,
}

impl StateHash {
    /// All sections in one.
    pub fn whole(&self) -> Digest {
        let mut hasher = Sha256::new();
        for section in [&self.kv.digest, &self.lease, &self.auth, &self.membership] {
            hasher.update(section);
        }
        hasher.finalize().into()
    }
}

/// etcd's services answer 32 bits; these are the first four bytes.
pub fn short(digest: &Digest) -> u32 {
    let [a, b, c, d, ..] = *digest;
    u32::from_be_bytes([a, b, c, d])
}

/// # Errors
/// [`Error::Engine`], or [`Error::Corrupt`] for rows that this program cannot have written.
pub fn compute(view: &dyn ReadView) -> Result<StateHash> {
    let kv = kv(view, i64::MAX)?;
    let (lease, leases) = lease(view)?;
    Ok(StateHash { kv, lease, leases, auth: Sha256::new().finalize().into(), membership: membership(view)? })
}

/// The kv section over the rows up to main revision `through`.
///
/// # Errors
/// As [`compute`].
pub fn kv(view: &dyn ReadView, through: i64) -> Result<KvHash> {
    let compact = compact_revision(view)?;
    let newest = newest_compacted(view, compact)?;
    let mut hash =
        KvHash { digest: [0; 32], rows: 0, revision: compact.max(FIRST_REVISION), compact_revision: compact };
    let mut hasher = Sha256::new();
    let end = through.checked_add(1).map(row::first_key_of);
    for_each(view, row::BUCKET, &[], end.as_ref().map(<[u8; 8]>::as_slice), |key, value| {
        let at = RowKey::decode(key)?;
        let kv = row::decode_value(at, value)?;
        hash.revision = hash.revision.max(at.revision.main);
        let survives =
            at.revision.main > compact || (at.kind == Kind::Put && newest.get(kv.key.as_ref()) == Some(&at.revision));
        if !survives {
            return Ok(());
        }
        hash.rows += 1;
        if planted(Bug::HashIgnoresDeletes) && at.kind == Kind::Tombstone {
            return Ok(());
        }
        hasher.update(at.encode());
        update_sized(&mut hasher, &kv.key);
        if at.kind == Kind::Put {
            for number in [kv.create_revision, kv.version, kv.lease] {
                hasher.update(number.to_be_bytes());
            }
            update_sized(&mut hasher, &kv.value);
        }
        Ok(())
    })?;
    hasher.update(compact.to_be_bytes());
    hash.digest = hasher.finalize().into();
    Ok(hash)
}

/// For each key, its newest row at or below the compact revision.
fn newest_compacted(view: &dyn ReadView, compact: i64) -> Result<HashMap<Vec<u8>, Revision>> {
    let mut newest = HashMap::new();
    if compact > 0 {
        for_each(view, row::BUCKET, &[], Some(&row::first_key_of(compact + 1)), |key, value| {
            let at = RowKey::decode(key)?;
            newest.insert(row::decode_value(at, value)?.key.to_vec(), at.revision);
            Ok(())
        })?;
    }
    Ok(newest)
}

fn lease(view: &dyn ReadView) -> Result<(Digest, Vec<(i64, i64)>)> {
    let mut leases = Vec::new();
    for_each(view, Bucket::Lease, &[], None, |_, value| {
        let lease = LeaseRecord::decode(value).map_err(|error| Error::Corrupt(format!("lease row: {error}")))?;
        leases.push((lease.id, lease.granted_ttl_seconds));
        Ok(())
    })?;
    let mut hasher = Sha256::new();
    for (id, ttl_seconds) in &leases {
        hasher.update(id.to_be_bytes());
        hasher.update(ttl_seconds.to_be_bytes());
    }
    Ok((hasher.finalize().into(), leases))
}

fn membership(view: &dyn ReadView) -> Result<Digest> {
    let mut hasher = Sha256::new();
    for_each(view, Bucket::Member, &[], None, |_, value| {
        let member = MemberRecord::decode(value).map_err(|error| Error::Corrupt(format!("member row: {error}")))?;
        hasher.update(member.id.to_be_bytes());
        for text in [&member.name, &member.peer_addr, &member.client_addr] {
            update_sized(&mut hasher, text.as_bytes());
        }
        hasher.update([u8::from(member.is_learner)]);
        Ok(())
    })?;
    Ok(hasher.finalize().into())
}

fn update_sized(hasher: &mut Sha256, bytes: &[u8]) {
    // Requests are limited to far less than 4 GiB.
    hasher.update(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    hasher.update(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::MemoryBackend;
    use node_base::LogId;
    use node_base::backend::{Backend, Batch};
    use node_proto::mvccpb::KeyValue;

    /// The bytes of the format, spelled out once: a change here breaks every other implementation
    /// of it.
    #[test]
    fn the_kv_section_is_the_documented_bytes() {
        let backend = MemoryBackend::default();
        let mut batch = Batch::default();
        let put = RowKey { revision: Revision { main: 2, sub: 0 }, kind: Kind::Put };
        let tombstone = RowKey { revision: Revision { main: 3, sub: 1 }, kind: Kind::Tombstone };
        let kv = KeyValue {
            key: "k".into(),
            value: "vv".into(),
            create_revision: 2,
            mod_revision: 2,
            version: 1,
            lease: -1,
        };
        batch.put(row::BUCKET, put.encode(), kv.encode_to_vec());
        let gone = KeyValue { key: "k".into(), mod_revision: 3, ..KeyValue::default() };
        batch.put(row::BUCKET, tombstone.encode(), gone.encode_to_vec());
        backend.commit(batch, LogId::new(1, 1)).unwrap();

        let mut expected = Vec::new();
        expected.extend([0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, b'k']);
        expected.extend([0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1]);
        expected.extend([255; 8]);
        expected.extend([0, 0, 0, 2, b'v', b'v']);
        expected.extend([0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 1, b'k']);
        expected.extend([0; 8]);
        let hash = super::kv(&*backend.read(), i64::MAX).unwrap();
        assert_eq!(hash.digest, <Digest>::from(Sha256::digest(&expected)));
        assert_eq!((hash.rows, hash.revision, hash.compact_revision), (2, 3, 0));
    }
    #[test]
    fn the_membership_section_is_the_documented_bytes() {
        let backend = MemoryBackend::default();
        let mut batch = Batch::default();
        let mut expected = Vec::new();
        for (id, name, is_learner) in [(1_u64, "a", false), (2, "", true)] {
            let (peer_addr, client_addr) = ("p:1".to_owned(), "c".to_owned());
            let row = MemberRecord { id, name: name.to_owned(), peer_addr, client_addr, is_learner };
            batch.put(Bucket::Member, id.to_be_bytes(), row.encode_to_vec());
            expected.extend(id.to_be_bytes());
            for text in [name, "p:1", "c"] {
                expected.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
                expected.extend(text.as_bytes());
            }
            expected.push(u8::from(is_learner));
        }
        backend.commit(batch, LogId::new(1, 2)).unwrap();
        assert_eq!(membership(&*backend.read()).unwrap(), <Digest>::from(Sha256::digest(&expected)));
    }
}
