//! The files that the kernel knows of a mount: by number, with a descriptor of each and with its
//! name.
//!
//! A number is the file's inode below, so that it stays the same however often the kernel forgets
//! it and asks again; only the root has the one that FUSE demands. A descriptor outlives renaming
//! and unlinking, and keeps the number from being given twice.

use fuser::Errno;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Mode, OFlags, Stat};
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

/// FUSE's number of the root.
pub const ROOT: u64 = 1;

pub struct Tree {
    nodes: HashMap<u64, Node>,
    device: u64,
    root_below: u64,
}

struct Node {
    /// Opened with `O_PATH`: it names the file, and cannot read it.
    fd: Arc<OwnedFd>,
    /// The number of times that the kernel was given it and has not forgotten it.
    lookups: u64,
    /// Directory and name by which it was last found; `None`: it has lost its name. (Of several
    /// hard links it is the last one.)
    place: Option<(u64, OsString)>,
}

impl Tree {
    /// The tree below `root`, a directory.
    pub fn new(root: OwnedFd) -> Result<Self, Errno> {
        let stat = stat_of(&root)?;
        let node = Node { fd: Arc::new(root), lookups: 1, place: None };
        Ok(Self { nodes: HashMap::from([(ROOT, node)]), device: stat.st_dev, root_below: stat.st_ino })
    }

    /// The descriptor of a file that the kernel was given.
    pub fn fd(&self, ino: u64) -> Result<Arc<OwnedFd>, Errno> {
        self.nodes.get(&ino).map(|node| Arc::clone(&node.fd)).ok_or(Errno::ESTALE)
    }

    /// The number above of the file that has `ino` below.
    pub fn above(&self, ino: u64) -> u64 {
        if ino == self.root_below { ROOT } else { ino }
    }

    /// Finds `name` in `parent`, and remembers that the kernel was given it once more.
    pub fn find(&mut self, parent: u64, name: &OsStr) -> Result<(u64, Stat), Errno> {
        let fd = rustix::fs::openat(
            &*self.fd(parent)?,
            name,
            OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(errno)?;
        let stat = stat_of(&fd)?;
        if stat.st_dev != self.device || stat.st_ino == ROOT {
            // Another filesystem is mounted in it: numbers would no longer be unique.
            return Err(Errno::EXDEV);
        }
        let ino = self.above(stat.st_ino);
        let node = self.nodes.entry(ino).or_insert_with(|| Node { fd: Arc::new(fd), lookups: 0, place: None });
        node.lookups += 1;
        node.place = Some((parent, name.to_owned()));
        Ok((ino, stat))
    }

    /// The kernel has forgotten it `lookups` times.
    pub fn forget(&mut self, ino: u64, lookups: u64) {
        if let Some(node) = self.nodes.get_mut(&ino).filter(|_| ino != ROOT) {
            node.lookups = node.lookups.saturating_sub(lookups);
            if node.lookups == 0 {
                self.nodes.remove(&ino);
            }
        }
    }

    /// `name` in `parent` is gone.
    pub fn unnamed(&mut self, parent: u64, name: &OsStr) {
        for node in self.nodes.values_mut().filter(|node| node.is_at(parent, name)) {
            node.place = None;
        }
    }

    /// Records that the file at `from` is at `to` now; with `exchange` the other way round as well.
    pub fn renamed(&mut self, from: (u64, &OsStr), to: (u64, &OsStr), exchange: bool) {
        for node in self.nodes.values_mut() {
            if node.is_at(from.0, from.1) {
                node.place = Some((to.0, to.1.to_owned()));
            } else if node.is_at(to.0, to.1) {
                node.place = exchange.then(|| (from.0, from.1.to_owned()));
            }
        }
    }

    /// Its path from the root; `None`: it has no name any more.
    pub fn path(&self, ino: u64) -> Option<PathBuf> {
        let (mut at, mut names) = (ino, Vec::new());
        while at != ROOT {
            let (parent, name) = self.nodes.get(&at)?.place.as_ref()?;
            names.push(name);
            at = *parent;
        }
        Some(names.into_iter().rev().collect())
    }
}

impl Node {
    fn is_at(&self, parent: u64, name: &OsStr) -> bool {
        self.place.as_ref().is_some_and(|(dir, own)| *dir == parent && own == name)
    }
}

/// A path by which the file of a descriptor can be opened, whatever its name is.
pub fn by_descriptor(fd: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

pub fn stat_of(fd: &OwnedFd) -> Result<Stat, Errno> {
    rustix::fs::statat(fd, "", AtFlags::EMPTY_PATH).map_err(errno)
}

/// Opens the directory of a descriptor so that its entries can be read.
pub fn open_dir(fd: &OwnedFd) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(rustix::fs::CWD, by_descriptor(fd), flags, Mode::empty())
}

/// Reads `length` bytes at `offset`, fewer only at the end of the file.
pub fn read_up_to(file: &File, offset: u64, length: usize) -> io::Result<Vec<u8>> {
    let (mut bytes, mut filled) = (vec![0; length], 0);
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// Translates an error for the kernel into one of the standard library.
pub fn io_error(error: Errno) -> io::Error {
    io::Error::from_raw_os_error(error.code())
}

pub fn errno(error: rustix::io::Errno) -> Errno {
    Errno::from_i32(error.raw_os_error())
}

/// Translates an error of `nix`, as [`errno`] translates one of `rustix`.
pub fn errno_of(error: nix::errno::Errno) -> Errno {
    Errno::from_i32(error as i32)
}
