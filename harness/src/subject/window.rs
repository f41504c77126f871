//! The crash windows that a scenario may name, and the way to each: the node's own windows, and
//! those of etcd's and of the node's files, which the fault filesystem makes.

use super::file_windows::{NODE_FILES, On};
use ninelives_evidence::limits;
use ninelives_evidence::member::{Engine, Role};

/// The event that brings a member to a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Writes are enough, on any member.
    Load,
    /// Writes are enough, on the leader.
    LoadOfLeader,
    /// An election: the leader is killed first, and a follower passes the window while it votes.
    Election,
    /// A defragmentation, which the harness asks the member for.
    Defragmentation,
    /// A restart: the member is killed first (at its [`Window::prior`], or else at once), restarted
    /// with the window armed, and killed again there.
    Recovery,
    /// Any start: the same, and a new member passes it in its first life as well.
    Start,
    /// The start after an interrupted install: a follower is sent a snapshot as below, killed at
    /// its [`Window::prior`], and restarted with the window armed.
    Reinstall,
    /// A follower is kept away until the others have purged past its log, and is then restarted: it
    /// passes the window while it installs a snapshot.
    SnapshotReceiver,
    /// The same, but the leader passes the window while it sends.
    SnapshotSender,
    /// An offline change of engine: `migrate` passes it, and not the member whose directory it
    /// works on.
    Migration,
    /// A restore: `snapshot restore`, which makes a member's directory, passes it, and not a
    /// member.
    Restore,
    /// The first life of a member that founds a cluster: of one that was restored.
    Founding,
    /// The first life of a member that is added: a follower is removed, and its slot gets a new
    /// member with the window armed.
    Join,
}

/// A named step of a protocol in which a kill can land.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    pub name: &'static str,
    pub reach: Reach,
    /// Plans draw the hit from `1..=hit_max`: so many passes surely come within one cycle's load.
    pub hit_max: u64,
    /// The part of the load that brings a pass.
    pub brought_by: BroughtBy,
}

/// The part of the load that brings a member to one more pass of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BroughtBy {
    /// Entries that are under way together: one of each client at the most.
    Batch,
    /// A memtable that is full.
    Memtable,
    /// Files of memtables that are to be merged.
    Files,
    /// A compaction of the store by a client.
    Compaction,
    /// A purge of the log.
    Purge,
    /// A snapshot that a server makes for itself.
    Snapshot,
    /// A segment of the log that is full.
    Segment,
}

/// The settings of a scenario that determine how many entries bring a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadShape {
    pub clients: u64,
    pub compact_every_ops: u64,
    pub value_bytes_max: u64,
    /// 0: there is no memtable.
    pub memtable_bytes: u64,
    /// 0: not known.
    pub snapshot_every_entries: u64,
    pub keep_entries: u64,
}

impl LoadShape {
    /// Entries that fill a memtable.
    fn memtable(&self) -> u64 {
        self.memtable_bytes / limits::MEMTABLE_BYTES_PER_ENTRY_MIN
    }

    /// Entries that have to bring a purge of the log past an entry that was just written.
    pub fn purge(&self) -> u64 {
        limits::WINDOW_DUE_FACTOR * (self.keep_entries + self.snapshot_every_entries + self.memtable() + self.clients)
    }
}

impl Window {
    /// Whether it is passed in the member's files, under the fault filesystem, and not in its
    /// program.
    pub fn is_of_files(&self) -> bool {
        FILE_WINDOWS.contains(self) || self.on().is_some()
    }

    /// Whether it is passed in the files of the node, on some engine.
    pub fn is_of_the_nodes_files(&self) -> bool {
        self.on().is_some()
    }

    fn on(&self) -> Option<On> {
        NODE_FILES.iter().find(|(window, _)| window == self).map(|(_, on)| *on)
    }

    /// Whether a member with this engine can pass it; windows of files are passed if the files are
    /// looked at, and an opaque member passes no others. On redb N is E, and a group of entries
    /// becomes durable by one commit: there is no memtable to flush, no index file to write, and
    /// nothing between N and E to verify. RocksDB has no groups, and its defragmentation puts no
    /// file in another's place.
    pub fn exists_on(&self, engine: Engine) -> bool {
        if let Some(on) = self.on() {
            return on.has(engine);
        }
        if FILE_WINDOWS.contains(self) {
            return engine == Engine::Opaque;
        }
        let lsm_only = ["flush.", "compaction.", "index."].iter().any(|prefix| self.name.starts_with(prefix))
            || ["recovery.replay-verify", "recovery.install", "recovery.installed"].contains(&self.name);
        let redb_only = ["group.", "defrag."].iter().any(|prefix| self.name.starts_with(prefix));
        match engine {
            Engine::Redb => !lsm_only,
            Engine::Opaque => false,
            Engine::Rocksdb => !redb_only,
        }
    }

    /// Entries that a member applies, under a load of this `shape`, until it has surely passed the
    /// window `hit` times. (A member that passes it on its way into or out of a life, or in an
    /// election, has passed it by the first entries that follow.)
    pub fn entries_due(&self, hit: u64, shape: &LoadShape) -> u64 {
        let per_pass = match self.brought_by {
            BroughtBy::Batch => shape.clients,
            BroughtBy::Memtable => shape.memtable(),
            BroughtBy::Files => shape.memtable() * limits::FLUSHES_PER_COMPACTION,
            BroughtBy::Compaction => shape.compact_every_ops * shape.clients,
            BroughtBy::Purge => shape.snapshot_every_entries + shape.memtable(),
            BroughtBy::Snapshot => shape.snapshot_every_entries,
            BroughtBy::Segment => limits::SEGMENT_BYTES / shape.value_bytes_max.max(1),
        };
        hit.saturating_mul(per_pass.max(shape.clients)).saturating_mul(limits::WINDOW_DUE_FACTOR)
    }

    /// The window in which a member has to die first, for its next life to pass this one.
    pub fn prior(&self, engine: Engine) -> Option<&'static str> {
        match (self.name, engine) {
            // Only a life that ended between the flush and its persisted index leaves entries in
            // (N, E] to verify.
            ("recovery.replay-verify", Engine::Rocksdb) => Some("flush.completed"),
            // A memtable is hardly ever empty; a group is, most of the time.
            ("recovery.replay-apply", Engine::Redb) => Some("group.visible"),
            // The exchange is the point of no return; after it only N, or the purge of the log, is
            // missing.
            ("recovery.install" | "recovery.installed", Engine::Rocksdb) => Some("snapshot.persist"),
            ("recovery.log-repair", Engine::Rocksdb) => Some("snapshot.persisted"),
            // Here N moved with the exchange.
            ("recovery.log-repair", Engine::Redb) => Some("snapshot.exchanged"),
            _ => None,
        }
    }

    /// Checks that a member that has this role when it is chosen can be brought to pass the window.
    ///
    /// # Errors
    /// The reason why it cannot.
    pub fn passed_by(&self, role: Role) -> Result<(), &'static str> {
        match (self.reach, role) {
            (Reach::Load | Reach::Defragmentation | Reach::Recovery | Reach::Start, _)
            | (Reach::LoadOfLeader | Reach::SnapshotSender, Role::Leader)
            | (Reach::Election | Reach::Reinstall | Reach::SnapshotReceiver | Reach::Join, Role::Follower) => Ok(()),
            (Reach::LoadOfLeader, Role::Follower) => Err("a follower answers no proposer: the leader proposed for it"),
            (Reach::Election, Role::Leader) => Err("a leader casts no vote: it dies, and the others vote"),
            (Reach::SnapshotReceiver | Reach::Reinstall, Role::Leader) => Err("a leader is sent no snapshot"),
            (Reach::Join, Role::Leader) => Err("a member that has just been added does not lead"),
            (Reach::SnapshotSender, Role::Follower) => Err("a follower sends no snapshot"),
            (Reach::Migration, _) => Err("only `migrate` on the directory of a stopped member passes it"),
            (Reach::Restore, _) => Err("only `snapshot restore`, which makes a member, passes it"),
            (Reach::Founding, _) => Err("only a founder passes it, in its first life"),
        }
    }

    /// Whether it is passed only while the cluster is changed, by an upgrade or a restore, and by
    /// no member that is killed as such.
    pub fn is_of_an_operation(&self) -> bool {
        matches!(self.reach, Reach::Migration | Reach::Restore | Reach::Founding)
    }

    /// Whether it is reached by way of a snapshot, which a member is sent only once the others have
    /// purged the entries that it lacks.
    pub fn needs_a_snapshot(&self) -> bool {
        matches!(self.reach, Reach::SnapshotReceiver | Reach::SnapshotSender | Reach::Reinstall)
    }
}

const fn window(name: &'static str, reach: Reach, hit_max: u64) -> Window {
    by(BroughtBy::Batch, name, reach, hit_max)
}

const fn by(brought_by: BroughtBy, name: &'static str, reach: Reach, hit_max: u64) -> Window {
    Window { name, reach, hit_max, brought_by }
}

/// Every window of the node, in the order of the protocols.
pub const WINDOWS: &[Window] = &[
    window("raft.append", Reach::Load, 40),
    window("raft.fsync", Reach::Load, 40),
    window("raft.synced", Reach::Load, 40),
    window("raft.committed", Reach::Load, 20),
    window("vote.save", Reach::Election, 1),
    window("vote.saved", Reach::Election, 1),
    window("vote.answered", Reach::Election, 1),
    window("apply.before-batch", Reach::Load, 150),
    window("apply.after-batch", Reach::Load, 150),
    window("apply.answered", Reach::LoadOfLeader, 100),
    by(BroughtBy::Compaction, "compact.batch", Reach::Load, 1),
    window("defrag.copied", Reach::Defragmentation, 1),
    window("defrag.renamed", Reach::Defragmentation, 1),
    window("group.visible", Reach::Load, 60),
    window("group.durable", Reach::Load, 60),
    by(BroughtBy::Memtable, "flush.sealed", Reach::Load, 2),
    by(BroughtBy::Memtable, "flush.begin", Reach::Load, 2),
    by(BroughtBy::Memtable, "flush.completed", Reach::Load, 2),
    by(BroughtBy::Files, "compaction.begin", Reach::Load, 1),
    by(BroughtBy::Files, "compaction.completed", Reach::Load, 1),
    by(BroughtBy::Memtable, "index.tmp-written", Reach::Load, 2),
    by(BroughtBy::Memtable, "index.tmp-synced", Reach::Load, 2),
    by(BroughtBy::Memtable, "index.renamed", Reach::Load, 2),
    by(BroughtBy::Memtable, "index.persisted", Reach::Load, 2),
    by(BroughtBy::Purge, "purge.before", Reach::Load, 1),
    by(BroughtBy::Purge, "purge.between", Reach::Load, 1),
    by(BroughtBy::Purge, "purge.done", Reach::Load, 1),
    window("snapshot.image", Reach::SnapshotSender, 1),
    window("snapshot.send", Reach::SnapshotSender, 1),
    window("snapshot.sending", Reach::SnapshotSender, 1),
    window("snapshot.sent", Reach::SnapshotSender, 1),
    window("snapshot.receive", Reach::SnapshotReceiver, 1),
    window("snapshot.unpack", Reach::SnapshotReceiver, 1),
    window("snapshot.proven", Reach::SnapshotReceiver, 1),
    window("snapshot.unpacked", Reach::SnapshotReceiver, 1),
    window("snapshot.exchange", Reach::SnapshotReceiver, 1),
    window("snapshot.exchanged", Reach::SnapshotReceiver, 1),
    window("snapshot.persist", Reach::SnapshotReceiver, 1),
    window("snapshot.persisted", Reach::SnapshotReceiver, 1),
    window("snapshot.delete-old", Reach::SnapshotReceiver, 1),
    window("snapshot.installed", Reach::SnapshotReceiver, 1),
    window("restore.unpacked", Reach::Restore, 1),
    window("restore.image", Reach::Restore, 1),
    window("restore.logged", Reach::Restore, 1),
    window("restore.synced", Reach::Restore, 1),
    window("restore.renamed", Reach::Restore, 1),
    window("recovery.marked", Reach::Start, 1),
    window("recovery.log-opened", Reach::Start, 1),
    window("recovery.tidied", Reach::Start, 1),
    window("recovery.engine-open", Reach::Start, 1),
    window("recovery.engine-opened", Reach::Start, 1),
    window("recovery.install", Reach::Reinstall, 1),
    window("recovery.installed", Reach::Reinstall, 1),
    window("recovery.log-repair", Reach::Reinstall, 1),
    window("recovery.founded", Reach::Founding, 1),
    window("recovery.raft-started", Reach::Start, 1),
    window("recovery.replay-verify", Reach::Recovery, 1),
    window("recovery.replay-apply", Reach::Recovery, 3),
    window("migrate.intent", Reach::Migration, 1),
    window("migrate.copying", Reach::Migration, 1),
    window("migrate.copied", Reach::Migration, 1),
    window("migrate.exchanged", Reach::Migration, 1),
    window("migrate.index", Reach::Migration, 1),
    window("migrate.marker", Reach::Migration, 1),
];

/// The windows of etcd's files, by class (`faultfs::Class`): before and after the n-th such
/// operation.
///
/// The table holds only operations that etcd does under load: with small values some 400 writes and
/// syncs of its log in a second, 250 writes and 40 syncs of its state, a snapshot each second or
/// two (`snapshot_every_entries = 2000`). It renames a snapshot into place only if it was sent the
/// snapshot.
pub const FILE_WINDOWS: &[Window] = &[
    // A record, or a batch of them, is about to be written to the log; it is written, and not
    // synced.
    window("wal.write", Reach::Load, 40),
    window("wal.written", Reach::Load, 40),
    // The written part of the log is about to be synced; it is durable, and the server does not
    // know.
    window("wal.sync", Reach::Load, 40),
    window("wal.synced", Reach::Load, 40),
    // A file in reserve becomes the next segment of the log: once in 64 MiB of it, so only large
    // values come there.
    by(BroughtBy::Segment, "wal.rename", Reach::Load, 1),
    by(BroughtBy::Segment, "wal.renamed", Reach::Load, 1),
    // A run of pages of a commit of the state, or its meta page.
    window("db.write", Reach::Load, 40),
    window("db.written", Reach::Load, 40),
    // A commit of the state.
    window("db.sync", Reach::Load, 8),
    window("db.synced", Reach::Load, 8),
    // A snapshot, which etcd writes under its own name, and without which the log is not cut.
    by(BroughtBy::Snapshot, "snap.write", Reach::Load, 1),
    by(BroughtBy::Snapshot, "snap.written", Reach::Load, 1),
    by(BroughtBy::Snapshot, "snap.sync", Reach::Load, 1),
    by(BroughtBy::Snapshot, "snap.synced", Reach::Load, 1),
];

/// The windows of the node's files.
pub fn node_file_windows() -> impl Iterator<Item = &'static Window> + Clone {
    NODE_FILES.iter().map(|(window, _)| window)
}

/// Every window that a scenario may name: the node's, then those of etcd's and of the node's files.
pub fn all_windows() -> impl Iterator<Item = &'static Window> + Clone {
    WINDOWS.iter().chain(FILE_WINDOWS).chain(node_file_windows())
}

/// The window called `name`.
pub fn find_window(name: &str) -> Option<&'static Window> {
    all_windows().find(|window| window.name == name)
}

/// The window that a user who typed `name` most likely meant: at most two edits away, or the
/// nearest one with the same last part.
pub fn nearest_window(name: &str) -> Option<&'static str> {
    let last = name.rsplit('.').next().unwrap_or(name);
    let by_edits = || all_windows().map(|window| (edits(name, window.name), window.name));
    let near = by_edits().min().filter(|(distance, _)| *distance <= 2);
    let alike = || by_edits().filter(|(_, known)| known.rsplit('.').next() == Some(last)).min();
    near.or_else(alike).map(|(_, found)| found)
}

/// Levenshtein's distance in bytes.
pub(crate) fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn window_names_are_unique_and_priors_exist() {
        for (i, window) in all_windows().enumerate() {
            assert!(all_windows().skip(i + 1).all(|other| other.name != window.name), "{}", window.name);
            assert!(window.hit_max > 0);
            for engine in Engine::ALL {
                let Some(prior) = window.prior(*engine) else { continue };
                let reach = find_window(prior).expect("a prior is a window").reach;
                let by = match window.reach {
                    Reach::Recovery => Reach::Load,
                    Reach::Reinstall => Reach::SnapshotReceiver,
                    reach => panic!("{} of {reach:?} has a prior", window.name),
                };
                assert!(reach == by && find_window(prior).unwrap().exists_on(*engine), "{} on {engine}", window.name);
            }
        }
    }

    /// Each window belongs to a role, or to a stopped member; and the reasons match the victims
    /// that plans may name.
    #[test]
    fn every_window_is_passed_by_somebody() {
        for window in all_windows() {
            let roles = [Role::Leader, Role::Follower].map(|role| window.passed_by(role).is_ok());
            assert_eq!(roles == [false, false], window.is_of_an_operation(), "{}", window.name);
            let kinds = [Role::Leader, Role::Follower].map(|role| crate::scenario::whom_of(role).reaches(window.reach));
            assert_eq!(roles, kinds, "{}", window.name);
        }
    }

    #[test]
    fn windows_of_files_are_points_and_belong_to_etcd_or_to_the_node() {
        for window in FILE_WINDOWS {
            assert!(crate::faultfs::Point::parse(window.name).is_some(), "{}", window.name);
            assert!(window.is_of_files() && !window.is_of_the_nodes_files());
            assert!(window.exists_on(Engine::Opaque) && !Engine::ALL.iter().any(|engine| window.exists_on(*engine)));
        }
        for window in node_file_windows() {
            assert!(crate::faultfs::Point::parse(window.name).is_some(), "{}", window.name);
            assert!(window.is_of_files() && window.is_of_the_nodes_files());
            assert!(!window.exists_on(Engine::Opaque) && Engine::ALL.iter().any(|engine| window.exists_on(*engine)));
        }
        assert!(WINDOWS.iter().all(|window| !window.exists_on(Engine::Opaque) && !window.is_of_files()));
    }

    /// Both sides of an operation, and the part of a member's life that its name says.
    #[test]
    fn points_come_in_pairs_and_are_reached_as_their_names_say() {
        use crate::faultfs::{Point, Side};
        let all: Vec<_> = node_file_windows().collect();
        for pair in all.chunks(2) {
            let [before, after] = [pair[0], pair[1]].map(|window| Point::parse(window.name).unwrap());
            assert_eq!((before.side, after.side), (Side::Before, Side::After), "{pair:?}");
            assert_eq!(Point { side: Side::After, ..before }, after, "{pair:?}");
        }
        for window in all {
            let part = window.name.strip_prefix("file.").and_then(|rest| rest.rsplitn(3, '.').nth(2));
            let reach = match part {
                None => Reach::Load,
                Some("election") => Reach::Election,
                Some("start") => Reach::Start,
                Some("join") => Reach::Join,
                Some("install") => Reach::SnapshotReceiver,
                Some("send") => Reach::SnapshotSender,
                Some(other) => panic!("{other}"),
            };
            assert_eq!(window.reach, reach, "{}", window.name);
        }
    }

    #[test]
    fn what_brings_a_window_says_how_much_load_is_due() {
        let shape = LoadShape {
            clients: 16,
            compact_every_ops: 40,
            value_bytes_max: 512,
            memtable_bytes: 65_536,
            snapshot_every_entries: 200,
            keep_entries: 400,
        };
        let due = |name: &str, hit| find_window(name).unwrap().entries_due(hit, &shape);
        assert_eq!((due("raft.fsync", 1), due("raft.fsync", 40)), (32, 1_280));
        assert_eq!((due("flush.completed", 2), due("compaction.begin", 1)), (2_620, 5_240));
        assert_eq!((due("compact.batch", 1), due("purge.between", 1)), (1_280, 1_710));
        assert_eq!((due("snap.sync", 1), due("wal.rename", 1)), (400, 262_144));
        assert_eq!(shape.purge(), 2 * (400 + 200 + 655 + 16));
        let redb = LoadShape { memtable_bytes: 0, snapshot_every_entries: 0, ..shape };
        assert!(all_windows().all(|window| window.entries_due(1, &redb) >= 2 * redb.clients), "something has to come");
    }

    #[test]
    fn a_typo_finds_its_window() {
        assert_eq!(nearest_window("wal.synch"), Some("wal.sync"));
        assert_eq!(nearest_window("flush.complete"), Some("flush.completed"));
        assert_eq!(nearest_window("flush.renamed"), Some("index.renamed"));
        assert_eq!(nearest_window("file.raftlog.sync"), Some("file.raft-log.sync"));
        assert_eq!(nearest_window("elsewhere"), None);
    }

    #[test]
    fn redb_has_no_flush_no_index_file_and_nothing_to_verify() {
        let missing: Vec<_> = WINDOWS.iter().filter(|window| !window.exists_on(Engine::Redb)).collect();
        assert_eq!(missing.len(), 12, "{missing:?}");
        let redb_only: Vec<_> = WINDOWS.iter().filter(|window| !window.exists_on(Engine::Rocksdb)).collect();
        assert_eq!(redb_only.len(), 4, "{redb_only:?}");
        assert!(find_window("snapshot.persist").is_some_and(|window| window.exists_on(Engine::Redb)));
    }
}
