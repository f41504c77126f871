//! Entries that share a commit, beside the same entries with a commit each.

use super::PENDING_BYTES;
use crate::state::command;
use crate::state::mvcc::{Interval, Wanted};
use crate::state::total_test::command_bytes;
use crate::testing::{AWAITED, TestStore};
use bytes::Bytes;
use node_base::LogId;
use node_base::backend::{Backend, consistent_index};
use node_proto::command::Fence;
use node_proto::command::command::Request;
use node_proto::etcdserverpb::{LeaseGrantRequest, PutRequest};
use proptest::prelude::*;

fn put(key: &str, value: &str) -> Bytes {
    put_bytes(key, value.as_bytes().to_vec(), false)
}

fn put_bytes(key: &str, value: Vec<u8>, prev_kv: bool) -> Bytes {
    let key = key.to_owned().into();
    command::encode(Request::Put(PutRequest { key, value: value.into(), prev_kv, ..PutRequest::default() }))
}

fn at(index: usize) -> LogId {
    LogId::new(1, index as u64)
}

/// What follows an entry.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Then {
    Join,
    Commit,
    /// A kill, and another life.
    Kill,
}

fn then() -> impl Strategy<Value = Then> {
    prop_oneof![5 => Just(Then::Join), 2 => Just(Then::Commit), 1 => Just(Then::Kill)]
}

proptest! {
    /// Wherever commits end and kills fall: the same answers, the same state, and after each kill
    /// the exact prefix that was committed.
    #[test]
    fn claim_1_outcomes_do_not_depend_on_which_entries_share_a_commit(
        log in proptest::collection::vec(command_bytes(), 1..32),
        then in proptest::collection::vec(then(), 0..64),
    ) {
        let (alone, mut shared) = (TestStore::default(), TestStore::default());
        let mut states = vec![alone.store.state_hash().unwrap()];
        let mut expected = Vec::new();
        for (index, bytes) in (1..).zip(&log) {
            expected.push(alone.store.apply(at(index), bytes, AWAITED).unwrap());
            states.push(alone.store.state_hash().unwrap());
        }
        let (mut then, mut answers) = (then.into_iter(), Vec::new());
        while answers.len() < log.len() {
            let committed = answers.len();
            let mut pending = shared.store.begin();
            let mut killed = false;
            for (index, bytes) in (1..).zip(&log).skip(committed) {
                pending.apply(at(index), bytes, AWAITED).unwrap();
                match then.next() {
                    Some(Then::Join) if !pending.is_full() => {}
                    then => {
                        killed = then == Some(Then::Kill);
                        break;
                    }
                }
            }
            prop_assert_eq!(&shared.store.state_hash().unwrap(), &states[committed], "nothing is there before the commit");
            if killed {
                drop(pending);
                shared.reopen();
            } else {
                answers.extend(pending.commit().unwrap());
            }
            let committed = answers.len();
            let index = consistent_index(&*shared.backend.read()).unwrap();
            prop_assert_eq!(index, (committed > 0).then(|| at(committed)));
            prop_assert_eq!(&shared.store.state_hash().unwrap(), &states[committed]);
        }
        prop_assert_eq!(answers, expected);
        prop_assert_eq!(shared.store.counted_keys(), alone.store.counted_keys());
        prop_assert_eq!(shared.changes_since(0), alone.changes_since(0));
        prop_assert_eq!(shared.store.leases(), alone.store.leases());
    }
}

#[test]
fn claim_2_nothing_of_an_entry_is_seen_before_its_answer() {
    let member = TestStore::default();
    let store = &member.store;
    let key = Bytes::from_static(b"a");
    let mut interest = store.join();
    interest.want(&Interval::new(&key, &Bytes::new()));
    let mut pending = store.begin();
    let grant = command::encode(Request::LeaseGrant(LeaseGrantRequest { id: 7, ttl: 60 }));
    for (index, bytes) in (1..).zip([put("b", "1"), put("a", "2"), grant, put("a", "3")]) {
        pending.apply(at(index), &bytes, AWAITED).unwrap();
    }
    let before =
        (store.revision(), store.leases(), interest.take(), consistent_index(&*member.backend.read()).unwrap());
    assert_eq!(before, (1, Vec::new(), None, None));
    assert!(store.lease_changes().take().is_empty());
    assert_eq!(pending.commit().unwrap().len(), 4);
    let after = (store.revision(), store.leases(), interest.take(), consistent_index(&*member.backend.read()).unwrap());
    assert_eq!(
        after,
        (4, vec![(7, 60)], Some(3), Some(at(4))),
        "the stream is marked with the first revision of its key"
    );
    assert_eq!(store.lease_changes().take(), [(7, true)].into());
    let wanted = Wanted { from: 2, bytes_max: usize::MAX, key: &|changed| *changed == key, with_previous: false };
    let rows_read = member.backend.rows_read();
    let changes = store.history(&wanted).unwrap().changes;
    let changes: Vec<_> = changes.iter().map(|change| (change.kv.mod_revision, &change.kv.value[..])).collect();
    assert_eq!(changes, [(3, b"2".as_slice()), (4, b"3")], "each entry has its own revision");
    assert_eq!(member.backend.rows_read(), rows_read, "and is kept in memory for watches");
}

#[tokio::test]
async fn claim_3_a_fence_is_the_last_entry_of_its_commit() {
    let member = TestStore::default();
    let mut pending = member.store.begin();
    pending.apply(at(1), &put("a", "1"), AWAITED).unwrap();
    assert!(!pending.is_full());
    pending.apply(at(2), &command::encode(Request::Fence(Fence { id: 7 })), AWAITED).unwrap();
    assert!(pending.is_full());
    pending.commit().unwrap();
    let at_fence = member.store.state_hash().unwrap();
    member.store.apply(at(3), &put("a", "2"), AWAITED).unwrap();
    let answer = member.store.fences().answer(2).await;
    assert_eq!((answer.missed, answer.revision, &answer.kv[..]), (false, 2, &at_fence.kv.digest[..]));
}

#[test]
fn claim_4_what_is_pending_is_bounded() {
    const ENTRY_BYTES: usize = PENDING_BYTES / 4;
    let member = TestStore::default();
    let entries_until_full = |bytes: &Bytes| {
        let mut pending = member.store.begin();
        let mut joined = 0;
        while !pending.is_full() {
            joined += 1;
            pending.apply(at(joined), bytes, AWAITED).unwrap();
        }
        assert_eq!(pending.commit().unwrap().len(), joined);
        joined
    };
    let large = vec![7; ENTRY_BYTES];
    assert_eq!(entries_until_full(&put_bytes("k", large, false)), 4, "by changes");
    assert_eq!(entries_until_full(&put_bytes("k", vec![8; ENTRY_BYTES], true)), 2, "and by answers");
    assert_eq!(entries_until_full(&put_bytes("k", vec![8; PENDING_BYTES], false)), 1, "one is always let in");
}
