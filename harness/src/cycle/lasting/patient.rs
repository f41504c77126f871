//! The members that a lasting fault hits, and the tasks that look after them until it ends.

use crate::cluster::{Disturbance, Paused};
use crate::cycle::disks::{Failing, Failure, Refusing};
use crate::faultfs::Ailing;
use crate::observe::leaderless;
use crate::pace::Lap;
use crate::timer;
use crate::workload::ReadProber;
use futures_util::future::join_all;
use ninelives_evidence::{Did, Evidence};
use ninelives_evidence::{clock, limits};
use ninelives_oracle::Ledger;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The handle that undoes a fault.
pub(super) enum Hold {
    Pause(Vec<Paused>),
    Network(Disturbance),
    Disk(Vec<Ailing>),
}

/// The members that a fault hits, and everything that is needed to look after them.
pub(super) struct Patient {
    /// From its beginning.
    pub(super) lap: Lap,
    pub(super) ledger: Arc<Ledger>,
    pub(super) prober: ReadProber,
    pub(super) cycle: u32,
    pub(super) fault: String,
    /// Places of the victims among the endpoints.
    pub(super) endpoints: Vec<usize>,
    /// The others are asked for a write before its end. While a disk is full they refuse all.
    pub(super) writes: bool,
    /// Places of the majority that stays connected; empty: no majority is sure to stay connected.
    pub(super) majority: Vec<usize>,
    /// The members that are certainly cut off from every quorum, with their endpoints.
    pub(super) leaderless: Vec<(u64, String)>,
    /// Applied indexes, plus one, as they were received: the victims' and everybody's.
    pub(super) victims_applied: Vec<Arc<AtomicU64>>,
    pub(super) all_applied: Vec<Arc<AtomicU64>>,
}

/// The end of a lasting fault, as its task saw it.
pub(super) struct LastingEnd {
    pub(super) lasted_ms: u64,
    pub(super) behind: u64,
    /// Operations that met a disk's ailment.
    pub(super) met: u64,
    pub(super) majority_wrote_ms: Option<u64>,
    /// What clients saw of the members that were cut off from every quorum.
    pub(super) leaderless: Vec<(u64, leaderless::Seen)>,
    /// The machine's factor while it lasted.
    pub(super) machine_percent: u32,
    pub(super) failures: Vec<Failure>,
}

/// Lets the fault last, has the prober read from its victims, and ends it.
pub(super) async fn look_after(hold: Hold, patient: &Patient, since: Instant, ms: u64) -> io::Result<LastingEnd> {
    let end = since + Duration::from_millis(ms);
    let before = |lead| end.checked_sub(lead).unwrap_or(since);
    let write = async {
        if patient.writes {
            timer::sleep_until(before(limits::PROBE_WRITE_LEAD)).await;
            patient.prober.write((0..patient.all_applied.len()).filter(|at| !patient.endpoints.contains(at))).await;
        }
    };
    let read = async {
        timer::sleep_until(before(limits::PROBE_LEAD)).await;
        let reads = patient.endpoints.iter().map(|at| patient.prober.read_until(*at, end + limits::PROBE_TAIL));
        join_all(reads).await;
    };
    let serve = async {
        let wrote = patient.prober.write_until(&patient.majority, end).await;
        wrote.then(|| clock::ms_since(since))
    };
    let looks = patient.leaderless.iter().map(|(member, endpoint)| async move {
        leaderless::look(endpoint, since, end).await.map(|seen| (*member, seen))
    });
    let look = async { join_all(looks).await.into_iter().flatten().collect() };
    let undo = async {
        timer::sleep_until(end).await;
        let behind = patient.behind();
        let lasted_ms = clock::ms_since(since);
        let met = match &hold {
            Hold::Disk(ailing) => ailing.iter().map(Ailing::met).sum(),
            Hold::Pause(_) | Hold::Network(_) => 0,
        };
        let what = Some(format!("{}, after {lasted_ms} ms{}", patient.fault, met_in_words(met)));
        patient.ledger.record(&Evidence::Did { cycle: patient.cycle, did: Did::End, member: None, what });
        match hold {
            Hold::Pause(paused) => {
                let went_on = join_all(paused.into_iter().map(Paused::go_on)).await;
                went_on.into_iter().collect::<io::Result<()>>()?;
            }
            Hold::Network(disturbance) => drop(disturbance),
            Hold::Disk(ailing) => drop(ailing),
        }
        Ok((lasted_ms, behind, met))
    };
    // A late answer must not make the fault last longer.
    let (ended, majority_wrote_ms, (), (), leaderless) = tokio::join!(undo, serve, write, read, look);
    let machine_percent = patient.lap.factor_percent();
    ended.map(|(lasted_ms, behind, met)| {
        let failures = Vec::new();
        LastingEnd { lasted_ms, behind, met, majority_wrote_ms, leaderless, machine_percent, failures }
    })
}

/// Waits until a sync of each victim has failed, and the victim has ended of it; both within
/// bounds.
pub(super) async fn await_failures(
    failing: Vec<Failing>,
    patient: &Patient,
    since: Instant,
    (bound, losing): (Duration, bool),
) -> io::Result<LastingEnd> {
    let ends = failing.iter().map(|one| one.end(&patient.lap, bound, losing));
    let failures: Vec<_> = join_all(ends).await.into_iter().flatten().collect();
    let files = failures.iter().map(|failure| format!("n{} {}", failure.member, failure.file)).collect();
    let met = failures.len() as u64;
    Ok(LastingEnd { failures, ..patient.end_of_errors(since, met, files, "no sync came") })
}

/// Waits until reads or writes of each victim fail, within a bound, and then for so `long` while
/// all others of their kind do.
pub(super) async fn await_refusals(
    refusing: Vec<Refusing>,
    patient: &Patient,
    since: Instant,
    long: Duration,
) -> io::Result<LastingEnd> {
    let ends = join_all(refusing.into_iter().map(|one| one.end(&patient.lap, long))).await;
    let files = ends.iter().filter_map(|(_, file)| file.clone()).collect();
    let met = ends.iter().map(|(met, _)| met).sum();
    Ok(patient.end_of_errors(since, met, files, "none came"))
}

/// The end of a sentence on a fault that so many operations met.
fn met_in_words(met: u64) -> String {
    if met == 0 { String::new() } else { format!(", met by {met} operations") }
}

impl Patient {
    /// The end of errors that disks gave `met` operations on `files`.
    fn end_of_errors(&self, since: Instant, met: u64, files: Vec<String>, none: &str) -> LastingEnd {
        let (behind, lasted_ms) = (self.behind(), clock::ms_since(since));
        let found = if files.is_empty() { none.to_owned() } else { files.join(", ") };
        let what = Some(format!("{}, after {lasted_ms} ms: {found}", self.fault));
        self.ledger.record(&Evidence::Did { cycle: self.cycle, did: Did::End, member: None, what });
        LastingEnd {
            lasted_ms,
            behind,
            met,
            majority_wrote_ms: None,
            leaderless: Vec::new(),
            machine_percent: self.lap.factor_percent(),
            failures: Vec::new(),
        }
    }

    fn behind(&self) -> u64 {
        let least = self.victims_applied.iter().map(|applied| applied.load(Ordering::Acquire)).min().unwrap_or(0);
        let most = self.all_applied.iter().map(|applied| applied.load(Ordering::Acquire)).max().unwrap_or(0);
        most.saturating_sub(least)
    }
}
