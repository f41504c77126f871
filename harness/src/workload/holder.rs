//! A client that holds leases of seconds, one after the other, as a lock's owner does.
//!
//! A lease has one key, and is kept alive through one member for as long as it is held, whatever
//! that member answers: so a member that is cut off is asked by its own clients, while their leases
//! are renewed nowhere else. Then the lease is revoked, or left to end by itself, and asked for
//! once more.
//!
//! Which member, for how long and how it ends comes from the seed; what is renewed when, the clock
//! decides.

use super::WorkloadOptions;
use super::attempt::attempt;
use super::connection::Connection;
use crate::endpoints::Board;
use crate::seed::Stream;
use crate::timer;
use ninelives_evidence::operation::{Action, Expected, OpId, Outcome, Purpose, Reply};
use ninelives_oracle::Ledger;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Renewals of a lease, at least and at most: from less than one to several times its TTL, so that
/// some leases see a leader come and go, and some end in the middle.
const ROUNDS: (u64, u64) = (2, 24);
/// Renewals in one TTL; clients of etcd send three.
const ROUNDS_PER_TTL: u32 = 4;
/// Keys of a holder, taken in turn: the lease of an earlier turn has ended by then.
const KEYS: u64 = 16;
/// Lease ids of a holder: `(client + 1) * LEASE_STRIDE + n`, as those of the other clients.
const LEASE_STRIDE: i64 = 1_000_000_000;
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(50);

/// The drawn way to hold one lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Holding {
    /// The place of the member through which it is kept alive.
    place: usize,
    rounds: u64,
    revoked: bool,
}

fn draw(stream: &mut Stream, places: usize) -> Holding {
    let place = usize::try_from(stream.below(places.max(1) as u64)).unwrap_or(0);
    Holding { place, rounds: stream.between(ROUNDS.0, ROUNDS.1), revoked: stream.chance(1, 3) }
}

pub(super) struct Holder {
    number: u32,
    stream: Stream,
    connections: Vec<Connection>,
    board: Board,
    ledger: Arc<Ledger>,
    ttl: Duration,
    seq: u64,
    held: u64,
    stopped: watch::Receiver<bool>,
}

impl Holder {
    pub fn new(
        (number, stream): (u32, Stream),
        (connections, board): (Vec<Connection>, Board),
        options: &WorkloadOptions,
        ledger: Arc<Ledger>,
        stopped: watch::Receiver<bool>,
    ) -> Self {
        let ttl = Duration::from_secs(u64::from(options.lease_ttl_seconds));
        Self { number, stream, connections, board, ledger, ttl, seq: 0, held: 0, stopped }
    }

    /// Runs until the load is stopped. A lease that is held then ends by itself.
    pub async fn run(mut self) {
        while self.served().await {
            let holding = draw(&mut self.stream, self.connections.len());
            self.held += 1;
            if !self.hold(holding).await {
                self.pause(PAUSE_AFTER_ERROR).await;
            }
        }
    }

    /// Waits until a member serves; false: the load is stopped.
    async fn served(&mut self) -> bool {
        tokio::select! {
            biased;
            _ = self.stopped.wait_for(|stop| *stop) => false,
            () = self.board.somebody_serves() => true,
        }
    }

    /// False: the load is stopped meanwhile.
    async fn pause(&mut self, pause: Duration) -> bool {
        tokio::select! {
            biased;
            _ = self.stopped.wait_for(|stop| *stop) => false,
            () = timer::sleep(pause) => true,
        }
    }

    /// Holds one lease; false: it was not granted, or has no key.
    async fn hold(&mut self, holding: Holding) -> bool {
        let number = i64::try_from(self.held).unwrap_or(i64::MAX);
        let lease = (i64::from(self.number) + 1).saturating_mul(LEASE_STRIDE).saturating_add(number);
        let at =
            if self.board.serves(holding.place) { Some(holding.place) } else { self.board.next_serving(holding.place) };
        let Some(at) = at else { return false };
        let ttl_seconds = i64::try_from(self.ttl.as_secs()).unwrap_or(i64::MAX);
        let granted = self.send(at, Action::Grant { lease, ttl_seconds }).await;
        let key = format!("e/{:03}/{:02}", self.number, self.held % KEYS);
        let value = format!("held,{}", self.next_id());
        let attached = is_done(&granted) && is_done(&self.send(at, Action::Put { key, value, lease }).await);
        for _ in 0..if attached { holding.rounds } else { 0 } {
            if !self.pause(self.ttl / ROUNDS_PER_TTL).await {
                return attached;
            }
            if self.board.serves(holding.place) && self.renew(holding.place, lease).await == Some(0) {
                break;
            }
        }
        if attached && holding.revoked {
            self.send(at, Action::Revoke { lease }).await;
        } else if !self.pause(self.ttl).await {
            return attached;
        }
        if attached && self.board.serves(holding.place) {
            self.renew(holding.place, lease).await;
        }
        attached
    }

    /// The TTL that was answered; `None`: none was.
    async fn renew(&mut self, at: usize, lease: i64) -> Option<i64> {
        match self.send(at, Action::KeepAlive { lease }).await {
            Outcome::Done { reply: Reply::Renewed { ttl_seconds }, .. } => Some(ttl_seconds),
            _ => None,
        }
    }

    fn next_id(&self) -> OpId {
        OpId { client: self.number, seq: self.seq }
    }

    async fn send(&mut self, at: usize, action: Action) -> Outcome {
        let op = self.next_id();
        self.seq += 1;
        attempt(&self.ledger, op, (at, &mut self.connections[at]), (&action, holding())).await
    }
}

/// A lease may have ended, or never have been granted, when its holder asks for it.
fn holding() -> Purpose {
    Purpose { step: "hold".into(), refusal: Expected::Sometimes }
}

fn is_done(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Done { .. })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;
    use std::collections::BTreeSet;

    #[test]
    fn the_seed_decides_where_how_long_and_how_it_ends() {
        let holdings = |seed: u64| {
            let mut stream = Seed::new(seed).stream("holder/1");
            (0..200).map(|_| draw(&mut stream, 3)).collect::<Vec<_>>()
        };
        assert_eq!(holdings(7), holdings(7));
        assert_ne!(holdings(7), holdings(8));
        assert_eq!(holdings(7).iter().map(|holding| holding.place).collect::<BTreeSet<_>>(), [0, 1, 2].into());
        let revoked = holdings(7).iter().filter(|holding| holding.revoked).count();
        assert!((40..100).contains(&revoked), "{revoked}");
        assert!(
            holdings(7).iter().any(|holding| holding.rounds > 4 * u64::from(ROUNDS_PER_TTL)),
            "longer than four times the TTL"
        );
    }
}
