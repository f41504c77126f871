//! Points: an operation on a class of file, and a side of it.

use ninelives_evidence::damage::FileClass;
use std::ffi::OsStr;
use std::path::{Component, Path};

/// A class of file, by its place in a data directory: the node's, or etcd's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// A file of the node, or what it becomes: a marker, an index file and a CURRENT come into
    /// being under a temporary name, and redb makes a new database as `db.fresh`. Etcd's and
    /// RocksDB's `member/snap/db` is a [`FileClass::Database`] as well.
    File(FileClass),
    /// etcd: a segment of the raft log, `member/wal/*.wal`; not the files that are kept in reserve
    /// for the next one.
    Wal,
    /// etcd: a snapshot, `member/snap/*.snap` and `*.snap.db`.
    Snap,
    /// The image that is being received, `member/snap/db.incoming`; after the exchange, the old
    /// database.
    Incoming,
    /// The images that are being sent, `member/snap/outgoing/`.
    Outgoing,
    /// A directory itself, whichever: it is made, synced, removed.
    Directory,
}

/// An operation on a file or a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Deed {
    Write,
    /// fsync or fdatasync.
    Sync,
    /// Something gets a name of that class; two names that are exchanged included.
    Rename,
    /// A file, a link or a directory is made.
    Create,
    /// A name is removed.
    Unlink,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// The operation came, and was not carried out.
    Before,
    /// It was carried out, and not answered.
    After,
}

/// A step in which a member can be made to stand still.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Point {
    pub class: Class,
    pub deed: Deed,
    pub side: Side,
    /// Passes count from the first file of a received image on: a start does the same things to
    /// the same files before.
    pub installs: bool,
}

impl Class {
    /// The class of etcd's files that windows call `name`.
    fn of_etcd(name: &str) -> Option<Self> {
        match name {
            "wal" => Some(Class::Wal),
            "db" => Some(Class::File(FileClass::Database)),
            "snap" => Some(Class::Snap),
            _ => None,
        }
    }

    /// The class of the node's files that windows, and what a disk refuses, call `name`.
    pub(super) fn of_the_node(name: &str) -> Option<Self> {
        match name {
            "incoming" => Some(Class::Incoming),
            "outgoing" => Some(Class::Outgoing),
            "directory" => Some(Class::Directory),
            name => FileClass::parse(name).map(Class::File),
        }
    }

    /// The class of the file at `path` in a data directory; `None`: it has none. A file that is
    /// written under a temporary name has the class of the name that it gets.
    pub fn of(path: &Path) -> Option<Self> {
        let names = path.components().map(|part| match part {
            Component::Normal(name) => name.to_str(),
            _ => None,
        });
        let names: Option<Vec<&str>> = names.collect();
        match names?[..] {
            ["engine-marker" | "engine-marker.tmp"] => Some(Class::File(FileClass::Marker)),
            ["member", "raft", "raft-log.redb" | "raft-log.redb.tmp"] => Some(Class::File(FileClass::RaftLog)),
            ["member", "raft", "raft-log.commits"] => Some(Class::File(FileClass::RaftLogCommits)),
            ["member", "wal", name] => (extension(name) == Some("wal")).then_some(Class::Wal),
            ["member", "snap", "db" | "db.fresh"] => Some(Class::File(FileClass::Database)),
            ["member", "snap", "last-flushed-index" | "last-flushed-index.tmp"] => {
                Some(Class::File(FileClass::LastFlushedIndex))
            }
            ["member", "snap", "db.incoming", ..] => Some(Class::Incoming),
            ["member", "snap", "outgoing", _, ..] => Some(Class::Outgoing),
            ["member", "snap", "db", "CURRENT"] => Some(Class::File(FileClass::Current)),
            ["member", "snap", "db", name] if name.starts_with("MANIFEST-") => Some(Class::File(FileClass::Manifest)),
            ["member", "snap", "db", name] => match extension(name)? {
                "sst" => Some(Class::File(FileClass::Sst)),
                "dbtmp" => Some(Class::File(FileClass::Current)),
                _ => None,
            },
            ["member", "snap", name] => {
                (extension(name) == Some("snap") || name.ends_with(".snap.db")).then_some(Class::Snap)
            }
            _ => None,
        }
    }
}

/// The last part of a window's name, for each operation and side of it.
pub const STEPS: [(&str, Deed, Side); 10] = [
    ("create", Deed::Create, Side::Before),
    ("created", Deed::Create, Side::After),
    ("write", Deed::Write, Side::Before),
    ("written", Deed::Write, Side::After),
    ("sync", Deed::Sync, Side::Before),
    ("synced", Deed::Sync, Side::After),
    ("rename", Deed::Rename, Side::Before),
    ("renamed", Deed::Rename, Side::After),
    ("unlink", Deed::Unlink, Side::Before),
    ("unlinked", Deed::Unlink, Side::After),
];

fn extension(name: &str) -> Option<&str> {
    Path::new(name).extension().and_then(OsStr::to_str)
}

impl Point {
    /// The point that a window's name stands for: `wal.sync` or `wal.synced` of etcd's files,
    /// `file.raft-log.sync`, or `file.install.directory.synced` for a part of a member's life, of
    /// the node's.
    pub fn parse(name: &str) -> Option<Self> {
        let class_of = if name.starts_with("file.") { Class::of_the_node } else { Class::of_etcd };
        let place = name.strip_prefix("file.").unwrap_or(name);
        let (part, place) = match place.split_once('.') {
            Some((part, place)) if name.starts_with("file.") && place.contains('.') => (Some(part), place),
            _ => (None, place),
        };
        let (class, step) = place.split_once('.')?;
        let class = class_of(class)?;
        let (_, deed, side) = STEPS.into_iter().find(|(known, ..)| *known == step)?;
        Some(Self { class, deed, side, installs: part == Some("install") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn files_are_classed_by_their_place_in_etcds_directory() {
        let class = |path: &str| Class::of(Path::new(path));
        assert_eq!(class("member/wal/0000000000000000-0000000000000000.wal"), Some(Class::Wal));
        assert_eq!(class("member/wal/0.tmp"), None, "in reserve");
        assert_eq!(class("member/wal.tmp/0000000000000000-0000000000000000.wal"), None, "not a log yet");
        assert_eq!(class("member/snap/db"), Some(Class::File(FileClass::Database)));
        assert_eq!(class("member/snap/0000000000000002-00000000000007d1.snap"), Some(Class::Snap));
        assert_eq!(class("member/snap/00000000000007d1.snap.db"), Some(Class::Snap));
        assert_eq!(class("member/snap/tmp123"), None, "not a snapshot yet");
        assert_eq!(class("snap/db"), None);
        assert_eq!(class(""), None);
    }

    /// The paths are those of `node-under-test/docs/formats.md`, and of RocksDB's own files.
    #[test]
    fn files_are_classed_by_their_place_in_the_nodes_directory() {
        let table: [(&str, Option<Class>); 25] = [
            ("engine-marker", Some(Class::File(FileClass::Marker))),
            ("engine-marker.tmp", Some(Class::File(FileClass::Marker))),
            ("engine-migration", None),
            ("lock", None),
            ("member/raft/raft-log.redb", Some(Class::File(FileClass::RaftLog))),
            ("member/raft/raft-log.redb.tmp", Some(Class::File(FileClass::RaftLog))),
            ("member/raft/raft-log.commits", Some(Class::File(FileClass::RaftLogCommits))),
            ("member/raft", None),
            ("member/snap/last-flushed-index", Some(Class::File(FileClass::LastFlushedIndex))),
            ("member/snap/last-flushed-index.tmp", Some(Class::File(FileClass::LastFlushedIndex))),
            ("member/snap/db", Some(Class::File(FileClass::Database))),
            ("member/snap/db.fresh", Some(Class::File(FileClass::Database))),
            ("member/snap/db/000012.sst", Some(Class::File(FileClass::Sst))),
            ("member/snap/db/MANIFEST-000005", Some(Class::File(FileClass::Manifest))),
            ("member/snap/db/CURRENT", Some(Class::File(FileClass::Current))),
            ("member/snap/db/000005.dbtmp", Some(Class::File(FileClass::Current))),
            ("member/snap/db/OPTIONS-000007", None),
            ("member/snap/db/LOG", None),
            ("member/snap/db/IDENTITY", None),
            ("member/snap/db.incoming", Some(Class::Incoming)),
            ("member/snap/db.incoming/000012.sst", Some(Class::Incoming)),
            ("member/snap/db.old", None),
            ("member/snap/outgoing", None),
            ("member/snap/outgoing/0", Some(Class::Outgoing)),
            ("member/snap/outgoing/0.tmp/CURRENT", Some(Class::Outgoing)),
        ];
        for (path, class) in table {
            assert_eq!(Class::of(Path::new(path)), class, "{path}");
        }
    }

    #[test]
    fn a_windows_name_says_what_and_on_which_side() {
        let point = |class, deed, side| Some(Point { class, deed, side, installs: false });
        assert_eq!(Point::parse("wal.sync"), point(Class::Wal, Deed::Sync, Side::Before));
        assert_eq!(Point::parse("db.written"), point(Class::File(FileClass::Database), Deed::Write, Side::After));
        assert_eq!(Point::parse("snap.renamed"), point(Class::Snap, Deed::Rename, Side::After));
        assert_eq!((Point::parse("wal.append"), Point::parse("log.sync"), Point::parse("wal")), (None, None, None));
        assert_eq!(
            Point::parse("file.raft-log.sync"),
            point(Class::File(FileClass::RaftLog), Deed::Sync, Side::Before)
        );
        assert_eq!(
            Point::parse("file.start.current.renamed"),
            point(Class::File(FileClass::Current), Deed::Rename, Side::After)
        );
        assert_eq!(Point::parse("file.sst.unlink"), point(Class::File(FileClass::Sst), Deed::Unlink, Side::Before));
        assert_eq!(Point::parse("file.directory.created"), point(Class::Directory, Deed::Create, Side::After));
        for none in ["file.wal.sync", "raft-log.sync", "file.sst", "file.", "file.install.sync", "file.a.b.sst.sync"] {
            assert_eq!(Point::parse(none), None, "{none}");
        }
        let of_an_install = Point::parse("file.install.directory.sync").unwrap();
        assert!(of_an_install.installs && of_an_install.class == Class::Directory);
    }

    proptest! {
        #[test]
        fn no_name_and_no_path_is_too_strange(text in "(file\\.)?[a-z./-]{0,40}", path in "[ -~/]{0,60}") {
            let _ = (Point::parse(&text), Class::of(Path::new(&path)));
        }
    }
}
