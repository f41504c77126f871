//! Members' answers on their control endpoint, as the history writes them. Replies of the wire
//! become these types where they are received (`contact/wire.rs`), and nothing turns them back.

use crate::hex::{hex, unhex, unhex_exactly};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Raft indexes from `first` to `last`, both inclusive; written as `[first, last]`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "[u64; 2]", into = "[u64; 2]")]
pub struct IndexRange {
    pub first: u64,
    pub last: u64,
}

impl From<[u64; 2]> for IndexRange {
    fn from([first, last]: [u64; 2]) -> Self {
        Self { first, last }
    }
}

impl From<IndexRange> for [u64; 2] {
    fn from(range: IndexRange) -> Self {
        [range.first, range.last]
    }
}

/// A member's account of its recovery.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovered {
    pub last_flushed_index: Option<u64>,
    pub engine_index: Option<u64>,
    pub log_first: Option<u64>,
    pub log_last: Option<u64>,
    pub last_purged: Option<u64>,
    pub scan_start: Option<u64>,
    pub verified: Option<IndexRange>,
    pub replayed: Option<IndexRange>,
    pub complete: bool,
    pub open_micros: u64,
    pub snapshot_installed: Option<u64>,
}

/// A member's watermarks, as it gives them itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberWatermarks {
    pub persisted: Option<u64>,
    pub flushed: Option<u64>,
    pub applied: Option<u64>,
    pub committed: Option<u64>,
    pub log_last: Option<u64>,
    pub last_purged: Option<u64>,
}

/// A lease as a member lists it; written as `[id, granted TTL in seconds]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(i64, i64)", into = "(i64, i64)")]
pub struct Lease {
    pub id: i64,
    pub granted_ttl_seconds: i64,
}

impl From<(i64, i64)> for Lease {
    fn from((id, granted_ttl_seconds): (i64, i64)) -> Self {
        Self { id, granted_ttl_seconds }
    }
}

impl From<Lease> for (i64, i64) {
    fn from(lease: Lease) -> Self {
        (lease.id, lease.granted_ttl_seconds)
    }
}

/// A member's answer for a fence. Digests and numbers are as the member gave them; the judges
/// decide whether they can be right.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FenceAnswer {
    /// The member did not find the fence at its index; then the other fields mean nothing.
    pub missed: bool,
    pub index: u64,
    pub term: u64,
    pub revision: i64,
    pub compact_revision: i64,
    pub kv: Vec<u8>,
    pub lease: Vec<u8>,
    pub auth: Vec<u8>,
    pub membership: Vec<u8>,
    pub kv_rows: u64,
    pub leases: Vec<Lease>,
}

/// The members' answers for one fence. Written as groups of members that say the same: mostly there
/// is one.
#[derive(Debug, Clone, PartialEq)]
pub struct Answers(pub Vec<(u64, FenceAnswer)>);

impl Answers {
    /// Ascending by member, so that groups and members come back as they were.
    pub fn new(answers: &[(u64, FenceAnswer)]) -> Self {
        let mut answers = answers.to_vec();
        answers.sort_by_key(|(member, _)| *member);
        Self(answers)
    }
}

#[derive(Serialize, Deserialize)]
struct Group {
    members: Vec<u64>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    missed: bool,
    index: u64,
    term: u64,
    revision: i64,
    compact_revision: i64,
    kv: String,
    kv_rows: u64,
    lease: String,
    auth: String,
    membership: String,
    leases: Vec<Lease>,
}

impl Serialize for Answers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut groups: Vec<(Vec<u64>, &FenceAnswer)> = Vec::new();
        for (member, answer) in &self.0 {
            match groups.iter_mut().find(|(_, known)| *known == answer) {
                Some((members, _)) => members.push(*member),
                None => groups.push((vec![*member], answer)),
            }
        }
        serializer.collect_seq(groups.into_iter().map(|(members, answer)| Group {
            members,
            missed: answer.missed,
            index: answer.index,
            term: answer.term,
            revision: answer.revision,
            compact_revision: answer.compact_revision,
            kv: hex(&answer.kv),
            kv_rows: answer.kv_rows,
            lease: hex(&answer.lease),
            auth: hex(&answer.auth),
            membership: hex(&answer.membership),
            leases: answer.leases.clone(),
        }))
    }
}

impl<'de> Deserialize<'de> for Answers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut answers = Vec::new();
        for group in Vec::<Group>::deserialize(deserializer)? {
            let digest = |text: &str| {
                unhex(text).ok_or_else(|| serde::de::Error::custom(format!("expected bytes in hex, found {text:?}")))
            };
            let answer = FenceAnswer {
                missed: group.missed,
                index: group.index,
                term: group.term,
                revision: group.revision,
                compact_revision: group.compact_revision,
                kv: digest(&group.kv)?,
                lease: digest(&group.lease)?,
                auth: digest(&group.auth)?,
                membership: digest(&group.membership)?,
                kv_rows: group.kv_rows,
                leases: group.leases,
            };
            answers.extend(group.members.into_iter().map(|member| (member, answer.clone())));
        }
        Ok(Self::new(&answers))
    }
}

/// One member's state at a revision, as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvAnswer {
    pub member: u64,
    /// The server's version, as it says it.
    pub version: String,
    /// Raft index that it had applied when it was asked.
    pub applied: u64,
    pub compact_revision: u64,
    /// By its own account (Maintenance.HashKV).
    pub hash_kv: u32,
    /// Our digest of its keys, and the number of keys.
    #[serde(serialize_with = "as_hex", deserialize_with = "from_hex")]
    pub sha256: [u8; 32],
    pub rows: u64,
    /// Ids of the leases that it knows, ascending.
    pub leases: Vec<i64>,
}

impl KvAnswer {
    /// Whether all members show the same.
    pub fn agree(answers: &[Self]) -> bool {
        answers.windows(2).all(|pair| pair[0].state() == pair[1].state())
    }

    /// The part that has to be the same on all members. Leases are left out, because they are not
    /// read at one moment.
    fn state(&self) -> (u64, u32, [u8; 32], u64) {
        (self.compact_revision, self.hash_kv, self.sha256, self.rows)
    }
}

fn as_hex<S: Serializer>(digest: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&hex(digest))
}

fn from_hex<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
    unhex_exactly(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}
