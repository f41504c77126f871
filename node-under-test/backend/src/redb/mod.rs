//! The redb engine: one file, a copy-on-write B+ tree, a table per bucket. Only this folder names
//! redb's crate (and the raft log, which is another file with another purpose).
//!
//! 1. *A commit is one transaction*: the rows of the entries that share it, and the LogId of the
//!    last, become visible together, so what a kill leaves is a prefix of the raft log. Entries
//!    that are ready at once share one, because a transaction writes the path to each of its rows
//!    anew: with one for each entry that took a third of a member's CPU.
//! 2. *A group of entries is made durable at once.* [`commit`](Backend::commit) is visible and not
//!    durable; [`settle`](Backend::settle), which apply calls once a group is large or old enough,
//!    commits once more with an fsync, and that makes all transactions before it durable. So one
//!    fsync serves many entries, and a member that lags catches up at the speed of memory. A failed
//!    sync ends the process, no matter which caller asked for it. *Broken by* acknowledging a purge
//!    or a snapshot before the group is settled.
//! 3. *N is E*: the consistent index of the last durable transaction. There is no index file, and
//!    nothing to capture. `persisted` moves when a group has been settled, and only then.
//! 4. *A view owns its transaction*: it holds up no commit, and outlives an install or a
//!    defragmentation, which put another file in this one's place (`defrag.rs` has the claims of
//!    the latter).
//! 5. *An image is a copy of one view in a fresh file*, closed before a byte of it is sent: redb
//!    has no backup call, and the live file is never complete without the pages in memory.

mod defrag;
mod errors;
mod image;
mod in_use;
mod view;

pub use image::{Trust, open_image, write_image};

use crate::engine::{Engine, EngineKind, EngineOptions, Opened};
use crate::layout::DataDir;
use crate::snapshot::install;
use crate::snapshot::write::{self, Outgoing};
use crate::{lock, storage_failed};
use defrag::Notes;
use errors::{failed, next_step};
use in_use::InUse;
use node_base::LogId;
use node_base::backend::{
    Backend, BackendError, Batch, Bucket, CONSISTENT_INDEX, ReadView, Result, Size, Snapshot, SnapshotError,
    consistent_index,
};
use node_base::caught::caught;
use node_base::durable;
use node_base::failpoint::{Window, pass};
use node_base::sabotage::{Bug, planted};
use node_base::watermarks::Watermarks;
use redb::{Database, Durability, WriteTransaction};
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
    /// The last LogId of the group that is visible and not durable. Held through a commit, and
    /// while the file is replaced. Taken before `db`.
    group: Mutex<Option<LogId>>,
    images: AtomicU64,
    in_use: InUse,
    /// Held through a defragmentation; taken before everything else.
    defragmenting: Mutex<()>,
    notes: Notes,
}

impl RedbBackend {
    /// Opens (or makes) the file of `dir` and reads E, which is N. Every checksum of the file is
    /// verified, because redb looks at none while it reads, and the file is repaired after a kill.
    ///
    /// # Errors
    /// A file that is not redb's, is damaged, or is open elsewhere.
    pub fn open(dir: DataDir, options: &EngineOptions) -> Result<Self> {
        let failed = |error: io::Error| BackendError::io(format!("making {}", dir.db().display()), error);
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
            in_use: InUse::default(),
            defragmenting: Mutex::default(),
            notes: Notes::default(),
            dir,
        })
    }

    fn db(&self) -> Result<Arc<Database>> {
        let slot = self.db.read().unwrap_or_else(PoisonError::into_inner);
        slot.clone().ok_or_else(|| BackendError::closed("the database is closed, or an install of it failed"))
    }

    fn replace_db(&self, db: Option<Arc<Database>>) -> Option<Arc<Database>> {
        std::mem::replace(&mut *self.db.write().unwrap_or_else(PoisonError::into_inner), db)
    }

    fn marks(&self) -> Result<&Arc<Watermarks>> {
        self.marks.get().ok_or_else(|| BackendError::refused("the engine must be attached before the first commit"))
    }

    /// Claim 2; the caller holds the group.
    fn settle_group(&self, group: &mut Option<LogId>) -> Result<()> {
        let Some(last) = *group else { return Ok(()) };
        let marks = self.marks()?;
        let db = self.db()?;
        pass(Window::GroupVisible);
        if !planted(Bug::RedbNoSync)
            && let Err(error) = commit_durably(&db, |_| Ok(()))
        {
            // As an error it might reach a client that wanted a snapshot, and no more; and the next
            // group, whose sync succeeds, would be believed.
            storage_failed(&format!("syncing {}", self.dir.db().display()), &error);
        }
        pass(Window::GroupDurable);
        marks.flushed(last);
        marks.persisted(last);
        *group = None;
        Ok(())
    }
}

fn open_db(dir: &DataDir, cache_bytes: usize) -> Result<Arc<Database>> {
    let path = dir.db();
    let opened =
        caught(|| Database::builder().set_cache_size(cache_bytes).set_check_integrity_on_open(true).open(&path));
    let opened = opened.map_or_else(|panic| Err(BackendError::corrupt(panic)), |opened| opened.map_err(failed));
    opened.map(Arc::new).map_err(|error| {
        let next = next_step(&error);
        error.advising(format!("cannot open {}", path.display()), next)
    })
}

fn commit_durably(db: &Database, write: impl FnOnce(&WriteTransaction) -> Result<()>) -> Result<()> {
    let mut txn = db.begin_write().map_err(failed)?;
    txn.set_durability(Durability::Immediate).map_err(failed)?;
    write(&txn)?;
    txn.commit().map_err(failed)
}

/// One commit as one transaction's changes, its LogId the last. Returns by how many bytes the rows
/// grew.
fn write_commit(txn: &WriteTransaction, batch: &Batch, at: LogId) -> Result<i64> {
    let grown = write_rows(txn, batch)?;
    let mut meta = txn.open_table(table(Bucket::Meta)).map_err(failed)?;
    meta.insert(CONSISTENT_INDEX, at.encode().as_slice()).map_err(failed)?;
    Ok(grown)
}

/// The same without a LogId.
fn write_rows(txn: &WriteTransaction, batch: &Batch) -> Result<i64> {
    let bytes = |key: &[u8], value: &[u8]| i64::try_from(key.len() + value.len()).unwrap_or(i64::MAX);
    let mut grown = 0;
    let mut open = None;
    for (bucket, key, value) in batch.changes() {
        let (_, table) = match open.take().filter(|(of, _)| *of == bucket) {
            Some(open_already) => open.insert(open_already),
            None => open.insert((bucket, txn.open_table(table(bucket)).map_err(failed)?)),
        };
        let replaced = match value {
            Some(value) => {
                grown += bytes(key, value);
                table.insert(key, value).map_err(failed)?
            }
            None => table.remove(key).map_err(failed)?,
        };
        grown -= replaced.map_or(0, |old| bytes(key, old.value()));
    }
    Ok(grown)
}

impl Backend for RedbBackend {
    fn read(&self) -> Box<dyn ReadView + '_> {
        Box::new(self.db().map_or_else(View::failed, View::of))
    }

    /// The caller has made the local raft log durable through `at`, and told the marks that `at` is
    /// committed.
    fn commit_then(&self, batch: Batch, at: LogId, visible: &mut dyn FnMut()) -> Result<()> {
        let marks = self.marks()?;
        let mut group = lock(&self.group);
        let mut txn = self.db()?.begin_write().map_err(failed)?;
        txn.set_durability(Durability::None).map_err(failed)?;
        let grown = write_commit(&txn, &batch, at)?;
        txn.commit().map_err(failed)?;
        self.in_use.grew(grown);
        self.notes.add(&batch, true);
        visible();
        *group = Some(at);
        marks.applied(at);
        Ok(())
    }

    /// Claim 1.
    fn commits_are_costly(&self) -> bool {
        true
    }

    /// In the group that is under way, or else durable at once: pages are given back only by a
    /// durable commit.
    fn sweep(&self, batch: Batch) -> Result<()> {
        let group = lock(&self.group);
        let db = self.db()?;
        let mut grown = 0;
        let mut write = |txn: &WriteTransaction| {
            grown = write_rows(txn, &batch)?;
            Ok(())
        };
        if group.is_none() {
            commit_durably(&db, write)?;
        } else {
            let mut txn = db.begin_write().map_err(failed)?;
            txn.set_durability(Durability::None).map_err(failed)?;
            write(&txn)?;
            txn.commit().map_err(failed)?;
        }
        self.in_use.grew(grown);
        self.notes.add(&batch, false);
        Ok(())
    }

    fn settle(&self) -> Result<()> {
        self.settle_group(&mut lock(&self.group))
    }

    fn flush(&self) -> Result<()> {
        self.settle()
    }

    /// Copies a view while commits go on, then hashes the copy: two passes over the data, in
    /// constant memory.
    fn snapshot(&self) -> std::result::Result<Snapshot, SnapshotError> {
        let outgoing = self.dir.outgoing();
        std::fs::create_dir_all(&outgoing).map_err(SnapshotError::io(format!("creating {}", outgoing.display())))?;
        let number = self.images.fetch_add(1, Ordering::Relaxed);
        let image = Outgoing::own(outgoing.join(number.to_string()));
        let view = View::of(self.db()?);
        let log_id = consistent_index(&view)?
            .ok_or_else(|| BackendError::refused("nothing has been applied yet, so there is nothing to send"))?;
        // After the view, so that N is at least the image's index.
        self.settle()?;
        write_image(image.path(), &view, &mut |_| ())?;
        pass(Window::SnapshotImage);
        drop(view);
        write::legacy_stream(image, log_id)
    }

    fn size(&self) -> Result<Size> {
        let path = self.dir.db();
        let measured = std::fs::metadata(&path);
        let measured = measured.map_err(|error| BackendError::io(format!("measuring {}", path.display()), error))?;
        let allocated = measured.len();
        let in_use = self.in_use.bytes(|| {
            let (view, grown) = {
                let _no_commit = lock(&self.group);
                (View::of(self.db()?), self.in_use.grown())
            };
            Ok((view.bytes_in_use()?, grown))
        })?;
        Ok(Size { allocated, in_use: in_use.min(allocated) })
    }

    fn images_are_copies(&self) -> bool {
        true
    }

    /// Readers go on, in the old file if they began there; commits wait for the last round of the
    /// copy alone.
    fn defrag(&self) -> Result<()> {
        self.defragment()
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
        self.marks.set(marks).map_err(|_| BackendError::refused("the engine is attached already"))
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
        // A copy of the old file must not be put in the new one's place.
        let _no_defragmentation = lock(&self.defragmenting);
        let mut group = lock(&self.group);
        self.settle_group(&mut group)?;
        install::refuse_older(&self.dir, marks.now().applied, image)?;
        // Commits are shut out by the group; readers see the old file until the new one is there.
        drop(self.replace_db(None));
        install::exchange(&self.dir).map_err(SnapshotError::io("exchanging db and db.incoming"))?;
        // With the exchange N is M: there is no file to write. The windows stand for the same
        // states as RocksDB's.
        pass(Window::SnapshotPersist);
        self.replace_db(Some(open_db(&self.dir, self.cache_bytes)?));
        self.in_use.forget();
        marks.installed(image);
        pass(Window::SnapshotPersisted);
        install::purge_and_delete_old(&self.dir, purge_log)
    }
}

#[cfg(test)]
mod tests;
