//! Promise (with N the persisted last-flushed index, E the engine's own consistent index, both read
//! from the dead directory by a separate binary): a restart scans the raft log from N+1, verifies
//! (N, E] without applying it, applies from E+1 on without a gap, and at least what had been
//! applied before; the log was purged to N at most.
//!
//! ```text
//!   purged ≤ N          E            last
//!   ─────────┤██████████┤░░░░░░░░░░░░┤
//!             verified   replayed
//!             └ scan starts here, at N+1
//! ```
//!
//! On redb N is E, and there is nothing to verify.
//!
//! An absent index means that no entry has that property yet: it counts as one below the first
//! index, 0.

use ninelives_evidence::member::Engine;
use ninelives_evidence::verdict::Finding;
use ninelives_evidence::verdict::findings::parts::{DeadWatermark, Span};
use ninelives_evidence::verdict::findings::{Restarts, What};
use ninelives_evidence::{DeadMember, IndexRange, Recovered};

/// One restart of one member, and the content of its dead directory.
#[derive(Debug, Clone, Copy)]
pub struct Restart<'a> {
    pub cycle: u32,
    pub member: u64,
    pub dead: &'a DeadMember,
    /// The highest applied index that the harness had received before the kill; `None`: none.
    pub applied_received: Option<u64>,
}

impl Restart<'_> {
    pub(super) fn finding(&self, what: impl Into<What>) -> Finding {
        Finding::new(what).in_cycle(self.cycle).at_member(self.member)
    }
}

/// The raft log's first index. A member of a cluster that never ran has none.
const FIRST_INDEX: u64 = 0;

/// The index after `index`; the first one if there is none.
fn after(index: Option<u64>) -> u64 {
    index.map_or(FIRST_INDEX, |index| index + 1)
}

/// Judges the dead directory alone, after nothing but our own kill.
pub fn check_dead(restart: &Restart<'_>) -> Vec<Finding> {
    let dead = restart.dead;
    let mut findings = Vec::new();
    if let Some(error) = dead.last_flushed_index_error.clone() {
        return vec![restart.finding(Restarts::IndexUnreadable { error })];
    }
    if let Some(error) = dead.engine_error.clone() {
        return vec![restart.finding(Restarts::EngineUnreadable { error })];
    }
    if let Some(error) = dead.log_error.clone() {
        return vec![restart.finding(Restarts::RaftLogUnreadable { error })];
    }
    let (persisted, engine, purged) = (dead.last_flushed_index, dead.engine_index, dead.last_purged);
    if after(persisted) > after(engine) {
        findings.push(restart.finding(Restarts::PersistedAheadOfEngine { persisted, engine }));
    }
    if after(purged) > after(persisted) {
        findings.push(restart.finding(Restarts::PurgedAbovePersisted { purged, persisted }));
    }
    findings.extend(check_log_end(restart));
    findings
}

/// Apply waits for the local log: applied entries must be in it, or purged from it. Only a snapshot
/// whose installation was under way justifies an engine that is ahead of the whole log, because it
/// covers the applied entries.
fn check_log_end(restart: &Restart<'_>) -> Option<Finding> {
    let dead = restart.dead;
    let log_end = dead.log_last.max(dead.last_purged);
    let ahead = after(dead.engine_index) > after(log_end);
    if ahead && in_an_install(dead) {
        return None;
    }
    let what = if after(restart.applied_received) > after(log_end) {
        Restarts::AppliedBeyondLog { applied: restart.applied_received, log_end }
    } else if ahead && dead.install_under_way.is_some() {
        Restarts::EngineBeyondLog { engine: dead.engine_index, log_end }
    } else {
        return None;
    };
    Some(restart.finding(what))
}

/// Whether a snapshot was being installed; an older record does not say, and gets the benefit
/// of the doubt.
fn in_an_install(dead: &DeadMember) -> bool {
    dead.install_under_way != Some(false)
}

/// Carries an interrupted install over to the next look: a start removes the database beside `db`
/// before it makes N and the log fit, so a directory that a second kill leaves shows no install any
/// more. `before`: the result of the last look.
pub(super) fn carry_install(before: &DeadMember, dead: &mut DeadMember) {
    let log_end = before.log_last.max(before.last_purged);
    let interrupted = after(before.engine_index) > after(log_end) && in_an_install(before);
    if interrupted && before.engine_index == dead.engine_index && dead.install_under_way.is_some() {
        dead.install_under_way = Some(true);
    }
}

/// Judges the report of the next life on its recovery, once that is complete.
pub fn check_replay_start(restart: &Restart<'_>, recovery: &Recovered) -> Vec<Finding> {
    let dead = restart.dead;
    if dead.log_error.is_some() {
        // There is nothing to compare with; that the log cannot be read has been reported.
        return Vec::new();
    }
    let mut broken = Vec::new();
    let mut same = |mark: DeadWatermark, dead: Option<u64>, told: Option<u64>| {
        if dead != told {
            broken.push(Restarts::RecoveredOtherMark { mark, dead, told });
        }
    };
    // On redb N is E by definition, and a member may leave it at that.
    if recovery.last_flushed_index.is_some() || dead.engine != Some(Engine::Redb) {
        same(DeadWatermark::Persisted, dead.last_flushed_index, recovery.last_flushed_index);
    }
    same(DeadWatermark::Engine, dead.engine_index, recovery.engine_index);
    same(DeadWatermark::LastPurged, dead.last_purged, recovery.last_purged);
    same(DeadWatermark::LogLast, dead.log_last, recovery.log_last);
    let (n, e) = (dead.last_flushed_index, dead.engine_index);
    match recovery.snapshot_installed {
        None => {
            check_verified(n, e, recovery.verified, &mut broken);
            check_scan_start(n, dead.log_last, recovery.scan_start, &mut broken);
            check_replayed(e, dead.log_last, recovery.replayed, &mut broken);
            check_reached(restart, recovery.replayed, &mut broken);
        }
        Some(at) => {
            // An install that our kill interrupted behind its exchange is finished at open. On redb
            // N is the new one by then.
            let finished = dead.engine == Some(Engine::Redb) && e == Some(at);
            if after(Some(at)) <= after(n) && !finished {
                broken.push(Restarts::SnapshotNotAbove { snapshot: at, persisted: n });
            }
            check_under_snapshot(at, (n, e), recovery, &mut broken);
        }
    }
    broken.into_iter().map(|what| restart.finding(what)).collect()
}

fn check_verified(n: Option<u64>, e: Option<u64>, verified: Option<IndexRange>, broken: &mut Vec<Restarts>) {
    let expected = (after(n) < after(e)).then(|| Span { first: after(n), last: after(e) - 1 });
    let found = verified.map(span);
    if found != expected {
        broken.push(Restarts::VerifiedOtherEntries { expected, found });
    }
}

fn check_scan_start(n: Option<u64>, log_last: Option<u64>, start: Option<u64>, broken: &mut Vec<Restarts>) {
    // If the log holds nothing above N, a new entry comes first, and its index is still N+1.
    let nothing_to_scan = after(log_last) <= after(n);
    match start {
        None if nothing_to_scan => {}
        Some(start) if start == after(n) => {}
        found => broken.push(Restarts::ScannedFromElsewhere { expected: after(n), found }),
    }
}

fn check_replayed(e: Option<u64>, log_last: Option<u64>, replayed: Option<IndexRange>, broken: &mut Vec<Restarts>) {
    match replayed {
        // Entries above E need not have been committed: an overwritten tail is never applied.
        None => {}
        Some(found) if found.first != after(e) => {
            broken.push(Restarts::AppliedFromElsewhere { expected: after(e), found: found.first });
        }
        Some(found) if found.last < found.first || after(Some(found.last)) > after(log_last) => {
            let IndexRange { first, last } = found;
            broken.push(Restarts::AppliedBeyondLogAgain { first, last, log_last });
        }
        Some(_) => {}
    }
}

/// Checks the end of the replay: entries that were applied before the kill were committed, so the
/// next life applies them again, as far as its log holds them.
fn check_reached(restart: &Restart<'_>, replayed: Option<IndexRange>, broken: &mut Vec<Restarts>) {
    let (e, log_last) = (restart.dead.engine_index, restart.dead.log_last);
    let applied = restart.applied_received.min(log_last);
    let last = replayed.map(|range| range.last);
    if after(applied) > after(e) && after(last) < after(applied) {
        broken.push(Restarts::ReplayTooShort { applied, engine: e, replayed: last });
    }
}

/// A snapshot at `at` replaces the state: entries up to `at` need no replay, so a scan that had not
/// begun by then starts behind it, and one that had begun started at N+1.
fn check_under_snapshot(at: u64, (n, e): (Option<u64>, Option<u64>), recovery: &Recovered, broken: &mut Vec<Restarts>) {
    if let Some(found) = recovery.verified
        && (found.first != after(n) || found.last >= after(e))
    {
        broken.push(Restarts::VerifiedNoBeginning { found: span(found), from: after(n), engine: e });
    }
    if let Some(found) = recovery.replayed
        && found.first == after(e)
        && found.first != at + 1
    {
        // The replay began before the snapshot came, so the verification was complete by then.
        check_verified(n, e, recovery.verified, broken);
    }
    if let Some(start) = recovery.scan_start
        && start != after(n)
        && start != at + 1
    {
        broken.push(Restarts::ScannedAsideOfSnapshot { expected: after(n), snapshot: at, found: start });
    }
    if let Some(found) = recovery.replayed
        && found.first != after(e)
        && found.first != at + 1
    {
        broken.push(Restarts::AppliedAsideOfSnapshot { expected: after(e), snapshot: at, found: found.first });
    }
}

fn span(range: IndexRange) -> Span {
    Span { first: range.first, last: range.last }
}

#[cfg(test)]
mod tests;
