//! A directory below with its graves, walked through, and changes taken back in it.

use super::change::{Change, Numbered, Place};
use super::crash::{Crash, Damage, LostPage};
use super::lossy::{grave, names_in, read_page};
use super::tree::{ROOT, by_descriptor, io_error, open_dir, stat_of};
use super::unsynced::{Ino, PAGE, Unsynced};
use anyhow::Context;
use ninelives_evidence::power::{Lost, LostData, LostName, NameChange};
use nix::fcntl::{RenameFlags, renameat2};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Inodes of a copy, with the numbers that the same files have in the account of changes. Of the
/// original itself it is empty, because there the two are the same.
pub type Numbers = HashMap<u64, Ino>;

/// The directory below, walked through: a descriptor of everything, by number.
pub struct Walked<'a> {
    numbers: &'a Numbers,
    pub dirs: HashMap<Ino, (PathBuf, OwnedFd)>,
    pub files: HashMap<Ino, (PathBuf, OwnedFd)>,
}

impl<'a> Walked<'a> {
    pub fn of(root: &OwnedFd, graves: &OwnedFd, numbers: &'a Numbers) -> anyhow::Result<Self> {
        let mut walked = Self { numbers, dirs: HashMap::new(), files: HashMap::new() };
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
            let found = self.number(stat.st_ino);
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                self.walk(open_dir(&fd)?, Some(found), &path)?;
            } else {
                self.files.insert(found, (path, fd));
            }
        }
        if let Some(number) = number {
            self.dirs.insert(number, (path.to_owned(), dir));
        }
        Ok(())
    }

    fn number(&self, inode: u64) -> Ino {
        self.numbers.get(&inode).copied().unwrap_or(inode)
    }

    /// The number of what is called `name` in a directory.
    pub fn number_at(&self, dir: &OwnedFd, name: &OsStr) -> anyhow::Result<Ino> {
        let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(self.number(stat.st_ino))
    }

    /// The number of what has this name.
    fn at(&self, place: &Place) -> Option<Ino> {
        let (_, dir) = self.dirs.get(&place.dir)?;
        let stat = rustix::fs::statat(dir, &*place.name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        Some(self.number(stat.st_ino))
    }

    /// A page of a file as it is now.
    pub fn read_page(&self, ino: Ino, page: u64) -> io::Result<Vec<u8>> {
        match self.files.get(&ino) {
            Some((_, fd)) => read_page(&File::open(by_descriptor(fd))?, page),
            // It has lost its last name for good, and with it everything.
            None => Ok(Vec::new()),
        }
    }

    /// Makes the directory below `root`, which this walk was through, what `crash` leaves of it,
    /// and tells what was lost.
    pub fn lose(
        &self,
        crash: &Crash,
        (root, graves): (&OwnedFd, &OwnedFd),
        unsynced: &Unsynced,
    ) -> anyhow::Result<Lost> {
        for named in &crash.names {
            self.take_back(named, graves).with_context(|| format!("cannot take back {named:?}"))?;
        }
        let after = Walked::of(root, graves, self.numbers)?;
        for damage in &crash.files {
            after
                .damage(damage)
                .with_context(|| format!("cannot take back what was written to file {}", damage.ino))?;
        }
        let path = |ino: Ino| Some(after.files.get(&ino).or_else(|| self.files.get(&ino))?.0.clone());
        let files = crash.files.iter().filter_map(|damage| {
            Some(LostData {
                operation: damage.operations().first().copied()?,
                // A file that came back out of its grave has its name again.
                path: path(damage.ino)?,
                pages: damage.pages.len() as u64,
                torn: damage.torn(),
                size: damage.size.map(|size| size.was),
                synced: unsynced.synced(damage.ino),
            })
        });
        let names = crash.names.iter().map(|named| self.in_words(named, unsynced));
        Ok(Lost { operations: unsynced.operation(), names: names.collect(), files: files.collect() })
    }

    /// Takes a change of names back, as far as its directories are still there.
    fn take_back(&self, named: &Numbered, graves: &OwnedFd) -> anyhow::Result<()> {
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

    fn damage(&self, damage: &Damage) -> anyhow::Result<()> {
        // A file whose names are all gone has nothing left to lose.
        let Some((_, fd)) = self.files.get(&damage.ino) else { return Ok(()) };
        let file = File::options().read(true).write(true).open(by_descriptor(fd))?;
        let size = damage.size.map_or_else(|| file.metadata().map(|meta| meta.len()), |size| Ok(size.was))?;
        for LostPage { page, bytes, .. } in damage.pages.iter().filter(|lost| lost.page * PAGE < size) {
            let mut whole = bytes.clone();
            whole.resize(PAGE as usize, 0);
            file.write_all_at(&whole, page * PAGE)?;
        }
        file.set_len(size)?;
        Ok(())
    }

    fn in_words(&self, named: &Numbered, unsynced: &Unsynced) -> LostName {
        let (change, at, from) = match &named.change {
            Change::Bind { at, .. } => (NameChange::Creation, at, None),
            Change::Unbind { at, .. } => (NameChange::Removal, at, None),
            Change::Move { from, to, .. } => (NameChange::Rename, to, Some(from)),
            Change::Exchange { one, other, .. } => (NameChange::Exchange, one, Some(other)),
        };
        let path = |place: &Place| {
            let dir = self.dirs.get(&place.dir).map_or(Path::new(""), |(dir, _)| dir);
            dir.join(&place.name)
        };
        let (operation, synced) = (named.operation, unsynced.synced(at.dir));
        LostName { operation, change, path: path(at), from: from.map(path), synced }
    }
}
