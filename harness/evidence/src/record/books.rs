//! The books of a ledger, field by field, as digests: the live run and a fold over its history have
//! to agree on them.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The content of one cluster's ledger when its part had ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BooksRecord {
    /// From 1.
    pub cluster: u32,
    /// SHA-256 of the harness that kept them, if it is known: another build may keep other books.
    pub build: Option<String>,
    /// By field, the first bytes of the SHA-256 of what it held.
    pub fields: BTreeMap<String, String>,
}

impl BooksRecord {
    /// Whether the same build of the harness kept both, so that they have to be equal.
    pub fn same_build(&self, other: &Self) -> bool {
        self.build.is_some() && self.build == other.build
    }

    /// Names of the fields in which `self` and `other` differ.
    pub fn differing(&self, other: &Self) -> Vec<String> {
        let names = self.fields.keys().chain(other.fields.keys());
        let mut differing: Vec<_> =
            names.filter(|name| self.fields.get(*name) != other.fields.get(*name)).cloned().collect();
        differing.sort();
        differing.dedup();
        differing
    }
}
