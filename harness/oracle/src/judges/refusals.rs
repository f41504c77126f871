//! The outcomes of operations, by the kind of step that asked for them: carried out, refused and
//! why, never answered.
//!
//! A refusal breaks no promise by itself, and a load that is refused proves nothing: the members
//! then die with nothing of it in their hands. So refusals are counted here, and a floor says how
//! many a run may have. Two kinds do not count against it: a refusal that the step was drawn for
//! ([`Expected::Always`]), and one that depends on what others did meanwhile
//! ([`Expected::Sometimes`], with a reason that speaks of that).

use ninelives_evidence::operation::{Action, Expected, Outcome, Purpose, Reason};
use ninelives_evidence::record::operations::StepRecord;
use std::collections::BTreeMap;

/// Reasons of one kind of operation that are told apart; the others are counted together.
const REASONS_MAX: usize = 16;
/// Texts of refusals that depend on the state: on a compaction, or on which client granted or
/// revoked a lease first.
const STATE_DEPENDENT: [&str; 4] = [
    "required revision has been compacted",
    "required revision is a future revision",
    "requested lease not found",
    "lease already exists",
];

/// By step and action.
#[derive(Debug, Clone, Default)]
pub(super) struct Refusals(BTreeMap<(String, &'static str), StepRecord>);

impl Refusals {
    /// Counts `action`, which `purpose` asked for, and which ended with `outcome`.
    pub fn count(&mut self, purpose: Option<&Purpose>, action: &Action, outcome: &Outcome) {
        let step = purpose.map_or("unknown", |purpose| &*purpose.step);
        let expected = purpose.map(|purpose| purpose.refusal).unwrap_or_default();
        let row = self.0.entry((step.to_owned(), action.name())).or_insert_with(|| StepRecord {
            step: step.to_owned(),
            action: action.name().to_owned(),
            always_refused: expected == Expected::Always,
            ..StepRecord::default()
        });
        match outcome {
            Outcome::Done { .. } => row.done += 1,
            Outcome::Unknown { .. } => row.unknown += 1,
            Outcome::Refused { reason: Reason::NotSent, .. } => row.not_sent += 1,
            Outcome::Refused { reason, .. } => {
                let counter = if is_expected(expected, reason) { &mut row.expected } else { &mut row.refused };
                *counter += 1;
                let words = reason.to_string();
                let known = row.reasons.contains_key(&words) || row.reasons.len() < REASONS_MAX;
                *row.reasons.entry(if known { words } else { "other reasons".to_owned() }).or_default() += 1;
            }
        }
    }

    pub fn records(&self) -> Vec<StepRecord> {
        self.0.values().cloned().collect()
    }
}

fn is_expected(expected: Expected, reason: &Reason) -> bool {
    match (expected, reason) {
        (Expected::Always, Reason::Judged { .. }) => true,
        (Expected::Sometimes, Reason::Judged { text, .. }) => STATE_DEPENDENT.iter().any(|words| text.contains(words)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ninelives_evidence::operation::{Keys, Reply};

    fn judged(text: &str) -> Outcome {
        let reason = Reason::Judged { code: "InvalidArgument".to_owned(), text: text.to_owned() };
        Outcome::Refused { why: String::new(), reason }
    }

    fn counted(refusal: Expected, outcomes: &[Outcome]) -> StepRecord {
        let mut refusals = Refusals::default();
        let purpose = Purpose { step: "read-old".into(), refusal };
        let action = Action::Read { keys: Keys::one("k"), revision: None, serializable: false };
        outcomes.iter().for_each(|outcome| refusals.count(Some(&purpose), &action, outcome));
        refusals.records().remove(0)
    }

    #[test]
    fn a_refusal_that_the_step_may_meet_counts_apart() {
        let compacted = judged("etcdserver: mvcc: required revision has been compacted");
        let limit = judged("etcdserver: too many operations in txn request");
        let not_sent = Outcome::Refused { why: "connection refused".to_owned(), reason: Reason::NotSent };
        let done = Outcome::Done { revision: 2, term: 1, reply: Reply::Put };
        let all = [compacted, limit, not_sent, done];
        let row = |expected| {
            let row = counted(expected, &all);
            (row.done, row.refused, row.expected, row.not_sent)
        };
        assert_eq!(row(Expected::Never), (1, 2, 0, 1));
        assert_eq!(row(Expected::Sometimes), (1, 1, 1, 1));
        assert_eq!(row(Expected::Always), (1, 0, 2, 1));
        let reasons = counted(Expected::Never, &all).reasons;
        assert_eq!(reasons["InvalidArgument: etcdserver: too many operations in txn request"], 1);
    }

    #[test]
    fn a_server_that_gives_a_new_reason_each_time_fills_no_memory() {
        let all: Vec<Outcome> = (0..100).map(|n| judged(&format!("etcdserver: {}", "x".repeat(n)))).collect();
        let reasons = counted(Expected::Never, &all).reasons;
        assert_eq!((reasons.len(), reasons["other reasons"]), (REASONS_MAX + 1, 100 - REASONS_MAX as u64));
    }
}
