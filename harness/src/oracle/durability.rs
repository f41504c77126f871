//! Promise: every acknowledged write is in the history at the revision of its answer, with exactly its
//! effects on the state before it; a write whose answer never came is there once or not at all; nothing is there
//! that nobody wrote.
//!
//! The history is the sequence of revisions that the watch streams deliver. A revision with a put names its
//! operation in the value. A revision of deletes alone names nobody: it belongs to the operation that was
//! acknowledged with that revision, or is *unclaimed*: its candidates are the open operations that would have done
//! exactly this to the state before it. None: a phantom. A candidate that turns out to be elsewhere is struck
//! off, and the last one struck off makes a phantom as well.
//!
//! Memory: only open operations are kept, each until it is settled. What is found and not open was refused, or never sent; what is
//! found again is `exactly_once`'s to judge.

use super::Alarms;
use super::predict::{in_words, matches, predict};
use crate::model::{Change, Model};
use crate::operation::{Action, OpId};
use crate::verdict::Class;
use std::collections::BTreeMap;

#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Pending,
    /// Acknowledged with this revision, which no stream has delivered yet.
    Acked(u64),
    /// It may never have happened, and may still happen.
    Unknown,
}

#[derive(Debug)]
struct Open {
    action: Action,
    answer: Answer,
    /// The revision that holds it, delivered before its answer.
    observed: Option<u64>,
}

/// Deletes whose author did not answer yet, or never will.
#[derive(Debug)]
struct Unclaimed {
    candidates: Vec<OpId>,
    words: String,
}

#[derive(Debug, Default)]
pub(super) struct Writes {
    open: BTreeMap<OpId, Open>,
    /// Acknowledged, and not yet delivered, by revision.
    acked: BTreeMap<u64, OpId>,
    unclaimed: BTreeMap<u64, Unclaimed>,
    /// Revocations that were answered, by a revision that is not below their own: candidates until then.
    revoked: BTreeMap<u64, Vec<OpId>>,
}

impl Writes {
    pub fn invoke(&mut self, id: OpId, action: Action) {
        self.open.insert(id, Open { action, answer: Answer::Pending, observed: None });
    }

    /// Operations that are neither settled nor refused.
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// `id` was answered: it wrote, at `revision`. `model` tells what was delivered so far.
    pub fn acked(&mut self, model: &Model, id: OpId, revision: u64, alarms: &mut Alarms) {
        let Some(open) = self.open.get_mut(&id) else { return };
        match open.observed {
            Some(found) => {
                if found != revision {
                    alarms.push((
                        Class::Model,
                        format!(
                            "operation {id} was acknowledged at revision {revision}, but revision {found} holds it"
                        ),
                    ));
                }
                self.open.remove(&id);
            }
            None if revision > model.revision() => {
                open.answer = Answer::Acked(revision);
                if let Some(other) = self.acked.insert(revision, id) {
                    alarms.push((
                        Class::LostWrite,
                        format!("operations {other} and {id} were both acknowledged at revision {revision}"),
                    ));
                    self.open.remove(&other);
                }
            }
            None => {
                self.open.remove(&id);
                let claims = self.unclaimed.get(&revision).is_some_and(|one| one.candidates.contains(&id));
                if claims {
                    self.unclaimed.remove(&revision);
                } else {
                    alarms.push((
                        Class::LostWrite,
                        format!("operation {id} was acknowledged at revision {revision}, which does not hold it"),
                    ));
                }
                self.strike_off(id, alarms);
            }
        }
    }

    /// `id` was answered, or refused: it wrote nothing.
    pub fn wrote_nothing(&mut self, id: OpId, how: &str, alarms: &mut Alarms) {
        let Some(open) = self.open.remove(&id) else { return };
        if let Some(found) = open.observed {
            alarms.push((Class::Phantom, format!("operation {id} {how}, but revision {found} holds it")));
        }
        self.strike_off(id, alarms);
    }

    /// A revocation was answered when the store stood at `revision`. That does not say which revision it took,
    /// if any: what it may have deleted until then counts as explained by it.
    pub fn revoked(&mut self, model: &Model, id: OpId, revision: u64) {
        self.revoked.entry(revision).or_default().push(id);
        self.settle_revoked(model);
    }

    /// Closes the answered revocations that the history has passed.
    pub fn settle_revoked(&mut self, model: &Model) {
        while let Some(entry) = self.revoked.first_entry().filter(|entry| *entry.key() <= model.revision()) {
            for id in entry.remove() {
                self.open.remove(&id);
                self.unclaimed.retain(|_, one| !one.candidates.contains(&id));
            }
        }
    }

    /// No answer came. It stays open until the history settles it.
    pub fn unknown(&mut self, id: OpId) {
        match self.open.get_mut(&id) {
            Some(open) if open.observed.is_none() => open.answer = Answer::Unknown,
            _ => drop(self.open.remove(&id)),
        }
    }

    /// The next revision of the history; `before` is the state that it finds.
    /// `again`: it holds an operation that the history held before, which is known, and said.
    pub fn deliver(&mut self, before: &Model, revision: u64, changes: &[Change], again: bool, alarms: &mut Alarms) {
        let claim = self.acked.remove(&revision);
        let author = match authors(changes) {
            Authors::One(id) => Some(id),
            Authors::OnlyDeletes => match claim {
                Some(id) => Some(id),
                None => return self.find_candidates(before, revision, changes, alarms),
            },
            Authors::Foreign => {
                let found = in_words(changes);
                alarms.push((Class::Phantom, format!("revision {revision} holds {found}, which no operation writes")));
                None
            }
        };
        if let Some(claim) = claim.filter(|id| author != Some(*id)) {
            self.open.remove(&claim);
            let found = in_words(changes);
            alarms.push((
                Class::LostWrite,
                format!("operation {claim} was acknowledged at revision {revision}, which holds {found} instead"),
            ));
        }
        if let Some(id) = author.filter(|_| !again) {
            self.observe(before, id, revision, changes, alarms);
        }
    }

    fn observe(&mut self, before: &Model, id: OpId, revision: u64, changes: &[Change], alarms: &mut Alarms) {
        let found = in_words(changes);
        let Some(open) = self.open.get_mut(&id) else {
            alarms.push((
                Class::Phantom,
                format!(
                    "revision {revision} holds {found} of operation {id}, which was settled before: refused, answered as having \
                     written nothing, or never sent"
                ),
            ));
            return;
        };
        match predict(before, &open.action) {
            Err(broken) => alarms.push((
                Class::Model,
                format!("operation {id} was applied at revision {revision}, but its comparison fails there: {broken}"),
            )),
            Ok(expected) if !matches(&expected, changes) => alarms.push((
                Class::Model,
                format!("revision {revision} holds {found}, which is not what operation {id} does to the state before"),
            )),
            Ok(_) => {}
        }
        match open.answer {
            Answer::Pending => open.observed = Some(revision),
            Answer::Unknown => drop(self.open.remove(&id)),
            Answer::Acked(at) => {
                self.open.remove(&id);
                if at != revision {
                    self.acked.remove(&at);
                    alarms.push((
                        Class::Model,
                        format!("operation {id} was acknowledged at revision {at}, but revision {revision} holds it"),
                    ));
                }
            }
        }
    }

    fn find_candidates(&mut self, before: &Model, revision: u64, changes: &[Change], alarms: &mut Alarms) {
        let first = changes.first().map_or(&b""[..], Change::key);
        // A cheap look at the first key spares most predictions.
        let deletes = |open: &Open| match &open.action {
            Action::Delete { keys } => keys.contains(first),
            Action::Revoke { lease } => before.live(first).is_some_and(|live| live.lease == *lease),
            _ => false,
        };
        let free = |open: &Open| open.observed.is_none() && !matches!(open.answer, Answer::Acked(_));
        let candidates: Vec<OpId> = self
            .open
            .iter()
            .filter(|(_, open)| deletes(open) && free(open))
            .filter(|(_, open)| predict(before, &open.action).is_ok_and(|expected| matches(&expected, changes)))
            .map(|(id, _)| *id)
            .collect();
        let words = in_words(changes);
        if candidates.is_empty() {
            alarms.push((Class::Phantom, format!("revision {revision} holds {words}, which no open operation does")));
        } else {
            self.unclaimed.insert(revision, Unclaimed { candidates, words });
        }
    }

    fn strike_off(&mut self, id: OpId, alarms: &mut Alarms) {
        self.unclaimed.retain(|revision, one| {
            one.candidates.retain(|candidate| *candidate != id);
            if one.candidates.is_empty() {
                let words = &one.words;
                alarms.push((
                    Class::Phantom,
                    format!("revision {revision} holds {words}, and every operation that could have done it did not"),
                ));
            }
            !one.candidates.is_empty()
        });
    }

    /// Settles what no answer can settle any more: deletes all of whose candidates are unknown. A sole candidate
    /// is found; among several any may be it, so all of them stay open.
    pub fn tidy(&mut self) {
        let open = &mut self.open;
        self.unclaimed.retain(|_, one| {
            let waits = one.candidates.iter().any(|id| open.get(id).is_some_and(|op| op.answer != Answer::Unknown));
            if let ([id], false) = (one.candidates.as_slice(), waits) {
                open.remove(id);
            }
            waits
        });
    }
}

enum Authors {
    One(OpId),
    OnlyDeletes,
    /// A value that is not ours, or several operations in one revision.
    Foreign,
}

fn authors(changes: &[Change]) -> Authors {
    let mut author = None;
    for change in changes {
        if let Change::Put { value, .. } = change {
            match (OpId::of_value(value), author) {
                (Some(id), None) => author = Some(id),
                (Some(id), Some(first)) if id == first => {}
                _ => return Authors::Foreign,
            }
        }
    }
    author.map_or(Authors::OnlyDeletes, Authors::One)
}
