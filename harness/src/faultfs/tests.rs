//! Tests of what a mount can do beside being a disk, on a machine that has FUSE; elsewhere they say
//! so, and prove nothing. `posix` has those of the disk.

use super::*;
use crate::seed::Seed;
use crate::subject::events::NodeState;
use ninelives_evidence::power::Names;
use nix::fcntl::{RenameFlags, renameat2};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
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
