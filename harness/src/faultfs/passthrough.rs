//! FUSE's requests, each handed to [`Below`]: requests that only read go there at once, and those
//! that change something go through the [`Gate`].

use super::below::{Below, Changes};
use super::gate::Gate;
use super::point::{Class, Deed};
use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, Filesystem, FopenFlags, Generation, INodeNo, LockOwner, OpenFlags,
    RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyLseek, ReplyOpen,
    ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use ninelives_evidence::limits;
use nix::unistd::Whence;
use rustix::fs::{AtFlags, SeekFrom};
use std::ffi::OsStr;
use std::sync::Arc;
use std::time::SystemTime;

pub struct Passthrough {
    below: Arc<Below>,
    gate: Arc<Gate>,
}

/// No inode number is given twice while the kernel knows it.
const GENERATION: Generation = Generation(0);
/// Closing writes nothing here. Each opening empties the page cache, so that a life never reads
/// data that another life wrote and that never reached the directory below.
const OPENED: FopenFlags = FopenFlags::FOPEN_NOFLUSH;

impl Passthrough {
    pub fn new(below: Arc<Below>, gate: Arc<Gate>) -> Self {
        Self { below, gate }
    }

    /// Lets `work` through the gate, and answers with its outcome.
    fn change<T: Send + 'static>(
        &self,
        touches: Option<(Class, Deed)>,
        work: impl FnOnce(&Below) -> Result<T, Errno> + Send + 'static,
        answer: impl FnOnce(Result<T, Errno>) + Send + 'static,
    ) {
        let below = Arc::clone(&self.below);
        self.gate.pass(touches, move || work(&below), answer);
    }

    fn on(&self, ino: INodeNo, deed: Deed) -> Option<(Class, Deed)> {
        self.below.class(ino.0).map(|class| (class, deed))
    }

    /// What `deed` touches with the name of a file in `parent`.
    fn at(&self, parent: INodeNo, name: &OsStr, deed: Deed) -> Option<(Class, Deed)> {
        self.below.class_at(parent.0, name).map(|class| (class, deed))
    }
}

fn answer_entry(reply: ReplyEntry) -> impl FnOnce(Result<FileAttr, Errno>) + Send {
    move |outcome| match outcome {
        Ok(attr) => reply.entry(&limits::KERNEL_REMEMBERS, &attr, GENERATION),
        Err(error) => reply.error(error),
    }
}

fn answer_empty(reply: ReplyEmpty) -> impl FnOnce(Result<(), Errno>) + Send {
    move |outcome| match outcome {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}

fn answer_attr(reply: ReplyAttr) -> impl FnOnce(Result<FileAttr, Errno>) + Send {
    move |outcome| match outcome {
        Ok(attr) => reply.attr(&limits::KERNEL_REMEMBERS, &attr),
        Err(error) => reply.error(error),
    }
}

fn answer_open(reply: ReplyOpen, outcome: Result<u64, Errno>) {
    match outcome {
        Ok(handle) => reply.opened(FileHandle(handle), OPENED),
        Err(error) => reply.error(error),
    }
}

impl Filesystem for Passthrough {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        answer_entry(reply)(self.below.lookup(parent.0, name));
    }

    fn forget(&self, _: &Request, ino: INodeNo, lookups: u64) {
        self.below.forget(ino.0, lookups);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        answer_attr(reply)(self.below.getattr(ino.0));
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        accessed: Option<TimeOrNow>,
        modified: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let changes = Changes { mode, owner: (uid, gid), size, accessed, modified };
        self.change(None, move |below| below.setattr(ino.0, &changes), answer_attr(reply));
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        let name = name.to_owned();
        let touches = Some((Class::Directory, Deed::Create));
        self.change(touches, move |below| below.mkdir(parent.0, &name, mode & !umask), answer_entry(reply));
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (touches, name) = (self.at(parent, name, Deed::Unlink), name.to_owned());
        self.change(touches, move |below| below.remove(parent.0, &name, AtFlags::empty()), answer_empty(reply));
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let name = name.to_owned();
        let touches = Some((Class::Directory, Deed::Unlink));
        self.change(touches, move |below| below.remove(parent.0, &name, AtFlags::REMOVEDIR), answer_empty(reply));
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let touches = self.at(new_parent, new_name, Deed::Rename);
        let (name, new_name) = (name.to_owned(), new_name.to_owned());
        let work = move |below: &Below| below.rename((parent.0, &name), (new_parent.0, &new_name), flags);
        self.change(touches, work, answer_empty(reply));
    }

    fn link(&self, _: &Request, ino: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let (touches, name) = (self.at(parent, name, Deed::Create), name.to_owned());
        self.change(touches, move |below| below.link(ino.0, parent.0, &name), answer_entry(reply));
    }

    fn open(&self, _: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        answer_open(reply, self.below.open(ino.0, flags.0));
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let (touches, name) = (self.at(parent, name, Deed::Create), name.to_owned());
        let work = move |below: &Below| below.create(parent.0, &name, mode & !umask, flags);
        self.change(touches, work, move |outcome| match outcome {
            Ok((attr, handle)) => {
                reply.created(&limits::KERNEL_REMEMBERS, &attr, GENERATION, FileHandle(handle), OPENED);
            }
            Err(error) => reply.error(error),
        });
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.below.read(ino.0, handle.0, offset, size) {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => reply.error(error),
        }
    }

    fn lseek(&self, _: &Request, _: INodeNo, handle: FileHandle, offset: i64, whence: i32, reply: ReplyLseek) {
        // The kernel answers itself for all that does not ask where holes are.
        let to = match u64::try_from(offset) {
            Ok(offset) if whence == Whence::SeekData as i32 => SeekFrom::Data(offset),
            Ok(offset) if whence == Whence::SeekHole as i32 => SeekFrom::Hole(offset),
            _ => return reply.error(Errno::EINVAL),
        };
        match self.below.seek(handle.0, to) {
            Ok(offset) => reply.offset(offset as i64),
            Err(error) => reply.error(error),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let bytes = data.to_vec();
        let work = move |below: &Below| below.write(ino.0, handle.0, offset, &bytes);
        self.change(self.on(ino, Deed::Write), work, move |outcome| match outcome {
            Ok(written) => reply.written(written),
            Err(error) => reply.error(error),
        });
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.below.release(handle.0);
        reply.ok();
    }

    fn fsync(&self, _: &Request, ino: INodeNo, handle: FileHandle, data_only: bool, reply: ReplyEmpty) {
        let (touches, begun) = (self.on(ino, Deed::Sync), self.below.sync_begins(ino.0, false));
        let (below, gate) = (Arc::clone(&self.below), Arc::clone(&self.gate));
        self.below.disk().sync(move || {
            let work = move || below.sync(ino.0, handle.0, (data_only, false), begun);
            gate.pass(touches, work, answer_empty(reply));
        });
    }

    fn opendir(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        answer_open(reply, self.below.open(ino.0, 0));
    }

    fn readdir(&self, _: &Request, _: INodeNo, handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        match self.below.entries(handle.0, offset) {
            Ok((entries, from)) => {
                for (next, entry) in (1..).zip(entries.iter()).skip(from) {
                    if reply.add(INodeNo(entry.ino), next, entry.kind, &entry.name) {
                        break;
                    }
                }
                reply.ok();
            }
            Err(error) => reply.error(error),
        }
    }

    fn releasedir(&self, _: &Request, _: INodeNo, handle: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        self.below.release(handle.0);
        reply.ok();
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, handle: FileHandle, data_only: bool, reply: ReplyEmpty) {
        let (touches, begun) = (Some((Class::Directory, Deed::Sync)), self.below.sync_begins(ino.0, true));
        let work = move |below: &Below| below.sync(ino.0, handle.0, (data_only, true), begun);
        self.change(touches, work, answer_empty(reply));
    }

    fn statfs(&self, _: &Request, ino: INodeNo, reply: ReplyStatfs) {
        match self.below.statvfs(ino.0) {
            Ok(all) => reply.statfs(
                all.f_blocks,
                all.f_bfree,
                all.f_bavail,
                all.f_files,
                all.f_ffree,
                all.f_bsize as u32,
                all.f_namemax as u32,
                all.f_frsize as u32,
            ),
            Err(error) => reply.error(error),
        }
    }

    fn fallocate(
        &self,
        _: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        self.change(None, move |below| below.allocate(ino.0, handle.0, offset, length, mode), answer_empty(reply));
    }
}
