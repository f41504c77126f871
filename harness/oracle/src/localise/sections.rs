//! Sections of the state that have no revision: membership and leases. The search can only name the
//! entries that write them.

use super::clues::Clues;
use crate::judges::log_replay::{in_words, logged};
use ninelives_evidence::logged::{Logged, Step};
use ninelives_evidence::verdict::findings::parts::{Part, Says};
use ninelives_evidence::verdict::findings::{Leases, Replicas, What};
use ninelives_evidence::verdict::{Class, Finding};
use std::collections::BTreeMap;

/// Entries that a sentence names.
const NAMED_MAX: usize = 3;

/// A section of the state without revisions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Section {
    Membership,
    Lease,
}

impl Section {
    /// The section that a finding is about.
    fn of(what: &What) -> Option<Self> {
        match what {
            What::Replicas(Replicas::ReplicasDisagree { part: Part::MembershipSection, .. }) => Some(Self::Membership),
            What::Replicas(
                Replicas::ReplicasDisagree { part: Part::LeaseSection | Part::LeaseList, .. }
                | Replicas::LeaseSectionNotItsList { .. },
            )
            | What::Leases(
                Leases::LeaseGone { .. }
                | Leases::LeaseStillThere { .. }
                | Leases::LeaseUnasked { .. }
                | Leases::LeaseOfAnotherTime { .. }
                | Leases::RevocationRefused { .. },
            ) => Some(Self::Lease),
            _ => None,
        }
    }
}

/// Whether replicas disagree, and one of them has nothing in the section.
fn says_empty(what: &What) -> bool {
    let empty = |says: &Says| says.value == EMPTY;
    matches!(what, What::Replicas(Replicas::ReplicasDisagree { says, .. }) if says.iter().any(empty))
}

/// The conclusion about a finding in one of those sections, and the wrong entry, if only one entry
/// can be wrong.
pub(super) fn conclusion(finding: &Finding, clues: &Clues) -> Option<(String, Option<u64>)> {
    let (section, writes): (_, fn(&Step) -> bool) = match Section::of(&finding.what)? {
        Section::Membership => ("membership", |step| matches!(step, Step::Membership | Step::Publish)),
        Section::Lease => ("lease", |step| matches!(step, Step::Grant(..) | Step::Revoke(_))),
    };
    let (agreed, fence) = (clues.agreed.0, clues.fence_index());
    let mut entries: BTreeMap<u64, Logged> = BTreeMap::new();
    for (_, entry) in clues.trail.logged(agreed, fence) {
        entries.insert(entry.index, entry.clone());
    }
    let logs = clues.witnesses.iter().filter_map(|witness| witness.log.as_ref());
    for entry in logs.flat_map(|log| &log.entries).filter(|entry| (agreed..=fence).contains(&entry.id.index)) {
        entries.entry(entry.id.index).or_insert_with(|| logged(entry));
    }
    entries.retain(|_, entry| writes(&entry.step));
    let named: Vec<String> = entries
        .values()
        .take(NAMED_MAX)
        .map(|entry| format!("raft index {} (term {}: {})", entry.index, entry.term, in_words(&entry.step)))
        .collect();
    let since = clues.since();
    let mut sentence = match named.as_slice() {
        [] => format!("The {section} section has no revisions, and no log shows an entry that writes it {since}."),
        [only] => format!(
            "The {section} section has no revisions, and the only entry that writes it {since} is {only}: it was not applied as it must be."
        ),
        _ => format!(
            "The {section} section has no revisions; {} entries write it {since}, and it is one of them, from {} on.",
            entries.len(),
            named.join(", ")
        ),
    };
    // In any other class the finding's member is the one that answered an operation.
    if let Some(member) = finding.member.filter(|_| finding.class() == Class::StateHash) {
        sentence.push_str(&format!(" n{member} stands alone against the others."));
    }
    if says_empty(&finding.what) {
        sentence.push_str(&format!(" {EMPTY} is the digest of an empty section."));
    }
    let only = entries.keys().next().copied().filter(|_| entries.len() == 1);
    Some((sentence, only))
}

/// The first eight bytes of the SHA-256 of nothing.
const EMPTY: &str = "e3b0c44298fc1c14";
