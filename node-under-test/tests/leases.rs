//! Leases and their streams in a cluster of three real processes: many keep-alives through a
//! follower, and what members say when there is no leader.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail there")]

mod common;

use common::Trio;
use futures_util::{Stream, StreamExt};
use node_proto::etcdserverpb::watch_request::RequestUnion;
use node_proto::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseTimeToLiveRequest, PutRequest, RangeRequest, StatusRequest,
    WatchCreateRequest, WatchRequest,
};
use std::collections::BTreeMap;
use std::time::Duration;
use tonic::{Code, Request};

/// Far above what anything here takes; a test that reaches it has hung.
const PATIENCE: Duration = Duration::from_secs(60);

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE * 3, test).await.expect("it hangs") });
}

fn requiring_a_leader<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("hasleader", "true".parse().unwrap());
    request
}

/// Each in a frame of its own, as clients send them: h2 closes a connection on which some two
/// thousand such frames wait.
fn one_by_one(requests: Vec<LeaseKeepAliveRequest>) -> impl Stream<Item = LeaseKeepAliveRequest> + Send + 'static {
    futures_util::stream::iter(requests).then(|request| async move {
        tokio::task::yield_now().await;
        request
    })
}

async fn grant(trio: &Trio, at: usize, id: i64, ttl: i64, key: &str) {
    trio.lease(at).await.lease_grant(LeaseGrantRequest { id, ttl }).await.unwrap();
    let put = PutRequest { key: key.to_owned().into(), value: "v".into(), lease: id, ..PutRequest::default() };
    trio.kv(at).await.put(put).await.unwrap();
}

/// In a burst, many times over: the answers are as many as the requests, whatever waits where.
#[test]
fn a_follower_passes_many_keep_alives_on() {
    run(async {
        const LEASES: i64 = 500;
        const ROUNDS: i64 = 10;
        let trio = Trio::start();
        let follower = trio.followers().await[0];
        for id in 1..=LEASES {
            trio.lease(follower).await.lease_grant(LeaseGrantRequest { id, ttl: 600 }).await.unwrap();
        }
        let rounds = (0..ROUNDS).flat_map(|_| (1..=LEASES + 1).map(|id| LeaseKeepAliveRequest { id }));
        let requests = one_by_one(rounds.collect());
        let mut answers = trio.lease(follower).await.lease_keep_alive(requests).await.unwrap().into_inner();
        let mut answered: BTreeMap<i64, i64> = BTreeMap::new();
        while let Some(answer) = answers.message().await.unwrap() {
            assert_eq!(answer.ttl, if answer.id <= LEASES { 600 } else { 0 }, "{answer:?}");
            *answered.entry(answer.id).or_default() += 1;
        }
        assert_eq!(answered, (1..=LEASES + 1).map(|id| (id, ROUNDS)).collect());
    });
}

/// A client that writes much and does not read loses neither its connection nor a lease.
#[test]
fn a_client_that_reads_late_keeps_its_stream() {
    run(async {
        let trio = Trio::start();
        let follower = trio.followers().await[0];
        trio.lease(follower).await.lease_grant(LeaseGrantRequest { id: 1, ttl: 600 }).await.unwrap();
        let requests = one_by_one(vec![LeaseKeepAliveRequest { id: 1 }; 4_000]);
        let mut client = trio.lease(follower).await;
        let mut answers = client.lease_keep_alive(requests).await.unwrap().into_inner();
        // Meanwhile the same connection serves others.
        for _ in 0..50 {
            client.lease_time_to_live(LeaseTimeToLiveRequest { id: 1, keys: true }).await.unwrap();
        }
        let mut count = 0;
        while let Some(answer) = answers.message().await.unwrap() {
            assert_eq!(answer.ttl, 600);
            count += 1;
        }
        assert_eq!(count, 4_000);
    });
}

#[test]
fn an_expired_lease_goes_with_its_key_and_a_renewed_one_stays() {
    run(async {
        let trio = Trio::start();
        let follower = trio.followers().await[0];
        grant(&trio, follower, 1, 1, "short").await;
        grant(&trio, follower, 2, 600, "long").await;
        let key = |key: &str| RangeRequest { key: key.to_owned().into(), ..RangeRequest::default() };
        while !trio.kv(follower).await.range(key("short")).await.unwrap().into_inner().kvs.is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(trio.kv(follower).await.range(key("long")).await.unwrap().into_inner().kvs.len(), 1);
        let left = trio.lease(follower).await.lease_time_to_live(LeaseTimeToLiveRequest { id: 1, keys: true }).await;
        assert_eq!(left.unwrap().into_inner().ttl, -1);
    });
}

/// The keys of a lease may be more than a client takes in one message by default: the leader's
/// answer is not cut short.
#[test]
fn a_follower_tells_all_keys_of_a_large_lease() {
    run(async {
        let trio = Trio::start();
        let follower = trio.followers().await[0];
        trio.lease(follower).await.lease_grant(LeaseGrantRequest { id: 1, ttl: 600 }).await.unwrap();
        const KEYS: usize = 120;
        for number in 0..KEYS {
            let key = format!("{number:04}{}", "k".repeat(50_000));
            let put = PutRequest { key: key.into(), lease: 1, ..PutRequest::default() };
            trio.kv(follower).await.put(put).await.unwrap();
        }
        let mut client = trio.lease(follower).await.max_decoding_message_size(usize::MAX);
        let answer = client.lease_time_to_live(LeaseTimeToLiveRequest { id: 1, keys: true }).await.unwrap();
        assert_eq!(answer.into_inner().keys.len(), KEYS);
    });
}

#[test]
fn a_watch_whose_client_has_ended_its_side_goes_on() {
    run(async {
        let trio = Trio::start();
        let create = WatchCreateRequest { key: "a".into(), ..WatchCreateRequest::default() };
        let create = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        let mut events = trio.watch(0).await.watch(tokio_stream::once(create)).await.unwrap().into_inner();
        assert!(events.message().await.unwrap().unwrap().created);
        for value in ["1", "2"] {
            let put = PutRequest { key: "a".into(), value: value.into(), ..PutRequest::default() };
            trio.kv(1).await.put(put).await.unwrap();
            assert_eq!(events.message().await.unwrap().unwrap().events.len(), 1);
        }
    });
}

#[test]
fn a_member_without_a_leader_says_so_to_those_who_ask() {
    run(async {
        let mut trio = Trio::start();
        let left = trio.followers().await[0];
        let create = WatchCreateRequest { key: "a".into(), ..WatchCreateRequest::default() };
        let create = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        let mut wanting = trio.watch(left).await;
        let (open, requests) = tokio::sync::mpsc::unbounded_channel();
        open.send(create.clone()).unwrap();
        let requests = tokio_stream::wrappers::UnboundedReceiverStream::new(requests);
        let mut wanting = wanting.watch(requiring_a_leader(requests)).await.unwrap().into_inner();
        assert!(wanting.message().await.unwrap().unwrap().created);
        let mut content = trio.watch(left).await.watch(tokio_stream::once(create)).await.unwrap().into_inner();
        assert!(content.message().await.unwrap().unwrap().created);
        let (keep_open, requests) = tokio::sync::mpsc::unbounded_channel::<LeaseKeepAliveRequest>();
        let requests = tokio_stream::wrappers::UnboundedReceiverStream::new(requests);
        let mut kept =
            trio.lease(left).await.lease_keep_alive(requiring_a_leader(requests)).await.unwrap().into_inner();
        for other in (0..3).filter(|at| *at != left) {
            trio.kill(other);
        }
        let status = wanting.message().await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::Unavailable, "etcdserver: no leader"));
        assert_eq!(kept.message().await.unwrap_err().message(), "etcdserver: no leader");
        drop(keep_open);
        let range = || RangeRequest { key: "a".into(), serializable: true, ..RangeRequest::default() };
        let refused = trio.kv(left).await.range(requiring_a_leader(range())).await.unwrap_err();
        assert_eq!((refused.code(), refused.message()), (Code::Unavailable, "etcdserver: no leader"));
        trio.kv(left).await.range(range()).await.unwrap();
        let status = trio.maintenance(left).await.status(StatusRequest {}).await.unwrap().into_inner();
        assert_eq!((status.leader, status.errors), (0, vec!["etcdserver: no leader".to_owned()]));
        let silent = tokio::time::timeout(Duration::from_millis(100), content.message()).await;
        assert!(silent.is_err(), "a watch that asked for no leader goes on: {silent:?}");
    });
}
