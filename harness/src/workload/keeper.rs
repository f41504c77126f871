//! A client that keeps hundreds of leases of seconds alive on one stream, through one member, as a
//! client of many owners does.
//!
//! All renewals of a round are sent at once, each as an operation of a client of its own, because
//! an operation has one client and a client one operation in flight. When every answer has come,
//! the next round waits for a part of the TTL. When the stream breaks, those that are unanswered
//! are unknown, and the stream is opened again at the same member, so that it lives and dies with
//! it. A lease that has ended is granted anew.
//!
//! Which member comes from the seed.

use super::WorkloadOptions;
use super::attempt::attempt;
use super::connection::{Connection, renewed};
use crate::dial::in_words;
use crate::endpoints::Board;
use crate::seed::Stream;
use crate::timer;
use futures_util::StreamExt;
use futures_util::stream;
use ninelives_evidence::operation::{Action, Expected, OpId, Outcome, Purpose, Reply};
use ninelives_oracle::Ledger;
use node_proto::etcdserverpb::{LeaseKeepAliveRequest, LeaseKeepAliveResponse};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tonic::{Status, Streaming};

/// Rounds in one TTL; clients of etcd send three.
const ROUNDS_PER_TTL: u32 = 4;
/// Leases that are granted at once.
const GRANTS_MAX: usize = 32;
/// Lease ids: `(client + 1) * LEASE_STRIDE + n`, as those of the other clients.
const LEASE_STRIDE: i64 = 1_000_000_000;
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(50);

/// One lease, which is one client's.
#[derive(Debug)]
struct Kept {
    client: u32,
    seq: u64,
    granted: i64,
    /// The lease that is kept alive; `None`: it has ended, or was never there.
    lease: Option<i64>,
}

impl Kept {
    fn next_op(&mut self) -> OpId {
        let op = OpId { client: self.client, seq: self.seq };
        self.seq += 1;
        op
    }
}

pub(super) struct Keeper {
    leases: Vec<Kept>,
    /// The member through which all of them are kept alive, and its place.
    connection: Connection,
    place: usize,
    board: Board,
    ledger: Arc<Ledger>,
    ttl: Duration,
    op_timeout: Duration,
    stopped: watch::Receiver<bool>,
}

type Answers = Streaming<LeaseKeepAliveResponse>;

impl Keeper {
    pub fn new(
        mut stream: Stream,
        (mut connections, board): (Vec<Connection>, Board),
        options: &WorkloadOptions,
        ledger: Arc<Ledger>,
        stopped: watch::Receiver<bool>,
    ) -> Self {
        let place = usize::try_from(stream.below(connections.len().max(1) as u64)).unwrap_or(0);
        let first = options.first_client + options.clients + options.lease_holders;
        let kept = |client| Kept { client, seq: 0, granted: 0, lease: None };
        Self {
            leases: (first..first + options.kept_leases).map(kept).collect(),
            connection: connections.swap_remove(place),
            place,
            board,
            ledger,
            ttl: Duration::from_secs(u64::from(options.lease_ttl_seconds)),
            op_timeout: options.op_timeout,
            stopped,
        }
    }

    /// Runs until the load is stopped. All leases then end by themselves.
    pub async fn run(mut self) {
        while self.served().await {
            self.grant().await;
            self.keep().await;
            self.pause(PAUSE_AFTER_ERROR).await;
        }
    }

    /// Waits until the member serves; false: the load is stopped.
    async fn served(&mut self) -> bool {
        tokio::select! {
            biased;
            _ = self.stopped.wait_for(|stop| *stop) => false,
            () = self.board.wait_serves(self.place) => true,
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

    /// Asks for the leases that are not there, some at once, each with a key.
    async fn grant(&mut self) {
        let Self { leases, connection, place, ledger, ttl, .. } = self;
        let ttl_seconds = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX);
        let missing: Vec<&mut Kept> = leases.iter_mut().filter(|kept| kept.lease.is_none()).collect();
        let (place, connection, ledger) = (*place, &*connection, &*ledger);
        let grants = missing.into_iter().map(|kept| async move {
            let mut connection = connection.clone();
            kept.granted += 1;
            let lease = (i64::from(kept.client) + 1).saturating_mul(LEASE_STRIDE).saturating_add(kept.granted);
            let (grant, put) = (kept.next_op(), kept.next_op());
            let action = Action::Grant { lease, ttl_seconds };
            if !is_done(&attempt(ledger, grant, (place, &mut connection), (&action, keeping())).await) {
                return;
            }
            let (key, value) = (format!("k/{:04}", kept.client), format!("kept,{put}"));
            let action = Action::Put { key, value, lease };
            let attached = attempt(ledger, put, (place, &mut connection), (&action, keeping())).await;
            kept.lease = is_done(&attached).then_some(lease);
        });
        let grants: Vec<_> = grants.collect();
        stream::iter(grants).for_each_concurrent(GRANTS_MAX, |grant| grant).await;
    }

    /// Keeps the leases alive, round after round, until the stream breaks, one of them has ended or
    /// the load is stopped.
    async fn keep(&mut self) {
        let (ask, asked) = mpsc::channel(self.leases.len().max(1));
        let questions = stream::unfold(asked, |mut asked: mpsc::Receiver<LeaseKeepAliveRequest>| async move {
            asked.recv().await.map(|question| (question, asked))
        });
        let mut client = self.connection.leases();
        // An etcd opens its side of the stream with the first answer.
        let opening = client.lease_keep_alive(questions);
        let mut answers = None;
        tokio::pin!(opening);
        loop {
            let mut waiting = self.ask(&ask);
            let heard = timer::within(self.op_timeout, async {
                if answers.is_none() {
                    answers = Some(opening.as_mut().await?.into_inner());
                }
                match &mut answers {
                    Some(answers) => hear(&self.ledger, answers, &mut waiting).await,
                    None => Ok(Vec::new()),
                }
            });
            let ended = match heard.await {
                Some(Ok(ended)) => ended,
                broken => {
                    let why = match broken {
                        Some(Err(status)) => in_words(&status),
                        _ => format!("no answer within {} ms", self.op_timeout.as_millis()),
                    };
                    let unknown = Outcome::Unknown { why };
                    waiting.values().for_each(|op| self.ledger.complete(*op, &unknown));
                    return;
                }
            };
            self.leases
                .iter_mut()
                .filter(|kept| kept.lease.is_some_and(|lease| ended.contains(&lease)))
                .for_each(|kept| kept.lease = None);
            if !self.pause(self.ttl / ROUNDS_PER_TTL).await || self.leases.iter().any(|kept| kept.lease.is_none()) {
                return;
            }
        }
    }

    /// Sends a renewal of each lease: the operations, by lease.
    fn ask(&mut self, ask: &mpsc::Sender<LeaseKeepAliveRequest>) -> BTreeMap<i64, OpId> {
        let mut asked = BTreeMap::new();
        for kept in &mut self.leases {
            let Some(lease) = kept.lease else { continue };
            let (op, action) = (kept.next_op(), Action::KeepAlive { lease });
            self.ledger.ask(op, self.place, action, keeping());
            // There is room for all of a round, and every round waits for the one before it.
            match ask.try_send(LeaseKeepAliveRequest { id: lease }) {
                Ok(()) => drop(asked.insert(lease, op)),
                Err(error) => self.ledger.complete(op, &Outcome::Unknown { why: format!("not taken: {error}") }),
            }
        }
        asked
    }
}

/// Hears the answers to all that is `waiting`: the leases that have ended.
async fn hear(ledger: &Ledger, answers: &mut Answers, waiting: &mut BTreeMap<i64, OpId>) -> Result<Vec<i64>, Status> {
    let mut ended = Vec::new();
    while !waiting.is_empty() {
        let answer = answers.message().await?.ok_or_else(|| Status::unavailable("the stream ended"))?;
        let Some(op) = waiting.remove(&answer.id) else { continue };
        let outcome = renewed(&answer);
        ledger.complete(op, &outcome);
        if matches!(outcome, Outcome::Done { reply: Reply::Renewed { ttl_seconds: 0 }, .. }) {
            ended.push(answer.id);
        }
    }
    Ok(ended)
}

/// A lease may have ended while its member was away.
fn keeping() -> Purpose {
    Purpose { step: "keep".into(), refusal: Expected::Sometimes }
}

fn is_done(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Done { .. })
}
