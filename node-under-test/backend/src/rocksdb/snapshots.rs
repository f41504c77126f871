//! Taking a checkpoint for sending, and replacing the database by a received one.

use super::open_db::Engine;
use super::{RocksBackend, read_consistent_index};
use crate::snapshot::SnapshotError;
use crate::snapshot::install;
use crate::snapshot::read::{RawSnapshot, Unpacked};
use crate::snapshot::write::{CheckpointDir, SnapshotStream};
use node_base::LogId;
use node_base::backend::BackendError;
use node_base::durable;
use node_base::failpoint::{Window, pass};
use rocksdb::checkpoint::Checkpoint;
use std::io::{self, Read};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

/// A checkpoint, ready to be sent.
pub struct OutgoingSnapshot {
    /// M: the consistent index that was read from the image itself. N ≥ M on this member.
    pub log_id: LogId,
    /// Exactly the bytes that the reader yields.
    pub wire_size: u64,
    /// Deletes the checkpoint when it is dropped.
    pub reader: SnapshotStream,
}

impl RocksBackend {
    /// Makes a checkpoint (hard links), and waits until N is at least its index. Blocking, a flush long; commits
    /// go on meanwhile.
    ///
    /// # Errors
    /// [`SnapshotError::NotYet`] while the replay has not come to what the engine already holds.
    pub fn open_snapshot(&self) -> Result<OutgoingSnapshot, SnapshotError> {
        let outgoing = self.dir.outgoing();
        std::fs::create_dir_all(&outgoing).map_err(SnapshotError::io(format!("creating {}", outgoing.display())))?;
        let number = self.checkpoints.fetch_add(1, Ordering::Relaxed);
        let checkpoint = CheckpointDir::own(outgoing.join(number.to_string()));
        let guard = self.engine()?;
        let engine = guard.get();
        Checkpoint::new(&engine.db.db)
            // 0: flush whatever the memtable holds; any other value may leave unflushed entries out.
            .and_then(|maker| maker.create_checkpoint_with_log_size(checkpoint.path(), 0))
            .map_err(|error| BackendError(format!("making a checkpoint: {error}")))?;
        let log_id = read_consistent_index(checkpoint.path())?
            .ok_or_else(|| BackendError("nothing has been applied yet, so there is nothing to send".into()))?;
        self.persist_image_index(engine, log_id)?;
        drop(guard);
        let reader = SnapshotStream::new(checkpoint)?;
        Ok(OutgoingSnapshot { log_id, wire_size: reader.wire_size(), reader })
    }

    /// The image consists of SSTs that the database itself holds, so `image` is proven flushed, unless this life has
    /// not come to it (claim 6).
    fn persist_image_index(&self, engine: &Engine, image: LogId) -> Result<(), SnapshotError> {
        let proven = self.settled(engine);
        if proven.is_none_or(|proven| proven.index < image.index) {
            let why = format!("the image is at {image}, and the replay of this life has come to {proven:?}");
            return Err(SnapshotError::NotYet(why));
        }
        Ok(engine.persist_proven(image)?)
    }

    /// Unpacks a stream into the staging area, proves and syncs it, and checks that its index is `expected`. One at a
    /// time. The running database is not involved.
    ///
    /// # Errors
    /// [`SnapshotError::Refused`] for anything wrong with the stream; nothing is left behind then.
    pub fn receive_snapshot(
        &self,
        expected: LogId,
        wire_size: u64,
        source: &mut dyn Read,
    ) -> Result<(), SnapshotError> {
        let staging = self.dir.incoming();
        let failed = || SnapshotError::io(format!("staging area {}", staging.display()));
        install::remove(&staging).map_err(failed())?;
        let unpacked = RawSnapshot::new(source, wire_size)?.unpack(&staging)?;
        durable::sync_tree(&staging).and_then(|()| durable::sync_dir(&self.dir.snap())).map_err(failed())?;
        self.check_image(&unpacked, expected)?;
        pass(Window::SnapshotUnpacked);
        unpacked.keep();
        Ok(())
    }

    fn check_image(&self, _proven_bytes: &Unpacked, expected: LogId) -> Result<(), SnapshotError> {
        let found = read_consistent_index(&self.dir.incoming())
            .map_err(|error| SnapshotError::Refused(format!("its image does not open: {error}")))?;
        if found == Some(expected) {
            return Ok(());
        }
        Err(SnapshotError::Refused(format!("its image must be at {expected}, as announced, found {found:?}")))
    }

    /// Installs what [`receive_snapshot`](Self::receive_snapshot) staged, in the order that [`snapshot`](crate::snapshot)
    /// explains. `purge_log` purges the raft log durably up to `image`. The calling thread holds no view.
    ///
    /// # Errors
    /// [`SnapshotError::Refused`] if this member is already at `image` or beyond. Any other error is final: the process must end.
    pub fn install_snapshot(
        &self,
        image: LogId,
        purge_log: &mut dyn FnMut() -> io::Result<()>,
    ) -> Result<(), SnapshotError> {
        let marks = self.marks()?.clone();
        // Shuts out commits, flushes and new views alike.
        let mut slot = self.engine.write().unwrap_or_else(PoisonError::into_inner);
        let engine =
            slot.take().ok_or_else(|| BackendError("the database was closed by an install that failed".into()))?;
        // What this life has proven, not E: after a kill inside an install, E may equal an image that comes again.
        let own = engine.progress.proven().max(marks.now().persisted);
        if own.is_some_and(|own| own.index >= image.index) {
            *slot = Some(engine);
            let _ = install::remove(&self.dir.incoming());
            return Err(SnapshotError::Refused(format!(
                "this member is at {own:?} already, the snapshot is at {image}"
            )));
        }
        // From here on nothing of the old database can write N.
        let mut index = engine.close()?;
        install::exchange(&self.dir).map_err(SnapshotError::io("exchanging db and db.incoming"))?;
        pass(Window::SnapshotPersist);
        index.advance(image.index).map_err(SnapshotError::io("writing last-flushed-index"))?;
        pass(Window::SnapshotPersisted);

        let engine = Engine::open(&self.dir, &self.options, index)?;
        marks.installed(image);
        engine.progress.prove(image);
        engine.attach(marks)?;
        *slot = Some(engine);
        purge_log().map_err(SnapshotError::io("purging the raft log"))?;
        pass(Window::SnapshotDelete);
        install::delete_old(&self.dir).map_err(SnapshotError::io("deleting the old database"))
    }
}
