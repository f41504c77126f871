//! What members say on their control endpoint, as the history writes it.

use crate::scenario::hex;
use crate::target::KvLook;
use node_proto::control::{FenceAnswerResponse, IndexRange, Lease, RecoveryResponse, StatusResponse};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A member's account of its recovery. Ranges are `[first, last]`, both inclusive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovered {
    pub last_flushed_index: Option<u64>,
    pub engine_index: Option<u64>,
    pub log_first: Option<u64>,
    pub log_last: Option<u64>,
    pub last_purged: Option<u64>,
    pub scan_start: Option<u64>,
    pub verified: Option<[u64; 2]>,
    pub replayed: Option<[u64; 2]>,
    pub complete: bool,
    pub open_micros: u64,
    pub snapshot_installed: Option<u64>,
}

impl From<&RecoveryResponse> for Recovered {
    fn from(said: &RecoveryResponse) -> Self {
        let range = |range: Option<IndexRange>| range.map(|range| [range.first, range.last]);
        Self {
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
}

impl From<&Recovered> for RecoveryResponse {
    fn from(said: &Recovered) -> Self {
        let range = |range: Option<[u64; 2]>| range.map(|[first, last]| IndexRange { first, last });
        Self {
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
}

/// A member's watermarks, as it gives them itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    pub persisted: Option<u64>,
    pub flushed: Option<u64>,
    pub applied: Option<u64>,
    pub committed: Option<u64>,
    pub log_last: Option<u64>,
    pub last_purged: Option<u64>,
}

impl From<&StatusResponse> for Marks {
    fn from(status: &StatusResponse) -> Self {
        Self {
            persisted: status.persisted,
            flushed: status.flushed,
            applied: status.applied,
            committed: status.committed,
            log_last: status.log_last,
            last_purged: status.last_purged,
        }
    }
}

/// The members' answers for one fence. Written as groups of members that say the same: mostly there is one.
#[derive(Debug, Clone, PartialEq)]
pub struct Answers(pub Vec<(u64, FenceAnswerResponse)>);

impl Answers {
    /// Ascending by member, so that groups and members come back as they were.
    pub fn new(answers: &[(u64, FenceAnswerResponse)]) -> Self {
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
    /// Id and granted TTL in seconds.
    leases: Vec<(i64, i64)>,
}

impl Serialize for Answers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut groups: Vec<(Vec<u64>, &FenceAnswerResponse)> = Vec::new();
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
            leases: answer.leases.iter().map(|lease| (lease.id, lease.granted_ttl_seconds)).collect(),
        }))
    }
}

impl<'de> Deserialize<'de> for Answers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut answers = Vec::new();
        for group in Vec::<Group>::deserialize(deserializer)? {
            let digest = |text: &str| unhex(text).map_err(serde::de::Error::custom);
            let lease = |(id, granted_ttl_seconds)| Lease { id, granted_ttl_seconds };
            let answer = FenceAnswerResponse {
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
                leases: group.leases.into_iter().map(lease).collect(),
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
    /// Our digest of its keys, and how many there are.
    #[serde(serialize_with = "as_hex", deserialize_with = "from_hex")]
    pub sha256: [u8; 32],
    pub rows: u64,
    /// Ids of the leases that it knows, ascending.
    pub leases: Vec<i64>,
}

impl KvAnswer {
    pub fn new(member: u64, look: &KvLook) -> Self {
        Self {
            member,
            version: look.version.clone(),
            applied: look.applied,
            compact_revision: look.compact_revision,
            hash_kv: look.hash_kv,
            sha256: look.sha256,
            rows: look.rows.len() as u64,
            leases: look.leases.clone(),
        }
    }

    /// Whether all members show the same.
    pub fn agree(answers: &[Self]) -> bool {
        answers.windows(2).all(|pair| pair[0].state() == pair[1].state())
    }

    /// What has to be the same on all members. Leases are read at no common moment.
    fn state(&self) -> (u64, u32, [u8; 32], u64) {
        (self.compact_revision, self.hash_kv, self.sha256, self.rows)
    }
}

fn as_hex<S: Serializer>(digest: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&hex(digest))
}

fn from_hex<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
    let bytes = unhex(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)?;
    bytes.try_into().map_err(|_| serde::de::Error::custom("expected 32 bytes in hex"))
}

fn unhex(text: &str) -> Result<Vec<u8>, String> {
    let wrong = || format!("expected bytes in hex, found {text:?}");
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return Err(wrong());
    }
    (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).map_err(|_| wrong())).collect()
}
