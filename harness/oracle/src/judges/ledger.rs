//! The one place where all evidence meets: the requests and answers of clients, the deliveries of
//! the watch streams, and the model that grows from them.
//!
//! All evidence goes through the ledger, one piece of [`Evidence`] at a time: it is written to the
//! history and then judged (`judge.rs`), in one order. A fold over the history ([`crate::fold`])
//! comes to the same books. [`Ledger::record`] returns when its piece is judged; clients hand
//! theirs over ([`Ledger::ask`], [`Ledger::complete`]) and go on (`recorder.rs`). An operation is
//! evidence before it is sent and when it ended, a revision when a stream delivered it. Every
//! finding waits in one queue, with the piece of evidence that raised it, until [`Ledger::drain`].
//!
//! Real time: an operation that is sent after another was acknowledged comes after it in the
//! history. So a write's revision is above, and a linearizable read's at or above, the newest
//! revision acknowledged before it was sent. A write that breaks this has overwritten an
//! acknowledged revision, whose write is lost. A read that breaks it is stale if the history still
//! comes to that revision; if it does not, the fence finds the lost writes.
//!
//! Findings that a scenario knows already ([`Ledger::know`]) do not get into the queue: they are
//! counted here, before any caller sees them.
//!
//! Memory is bounded by the open operations, the state since the last compaction, and the slowest
//! stream.

#[cfg(test)]
mod by_hand;
mod deliveries;
mod digests;
mod operations;
mod recorder;
mod restored;

use super::Alarms;
use super::asked::{Asked, Newest};
use super::durability::Writes;
use super::exactly_once::ExactlyOnce;
use super::lease_clock::LeaseClock;
use super::leases::{LeaseBaseline, LeaseBook};
use super::linearizability::{Basis, Linearizability};
use super::log_replay::LogReplay;
use super::raised::{Origin, Queue, Raised};
use super::reads::ReadClaims;
use super::refusals::Refusals;
use super::sessions::{Own, Sessions};
use super::streams::{self, Streams};
use super::sums::{Sums, Tally};
use super::votes::Leaders;
use super::watermarks::WatermarkJudge;
use crate::model::{KvDigest, Live, Model};
use crate::raft_log::RaftLog;
use ninelives_evidence::damage::Damage;
use ninelives_evidence::history::History;
use ninelives_evidence::logged::LogEvidence;
use ninelives_evidence::member::Slot;
use ninelives_evidence::operation::{Action, KeyState, OpId, Outcome, Purpose};
use ninelives_evidence::record::ResumedRecord;
use ninelives_evidence::record::books::BooksRecord;
use ninelives_evidence::record::suppressed::SuppressedRecord;
use ninelives_evidence::signature::{KnownFindings, Signature};
use ninelives_evidence::verdict::findings::parts::Vote;
use ninelives_evidence::verdict::{Class, Finding};
use ninelives_evidence::{Change, DeadMember, Evidence, EvidenceKind, Heard, Reading, Resumption, digest_of_changes};
use recorder::{Recorder, WAITING_MAX};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};

/// The baseline of a fence: facts that hold at any fence proposed after they were taken.
#[derive(Debug, Clone, Default)]
pub struct Baseline {
    pub(super) revision_min: u64,
    pub(super) compact_min: u64,
    pub(super) leases: LeaseBaseline,
}

/// A request under way, and the newest acknowledgements before it was sent: of any member, and of
/// the member it was sent to.
#[derive(Debug)]
struct Pending {
    asked: Arc<Asked>,
    floor: Newest,
    own: Own,
}

/// The ledger's content, grouped by subject.
#[derive(Debug)]
pub(super) struct Books {
    pub position: HistoryPosition,
    pub model: Model,
    pub replay: LogReplay,
    streams: Streams,
    pub operations: OperationBooks,
    pub compactions: CompactionBooks,
    pub leases: LeaseBooks,
    pub members: MemberBooks,
    pub fences: FenceBooks,
    pub findings: FindingBooks,
    pub tally: Tally,
    /// The way to the history; `None`: the evidence was read from one.
    recorder: Option<Arc<Recorder>>,
}

/// The evidence under judgement, and its place in the history.
#[derive(Debug)]
pub(super) struct HistoryPosition {
    /// The moment at which it was recorded, on the clock of its history.
    pub at_us: u64,
    /// Lines of the history so far.
    lines: u64,
    by: Origin,
    pub cycle: Option<u32>,
    /// The last piece of evidence was taken.
    pub ended: bool,
    /// The cycles after which the run was resumed.
    pub resumptions: Vec<u32>,
}

/// Operations of clients, and the judges of their answers.
#[derive(Debug, Default)]
pub(super) struct OperationBooks {
    /// Sent and not completed.
    pending: BTreeMap<OpId, Pending>,
    acked: Newest,
    pub writes: Writes,
    claims: ReadClaims,
    pub sessions: Sessions,
    linearizability: Linearizability,
    exactly_once: ExactlyOnce,
    /// Answers below what had been acknowledged before they were asked for, by that revision: the
    /// history has not come to it yet.
    stale: BTreeMap<u64, Alarms>,
    refusals: Refusals,
}

/// The highest revisions of compactions.
#[derive(Debug, Default)]
pub(super) struct CompactionBooks {
    pub acked: u64,
    pub sent: u64,
}

/// Leases: whether they are there, and how long they live.
#[derive(Debug, Default)]
pub(super) struct LeaseBooks {
    pub book: LeaseBook,
    pub clock: LeaseClock,
}

/// Members by their ids, never by their slots.
#[derive(Debug, Default)]
pub(super) struct MemberBooks {
    /// The member in each slot: streams belong to slots, findings to members.
    pub tenants: BTreeMap<Slot, u64>,
    /// They are not the node that ships here but another server.
    pub server: bool,
    watermarks: BTreeMap<u64, WatermarkJudge>,
    pub leaders: Leaders,
    /// Each member's last known vote.
    pub votes: BTreeMap<u64, Vote>,
    /// The members that died in this cycle: the last look at their directories, and the highest
    /// index that they were heard to have applied.
    pub dead: BTreeMap<u64, (DeadMember, Option<u64>)>,
    /// The members with a damaged file.
    pub damaged: BTreeMap<u64, Damage>,
}

/// Facts that the next fence, or the next snapshot, is held to.
#[derive(Debug, Default)]
pub(super) struct FenceBooks {
    /// The baseline of the last fence, until its answers are judged.
    pub baseline: Baseline,
    /// The member that was last asked for a snapshot to restore from, and the baseline then.
    pub saving: Option<(u64, Baseline)>,
    /// Raft index and revision at which all members were last seen to show what the model has, by
    /// the API.
    pub agreed: Option<(u64, u64)>,
}

/// Findings, and consequences of theirs.
#[derive(Debug, Default)]
pub(super) struct FindingBooks {
    /// Findings on their only way out.
    queue: Queue,
    known: KnownFindings,
    /// Whether a lost write that the scenario does not list was ever found.
    pub lost_write: bool,
    /// A watch was wrong, as a known finding or not: the model, which lives on watches, may never
    /// learn of the changes that the watch left out.
    pub watch_broken: bool,
}

/// See the module's documentation. Shared by the clients, the observer and the pipeline.
#[derive(Debug)]
pub struct Ledger {
    books: Mutex<Books>,
    /// That of the books, for those who do not wait for them.
    recorder: OnceLock<Arc<Recorder>>,
    known: Known,
}

/// What clients go by, as the books had it when they were last held; it never lags behind what a
/// caller has recorded.
#[derive(Debug, Default)]
struct Known {
    revision: AtomicU64,
    slowest: AtomicU64,
}

impl Ledger {
    /// For a cluster of `slots`, each with a member of the same number, whose store is empty.
    /// Writes nothing down.
    pub fn new(slots: &[Slot]) -> Arc<Self> {
        let origin = Origin { line: 0, kind: EvidenceKind::History };
        let tenants = slots.iter().map(|slot| (*slot, slot.0)).collect();
        let books = Books {
            position: HistoryPosition {
                at_us: 0,
                lines: 0,
                by: origin,
                cycle: None,
                ended: false,
                resumptions: Vec::new(),
            },
            model: Model::default(),
            replay: LogReplay::default(),
            streams: Streams::new(slots),
            operations: OperationBooks::default(),
            compactions: CompactionBooks::default(),
            leases: LeaseBooks::default(),
            members: MemberBooks { tenants, ..MemberBooks::default() },
            fences: FenceBooks::default(),
            findings: FindingBooks::default(),
            tally: Tally::default(),
            recorder: None,
        };
        let known = Known::default();
        known.publish(&books);
        Arc::new(Self { books: Mutex::new(books), recorder: OnceLock::new(), known })
    }

    /// [`Ledger::new`] that writes its evidence to `history`.
    pub fn recorded(slots: &[Slot], history: Arc<History>) -> Arc<Self> {
        let ledger = Self::new(slots);
        ledger.go_on(history);
        ledger
    }

    pub(super) fn books(&self) -> MutexGuard<'_, Books> {
        let mut books = self.unjudged();
        if let Some(recorder) = self.recorder.get() {
            recorder.judge(&mut books);
        }
        books
    }

    /// The books, without what waits to be judged.
    fn unjudged(&self) -> MutexGuard<'_, Books> {
        // A panic elsewhere ends the run anyway; the books are still the best evidence there is.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes `evidence` down, and judges it; the findings wait in the queue. After
    /// [`Evidence::End`] nothing is recorded any more.
    pub fn record(&self, evidence: &Evidence) {
        self.record_in(&mut self.unjudged(), evidence.clone());
    }

    /// [`Ledger::record`], for evidence that was written down `at_us` microseconds after its
    /// history was opened.
    pub fn record_at(&self, at_us: u64, evidence: &Evidence) {
        let mut books = self.unjudged();
        books.record_at(at_us, evidence);
        self.known.publish(&books);
    }

    fn record_in(&self, books: &mut Books, evidence: Evidence) {
        match self.recorder.get() {
            Some(recorder) => recorder.record_in_turn(books, evidence),
            None => books.record_at(books.position.at_us, &evidence),
        }
        self.known.publish(books);
    }

    /// Writes a client's `evidence` down. It is judged at once unless others are being judged; then
    /// they, or the next to hold the books, come to it.
    fn hand_over(&self, evidence: Evidence) {
        let Some(recorder) = self.recorder.get() else { return self.record(&evidence) };
        if recorder.record(evidence) >= WAITING_MAX {
            drop(self.books());
            return;
        }
        let mut books = match self.books.try_lock() {
            Ok(books) => books,
            Err(TryLockError::Poisoned(books)) => books.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        recorder.judge_some(&mut books);
    }

    /// The findings since the last call, in the order in which they were raised.
    #[must_use = "what is drained and dropped is lost"]
    pub fn drain(&self) -> Vec<Raised> {
        self.books().findings.queue.drain()
    }

    /// Leases of seconds whose keys are there, as far as the history is known, with the seconds
    /// that they live.
    pub fn short_leases(&self) -> Vec<(i64, i64)> {
        let books = self.books();
        books.leases.clock.alive(&books.model)
    }

    /// From here on findings that match one of `signatures` are counted and suppressed.
    pub fn know(&self, signatures: &[Signature]) {
        self.books().findings.known = KnownFindings::new(signatures);
    }

    /// The suppressed findings, one record for each signature.
    pub fn known(&self) -> Vec<SuppressedRecord> {
        self.books().findings.known.records()
    }

    /// From here on evidence is written to `history`. Until now it was read from there.
    pub fn go_on(&self, history: Arc<History>) {
        let mut books = self.unjudged();
        let recorder = self.recorder.get_or_init(|| Arc::new(Recorder::new(history)));
        books.recorder = Some(Arc::clone(recorder));
    }

    /// Has everything that was recorded in the history's files.
    pub fn flush(&self) {
        if let Some(recorder) = self.recorder.get() {
            recorder.flush();
        }
    }

    /// `op` is about to be sent to the `endpoint`-th slot; it is written down when this returns.
    pub fn ask(&self, op: OpId, endpoint: usize, action: Action, purpose: Purpose) {
        self.hand_over(Evidence::Invoke { op, endpoint, action, purpose: Some(purpose) });
    }

    /// `id` ended.
    pub fn complete(&self, id: OpId, outcome: &Outcome) {
        self.hand_over(Evidence::of_outcome(id, outcome));
    }

    /// `slot`'s stream delivered `revision`, all of it.
    pub fn deliver(&self, slot: Slot, revision: u64, changes: &[Change]) {
        let digest = digest_of_changes(changes);
        let mut books = self.unjudged();
        // No piece that waits is about a stream.
        let evidence = if books.streams.expects(slot, revision, digest) {
            Evidence::Again { revision, slot, digest }
        } else {
            Evidence::Revision { revision, slot, changes: changes.to_vec() }
        };
        self.record_in(&mut books, evidence);
    }

    /// `slot`'s stream was refused because everything below `compacted` is gone.
    pub fn skipped(&self, slot: Slot, compacted: u64) {
        self.record(&Evidence::Skipped { slot, compacted });
    }

    /// The revision up to which the history is known.
    pub fn revision(&self) -> u64 {
        self.known.revision.load(Ordering::Relaxed)
    }

    /// The revision up to which `slot`'s stream has delivered.
    pub fn delivered(&self, slot: Slot) -> u64 {
        self.books().streams.last(slot)
    }

    /// The highest revision at which a compaction robs no stream of events that it still needs.
    pub fn compaction_ceiling(&self) -> u64 {
        self.known.slowest.load(Ordering::Relaxed)
    }

    /// The model's digest of the kv section. The model stays as it is: only evidence changes the
    /// books.
    ///
    /// # Errors
    /// As [`Model::digest`].
    pub fn kv_digest(&self, revision: u64, compact: u64) -> Result<KvDigest, String> {
        let mut model = self.books().model.clone();
        model.digest(revision, compact)
    }

    /// The news that `log`, that of the dead `member`, adds to the known raft log. The caller
    /// records it as [`Evidence::RaftLog`]. `applied`: the highest index that this very member is
    /// known to have applied.
    pub fn log_evidence(&self, cycle: u32, member: u64, log: &RaftLog, applied: Option<u64>) -> LogEvidence {
        self.books().replay.evidence(cycle, member, log, applied)
    }

    /// The vote in the raft log of `member`, as it was last known.
    pub fn vote_of(&self, member: u64) -> Option<Vote> {
        self.books().members.votes.get(&member).copied()
    }

    /// Raft index and revision of the last fence at which all members agreed with the model;
    /// `None`: there was none.
    pub fn last_agreed(&self) -> Option<(u64, u64)> {
        let books = self.books();
        books.replay.last_fence().or(books.fences.agreed)
    }

    /// A copy of the replay as it stands, to continue without judging.
    pub fn log_replay(&self) -> LogReplay {
        self.books().replay.clone()
    }

    /// The changes of the revisions from `from` on, as the watches told them, without a gap.
    pub fn told_since(&self, from: u64) -> Vec<(u64, Change)> {
        self.books().model.changes_since(from)
    }

    /// All keys at `revision`, ascending, as the history has them; `None`: it does not reach there.
    pub fn rows_at(&self, revision: u64) -> Option<Vec<KeyState>> {
        let books = self.books();
        let known = books.model.compacted()..=books.model.revision();
        let row = |(key, live): (&[u8], Live<'_>)| live.state(key);
        known.contains(&revision).then(|| books.model.range_at(b"", None, revision).map(row).collect())
    }

    /// The watches to be opened anew on a restarted member, now that every stream has delivered
    /// `upto`; `draw` chooses how far back. Every member has executed the compaction at
    /// `compacted`.
    pub fn fresh_watches(&self, upto: u64, draw: u64, compacted: u64) -> Vec<Resumption> {
        let books = self.books();
        streams::resumptions(&books.model, upto, draw, (books.compactions.sent, compacted))
    }

    /// Everything that was counted, of cluster `cluster`, whose part has ended. `build`: the digest
    /// of the executable that counted, if it could be read.
    pub fn sums(&self, cluster: u32, build: Option<String>) -> Sums {
        let tally = self.tally();
        let books = self.books();
        let resumed = books
            .position
            .resumptions
            .iter()
            .map(|after_cycle| ResumedRecord { cluster, after_cycle: *after_cycle })
            .collect();
        Sums {
            tally,
            operations: books.operations.refusals.records(),
            log_replayed: books.replay.totals(),
            known: books.findings.known.records(),
            resumed,
            books: vec![BooksRecord { cluster, build, fields: books.digests() }],
        }
    }

    pub fn tally(&self) -> Tally {
        let books = self.books();
        Tally {
            reads_checked: books.operations.claims.checked,
            reads_unchecked: books.operations.claims.unchecked,
            open: books.operations.writes.open() as u64,
            leases: books.leases.clock.tally(),
            findings_unlisted: books.findings.queue.unlisted,
            revisions: books.model.revision() - 1,
            ..books.tally
        }
    }
}

impl Known {
    fn publish(&self, books: &Books) {
        self.revision.store(books.model.revision(), Ordering::Relaxed);
        self.slowest.store(books.streams.slowest(), Ordering::Relaxed);
    }
}

impl Books {
    fn judge_all(&mut self, pieces: Vec<(u64, Evidence)>) {
        pieces.iter().for_each(|(at_us, evidence)| self.record_at(*at_us, evidence));
    }

    fn record_at(&mut self, at_us: u64, evidence: &Evidence) {
        if self.position.ended && !matches!(evidence, Evidence::Resumed { .. }) {
            return;
        }
        self.position.at_us = at_us;
        self.position.lines += 1;
        self.position.by = Origin { line: self.position.lines, kind: evidence.kind() };
        self.judge(evidence);
    }

    /// The harness was killed: operations under way have an unknown outcome.
    pub fn resumed(&mut self, after_cycle: u32) {
        self.position.resumptions.push(after_cycle);
        self.position.ended = false;
        self.fences.baseline = Baseline::default();
        // All members died with the harness, and it counts their lives anew.
        self.members.watermarks.clear();
        // The history's clock starts over.
        self.leases.clock.forget();
        self.operations.sessions.all_died();
        let pending: Vec<_> = self.operations.pending.keys().copied().collect();
        let lost = Outcome::Unknown { why: "the harness was killed".to_owned() };
        pending.into_iter().for_each(|id| self.completed(id, &lost));
    }

    pub fn log_read(&mut self, log: &LogEvidence) {
        let mut alarms = Alarms::new();
        self.replay.read(log, &mut alarms);
        self.file(None, alarms);
    }

    pub fn baseline_now(&self) -> Baseline {
        Baseline {
            revision_min: self.operations.acked.revision.max(self.model.revision()),
            compact_min: self.compactions.acked,
            leases: self.leases.book.baseline(),
        }
    }

    /// Judges a watch that was opened anew on `member`.
    pub fn watched_anew(&mut self, member: u64, asked: &Resumption, heard: &Heard) {
        // Everything that the requested revision compacts was compacted when the watch was opened;
        // more may be compacted by now.
        let acked = if asked.upto == 0 { asked.from + 1 } else { 0 };
        let alarms = streams::judge_resumed(&self.model, asked, heard, (self.compactions.sent, acked));
        self.file(Some(member), alarms);
    }

    /// Status readings of `member`, in the order of its answers.
    pub fn said(&mut self, member: u64, readings: &[Reading]) {
        let mut alarms = Alarms::new();
        for reading in readings {
            alarms.extend(self.members.watermarks.entry(member).or_default().reading(reading));
            alarms.extend(self.members.leaders.reading(member, reading));
        }
        self.file(Some(member), alarms);
    }

    /// Judges the linearizability of everything answered so far, as far as the history is known.
    pub fn judge_linearizability(&mut self) {
        let alarms = self.operations.linearizability.check(Basis::History(self.model.revision()));
        self.file(None, alarms);
    }

    fn settle_stale(&mut self, alarms: &mut Alarms) {
        while let Some(entry) =
            self.operations.stale.first_entry().filter(|entry| *entry.key() <= self.model.revision())
        {
            alarms.extend(entry.remove());
        }
    }

    /// Alarms of a stream are about the member that it is connected to.
    fn file_at(&mut self, slot: Slot, alarms: Alarms) {
        let member = self.members.tenants.get(&slot).copied();
        self.file(member, alarms);
    }

    /// `member`: the member that otherwise anonymous alarms accuse.
    fn file(&mut self, member: Option<u64>, alarms: Alarms) {
        for alarm in alarms {
            let class = alarm.class();
            self.findings.watch_broken |= class == Class::Watch;
            let finding = Finding { cycle: self.position.cycle, member: alarm.member.or(member), ..alarm };
            if self.suppress(&finding) {
                continue;
            }
            self.findings.lost_write |= class == Class::LostWrite;
            self.raise(finding);
        }
    }

    /// Puts `finding` in the queue.
    pub fn raise(&mut self, finding: Finding) {
        self.findings.queue.push(finding, self.position.by);
    }

    /// A cycle begins.
    pub fn begin_cycle(&mut self, cycle: u32) {
        self.position.cycle = Some(cycle);
        self.members.dead.clear();
        self.members.damaged.clear();
        self.findings.queue.begin_cycle();
    }

    /// Whether `finding` is known; it is counted then, and written down behind what waits.
    pub fn suppress(&mut self, finding: &Finding) -> bool {
        let Some(suppressed) = self.findings.known.take(finding) else { return false };
        if let Some(recorder) = self.recorder.as_ref().filter(|_| suppressed.to_be_written) {
            recorder.record(Evidence::Finding { finding: finding.clone(), known: Some(suppressed.name) });
        }
        true
    }
}

#[cfg(test)]
mod tests;
