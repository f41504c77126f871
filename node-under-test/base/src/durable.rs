//! Replacing a small file so that a crash at any point leaves the old content or the new one.
//!
//! The order: write `<name>.tmp`, sync it, rename it over `<name>`, sync the directory. Each step has a
//! hook, so that the caller can name its crash windows, and a test can stop there.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// The step that [`replace_file`] has just finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    TmpWritten,
    TmpSynced,
    Renamed,
    DirectorySynced,
}

/// Replaces `path` by `bytes`, durably, calling `after` at each [`Step`].
///
/// # Errors
/// Any failed step. After an error the old content is still what a reader sees, unless the rename had
/// already happened; a failed sync must not be retried and believed.
pub fn replace_file(path: &Path, bytes: &[u8], mut after: impl FnMut(Step)) -> io::Result<()> {
    let parent =
        path.parent().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a file path without a parent"))?;
    let mut tmp_name = path.as_os_str().to_owned();
    tmp_name.push(".tmp");
    let mut tmp = File::create(&tmp_name)?;
    tmp.write_all(bytes)?;
    after(Step::TmpWritten);
    tmp.sync_all()?;
    after(Step::TmpSynced);
    std::fs::rename(&tmp_name, path)?;
    after(Step::Renamed);
    sync_dir(parent)?;
    after(Step::DirectorySynced);
    Ok(())
}

/// Makes the names in `dir` durable.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Creates `dir` and its missing parents, syncing the parent of each directory that it makes, so that no
/// later sync inside is lost with a name above it.
pub fn create_dir_durably(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    create_dir_durably(parent)?;
    match std::fs::create_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    sync_dir(parent)
}

/// Syncs the file at `path`, or every file and directory under it, then itself.
pub fn sync_tree(path: &Path) -> io::Result<()> {
    if !path.is_dir() {
        return File::open(path)?.sync_all();
    }
    for entry in std::fs::read_dir(path)? {
        sync_tree(&entry?.path())?;
    }
    sync_dir(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// At every step a reader sees the old content or the new one, whole: this fails when the file is
    /// written in place, or renamed before it is written.
    #[test]
    fn every_step_leaves_old_or_new() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("n");
        replace_file(&path, b"old", |_| {}).unwrap();
        let mut seen = Vec::new();
        replace_file(&path, b"new", |step| seen.push((step, std::fs::read(&path).unwrap()))).unwrap();
        assert_eq!(
            seen,
            [
                (Step::TmpWritten, b"old".to_vec()),
                (Step::TmpSynced, b"old".to_vec()),
                (Step::Renamed, b"new".to_vec()),
                (Step::DirectorySynced, b"new".to_vec()),
            ]
        );
    }

    #[test]
    fn nested_directories_are_made_and_exist_already_is_fine() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b/c");
        create_dir_durably(&deep).unwrap();
        create_dir_durably(&deep).unwrap();
        assert!(deep.is_dir());
    }
}
