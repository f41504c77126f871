//! Replacing a small file so that a crash at any point leaves the old content or the new one.
//!
//! The order: write `<name>.tmp`, sync it, rename it over `<name>`, sync the directory. Each step
//! has a hook, so that the caller can name its crash windows, and a test can stop there.
//!
//! [`remedy`] says what the operator has to do after an error of storage: a full disk is not
//! damage, and advice that fits damage (remove the member) would cost a healthy member.

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
/// Any failed step. After an error the old content is still what a reader sees, unless the rename
/// had already happened; a failed sync must not be retried and believed.
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

/// Creates `dir` and its missing parents, syncing the parent of each directory that it makes, so
/// that no later sync inside is lost with a name above it.
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

/// Errors for which the machine is to blame, and not the data: a part of the error's text as the C
/// library words it, and the remedy. Engines pass errors of the system on as text alone.
const REMEDIES: [(&str, &str); 9] = [
    ("No space left on device", FULL),
    ("Disk quota exceeded", FULL),
    ("Too many open files", "raise the limit of open files (ulimit -n), then start again"),
    ("Cannot allocate memory", "make memory free, then start again"),
    ("Permission denied", "give this user the directory and its files, then start again"),
    ("Operation not permitted", "give this user the directory and its files, then start again"),
    ("Read-only file system", "mount the disk for writing, then start again"),
    ("Transport endpoint is not connected", "mount the disk again, then start again"),
    ("Input/output error", "check the disk, then start again"),
];

const FULL: &str = "the disk is full: make room on it, then start again; the data is sound, and what was \
                    acknowledged is in it";

/// The operator's remedy for a storage error whose text is `error`; `None` if the text names
/// nothing that the machine is to blame for.
pub fn remedy(error: &str) -> Option<&'static str> {
    REMEDIES.iter().find(|(text, _)| error.contains(text)).map(|(_, remedy)| *remedy)
}

/// True if `error` says that the disk is full.
pub fn is_full(error: &(impl std::fmt::Display + ?Sized)) -> bool {
    remedy(&error.to_string()) == Some(FULL)
}

/// The operator's next step after damage of the data.
pub const DAMAGED: &str = "its data is damaged: remove this member from the cluster and add it again under a new id";

/// The last words of a process whose storage failed under it. `damaged`: the failure says that data
/// is damaged.
pub fn last_words(failure: &str, damaged: bool) -> String {
    let otherwise = if damaged { DAMAGED } else { "check the disk, then start again" };
    let next = remedy(failure).unwrap_or(otherwise);
    format!("storage failed: {failure}; not tried again in this life: {next}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A full disk must never be answered by advice to remove the member; other errors keep the
    /// advice of who reports them.
    #[test]
    fn the_machines_troubles_have_remedies_of_their_own() {
        let errno = |errno| io::Error::from_raw_os_error(errno).to_string();
        for full in [28, 122] {
            assert!(is_full(&errno(full)), "{}", errno(full));
            for damaged in [false, true] {
                assert!(last_words(&format!("writing N: {}", errno(full)), damaged).contains("make room"));
            }
        }
        for other in [24, 12, 13, 1, 30, 107, 5] {
            assert!(remedy(&errno(other)).is_some_and(|remedy| remedy.ends_with("then start again")));
        }
        assert_eq!(remedy(&errno(2)), None, "a file that is missing may be damage");
        assert_eq!(remedy("Corruption: block checksum mismatch"), None);
        assert!(last_words("x", false).ends_with("check the disk, then start again"));
        assert!(last_words("x", true).ends_with(DAMAGED));
    }

    /// At every step a reader sees the old content or the new one, whole: this fails when the file
    /// is written in place, or renamed before it is written.
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
