//! The members as rows, and what a membership that is applied makes of them.
//!
//! Contract: the rows are a function of the applied entries alone. A membership entry says who
//! there is, at which peer address, and who learns; name and client address are the founding list's
//! until the member has published its own, and later membership entries leave them alone. Besides
//! the rows there are three of bookkeeping, in [`Bucket::Meta`]: raft's own record of the
//! membership, the greatest id that any member ever had (so that none is given twice), and the
//! cluster's id, which is decided by the founding membership and stays.

use super::error::{Error, Rejection, Result};
use super::hash::Digest;
use super::rows::for_each;
use node_base::backend::{Batch, Bucket, ReadView};
use node_base::sabotage::{Bug, planted};
use node_proto::command::{MemberRecord, PublishMember};
use node_raft::{Enrolled, decode_membership};
use prost::Message;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

/// Key, in [`Bucket::Meta`], of raft's own record of the membership in force, stored as raft gave
/// it.
const RAFT_MEMBERSHIP: &[u8] = b"raft_membership";
/// Key, in [`Bucket::Meta`], of the greatest member id ever, `u64` big-endian.
const GREATEST_MEMBER_ID: &[u8] = b"greatest_member_id";
/// Key, in [`Bucket::Meta`], of the cluster's id, `u64` big-endian.
const CLUSTER_ID: &[u8] = b"cluster_id";
/// Key, in [`Bucket::Meta`], of the digest of the state that this cluster was restored from, 32
/// bytes.
pub const RESTORED_FROM: &[u8] = b"restored_from";

/// The changes of one membership entry.
///
/// # Errors
/// [`Error::Engine`], or [`Error::Corrupt`] for bytes that this program cannot have written.
pub fn apply(view: &dyn ReadView, raft_membership: &[u8]) -> Result<Batch> {
    let mut batch = changes(view, &decode(raft_membership)?)?;
    batch.put(Bucket::Meta, RAFT_MEMBERSHIP, raft_membership);
    Ok(batch)
}

/// All but raft's own record.
fn changes(view: &dyn ReadView, members: &[Enrolled]) -> Result<Batch> {
    let mut batch = Batch::default();
    let mut published: BTreeMap<u64, MemberRecord> = list(view)?.into_iter().map(|row| (row.id, row)).collect();
    for member in members {
        let row = published.remove(&member.id);
        let (name, client_addr) = match row {
            Some(row) => (row.name, row.client_addr),
            None => (member.name.clone(), member.client_addr.clone()),
        };
        let (peer_addr, is_learner) = (member.peer_addr.clone(), member.is_learner);
        put(&mut batch, &MemberRecord { id: member.id, name, peer_addr, client_addr, is_learner });
    }
    for gone in published.keys() {
        batch.delete(Bucket::Member, gone.to_be_bytes());
    }
    let greatest = members.iter().map(|member| member.id).fold(greatest_id(view)?, u64::max);
    batch.put(Bucket::Meta, GREATEST_MEMBER_ID, greatest.to_be_bytes());
    if number(view, CLUSTER_ID)?.is_none() {
        // A cluster that was founded before this row existed still has its founding membership in
        // force.
        let id = match cluster_id(view)? {
            Some(id) => id,
            None => founded_as(view, members.iter().map(founder))?,
        };
        batch.put(Bucket::Meta, CLUSTER_ID, id.to_be_bytes());
    }
    Ok(batch)
}

/// A member says what it is called and where it serves clients.
///
/// # Errors
/// [`Rejection::MEMBER_NOT_FOUND`]; or as [`apply`].
pub fn publish(view: &dyn ReadView, batch: &mut Batch, said: &PublishMember) -> Result<()> {
    let row = batch.get(view, Bucket::Member, &said.id.to_be_bytes())?.ok_or(Rejection::MEMBER_NOT_FOUND)?;
    let row = decode_row(&row)?;
    put(batch, &MemberRecord { name: said.name.clone(), client_addr: said.client_addr.clone(), ..row });
    Ok(())
}

/// All members, ascending by id.
///
/// # Errors
/// As [`apply`].
pub fn list(view: &dyn ReadView) -> Result<Vec<MemberRecord>> {
    let mut members = Vec::new();
    for_each(view, Bucket::Member, &[], None, |_, value| {
        members.push(decode_row(value)?);
        Ok(())
    })?;
    Ok(members)
}

/// Raft's record, as [`apply`] got it.
///
/// # Errors
/// [`Error::Engine`].
pub fn raft_membership(view: &dyn ReadView) -> Result<Option<Vec<u8>>> {
    Ok(view.get(Bucket::Meta, RAFT_MEMBERSHIP)?)
}

/// The greatest id that any member ever had; 0: no membership was applied yet.
///
/// # Errors
/// As [`apply`].
pub fn greatest_id(view: &dyn ReadView) -> Result<u64> {
    if let Some(greatest) = number(view, GREATEST_MEMBER_ID)? {
        return Ok(greatest);
    }
    // From before this row existed, when memberships did not change.
    let members = decode(&raft_membership(view)?.unwrap_or_default())?;
    Ok(members.iter().map(|member| member.id).max().unwrap_or(0))
}

/// The cluster's id; `None`: no membership was applied yet.
///
/// # Errors
/// As [`apply`].
pub fn cluster_id(view: &dyn ReadView) -> Result<Option<u64>> {
    if let Some(id) = number(view, CLUSTER_ID)? {
        return Ok(Some(id));
    }
    let founding = raft_membership(view)?.map(|founding| decode(&founding)).transpose()?;
    founding.map(|members| founded_as(view, members.iter().map(founder))).transpose()
}

/// The digest of the state that the cluster of `view` was restored from; `None`: it began empty.
///
/// # Errors
/// As [`apply`].
pub fn restored_from(view: &dyn ReadView) -> Result<Option<Digest>> {
    let Some(bytes) = view.get(Bucket::Meta, RESTORED_FROM)? else { return Ok(None) };
    let found = bytes.len();
    let digest =
        bytes.try_into().map_err(|_| Error::Corrupt(format!("restored_from: expected 32 bytes, found {found}")))?;
    Ok(Some(digest))
}

fn founder(member: &Enrolled) -> (u64, &str, &str) {
    (member.id, &member.name, &member.peer_addr)
}

/// The id of a cluster that is founded on `view` with these members (id, name, peer address;
/// ascending by id): the same on each of them, and another one for another list, or for members
/// that were restored from another state.
///
/// # Errors
/// As [`apply`].
pub fn founded_as<'a>(view: &dyn ReadView, members: impl Iterator<Item = (u64, &'a str, &'a str)>) -> Result<u64> {
    let mut hasher = Sha256::new();
    for (id, name, peer_addr) in members {
        hasher.update(format!("{id} {name} {peer_addr}\n"));
    }
    if let Some(digest) = restored_from(view)?.filter(|_| !planted(Bug::UnlikeFounderAdmitted)) {
        hasher.update("restored\n");
        hasher.update(digest);
    }
    let [a, b, c, d, e, f, g, h, ..] = <[u8; 32]>::from(hasher.finalize());
    Ok(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
}

fn decode(raft_membership: &[u8]) -> Result<Vec<Enrolled>> {
    decode_membership(raft_membership).map_err(|error| Error::Corrupt(error.to_string()))
}

fn decode_row(value: &[u8]) -> Result<MemberRecord> {
    MemberRecord::decode(value).map_err(|error| Error::Corrupt(format!("member row: {error}")))
}

fn put(batch: &mut Batch, row: &MemberRecord) {
    batch.put(Bucket::Member, row.id.to_be_bytes(), row.encode_to_vec());
}

fn number(view: &dyn ReadView, key: &[u8]) -> Result<Option<u64>> {
    let Some(bytes) = view.get(Bucket::Meta, key)? else { return Ok(None) };
    let corrupt = |_| {
        let key = String::from_utf8_lossy(key);
        Error::Corrupt(format!("{key}: expected 8 bytes, found {bytes:02x?}"))
    };
    Ok(Some(u64::from_be_bytes(bytes.as_slice().try_into().map_err(corrupt)?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::MemoryBackend;
    use node_base::LogId;
    use node_base::backend::Backend;

    fn enrolled(id: u64, name: &str, is_learner: bool) -> Enrolled {
        let client_addr = if name.is_empty() { String::new() } else { format!("c{id}") };
        Enrolled { id, peer_addr: format!("p{id}"), name: name.to_owned(), client_addr, is_learner }
    }

    fn commit(backend: &MemoryBackend, batch: Batch) {
        backend.commit(batch, LogId::new(1, 1)).unwrap();
    }

    fn enter(backend: &MemoryBackend, members: &[Enrolled]) {
        let batch = changes(&*backend.read(), members).unwrap();
        commit(backend, batch);
    }

    /// Id, name, client address, learner.
    fn rows(backend: &MemoryBackend) -> Vec<(u64, String, String, bool)> {
        let rows = list(&*backend.read()).unwrap();
        rows.into_iter().map(|row| (row.id, row.name, row.client_addr, row.is_learner)).collect()
    }

    fn row(id: u64, name: &str, client_addr: &str, is_learner: bool) -> (u64, String, String, bool) {
        (id, name.to_owned(), client_addr.to_owned(), is_learner)
    }

    #[test]
    fn what_a_member_published_survives_later_memberships() {
        let backend = MemoryBackend::default();
        enter(&backend, &[enrolled(1, "a", false)]);
        enter(&backend, &[enrolled(1, "a", false), enrolled(2, "", true)]);
        assert_eq!(rows(&backend), [row(1, "a", "c1", false), row(2, "", "", true)]);
        let mut batch = Batch::default();
        let said = |id, name: &str| PublishMember { id, name: name.to_owned(), client_addr: "here".to_owned() };
        publish(&*backend.read(), &mut batch, &said(2, "b")).unwrap();
        publish(&*backend.read(), &mut batch, &said(1, "a2")).unwrap();
        let unknown = publish(&*backend.read(), &mut batch, &said(3, "c"));
        assert!(matches!(unknown, Err(Error::Rejected(Rejection::MEMBER_NOT_FOUND))), "{unknown:?}");
        commit(&backend, batch);
        enter(&backend, &[enrolled(1, "a", false), enrolled(2, "", false)]);
        assert_eq!(rows(&backend), [row(1, "a2", "here", false), row(2, "b", "here", false)]);
    }

    #[test]
    fn a_removed_member_leaves_only_its_id_behind() {
        let backend = MemoryBackend::default();
        assert_eq!((greatest_id(&*backend.read()).unwrap(), cluster_id(&*backend.read()).unwrap()), (0, None));
        enter(&backend, &[enrolled(1, "a", false), enrolled(4, "d", false)]);
        let founded = cluster_id(&*backend.read()).unwrap();
        let founders = || [(1, "a", "p1"), (4, "d", "p4")].into_iter();
        assert_eq!(founded, Some(founded_as(&*backend.read(), founders()).unwrap()));
        enter(&backend, &[enrolled(1, "a", false)]);
        assert_eq!(rows(&backend), [row(1, "a", "c1", false)]);
        assert_eq!(greatest_id(&*backend.read()).unwrap(), 4);
        assert_eq!(cluster_id(&*backend.read()).unwrap(), founded, "decided once");
    }
}
