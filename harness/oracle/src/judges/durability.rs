//! Promise: every acknowledged write is in the history at the revision of its answer, with exactly
//! its effects on the state before it; a write whose answer never came is there once or not at all;
//! the history holds nothing that no client wrote.
//!
//! The history is the sequence of revisions that the watch streams deliver. A revision with a put
//! names its operation in the value. A revision of deletes alone names no operation: it belongs to
//! the one that was acknowledged with that revision, or is *unclaimed*: its candidates are the open
//! operations that would have done exactly this to the state before it. A revision without
//! candidates is a phantom. A candidate that turns out to be elsewhere is struck off, and when the
//! last one is struck off, the revision is a phantom as well.
//!
//! Memory: only open operations are kept, each until it is settled. An operation that is found in
//! the history and is not open was refused, or never sent; `exactly_once` judges operations that
//! are found again.

use super::Alarms;
use super::asked::Asked;
use super::predict::{difference, in_words, matches, predict};
use crate::model::Model;
use ninelives_evidence::Change;
use ninelives_evidence::operation::{Action, OpId};
use ninelives_evidence::verdict::Finding;
use ninelives_evidence::verdict::findings::Writes as Broken;
use ninelives_evidence::verdict::findings::parts::NoEffect;
use std::collections::BTreeMap;
use std::sync::Arc;

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
    asked: Arc<Asked>,
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

/// Stands in for a client, because an expiry has no request.
const EXPIRIES: u32 = u32::MAX;

fn expiry(lease: i64) -> OpId {
    OpId { client: EXPIRIES, seq: lease.unsigned_abs() }
}

#[derive(Debug, Default)]
pub(super) struct Writes {
    open: BTreeMap<OpId, Open>,
    /// Acknowledged, and not yet delivered, by revision. Of several operations the history will
    /// show which one has the revision.
    acked: BTreeMap<u64, Vec<OpId>>,
    unclaimed: BTreeMap<u64, Unclaimed>,
    /// Revocations that were answered, by a revision that is not below their own: candidates until
    /// then.
    revoked: BTreeMap<u64, Vec<OpId>>,
}

impl Writes {
    pub fn invoke(&mut self, asked: Arc<Asked>) {
        self.open.insert(asked.id, Open { asked, answer: Answer::Pending, observed: None });
    }

    /// The lease may end by itself from here on, once. No other operation explains the keys that it
    /// deletes then.
    pub fn invoke_expiry(&mut self, lease: i64) {
        let id = expiry(lease);
        let asked = Arc::new(Asked { id, member: 0, action: Action::Revoke { lease }, purpose: None });
        self.open.insert(id, Open { asked, answer: Answer::Unknown, observed: None });
    }

    /// The lease does not exist, or not any more.
    pub fn forget_expiry(&mut self, lease: i64) {
        let waits = self.unclaimed.values().any(|one| one.candidates.contains(&expiry(lease)));
        if !waits {
            self.open.remove(&expiry(lease));
        }
    }

    /// Operations that are neither settled nor refused.
    pub fn open(&self) -> usize {
        self.open.keys().filter(|id| id.client != EXPIRIES).count()
    }

    /// Takes the answer of `id`: it wrote, at `revision`. `model` holds everything that was
    /// delivered so far.
    pub fn acked(&mut self, model: &Model, id: OpId, revision: u64, alarms: &mut Alarms) {
        let Some(open) = self.open.get_mut(&id) else { return };
        match open.observed {
            Some(found) => {
                if found != revision {
                    alarms.push(held_elsewhere(&open.asked, revision, found));
                }
                self.open.remove(&id);
            }
            None if revision > model.revision() => {
                open.answer = Answer::Acked(revision);
                self.acked.entry(revision).or_default().push(id);
            }
            None => {
                let asked = Arc::clone(&open.asked);
                self.open.remove(&id);
                let claims = self.unclaimed.get(&revision).is_some_and(|one| one.candidates.contains(&id));
                if claims {
                    self.unclaimed.remove(&revision);
                } else {
                    let (member, request) = (asked.member, asked.request());
                    let what = Broken::NotHeld { member, request, acknowledged: revision };
                    alarms.push(asked.alarm(what).at_revision(revision));
                }
                self.strike_off(id, alarms);
            }
        }
    }

    /// Whether several operations were acknowledged at `revision`, and the history has yet to say
    /// which of them it holds.
    pub fn contested(&self, revision: u64) -> bool {
        self.acked.get(&revision).is_some_and(|claims| claims.len() > 1)
    }

    /// Takes the answer or refusal of `id`: it wrote nothing.
    pub fn wrote_nothing(&mut self, id: OpId, answered: NoEffect, alarms: &mut Alarms) {
        let Some(open) = self.open.remove(&id) else { return };
        if let Some(found) = open.observed {
            let (asked, member, request) = (&open.asked, open.asked.member, open.asked.request());
            let what = Broken::HeldAllTheSame { member, request, answered, revision: found };
            alarms.push(asked.alarm(what).at_revision(found));
        }
        self.strike_off(id, alarms);
    }

    /// Takes the answer of a revocation, which came when the store stood at `revision`. The answer
    /// does not name the revision of the revocation, if it has one: deletes up to there that the
    /// revocation may have caused count as explained by it.
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

    /// Notes that no answer came. The operation stays open until the history settles it.
    pub fn unknown(&mut self, id: OpId) {
        match self.open.get_mut(&id) {
            Some(open) if open.observed.is_none() => open.answer = Answer::Unknown,
            _ => drop(self.open.remove(&id)),
        }
    }

    /// The next revision of the history; `before` is the state that it finds.
    /// `again`: it holds an operation that the history held before, which is known, and said.
    pub fn deliver(&mut self, before: &Model, revision: u64, changes: &[Change], again: bool, alarms: &mut Alarms) {
        let claims = self.acked.remove(&revision).unwrap_or_default();
        let author = match authors(changes) {
            Authors::One(id) => Some(id),
            Authors::OnlyDeletes => self.author_of_deletes(before, revision, changes, &claims, alarms),
            Authors::Foreign => {
                alarms.push(Finding::new(Broken::ForeignValue { revision, holds: in_words(changes) }));
                None
            }
        };
        for claim in claims.iter().filter(|id| author != Some(**id)).filter_map(|id| self.open.remove(id)) {
            let (asked, holds) = (claim.asked, in_words(changes));
            let (member, request) = (asked.member, asked.request());
            let what = Broken::HoldsAnother { member, request, acknowledged: revision, holds };
            alarms.push(asked.alarm(what).at_revision(revision));
        }
        if let Some(id) = author.filter(|_| !again) {
            self.observe(before, id, revision, changes, alarms);
        }
    }

    fn observe(&mut self, before: &Model, id: OpId, revision: u64, changes: &[Change], alarms: &mut Alarms) {
        let holds = in_words(changes);
        let Some(open) = self.open.get_mut(&id) else {
            alarms.push(Finding::new(Broken::SettledBefore { revision, holds, operation: id }));
            return;
        };
        let (asked, member, request) = (Arc::clone(&open.asked), open.asked.member, open.asked.request());
        let wrong = match predict(before, &asked.action) {
            Err(why) => Some(Broken::AppliedAgainstComparison { member, request, revision, why }),
            Ok(expected) if !matches(&expected, changes) => {
                let difference = difference(&expected, changes);
                Some(Broken::OtherEffects { member, request, revision, holds, difference })
            }
            Ok(_) => None,
        };
        alarms.extend(wrong.map(|what| asked.alarm(what).at_revision(revision)));
        match open.answer {
            Answer::Pending => open.observed = Some(revision),
            Answer::Unknown => drop(self.open.remove(&id)),
            Answer::Acked(at) => {
                self.open.remove(&id);
                if at != revision {
                    if let Some(claims) = self.acked.get_mut(&at) {
                        claims.retain(|claim| *claim != id);
                    }
                    alarms.push(held_elsewhere(&asked, at, revision));
                }
            }
        }
    }

    /// Finds the operation that wrote a revision of deletes, which do not name it. The
    /// acknowledgements of their revision in `claims` come first, if what they claim fits; then an
    /// open operation that would do exactly this, whose answer may be on its way. Without either,
    /// an acknowledgement is believed, and judged by its request. `None`: an open operation has yet
    /// to settle it, or there is a finding.
    fn author_of_deletes(
        &mut self,
        before: &Model,
        revision: u64,
        changes: &[Change],
        claims: &[OpId],
        alarms: &mut Alarms,
    ) -> Option<OpId> {
        let fitting = claims.iter().copied().find(|id| self.would_do(before, *id, changes));
        if fitting.is_some() {
            return fitting;
        }
        let candidates = self.candidates(before, changes);
        let words = in_words(changes);
        match (claims.first(), candidates.is_empty()) {
            (_, false) => drop(self.unclaimed.insert(revision, Unclaimed { candidates, words })),
            (Some(id), true) => return Some(*id),
            (None, true) => {
                alarms.push(Finding::new(Broken::DoneByNone { revision, holds: words }));
            }
        }
        None
    }

    /// The operations without an answer that would do exactly this.
    fn candidates(&self, before: &Model, changes: &[Change]) -> Vec<OpId> {
        let first = changes.first().map_or(&b""[..], Change::key);
        // A cheap look at the first key spares most predictions.
        let deletes = |open: &Open| match &open.asked.action {
            Action::Delete { keys } => keys.contains(first),
            Action::Revoke { lease } => before.live(first).is_some_and(|live| live.lease == *lease),
            _ => false,
        };
        let free = |open: &Open| open.observed.is_none() && !matches!(open.answer, Answer::Acked(_));
        let open = self.open.iter().filter(|(_, open)| deletes(open) && free(open)).map(|(id, _)| *id);
        open.filter(|id| self.would_do(before, *id, changes)).collect()
    }

    /// Whether the open operation `id` would do exactly this.
    fn would_do(&self, before: &Model, id: OpId, changes: &[Change]) -> bool {
        let expected = self.open.get(&id).and_then(|open| predict(before, &open.asked.action).ok());
        expected.is_some_and(|expected| matches(&expected, changes))
    }

    fn strike_off(&mut self, id: OpId, alarms: &mut Alarms) {
        self.unclaimed.retain(|revision, one| {
            one.candidates.retain(|candidate| *candidate != id);
            if one.candidates.is_empty() {
                let (revision, holds) = (*revision, one.words.clone());
                alarms.push(Finding::new(Broken::DoneByNoCandidate { revision, holds }));
            }
            !one.candidates.is_empty()
        });
    }

    /// Settles deletes that no answer can settle any more, because the answers of all candidates
    /// are unknown. A sole candidate counts as found; of several candidates each may have written
    /// them, so all stay open.
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

/// `asked` was acknowledged at one revision, and another one holds it.
fn held_elsewhere(asked: &Asked, acknowledged: u64, revision: u64) -> Finding {
    let (member, request) = (asked.member, asked.request());
    asked.alarm(Broken::HeldElsewhere { member, request, acknowledged, revision }).at_revision(revision)
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
