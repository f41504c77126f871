//! The one place where evidence meets: what clients did and heard, what the watch streams delivered, and the
//! model that grows from it.
//!
//! A client calls [`Ledger::invoke`] before it sends and [`Ledger::complete`] after; the observer calls
//! [`Ledger::deliver`] for each revision of each stream. Every call judges what it can at once and files the
//! rest; alarms wait in [`Ledger::take_findings`].
//!
//! Real time: an operation that is sent after another was acknowledged comes after it in the history. So a
//! write's revision is above, and a linearizable read's at or above, the newest revision acknowledged before it
//! was sent.
//!
//! Memory is bounded by the open operations, the state since the last compaction, and the slowest stream.

use super::Alarms;
use super::durability::Writes;
use super::leases::{LeaseBook, LeaseMark};
use super::log_replay::{LogEvidence, LogReplay};
use super::reads::{Claim, Claims};
use super::streams::{Delivery, Streams};
use crate::model::{Change, KvDigest, Model};
use crate::operation::{Action, KeyState, OpId, Outcome, Reply};
use crate::raft_log::RaftLog;
use crate::record::Replayed;
use crate::target::Slot;
use crate::verdict::{Class, Finding};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Findings kept between two calls of [`Ledger::take_findings`]. A diverged store breaks every promise at once,
/// and the first hundred alarms say all that the next million would.
const FINDINGS_MAX: usize = 100;

/// Running totals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Writes (leases and compactions included) that were answered.
    pub acked_writes: u64,
    /// Writes whose answer never came.
    pub unknown_writes: u64,
    /// Operations that were certainly not done.
    pub refused: u64,
    /// Reads that were answered.
    pub reads: u64,
    /// Answers about the state that were compared with the model.
    pub reads_checked: u64,
    /// Those that could not be, because their revision was compacted before the history reached them.
    pub reads_unchecked: u64,
    /// Operations that are not settled yet.
    pub open: u64,
    /// Revisions that the history holds.
    pub revisions: u64,
}

/// What is certain about any fence that is proposed after the mark was taken.
#[derive(Debug, Clone, Default)]
pub struct FenceMark {
    pub(super) revision_min: u64,
    pub(super) compact_min: u64,
    pub(super) leases: LeaseMark,
}

#[derive(Debug)]
pub(super) struct Books {
    pub model: Model,
    pub leases: LeaseBook,
    pub writes: Writes,
    pub replay: LogReplay,
    streams: Streams,
    /// The member in each slot: streams belong to slots, findings to members.
    tenants: BTreeMap<Slot, u64>,
    claims: Claims,
    /// Sent and not completed: action, and the newest revision acknowledged before it was sent.
    pending: HashMap<OpId, (Action, u64)>,
    /// The newest revision that any answer acknowledged.
    acked_revision: u64,
    pub compact_acked: u64,
    pub compact_sent: u64,
    tally: Tally,
    cycle: Option<u32>,
    findings: Vec<Finding>,
    /// Whether an alarm about a lost write was ever raised.
    pub lost_write: bool,
    /// A watch was wrong: the model, which lives on watches, may never learn of what it left out.
    pub watch_broken: bool,
}

/// See the module's documentation. Shared by the clients, the observer and the pipeline.
#[derive(Debug)]
pub struct Ledger(Mutex<Books>);

impl Ledger {
    /// For a cluster of `slots`, each with a member of the same number, whose store is empty.
    pub fn new(slots: &[Slot]) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Books {
            model: Model::default(),
            leases: LeaseBook::default(),
            writes: Writes::default(),
            replay: LogReplay::default(),
            streams: Streams::new(slots),
            tenants: slots.iter().map(|slot| (*slot, slot.0)).collect(),
            claims: Claims::default(),
            pending: HashMap::new(),
            acked_revision: 1,
            compact_acked: 0,
            compact_sent: 0,
            tally: Tally::default(),
            cycle: None,
            findings: Vec::new(),
            lost_write: false,
            watch_broken: false,
        })))
    }

    pub(super) fn books(&self) -> MutexGuard<'_, Books> {
        // A panic elsewhere ends the run anyway; the books are still the best evidence there is.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The cycle that findings belong to from here on.
    pub fn begin_cycle(&self, cycle: u32) {
        self.books().cycle = Some(cycle);
    }

    /// From here on `member` is in `slot`. Its watch has to go on where the one before it broke off.
    pub fn move_in(&self, slot: Slot, member: u64) {
        self.books().tenants.insert(slot, member);
    }

    /// `id` is about to be sent. Ids are never used twice.
    pub fn invoke(&self, id: OpId, action: &Action) {
        let mut books = self.books();
        match action {
            Action::Grant { lease, ttl_seconds } => books.leases.grant_sent(*lease, *ttl_seconds),
            Action::Revoke { lease } => books.leases.revoke_sent(*lease),
            Action::Compact { revision } => books.compact_sent = books.compact_sent.max(*revision),
            _ => {}
        }
        if action.writes_keys() {
            books.writes.invoke(id, action.clone());
        }
        let floor = books.acked_revision;
        books.pending.insert(id, (action.clone(), floor));
    }

    /// `id` ended.
    pub fn complete(&self, id: OpId, outcome: &Outcome) {
        let mut books = self.books();
        let Some((action, floor)) = books.pending.remove(&id) else { return };
        let mut alarms = Alarms::new();
        match outcome {
            Outcome::Done { revision, reply, .. } => {
                books.done(id, &action, floor, *revision, reply, &mut alarms);
                books.acked_revision = books.acked_revision.max(*revision);
            }
            Outcome::Refused { why } => books.refused(id, &action, why, &mut alarms),
            Outcome::Unknown { .. } => {
                if !matches!(action, Action::Read { .. }) {
                    books.tally.unknown_writes += 1;
                }
                if let Action::Revoke { lease } = action {
                    books.leases.revoke_unknown(lease);
                }
                books.writes.unknown(id);
            }
        }
        books.file(None, alarms);
    }

    /// `slot`'s stream delivered `revision`, all of it.
    /// Returns whether the revision is new to the history.
    pub fn deliver(&self, slot: Slot, revision: u64, changes: &[Change]) -> bool {
        let mut books = self.books();
        let mut alarms = Alarms::new();
        let delivery = books.streams.deliver(slot, revision, changes, &mut alarms);
        books.file_at(slot, alarms);
        if delivery == Delivery::Old {
            return false;
        }
        let mut alarms = Alarms::new();
        let Books { model, writes, claims, replay, .. } = &mut *books;
        writes.deliver(model, revision, changes, &mut alarms);
        alarms.extend(model.apply(revision, changes).into_iter().map(|why| (Class::Model, why)));
        replay.deliver(revision, changes, &mut alarms);
        writes.settle_revoked(model);
        claims.settle(model, &mut alarms);
        books.file(None, alarms);
        true
    }

    /// `slot`'s stream was refused because everything below `compacted` is gone. Returns the revision from
    /// which it may be resumed.
    pub fn skipped(&self, slot: Slot, compacted: u64) -> u64 {
        let mut books = self.books();
        let last = books.streams.last(slot);
        if compacted > last + 1 && compacted > books.compact_sent {
            let sent = books.compact_sent;
            let why = format!("the watch of {slot} is told that {compacted} was compacted; only {sent} was asked for");
            books.file_at(slot, vec![(Class::Watch, why)]);
        }
        books.streams.skip_to(slot, compacted);
        compacted.max(last) + 1
    }

    /// The revision up to which the history is known.
    pub fn revision(&self) -> u64 {
        self.books().model.revision()
    }

    /// The revision up to which `slot`'s stream has delivered.
    pub fn delivered(&self, slot: Slot) -> u64 {
        self.books().streams.last(slot)
    }

    /// The highest revision at which a compaction robs no stream of events that it still needs.
    pub fn compaction_ceiling(&self) -> u64 {
        self.books().streams.slowest()
    }

    /// What is certain from here on; to be taken *before* a fence is proposed.
    pub fn mark(&self) -> FenceMark {
        let books = self.books();
        FenceMark {
            revision_min: books.acked_revision.max(books.model.revision()),
            compact_min: books.compact_acked,
            leases: books.leases.mark(),
        }
    }

    /// The model's digest of the kv section; executes the compaction.
    ///
    /// # Errors
    /// As [`Model::digest`].
    pub fn kv_digest(&self, revision: u64, compact: u64) -> Result<KvDigest, String> {
        self.books().model.digest(revision, compact)
    }

    /// What `log`, that of the dead `member`, adds to what is known of the raft log. To be written down, and then to be judged by
    /// [`Ledger::read_log`]. `applied`: the highest index that this very member is known to have applied.
    pub fn log_evidence(&self, cycle: u32, member: u64, log: &RaftLog, applied: Option<u64>) -> LogEvidence {
        self.books().replay.evidence(cycle, member, log, applied)
    }

    /// Replays what a dead member's log adds.
    pub fn read_log(&self, evidence: &LogEvidence) {
        let mut books = self.books();
        let mut alarms = Alarms::new();
        books.replay.read(evidence, &mut alarms);
        books.file(None, alarms);
    }

    pub fn log_replayed(&self) -> Replayed {
        self.books().replay.totals()
    }

    /// The replay as it stands, for whoever wants to go on with it and judge nobody.
    pub fn log_replay(&self) -> LogReplay {
        self.books().replay.clone()
    }

    /// The changes of the revisions from `from` on, as the watches told them, without a gap.
    pub fn told_since(&self, from: u64) -> Vec<(u64, Change)> {
        self.books().model.changes_since(from)
    }

    /// The findings since the last call.
    pub fn take_findings(&self) -> Vec<Finding> {
        std::mem::take(&mut self.books().findings)
    }

    pub fn tally(&self) -> Tally {
        let books = self.books();
        Tally {
            reads_checked: books.claims.checked,
            reads_unchecked: books.claims.unchecked,
            open: books.writes.open() as u64,
            revisions: books.model.revision() - 1,
            ..books.tally
        }
    }
}

impl Books {
    /// Alarms of a stream are about the member that it is connected to.
    fn file_at(&mut self, slot: Slot, alarms: Alarms) {
        let member = self.tenants.get(&slot).copied();
        self.file(member, alarms);
    }

    fn file(&mut self, member: Option<u64>, alarms: Alarms) {
        for (class, sentence) in alarms {
            self.lost_write |= class == Class::LostWrite;
            self.watch_broken |= class == Class::Watch;
            if self.findings.len() < FINDINGS_MAX {
                self.findings.push(Finding { cycle: self.cycle, member, ..Finding::new(class, sentence) });
            }
        }
    }

    fn done(&mut self, id: OpId, action: &Action, floor: u64, revision: u64, reply: &Reply, alarms: &mut Alarms) {
        let Books { model, writes, claims, leases, tally, .. } = self;
        *(if matches!(action, Action::Read { .. }) { &mut tally.reads } else { &mut tally.acked_writes }) += 1;
        let mut wrote = false;
        match (action, reply) {
            (Action::Put { .. }, Reply::Put) | (Action::Txn { .. }, Reply::Txn { succeeded: true }) => wrote = true,
            (Action::Delete { .. }, Reply::Deleted(1..)) => wrote = true,
            (Action::Delete { keys }, Reply::Deleted(0)) => {
                writes.wrote_nothing(id, "was answered as deleting nothing", alarms);
                claims.add(model, id, revision, Claim::Empty { keys: keys.clone() }, alarms);
            }
            (Action::Txn { when, .. }, Reply::Txn { succeeded: false }) => {
                writes.wrote_nothing(id, "was answered as failing its comparison", alarms);
                claims.add(model, id, revision, Claim::CompareFails { when: when.clone() }, alarms);
            }
            (Action::Revoke { lease }, Reply::Revoked) => {
                leases.revoked(*lease);
                writes.revoked(model, id, revision);
                claims.add(model, id, revision, Claim::Detached { lease: *lease }, alarms);
            }
            (Action::Grant { lease, .. }, Reply::Granted) => leases.granted(*lease),
            (Action::Compact { revision }, Reply::Compacted) => self.compact_acked = self.compact_acked.max(*revision),
            (Action::Read { keys, revision: at, serializable }, Reply::Read(rows)) => {
                read(model, claims, id, (keys, *at, *serializable), (floor, revision), rows, alarms);
            }
            _ => alarms.push((Class::Model, format!("operation {id} was answered as another kind of operation"))),
        }
        if wrote {
            if revision <= floor {
                alarms.push((
                    Class::LostWrite,
                    format!(
                        "operation {id} was acknowledged at revision {revision}, though {floor} had been acknowledged \
                         before it was sent: that one is gone"
                    ),
                ));
            }
            writes.acked(model, id, revision, alarms);
        }
    }

    fn refused(&mut self, id: OpId, action: &Action, why: &str, alarms: &mut Alarms) {
        self.tally.refused += 1;
        match action {
            Action::Grant { lease, .. } => self.leases.grant_refused(*lease),
            Action::Revoke { lease } => self.leases.revoke_refused(*lease, why, alarms),
            _ => {}
        }
        self.writes.wrote_nothing(id, "was refused", alarms);
    }
}

fn read(
    model: &Model,
    claims: &mut Claims,
    id: OpId,
    (keys, at, serializable): (&crate::operation::Keys, Option<u64>, bool),
    (floor, revision): (u64, u64),
    rows: &[KeyState],
    alarms: &mut Alarms,
) {
    if !serializable && revision < floor {
        alarms.push((
            Class::Linearizability,
            format!(
                "linearizable read {id} was answered at revision {revision}, though {floor} had been acknowledged before \
                 it was sent: stale, or gone"
            ),
        ));
    }
    let claim = Claim::Holds { keys: keys.clone(), rows: rows.to_vec() };
    claims.add(model, id, at.unwrap_or(revision), claim, alarms);
}

#[cfg(test)]
mod tests;
