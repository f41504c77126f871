//! Dividing the process's file descriptors.
//!
//! ```text
//! 0        150                                                              limit
//! ├─────────┼───────────────────────────────┬───────────────────────────────┤
//! │ own, members, control                    │ the engine's tables           │ clients
//! ```
//!
//! The first part is fixed. Of the rest the engine gets half, up to a maximum that is plenty for
//! it, and clients what is left. The engine's part is decided when it is opened; clients' shares
//! follow the limit that holds when one of them connects, so that a limit which is lowered under a
//! running member binds it as well.

use node_base::process;
use node_base::sabotage::{Bug, planted};

/// Standard streams, listeners, poll descriptors, lock, raft log, N, images that are sent or
/// received, connections to members.
const OWN: u64 = 72;
/// Connections from members: each has two, and a relay or a member that restarts may hold more for
/// a while.
const PEERS: u64 = 64;
const CONTROL: u64 = 14;
/// Descriptors that the member keeps back for itself, as many as etcd.
const RESERVED: u64 = OWN + PEERS + CONTROL;

/// With fewer a member does not start.
pub const DESCRIPTORS_MIN: u64 = 256;

/// Tables that the engine may hold open at most: at 64 MiB each, 256 GiB.
const ENGINE_MAX: u64 = 4096;

/// Class of a connection: the side that connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    Peers,
    Clients,
    Control,
}

impl Class {
    /// As messages name it.
    pub fn name(self) -> &'static str {
        match self {
            Class::Peers => "members",
            Class::Clients => "clients",
            Class::Control => "control",
        }
    }

    /// Number of connections of this class that may be open now.
    pub fn connections_max(self) -> u64 {
        if self == Class::Clients && planted(Bug::AcceptWithoutLimit) {
            return u64::MAX;
        }
        self.share(process::descriptors_max())
    }

    fn share(self, descriptors: u64) -> u64 {
        match self {
            Class::Peers => PEERS,
            Class::Control => CONTROL,
            Class::Clients => descriptors.saturating_sub(RESERVED + engine_files(descriptors)).max(1),
        }
    }
}

/// Files that an engine may hold open, of so many descriptors.
fn engine_files(descriptors: u64) -> u64 {
    (descriptors.saturating_sub(RESERVED) / 2).min(ENGINE_MAX)
}

/// Raises this process's limit as far as it may, and returns how many files the engine may hold
/// open.
///
/// # Errors
/// There are fewer descriptors than a member needs.
pub fn claim() -> anyhow::Result<u32> {
    let descriptors = process::raise_descriptors_max();
    anyhow::ensure!(
        descriptors >= DESCRIPTORS_MIN,
        "expected a limit of at least {DESCRIPTORS_MIN} open files, found {descriptors}: raise it (ulimit -n), then start again"
    );
    let (engine, clients) = (engine_files(descriptors), Class::Clients.share(descriptors));
    tracing::info!(descriptors, engine, clients, "file descriptors");
    Ok(u32::try_from(engine).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever the limit, the shares fit in it together, and none is empty.
        #[test]
        fn the_shares_fit_in_the_limit(descriptors in DESCRIPTORS_MIN..=u64::MAX) {
            let shares = [Class::Peers, Class::Control, Class::Clients].map(|class| class.share(descriptors));
            prop_assert!(OWN + engine_files(descriptors) + shares.iter().sum::<u64>() <= descriptors);
            prop_assert!(shares.iter().all(|share| *share > 0));
            // RocksDB silently raises less than this.
            prop_assert!(engine_files(descriptors) >= 20);
        }
    }

    #[test]
    fn a_login_leaves_room_for_some_hundred_clients() {
        assert_eq!((engine_files(1024), Class::Clients.share(1024)), (437, 437));
        assert_eq!((engine_files(256), Class::Clients.share(256)), (53, 53));
        assert_eq!(engine_files(1 << 20), ENGINE_MAX);
    }

    /// A limit may be lowered below what any member starts with: clients then come one at a time,
    /// and members still can.
    #[test]
    fn a_limit_that_is_lowered_later_leaves_one_client() {
        assert_eq!((Class::Clients.share(64), Class::Peers.share(64)), (1, PEERS));
    }
}
