//! Clients' requests before a member is needed: whether one can be carried out at all, and what
//! each request of a stream makes of that stream.
//!
//! Contract: nothing here names raft's node or an engine. So a fuzzer sends any bytes through the
//! very code that the services run.

pub mod check;
pub mod keep_alive;
pub mod watch;

use node_raft::ProposeError;
use std::time::Duration;
use tonic::Status;

/// Time that a request may wait for raft; etcd's default.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(7);

/// The answer of a member that is ending.
pub fn stopped() -> Status {
    Status::unavailable("etcdserver: server stopped")
}

/// etcd's words for a request that raft did not bring to an end. Whether it was certainly not
/// proposed is something that no client of etcd can tell from its error, so only the log says it.
pub fn propose_status(error: ProposeError) -> Status {
    tracing::debug!(%error, "not committed, as far as this member knows");
    match error {
        ProposeError::NoLeader => Status::unavailable("etcdserver: no leader"),
        ProposeError::Unknown(_) => Status::unavailable("etcdserver: request timed out"),
        ProposeError::Unavailable(_) => Status::unavailable("etcdserver: leader changed"),
        // The leader is of another version: what this member lets in, it does not.
        ProposeError::Unfit(reason) => Status::invalid_argument(reason),
        ProposeError::TooLarge { .. } => Status::resource_exhausted(error.to_string()),
        ProposeError::Fatal(_) => stopped(),
    }
}
