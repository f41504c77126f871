//! The windows of the node's own files, by class (`faultfs::Class`): before and after the n-th such
//! operation, under the fault filesystem alone.
//!
//! The node's windows in its program (`WINDOWS`) stand where its authors thought of one; these
//! stand at every write, sync, creation, renaming and removal that reaches a disk, whether the
//! node, RocksDB or redb asks for it. A name is `file.CLASS.STEP` for what the load brings, and
//! `file.PART.CLASS.STEP` for a part of a member's life that has to be brought about:
//!
//! | part | the member passes it | reach |
//! | --- | --- | --- |
//! | `election` | while it votes: the leader is dead, so the log takes votes alone until there is another | [`Reach::Election`] |
//! | `start` | in a start after a kill | [`Reach::Start`] |
//! | `join` | in its first life, as a member that was just added | [`Reach::Join`] |
//! | `install` | from the first file of a received image on | [`Reach::SnapshotReceiver`] |
//! | `send` | while it makes the image that it sends | [`Reach::SnapshotSender`] |

use super::window::{BroughtBy, Reach, Window};
use ninelives_evidence::member::Engine;

/// The engines on which a class has that operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum On {
    Both,
    Redb,
    Rocksdb,
}

impl On {
    pub fn has(self, engine: Engine) -> bool {
        match engine {
            Engine::Redb => self != On::Rocksdb,
            Engine::Rocksdb => self != On::Redb,
            Engine::Opaque => false,
        }
    }
}

/// Rows of `CLASS: engines, reach, brought by; BEFORE AFTER up to which pass, …`.
macro_rules! file_windows {
    ($($place:literal: $on:ident, $reach:ident, $by:ident; $($before:literal $after:literal $hits:literal),*;)*) => {
        pub(super) const NODE_FILES: &[(Window, On)] = &[$($(
            (file_window!($place, $before, $reach, $by, $hits), On::$on),
            (file_window!($place, $after, $reach, $by, $hits), On::$on),
        )*)*];
    };
}

macro_rules! file_window {
    ($place:literal, $step:literal, $reach:ident, $by:ident, $hits:literal) => {
        Window {
            name: concat!("file.", $place, ".", $step),
            reach: Reach::$reach,
            hit_max: $hits,
            brought_by: BroughtBy::$by,
        }
    };
}

file_windows! {
    // A batch of entries, a vote, a part of a purge.
    "raft-log": Both, Load, Batch; "write" "written" 40, "sync" "synced" 40;
    // A flush: the SST, the MANIFEST that names it, then N.
    "sst": Rocksdb, Load, Memtable; "create" "created" 2, "write" "written" 2, "sync" "synced" 2;
    "manifest": Rocksdb, Load, Memtable; "write" "written" 2, "sync" "synced" 2;
    "last-flushed-index": Rocksdb, Load, Memtable;
        "create" "created" 2, "write" "written" 2, "sync" "synced" 2, "rename" "renamed" 2;
    // That of the SST, and that of N.
    "directory": Rocksdb, Load, Memtable; "sync" "synced" 4;
    // A merged SST goes once the MANIFEST does not name it any more.
    "sst": Rocksdb, Load, Files; "unlink" "unlinked" 1;
    // A group of entries.
    "database": Redb, Load, Batch; "write" "written" 40, "sync" "synced" 8;

    "election.raft-log": Both, Election, Batch; "write" "written" 4, "sync" "synced" 2;

    // The log is repaired, and what the last life left is synced.
    "start.raft-log": Both, Start, Batch; "write" "written" 2, "sync" "synced" 2;
    "start.marker": Both, Start, Batch; "sync" "synced" 1;
    "start.directory": Both, Start, Batch; "sync" "synced" 4;
    "start.last-flushed-index": Rocksdb, Start, Batch; "sync" "synced" 1;
    // RocksDB begins a MANIFEST at each start.
    "start.manifest": Rocksdb, Start, Batch;
        "create" "created" 1, "write" "written" 1, "sync" "synced" 1, "unlink" "unlinked" 1;
    "start.current": Rocksdb, Start, Batch;
        "create" "created" 1, "write" "written" 1, "sync" "synced" 1, "rename" "renamed" 1;
    // redb repairs its file.
    "start.database": Redb, Start, Batch; "write" "written" 2, "sync" "synced" 2;

    "join.marker": Both, Join, Batch;
        "create" "created" 1, "write" "written" 1, "sync" "synced" 1, "rename" "renamed" 1;
    "join.raft-log": Both, Join, Batch;
        "create" "created" 1, "write" "written" 2, "sync" "synced" 2, "rename" "renamed" 1;
    // `member`, `member/snap`, `member/raft`, and the directories above them.
    "join.directory": Both, Join, Batch; "create" "created" 3, "sync" "synced" 4;
    "join.manifest": Rocksdb, Join, Batch; "create" "created" 1, "write" "written" 1, "sync" "synced" 1;
    "join.current": Rocksdb, Join, Batch; "write" "written" 1, "sync" "synced" 1, "rename" "renamed" 1;
    "join.database": Redb, Join, Batch;
        "create" "created" 1, "write" "written" 2, "sync" "synced" 1, "rename" "renamed" 1;

    // Received, synced, exchanged; N; the log's purge; the old database's removal.
    "install.incoming": Both, SnapshotReceiver, Batch;
        "create" "created" 1, "write" "written" 1, "sync" "synced" 1, "unlink" "unlinked" 1;
    "install.directory": Both, SnapshotReceiver, Batch; "sync" "synced" 3;
    "install.database": Both, SnapshotReceiver, Batch; "rename" "renamed" 1;
    "install.last-flushed-index": Rocksdb, SnapshotReceiver, Batch;
        "create" "created" 1, "write" "written" 1, "sync" "synced" 1, "rename" "renamed" 1;
    "install.raft-log": Both, SnapshotReceiver, Batch; "write" "written" 2, "sync" "synced" 2;

    "send.outgoing": Both, SnapshotSender, Batch; "create" "created" 1, "write" "written" 1;
}
