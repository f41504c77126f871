//! Commands as they go through the raft log, and what applying one answered.
//!
//! 1. *One gate.* [`admit`] is what applying an entry begins with, and what every proposer runs
//!    first, on the very bytes that it proposes. So nothing is proposed that cannot be applied.
//! 2. *Applying is total.* What is committed and not admitted all the same (a member of another
//!    version proposed it, or a stranger) changes nothing but the consistent
//!    index, on every member alike, and its proposer is told why. It never ends the process: the
//!    entry would end it again at every start, on every member.

use super::error::{Error, Rejection};
use super::mvcc::check;
use bytes::Bytes;
use node_base::sabotage::{Bug, planted};
use node_proto::command::command::Request;
use node_proto::command::outcome::Result as Answer;
use node_proto::command::{Command, Fence, Outcome, PublishMember};
use node_proto::etcdserverpb::LeaseRevokeRequest;
use node_proto::limits;
use prost::Message;

pub fn encode(request: Request) -> Bytes {
    Command { request: Some(request) }.encode_to_vec().into()
}

/// Every member that applies it hashes its state at that index.
pub fn fence(id: u64) -> Bytes {
    encode(Request::Fence(Fence { id }))
}

pub fn lease_revoke(id: i64) -> Bytes {
    encode(Request::LeaseRevoke(LeaseRevokeRequest { id }))
}

/// A member says what it is called and where it serves clients.
pub fn publish_member(id: u64, name: &str, client_addr: &str) -> Bytes {
    let (name, client_addr) = (name.to_owned(), client_addr.to_owned());
    encode(Request::PublishMember(PublishMember { id, name, client_addr }))
}

/// Decodes and checks the bytes of a command: everything that needs no state. A function of the
/// bytes alone.
///
/// # Errors
/// Why they change nothing.
pub fn admit(bytes: &Bytes) -> Result<Request, Rejection> {
    if bytes.len() > limits::REQUEST_BYTES_MAX {
        return Err(Rejection::REQUEST_TOO_LARGE);
    }
    let command = Command::decode(bytes.clone()).map_err(|_| Rejection::MALFORMED)?;
    let request = command.request.ok_or(Rejection::MALFORMED)?;
    check::command(&request)?;
    Ok(request)
}

/// Checks whether `bytes` may be proposed. With the planted bug, only apply finds out.
///
/// # Errors
/// As [`admit`].
pub fn vet(bytes: &Bytes) -> Result<(), Rejection> {
    if planted(Bug::ApplyNotTotal) && bytes.len() <= limits::REQUEST_BYTES_MAX {
        return Ok(());
    }
    admit(bytes).map(drop)
}

pub fn encode_outcome(answer: Answer) -> Bytes {
    Outcome { result: Some(answer) }.encode_to_vec().into()
}

/// # Errors
/// [`Error::Corrupt`]: the leader answered what this program cannot have written.
pub fn decode_outcome(bytes: Bytes) -> Result<Answer, Error> {
    let outcome = Outcome::decode(bytes).map_err(|error| Error::Corrupt(format!("an outcome: {error}")))?;
    outcome.result.ok_or_else(|| Error::Corrupt("an empty outcome".to_owned()))
}
