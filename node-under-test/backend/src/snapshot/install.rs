//! Exchanging the database with the staged one, and cleaning up what a kill left of it. A database
//! is a directory or a file; nothing here cares which.

use crate::layout::DataDir;
use node_base::LogId;
use node_base::backend::SnapshotError;
use node_base::durable;
use node_base::failpoint::{Window, pass};
use node_base::sabotage::{Bug, planted};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use std::io;
use std::path::Path;

/// Puts `db.incoming` in the place of `db`; the old database is in `db.incoming` (or `db.old`)
/// afterwards.
///
/// One step where the filesystem can exchange names. Where it cannot, two renames: a kill between
/// them leaves no `db` and the old one in `db.old`, which [`tidy`] puts back. There is no instant
/// at which a start finds no database and takes that for an empty one.
pub(crate) fn swap(dir: &DataDir) -> io::Result<()> {
    match renameat_with(CWD, dir.incoming(), CWD, dir.db(), RenameFlags::EXCHANGE) {
        Ok(()) => {}
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => rename_twice(dir)?,
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// The exchange of an install: durable when this returns.
pub fn exchange(dir: &DataDir) -> io::Result<()> {
    pass(Window::SnapshotExchange);
    swap(dir)?;
    pass(Window::SnapshotExchanged);
    if planted(Bug::SnapshotNoDirFsync) {
        // Kills keep the page cache: only a power loss takes the exchange back, after N and the
        // purge stood on it.
        return Ok(());
    }
    durable::sync_dir(&dir.snap())
}

fn rename_twice(dir: &DataDir) -> io::Result<()> {
    std::fs::rename(dir.db(), dir.old())?;
    // The two names must not reach the disk in the other order: `db` gone and `db.old` not there
    // yet.
    durable::sync_dir(&dir.snap())?;
    std::fs::rename(dir.incoming(), dir.db())
}

/// Refuses and removes an image that is not newer than what this member has.
pub(crate) fn refuse_older(dir: &DataDir, own: Option<LogId>, image: LogId) -> Result<(), SnapshotError> {
    if own.is_none_or(|own| own.index < image.index) {
        return Ok(());
    }
    let _ = remove(&dir.incoming());
    Err(SnapshotError::Refused(format!("this member is at {own:?} already, the snapshot is at {image}")))
}

/// Finishes an install once N = M is durable, in this order: the old database and the entries up to
/// M must not be needed any more when they go.
pub(crate) fn purge_and_delete_old(
    dir: &DataDir,
    purge_log: &mut dyn FnMut() -> io::Result<()>,
) -> Result<(), SnapshotError> {
    purge_log().map_err(SnapshotError::io("purging the raft log"))?;
    pass(Window::SnapshotDelete);
    delete_old(dir).map_err(SnapshotError::io("deleting the old database"))?;
    pass(Window::SnapshotInstalled);
    Ok(())
}

/// Deletes the old database, wherever the exchange put it.
pub fn delete_old(dir: &DataDir) -> io::Result<()> {
    remove(&dir.incoming())?;
    remove(&dir.old())?;
    durable::sync_dir(&dir.snap())
}

/// Removes what an earlier life left of snapshots, and undoes a half-done exchange; says what it
/// did. Before the engine is opened.
pub fn tidy(dir: &DataDir) -> io::Result<Vec<String>> {
    let mut done = Vec::new();
    if put_back_old(dir)? {
        done.push("db.old put back: an install had not come to its second rename".to_owned());
    }
    for path in [dir.incoming(), dir.foreign(), dir.fresh(), dir.old(), dir.outgoing()] {
        if remove(&path)? {
            done.push(format!("{} removed", path.display()));
        }
    }
    if !done.is_empty() {
        durable::sync_dir(&dir.snap())?;
    }
    Ok(done)
}

/// Undoes an exchange that a kill interrupted between its two renames; whether there was one.
pub(crate) fn put_back_old(dir: &DataDir) -> io::Result<bool> {
    if dir.db().exists() || !dir.old().exists() {
        return Ok(false);
    }
    std::fs::rename(dir.old(), dir.db())?;
    durable::sync_dir(&dir.snap())?;
    Ok(true)
}

/// Removes the file or directory at `path`; whether there was one.
pub(crate) fn remove(path: &Path) -> io::Result<bool> {
    let removed = match std::fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(dirs: &[&str]) -> (tempfile::TempDir, DataDir) {
        let tmp = tempfile::tempdir().unwrap();
        let dir = DataDir::new(tmp.path());
        for name in dirs {
            std::fs::create_dir_all(dir.snap().join(name)).unwrap();
            std::fs::write(dir.snap().join(name).join("CURRENT"), name).unwrap();
        }
        (tmp, dir)
    }

    fn db(dir: &DataDir) -> String {
        std::fs::read_to_string(dir.db().join("CURRENT")).unwrap()
    }

    #[test]
    fn both_ways_of_exchanging_end_alike() {
        for exchange in [exchange, swap, rename_twice] {
            let (_tmp, dir) = member(&["db", "db.incoming"]);
            exchange(&dir).unwrap();
            assert_eq!(db(&dir), "db.incoming");
            assert!(dir.incoming().exists() || dir.old().exists(), "the old database is kept until N is durable");
            delete_old(&dir).unwrap();
            assert_eq!(std::fs::read_dir(dir.snap()).unwrap().count(), 1);
        }
    }

    #[test]
    fn a_kill_between_the_two_renames_leaves_the_old_database() {
        let (_tmp, dir) = member(&["db", "db.incoming"]);
        std::fs::rename(dir.db(), dir.old()).unwrap();
        assert_eq!(tidy(&dir).unwrap().len(), 2);
        assert_eq!(db(&dir), "db");
        assert_eq!(std::fs::read_dir(dir.snap()).unwrap().count(), 1);
    }

    #[test]
    fn tidy_never_touches_a_database_that_is_there() {
        let (_tmp, dir) = member(&["db", "db.incoming", "db.old", "outgoing"]);
        tidy(&dir).unwrap();
        assert_eq!(db(&dir), "db");
        assert_eq!(tidy(&dir).unwrap(), Vec::<String>::new());
    }
}
