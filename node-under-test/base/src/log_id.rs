use serde::{Deserialize, Serialize};

/// A position in the raft log: the term of the leader that wrote the entry, and the entry's index.
///
/// Index 0 is a valid position (the entry that founds the cluster), so "none yet" is
/// `Option<LogId>`. Ordered by term, then index, as raft compares logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LogId {
    pub term: u64,
    pub index: u64,
}

impl LogId {
    pub const ENCODED_BYTES: usize = 16;

    pub const fn new(term: u64, index: u64) -> Self {
        Self { term, index }
    }

    /// Term, then index, both big-endian: the value of the engine's `consistent_index` key.
    pub fn encode(self) -> [u8; Self::ENCODED_BYTES] {
        let mut out = [0; Self::ENCODED_BYTES];
        out[..8].copy_from_slice(&self.term.to_be_bytes());
        out[8..].copy_from_slice(&self.index.to_be_bytes());
        out
    }

    /// `None` unless `bytes` has exactly the encoded length.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::ENCODED_BYTES] = bytes.try_into().ok()?;
        let (term, index) = bytes.split_at(8);
        Some(Self {
            term: u64::from_be_bytes(term.try_into().ok()?),
            index: u64::from_be_bytes(index.try_into().ok()?),
        })
    }
}

impl std::fmt::Display for LogId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.term, self.index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoding_is_big_endian_and_round_trips() {
        let id = LogId::new(3, 0x0102);
        assert_eq!(id.encode(), [0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(LogId::decode(&id.encode()), Some(id));
        assert_eq!(LogId::decode(&[0; 15]), None);
    }

    #[test]
    fn a_higher_term_wins_over_a_higher_index() {
        assert!(LogId::new(2, 1) > LogId::new(1, 9));
    }
}
