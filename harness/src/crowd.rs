//! The crowd: clients that hold a member's resources and give it no work. Connections that never
//! speak, connections that begin HTTP/2 and say no more, watches and snapshots that are never read.
//! They come to each member as soon as it serves, in every life, and stay as long as the member
//! lets them. A cycle's fault waits for them ([`Crowd::gathered`]): a fast machine would kill each
//! member before its crowd is there.
//!
//! They prove nothing by themselves: a member that runs out of descriptors, threads or memory
//! because of them dies, is late, or does not serve the load any more, and all that is judged
//! anyway. A report adds their number, so that a run cannot pass because they stayed away, and the
//! latency of small answers on long streams meanwhile ([`pulse`]).

mod pulse;
mod visitor;

use crate::endpoints::Board;
use crate::scenario::CrowdSpec;
use crate::timer;
use anyhow::{Context, ensure};
use ninelives_evidence::record::crowd::{CrowdRecord, Histogram};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use visitor::{Arrival, Kind};

/// The load and the watches find a member that serves at once; the crowd comes a moment later.
const HEAD_START: Duration = Duration::from_millis(300);
/// They come one after the other, so that the kernel's backlog, 128 connections on many machines,
/// does not turn clients away.
const STRIDE: Duration = Duration::from_millis(2);
/// Pause between two visits of a client that was sent away or not let in.
const PAUSE: Duration = Duration::from_secs(2);
/// Descriptors of the harness itself and of its load, beside the crowd's.
const OWN_DESCRIPTORS: u64 = 1_024;

/// A crowd at the members of one cluster; it leaves when this is dropped.
#[derive(Debug)]
pub struct Crowd {
    spec: CrowdSpec,
    members: u64,
    board: Board,
    counts: Arc<Counts>,
    tasks: JoinSet<()>,
}

/// Counts of the crowd so far.
#[derive(Debug, Default)]
struct Counts {
    connections: AtomicU64,
    ended_by_members: AtomicU64,
    watches: AtomicU64,
    snapshots: AtomicU64,
    snapshots_refused: AtomicU64,
    keep_alive: Mutex<Histogram>,
    watch: Mutex<Histogram>,
    /// By place: clients that have come to the member there in its present life, let in or not.
    arrived: watch::Sender<Vec<u32>>,
}

impl Counts {
    fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn note(histogram: &Mutex<Histogram>, took: Duration) {
        histogram.lock().unwrap_or_else(PoisonError::into_inner).note(took);
    }
}

impl Crowd {
    /// Sends `spec` to each member; `members` are their client endpoints, in the order of `board`.
    ///
    /// # Errors
    /// This process may not open as many descriptors as the crowd takes.
    pub fn start(spec: CrowdSpec, members: &[SocketAddr], board: &Board) -> anyhow::Result<Self> {
        make_room(u64::from(spec.connections()) * members.len() as u64)?;
        let counts = Counts { arrived: watch::Sender::new(vec![0; members.len()]), ..Counts::default() };
        let (counts, tasks) = (Arc::new(counts), JoinSet::new());
        let mut crowd = Self { spec, members: members.len() as u64, board: board.clone(), counts, tasks };
        for (place, at) in members.iter().enumerate() {
            let kinds = Kind::of(&spec).into_iter().flat_map(|(kind, count)| (0..count).map(move |_| kind));
            for (number, kind) in (0..).zip(kinds) {
                let (door, counts) = ((board.clone(), place), Arc::clone(&crowd.counts));
                crowd.tasks.spawn(come_and_stay(kind, *at, HEAD_START + STRIDE * number, door, counts));
            }
            crowd.tasks.spawn(pulse::keep_alives(*at, (board.clone(), place), Arc::clone(&crowd.counts)));
            crowd.tasks.spawn(pulse::watch(*at, (board.clone(), place), Arc::clone(&crowd.counts)));
        }
        Ok(crowd)
    }

    /// Becomes ready once all of the crowd has come to each member that serves. Clients that were
    /// turned away have come.
    pub async fn gathered(&self) {
        let expected = self.spec.connections();
        let there = |place, count: u32| count >= expected || !self.board.serves(place);
        let all = |arrived: &Vec<u32>| arrived.iter().enumerate().all(|(place, count)| there(place, *count));
        // The sender belongs to this crowd and lives, so an error is impossible.
        let _ = self.counts.arrived.subscribe().wait_for(all).await;
    }

    /// The crowd's record up to now.
    pub fn record(&self) -> CrowdRecord {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let of = |histogram: &Mutex<Histogram>| histogram.lock().unwrap_or_else(PoisonError::into_inner).clone();
        CrowdRecord {
            expected: u64::from(self.spec.connections()) * self.members,
            connections: read(&self.counts.connections),
            ended_by_members: read(&self.counts.ended_by_members),
            watches: read(&self.counts.watches),
            snapshots: read(&self.counts.snapshots),
            snapshots_refused: read(&self.counts.snapshots_refused),
            keep_alive: of(&self.counts.keep_alive),
            watch: of(&self.counts.watch),
        }
    }
}

/// Raises this process's limit of descriptors, if the crowd needs that.
fn make_room(connections: u64) -> anyhow::Result<()> {
    let needed = connections + OWN_DESCRIPTORS;
    // No limit at all is the highest number.
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("cannot read the limit of open files")?;
    if soft >= needed {
        return Ok(());
    }
    ensure!(
        hard >= needed,
        "the scenario's `[crowd]` takes {connections} connections: expected a hard limit of {needed} open files, found {hard}; \
         raise it (ulimit -Hn), or make the crowd smaller"
    );
    setrlimit(Resource::RLIMIT_NOFILE, needed, hard).context("cannot raise the limit of open files for the crowd")
}

/// One of the crowd: visits the member in its place whenever that serves, and stays until it is
/// sent away or the member is gone.
async fn come_and_stay(
    kind: Kind,
    at: SocketAddr,
    after: Duration,
    (board, place): (Board, usize),
    counts: Arc<Counts>,
) {
    loop {
        board.wait_serves(place).await;
        let visits = async {
            let mut arrival = Arrival::new(&counts.arrived, place);
            timer::sleep(after).await;
            loop {
                kind.visit(at, &counts, &mut arrival).await;
                timer::sleep(PAUSE).await;
            }
        };
        tokio::select! {
            () = visits => {}
            () = board.wait_gone(place) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// A member that takes connections is crowded in each of its lives; the crowd leaves a member
    /// alone that does not serve.
    #[tokio::test]
    async fn the_crowd_comes_when_a_member_serves_and_again_after_it_was_gone() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let board = Board::new(1);
        let spec = CrowdSpec { idle: 2, ..CrowdSpec::default() };
        let crowd = Crowd::start(spec, &[listener.local_addr().unwrap()], &board).unwrap();
        assert_eq!((crowd.record().connections, crowd.record().expected), (0, 2));
        for round in 1..=2 {
            board.set(0, true);
            crowd.gathered().await;
            assert_eq!(crowd.record().connections, 2 * round);
            // Two that are idle, and the pulse's two.
            for _ in 0..4 {
                listener.accept().await.unwrap();
            }
            board.set(0, false);
            crowd.counts.arrived.subscribe().wait_for(|arrived| *arrived == [0]).await.unwrap();
        }
    }

    #[tokio::test]
    async fn clients_that_are_turned_away_have_come() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        drop(listener);
        let board = Board::new(1);
        let spec = CrowdSpec { idle: 1, half_open: 1, stalled_watches: 1, stalled_snapshots: 1 };
        let crowd = Crowd::start(spec, &[at], &board).unwrap();
        board.set(0, true);
        crowd.gathered().await;
        assert_eq!(crowd.record().connections, 0);
    }

    #[test]
    fn a_crowd_that_cannot_be_is_refused_in_words() {
        let error = make_room(1 << 40).unwrap_err().to_string();
        assert!(error.contains("takes 1099511627776 connections") && error.contains("ulimit -Hn"), "{error}");
    }
}
