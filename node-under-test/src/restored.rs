//! A restored member: where it begins, and what makes it a stranger to members that were restored
//! from something else.
//!
//! 1. *A restored image stands at a position* ([`POSITION`]), as if its rows were what the entries
//!    up to there had made. The raft log beside it was purged through that position and holds
//!    nothing; with RocksDB N is that index. The founders write the founding membership right
//!    behind it, so an empty newcomer, whom the log cannot bring that far, is sent the image.
//! 2. *The position is in term 0*, in which no member ever leads, and its index is not 0: an empty
//!    log that is founded has its first entry there, and the two are never taken for the same
//!    history.
//! 3. *A digest of the restored state* ([`digest`]) is a row of the image and part of the id of the
//!    cluster that is founded on it ([`crate::state::membership::founded_as`]). Members that were
//!    restored from another state, or from nothing, found another cluster. The digest is that of
//!    the logical state: the engine, and the member that was asked for the snapshot, do not enter
//!    it.

use crate::state::Result;
use crate::state::hash::{self, Digest};
use crate::state::membership::RESTORED_FROM;
use crate::state::mvcc::COMPACT_REVISION;
use node_base::LogId;
use node_base::backend::{self, Bucket, CONSISTENT_INDEX, ReadView};
use node_base::sabotage::{Bug, planted};
use node_raft::LogFacts;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// Claims 1 and 2.
pub const POSITION: LogId = LogId::new(0, 1);

/// Claim 3: the digest of what a restore keeps of `view`.
///
/// # Errors
/// [`Error::Engine`](crate::state::Error::Engine), or
/// [`Error::Corrupt`](crate::state::Error::Corrupt) for rows that this program cannot have written.
pub fn digest(view: &dyn ReadView) -> Result<Digest> {
    let state = hash::compute(view)?;
    let mut hasher = Sha256::new();
    for section in [&state.kv.digest, &state.lease, &state.auth] {
        hasher.update(section);
    }
    Ok(hasher.finalize().into())
}

/// True if a member with this log and this consistent index was restored and has not founded its
/// cluster yet.
pub fn is_unfounded(engine: Option<LogId>, log: &LogFacts) -> bool {
    engine == Some(POSITION) && log.first.is_none() && log.vote.is_none()
}

/// The rows that a new cluster starts from: keys, leases and users of a snapshot, the compact
/// revision, and the rows of claims 1 and 3. The members, raft's membership and the position in a
/// log that does not exist any more are the old cluster's.
pub struct Image<'a> {
    source: Box<dyn ReadView + 'a>,
    /// Rows in [`Bucket::Meta`] that are the new cluster's.
    added: Vec<(&'static [u8], Vec<u8>)>,
}

impl<'a> Image<'a> {
    /// # Errors
    /// As [`digest`].
    pub fn new(source: Box<dyn ReadView + 'a>) -> Result<Self> {
        let digest = digest(&*source)?.to_vec();
        let added = if planted(Bug::RestoreForgetsPosition) {
            Vec::new()
        } else {
            vec![(CONSISTENT_INDEX, POSITION.encode().to_vec()), (RESTORED_FROM, digest)]
        };
        Ok(Self { source, added })
    }

    /// True if a row of the source is the new cluster's as well.
    fn keeps(bucket: Bucket, key: &[u8]) -> bool {
        match bucket {
            Bucket::Lease if planted(Bug::RestoreDropsLeases) => false,
            Bucket::Key | Bucket::Lease | Bucket::Auth => true,
            Bucket::Member => false,
            Bucket::Meta => key == COMPACT_REVISION,
        }
    }

    /// The rows of [`Bucket::Meta`], a handful, in their order.
    fn meta(&self, from: &[u8], to: Option<&[u8]>) -> backend::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
        let within = |key: &[u8]| key >= from && to.is_none_or(|to| key < to);
        let added = self.added.iter().filter(|(key, _)| within(key));
        let mut rows: BTreeMap<_, _> = added.map(|(key, value)| (key.to_vec(), value.clone())).collect();
        self.source.scan(Bucket::Meta, from, to, &mut |key, value| {
            if Self::keeps(Bucket::Meta, key) {
                rows.insert(key.to_vec(), value.to_vec());
            }
            ControlFlow::Continue(())
        })?;
        Ok(rows)
    }
}

impl ReadView for Image<'_> {
    fn get(&self, bucket: Bucket, key: &[u8]) -> backend::Result<Option<Vec<u8>>> {
        let added = self.added.iter().find(|(name, _)| bucket == Bucket::Meta && *name == key);
        match added {
            Some((_, value)) => Ok(Some(value.clone())),
            None if Self::keeps(bucket, key) => self.source.get(bucket, key),
            None => Ok(None),
        }
    }

    fn scan(
        &self,
        bucket: Bucket,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> backend::Result<()> {
        if bucket == Bucket::Meta {
            // A visitor that breaks off has seen what it wanted.
            let _ = self.meta(from, to)?.iter().try_for_each(|(key, value)| visit(key, value));
            return Ok(());
        }
        self.source.scan(bucket, from, to, &mut |key, value| {
            if Self::keeps(bucket, key) { visit(key, value) } else { ControlFlow::Continue(()) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::membership::{founded_as, restored_from};
    use crate::testing::MemoryBackend;
    use node_base::backend::{Backend, Batch, consistent_index};
    use node_proto::command::MemberRecord;
    use prost::Message;

    fn old_cluster(name: &[u8]) -> MemoryBackend {
        let backend = MemoryBackend::default();
        let mut batch = Batch::default();
        batch.put(Bucket::Meta, COMPACT_REVISION, 7i64.to_be_bytes());
        batch.put(Bucket::Meta, &b"cluster_id"[..], name);
        let member =
            MemberRecord { id: 1, name: String::from_utf8_lossy(name).into_owned(), ..MemberRecord::default() };
        batch.put(Bucket::Member, 1u64.to_be_bytes(), member.encode_to_vec());
        backend.commit(batch, LogId::new(7, 900)).unwrap();
        backend
    }

    fn keys(image: &Image<'_>, bucket: Bucket, from: &[u8], to: Option<&[u8]>) -> Vec<Vec<u8>> {
        let mut keys = Vec::new();
        let mut visit = |key: &[u8], _: &[u8]| {
            keys.push(key.to_vec());
            ControlFlow::Continue(())
        };
        image.scan(bucket, from, to, &mut visit).unwrap();
        keys
    }

    #[test]
    fn claim_1_an_image_stands_at_its_position_and_has_nothing_of_the_old_cluster() {
        let old = old_cluster(b"old");
        let image = Image::new(old.read()).unwrap();
        assert_eq!(consistent_index(&image).unwrap(), Some(POSITION));
        let meta = keys(&image, Bucket::Meta, &[], None);
        assert_eq!(meta, [COMPACT_REVISION, CONSISTENT_INDEX, RESTORED_FROM]);
        assert_eq!(keys(&image, Bucket::Meta, CONSISTENT_INDEX, Some(RESTORED_FROM)), [CONSISTENT_INDEX]);
        assert_eq!(keys(&image, Bucket::Member, &[], None), Vec::<Vec<u8>>::new());
        assert_eq!(image.get(Bucket::Meta, b"cluster_id").unwrap(), None);
        assert!(restored_from(&image).unwrap().is_some());
        assert_eq!(restored_from(&*old.read()).unwrap(), None);
    }

    #[test]
    fn claim_2_the_position_is_neither_a_leaders_nor_that_of_a_founding_entry() {
        assert_eq!((POSITION.term, POSITION.index > 0), (0, true));
    }

    #[test]
    fn claim_3_what_a_restore_does_not_keep_does_not_enter_the_digest() {
        let [one, other] = [&b"one"[..], b"other"].map(|name| {
            let old = old_cluster(name);
            restored_from(&Image::new(old.read()).unwrap()).unwrap()
        });
        assert_eq!(one, other);
        assert!(one.is_some());
    }
    /// Founders that were restored from different states, and one that was not restored at all, are
    /// strangers to each other.
    #[test]
    fn the_state_that_a_cluster_was_restored_from_is_part_of_its_id() {
        let founders = || [(1, "a", "p1"), (2, "b", "p2")].into_iter();
        let founded = |compacted: Option<i64>| {
            let backend = MemoryBackend::default();
            let mut batch = Batch::default();
            batch.put(Bucket::Meta, COMPACT_REVISION, compacted.unwrap_or_default().to_be_bytes());
            backend.commit(batch, LogId::new(1, 1)).unwrap();
            match compacted {
                None => founded_as(&*MemoryBackend::default().read(), founders()).unwrap(),
                Some(_) => founded_as(&Image::new(backend.read()).unwrap(), founders()).unwrap(),
            }
        };
        let ids: std::collections::BTreeSet<_> = [None, Some(3), Some(4), Some(4)].map(founded).into();
        assert_eq!(ids.len(), 3);
    }
}
