//! The one way out for findings: a queue, in which each finding names the piece of evidence that
//! raised it.

use ninelives_evidence::EvidenceKind;
use ninelives_evidence::verdict::{Class, Finding};
use std::collections::BTreeMap;

/// Findings of one class that a cycle lists. A diverged store breaks every promise at once, and the
/// first hundred alarms say all that the next million would; those are counted.
pub const LISTED_PER_CLASS_MAX: u64 = 100;

/// A piece of evidence: its line in the history, from 1, and its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    pub line: u64,
    pub kind: EvidenceKind,
}

/// A finding, and the piece of evidence that raised it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raised {
    pub finding: Finding,
    pub by: Origin,
}

/// Findings that were raised and not yet drained.
#[derive(Debug, Default)]
pub(super) struct Queue {
    raised: Vec<Raised>,
    /// By class, how many were raised since the cycle began. It follows from the evidence alone, so
    /// a fold lists the same ones.
    pub of_cycle: BTreeMap<Class, u64>,
    /// Findings that are counted and not listed.
    pub unlisted: u64,
}

impl Queue {
    /// A cycle begins: it lists as many as any other.
    pub fn begin_cycle(&mut self) {
        self.of_cycle.clear();
    }

    pub fn push(&mut self, finding: Finding, by: Origin) {
        let raised = self.of_cycle.entry(finding.class()).or_default();
        *raised += 1;
        if *raised > LISTED_PER_CLASS_MAX {
            self.unlisted += 1;
        } else {
            self.raised.push(Raised { finding, by });
        }
    }

    pub fn drain(&mut self) -> Vec<Raised> {
        std::mem::take(&mut self.raised)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_one_class_is_counted_and_drowns_no_other() {
        let (mut queue, by) = (Queue::default(), Origin { line: 7, kind: EvidenceKind::Done });
        let all = LISTED_PER_CLASS_MAX + 5;
        (0..all).for_each(|_| queue.push(Finding::of_class(Class::Watch), by));
        queue.push(Finding::of_class(Class::StateHash), by);
        let drained = queue.drain();
        assert_eq!(drained.len() as u64, LISTED_PER_CLASS_MAX + 1);
        assert_eq!(drained.last().map(|last| (last.finding.class(), last.by)), Some((Class::StateHash, by)));
        assert_eq!((queue.unlisted, queue.drain()), (5, vec![]));
        queue.begin_cycle();
        queue.push(Finding::of_class(Class::Watch), by);
        assert_eq!((queue.unlisted, queue.drain().len()), (5, 1));
    }
}
