//! The reads and writes of the node's own files that a disk can refuse, by class
//! (`faultfs::Class`): `raft-log.write`, `sst.read`.

use super::file_windows::On;
use ninelives_evidence::member::Engine;

/// A read or a write of a class of the node's files.
#[derive(Debug, PartialEq, Eq)]
pub struct FileOperation {
    pub name: &'static str,
    on: On,
    /// The part of a member's life that brings it.
    pub brought_by: Life,
    /// Passes among which a plan draws the one that fails.
    pub hit_max: u64,
}

/// A part of a member's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// It serves, and the load brings the operation.
    Load,
    /// It starts: its files are read into memory once, or begun anew.
    Start,
    /// A snapshot is sent and installed; plans name it, and none draws it.
    Snapshot,
}

const fn of(name: &'static str, on: On, brought_by: Life, hit_max: u64) -> FileOperation {
    FileOperation { name, on, brought_by, hit_max }
}

/// Every one of them. A plan is drawn from this table, so that a row is added at its end alone.
pub const FILE_OPERATIONS: &[FileOperation] = &[
    of("raft-log.write", On::Both, Life::Load, 40),
    of("raft-log.read", On::Both, Life::Start, 8),
    // Flushes write tables; compactions read them.
    of("sst.write", On::Rocksdb, Life::Load, 2),
    of("sst.read", On::Rocksdb, Life::Load, 4),
    of("manifest.write", On::Rocksdb, Life::Load, 2),
    of("manifest.read", On::Rocksdb, Life::Start, 1),
    of("current.write", On::Rocksdb, Life::Start, 1),
    of("current.read", On::Rocksdb, Life::Start, 1),
    of("last-flushed-index.write", On::Rocksdb, Life::Load, 2),
    of("last-flushed-index.read", On::Rocksdb, Life::Start, 1),
    of("database.write", On::Redb, Life::Load, 40),
    of("database.read", On::Redb, Life::Start, 8),
    of("marker.read", On::Both, Life::Start, 1),
    of("incoming.write", On::Both, Life::Snapshot, 4),
    of("incoming.read", On::Both, Life::Snapshot, 4),
    of("outgoing.write", On::Both, Life::Snapshot, 4),
    of("outgoing.read", On::Both, Life::Snapshot, 4),
];

impl FileOperation {
    pub fn find(name: &str) -> Option<&'static Self> {
        FILE_OPERATIONS.iter().find(|operation| operation.name == name)
    }

    /// Whether a member with this engine has such files.
    pub fn exists_on(&self, engine: Engine) -> bool {
        self.on.has(engine)
    }

    pub fn reads(&self) -> bool {
        self.name.ends_with(".read")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faultfs::Access;

    #[test]
    fn the_fault_filesystem_knows_each_of_them() {
        for operation in FILE_OPERATIONS {
            let access = Access::parse(operation.name).unwrap_or_else(|| panic!("{}", operation.name));
            assert_eq!(access.reads, operation.reads(), "{}", operation.name);
            assert_eq!(FileOperation::find(operation.name), Some(operation));
        }
        assert_eq!(
            (FileOperation::find("sst.sync"), Access::parse("sst.sync"), Access::parse("wal.read")),
            (None, None, None)
        );
    }
}
