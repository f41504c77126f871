//! Cases about attributes, locks and the filesystem as a whole.

use super::calls::{Calls, NEW};
use super::case::{Case, Seen, same};
use nix::sys::stat::{Mode, umask};
use rustix::fs::{FlockOperation, OFlags};

pub const CASES: &[Case] = &[
    same("modes of what is made, by the umask", modes),
    same("`chmod` of files and directories", chmod),
    same("`chown`, which takes set-user-id away", chown),
    same("times that are set, to the nanosecond", times),
    Case {
        name: "a time before 1970 that is not a whole second",
        calls: time_before_1970,
        seen: Seen::Otherwise(
            &["times f = -1.0 -100.0"],
            "the FUSE library misreads such times, and no target sets any",
        ),
    },
    same("times that writing, linking and renaming set", marks),
    same("a directory's times and its names", marks_of_dirs),
    same("`flock`: shared, exclusive, by descriptor", flock),
    same("`flock` ends with the last close", flock_closed),
    same("`fcntl` and OFD locks conflict", record_locks),
    same("`fcntl` locks end with any close, OFD locks do not", record_locks_closed),
    same("locks of a file that is renamed and unlinked", locks_and_names),
    same("`statvfs`", Calls::statfs),
    Case {
        name: "extended attributes",
        calls: attributes,
        seen: Seen::Otherwise(&["fsetxattr user.name = EOPNOTSUPP"], "refused: no target sets any"),
    },
];

/// Makes a file and a directory with each umask.
fn modes(calls: &mut Calls) {
    for (number, mask) in [0, 0o022, 0o077, 0o027].into_iter().enumerate() {
        let before = umask(Mode::from_bits_truncate(mask));
        drop(calls.open(&format!("f{number}"), NEW, 0o666));
        drop(calls.open(&format!("x{number}"), NEW, 0o777));
        calls.mkdir(&format!("d{number}"), 0o777);
        umask(before);
        for kind in ["f", "x", "d"] {
            calls.stat(&format!("{kind}{number}"));
        }
    }
}

fn chmod(calls: &mut Calls) {
    let file = calls.file("f", b"content");
    calls.mkdir("d", 0o755);
    for mode in [0o600, 0, 0o4755, 0o777] {
        calls.chmod("f", mode);
        calls.fstat(&file);
    }
    calls.chmod("d", 0o1750);
    calls.stat("d");
    calls.chmod("g", 0o600);
    // Root may open it all the same.
    calls.chmod("f", 0);
    drop(calls.open("f", OFlags::RDWR, 0));
    calls.is_marked("f", |calls| calls.chmod("f", 0o640));
}

fn chown(calls: &mut Calls) {
    drop(calls.file("f", b"content"));
    calls.chown("f", 12, 34);
    calls.stat("f");
    calls.chmod("f", 0o4755);
    calls.chown("f", 0, 0);
    calls.stat("f");
}

fn times(calls: &mut Calls) {
    drop(calls.file("f", b"content"));
    calls.utimens("f", (1_000, 7), (2_000_000_000, 999_999_999));
    calls.times("f");
    calls.utimens("f", (-1, 0), (-100, 0));
    calls.times("f");
    calls.utimens("g", (0, 0), (0, 0));
    calls.mkdir("d", 0o755);
    calls.utimens("d", (5, 0), (6, 0));
    calls.times("d");
}

fn time_before_1970(calls: &mut Calls) {
    drop(calls.file("f", b"content"));
    calls.utimens("f", (-1, 0), (-100, 250_000_000));
    calls.times("f");
}

fn marks(calls: &mut Calls) {
    let file = calls.file("f", b"content");
    calls.is_marked("f", |calls| calls.pwrite(&file, b"C", 0));
    calls.is_marked("f", |calls| calls.pread(&file, 1, 0));
    calls.is_marked("f", |calls| calls.link("f", "g"));
    calls.is_marked("g", |calls| calls.unlink("f"));
    calls.is_marked("g", |calls| calls.fsync(&file));
    calls.is_marked("g", |calls| drop(calls.open("g", OFlags::WRONLY | OFlags::TRUNC, 0)));
}

fn marks_of_dirs(calls: &mut Calls) {
    for dir in ["d", "e"] {
        calls.mkdir(dir, 0o755);
    }
    calls.is_marked("d", |calls| drop(calls.file("d/f", b"")));
    calls.is_marked("d", |calls| calls.stat("d/f").map_or((), drop));
    calls.is_marked("d", |calls| drop(calls.file("d/f", b"more")));
    calls.is_marked("d", |calls| calls.rename("d/f", "e/f"));
    calls.is_marked("e", |calls| calls.rename("e/f", "e/g"));
    calls.is_marked("e", |calls| calls.link("e/g", "d/g"));
    calls.is_marked("e", |calls| calls.unlink("e/g"));
    calls.is_marked("d", |calls| calls.mkdir("d/d", 0o700));
    calls.is_marked("d", |calls| calls.rmdir("d/d"));
}

fn flock(calls: &mut Calls) {
    let one = calls.file("f", b"");
    let two = calls.open("f", OFlags::RDONLY, 0);
    calls.flock(&one, FlockOperation::NonBlockingLockShared);
    calls.flock(&two, FlockOperation::NonBlockingLockShared);
    calls.flock(&two, FlockOperation::NonBlockingLockExclusive);
    calls.flock(&one, FlockOperation::Unlock);
    calls.flock(&two, FlockOperation::NonBlockingLockExclusive);
    calls.flock(&one, FlockOperation::NonBlockingLockShared);
}

fn flock_closed(calls: &mut Calls) {
    let one = calls.file("f", b"");
    let same = one.as_ref().and_then(|file| file.try_clone().ok());
    let two = calls.open("f", OFlags::RDWR, 0);
    calls.flock(&one, FlockOperation::NonBlockingLockExclusive);
    drop(one);
    calls.flock(&two, FlockOperation::NonBlockingLockExclusive);
    drop(same);
    calls.flock(&two, FlockOperation::NonBlockingLockExclusive);
}

fn record_locks(calls: &mut Calls) {
    let one = calls.file("f", b"");
    let two = calls.open("f", OFlags::RDWR, 0);
    calls.lock(&one, FlockOperation::NonBlockingLockExclusive);
    calls.lock(&two, FlockOperation::NonBlockingLockExclusive);
    calls.lock_by_descriptor(&two, (0, 10));
    calls.lock(&one, FlockOperation::Unlock);
    calls.lock_by_descriptor(&two, (0, 10));
    calls.lock(&one, FlockOperation::NonBlockingLockShared);
    let reads = calls.open("f", OFlags::RDONLY, 0);
    calls.lock(&reads, FlockOperation::NonBlockingLockExclusive);
}

fn record_locks_closed(calls: &mut Calls) {
    let (one, two) = (calls.file("f", b""), calls.open("f", OFlags::RDWR, 0));
    let third = calls.open("f", OFlags::RDONLY, 0);
    calls.lock(&one, FlockOperation::NonBlockingLockExclusive);
    calls.lock_by_descriptor(&two, (0, 10));
    drop(third);
    calls.lock_by_descriptor(&two, (0, 10));
    drop(calls.open("f", OFlags::RDONLY, 0));
    let other = calls.open("f", OFlags::RDWR, 0);
    calls.lock_by_descriptor(&other, (5, 10));
    calls.lock_by_descriptor(&other, (10, 10));
    drop(two);
    calls.lock_by_descriptor(&other, (5, 10));
}

fn locks_and_names(calls: &mut Calls) {
    let one = calls.file("f", b"");
    calls.flock(&one, FlockOperation::NonBlockingLockExclusive);
    calls.rename("f", "g");
    let two = calls.open("g", OFlags::RDONLY, 0);
    calls.flock(&two, FlockOperation::NonBlockingLockExclusive);
    calls.unlink("g");
    let new = calls.file("g", b"");
    calls.flock(&new, FlockOperation::NonBlockingLockExclusive);
    calls.flock(&two, FlockOperation::NonBlockingLockShared);
}

fn attributes(calls: &mut Calls) {
    let file = calls.file("f", b"");
    calls.set_attribute(&file, "user.name");
}
