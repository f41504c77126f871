//! Exchanging the database's directory with the staged one, and cleaning up what a kill left of it.

use crate::layout::DataDir;
use node_base::durable;
use node_base::failpoint::{Window, pass};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use std::io;
use std::path::Path;

/// Puts `db.incoming` in the place of `db`, durably; the old database is in `db.incoming` (or `db.old`) afterwards.
///
/// One step where the filesystem can exchange names. Where it cannot, two renames: a kill between them leaves
/// no `db` and the old one in `db.old`, which [`tidy`] puts back. There is no instant at which a start finds no
/// database and takes that for an empty one.
pub fn exchange(dir: &DataDir) -> io::Result<()> {
    match renameat_with(CWD, dir.incoming(), CWD, dir.db(), RenameFlags::EXCHANGE) {
        Ok(()) => {}
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => rename_twice(dir)?,
        Err(error) => return Err(error.into()),
    }
    pass(Window::SnapshotExchanged);
    durable::sync_dir(&dir.snap())
}

fn rename_twice(dir: &DataDir) -> io::Result<()> {
    std::fs::rename(dir.db(), dir.old())?;
    // The two names must not reach the disk in the other order: `db` gone and `db.old` not there yet.
    durable::sync_dir(&dir.snap())?;
    std::fs::rename(dir.incoming(), dir.db())
}

/// Deletes the old database, wherever the exchange put it.
pub fn delete_old(dir: &DataDir) -> io::Result<()> {
    remove(&dir.incoming())?;
    remove(&dir.old())?;
    durable::sync_dir(&dir.snap())
}

/// Removes what an earlier life left of snapshots, and undoes a half-done exchange; says what it did.
/// Before the engine is opened.
pub fn tidy(dir: &DataDir) -> io::Result<Vec<String>> {
    let mut done = Vec::new();
    if !dir.db().exists() && dir.old().exists() {
        std::fs::rename(dir.old(), dir.db())?;
        durable::sync_dir(&dir.snap())?;
        done.push("db.old put back: an install had not come to its second rename".to_owned());
    }
    for path in [dir.incoming(), dir.old(), dir.outgoing()] {
        if remove(&path)? {
            done.push(format!("{} removed", path.display()));
        }
    }
    if !done.is_empty() {
        durable::sync_dir(&dir.snap())?;
    }
    Ok(done)
}

pub(crate) fn remove(path: &Path) -> io::Result<bool> {
    match std::fs::remove_dir_all(path) {
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
        for exchange in [exchange, rename_twice] {
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
