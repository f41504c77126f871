//! The load: concurrent clients over etcd's API, whose operations make double apply, lost apply and
//! wrong order visible, and which go on while members die.
//!
//! What a client does is a function of the seed alone (stream `client/k`, or `cluster/c/client/k`
//! in the other clusters of a run): the same seed gives each client the same sequence of
//! operations, whatever the answers were. Only parameters that must come from an answer do: the
//! revision that a compare-and-swap expects, the list that an append extends. Keys are bounded,
//! values too, and one client compacts, so the store stays the same size however long a run is.

mod attempt;
mod client;
mod connection;
mod generator;
mod holder;
mod keeper;
mod load;
mod packed;
mod prober;
mod refusal;

pub use load::Load;
pub use prober::ReadProber;

use crate::endpoints::Board;
use crate::scenario::mix::{self, Mix};
use crate::seed::Seed;
use client::Client;
use generator::Generator;
use holder::Holder;
use keeper::Keeper;
use ninelives_evidence::clock;
use ninelives_evidence::limits;
use ninelives_oracle::Ledger;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// The shape of the load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkloadOptions {
    /// Which of the run's clusters it is for, from 1: each has streams of its own.
    pub cluster: u32,
    /// The number of the first client: a resumed run has new clients.
    pub first_client: u32,
    /// The number of times that the run was resumed before.
    pub resumed: u32,
    /// The number of times that the cluster was restored since.
    pub restored: u32,
    /// The mix of steps of the load.
    pub mix: &'static Mix,
    /// Concurrent clients, each with one operation in flight.
    pub clients: u32,
    /// Keys of each kind (append lists, counters, plain keys) that the clients share.
    pub keys: u32,
    /// Values do not grow beyond this; an append list starts over. At least 64.
    pub value_bytes_max: u32,
    /// After this long an operation is given up as unknown.
    pub op_timeout: Duration,
    /// Client 0 compacts after this many of its own steps; 0: never.
    pub compact_every: u32,
    /// Revisions of history that a compaction leaves, at least.
    pub compact_keep: u64,
    /// Pause of a client between two steps; zero: none.
    pub pace: Duration,
    /// Further clients that hold leases of seconds; their numbers follow those of the others.
    pub lease_holders: u32,
    /// Leases of seconds that one further client keeps alive on one stream; each has a number of
    /// its own.
    pub kept_leases: u32,
    pub lease_ttl_seconds: u32,
}

impl Default for WorkloadOptions {
    fn default() -> Self {
        Self {
            cluster: 1,
            first_client: 0,
            resumed: 0,
            restored: 0,
            mix: &mix::MIXED,
            clients: 16,
            keys: 64,
            value_bytes_max: 256,
            op_timeout: Duration::from_secs(2),
            compact_every: 40,
            compact_keep: u64::from(limits::COMPACT_KEEP_REVISIONS),
            pace: Duration::ZERO,
            lease_holders: 0,
            kept_leases: 0,
            lease_ttl_seconds: limits::LEASE_TTL_SECONDS,
        }
    }
}

impl WorkloadOptions {
    /// The name of the stream of draws of the `number`-th of a `kind` of clients.
    fn stream(&self, kind: &str, number: u32) -> String {
        let stream = match self.cluster {
            1 => format!("{kind}/{number}"),
            cluster => format!("cluster/{cluster}/{kind}/{number}"),
        };
        let stream = if self.restored > 0 { format!("restore/{}/{stream}", self.restored) } else { stream };
        if self.resumed > 0 { format!("resume/{}/{stream}", self.resumed) } else { stream }
    }
}

/// A running load. Dropping it aborts the clients in mid-operation; [`Workload::stop`] lets them
/// finish.
#[derive(Debug)]
pub struct Workload {
    stop: watch::Sender<bool>,
    clients: JoinSet<()>,
    started: Instant,
}

impl Workload {
    /// Starts the clients on the current tokio runtime. `endpoints` has one `http://host:port` per
    /// member, dead or alive; `board` says which of them serve, in the same order.
    ///
    /// # Errors
    /// An endpoint is not a URI.
    pub async fn start(
        options: &WorkloadOptions,
        (endpoints, board): (&[String], Board),
        seed: &Seed,
        ledger: Arc<Ledger>,
    ) -> anyhow::Result<Self> {
        let (stop, stopped) = watch::channel(false);
        let mut clients = JoinSet::new();
        for number in 0..options.clients {
            let client = options.first_client + number;
            let generator = Generator::new(client, seed.stream(&options.stream("client", number)), options);
            let connections = connection::connect(endpoints, options.op_timeout).await?;
            let client = Client::new(generator, (connections, board.clone()), options.clone(), Arc::clone(&ledger));
            clients.spawn(client.run(stopped.clone()));
        }
        for number in 0..options.lease_holders {
            let stream = seed.stream(&options.stream("holder", number));
            let connections = connection::connect(endpoints, options.op_timeout).await?;
            let holder = (options.first_client + options.clients + number, stream);
            let holder =
                Holder::new(holder, (connections, board.clone()), options, Arc::clone(&ledger), stopped.clone());
            clients.spawn(holder.run());
        }
        if options.kept_leases > 0 {
            let stream = seed.stream(&options.stream("keeper", 0));
            let connections = connection::connect(endpoints, options.op_timeout).await?;
            let keeper = Keeper::new(stream, (connections, board), options, ledger, stopped);
            clients.spawn(keeper.run());
        }
        Ok(Self { stop, clients, started: clock::now() })
    }

    /// Milliseconds for which it has run by now.
    pub fn ran_ms(&self) -> u64 {
        clock::ms_since(self.started)
    }

    /// Lets every client finish the operation that it is in (bounded by the operation timeout), and
    /// start no other. An operation that timed out may still happen: drained clients are not a
    /// quiescent server.
    ///
    /// # Errors
    /// A client panicked.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.stop.send_replace(true);
        while let Some(ended) = self.clients.join_next().await {
            ended.map_err(|error| anyhow::anyhow!("a workload client ended by a panic: {error}"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timer;
    use ninelives_evidence::Evidence;
    use ninelives_evidence::history::{History, Lines};
    use ninelives_evidence::member::Slot;
    use std::net::TcpListener;

    /// The endpoints that the requests of a short load went to, while only those in `serving` were
    /// known to serve. The first endpoint takes connections and never answers, like a member that
    /// is starting; the second one refuses connections.
    async fn asked(serving: &[usize]) -> Vec<usize> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history.jsonl");
        let (mute, gone) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        let endpoints = [&mute, &gone].map(|listener| format!("http://{}", listener.local_addr().unwrap()));
        drop(gone);
        let ledger = Ledger::recorded(&[Slot(1), Slot(2)], History::create(&path).unwrap());
        let board = Board::new(2);
        serving.iter().for_each(|place| board.set(*place, true));
        let options = WorkloadOptions { clients: 2, op_timeout: Duration::from_secs(60), ..WorkloadOptions::default() };
        let load = Workload::start(&options, (&endpoints, board), &Seed::new(1), ledger).await.unwrap();
        timer::sleep(Duration::from_millis(300)).await;
        let stopped = timer::within(Duration::from_secs(20), load.stop()).await;
        stopped.expect("no client waits for who does not serve").unwrap();
        let (mut lines, mut asked) = (Lines::open(&path).unwrap(), Vec::new());
        while let Some((_, evidence)) = lines.read().unwrap() {
            if let Evidence::Invoke { endpoint, .. } = evidence {
                asked.push(endpoint);
            }
        }
        asked
    }

    #[tokio::test]
    async fn who_does_not_serve_is_passed_over() {
        let asked = asked(&[1]).await;
        assert!(asked.len() > 4 && asked.iter().all(|endpoint| *endpoint == 1), "{asked:?}");
    }

    #[tokio::test]
    async fn while_nobody_serves_nothing_is_sent() {
        assert_eq!(asked(&[]).await, Vec::<usize>::new());
    }
}
