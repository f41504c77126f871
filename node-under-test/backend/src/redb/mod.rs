//! The redb engine: one file, a copy-on-write B+ tree, a table per bucket. Only this folder names redb's crate (and the
//! raft log, which is another file with another purpose).
//!
//! 1. *An entry is one transaction*: its rows and its LogId become visible together, so what a kill leaves is a prefix of
//!    the raft log.
//! 2. *A group of entries is made durable at once.* [`commit`](Backend::commit) is visible and not durable;
//!    [`settle`](Backend::settle), which apply calls when nothing more is ready, commits once more with an fsync, and that makes
//!    all transactions before it durable. So one fsync serves as many entries as were waiting, and a member that lags
//!    catches up at the speed of memory. *Broken by* acknowledging a purge or a snapshot before the group is settled.
//! 3. *N is E*: the consistent index of the last durable transaction. There is no index file, and nothing to capture.
//!    `persisted` moves when a group has been settled, and only then.
//! 4. *A view owns its transaction*: it holds up no commit, and outlives an install or a defragmentation, which put
//!    another file in this one's place.
//! 5. *An image is a copy of one view in a fresh file*, closed before a byte of it is sent: redb has no backup call, and
//!    the live file is never complete without the pages in memory.

mod image;
mod view;

pub use image::{Trust, open_image, write_image};

use crate::engine::{Engine, EngineKind, EngineOptions, Opened};
use crate::layout::DataDir;
use crate::lock;
use crate::snapshot::install;
use crate::snapshot::write::{self, Outgoing};
use node_base::LogId;
use node_base::backend::{
    Backend, BackendError, Batch, Bucket, CONSISTENT_INDEX, ReadView, Result, Size, Snapshot, SnapshotError,
    consistent_index,
};
use node_base::durable;
use node_base::failpoint::{Window, pass};
use node_base::watermarks::Watermarks;
use redb::{Database, Durability, WriteTransaction};
use std::fmt::Display;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use view::{View, table};

pub struct RedbBackend {
    dir: DataDir,
    cache_bytes: usize,
    opened: Opened,
    /// `None` only inside an install, after one that failed halfway, or once closed.
    db: RwLock<Option<Arc<Database>>>,
    marks: OnceLock<Arc<Watermarks>>,
    /// The last LogId of the group that is visible and not durable. Held through a commit, and while the file is
    /// replaced. Taken before `db`.
    group: Mutex<Option<LogId>>,
    images: AtomicU64,
}

impl RedbBackend {
    /// Opens (or makes) the file of `dir` and reads E, which is N. Repairs the file after a kill: that reads all of it.
    ///
    /// # Errors
    /// A file that is not redb's, is damaged, or is open elsewhere.
    pub fn open(dir: DataDir, options: &EngineOptions) -> Result<Self> {
        let failed = |error: io::Error| BackendError(format!("making {}: {error}", dir.db().display()));
        durable::create_dir_durably(&dir.snap()).map_err(failed)?;
        if !dir.db().exists() {
            image::create_empty(&dir).map_err(failed)?;
        }
        let db = open_db(&dir, options.cache_bytes)?;
        let engine = consistent_index(&View::of(db.clone()))?;
        Ok(Self {
            cache_bytes: options.cache_bytes,
            opened: Opened { persisted: engine.map(|id| id.index), engine },
            db: RwLock::new(Some(db)),
            marks: OnceLock::new(),
            group: Mutex::new(None),
            images: AtomicU64::new(0),
            dir,
        })
    }

    fn db(&self) -> Result<Arc<Database>> {
        let slot = self.db.read().unwrap_or_else(PoisonError::into_inner);
        slot.clone().ok_or_else(|| BackendError("the database is closed, or an install of it failed".into()))
    }

    fn replace_db(&self, db: Option<Arc<Database>>) -> Option<Arc<Database>> {
        std::mem::replace(&mut *self.db.write().unwrap_or_else(PoisonError::into_inner), db)
    }

    fn marks(&self) -> Result<&Arc<Watermarks>> {
        self.marks.get().ok_or_else(|| BackendError("the engine must be attached before the first commit".into()))
    }

    /// Claim 2, for whoever holds the group.
    fn settle_group(&self, group: &mut Option<LogId>) -> Result<()> {
        let Some(last) = *group else { return Ok(()) };
        let marks = self.marks()?;
        pass(Window::GroupVisible);
        let mut txn = self.db()?.begin_write().map_err(failed)?;
        txn.set_durability(Durability::Immediate).map_err(failed)?;
        txn.commit().map_err(failed)?;
        pass(Window::GroupDurable);
        marks.flushed(last);
        marks.persisted(last);
        *group = None;
        Ok(())
    }

    /// Puts the complete, synced image at `fresh` in the file's place; a kill leaves the one or the other.
    fn exchange_for_defragmented(&self, fresh: &std::path::Path) -> io::Result<()> {
        std::fs::rename(fresh, self.dir.db())?;
        durable::sync_dir(&self.dir.snap())
    }
}

fn open_db(dir: &DataDir, cache_bytes: usize) -> Result<Arc<Database>> {
    let path = dir.db();
    let opened = Database::builder().set_cache_size(cache_bytes).open(&path);
    opened.map(Arc::new).map_err(|error| {
        let error = error.to_string();
        let next = durable::remedy(&error).unwrap_or(
            "redb never leaves that behind after a kill: restore the file from a backup, or remove this member and add it \
             again under a new id",
        );
        BackendError(format!("cannot open {}: {error}; {next}", path.display()))
    })
}

fn failed(error: impl Display) -> BackendError {
    BackendError(error.to_string())
}

/// One entry as one transaction's changes, its LogId the last.
fn write_entry(txn: &WriteTransaction, batch: &Batch, at: LogId) -> Result<()> {
    let mut open = None;
    for (bucket, key, value) in batch.changes() {
        let (_, table) = match open.take().filter(|(of, _)| *of == bucket) {
            Some(open_already) => open.insert(open_already),
            None => open.insert((bucket, txn.open_table(table(bucket)).map_err(failed)?)),
        };
        match value {
            Some(value) => table.insert(key, value).map_err(failed)?,
            None => table.remove(key).map_err(failed)?,
        };
    }
    drop(open);
    let mut meta = txn.open_table(table(Bucket::Meta)).map_err(failed)?;
    meta.insert(CONSISTENT_INDEX, at.encode().as_slice()).map_err(failed)?;
    Ok(())
}

impl Backend for RedbBackend {
    fn read(&self) -> Box<dyn ReadView + '_> {
        Box::new(self.db().map_or_else(View::failed, View::of))
    }

    /// The caller has made the local raft log durable through `at`, and told the marks that `at` is committed.
    fn commit(&self, batch: Batch, at: LogId) -> Result<()> {
        let marks = self.marks()?;
        let mut group = lock(&self.group);
        let mut txn = self.db()?.begin_write().map_err(failed)?;
        txn.set_durability(Durability::None).map_err(failed)?;
        write_entry(&txn, &batch, at)?;
        txn.commit().map_err(failed)?;
        *group = Some(at);
        marks.applied(at);
        Ok(())
    }

    fn settle(&self) -> Result<()> {
        self.settle_group(&mut lock(&self.group))
    }

    fn flush(&self) -> Result<()> {
        self.settle()
    }

    /// Copies a view while commits go on, then hashes the copy: two passes over the data, in constant memory.
    fn snapshot(&self) -> std::result::Result<Snapshot, SnapshotError> {
        let outgoing = self.dir.outgoing();
        std::fs::create_dir_all(&outgoing).map_err(SnapshotError::io(format!("creating {}", outgoing.display())))?;
        let number = self.images.fetch_add(1, Ordering::Relaxed);
        let image = Outgoing::own(outgoing.join(number.to_string()));
        let view = View::of(self.db()?);
        let log_id = consistent_index(&view)?
            .ok_or_else(|| BackendError("nothing has been applied yet, so there is nothing to send".into()))?;
        // After the view, so that N is at least the image's index.
        self.settle()?;
        write_image(image.path(), &view, &mut |_| ())?;
        pass(Window::SnapshotImage);
        drop(view);
        write::legacy_stream(image, log_id)
    }

    fn size(&self) -> Result<Size> {
        let path = self.dir.db();
        let allocated = std::fs::metadata(&path).map_err(|error| failed(format!("{}: {error}", path.display())))?.len();
        Ok(Size { allocated, in_use: View::of(self.db()?).bytes_in_use()? })
    }

    fn images_are_copies(&self) -> bool {
        true
    }

    /// Commits wait; readers go on in the old file.
    fn defrag(&self) -> Result<()> {
        let mut group = lock(&self.group);
        self.settle_group(&mut group)?;
        let fresh = self.dir.fresh();
        let io = |error: io::Error| failed(format!("defragmenting {}: {error}", self.dir.db().display()));
        install::remove(&fresh).map_err(io)?;
        write_image(&fresh, &View::of(self.db()?), &mut |_| ())?;
        std::fs::File::open(&fresh).and_then(|file| file.sync_all()).map_err(io)?;
        self.exchange_for_defragmented(&fresh).map_err(io)?;
        self.replace_db(Some(open_db(&self.dir, self.cache_bytes)?));
        Ok(())
    }

    fn close(&self) -> Result<()> {
        let mut group = lock(&self.group);
        let settled = self.settle_group(&mut group);
        self.replace_db(None);
        settled
    }
}

impl Engine for RedbBackend {
    fn kind(&self) -> EngineKind {
        EngineKind::Redb
    }

    fn dir(&self) -> &DataDir {
        &self.dir
    }

    fn opened(&self) -> Opened {
        self.opened
    }

    /// Nothing is ever left to finish: the exchange moves E, and N with it.
    fn finish_install(&self) -> Result<()> {
        Ok(())
    }

    fn attach(&self, marks: Arc<Watermarks>) -> Result<()> {
        self.marks.set(marks).map_err(|_| BackendError("the engine is attached already".into()))
    }

    /// Nothing to note: (N, E] is empty.
    fn verified(&self, _id: LogId) -> Result<()> {
        Ok(())
    }

    fn install_snapshot(
        &self,
        image: LogId,
        purge_log: &mut dyn FnMut() -> io::Result<()>,
    ) -> std::result::Result<(), SnapshotError> {
        let marks = self.marks()?.clone();
        let mut group = lock(&self.group);
        self.settle_group(&mut group)?;
        install::refuse_older(&self.dir, marks.now().applied, image)?;
        // Commits are shut out by the group; readers see the old file until the new one is there.
        drop(self.replace_db(None));
        install::exchange(&self.dir).map_err(SnapshotError::io("exchanging db and db.incoming"))?;
        // With the exchange N is M: there is no file to write. The windows stand for the same states as RocksDB's.
        pass(Window::SnapshotPersist);
        self.replace_db(Some(open_db(&self.dir, self.cache_bytes)?));
        marks.installed(image);
        pass(Window::SnapshotPersisted);
        install::purge_and_delete_old(&self.dir, purge_log)
    }
}
