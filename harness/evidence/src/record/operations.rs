//! The outcomes of a run's operations, by the kind of step that asked for them.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The operations of one kind that one kind of step asked for: `block` reads (`read`), then writes
/// (`txn`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRecord {
    pub step: String,
    pub action: String,
    /// The step asks for something that has to be refused.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub always_refused: bool,
    /// Answered as done.
    pub done: u64,
    /// Refused by the server, or by the client library before it was sent.
    pub refused: u64,
    /// Refused by the server, and that was a good answer.
    pub expected: u64,
    /// The answer never came.
    pub unknown: u64,
    /// No member served to send it to.
    pub not_sent: u64,
    /// Refusals by their reason: gRPC code and the class of the text.
    pub reasons: BTreeMap<String, u64>,
}

impl StepRecord {
    /// Operations that reached a member.
    pub fn sent(&self) -> u64 {
        self.done + self.refused + self.expected + self.unknown
    }

    /// The share in per cent, rounded down, that was carried out, among the answered operations
    /// that had to be; `None`: there were none.
    pub fn carried_out_percent(&self) -> Option<u64> {
        (self.done * 100).checked_div(self.done + self.refused)
    }

    /// `block txn`.
    pub fn title(&self) -> String {
        if self.step == self.action { self.step.clone() } else { format!("{} {}", self.step, self.action) }
    }

    fn add(&mut self, other: Self) {
        self.done += other.done;
        self.refused += other.refused;
        self.expected += other.expected;
        self.unknown += other.unknown;
        self.not_sent += other.not_sent;
        for (reason, count) in other.reasons {
            *self.reasons.entry(reason).or_default() += count;
        }
    }
}

/// Adds `more` to `records`, which stay in order.
pub fn add(records: &mut Vec<StepRecord>, more: Vec<StepRecord>) {
    for one in more {
        match records.iter_mut().find(|record| (&record.step, &record.action) == (&one.step, &one.action)) {
            Some(record) => record.add(one),
            None => records.push(one),
        }
    }
    records.sort_by(|a, b| (&a.step, &a.action).cmp(&(&b.step, &b.action)));
}

/// All kinds together, under the name `all`.
pub fn all(records: &[StepRecord]) -> StepRecord {
    let mut sum = StepRecord { step: "all".to_owned(), action: "operations".to_owned(), ..StepRecord::default() };
    records.iter().cloned().for_each(|record| sum.add(record));
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_add_up_kind_by_kind() {
        let record = |step: &str, done, refused| StepRecord {
            step: step.to_owned(),
            action: "txn".to_owned(),
            done,
            refused,
            reasons: if refused > 0 { [("no".to_owned(), refused)].into() } else { BTreeMap::new() },
            ..StepRecord::default()
        };
        let mut records = Vec::new();
        add(&mut records, vec![record("multi", 4, 0), record("block", 1, 2)]);
        add(&mut records, vec![record("block", 3, 4)]);
        assert_eq!(records, [record("block", 4, 6), record("multi", 4, 0)]);
        let sum = all(&records);
        assert_eq!((sum.done, sum.refused, sum.reasons["no"], sum.carried_out_percent()), (8, 6, 6, Some(57)));
        assert_eq!((records[0].title().as_str(), StepRecord::default().carried_out_percent()), ("block txn", None));
    }
}
