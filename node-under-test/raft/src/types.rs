//! The library's types as this crate instantiates them, and the way between them and
//! [`crate::api`].

use crate::api::{Enrolled, Entry, Member, Payload, SnapshotMeta};
use bytes::Bytes;
use node_base::LogId;
use openraft::impls::leader_id_std;
use openraft::raft::AppendEntriesRequest;
use openraft::type_config::alias;
use openraft::vote::RaftLeaderId;
use serde::de::{DeserializeOwned, DeserializeSeed, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;

openraft::declare_raft_types!(
    /// One leader per term (`leader_id_std`), so that (term, index) names an entry, as etcd's
    /// clients expect.
    pub TypeConfig:
        D = Blob,
        R = Blob,
        NodeId = u64,
        Node = MemberNode,
        Term = u64,
        LeaderId = leader_id_std::LeaderId<u64, u64>,
        AsyncRuntime = openraft_rt_tokio_alias::TokioRuntime,
);

/// The runtime under the name that the library recommends.
mod openraft_rt_tokio_alias {
    #[allow(deprecated)]
    pub use openraft::impls::TokioRuntime;
}

pub type RawLogId = alias::LogIdOf<TypeConfig>;
pub type RawEntry = alias::EntryOf<TypeConfig>;
pub type RawVote = alias::VoteOf<TypeConfig>;
pub type RawPayload = alias::EntryPayloadOf<TypeConfig>;
pub type RawMembership = alias::StoredMembershipOf<TypeConfig>;
pub type RawSnapshotMeta = alias::SnapshotMetaOf<TypeConfig>;
pub type RawSnapshot = alias::SnapshotOf<TypeConfig, SnapshotData>;

/// The value that the library passes around in place of a snapshot's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotData {
    /// Nothing exists yet: the image is taken when it is needed.
    Deferred,
    /// A received image lies verified in the state machine's staging area.
    Staged,
}

/// Opaque bytes: a command, or what applying it answered. Cheap to clone.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Blob(pub Bytes);

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl fmt::Display for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(BlobVisitor)
    }
}

struct BlobVisitor;

impl Visitor<'_> for BlobVisitor {
    type Value = Blob;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a byte string")
    }

    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Blob, E> {
        Ok(Blob(Bytes::copy_from_slice(bytes)))
    }

    fn visit_byte_buf<E: serde::de::Error>(self, bytes: Vec<u8>) -> Result<Blob, E> {
        Ok(Blob(bytes.into()))
    }
}

/// The membership's record of a member, beside its id. Name and client address are those of the
/// founding list; the state machine holds what a member publishes later.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberNode {
    pub name: String,
    pub peer_addr: String,
    pub client_addr: String,
}

/// The founding membership, equal on every member: each writes it into its own empty log.
pub fn founding_nodes(members: &[Member]) -> BTreeMap<u64, MemberNode> {
    let node = |member: &Member| MemberNode {
        name: member.name.clone(),
        peer_addr: member.peer_addr.clone(),
        client_addr: member.client_addr.clone(),
    };
    members.iter().map(|member| (member.id, node(member))).collect()
}

pub fn raw_log_id(id: LogId) -> RawLogId {
    RawLogId::new_term_index(id.term, id.index)
}

pub fn log_id(raw: &RawLogId) -> LogId {
    LogId::new(raw.committed_leader_id().term, raw.index)
}

pub fn entry_log_id(raw: &RawEntry) -> LogId {
    log_id(&raw.log_id)
}

/// (term, member voted for).
pub fn vote_parts(vote: &RawVote) -> (u64, u64) {
    (vote.leader_id.term(), *vote.leader_id.node_id())
}

pub fn entry(raw: RawEntry) -> io::Result<Entry> {
    let log_id = entry_log_id(&raw);
    let payload = match raw.payload {
        RawPayload::Blank => Payload::Blank,
        RawPayload::Normal(command) => Payload::Command(command.0),
        RawPayload::Membership(membership) => {
            Payload::Membership(encode_membership(&RawMembership::new(Some(raw.log_id), membership))?)
        }
    };
    Ok(Entry { log_id, payload })
}

pub fn encode_membership(membership: &RawMembership) -> io::Result<Bytes> {
    encode(membership)
}

/// Empty bytes are the membership of a member that never saw one.
pub fn raw_membership(bytes: &[u8]) -> io::Result<RawMembership> {
    if bytes.is_empty() { Ok(RawMembership::default()) } else { decode("membership", bytes) }
}

pub fn snapshot_meta(raw: &RawSnapshotMeta) -> io::Result<SnapshotMeta> {
    let log_id = raw.last_log_id.as_ref().map(log_id).ok_or_else(|| io::Error::other("a snapshot of nothing"))?;
    Ok(SnapshotMeta { log_id, membership: encode_membership(&raw.last_membership)? })
}

pub fn raw_snapshot_meta(meta: &SnapshotMeta) -> io::Result<RawSnapshotMeta> {
    Ok(RawSnapshotMeta {
        last_log_id: Some(raw_log_id(meta.log_id)),
        last_membership: raw_membership(&meta.membership)?,
    })
}

/// The members that [`Payload::Membership`] or [`SnapshotMeta::membership`] names, in ascending id
/// order.
///
/// # Errors
/// The bytes are not what this crate wrote.
pub fn decode_membership(bytes: &[u8]) -> io::Result<Vec<Enrolled>> {
    let stored = raw_membership(bytes)?;
    let membership = stored.membership();
    let voters: BTreeSet<u64> = membership.voter_ids().collect();
    let member = |(id, node): (&u64, &MemberNode)| Enrolled {
        id: *id,
        name: node.name.clone(),
        peer_addr: node.peer_addr.clone(),
        client_addr: node.client_addr.clone(),
        is_learner: !voters.contains(id),
    };
    Ok(membership.nodes().map(member).collect())
}

pub fn encode<T: Serialize>(value: &T) -> io::Result<Bytes> {
    postcard::to_stdvec(value).map(Bytes::from).map_err(io::Error::other)
}

/// `what` names the message in the error.
pub fn decode<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> io::Result<T> {
    let invalid = |detail: String| {
        let sentence = format!("{what} of {} bytes: {detail}; written by another version?", bytes.len());
        io::Error::new(io::ErrorKind::InvalidData, sentence)
    };
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(invalid(format!("expected its end, found {} more bytes", rest.len()))),
        Err(error) => Err(invalid(error.to_string())),
    }
}

/// An append message with at most `entries_max` entries: more are refused before there is memory
/// for them.
///
/// # Errors
/// As [`decode`].
pub fn decode_append(bytes: &[u8], entries_max: usize) -> io::Result<AppendEntriesRequest<TypeConfig>> {
    let mut decoder = postcard::Deserializer::from_bytes(bytes);
    let invalid = |detail: String| {
        let sentence = format!("append message of {} bytes: {detail}; written by another version?", bytes.len());
        io::Error::new(io::ErrorKind::InvalidData, sentence)
    };
    let decoded = WireAppend { entries_max }.deserialize(&mut decoder).map_err(|error| invalid(error.to_string()))?;
    match decoder.finalize() {
        Ok([]) => Ok(decoded),
        Ok(rest) => Err(invalid(format!("expected its end, found {} more bytes", rest.len()))),
        Err(error) => Err(invalid(error.to_string())),
    }
}

/// The library's message as it lies on the wire: its four fields, in order.
struct WireAppend {
    entries_max: usize,
}

impl<'de> DeserializeSeed<'de> for WireAppend {
    type Value = AppendEntriesRequest<TypeConfig>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_tuple(4, self)
    }
}

impl<'de> Visitor<'de> for WireAppend {
    type Value = AppendEntriesRequest<TypeConfig>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an append message")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut fields: A) -> Result<Self::Value, A::Error> {
        let short = || serde::de::Error::custom("expected four fields");
        Ok(AppendEntriesRequest {
            vote: fields.next_element()?.ok_or_else(short)?,
            prev_log_id: fields.next_element()?.ok_or_else(short)?,
            entries: fields.next_element_seed(FewEntries(self.entries_max))?.ok_or_else(short)?,
            leader_commit: fields.next_element()?.ok_or_else(short)?,
        })
    }
}

struct FewEntries(usize);

impl<'de> DeserializeSeed<'de> for FewEntries {
    type Value = Vec<RawEntry>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for FewEntries {
    type Value = Vec<RawEntry>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {} entries", self.0)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = elements.next_element()? {
            if entries.len() == self.0 {
                return Err(serde::de::Error::invalid_length(self.0 + 1, &self));
            }
            entries.push(entry);
        }
        Ok(entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use openraft::{Membership, Vote};
    use proptest::prelude::*;

    fn membership() -> RawMembership {
        let members = [(1, "a"), (2, "b")].map(|(id, name)| Member {
            id,
            name: name.to_owned(),
            peer_addr: format!("127.0.0.1:{id}"),
            client_addr: format!("127.0.0.2:{id}"),
        });
        let config = vec![BTreeSet::from([1, 2])];
        let membership = Membership::new(config, founding_nodes(&members)).unwrap();
        RawMembership::new(Some(raw_log_id(LogId::new(0, 0))), membership)
    }

    #[test]
    fn a_membership_round_trips_and_lists_its_members() {
        let bytes = encode_membership(&membership()).unwrap();
        assert_eq!(raw_membership(&bytes).unwrap(), membership());
        let names: Vec<_> =
            decode_membership(&bytes).unwrap().into_iter().map(|member| (member.id, member.name)).collect();
        assert_eq!(names, [(1, "a".to_owned()), (2, "b".to_owned())]);
        assert!(decode_membership(&bytes[..bytes.len() - 1]).is_err());
        assert!(decode_membership(&[]).unwrap().is_empty());
    }

    #[test]
    fn trailing_bytes_are_refused() {
        let mut bytes = encode(&Blob(Bytes::from_static(b"x"))).unwrap().to_vec();
        bytes.push(0);
        let error = decode::<Blob>("command", &bytes).unwrap_err().to_string();
        assert!(error.contains("command of 3 bytes"), "{error}");
    }

    #[test]
    fn a_vote_keeps_whether_it_is_committed() {
        for vote in [Vote::new(3, 2), Vote::new_committed(3, 2)] {
            let bytes = encode::<RawVote>(&vote).unwrap();
            assert_eq!(decode::<RawVote>("vote", &bytes).unwrap(), vote);
            assert_eq!(vote_parts(&vote), (3, 2));
        }
    }

    #[test]
    fn an_append_message_has_a_bounded_number_of_entries() {
        let entry = |index| RawEntry { log_id: raw_log_id(LogId::new(2, index)), payload: RawPayload::Blank };
        let message = |entries: std::ops::Range<u64>| AppendEntriesRequest::<TypeConfig> {
            vote: Vote::new_committed(3, 2),
            prev_log_id: Some(raw_log_id(LogId::new(1, 9))),
            entries: entries.map(entry).collect(),
            leader_commit: None,
        };
        let bytes = encode(&message(10..13)).unwrap();
        let back = decode_append(&bytes, 3).unwrap();
        assert_eq!(format!("{back:?}"), format!("{:?}", message(10..13)), "the library's own encoding is read");
        let error = decode_append(&bytes, 2).unwrap_err().to_string();
        assert!(error.contains("append message of"), "{error}");
        let mut longer = bytes.to_vec();
        longer.push(0);
        assert!(decode_append(&longer, 3).unwrap_err().to_string().contains("found 1 more bytes"));
        assert!(decode_append(&bytes[..bytes.len() - 1], 3).is_err());
    }

    proptest! {
        #[test]
        fn entries_round_trip(term: u64, index: u64, command: Vec<u8>) {
            let id = LogId::new(term, index);
            let raw = RawEntry { log_id: raw_log_id(id), payload: RawPayload::Normal(Blob(command.clone().into())) };
            let back: RawEntry = decode("entry", &encode(&raw).unwrap()).unwrap();
            prop_assert_eq!(entry(back).unwrap(), Entry { log_id: id, payload: Payload::Command(command.into()) });
        }
    }
}
