//! The RocksDB engine, its write-ahead log disabled. Only this folder names RocksDB.
//!
//! [`RocksBackend`] survives the database that it holds: an installed snapshot replaces the
//! database under it. A held [`ReadView`] keeps that database open, and an install waits for it;
//! hence two rules: the thread that installs holds no view, and no thread asks for a second view
//! while holding one.

mod capture;
mod image;
mod listener;
mod open_db;
mod options;
mod rows;
mod snapshots;
mod sys;
mod view;

pub use image::{open_image, write_image};
pub use options::MEMTABLE_BYTES_MIN;

use crate::durability::Event;
use crate::engine::{Engine, EngineKind, EngineOptions, Opened};
use crate::last_flushed_index::IndexFile;
use crate::layout::DataDir;
use crate::lock;
use node_base::LogId;
use node_base::backend::{
    Backend, BackendError, Batch, Bucket, CONSISTENT_INDEX, ReadView, Result, Size, Snapshot, SnapshotError,
};
use node_base::chain::chain;
use node_base::failpoint::{Window, pass};
use node_base::sabotage::{Bug, planted};
use node_base::watermarks::Watermarks;
use open_db::OpenEngine;
use rocksdb::{DB, WriteBatch};
use rows::{engine_error, row_key, set_row_key};
use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard};
use view::View;

pub struct RocksBackend {
    dir: DataDir,
    options: EngineOptions,
    opened: Opened,
    /// `None` only inside an install, after one that failed halfway, or once closed.
    engine: RwLock<Option<OpenEngine>>,
    marks: OnceLock<Arc<Watermarks>>,
    /// Held by a commit from its write to its record, so its holder sees no commit half done. Taken
    /// after `engine`, never before: an install that waits for `engine` would otherwise complete a
    /// circle.
    writer: Mutex<()>,
    checkpoints: AtomicU64,
}

impl RocksBackend {
    /// Opens (or creates) the database of `dir` and reads N and E. Blocking, milliseconds.
    ///
    /// # Errors
    /// Bad options, a corrupt `last-flushed-index`, an N without a database, a database that does
    /// not open.
    pub fn open(dir: DataDir, options: EngineOptions) -> Result<Self> {
        options::check(&options)?;
        let index = IndexFile::open(dir.last_flushed_index())?;
        node_base::durable::create_dir_durably(&dir.db())
            .map_err(|error| BackendError::io(format!("creating {}", dir.db().display()), error))?;
        let persisted = index.value();
        let engine = OpenEngine::open(&dir, &options, index)?;
        let opened = Opened { persisted, engine: engine.at_open };
        Ok(Self {
            dir,
            options,
            opened,
            engine: RwLock::new(Some(engine)),
            marks: OnceLock::new(),
            writer: Mutex::new(()),
            checkpoints: AtomicU64::new(0),
        })
    }

    fn engine(&self) -> Result<EngineGuard<'_>> {
        let guard = self.engine.read().unwrap_or_else(PoisonError::into_inner);
        if guard.is_none() {
            return Err(closed());
        }
        Ok(EngineGuard(guard))
    }

    fn marks(&self) -> Result<&Arc<Watermarks>> {
        self.marks.get().ok_or_else(|| BackendError::refused("the engine must be attached before the first commit"))
    }

    /// The last LogId committed or verified in this life, no commit being half done.
    fn settled(&self, engine: &OpenEngine) -> Option<LogId> {
        let _no_commit_half_done = lock(&self.writer);
        engine.progress.proven()
    }
}

fn closed() -> BackendError {
    BackendError::closed("the database is closed, or an install of it failed")
}

/// The engine, which cannot be replaced while this is held.
struct EngineGuard<'a>(RwLockReadGuard<'a, Option<OpenEngine>>);

impl EngineGuard<'_> {
    fn get(&self) -> &OpenEngine {
        self.0.as_ref().expect("checked when the guard was made, and no thread writes while it is held")
    }
}

impl Backend for RocksBackend {
    fn read(&self) -> Box<dyn ReadView + '_> {
        let guard = self.engine.read().unwrap_or_else(PoisonError::into_inner);
        let snapshot = guard.as_ref().map(|engine| sys::PinnedSnapshot::new(engine.db.clone()));
        Box::new(View { snapshot })
    }

    /// The caller has made the local raft log durable through `at`, and told the marks that `at` is
    /// committed.
    fn commit_then(&self, batch: Batch, at: LogId, visible: &mut dyn FnMut()) -> Result<()> {
        let marks = self.marks()?;
        let guard = self.engine()?;
        let engine = guard.get();
        let _single_writer = lock(&self.writer);
        if planted(Bug::NoopDoesNotAdvance) && batch.is_empty() {
            visible();
            marks.applied(at);
            engine.progress.prove(at);
            lock(&engine.progress.ring).record_unwritten(engine.db.db.latest_sequence_number(), at);
            return Ok(());
        }
        if planted(Bug::IndexBeforeData) {
            write_index_first(&engine.db.db, &batch, at)?;
        }
        let rows = encode(&batch, at);
        let batch_bytes = rows.size_in_bytes() as u64;
        engine.db.db.write_opt(rows, &options::write()).map_err(engine_error)?;
        visible();

        // The mark follows the write, the record follows the mark: as soon as the record is there,
        // the persister may move "flushed" up to it, which must not pass "applied".
        marks.applied(at);
        engine.progress.prove(at);
        let lagging = {
            let mut ring = lock(&engine.progress.ring);
            ring.record(engine.db.db.latest_sequence_number(), at, batch_bytes);
            ring.entries() > self.options.lag_entries_max || ring.bytes() > self.options.lag_bytes_max
        };
        if lagging && engine.progress.claim_lag_flush() {
            // The persister flushes, not this thread: a flush may wait for a stall to end.
            let _ = engine.events.send(Event::LagExceeded);
        }
        Ok(())
    }

    /// No record goes with it: a flush that ends in a removal proves the entry before it.
    fn sweep(&self, batch: Batch) -> Result<()> {
        let guard = self.engine()?;
        let _single_writer = lock(&self.writer);
        guard.get().db.db.write_opt(rows_of(&batch), &options::write()).map_err(engine_error)
    }

    /// A memtable is its own group.
    fn settle(&self) -> Result<()> {
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        let guard = self.engine()?;
        let engine = guard.get();
        // The target first, the flush second (claim 7).
        let target = self.settled(engine);
        engine.flush()?;
        match target {
            Some(id) => engine.persist_proven(id),
            // This life has added nothing: what is there came out of the SSTs.
            None => Ok(()),
        }
    }

    fn snapshot(&self) -> std::result::Result<Snapshot, SnapshotError> {
        self.open_snapshot()
    }

    fn size(&self) -> Result<Size> {
        let guard = self.engine()?;
        let property = |name: &str| guard.get().db.db.property_int_value(name).map_err(engine_error);
        let tables = property("rocksdb.live-sst-files-size")?.unwrap_or(0);
        let allocated = property("rocksdb.total-sst-files-size")?.unwrap_or(tables);
        let memory = property("rocksdb.cur-size-all-mem-tables")?.unwrap_or(0);
        Ok(Size { allocated: allocated + memory, in_use: tables + memory })
    }

    /// Merges everything into the last level, which drops overwritten rows and tombstones; readers
    /// and commits go on.
    fn defrag(&self) -> Result<()> {
        self.flush()?;
        self.engine()?.get().db.db.compact_range(None::<&[u8]>, None::<&[u8]>);
        Ok(())
    }

    /// Waits for the last reader and joins the persister; flushes nothing, so an orderly end and a
    /// kill leave the same data behind.
    fn close(&self) -> Result<()> {
        let engine = self.engine.write().unwrap_or_else(PoisonError::into_inner).take();
        engine.map_or(Ok(()), |engine| engine.close().map(drop))
    }
}

impl Engine for RocksBackend {
    fn kind(&self) -> EngineKind {
        EngineKind::Rocksdb
    }

    fn dir(&self) -> &DataDir {
        &self.dir
    }

    fn opened(&self) -> Opened {
        self.opened
    }

    fn finish_install(&self) -> Result<()> {
        let engine = self.engine()?;
        match engine.get().at_open {
            Some(image) => engine.get().finish_install(image),
            None => Err(BackendError::refused("an empty database was not installed by a snapshot")),
        }
    }

    fn attach(&self, marks: Arc<Watermarks>) -> Result<()> {
        self.engine()?.get().attach(marks.clone())?;
        self.marks.set(marks).map_err(|_| BackendError::refused("the engine is attached already"))
    }

    fn verified(&self, id: LogId) -> Result<()> {
        let engine = self.engine()?;
        let at_open = engine.get().at_open;
        if at_open.is_none_or(|at_open| id.index > at_open.index) {
            return Err(BackendError::refused(format!(
                "entry {id} cannot be verified: the engine was opened at {at_open:?}"
            )));
        }
        engine.get().progress.prove(id);
        Ok(())
    }

    fn install_snapshot(
        &self,
        image: LogId,
        purge_log: &mut dyn FnMut() -> io::Result<()>,
    ) -> std::result::Result<(), SnapshotError> {
        self.install(image, purge_log)
    }
}

impl Drop for RocksBackend {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::error!("closing the engine: {}", chain(&error));
        }
    }
}

/// One entry as one batch, its LogId the last key (claim 1).
fn encode(batch: &Batch, at: LogId) -> WriteBatch {
    let mut rows = rows_of(batch);
    rows.put(row_key(Bucket::Meta, CONSISTENT_INDEX), at.encode());
    rows
}

/// Bytes that a row takes in a `WriteBatch` beside its key and value, at most: two lengths, a kind,
/// the bucket.
const ROW_BYTES: usize = 12;
/// Room for the head of a `WriteBatch`, and for the consistent index.
const HEAD_BYTES: usize = 64;

fn rows_of(batch: &Batch) -> WriteBatch {
    let mut rows = WriteBatch::with_capacity_bytes(batch.bytes() + batch.changes().count() * ROW_BYTES + HEAD_BYTES);
    let mut row = Vec::new();
    for (bucket, key, value) in batch.changes() {
        set_row_key(&mut row, bucket, key);
        match value {
            Some(value) => rows.put(&row, value),
            None => rows.delete(&row),
        }
    }
    rows
}

/// Planted bug: etcd#13766. The consistent index is durable before its entry's rows are even
/// written. A kill from here until the next flush loses the rows, and replay believes them applied:
/// state-hash. Now and then only, or nothing would ever be in a memtable to lose.
fn write_index_first(db: &DB, batch: &Batch, at: LogId) -> Result<()> {
    const EVERY: u64 = 16;
    if batch.is_empty() || !at.index.is_multiple_of(EVERY) {
        return Ok(());
    }
    db.write_opt(encode(&Batch::default(), at), &options::write()).map_err(engine_error)?;
    db.flush_opt(&options::flush(true)).map_err(engine_error)?;
    pass(Window::ApplyAfter);
    Ok(())
}
