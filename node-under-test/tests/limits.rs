//! Requests at the limits and beyond them, against a real member on each engine: an answer in
//! etcd's words, and a member that lives, then and at its next start.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail there")]

mod common;

use common::Member;
use node_proto::etcdserverpb::compare::CompareTarget;
use node_proto::etcdserverpb::request_op::Request;
use node_proto::etcdserverpb::{Compare, PutRequest, RangeRequest, RequestOp, TxnRequest, TxnResponse};
use tonic::{Code, Status};

fn op(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

fn put(key: &str, value: &str) -> RequestOp {
    let (key, value) = (key.to_owned().into(), value.to_owned().into());
    op(Request::RequestPut(PutRequest { key, value, prev_kv: true, ..PutRequest::default() }))
}

fn nested(depth: usize, value: &str) -> TxnRequest {
    (0..depth).fold(TxnRequest { success: vec![put("deep", value)], ..TxnRequest::default() }, |txn, _| TxnRequest {
        success: vec![op(Request::RequestTxn(txn))],
        ..TxnRequest::default()
    })
}

async fn txn(member: &Member, txn: TxnRequest) -> Result<TxnResponse, Status> {
    member.kv().await.txn(txn).await.map(tonic::Response::into_inner)
}

fn refusal<T: std::fmt::Debug>(answer: Result<T, Status>) -> (Code, String) {
    let status = answer.unwrap_err();
    (status.code(), status.message().to_owned())
}

async fn a_member_refuses_in_words_and_lives(backend: &str) {
    let dir = tempfile::tempdir().unwrap();
    let member = Member::start_on(dir.path(), backend);
    assert!(txn(&member, nested(48, "48")).await.unwrap().succeeded);
    let too_many = (Code::InvalidArgument, "etcdserver: too many operations in txn request".to_owned());
    // One more than fits into a command; one more than a decoder takes; and many.
    for depth in [49, 50, 60, 500] {
        assert_eq!(refusal(txn(&member, nested(depth, "no")).await), too_many, "{depth}");
    }
    let wide = |outer, inner| {
        let inner = TxnRequest { success: vec![read_nothing(); inner], ..TxnRequest::default() };
        TxnRequest { success: vec![op(Request::RequestTxn(inner)); outer], ..TxnRequest::default() }
    };
    assert!(txn(&member, wide(64, 64)).await.unwrap().succeeded);
    assert_eq!(refusal(txn(&member, wide(65, 64)).await), too_many);
    let empty = TxnRequest { success: vec![RequestOp::default()], ..TxnRequest::default() };
    assert_eq!(refusal(txn(&member, empty).await), (Code::InvalidArgument, "etcdserver: key not found".to_owned()));
    let compare = Compare { key: "deep".into(), result: 9, ..Compare::default() };
    let unknown =
        TxnRequest { compare: vec![compare], success: vec![put("deep", "no")], failure: vec![put("deep", "no")] };
    assert_eq!(refusal(txn(&member, unknown).await).0, Code::InvalidArgument);

    let sized = async |bytes: usize| {
        let value = vec![b'x'; bytes].into();
        member.kv().await.put(PutRequest { key: "large".into(), value, ..PutRequest::default() }).await
    };
    assert!(sized(1_500 << 10).await.is_ok());
    let too_large = (Code::InvalidArgument, "etcdserver: request is too large".to_owned());
    assert_eq!(refusal(sized(1_536 << 10).await), too_large);
    assert_eq!(refusal(sized(2_000 << 10).await), too_large);
    for bytes in [2 << 20, 5 << 20, 20 << 20] {
        let (code, message) = refusal(sized(bytes).await);
        assert_eq!(code, Code::ResourceExhausted, "{message}");
        assert!(message.starts_with("grpc: received message larger than max ("), "{message}");
    }

    // The state is what was accepted, in this life and in the next one.
    assert_eq!(member.get("deep").await.as_deref(), Some("48"));
    member.kill();
    let member = Member::start_on(dir.path(), backend);
    assert_eq!(member.get("deep").await.as_deref(), Some("48"));
    assert_eq!(member.get("large").await.map(|value| value.len()), Some(1_500 << 10));
    member.put("deep", "after").await;
    let compare = Compare { key: "deep".into(), target: CompareTarget::Version.into(), ..Compare::default() };
    let only_compares = TxnRequest { compare: vec![compare], ..TxnRequest::default() };
    let compares = TxnRequest { success: vec![op(Request::RequestTxn(only_compares))], ..TxnRequest::default() };
    assert!(txn(&member, compares).await.unwrap().succeeded, "a transaction that only compares");
}

/// A read of what is not there.
fn read_nothing() -> RequestOp {
    op(Request::RequestRange(RangeRequest { key: "nothing".into(), ..RangeRequest::default() }))
}

#[tokio::test]
async fn a_member_on_redb_refuses_in_words_and_lives() {
    a_member_refuses_in_words_and_lives("redb").await;
}

#[tokio::test]
async fn a_member_on_rocksdb_refuses_in_words_and_lives() {
    a_member_refuses_in_words_and_lives("rocksdb").await;
}
