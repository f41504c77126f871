//! The operations below: each one as its system calls on the backing directory.

use super::attr::{self, attr};
use super::disk::Disk;
use super::failing::Fate;
use super::lossy::{Lossy, place};
use super::point::Class;
use super::tree::{ROOT, Tree, by_descriptor, errno, errno_of, read_up_to, stat_of};
use super::unsynced::Sync;
use fuser::{Errno, FileAttr, FileType, RenameFlags, TimeOrNow};
use nix::fcntl::{FallocateFlags, fallocate, renameat2};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, SeekFrom, Stat, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, Uid};
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::UNIX_EPOCH;

/// An open file or directory, by the number that the kernel was given.
#[derive(Default)]
struct Handles {
    given: u64,
    open: HashMap<u64, Handle>,
}

#[derive(Clone)]
struct Handle {
    file: Arc<File>,
    /// A directory's entries, as they were when it was read from its beginning.
    entries: Arc<Vec<Entry>>,
}

pub struct Entry {
    pub ino: u64,
    pub kind: FileType,
    pub name: OsString,
}

/// The attributes that `setattr` may change.
pub struct Changes {
    pub mode: Option<u32>,
    pub owner: (Option<u32>, Option<u32>),
    pub size: Option<u64>,
    pub accessed: Option<TimeOrNow>,
    pub modified: Option<TimeOrNow>,
}

pub struct Below {
    tree: Mutex<Tree>,
    handles: Mutex<Handles>,
    /// The account of what a power loss would take. It is held while a change is remembered and
    /// made, so that both happen as one. `None`: nothing can be lost.
    lossy: Option<Mutex<Lossy>>,
    /// The disk that the member believes to have.
    disk: Arc<Disk>,
}

type Done<T> = Result<T, Errno>;

impl Below {
    /// # Errors
    /// `root` is not a readable directory.
    pub fn new(root: OwnedFd, lossy: Option<Lossy>, disk: Arc<Disk>) -> Done<Self> {
        Ok(Self { tree: Mutex::new(Tree::new(root)?), handles: Mutex::default(), lossy: lossy.map(Mutex::new), disk })
    }

    /// The directory whose content is shown.
    pub fn root(&self) -> Done<Arc<OwnedFd>> {
        self.fd(ROOT)
    }

    /// Ends the account of what a power loss would take, and gives it with the root.
    pub fn into_lossy(self) -> Done<Option<(Lossy, Arc<OwnedFd>)>> {
        let root = self.fd(ROOT)?;
        let lossy = self.lossy.map(|lossy| lossy.into_inner().unwrap_or_else(PoisonError::into_inner));
        Ok(lossy.map(|lossy| (lossy, root)))
    }

    fn lossy(&self) -> Option<MutexGuard<'_, Lossy>> {
        self.lossy.as_ref().map(|lossy| lossy.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The attributes as the member knows them: graves are not links.
    fn attr(&self, ino: u64, stat: &Stat) -> FileAttr {
        let mut attr = attr(ino, stat);
        match self.lossy().map_or(0, |lossy| lossy.graves(ino)) {
            0 => {}
            // A directory has one name, and a link from within itself that goes with it.
            _ if attr.kind == FileType::Directory => attr.nlink = 0,
            graves => attr.nlink = attr.nlink.saturating_sub(graves),
        }
        attr
    }

    fn tree(&self) -> MutexGuard<'_, Tree> {
        self.tree.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handles(&self) -> MutexGuard<'_, Handles> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fd(&self, ino: u64) -> Done<Arc<OwnedFd>> {
        self.tree().fd(ino)
    }

    fn handle(&self, handle: u64) -> Done<Handle> {
        self.handles().open.get(&handle).cloned().ok_or(Errno::EBADF)
    }

    /// The disk that the member believes to have.
    pub fn disk(&self) -> &Arc<Disk> {
        &self.disk
    }

    /// The class of a file by its present name.
    pub fn class(&self, ino: u64) -> Option<Class> {
        self.tree().path(ino).and_then(|path| Class::of(&path))
    }

    /// The class of a file called `name` in `parent`.
    pub fn class_at(&self, parent: u64, name: &OsStr) -> Option<Class> {
        self.tree().path(parent).and_then(|path| Class::of(&path.join(name)))
    }

    pub fn lookup(&self, parent: u64, name: &OsStr) -> Done<FileAttr> {
        let (ino, stat) = self.tree().find(parent, name)?;
        Ok(self.attr(ino, &stat))
    }

    pub fn forget(&self, ino: u64, lookups: u64) {
        self.tree().forget(ino, lookups);
    }

    pub fn getattr(&self, ino: u64) -> Done<FileAttr> {
        Ok(self.attr(ino, &stat_of(&*self.fd(ino)?)?))
    }

    pub fn setattr(&self, ino: u64, changes: &Changes) -> Done<FileAttr> {
        let fd = self.fd(ino)?;
        if let Some(mode) = changes.mode {
            std::fs::set_permissions(by_descriptor(&fd), PermissionsExt::from_mode(mode & 0o7777))?;
        }
        if let (uid, gid) = changes.owner
            && (uid.is_some() || gid.is_some())
        {
            let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
            rustix::fs::chownat(&*fd, "", uid, gid, AtFlags::EMPTY_PATH).map_err(errno)?;
        }
        if let Some(size) = changes.size {
            let file = File::options().read(true).write(true).open(by_descriptor(&fd))?;
            self.disk.change(&file, || {
                let mut lossy = self.lossy();
                if let Some(lossy) = &mut lossy {
                    lossy.before_resize(ino, &file, size)?;
                }
                Ok(file.set_len(size)?)
            })?;
        }
        if changes.accessed.is_some() || changes.modified.is_some() {
            let times = Timestamps { last_access: time(changes.accessed), last_modification: time(changes.modified) };
            rustix::fs::utimensat(CWD, by_descriptor(&fd), &times, AtFlags::empty()).map_err(errno)?;
        }
        self.getattr(ino)
    }

    pub fn mkdir(&self, parent: u64, name: &OsStr, mode: u32) -> Done<FileAttr> {
        self.disk.make()?;
        rustix::fs::mkdirat(&*self.fd(parent)?, name, Mode::from_raw_mode(mode)).map_err(errno)?;
        self.made(parent, name, mode)
    }

    /// Unlinks a file, or with `REMOVEDIR` a directory.
    pub fn remove(&self, parent: u64, name: &OsStr, flags: AtFlags) -> Done<()> {
        let dir = self.fd(parent)?;
        let room = self.room_of(&dir, name);
        match self.lossy() {
            Some(mut lossy) => lossy.remove((parent, &dir), name, flags)?,
            None => rustix::fs::unlinkat(&*dir, name, flags).map_err(errno)?,
        }
        self.disk.give_back(room);
        self.tree().unnamed(parent, name);
        Ok(())
    }

    pub fn rename(&self, from: (u64, &OsStr), to: (u64, &OsStr), flags: RenameFlags) -> Done<()> {
        let (old, new) = (self.fd(from.0)?, self.fd(to.0)?);
        let how = nix::fcntl::RenameFlags::from_bits_retain(flags.bits());
        let replaces = !flags.contains(RenameFlags::RENAME_EXCHANGE);
        let room = if replaces { self.room_of(&new, to.1) } else { 0 };
        match self.lossy() {
            Some(mut lossy) => lossy.rename((place(from.0, from.1), &old), (place(to.0, to.1), &new), how)?,
            None => renameat2(&*old, from.1, &*new, to.1, how).map_err(errno_of)?,
        }
        self.disk.give_back(room);
        self.tree().renamed(from, to, flags.contains(RenameFlags::RENAME_EXCHANGE));
        Ok(())
    }

    pub fn link(&self, ino: u64, parent: u64, name: &OsStr) -> Done<FileAttr> {
        let (file, dir) = (self.fd(ino)?, self.fd(parent)?);
        self.disk.make()?;
        rustix::fs::linkat(CWD, by_descriptor(&file), &*dir, name, AtFlags::SYMLINK_FOLLOW).map_err(errno)?;
        self.named(parent, name, Lossy::linked)
    }

    /// Room that goes with the name of a file, in sectors: none if that is not its last name. Asked
    /// only while room is counted.
    fn room_of(&self, dir: &OwnedFd, name: &OsStr) -> u64 {
        if !self.disk.counts() {
            return 0;
        }
        // What cannot be asked is not there, and gives nothing back.
        rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).map_or(0, |stat| {
            let graves = self.lossy().map_or(0, |lossy| lossy.graves(stat.st_ino));
            let last = stat.st_nlink.saturating_sub(graves.into()) <= 1;
            if last { stat.st_blocks.unsigned_abs() } else { 0 }
        })
    }

    /// The file or directory that has just got a name, which `tell` tells the account.
    fn named(&self, parent: u64, name: &OsStr, tell: fn(&mut Lossy, u64, &OsStr, u64)) -> Done<FileAttr> {
        let attr = self.lookup(parent, name)?;
        if let Some(mut lossy) = self.lossy() {
            tell(&mut lossy, parent, name, attr.ino.0);
        }
        Ok(attr)
    }

    /// What has just been made at a name, with the mode that was asked for: the kernel has applied
    /// the member's umask, and the harness's own must not take more away.
    fn made(&self, parent: u64, name: &OsStr, mode: u32) -> Done<FileAttr> {
        let attr = self.named(parent, name, Lossy::made)?;
        let (got, asked) = (u32::from(attr.perm), mode & 0o777);
        if got & 0o777 == asked {
            return Ok(attr);
        }
        let whole = PermissionsExt::from_mode(got & 0o7000 | asked);
        std::fs::set_permissions(by_descriptor(&*self.fd(attr.ino.0)?), whole)?;
        self.getattr(attr.ino.0)
    }

    /// `flags`: those of `open(2)`; only the access mode counts. The kernel turns appending and
    /// syncing into writes at offsets and separate syncs; passed on to the file below, both would
    /// happen twice.
    pub fn open(&self, ino: u64, flags: i32) -> Done<u64> {
        let fd = rustix::fs::openat(CWD, by_descriptor(&*self.fd(ino)?), self.access(flags), Mode::empty())
            .map_err(errno)?;
        Ok(self.give(fd))
    }

    pub fn create(&self, parent: u64, name: &OsStr, mode: u32, flags: i32) -> Done<(FileAttr, u64)> {
        let dir = self.fd(parent)?;
        let how = self.access(flags) | OFlags::CREATE | OFlags::NOFOLLOW;
        self.disk.make()?;
        let open = |how| rustix::fs::openat(&*dir, name, how, Mode::from_raw_mode(mode));
        match open(how | OFlags::EXCL) {
            Ok(fd) => Ok((self.made(parent, name, mode)?, self.give(fd))),
            // Another process of the member was faster.
            Err(rustix::io::Errno::EXIST) if flags & OFlags::EXCL.bits() as i32 == 0 => {
                let fd = open(how).map_err(errno)?;
                Ok((self.lookup(parent, name)?, self.give(fd)))
            }
            Err(error) => Err(errno(error)),
        }
    }

    /// The access mode of a file below. Where things can be lost, what is written over has to be
    /// read first.
    fn access(&self, flags: i32) -> OFlags {
        let asked = OFlags::from_bits_retain(flags as u32) & OFlags::RWMODE;
        let reads_too = self.lossy.is_some() && asked == OFlags::WRONLY;
        (if reads_too { OFlags::RDWR } else { asked }) | OFlags::CLOEXEC
    }

    fn give(&self, fd: OwnedFd) -> u64 {
        let mut handles = self.handles();
        handles.given += 1;
        let given = handles.given;
        handles.open.insert(given, Handle { file: Arc::new(File::from(fd)), entries: Arc::default() });
        given
    }

    pub fn release(&self, handle: u64) {
        self.handles().open.remove(&handle);
    }

    pub fn read(&self, ino: u64, handle: u64, offset: u64, size: u32) -> Done<Vec<u8>> {
        if self.disk.fate(true, size.into(), || self.tree().path(ino)) != Fate::Whole {
            return Err(Errno::EIO);
        }
        // A short answer would mean the end of the file.
        Ok(read_up_to(&self.handle(handle)?.file, offset, size as usize)?)
    }

    /// The next place at which the file has data, or a hole, as asked.
    pub fn seek(&self, handle: u64, to: SeekFrom) -> Done<u64> {
        rustix::fs::seek(&*self.handle(handle)?.file, to).map_err(errno)
    }

    pub fn write(&self, ino: u64, handle: u64, offset: u64, bytes: &[u8]) -> Done<u32> {
        let part = |length: u64| self.put(ino, handle, offset, &bytes[..length as usize]);
        match self.disk.fate(false, bytes.len() as u64, || self.tree().path(ino)) {
            Fate::Whole => self.put(ino, handle, offset, bytes),
            Fate::Short(length) => part(length),
            Fate::Fails(0) => Err(Errno::EIO),
            Fate::Fails(length) => part(length).and(Err(Errno::EIO)),
        }
    }

    fn put(&self, ino: u64, handle: u64, offset: u64, bytes: &[u8]) -> Done<u32> {
        let file = self.handle(handle)?.file;
        self.disk.write(&file, (offset, bytes.len() as u64), |length| {
            let mut lossy = self.lossy();
            if let Some(lossy) = &mut lossy {
                lossy.before_write(ino, &file, offset, length)?;
            }
            file.write_all_at(&bytes[..length as usize], offset)?;
            Ok(length as u32)
        })
    }

    /// A sync of `ino` is asked for, which may be carried out later.
    pub fn sync_begins(&self, ino: u64, is_dir: bool) -> Option<Sync> {
        self.lossy().map(|mut lossy| lossy.sync_begins(ino, is_dir))
    }

    /// Carries out the sync of the file or directory `ino` that has `begun`. Where things can be
    /// lost, their account alone decides what is durable, and the disk below is not troubled.
    pub fn sync(&self, ino: u64, handle: u64, (data_only, is_dir): (bool, bool), begun: Option<Sync>) -> Done<()> {
        let file = self.handle(handle)?.file;
        if !is_dir && let Some(losing) = self.disk.fails_sync(|| self.tree().path(ino)) {
            if losing && let Some(mut lossy) = self.lossy() {
                lossy.sync_lost(ino);
            }
            return Err(Errno::EIO);
        }
        if let (Some(mut lossy), Some(begun)) = (self.lossy(), begun) {
            return lossy.sync_ended(begun);
        }
        if data_only {
            file.sync_data()?
        } else {
            file.sync_all()?
        }
        Ok(())
    }

    pub fn allocate(&self, ino: u64, handle: u64, offset: u64, length: u64, mode: i32) -> Done<()> {
        let file = self.handle(handle)?.file;
        let (mode, number) = (FallocateFlags::from_bits_retain(mode), |number| i64::try_from(number));
        let (Ok(from), Ok(long)) = (number(offset), number(length)) else { return Err(Errno::EFBIG) };
        let gives_back = mode.contains(FallocateFlags::FALLOC_FL_PUNCH_HOLE);
        let work = || self.allocate_whole(ino, &file, (offset, length), mode, (from, long));
        if gives_back { self.disk.change(&file, work) } else { self.disk.reserve(&file, (offset, length), work) }
    }

    fn allocate_whole(
        &self,
        ino: u64,
        file: &File,
        (offset, length): (u64, u64),
        mode: FallocateFlags,
        (from, long): (i64, i64),
    ) -> Done<()> {
        let mut lossy = self.lossy();
        if let Some(lossy) = &mut lossy {
            let end = offset.checked_add(length).ok_or(Errno::EFBIG)?;
            let keeps_size = mode.contains(FallocateFlags::FALLOC_FL_KEEP_SIZE);
            match mode - FallocateFlags::FALLOC_FL_KEEP_SIZE {
                // Room alone; it reads as zeros already.
                how if how.is_empty() => {
                    if !keeps_size && end > file.metadata()?.len() {
                        lossy.before_resize(ino, file, end)?;
                    }
                }
                FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_ZERO_RANGE => {
                    lossy.before_write(ino, file, offset, length)?;
                }
                // Moves data about in the file; nothing that is under test does it.
                _ => return Err(Errno::ENOTSUP),
            }
        }
        fallocate(file, mode, from, long).map_err(errno_of)
    }

    /// The entries of an open directory from the `offset`-th on.
    pub fn entries(&self, handle: u64, offset: u64) -> Done<(Arc<Vec<Entry>>, usize)> {
        let opened = self.handle(handle)?;
        if offset > 0 {
            return Ok((opened.entries, offset as usize));
        }
        let mut entries = Vec::new();
        for entry in rustix::fs::Dir::read_from(&*opened.file).map_err(errno)? {
            let entry = entry.map_err(errno)?;
            let name = OsString::from_vec(entry.file_name().to_bytes().to_vec());
            // The kernel itself answers for `..` of the root, but needs a number all the same.
            let ino = self.tree().above(entry.ino());
            entries.push(Entry { ino, kind: attr::kind(entry.file_type()), name });
        }
        let entries = Arc::new(entries);
        if let Some(handle) = self.handles().open.get_mut(&handle) {
            handle.entries = Arc::clone(&entries);
        }
        Ok((entries, 0))
    }

    pub fn statvfs(&self, ino: u64) -> Done<rustix::fs::StatVfs> {
        let below = rustix::fs::fstatvfs(&*self.fd(ino)?).map_err(errno)?;
        Ok(self.disk.tell(below))
    }
}

fn time(time: Option<TimeOrNow>) -> Timespec {
    let (tv_sec, tv_nsec) = match time {
        None => (0, UTIME_OMIT),
        Some(TimeOrNow::Now) => (0, UTIME_NOW),
        Some(TimeOrNow::SpecificTime(time)) => match time.duration_since(UNIX_EPOCH) {
            Ok(since) => (since.as_secs() as i64, i64::from(since.subsec_nanos())),
            // Before 1970, in whole seconds; such files do not occur.
            Err(before) => (-(before.duration().as_secs() as i64), 0),
        },
    };
    Timespec { tv_sec, tv_nsec }
}
