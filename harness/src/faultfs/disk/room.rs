//! The room on a disk that is full from some moment on, counted as a real one counts it.

use super::{Disk, Done};
use crate::faultfs::tree::errno;
use fuser::Errno;
use rustix::fs::{SeekFrom, StatVfs, seek};
use std::fs::File;
use std::os::unix::fs::MetadataExt;

/// Unit in which room is given.
pub const BLOCK: u64 = 4096;
/// Unit of `st_blocks`.
const SECTOR: u64 = 512;

#[derive(Debug)]
pub(super) struct Full {
    pub(super) left: u64,
    /// No member is asked to survive it.
    pub(super) mortal: bool,
    pub(super) met: u64,
}

impl Disk {
    fn left(&self) -> Option<u64> {
        self.state().full.as_ref().map(|full| full.left)
    }

    fn no_room(&self) -> Errno {
        let mut state = self.state();
        state.refused_room = true;
        if let Some(full) = &mut state.full {
            full.met += 1;
            state.may_end |= full.mortal;
        }
        Errno::ENOSPC
    }

    /// Room was taken or given back.
    fn account(&self, before: u64, after: u64) {
        if let Some(full) = &mut self.state().full {
            full.left = (full.left + before).saturating_sub(after);
        }
    }

    /// Does `work` with as many of the `length` bytes at `offset` of `file` as there is room for.
    ///
    /// # Errors
    /// There is room for none of them, or `work` fails.
    pub(in crate::faultfs) fn write<T>(
        &self,
        file: &File,
        (offset, length): (u64, u64),
        work: impl FnOnce(u64) -> Done<T>,
    ) -> Done<T> {
        let Some(left) = self.left() else { return work(length) };
        let fits = fitting(file, (offset, length), left).map_err(errno)?;
        if fits == 0 && length > 0 {
            return Err(self.no_room());
        }
        if let Some(full) = &mut self.state().full {
            full.met += u64::from(fits < length);
        }
        self.change(file, || work(fits))
    }

    /// Does `work`, which asks for the `length` bytes at `offset` of `file` in advance.
    ///
    /// # Errors
    /// The room does not hold all of them, or `work` fails.
    pub(in crate::faultfs) fn reserve<T>(
        &self,
        file: &File,
        (offset, length): (u64, u64),
        work: impl FnOnce() -> Done<T>,
    ) -> Done<T> {
        let Some(left) = self.left() else { return work() };
        if fitting(file, (offset, length), left).map_err(errno)? < length {
            return Err(self.no_room());
        }
        self.change(file, work)
    }

    /// Does `work`, which may give back room of `file`, or take what it was found to have room for.
    ///
    /// # Errors
    /// `work` fails.
    pub(in crate::faultfs) fn change<T>(&self, file: &File, work: impl FnOnce() -> Done<T>) -> Done<T> {
        if self.left().is_none() {
            return work();
        }
        let room = || Ok::<_, Errno>(file.metadata()?.blocks() * SECTOR);
        let before = room()?;
        let done = work();
        self.account(before, room()?);
        done
    }

    /// Takes the room of a new name, and of what it names.
    ///
    /// # Errors
    /// The disk is full.
    pub(in crate::faultfs) fn make(&self) -> Done<()> {
        match self.left() {
            Some(left) if left < BLOCK => Err(self.no_room()),
            Some(_) => {
                self.account(0, BLOCK);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// A file of so many `sectors` is gone with its last name.
    pub(in crate::faultfs) fn give_back(&self, sectors: u64) {
        self.account(sectors * SECTOR, 0);
    }

    /// Whether room is counted at present.
    pub(in crate::faultfs) fn counts(&self) -> bool {
        self.left().is_some()
    }

    /// The disk below, as the member is to see it.
    pub(in crate::faultfs) fn tell(&self, mut room: StatVfs) -> StatVfs {
        if let Some(full) = &mut self.state().full {
            full.met += 1;
            let blocks = full.left / room.f_frsize.max(1);
            room.f_bfree = room.f_bfree.min(blocks);
            room.f_bavail = room.f_bavail.min(blocks);
            if full.left < BLOCK {
                (room.f_ffree, room.f_favail) = (0, 0);
            }
        }
        room
    }
}

/// How many of the `length` bytes at `offset` of `file` can be written if `left` bytes are left:
/// blocks that the file has already take nothing.
pub(in crate::faultfs) fn fitting(file: &File, (offset, length): (u64, u64), left: u64) -> rustix::io::Result<u64> {
    let (end, mut at, mut blocks) = (offset + length, offset - offset % BLOCK, left / BLOCK);
    while at < end {
        // The next block that the file has.
        let next = beyond(seek(file, SeekFrom::Data(at)))?.map_or(u64::MAX, |data| data - data % BLOCK);
        if next > at {
            let wanted = (next.min(end) - at).div_ceil(BLOCK);
            if wanted > blocks {
                return Ok((at + blocks * BLOCK).saturating_sub(offset));
            }
            blocks -= wanted;
            at += wanted * BLOCK;
        } else {
            let hole = beyond(seek(file, SeekFrom::Hole(at)))?.unwrap_or(end);
            at = hole.div_ceil(BLOCK).max(at / BLOCK + 1) * BLOCK;
        }
    }
    Ok(length)
}

/// `None`: nothing of that kind comes before the file's end.
fn beyond(found: rustix::io::Result<u64>) -> rustix::io::Result<Option<u64>> {
    match found {
        Ok(at) => Ok(Some(at)),
        Err(rustix::io::Errno::NXIO) => Ok(None),
        Err(error) => Err(error),
    }
}
