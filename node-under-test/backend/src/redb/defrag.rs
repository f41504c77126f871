//! Defragmentation: a copy in a fresh file, made beside commits, that takes the file's place.
//!
//! 1. *Commits go on while the rows are copied.* From the moment of the copied view on, commits
//!    note which rows they change; those are copied again, round by round, until a round is short.
//!    Only the last one, and the exchange, keep commits waiting: for as long as a few hundred rows
//!    take, however large the file is.
//! 2. *Until the rename nothing has happened*: an error leaves the old file in use, and the fresh
//!    one is removed.
//! 3. *The rename is the point of no return.* The open file has no name any more, so what is
//!    committed to it from there on would be lost: every error after the rename ends the process,
//!    and the next start opens the new file.

use super::image::Copy;
use super::{RedbBackend, lock, open_db};
use crate::redb::view::View;
use crate::snapshot::install;
use crate::storage_failed;
use node_base::backend::{BackendError, Batch, Bucket, CONSISTENT_INDEX, Result};
use node_base::durable;
use node_base::failpoint::{Window, pass};
use node_base::sabotage::{Bug, planted};
use redb::Database;
use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// Rows that the last round may copy while commits wait.
const LAST_ROUND_ROWS: usize = 512;
/// Rounds after which the last one comes whatever it has to copy: a file that changes faster than
/// it can be copied.
const ROUNDS_MAX: usize = 16;

type Changed = BTreeSet<(Bucket, Vec<u8>)>;

/// The rows that were changed since a copy began. Written under the lock of the group.
#[derive(Default)]
pub(super) struct Notes(Mutex<Option<Changed>>);

impl Notes {
    /// Notes what `batch` changes, and the consistent index if it is of entries, if a copy is under
    /// way.
    pub fn add(&self, batch: &Batch, entry: bool) {
        if let Some(changed) = &mut *lock(&self.0) {
            if entry {
                changed.insert((Bucket::Meta, CONSISTENT_INDEX.to_vec()));
            }
            changed.extend(batch.changes().map(|(bucket, key, _)| (bucket, key.to_vec())));
        }
    }

    fn begin(&self) {
        *lock(&self.0) = Some(Changed::new());
    }

    fn len(&self) -> usize {
        lock(&self.0).as_ref().map_or(0, BTreeSet::len)
    }

    /// Returns the rows that have changed since the last call.
    fn take(&self) -> Changed {
        lock(&self.0).as_mut().map(std::mem::take).unwrap_or_default()
    }

    fn end(&self) {
        *lock(&self.0) = None;
    }
}

/// Ends a copy: nothing is noted any more, and what was not put in place is removed.
struct Attempt<'a> {
    notes: &'a Notes,
    fresh: &'a Path,
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        self.notes.end();
        // After the rename there is nothing under this name.
        if let Err(error) = install::remove(self.fresh) {
            tracing::warn!("removing {}: {error}; the next start does", self.fresh.display());
        }
    }
}

impl RedbBackend {
    pub(super) fn defragment(&self) -> Result<()> {
        let _one_at_a_time = lock(&self.defragmenting);
        let fresh = self.dir.fresh();
        let io = |error: io::Error| BackendError::io(format!("defragmenting {}", self.dir.db().display()), error);
        install::remove(&fresh).map_err(io)?;
        let view = {
            // Claim 1: no commit between the view and the first note.
            let _no_commit = lock(&self.group);
            self.notes.begin();
            View::of(self.db()?)
        };
        let attempt = Attempt { notes: &self.notes, fresh: &fresh };
        let copy = Copy::create(&fresh)?;
        copy.rows(&view, &mut |_| ())?;
        drop(view);
        for _ in 0..ROUNDS_MAX {
            if self.notes.len() <= LAST_ROUND_ROWS {
                break;
            }
            self.copy_changed(&copy)?;
        }
        let mut group = lock(&self.group);
        self.settle_group(&mut group)?;
        self.copy_changed(&copy)?;
        copy.close()?;
        std::fs::File::open(&fresh).and_then(|file| file.sync_all()).map_err(io)?;
        pass(Window::DefragCopied);
        self.put_in_place(&fresh, |fresh, db| std::fs::rename(fresh, db)).map_err(io)?;
        drop(attempt);
        Ok(())
    }

    /// Copies what changed since the last round, as it is now or was a moment ago: what changes
    /// again is noted again.
    fn copy_changed(&self, copy: &Copy) -> Result<()> {
        let changed = match planted(Bug::DefragForgetsCommits) {
            true => Changed::new(),
            false => self.notes.take(),
        };
        let view = View::of(self.db()?);
        copy.again(&view, changed.iter().map(|(bucket, key)| (*bucket, key.as_slice())))
    }

    /// Claim 3. Puts the complete, synced file `fresh` in the database's place; a kill leaves the
    /// one or the other. The caller holds the group.
    ///
    /// # Errors
    /// The error of `rename`: nothing happened.
    fn put_in_place(&self, fresh: &Path, rename: impl FnOnce(&Path, &Path) -> io::Result<()>) -> io::Result<()> {
        rename(fresh, &self.dir.db())?;
        match self.use_renamed() {
            Ok(db) => {
                self.replace_db(Some(db));
                self.in_use.forget();
                Ok(())
            }
            Err(error) => {
                let doing = format!("{} was replaced by its defragmented copy, and then", self.dir.db().display());
                storage_failed(&doing, &error)
            }
        }
    }

    fn use_renamed(&self) -> io::Result<Arc<Database>> {
        pass(Window::DefragRenamed);
        durable::sync_dir(&self.dir.snap())?;
        Ok(open_db(&self.dir, self.cache_bytes)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EXIT_STORAGE;
    use crate::engine::{Engine, EngineOptions};
    use crate::layout::DataDir;
    use node_base::LogId;
    use node_base::backend::Backend;
    use node_base::watermarks::Watermarks;
    use std::process::Command;

    fn member(dir: &Path) -> RedbBackend {
        let backend = RedbBackend::open(DataDir::new(dir), &EngineOptions::default()).unwrap();
        backend.attach(Arc::new(Watermarks::at_start(None, None, Some(9)))).unwrap();
        backend
    }

    fn put(backend: &RedbBackend, index: u64, value: &str) {
        let mut batch = Batch::default();
        batch.put(Bucket::Key, "k", value);
        backend.commit(batch, LogId::new(1, index)).unwrap();
        backend.settle().unwrap();
    }

    /// Says to the child process below which directory is its own.
    const CHILD_DIR: &str = "NINELIVES_TEST_DEFRAG_DIR";

    /// Renames, and breaks what is there now: the new file cannot be opened.
    #[test]
    #[ignore = "the child process of the test below"]
    fn child_whose_renamed_file_does_not_open() {
        let Ok(dir) = std::env::var(CHILD_DIR) else { return };
        let backend = member(Path::new(&dir));
        put(&backend, 1, "before");
        let fresh = backend.dir.fresh();
        Copy::create(&fresh).unwrap().close().unwrap();
        let rename_and_break = |fresh: &Path, db: &Path| {
            std::fs::rename(fresh, db)?;
            std::fs::write(db, b"no database")
        };
        let outcome = backend.put_in_place(&fresh, rename_and_break);
        panic!("went on after the point of no return: {outcome:?}");
    }

    /// Commits to a file without a name would be lost, and N with them: the process ends instead.
    #[test]
    fn claim_3_an_error_after_the_rename_ends_the_process() {
        let tmp = tempfile::tempdir().unwrap();
        let child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--ignored",
                "--nocapture",
                "--exact",
                "redb::defrag::tests::child_whose_renamed_file_does_not_open",
            ])
            .env(CHILD_DIR, tmp.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stderr);
        assert_eq!(child.status.code(), Some(EXIT_STORAGE), "{said}");
        assert!(said.contains("replaced by its defragmented copy"), "{said}");
    }

    #[test]
    fn claim_2_an_error_before_the_rename_leaves_everything_as_it_was() {
        let tmp = tempfile::tempdir().unwrap();
        let backend = member(tmp.path());
        put(&backend, 1, "before");
        let fresh = backend.dir.fresh();
        Copy::create(&fresh).unwrap().close().unwrap();
        let refused = backend.put_in_place(&fresh, |_, _| Err(io::Error::other("injected"))).unwrap_err();
        assert_eq!(refused.to_string(), "injected");
        put(&backend, 2, "after");
        drop(backend);
        let again = RedbBackend::open(DataDir::new(tmp.path()), &EngineOptions::default()).unwrap();
        assert_eq!(again.opened().engine, Some(LogId::new(1, 2)));
        assert_eq!(again.read().get(Bucket::Key, b"k").unwrap().as_deref(), Some(b"after".as_slice()));
    }

    /// Rows that change, come and go while the copy is made are in it as they are in the end.
    #[test]
    fn claim_1_what_is_committed_beside_the_copy_is_in_it() {
        let tmp = tempfile::tempdir().unwrap();
        let backend = member(tmp.path());
        put(&backend, 1, "old");
        let fresh = backend.dir.fresh();
        backend.notes.begin();
        let view = View::of(backend.db().unwrap());
        // Committed after the view, and so not in the first copy.
        let mut batch = Batch::default();
        batch.delete(Bucket::Key, "k");
        batch.put(Bucket::Lease, "l", "new");
        backend.commit(batch, LogId::new(1, 2)).unwrap();
        let copy = Copy::create(&fresh).unwrap();
        copy.rows(&view, &mut |_| ()).unwrap();
        drop(view);
        assert_eq!(backend.notes.len(), 3, "two rows and the consistent index");
        backend.copy_changed(&copy).unwrap();
        copy.close().unwrap();
        let image = super::super::open_image(&fresh, super::super::Trust::Ours).unwrap();
        assert_eq!(node_base::backend::hash(&*image).unwrap(), backend.hash().unwrap());
        assert_eq!(node_base::backend::consistent_index(&*image).unwrap(), Some(LogId::new(1, 2)));
    }
}
