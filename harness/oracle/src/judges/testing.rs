//! A sound dead directory, and its member's account of the recovery from it: what tests of judges
//! alter.

use ninelives_evidence::member::Engine;
use ninelives_evidence::{DeadMember, IndexRange, Recovered};

/// N = 10, E = 14, log 5 to 20, purged through 4; it voted for n1, which won term 3.
pub fn dead() -> DeadMember {
    DeadMember {
        engine: Some(Engine::Rocksdb),
        last_flushed_index: Some(10),
        engine_index: Some(14),
        log_first: Some(5),
        log_last: Some(20),
        last_purged: Some(4),
        vote_term: Some(3),
        vote_node: Some(1),
        vote_committed: Some(true),
        ..DeadMember::default()
    }
}

/// 11 to 14 were verified, and 15 to 20 replayed.
pub fn recovered() -> Recovered {
    Recovered {
        last_flushed_index: Some(10),
        engine_index: Some(14),
        log_first: Some(5),
        log_last: Some(20),
        last_purged: Some(4),
        scan_start: Some(11),
        verified: Some(IndexRange { first: 11, last: 14 }),
        replayed: Some(IndexRange { first: 15, last: 20 }),
        complete: true,
        open_micros: 900,
        snapshot_installed: None,
    }
}
