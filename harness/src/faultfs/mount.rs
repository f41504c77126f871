//! Mounting and unmounting, by ourselves: `fuser` only serves the connection.
//!
//! (Its own mount guard misreads the connection's state: when it is dropped, it takes away the next
//! mount at the same place.)

use super::below::Below;
use super::disk::Disk;
use super::gate::Gate;
use super::instant::Instant;
use super::lossy::{Lossy, graves_of};
use super::passthrough::Passthrough;
use super::tree::{by_descriptor, io_error};
use crate::directory;
use crate::seed::Stream;
use anyhow::{Context, anyhow};
use fuser::{BackgroundSession, Config, Session, SessionACL};
use ninelives_evidence::limits;
use ninelives_evidence::power::{Lost, Names};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statfs::statfs;
use std::fmt;
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
    disk: Arc<Disk>,
    /// Which syncs make names durable; `None`: nothing can be lost.
    names: Option<Names>,
    served: Option<Served>,
}

/// A connection to the kernel, and what answers on it.
struct Served {
    session: BackgroundSession,
    below: Arc<Below>,
}

impl fmt::Debug for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Served").finish_non_exhaustive()
    }
}

impl Mount {
    /// Puts the filesystem over `dir`, which is made if it is not there. A mount that a killed
    /// harness left is taken away first. `names`: what is not synced can be lost ([`Mount::cut`]),
    /// and what is there by now is durable.
    ///
    /// # Errors
    /// This machine, or this user, lacks something that a mount needs.
    pub fn over(dir: &Path, names: Option<Names>) -> anyhow::Result<Self> {
        take_stale_away(dir)?;
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .with_context(|| format!("cannot create {}", dir.display()))?;
        let mut mount = Self { at: dir.to_owned(), gate: Arc::default(), disk: Arc::default(), names, served: None };
        mount.serve()?;
        Ok(mount)
    }

    fn serve(&mut self) -> anyhow::Result<()> {
        let dir = &self.at;
        let device = OpenOptions::new().read(true).write(true).open("/dev/fuse").context("cannot open /dev/fuse")?;
        // Before the mount lies over it.
        let root = OpenOptions::new()
            .read(true)
            .custom_flags((OFlag::O_PATH | OFlag::O_DIRECTORY).bits())
            .open(dir)
            .with_context(|| format!("cannot open {}", dir.display()))?;
        let lossy = self.names.map(|names| Lossy::beside(dir, names)).transpose()?;
        let below = Below::new(OwnedFd::from(root), lossy, Arc::clone(&self.disk)).map_err(io_error);
        let below = Arc::new(below.with_context(|| format!("cannot read {}", dir.display()))?);
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0,default_permissions", device.as_raw_fd());
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOATIME;
        mount(Some("ninelives"), dir, Some("fuse.ninelives"), flags, Some(options.as_str()))
            .with_context(|| format!("cannot mount a FUSE filesystem at {}", dir.display()))?;
        let mut config = Config::default();
        config.n_threads = Some(limits::FAULTFS_THREADS);
        let files = Passthrough::new(Arc::clone(&below), Arc::clone(&self.gate));
        let session = Session::from_fd(files, OwnedFd::from(device), SessionACL::Owner, config);
        match session.and_then(Session::spawn) {
            Ok(session) => self.served = Some(Served { session, below }),
            Err(error) => {
                self.unmount();
                return Err(error).context("the kernel refuses the FUSE connection");
            }
        }
        Ok(())
    }

    /// The syncs that make names durable; `None`: nothing can be lost.
    pub fn names(&self) -> Option<Names> {
        self.names
    }

    pub fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// A path of this process to the directory below, for as long as it is mounted. The harness
    /// reads dead directories there and not through the mount: a process that dies while one of its
    /// threads waits for another one's answer to a request on its own mount never goes away.
    pub fn below(&self) -> Option<PathBuf> {
        let served = self.served.as_ref()?;
        served.below.root().ok().map(|root| by_descriptor(&root))
    }

    /// The disk that its member believes to have.
    pub fn disk(&self) -> &Arc<Disk> {
        &self.disk
    }

    /// Lets the power of its member fail, which is dead: what was not synced is lost, and each such
    /// change survives with a chance of `keep_percent`, by the `draws`. The directory is mounted
    /// again, like a disk after a check; what is there now is durable. `keep_at`: where to keep the
    /// instant.
    ///
    /// # Errors
    /// The directory below cannot be changed, or it was not mounted to lose anything.
    pub fn cut(
        &mut self,
        (keep_percent, draws): (u32, &mut Stream),
        keep_at: Option<&Path>,
    ) -> anyhow::Result<(Lost, Option<Instant>)> {
        self.gate.refuse();
        let (lossy, root) = self.end()?.context("this mount keeps everything")?;
        let lost = lossy.lose(&root, (keep_percent, draws), keep_at);
        let lost = lost.with_context(|| format!("cannot cut {}", self.at.display()))?;
        self.serve()?;
        Ok(lost)
    }

    /// Unmounts it, and waits until the last request is over: without the unmounting its threads
    /// would never end.
    fn end(&mut self) -> anyhow::Result<Option<(Lossy, Arc<OwnedFd>)>> {
        let unmounted = self.unmount();
        let served = self.served.take().context("it is not mounted")?;
        if !unmounted {
            return Err(anyhow!("cannot unmount {}", self.at.display()));
        }
        served.session.join().context("the FUSE session ended with an error")?;
        self.disk.settle();
        let below = Arc::into_inner(served.below).context("a request outlives the FUSE session")?;
        Ok(below.into_lossy().map_err(io_error)?)
    }

    /// Forced, so that the connection ends despite open files; detached, so that the directory is
    /// free at once.
    fn unmount(&self) -> bool {
        umount2(&self.at, MntFlags::MNT_FORCE | MntFlags::MNT_DETACH).is_ok()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        self.gate.refuse();
        if self.served.is_none() {
            return;
        }
        // Errors have no receiver here: the next mount clears a dead mount and graves.
        let _ = self.end();
        if self.names.is_some() {
            let _ = directory::remove(&graves_of(&self.at));
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
