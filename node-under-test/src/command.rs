//! Commands as they go through the raft log, and what applying one answered.

use crate::mvcc::Error;
use bytes::Bytes;
use node_proto::command::command::Request;
use node_proto::command::outcome::Result as Answer;
use node_proto::command::{Command, Fence, Outcome, PublishMember};
use node_proto::etcdserverpb::LeaseRevokeRequest;
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

/// # Errors
/// [`Error::Corrupt`]: the log holds what this program cannot have proposed.
pub fn decode(bytes: &Bytes) -> Result<Request, Error> {
    let command = Command::decode(bytes.clone()).map_err(|error| Error::Corrupt(format!("a command: {error}")))?;
    command.request.ok_or_else(|| Error::Corrupt("a command without a request, or of a newer version".to_owned()))
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
