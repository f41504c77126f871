//! Shortcuts of tests that give the ledger its evidence by hand.

use super::{Baseline, Ledger};
use ninelives_evidence::Evidence;
use ninelives_evidence::operation::{Action, OpId};
use ninelives_evidence::verdict::Finding;

impl Ledger {
    /// `id` is about to be sent. Ids are never used twice.
    pub fn invoke(&self, id: OpId, action: &Action) {
        self.record(&Evidence::Invoke { op: id, endpoint: 0, action: action.clone(), purpose: None });
    }

    /// The findings since the last call, without their origin.
    pub fn findings(&self) -> Vec<Finding> {
        self.drain().into_iter().map(|raised| raised.finding).collect()
    }

    /// The findings that `evidence` and everything since the last call raised.
    pub fn judged(&self, evidence: &Evidence) -> Vec<Finding> {
        self.record(evidence);
        self.findings()
    }

    /// Facts that are certain from here on.
    pub fn baseline(&self) -> Baseline {
        self.books().baseline_now()
    }
}
