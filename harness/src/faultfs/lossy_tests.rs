//! Tests of what a power loss takes, on the directory below and without a mount: they need no FUSE.

use super::below::{Below, Changes};
use super::crash::Crash;
use super::effect::digest_on_disk;
use super::instant::{Instant, State};
use super::lossy::{Lossy, graves_of};
use super::unsynced::PAGE;
use crate::seed::{Seed, Stream};
use fuser::RenameFlags;
use ninelives_evidence::power::{Lost, NameChange, Names};
use nix::fcntl::OFlag;
use proptest::prelude::*;
use rustix::fs::AtFlags;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

const ROOT: u64 = super::tree::ROOT;
const ALL_LOST: u32 = 0;

/// Paths, and the content of files.
type Tree = BTreeMap<PathBuf, Vec<u8>>;

/// A directory whose changes can be lost.
struct Disk {
    dir: TempDir,
    below: Below,
    names: Names,
}

impl Disk {
    fn new(names: Names) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("n1")).unwrap();
        let below = Self::open(&dir.path().join("n1"), names);
        Self { dir, below, names }
    }

    fn open(dir: &Path, names: Names) -> Below {
        let root = fs::File::open(dir).unwrap();
        Below::new(OwnedFd::from(root), Some(Lossy::beside(dir, names).unwrap()), Arc::default()).unwrap()
    }

    /// The number of a path.
    fn ino(&self, path: &str) -> u64 {
        let parts = path.split('/').filter(|part| !part.is_empty());
        parts.fold(ROOT, |dir, name| self.below.lookup(dir, OsStr::new(name)).unwrap().ino.0)
    }

    fn split<'a>(&self, path: &'a str) -> (u64, &'a OsStr) {
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        (self.ino(dir), OsStr::new(name))
    }

    fn mkdir(&self, path: &str) {
        let (dir, name) = self.split(path);
        self.below.mkdir(dir, name, 0o700).unwrap();
    }

    /// Writes `bytes` at `offset` of a file, which is made if it is not there.
    fn write(&self, path: &str, offset: u64, bytes: &[u8]) {
        let (dir, name) = self.split(path);
        let (attr, handle) = self.below.create(dir, name, 0o600, OFlag::O_RDWR.bits()).unwrap();
        self.below.write(attr.ino.0, handle, offset, bytes).unwrap();
        self.below.release(handle);
    }

    fn resize(&self, path: &str, size: u64) {
        let changes = Changes { mode: None, owner: (None, None), size: Some(size), accessed: None, modified: None };
        self.below.setattr(self.ino(path), &changes).unwrap();
    }

    fn link(&self, old: &str, new: &str) {
        let (dir, name) = self.split(new);
        self.below.link(self.ino(old), dir, name).unwrap();
    }

    fn rename(&self, old: &str, new: &str) {
        self.below.rename(self.split(old), self.split(new), RenameFlags::empty()).unwrap();
    }

    fn exchange(&self, one: &str, other: &str) {
        self.below.rename(self.split(one), self.split(other), RenameFlags::RENAME_EXCHANGE).unwrap();
    }

    fn remove(&self, path: &str) {
        let (dir, name) = self.split(path);
        self.below.remove(dir, name, AtFlags::empty()).unwrap();
    }

    fn rmdir(&self, path: &str) {
        let (dir, name) = self.split(path);
        self.below.remove(dir, name, AtFlags::REMOVEDIR).unwrap();
    }

    fn sync(&self, path: &str, is_dir: bool) {
        let ino = self.ino(path);
        let handle = self.below.open(ino, 0).unwrap();
        let begun = self.below.sync_begins(ino, is_dir);
        self.below.sync(ino, handle, (false, is_dir), begun).unwrap();
        self.below.release(handle);
    }

    fn fsync(&self, path: &str) {
        self.sync(path, false);
    }

    fn fsync_dir(&self, path: &str) {
        self.sync(path, true);
    }

    /// The power fails, and comes back.
    fn cut(self, keep: u32, draws: &mut Stream) -> Self {
        self.cut_and_tell(keep, draws).0
    }

    /// The same, with what was lost.
    fn cut_and_tell(self, keep: u32, draws: &mut Stream) -> (Self, Lost) {
        let (disk, lost, _) = self.cut_and_keep(keep, draws);
        (disk, lost)
    }

    /// The same, with the instant.
    fn cut_and_keep(mut self, keep: u32, draws: &mut Stream) -> (Self, Lost, Instant) {
        let (at, kept) = (self.dir.path().join("n1"), self.dir.path().join("instant"));
        let (lossy, root) = self.below.into_lossy().unwrap().unwrap();
        let (lost, instant) = lossy.lose(&root, (keep, draws), Some(&kept)).unwrap();
        self.below = Self::open(&at, self.names);
        (self, lost, instant.unwrap())
    }

    /// Makes a crash state of an instant of this disk.
    fn materialise(&self, instant: &Instant, crash: &Crash) -> (Tree, State) {
        let state = instant.materialise(crash, &self.dir.path().join("state")).unwrap();
        (super::tests::tree(&state.data_dir), state)
    }

    fn live(&self) -> Tree {
        super::tests::tree(&self.dir.path().join("n1"))
    }
}

/// The instant of a cut that lost a rename of `f.tmp` over `f`, whose directory was not synced, and
/// 40 writes to another file. `old`, `new`: the contents of `f`.
pub fn instant_of_a_lost_rename(old: &[u8], new: &[u8]) -> (TempDir, Instant) {
    let disk = Disk::new(Names::Inode);
    // A directory without one holds nothing of a member's.
    durable(&disk, "engine-marker", b"");
    durable(&disk, "f", old);
    durable(&disk, "other", b"");
    disk.write("f.tmp", 0, new);
    disk.fsync("f.tmp");
    disk.fsync_dir("");
    (0..20).for_each(|page| disk.write("other", page * PAGE, b"a page"));
    disk.rename("f.tmp", "f");
    (20..40).for_each(|page| disk.write("other", page * PAGE, b"a page"));
    let (disk, _, instant) = disk.cut_and_keep(ALL_LOST, &mut draws(1));
    (disk.dir, instant)
}

fn draws(seed: u64) -> Stream {
    Seed::new(seed).stream("survivors")
}

/// What is left after all that can be lost is lost: paths, and the content of files.
fn left(names: Names, changes: impl Fn(&Disk)) -> Vec<(String, String)> {
    let disk = Disk::new(names);
    changes(&disk);
    let disk = disk.cut(ALL_LOST, &mut draws(1));
    let text = |(path, bytes): (PathBuf, Vec<u8>)| (path.display().to_string(), String::from_utf8(bytes).unwrap());
    disk.live().into_iter().map(text).collect()
}

/// A case of the table: its name, the changes, and what is left of them in each mode.
type Case = (&'static str, fn(&Disk), [&'static [(&'static str, &'static str)]; 3]);

/// The cases that programs rely on. Left over are, in this order: with one journal; with names that
/// go with their file; as POSIX promises.
const CASES: [Case; 13] = [
    ("nothing is synced", |disk| disk.write("f", 0, b"new"), [&[], &[], &[]]),
    (
        "a new file is synced, and its directory is not",
        |disk| {
            disk.write("f", 0, b"new");
            disk.fsync("f");
        },
        [&[("f", "new")], &[("f", "new")], &[]],
    ),
    (
        "a directory is synced, and the new file in it is not",
        |disk| {
            disk.write("f", 0, b"new");
            disk.fsync_dir("");
        },
        [&[("f", "")], &[("f", "")], &[("f", "")]],
    ),
    (
        "both are synced",
        |disk| {
            disk.write("f", 0, b"new");
            disk.fsync("f");
            disk.fsync_dir("");
        },
        [&[("f", "new")], &[("f", "new")], &[("f", "new")]],
    ),
    (
        "written over, and not synced again",
        |disk| {
            durable(disk, "f", b"old");
            disk.write("f", 0, b"newer");
        },
        [&[("f", "old")]; 3],
    ),
    (
        "replaced by a rename whose directory is not synced",
        |disk| {
            durable(disk, "f", b"old");
            disk.write("f.tmp", 0, b"new");
            disk.fsync("f.tmp");
            disk.rename("f.tmp", "f");
        },
        [&[("f", "old"), ("f.tmp", "new")], &[("f", "old"), ("f.tmp", "new")], &[("f", "old")]],
    ),
    (
        "replaced by a rename without a sync of the file",
        |disk| {
            durable(disk, "f", b"old");
            disk.write("f.tmp", 0, b"new");
            disk.rename("f.tmp", "f");
            disk.fsync_dir("");
        },
        [&[("f", "")]; 3],
    ),
    (
        "replaced in the right order: file, rename, directory",
        |disk| {
            durable(disk, "f", b"old");
            disk.write("f.tmp", 0, b"new");
            disk.fsync("f.tmp");
            disk.rename("f.tmp", "f");
            disk.fsync_dir("");
        },
        [&[("f", "new")]; 3],
    ),
    (
        "removed, and the directory is not synced",
        |disk| {
            durable(disk, "f", b"old");
            disk.remove("f");
        },
        [&[("f", "old")]; 3],
    ),
    (
        "removed and made again, and the new file is synced",
        |disk| {
            durable(disk, "f", b"old");
            disk.remove("f");
            disk.write("f", 0, b"new");
            disk.fsync("f");
        },
        [&[("f", "new")], &[("f", "new")], &[("f", "old")]],
    ),
    (
        "a file in a new directory is synced, and the directory's own name is not",
        |disk| {
            disk.mkdir("d");
            disk.write("d/f", 0, b"new");
            disk.fsync("d/f");
            disk.fsync_dir("d");
        },
        [&[("d", "a directory"), ("d/f", "new")], &[("d", "a directory"), ("d/f", "new")], &[]],
    ),
    (
        "a hard link, and another file is synced",
        |disk| {
            durable(disk, "f", b"old");
            durable(disk, "g", b"");
            disk.link("f", "h");
            disk.write("g", 0, b"new");
            disk.fsync("g");
        },
        [&[("f", "old"), ("g", "new"), ("h", "old")], &[("f", "old"), ("g", "new")], &[("f", "old"), ("g", "new")]],
    ),
    (
        "exchanged, moved away and removed, and nothing is synced",
        |disk| {
            durable(disk, "f", b"old");
            durable(disk, "g", b"other");
            disk.mkdir("d");
            disk.fsync_dir("");
            disk.exchange("f", "g");
            disk.rename("f", "d/f");
            disk.remove("d/f");
            disk.rmdir("d");
        },
        [&[("d", "a directory"), ("f", "old"), ("g", "other")]; 3],
    ),
];

/// A file that is there for good.
fn durable(disk: &Disk, path: &str, bytes: &[u8]) {
    disk.write(path, 0, bytes);
    disk.fsync(path);
    disk.fsync_dir("");
}

#[test]
fn claim_1_each_mode_keeps_what_it_promises() {
    for (case, changes, left_over) in CASES {
        for (names, expected) in Names::ALL.into_iter().zip(left_over) {
            let found = left(names, changes);
            let found: Vec<_> = found.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
            assert_eq!(found, expected, "{case}, with names as {}", names.name());
        }
    }
}

#[test]
fn the_member_sees_no_graves() {
    let disk = Disk::new(Names::Posix);
    durable(&disk, "f", b"old");
    disk.link("f", "g");
    disk.remove("f");
    assert_eq!(disk.below.getattr(disk.ino("g")).unwrap().nlink, 1);
    assert_eq!(fs::read_dir(graves_of(&disk.dir.path().join("n1"))).unwrap().count(), 1);
    disk.fsync_dir("");
    assert_eq!(fs::read_dir(graves_of(&disk.dir.path().join("n1"))).unwrap().count(), 0, "it is durable");
    disk.mkdir("d");
    disk.write("d/f", 0, b"");
    assert!(disk.below.remove(ROOT, OsStr::new("d"), AtFlags::REMOVEDIR).is_err(), "it is not empty");
    assert!(disk.below.remove(ROOT, OsStr::new("d"), AtFlags::empty()).is_err(), "it is a directory");
}

#[test]
fn claim_3_a_size_survives_without_its_pages_and_they_without_it() {
    let mut seen = BTreeMap::<&str, u32>::new();
    for seed in 0..200 {
        let disk = Disk::new(Names::Journal);
        durable(&disk, "f", &[1; 100]);
        disk.write("f", 0, &[2; 3 * PAGE as usize]);
        let disk = disk.cut(50, &mut draws(seed));
        let bytes = disk.live().remove(Path::new("f")).unwrap();
        let page = |at: usize| bytes.get(at * PAGE as usize..(at + 1) * PAGE as usize);
        let all = |bytes: Option<&[u8]>, byte| bytes.is_some_and(|bytes| bytes.iter().all(|found| *found == byte));
        let torn = |bytes: Option<&[u8]>| bytes.is_some_and(|bytes| !all(Some(bytes), 0) && !all(Some(bytes), 2));
        *seen.entry("the old size").or_default() += u32::from(bytes.len() == 100);
        *seen.entry("a hole").or_default() += u32::from(all(page(1), 0) && all(page(2), 2));
        *seen.entry("a torn page").or_default() += u32::from(torn(page(1)));
        *seen.entry("everything").or_default() += u32::from(all(Some(&bytes), 2) && bytes.len() == 3 * 4096);
    }
    assert!(seen.len() == 4 && seen.values().all(|times| *times > 0), "{seen:?}");
}

#[test]
fn a_loss_is_told_by_the_names_that_the_member_knows() {
    let disk = Disk::new(Names::Posix);
    durable(&disk, "f", b"old");
    disk.write("f", 0, b"new");
    disk.remove("f");
    disk.write("g", 0, b"new");
    let (_, lost) = disk.cut_and_tell(ALL_LOST, &mut draws(1));
    let names: Vec<_> = lost.names.iter().map(|name| (name.change, name.path.to_str().unwrap())).collect();
    assert_eq!(names, [(NameChange::Creation, "g"), (NameChange::Removal, "f")], "the newest first");
    let files: Vec<_> = lost.files.iter().map(|file| file.path.to_str().unwrap()).collect();
    assert_eq!(files, ["f", "g"], "not the number of a grave");
}

#[test]
fn a_truncation_is_lost_with_what_it_cut_off() {
    let old: Vec<u8> = (0..3 * PAGE).map(|at| (at / 100) as u8).collect();
    for names in Names::ALL {
        let disk = Disk::new(names);
        durable(&disk, "f", &old);
        disk.resize("f", 5000);
        disk.write("f", 4990, b"a longer tail");
        let disk = disk.cut(ALL_LOST, &mut draws(1));
        assert_eq!(disk.live()[Path::new("f")], old);
        let disk = disk.cut(ALL_LOST, &mut draws(1));
        assert_eq!(disk.live()[Path::new("f")], old, "what is there after a loss is durable");
    }
}

/// A log of the strictest mode knows what the weaker ones would have left.
#[test]
fn a_strict_log_tells_what_a_weaker_mode_leaves() {
    for (case, changes, left_over) in CASES {
        let disk = Disk::new(Names::Posix);
        changes(&disk);
        let (disk, _, instant) = disk.cut_and_keep(ALL_LOST, &mut draws(1));
        let operations = instant.of_the_cut().operations().into_iter().collect();
        for (names, expected) in Names::ALL.into_iter().zip(left_over) {
            let part = instant.part(instant.of_the_cut(), &operations, names);
            let (tree, _) = disk.materialise(&instant, &part);
            let found: Vec<_> = tree
                .iter()
                .map(|(path, bytes)| (path.to_str().unwrap(), std::str::from_utf8(bytes).unwrap()))
                .collect();
            assert_eq!(found, expected, "{case}, with names as {}", names.name());
        }
    }
}

/// `f` was renamed twice: the second rename needs the first one.
#[test]
fn a_part_keeps_what_a_kept_change_needs() {
    let disk = Disk::new(Names::Posix);
    durable(&disk, "f", b"old");
    disk.rename("f", "g");
    disk.rename("g", "h");
    let (_, lost, instant) = disk.cut_and_keep(ALL_LOST, &mut draws(1));
    let (second, first) = (lost.names[0].operation, lost.names[1].operation);
    let part = |operations: &[u64]| {
        let operations = operations.iter().copied().collect();
        let part = instant.part(instant.of_the_cut(), &operations, Names::Posix);
        part.names.iter().map(|named| named.operation).collect::<Vec<_>>()
    };
    assert_eq!(part(&[first]), [0u64; 0], "the second is kept, and needs it");
    assert_eq!(part(&[second]), [second]);
    assert_eq!(part(&[first, second]), [second, first]);
}

#[test]
fn a_loss_names_the_last_sync_of_what_had_to_be_synced() {
    let disk = Disk::new(Names::Posix);
    durable(&disk, "f", b"old");
    disk.write("f.tmp", 0, b"new");
    disk.fsync("f.tmp");
    disk.rename("f.tmp", "f");
    disk.write("g", 0, b"new");
    let (_, lost) = disk.cut_and_tell(ALL_LOST, &mut draws(1));
    // 1: f is made, 2: written, 3: synced, 4: its directory; 5 to 7: f.tmp; 8: the rename.
    let rename = lost.names.iter().find(|name| name.change == NameChange::Rename).unwrap();
    assert_eq!((rename.operation, rename.synced), (8, Some(4)));
    assert_eq!(rename.from.as_deref(), Some(Path::new("f.tmp")));
    let never = lost.files.iter().find(|file| file.path == Path::new("g")).unwrap();
    assert_eq!((never.operation, never.synced), (10, None));
}

#[test]
fn equal_states_have_equal_digests_and_others_do_not() {
    let disk = Disk::new(Names::Posix);
    durable(&disk, "f", b"old");
    disk.write("f", 0, b"new");
    disk.rename("f", "g");
    let (disk, lost, instant) = disk.cut_and_keep(ALL_LOST, &mut draws(1));
    let (rename, write) = (lost.names[0].operation, lost.files[0].operation);
    let digest = |operations: &[u64]| {
        let operations = operations.iter().copied().collect();
        let part = instant.part(instant.of_the_cut(), &operations, Names::Posix);
        let (state, digest) = (disk.materialise(&instant, &part).1, instant.effect(&part).unwrap());
        assert_eq!(digest_on_disk(&state.data_dir).unwrap(), digest);
        digest
    };
    let all = [digest(&[]), digest(&[rename]), digest(&[write]), digest(&[rename, write])];
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 4);
    assert_eq!(digest(&[rename, write]), all[3]);
    assert_eq!(digest(&[]), all[0], "what was kept has not changed");
}

/// One change, on a few files in two directories.
#[derive(Debug, Clone)]
enum Op {
    Write(usize, u64, u8, usize),
    Resize(usize, u64),
    Remove(usize),
    Rename(usize, usize),
    Link(usize, usize),
    Fsync(usize),
    FsyncDir(bool),
}

const FILES: [&str; 6] = ["a", "b", "c", "d/a", "d/b", "d/c"];

fn op() -> impl Strategy<Value = Op> {
    let file = 0..FILES.len();
    prop_oneof![
        4 => (file.clone(), 0..3 * PAGE, any::<u8>(), 1..5000usize).prop_map(|(f, at, byte, length)| Op::Write(f, at, byte, length)),
        1 => (file.clone(), 0..3 * PAGE).prop_map(|(f, size)| Op::Resize(f, size)),
        1 => file.clone().prop_map(Op::Remove),
        2 => (file.clone(), file.clone()).prop_map(|(from, to)| Op::Rename(from, to)),
        1 => (file.clone(), file.clone()).prop_map(|(from, to)| Op::Link(from, to)),
        2 => file.prop_map(Op::Fsync),
        1 => any::<bool>().prop_map(Op::FsyncDir),
    ]
}

/// The same files, told in full: contents as they are and as they were synced, and directories as
/// they are and as they were synced. It knows nothing of pages and operations.
#[derive(Default)]
struct Told {
    contents: Vec<Vec<u8>>,
    synced: Vec<Vec<u8>>,
    names: BTreeMap<&'static str, usize>,
    synced_names: BTreeMap<&'static str, usize>,
    /// Names that changed since their directory was synced.
    changed: BTreeSet<&'static str>,
}

impl Told {
    fn dir(name: &str) -> bool {
        name.starts_with("d/")
    }

    fn sync_names(&mut self, which: impl Fn(&str) -> bool) {
        self.synced_names.retain(|name, _| !which(name));
        self.changed.retain(|name| !which(name));
        let now = self.names.iter().filter(|(name, _)| which(name));
        self.synced_names.extend(now.map(|(name, file)| (*name, *file)));
    }

    /// Carries `op` out here and on the disk, where it is possible.
    fn apply(&mut self, disk: &Disk, op: &Op) {
        let before = self.names.clone();
        self.carry_out(disk, op);
        let differs = |name: &&&str| before.get(**name) != self.names.get(**name);
        let changed: Vec<_> = FILES.iter().filter(differs).copied().collect();
        self.changed.extend(changed);
    }

    fn carry_out(&mut self, disk: &Disk, op: &Op) {
        match *op {
            Op::Write(file, at, byte, length) => {
                let name = FILES[file];
                disk.write(name, at, &vec![byte; length]);
                let file = *self.names.entry(name).or_insert_with(|| {
                    self.contents.push(Vec::new());
                    self.synced.push(Vec::new());
                    self.contents.len() - 1
                });
                let (bytes, end) = (&mut self.contents[file], at as usize + length);
                bytes.resize(bytes.len().max(end), 0);
                bytes[at as usize..end].fill(byte);
            }
            Op::Resize(file, size) => {
                let Some(file) = self.names.get(FILES[file]).map(|known| (FILES[file], *known)) else { return };
                disk.resize(file.0, size);
                self.contents[file.1].resize(size as usize, 0);
            }
            Op::Remove(file) => {
                if self.names.remove(FILES[file]).is_some() {
                    disk.remove(FILES[file]);
                }
            }
            // Within one directory: of two, POSIX does not say whose sync keeps a rename.
            Op::Rename(from, to) => {
                let (from, to) = (FILES[from], FILES[to]);
                let Some(file) = self.names.get(from).copied().filter(|_| Self::dir(from) == Self::dir(to)) else {
                    return;
                };
                disk.rename(from, to);
                // Two links of one file: nothing happens.
                if self.names.insert(to, file) != Some(file) {
                    self.names.remove(from);
                }
            }
            Op::Link(from, to) => {
                let (from, to) = (FILES[from], FILES[to]);
                let Some(file) = self.names.get(from).copied().filter(|_| !self.names.contains_key(to)) else { return };
                disk.link(from, to);
                self.names.insert(to, file);
            }
            Op::Fsync(file) => {
                let Some(known) = self.names.get(FILES[file]).copied() else { return };
                disk.fsync(FILES[file]);
                self.synced[known] = self.contents[known].clone();
                if disk.names == Names::Journal {
                    self.sync_names(|_| true);
                }
            }
            Op::FsyncDir(sub) => {
                disk.fsync_dir(if sub { "d" } else { "" });
                let all = disk.names == Names::Journal;
                self.sync_names(|name| all || Self::dir(name) == sub);
            }
        }
    }

    fn tree(names: &BTreeMap<&'static str, usize>, contents: &[Vec<u8>]) -> BTreeMap<PathBuf, Vec<u8>> {
        let files = names.iter().map(|(name, file)| (PathBuf::from(name), contents[*file].clone()));
        files.chain([(PathBuf::from("d"), b"a directory".to_vec())]).collect()
    }
}

/// A tree with its contents as runs of equal bytes, so that a failure can be read.
fn runs(tree: &BTreeMap<PathBuf, Vec<u8>>) -> BTreeMap<PathBuf, Vec<(u8, usize)>> {
    let file = |bytes: &[u8]| bytes.chunk_by(|a, b| a == b).map(|run| (run[0], run.len())).collect();
    tree.iter().map(|(path, bytes)| (path.clone(), file(bytes))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn claim_1_and_2_what_is_left_is_what_was_synced(
        ops in proptest::collection::vec(op(), 1..60),
        journal in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let run = |names, keep| {
            let disk = Disk::new(names);
            disk.mkdir("d");
            disk.fsync_dir("");
            let mut told = Told::default();
            ops.iter().for_each(|op| told.apply(&disk, op));
            prop_assert_eq!(runs(&disk.live()), runs(&Told::tree(&told.names, &told.contents)));
            Ok((disk.cut(keep, &mut draws(seed)).live(), told))
        };
        let names = if journal { Names::Journal } else { Names::Posix };
        let (left, told) = run(names, ALL_LOST)?;
        prop_assert_eq!(runs(&left), runs(&Told::tree(&told.synced_names, &told.synced)));
        let (left, told) = run(names, 100)?;
        prop_assert_eq!(runs(&left), runs(&Told::tree(&told.names, &told.contents)), "and all of it may survive");
        for names in Names::ALL {
            let keep = 50;
            let (first, told) = run(names, keep)?;
            let (second, _) = run(names, keep)?;
            prop_assert_eq!(runs(&first), runs(&second));
            // A name that never changed after its sync is there, with data that was there once.
            for (name, file) in told.synced_names.iter().filter(|(name, _)| !told.changed.contains(*name)) {
                let settled = told.synced[*file] == told.contents[*file];
                if names == Names::Posix && settled {
                    prop_assert_eq!(first.get(Path::new(name)).map(Vec::len), Some(told.synced[*file].len()), "{}", name);
                }
            }
        }
    }

    #[test]
    fn a_materialised_state_is_what_the_cut_leaves(
        ops in proptest::collection::vec(op(), 1..60),
        mode in 0..3usize,
        keep in prop_oneof![Just(ALL_LOST), Just(50), Just(90)],
        seed in any::<u64>(),
    ) {
        let disk = Disk::new(Names::ALL[mode]);
        disk.mkdir("d");
        disk.fsync_dir("");
        let mut told = Told::default();
        ops.iter().for_each(|op| told.apply(&disk, op));
        let live = disk.live();
        let (disk, lost, instant) = disk.cut_and_keep(keep, &mut draws(seed));
        let left = disk.live();
        let (made, state) = disk.materialise(&instant, instant.of_the_cut());
        prop_assert_eq!(runs(&made), runs(&left));
        prop_assert_eq!(state.lost, lost);
        let (made, _) = disk.materialise(&instant, &Crash::default());
        prop_assert_eq!(runs(&made), runs(&live), "nothing lost");
        let elsewhere = instant.copied_to(&disk.dir.path().join("elsewhere")).unwrap();
        for (nth, kept) in [&instant, &elsewhere].into_iter().enumerate() {
            let drawn = kept.drawn(50, &mut draws(seed.wrapping_add(nth as u64))).unwrap();
            for crash in [kept.of_the_cut(), &drawn] {
                let (_, state) = disk.materialise(kept, crash);
                prop_assert_eq!(kept.effect(crash).unwrap(), digest_on_disk(&state.data_dir).unwrap());
            }
        }
        let all = instant.of_the_cut().operations().into_iter().collect();
        let whole = instant.part(instant.of_the_cut(), &all, disk.names);
        prop_assert_eq!(&whole, instant.of_the_cut());
    }
}
