//! The part of the store that is kept in memory, and how it is rebuilt from the engine's rows.

use super::garbage::Garbage;
use super::index::{KeyIndex, Loading};
use super::row::{self, Kind, RowKey};
use super::{COMPACT_REVISION, Error, FIRST_REVISION, Result};
use crate::state::leases::LeaseTable;
use crate::state::rows::for_each;
use node_base::backend::{Bucket, ReadView};
use node_proto::command::LeaseRecord;
use prost::Message;

/// Clones share everything and are taken in constant time: readers hold one, the writer changes its
/// own.
#[derive(Debug, Clone)]
pub struct State {
    pub index: KeyIndex,
    pub leases: LeaseTable,
    /// The main revision of the last change.
    pub revision: i64,
    /// 0: never compacted.
    pub compact: i64,
}

impl State {
    /// Reads everything that `view` holds, also what a compaction had made unreachable and did not
    /// come to remove.
    ///
    /// # Errors
    /// [`Error::Engine`], or [`Error::Corrupt`] for rows that this program cannot have written.
    pub fn load(view: &dyn ReadView) -> Result<(Self, Garbage)> {
        let compact = compact_revision(view)?;
        let mut state = State {
            index: KeyIndex::default(),
            leases: LeaseTable::default(),
            revision: compact.max(FIRST_REVISION),
            compact,
        };
        let (mut loading, mut garbage) = (Loading::default(), Garbage::default());
        for_each(view, Bucket::Lease, &[], None, |_, value| {
            let lease = LeaseRecord::decode(value).map_err(|error| Error::Corrupt(format!("lease row: {error}")))?;
            state.leases.grant(lease.id, lease.granted_ttl_seconds);
            Ok(())
        })?;
        for_each(view, row::BUCKET, &[], None, |key, value| {
            let at = RowKey::decode(key)?;
            let row = row::decode_value(at, value)?;
            state.revision = state.revision.max(at.revision.main);
            let lease = if at.kind == Kind::Put { row.lease } else { 0 };
            state.leases.attach(&row.key, lease);
            loading.load(at, &row, &mut garbage);
            Ok(())
        })?;
        state.index = loading.finish();
        Ok((state, garbage))
    }
}

/// # Errors
/// As [`State::load`].
pub fn compact_revision(view: &dyn ReadView) -> Result<i64> {
    let Some(bytes) = view.get(Bucket::Meta, COMPACT_REVISION)? else { return Ok(0) };
    let fixed: [u8; 8] = bytes
        .as_slice()
        .try_into()
        .map_err(|_| Error::Corrupt(format!("compact revision: expected 8 bytes, found {bytes:02x?}")))?;
    Ok(i64::from_be_bytes(fixed))
}
