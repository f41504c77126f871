//! This member's answers to fences.
//!
//! A fence is hashed from a view taken while its entry is applied, by a thread of its own, so that
//! applying goes on meanwhile. An answer exists only for a fence that this life applied: one that
//! recovery verified or a snapshot skipped stays `missed`, for ever.

use super::error::Result;
use super::hash::{self, StateHash};
use node_base::LogId;
use node_base::backend::Backend;
use node_base::chain::chain;
use node_base::sabotage::{Bug, planted};
use node_proto::control::{FenceAnswerResponse, Lease};
use std::collections::BTreeMap;
use std::sync::{Arc, mpsc};
use tokio::sync::watch;

/// Fences whose answers are kept.
const KEPT: usize = 64;

#[derive(Default)]
struct Book {
    /// By raft index; `None`: still being hashed.
    answers: BTreeMap<u64, Option<FenceAnswerResponse>>,
    failure: Option<String>,
}

pub struct FenceBook {
    book: watch::Sender<Book>,
}

impl Default for FenceBook {
    fn default() -> Self {
        Self { book: watch::Sender::new(Book::default()) }
    }
}

impl FenceBook {
    /// The answer for the fence at `index`, once it is hashed. The caller has waited until this
    /// member has applied `index`: what was not begun by then is missed.
    pub async fn answer(&self, index: u64) -> FenceAnswerResponse {
        let mut book = self.book.subscribe();
        let missed = FenceAnswerResponse { missed: true, index, ..FenceAnswerResponse::default() };
        let hashed = book.wait_for(|book| book.failure.is_some() || !matches!(book.answers.get(&index), Some(None)));
        match hashed.await {
            Ok(book) => book.answers.get(&index).cloned().flatten().unwrap_or(missed),
            Err(_) => missed,
        }
    }

    /// Reason why a fence could not be hashed: the engine failed, and the process must end.
    pub fn failure(&self) -> Option<String> {
        self.book.borrow().failure.clone()
    }

    /// Announces that the fence at `index` is being applied: from here on questions for it wait for
    /// its hash.
    pub fn expect(&self, index: u64) {
        self.book.send_modify(|book| {
            book.answers.insert(index, None);
            while book.answers.len() > KEPT {
                book.answers.pop_first();
            }
        });
    }

    /// Hashes the state as it is now, which must be that of the expected fence at `at`; returns as
    /// soon as the state may change again.
    pub fn hash_at(self: &Arc<Self>, at: LogId, backend: &Arc<dyn Backend>) {
        let (book, backend) = (self.clone(), backend.clone());
        let (viewed, wait_viewed) = mpsc::sync_channel(1);
        let hash = move || {
            let view = backend.read();
            // The receiver is gone only if the process is ending.
            let _ = viewed.send(());
            book.record(at, hash::compute(&*view));
        };
        match std::thread::Builder::new().name("fence".to_owned()).spawn(hash) {
            // An error here means that the thread died before it took its view; its panic is on
            // record.
            Ok(_) => drop(wait_viewed.recv()),
            Err(error) => self.fail(format!("no thread to hash it with: {error}")),
        }
    }

    fn record(&self, at: LogId, hash: Result<StateHash>) {
        match hash {
            Ok(hash) => self.book.send_modify(|book| {
                // Not there any more: so many newer fences came that no question can still wait for
                // this one.
                let cached = planted(Bug::HashCached).then(|| cached(&book.answers, at.index)).flatten();
                if let Some(answer) = book.answers.get_mut(&at.index) {
                    let fresh = response(at, hash);
                    *answer = Some(FenceAnswerResponse { kv: cached.unwrap_or(fresh.kv), ..fresh });
                }
            }),
            Err(error) => self.fail(chain(&error)),
        }
    }

    fn fail(&self, reason: String) {
        tracing::error!(%reason, "a fence could not be hashed");
        self.book.send_modify(|book| book.failure = Some(reason));
    }
}

/// Planted bug `hash-cached`: the keys' digest of the fence before, for every third fence of this
/// life.
fn cached(answers: &BTreeMap<u64, Option<FenceAnswerResponse>>, index: u64) -> Option<Vec<u8>> {
    const EVERY: usize = 3;
    let (_, before) = answers.range(..index).next_back()?;
    let due = answers.range(..index).count() % EVERY == EVERY - 1;
    before.as_ref().filter(|_| due).map(|answer| answer.kv.clone())
}

fn response(at: LogId, hash: StateHash) -> FenceAnswerResponse {
    let kv = if planted(Bug::HashConstant) { [0x5a; 32] } else { hash.kv.digest };
    let lease = |&(id, granted_ttl_seconds): &(i64, i64)| Lease { id, granted_ttl_seconds };
    FenceAnswerResponse {
        missed: false,
        index: at.index,
        term: at.term,
        revision: hash.kv.revision,
        compact_revision: hash.kv.compact_revision,
        kv: kv.to_vec(),
        lease: hash.lease.to_vec(),
        auth: hash.auth.to_vec(),
        membership: hash.membership.to_vec(),
        kv_rows: hash.kv.rows,
        leases: hash.leases.iter().map(lease).collect(),
    }
}

#[cfg(test)]
mod tests {
    use crate::state::Store;
    use crate::state::command;
    use crate::testing::{AWAITED, MemoryBackend, TestStore};
    use futures_util::FutureExt;
    use node_base::LogId;
    use node_base::backend::{self, Backend, Batch, ReadView, Size, Snapshot, SnapshotError};
    use node_proto::command::Fence;
    use node_proto::command::command::Request;
    use std::sync::{Arc, Mutex, OnceLock, Weak};

    /// The answer is of the fence's own index, although the state has moved on; and there is none
    /// for an entry that was not a fence of this life.
    #[tokio::test]
    async fn a_fence_answers_for_its_own_index_or_not_at_all() {
        let mut real = TestStore::default();
        real.put("a", "1");
        let at_fence = real.store.state_hash().unwrap();
        real.apply(Request::Fence(Fence { id: 7 }));
        let index = real.index;
        real.put("a", "2");
        let answer = real.store.fences().answer(index).await;
        assert!(!answer.missed);
        assert_eq!((answer.index, answer.term, answer.revision, answer.kv_rows), (index, 1, 2, 1));
        assert_eq!(answer.kv, at_fence.kv.digest);
        assert_ne!(answer.kv, real.store.state_hash().unwrap().kv.digest);
        assert!(real.store.fences().answer(index + 1).await.missed);
        real.reopen();
        assert!(real.store.fences().answer(index).await.missed, "another life");
    }

    /// Asks for the fence in the very commit that makes it applied, as a waiter that this commit
    /// wakes would.
    #[derive(Default)]
    struct AsksAtCommit {
        inner: MemoryBackend,
        store: OnceLock<Weak<Store>>,
        answered_at_once: Mutex<Vec<bool>>,
    }

    impl Backend for AsksAtCommit {
        fn read(&self) -> Box<dyn ReadView + '_> {
            self.inner.read()
        }

        fn commit_then(&self, batch: Batch, at: LogId, visible: &mut dyn FnMut()) -> backend::Result<()> {
            self.inner.commit_then(batch, at, visible)?;
            if let Some(store) = self.store.get().and_then(Weak::upgrade) {
                let answer = store.fences().answer(at.index).now_or_never();
                self.answered_at_once.lock().unwrap().push(answer.is_some());
            }
            Ok(())
        }

        fn sweep(&self, batch: Batch) -> backend::Result<()> {
            self.inner.sweep(batch)
        }

        fn settle(&self) -> backend::Result<()> {
            self.inner.settle()
        }

        fn flush(&self) -> backend::Result<()> {
            self.inner.flush()
        }

        fn snapshot(&self) -> Result<Snapshot, SnapshotError> {
            self.inner.snapshot()
        }

        fn size(&self) -> backend::Result<Size> {
            self.inner.size()
        }

        fn defrag(&self) -> backend::Result<()> {
            self.inner.defrag()
        }

        fn close(&self) -> backend::Result<()> {
            self.inner.close()
        }
    }

    #[tokio::test]
    async fn a_fence_that_is_being_applied_is_waited_for() {
        let backend = Arc::new(AsksAtCommit::default());
        let store = Arc::new(Store::open(backend.clone()).unwrap());
        backend.store.set(Arc::downgrade(&store)).unwrap();
        store.apply(LogId::new(1, 1), &command::fence(7), AWAITED).unwrap();
        assert_eq!(*backend.answered_at_once.lock().unwrap(), [false], "a missed answer for a fence of this life");
        assert!(!store.fences().answer(1).await.missed);
    }

    #[tokio::test]
    async fn old_answers_are_forgotten() {
        let mut real = TestStore::default();
        for id in 0..=super::KEPT as u64 {
            real.apply(Request::Fence(Fence { id }));
        }
        assert!(real.store.fences().answer(1).await.missed);
        assert!(!real.store.fences().answer(2).await.missed);
    }
}
