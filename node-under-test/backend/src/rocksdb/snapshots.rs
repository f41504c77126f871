//! Taking a checkpoint for sending, and replacing the database by a received one.

use super::open_db::OpenEngine;
use super::rows::engine_error;
use super::{RocksBackend, closed};
use crate::engine::EngineKind;
use crate::snapshot::install;
use crate::snapshot::write::{Outgoing, SnapshotStream};
use node_base::LogId;
use node_base::backend::{BackendError, Declared, Snapshot, SnapshotError};
use node_base::failpoint::{Window, pass};
use rocksdb::checkpoint::Checkpoint;
use std::io;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

impl RocksBackend {
    /// Makes a checkpoint (hard links), and waits until N is at least its index. Blocking, a flush
    /// long; commits go on meanwhile.
    ///
    /// # Errors
    /// [`SnapshotError::NotYet`] while the replay has not come to what the engine already holds.
    pub(super) fn open_snapshot(&self) -> Result<Snapshot, SnapshotError> {
        let outgoing = self.dir.outgoing();
        std::fs::create_dir_all(&outgoing).map_err(SnapshotError::io(format!("creating {}", outgoing.display())))?;
        let number = self.checkpoints.fetch_add(1, Ordering::Relaxed);
        let checkpoint = Outgoing::own(outgoing.join(number.to_string()));
        let guard = self.engine()?;
        let engine = guard.get();
        Checkpoint::new(&engine.db.db)
            // 0: flush whatever the memtable holds; any other value may leave unflushed entries
            // out.
            .and_then(|maker| maker.create_checkpoint_with_log_size(checkpoint.path(), 0))
            .map_err(|error| engine_error(error).during("making a checkpoint"))?;
        let log_id = EngineKind::Rocksdb
            .image_index(checkpoint.path())?
            .ok_or_else(|| BackendError::refused("nothing has been applied yet, so there is nothing to send"))?;
        pass(Window::SnapshotImage);
        self.persist_image_index(engine, log_id)?;
        drop(guard);
        let reader = SnapshotStream::new(checkpoint)?;
        let declared = Declared { wire_size: reader.wire_size(), sha256: None };
        Ok(Snapshot { log_id, declared, reader: Box::new(reader) })
    }

    /// The image consists of SSTs that the database itself holds, so `image` is proven flushed,
    /// unless this life has not come to it (claim 6).
    fn persist_image_index(&self, engine: &OpenEngine, image: LogId) -> Result<(), SnapshotError> {
        let proven = self.settled(engine);
        if proven.is_none_or(|proven| proven.index < image.index) {
            let why = format!("the image is at {image}, and the replay of this life has come to {proven:?}");
            return Err(SnapshotError::NotYet(why));
        }
        Ok(engine.persist_proven(image)?)
    }

    /// See [`Engine::install_snapshot`](crate::engine::Engine::install_snapshot).
    pub(super) fn install(
        &self,
        image: LogId,
        purge_log: &mut dyn FnMut() -> io::Result<()>,
    ) -> Result<(), SnapshotError> {
        let marks = self.marks()?.clone();
        // Shuts out commits, flushes and new views alike.
        let mut slot = self.engine.write().unwrap_or_else(PoisonError::into_inner);
        let open = slot.as_ref().ok_or_else(closed)?;
        // What this life has proven, not E: after a kill inside an install, E may equal an image
        // that comes again.
        install::refuse_older(&self.dir, open.progress.proven().max(marks.now().persisted), image)?;
        let engine = slot.take().ok_or_else(closed)?;
        // From here on nothing of the old database can write N.
        let mut index = engine.close()?;
        install::exchange(&self.dir).map_err(SnapshotError::io("exchanging db and db.incoming"))?;
        pass(Window::SnapshotPersist);
        index.advance(image.index).map_err(SnapshotError::io("writing last-flushed-index"))?;
        pass(Window::SnapshotPersisted);

        let engine = OpenEngine::open(&self.dir, &self.options, index)?;
        marks.installed(image);
        engine.progress.prove(image);
        engine.attach(marks)?;
        *slot = Some(engine);
        install::purge_and_delete_old(&self.dir, purge_log)
    }
}
