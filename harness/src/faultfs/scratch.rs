//! A directory for what is made to be thrown away, in memory where this user may mount one.
//!
//! Crash states are made, recovered and removed by the hundred, and a start syncs what it repairs:
//! in memory a sync costs nothing, and what a start does with its files is the same. The mount is
//! taken out of the tree of names at once and lives on by its descriptor. So it ends with this
//! process, whichever way that ends, and its children reach it by the descriptor's path.

use crate::directory;
use anyhow::Context;
use nix::fcntl::OFlag;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// See the module's documentation.
#[derive(Debug)]
pub struct Scratch {
    dir: PathBuf,
    /// `None`: this user may not mount, and it is the directory itself.
    memory: Option<File>,
}

impl Scratch {
    /// At `dir`, which is replaced, and removed when this is dropped.
    ///
    /// # Errors
    /// The directory cannot be replaced, or a mount cannot be undone.
    pub fn at(dir: &Path) -> anyhow::Result<Self> {
        let cannot = || format!("cannot make {}", dir.display());
        directory::replace(dir)?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOATIME;
        let memory = match mount(Some("ninelives"), dir, Some("tmpfs"), flags, Some("mode=0700")) {
            Ok(()) => {
                let opened = OpenOptions::new().read(true).custom_flags(OFlag::O_DIRECTORY.bits()).open(dir);
                umount2(dir, MntFlags::MNT_DETACH).with_context(|| format!("cannot unmount {}", dir.display()))?;
                Some(opened.with_context(cannot)?)
            }
            Err(_) => None,
        };
        Ok(Self { dir: dir.to_owned(), memory })
    }

    /// A path to it, for this process and its children.
    pub fn path(&self) -> PathBuf {
        match &self.memory {
            Some(memory) => PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), memory.as_raw_fd())),
            None => self.dir.clone(),
        }
    }

    /// Whether it is in memory.
    pub fn is_in_memory(&self) -> bool {
        self.memory.is_some()
    }

    /// Removes it, with all that is in it.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove(self) -> anyhow::Result<()> {
        directory::remove(&self.dir)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // An error has no receiver here: the next one at this place replaces what is left.
        let _ = directory::remove(&self.dir);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_at_its_path_for_children_and_leaves_nothing() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("states");
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("left"), b"by a killed run").unwrap();
        let scratch = Scratch::at(&dir).unwrap();
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0);
        std::fs::write(scratch.path().join("f"), b"made").unwrap();
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        assert!(!mounts.contains(dir.to_str().unwrap()), "it has no name: {mounts}");
        assert_eq!(dir.join("f").exists(), !scratch.is_in_memory());
        scratch.remove().unwrap();
        assert!(!dir.exists());
    }
}
