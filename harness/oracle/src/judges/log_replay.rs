//! Promise: the store did exactly what the raft log says was committed, revision by revision; and
//! the logs agree on it.
//!
//! After each kill the copy of the dead member's raft log is decoded ([`crate::raft_log`]: none of
//! the node's code), and an independent store ([`store`]) replays the committed entries. Each
//! revision that it makes must be the one that the watches delivered: the same keys in the same
//! order, with the same values, versions, create revisions and leases. At a fence's index it must
//! stand at the fence's revision and compact revision, with the fence's leases. So the kv section
//! that the watch-fed model hashes at a fence is also that of the log: both hold the same rows.
//!
//! # What is committed
//! An entry that is in a log need not be committed: a follower may die with a tail that its next
//! leader overwrites. Of one member's log, every entry up to the greatest of these is:
//! - the index that it was heard to have applied, or that its engine has applied (E), or that its
//!   log had saved as committed, unless that is beyond the log's end: then it came with a snapshot;
//! - an entry that is known as committed by (term, index), because a log that holds it holds
//!   everything before it (log matching): another member's committed entry, or a fence's, which a
//!   quorum of members answered for.
//!
//! # Across cycles
//! A copy holds the entries (purged, last]. Those that are contiguous with what was replayed go on
//! from there. After a gap the replay starts anew from the watch-fed model's state at a fence whose
//! successor is in the log; the entries in between count as unreplayed, and a report says so.
//!
//! # A restored cluster
//! Its log begins behind the snapshot that it was restored from, and index and term begin anew. The
//! compaction and the leases of the snapshot are not known before the first fence, so the replay
//! begins there, as after a gap; it forgets the old cluster's log.
//!
//! # Evidence
//! [`LogEvidence`] holds the news in a log: only committed entries, and none that was recorded
//! before. It is written down before it is judged, and its judgement needs nothing else, so it can
//! be judged again from the history.
//!
//! Memory: digests of the entries of the last few thousand indexes, of the newest state, and of the
//! revisions that only one of log and watches has told so far.

mod admission;
mod step;
mod store;

pub use step::logged;
pub use store::{Effect, Row, Store};

use super::Alarms;
use crate::model::Model;
use crate::raft_log::{LogId, RaftLog};
use ninelives_evidence::logged::{self, Digest, LogEvidence, Logged, Span, Step, Value};
use ninelives_evidence::record::Replayed;
use ninelives_evidence::verdict::Finding;
use ninelives_evidence::verdict::findings::RaftLogs;
use ninelives_evidence::verdict::findings::parts::{Differs, Figure, Told};
use ninelives_evidence::{Change, FenceAnswer};
use std::collections::BTreeMap;

/// Committed entries whose digests are kept, to be compared with those of another log. A log is
/// purged to a few hundred entries; a member that was away keeps a few thousand.
const KNOWN_MAX: usize = 20_000;
/// Fences that are remembered: a log holds those of the last few cycles.
const FENCES_MAX: usize = 256;
/// States at fences from which a replay may start anew. The log of the next victim begins before
/// the last fence or the one before.
const BASES_MAX: usize = 4;
/// Revisions that the watches delivered and no log has told yet. A victim a cycle tells them within
/// a few hundred; where no member dies for long, the oldest go unchecked and are counted.
const DELIVERED_MAX: usize = 50_000;
/// Revisions that are remembered with the effects that the log gave them, to find the first wrong
/// one: those of several cycles.
const LATELY_MAX: usize = 8_000;

/// The certain facts about a fence that all members answered alike.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fact {
    term: u64,
    revision: u64,
    compact: u64,
    leases: BTreeMap<i64, i64>,
}

/// A committed entry that some log told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ToldEntry {
    term: u64,
    digest: Digest<8>,
    member: u64,
}

impl ToldEntry {
    fn named(&self) -> Told {
        Told { member: self.member, term: self.term, digest: self.digest.to_string() }
    }
}

/// The position of the replay.
#[derive(Debug, Clone, PartialEq, Eq)]
enum At {
    /// The next entry to replay.
    Next(u64),
    /// Nothing before this was replayed; waits for a fence.
    Lost(u64),
}

#[derive(Debug, Clone)]
pub struct LogReplay {
    store: Store,
    at: At,
    known: BTreeMap<u64, ToldEntry>,
    fences: BTreeMap<u64, Fact>,
    bases: BTreeMap<u64, Store>,
    /// By revision, changes that the watches delivered and the log has not made yet.
    delivered: BTreeMap<u64, Vec<Effect>>,
    /// The newest revision that the watches delivered.
    watched: u64,
    /// By revision, changes that the log made and the watches have not delivered yet.
    made: BTreeMap<u64, (LogId, Vec<Effect>)>,
    /// The last revisions that the log made.
    lately: BTreeMap<u64, (LogId, Vec<Effect>)>,
    totals: Replayed,
    /// The first difference was reported; its consequences are not.
    diverged: bool,
}

impl Default for LogReplay {
    fn default() -> Self {
        Self {
            store: Store::default(),
            at: At::Next(0),
            known: BTreeMap::new(),
            fences: BTreeMap::new(),
            bases: BTreeMap::new(),
            delivered: BTreeMap::new(),
            watched: 1,
            made: BTreeMap::new(),
            lately: BTreeMap::new(),
            totals: Replayed::default(),
            diverged: false,
        }
    }
}

impl LogReplay {
    /// The replay of a cluster that was restored from a snapshot of `revision`, at raft index
    /// `index`; the sums go on.
    pub fn restored(&self, revision: u64, index: Option<u64>) -> Self {
        let at = At::Lost(index.map_or(0, |index| index + 1));
        Self { at, watched: revision, totals: self.totals(), ..Self::default() }
    }

    /// The news in `log`, that of `member`. `applied`: the highest index that this very member is
    /// known to have applied.
    pub fn evidence(&self, cycle: u32, member: u64, log: &RaftLog, applied: Option<u64>) -> LogEvidence {
        let committed = self.committed_in(log, applied);
        let new = |entry: &Logged| {
            let known = self.known.get(&entry.index);
            known.is_none_or(|known| (known.term, known.digest) != (entry.term, entry.digest))
        };
        // Old entries that were forgotten are not new again.
        let forgotten = self.known.first_key_value().map_or(0, |(index, _)| *index);
        let entries = log
            .entries
            .iter()
            .filter(|entry| committed >= Some(entry.id.index) && entry.id.index >= forgotten)
            .map(logged)
            .filter(new)
            .collect();
        let (first, last) = (log.entries.first(), log.entries.last());
        let index = |entry: &crate::raft_log::Entry| entry.id.index;
        LogEvidence { cycle, member, first: first.map(index), last: last.map(index), committed, entries }
    }

    /// The last entry of `log` that is certainly committed.
    fn committed_in(&self, log: &RaftLog, applied: Option<u64>) -> Option<u64> {
        // A position beyond the end of the log came with a snapshot, and proves nothing about the
        // log: it may end in the tail of a deposed leader, which the cluster has replaced.
        let last = log.last().map(|last| last.index);
        let within = |index: &u64| last >= Some(*index);
        let saved = log.committed.map(|committed| committed.index);
        let own = applied.filter(within).max(saved.filter(within));
        let same = |index: u64, term: u64| log.at(index).is_some_and(|entry| entry.id.term == term);
        let fence = self.fences.iter().rev().find(|(index, fact)| same(**index, fact.term)).map(|(index, _)| *index);
        let known = self.known.iter().rev().find(|(index, known)| same(**index, known.term)).map(|(index, _)| *index);
        own.max(fence).max(known)
    }

    /// Replays the news in a log.
    pub fn read(&mut self, evidence: &LogEvidence, alarms: &mut Alarms) {
        for entry in &evidence.entries {
            let told = ToldEntry { term: entry.term, digest: entry.digest, member: evidence.member };
            match self.known.get(&entry.index) {
                Some(known) if (known.term, known.digest) != (told.term, told.digest) => {
                    let (first, second, does) = (known.named(), told.named(), in_words(&entry.step));
                    alarms.push(Finding::new(RaftLogs::LogsDisagree { index: entry.index, first, second, does }));
                    // The logs cannot say which of the two was committed.
                    self.diverged = true;
                    return;
                }
                Some(_) => {}
                None => drop(self.known.insert(entry.index, told)),
            }
            self.advance(entry, alarms);
        }
        bound(&mut self.known, KNOWN_MAX);
    }

    fn advance(&mut self, entry: &Logged, alarms: &mut Alarms) {
        match self.at {
            At::Next(next) if entry.index < next => return,
            At::Next(next) if entry.index > next => self.lose(next),
            _ => {}
        }
        if let At::Lost(from) = self.at {
            let Some(base) = entry.index.checked_sub(1).and_then(|fence| self.bases.get(&fence)) else { return };
            self.store = base.clone();
            // The remembered revisions have no gap.
            self.lately.clear();
            self.totals.unreplayed += entry.index.saturating_sub(from);
            self.at = At::Next(entry.index);
            let stands = self.store.revision;
            self.delivered.retain(|revision, _| *revision > stands);
        }
        match self.store.apply(&entry.step) {
            Ok(effects) => {
                self.totals.entries += 1;
                self.at = At::Next(entry.index + 1);
                let id = LogId { term: entry.term, index: entry.index };
                if !effects.is_empty() {
                    self.make(id, effects, alarms);
                }
                self.check_fence(id, &entry.step, alarms);
            }
            Err(_) => self.lose(entry.index),
        }
    }

    /// Stops the replay from `index` on, until a fence.
    fn lose(&mut self, index: u64) {
        self.totals.gaps += 1;
        self.totals.uncompared += self.made.len() as u64;
        self.made.clear();
        self.at = At::Lost(index);
    }

    /// The log makes the store's newest revision.
    fn make(&mut self, id: LogId, effects: Vec<Effect>, alarms: &mut Alarms) {
        let revision = self.store.revision;
        self.lately.insert(revision, (id, effects.clone()));
        bound(&mut self.lately, LATELY_MAX);
        match self.delivered.remove(&revision) {
            Some(delivered) => self.compare(revision, id, &effects, &delivered, alarms),
            // The watch that left it out has been accused already.
            None if revision <= self.watched => self.totals.uncompared += 1,
            None => drop(self.made.insert(revision, (id, effects))),
        }
    }

    /// The watches delivered `revision`, all of it.
    pub fn deliver(&mut self, revision: u64, changes: &[Change], alarms: &mut Alarms) {
        self.watched = self.watched.max(revision);
        let delivered: Vec<Effect> = changes.iter().map(|change| effect(revision, change)).collect();
        match self.made.remove(&revision) {
            Some((id, made)) => self.compare(revision, id, &made, &delivered, alarms),
            None if matches!(self.at, At::Next(_)) && revision <= self.store.revision => {}
            None => {
                self.delivered.insert(revision, delivered);
                bound(&mut self.delivered, DELIVERED_MAX);
            }
        }
    }

    fn compare(&mut self, revision: u64, id: LogId, made: &[Effect], delivered: &[Effect], alarms: &mut Alarms) {
        self.totals.revisions += 1;
        if made == delivered || self.diverged {
            return;
        }
        self.diverged = true;
        let (LogId { index, term }, makes, delivered) = (id, list(made), list(delivered));
        alarms.push(Finding::new(RaftLogs::LogMakesAnother { revision, index, term, makes, delivered }));
    }

    fn check_fence(&mut self, id: LogId, step: &Step, alarms: &mut Alarms) {
        let Some(fact) = self.fences.get(&id.index).filter(|_| !self.diverged) else { return };
        let mut differs = Vec::new();
        let mut same = |figure: Figure, log: String, fence: String| {
            if log != fence {
                differs.push(Differs { figure, log, fence });
            }
        };
        same(Figure::Term, id.term.to_string(), fact.term.to_string());
        if !matches!(step, Step::Fence(_)) {
            same(Figure::Entry, in_words(step), "a fence".to_owned());
        }
        same(Figure::Revision, self.store.revision.to_string(), fact.revision.to_string());
        same(Figure::CompactRevision, self.store.compact.to_string(), fact.compact.to_string());
        same(Figure::Leases, lease_list(&self.store.leases), lease_list(&fact.leases));
        self.totals.fences += 1;
        if !differs.is_empty() {
            self.diverged = true;
            alarms.push(Finding::new(RaftLogs::LogLeadsElsewhere { index: id.index, differs }));
        }
    }

    /// Takes a fence that all members answered alike, and on which the watch-fed model agrees: a
    /// replay may start from the model's state at that revision.
    pub fn fenced(&mut self, answer: &FenceAnswer, model: &Model) {
        let (Ok(revision), Ok(compact)) =
            (u64::try_from(answer.revision), u64::try_from(answer.compact_revision.max(0)))
        else {
            return;
        };
        let leases: BTreeMap<i64, i64> =
            answer.leases.iter().map(|lease| (lease.id, lease.granted_ttl_seconds)).collect();
        let fact = Fact { term: answer.term, revision, compact, leases: leases.clone() };
        self.fences.insert(answer.index, fact);
        bound(&mut self.fences, FENCES_MAX);
        if let Some(keys) = state_at(model, revision) {
            self.bases.insert(answer.index, Store { revision, compact, keys, leases });
            bound(&mut self.bases, BASES_MAX);
        }
        // While nothing is replayed, no start lies before the oldest base.
        if let (At::Lost(_), Some((_, oldest))) = (&self.at, self.bases.first_key_value()) {
            let stands = oldest.revision;
            self.delivered.retain(|revision, _| *revision > stands);
        }
    }

    /// A replay that stands at the last fence on which all members agreed with the model, and has
    /// read no member's log since; without such a fence it stands at the beginning. It serves the
    /// search for a wrong member, because this replay may have read that member's log since.
    pub fn at_last_fence(&self) -> Self {
        let Some((fence, base)) = self.bases.last_key_value() else { return Self::default() };
        Self { store: base.clone(), at: At::Next(fence + 1), ..Self::default() }
    }

    /// Goes on through `entries`, which are certainly committed.
    pub fn read_committed(&mut self, entries: &[Logged]) {
        entries.iter().for_each(|entry| self.advance(entry, &mut Alarms::new()));
    }

    /// By revision, the effects that the log gave it, and the entry; the last few thousand without
    /// a gap.
    pub fn lately(&self) -> &BTreeMap<u64, (LogId, Vec<Effect>)> {
        &self.lately
    }

    /// The last fence that all members answered as the model demands: index and revision.
    pub fn last_fence(&self) -> Option<(u64, u64)> {
        self.fences.last_key_value().map(|(index, fact)| (*index, fact.revision))
    }

    /// The totals. Entries between a gap and the last fence count as not replayed, because no later
    /// log begins there.
    pub fn totals(&self) -> Replayed {
        let mut totals = self.totals;
        if let (At::Lost(from), Some(last)) = (&self.at, self.fences.keys().next_back()) {
            totals.unreplayed += (last + 1).saturating_sub(*from);
        }
        totals
    }
}

/// Forgets the oldest beyond `max`.
fn bound<T>(map: &mut BTreeMap<u64, T>, max: usize) {
    while map.len() > max {
        map.pop_first();
    }
}

/// The keys that exist at `revision`; `None` if the model cannot know, or a key is not text.
fn state_at(model: &Model, revision: u64) -> Option<BTreeMap<String, Row>> {
    if revision < model.compacted() || revision > model.revision() {
        return None;
    }
    let row = |(key, live): (&[u8], crate::model::Live<'_>)| {
        let (created, changed, version, lease) = (live.create_revision, live.mod_revision, live.version, live.lease);
        let row = Row { value: Value::of(live.value), created, changed, version, lease };
        Some((std::str::from_utf8(key).ok()?.to_owned(), row))
    };
    model.range_at(b"", None, revision).map(row).collect()
}

/// A change as a watch delivered it, in the replay's terms.
pub fn effect(revision: u64, change: &Change) -> Effect {
    let key = String::from_utf8_lossy(change.key()).into_owned();
    let row = match change {
        Change::Put { value, create_revision, version, lease, .. } => {
            let (created, version, lease) = (*create_revision, *version, *lease);
            Some(Row { value: Value::of(value), created, changed: revision, version, lease })
        }
        Change::Delete { .. } => None,
    };
    Effect { key, row }
}

/// Changes that a sentence names.
const LISTED_MAX: usize = 4;

fn list(effects: &[Effect]) -> String {
    let mut words: Vec<String> = effects.iter().take(LISTED_MAX).map(Effect::to_string).collect();
    if effects.len() > LISTED_MAX {
        words.push(format!("{} more", effects.len() - LISTED_MAX));
    }
    format!("[{}]", words.join(", "))
}

fn lease_list(leases: &BTreeMap<i64, i64>) -> String {
    let words: Vec<String> = leases.iter().map(|(id, seconds)| format!("{id} ({seconds} s)")).collect();
    format!("[{}]", words.join(", "))
}

/// The effect of a step, in words.
pub fn in_words(step: &Step) -> String {
    let span = |span: &Span| match &span.1 {
        None => format!("delete {}", span.0),
        Some(to) => format!("delete [{}, {})", span.0, to.escape_default()),
    };
    match step {
        Step::Blank => "blank, the first entry of a new leader".to_owned(),
        Step::Membership => "a membership".to_owned(),
        Step::Publish => "a member's name".to_owned(),
        Step::Fence(id) => format!("fence {id}"),
        Step::Put(key, value, _) => format!("put {key} = {value}"),
        Step::Delete(keys) => span(keys),
        Step::Txn { then, .. } => {
            let steps = then.iter().take(LISTED_MAX).map(|change| match change {
                logged::Change::Put(key, value, _) => format!("put {key} = {value}"),
                logged::Change::Delete(keys) => span(keys),
                logged::Change::Txn { .. } => "a nested transaction".to_owned(),
            });
            format!("txn: {}", steps.collect::<Vec<_>>().join(", "))
        }
        Step::Refused(why) => format!("nothing: {why}"),
        Step::Compact(revision) => format!("compact at revision {revision}"),
        Step::Grant(lease, seconds) => format!("grant lease {lease} for {seconds} s"),
        Step::Revoke(lease) => format!("revoke lease {lease}"),
        Step::Beyond(what) => what.clone(),
    }
}

#[cfg(test)]
mod tests;
