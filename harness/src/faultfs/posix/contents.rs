//! Cases about contents: bytes that are written, read, cut off, allocated, mapped and synced.

use super::calls::{Calls, NEW, Opened};
use super::case::{Case, Seen, same};
use nix::fcntl::FallocateFlags;
use rustix::fs::{OFlags, SeekFrom};
use rustix::mm::{MapFlags, MsyncFlags, ProtFlags, mmap, msync, munmap};
use std::os::fd::AsRawFd;

pub const CASES: &[Case] = &[
    same("`write`, `read` and the offset between them", offsets),
    same("`pwrite` beyond the end: a hole reads as zeros", holes),
    same("truncate down, up, and down to nothing", truncate),
    same("what was cut off does not come back", cut_off),
    same("`ftruncate` and `write` on a descriptor for reading", read_only),
    same("`read` on a descriptor for writing", write_only),
    same("`O_APPEND`: two descriptors, and `pwrite` on one", append),
    same("`O_TRUNC`, alone and with `O_APPEND`", trunc),
    same("writes of 3 MiB across pages", large),
    same("sizes beyond what a file can have", too_large),
    same("`O_DSYNC` and `O_SYNC`", dsync),
    same("`O_DIRECT`: aligned, and beside the page cache", direct),
    same("`fallocate`: size, `KEEP_SIZE`", allocate),
    same("`fallocate`: `PUNCH_HOLE`, `ZERO_RANGE`", punch),
    Case {
        name: "`fallocate`: `COLLAPSE_RANGE`, `INSERT_RANGE`",
        calls: collapse,
        seen: Seen::Otherwise(
            &[
                "fallocate FALLOC_FL_COLLAPSE_RANGE 0 4096 = EOPNOTSUPP",
                "fallocate FALLOC_FL_INSERT_RANGE 0 4096 = EOPNOTSUPP",
            ],
            "refused by FUSE: no target moves data about in a file",
        ),
    },
    same("`copy_file_range`", copy),
    same("`SEEK_DATA`, `SEEK_HOLE` of a file without holes", seek_whole),
    same("`SEEK_DATA`, `SEEK_HOLE` of a sparse file", seek_sparse),
    same("`mmap` shared: written, `msync`, read by `pread`", map_written),
    same("`mmap` shared: sees writes, and a file that grows", map_seen),
    same("`fsync`, `fdatasync` of files and directories", sync),
    same("`sync_file_range`", sync_range),
    same("`sync_file_range` of a directory", sync_range_of_dir),
];

fn offsets(calls: &mut Calls) {
    let file = calls.open("f", NEW, 0o644);
    calls.write(&file, b"aaabbb");
    calls.read(&file, 4);
    calls.seek(&file, SeekFrom::Start(2));
    calls.read(&file, 2);
    calls.seek(&file, SeekFrom::Current(1));
    calls.write(&file, b"c");
    calls.seek(&file, SeekFrom::End(-1));
    calls.read(&file, 9);
    calls.read(&file, 9);
    calls.seek(&file, SeekFrom::End(-9));
    calls.pread(&file, 9, 100);
    calls.content("f");
}

fn holes(calls: &mut Calls) {
    let file = calls.file("f", b"aa");
    calls.pwrite(&file, b"zz", 10_000);
    calls.fstat(&file);
    calls.content("f");
    calls.pwrite(&file, b"", 50_000);
    calls.fstat(&file);
    calls.seek(&file, SeekFrom::Start(20_000));
    calls.write(&file, b"y");
    calls.content("f");
}

fn truncate(calls: &mut Calls) {
    let file = calls.file("f", &[b'a'; 5000]);
    for size in [4999, 4096, 100, 9000, 0, 1] {
        calls.ftruncate(&file, size);
        calls.fstat(&file);
        calls.content("f");
    }
    calls.is_marked("f", |calls| calls.ftruncate(&file, 7));
}

fn cut_off(calls: &mut Calls) {
    let file = calls.file("f", &[b'a'; 9000]);
    calls.ftruncate(&file, 10);
    calls.pwrite(&file, b"b", 8000);
    calls.content("f");
    calls.ftruncate(&file, 20);
    calls.ftruncate(&file, 9000);
    calls.content("f");
}

fn read_only(calls: &mut Calls) {
    drop(calls.file("f", b"content"));
    let file = calls.open("f", OFlags::RDONLY, 0);
    calls.ftruncate(&file, 1);
    calls.write(&file, b"x");
    calls.pwrite(&file, b"x", 0);
    calls.allocate(&file, FallocateFlags::empty(), 0, 100);
    calls.fsync(&file);
    calls.content("f");
}

fn write_only(calls: &mut Calls) {
    let file = calls.open("f", OFlags::WRONLY | OFlags::CREATE, 0o644);
    calls.write(&file, b"content");
    calls.pread(&file, 3, 0);
    calls.pwrite(&file, b"C", 0);
    calls.ftruncate(&file, 4);
    calls.fdatasync(&file);
    calls.content("f");
}

fn append(calls: &mut Calls) {
    let one = calls.open("f", NEW | OFlags::APPEND, 0o644);
    let two = calls.open("f", OFlags::WRONLY | OFlags::APPEND, 0);
    calls.write(&one, b"aa");
    calls.write(&two, b"bb");
    calls.write(&one, b"cc");
    calls.seek(&one, SeekFrom::Current(0));
    // POSIX wants it at 0; Linux appends it.
    calls.pwrite(&two, b"dd", 0);
    calls.seek(&one, SeekFrom::Start(0));
    calls.read(&one, 20);
    calls.ftruncate(&one, 3);
    calls.write(&two, b"ee");
    calls.content("f");
}

fn trunc(calls: &mut Calls) {
    let old = calls.file("f", b"content");
    let file = calls.open("f", OFlags::WRONLY | OFlags::TRUNC, 0);
    calls.fstat(&old);
    calls.write(&file, b"ab");
    let file = calls.open("f", OFlags::WRONLY | OFlags::TRUNC | OFlags::APPEND, 0);
    calls.write(&file, b"cd");
    calls.pread(&old, 10, 0);
    drop(calls.open("f", NEW | OFlags::TRUNC, 0o600));
    calls.stat("f");
    drop(calls.open("g", NEW | OFlags::TRUNC | OFlags::EXCL, 0o600));
    calls.stat("g");
}

fn large(calls: &mut Calls) {
    let bytes: Vec<u8> = (0..3_u32 << 20).map(|at| b'a' + (at >> 16) as u8 % 26).collect();
    let file = calls.open("f", NEW, 0o644);
    calls.write(&file, &bytes);
    calls.pwrite(&file, &bytes[..100_000], 1_000_001);
    calls.pread(&file, 200_000, 950_000);
    calls.fstat(&file);
    calls.content("f");
}

fn too_large(calls: &mut Calls) {
    let file = calls.file("f", b"content");
    calls.ftruncate(&file, i64::MAX as u64);
    calls.pwrite(&file, b"x", i64::MAX as u64);
    calls.allocate(&file, FallocateFlags::empty(), i64::MAX - 10, 100);
    calls.allocate(&file, FallocateFlags::empty(), -1, 100);
    calls.allocate(&file, FallocateFlags::empty(), 0, 0);
    calls.stat("f");
}

fn dsync(calls: &mut Calls) {
    for flag in [OFlags::DSYNC, OFlags::SYNC] {
        let file = calls.open("f", NEW | flag, 0o644);
        calls.write(&file, b"aa");
        calls.pwrite(&file, b"b", 3);
        calls.content("f");
    }
}

#[repr(align(4096))]
struct Aligned([u8; 8192]);

fn direct(calls: &mut Calls) {
    let file = calls.open("f", NEW | OFlags::DIRECT, 0o644);
    let page = Aligned([b'a'; 8192]);
    calls.pwrite(&file, &page.0, 4096);
    calls.fstat(&file);
    // Another descriptor has pages in the cache.
    let cached = calls.open("f", OFlags::RDWR, 0);
    calls.pread(&cached, 8192, 0);
    calls.pwrite(&file, &Aligned([b'b'; 8192]).0[..4096], 0);
    calls.pread(&cached, 4100, 0);
    calls.pwrite(&cached, b"c", 4095);
    calls.content("f");
    calls.fdatasync(&file);
}

fn allocate(calls: &mut Calls) {
    let file = calls.file("f", b"aa");
    calls.allocate(&file, FallocateFlags::empty(), 0, 10_000);
    calls.fstat(&file);
    calls.is_allocated(&file, 10_000);
    calls.allocate(&file, FallocateFlags::FALLOC_FL_KEEP_SIZE, 10_000, 90_000);
    calls.fstat(&file);
    calls.is_allocated(&file, 100_000);
    calls.allocate(&file, FallocateFlags::empty(), 0, 100);
    calls.content("f");
    calls.pwrite(&file, b"z", 50_000);
    calls.fstat(&file);
}

fn punch(calls: &mut Calls) {
    let file = calls.file("f", &[b'a'; 20_000]);
    let keep = FallocateFlags::FALLOC_FL_KEEP_SIZE;
    calls.allocate(&file, FallocateFlags::FALLOC_FL_PUNCH_HOLE | keep, 4_000, 9_000);
    calls.content("f");
    calls.allocate(&file, FallocateFlags::FALLOC_FL_ZERO_RANGE, 15_000, 1_000);
    calls.content("f");
    calls.allocate(&file, FallocateFlags::FALLOC_FL_ZERO_RANGE | keep, 19_000, 9_000);
    calls.fstat(&file);
    calls.allocate(&file, FallocateFlags::FALLOC_FL_ZERO_RANGE, 19_500, 9_000);
    calls.content("f");
    calls.allocate(&file, FallocateFlags::FALLOC_FL_PUNCH_HOLE | keep, 25_000, 90_000);
    calls.fstat(&file);
}

fn collapse(calls: &mut Calls) {
    let file = calls.file("f", &[b'a'; 8192]);
    calls.allocate(&file, FallocateFlags::FALLOC_FL_COLLAPSE_RANGE, 0, 4096);
    calls.allocate(&file, FallocateFlags::FALLOC_FL_INSERT_RANGE, 0, 4096);
    calls.fstat(&file);
}

fn copy(calls: &mut Calls) {
    let from = calls.file("f", &[b'a'; 10_000]);
    let to = calls.file("g", b"0123456789");
    calls.copy_range(&from, &to, (5, 3), 6_000);
    calls.content("g");
    calls.copy_range(&from, &to, (9_000, 9_000), 5_000);
    calls.fstat(&to);
    calls.copy_range(&from, &to, (10_000, 0), 5_000);
    calls.copy_range(&to, &to, (0, 9_999), 100);
    calls.copy_range(&to, &to, (0, 50), 100);
    let reads = calls.open("f", OFlags::RDONLY, 0);
    calls.copy_range(&to, &reads, (0, 0), 5);
    calls.content("g");
}

fn seek_whole(calls: &mut Calls) {
    let file = calls.file("f", &[b'a'; 10_000]);
    calls.seek(&file, SeekFrom::Data(5_000));
    calls.seek(&file, SeekFrom::Hole(5_000));
    calls.seek(&file, SeekFrom::Data(10_000));
    calls.seek(&file, SeekFrom::Hole(10_001));
}

fn seek_sparse(calls: &mut Calls) {
    let file = calls.file("f", b"");
    calls.ftruncate(&file, 1 << 20);
    calls.pwrite(&file, &[b'a'; 65_536], 131_072);
    for at in [0, 131_072, 150_000, 300_000] {
        calls.seek(&file, SeekFrom::Data(at));
        calls.seek(&file, SeekFrom::Hole(at));
    }
}

/// The first `length` bytes of a file, mapped shared.
struct Mapped {
    at: *mut u8,
    length: usize,
}

#[allow(unsafe_code, reason = "only a system call maps a file")]
impl Mapped {
    fn of(file: &Opened, length: usize) -> Option<Self> {
        let both = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at a place of the kernel's choice; it is unmapped by `drop`.
        let at = unsafe { mmap(std::ptr::null_mut(), length, both, MapFlags::SHARED, file.as_ref()?, 0) }.ok()?;
        Some(Self { at: at.cast(), length })
    }

    fn byte(&self, at: usize) -> u8 {
        assert!(at < self.length);
        // SAFETY: within the mapping, which no reference points into; volatile, because it changes
        // behind the compiler's back.
        unsafe { self.at.add(at).read_volatile() }
    }

    fn set(&self, at: usize, byte: u8) {
        assert!(at < self.length);
        // SAFETY: as above.
        unsafe { self.at.add(at).write_volatile(byte) }
    }

    fn sync(&self) -> std::io::Result<()> {
        // SAFETY: all of the mapping.
        Ok(unsafe { msync(self.at.cast(), self.length, MsyncFlags::SYNC) }?)
    }
}

#[allow(unsafe_code, reason = "as above")]
impl Drop for Mapped {
    fn drop(&mut self) {
        // An error has no receiver here, and would leave a mapping until this program ends.
        // SAFETY: mapped by `of`, and used by nothing else.
        let _ = unsafe { munmap(self.at.cast(), self.length) };
    }
}

fn map_written(calls: &mut Calls) {
    let file = calls.file("f", &[b'a'; 10_000]);
    let mapped = Mapped::of(&file, 10_000);
    calls.fact("it is mapped", mapped.is_some());
    let Some(mapped) = mapped else { return };
    mapped.set(5_000, b'b');
    calls.pread(&file, 10_000, 0);
    calls.made("msync", mapped.sync());
    calls.content("f");
    mapped.set(5_001, b'c');
    calls.fsync(&file);
    calls.content("f");
    mapped.set(5_002, b'd');
    drop(mapped);
    calls.content("f");
    calls.unlink("f");
    let mapped = Mapped::of(&file, 4_096);
    mapped.iter().for_each(|mapped| mapped.set(0, b'e'));
    calls.pread(&file, 3, 0);
}

fn map_seen(calls: &mut Calls) {
    let file = calls.file("f", &[b'a'; 4_096]);
    let Some(mapped) = Mapped::of(&file, 16_384) else { return calls.fact("it is mapped", false) };
    calls.pwrite(&file, b"b", 100);
    calls.fact("a write is seen", mapped.byte(100) == b'b');
    let other = calls.open("f", OFlags::WRONLY, 0);
    calls.pwrite(&other, b"c", 101);
    calls.fact("one by another descriptor is seen", mapped.byte(101) == b'c');
    calls.ftruncate(&other, 16_384);
    calls.fact("what was added is zeros", mapped.byte(16_000) == 0);
    calls.pwrite(&other, b"d", 16_000);
    calls.fact("and is seen once it is written", mapped.byte(16_000) == b'd');
    calls.ftruncate(&other, 50);
    calls.ftruncate(&other, 16_384);
    calls.fact("what was cut off is zeros", mapped.byte(100) == 0 && mapped.byte(16_000) == 0);
}

fn sync(calls: &mut Calls) {
    calls.mkdir("d", 0o755);
    let file = calls.file("d/f", b"content");
    calls.fsync(&file);
    calls.fdatasync(&file);
    let reads = calls.open("d/f", OFlags::RDONLY, 0);
    calls.fsync(&reads);
    let dir = calls.open("d", OFlags::RDONLY | OFlags::DIRECTORY, 0);
    calls.fsync(&dir);
    calls.fdatasync(&dir);
    calls.content("d/f");
}

#[allow(unsafe_code, reason = "neither nix nor rustix has this call")]
fn range_synced(file: &Opened) -> std::io::Result<()> {
    let Some(file) = file else { return Ok(()) };
    let how = libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    // SAFETY: integers only, and a descriptor that is open.
    let gave = unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 4_096, how) };
    if gave == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

fn sync_range(calls: &mut Calls) {
    let file = calls.file("f", &[b'a'; 5_000]);
    calls.made("sync_file_range", range_synced(&file));
    calls.content("f");
}

fn sync_range_of_dir(calls: &mut Calls) {
    let dir = calls.open(".", OFlags::RDONLY, 0);
    calls.made("sync_file_range", range_synced(&dir));
}
