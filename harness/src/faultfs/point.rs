//! Points: an operation on a class of file, and a side of it.

use std::ffi::OsStr;
use std::path::Path;

/// A class of file, by its place in etcd's data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// A segment of the raft log, `member/wal/*.wal`; not the files that are kept in reserve for
    /// the next one.
    Wal,
    /// The state, `member/snap/db`.
    Db,
    /// A snapshot, `member/snap/*.snap` and `*.snap.db`.
    Snap,
}

/// An operation on a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Deed {
    Write,
    /// fsync or fdatasync.
    Sync,
    /// Something gets a name of that class.
    Rename,
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
}

impl Class {
    const ALL: [Class; 3] = [Class::Wal, Class::Db, Class::Snap];

    fn name(self) -> &'static str {
        match self {
            Class::Wal => "wal",
            Class::Db => "db",
            Class::Snap => "snap",
        }
    }

    /// The class of the file at `path` in a data directory; `None`: it has none.
    pub fn of(path: &Path) -> Option<Self> {
        let inner = path.strip_prefix("member").ok()?;
        let (dir, name) = (inner.parent()?, inner.file_name()?);
        let extension = Path::new(name).extension().and_then(OsStr::to_str);
        match (dir.to_str()?, name.to_str()?, extension) {
            ("wal", _, Some("wal")) => Some(Class::Wal),
            ("snap", "db", _) => Some(Class::Db),
            ("snap", name, Some(extension)) if extension == "snap" || name.ends_with(".snap.db") => Some(Class::Snap),
            _ => None,
        }
    }
}

impl Point {
    /// The point that a window's name stands for, `wal.sync` or `wal.synced`.
    pub fn parse(name: &str) -> Option<Self> {
        let (class, step) = name.split_once('.')?;
        let class = Class::ALL.into_iter().find(|known| known.name() == class)?;
        let (deed, side) = match step {
            "write" => (Deed::Write, Side::Before),
            "written" => (Deed::Write, Side::After),
            "sync" => (Deed::Sync, Side::Before),
            "synced" => (Deed::Sync, Side::After),
            "rename" => (Deed::Rename, Side::Before),
            "renamed" => (Deed::Rename, Side::After),
            _ => return None,
        };
        Some(Self { class, deed, side })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_classed_by_their_place_in_etcds_directory() {
        let class = |path: &str| Class::of(Path::new(path));
        assert_eq!(class("member/wal/0000000000000000-0000000000000000.wal"), Some(Class::Wal));
        assert_eq!(class("member/wal/0.tmp"), None, "in reserve");
        assert_eq!(class("member/wal.tmp/0000000000000000-0000000000000000.wal"), None, "not a log yet");
        assert_eq!(class("member/snap/db"), Some(Class::Db));
        assert_eq!(class("member/snap/0000000000000002-00000000000007d1.snap"), Some(Class::Snap));
        assert_eq!(class("member/snap/00000000000007d1.snap.db"), Some(Class::Snap));
        assert_eq!(class("member/snap/tmp123"), None, "not a snapshot yet");
        assert_eq!(class("snap/db"), None);
        assert_eq!(class(""), None);
    }

    #[test]
    fn a_windows_name_says_what_and_on_which_side() {
        let point = |class, deed, side| Some(Point { class, deed, side });
        assert_eq!(Point::parse("wal.sync"), point(Class::Wal, Deed::Sync, Side::Before));
        assert_eq!(Point::parse("db.written"), point(Class::Db, Deed::Write, Side::After));
        assert_eq!(Point::parse("snap.renamed"), point(Class::Snap, Deed::Rename, Side::After));
        assert_eq!((Point::parse("wal.append"), Point::parse("log.sync"), Point::parse("wal")), (None, None, None));
    }
}
