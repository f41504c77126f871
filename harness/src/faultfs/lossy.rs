//! The half of the filesystem that can lose what was not synced: [`Unsynced`] beside the directory
//! below, and the way from the live state to a crash state.
//!
//! A file that loses its last name is kept in a directory of its own beside the mount, its *graves*
//! (`n1.unsynced` beside `n1`), for as long as that loss itself can be lost. A killed harness
//! leaves the live state, and graves that the next mount empties.

use super::change::{Change, Numbered, Place};
use super::instant::Instant;
use super::tree::{errno, errno_of, read_up_to};
use super::unsynced::{Ino, PAGE, Sync, Unsynced};
use super::walked::{Numbers, Walked};
use crate::directory;
use crate::seed::Stream;
use anyhow::Context;
use fuser::Errno;
use ninelives_evidence::power::{Lost, Names};
use nix::fcntl::{RenameFlags, renameat2};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// See the module's documentation.
#[derive(Debug)]
pub struct Lossy {
    unsynced: Unsynced,
    graves: OwnedFd,
    /// The graves of a file: each one is a link more than the member knows of.
    buried: HashMap<Ino, u32>,
}

type Done<T> = Result<T, Errno>;

impl Lossy {
    /// With the graves beside `dir`, emptied.
    ///
    /// # Errors
    /// They cannot be made or emptied.
    pub fn beside(dir: &Path, mode: Names) -> anyhow::Result<Self> {
        let graves = graves_of(dir);
        directory::replace(&graves)?;
        let graves = File::open(&graves).with_context(|| format!("cannot open {}", graves.display()))?;
        Ok(Self { unsynced: Unsynced::new(mode), graves: graves.into(), buried: HashMap::new() })
    }

    /// Links that the member knows nothing of.
    pub fn graves(&self, ino: Ino) -> u32 {
        self.buried.get(&ino).copied().unwrap_or(0)
    }

    /// `length` bytes of `file` at `offset` are about to change.
    pub fn before_write(&mut self, ino: Ino, file: &File, offset: u64, length: u64) -> Done<()> {
        let size = file.metadata()?.len();
        self.unsynced.write(ino, (offset, length), size, |page| read_page(file, page)).map_err(Errno::from)
    }

    /// `file` is about to get another size.
    pub fn before_resize(&mut self, ino: Ino, file: &File, new_size: u64) -> Done<()> {
        let size = file.metadata()?.len();
        self.unsynced.resize(ino, size, new_size, |page| read_page(file, page)).map_err(Errno::from)
    }

    /// A file or directory was made.
    pub fn made(&mut self, dir: Ino, name: &OsStr, ino: Ino) {
        // The number of a file that is gone may have been given again.
        self.unsynced.forget(ino);
        self.linked(dir, name, ino);
    }

    /// A file has got another name.
    pub fn linked(&mut self, dir: Ino, name: &OsStr, ino: Ino) {
        self.unsynced.rename(Change::Bind { at: place(dir, name), ino });
    }

    /// Takes a name away: what had it lies in its grave until a sync makes that durable.
    pub fn remove(&mut self, (dir, fd): (Ino, &OwnedFd), name: &OsStr, flags: AtFlags) -> Done<()> {
        let stat = rustix::fs::statat(fd, name, AtFlags::SYMLINK_NOFOLLOW).map_err(errno)?;
        let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        match (is_dir, flags.contains(AtFlags::REMOVEDIR)) {
            (true, false) => return Err(Errno::EISDIR),
            (false, true) => return Err(Errno::ENOTDIR),
            (true, true) if !is_empty(fd, name)? => return Err(Errno::ENOTEMPTY),
            _ => {}
        }
        let ino = stat.st_ino;
        // The account follows what has really happened.
        let operation = self.unsynced.operation() + 1;
        renameat2(fd, name, &self.graves, &*grave(operation), RenameFlags::empty()).map_err(errno_of)?;
        self.unsynced.rename(Change::Unbind { at: place(dir, name), ino });
        *self.buried.entry(ino).or_default() += 1;
        Ok(())
    }

    /// Renames, with the system call's own meaning of `flags`.
    pub fn rename(
        &mut self,
        (from, from_fd): (Place, &OwnedFd),
        (to, to_fd): (Place, &OwnedFd),
        flags: RenameFlags,
    ) -> Done<()> {
        let number = |fd: &OwnedFd, name: &OsStr| match rustix::fs::statat(fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(error) => Err(errno(error)),
        };
        let ino = number(from_fd, &from.name)?.ok_or(Errno::ENOENT)?.st_ino;
        let there = number(to_fd, &to.name)?;
        if there.is_some_and(|there| there.st_ino == ino) {
            // Two links of one file: nothing happens.
            return renameat2(from_fd, &*from.name, to_fd, &*to.name, flags).map_err(errno_of);
        }
        if flags.contains(RenameFlags::RENAME_EXCHANGE) {
            renameat2(from_fd, &*from.name, to_fd, &*to.name, flags).map_err(errno_of)?;
            let of_other = there.ok_or(Errno::ENOENT)?.st_ino;
            self.unsynced.rename(Change::Exchange { one: from, other: to, ino, of_other });
            return Ok(());
        }
        let replaced = there.filter(|_| !flags.contains(RenameFlags::RENAME_NOREPLACE));
        let Some(replaced) = replaced else {
            renameat2(from_fd, &*from.name, to_fd, &*to.name, flags).map_err(errno_of)?;
            self.unsynced.rename(Change::Move { from, to, ino, replaced: None });
            return Ok(());
        };
        let operation = self.unsynced.operation() + 1;
        if FileType::from_raw_mode(replaced.st_mode) == FileType::Directory {
            if !is_empty(to_fd, &to.name)? {
                return Err(Errno::ENOTEMPTY);
            }
            // A directory has no second link, so the two change places first.
            renameat2(from_fd, &*from.name, to_fd, &*to.name, RenameFlags::RENAME_EXCHANGE).map_err(errno_of)?;
            renameat2(from_fd, &*from.name, &self.graves, &*grave(operation), RenameFlags::empty())
                .map_err(errno_of)?;
            self.moved(from, to, ino, replaced.st_ino);
            return Ok(());
        }
        // A link first, so that the name is never without a file.
        rustix::fs::linkat(to_fd, &*to.name, &self.graves, &*grave(operation), AtFlags::empty()).map_err(errno)?;
        if let Err(error) = renameat2(from_fd, &*from.name, to_fd, &*to.name, flags) {
            rustix::fs::unlinkat(&self.graves, &*grave(operation), AtFlags::empty()).map_err(errno)?;
            return Err(errno_of(error));
        }
        self.moved(from, to, ino, replaced.st_ino);
        Ok(())
    }

    /// `replaced` lies in its grave, and `ino` has its name.
    fn moved(&mut self, from: Place, to: Place, ino: Ino, replaced: Ino) {
        self.unsynced.rename(Change::Move { from, to, ino, replaced: Some(replaced) });
        *self.buried.entry(replaced).or_default() += 1;
    }

    pub fn sync_begins(&mut self, ino: Ino, is_dir: bool) -> Sync {
        self.unsynced.sync_begins(ino, is_dir)
    }

    /// A sync has failed, and what it was for counts as written.
    pub fn sync_lost(&mut self, ino: Ino) {
        self.unsynced.sync_lost(ino);
    }

    /// Makes durable what the sync covers, and empties the graves that are not needed any more.
    pub fn sync_ended(&mut self, sync: Sync) -> Done<()> {
        for Numbered { operation, change, .. } in self.unsynced.sync_ended(sync) {
            let Some(ino) = change.unnamed() else { continue };
            let name = grave(operation);
            let stat = rustix::fs::statat(&self.graves, &*name, AtFlags::SYMLINK_NOFOLLOW).map_err(errno)?;
            let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            let flags = if is_dir { AtFlags::REMOVEDIR } else { AtFlags::empty() };
            rustix::fs::unlinkat(&self.graves, &*name, flags).map_err(errno)?;
            if let Some(graves) = self.buried.get_mut(&ino) {
                *graves -= 1;
                if *graves == 0 {
                    self.buried.remove(&ino);
                }
            }
            if is_dir || stat.st_nlink == 1 {
                self.unsynced.forget(ino);
            }
        }
        Ok(())
    }

    /// Makes the directory below `root` what a power loss leaves of it. The log of changes is empty
    /// afterwards: everything that is there is durable. `keep_at`: where to keep the instant
    /// before.
    ///
    /// # Errors
    /// The directory below cannot be read or written, or the instant cannot be kept.
    pub fn lose(
        self,
        root: &OwnedFd,
        (keep_percent, draws): (u32, &mut Stream),
        keep_at: Option<&Path>,
    ) -> anyhow::Result<(Lost, Option<Instant>)> {
        let Self { unsynced, graves, .. } = self;
        let numbers = Numbers::new();
        let before = Walked::of(root, &graves, &numbers)?;
        let live = |ino: Ino, page: u64| before.read_page(ino, page);
        let crash = unsynced.crash(keep_percent, draws, live).context("cannot read what was written")?;
        let kept = keep_at.map(|at| {
            let kept = Instant::keep((root, &graves), &unsynced, &crash, at);
            kept.with_context(|| format!("cannot keep the instant of a cut in {}", at.display()))
        });
        let kept = kept.transpose()?;
        let lost = before.lose(&crash, (root, &graves), &unsynced)?;
        Ok((lost, kept))
    }
}

/// The place of the graves of `dir`.
pub fn graves_of(dir: &Path) -> PathBuf {
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(".unsynced");
    dir.with_file_name(name)
}

pub fn grave(operation: u64) -> OsString {
    operation.to_string().into()
}

pub fn place(dir: Ino, name: &OsStr) -> Place {
    Place { dir, name: name.to_owned() }
}

/// A page of a file, shorter at its end.
pub fn read_page(file: &File, page: u64) -> io::Result<Vec<u8>> {
    read_up_to(file, page * PAGE, PAGE as usize)
}

fn is_empty(dir: &OwnedFd, name: &OsStr) -> Done<bool> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let dir = rustix::fs::openat(dir, name, flags, Mode::empty()).map_err(errno)?;
    Ok(names_in(&dir).map_err(errno)?.is_empty())
}

pub fn names_in(dir: &OwnedFd) -> rustix::io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(dir)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name));
        }
    }
    Ok(names)
}
