//! The known findings of a scenario, as a run saw them.

use crate::verdict::{Class, Finding};
use serde::{Deserialize, Serialize};

/// A signature of the scenario, and the findings that it suppressed. A signature without a match
/// has a record as well, because it may be stale.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuppressedRecord {
    pub name: String,
    pub class: Class,
    /// Reason why matching findings may be left out of the verdict.
    pub because: String,
    /// Findings that matched.
    pub count: u64,
    /// The first of them, by cycle and then by cluster; those of no cycle come last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<Finding>,
}

impl SuppressedRecord {
    /// Adds another cluster's findings under the same signature.
    fn add(&mut self, other: Self) {
        let when = |finding: &Finding| (finding.cycle.unwrap_or(u32::MAX), finding.cluster);
        self.count += other.count;
        self.first = self.first.take().into_iter().chain(other.first).min_by_key(when);
    }
}

/// Adds `more` to `records`, signature by signature.
pub fn add(records: &mut Vec<SuppressedRecord>, more: Vec<SuppressedRecord>) {
    for one in more {
        match records.iter_mut().find(|record| record.name == one.name) {
            Some(record) => record.add(one),
            None => records.push(one),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &str, count: u64, first: Option<Finding>) -> SuppressedRecord {
        SuppressedRecord { name: name.into(), class: Class::Model, because: "b".into(), count, first }
    }

    #[test]
    fn clusters_add_up_and_the_earliest_finding_is_the_first() {
        let at = |cycle| Some(Finding::of_class(Class::Model).in_cycle(cycle));
        let mut records = vec![record("x", 0, None), record("y", 0, None)];
        add(&mut records, vec![record("x", 2, at(9)), record("y", 1, Some(Finding::of_class(Class::Model)))]);
        add(&mut records, vec![record("x", 3, at(4)), record("y", 1, at(7))]);
        assert_eq!(records, [record("x", 5, at(4)), record("y", 2, at(7))]);
    }
}
