//! Model of what a power loss takes: the changes of a directory tree that no sync has made durable,
//! each with what was there before it.
//!
//! It is an undo log. The directory below always holds the live state; a crash state is the live
//! state without the changes that are lost. So a filesystem that dies loses nothing at all, and
//! memory grows with what is not synced and not with what is stored.
//!
//! ```text
//!   write, truncate ──▶ pages of 4 KiB and sizes, as they were     ── fsync of the file ──▶ forgotten
//!   create, link, unlink, rename ──▶ a log of changes of names     ── by [`Names`] ──▶ forgotten
//!   crash(keep, draws) ──▶ [`Crash`]: names to take back, newest first; pages and sizes to set
//!   part(crash, some operations) ──▶ the [`Crash`] that loses no others
//! ```
//!
//! Claims:
//! 1. What was synced is in every crash state. A sync covers what came before it *began*; what
//!    came while it ran may be lost.
//! 2. A crash state is a function of the changes, the mode, the share that is kept, and the draws.
//! 3. Pages survive one by one, torn at 512 bytes; sizes survive apart from pages, and a page that
//!    is lost from a file that grew reads as zeros.
//! 4. What a failed sync lost is durable only once it is written again, and synced.
//! 5. A name's changes survive in their order: a kept change of a name keeps those before it.
//!
//! Modes, owners and times of files are not part of it: they survive.

use super::change::{Change, Numbered};
use super::crash::{Crash, Damage, LostPage, LostSize, torn};
use crate::seed::Stream;
use ninelives_evidence::power::Names;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Unit in which data survives.
pub const PAGE: u64 = 4096;

/// A file or directory, by its number.
pub type Ino = u64;

/// Something as it was before an operation.
#[derive(Debug, Clone)]
struct Before<T> {
    operation: u64,
    was: T,
}

#[derive(Debug, Clone, Default)]
struct File {
    /// Oldest first; an empty page reads as zeros.
    pages: BTreeMap<u64, Vec<Before<Vec<u8>>>>,
    sizes: Vec<Before<u64>>,
    /// The operation at which the last sync of this file began.
    sync_begun: u64,
    /// Pages that count as written and are not: a sync of them has failed (claim 4).
    stranded: BTreeSet<u64>,
}

impl File {
    /// Whether what is there now has to be remembered before the next change: nothing was since
    /// the last sync began.
    fn wants<T>(versions: Option<&Vec<Before<T>>>, sync_begun: u64) -> bool {
        versions.and_then(|versions| versions.last()).is_none_or(|last| last.operation <= sync_begun)
    }

    /// The first operation that can be lost.
    fn first(&self) -> Option<u64> {
        let pages = self.pages.values().flatten().map(|before| before.operation);
        pages.chain(self.sizes.iter().map(|before| before.operation)).min()
    }

    fn is_durable(&self) -> bool {
        self.pages.is_empty() && self.sizes.is_empty()
    }
}

/// See the module's documentation.
#[derive(Debug, Clone)]
pub struct Unsynced {
    mode: Names,
    /// The number of the last operation.
    operation: u64,
    files: HashMap<Ino, File>,
    /// Oldest first.
    names: Vec<Numbered>,
    /// By file and directory, the operation at which its last sync began that ended.
    synced: HashMap<Ino, u64>,
}

/// A sync that has begun.
#[derive(Debug, Clone, Copy)]
pub struct Sync {
    ino: Ino,
    is_dir: bool,
    begun: u64,
}

impl Unsynced {
    pub fn new(mode: Names) -> Self {
        Self { mode, operation: 0, files: HashMap::new(), names: Vec::new(), synced: HashMap::new() }
    }

    /// The number of the last operation.
    pub fn operation(&self) -> u64 {
        self.operation
    }

    pub fn mode(&self) -> Names {
        self.mode
    }

    /// The operation at which the last sync of a file or directory began that ended; `None`: it had
    /// none.
    pub fn synced(&self, ino: Ino) -> Option<u64> {
        self.synced.get(&ino).copied()
    }

    /// Whether data of a file can be lost.
    pub fn can_lose_data(&self, ino: Ino) -> bool {
        self.files.contains_key(&ino)
    }

    /// `length` bytes at `offset` are about to change, in a file of `size` bytes that may grow.
    /// `read` gives a page as it is, short or empty at the end of the file.
    pub fn write<E>(
        &mut self,
        ino: Ino,
        (offset, length): (u64, u64),
        size: u64,
        read: impl FnMut(u64) -> Result<Vec<u8>, E>,
    ) -> Result<(), E> {
        let Some(last) = length.checked_sub(1) else { return Ok(()) };
        self.operation += 1;
        self.remember_pages(ino, offset / PAGE..=(offset + last) / PAGE, size, read)?;
        if offset + length > size {
            self.remember_size(ino, size);
        }
        Ok(())
    }

    /// A file of `size` bytes is about to have `new_size`.
    pub fn resize<E>(
        &mut self,
        ino: Ino,
        size: u64,
        new_size: u64,
        read: impl FnMut(u64) -> Result<Vec<u8>, E>,
    ) -> Result<(), E> {
        if size == new_size {
            return Ok(());
        }
        self.operation += 1;
        if new_size < size {
            self.remember_pages(ino, new_size / PAGE..=(size - 1) / PAGE, size, read)?;
        }
        self.remember_size(ino, size);
        Ok(())
    }

    fn remember_pages<E>(
        &mut self,
        ino: Ino,
        pages: std::ops::RangeInclusive<u64>,
        size: u64,
        mut read: impl FnMut(u64) -> Result<Vec<u8>, E>,
    ) -> Result<(), E> {
        let operation = self.operation;
        let file = self.files.entry(ino).or_default();
        for page in pages {
            file.stranded.remove(&page);
            if File::wants(file.pages.get(&page), file.sync_begun) {
                let was = if page * PAGE < size { read(page)? } else { Vec::new() };
                file.pages.entry(page).or_default().push(Before { operation, was });
            }
        }
        Ok(())
    }

    fn remember_size(&mut self, ino: Ino, was: u64) {
        let operation = self.operation;
        let file = self.files.entry(ino).or_default();
        if File::wants(Some(&file.sizes), file.sync_begun) {
            file.sizes.push(Before { operation, was });
        }
    }

    /// Names have changed. The change gets the next number, by which the caller keeps what has lost
    /// its name.
    pub fn rename(&mut self, change: Change) {
        self.operation += 1;
        self.names.push(Numbered { operation: self.operation, change, weakest: Names::Journal });
    }

    /// A sync begins.
    pub fn sync_begins(&mut self, ino: Ino, is_dir: bool) -> Sync {
        self.operation += 1;
        if let Some(file) = self.files.get_mut(&ino) {
            file.sync_begun = self.operation;
        }
        Sync { ino, is_dir, begun: self.operation }
    }

    /// A sync has failed: what is not durable of the file's data counts as written, and no later
    /// sync covers it.
    pub fn sync_lost(&mut self, ino: Ino) {
        self.operation += 1;
        if let Some(file) = self.files.get_mut(&ino) {
            file.sync_begun = self.operation;
            file.stranded.extend(file.pages.keys());
        }
    }

    /// A sync has ended well: what it covers is durable. Returns the changes of names that can not
    /// be lost any more.
    pub fn sync_ended(&mut self, sync: Sync) -> Vec<Numbered> {
        let covered = |operation: u64| operation <= sync.begun;
        if let Some(file) = self.files.get_mut(&sync.ino) {
            file.sizes.retain(|before| !covered(before.operation));
            let stranded = &file.stranded;
            file.pages.retain(|page, versions| {
                if stranded.contains(page) {
                    return true;
                }
                versions.retain(|before| !covered(before.operation));
                !versions.is_empty()
            });
            if file.is_durable() {
                self.files.remove(&sync.ino);
            }
        }
        self.synced.insert(sync.ino, sync.begun);
        let mut gone = vec![false; self.names.len()];
        for mode in Names::ALL.into_iter().filter(|mode| *mode <= self.mode) {
            let durable = self.made_durable(mode, &sync);
            let next = mode.stricter().filter(|next| *next <= self.mode);
            for (at, _) in durable.into_iter().enumerate().filter(|(_, durable)| *durable) {
                match next {
                    Some(next) => self.names[at].weakest = self.names[at].weakest.max(next),
                    None => gone[at] = true,
                }
            }
        }
        let mut is_gone = gone.into_iter();
        let (gone, left) = std::mem::take(&mut self.names).into_iter().partition(|_| is_gone.next() == Some(true));
        self.names = left;
        gone
    }

    /// The changes of names that `sync` makes durable in `mode`. A stricter mode's are among them.
    fn made_durable(&self, mode: Names, sync: &Sync) -> Vec<bool> {
        let covered = |named: &Numbered| named.operation <= sync.begun;
        match mode {
            Names::Journal => self.names.iter().map(covered).collect(),
            Names::Inode => {
                let above = self.directories_above(sync.ino);
                self.with_what_they_need(|named| {
                    covered(named)
                        && (named.change.concerns(sync.ino)
                            || sync.is_dir && named.change.is_in(sync.ino)
                            || above.iter().any(|dir| named.change.binds(*dir)))
                })
            }
            Names::Posix => {
                self.with_what_they_need(|named| covered(named) && sync.is_dir && named.change.is_in(sync.ino))
            }
        }
    }

    /// A file is gone for good; its number may be given again.
    pub fn forget(&mut self, ino: Ino) {
        self.files.remove(&ino);
        self.synced.remove(&ino);
    }

    /// The directories that hold a name of `ino`, as far as their own names are not durable by the
    /// syncs of files.
    fn directories_above(&self, ino: Ino) -> BTreeSet<Ino> {
        let (mut found, mut next) = (BTreeSet::new(), vec![ino]);
        while let Some(ino) = next.pop() {
            let losable = self.names.iter().filter(|named| named.weakest <= Names::Inode);
            let dirs = losable.filter(|named| named.change.binds(ino));
            for dir in dirs.flat_map(|named| named.change.places()).flatten().map(|place| place.dir) {
                if found.insert(dir) {
                    next.push(dir);
                }
            }
        }
        found
    }

    /// The changes that are `chosen`, and those before them that they need (claim 5).
    fn with_what_they_need(&self, chosen: impl FnMut(&Numbered) -> bool) -> Vec<bool> {
        let mut kept: Vec<bool> = self.names.iter().map(chosen).collect();
        for at in (0..self.names.len()).rev() {
            let (before, rest) = kept.split_at_mut(at);
            if rest[0] {
                for (needed, earlier) in before.iter_mut().zip(&self.names) {
                    *needed |= earlier.change.shares_a_place(&self.names[at].change);
                }
            }
        }
        kept
    }

    /// What is lost if the power fails now: each change survives with a chance of `keep_percent`.
    /// `live` gives a page as it is now.
    ///
    /// # Errors
    /// Those of `live`.
    pub fn crash<E>(
        &self,
        keep_percent: u32,
        draws: &mut Stream,
        mut live: impl FnMut(Ino, u64) -> Result<Vec<u8>, E>,
    ) -> Result<Crash, E> {
        let survives = |draws: &mut Stream| draws.chance(keep_percent.into(), 100);
        let kept = match self.mode {
            Names::Journal => {
                let length = match keep_percent {
                    0 => 0,
                    100.. => self.names.len() as u64,
                    _ => draws.between(0, self.names.len() as u64),
                };
                (0..self.names.len() as u64).map(|index| index < length).collect()
            }
            Names::Inode | Names::Posix => {
                let chosen: Vec<bool> = self.names.iter().map(|_| survives(draws)).collect();
                let mut chosen = chosen.into_iter();
                self.with_what_they_need(|_| chosen.next() == Some(true))
            }
        };
        let lost = self.names.iter().zip(kept).filter(|(_, kept)| !kept);
        let names = lost.rev().map(|(named, _)| named.clone()).collect();
        // In the order of their changes: the numbers of files are not a function of the changes.
        let mut inodes: Vec<_> = self.files.keys().copied().collect();
        inodes.sort_unstable_by_key(|ino| self.files[ino].first());
        let mut files = Vec::new();
        for ino in inodes {
            let damage = self.files[&ino].crash(ino, &survives, draws, &mut live)?;
            if damage.size.is_some() || !damage.pages.is_empty() {
                files.push(damage);
            }
        }
        Ok(Crash { names, files })
    }

    /// The part of `crash` that loses no other operations than these, as far as `mode` lets them be
    /// lost: a sync may cover them there, and kept changes keep what they need.
    pub fn part(&self, crash: &Crash, operations: &BTreeSet<u64>, mode: Names) -> Crash {
        let lost: BTreeSet<u64> = crash.names.iter().map(|named| named.operation).collect();
        let is_lost = |named: &Numbered| {
            named.weakest <= mode && lost.contains(&named.operation) && operations.contains(&named.operation)
        };
        let kept = match mode {
            Names::Journal => {
                let first_lost = self.names.iter().rposition(|named| !is_lost(named)).map_or(0, |last| last + 1);
                (0..self.names.len()).map(|at| at < first_lost).collect()
            }
            Names::Inode | Names::Posix => self.with_what_they_need(|named| !is_lost(named)),
        };
        let names = self.names.iter().zip(kept).filter(|(_, kept)| !kept).map(|(named, _)| named.clone()).rev();
        Crash { names: names.collect(), files: crash.files.iter().filter_map(|file| file.part(operations)).collect() }
    }
}

impl File {
    fn crash<E>(
        &self,
        ino: Ino,
        survives: &impl Fn(&mut Stream) -> bool,
        draws: &mut Stream,
        live: &mut impl FnMut(Ino, u64) -> Result<Vec<u8>, E>,
    ) -> Result<Damage, E> {
        let mut damage = Damage { ino, size: None, pages: Vec::new() };
        if let [durable, ..] = &self.sizes[..]
            && !survives(draws)
        {
            damage.size = Some(LostSize { operation: durable.operation, was: durable.was });
        }
        for (page, versions) in &self.pages {
            let [durable, later @ ..] = &versions[..] else { continue };
            if survives(draws) {
                continue;
            }
            let (mut bytes, mut is_torn) = (durable.was.clone(), false);
            match draws.pick(later).filter(|_| survives(draws)) {
                Some(between) => bytes.clone_from(&between.was),
                // Some sectors of what was written survive, where anything may.
                None if survives(draws) => {
                    bytes = torn(&durable.was, &live(ino, *page)?, draws);
                    is_torn = true;
                }
                None => {}
            }
            damage.pages.push(LostPage { page: *page, operation: durable.operation, bytes, is_torn });
        }
        Ok(damage)
    }
}
