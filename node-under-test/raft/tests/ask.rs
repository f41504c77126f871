//! Questions to the leader, and proposals for one term: three members in one process.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail there")]

mod support;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use node_raft::{LeaderService, ProposeError, RaftNode};
use std::sync::Arc;
use support::{Cluster, eventually};

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(3).enable_all().build().unwrap();
    runtime.block_on(test);
}

/// Says who answers, in which term, and what it was asked; to "much", more than a message holds.
struct Echo(u64);

impl LeaderService for Echo {
    fn answer(&self, term: u64, question: Bytes) -> BoxFuture<'_, Result<Bytes, String>> {
        let answer = match &question[..] {
            b"much" => vec![0; 65 << 20],
            question => format!("{} in {term}: {}", self.0, String::from_utf8_lossy(question)).into_bytes(),
        };
        async move { Ok(answer.into()) }.boxed()
    }
}

async fn started() -> Cluster {
    let mut cluster = Cluster::new(3);
    cluster.start_all().await;
    cluster.write("first").await;
    for id in 1..=3 {
        assert!(cluster.node(id).answer_by(Arc::new(Echo(id))));
        assert!(!cluster.node(id).answer_by(Arc::new(Echo(9))), "one service per member");
    }
    cluster
}

#[test]
fn the_leader_answers_whichever_member_is_asked() {
    run(async {
        let cluster = started().await;
        for id in 1..=3 {
            let answer = cluster.node(id).ask_leader("who?".into()).await.unwrap();
            let status = cluster.node(cluster.leader()).status();
            assert_eq!(answer, format!("{} in {}: who?", cluster.leader(), status.term));
        }
        let follower = (1..=3).find(|id| *id != cluster.leader()).unwrap();
        for id in [follower, cluster.leader()] {
            let error = cluster.node(id).ask_leader("much".into()).await.unwrap_err();
            assert!(matches!(error, ProposeError::TooLarge { .. }), "{error}");
        }
    });
}

#[test]
fn a_proposal_for_a_term_is_made_in_that_term_or_nowhere() {
    run(async {
        let cluster = started().await;
        let leader = cluster.leader();
        let term = cluster.node(leader).confirm_leadership().await.unwrap();
        assert_eq!(term, cluster.node(leader).status().term);
        let proposed = cluster.node(leader).propose_in_term(term, "in term".into()).await.unwrap();
        assert_eq!((proposed.log_id.term, &proposed.response[..]), (term, &b"applied in term"[..]));
        let follower = (1..=3).find(|id| *id != leader).unwrap();
        for (id, term) in [(leader, term - 1), (leader, term + 1), (follower, term)] {
            let refused = cluster.node(id).propose_in_term(term, "elsewhere".into()).await.unwrap_err();
            assert!(matches!(refused, ProposeError::Unavailable(_)), "{refused}");
        }
        assert!(cluster.node(follower).confirm_leadership().await.is_err());
        cluster.write("last").await;
        for id in 1..=3 {
            assert_eq!(cluster.commands(id), ["first", "in term", "last"]);
        }
    });
}

#[test]
fn without_a_quorum_nothing_is_answered_and_the_leader_is_forgotten() {
    run(async {
        let mut cluster = started().await;
        let leader = cluster.leader();
        let mut believed = cluster.node(leader).believed_leader();
        believed.wait_for(|known| *known == Some(leader)).await.unwrap();
        for id in (1..=3).filter(|id| *id != leader) {
            cluster.stop(id).await;
        }
        believed.wait_for(Option::is_none).await.unwrap();
        assert!(cluster.node(leader).confirm_leadership().await.is_err());
        cluster.node(leader).ask_leader("who?".into()).await.unwrap_err();
        let other = leader % 3 + 1;
        cluster.start(other).await;
        believed.wait_for(Option::is_some).await.unwrap();
        cluster.stop(leader).await;
        cluster.node(other).believed_leader().wait_for(Option::is_none).await.unwrap();
    });
}

/// A new leader has entries of its predecessor in its log that it has not applied: a lease that was
/// revoked is still there, and an answer would prolong it.
#[test]
fn a_new_leader_answers_only_once_it_has_applied_the_first_entry_of_its_term() {
    /// Far more than the one that an answer takes.
    const ROUNDS: usize = 20;
    run(async {
        let mut cluster = started().await;
        let old = cluster.leader();
        let before = cluster.node(old).status().term;
        cluster.gate.hold_first_entries();
        cluster.stop(old).await;
        eventually("both others committed it and begin to apply it", || cluster.gate.waiting() == 2).await;
        let [one, other] = [old % 3 + 1, (old + 1) % 3 + 1].map(|id| cluster.node(id));
        let mut answers =
            std::pin::pin!(async { tokio::join!(eventually_answered(&one), eventually_answered(&other)) });
        let confirmed = async {
            let mut confirmed = 0;
            while confirmed < ROUNDS {
                confirmed += usize::from(one.read_index().await.is_ok());
            }
        };
        tokio::select! {
            biased;
            answers = answers.as_mut() => panic!("answered before it was applied: {answers:?}"),
            () = confirmed => {}
        }
        cluster.gate.open();
        let (of_one, of_other) = answers.await;
        for answer in [of_one, of_other] {
            let term = answer.strip_suffix(": who?").and_then(|answer| answer.split_once(" in ")).unwrap().1;
            assert!(term.parse::<u64>().unwrap() > before, "{answer} after term {before}");
        }
        cluster.stop_all().await;
    });
}

/// Asks until there is an answer.
async fn eventually_answered(node: &RaftNode) -> String {
    loop {
        if let Ok(answer) = node.ask_leader("who?".into()).await {
            return String::from_utf8_lossy(&answer).into_owned();
        }
    }
}
