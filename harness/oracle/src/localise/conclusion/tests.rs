//! Conclusions from made-up clues, in the words that a report has.

use super::super::compare::Shown;
use super::super::trail::Trail;
use super::*;
use crate::judges::log_replay::effect;
use crate::raft_log::{LogId, RaftLog};
use ninelives_evidence::Change;
use ninelives_evidence::history::Lines;
use ninelives_evidence::verdict::findings::Replicas;
use ninelives_evidence::verdict::findings::parts::{Anchor, Part, Says};
use ninelives_golden::assert_golden;
use node_proto::command::command::Request;
use node_proto::etcdserverpb::{DeleteRangeRequest, PutRequest};

/// Revision r is made by raft index r + 10, a put of operation 1.r; revision 6 is a delete.
const REVISIONS: std::ops::RangeInclusive<u64> = 2..=9;

fn change(revision: u64) -> Change {
    match revision {
        6 => Change::Delete { key: "k3".into() },
        _ => put(revision, revision),
    }
}

fn put(revision: u64, writer: u64) -> Change {
    let (key, value) = (format!("k{writer}").into_bytes(), format!("x,1.{writer}").into_bytes());
    Change::Put { key, value, create_revision: revision, version: 1, lease: 0 }
}

fn entry(revision: u64) -> raft_log::Entry {
    let request = match change(revision) {
        Change::Put { key, value, .. } => {
            Request::Put(PutRequest { key: key.into(), value: value.into(), ..PutRequest::default() })
        }
        Change::Delete { key } => {
            Request::DeleteRange(DeleteRangeRequest { key: key.into(), ..DeleteRangeRequest::default() })
        }
    };
    let id = LogId { term: 3, index: revision + 10 };
    raft_log::Entry { id, payload: Payload::Command(request), bytes: Vec::new() }
}

fn shown(change_at: impl Fn(u64) -> Option<Change>) -> Option<Shown> {
    let changes = REVISIONS.filter_map(|revision| Some((revision, vec![effect(revision, &change_at(revision)?)])));
    Some(Shown { from: 2, through: 9, changes: changes.collect() })
}

/// The trail of n2, which died with N = 11, E = 14 and a log to 17.
fn trail(snapshot: &str) -> Trail {
    let text = format!(
        r#"{{"at_us":1,"event":"cycle","cycle":4,"what":"kill follower#1 at flush.completed hit 2"}}
{{"at_us":1,"event":"did","cycle":4,"did":"arm","member":2,"what":"flush.completed"}}
{{"at_us":1,"event":"done","op":"7.7","revision":6,"term":3,"reply":{{"deleted":1}}}}
{{"at_us":1,"event":"killed","cycle":4,"member":2,"engine":"rocksdb"}}
{{"at_us":1,"event":"inspected","cycle":4,"member":2,"look":"killed","applied_received":16,"dead":{{"last_flushed_index":11,"engine_index":14,"log_last":17}}}}
{{"at_us":1,"event":"recovery","cycle":4,"member":2,"last_flushed_index":11,"engine_index":14,"log_first":0,"log_last":17,"last_purged":null,"scan_start":12,"verified":[12,14],"replayed":[15,17],"complete":true,"open_micros":1,"snapshot_installed":{snapshot}}}
{{"at_us":1,"event":"fence-answers","cycle":4,"answers":[{{"members":[1,3],"index":20,"term":3,"revision":9,"compact_revision":0,"kv":"aa","kv_rows":1,"lease":"","auth":"","membership":"","leases":[]}}]}}
"#
    );
    Trail::of(Lines::of("history.jsonl".to_owned(), text.as_bytes()), Some(4)).unwrap()
}

/// n1 and n3 are correct, and n2 is as in `second`.
fn clues(second: Option<Shown>, snapshot: &str) -> Clues {
    let log = RaftLog { entries: REVISIONS.map(entry).collect(), ..RaftLog::default() };
    let witness = |member, shown| Witness { member, shown, log: Some(log.clone()), ..Witness::default() };
    let right = || shown(|revision| Some(change(revision)));
    let id = |revision: u64| Some(LogId { term: 3, index: revision + 10 });
    Clues {
        witnesses: vec![witness(1, right()), witness(2, second), witness(3, right())],
        trail: trail(snapshot),
        truth: REVISIONS
            .map(|revision| (revision, (id(revision), vec![effect(revision, &change(revision))])))
            .collect(),
        by_log: true,
        agreed: (0, 1),
        from: 2,
        ..Clues::default()
    }
}

/// The replicas disagree on `part`: n2 has nothing there.
fn disagree(part: Part) -> Finding {
    let says = |members: &[u64], value: &str| Says { members: members.to_vec(), value: value.to_owned() };
    let says = vec![says(&[1, 3], "c0ffee"), says(&[2], "e3b0c44298fc1c14")];
    let what = Replicas::ReplicasDisagree { at: Anchor::Fence { index: 20 }, part, says };
    Finding::new(what).in_cycle(4).at_member(2)
}

fn words(clues: &Clues) -> String {
    conclude(&disagree(Part::KvSection), clues).text()
}

#[test]
fn golden_conclusions() {
    let lost = |at: u64| shown(move |revision| (revision != at).then(|| change(revision)));
    let skipped = shown(|revision| match revision {
        7 | 8 => Some(put(revision, revision + 1)),
        9 => None,
        _ => Some(change(revision)),
    });
    let again = shown(|revision| match revision {
        7 => Some(put(7, 4)),
        8 | 9 => Some(put(revision, revision - 1)),
        _ => Some(change(revision)),
    });
    let other = shown(|revision| Some(if revision == 8 { put(8, 99) } else { change(revision) }));
    let mut told = clues(lost(6), "null");
    told.by_log = false;
    // From revision 8 on the watches heard n2 first.
    told.truth.insert(8, (None, vec![effect(8, &put(8, 99))]));
    let mut lies = clues(shown(|revision| Some(change(revision))), "null");
    lies.digests = (1..=3).map(|member| (member, ("5a".repeat(8), "0b".repeat(8)))).collect();
    let mut down = clues(None, "null");
    down.unknown.push("what n2 holds, because it does not answer: it is down".to_owned());
    let cases = [
        ("a delete that the replay lost", words(&clues(lost(6), "null"))),
        ("a row below E that is not there", words(&clues(lost(3), "null"))),
        ("an entry that was skipped", words(&clues(skipped.clone(), "null"))),
        ("the same, behind a snapshot", words(&clues(skipped, "17"))),
        ("an entry that was applied twice", words(&clues(again, "null"))),
        ("another row", words(&clues(other, "null"))),
        ("no raft log that reaches back", words(&told)),
        ("a hash that is not that of the rows", words(&lies)),
        ("a member that does not answer", words(&down)),
    ];
    let text: String = cases.map(|(title, words)| format!("== {title}\n{words}\n")).concat();
    assert_golden("localisation-conclusions.txt", &text);
}

#[test]
fn a_wrong_member_is_named_and_no_other() {
    let found = conclude(
        &disagree(Part::KvSection),
        &clues(shown(|revision| (revision != 6).then(|| change(revision))), "null"),
    );
    assert_eq!(found.wrong, [2]);
    let first = found.first.unwrap();
    assert_eq!((first.member, first.revision, first.index), (2, 6, Some(16)));
    assert_eq!(first.operation.as_deref(), Some("7.7"), "a delete is known by the answer to it");
    assert_eq!(found.keys.len(), 1);
    assert_eq!(found.keys[0].found, [(vec![1, 3], "delete k3".to_owned()), (vec![2], "no row".to_owned())]);
}

#[test]
fn a_section_without_revisions_names_the_entries_that_write_it() {
    let mut clues = clues(shown(|revision| Some(change(revision))), "null");
    let membership = raft_log::Entry {
        id: LogId { term: 0, index: 5 },
        payload: Payload::Membership(raft_log::Membership::default()),
        bytes: Vec::new(),
    };
    clues.witnesses[0].log = Some(RaftLog { entries: vec![membership], ..RaftLog::default() });
    let of = |part| conclude(&disagree(part), &clues);
    let found = of(Part::MembershipSection);
    let words = &found.sentences[1];
    assert!(words.contains("raft index 5 (term 0: a membership)") && words.contains("empty section"), "{words}");
    assert_eq!(found.excerpt.unwrap().entries[0].index, 5);
    let found = of(Part::LeaseSection);
    assert!(found.sentences[1].contains("no log shows an entry that writes it"), "{:?}", found.sentences);
}

#[test]
fn keys_that_differ_at_the_fence_are_shown_where_no_revision_can_be() {
    let mut clues = clues(None, "null");
    let state = |value: &str| KeyState {
        key: b"k".to_vec(),
        value: value.into(),
        create_revision: 2,
        mod_revision: 3,
        version: 2,
        lease: 0,
    };
    clues.witnesses[0].keys = Some(vec![state("x,1.1")]);
    clues.witnesses[1].keys = Some(vec![state("x,1.2")]);
    clues.witnesses[2].keys = Some(vec![state("x,1.1")]);
    let found = conclude(&disagree(Part::KvSection), &clues);
    assert!(found.sentences[1].contains("older than revision 2"), "{:?}", found.sentences);
    let keys = keys_at_fence(&clues);
    assert_eq!(keys.len(), 1);
    assert_eq!(keys[0].found[0], (vec![1, 3], "x,1.1 (changed at 3, version 2)".to_owned()));
    clues.witnesses[1].keys = None;
    assert_eq!(keys_at_fence(&clues), []);
}
