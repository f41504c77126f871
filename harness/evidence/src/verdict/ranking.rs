//! The order of findings in a report, from cause to symptom, and how many of them it keeps.

use super::{Class, Finding};

/// Classes from cause to symptom. One bug raises several alarms (a replica that lost a delete also
/// answers reads and watches wrongly); the first of these that is present names the bug best.
pub(super) const CAUSE_FIRST: [Class; 22] = [
    Class::FailedSyncBelieved,
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
        assert!(kept.last().unwrap().to_string().ends_with(" (and 5 more of this class; the history has them all)"));
        assert_eq!(condense(vec![Finding::of_class(Class::Watch); KEPT_PER_CLASS]).last().unwrap().more, 0);
    }

    #[test]
    fn a_cause_comes_before_its_symptoms() {
        let mut findings = [Class::Watch, Class::LostWrite, Class::StateHash].map(Finding::of_class);
        cause_first(&mut findings);
        assert_eq!(findings.map(|finding| finding.class()), [Class::StateHash, Class::LostWrite, Class::Watch]);
    }
}
