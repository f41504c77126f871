//! An entry that takes long to apply holds up those behind it, and nothing else; these are applied
//! together, and what was applied is settled in groups.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail there")]

mod support;

use support::{Cluster, eventually};

/// One thread runs all that raft needs, of all three members. If anything were applied on it, the
/// gate would never be opened.
#[test]
fn raft_goes_on_while_an_entry_is_applied() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut cluster = Cluster::new(3);
        cluster.start_all().await;
        cluster.write("before").await;
        let node = cluster.node(1);
        let stalled = tokio::spawn(async move { node.propose("stall".into()).await });
        eventually("all members apply it", || cluster.gate.waiting() == 3).await;
        let (node, before) = (cluster.node(2), cluster.node(2).status());
        let behind = tokio::spawn(async move { node.propose("behind".into()).await });
        // Replicated and committed everywhere, though nothing is applied; and a quorum confirms
        // reads meanwhile.
        for id in [1, 2, 3] {
            let node = cluster.node(id);
            eventually("the entry behind it is committed", || node.status().committed > before.committed).await;
            let index = node.read_index().await.unwrap();
            assert!(node.status().applied < Some(index), "the read waits for what is not applied");
        }
        assert!(cluster.commands(1).iter().all(|command| command == "before"));
        cluster.gate.open();
        // An outcome may be unknown if the machine was too busy for heartbeats; that it is applied
        // is not.
        let _ = (stalled.await.unwrap(), behind.await.unwrap());
        cluster.settle().await;
        for id in [1, 2, 3] {
            assert_eq!(cluster.commands(id), ["before", "stall", "behind"]);
        }
        cluster.stop_all().await;
    });
}

/// The last entries of a burst are settled though none follows them, and entries that come together
/// share a settling.
#[test]
fn what_was_applied_is_settled_in_groups_and_without_another_entry() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let mut cluster = Cluster::new(1);
        cluster.start_all().await;
        cluster.write("first").await;
        let settled = |cluster: &Cluster| cluster.settled(1).0.map(|at| at.index);
        let applied = cluster.node(1).status().last_log;
        eventually("the first is settled", || settled(&cluster) >= applied).await;
        let before = cluster.settled(1).1;
        let stalled = tokio::spawn({
            let node = cluster.node(1);
            async move { node.propose("stall".into()).await }
        });
        eventually("it is being applied", || cluster.gate.waiting() == 1).await;
        let node = cluster.node(1);
        let behind: Vec<_> = (0..100)
            .map(|number| {
                tokio::spawn({
                    let node = node.clone();
                    async move { node.propose(number.to_string().into()).await }
                })
            })
            .collect();
        eventually("they wait behind it", || node.status().committed >= applied.map(|index| index + 101)).await;
        cluster.gate.open();
        stalled.await.unwrap().unwrap();
        for written in behind {
            written.await.unwrap().unwrap();
        }
        eventually("all are settled", || settled(&cluster) >= applied.map(|index| index + 101)).await;
        assert!(cluster.settled(1).1 - before < 100, "each was settled by itself");
        assert!(cluster.most_at_once(1) > 1, "each was handed over by itself");
        cluster.stop_all().await;
    });
}
