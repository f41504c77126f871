//! Reads at a member that may have been left behind.
//!
//! A member that stood still, or was cut off, believes what it believed before: a former leader
//! believes that it leads. By then the clients have moved on to the others, or wait for its answer,
//! so no client would ask it at the moment when it is most likely to answer wrongly. The prober
//! does. First it has the others acknowledge a write, if they can; then it sends reads to the one
//! left behind. The reads lie in its socket while it stands still, and are the first thing that it
//! finds when it goes on: an answer below the write's revision is stale.
//!
//! While a cut leaves a majority connected, the prober writes to that majority, from the beginning
//! of the cut until one write is acknowledged: liveness is promised to such a majority, whatever
//! the member that was cut off still believes and sends.
//!
//! The prober's requests are operations like any client's: recorded, and judged by the ledger.

use super::attempt::attempt;
use super::connection::{self, Connection};
use crate::timer;
use futures_util::future::join_all;
use ninelives_evidence::clock;
use ninelives_evidence::limits;
use ninelives_evidence::operation::{Action, Compare, Effect, Expected, Keys, OpId, Outcome, Purpose, Shape};
use ninelives_oracle::Ledger;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Readers at one member, each with one read in flight: the first answer after a SIGCONT is a race
/// that a single one may lose.
const READERS: u32 = 10;
/// Those of them that ask by a transaction that only compares.
const COMPARING: u32 = 2;

/// Shared by all probes of one cluster.
#[derive(Clone)]
pub struct ReadProber {
    connections: Vec<Connection>,
    ledger: Arc<Ledger>,
    /// Its first number as a client: above those of the load.
    first_client: u32,
    keys: u64,
    /// Numbers every read, of any client.
    seq: Arc<AtomicU64>,
}

impl ReadProber {
    /// `endpoints` by slot; `clients` and `keys` as the load has them.
    ///
    /// # Errors
    /// An endpoint is not a URI.
    pub async fn new(
        endpoints: &[String],
        op_timeout: Duration,
        (clients, keys): (u32, u32),
        ledger: Arc<Ledger>,
    ) -> anyhow::Result<Self> {
        let connections = connection::connect(endpoints, op_timeout).await?;
        let (first_client, keys) = (clients, u64::from(keys.max(1)));
        Ok(Self { connections, ledger, first_client, keys, seq: Arc::default() })
    }

    /// The `nth` prober beside this one, from 0, with clients of its own: a client has one
    /// operation in flight, and faults that go on at once are probed at once.
    pub fn beside(&self, nth: u32) -> Self {
        let clients = (READERS + 2) * self.connections.len() as u32;
        Self { first_client: self.first_client + clients * nth, ..self.clone() }
    }

    /// Has each member in the places `at` acknowledge a write, or be late with it.
    pub async fn write(&self, at: impl Iterator<Item = usize>) {
        let places = self.connections.len() as u32;
        let writes =
            at.filter_map(|at| Some((at, self.connections.get(at)?.clone()))).map(|(at, mut connection)| async move {
                let op = self.op(self.first_client + READERS * places + at as u32);
                let action = Action::Put { key: self.key(op), value: format!("probe,{op}"), lease: 0 };
                attempt(&self.ledger, op, (at, &mut connection), (&action, probe())).await;
            });
        join_all(writes).await;
    }

    /// Has the member in place `at` carry out `count` transactions of the dearest kind that members
    /// take, one after the other.
    pub async fn spend(&self, at: usize, count: u32) {
        let Some(mut connection) = self.connections.get(at).cloned() else { return };
        let client = self.first_client + READERS * self.connections.len() as u32 + at as u32;
        for _ in 0..count {
            let op = self.op(client);
            let then = vec![Effect::Put { key: self.key(op), value: format!("probe,{op}") }];
            let action = Action::Packed { shape: Shape::Dear, then };
            attempt(&self.ledger, op, (at, &mut connection), (&action, probe())).await;
        }
    }

    /// Writes at one after the other of the members in the places `at`, until one of them
    /// acknowledges a write or `end` has come. Whether one did before.
    pub async fn write_until(&self, at: &[usize], end: Instant) -> bool {
        let first = self.first_client + (READERS + 1) * self.connections.len() as u32;
        for at in at.iter().copied().cycle() {
            let Some(mut connection) = self.connections.get(at).cloned() else { return false };
            if clock::now() >= end {
                return false;
            }
            let op = self.op(first + at as u32);
            let action = Action::Put { key: self.key(op), value: format!("probe,{op}"), lease: 0 };
            let outcome = attempt(&self.ledger, op, (at, &mut connection), (&action, probe())).await;
            if matches!(outcome, Outcome::Done { .. }) {
                return clock::now() < end;
            }
            timer::sleep(limits::CUT_RETRY_PAUSE).await;
        }
        false
    }

    /// Reads at the member in place `at`, from several clients, one read of each after the other
    /// until `end`; at least one each.
    pub async fn read_until(&self, at: usize, end: Instant) {
        let readers = self.connections.get(at).map(|connection| {
            let first = self.first_client + READERS * at as u32;
            (0..READERS).map(move |nth| self.read((first + nth, nth < COMPARING), at, connection.clone(), end))
        });
        join_all(readers.into_iter().flatten()).await;
    }

    fn op(&self, client: u32) -> OpId {
        OpId { client, seq: self.seq.fetch_add(1, Ordering::Relaxed) }
    }

    fn key(&self, op: OpId) -> String {
        format!("p/{:05}", op.seq % self.keys)
    }

    async fn read(&self, (client, compares): (u32, bool), endpoint: usize, mut connection: Connection, end: Instant) {
        loop {
            let op = self.op(client);
            let key = self.key(op);
            let action = if compares {
                Action::Check { when: vec![Compare { key, mod_revision: 0 }], depth: 1 }
            } else {
                Action::Read { keys: Keys::one(key), revision: None, serializable: false }
            };
            attempt(&self.ledger, op, (endpoint, &mut connection), (&action, probe())).await;
            if clock::now() >= end {
                return;
            }
            tokio::task::yield_now().await;
        }
    }
}

/// The purpose of its requests.
fn probe() -> Purpose {
    Purpose { step: "probe".into(), refusal: Expected::Never }
}
