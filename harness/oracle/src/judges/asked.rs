//! An operation as the judges remember it: the request, and the member that it was sent to. Alarms
//! about an answer accuse the member that gave it.

use ninelives_evidence::operation::{Action, Effect, Keys, OpId, Purpose};
use ninelives_evidence::verdict::Finding;
use ninelives_evidence::verdict::findings::What;
use ninelives_evidence::verdict::findings::parts::{Answered, Floor, Request};
use std::sync::Arc;

/// Keys that a sentence names; a transaction may have hundreds.
const NAMED_MAX: usize = 4;

#[derive(Debug)]
pub(super) struct Asked {
    pub id: OpId,
    /// The member that it was sent to; only this one can have answered.
    pub member: u64,
    pub action: Action,
    /// `None`: the history is older than this field.
    pub purpose: Option<Purpose>,
}

impl Asked {
    /// An alarm about the member's handling of the operation.
    pub fn alarm(&self, what: impl Into<What>) -> Finding {
        Finding::new(what).at_member(self.member).about(self.keys())
    }

    /// The first few keys that it is about; ranges as `[from, to)`.
    fn keys(&self) -> Vec<String> {
        match &self.action {
            Action::Put { key, .. } => vec![key.clone()],
            Action::Delete { keys } | Action::Read { keys, .. } => vec![named(keys)],
            Action::Txn { then, .. } | Action::Packed { then, .. } => {
                let of = |effect: &Effect| match effect {
                    Effect::Put { key, .. } => key.clone(),
                    Effect::Delete { keys } => named(keys),
                };
                then.iter().take(NAMED_MAX).map(of).collect()
            }
            Action::Check { when, .. } => when.iter().take(NAMED_MAX).map(|compare| compare.key.clone()).collect(),
            Action::Grant { .. }
            | Action::Revoke { .. }
            | Action::KeepAlive { .. }
            | Action::Compact { .. }
            | Action::Defragment => Vec::new(),
        }
    }

    /// The operation as findings name it: `operation 3.17 (put p/1, delete [q/, q0))`.
    pub fn request(&self) -> Request {
        let does = match &self.action {
            Action::Put { key, .. } => format!("put {key}"),
            Action::Delete { keys } => format!("delete {}", named(keys)),
            Action::Txn { then, .. } => effects(then),
            Action::Packed { shape, then } => format!("{}, packed as {shape:?}", effects(then)),
            Action::Check { when, depth } => {
                let compared = first(when.iter().map(|one| format!("{} is of revision {}", one.key, one.mod_revision)));
                format!("compare, {depth} transactions deep: {compared}")
            }
            Action::Grant { lease, .. } => format!("grant lease {lease}"),
            Action::Revoke { lease } => format!("revoke lease {lease}"),
            Action::KeepAlive { lease } => format!("keep lease {lease} alive"),
            Action::Compact { revision } => format!("compact at {revision}"),
            Action::Defragment => "defragment".to_owned(),
            Action::Read { keys, .. } => format!("read {}", named(keys)),
        };
        Request { id: self.id, does }
    }
}

fn effects(then: &[Effect]) -> String {
    first(then.iter().map(|effect| match effect {
        Effect::Put { key, .. } => format!("put {key}"),
        Effect::Delete { keys } => format!("delete {}", named(keys)),
    }))
}

/// The newest revision that any answer acknowledged, and the request that was answered with it.
#[derive(Debug, Clone)]
pub(super) struct Newest {
    pub revision: u64,
    asked: Option<Arc<Asked>>,
}

impl Default for Newest {
    /// The newest revision of an empty store.
    fn default() -> Self {
        Self { revision: 1, asked: None }
    }
}

impl Newest {
    /// The newest revision of a store that begins at `revision`.
    pub fn at(revision: u64) -> Self {
        Self { revision, asked: None }
    }

    pub fn answered(&mut self, revision: u64, asked: &Arc<Asked>) {
        if revision > self.revision {
            *self = Self { revision, asked: Some(Arc::clone(asked)) };
        }
    }

    /// The revision as findings name it.
    pub fn floor(&self) -> Floor {
        let answered = |asked: &Arc<Asked>| Answered { member: asked.member, request: asked.request() };
        Floor { revision: self.revision, answered: self.asked.as_ref().map(answered) }
    }
}

fn named(keys: &Keys) -> String {
    keys.to.as_ref().map_or_else(|| keys.from.clone(), |to| format!("[{}, {to})", keys.from))
}

/// The first few of `words`, and how many more there are.
pub(super) fn first(words: impl ExactSizeIterator<Item = String>) -> String {
    let more = words.len().saturating_sub(NAMED_MAX);
    let shown = words.take(NAMED_MAX).collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_names_the_operation_and_its_first_keys() {
        let put = |n: u32| Effect::Put { key: format!("p/{n}"), value: String::new() };
        let keys = Keys { from: "q/".into(), to: Some("q0".into()) };
        let asked = |then| {
            let action = Action::Txn { when: vec![], then };
            Asked { id: OpId { client: 3, seq: 17 }, member: 2, action, purpose: None }.request().to_string()
        };
        assert_eq!(asked(vec![put(1), Effect::Delete { keys }]), "operation 3.17 (put p/1, delete [q/, q0))");
        let many = asked((1..=6).map(put).collect());
        assert!(many.contains("(put p/1, put p/2, put p/3, put p/4 and 2 more)"), "{many}");
    }
}
