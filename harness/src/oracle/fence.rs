//! Promise: at a fence all replicas have one state, section by section, and it is the state that the history
//! leads to.
//!
//! A fence's answers are readings at exactly one raft index, so a difference is a divergence: no second
//! reading is needed.

use super::Alarms;
use super::ledger::{Books, FenceMark};
use crate::verdict::{Class, Finding};
use node_proto::control::{FenceAnswerResponse as Answer, RecoveryResponse};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// Judges the answers of all replicas for one fence that was proposed after `mark` was taken. The caller has
/// waited until the watch streams delivered the fence's revision, or has given up waiting.
pub(super) fn check_fence(books: &mut Books, cycle: u32, mark: &FenceMark, answers: &[(u64, Answer)]) -> Vec<Finding> {
    let mut findings = compare_replicas(answers);
    if let (Some((_, answer)), true) = (answers.first(), findings.is_empty()) {
        let mut alarms = Alarms::new();
        judge_agreed(books, mark, answer, &mut alarms);
        if alarms.is_empty() {
            let Books { replay, model, .. } = &mut *books;
            replay.fenced(answer, model);
        }
        books.writes.tidy();
        findings.extend(alarms);
    }
    // Whatever is wrong with the replicas, what clients were told is evidence of its own; the ledger keeps what it finds.
    books.judge_linearizability();
    findings.into_iter().map(|finding| finding.in_cycle(cycle)).collect()
}

/// A fence is missed rightly only where recovery or a snapshot covered its index. A member that applied that index by
/// itself, and found no fence there, has another log than the member that committed one.
pub(super) fn check_missed(cycle: u32, member: u64, index: u64, recovery: &RecoveryResponse) -> Option<Finding> {
    let why = format!(
        "expected n{member} to find the fence at raft index {index}, where it was committed; it applied that index, \
         and found another entry: the logs have diverged"
    );
    let diverged = applied_by_itself(recovery, index);
    diverged.then(|| Finding::new(Class::StateHash, why).in_cycle(cycle).at_member(member))
}

/// Whether the life that `recovery` tells of applied `index` entry by entry. With a snapshot in that life: not certainly.
fn applied_by_itself(recovery: &RecoveryResponse, index: u64) -> bool {
    recovery.snapshot_installed.is_none()
        && recovery.scan_start.is_some_and(|start| start <= index)
        && recovery.verified.is_none_or(|verified| verified.last < index)
}

/// A part of an answer: its name, and how to print it.
type Part = (&'static str, fn(&Answer) -> String);

/// Replicas against each other: every part of the answer must be the same.
fn compare_replicas(answers: &[(u64, Answer)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (member, answer) in answers {
        if answer.missed {
            let why = "a missed fence was given to the judge; it needs another fence that every member applies";
            findings.push(Finding::new(Class::HarnessError, why).at_member(*member));
        }
    }
    if answers.is_empty() {
        findings.push(Finding::new(Class::HarnessError, "a fence without answers was given to the judge"));
    }
    if !findings.is_empty() {
        return findings;
    }
    let index = answers[0].1.index;
    let parts: [Part; 9] = [
        ("index", |a| a.index.to_string()),
        ("term", |a| a.term.to_string()),
        ("revision", |a| a.revision.to_string()),
        ("compact revision", |a| a.compact_revision.to_string()),
        ("kv section", |a| format!("{} ({} rows)", short(&a.kv), a.kv_rows)),
        ("lease section", |a| short(&a.lease)),
        ("auth section", |a| short(&a.auth)),
        ("membership section", |a| short(&a.membership)),
        ("lease list", |a| format!("{:?}", lease_list(a))),
    ];
    for (part, of) in parts {
        let mut groups: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for (member, answer) in answers {
            groups.entry(of(answer)).or_default().push(*member);
        }
        if groups.len() > 1 {
            findings.push(disagreement(&format!("at the fence of raft index {index}"), part, &groups));
        }
    }
    findings
}

/// `groups`: members by what they say. One against several is named; who is right, only the model knows.
pub(super) fn disagreement(at: &str, part: &str, groups: &BTreeMap<String, Vec<u64>>) -> Finding {
    let words: Vec<String> = groups
        .iter()
        .map(|(value, members)| {
            let members: Vec<String> = members.iter().map(|member| format!("n{member}")).collect();
            let says = if members.len() == 1 { "says" } else { "say" };
            format!("{} {says} {value}", members.join(" and "))
        })
        .collect();
    let sentence = format!("{at} the replicas disagree on the {part}: {}", words.join("; "));
    let total: usize = groups.values().map(Vec::len).sum();
    let odd = groups.values().find(|members| members.len() == 1 && total > 2 && groups.len() == 2);
    let finding = Finding::new(Class::StateHash, sentence);
    match odd {
        Some(members) => finding.at_member(members[0]),
        None => finding,
    }
}

/// All replicas against what must be.
fn judge_agreed(books: &mut Books, mark: &FenceMark, answer: &Answer, alarms: &mut Alarms) {
    let (Ok(revision), Ok(compact)) = (u64::try_from(answer.revision), u64::try_from(answer.compact_revision.max(0)))
    else {
        alarms.push(Finding::new(
            Class::Model,
            format!("the fence of raft index {} has revision {}", answer.index, answer.revision),
        ));
        return;
    };
    let at = format!("the fence of raft index {} (revision {revision}, compact revision {compact})", answer.index);
    if revision < mark.revision_min {
        let had = mark.revision_min;
        alarms.push(Finding::new(
            Class::LostWrite,
            format!("{at} was proposed after revision {had} was acknowledged or delivered"),
        ));
        return;
    }
    judge_compaction(books, mark, compact, &at, alarms);
    judge_kv(books, answer, (revision, compact), &at, alarms);
    judge_leases(books, mark, answer, &at, alarms);
    if answer.auth != Sha256::digest(b"").as_slice() {
        let found = short(&answer.auth);
        alarms.push(Finding::new(
            Class::Model,
            format!("{at}: the auth section is {found}, and must be that of no users and no roles"),
        ));
    }
}

pub(super) fn judge_compaction(books: &Books, mark: &FenceMark, compact: u64, at: &str, alarms: &mut Alarms) {
    if compact < mark.compact_min {
        let had = mark.compact_min;
        alarms.push(Finding::new(
            Class::LostWrite,
            format!("{at} was proposed after a compaction at {had} was acknowledged"),
        ));
    }
    if compact > books.compact_sent {
        let sent = books.compact_sent;
        alarms.push(Finding::new(
            Class::Phantom,
            format!("{at}: the highest compaction that anybody asked for is {sent}"),
        ));
    }
}

/// Whether the watches have delivered `revision`, so that the model can judge a fence there. If not, that is counted, or said.
pub(super) fn history_reaches(books: &mut Books, revision: u64, at: &str, alarms: &mut Alarms) -> bool {
    let known = books.model.revision();
    if revision <= known {
        return true;
    }
    // A broken watch is a finding of its own, and explains why the model stands still.
    if books.watch_broken {
        books.tally.fences_uncompared += 1;
    } else {
        let why = format!("{at} cannot be judged: the watches have delivered {known} only");
        alarms.push(Finding::new(Class::HarnessError, why));
    }
    false
}

fn judge_kv(books: &mut Books, answer: &Answer, (revision, compact): (u64, u64), at: &str, alarms: &mut Alarms) {
    if !history_reaches(books, revision, at, alarms) {
        return;
    }
    match books.model.digest(revision, compact) {
        Err(why) => alarms.push(Finding::new(Class::Model, format!("{at}: {why}"))),
        Ok(digest) if digest.sha256 != answer.kv.as_slice() => {
            // A lost write that the ledger has proved says more than a digest.
            if !books.lost_write {
                alarms.push(Finding::new(
                    Class::Model,
                    format!(
                        "{at}: all replicas agree on kv section {} ({} rows), and the history makes it {} ({} rows)",
                        short(&answer.kv),
                        answer.kv_rows,
                        short(&digest.sha256),
                        digest.rows
                    ),
                ));
            }
        }
        Ok(digest) if digest.rows != answer.kv_rows => {
            let (told, counted) = (answer.kv_rows, digest.rows);
            alarms.push(Finding::new(
                Class::Model,
                format!("{at}: the kv section is right, but {told} rows are claimed of {counted}"),
            ));
        }
        Ok(_) => {}
    }
}

fn judge_leases(books: &mut Books, mark: &FenceMark, answer: &Answer, at: &str, alarms: &mut Alarms) {
    let list = lease_list(answer);
    let mut section = Sha256::new();
    for (id, ttl) in &list {
        section.update(id.to_be_bytes());
        section.update(ttl.to_be_bytes());
    }
    if section.finalize().as_slice() != answer.lease || !list.is_sorted_by(|a, b| a.0 < b.0) {
        alarms.push(Finding::new(
            Class::Model,
            format!("{at}: the lease section is not the digest of the lease list beside it"),
        ));
    }
    let before = alarms.len();
    let known: Vec<_> = list.iter().map(|(id, ttl)| (*id, Some(*ttl))).collect();
    books.leases.judge(&mark.leases, &known, alarms);
    books.leases.forget(&mark.leases);
    for Finding { sentence, .. } in &mut alarms[before..] {
        *sentence = format!("{at}: {sentence}");
    }
}

fn lease_list(answer: &Answer) -> Vec<(i64, i64)> {
    answer.leases.iter().map(|lease| (lease.id, lease.granted_ttl_seconds)).collect()
}

/// The first eight bytes of a digest, in hex.
fn short(digest: &[u8]) -> String {
    let hex: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    if hex.is_empty() { "(none)".to_owned() } else { hex }
}

#[cfg(test)]
mod tests;
