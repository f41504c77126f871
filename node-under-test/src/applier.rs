//! The state machine that raft drives: replay first, then apply, and snapshots both ways.
//!
//! Entries arrive one at a time, in log order, from N+1 on. Each goes through [`Replay`], which decides
//! whether the engine holds it already; what it does not hold is applied as one batch with its LogId.

use crate::membership;
use crate::mvcc::Store;
use crate::recovery::{self, Evidence, Replay, Step};
use bytes::Bytes;
use node_backend::rocksdb::RocksBackend;
use node_base::LogId;
use node_base::backend::{Backend, Batch};
use node_base::failpoint::{self, Window};
use node_raft::{Entry, OutgoingSnapshot, Payload, SnapshotMeta, StateMachine};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

pub struct Applier {
    store: Arc<Store>,
    engine: Arc<RocksBackend>,
    replay: Mutex<Replay>,
}

impl Applier {
    pub fn new(store: Arc<Store>, engine: Arc<RocksBackend>, replay: Replay) -> Self {
        Self { store, engine, replay: Mutex::new(replay) }
    }

    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    pub fn evidence(&self) -> Evidence {
        self.lock_replay().evidence().clone()
    }

    /// Flushes the engine and waits until N is persisted at or above what was applied before.
    pub async fn flush(&self) -> io::Result<()> {
        let engine = self.engine.clone();
        tokio::task::spawn_blocking(move || engine.flush()).await.map_err(io::Error::other)?.map_err(io::Error::other)
    }

    fn lock_replay(&self) -> std::sync::MutexGuard<'_, Replay> {
        self.replay.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, entry: Entry, step: Step) -> io::Result<Bytes> {
        match entry.payload {
            Payload::Command(command) => {
                self.store.apply(entry.log_id, &command, step == Step::Replay).map_err(io::Error::other)
            }
            Payload::Blank => self.commit(Batch::default(), entry.log_id),
            Payload::Membership(membership) => self.commit(self.membership_rows(&membership)?, entry.log_id),
        }
    }

    fn membership_rows(&self, raft_membership: &[u8]) -> io::Result<Batch> {
        membership::apply(&*self.engine.read(), raft_membership).map_err(io::Error::other)
    }

    fn commit(&self, batch: Batch, at: LogId) -> io::Result<Bytes> {
        self.engine.commit(batch, at).map_err(io::Error::other)?;
        Ok(Bytes::new())
    }
}

impl StateMachine for Applier {
    fn replay_after(&self) -> Option<LogId> {
        self.lock_replay().position()
    }

    fn membership(&self) -> io::Result<Option<Bytes>> {
        let stored = membership::raft_membership(&*self.engine.read()).map_err(io::Error::other)?;
        Ok(stored.map(Bytes::from))
    }

    fn greatest_member_id(&self) -> io::Result<u64> {
        membership::greatest_id(&*self.engine.read()).map_err(io::Error::other)
    }

    fn apply(&self, entry: Entry) -> io::Result<Bytes> {
        let step = self.lock_replay().step(entry.log_id);
        recovery::pass_window(step);
        if step == Step::Verified {
            self.engine.verified(entry.log_id).map_err(io::Error::other)?;
        }
        match step {
            // Whoever proposed an entry of an earlier life is gone: nobody waits for this answer.
            Step::Verified | Step::Dropped => Ok(Bytes::new()),
            Step::Replay | Step::Fresh => {
                failpoint::pass(Window::ApplyBefore);
                let answer = self.write(entry, step)?;
                failpoint::pass(Window::ApplyAfter);
                Ok(answer)
            }
        }
    }

    fn open_snapshot(&self) -> io::Result<OutgoingSnapshot> {
        // The image holds one membership and its meta names one, and they must be the same: memberships only move
        // forward, so if it is the same before and after the image was taken, it is the image's.
        let before = self.membership()?;
        let image = self.engine.open_snapshot()?;
        let membership = self.membership()?;
        if membership != before {
            let sentence = "the membership changed while a snapshot was taken; ask again";
            return Err(io::Error::new(io::ErrorKind::WouldBlock, sentence));
        }
        let meta = SnapshotMeta { log_id: image.log_id, membership: membership.unwrap_or_default() };
        Ok(OutgoingSnapshot { meta, wire_size: image.wire_size, reader: Box::new(image.reader) })
    }

    fn receive_snapshot(&self, meta: &SnapshotMeta, wire_size: u64, reader: &mut dyn io::Read) -> io::Result<()> {
        Ok(self.engine.receive_snapshot(meta.log_id, wire_size, reader)?)
    }

    fn install_snapshot(&self, meta: &SnapshotMeta, purge_log: &mut dyn FnMut() -> io::Result<()>) -> io::Result<()> {
        self.store.install(|| Ok(self.engine.install_snapshot(meta.log_id, purge_log)?))?;
        self.lock_replay().installed(meta.log_id);
        Ok(())
    }
}
