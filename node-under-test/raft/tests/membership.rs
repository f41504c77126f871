//! Changes of the membership, and members that come back without their log, as `cluster.rs` runs
//! them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail there")]

mod support;

use node_raft::{ChangeError, ChangeRefusal, Changed, Farewell, MembershipChange, ProposeError, Proposed};
use std::time::Duration;
use support::{Cluster, eventually, free_address};

const THREADS: usize = 4;

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build().unwrap();
    runtime.block_on(test);
}

fn learner(peer_addr: &str) -> MembershipChange {
    MembershipChange::Add { peer_addr: peer_addr.to_owned(), is_learner: true }
}

async fn change(cluster: &Cluster, at: u64, change: MembershipChange) -> Result<Changed, ChangeError> {
    cluster.node(at).change_membership(change).await
}

/// Promotes the learner as soon as it is in sync, which only the leader can tell.
async fn promote(cluster: &Cluster, at: u64, id: u64) -> Changed {
    loop {
        match change(cluster, at, MembershipChange::Promote { id }).await {
            Err(ChangeError::Refused(ChangeRefusal::NotInSync | ChangeRefusal::NotEnoughStarted)) => {}
            outcome => return outcome.unwrap(),
        }
    }
}

/// A member that does not lead.
fn follower(cluster: &Cluster) -> u64 {
    let leader = cluster.leader();
    (1..=3).find(|id| *id != leader).unwrap()
}

#[test]
fn a_member_is_added_promoted_and_removed_through_any_member() {
    run(async {
        let mut cluster = Cluster::new(3);
        cluster.start_all().await;
        for number in 0..30 {
            cluster.node(1).propose(number.to_string().into()).await.unwrap();
        }
        let by = follower(&cluster);
        let address = free_address();
        let added = change(&cluster, by, learner(&address)).await.unwrap();
        assert_eq!(added.member_id, 4);
        assert_eq!(
            change(&cluster, by, learner(&address)).await,
            Err(ChangeError::Refused(ChangeRefusal::AddressInUse))
        );
        let unready = change(&cluster, by, MembershipChange::Promote { id: 4 }).await;
        assert_eq!(unready, Err(ChangeError::Refused(ChangeRefusal::NotInSync)), "it was never started");
        cluster.start_joined(4, &address).await;
        cluster.write("with a learner").await;
        assert_eq!(cluster.roles_known_to(4), (vec![1, 2, 3], vec![4]));
        assert!(cluster.node(4).is_learner());
        // A learner forwards, to a leader that its own command line does not name, and keeps what
        // it has across a restart.
        cluster.restart(4).await;
        cluster.node(4).propose("from the learner".into()).await.unwrap();
        promote(&cluster, 4, 4).await;
        cluster.write("with four voters").await;
        assert_eq!(cluster.roles_known_to(2), (vec![1, 2, 3, 4], vec![]));
        for member in 1..=4 {
            assert_eq!(cluster.commands(member).len(), 33, "member {member}");
            assert_eq!(cluster.commands(member), cluster.commands(1));
        }
        change(&cluster, by, MembershipChange::Remove { id: 4 }).await.unwrap();
        assert_eq!(cluster.farewell(4).await, Farewell::Removed { id: 4 });
        cluster.stop(4).await;
        // The greatest id stays taken, although no member has it.
        let added = change(&cluster, by, learner(&free_address())).await.unwrap();
        assert_eq!(added.member_id, 5);
        assert_eq!(
            change(&cluster, by, MembershipChange::Remove { id: 4 }).await,
            Err(ChangeError::Refused(ChangeRefusal::NotFound))
        );
        cluster.stop_all().await;
    });
}

/// The removed leader commits its own removal, answers, and hands nothing on; the others elect
/// another one.
#[test]
fn a_leader_that_is_removed_steps_down() {
    run(async {
        let mut cluster = Cluster::new(3);
        cluster.start_all().await;
        cluster.write("before").await;
        let leader = cluster.leader();
        let by = follower(&cluster);
        change(&cluster, by, MembershipChange::Remove { id: leader }).await.unwrap();
        assert_eq!(cluster.farewell(leader).await, Farewell::Removed { id: leader });
        cluster.stop(leader).await;
        cluster.write("after").await;
        assert_eq!(cluster.commands(by), ["before", "after"]);
        assert_eq!(cluster.roles_known_to(by).0.len(), 2);
        // It stays removed, also for itself, when it is started again.
        cluster.start(leader).await;
        assert_eq!(cluster.farewell(leader).await, Farewell::Removed { id: leader });
        cluster.stop_all().await;
    });
}

/// In the end none of the members that the others' command lines name is left.
#[test]
fn proposals_find_a_leader_that_no_command_line_names() {
    run(async {
        let mut cluster = Cluster::new(3);
        cluster.start_all().await;
        for id in [4, 5] {
            let address = free_address();
            assert_eq!(change(&cluster, 1, learner(&address)).await.unwrap().member_id, id);
            cluster.start_joined(id, &address).await;
        }
        promote(&cluster, 5, 4).await;
        for founder in 1..=3 {
            change(&cluster, 5, MembershipChange::Remove { id: founder }).await.unwrap();
            assert_eq!(cluster.farewell(founder).await, Farewell::Removed { id: founder });
            cluster.stop(founder).await;
            cluster.node(5).propose(format!("without {founder}").into()).await.unwrap();
        }
        cluster.settle().await;
        assert_eq!(cluster.leader(), 4);
        assert_eq!(cluster.commands(5), ["without 1", "without 2", "without 3"]);
        cluster.stop_all().await;
    });
}

/// A removed learner never asks for votes, and the leader no longer talks to it.
#[test]
fn a_member_that_was_removed_while_it_was_away_hears_of_it() {
    run(async {
        let mut cluster = Cluster::new(3);
        cluster.start_all().await;
        let address = free_address();
        change(&cluster, 1, learner(&address)).await.unwrap();
        cluster.start_joined(4, &address).await;
        cluster.write("with a learner").await;
        cluster.stop(4).await;
        change(&cluster, 1, MembershipChange::Remove { id: 4 }).await.unwrap();
        cluster.start(4).await;
        assert_eq!(cluster.farewell(4).await, Farewell::Removed { id: 4 });
        cluster.stop(4).await;
        cluster.stop_all().await;
    });
}

#[test]
fn a_learner_that_starts_empty_gets_a_snapshot_and_its_membership() {
    run(async {
        let mut cluster = Cluster::new(3);
        cluster.start_all().await;
        let address = free_address();
        change(&cluster, 1, learner(&address)).await.unwrap();
        for _ in 0..4 {
            for number in 0..60 {
                cluster.node(number % 3 + 1).propose(number.to_string().into()).await.unwrap();
            }
            (1..=3).for_each(|member| cluster.flush(member));
        }
        for member in 1..=3 {
            let log = cluster.log(member);
            eventually("the log is purged", || log.facts().last_purged.is_some()).await;
        }
        cluster.start_joined(4, &address).await;
        cluster.settle().await;
        assert!(cluster.snapshots_installed(4) >= 1);
        assert_eq!(cluster.members_known_to(4), cluster.members_known_to(1));
        assert_eq!(cluster.commands(4), cluster.commands(1));
        promote(&cluster, 2, 4).await;
        // With a learner in the log as well as in the flushed state, all restart.
        let last = change(&cluster, 3, learner(&free_address())).await.unwrap();
        assert_eq!(last.member_id, 5);
        cluster.settle().await;
        cluster.stop_all().await;
        for member in 1..=4 {
            cluster.start(member).await;
        }
        cluster.write("after the restart").await;
        assert_eq!(cluster.roles_known_to(4), (vec![1, 2, 3, 4], vec![5]));
        assert_eq!(cluster.commands(4), cluster.commands(1));
        cluster.stop_all().await;
    });
}

/// A voter that was never a learner moves, and is found at its new address, by the leader's
/// replication as well as by who forwards to it.
#[test]
fn a_member_moves_to_another_address() {
    run(async {
        let mut cluster = Cluster::new(3);
        cluster.start_all().await;
        let address = free_address();
        let voter = MembershipChange::Add { peer_addr: address.clone(), is_learner: false };
        change(&cluster, 1, voter).await.unwrap();
        assert_eq!(cluster.roles_known_to(cluster.leader()), (vec![1, 2, 3, 4], vec![]));
        cluster.start_joined(4, &address).await;
        cluster.write("here").await;
        cluster.stop(4).await;
        let elsewhere = free_address();
        let moved = MembershipChange::Update { id: 4, peer_addr: elsewhere.clone() };
        assert_eq!(change(&cluster, follower(&cluster), moved).await.unwrap().member_id, 4);
        cluster.start_joined(4, &elsewhere).await;
        cluster.write("there").await;
        assert_eq!(cluster.commands(4), ["here", "there"]);
        cluster.stop_all().await;
    });
}

/// The outcome of a proposal at `at`. As long as a connection to a stopped leader of this same
/// process lingers, what is forwarded over it ends unknown, and says nothing here.
#[allow(clippy::disallowed_methods, reason = "a connection's end gives no event")]
async fn definite(cluster: &Cluster, at: u64, command: &str) -> Result<Proposed, ProposeError> {
    let asked = async {
        loop {
            match cluster.node(at).propose(command.to_owned().into()).await {
                Err(ProposeError::Unknown(_)) => tokio::time::sleep(Duration::from_millis(20)).await,
                outcome => return outcome,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), asked).await.expect("a definite outcome in time")
}

/// The leader is down and a follower comes back without its log: the other follower must not win
/// with its vote, nor commit with its word.
#[test]
fn a_wiped_member_neither_votes_nor_counts() {
    run(async {
        let mut cluster = Cluster::new(3);
        cluster.start_all().await;
        cluster.write("acknowledged by a quorum").await;
        let leader = cluster.leader();
        let [survivor, wiped] = [1, 2, 3].into_iter().filter(|id| *id != leader).collect::<Vec<_>>()[..] else {
            unreachable!("two of three follow")
        };
        // Followers have nothing to tell each other: it is the greeting that makes them meet.
        for (one, other) in [(survivor, wiped), (wiped, survivor)] {
            let log = cluster.log(one);
            eventually("the two have met", || log.known_incarnation(other).is_some()).await;
        }
        let expected = cluster.log(wiped).incarnation();
        cluster.stop(wiped).await;
        cluster.stop(leader).await;
        cluster.wipe(wiped);
        cluster.start(wiped).await;
        let found = cluster.log(wiped).incarnation();
        assert_eq!(cluster.farewell(wiped).await, Farewell::Wiped { id: wiped, expected, found });
        // It goes on here, which no real member does: the others still do not count it.
        let proposed = definite(&cluster, survivor, "on one leg").await;
        assert!(matches!(proposed, Err(ProposeError::NoLeader | ProposeError::Unavailable(_))), "{proposed:?}");
        assert!(!cluster.node(survivor).status().is_leader);
        assert_eq!(cluster.commands(wiped), [""; 0]);
        cluster.stop(wiped).await;
        // With a true quorum, and the wiped one replaced under a new id, the cluster is whole
        // again.
        cluster.start(leader).await;
        cluster.write("again").await;
        let address = free_address();
        assert_eq!(change(&cluster, survivor, learner(&address)).await.unwrap().member_id, 4);
        cluster.start_joined(4, &address).await;
        promote(&cluster, survivor, 4).await;
        change(&cluster, survivor, MembershipChange::Remove { id: wiped }).await.unwrap();
        cluster.write("whole").await;
        assert!(!cluster.roles_known_to(4).0.contains(&wiped));
        assert_eq!(cluster.commands(4), ["acknowledged by a quorum", "again", "whole"]);
        cluster.stop_all().await;
    });
}

/// Longer than a member may keep silent before the leader counts it as down.
#[allow(clippy::disallowed_methods, reason = "silence is not an event")]
async fn leaders_patience() {
    tokio::time::sleep(Duration::from_millis(1_500)).await;
}

#[test]
fn a_change_that_would_leave_no_quorum_is_refused() {
    run(async {
        let mut cluster = Cluster::new(3);
        cluster.start_all().await;
        cluster.write("before").await;
        let dead = follower(&cluster);
        cluster.stop(dead).await;
        let by = cluster.leader();
        let alive = (1..=3).find(|id| *id != dead && *id != by).unwrap();
        let node = cluster.node(by);
        let refused = Err(ChangeError::Refused(ChangeRefusal::NotEnoughStarted));
        leaders_patience().await;
        let added =
            node.change_membership(MembershipChange::Add { peer_addr: free_address(), is_learner: false }).await;
        assert_eq!(added, refused);
        assert_eq!(node.change_membership(MembershipChange::Remove { id: alive }).await, refused);
        node.change_membership(MembershipChange::Remove { id: dead }).await.unwrap();
        cluster.write("after").await;
        cluster.stop_all().await;
    });
}

/// Ports are used again. Both clusters have a member 3 at that address, know other lives of members
/// 1 and 2, and would take each other's for wiped ones.
#[test]
fn a_member_of_another_cluster_on_a_used_address_ends_nobody() {
    run(async {
        let mut home = Cluster::new(3);
        home.start_all().await;
        home.write("before").await;
        home.stop(3).await;
        let mut away = home.successor_of(3);
        away.start_all().await;
        away.write("elsewhere").await;
        let stranger = away.node(3);
        eventually("it was taken for the member that was there", || stranger.refused_messages() > 0).await;
        for number in 0..5 {
            home.write(&number.to_string()).await;
            away.write(&number.to_string()).await;
        }
        assert!(home.nobody_parts() && away.nobody_parts());
        assert_eq!(home.commands(1), ["before", "0", "1", "2", "3", "4"]);
        assert_eq!(away.commands(3), ["elsewhere", "0", "1", "2", "3", "4"]);
        // Nor is anything remembered of it: the true member 3 comes back.
        away.stop_all().await;
        home.start(3).await;
        home.write("after").await;
        assert_eq!(home.commands(3).last().map(String::as_str), Some("after"));
        home.stop_all().await;
    });
}

/// It was told no address but its own, and waits for a leader: the leader's own message says where
/// to ask.
#[test]
fn a_joined_member_that_was_wiped_is_told() {
    run(async {
        let mut cluster = Cluster::new(3);
        cluster.start_all().await;
        let address = free_address();
        change(&cluster, 1, learner(&address)).await.unwrap();
        cluster.start_joined(4, &address).await;
        cluster.write("with a learner").await;
        let expected = cluster.log(4).incarnation();
        cluster.stop(4).await;
        cluster.wipe(4);
        cluster.start(4).await;
        let found = cluster.log(4).incarnation();
        assert_eq!(cluster.farewell(4).await, Farewell::Wiped { id: 4, expected, found });
        assert_eq!(cluster.commands(4), [""; 0]);
        cluster.stop(4).await;
        cluster.stop_all().await;
    });
}
