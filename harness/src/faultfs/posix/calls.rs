//! System calls in one directory, each written down with what its caller sees: the value that it
//! returns, or the name of its error.

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, FcntlArg, RenameFlags, fallocate, fcntl, renameat2};
use rustix::fs::{
    AtFlags, FileType, FlockOperation, Gid, Mode, OFlags, SeekFrom, Stat, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Result;
use std::fmt::Display;
use std::os::fd::OwnedFd;
use std::path::Path;

/// A file that was opened, or that could not be.
pub type Opened = Option<OwnedFd>;

/// Opens a file for reading and writing, and makes it if it is missing.
pub const NEW: OFlags = OFlags::RDWR.union(OFlags::CREATE);

/// A directory, and what calls in it have shown so far.
pub struct Calls {
    dir: OwnedFd,
    /// A line per call: `unlink f = ENOENT`.
    pub seen: Vec<String>,
}

impl Calls {
    /// Begins in `dir`, which is there.
    pub fn within(dir: &Path) -> Self {
        let dir = std::fs::File::open(dir).expect("the directory of a case was made");
        Self { dir: dir.into(), seen: Vec::new() }
    }

    /// Writes down what a call gave, its value `as_told`.
    fn saw<T>(&mut self, call: impl Display, gave: Result<T>, as_told: impl Fn(&T) -> String) -> Option<T> {
        let told = match &gave {
            Ok(value) => as_told(value),
            Err(error) => format!("{:?}", Errno::from_raw(error.raw_os_error())),
        };
        self.seen.push(format!("{call} = {told}"));
        gave.ok()
    }

    fn done(&mut self, call: impl Display, gave: Result<()>) {
        self.saw(call, gave, |()| "done".to_owned());
    }

    /// Writes down a fact that follows from what was seen.
    pub fn fact(&mut self, what: &str, holds: bool) {
        self.seen.push(format!("{what}: {holds}"));
    }

    pub fn open(&mut self, name: &str, flags: OFlags, mode: u32) -> Opened {
        let gave = rustix::fs::openat(&self.dir, name, flags | OFlags::CLOEXEC, Mode::from_raw_mode(mode));
        self.saw(format!("open {} {}", short(name), joined(flags.iter_names())), gave, |_| "open".to_owned())
    }

    /// Makes a file with `content`, without a word unless it fails.
    pub fn file(&mut self, name: &str, content: &[u8]) -> Opened {
        let how = NEW | OFlags::TRUNC | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.dir, name, how, Mode::from_raw_mode(0o644)) {
            Ok(file) => {
                let written = rustix::io::pwrite(&file, content, 0);
                if written != Ok(content.len()) {
                    self.saw(format!("write {name}"), written, ToString::to_string);
                }
                Some(file)
            }
            Err(error) => self.saw(format!("make {name}"), Err(error), |_: &OwnedFd| String::new()),
        }
    }

    pub fn write(&mut self, file: &Opened, bytes: &[u8]) {
        let Some(file) = file else { return };
        let gave = rustix::io::write(file, bytes);
        self.saw("write", gave, ToString::to_string);
    }

    pub fn pwrite(&mut self, file: &Opened, bytes: &[u8], at: u64) {
        let Some(file) = file else { return };
        let gave = rustix::io::pwrite(file, bytes, at);
        self.saw(format!("pwrite at {at}"), gave, ToString::to_string);
    }

    /// The `length` bytes at the file's offset.
    pub fn read(&mut self, file: &Opened, length: usize) {
        let Some(file) = file else { return };
        let mut bytes = vec![0; length];
        let gave = rustix::io::read(file, &mut bytes);
        self.saw("read", gave, |read| runs(&bytes[..*read]));
    }

    pub fn pread(&mut self, file: &Opened, length: usize, at: u64) {
        let Some(file) = file else { return };
        let mut bytes = vec![0; length];
        let gave = rustix::io::pread(file, &mut bytes, at);
        self.saw(format!("pread at {at}"), gave, |read| runs(&bytes[..*read]));
    }

    /// All of what the file of this name holds.
    pub fn content(&mut self, name: &str) {
        let open = rustix::fs::openat(&self.dir, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let gave = open.and_then(|file| {
            let size = usize::try_from(rustix::fs::fstat(&file)?.st_size).unwrap_or(0);
            let mut bytes = vec![0; size + 1];
            let read = rustix::io::pread(&file, &mut bytes, 0)?;
            bytes.truncate(read);
            Ok(bytes)
        });
        self.saw(format!("content {}", short(name)), gave, |bytes| runs(bytes));
    }

    pub fn seek(&mut self, file: &Opened, to: SeekFrom) {
        let Some(file) = file else { return };
        let gave = rustix::fs::seek(file, to);
        self.saw(format!("seek {to:?}"), gave, ToString::to_string);
    }

    pub fn ftruncate(&mut self, file: &Opened, size: u64) {
        let Some(file) = file else { return };
        let gave = rustix::fs::ftruncate(file, size);
        self.done(format!("ftruncate {size}"), gave);
    }

    pub fn allocate(&mut self, file: &Opened, how: FallocateFlags, at: i64, length: i64) {
        let Some(file) = file else { return };
        let gave = fallocate(file, how, at, length).map_err(of_nix);
        self.done(format!("fallocate {} {at} {length}", joined(how.iter_names())), gave);
    }

    /// As many sectors as a file of this size has if it has no holes, at least.
    pub fn is_allocated(&mut self, file: &Opened, bytes: u64) {
        let Some(file) = file else { return };
        let blocks = rustix::fs::fstat(file).map(|stat| stat.st_blocks.unsigned_abs() * 512);
        self.fact(&format!("room for {bytes} bytes"), blocks.is_ok_and(|room| room >= bytes));
    }

    pub fn copy_range(&mut self, from: &Opened, to: &Opened, (mut at, mut to_at): (u64, u64), length: usize) {
        let (Some(from), Some(to)) = (from, to) else { return };
        let gave = rustix::fs::copy_file_range(from, Some(&mut at), to, Some(&mut to_at), length);
        self.saw("copy_file_range", gave, ToString::to_string);
    }

    pub fn fsync(&mut self, file: &Opened) {
        let Some(file) = file else { return };
        let gave = rustix::fs::fsync(file);
        self.done("fsync", gave);
    }

    pub fn fdatasync(&mut self, file: &Opened) {
        let Some(file) = file else { return };
        let gave = rustix::fs::fdatasync(file);
        self.done("fdatasync", gave);
    }

    pub fn flock(&mut self, file: &Opened, how: FlockOperation) {
        let Some(file) = file else { return };
        let gave = rustix::fs::flock(file, how);
        self.done(format!("flock {how:?}"), gave);
    }

    /// Locks the whole file for this process.
    pub fn lock(&mut self, file: &Opened, how: FlockOperation) {
        let Some(file) = file else { return };
        let gave = rustix::fs::fcntl_lock(file, how);
        self.done(format!("fcntl {how:?}"), gave);
    }

    /// Locks the `length` bytes `at` a place for this open file description.
    pub fn lock_by_descriptor(&mut self, file: &Opened, (at, length): (i64, i64)) {
        let Some(file) = file else { return };
        let wanted = libc::flock {
            l_type: libc::F_WRLCK as i16,
            l_whence: libc::SEEK_SET as i16,
            l_start: at,
            l_len: length,
            l_pid: 0,
        };
        let gave = fcntl(file, FcntlArg::F_OFD_SETLK(&wanted)).map(drop).map_err(of_nix);
        self.done(format!("OFD lock of {length} at {at}"), gave);
    }

    pub fn mkdir(&mut self, name: &str, mode: u32) {
        let gave = rustix::fs::mkdirat(&self.dir, name, Mode::from_raw_mode(mode));
        self.done(format!("mkdir {}", short(name)), gave);
    }

    pub fn rmdir(&mut self, name: &str) {
        let gave = rustix::fs::unlinkat(&self.dir, name, AtFlags::REMOVEDIR);
        self.done(format!("rmdir {name}"), gave);
    }

    pub fn unlink(&mut self, name: &str) {
        let gave = rustix::fs::unlinkat(&self.dir, name, AtFlags::empty());
        self.done(format!("unlink {}", short(name)), gave);
    }

    pub fn rename(&mut self, from: &str, to: &str) {
        let gave = rustix::fs::renameat(&self.dir, from, &self.dir, to);
        self.done(format!("rename {from} {}", short(to)), gave);
    }

    pub fn rename_with(&mut self, from: &str, to: &str, how: RenameFlags) {
        let gave = renameat2(&self.dir, from, &self.dir, to, how).map_err(of_nix);
        self.done(format!("renameat2 {from} {to} {}", joined(how.iter_names())), gave);
    }

    pub fn link(&mut self, from: &str, to: &str) {
        let gave = rustix::fs::linkat(&self.dir, from, &self.dir, to, AtFlags::empty());
        self.done(format!("link {from} {}", short(to)), gave);
    }

    pub fn symlink(&mut self, to: &str, name: &str) {
        let gave = rustix::fs::symlinkat(to, &self.dir, name);
        self.done(format!("symlink {name}"), gave);
    }

    pub fn fifo(&mut self, name: &str) {
        let gave = rustix::fs::mknodat(&self.dir, name, FileType::Fifo, Mode::from_raw_mode(0o600), 0);
        self.done(format!("mkfifo {name}"), gave);
    }

    pub fn set_attribute(&mut self, file: &Opened, name: &str) {
        let Some(file) = file else { return };
        let gave = rustix::fs::fsetxattr(file, name, b"value", XattrFlags::empty());
        self.done(format!("fsetxattr {name}"), gave);
    }

    /// Names in a directory with the types of what they name, in their order.
    pub fn names(&mut self, dir: &str) {
        let how = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = rustix::fs::openat(&self.dir, dir, how, Mode::empty());
        let gave = open.and_then(rustix::fs::Dir::new).and_then(list);
        self.saw(format!("readdir {dir}"), gave, |names| names.join(" "));
    }

    /// The same, read through a descriptor from its beginning.
    pub fn names_of(&mut self, dir: &Opened) {
        let Some(dir) = dir else { return };
        let gave = rustix::fs::Dir::read_from(dir).and_then(list);
        self.saw("readdir", gave, |names| names.join(" "));
    }

    pub fn stat(&mut self, name: &str) -> Option<Stat> {
        let gave = rustix::fs::statat(&self.dir, name, AtFlags::SYMLINK_NOFOLLOW);
        self.saw(format!("stat {}", short(name)), gave, fixed)
    }

    pub fn fstat(&mut self, file: &Opened) -> Option<Stat> {
        let gave = rustix::fs::fstat(file.as_ref()?);
        self.saw("fstat", gave, fixed)
    }

    pub fn chmod(&mut self, name: &str, mode: u32) {
        let gave = rustix::fs::chmodat(&self.dir, name, Mode::from_raw_mode(mode), AtFlags::empty());
        self.done(format!("chmod {name} {mode:o}"), gave);
    }

    pub fn chown(&mut self, name: &str, owner: u32, group: u32) {
        let (owner, group) = (Some(Uid::from_raw(owner)), Some(Gid::from_raw(group)));
        let gave = rustix::fs::chownat(&self.dir, name, owner, group, AtFlags::empty());
        self.done(format!("chown {name}"), gave);
    }

    /// Sets when it was read and changed last, in seconds and nanoseconds.
    pub fn utimens(&mut self, name: &str, accessed: (i64, i64), modified: (i64, i64)) {
        let time = |(tv_sec, tv_nsec)| Timespec { tv_sec, tv_nsec };
        let times = Timestamps { last_access: time(accessed), last_modification: time(modified) };
        let gave = rustix::fs::utimensat(&self.dir, name, &times, AtFlags::empty());
        self.done(format!("utimens {name}"), gave);
    }

    /// When it was read and changed last, as it was set.
    pub fn times(&mut self, name: &str) {
        let gave = rustix::fs::statat(&self.dir, name, AtFlags::empty());
        self.saw(format!("times {name}"), gave, |stat| {
            format!("{}.{} {}.{}", stat.st_atime, stat.st_atime_nsec, stat.st_mtime, stat.st_mtime_nsec)
        });
    }

    /// Whether `change` sets the time of the last change of content, and that of the attributes.
    pub fn is_marked(&mut self, name: &str, change: impl FnOnce(&mut Self)) {
        let stat = |calls: &Self| rustix::fs::statat(&calls.dir, name, AtFlags::empty());
        let long_ago = Timespec { tv_sec: 1_000_000, tv_nsec: 0 };
        let times = Timestamps { last_access: long_ago, last_modification: long_ago };
        let set = rustix::fs::utimensat(&self.dir, name, &times, AtFlags::empty());
        let before = set.and_then(|()| stat(self));
        change(self);
        let both = before.and_then(|before| Ok((before, stat(self)?)));
        self.saw(format!("marked {name}"), both, |(before, after)| {
            let content = after.st_mtime != before.st_mtime;
            let attributes = (after.st_ctime, after.st_ctime_nsec) >= (before.st_ctime, before.st_ctime_nsec);
            format!("content {content}, attributes not earlier {attributes}")
        });
    }

    /// The length of the longest name, and whether there is room.
    pub fn statfs(&mut self) {
        let gave = rustix::fs::fstatvfs(&self.dir);
        self.saw("statvfs", gave, |room| {
            let sound = room.f_bfree <= room.f_blocks && room.f_bavail > 0 && room.f_frsize > 0;
            format!("names {}, unit {}, blocks {}, sound {sound}", room.f_namemax, room.f_frsize, room.f_blocks)
        });
    }

    /// Writes down a call that was made elsewhere.
    pub fn made(&mut self, call: &str, gave: std::io::Result<()>) {
        let of_std = |error: std::io::Error| rustix::io::Errno::from_raw_os_error(error.raw_os_error().unwrap_or(0));
        self.done(call, gave.map_err(of_std));
    }
}

fn of_nix(error: Errno) -> rustix::io::Errno {
    rustix::io::Errno::from_raw_os_error(error as i32)
}

/// The part of the attributes that POSIX fixes: type, mode, links, owner, and a file's size.
fn fixed(stat: &Stat) -> String {
    let kind = FileType::from_raw_mode(stat.st_mode);
    let size = if kind == FileType::RegularFile { format!(" {} bytes", stat.st_size) } else { String::new() };
    let (mode, links, owner) = (stat.st_mode & 0o7777, stat.st_nlink, (stat.st_uid, stat.st_gid));
    format!("{kind:?} {mode:04o} {links} links {owner:?}{size}")
}

fn list(entries: rustix::fs::Dir) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        let kind = if entry.file_type() == FileType::Directory { "/" } else { "" };
        names.push(format!("{}{kind}", entry.file_name().to_string_lossy()));
    }
    names.sort();
    Ok(names)
}

/// Bytes as runs of equal ones: `3×a 2×\0`.
fn runs(bytes: &[u8]) -> String {
    let runs: Vec<_> =
        bytes.chunk_by(|one, next| one == next).map(|run| format!("{}×{}", run.len(), run[0].escape_ascii())).collect();
    if runs.is_empty() { "nothing".to_owned() } else { runs.join(" ") }
}

/// Names of flags: `CREATE+EXCL`.
fn joined<T>(flags: impl Iterator<Item = (&'static str, T)>) -> String {
    let names: Vec<_> = flags.map(|(name, _)| name).collect();
    if names.is_empty() { "plain".to_owned() } else { names.join("+") }
}

/// A name that fits in a line.
fn short(name: &str) -> String {
    if name.len() > 40 { format!("a name of {} bytes", name.len()) } else { name.to_owned() }
}
