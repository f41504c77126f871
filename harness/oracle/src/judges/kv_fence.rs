//! Promise: at one revision all replicas hold the same keys, with the same history since the
//! compaction, and they are the model's; a lease is known where it must be, and nowhere else.
//!
//! Each member gives three readings: its own HashKV, our digest of all keys that a serializable
//! range shows, and its leases. None of them is trusted alone. The first two are compared between
//! members and with the model: for servers whose rows are known the model says what HashKV has to
//! be.

use super::Alarms;
use super::fence::{history_reaches, judge_compaction};
use super::ledger::{Baseline, Books};
use crate::model::predicts_hash_kv;
use ninelives_evidence::KvAnswer;
use ninelives_evidence::hex::hex;
use ninelives_evidence::verdict::Finding;
use ninelives_evidence::verdict::findings::parts::{Anchor, Part};
use ninelives_evidence::verdict::findings::{Harness, Replicas};
use std::collections::BTreeMap;

/// Judges the states that all members showed at `revision`, which was read after `baseline` was
/// taken. The caller has waited until the watch streams delivered the revision, or has given up
/// waiting. `etcd`: the members are etcd's own.
pub(super) fn check_kv_fence(
    books: &mut Books,
    cycle: u32,
    baseline: &Baseline,
    (revision, etcd): (u64, bool),
    answers: &[KvAnswer],
) -> Vec<Finding> {
    let Some(first) = answers.first() else {
        return vec![Finding::new(Harness::UnansweredFenceJudged {}).in_cycle(cycle)];
    };
    let at = Anchor::Revision { revision, compact_revision: first.compact_revision };
    let mut findings = compare_replicas(answers, revision, at);
    let comparable = answers.iter().all(|answer| answer.compact_revision == first.compact_revision);
    if comparable {
        judge_state(books, baseline, (revision, etcd), answers, at, &mut findings);
    } else {
        books.tally.fences_uncompared += 1;
    }
    for answer in answers {
        let mut wrong = Alarms::new();
        let ids: Vec<_> = answer.leases.iter().map(|id| (*id, None)).collect();
        books.leases.book.judge(&baseline.leases, at, &ids, &mut wrong);
        findings.extend(wrong.into_iter().map(|alarm| alarm.at_member(answer.member)));
    }
    books.leases.book.forget(&baseline.leases);
    if findings.is_empty() {
        books.fences.agreed = Some((answers.iter().map(|answer| answer.applied).min().unwrap_or(0), revision));
    }
    books.operations.writes.tidy();
    books.judge_linearizability();
    findings.into_iter().map(|finding| finding.in_cycle(cycle)).collect()
}

/// A part of an answer, and how to print it.
type Printed = (Part, fn(&KvAnswer) -> String);

fn compare_replicas(answers: &[KvAnswer], revision: u64, at: Anchor) -> Vec<Finding> {
    let parts: [Printed; 3] = [
        (Part::CompactRevision, |a| a.compact_revision.to_string()),
        (Part::HashKv, |a| format!("{:08x}", a.hash_kv)),
        (Part::Keys, |a| format!("{} ({} keys)", &hex(&a.sha256)[..16], a.rows)),
    ];
    let disagreement = |(part, of): Printed| {
        let mut groups: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for answer in answers {
            groups.entry(of(answer)).or_default().push(answer.member);
        }
        (groups.len() > 1).then(|| super::fence::disagreement(at, part, &groups).at_revision(revision))
    };
    parts.into_iter().filter_map(disagreement).collect()
}

/// Compares each member with the model.
fn judge_state(
    books: &mut Books,
    baseline: &Baseline,
    (revision, etcd): (u64, bool),
    answers: &[KvAnswer],
    at: Anchor,
    findings: &mut Vec<Finding>,
) {
    if revision < baseline.revision_min {
        findings.push(Finding::new(Replicas::RevisionTooLow { at, acknowledged: baseline.revision_min }));
        return;
    }
    let compact = answers.first().map_or(0, |answer| answer.compact_revision);
    judge_compaction(books, baseline, compact, at, findings);
    if !history_reaches(books, revision, at, findings) {
        return;
    }
    let keys = match books.model.live_digest(revision) {
        Ok(keys) => keys,
        Err(why) => {
            findings.push(Finding::new(Replicas::ModelCannotJudge { at, why }));
            return;
        }
    };
    // The model is asked in any case, because the question executes the compaction.
    let hash = books.model.hash_kv(revision, compact).filter(|_| etcd);
    for answer in answers {
        let member = answer.member;
        // A lost write that the ledger has proved says more than a digest.
        if answer.sha256 != keys.sha256 && !books.findings.lost_write {
            let short = |digest: &[u8]| hex(digest)[..16].to_owned();
            let what = Replicas::KeysDiffer {
                at,
                member,
                found: short(&answer.sha256),
                keys: answer.rows,
                expected: short(&keys.sha256),
                keys_expected: keys.rows,
            };
            findings.push(Finding::new(what).at_member(member).at_revision(revision));
        }
        if let Some(hash) = hash.filter(|hash| predicts_hash_kv(&answer.version) && *hash != answer.hash_kv) {
            let (found, expected) = (format!("{:08x}", answer.hash_kv), format!("{hash:08x}"));
            let what = Replicas::HashKvDiffers { at, member, found, expected };
            findings.push(Finding::new(what).at_member(member).at_revision(revision));
        }
    }
}

#[cfg(test)]
mod tests;
