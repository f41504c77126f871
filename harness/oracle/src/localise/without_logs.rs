//! The place where a divergence begins, among servers that are known by their API only.
//!
//! Logs and dead directories cannot be read. The clues are: the rows that every member showed at
//! the fence, if something was wrong there; the history of each member, delivered to a new watch;
//! the history that the watches had delivered before, from which the model was made; and the member
//! that gave an answer. So the place is
//!
//! 1. the first revision at which a member's history differs from the watches', unless it is behind
//!    a fence where the member's keys were wrong already;
//! 2. or else the first key that a member shows at the fence's revision with a row that differs
//!    from the model's;
//! 3. or else unknown: the members hold the watches' history, and the finding itself names the
//!    member whose answer does not fit.
//!
//! A member that skipped an entry is wrong in most of its keys, and only its history shows where
//! that began.

use super::clues::Clues;
use super::compare::Difference;
use super::conclusion::{empty, grouped, words, wrong_keys};
use super::sentences::{is_or_are, list, members, shape};
use crate::judges::Ledger;
use crate::judges::log_replay::{Effect, effect};
use ninelives_evidence::limits;
use ninelives_evidence::operation::{KeyState, OpId};
use ninelives_evidence::record::localisation::{FirstWrong, Localisation, WrongKey};
use ninelives_evidence::verdict::Finding;
use std::collections::{BTreeMap, BTreeSet};

/// The conclusion about `finding`.
pub fn without_logs(finding: &Finding, mut clues: Clues, ledger: &Ledger) -> Localisation {
    let shown = clues.witnesses.iter().filter_map(|witness| Some(witness.shown.as_ref()?.from)).max();
    if let Some(first) = shown.filter(|first| *first > clues.from) {
        let (from, last) = (clues.from, first - 1);
        clues
            .unknown
            .push(format!("whether revisions {from} to {last} are right one by one: they are compacted since"));
    }
    for (revision, change) in ledger.told_since(clues.from) {
        clues.truth.entry(revision).or_default().1.push(effect(revision, &change));
    }
    let shown = clues.trail.rows();
    let rows: Vec<_> = shown
        .iter()
        .filter_map(|(revision, rows)| Some((*revision, rows, ledger.rows_at(*revision)?)))
        .map(|(revision, rows, must)| (revision, differing(rows, &must), rows, must))
        .collect();
    conclude(
        finding,
        &clues,
        rows.iter().find(|(_, wrong, ..)| !wrong.is_empty()).map(|(revision, wrong, rows, must)| AtRevision {
            revision: *revision,
            wrong,
            rows,
            must,
        }),
    )
}

/// The rows that members showed at one revision, the model's, and the keys that differ anywhere, by
/// the revision from which on they do.
struct AtRevision<'a> {
    revision: u64,
    wrong: &'a BTreeSet<(u64, Vec<u8>)>,
    rows: &'a BTreeMap<u64, Vec<KeyState>>,
    must: &'a [KeyState],
}

fn differing(rows: &BTreeMap<u64, Vec<KeyState>>, must: &[KeyState]) -> BTreeSet<(u64, Vec<u8>)> {
    let mut wrong = BTreeSet::new();
    for shown in rows.values() {
        let (shown, must) = (by_key(shown), by_key(must));
        for key in shown.keys().chain(must.keys()) {
            let (shown, must) = (shown.get(key).copied(), must.get(key).copied());
            if shown != must {
                wrong.insert((wrong_since(shown, must), key.to_vec()));
            }
        }
    }
    wrong
}

/// A row with a later write than the correct last one is wrong from that write's revision on; any
/// other wrong row lacks the correct last write, and is wrong from its revision on.
fn wrong_since(shown: Option<&KeyState>, must: Option<&KeyState>) -> u64 {
    let [shown, must] = [shown, must].map(|row| row.map(|row| row.mod_revision));
    match (shown, must) {
        (Some(shown), Some(must)) if shown > must => shown,
        _ => must.or(shown).unwrap_or(0),
    }
}

fn by_key(rows: &[KeyState]) -> BTreeMap<&[u8], &KeyState> {
    rows.iter().map(|row| (row.key.as_slice(), row)).collect()
}

fn conclude(finding: &Finding, clues: &Clues, rows: Option<AtRevision<'_>>) -> Localisation {
    let mut found = empty(finding, clues.unknown.clone());
    if !by_history(finding, clues, rows.as_ref(), &mut found) {
        match &rows {
            Some(rows) => by_rows(clues, rows, &mut found),
            None => by_answer(finding, clues, &mut found),
        }
    }
    if let Some(step) = clues.trail.step() {
        let killed = clues.trail.killed();
        found.sentences.push(format!("The step before it: {step}; it killed {}.", members(&killed)));
        for member in if found.wrong.is_empty() { killed } else { found.wrong.clone() } {
            found.watermarks.extend(clues.trail.watermarks(member));
        }
    }
    found.unknown.push("which raft entry made a revision: the logs of this target cannot be read".to_owned());
    found
}

/// The number of wrong keys of each member at the fence.
fn counts(at: &AtRevision<'_>) -> BTreeMap<u64, usize> {
    let must = by_key(at.must);
    let count = |rows: &BTreeMap<&[u8], &KeyState>| {
        at.wrong.iter().filter(|(_, key)| rows.get(key.as_slice()) != must.get(key.as_slice())).count()
    };
    at.rows.iter().map(|(member, rows)| (*member, count(&by_key(rows)))).collect()
}

/// Names the members that are wrong at the fence of `at`, in how many keys, and those that are
/// right.
fn who(at: &AtRevision<'_>, counts: &BTreeMap<u64, usize>, wrong: &[u64]) -> String {
    let count = wrong.first().and_then(|member| counts.get(member)).copied().unwrap_or(0);
    let right: Vec<u64> = counts.keys().copied().filter(|member| !wrong.contains(member)).collect();
    let who =
        format!("{} {} wrong in {count} of the keys of revision {}", members(wrong), is_or_are(wrong), at.revision);
    let by = "measured by the history that the watches delivered";
    match right.as_slice() {
        [] => format!("{who}, {by}; no member is right in all of them."),
        _ => format!("{who}, {by}; {} {} right in all of them.", members(&right), is_or_are(&right)),
    }
}

fn by_rows(clues: &Clues, at: &AtRevision<'_>, found: &mut Localisation) {
    let must = by_key(at.must);
    let shown: BTreeMap<u64, _> = at.rows.iter().map(|(member, rows)| (*member, by_key(rows))).collect();
    let counts = counts(at);
    found.wrong = counts.iter().filter(|(_, count)| **count > 0).map(|(member, _)| *member).collect();
    let (Some((revision, key)), Some(member)) = (at.wrong.first(), found.wrong.first().copied()) else { return };
    found.sentences.push(who(at, &counts, &found.wrong));
    let writer = must.get(key.as_slice()).filter(|row| row.mod_revision == *revision);
    let operation = writer.and_then(|row| OpId::of_value(&row.value)).map(|id| id.to_string());
    let by = operation.as_ref().map_or_else(String::new, |id| format!(" (operation {id} of the workload)"));
    let written = if writer.is_some() { "written at" } else { "which no client wrote at" };
    found.sentences.push(format!(
        "The first of them is {}, {written} revision {revision}{by}: n{member} shows it as {}.",
        key.escape_ascii(),
        words(shown.get(&member).and_then(|rows| rows.get(key.as_slice())))
    ));
    let does = clues.truth.get(revision).map(|(_, effects)| list(effects));
    found.first = Some(FirstWrong { member, revision: *revision, index: None, term: None, operation, does });
    let of_key = |(_, key): &(u64, Vec<u8>)| WrongKey {
        key: key.escape_ascii().to_string(),
        expected: words(must.get(key.as_slice())),
        found: grouped(shown.iter().map(|(member, rows)| (*member, words(rows.get(key.as_slice()))))),
    };
    found.keys = at.wrong.iter().take(limits::WRONG_KEYS_MAX).map(of_key).collect();
}

/// `false`: no member's history differs from the watches', or it differs only behind the fence of
/// `rows`.
fn by_history(finding: &Finding, clues: &Clues, rows: Option<&AtRevision<'_>>, found: &mut Localisation) -> bool {
    let differences = clues.differences();
    let through = rows.map_or(u64::MAX, |rows| rows.revision);
    let first = differences.iter().min_by_key(|(_, difference)| difference.revision);
    let Some((member, difference)) = first.filter(|(_, difference)| difference.revision <= through) else {
        return false;
    };
    if differences.len() > 1 && clues.right(&differences).is_empty() {
        disputed(finding, clues, difference, found);
        return true;
    }
    found.wrong = differences.keys().copied().collect();
    // From there on the watches' history may come from a wrong member, and then its rows accuse all
    // other members.
    let agrees =
        |counts: &BTreeMap<u64, usize>| counts.iter().all(|(id, count)| found.wrong.contains(id) == (*count > 0));
    let rows = rows.map(|rows| (rows, counts(rows))).filter(|(_, counts)| agrees(counts));
    found.sentences.push(match &rows {
        Some((rows, counts)) => who(rows, counts, &found.wrong),
        None => format!(
            "{} {} wrong in the history since revision {}, measured by what the watches delivered first.",
            members(&found.wrong),
            is_or_are(&found.wrong),
            clues.from
        ),
    });
    let writer = difference.expected.iter().find_map(|effect| effect.row?.value.writer());
    let first = FirstWrong {
        member: *member,
        revision: difference.revision,
        index: None,
        term: None,
        // The answer that names the revision does not prove that, because a wrong member gives such
        // answers too.
        operation: writer.map(|id| id.to_string()),
        does: (!difference.expected.is_empty()).then(|| list(&difference.expected)),
    };
    let holds = first.does.as_ref().map_or_else(String::new, |does| format!(", which must be {does}"));
    let by = first.operation.as_ref().map_or_else(String::new, |id| format!(", operation {id} of the workload"));
    found.sentences.push(format!("The first wrong revision of n{member} is {}{holds}{by}.", difference.revision));
    found.sentences.push(shape(&first, difference, clues));
    found.keys = wrong_keys(clues, difference);
    found.first = Some(first);
    true
}

/// No member shows the row that the watches delivered first: it came from a member whose history
/// has changed since, so no member can be measured by it.
fn disputed(finding: &Finding, clues: &Clues, difference: &Difference, found: &mut Localisation) {
    let revision = difference.revision;
    found.sentences.push(format!(
        "The first revision in doubt is {revision}: no member shows there what the watches delivered first, so that was a wrong member's \
         word, and no member can be measured by it."
    ));
    if let Some(member) = finding.member {
        found.wrong = vec![member];
        found.sentences.push(format!("n{member} is the one that differs from the others."));
        found.first = Some(FirstWrong { member, revision, index: None, term: None, operation: None, does: None });
    }
    found.keys = wrong_keys(clues, difference);
    for key in &mut found.keys {
        key.expected = format!("one of these (the watches delivered first: {})", key.expected);
    }
}

fn by_answer(finding: &Finding, clues: &Clues, found: &mut Localisation) {
    let show: Vec<u64> =
        clues.witnesses.iter().filter(|one| one.shown.is_some()).map(|witness| witness.member).collect();
    if show.is_empty() {
        found.sentences.push("No member shows its history any more, so nothing can be compared.".to_owned());
        return;
    }
    found.sentences.push(format!(
        "The histories that {} show since revision {} are what the watches delivered: the members agree on what happened.",
        members(&show),
        clues.from
    ));
    let (Some(member), Some(revision)) = (finding.member, finding.revision) else { return };
    found.wrong = vec![member];
    found
        .sentences
        .push(format!("So what does not fit is what n{member} was asked or answered about revision {revision}."));
    let effects: &[Effect] = clues.truth.get(&revision).map_or(&[], |(_, effects)| effects);
    let operation = clues.trail.operation_of(revision);
    let does = (!effects.is_empty()).then(|| list(effects));
    found.first = Some(FirstWrong { member, revision, index: None, term: None, operation, does });
    let row = |effects: &[Effect], key: &str| {
        effects.iter().find(|effect| effect.key == key).map_or_else(|| "no row".to_owned(), Effect::to_string)
    };
    let of_key = |key: &String| WrongKey {
        key: key.clone(),
        expected: "as the answer, or the request, says".to_owned(),
        found: grouped(clues.witnesses.iter().filter_map(|witness| {
            let shown = witness.shown.as_ref()?;
            let effects = shown.changes.get(&revision).map_or(&[][..], Vec::as_slice);
            (shown.from <= revision).then(|| (witness.member, row(effects, key)))
        })),
    };
    found.keys = finding.keys.iter().take(limits::WRONG_KEYS_MAX).map(of_key).collect();
}

#[cfg(test)]
mod tests {
    use super::super::clues::Witness;
    use super::super::compare::{Shown, Truth};
    use super::*;
    use ninelives_evidence::Change;
    use ninelives_evidence::verdict::Class;

    fn row(key: &str, writer: u64, mod_revision: u64) -> KeyState {
        KeyState {
            key: key.into(),
            value: format!("x,1.{writer}").into_bytes(),
            create_revision: mod_revision,
            mod_revision,
            version: 1,
            lease: 0,
        }
    }

    /// The conclusion where n1 and n3 show the model's rows of revision 9 and n2 shows `second`.
    fn conclusion(second: Vec<KeyState>) -> Localisation {
        conclusion_from(second, &Clues::default())
    }

    fn conclusion_from(second: Vec<KeyState>, clues: &Clues) -> Localisation {
        let must = vec![row("a", 1, 4), row("b", 2, 7), row("c", 3, 5)];
        let rows: BTreeMap<_, _> = [(1, must.clone()), (2, second), (3, must.clone())].into();
        let wrong = differing(&rows, &must);
        let at = AtRevision { revision: 9, wrong: &wrong, rows: &rows, must: &must };
        let finding = Finding::of_class(Class::StateHash).at_member(2);
        conclude(&finding, clues, Some(at))
    }

    #[test]
    fn the_oldest_wrong_key_is_the_first() {
        let found = conclusion(vec![row("a", 1, 4), row("b", 9, 8), row("d", 4, 6)]);
        assert_eq!(found.wrong, [2]);
        let first = found.first.as_ref().unwrap();
        assert_eq!((first.member, first.revision, first.operation.as_deref()), (2, 5, Some("1.3")));
        assert_eq!(found.keys.iter().map(|key| key.key.as_str()).collect::<Vec<_>>(), ["c", "d", "b"]);
        let said = found.text();
        for words in ["n2 is wrong in 3 of the keys of revision 9", "n1 and n3 are right", "n2 shows it as absent"] {
            assert!(said.contains(words), "{words}: {said}");
        }
    }

    /// n2 skipped the entry of revision 7: its b is gone, and c, which was next, is one revision
    /// early.
    #[test]
    fn a_skipped_entry_is_found_in_the_history_and_not_in_the_oldest_key() {
        let put = |key: &str, revision: u64| {
            let value = format!("x,1.{revision}").into_bytes();
            let change = Change::Put { key: key.into(), value, create_revision: revision, version: 1, lease: 0 };
            vec![effect(revision, &change)]
        };
        let truth: Truth = [(6, "a"), (7, "b"), (8, "c"), (9, "d")]
            .into_iter()
            .map(|(revision, key)| (revision, (None, put(key, revision))))
            .collect();
        let right: BTreeMap<_, _> = truth.iter().map(|(revision, (_, effects))| (*revision, effects.clone())).collect();
        let early = [(6, put("a", 6)), (7, put("c", 8)), (8, put("d", 9))].into();
        let witness = |member, changes: &BTreeMap<u64, Vec<Effect>>| Witness {
            member,
            shown: Some(Shown { from: 6, through: 6 + changes.len() as u64 - 1, changes: changes.clone() }),
            ..Witness::default()
        };
        let witnesses = vec![witness(1, &right), witness(2, &early), witness(3, &right)];
        let clues = Clues { witnesses, truth, from: 6, ..Clues::default() };
        let second = vec![row("a", 1, 9), row("c", 3, 5)];
        let found = conclusion_from(second.clone(), &clues);
        let first = found.first.as_ref().unwrap();
        assert_eq!(
            (first.member, first.revision, first.does.as_deref()),
            (2, 7, Some("put b = …,1.7 (version 1, created at 7)"))
        );
        assert_eq!(found.wrong, [2]);
        let said = found.text();
        for words in ["n2 is wrong in 2 of the keys of revision 9", "is one revision early from there on"] {
            assert!(said.contains(words), "{words}: {said}");
        }
        // A compaction dropped the revisions before.
        let mut late = clues;
        late.from = 3;
        let said = conclusion_from(second.clone(), &late).text();
        assert!(!said.contains("early already"), "it begins at 6, and is right there: {said}");
        for witness in &mut late.witnesses {
            witness.shown.as_mut().unwrap().from = 7;
        }
        let said = conclusion_from(second.clone(), &late).text();
        assert!(
            said.contains("n2 has there what revision 8 is: where its history begins, it is 1 early already"),
            "{said}"
        );
        // Without its history the key that it lacks comes before the one that it has too new.
        let found = conclusion(second);
        assert_eq!(found.keys.iter().map(|key| key.key.as_str()).collect::<Vec<_>>(), ["b", "a"]);
        assert!(found.text().contains("The first of them is b, written at revision 7"), "{}", found.text());
    }

    /// The watches heard a member that shows something else by now: its old history does not accuse
    /// the others.
    #[test]
    fn a_word_that_no_member_stands_by_accuses_none() {
        let put = |version| {
            let change = Change::Put { key: "a".into(), value: "x,1.1".into(), create_revision: 2, version, lease: 0 };
            vec![effect(7, &change)]
        };
        let witness = |member, changes: Vec<Effect>| Witness {
            member,
            shown: Some(Shown { from: 7, through: 7, changes: [(7, changes)].into() }),
            ..Witness::default()
        };
        let witnesses = vec![witness(1, put(3)), witness(2, Vec::new()), witness(3, put(3))];
        let truth = [(7, (None, put(4)))].into();
        let clues = Clues { witnesses, truth, from: 7, ..Clues::default() };
        let found = conclusion_from(vec![row("a", 1, 9)], &clues);
        assert_eq!((found.wrong.as_slice(), found.first.as_ref().map(|first| first.revision)), (&[2][..], Some(7)));
        let said = found.text();
        for words in ["The first revision in doubt is 7", "n2 is the one that differs", "one of these (the watches"] {
            assert!(said.contains(words), "{words}: {said}");
        }
    }

    #[test]
    fn a_key_is_wrong_since_what_it_lacks_or_what_it_has_too_much() {
        let [old, new] = [row("a", 1, 4), row("a", 2, 7)];
        assert_eq!(wrong_since(Some(&new), Some(&old)), 7, "no client wrote it at 7");
        assert_eq!(wrong_since(Some(&old), Some(&new)), 7, "it lacks what was written at 7");
        assert_eq!(wrong_since(None, Some(&old)), 4);
        assert_eq!(wrong_since(Some(&new), None), 7);
    }

    #[test]
    fn a_key_that_no_client_wrote_is_told_by_the_revision_that_it_claims() {
        let must = [row("a", 1, 4)];
        let rows: BTreeMap<_, _> = [(2, vec![row("a", 1, 4), row("z", 8, 6)])].into();
        assert_eq!(differing(&rows, &must), [(6, b"z".to_vec())].into());
        assert_eq!(differing(&[(1, must.to_vec())].into(), &must), BTreeSet::new());
    }

    /// The members agree, and an answer does not fit: the finding itself names the member.
    #[test]
    fn where_members_agree_it_is_an_answer() {
        let put = Effect { key: "p/2".into(), row: None };
        let shown = Shown { from: 5, through: 9, changes: [(7, vec![put.clone()])].into() };
        let witnesses = [1, 2].map(|member| Witness { member, shown: Some(shown.clone()), ..Witness::default() });
        let truth = [(7, (None, vec![put]))].into();
        let clues = Clues { witnesses: witnesses.into(), truth, from: 5, ..Clues::default() };
        let finding = Finding::of_class(Class::LostWrite).at_member(2).at_revision(7).about(["p/1".into()]);
        let found = conclude(&finding, &clues, None);
        assert_eq!((found.wrong.as_slice(), found.first.as_ref().map(|first| first.revision)), (&[2][..], Some(7)));
        assert_eq!(found.keys[0].found, [(vec![1, 2], "no row".to_owned())]);
    }
}
