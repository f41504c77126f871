//! For tests only: an engine that is a map, and a store with one helper per command.

use crate::command;
use crate::mvcc::Store;
use node_base::LogId;
use node_base::backend::{Backend, Batch, Bucket, ReadView, Result};
use node_proto::command::command::Request;
use node_proto::command::outcome::Result as Answer;
use node_proto::etcdserverpb::{CompactionRequest, DeleteRangeRequest, PutRequest};
use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::sync::{Arc, Mutex};

type Rows = BTreeMap<(Bucket, Vec<u8>), Vec<u8>>;

/// Rows in memory; a view is a copy.
#[derive(Default)]
pub struct MemoryBackend {
    rows: Mutex<(Arc<Rows>, Option<LogId>)>,
}

impl MemoryBackend {
    pub fn row_count(&self, bucket: Bucket) -> usize {
        self.rows.lock().unwrap().0.keys().filter(|(of, _)| *of == bucket).count()
    }
}

struct MemoryView(Arc<Rows>);

impl ReadView for MemoryView {
    fn get(&self, bucket: Bucket, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self.0.get(&(bucket, key.to_vec())).cloned())
    }

    fn scan(
        &self,
        bucket: Bucket,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<()> {
        let rows = self.0.range((Bound::Included((bucket, from.to_vec())), Bound::Unbounded));
        for ((of, key), value) in rows {
            let outside = *of != bucket || to.is_some_and(|to| key.as_slice() >= to);
            if outside || visit(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }
}

impl Backend for MemoryBackend {
    fn read(&self) -> Box<dyn ReadView + '_> {
        Box::new(MemoryView(self.rows.lock().unwrap().0.clone()))
    }

    fn commit(&self, batch: Batch, at: LogId) -> Result<()> {
        let mut locked = self.rows.lock().unwrap();
        let rows = Arc::make_mut(&mut locked.0);
        for (bucket, key, value) in batch.changes() {
            match value {
                Some(value) => drop(rows.insert((bucket, key.to_vec()), value.to_vec())),
                None => drop(rows.remove(&(bucket, key.to_vec()))),
            }
        }
        locked.1 = Some(at);
        Ok(())
    }

    fn consistent_index(&self) -> Result<Option<LogId>> {
        Ok(self.rows.lock().unwrap().1)
    }

    fn flush(&self) -> Result<()> {
        Ok(())
    }

    fn size(&self) -> Result<(u64, u64)> {
        Ok((0, 0))
    }
}

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
        let outcome = self.store.apply(at, &command::encode(request), false).unwrap();
        assert_eq!(self.backend.consistent_index().unwrap(), Some(at), "every entry moves the index");
        command::decode_outcome(outcome).unwrap()
    }

    pub fn put(&mut self, key: &str, value: &str) {
        let put = PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), ..PutRequest::default() };
        assert!(matches!(self.apply(Request::Put(put)), Answer::Put(_)));
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
