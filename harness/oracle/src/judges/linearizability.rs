//! Promise: every key behaves like one register in one place. There is an order of all operations
//! on it, each between its invocation and its answer, in which every answer is right: no stale
//! read, no lost update, nothing from the future.
//!
//! **The search** is Wing and Gong's in Lowe's just-in-time form: it goes through the answers in
//! the order in which they came and keeps every *configuration* (the register, and which open
//! operations took effect already) that explains all of them so far; equal configurations are one.
//! The longest linearizable prefix ends at the first answer that no configuration explains. Only
//! the configurations and the open operations are carried from one answer to the next. So memory
//! grows with the concurrency and not with the length of the run, and a run is judged bit by bit:
//! at every fence, as far as everything is answered.
//!
//! **Revisions** prune it to almost nothing. An answer carries the store's revision, and that
//! orders all operations: an acknowledged write is *at* its revision, a read lies between the write
//! of that revision and the next one. Only operations without a revision are left to search for:
//! deletes and revocations whose answer never came. A put or transaction whose answer never came is
//! found by its value, in a read or in the watched history; until then it has not happened in the
//! part that is judged ([`Basis`]).
//!
//! **Why a key at a time is enough.** Linearizability is local for operations on one object; an
//! operation on several keys is not such an operation. Here all its parts are placed at one
//! revision, the operation's, whichever part told it; every key's order ascends in revisions; so
//! sorting everything by revision (writes before reads) is one order that extends them all and has
//! no operation in two places. A transaction that is torn, or a range that shows two moments, puts
//! a part where its key's register denies it. The parts of a range delete or a revocation whose
//! answer never came are not tied together, and neither is the count that a range delete answers:
//! these are accepted more freely than they might be (and judged by the history, in `durability`).
//! Real time *between* keys is the promise of the revision itself, which never goes back:
//! [`super::ledger`] holds each answer against the newest revision acknowledged before it was asked
//! for.
//!
//! Serializable reads and reads of the past promise no real time; `reads` judges them at their
//! revision.
//!
//! **Budget.** Without revisions the problem is NP-complete. Steps and configurations are counted,
//! per key and fence; a key that exceeds the budget is given up, and reported as not proven. The
//! budget counts steps and not seconds, so that a run that is judged again offline ends the same.

mod projection;
mod register;
mod search;

use super::Alarms;
use crate::model::Model;
use ninelives_evidence::operation::{Action, Effect, OpId, Outcome, Reply};
use ninelives_evidence::verdict::Finding;
use ninelives_evidence::verdict::findings::Answers;
use projection::{Projection, project};
use register::{Does, Place, Register, Row};
use search::{End, NEVER, Search};
use std::collections::{BTreeMap, BTreeSet};

/// Knowledge beside the answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Basis {
    /// Nothing: an unanswered write may have happened wherever it does not contradict an answer.
    Answers,
    /// The history up to this revision: [`Linearizability::found`] was told every operation in it
    /// that a value names. Answers of later revisions wait.
    History(u64),
}

#[derive(Debug)]
struct Open {
    action: Action,
    invoked: u64,
}

/// The book of one run. The order of the calls is the real-time order: `invoke` before an operation
/// is sent, `complete` after its answer came.
#[derive(Debug, Default)]
pub struct Linearizability {
    /// Events so far.
    clock: u64,
    /// In flight.
    open: BTreeMap<OpId, Open>,
    /// Invocations of the operations in flight.
    in_flight: BTreeSet<u64>,
    keys: BTreeMap<Box<[u8]>, Search>,
    /// The keys that were ever put under a lease.
    leased: BTreeMap<i64, BTreeSet<Box<[u8]>>>,
    /// Puts and transactions whose answer never came, and which were not found either: their keys.
    missing: BTreeMap<OpId, Vec<Box<[u8]>>>,
    /// Range deletes whose answer never came: they may still take a key that is not known yet.
    wide: Vec<(OpId, Action, u64)>,
    /// Found in the history before they were answered.
    found: BTreeMap<OpId, u64>,
}

impl Linearizability {
    /// The book of a cluster that begins with the keys of `model`.
    pub fn restored(model: &Model) -> Self {
        let revision = model.revision();
        let mut book = Self::default();
        for (key, live) in model.range_at(b"", None, revision) {
            if live.lease != 0 {
                book.leased.entry(live.lease).or_default().insert(key.into());
            }
            book.keys.insert(key.into(), Search::from(Register { revision, row: Some(Row::of(&live.state(key))) }));
        }
        book
    }

    /// `id` is about to be sent.
    pub fn invoke(&mut self, id: OpId, action: &Action) {
        self.clock += 1;
        // A key exists from the first request on that may write it: from then on the answers of
        // ranges about it count.
        match action {
            Action::Put { key, lease, .. } => {
                self.key(key.as_bytes());
                if *lease != 0 {
                    self.leased.entry(*lease).or_default().insert(key.as_bytes().into());
                }
            }
            Action::Txn { then, .. } | Action::Packed { then, .. } => {
                for effect in then {
                    if let Effect::Put { key, .. } = effect {
                        self.key(key.as_bytes());
                    }
                }
            }
            Action::Delete { .. }
            | Action::Check { .. }
            | Action::Grant { .. }
            | Action::Revoke { .. }
            | Action::KeepAlive { .. }
            | Action::Compact { .. }
            | Action::Defragment
            | Action::Read { .. } => {}
        }
        self.in_flight.insert(self.clock);
        self.open.insert(id, Open { action: action.clone(), invoked: self.clock });
    }

    fn key(&mut self, key: &[u8]) -> &mut Search {
        let Self { keys, wide, .. } = self;
        keys.entry(key.into()).or_insert_with(|| {
            let mut search = Search::default();
            for (id, action, invoked) in wide {
                if matches!(action, Action::Delete { keys } if keys.contains(key)) {
                    search.add(
                        *id,
                        Does::Delete { when: None, found: false },
                        Place::Anywhere,
                        false,
                        (*invoked, NEVER),
                    );
                }
            }
            search
        })
    }

    /// `id` ended.
    pub fn complete(&mut self, id: OpId, outcome: &Outcome) {
        self.clock += 1;
        let Some(open) = self.open.remove(&id) else { return };
        self.in_flight.remove(&open.invoked);
        let at = self.found.remove(&id);
        let span = (open.invoked, self.clock);
        match outcome {
            Outcome::Refused { .. } => {}
            Outcome::Done { revision, reply, .. } => {
                if let (Action::Read { .. }, Reply::Read(rows)) = (&open.action, reply) {
                    for row in rows {
                        if let Some(writer) = OpId::of_value(&row.value) {
                            self.resolve(writer, row.mod_revision);
                        }
                    }
                }
                let parts = project(&open.action, Some((*revision, reply)), &self.keys, &self.leased);
                self.add(id, parts, span);
                if let (Action::Revoke { lease }, Reply::Revoked) = (&open.action, reply) {
                    self.leased.remove(lease);
                }
            }
            Outcome::Unknown { .. } => {
                let parts = project(&open.action, None, &self.keys, &self.leased);
                let shows = parts.first().is_some_and(|part| part.shows);
                let keys: Vec<_> = parts.iter().map(|part| part.key.clone()).collect();
                self.add(id, parts, (open.invoked, NEVER));
                if matches!(&open.action, Action::Delete { keys } if keys.to.is_some()) {
                    self.wide.push((id, open.action, open.invoked));
                }
                match at {
                    Some(revision) => keys.iter().for_each(|key| self.key(key).place(id, revision)),
                    None if shows => drop(self.missing.insert(id, keys)),
                    None => {}
                }
            }
        }
    }

    fn add(&mut self, id: OpId, parts: Vec<Projection>, span: (u64, u64)) {
        for Projection { key, does, place, shows } in parts {
            self.key(&key).add(id, does, place, shows, span);
        }
    }

    /// The history holds `id` at `revision`.
    pub fn found(&mut self, id: OpId, revision: u64) {
        if self.open.contains_key(&id) {
            self.found.insert(id, revision);
        } else {
            self.resolve(id, revision);
        }
    }

    /// If the answer of `id` never came, it is known from here on that all its parts happened, and
    /// where.
    fn resolve(&mut self, id: OpId, revision: u64) {
        if let Some(keys) = self.missing.remove(&id) {
            keys.iter().for_each(|key| self.key(key).place(id, revision));
        }
    }

    /// Judges every answer that came before the oldest operation in flight was sent, and lies in
    /// the basis.
    pub fn check(&mut self, basis: Basis) -> Alarms {
        let horizon = self.in_flight.first().copied().unwrap_or(NEVER);
        let mut alarms = Alarms::new();
        for (key, search) in &mut self.keys {
            let Some(end) = search.run(horizon, basis) else { continue };
            let key = key.escape_ascii().to_string();
            alarms.push(Finding::new(match end {
                End::Refused { ordered, last, next, beside } => {
                    Answers::NotLinearizable { key, ordered, last, next, beside }
                }
                End::OutOfBudget { why, next, judged, answers, beside } => {
                    Answers::LinearizabilityUnproven { key, why, next, judged, answers, beside }
                }
            }));
        }
        alarms
    }

    /// Answers that were judged, part by part.
    pub fn judged(&self) -> u64 {
        self.keys.values().map(Search::judged).sum()
    }
}

#[cfg(test)]
mod tests;
