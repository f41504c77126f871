//! What must hold, and the judges of it. Nothing here talks to a live node: a judge is given evidence and
//! answers with findings.
//!
//! | file | promise |
//! | --- | --- |
//! | [`ledger`] | the one place where evidence meets: operations, watch streams, the model |
//! | `durability` | every acknowledged write is there, at its revision, with its effects; nothing else is |
//! | `reads` | what a read returned is what the model holds at that revision |
//! | `leases` | acknowledged grants are there, acknowledged revocations are not |
//! | `streams` | watches are ordered, gap-free, atomic per revision, without duplicates across a crash |
//! | [`fence`] | at a fence all replicas have one state, and it is the model's |
//! | [`replay_start`] | a restart begins where the dead directory says, and skips and repeats nothing |
//! | [`last_look`] | a full read at the end holds the model's rows, no fewer and no more |
//!
//! Readings are compared at an exact revision or raft index, never "now": a second reading could not differ,
//! so an alarm needs none. Whoever judges a reading without such an anchor has to wait and read again first.

mod durability;
pub mod fence;
pub mod last_look;
mod leases;
pub mod ledger;
mod predict;
mod reads;
pub mod replay_start;
mod streams;

pub use fence::check_fence;
pub use last_look::final_check;
pub use ledger::{FenceMark, Ledger, Tally};
pub use replay_start::{Restart, Vote, check_dead, check_replay_start, check_vote};

use crate::verdict::{Class, Finding};

/// Classes from cause to symptom. One bug raises several alarms (a replica that lost a delete also answers
/// reads and watches wrongly); the first of these that is present names the bug best.
const CAUSE_FIRST: [Class; 15] = [
    Class::IndexAheadOfEngine,
    Class::PurgedAboveN,
    Class::RefusedAfterOwnCrash,
    Class::VoteWentBack,
    Class::SnapshotTransfer,
    Class::StateHash,
    Class::LostWrite,
    Class::ReplayStart,
    Class::Phantom,
    Class::Model,
    Class::Watch,
    Class::NodeDied,
    Class::Liveness,
    Class::HarnessError,
    Class::NotProven,
];

/// Sorts findings from cause to symptom, and by cycle within a class. The sort is stable.
pub fn cause_first(findings: &mut [Finding]) {
    let rank = |class| CAUSE_FIRST.iter().position(|one| *one == class).unwrap_or(CAUSE_FIRST.len());
    findings.sort_by_key(|finding| (rank(finding.class), finding.cycle));
}

/// Alarms raised while judging one piece of evidence; the ledger turns them into findings.
type Alarms = Vec<(Class, String)>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_comes_before_its_symptoms() {
        let mut findings = [Class::Watch, Class::LostWrite, Class::StateHash].map(|class| Finding::new(class, ""));
        cause_first(&mut findings);
        assert_eq!(findings.map(|finding| finding.class), [Class::StateHash, Class::LostWrite, Class::Watch]);
    }
}
