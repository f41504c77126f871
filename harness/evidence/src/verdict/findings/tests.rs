//! Every kind of finding: it is rendered, written down, read back and ranked. The kinds come from
//! the tables, so none can be left out.

use super::*;
use crate::verdict::ranking::CAUSE_FIRST;
use crate::verdict::{Finding, Verdict, cause_first};
use std::collections::BTreeSet;

/// A finding of each kind, with everything that a finding may have beside it.
fn all() -> Vec<Finding> {
    let of = |kind: &Kind| Finding {
        cluster: Some(2),
        then: vec![kind.sample()],
        more: 3,
        state: Some(5),
        ..Finding::new(kind.sample()).in_cycle(4).at_member(2).at_revision(57).about(["p/1".to_owned()])
    };
    kinds().map(of).collect()
}

#[test]
fn names_are_unique_and_those_that_are_written() {
    let declared: usize = What::GROUPS.iter().map(|group| group.len()).sum();
    assert_eq!(kinds().count(), declared, "two kinds share a name");
    for kind in kinds() {
        let written = serde_json::to_value(kind.sample()).unwrap();
        assert_eq!(written["what"], kind.name());
        assert_eq!(kind.sample().name(), kind.name());
        let fields: BTreeSet<&str> = written["fields"].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(fields, kind.fields.iter().copied().collect(), "{}", kind.name());
    }
}

#[test]
fn every_kind_has_a_sentence() {
    for finding in all() {
        let (sentence, name) = (finding.sentence(), finding.what.name());
        assert!(sentence.len() > 4 && !sentence.contains(['{', '}', '\n']), "{name}: {sentence}");
        assert!(!sentence.contains("  ") && !sentence.contains("Some("), "{name}: {sentence}");
        assert!(finding.to_string().starts_with(&format!("{}, cycle 4, cluster 2, n2: ", finding.class())));
    }
}

#[test]
fn every_kind_reads_back_as_it_was_written() {
    for finding in all() {
        let text = serde_json::to_string(&finding).unwrap();
        let read: Finding = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert_eq!(read, finding, "{text}");
        let bare = Finding::new(finding.what);
        let text = serde_json::to_string(&bare).unwrap();
        assert_eq!(serde_json::from_str::<Finding>(&text).unwrap(), bare, "{text}");
    }
}

#[test]
fn every_kind_has_its_rank_and_its_verdict() {
    let mut findings = all();
    cause_first(&mut findings);
    let classes: Vec<Class> = findings.iter().map(Finding::class).collect();
    let runs = classes.chunk_by(|a, b| a == b).count();
    assert_eq!(runs, classes.iter().collect::<BTreeSet<_>>().len(), "each class stands in one place");
    assert_eq!(runs, CAUSE_FIRST.len(), "each class has a kind");
    for finding in findings {
        assert!(CAUSE_FIRST.contains(&finding.class()), "{finding}");
        assert_ne!(Verdict::of(&[finding]), Verdict::Pass);
    }
}

#[test]
fn a_class_that_is_not_the_kinds_own_is_refused() {
    let finding = Finding::new(Watches::FreshBrokeOff { member: 2, ended: "silent".to_owned() });
    let text = serde_json::to_string(&finding).unwrap();
    assert!(
        text.contains(r#""class":"watch","what":"fresh-broke-off","fields":{"member":2,"ended":"silent"}"#),
        "{text}"
    );
    let refused = |from: &str, to: &str| {
        assert!(text.contains(from));
        serde_json::from_str::<Finding>(&text.replace(from, to)).unwrap_err().to_string()
    };
    assert!(refused("\"watch\"", "\"lease\"").contains("expected class watch, which fresh-broke-off has, found lease"));
    assert!(refused("fresh-broke-off", "fresh-broke").contains("expected a kind of finding, found \"fresh-broke\""));
    assert!(refused("\"ended\"", "\"end\"").contains("missing field `ended`"));
}
