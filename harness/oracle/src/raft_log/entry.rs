//! An entry of the log, decoded.

use super::bytes::Reader;
use node_proto::command::Command;
use node_proto::command::command::Request;
use prost::Message;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

/// With one leader a term, (term, index) names an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LogId {
    pub term: u64,
    pub index: u64,
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of term {}", self.index, self.term)
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub id: LogId,
    pub payload: Payload,
    /// The entry's bytes, as they lie in the file.
    pub bytes: Vec<u8>,
}

/// Every field of a request has a total equality, because none is a floating-point number.
impl Eq for Entry {}

#[derive(Debug, Clone, PartialEq)]
pub enum Payload {
    /// The first entry of a new leader.
    Blank,
    Command(Request),
    /// Bytes in place of a command that are not a command, and why. A member that applies them
    /// changes nothing.
    NoCommand(String),
    Membership(Membership),
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Membership {
    /// One, or two while a change is under way.
    pub voters: Vec<BTreeSet<u64>>,
    pub members: Vec<Enrolled>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Enrolled {
    pub id: u64,
    pub name: String,
    pub peer_addr: String,
    pub client_addr: String,
}

impl Entry {
    /// # Errors
    /// What was expected and found, and where; the caller knows in which file and at which index.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let mut reader = Reader::new(bytes);
        let term = reader.integer("the entry's term")?;
        let index = reader.integer("the entry's index")?;
        let payload = match reader.integer("the payload's tag")? {
            0 => Payload::Blank,
            // Not an error of the log: it holds what was committed, and what that means every
            // member decides alike.
            1 => match command(reader.blob("the command")?) {
                Ok(request) => Payload::Command(request),
                Err(why) => Payload::NoCommand(why),
            },
            2 => Payload::Membership(membership(&mut reader)?),
            found => {
                return Err(format!(
                    "expected 0 (blank), 1 (command) or 2 (membership), the payload's tag, found {found}"
                ));
            }
        };
        reader.end("the entry")?;
        Ok(Self { id: LogId { term, index }, payload, bytes: bytes.to_vec() })
    }
}

fn command(bytes: &[u8]) -> Result<Request, String> {
    let command = Command::decode(bytes)
        .map_err(|error| format!("expected a command in {} bytes, found none: {error}", bytes.len()))?;
    command
        .request
        .ok_or_else(|| format!("expected a request that this version knows in {} bytes, found none", bytes.len()))
}

fn membership(reader: &mut Reader<'_>) -> Result<Membership, String> {
    let mut membership = Membership::default();
    for _ in 0..reader.count("the configurations")? {
        let mut voters = BTreeSet::new();
        for _ in 0..reader.count("the voters")? {
            voters.insert(reader.integer("a voter's id")?);
        }
        membership.voters.push(voters);
    }
    for _ in 0..reader.count("the members")? {
        membership.members.push(Enrolled {
            id: reader.integer("a member's id")?,
            name: reader.text("a member's name")?,
            peer_addr: reader.text("a member's peer address")?,
            client_addr: reader.text("a member's client address")?,
        });
    }
    Ok(membership)
}
