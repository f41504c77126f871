//! Known findings: signatures that a scenario lists, so that one known bug does not hide the next.
//!
//! The ledger, through which all findings pass, is the one place that separates known ones. A
//! finding that matches a signature is counted here and written to the history, and goes no
//! further. So no stage behind the ledger (a cycle, a lane, the verdict) sees it, and building the
//! ledger again from the history (`verify`, `run --resume`) leads to the same counts.
//!
//! A consequence of a known finding is another finding: the death of a member after a suppressed
//! finding, or a model that misses a lost write, needs a signature of its own.

use crate::limits;
use crate::record::suppressed::SuppressedRecord;
use crate::verdict::{Class, Finding};
use std::collections::BTreeMap;

/// The signature of a known finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// Its name in reports.
    pub name: String,
    pub class: Class,
    /// The name of its kind; `None`: any of the class.
    pub what: Option<String>,
    /// Fields of the kind, as they are written down: each has to be equal.
    pub fields: BTreeMap<String, serde_json::Value>,
    /// The member that it is about; `None`: any, or none.
    pub member: Option<u64>,
    /// Reason why matching findings may be left out of the verdict.
    pub because: String,
}

impl Signature {
    pub fn matches(&self, finding: &Finding) -> bool {
        self.class == finding.class()
            && self.member.is_none_or(|member| finding.member == Some(member))
            && self.what.as_ref().is_none_or(|what| *what == finding.what.name())
            && self.fields.iter().all(|(field, value)| finding.what.field(field) == *value)
    }

    /// The signature of any finding of `class`, without a reason.
    pub fn of(name: &str, class: Class) -> Self {
        Self { name: name.into(), class, what: None, fields: BTreeMap::new(), member: None, because: String::new() }
    }

    /// Narrows the signature to one kind of finding, with these fields.
    pub fn saying(mut self, what: &str, fields: &[(&str, serde_json::Value)]) -> Self {
        self.what = Some(what.to_owned());
        self.fields = fields.iter().map(|(field, value)| ((*field).to_owned(), value.clone())).collect();
        self
    }

    /// A record of nothing seen yet.
    pub fn unseen(&self) -> SuppressedRecord {
        SuppressedRecord {
            name: self.name.clone(),
            class: self.class,
            because: self.because.clone(),
            count: 0,
            first: None,
        }
    }
}

/// Whether a finding of `class` can be known: a finding that says nothing about the system cannot
/// be one of its bugs.
pub fn may_be_known(class: Class) -> bool {
    !matches!(class, Class::HarnessError | Class::MachineExhausted | Class::NotProven)
}

/// Known findings, as one cluster saw them.
#[derive(Debug, Default)]
pub struct KnownFindings(Vec<Seen>);

#[derive(Debug)]
struct Seen {
    signature: Signature,
    record: SuppressedRecord,
    /// The cycle of the last one, and how many of that cycle are written down.
    written: (Option<u32>, u32),
}

/// A finding that is suppressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suppressed {
    pub name: String,
    /// Few enough of this cycle are in the history for this one to be written there as well.
    pub to_be_written: bool,
}

impl KnownFindings {
    /// The signatures, none of them seen yet.
    pub fn new(signatures: &[Signature]) -> Self {
        let seen = |signature: &Signature| Seen {
            record: signature.unseen(),
            signature: signature.clone(),
            written: (None, 0),
        };
        Self(signatures.iter().map(seen).collect())
    }

    /// Counts `finding` under the first signature that it matches; `None`: it is not known.
    pub fn take(&mut self, finding: &Finding) -> Option<Suppressed> {
        let seen = self.0.iter_mut().find(|seen| seen.signature.matches(finding))?;
        seen.record.count += 1;
        seen.record.first.get_or_insert_with(|| finding.clone());
        if seen.written.0 != finding.cycle {
            seen.written = (finding.cycle, 0);
        }
        let to_be_written = seen.written.1 < limits::KNOWN_WRITTEN_PER_CYCLE_MAX;
        seen.written.1 += u32::from(to_be_written);
        Some(Suppressed { name: seen.signature.name.clone(), to_be_written })
    }

    /// One for each signature, in their order.
    pub fn records(&self) -> Vec<SuppressedRecord> {
        self.0.iter().map(|seen| seen.record.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::findings::Replicas;
    use crate::verdict::findings::parts::{Anchor, Part};

    fn kv(name: &str) -> Signature {
        Signature::of(name, Class::StateHash).saying("replicas-disagree", &[("part", "kv-section".into())])
    }

    fn disagree(part: Part) -> Finding {
        let what = Replicas::ReplicasDisagree { at: Anchor::Fence { index: 9 }, part, says: Vec::new() };
        Finding::new(what).in_cycle(3).at_member(2)
    }

    #[test]
    fn a_signature_holds_in_all_its_parts() {
        let found = disagree(Part::KvSection);
        let any = || Signature::of("s", Class::StateHash);
        assert!(any().matches(&found));
        assert!(Signature { member: Some(2), ..kv("s") }.matches(&found));
        assert!(!kv("s").matches(&disagree(Part::LeaseSection)));
        assert!(!any().saying("fence-not-found", &[]).matches(&found), "another kind of the class");
        assert!(!Signature { member: Some(3), ..kv("s") }.matches(&found));
        assert!(!Signature::of("s", Class::Model).matches(&found));
        assert!(!Signature { member: Some(2), ..any() }.matches(&Finding { member: None, ..found }));
    }

    #[test]
    fn several_fields_have_to_be_equal_all() {
        let found = Finding::new(Replicas::FenceNotFound { member: 2, index: 9 });
        let of = |fields: &[_]| Signature::of("s", Class::StateHash).saying("fence-not-found", fields).matches(&found);
        assert!(of(&[("member", 2.into()), ("index", 9.into())]));
        assert!(!of(&[("member", 2.into()), ("index", 8.into())]));
    }

    #[test]
    fn the_first_that_matches_counts() {
        let mut known = KnownFindings::new(&[kv("kv"), Signature::of("any", Class::StateHash)]);
        assert_eq!(known.take(&disagree(Part::KvSection)).unwrap().name, "kv");
        assert_eq!(known.take(&disagree(Part::LeaseSection)).unwrap().name, "any");
        assert_eq!(known.take(&disagree(Part::KvSection).in_cycle(4)).unwrap().name, "kv");
        assert_eq!(known.take(&Finding::of_class(Class::Watch)), None);
        let counts: Vec<_> = known.records().into_iter().map(|one| (one.name, one.count, one.first)).collect();
        let first = |part| Some(disagree(part));
        assert_eq!(counts, [("kv".into(), 2, first(Part::KvSection)), ("any".into(), 1, first(Part::LeaseSection))]);
    }

    #[test]
    fn all_are_counted_and_a_few_of_each_cycle_are_written() {
        let mut known = KnownFindings::new(&[Signature::of("s", Class::StateHash)]);
        let max = limits::KNOWN_WRITTEN_PER_CYCLE_MAX;
        let mut written = |cycle| {
            let again = disagree(Part::Keys).in_cycle(cycle);
            let taken = (0..max + 5).filter(|_| known.take(&again).unwrap().to_be_written);
            taken.count() as u32
        };
        assert_eq!((written(1), written(2)), (max, max));
        assert_eq!(known.records()[0].count, u64::from(2 * (max + 5)));
    }
}
