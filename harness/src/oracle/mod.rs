//! The promises, and their judges. No judge talks to a live node: it is given evidence and
//! answers with findings.
//!
//! | file | promise |
//! | --- | --- |
//! | [`ledger`] | the one place where evidence meets: operations, watch streams, the model |
//! | `judge` | which piece of evidence goes to which judge |
//! | `raised` | the one queue by which findings leave, each with the evidence that raised it |
//! | `sums` | what a cluster's part of a run adds up to |
//! | `asked` | an operation in a sentence: what was asked, and of whom |
//! | `durability` | every acknowledged write is there, at its revision, with its effects; nothing else is |
//! | `exactly_once` | what was asked for once happened at most once, and counts for one |
//! | [`linearizability`] | one order of all operations explains every answer, and keeps real time |
//! | `refusals` | (none by itself) how many operations were refused, and why |
//! | `reads` | what a read returned is what the model holds at that revision |
//! | `sessions` | a member never answers from before what it acknowledged itself |
//! | `leases` | acknowledged grants are there, acknowledged revocations are not |
//! | `lease_clock` | a lease lives as long as was acknowledged, and no longer than it has to |
//! | [`streams`] | watches are ordered, gap-free, atomic per revision, without duplicates across a crash, and resumable |
//! | [`liveness`] | a connected majority serves beside a cut, and a healed cluster serves again, within their bounds |
//! | [`fence`] | at a fence all replicas have one state, and it is the model's |
//! | [`kv_fence`] | at a revision all replicas show the same keys and history, and they are the model's |
//! | [`replay_start`] | a restart begins where the dead directory says, and skips and repeats nothing |
//! | [`log_replay`] | the committed entries of the raft logs, replayed, make what the watches delivered |
//! | [`votes`] | a vote never goes back, and a term has one leader |
//! | [`watermarks`] | within one life marks stand in their order and never go back |
//! | [`migration`] | a change of engine, interrupted or not, keeps what it found |
//! | [`last_read`] | a full read at the end holds the model's rows, no fewer and no more |
//!
//! Readings are compared at an exact revision or raft index, never "now": a second reading could
//! not differ, so an alarm needs none. A judge of readings without such an anchor has to wait and
//! read again first.

mod asked;
mod durability;
mod exactly_once;
pub mod fence;
mod judge;
pub mod kv_fence;
pub mod last_read;
pub mod lease_clock;
mod leases;
pub mod ledger;
pub mod linearizability;
pub mod liveness;
pub mod log_replay;
pub mod migration;
mod predict;
mod raised;
mod reads;
mod refusals;
pub mod replay_start;
mod sessions;
pub mod streams;
mod sums;
pub mod votes;
pub mod watermarks;

use fence::{check_fence, check_missed};
use kv_fence::check_kv_fence;
use last_read::check_last_read;
pub use ledger::{FenceMark, Ledger};
use migration::check_kept;
pub use migration::settle_index;
pub use raised::{LISTED_PER_CLASS_MAX, Origin, Raised};
pub use replay_start::Restart;
pub use sums::{Sums, Tally};
pub use votes::Vote;

use crate::verdict::{Class, Finding};

/// Classes from cause to symptom. One bug raises several alarms (a replica that lost a delete also
/// answers reads and watches wrongly); the first of these that is present names the bug best.
pub(crate) const CAUSE_FIRST: [Class; 21] = [
    Class::IndexAheadOfEngine,
    Class::PurgedAboveN,
    Class::RaftLog,
    Class::RefusedAfterOwnCrash,
    Class::VoteWentBack,
    Class::StateHash,
    Class::LostWrite,
    Class::ReplayStart,
    Class::ExactlyOnce,
    Class::Lease,
    Class::Phantom,
    Class::Watermarks,
    Class::Model,
    Class::Linearizability,
    Class::Watch,
    Class::NodeDied,
    Class::SnapshotTransfer,
    Class::Liveness,
    Class::MachineExhausted,
    Class::HarnessError,
    Class::NotProven,
];

/// Sorts findings from cause to symptom, and by cycle within a class. The sort is stable.
pub fn cause_first(findings: &mut [Finding]) {
    let rank = |class| CAUSE_FIRST.iter().position(|one| *one == class).unwrap_or(CAUSE_FIRST.len());
    findings.sort_by_key(|finding| (rank(finding.class()), finding.cycle));
}

/// Findings of one class that a report keeps: the first says what broke, the next few show the
/// shape, and a hundred more of the same would bury them.
const KEPT_PER_CLASS: usize = 4;

/// Sorts findings by [`cause_first`] and drops the tail of each class, counting it in the last one
/// that is kept.
pub fn condense(mut findings: Vec<Finding>) -> Vec<Finding> {
    cause_first(&mut findings);
    let mut kept: Vec<Finding> = Vec::new();
    for same in findings.chunk_by(|a, b| a.class() == b.class()) {
        kept.extend_from_slice(&same[..same.len().min(KEPT_PER_CLASS)]);
        if let Some(last) = kept.last_mut() {
            last.more = same.len().saturating_sub(KEPT_PER_CLASS) as u64;
        }
    }
    kept
}

/// Alarms raised while judging one piece of evidence: findings without a cycle, and without a
/// member unless they are about what one answered. The ledger adds both as far as it knows them.
pub type Alarms = Vec<Finding>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_of_a_class_is_counted_not_listed() {
        let mut findings = vec![Finding::of_class(Class::Watch); 9];
        findings.push(Finding::of_class(Class::StateHash));
        let kept = condense(findings);
        assert_eq!(kept.len(), 1 + KEPT_PER_CLASS);
        assert_eq!((kept[0].class(), kept[0].more), (Class::StateHash, 0));
        assert!(kept.last().unwrap().to_string().ends_with(" (and 5 more of this class; history.jsonl has them all)"));
        assert_eq!(condense(vec![Finding::of_class(Class::Watch); KEPT_PER_CLASS]).last().unwrap().more, 0);
    }

    #[test]
    fn a_cause_comes_before_its_symptoms() {
        let mut findings = [Class::Watch, Class::LostWrite, Class::StateHash].map(Finding::of_class);
        cause_first(&mut findings);
        assert_eq!(findings.map(|finding| finding.class()), [Class::StateHash, Class::LostWrite, Class::Watch]);
    }
}
