//! Start-up: from what a crash left on disk to a state machine that raft can drive.
//!
//! Letters: **N** the persisted last-flushed index, **E** the engine's consistent index, **L** the
//! raft log's last index.
//!
//! 1. The raft log is opened first: whether a missing N is innocent depends on its last purged
//!    index.
//! 2. N is read. Corrupt is refused. Missing means "nothing flushed" only while the log was never
//!    purged.
//! 3. What an earlier life may have left in the page cache is synced *before* any peer is answered:
//!    a SIGKILL keeps un-synced writes readable, and a later power loss would take back what we
//!    then said.
//! 4. The engine is opened and E read. E < N means that flushed data vanished: exit code 65, never
//!    served.
//! 5. LogId(N) is looked up: in the log, or as its last purged position. If the log does not know
//!    it, N came from an installed snapshot whose log purge a crash interrupted: then E = N, the
//!    engine names the LogId, and raft drops the log up to it.
//! 6. Raft is told that LogId(N) is applied, so its scan starts at N+1. Entries in (N, E] are
//!    verified and not applied; entries from E+1 on are applied. [`Replay`] enforces that, entry by
//!    entry, and keeps the evidence.
//!
//! 7. Apply waits until the local log is durable through its entry, so L ≥ E after a crash, with
//!    one exception: a kill inside a snapshot install, between the exchange and N, leaves E = M > N
//!    and a log that does not know M. The exchange is the point of no return, so start-up finishes
//!    that install: N = E is persisted, and raft drops the log.

use node_base::failpoint::{self, Window};
use node_base::sabotage::{Bug, planted};
use node_base::{LogId, invariant_broken};
use node_raft::LogFacts;
use std::ops::RangeInclusive;

/// The state of the disk at start, before anything moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Found {
    /// N, with its term.
    pub last_flushed: Option<LogId>,
    /// E.
    pub engine: Option<LogId>,
    pub log_first: Option<u64>,
    pub log_last: Option<LogId>,
    pub last_purged: Option<LogId>,
}

/// Verdict of [`Replay`] on an entry that raft hands to the state machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// In (N, E]: the engine holds it already.
    Verified,
    /// Above E, but in the log when this life began: a crash took it from the memtable.
    Replay,
    /// New in this life.
    Fresh,
    /// Planted bugs only: neither applied nor said.
    Dropped,
}

/// The replay's evidence, as the control endpoint reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    pub found: Found,
    pub scan_start: Option<u64>,
    pub verified: Option<RangeInclusive<u64>>,
    pub replayed: Option<RangeInclusive<u64>>,
    pub complete: bool,
    pub snapshot_installed: Option<u64>,
}

/// Watches every entry that raft hands over: contiguous from N+1, nothing twice, LogIds as the
/// engine proves.
#[derive(Debug)]
pub struct Replay {
    evidence: Evidence,
    last: Option<LogId>,
}

impl Replay {
    pub fn new(found: Found) -> Self {
        let mut replay = Self {
            evidence: Evidence {
                found,
                scan_start: None,
                verified: None,
                replayed: None,
                complete: false,
                snapshot_installed: None,
            },
            last: found.last_flushed,
        };
        replay.evidence.complete = replay.is_complete();
        replay
    }

    pub fn evidence(&self) -> &Evidence {
        &self.evidence
    }

    /// Accounts for `id`. A gap, a repetition or a LogId that contradicts the engine ends the
    /// process with exit code 65: going on would make this replica differ in silence.
    pub fn step(&mut self, id: LogId) -> Step {
        self.check_contiguous(id);
        let first_of_life = self.evidence.scan_start.is_none();
        self.evidence.scan_start.get_or_insert(id.index);
        self.last = Some(id);
        let step = self.classify(id);
        match step {
            Step::Verified => extend(&mut self.evidence.verified, id.index),
            Step::Replay => extend(&mut self.evidence.replayed, id.index),
            Step::Fresh | Step::Dropped => {}
        }
        self.evidence.complete = self.evidence.complete || self.is_complete();
        match step {
            // `replay-skips-one`: the first entry that a restart has to apply again is lost when it
            // follows N, and the evidence does not say so.
            Step::Replay if first_of_life && planted(Bug::ReplaySkipsOne) => Step::Dropped,
            // `replay-again`: what the engine holds is applied a second time.
            Step::Verified if planted(Bug::ReplayAgain) => Step::Replay,
            step => step,
        }
    }

    /// The last entry that is accounted for; raft's scan goes on after it.
    pub fn position(&self) -> Option<LogId> {
        self.last
    }

    /// A snapshot at `id` replaced the engine's state: the scan goes on after it.
    pub fn installed(&mut self, id: LogId) {
        self.last = Some(id);
        // What the scan began behind is the evidence; a later snapshot does not change where it
        // began.
        if self.evidence.scan_start.is_none() {
            self.evidence.snapshot_installed = None;
        }
        self.evidence.snapshot_installed.get_or_insert(id.index);
        self.evidence.complete = self.evidence.complete || self.is_complete();
    }

    fn check_contiguous(&self, id: LogId) {
        let expected = self.last.map_or(0, |last| last.index + 1);
        if id.index != expected {
            invariant_broken(&format!("replay must be contiguous: expected index {expected}, raft handed over {id}"));
        }
        if self.last.is_some_and(|last| id.term < last.term) {
            invariant_broken(&format!("terms must not fall along the log: {id} came after {:?}", self.last));
        }
    }

    fn classify(&self, id: LogId) -> Step {
        let found = &self.evidence.found;
        let Some(engine) = found.engine.filter(|engine| id.index <= engine.index) else {
            let in_log_at_start = found.log_last.is_some_and(|last| id.index <= last.index);
            return if in_log_at_start { Step::Replay } else { Step::Fresh };
        };
        let agrees = if id.index == engine.index { id.term == engine.term } else { id.term <= engine.term };
        if !agrees {
            invariant_broken(&format!("the engine proves entry {engine}, but the committed log says {id} there"));
        }
        Step::Verified
    }

    /// Everything that the log held at start is decided: applied, or overwritten by a later term.
    fn is_complete(&self) -> bool {
        let found = &self.evidence.found;
        let past = |id: Option<LogId>| id.is_none_or(|id| self.last.is_some_and(|last| last.index >= id.index));
        let overwritten = || self.last > found.log_last;
        past(found.engine) && (past(found.log_last) || overwritten())
    }
}

fn extend(range: &mut Option<RangeInclusive<u64>>, index: u64) {
    let first = range.as_ref().map_or(index, |range| *range.start());
    *range = Some(first..=index);
}

/// Reason why a member refuses to start: data it cannot trust. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error(
        "no last-flushed-index file (on redb: an empty database), but the raft log was purged up to index {last_purged}: \
         expected what every purge waits for; without it nothing proves that the purged entries are in the \
         engine. Remove this member from the cluster and add it under a new id"
    )]
    MissingIndex { last_purged: u64 },
    #[error(
        "the raft log was purged up to index {last_purged}, above the last-flushed index {last_flushed}: \
         entries that the engine may have lost are gone. Remove this member and add it under a new id"
    )]
    PurgedAboveN { last_purged: u64, last_flushed: u64 },
    #[error(
        "the raft log (first {first:?}, last {last:?}) does not hold the entry at the last-flushed index \
         {last_flushed}, and the engine is not at that index either (found {engine:?}). Remove this member and add it under a new id"
    )]
    UnknownLastFlushed { last_flushed: u64, first: Option<u64>, last: Option<u64>, engine: Option<u64> },
}

/// Claims 2, 4 and 5: checks N against the log and the engine, and finds LogId(N).
///
/// `in_log` is what the log knows at N: an entry, or its last purged position.
///
/// # Errors
/// [`Refused`]. E < N does not return: it ends the process with exit code 65.
pub fn locate(
    last_flushed: Option<u64>,
    in_log: Option<LogId>,
    engine: Option<LogId>,
    log: &LogFacts,
) -> Result<Found, Refused> {
    let LogFacts { first: log_first, last: log_last, last_purged, .. } = *log;
    let purged = last_purged.map(|id| id.index);
    let found = Found { last_flushed: None, engine, log_first, log_last, last_purged };
    let Some(last_flushed) = last_flushed else {
        return match purged {
            None => Ok(found),
            Some(last_purged) => Err(Refused::MissingIndex { last_purged }),
        };
    };
    let engine_index = engine.map(|id| id.index);
    if engine_index < Some(last_flushed) && !planted(Bug::OpenCheckMissing) {
        let engine = engine_index.map_or("nothing".to_owned(), |index| format!("index {index}"));
        invariant_broken(&format!(
            "last-flushed-index says that index {last_flushed} is durable in the engine, but the tables in member/snap/db prove only \
             {engine}: flushed data vanished. Keep this directory for analysis; remove this member and add it under a new id"
        ));
    }
    if purged > Some(last_flushed) && !planted(Bug::PurgePastFlushed) {
        return Err(Refused::PurgedAboveN { last_purged: purged.unwrap_or(0), last_flushed });
    }
    let from_engine = engine.filter(|id| id.index == last_flushed);
    let id = match (in_log, from_engine) {
        (Some(in_log), _) if from_engine.is_none_or(|engine| engine == in_log) => in_log,
        (_, Some(engine)) => engine,
        // Only reachable with a purge above N let through: replay can then start only where the log
        // does.
        (_, None) if planted(Bug::PurgePastFlushed) => last_purged.unwrap_or(LogId::new(0, last_flushed)),
        _ => {
            let (last, engine) = (log_last.map(|id| id.index), engine_index);
            return Err(Refused::UnknownLastFlushed { last_flushed, first: log_first, last, engine });
        }
    };
    Ok(Found { last_flushed: Some(id), ..found })
}

/// Claim 7: the position of an install that a kill interrupted after its exchange. `engine_in_log`
/// is what the log knows at E.
pub fn interrupted_install(found: &Found, engine_in_log: Option<LogId>) -> Option<LogId> {
    let engine = found.engine?;
    let beyond_purge = found.last_purged.is_none_or(|purged| purged.index < engine.index);
    (found.last_flushed < Some(engine) && beyond_purge && engine_in_log != Some(engine)).then_some(engine)
}

/// Marks the windows of replay itself.
pub fn pass_window(step: Step) {
    match step {
        Step::Verified => failpoint::pass(Window::ReplayVerify),
        Step::Replay => failpoint::pass(Window::ReplayApply),
        Step::Fresh | Step::Dropped => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(index: u64) -> LogId {
        LogId::new(2, index)
    }

    fn found(n: u64, e: u64, last: u64) -> Found {
        Found {
            last_flushed: Some(id(n)),
            engine: Some(id(e)),
            log_first: Some(0),
            log_last: Some(id(last)),
            last_purged: None,
        }
    }

    #[test]
    fn entries_up_to_e_are_verified_and_later_ones_applied() {
        let mut replay = Replay::new(found(3, 5, 7));
        let steps: Vec<_> = (4..=8).map(|index| replay.step(id(index))).collect();
        assert_eq!(steps, [Step::Verified, Step::Verified, Step::Replay, Step::Replay, Step::Fresh]);
        let evidence = replay.evidence();
        assert_eq!(evidence.scan_start, Some(4));
        assert_eq!(evidence.verified, Some(4..=5));
        assert_eq!(evidence.replayed, Some(6..=7));
    }

    #[test]
    fn replay_is_complete_once_the_old_tail_is_applied() {
        let mut replay = Replay::new(found(5, 5, 7));
        assert!(!replay.evidence().complete);
        replay.step(id(6));
        assert!(!replay.evidence().complete);
        replay.step(id(7));
        assert!(replay.evidence().complete);
    }

    #[test]
    fn replay_is_complete_when_a_later_term_overwrote_the_tail() {
        let mut replay = Replay::new(found(5, 5, 9));
        replay.step(LogId::new(3, 6));
        assert!(replay.evidence().complete);
    }

    #[test]
    fn nothing_to_replay_is_complete_at_once() {
        assert!(Replay::new(found(7, 7, 7)).evidence().complete);
        assert!(Replay::new(Found::default()).evidence().complete);
    }

    #[test]
    fn a_snapshot_moves_the_scan() {
        let mut replay = Replay::new(found(5, 5, 5));
        replay.installed(id(50));
        assert_eq!(replay.step(id(51)), Step::Fresh);
        assert_eq!(replay.evidence().snapshot_installed, Some(50));
    }

    fn log(first: Option<u64>, last: Option<u64>, last_purged: Option<u64>) -> LogFacts {
        LogFacts { first, last: last.map(id), last_purged: last_purged.map(id), ..LogFacts::default() }
    }

    #[test]
    fn a_missing_index_is_innocent_only_before_the_first_purge() {
        let none = locate(None, None, None, &log(None, None, None)).unwrap();
        assert_eq!(none, Found::default());
        let error = locate(None, None, Some(id(9)), &log(Some(6), Some(9), Some(5))).unwrap_err();
        assert!(error.to_string().contains("purged up to index 5"), "{error}");
    }

    #[test]
    fn the_log_names_the_term_of_n() {
        let found = locate(Some(4), Some(LogId::new(1, 4)), Some(id(6)), &log(Some(0), Some(8), None)).unwrap();
        assert_eq!(found.last_flushed, Some(LogId::new(1, 4)));
    }

    #[test]
    fn an_interrupted_install_takes_the_log_id_from_the_engine() {
        let found = locate(Some(40), None, Some(id(40)), &log(Some(0), Some(8), None)).unwrap();
        assert_eq!(found.last_flushed, Some(id(40)));
        // A conflicting entry in the log loses against what the engine proves.
        let found = locate(Some(40), Some(LogId::new(1, 40)), Some(id(40)), &log(Some(0), Some(60), None)).unwrap();
        assert_eq!(found.last_flushed, Some(id(40)));
    }

    #[test]
    fn claim_7_an_engine_that_the_log_does_not_know_is_an_interrupted_install() {
        let before = found(3, 40, 8);
        assert_eq!(interrupted_install(&before, None), Some(id(40)));
        assert_eq!(interrupted_install(&before, Some(LogId::new(1, 40))), Some(id(40)), "the log contradicts it");
        assert_eq!(interrupted_install(&found(3, 5, 8), Some(id(5))), None, "an ordinary crash");
        assert_eq!(interrupted_install(&found(40, 40, 8), None), None, "N is persisted: raft finishes the purge");
        let mut replay = Replay::new(before);
        replay.installed(id(40));
        assert_eq!(replay.position(), Some(id(40)));
        assert_eq!(replay.step(id(41)), Step::Fresh);
        assert!(replay.evidence().complete);
        assert_eq!(replay.evidence().found.last_flushed, Some(id(3)), "the evidence keeps what was found");
    }

    #[test]
    fn a_later_snapshot_does_not_change_where_the_scan_began() {
        let mut replay = Replay::new(found(5, 5, 5));
        replay.installed(id(50));
        replay.step(id(51));
        replay.installed(id(90));
        assert_eq!(replay.evidence().snapshot_installed, Some(50));
    }

    #[test]
    fn a_log_that_does_not_reach_back_to_n_is_refused() {
        let error = locate(Some(4), None, Some(id(9)), &log(Some(6), Some(9), Some(5))).unwrap_err();
        assert!(matches!(error, Refused::PurgedAboveN { last_purged: 5, last_flushed: 4 }), "{error}");
        let error = locate(Some(4), None, Some(id(9)), &log(Some(6), Some(9), None)).unwrap_err();
        assert!(matches!(error, Refused::UnknownLastFlushed { .. }), "{error}");
    }
}
