//! The state machine that raft drives: replay first, then apply, and snapshots both ways.
//!
//! Entries arrive one at a time, in log order, from N+1 on. Each goes through [`Replay`], which
//! decides whether the engine holds it already; what it does not hold is applied as one batch with
//! its LogId.

use crate::recovery::{self, Evidence, Replay, Step};
use crate::space::Space;
use crate::state::command;
use crate::state::membership;
use crate::state::{Applying, Store};
use bytes::Bytes;
use node_backend::engine::Engine;
use node_backend::snapshot;
use node_base::LogId;
use node_base::backend::{Batch, Declared, SnapshotError};
use node_base::chain::{chain, io_error};
use node_base::failpoint::{self, Window};
use node_base::sabotage::{Bug, planted};
use node_raft::{Entry, OutgoingSnapshot, Payload, SnapshotMeta, StateMachine};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

/// Record of the snapshots that this life was sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transfers {
    pub refused: u64,
    pub last_refusal: String,
    pub installed: u64,
}

pub struct Applier {
    store: Arc<Store>,
    engine: Arc<dyn Engine>,
    replay: Mutex<Replay>,
    transfers: Mutex<Transfers>,
    space: Arc<Space>,
}

impl Applier {
    pub fn new(store: Arc<Store>, engine: Arc<dyn Engine>, replay: Replay, space: Arc<Space>) -> Self {
        Self { store, engine, replay: Mutex::new(replay), transfers: Mutex::default(), space }
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
        tokio::task::spawn_blocking(move || engine.flush()).await.map_err(io::Error::other)?.map_err(io_error)
    }

    pub fn transfers(&self) -> Transfers {
        self.lock_transfers().clone()
    }

    fn lock_transfers(&self) -> std::sync::MutexGuard<'_, Transfers> {
        self.transfers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_replay(&self) -> std::sync::MutexGuard<'_, Replay> {
        self.replay.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, entry: Entry, applying: Applying) -> io::Result<Bytes> {
        match entry.payload {
            Payload::Command(command) => self.store.apply(entry.log_id, &command, applying).map_err(io_error),
            Payload::Blank => self.commit(Batch::default(), entry.log_id),
            Payload::Membership(membership) => self.commit(self.membership_rows(&membership)?, entry.log_id),
        }
    }

    fn membership_rows(&self, raft_membership: &[u8]) -> io::Result<Batch> {
        membership::apply(&*self.engine.read(), raft_membership).map_err(io_error)
    }

    fn commit(&self, batch: Batch, at: LogId) -> io::Result<Bytes> {
        self.engine.commit(batch, at).map_err(io_error)?;
        Ok(Bytes::new())
    }
}

impl StateMachine for Applier {
    fn replay_after(&self) -> Option<LogId> {
        self.lock_replay().position()
    }

    fn membership(&self) -> io::Result<Option<Bytes>> {
        let stored = membership::raft_membership(&*self.engine.read()).map_err(io_error)?;
        Ok(stored.map(Bytes::from))
    }

    fn greatest_member_id(&self) -> io::Result<u64> {
        membership::greatest_id(&*self.engine.read()).map_err(io_error)
    }

    fn vet(&self, command: &Bytes) -> Result<(), String> {
        command::vet(command).map_err(|rejection| rejection.to_string())
    }

    fn apply(&self, entry: Entry, awaited: bool) -> io::Result<Bytes> {
        let step = self.lock_replay().step(entry.log_id);
        recovery::pass_window(step);
        if step == Step::Verified {
            self.engine.verified(entry.log_id).map_err(io_error)?;
        }
        match step {
            // The proposer of an entry of an earlier life is gone, so no request waits for this
            // answer.
            Step::Verified | Step::Dropped => Ok(Bytes::new()),
            Step::Replay | Step::Fresh => {
                failpoint::pass(Window::ApplyBefore);
                let answer = self.write(entry, Applying { awaited, replaying: step == Step::Replay })?;
                failpoint::pass(Window::ApplyAfter);
                Ok(answer)
            }
        }
    }

    fn settle(&self) -> io::Result<()> {
        self.engine.settle().map_err(io_error)
    }

    fn open_snapshot(&self) -> io::Result<OutgoingSnapshot> {
        // The image holds one membership and its meta names one, and they must be the same:
        // memberships only move forward, so if it is the same before and after the image was taken,
        // it is the image's.
        let before = self.membership()?;
        let room = self.space.for_image(&*self.engine);
        room.map_err(|sentence| io::Error::new(io::ErrorKind::WouldBlock, sentence))?;
        let image = self.engine.snapshot()?;
        let membership = self.membership()?;
        if membership != before {
            let sentence = "the membership changed while a snapshot was taken; ask again";
            return Err(io::Error::new(io::ErrorKind::WouldBlock, sentence));
        }
        let mut log_id = image.log_id;
        if planted(Bug::SnapshotIndexOffByOne) {
            log_id.index += 1;
        }
        let meta = SnapshotMeta { log_id, membership: membership.unwrap_or_default() };
        Ok(OutgoingSnapshot { meta, declared: image.declared, reader: image.reader })
    }

    fn snapshot_room(&self) -> io::Result<u64> {
        snapshot::room(self.engine.dir())
    }

    fn receive_snapshot(&self, meta: &SnapshotMeta, declared: Declared, reader: &mut dyn io::Read) -> io::Result<()> {
        let room = self.space.for_bytes(declared.wire_size).map_err(SnapshotError::Refused);
        let received = room.and_then(|()| snapshot::receive(&*self.engine, meta.log_id, declared, reader));
        if let Err(error) = &received {
            let mut transfers = self.lock_transfers();
            transfers.refused += 1;
            transfers.last_refusal = chain(error);
        }
        Ok(received?)
    }

    fn install_snapshot(&self, meta: &SnapshotMeta, purge_log: &mut dyn FnMut() -> io::Result<()>) -> io::Result<()> {
        self.store.install(|| Ok(self.engine.install_snapshot(meta.log_id, purge_log)?))?;
        self.lock_replay().installed(meta.log_id);
        self.lock_transfers().installed += 1;
        Ok(())
    }

    fn is_short_of_space(&self) -> bool {
        self.space.is_short()
    }
}
