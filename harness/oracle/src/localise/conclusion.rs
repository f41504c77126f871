//! The conclusion about a member that keeps a raft log: the first entry that it applied wrongly.

use super::clues::{Clues, Witness};
use super::compare::{Difference, Shape};
use super::{sections, sentences};
use crate::judges::Ledger;
use crate::judges::log_replay::{Effect, in_words};
use crate::raft_log::{self, Payload};
use ninelives_evidence::limits;
use ninelives_evidence::operation::KeyState;
use ninelives_evidence::record::localisation::{Excerpt, ExcerptLine, FirstWrong, Localisation, WrongKey};
use ninelives_evidence::verdict::Finding;
use std::collections::BTreeMap;

/// The conclusion about `finding` in a cluster of `members` members. The witnesses' raft logs are
/// among the clues.
pub fn by_logs(finding: &Finding, mut clues: Clues, ledger: &Ledger, members: usize) -> Localisation {
    let replay = clues.replay(ledger.log_replay().at_last_fence(), members);
    clues.take_truth(&replay, ledger);
    if clues.differences().is_empty() {
        clues.take_digests(ledger);
    }
    conclude(finding, &clues)
}

/// The account of `finding` before anything is concluded.
pub fn empty(finding: &Finding, unknown: Vec<String>) -> Localisation {
    Localisation {
        class: finding.class(),
        cycle: finding.cycle,
        cluster: finding.cluster,
        sentences: Vec::new(),
        wrong: Vec::new(),
        first: None,
        keys: Vec::new(),
        watermarks: Vec::new(),
        excerpt: None,
        unknown,
    }
}

fn conclude(finding: &Finding, clues: &Clues) -> Localisation {
    let differences = clues.differences();
    let mut found = empty(finding, clues.unknown.clone());
    found.wrong = differences.keys().copied().collect();
    for (member, revision) in clues.doubtful(&differences) {
        found.unknown.push(format!(
            "whether n{member} is right from revision {revision} on: what it is measured by may be a wrong member's word there; up to \
             there it is"
        ));
    }
    let first = differences.iter().min_by_key(|(_, difference)| difference.revision);
    if let Some((member, difference)) = first {
        let first = first_wrong(clues, *member, difference);
        found.keys = wrong_keys(clues, difference);
        found.excerpt = first.index.and_then(|index| excerpt(clues, *member, index));
        found.first = Some(first);
    }
    let section = sections::conclusion(finding, clues).filter(|_| differences.is_empty());
    if let Some(index) = section.as_ref().and_then(|(_, index)| *index) {
        found.excerpt = excerpt(clues, finding.member.unwrap_or(0), index);
    }
    let older = found.keys.is_empty() && !keys_at_fence(clues).is_empty();
    if found.keys.is_empty() {
        found.keys = keys_at_fence(clues);
    }
    let mut told = found.wrong.clone();
    told.extend(finding.member.filter(|_| told.is_empty()));
    if told.is_empty() {
        told = clues.trail.killed();
        told.sort_unstable();
        told.dedup();
    }
    for member in told {
        found.watermarks.extend(clues.trail.watermarks(member));
    }
    found.sentences =
        sentences::conclusion(clues, &differences, found.first.as_ref(), section.map(|(sentence, _)| sentence), older);
    found
}

fn first_wrong(clues: &Clues, member: u64, difference: &Difference) -> FirstWrong {
    let made = match difference.shape {
        Shape::Again(earlier) => earlier,
        _ => difference.revision,
    };
    let id = clues.truth.get(&made).and_then(|(id, _)| *id);
    let entry = id.and_then(|id| clues.entry(id));
    let proposed = entry.and_then(|entry| match &entry.payload {
        Payload::Command(request) => raft_log::operation(request),
        _ => None,
    });
    FirstWrong {
        member,
        revision: difference.revision,
        index: id.map(|id| id.index),
        term: id.map(|id| id.term),
        // A delete does not name its operation; the answer to it does.
        operation: proposed.map(|id| id.to_string()).or_else(|| clues.trail.operation_of(made)),
        does: entry.map(raft_log::describe).or_else(|| {
            let index = id?.index;
            let (_, entry) = clues.trail.logged(index, index).next()?;
            Some(in_words(&entry.step))
        }),
    }
}

/// The keys of the first wrong revision, as the model and as each member has them there.
pub(super) fn wrong_keys(clues: &Clues, difference: &Difference) -> Vec<WrongKey> {
    let at = |effects: &[Effect], key: &str| {
        let of_key = effects.iter().find(|effect| effect.key == key);
        of_key.map_or_else(|| "no row".to_owned(), Effect::to_string)
    };
    let mut keys: Vec<&str> = Vec::new();
    for effect in difference.expected.iter().chain(&difference.found) {
        if !keys.contains(&effect.key.as_str())
            && at(&difference.expected, &effect.key) != at(&difference.found, &effect.key)
        {
            keys.push(&effect.key);
        }
    }
    let shown: Vec<(u64, &[Effect])> = clues
        .witnesses
        .iter()
        .filter_map(|witness| {
            let changes = &witness.shown.as_ref()?.changes;
            Some((witness.member, changes.get(&difference.revision).map_or(&[][..], Vec::as_slice)))
        })
        .collect();
    keys.into_iter()
        .take(limits::WRONG_KEYS_MAX)
        .map(|key| WrongKey {
            key: key.to_owned(),
            expected: at(&difference.expected, key),
            found: grouped(shown.iter().map(|(member, effects)| (*member, at(effects, key)))),
        })
        .collect()
}

/// Keys whose values differ between members at the fence. The model is not asked, because it may
/// have heard a wrong member first.
fn keys_at_fence(clues: &Clues) -> Vec<WrongKey> {
    let states: Vec<(u64, BTreeMap<&[u8], &KeyState>)> = clues
        .witnesses
        .iter()
        .filter_map(|witness| {
            let keys = witness.keys.as_ref()?;
            Some((witness.member, keys.iter().map(|state| (state.key.as_slice(), state)).collect()))
        })
        .collect();
    let mut keys: Vec<&[u8]> = states.iter().flat_map(|(_, keys)| keys.keys().copied()).collect();
    keys.sort_unstable();
    keys.dedup();
    keys.into_iter()
        .filter_map(|key| {
            let found = grouped(states.iter().map(|(member, keys)| (*member, words(keys.get(key)))));
            let key = key.escape_ascii().to_string();
            (found.len() > 1).then(|| WrongKey {
                key,
                expected: "unknown: compared between the members".to_owned(),
                found,
            })
        })
        .take(limits::WRONG_KEYS_MAX)
        .collect()
}

/// A member's value of a key, for a report.
pub(super) fn words(row: Option<&&KeyState>) -> String {
    let Some(row) = row else { return "absent".to_owned() };
    format!("{} (changed at {}, version {})", raft_log::shown_value(&row.value), row.mod_revision, row.version)
}

/// Members by their values, in the order of the first member of each group.
pub(super) fn grouped(values: impl Iterator<Item = (u64, String)>) -> Vec<(Vec<u64>, String)> {
    let mut groups: Vec<(Vec<u64>, String)> = Vec::new();
    for (member, value) in values {
        match groups.iter_mut().find(|(_, known)| *known == value) {
            Some((members, _)) => members.push(member),
            None => groups.push((vec![member], value)),
        }
    }
    groups
}

/// The entries around `index`: from the log of `member`, or of another member that still has it, or
/// as a dead member's log told them.
fn excerpt(clues: &Clues, member: u64, index: u64) -> Option<Excerpt> {
    let revisions: BTreeMap<u64, u64> =
        clues.truth.iter().filter_map(|(revision, (id, _))| Some(((*id)?.index, *revision))).collect();
    let line = |index: u64, term: u64, does: String, wrong: u64| ExcerptLine {
        index,
        term,
        does,
        revision: revisions.get(&index).copied(),
        here: index == wrong,
    };
    let (first, last) = (index.saturating_sub(limits::EXCERPT_ENTRIES), index + limits::EXCERPT_ENTRIES);
    let has = |witness: &&Witness| witness.log.as_ref().is_some_and(|log| log.at(index).is_some());
    let own = clues.witnesses.iter().filter(has).find(|witness| witness.member == member);
    if let Some(witness) = own.or_else(|| clues.witnesses.iter().find(has)) {
        let log = witness.log.as_ref()?;
        let entries = (first..=last).filter_map(|at| log.at(at));
        let entries = entries.map(|entry| line(entry.id.index, entry.id.term, raft_log::describe(entry), index));
        return Some(Excerpt { member: witness.member, entries: entries.collect() });
    }
    let member = clues.trail.logged(index, index).next()?.0;
    let told = clues.trail.logged(first, last);
    let entries = told.map(|(_, entry)| line(entry.index, entry.term, in_words(&entry.step), index));
    Some(Excerpt { member, entries: entries.collect() })
}

#[cfg(test)]
mod tests;
