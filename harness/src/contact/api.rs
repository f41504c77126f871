//! A member that is known by etcd's API only.
//!
//! The API has no event for a member that begins to serve or has applied an index, so the harness
//! polls for both, with a pause. (etcd binds its port before it serves: the first question waits in
//! the socket until it can be answered.)
//!
//! Members are called by the harness's ids; a server has an id of its own, by which others name it
//! as their leader. [`Ids`] remembers which is which.

use super::{Standing, rows};
use crate::dial::url;
use crate::subject::Ids;
use crate::timer;
use etcd_client::{Client, Error};
use futures_util::future::try_join3;
use ninelives_evidence::KvAnswer;
use ninelives_evidence::limits;
use ninelives_evidence::operation::KeyState;
use ninelives_oracle::model::{Live, live_digest};
use std::net::SocketAddr;
use std::sync::Arc;
use tonic::Status;

/// See the module's documentation.
#[derive(Clone)]
pub struct Api {
    id: u64,
    /// Shared, because it is large.
    client: Arc<Client>,
    ids: Ids,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").field("id", &self.id).finish_non_exhaustive()
    }
}

/// One member's own state at one revision.
#[derive(Debug, Clone, PartialEq)]
pub struct KvLook {
    /// The server's version, as it says it: `3.4.23`.
    pub version: String,
    /// The raft index that it had applied before it was asked.
    pub applied: u64,
    pub revision: u64,
    /// The compact revision when it was hashed; 0: never compacted.
    pub compact_revision: u64,
    /// Its own hash of all rows up to the revision (Maintenance.HashKV).
    pub hash_kv: u32,
    /// Our digest ([`live_digest`]) of `rows`.
    pub sha256: [u8; 32],
    /// All keys at the revision, by a serializable range.
    pub rows: Vec<KeyState>,
    /// The ids of all leases that it knows, now: leases have no revision. Ascending.
    pub leases: Vec<i64>,
}

impl KvLook {
    /// The look at `member`, as the history writes it.
    pub fn answer(&self, member: u64) -> KvAnswer {
        KvAnswer {
            member,
            version: self.version.clone(),
            applied: self.applied,
            compact_revision: self.compact_revision,
            hash_kv: self.hash_kv,
            sha256: self.sha256,
            rows: self.rows.len() as u64,
            leases: self.leases.clone(),
        }
    }
}

impl Api {
    pub(super) async fn new(id: u64, at: SocketAddr, ids: Ids) -> anyhow::Result<Self> {
        let client = super::connect(&url(at)).await?;
        Ok(Self { id, client: Arc::new(client), ids })
    }

    pub(super) async fn serves(&self) {
        while self.status().await.is_err() {
            timer::sleep(limits::SERVES_RETRY_PAUSE).await;
        }
    }

    pub(super) async fn status(&self) -> Result<Standing, Status> {
        let said = self.client.maintenance_client().status().await.map_err(status_of)?;
        let header = said.header().ok_or_else(|| Status::data_loss("a status without a header"))?;
        self.ids.met(header.member_id(), self.id);
        Ok(Standing {
            member_id: self.id,
            term: said.raft_term(),
            leader_id: self.ids.ours(said.leader()),
            applied: Some(said.raft_applied_index()),
            // The server reads it before the applied index, so it is lower at times; applied
            // entries are committed.
            committed: Some(said.raft_index().max(said.raft_applied_index())),
            revision: header.revision(),
            ..Standing::default()
        })
    }

    pub(super) async fn wait_applied(&self, index: u64) -> Result<Standing, Status> {
        loop {
            let status = self.status().await?;
            if status.applied >= Some(index) {
                return Ok(status);
            }
            timer::sleep(limits::APPLIED_RETRY_PAUSE).await;
        }
    }

    /// Leader and term are read one after the other: an election in between makes a pair that never
    /// existed.
    pub(super) fn testimony(status: &Standing) -> Standing {
        Standing { leader_id: 0, ..status.clone() }
    }

    pub(super) async fn newest_revision(&self) -> Result<u64, Status> {
        let answer = self.client.kv_client().get("p/", None).await.map_err(status_of)?;
        let revision = answer.header().and_then(|header| u64::try_from(header.revision()).ok());
        revision.ok_or_else(|| Status::data_loss("an answer without a revision"))
    }

    /// # Errors
    /// `OutOfRange`: it was compacted away meanwhile, or is not applied yet.
    pub(super) async fn look(&self, revision: u64) -> Result<KvLook, Status> {
        let wire =
            i64::try_from(revision).map_err(|_| Status::invalid_argument("a revision beyond the wire's range"))?;
        let said = self.client.maintenance_client().status().await.map_err(status_of)?;
        let (mut maintenance, mut lease) = (self.client.maintenance_client(), self.client.lease_client());
        let hash = async { maintenance.hash_kv(wire).await.map_err(status_of) };
        let rows = async { rows::at(&self.client, revision).await.map_err(status_of) };
        let leases = async { lease.leases().await.map_err(status_of) };
        let (hash, rows, leases) = try_join3(hash, rows, leases).await?;
        let mut leases: Vec<i64> = leases.leases().iter().map(|lease| lease.id()).collect();
        leases.sort_unstable();
        Ok(KvLook {
            version: said.version().to_owned(),
            applied: said.raft_applied_index(),
            revision,
            // -1 before the first compaction.
            compact_revision: u64::try_from(hash.compact_version()).unwrap_or(0),
            hash_kv: hash.hash(),
            sha256: live_digest(rows.iter().map(|row| (row.key.as_slice(), Live::from(row)))).sha256,
            rows,
            leases,
        })
    }
}

fn status_of(error: Error) -> Status {
    match error {
        Error::GRpcStatus(status) => status,
        other => Status::unknown(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_that_was_never_met_is_nobody() {
        let ids = Ids::default();
        assert_eq!(ids.ours(77), 0);
        ids.clone().met(77, 2);
        assert_eq!((ids.ours(77), ids.ours(78)), (2, 0));
    }

    #[test]
    fn term_and_leader_are_not_said_in_one_breath() {
        let status = Standing { term: 4, leader_id: 2, applied: Some(9), ..Standing::default() };
        let testimony = Api::testimony(&status);
        assert_eq!((testimony.term, testimony.leader_id, testimony.applied), (4, 0, Some(9)));
    }
}
