//! Known findings: signatures that a scenario lists, so that one known bug does not hide the next.
//!
//! There is one place where findings are split: the ledger, through which all of them pass. What matches a signature is counted
//! here and written to the history, and goes no further. So nobody behind the ledger (a cycle, a lane, the verdict) knows of it,
//! and whoever grows the ledger again from the history (`verify`, `run --resume`) comes to the same counts.
//!
//! What follows from a known finding is another finding: a member that dies of what was suppressed, or a model that a lost write
//! leaves behind, needs a signature of its own.

use crate::limits;
use crate::record::known::KnownRecord;
use crate::verdict::{Class, Finding};

/// What a known finding looks like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// How reports call it.
    pub name: String,
    pub class: Class,
    /// All of these are in the finding's sentence.
    pub contains: Vec<String>,
    /// The member that it is about; `None`: whichever, or none.
    pub member: Option<u64>,
    /// Why findings that match may be left out of the verdict.
    pub because: String,
}

impl Signature {
    pub fn matches(&self, finding: &Finding) -> bool {
        self.class == finding.class
            && self.member.is_none_or(|member| finding.member == Some(member))
            && self.contains.iter().all(|text| finding.sentence.contains(text))
    }

    /// A record of nothing seen yet.
    pub fn unseen(&self) -> KnownRecord {
        KnownRecord { name: self.name.clone(), class: self.class, because: self.because.clone(), count: 0, first: None }
    }
}

/// Whether a finding of `class` can be known: what says nothing about the system cannot be one of its bugs.
pub fn may_be_known(class: Class) -> bool {
    !matches!(class, Class::HarnessError | Class::MachineExhausted | Class::NotProven)
}

/// What one cluster saw of known findings.
#[derive(Debug, Default)]
pub struct Known(Vec<Seen>);

#[derive(Debug)]
struct Seen {
    signature: Signature,
    record: KnownRecord,
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

impl Known {
    /// Of nothing seen yet.
    pub fn new(signatures: &[Signature]) -> Self {
        let seen = |signature: &Signature| Seen {
            record: signature.unseen(),
            signature: signature.clone(),
            written: (None, 0),
        };
        Self(signatures.iter().map(seen).collect())
    }

    /// Counts `finding` under the first signature that it matches; `None`: it is news.
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
    pub fn records(&self) -> Vec<KnownRecord> {
        self.0.iter().map(|seen| seen.record.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature(name: &str, contains: &[&str], member: Option<u64>) -> Signature {
        let contains = contains.iter().map(|text| (*text).to_owned()).collect();
        Signature { name: name.into(), class: Class::StateHash, contains, member, because: "b".into() }
    }

    fn finding(sentence: &str) -> Finding {
        Finding::new(Class::StateHash, sentence).in_cycle(3).at_member(2)
    }

    #[test]
    fn a_signature_holds_in_all_its_parts() {
        let found = finding("the replicas disagree on the kv section: n2 says c0ffee");
        assert!(signature("s", &[], None).matches(&found));
        assert!(signature("s", &["kv section", "n2"], Some(2)).matches(&found));
        assert!(!signature("s", &["kv section", "n3"], None).matches(&found));
        assert!(!signature("s", &["kv section"], Some(3)).matches(&found));
        assert!(!signature("s", &[], None).matches(&Finding { class: Class::Model, ..found.clone() }));
        assert!(!signature("s", &[], Some(2)).matches(&Finding { member: None, ..found }));
    }

    #[test]
    fn the_first_that_matches_counts() {
        let mut known = Known::new(&[signature("kv", &["kv section"], None), signature("any", &[], None)]);
        assert_eq!(known.take(&finding("kv section")).unwrap().name, "kv");
        assert_eq!(known.take(&finding("lease section")).unwrap().name, "any");
        assert_eq!(known.take(&finding("kv section, again")).unwrap().name, "kv");
        assert_eq!(known.take(&Finding::new(Class::Watch, "kv section")), None);
        let counts: Vec<_> = known.records().into_iter().map(|one| (one.name, one.count, one.first)).collect();
        let first = |sentence| Some(finding(sentence));
        assert_eq!(counts, [("kv".into(), 2, first("kv section")), ("any".into(), 1, first("lease section"))]);
    }

    #[test]
    fn all_are_counted_and_a_few_of_each_cycle_are_written() {
        let mut known = Known::new(&[signature("s", &[], None)]);
        let max = limits::KNOWN_WRITTEN_PER_CYCLE_MAX;
        let mut written = |cycle| {
            let taken = (0..max + 5).filter(|_| known.take(&finding("").in_cycle(cycle)).unwrap().to_be_written);
            taken.count() as u32
        };
        assert_eq!((written(1), written(2)), (max, max));
        assert_eq!(known.records()[0].count, u64::from(2 * (max + 5)));
    }
}
