//! The state machine that raft drives: replay first, then apply, and snapshots both ways.
//!
//! Entries arrive in log order, from N+1 on, as many as are ready at once. Each goes through
//! [`Replay`], which decides whether the engine holds it already; what it does not hold is applied,
//! by itself or with the commands beside it, as one batch with its LogId. An entry is answered when
//! its batch is visible.

use crate::recovery::{self, Evidence, Replay, Step};
use crate::space::Space;
use crate::state::command;
use crate::state::membership;
use crate::state::{Applying, Pending, Store};
use bytes::Bytes;
use node_backend::engine::Engine;
use node_backend::snapshot;
use node_base::LogId;
use node_base::backend::{Batch, Declared, SnapshotError};
use node_base::chain::{chain, io_error};
use node_base::failpoint::{self, Window};
use node_base::sabotage::{Bug, planted};
use node_raft::{Entry, OutgoingSnapshot, Payload, SnapshotMeta, StateMachine, ToApply};
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

    fn membership_rows(&self, raft_membership: &[u8]) -> io::Result<Batch> {
        membership::apply(&*self.engine.read(), raft_membership).map_err(io_error)
    }

    /// Commits an entry by itself, while nothing is pending.
    fn commit_alone(&self, batch: Batch, at: LogId) -> io::Result<()> {
        failpoint::pass(Window::ApplyBefore);
        self.engine.commit(batch, at).map_err(io_error)?;
        failpoint::pass(Window::ApplyAfter);
        Ok(())
    }
}

type Answer<'a> = &'a mut dyn FnMut(Bytes) -> io::Result<()>;

/// Commits what is pending, and then answers its entries.
fn commit(pending: Option<Pending<'_>>, answer: Answer<'_>) -> io::Result<()> {
    for outcome in pending.map_or(Ok(Vec::new()), Pending::commit).map_err(io_error)? {
        failpoint::pass(Window::ApplyAfter);
        answer(outcome)?;
    }
    Ok(())
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

    fn apply(&self, entries: Vec<ToApply>, answer: Answer<'_>) -> io::Result<()> {
        let mut pending = None;
        for ToApply { entry: Entry { log_id, payload }, awaited } in entries {
            let step = self.lock_replay().step(log_id);
            recovery::pass_window(step);
            if let (Step::Replay | Step::Fresh, Payload::Command(command)) = (step, &payload) {
                failpoint::pass(Window::ApplyBefore);
                let joined = pending.get_or_insert_with(|| self.store.begin());
                let applying = Applying { awaited, replaying: step == Step::Replay };
                joined.apply(log_id, command, applying).map_err(io_error)?;
                if joined.is_full() {
                    commit(pending.take(), answer)?;
                }
                continue;
            }
            // The rows that a membership depends on are in the engine then, and raft goes by those
            // that it writes.
            commit(pending.take(), answer)?;
            match (step, payload) {
                (Step::Verified, _) => self.engine.verified(log_id).map_err(io_error)?,
                (Step::Dropped, _) => {}
                (_, Payload::Membership(raft)) => self.commit_alone(self.membership_rows(&raft)?, log_id)?,
                // A leader's first entry.
                _ => self.commit_alone(Batch::default(), log_id)?,
            }
            // The proposer of an entry of an earlier life is gone, and the others are told nothing.
            answer(Bytes::new())?;
        }
        commit(pending, answer)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recovery::Found;
    use node_backend::dispatch;
    use node_backend::engine::{EngineKind, EngineOptions};
    use node_backend::layout::DataDir;
    use node_base::durable;
    use node_base::watermarks::Watermarks;
    use node_proto::command::command::Request;
    use node_proto::etcdserverpb::PutRequest;

    fn to_apply(index: u64, payload: Payload) -> ToApply {
        ToApply { entry: Entry { log_id: LogId::new(1, index), payload }, awaited: true }
    }

    fn put(index: u64) -> ToApply {
        let key = format!("{index}").into();
        to_apply(index, Payload::Command(command::encode(Request::Put(PutRequest { key, ..PutRequest::default() }))))
    }

    /// When an entry is answered, it counts as applied, and readers see its revision; on redb the
    /// commands that are ready at once share a commit, and other entries have one each.
    #[test]
    fn an_entry_is_answered_once_it_is_visible() {
        for (kind, expected) in
            [(EngineKind::Redb, [0, 4, 4, 4, 4, 5, 7, 7]), (EngineKind::Rocksdb, [0, 1, 2, 3, 4, 5, 6, 7])]
        {
            let root = tempfile::tempdir().unwrap();
            let dir = DataDir::new(root.path());
            durable::create_dir_durably(&dir.snap()).unwrap();
            let space = Arc::new(Space::claim(root.path(), Some(0)).unwrap());
            let engine = dispatch::open(dir, kind, EngineOptions::default()).unwrap();
            let marks = Arc::new(Watermarks::at_start(None, None, Some(9)));
            engine.attach(marks.clone()).unwrap();
            let store = Arc::new(Store::open(engine.clone()).unwrap());
            let applier = Applier::new(store.clone(), engine, Replay::new(Found::default()), space);
            let entries = vec![
                to_apply(0, Payload::Blank),
                put(1),
                put(2),
                put(3),
                put(4),
                to_apply(5, Payload::Blank),
                put(6),
                put(7),
            ];
            let (mut seen, mut answered) = (Vec::new(), Vec::new());
            let answer: Answer<'_> = &mut |answer| {
                seen.push((marks.now().applied.map(|id| id.index), store.revision()));
                answered.push(!answer.is_empty());
                Ok(())
            };
            applier.apply(entries, answer).unwrap();
            assert_eq!(answered, [false, true, true, true, true, false, true, true], "{kind}");
            // Two of the entries are blank, and the first revision is 1.
            let revision = |index: u64| 1 + index as i64 - i64::from(index >= 5);
            assert_eq!(seen, expected.map(|index| (Some(index), revision(index))), "{kind}");
        }
    }
}
