//! Three members in one process: real logs on disk, real gRPC on loopback, a state machine in
//! memory that loses on a restart what was not flushed, as an engine without a write-ahead log
//! does.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail there")]

mod support;

use node_base::LogId;
use node_raft::{LogFacts, ProposeError, StartError};
use support::{Cluster, UNFIT, eventually};

const THREADS: usize = 4;

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build().unwrap();
    runtime.block_on(test);
}

#[test]
fn every_member_proposes_and_reads_and_all_agree() {
    run(async {
        let mut cluster = Cluster::new(3);
        cluster.start_all().await;
        for round in 0..20_u64 {
            for member in [1, 2, 3] {
                let command = format!("{member}/{round}");
                let proposed = cluster.node(member).propose(command.clone().into()).await.unwrap();
                assert_eq!(proposed.response, format!("applied {command}"));
                // A read on another member sees it once that member has applied the read index.
                let other = member % 3 + 1;
                let index = cluster.node(other).read_index().await.unwrap();
                assert!(index >= proposed.log_id.index);
                cluster.applied(other, index).await;
                assert!(cluster.commands(other).contains(&command));
            }
        }
        cluster.settle().await;
        assert_eq!(cluster.commands(1).len(), 60);
        assert_eq!(cluster.commands(1), cluster.commands(2));
        assert_eq!(cluster.commands(1), cluster.commands(3));
        let names: Vec<_> = cluster.members_known_to(2).into_iter().map(|member| member.name).collect();
        assert_eq!(names, ["m1", "m2", "m3"]);
        cluster.stop_all().await;
    });
}

#[test]
fn concurrent_proposals_are_all_applied_once() {
    run(async {
        let mut cluster = Cluster::new(3);
        cluster.start_all().await;
        let mut proposals = tokio::task::JoinSet::new();
        for number in 0..300_u64 {
            let node = cluster.node(number % 3 + 1);
            proposals.spawn(async move { node.propose(number.to_string().into()).await.unwrap() });
        }
        proposals.join_all().await;
        cluster.settle().await;
        let mut numbers: Vec<u64> = cluster.commands(2).iter().map(|command| command.parse().unwrap()).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..300).collect::<Vec<_>>());
        cluster.stop_all().await;
    });
}

/// Each member in turn, the leader among them: what was not flushed is replayed from N+1 on (the
/// state machine refuses a gap), and nothing acknowledged is lost.
#[test]
fn members_restart_and_replay_what_was_not_flushed() {
    run(async {
        let mut cluster = Cluster::new(3);
        cluster.start_all().await;
        for round in 0..3 {
            for member in [1, 2, 3] {
                for number in 0..5 {
                    let proposer = cluster.node(member % 3 + 1);
                    proposer.propose(format!("{round}/{member}/{number}").into()).await.unwrap();
                }
                if number_is_even(round + member) {
                    cluster.flush(member);
                }
                cluster.restart(member).await;
            }
        }
        cluster.settle().await;
        assert_eq!(cluster.commands(1).len(), 45);
        assert_eq!(cluster.commands(1), cluster.commands(2));
        assert_eq!(cluster.commands(1), cluster.commands(3));
        cluster.stop_all().await;
    });
}

fn number_is_even(number: u64) -> bool {
    number.is_multiple_of(2)
}

#[test]
fn the_whole_cluster_restarts() {
    run(async {
        let mut cluster = Cluster::new(3);
        cluster.start_all().await;
        for number in 0..50 {
            cluster.node(1).propose(number.to_string().into()).await.unwrap();
        }
        let term = cluster.node(1).status().term;
        cluster.stop_all().await;
        cluster.start_all().await;
        cluster.node(2).propose("after".into()).await.unwrap();
        cluster.settle().await;
        assert_eq!(cluster.commands(3).len(), 51);
        // A restarted leader must not have resumed its old term.
        assert!(cluster.node(1).status().term > term);
        cluster.stop_all().await;
    });
}

#[test]
fn the_log_is_purged_behind_n_and_a_laggard_gets_a_snapshot() {
    run(async {
        let mut cluster = Cluster::new(3);
        cluster.start_all().await;
        cluster.node(1).propose("first".into()).await.unwrap();
        cluster.settle().await;
        cluster.stop(3).await;
        let lagging_at = cluster.log_facts_of_stopped(3).last.unwrap().index;
        let mut number = 0_u64;
        for _ in 0..6 {
            for _ in 0..60 {
                cluster.node(number % 2 + 1).propose(number.to_string().into()).await.unwrap();
                number += 1;
            }
            for member in [1, 2] {
                cluster.flush(member);
            }
        }
        for member in [1, 2] {
            let log = cluster.log(member);
            eventually("the log is purged beyond the laggard", || log.facts().first > Some(lagging_at + 1)).await;
            let facts = log.facts();
            assert!(facts.last_purged <= cluster.persisted(member), "{facts:?}");
        }
        cluster.start(3).await;
        cluster.settle().await;
        assert!(cluster.snapshots_installed(3) >= 1);
        assert_eq!(cluster.commands(3).len(), 361);
        assert_eq!(cluster.commands(1), cluster.commands(3));
        let facts = cluster.log(3).facts();
        assert!(facts.last_purged <= cluster.persisted(3), "{facts:?}");
        // And it goes on as a full member, across a restart of its own.
        cluster.restart(3).await;
        cluster.node(3).propose("last".into()).await.unwrap();
        cluster.settle().await;
        assert_eq!(cluster.commands(1), cluster.commands(3));
        cluster.stop_all().await;
    });
}

/// Votes, appends, forwarded proposals, read indexes, greetings and a snapshot all find their way,
/// and no membership knows of it.
#[test]
fn every_message_takes_its_detour() {
    run(async {
        let mut cluster = Cluster::behind_detours(3);
        cluster.start_all().await;
        for member in [1, 2, 3] {
            cluster.node(member).propose(format!("by {member}").into()).await.unwrap();
            cluster.node(member).read_index().await.unwrap();
        }
        cluster.settle().await;
        let named = cluster.members_known_to(1);
        cluster.stop(3).await;
        for number in 0..200_u64 {
            cluster.node(number % 2 + 1).propose(number.to_string().into()).await.unwrap();
        }
        for member in [1, 2] {
            cluster.flush(member);
            let log = cluster.log(member);
            eventually("the log is purged", || log.facts().last_purged.is_some()).await;
        }
        cluster.start(3).await;
        cluster.settle().await;
        assert!(cluster.snapshots_installed(3) >= 1);
        assert_eq!(cluster.commands(1), cluster.commands(3));
        assert_eq!(cluster.members_known_to(3), named);
        cluster.stop_all().await;
    });
}

#[test]
fn without_a_quorum_nothing_is_proposed_and_nothing_is_read() {
    run(async {
        let mut cluster = Cluster::new(3);
        cluster.start(1).await;
        assert_eq!(cluster.node(1).propose("lonely".into()).await, Err(ProposeError::NoLeader));
        assert_eq!(cluster.node(1).read_index().await, Err(ProposeError::NoLeader));
        cluster.stop_all().await;
    });
}

/// Neither the member that is asked nor a leader that is asked by a member of another version
/// proposes what cannot be applied.
#[test]
fn what_cannot_be_applied_is_not_proposed() {
    run(async {
        let mut cluster = Cluster::new(3);
        cluster.start_all().await;
        cluster.write("before").await;
        let leader = cluster.leader();
        for member in [1, 2, 3] {
            for lenient in [false, true] {
                if lenient && member == leader {
                    continue;
                }
                if lenient {
                    cluster.make_lenient(member);
                }
                for command in [UNFIT.into(), vec![0xff, 0xfe]] {
                    let refused = cluster.node(member).propose(command.into()).await;
                    assert_eq!(refused, Err(ProposeError::Unfit("expected a fit command".to_owned())));
                }
            }
        }
        cluster.write("after").await;
        for member in [1, 2, 3] {
            assert_eq!(cluster.commands(member), ["before", "after"]);
        }
        cluster.stop_all().await;
    });
}

#[test]
fn an_error_of_the_state_machine_is_fatal() {
    run(async {
        let mut cluster = Cluster::new(1);
        cluster.start_all().await;
        let node = cluster.node(1);
        let outcome = node.propose("fail".into()).await;
        assert!(!matches!(outcome, Ok(_) | Err(ProposeError::NoLeader | ProposeError::Unavailable(_))), "{outcome:?}");
        assert!(node.fatal().await.to_string().contains("asked to fail"));
        cluster.stop_all().await;
    });
}

#[test]
fn a_log_purged_beyond_n_is_refused() {
    run(async {
        let mut cluster = Cluster::new(1);
        cluster.start_all().await;
        for number in 0..200 {
            cluster.node(1).propose(number.to_string().into()).await.unwrap();
        }
        cluster.flush(1);
        let log = cluster.log(1);
        eventually("the log is purged", || log.facts().last_purged.is_some()).await;
        drop(log);
        cluster.stop_all().await;
        let purged = cluster.log_facts_of_stopped(1).last_purged.unwrap();
        cluster.forget_flushes_after(1, LogId::new(purged.term, purged.index - 1));
        let error = cluster.try_start(1).await.unwrap_err();
        assert!(matches!(error, StartError::PurgedTooFar { .. }), "{error}");
        let LogFacts { last_purged, .. } = cluster.log_facts_of_stopped(1);
        assert_eq!(last_purged, Some(purged));
    });
}

/// Its messages still arrive, and would keep the others from electing another one for as long as
/// the cut lasts.
#[test]
fn a_leader_that_hears_nothing_makes_way() {
    run(async {
        let mut cluster = Cluster::relayed(3);
        cluster.start_all().await;
        cluster.write("before").await;
        let deaf = cluster.leader();
        // It holds an entry that waits for a quorum, and would send that again and again.
        let last_words = cluster.node(deaf);
        cluster.deafen(deaf);
        let unheard = tokio::spawn(async move { last_words.propose("unheard".into()).await });
        let other = deaf % 3 + 1;
        cluster.eventually_written(other, "by the others").await;
        assert_ne!(cluster.node(other).status().leader, Some(deaf));
        assert!(unheard.await.unwrap().is_err(), "no quorum answered");
        // The two that are left when the first one stops have to elect a leader.
        cluster.heal();
        cluster.stop_all().await;
    });
}

/// A caller that proposes by way of a follower finds there at once what was applied.
#[test]
fn an_answer_comes_when_the_member_that_gives_it_has_applied() {
    run(async {
        let mut cluster = Cluster::new(3);
        cluster.start_all().await;
        cluster.write("first").await;
        for number in 0..100 {
            for member in [1, 2, 3] {
                let command = format!("{number} by {member}");
                cluster.node(member).propose(command.clone().into()).await.unwrap();
                assert_eq!(cluster.commands(member).last(), Some(&command), "member {member}");
            }
        }
        cluster.stop_all().await;
    });
}
