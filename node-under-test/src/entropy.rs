//! The node's only source of randomness. Nothing that applies a command may draw from it: what is
//! drawn goes into a command before it is proposed, so that every member applies the same.

use std::hash::{BuildHasher, RandomState};

/// A lease id: positive, and as good as unique.
pub fn lease_id() -> i64 {
    i64::try_from(bits() >> 1).unwrap_or(i64::MAX).max(1)
}

/// The incarnation of a new raft log: not 0, and as good as unique.
pub fn incarnation() -> u64 {
    bits().max(1)
}

fn bits() -> u64 {
    // The operating system seeds each of these hashers anew; what is hashed does not matter.
    RandomState::new().hash_one(0u8)
}
