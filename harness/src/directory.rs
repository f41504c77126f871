//! Directories, with all that is in them.

use anyhow::Context;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

/// Removes `dir` with all that is in it, if it exists.
///
/// # Errors
/// It cannot be removed; the error names it.
pub fn remove(dir: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}

/// Makes `dir` an empty directory: removes what is there, and creates missing parents.
///
/// # Errors
/// It cannot be removed or made; the error names it.
pub fn replace(dir: &Path) -> anyhow::Result<()> {
    remove(dir)?;
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))
}
