//! Promise: an answer says the same about the state at a revision as the model.
//!
//! The answer may arrive before the watch has delivered that revision: it is then deferred until
//! the model stands there. An answer whose revision the model has compacted meanwhile cannot be
//! judged, and is counted.

use super::Alarms;
use super::asked::{Asked, first};
use super::predict::{first_broken, live_in};
use crate::model::{Live, Model};
use ninelives_evidence::operation::{Compare, KeyState, Keys};
use ninelives_evidence::verdict::Finding;
use ninelives_evidence::verdict::findings::Answers;
use ninelives_evidence::verdict::findings::parts::Reader;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A statement about the state at a revision.
#[derive(Debug)]
pub(super) enum Claim {
    /// A read: these keys, and no others.
    Holds { keys: Keys, rows: Vec<KeyState> },
    /// A delete that found nothing.
    Empty { keys: Keys },
    /// A lease was revoked: no key is attached to it.
    Detached { lease: i64 },
    /// A transaction whose comparison failed.
    CompareFails { when: Vec<Compare> },
    /// A transaction that only compares, and whose comparisons held.
    CompareHolds { when: Vec<Compare> },
}

#[derive(Debug, Default)]
pub(super) struct ReadClaims {
    deferred: BTreeMap<u64, Vec<(Arc<Asked>, Claim)>>,
    pub checked: u64,
    pub unchecked: u64,
}

impl ReadClaims {
    /// `asked` was answered with `claim` about the state at `revision`.
    pub fn add(&mut self, model: &Model, asked: &Arc<Asked>, revision: u64, claim: Claim, alarms: &mut Alarms) {
        if revision > model.revision() {
            self.deferred.entry(revision).or_default().push((Arc::clone(asked), claim));
        } else {
            self.judge(model, asked, revision, &claim, alarms);
        }
    }

    /// Forgets the deferred answers: the history ends before their revisions.
    pub fn forget_deferred(&mut self) {
        self.deferred.clear();
    }

    /// Judges the answers that were deferred up to the model's revision.
    pub fn settle(&mut self, model: &Model, alarms: &mut Alarms) {
        while let Some(entry) = self.deferred.first_entry().filter(|entry| *entry.key() <= model.revision()) {
            let (revision, claims) = entry.remove_entry();
            for (asked, claim) in claims {
                self.judge(model, &asked, revision, &claim, alarms);
            }
        }
    }

    fn judge(&mut self, model: &Model, asked: &Asked, revision: u64, claim: &Claim, alarms: &mut Alarms) {
        if revision < model.compacted() {
            self.unchecked += 1;
            return;
        }
        self.checked += 1;
        let by = || Reader::Request { member: asked.member, revision, request: asked.request() };
        let of = |what: Answers, key: String| Finding::new(what).about([key]);
        let broken = match claim {
            Claim::Holds { keys, rows } => compare_rows(model, keys, revision, rows, by),
            Claim::Empty { keys } => live_in(model, keys, revision).first().map(|key| {
                let key = key.escape_ascii().to_string();
                of(Answers::DeletedTooLittle { by: by(), key: key.clone() }, key)
            }),
            Claim::Detached { lease } => model.attached_at(*lease, revision).first().map(|key| {
                let (key, lease) = (key.escape_ascii().to_string(), *lease);
                of(Answers::StillAttached { by: by(), lease, key: key.clone() }, key)
            }),
            Claim::CompareFails { when } => first_broken(model, when, revision).is_none().then(|| {
                let keys = first(when.iter().map(|compare| compare.key.clone()));
                Finding::new(Answers::ComparisonHolds { by: by(), keys })
            }),
            Claim::CompareHolds { when } => first_broken(model, when, revision)
                .map(|broken| Finding::new(Answers::ComparisonFails { by: by(), broken })),
        };
        if let Some(broken) = broken {
            let alarm = asked.alarm(broken.what).at_revision(broken.revision.unwrap_or(revision));
            alarms.push(if broken.keys.is_empty() { alarm } else { alarm.about(broken.keys) });
        }
    }
}

/// The first difference between the rows that a read of `keys` at `revision` returned and those of
/// the model, with its key and the revision that wrote it. `by`: the read.
pub(super) fn compare_rows(
    model: &Model,
    keys: &Keys,
    revision: u64,
    rows: &[KeyState],
    by: impl Fn() -> Reader,
) -> Option<Finding> {
    let broken = |what: Answers, key: String, revision| Some(Finding::new(what).at_revision(revision).about([key]));
    let end = keys.to.as_ref().map_or_else(|| [keys.from.as_bytes(), &[0]].concat(), |to| to.clone().into_bytes());
    let mut found = rows.iter().peekable();
    for (key, live) in model.range_at(keys.from.as_bytes(), Some(&end), revision) {
        let name = || key.escape_ascii().to_string();
        match found.next_if(|row| row.key == key) {
            None if found.peek().is_some_and(|row| row.key.as_slice() < key) => break,
            None => {
                let what = Answers::RowMissing { by: by(), key: name(), written: live.mod_revision };
                return broken(what, name(), live.mod_revision);
            }
            Some(row) => {
                if Live::from(row) != live {
                    let (by, key, revision, version) = (by(), name(), row.mod_revision, row.version);
                    let (revision_expected, version_expected) = (live.mod_revision, live.version);
                    let what = if revision < revision_expected {
                        Answers::RowTooOld { by, key, revision, version, revision_expected, version_expected }
                    } else {
                        Answers::RowDiffers { by, key, revision, version, revision_expected, version_expected }
                    };
                    return broken(what, name(), live.mod_revision);
                }
            }
        }
    }
    found.next().and_then(|row| {
        let key = row.key.escape_ascii().to_string();
        let what = Answers::RowUnknown { by: by(), key: key.clone(), revision: row.mod_revision };
        broken(what, key, row.mod_revision)
    })
}
