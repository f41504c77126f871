//! No process exits because of what a peer says: the cases that once did, and drawn ones. `make
//! fuzz` has more.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail there")]

#[path = "support/hostile.rs"]
mod hostile;

use hostile::{Act, Append, At, Body, Number, Victim, Vote};
use proptest::prelude::*;

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(test);
}

fn n(small: u8) -> Number {
    Number(small)
}

/// u64::MAX; see [`Number`].
const HUGE: Number = Number(204);

fn snapshot(vote: Vote, at: At, wire_size: Number, chunks: Vec<u16>) -> Act {
    let members = Body::Membership(vec![1, 2, 3], vec![1, 2, 3]);
    Act::Snapshot { vote, at, members, wire_size, chunks, headless: false }
}

/// One append of entries that follow each other.
fn append(vote: Vote, before: At, entries: Vec<(Number, Number, Body)>, commit: At) -> Act {
    Act::Append(Append { vote, before, entries, follow: true, commit })
}

#[test]
fn what_once_ended_a_member_is_refused() {
    run(async {
        let leader = |term| (n(term), n(2), true);
        let mut victim = Victim::start().await;
        for act in [
            Act::Lead,
            Act::Lead,
            // A position of a huge term at an index that is long committed, and no body.
            snapshot((HUGE, n(2), true), Some((HUGE, n(0))), n(0), vec![]),
            snapshot(leader(20), Some((n(20), n(0))), n(0), vec![]),
            // No room for so much.
            snapshot(leader(20), Some((n(20), n(19))), HUGE, vec![1]),
            Act::Vote { pre: false, vote: (HUGE, n(2), false), last: Some((HUGE, HUGE)), transfer: true },
            // The victim's own leadership, in another's words.
            Act::Vote { pre: false, vote: (n(21), Number(169), true), last: Some((n(21), n(9))), transfer: true },
            append((n(20), Number(169), true), None, vec![], None),
            append(leader(20), Some((n(20), n(0))), vec![], None),
            append(leader(20), None, vec![], Some((n(20), n(0)))),
            Act::Append(Append {
                vote: leader(20),
                before: None,
                entries: vec![(n(20), HUGE, Body::Blank), (n(1), n(0), Body::Command)],
                follow: false,
                commit: Some((n(20), n(9))),
            }),
            append(leader(20), Some((n(20), HUGE)), vec![(n(20), n(0), Body::Blank)], None),
            append(leader(20), None, vec![(n(20), n(0), Body::Membership(vec![], vec![]))], Some((n(20), n(0)))),
            // Behind a round that commits an entry, and before its answer: another in its place.
            Act::Stream {
                led: true,
                appends: vec![Append {
                    vote: leader(3),
                    before: Some((n(2), n(2))),
                    entries: vec![(n(2), n(0), Body::Command)],
                    follow: true,
                    commit: None,
                }],
            },
            Act::Ask(vec![0xff; 40]),
            // Another life, by one who is let in.
            Act::Greeting { rpc: 9, to: n(1), to_incarnation: n(12), id: n(2), incarnation: n(22), cluster: n(0) },
            Act::Lead,
        ] {
            victim.suffer(&act).await;
        }
        victim.restart().await;
        victim.suffer(&Act::Lead).await;
        victim.stop().await;
    });
}

fn number() -> impl Strategy<Value = Number> {
    any::<u8>().prop_map(Number)
}

fn at() -> impl Strategy<Value = At> {
    prop::option::weighted(0.8, (number(), number()))
}

fn vote() -> impl Strategy<Value = Vote> {
    (number(), number(), prop::bool::weighted(0.8))
}

fn body() -> impl Strategy<Value = Body> {
    let ids = || prop::collection::vec(0..8_u8, 0..5);
    prop_oneof![
        2 => Just(Body::Blank),
        2 => Just(Body::Command),
        3 => (ids(), ids()).prop_map(|(voters, nodes)| Body::Membership(voters, nodes)),
    ]
}

fn any_append() -> impl Strategy<Value = Append> {
    let entries = prop::collection::vec((number(), number(), body()), 0..5);
    (vote(), at(), entries, prop::bool::weighted(0.8), at())
        .prop_map(|(vote, before, entries, follow, commit)| Append { vote, before, entries, follow, commit })
}

fn act() -> impl Strategy<Value = Act> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..64);
    let appends = prop::collection::vec(any_append(), 0..6);
    let greeting = (any::<u8>(), number(), number(), number(), number(), number());
    prop_oneof![
        1 => (any::<u8>(), any::<bool>(), bytes()).prop_map(|(rpc, framed, bytes)| Act::Bytes { rpc, framed, bytes }),
        1 => (any::<u8>(), bytes()).prop_map(|(rpc, bytes)| Act::Payload { rpc, bytes }),
        2 => greeting.prop_map(|(rpc, to, to_incarnation, id, incarnation, cluster)| {
            Act::Greeting { rpc, to, to_incarnation, id, incarnation, cluster }
        }),
        4 => any_append().prop_map(Act::Append),
        4 => (prop::bool::weighted(0.8), appends).prop_map(|(led, appends)| Act::Stream { led, appends }),
        3 => (any::<bool>(), vote(), at(), any::<bool>())
            .prop_map(|(pre, vote, last, transfer)| Act::Vote { pre, vote, last, transfer }),
        1 => (vote(), number(), at()).prop_map(|(vote, to, last)| Act::Transfer { vote, to, last }),
        3 => (vote(), at(), body(), number(), prop::collection::vec(0..600_u16, 0..4), prop::bool::weighted(0.1))
            .prop_map(|(vote, at, members, wire_size, chunks, headless)| {
                Act::Snapshot { vote, at, members, wire_size, chunks, headless }
            }),
        1 => (0..600_u16).prop_map(Act::Command),
        1 => bytes().prop_map(Act::Ask),
        1 => (any::<u8>(), number()).prop_map(|(kind, id)| Act::Change { kind, id }),
        4 => Just(Act::Lead),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn nothing_that_a_peer_says_ends_a_member(acts in prop::collection::vec(act(), 1..24)) {
        run(async {
            let mut victim = Victim::start().await;
            for act in &acts {
                victim.suffer(act).await;
            }
            victim.restart().await;
            victim.stop().await;
        });
    }
}
