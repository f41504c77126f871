//! For tests only: a store on the memory engine, with one helper per command.

use crate::state::command;
use crate::state::mvcc::row;
use crate::state::{Applying, Store};
use bytes::Bytes;
use node_base::LogId;
use node_base::backend::{Backend, consistent_index};
pub use node_base::memory::MemoryBackend;
use node_proto::command::command::Request;
use node_proto::command::outcome::Result as Answer;
use node_proto::etcdserverpb::request_op::Request as Op;
use node_proto::etcdserverpb::{CompactionRequest, DeleteRangeRequest, PutRequest, RequestOp, TxnRequest};
use std::ops::ControlFlow;
use std::sync::Arc;

/// Fresh, and its proposer waits.
pub const AWAITED: Applying = Applying { awaited: true, replaying: false };

/// A store on a memory engine, fed by a log of one member.
pub struct TestStore {
    pub backend: Arc<MemoryBackend>,
    pub store: Arc<Store>,
    pub index: u64,
}

impl Default for TestStore {
    fn default() -> Self {
        let backend = Arc::new(MemoryBackend::default());
        Self { store: Arc::new(Store::open(backend.clone()).unwrap()), backend, index: 0 }
    }
}

impl TestStore {
    pub fn apply(&mut self, request: Request) -> Answer {
        self.index += 1;
        let at = LogId::new(1, self.index);
        let outcome = self.store.apply(at, &command::encode(request), AWAITED).unwrap();
        assert_eq!(consistent_index(&*self.backend.read()).unwrap(), Some(at), "every entry moves the index");
        command::decode_outcome(outcome).unwrap()
    }

    pub fn put(&mut self, key: &str, value: &str) {
        let put = PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), ..PutRequest::default() };
        assert!(matches!(self.apply(Request::Put(put)), Answer::Put(_)));
    }

    /// All of `keys` in one revision.
    pub fn put_all(&mut self, keys: impl Iterator<Item = String>) {
        let put = |key: String| PutRequest { key: key.into(), value: "v".into(), ..PutRequest::default() };
        let success = keys.map(|key| RequestOp { request: Some(Op::RequestPut(put(key))) }).collect();
        assert!(matches!(self.apply(Request::Txn(TxnRequest { success, ..TxnRequest::default() })), Answer::Txn(_)));
    }

    /// The changes after `revision` as the engine's rows say: revision, key, and true for a put.
    pub fn changes_since(&self, revision: i64) -> Vec<(i64, Bytes, bool)> {
        let mut changes = Vec::new();
        let first = row::first_key_of(revision + 1);
        self.backend
            .read()
            .scan(row::BUCKET, &first, None, &mut |key, value| {
                let at = row::RowKey::decode(key).unwrap();
                let kv = row::decode_value(at, value).unwrap();
                changes.push((at.revision.main, kv.key, at.kind == row::Kind::Put));
                ControlFlow::Continue(())
            })
            .unwrap();
        changes
    }

    pub fn delete(&mut self, key: &str) {
        let delete = DeleteRangeRequest { key: key.to_owned().into(), ..DeleteRangeRequest::default() };
        assert!(matches!(self.apply(Request::DeleteRange(delete)), Answer::DeleteRange(_)));
    }

    pub fn compact(&mut self, revision: i64) {
        let compact = CompactionRequest { revision, physical: true };
        assert!(matches!(self.apply(Request::Compact(compact)), Answer::Compact(_)));
    }

    /// A second life on the same engine.
    pub fn reopen(&mut self) {
        self.store = Arc::new(Store::open(self.backend.clone()).unwrap());
    }
}
