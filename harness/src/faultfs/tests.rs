//! Tests of the mount as a whole, on a machine that has FUSE; elsewhere they say so, and prove
//! nothing.

use super::*;
use crate::seed::Seed;
use crate::subject::events::NodeState;
use ninelives_evidence::power::Names;
use nix::fcntl::{FallocateFlags, RenameFlags, fallocate, renameat2};
use proptest::prelude::*;
use rustix::fs::FlockOperation;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use tempfile::TempDir;
use tokio::sync::watch;

pub(super) struct Bench {
    mount: Option<Mount>,
    said: watch::Receiver<NodeState>,
    dir: TempDir,
}

impl Bench {
    /// `None`: this machine, or this user, has no FUSE.
    pub(super) fn new() -> Option<Self> {
        Self::with(None)
    }

    /// The same, where what is not synced can be lost.
    pub(super) fn with(names: Option<Names>) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mount = match Mount::over(&dir.path().join("n1"), names) {
            Ok(mount) => mount,
            Err(why) => {
                eprintln!("not tested: {why:#}");
                return None;
            }
        };
        let (publish, said) = watch::channel(NodeState::default());
        mount.gate().open(publish);
        Some(Self { mount: Some(mount), said, dir })
    }

    pub(super) fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join("n1").join(path)
    }

    /// The power of the member fails.
    pub(super) fn cut(&mut self, keep_percent: u32) {
        let mut draws = Seed::new(7).stream("test");
        self.mount.as_mut().unwrap().cut((keep_percent, &mut draws), None).unwrap();
    }

    pub(super) fn mount(&self) -> &Mount {
        self.mount.as_ref().unwrap()
    }

    fn gate(&self) -> &Gate {
        self.mount().gate()
    }

    fn wait_held(&self) {
        let mut said = self.said.clone();
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(async move { said.wait_for(|said| said.held).await.map(drop) })
            .unwrap();
    }

    /// The content of the directory without the mount.
    pub(super) fn unmount(&mut self) -> BTreeMap<PathBuf, Vec<u8>> {
        drop(self.mount.take());
        tree(&self.dir.path().join("n1"))
    }
}

/// Files with what is in them, and directories, relative to `root`.
pub(super) fn tree(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    fn walk(root: &Path, dir: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_owned();
            if path.is_dir() {
                found.insert(name, b"a directory".to_vec());
                walk(root, &path, found);
            } else {
                found.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(root, root, &mut found);
    found
}

/// A dead directory is read on the filesystem below: no answer of this process is waited for.
#[test]
fn the_directory_below_is_reached_without_the_mount() {
    let Some(bench) = Bench::new() else { return };
    fs::write(bench.at("f"), b"written through the mount").unwrap();
    let below = bench.mount.as_ref().and_then(Mount::below).unwrap();
    let device = |path: &Path| fs::metadata(path).unwrap().dev();
    assert_eq!(device(&below.join("f")), device(bench.dir.path()));
    assert_ne!(device(&bench.at("f")), device(bench.dir.path()));
    fs::hard_link(below.join("f"), bench.dir.path().join("linked")).unwrap();
    assert_eq!(fs::read(bench.dir.path().join("linked")).unwrap(), b"written through the mount");
}

#[test]
fn what_is_written_through_it_lies_below() {
    let Some(mut bench) = Bench::new() else { return };
    fs::create_dir_all(bench.at("member/wal")).unwrap();
    fs::write(bench.at("member/wal/a"), b"hello").unwrap();
    fs::hard_link(bench.at("member/wal/a"), bench.at("member/b")).unwrap();
    fs::set_permissions(bench.at("member/b"), PermissionsExt::from_mode(0o640)).unwrap();
    let through = fs::metadata(bench.at("member/wal/a")).unwrap();
    assert_eq!((through.nlink(), through.mode() & 0o777, through.len()), (2, 0o640, 5));
    let mut file = File::options().append(true).open(bench.at("member/b")).unwrap();
    file.write_all(b", world").unwrap();
    file.sync_all().unwrap();
    assert_eq!(fs::read(bench.at("member/wal/a")).unwrap(), b"hello, world");
    file.set_len(4).unwrap();
    assert_eq!(fs::remove_dir(bench.at("member")).unwrap_err().kind(), std::io::ErrorKind::DirectoryNotEmpty);
    assert!(File::options().write(true).create_new(true).open(bench.at("member/b")).is_err());
    let inode = fs::metadata(bench.at("member/b")).unwrap().ino();
    drop(file);
    let below = bench.unmount();
    assert_eq!(below[Path::new("member/wal/a")], b"hell");
    assert_eq!(below[Path::new("member/b")], b"hell");
    assert_eq!(fs::metadata(bench.at("member/b")).unwrap().ino(), inode, "numbers are those of below");
}

#[test]
fn names_are_exchanged_kept_and_replaced() {
    let Some(mut bench) = Bench::new() else { return };
    let root = File::open(bench.at("")).unwrap();
    for name in ["a", "b", "c"] {
        fs::write(bench.at(name), name).unwrap();
    }
    renameat2(&root, "a", &root, "b", RenameFlags::RENAME_EXCHANGE).unwrap();
    assert_eq!(fs::read(bench.at("a")).unwrap(), b"b");
    assert!(renameat2(&root, "a", &root, "c", RenameFlags::RENAME_NOREPLACE).is_err());
    let mut open = File::open(bench.at("c")).unwrap();
    fs::rename(bench.at("a"), bench.at("c")).unwrap();
    let mut text = String::new();
    open.read_to_string(&mut text).unwrap();
    assert_eq!(text, "c", "an open file outlives its name");
    drop((open, root));
    let below = bench.unmount();
    assert_eq!(below, [("b".into(), b"a".to_vec()), ("c".into(), b"b".to_vec())].into());
}

#[test]
fn space_is_allocated_below() {
    let Some(bench) = Bench::new() else { return };
    let file = File::create(bench.at("wal")).unwrap();
    fallocate(&file, FallocateFlags::empty(), 0, 8 << 20).unwrap();
    file.write_all_at(b"x", 1 << 20).unwrap();
    fallocate(&file, FallocateFlags::FALLOC_FL_KEEP_SIZE, 8 << 20, 1 << 20).unwrap();
    let through = fs::metadata(bench.at("wal")).unwrap();
    assert_eq!(through.len(), 8 << 20);
    assert!(through.blocks() * 512 >= 9 << 20, "{}", through.blocks());
    let mut end = File::open(bench.at("wal")).unwrap();
    assert_eq!(end.seek(SeekFrom::End(0)).unwrap(), 8 << 20);
}

#[test]
fn two_openings_conflict_over_a_lock() {
    let Some(bench) = Bench::new() else { return };
    let (one, two) = (File::create(bench.at("lock")).unwrap(), File::open(bench.at("lock")).unwrap());
    rustix::fs::flock(&one, FlockOperation::NonBlockingLockExclusive).unwrap();
    assert!(rustix::fs::flock(&two, FlockOperation::NonBlockingLockShared).is_err());
    rustix::fs::flock(&one, FlockOperation::Unlock).unwrap();
    rustix::fs::flock(&two, FlockOperation::NonBlockingLockExclusive).unwrap();
}

/// etcd's bbolt reads its file by a mapping, and writes it by system calls.
#[test]
#[allow(unsafe_code, reason = "there is no other way to map a file")]
fn a_mapping_sees_what_is_written() {
    use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
    let Some(bench) = Bench::new() else { return };
    let file = File::options().read(true).write(true).create_new(true).open(bench.at("db")).unwrap();
    file.set_len(16_384).unwrap();
    // SAFETY: the mapping is read within its length, and unmapped before the file goes.
    let page = unsafe { mmap(std::ptr::null_mut(), 16_384, ProtFlags::READ, MapFlags::SHARED, &file, 0) }.unwrap();
    // SAFETY: it is mapped, and no reference to it exists; volatile, because it changes behind the
    // compiler's back.
    let read = |at: usize| unsafe { page.cast::<u8>().add(at).read_volatile() };
    assert_eq!(read(5_000), 0);
    file.write_all_at(b"xyz", 5_000).unwrap();
    assert_eq!((read(5_000), read(5_002), read(5_003)), (b'x', b'z', 0));
    let other = File::options().write(true).open(bench.at("db")).unwrap();
    other.write_all_at(b"!", 5_003).unwrap();
    assert_eq!(read(5_003), b'!');
    // SAFETY: mapped above, and not used any more.
    unsafe { munmap(page, 16_384) }.unwrap();
}

/// A directory with one class of file, `member/snap/db`, opened.
fn with_a_db(bench: &Bench) -> File {
    fs::create_dir_all(bench.at("member/snap")).unwrap();
    let file = File::create(bench.at("member/snap/db")).unwrap();
    file.write_all_at(b"old", 0).unwrap();
    file
}

#[test]
fn a_hold_before_leaves_below_what_was_there() {
    let Some(mut bench) = Bench::new() else { return };
    let file = with_a_db(&bench);
    bench.gate().arm("db.write", 2).unwrap();
    file.write_all_at(b"mid", 0).unwrap();
    let (told, answers) = mpsc::channel();
    thread::scope(|scope| {
        let (file, told) = (&file, &told);
        scope.spawn(move || told.send(file.write_all_at(b"new", 0).is_err()).unwrap());
        bench.wait_held();
        assert_eq!(bench.said.borrow().window, Some(("db.write".to_owned(), 2)));
        // Requests that only read go on; those that change something wait.
        assert_eq!(fs::read_dir(bench.at("member")).unwrap().count(), 1);
        scope.spawn(|| assert!(fs::create_dir(bench.at("other")).is_err()));
        assert!(answers.try_recv().is_err());
        bench.gate().refuse();
    });
    assert!(answers.recv().unwrap(), "a held write is refused");
    assert!(file.sync_all().is_err(), "and whatever comes later");
    // The kernel's cache holds no more than the directory.
    let (publish, _) = watch::channel(NodeState::default());
    bench.gate().open(publish);
    assert_eq!(fs::read(bench.at("member/snap/db")).unwrap(), b"mid");
    drop(file);
    let below = bench.unmount();
    assert_eq!(below[Path::new("member/snap/db")], b"mid");
    assert!(!below.contains_key(Path::new("other")));
}

#[test]
fn a_hold_after_leaves_below_what_was_done() {
    let Some(mut bench) = Bench::new() else { return };
    let file = with_a_db(&bench);
    fs::create_dir_all(bench.at("member/wal")).unwrap();
    fs::write(bench.at("member/wal/0.tmp"), b"log").unwrap();
    bench.gate().arm("wal.renamed", 1).unwrap();
    let (told, answers) = mpsc::channel();
    thread::scope(|scope| {
        let (from, to) = (bench.at("member/wal/0.tmp"), bench.at("member/wal/1.wal"));
        scope.spawn(move || told.send(fs::rename(from, to).is_ok()).unwrap());
        bench.wait_held();
        let file = &file;
        scope.spawn(move || assert!(file.write_all_at(b"new", 0).is_err()));
        bench.gate().refuse();
    });
    assert!(answers.recv().unwrap());
    drop(file);
    let below = bench.unmount();
    assert_eq!(below[Path::new("member/wal/1.wal")], b"log");
    assert!(!below.contains_key(Path::new("member/wal/0.tmp")));
    assert_eq!(below[Path::new("member/snap/db")], b"old");
}

#[test]
fn who_goes_on_finds_everything_done() {
    let Some(bench) = Bench::new() else { return };
    let file = with_a_db(&bench);
    bench.gate().arm("db.sync", 1).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| file.sync_data().unwrap());
        bench.wait_held();
        scope.spawn(|| file.write_all_at(b"new", 0).unwrap());
        bench.gate().go_on();
    });
    assert_eq!(fs::read(bench.at("member/snap/db")).unwrap(), b"new");
    assert!(!bench.said.borrow().held);
}

/// What the node replaces durably (`replace_file`), makes, links, exchanges and removes: at each
/// point of it the member stands still once. (Nothing is looked up meanwhile: the kernel locks a
/// directory while one of its names is made or removed.)
#[test]
fn each_system_call_of_the_node_is_held_at_its_points() {
    let Some(bench) = Bench::new() else { return };
    fs::create_dir_all(bench.at("member/snap/db")).unwrap();
    let sync = |path: &str| File::open(bench.at(path)).unwrap().sync_all().unwrap();
    let replace = || {
        fs::write(bench.at("member/snap/last-flushed-index.tmp"), b"N").unwrap();
        sync("member/snap/last-flushed-index.tmp");
        let to = bench.at("member/snap/last-flushed-index");
        fs::rename(bench.at("member/snap/last-flushed-index.tmp"), to).unwrap();
        sync("member/snap");
    };
    let flush = || {
        fs::write(bench.at("member/snap/db/1.sst"), b"rows").unwrap();
        sync("member/snap/db/1.sst");
        fs::remove_file(bench.at("member/snap/db/1.sst")).unwrap();
    };
    let install = || {
        replace();
        let (image, db) = (bench.at("member/snap/db.incoming"), bench.at("member/snap/db"));
        fs::create_dir(&image).unwrap();
        fs::write(image.join("2.sst"), b"rows").unwrap();
        sync("member/snap/db.incoming");
        renameat2(nix::fcntl::AT_FDCWD, &image, nix::fcntl::AT_FDCWD, &db, RenameFlags::RENAME_EXCHANGE).unwrap();
        replace();
        fs::remove_dir_all(&image).unwrap();
        fs::create_dir_all(bench.at("member/snap/outgoing/0")).unwrap();
        fs::hard_link(db.join("2.sst"), bench.at("member/snap/outgoing/0/2.sst")).unwrap();
        fs::remove_dir_all(bench.at("member/snap/outgoing")).unwrap();
    };
    let table: [(&(dyn Fn() + Sync), &[&str]); 3] = [
        (
            &replace,
            &[
                "last-flushed-index.create",
                "last-flushed-index.written",
                "last-flushed-index.sync",
                "last-flushed-index.renamed",
                "directory.synced",
            ],
        ),
        (&flush, &["sst.created", "sst.write", "sst.synced", "sst.unlink"]),
        (
            &install,
            &[
                "directory.create",
                "incoming.created",
                "incoming.write",
                "incoming.unlinked",
                "install.directory.sync",
                "install.last-flushed-index.renamed",
                "database.rename",
                "database.renamed",
                "outgoing.create",
                "directory.unlinked",
            ],
        ),
    ];
    for (work, points) in table {
        for point in points {
            let window = format!("file.{point}");
            bench.gate().arm(&window, 1).unwrap();
            thread::scope(|scope| {
                scope.spawn(work);
                bench.wait_held();
                assert_eq!(bench.said.borrow().window, Some((window, 1)));
                bench.gate().go_on();
            });
        }
    }
}

#[test]
fn a_cut_takes_what_was_not_synced_and_the_next_life_sees_only_what_is_left() {
    let Some(mut bench) = Bench::with(Some(Names::Posix)) else { return };
    let mut file = File::create(bench.at("kept")).unwrap();
    file.write_all(b"old").unwrap();
    file.sync_all().unwrap();
    File::open(bench.at("")).unwrap().sync_all().unwrap();
    file.write_all(b" and new").unwrap();
    fs::write(bench.at("lost"), b"").unwrap();
    fs::remove_file(bench.at("kept")).unwrap();
    drop(file);
    let mut draws = Seed::new(1).stream("survivors");
    let lost = bench.mount.as_mut().unwrap().cut((0, &mut draws), None).unwrap().0;
    assert_eq!((lost.names.len(), lost.files.len()), (2, 1), "{lost:?}");
    let (publish, said) = watch::channel(NodeState::default());
    (bench.said, _) = (said, bench.gate().open(publish));
    assert_eq!(fs::read(bench.at("kept")).unwrap(), b"old", "through the mount, without what the kernel remembered");
    assert!(!bench.at("lost").exists());
    // A cut with everything synced takes nothing, and a mount that ends leaves no graves.
    let lost = bench.mount.as_mut().unwrap().cut((0, &mut draws), None).unwrap().0;
    assert!(lost.names.is_empty() && lost.files.is_empty(), "{lost:?}");
    let below = bench.unmount();
    assert_eq!(below.into_iter().collect::<Vec<_>>(), [(PathBuf::from("kept"), b"old".to_vec())]);
    assert_eq!(fs::read_dir(bench.dir.path()).unwrap().count(), 1);
}

#[test]
fn a_mount_that_keeps_everything_cannot_be_cut() {
    let Some(mut bench) = Bench::new() else { return };
    let mut draws = Seed::new(1).stream("survivors");
    let refused = bench.mount.as_mut().unwrap().cut((0, &mut draws), None).unwrap_err();
    assert!(refused.to_string().contains("keeps everything"), "{refused}");
}

#[derive(Debug, Clone)]
enum Deed {
    Mkdir(u8),
    Write(u8, u16, u8),
    Truncate(u8, u16),
    Remove(u8),
    Rename(u8, u8),
    Link(u8, u8),
    Allocate(u8, u16),
}

/// Six names in two levels: short sequences meet each other.
fn path(root: &Path, name: u8) -> PathBuf {
    root.join(["a", "b", "d", "d/a", "d/b", "e/a"][usize::from(name % 6)])
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        any::<u8>().prop_map(Deed::Mkdir),
        (any::<u8>(), 0..9_000u16, any::<u8>()).prop_map(|(name, at, byte)| Deed::Write(name, at, byte)),
        (any::<u8>(), 0..9_000u16).prop_map(|(name, size)| Deed::Truncate(name, size)),
        any::<u8>().prop_map(Deed::Remove),
        (any::<u8>(), any::<u8>()).prop_map(|(from, to)| Deed::Rename(from, to)),
        (any::<u8>(), any::<u8>()).prop_map(|(from, to)| Deed::Link(from, to)),
        (any::<u8>(), 1..9_000u16).prop_map(|(name, size)| Deed::Allocate(name, size)),
    ]
}

/// The kind of the error, if there was one: a mount fails as the directory below it does.
fn carry_out(root: &Path, deed: &Deed) -> Result<(), std::io::ErrorKind> {
    let open = |name: u8| File::options().write(true).create(true).truncate(false).open(path(root, name));
    let done = match *deed {
        Deed::Mkdir(name) => fs::create_dir(path(root, name)),
        Deed::Write(name, at, byte) => open(name).and_then(|file| file.write_all_at(&[byte; 700], u64::from(at))),
        Deed::Truncate(name, size) => open(name).and_then(|file| file.set_len(u64::from(size))),
        Deed::Remove(name) => fs::remove_file(path(root, name)).or_else(|_| fs::remove_dir(path(root, name))),
        Deed::Rename(from, to) => fs::rename(path(root, from), path(root, to)),
        Deed::Link(from, to) => fs::hard_link(path(root, from), path(root, to)),
        Deed::Allocate(name, size) => {
            open(name).and_then(|file| Ok(fallocate(&file, FallocateFlags::empty(), 0, i64::from(size))?))
        }
    };
    done.map_err(|error| error.kind())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn it_does_what_the_directory_below_does(
        deeds in prop::collection::vec(deed(), 1..40),
        names in prop::option::of(prop::sample::select(Names::ALL.to_vec())),
    ) {
        if let Some(mut bench) = Bench::with(names) {
            let plain = tempfile::tempdir().unwrap();
            for deed in &deeds {
                prop_assert_eq!(carry_out(&bench.at(""), deed), carry_out(plain.path(), deed), "{:?}", deed);
            }
            let expected = tree(plain.path());
            prop_assert_eq!(&tree(&bench.at("")), &expected, "through the mount");
            prop_assert_eq!(&bench.unmount(), &expected, "below it");
        }
    }
}
