//! A directory below with its graves, walked through, and changes taken back in it.

use super::lossy::{grave, names_in};
use super::tree::{ROOT, by_descriptor, io_error, open_dir, stat_of};
use super::unsynced::{Change, Damage, Ino, Numbered, PAGE, Place};
use anyhow::Context;
use ninelives_evidence::power::{LostName, NameChange};
use nix::fcntl::{RenameFlags, renameat2};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The directory below, walked through: a descriptor of everything, by number.
pub struct Walked {
    pub dirs: HashMap<Ino, (PathBuf, OwnedFd)>,
    pub files: HashMap<Ino, (PathBuf, OwnedFd)>,
}

impl Walked {
    pub fn of(root: &OwnedFd, graves: &OwnedFd) -> anyhow::Result<Self> {
        let mut walked = Self { dirs: HashMap::new(), files: HashMap::new() };
        // Directories in graves can be places of names that come back.
        walked.walk(open_dir(graves)?, None, Path::new("")).context("cannot read the graves")?;
        walked.walk(open_dir(root)?, Some(ROOT), Path::new("")).context("cannot read the directory")?;
        Ok(walked)
    }

    fn walk(&mut self, dir: OwnedFd, number: Option<Ino>, path: &Path) -> anyhow::Result<()> {
        for name in names_in(&dir)? {
            let path = path.join(&name);
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let fd = rustix::fs::openat(&dir, &*name, flags, Mode::empty())?;
            let stat = stat_of(&fd).map_err(io_error)?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                self.walk(open_dir(&fd)?, Some(stat.st_ino), &path)?;
            } else {
                self.files.insert(stat.st_ino, (path, fd));
            }
        }
        if let Some(number) = number {
            self.dirs.insert(number, (path.to_owned(), dir));
        }
        Ok(())
    }

    /// The number of what has this name.
    fn at(&self, place: &Place) -> Option<Ino> {
        let (_, dir) = self.dirs.get(&place.dir)?;
        rustix::fs::statat(dir, &*place.name, AtFlags::SYMLINK_NOFOLLOW).ok().map(|stat| stat.st_ino)
    }

    /// Takes a change of names back, as far as its directories are still there.
    pub fn take_back(&self, named: &Numbered, graves: &OwnedFd) -> anyhow::Result<()> {
        let dir = |place: &Place| self.dirs.get(&place.dir).map(|(_, fd)| fd);
        let exhume = |to: &Place| -> anyhow::Result<()> {
            let Some(fd) = dir(to) else { return Ok(()) };
            let name = grave(named.operation);
            match renameat2(graves, &*name, fd, &*to.name, RenameFlags::RENAME_NOREPLACE) {
                // Its directory is gone, and with it the name.
                Err(nix::errno::Errno::ENOENT) => Ok(()),
                done => Ok(done?),
            }
        };
        match &named.change {
            Change::Bind { at, ino } if self.at(at) == Some(*ino) => {
                let Some(fd) = dir(at) else { return Ok(()) };
                if self.dirs.contains_key(ino) {
                    std::fs::remove_dir_all(by_descriptor(fd).join(&at.name))?;
                } else {
                    rustix::fs::unlinkat(fd, &*at.name, AtFlags::empty())?;
                }
                Ok(())
            }
            Change::Unbind { at, .. } => exhume(at),
            Change::Move { from, to, ino, replaced } if self.at(to) == Some(*ino) => {
                let (Some(old), Some(new)) = (dir(from), dir(to)) else { return Ok(()) };
                match renameat2(new, &*to.name, old, &*from.name, RenameFlags::RENAME_NOREPLACE) {
                    // The directory that it came from is gone, and the file with it.
                    Err(nix::errno::Errno::ENOENT) => rustix::fs::unlinkat(new, &*to.name, AtFlags::empty())?,
                    done => done?,
                }
                replaced.map_or(Ok(()), |_| exhume(to))
            }
            Change::Exchange { one, other, ino, of_other }
                if self.at(one) == Some(*of_other) && self.at(other) == Some(*ino) =>
            {
                let (Some(first), Some(second)) = (dir(one), dir(other)) else { return Ok(()) };
                Ok(renameat2(first, &*one.name, second, &*other.name, RenameFlags::RENAME_EXCHANGE)?)
            }
            _ => Ok(()),
        }
    }

    pub fn damage(&self, damage: &Damage) -> anyhow::Result<()> {
        // A file whose names are all gone has nothing left to lose.
        let Some((_, fd)) = self.files.get(&damage.ino) else { return Ok(()) };
        let file = File::options().read(true).write(true).open(by_descriptor(fd))?;
        let size = damage.size.map_or_else(|| file.metadata().map(|meta| meta.len()), Ok)?;
        for (page, bytes) in damage.pages.iter().filter(|(page, _)| page * PAGE < size) {
            let mut whole = bytes.clone();
            whole.resize(PAGE as usize, 0);
            file.write_all_at(&whole, page * PAGE)?;
        }
        file.set_len(size)?;
        Ok(())
    }

    pub fn in_words(&self, named: &Numbered) -> LostName {
        let (change, at) = match &named.change {
            Change::Bind { at, .. } => (NameChange::Creation, at),
            Change::Unbind { at, .. } => (NameChange::Removal, at),
            Change::Move { to, .. } => (NameChange::Rename, to),
            Change::Exchange { one, .. } => (NameChange::Exchange, one),
        };
        let dir = self.dirs.get(&at.dir).map_or(Path::new(""), |(dir, _)| dir);
        LostName { operation: named.operation, change, path: dir.join(&at.name) }
    }
}
