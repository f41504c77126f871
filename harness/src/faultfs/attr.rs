//! Attributes, from the kernel's form to FUSE's.

use fuser::{FileAttr, FileType, INodeNo};
use rustix::fs::{FileType as Kind, Stat};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The attributes of a file for FUSE, from those that the kernel below gives. `ino`: its number
/// above.
pub fn attr(ino: u64, stat: &Stat) -> FileAttr {
    let (atime, mtime, ctime) = (
        time(stat.st_atime, stat.st_atime_nsec),
        time(stat.st_mtime, stat.st_mtime_nsec),
        time(stat.st_ctime, stat.st_ctime_nsec),
    );
    FileAttr {
        ino: INodeNo(ino),
        size: u64::try_from(stat.st_size).unwrap_or(0),
        blocks: u64::try_from(stat.st_blocks).unwrap_or(0),
        atime,
        mtime,
        ctime,
        crtime: UNIX_EPOCH,
        kind: kind(Kind::from_raw_mode(stat.st_mode)),
        perm: (stat.st_mode & 0o7777) as u16,
        nlink: u32::try_from(stat.st_nlink).unwrap_or(u32::MAX),
        uid: stat.st_uid,
        gid: stat.st_gid,
        rdev: 0,
        blksize: u32::try_from(stat.st_blksize).unwrap_or(4096),
        flags: 0,
    }
}

pub fn kind(kind: Kind) -> FileType {
    match kind {
        Kind::Directory => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
        Kind::Fifo => FileType::NamedPipe,
        Kind::Socket => FileType::Socket,
        Kind::CharacterDevice => FileType::CharDevice,
        Kind::BlockDevice => FileType::BlockDevice,
        _ => FileType::RegularFile,
    }
}

fn time(seconds: i64, nanoseconds: u64) -> SystemTime {
    let (whole, part) = (Duration::from_secs(seconds.unsigned_abs()), Duration::from_nanos(nanoseconds));
    let from = if seconds < 0 { UNIX_EPOCH - whole } else { UNIX_EPOCH + whole };
    from + part
}
