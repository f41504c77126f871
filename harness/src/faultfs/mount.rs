//! Mounting and unmounting, by ourselves: `fuser` only serves the connection.
//!
//! (Its own mount guard misreads the connection's state: when it is dropped, it takes away the next
//! mount at the same place.)

use super::below::Below;
use super::gate::Gate;
use super::passthrough::Passthrough;
use anyhow::{Context, anyhow};
use fuser::{BackgroundSession, Config, Session, SessionACL};
use ninelives_evidence::limits;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statfs::statfs;
use std::fs::OpenOptions;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A directory under the fault filesystem. Dropping it unmounts it, which breaks files that are
/// still open.
#[derive(Debug)]
pub struct Mount {
    at: PathBuf,
    gate: Arc<Gate>,
    session: Option<BackgroundSession>,
}

impl Mount {
    /// Puts the filesystem over `dir`, which is made if it is not there. A mount that a killed
    /// harness left is taken away first.
    ///
    /// # Errors
    /// This machine, or this user, lacks something that a mount needs.
    pub fn over(dir: &Path) -> anyhow::Result<Self> {
        let device = OpenOptions::new().read(true).write(true).open("/dev/fuse").context("cannot open /dev/fuse")?;
        take_stale_away(dir)?;
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .with_context(|| format!("cannot create {}", dir.display()))?;
        // Before the mount lies over it.
        let root = OpenOptions::new()
            .read(true)
            .custom_flags((OFlag::O_PATH | OFlag::O_DIRECTORY).bits())
            .open(dir)
            .with_context(|| format!("cannot open {}", dir.display()))?;
        let below = Below::new(OwnedFd::from(root)).map_err(|error| std::io::Error::from_raw_os_error(error.code()));
        let below = below.with_context(|| format!("cannot read {}", dir.display()))?;
        let gate = Arc::new(Gate::default());
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0,default_permissions", device.as_raw_fd());
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOATIME;
        mount(Some("ninelives"), dir, Some("fuse.ninelives"), flags, Some(options.as_str()))
            .with_context(|| format!("cannot mount a FUSE filesystem at {}", dir.display()))?;
        // From here on dropping it unmounts.
        let mut mount = Self { at: dir.to_owned(), gate: Arc::clone(&gate), session: None };
        let mut config = Config::default();
        config.n_threads = Some(limits::FAULTFS_THREADS);
        let session = Session::from_fd(Passthrough::new(below, gate), OwnedFd::from(device), SessionACL::Owner, config);
        mount.session = Some(session.and_then(Session::spawn).context("the kernel refuses the FUSE connection")?);
        Ok(mount)
    }

    pub fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        self.gate.refuse();
        // Forced, so that the connection ends despite open files; detached, so that the directory
        // is free at once.
        let unmounted = umount2(&self.at, MntFlags::MNT_FORCE | MntFlags::MNT_DETACH).is_ok();
        // Without the unmounting its threads would never end.
        if let Some(session) = self.session.take().filter(|_| unmounted) {
            let _ = session.join();
        }
    }
}

/// A mount whose harness was killed answers that it is not connected.
fn take_stale_away(dir: &Path) -> anyhow::Result<()> {
    for _ in 0..limits::STALE_MOUNTS_MAX {
        match statfs(dir) {
            Err(Errno::ENOTCONN) => umount2(dir, MntFlags::MNT_DETACH)
                .with_context(|| format!("cannot unmount {}, which a killed run left", dir.display()))?,
            _ => return Ok(()),
        }
    }
    Err(anyhow!("{} has more dead mounts on it than a few killed runs leave: unmount them", dir.display()))
}
