//! The edge of the wire: replies of the control endpoint become the harness's own types here, once,
//! and nothing turns them back.

use ninelives_evidence::{FenceAnswer, IndexRange, Lease, MemberWatermarks, Recovered};
use node_proto::control;

/// The standing of a member, by its own account. For a server without a control endpoint, `Api`
/// fills in the fields that its API tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    pub member_id: u64,
    pub term: u64,
    /// 0: it knows none.
    pub leader_id: u64,
    /// Raft indexes; `None`: nothing yet, or it does not say.
    pub persisted: Option<u64>,
    pub flushed: Option<u64>,
    pub applied: Option<u64>,
    pub committed: Option<u64>,
    pub log_last: Option<u64>,
    pub log_durable: Option<u64>,
    pub last_purged: Option<u64>,
    pub revision: i64,
    pub compact_revision: i64,
    /// The fates of the snapshots that this life was sent.
    pub snapshots_refused: u64,
    pub last_snapshot_refusal: String,
    pub snapshots_installed: u64,
    /// Messages of others that this life refused for what they say or for who says it, and answers
    /// that it did not believe.
    pub messages_refused: u64,
}

impl Standing {
    /// The watermarks, as the history writes them.
    pub fn watermarks(&self) -> MemberWatermarks {
        MemberWatermarks {
            persisted: self.persisted,
            flushed: self.flushed,
            applied: self.applied,
            committed: self.committed,
            log_last: self.log_last,
            last_purged: self.last_purged,
        }
    }
}

impl From<control::StatusResponse> for Standing {
    fn from(said: control::StatusResponse) -> Self {
        Self {
            member_id: said.member_id,
            term: said.term,
            leader_id: said.leader_id,
            persisted: said.persisted,
            flushed: said.flushed,
            applied: said.applied,
            committed: said.committed,
            log_last: said.log_last,
            log_durable: said.log_durable,
            last_purged: said.last_purged,
            revision: said.revision,
            compact_revision: said.compact_revision,
            snapshots_refused: said.snapshots_refused,
            last_snapshot_refusal: said.last_snapshot_refusal,
            snapshots_installed: said.snapshots_installed,
            messages_refused: said.messages_refused,
        }
    }
}

/// The account that a member gives of its recovery.
pub fn recovered(said: control::RecoveryResponse) -> Recovered {
    let range = |range: Option<control::IndexRange>| {
        range.map(|control::IndexRange { first, last }| IndexRange { first, last })
    };
    Recovered {
        last_flushed_index: said.last_flushed_index,
        engine_index: said.engine_index,
        log_first: said.log_first,
        log_last: said.log_last,
        last_purged: said.last_purged,
        scan_start: said.scan_start,
        verified: range(said.verified),
        replayed: range(said.replayed),
        complete: said.complete,
        open_micros: said.open_micros,
        snapshot_installed: said.snapshot_installed,
    }
}

/// A member's state at a fence.
pub fn fence_answer(said: control::FenceAnswerResponse) -> FenceAnswer {
    let lease = |control::Lease { id, granted_ttl_seconds }| Lease { id, granted_ttl_seconds };
    FenceAnswer {
        missed: said.missed,
        index: said.index,
        term: said.term,
        revision: said.revision,
        compact_revision: said.compact_revision,
        kv: said.kv,
        lease: said.lease,
        auth: said.auth,
        membership: said.membership,
        kv_rows: said.kv_rows,
        leases: said.leases.into_iter().map(lease).collect(),
    }
}
