//! Promise: at a fence all replicas have one state, section by section, and it is the state that
//! the history leads to.
//!
//! A fence's answers are readings at exactly one raft index, so a difference is a divergence: no
//! second reading is needed.

use super::Alarms;
use super::ledger::{Baseline, Books};
use ninelives_evidence::hex::hex;
use ninelives_evidence::verdict::Finding;
use ninelives_evidence::verdict::findings::parts::{Anchor, Part, Says};
use ninelives_evidence::verdict::findings::{Harness, Replicas};
use ninelives_evidence::{FenceAnswer as Answer, Recovered};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// Judges the answers of all replicas for one fence that was proposed after `baseline` was taken.
/// The caller has waited until the watch streams delivered the fence's revision, or has given up
/// waiting.
pub(super) fn check_fence(
    books: &mut Books,
    cycle: u32,
    baseline: &Baseline,
    answers: &[(u64, Answer)],
) -> Vec<Finding> {
    let mut findings = compare_replicas(answers);
    if let (Some((_, answer)), true) = (answers.first(), findings.is_empty()) {
        let mut alarms = Alarms::new();
        judge_agreed(books, baseline, answer, &mut alarms);
        if alarms.is_empty() {
            let Books { replay, model, .. } = &mut *books;
            replay.fenced(answer, model);
        }
        books.operations.writes.tidy();
        findings.extend(alarms);
    }
    // Answers to clients are evidence of their own, whatever is wrong with the replicas; the ledger
    // keeps the findings from them.
    books.judge_linearizability();
    findings.into_iter().map(|finding| finding.in_cycle(cycle)).collect()
}

/// A member may miss a fence only if recovery or a snapshot covered its index. A member that
/// applied that index entry by entry, and found no fence there, has a different log from the member
/// that committed the fence.
pub(super) fn check_missed(cycle: u32, member: u64, index: u64, recovery: &Recovered) -> Option<Finding> {
    let diverged = applied_by_itself(recovery, index);
    diverged.then(|| Finding::new(Replicas::FenceNotFound { member, index }).in_cycle(cycle).at_member(member))
}

/// Whether the life that `recovery` tells of certainly applied `index` entry by entry. After a
/// snapshot in that life it is not certain.
fn applied_by_itself(recovery: &Recovered, index: u64) -> bool {
    recovery.snapshot_installed.is_none()
        && recovery.scan_start.is_some_and(|start| start <= index)
        && recovery.verified.is_none_or(|verified| verified.last < index)
}

/// A part of an answer, and the function that prints it.
type Printed = (Part, fn(&Answer) -> String);

/// Compares replicas with each other: every part of the answer must be the same.
fn compare_replicas(answers: &[(u64, Answer)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (member, answer) in answers {
        if answer.missed {
            findings.push(Finding::new(Harness::MissedFenceJudged {}).at_member(*member));
        }
    }
    if answers.is_empty() {
        findings.push(Finding::new(Harness::UnansweredFenceJudged {}));
    }
    if !findings.is_empty() {
        return findings;
    }
    let index = answers[0].1.index;
    let parts: [Printed; 9] = [
        (Part::Index, |a| a.index.to_string()),
        (Part::Term, |a| a.term.to_string()),
        (Part::Revision, |a| a.revision.to_string()),
        (Part::CompactRevision, |a| a.compact_revision.to_string()),
        (Part::KvSection, |a| format!("{} ({} rows)", short(&a.kv), a.kv_rows)),
        (Part::LeaseSection, |a| short(&a.lease)),
        (Part::AuthSection, |a| short(&a.auth)),
        (Part::MembershipSection, |a| short(&a.membership)),
        (Part::LeaseList, |a| format!("{:?}", lease_list(a))),
    ];
    for (part, of) in parts {
        let mut groups: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for (member, answer) in answers {
            groups.entry(of(answer)).or_default().push(*member);
        }
        if groups.len() > 1 {
            findings.push(disagreement(Anchor::Fence { index }, part, &groups));
        }
    }
    findings
}

/// `groups`: members by their answers. If one member differs from several, the finding names it;
/// only the model knows which side is right.
pub(super) fn disagreement(at: Anchor, part: Part, groups: &BTreeMap<String, Vec<u64>>) -> Finding {
    let says = groups.iter().map(|(value, members)| Says { members: members.clone(), value: value.clone() }).collect();
    let total: usize = groups.values().map(Vec::len).sum();
    let odd = groups.values().find(|members| members.len() == 1 && total > 2 && groups.len() == 2);
    let finding = Finding::new(Replicas::ReplicasDisagree { at, part, says });
    match odd {
        Some(members) => finding.at_member(members[0]),
        None => finding,
    }
}

/// Compares all replicas with the model.
fn judge_agreed(books: &mut Books, baseline: &Baseline, answer: &Answer, alarms: &mut Alarms) {
    let (Ok(revision), Ok(compact)) = (u64::try_from(answer.revision), u64::try_from(answer.compact_revision.max(0)))
    else {
        let (index, revision) = (answer.index, answer.revision);
        alarms.push(Finding::new(Replicas::NegativeRevision { index, revision }));
        return;
    };
    let at = Anchor::Agreed { index: answer.index, revision, compact_revision: compact };
    if revision < baseline.revision_min {
        alarms.push(Finding::new(Replicas::RevisionTooLow { at, acknowledged: baseline.revision_min }));
        return;
    }
    judge_compaction(books, baseline, compact, at, alarms);
    judge_kv(books, answer, (revision, compact), at, alarms);
    judge_leases(books, baseline, answer, at, alarms);
    if answer.auth != Sha256::digest(b"").as_slice() {
        alarms.push(Finding::new(Replicas::AuthSectionNotEmpty { at, found: short(&answer.auth) }));
    }
}

pub(super) fn judge_compaction(books: &Books, baseline: &Baseline, compact: u64, at: Anchor, alarms: &mut Alarms) {
    if compact < baseline.compact_min {
        alarms.push(Finding::new(Replicas::CompactionLost { at, acknowledged: baseline.compact_min }));
    }
    if compact > books.compactions.sent {
        alarms.push(Finding::new(Replicas::CompactionUnasked { at, asked: books.compactions.sent }));
    }
}

/// Whether the watches have delivered `revision`, so that the model can judge a fence there. If
/// not, that is counted, or is a finding.
pub(super) fn history_reaches(books: &mut Books, revision: u64, at: Anchor, alarms: &mut Alarms) -> bool {
    let known = books.model.revision();
    if revision <= known {
        return true;
    }
    // A broken watch is a finding of its own, and explains the standstill of the model.
    if books.findings.watch_broken {
        books.tally.fences_uncompared += 1;
    } else {
        alarms.push(Finding::new(Replicas::HistoryTooShort { at, delivered: known }));
    }
    false
}

fn judge_kv(books: &mut Books, answer: &Answer, (revision, compact): (u64, u64), at: Anchor, alarms: &mut Alarms) {
    if !history_reaches(books, revision, at, alarms) {
        return;
    }
    match books.model.digest(revision, compact) {
        Err(why) => alarms.push(Finding::new(Replicas::ModelCannotJudge { at, why })),
        Ok(digest) if digest.sha256 != answer.kv.as_slice() => {
            // A lost write that the ledger has proved says more than a digest.
            if !books.findings.lost_write {
                alarms.push(Finding::new(Replicas::KvSectionDiffers {
                    at,
                    found: short(&answer.kv),
                    rows: answer.kv_rows,
                    expected: short(&digest.sha256),
                    rows_expected: digest.rows,
                }));
            }
        }
        Ok(digest) if digest.rows != answer.kv_rows => {
            let (told, counted) = (answer.kv_rows, digest.rows);
            alarms.push(Finding::new(Replicas::KvRowsMiscounted { at, claimed: told, counted }));
        }
        Ok(_) => {}
    }
}

fn judge_leases(books: &mut Books, baseline: &Baseline, answer: &Answer, at: Anchor, alarms: &mut Alarms) {
    let list = lease_list(answer);
    let mut section = Sha256::new();
    for (id, ttl) in &list {
        section.update(id.to_be_bytes());
        section.update(ttl.to_be_bytes());
    }
    if section.finalize().as_slice() != answer.lease || !list.is_sorted_by(|a, b| a.0 < b.0) {
        alarms.push(Finding::new(Replicas::LeaseSectionNotItsList { at }));
    }
    let known: Vec<_> = list.iter().map(|(id, ttl)| (*id, Some(*ttl))).collect();
    books.leases.book.judge(&baseline.leases, at, &known, alarms);
    books.leases.book.forget(&baseline.leases);
}

fn lease_list(answer: &Answer) -> Vec<(i64, i64)> {
    answer.leases.iter().map(|lease| (lease.id, lease.granted_ttl_seconds)).collect()
}

/// The first eight bytes of a digest, in hex.
fn short(digest: &[u8]) -> String {
    let hex = hex(&digest[..digest.len().min(8)]);
    if hex.is_empty() { "(none)".to_owned() } else { hex }
}

#[cfg(test)]
mod tests;
