//! The conclusion in words.

use super::clues::Clues;
use super::compare::{Difference, Shape};
use crate::judges::log_replay::Effect;
use ninelives_evidence::record::localisation::{FirstWrong, WatermarksRow};
use std::collections::BTreeMap;

/// The conclusion: which members are wrong and which are right; where it begins; how; after which
/// fault. `older`: the members' keys differ, although no row differs that can be compared by its
/// revision.
pub(super) fn conclusion(
    clues: &Clues,
    differences: &BTreeMap<u64, Difference>,
    first: Option<&FirstWrong>,
    section: Option<String>,
    older: bool,
) -> Vec<String> {
    let right = clues.right(differences);
    let mut sentences = Vec::new();
    match (first, differences.is_empty()) {
        (Some(first), _) => {
            sentences.push(who(clues, differences, &right));
            if let Some(difference) = differences.get(&first.member) {
                sentences.push(place(first, difference));
                sentences.push(shape(first, difference, clues));
            }
            let shape = differences.get(&first.member).map(|difference| difference.shape);
            sentences.extend(fault(clues, first.member, first.index.zip(shape)));
        }
        (None, _) if right.is_empty() => {
            sentences.push("No member shows its rows any more, so nothing can be compared.".to_owned());
        }
        (None, _) => {
            sentences.push(same_rows(clues, &right));
            if older {
                sentences.push(format!(
                    "Their keys at the fence differ all the same, so the wrong rows are older than revision {}, and compacted since.",
                    clues.from
                ));
            } else {
                sentences.extend(digests(clues));
            }
            sentences.extend(section);
            let killed = clues.trail.killed();
            sentences.extend(killed.last().and_then(|member| fault(clues, *member, None)));
        }
    }
    sentences
}

fn source(clues: &Clues) -> &'static str {
    if clues.by_log {
        "the committed entries of the raft logs, replayed by the harness's own model"
    } else {
        "the history that the watches delivered first"
    }
}

fn who(clues: &Clues, differences: &BTreeMap<u64, Difference>, right: &[u64]) -> String {
    let wrong: Vec<u64> = differences.keys().copied().collect();
    let from = clues.from;
    let mut sentence = format!("{} {} wrong, measured by {}", members(&wrong), is_or_are(&wrong), source(clues));
    if right.is_empty() {
        sentence.push_str(&format!("; no member is right in all of its rows since revision {from}."));
    } else {
        let its = if right.len() == 1 { "its" } else { "their" };
        sentence.push_str(&format!(
            "; {} {} right in all of {its} rows since revision {from}.",
            members(right),
            is_or_are(right)
        ));
    }
    sentence
}

fn place(first: &FirstWrong, difference: &Difference) -> String {
    let member = first.member;
    let does = first.does.as_deref().map_or_else(String::new, |does| format!(": {does}"));
    let operation = first.operation.as_deref();
    let operation = operation.map_or_else(String::new, |id| format!(" (operation {id} of the workload)"));
    let entry = match (first.index, first.term) {
        (Some(index), Some(term)) => format!("raft index {index}, term {term}{does}{operation}"),
        _ => format!("an entry that no raft log shows{operation}"),
    };
    match difference.shape {
        Shape::Again(_) => {
            format!("The first wrong revision of n{member} is {}; the entry behind it is {entry}.", first.revision)
        }
        _ => format!("The first wrong revision of n{member} is {}, which is made by {entry}.", first.revision),
    }
}

pub(super) fn shape(first: &FirstWrong, difference: &Difference, clues: &Clues) -> String {
    let (member, revision) = (first.member, difference.revision);
    let next = clues.truth.get(&(revision + 1)).and_then(|(id, _)| *id);
    match difference.shape {
        Shape::Missing if difference.found.is_empty() => format!(
            "n{member} has no row of that revision, and what follows is in its place: the entry moved the revision on, and its \
             rows are gone."
        ),
        Shape::Missing => format!(
            "n{member} has {} of the {} rows of that revision, and what follows is in its place: the others are gone.",
            difference.found.len(),
            difference.expected.len()
        ),
        Shape::Skipped(ahead) if clues.begins_at(member, revision) => format!(
            "n{member} has there what revision {} is: where its history begins, it is {ahead} early already, and what it skipped lies \
             before.",
            revision + ahead
        ),
        Shape::Skipped(ahead @ 2..) => format!(
            "n{member} has there what revision {} is, and is {ahead} revisions early from there on: what lies between is not in its \
             state.",
            revision + ahead
        ),
        Shape::Skipped(_) => {
            let next = next.map_or_else(|| "the next entry".to_owned(), |id| format!("raft index {}", id.index));
            format!(
                "n{member} has there what {next} makes, and is one revision early from there on: this entry is not in its state."
            )
        }
        Shape::Again(earlier) => format!(
            "n{member} has at revision {revision}, once more, what this entry had made at revision {earlier}: it applied it twice."
        ),
        Shape::Other if difference.found.is_empty() => {
            format!("n{member} has no row of that revision, and what follows differs as well.")
        }
        Shape::Other => format!("n{member} has instead: {}.", list(&difference.found)),
    }
}

/// The fault before it, and where the entry lay in that member's recovery.
fn fault(clues: &Clues, member: u64, entry: Option<(u64, Shape)>) -> Option<String> {
    let step = clues.trail.step()?;
    let killed = clues.trail.killed();
    let kills = killed.iter().filter(|one| **one == member).count();
    let mut sentence = format!("The step before it: {step}");
    if kills == 0 {
        let others = if killed.is_empty() { "no member".to_owned() } else { members(&killed) };
        sentence.push_str(&format!("; it killed {others}, and n{member} lived through it."));
        return Some(sentence);
    }
    let times = if kills == 1 { String::new() } else { format!(" {kills} times") };
    let at = clues.trail.armed(member).map_or_else(String::new, |window| format!(" (window {window})"));
    sentence.push_str(&format!("; it killed n{member}{times}{at}."));
    let rows = clues.trail.watermarks(member);
    let Some((index, shape)) = entry else { return Some(sentence) };
    sentence.push(' ');
    match (clues.trail.snapshot(member), rows.iter().rev().find(|row| row.when.starts_with("dead"))) {
        (Some(at), _) if index == at => sentence.push_str(&format!(
            "It came back by a snapshot that claims to end with raft index {at}, which is this very entry."
        )),
        (Some(at), _) if index < at => {
            sentence
                .push_str(&format!("It came back by a snapshot at raft index {at}, which had to bring this entry."));
        }
        (Some(at), _) => {
            sentence.push_str(&format!("It came back by a snapshot at raft index {at}; this entry followed it."))
        }
        (None, Some(dead)) => sentence.push_str(&recovery(index, shape, dead)),
        (None, None) => {}
    }
    Some(sentence)
}

/// The place of `index` when the member died, and what its recovery had to do with it.
fn recovery(index: u64, shape: Shape, dead: &WatermarksRow) -> String {
    let after = |mark: Option<u64>| mark.map_or(0, |mark| mark + 1);
    let words = |mark: Option<u64>| mark.map_or_else(|| "none".to_owned(), |mark| mark.to_string());
    let (n, e, last) = (words(dead.persisted), words(dead.flushed), words(dead.log_last));
    let lacks = matches!(shape, Shape::Missing | Shape::Skipped(_));
    if index < after(dead.flushed) {
        let place = if index < after(dead.persisted) {
            format!("at or below N = {n} of its dead directory, and the engine claims to hold it (E = {e})")
        } else {
            format!("above N = {n} and at or below E = {e} of its dead directory: the engine claims to hold it")
        };
        let outcome = if lacks {
            "so recovery did not apply it again, and yet its rows are not there"
        } else {
            "so recovery must not apply it again"
        };
        format!("Raft index {index} is {place}, {outcome}.")
    } else if index < after(dead.log_last) {
        let first = if index == after(dead.flushed) { ", the very first one to apply" } else { "" };
        format!(
            "Raft index {index} is above E = {e} of its dead directory (N = {n}): the kill took it from memory, and recovery had to \
             apply it again from the log, which ends at {last}{first}."
        )
    } else {
        format!(
            "Raft index {index} is above all that its dead directory held (N = {n}, E = {e}, log to {last}): it reached this member \
             after its recovery."
        )
    }
}

fn same_rows(clues: &Clues, right: &[u64]) -> String {
    let through = clues.witnesses.iter().filter_map(|witness| Some(witness.shown.as_ref()?.through)).max();
    format!(
        "Every row that {} of revisions {} to {} is as it must be, measured by {}.",
        if right.len() == 1 { format!("{} shows", members(right)) } else { format!("{} show", members(right)) },
        clues.from,
        through.unwrap_or(clues.from),
        source(clues)
    )
}

/// The sentence for a fence at which the rows are right and the hash is not.
fn digests(clues: &Clues) -> Option<String> {
    let wrong: Vec<u64> =
        clues.digests.iter().filter(|(_, (told, must))| told != must).map(|(member, _)| *member).collect();
    let (told, must) = clues.digests.get(wrong.first()?)?;
    let short = |digest: &str| digest.get(..16).unwrap_or(digest).to_owned();
    let (answer, their) = if wrong.len() == 1 { ("answers", "its") } else { ("answer", "their") };
    // Rows of a revision that is compacted since were not compared one by one.
    let whole = clues.from == clues.agreed.1 + 1;
    let state = if whole { "the state is right" } else { "all of the state that can still be compared is right" };
    let all = wrong.len() == clues.digests.len() && wrong.len() > 1;
    let all = if all { " All members answer the same, so comparing them with each other finds nothing." } else { "" };
    Some(format!(
        "At the fence {} {answer} {} for the kv section, and {their} rows make it {}: {state}, and the hash of it is not.{all}",
        members(&wrong),
        short(told),
        short(must)
    ))
}

pub(super) fn list(effects: &[Effect]) -> String {
    let mut words: Vec<String> = effects.iter().take(3).map(Effect::to_string).collect();
    if effects.len() > 3 {
        words.push(format!("{} more", effects.len() - 3));
    }
    words.join(", ")
}

pub(super) fn members(ids: &[u64]) -> String {
    let ids: Vec<String> = ids.iter().map(|id| format!("n{id}")).collect();
    match ids.as_slice() {
        [] => "no members".to_owned(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

pub(super) fn is_or_are(ids: &[u64]) -> &'static str {
    if ids.len() == 1 { "is" } else { "are" }
}
