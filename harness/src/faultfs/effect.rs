//! Crash states of an instant by their effect: the names and contents that each would have, without
//! a directory being made of it.
//!
//! 1. Two crash states have the same digest exactly if the directories made of them have the same
//!    names and contents. So an equal one need not be made to know that it is equal.
//! 2. What was kept is read once, page by page; a digest costs what a crash state changes.

use super::change::{Change, Numbered, Place};
use super::crash::{Crash, Damage};
use super::lossy::{names_in, read_page};
use super::tree::{ROOT, by_descriptor};
use super::unsynced::{Ino, PAGE};
use super::walked::Walked;
use anyhow::{Context, bail};
use rustix::fd::OwnedFd;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

pub type Digest = [u8; 32];

/// What was kept of an instant, as it was live.
#[derive(Debug)]
pub struct Effects {
    names: Names,
    files: HashMap<Ino, Content>,
}

/// The names of all directories, and the graves by the operations that filled them.
#[derive(Debug, Clone, Default)]
struct Names {
    dirs: HashMap<Ino, Dir>,
    graves: HashMap<u64, Ino>,
}

#[derive(Debug, Clone, Default)]
struct Dir {
    names: BTreeMap<OsString, Ino>,
    /// It was removed: no name can come back in it.
    is_gone: bool,
}

#[derive(Debug)]
struct Content {
    file: File,
    length: u64,
    /// Digests of its pages, the last one filled up with zeros.
    pages: Vec<Digest>,
    whole: Digest,
}

impl Effects {
    /// Reads what was kept below `graves`, and what was `walked` through.
    pub fn of(walked: &Walked<'_>, graves: &OwnedFd) -> anyhow::Result<Self> {
        let mut names = Names::default();
        for name in names_in(graves)? {
            let operation = name.to_str().and_then(|name| name.parse().ok());
            let operation =
                operation.with_context(|| format!("expected the number of an operation, found {name:?}"))?;
            names.graves.insert(operation, walked.number_at(graves, &name)?);
        }
        for (ino, (_, fd)) in &walked.dirs {
            let of_dir = names_in(fd)?.into_iter().map(|name| Ok((name.clone(), walked.number_at(fd, &name)?)));
            let names_of_dir = of_dir.collect::<anyhow::Result<_>>()?;
            names.dirs.insert(*ino, Dir { names: names_of_dir, is_gone: false });
        }
        let files = walked.files.iter().map(|(ino, (path, fd))| {
            let content = File::open(by_descriptor(fd)).and_then(Content::of);
            Ok((*ino, content.with_context(|| format!("cannot read {}", path.display()))?))
        });
        Ok(Self { names, files: files.collect::<anyhow::Result<_>>()? })
    }

    /// A page of a file as it was live.
    pub fn read_page(&self, ino: Ino, page: u64) -> io::Result<Vec<u8>> {
        // A file that has lost its last name for good has lost everything with it.
        self.files.get(&ino).map_or(Ok(Vec::new()), |content| read_page(&content.file, page))
    }

    /// Claim 1.
    ///
    /// # Errors
    /// What was kept cannot be read, or names collide that the live directory cannot have left.
    pub fn digest(&self, crash: &Crash) -> anyhow::Result<Digest> {
        let mut names = self.names.clone();
        for named in &crash.names {
            names.take_back(named)?;
        }
        let damages: HashMap<Ino, &Damage> = crash.files.iter().map(|damage| (damage.ino, damage)).collect();
        let mut listing = BTreeMap::new();
        self.list(&names, ROOT, Path::new(""), &damages, &mut listing)?;
        Ok(digest_of(&listing))
    }

    fn list(
        &self,
        names: &Names,
        dir: Ino,
        path: &Path,
        damages: &HashMap<Ino, &Damage>,
        listing: &mut Listing,
    ) -> anyhow::Result<()> {
        for (name, ino) in names.dirs.get(&dir).map(|dir| &dir.names).into_iter().flatten() {
            let path = path.join(name);
            let content = match (names.dirs.contains_key(ino), self.files.get(ino)) {
                (true, _) => {
                    self.list(names, *ino, &path, damages, listing)?;
                    None
                }
                (false, Some(content)) => Some(match damages.get(ino) {
                    Some(damage) => content.damaged(damage)?,
                    None => content.whole,
                }),
                (false, None) => bail!("expected {} among the files that were kept", path.display()),
            };
            listing.insert(path, content);
        }
        Ok(())
    }
}

impl Names {
    /// The counterpart of `Walked::take_back`, which does it on a disk.
    fn take_back(&mut self, named: &Numbered) -> anyhow::Result<()> {
        match &named.change {
            Change::Bind { at, ino } if self.at(at) == Some(*ino) => self.remove(at),
            Change::Unbind { at, .. } => return self.exhume(named.operation, at),
            Change::Move { from, to, ino, replaced } if self.at(to) == Some(*ino) => {
                if !self.dirs.contains_key(&from.dir) {
                    return Ok(());
                }
                self.unname(to);
                self.name(from, *ino)?;
                if replaced.is_some() {
                    return self.exhume(named.operation, to);
                }
            }
            Change::Exchange { one, other, ino, of_other }
                if self.at(one) == Some(*of_other) && self.at(other) == Some(*ino) =>
            {
                self.unname(one);
                self.unname(other);
                self.name(one, *ino)?;
                self.name(other, *of_other)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn at(&self, place: &Place) -> Option<Ino> {
        self.dirs.get(&place.dir)?.names.get(&place.name).copied()
    }

    fn unname(&mut self, place: &Place) -> Option<Ino> {
        self.dirs.get_mut(&place.dir)?.names.remove(&place.name)
    }

    /// Gives `ino` a name, unless its directory is not there, and the name with it.
    fn name(&mut self, place: &Place, ino: Ino) -> anyhow::Result<()> {
        let Some(dir) = self.dirs.get_mut(&place.dir).filter(|dir| !dir.is_gone) else { return Ok(()) };
        match dir.names.insert(place.name.clone(), ino) {
            Some(there) if there != ino => {
                bail!("expected no file at {place:?}, where {ino} was before, found {there}")
            }
            _ => Ok(()),
        }
    }

    fn exhume(&mut self, operation: u64, to: &Place) -> anyhow::Result<()> {
        if self.dirs.get(&to.dir).is_none_or(|dir| dir.is_gone) {
            return Ok(());
        }
        self.graves.remove(&operation).map_or(Ok(()), |ino| self.name(to, ino))
    }

    /// Takes a name away, and with a directory all that is in it.
    fn remove(&mut self, place: &Place) {
        let mut next: Vec<Ino> = self.unname(place).into_iter().collect();
        while let Some(ino) = next.pop() {
            if let Some(dir) = self.dirs.get_mut(&ino) {
                dir.is_gone = true;
                next.extend(std::mem::take(&mut dir.names).into_values());
            }
        }
    }
}

impl Content {
    fn of(file: File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        let pages = (0..length.div_ceil(PAGE)).map(|page| Ok(page_digest(read_page(&file, page)?, PAGE)));
        let pages = pages.collect::<io::Result<Vec<_>>>()?;
        let whole = file_digest(length, pages.iter());
        Ok(Self { file, length, pages, whole })
    }

    /// The digest after `damage`.
    fn damaged(&self, damage: &Damage) -> io::Result<Digest> {
        let length = damage.size.map_or(self.length, |size| size.was);
        let mut pages = self.pages.clone();
        pages.resize(length.div_ceil(PAGE) as usize, page_digest(Vec::new(), PAGE));
        let of_page = |page: u64| (length - page * PAGE).min(PAGE);
        for lost in damage.pages.iter().filter(|lost| lost.page * PAGE < length) {
            pages[lost.page as usize] = page_digest(lost.bytes.clone(), of_page(lost.page));
        }
        // The last page that is left of a file that becomes shorter.
        if let Some(last) = pages.len().checked_sub(1).filter(|_| length < self.length) {
            let page = last as u64;
            if !damage.pages.iter().any(|lost| lost.page == page) {
                pages[last] = page_digest(read_page(&self.file, page)?, of_page(page));
            }
        }
        Ok(file_digest(length, pages.iter()))
    }
}

/// By path: the content's digest of a file; `None`: a directory.
type Listing = BTreeMap<PathBuf, Option<Digest>>;

/// The digest of a page that has so many bytes in the file; the rest counts as zeros.
fn page_digest(mut bytes: Vec<u8>, of_file: u64) -> Digest {
    bytes.truncate(of_file as usize);
    bytes.resize(PAGE as usize, 0);
    Sha256::digest(&bytes).into()
}

fn file_digest<'a>(length: u64, pages: impl Iterator<Item = &'a Digest>) -> Digest {
    let mut whole = Sha256::new();
    whole.update(length.to_le_bytes());
    pages.for_each(|page| whole.update(page));
    whole.finalize().into()
}

fn digest_of(listing: &Listing) -> Digest {
    let mut all = Sha256::new();
    for (path, content) in listing {
        let name = path.as_os_str().as_bytes();
        all.update((name.len() as u64).to_le_bytes());
        all.update(name);
        all.update([u8::from(content.is_some())]);
        all.update(content.unwrap_or_default());
    }
    all.finalize().into()
}

/// The digest of a directory as it lies on a disk.
///
/// # Errors
/// It cannot be read.
#[cfg(test)]
pub fn digest_on_disk(dir: &Path) -> io::Result<Digest> {
    let mut listing = Listing::new();
    let mut next = vec![dir.to_owned()];
    while let Some(at) = next.pop() {
        for entry in std::fs::read_dir(&at)? {
            let (path, is_dir) = {
                let entry = entry?;
                (entry.path(), entry.file_type()?.is_dir())
            };
            let content = if is_dir { None } else { Some(Content::of(File::open(&path)?)?.whole) };
            if is_dir {
                next.push(path.clone());
            }
            listing.insert(path.strip_prefix(dir).unwrap_or(&path).to_owned(), content);
        }
    }
    Ok(digest_of(&listing))
}
