//! Crash windows: the named steps of the protocols in which the controller can kill this process.
//!
//! A window costs one relaxed atomic load while it is not armed. When an armed window has been
//! passed its hit count's number of times, the process prints one JSON line on standard output
//! (`{"event":"window","name":"…","hit":n}`), and stops itself with SIGSTOP: every thread stands
//! still, and its parent sees it stopped and sends the SIGKILL. A SIGCONT instead lets it go on.
//!
//! Windows are part of the release binary: the binary that is gated is the binary that ships.

use crate::process;
use std::io::Write;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! windows {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// A named step of a protocol. The text form is what plans, reports and the control
        /// endpoint use.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Window { $($(#[$doc])* $variant,)* }

        impl Window {
            pub const ALL: &'static [Window] = &[$(Window::$variant,)*];

            pub fn name(self) -> &'static str {
                match self { $(Window::$variant => $name,)* }
            }
        }

        static COUNTDOWN: [AtomicU64; Window::ALL.len()] = [$({ let _ = Window::$variant; AtomicU64::new(0) },)*];
        static ARMED_AT: [AtomicU64; Window::ALL.len()] = [$({ let _ = Window::$variant; AtomicU64::new(0) },)*];
    };
}

windows! {
    /// Entries accepted by the log store's I/O thread, nothing written yet.
    RaftAppend = "raft.append",
    /// Entries written to the log's transaction, not yet committed (no fsync yet).
    RaftFsync = "raft.fsync",
    /// The log's transaction is durable; its callers have not been told.
    RaftSynced = "raft.synced",
    /// The transaction that carried the saved commit position along is durable.
    RaftCommitted = "raft.committed",
    /// A vote was accepted in memory, nothing written yet.
    VoteSave = "vote.save",
    /// The vote is durable, the answer has not been sent.
    VoteSaved = "vote.saved",
    /// A follower's vote was answered, counted, and won: the leader's first append is here, nothing
    /// of it in the log.
    VoteAnswered = "vote.answered",
    /// An entry is about to be applied: neither it nor an entry that shares its commit is in the
    /// engine.
    ApplyBefore = "apply.before-batch",
    /// An entry's commit is done, so that its changes are visible, and its proposer has not been
    /// told: on RocksDB the gap between two batches.
    ApplyAfter = "apply.after-batch",
    /// The leader told an entry's proposer what applying it answered.
    ApplyAnswered = "apply.answered",
    /// Part of what compactions made unreachable is removed; the rest may still be there.
    CompactBatch = "compact.batch",
    /// redb: a group of entries is applied and visible, the commit that makes it durable has not
    /// begun.
    GroupVisible = "group.visible",
    /// redb: the group is durable, so N is there; nothing that waits for it has moved.
    GroupDurable = "group.durable",
    /// redb: the defragmented copy is complete and synced, and does not have the database's name.
    DefragCopied = "defrag.copied",
    /// redb: the defragmented copy has the database's name, which is not synced.
    DefragRenamed = "defrag.renamed",
    /// RocksDB sealed a memtable (writes go on into the next one).
    FlushSealed = "flush.sealed",
    /// RocksDB picked its memtables and is about to write the SST.
    FlushBegin = "flush.begin",
    /// SST and MANIFEST are durable; N is not persisted yet.
    FlushCompleted = "flush.completed",
    /// RocksDB picked SSTs to merge.
    CompactionBegin = "compaction.begin",
    /// The merged SSTs and the MANIFEST that names them are durable; the old SSTs may still exist.
    CompactionCompleted = "compaction.completed",
    /// `last-flushed-index.tmp` is written, not synced.
    IndexTmpWritten = "index.tmp-written",
    /// `last-flushed-index.tmp` is synced, not renamed.
    IndexTmpSynced = "index.tmp-synced",
    /// Renamed; the directory is not synced.
    IndexRenamed = "index.renamed",
    /// N is durable; nothing that waits for it has moved.
    IndexPersisted = "index.persisted",
    /// The raft log is about to be purged up to at most N.
    PurgeBefore = "purge.before",
    /// Some, not all, of the purge's small transactions are done.
    PurgeBetween = "purge.between",
    /// The purge is done.
    PurgeDone = "purge.done",
    /// A snapshot's sender made its image; N may be lower than it.
    SnapshotImage = "snapshot.image",
    /// A snapshot's sender made its image, N is at least its index, nothing is sent.
    SnapshotSend = "snapshot.send",
    /// A snapshot's sender has sent part of the stream.
    SnapshotSending = "snapshot.sending",
    /// A snapshot's sender handed the whole stream over, and has no answer.
    SnapshotSent = "snapshot.sent",
    /// The receiver took the stream's first bytes.
    SnapshotReceive = "snapshot.receive",
    /// The receiver is in the middle of unpacking into `db.incoming`.
    SnapshotUnpack = "snapshot.unpack",
    /// The stream is unpacked and its digest right; nothing is synced, and the image was not
    /// opened.
    SnapshotProven = "snapshot.proven",
    /// Unpacked and verified, files and directories synced, not exchanged.
    SnapshotUnpacked = "snapshot.unpacked",
    /// The old database is closed, nothing is exchanged.
    SnapshotExchange = "snapshot.exchange",
    /// `db` and `db.incoming` are exchanged, their parent is not synced. On redb N is M from here
    /// on.
    SnapshotExchanged = "snapshot.exchanged",
    /// The exchange is durable, N is still the old one.
    SnapshotPersist = "snapshot.persist",
    /// N = M is durable, the raft log is not purged to M.
    SnapshotPersisted = "snapshot.persisted",
    /// The log is purged to M, the old database still exists.
    SnapshotDelete = "snapshot.delete-old",
    /// The old database is gone, the sender has not been told.
    SnapshotInstalled = "snapshot.installed",
    /// A change of engine: the intent is durable, nothing is copied.
    MigrateIntent = "migrate.intent",
    /// A change of engine: part of the rows is copied.
    MigrateCopying = "migrate.copying",
    /// A change of engine: the new image is complete, proven and synced, not exchanged.
    MigrateCopied = "migrate.copied",
    /// A change of engine: the databases are exchanged, their parent is not synced.
    MigrateExchanged = "migrate.exchanged",
    /// A change of engine: the exchange is durable and so is N in the new engine's way; the marker
    /// is the old one.
    MigrateIndex = "migrate.index",
    /// A change of engine: the marker is the new one, the old database and the intent still exist.
    MigrateMarker = "migrate.marker",
    /// A restore: the saved file is proven and unpacked, nothing of the new member exists.
    RestoreUnpacked = "restore.unpacked",
    /// A restore: the new member's database is complete under the scratch name, not synced; it has
    /// no raft log.
    RestoreImage = "restore.image",
    /// A restore: the raft log that begins behind the image exists, nothing is renamed.
    RestoreLogged = "restore.logged",
    /// A restore: the new member is complete and durable under the scratch name.
    RestoreSynced = "restore.synced",
    /// A restore: the new member has its name, which is not synced.
    RestoreRenamed = "restore.renamed",
    /// Start-up: the directory has its engine marker (a first life has just written it), log and
    /// engine are not open.
    RecoveryMarked = "recovery.marked",
    /// Start-up: the raft log is open and repaired, the last life's leftovers are neither cleaned
    /// up nor synced.
    RecoveryLogOpened = "recovery.log-opened",
    /// Start-up: what was left of snapshots is removed, the leftovers are not synced.
    RecoveryTidied = "recovery.tidied",
    /// Start-up: the leftovers of the last life are synced, the engine is not open.
    RecoveryOpen = "recovery.engine-open",
    /// Start-up: the engine is open and E ≥ N holds.
    RecoveryOpened = "recovery.engine-opened",
    /// Start-up: a snapshot's install was interrupted after its exchange; N is still the old one.
    RecoveryInstall = "recovery.install",
    /// Start-up: N of an interrupted install is durable, nothing else has moved.
    RecoveryInstalled = "recovery.installed",
    /// Start-up: the log does not hold N, because an install was interrupted before its purge;
    /// nothing is dropped yet.
    RecoveryLogRepair = "recovery.log-repair",
    /// Start-up: the founding membership is durable in the raft log of a member that is new or
    /// restored; raft does not run.
    RecoveryFounded = "recovery.founded",
    /// Start-up: raft runs, what was saved as committed is applied again, no request was answered.
    RecoveryRaftStarted = "recovery.raft-started",
    /// Replay: an entry of (N, E] was verified.
    ReplayVerify = "recovery.replay-verify",
    /// Replay: an entry above E that the last life had in its log is applied again.
    ReplayApply = "recovery.replay-apply",
}

impl FromStr for Window {
    type Err = UnknownWindow;

    fn from_str(name: &str) -> Result<Self, UnknownWindow> {
        Window::ALL.iter().copied().find(|window| window.name() == name).ok_or_else(|| UnknownWindow(name.to_owned()))
    }
}

#[derive(Debug, thiserror::Error)]
#[error("unknown window {0:?}; the windows are: {known}", known = Window::ALL.iter().map(|w| w.name()).collect::<Vec<_>>().join(", "))]
pub struct UnknownWindow(String);

/// Arms `window`: the `hit_count`-th pass from now (1 = the next one) stops the process. 0 disarms
/// it.
pub fn arm(window: Window, hit_count: u64) {
    ARMED_AT[window as usize].store(hit_count, Ordering::Relaxed);
    COUNTDOWN[window as usize].store(hit_count, Ordering::Release);
}

/// Marks that the calling thread passes `window`; stops the process if that is the armed hit.
#[inline]
pub fn pass(window: Window) {
    if COUNTDOWN[window as usize].load(Ordering::Relaxed) != 0 {
        pass_armed(window);
    }
}

#[cold]
fn pass_armed(window: Window) {
    let before =
        COUNTDOWN[window as usize].fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1));
    if before == Ok(1) {
        stop_here(window, ARMED_AT[window as usize].load(Ordering::Relaxed));
    }
}

fn stop_here(window: Window, hit: u64) {
    // The line is written with one write call while the lock is held, so it cannot interleave with
    // another.
    let line = format!("{{\"event\":\"window\",\"name\":\"{}\",\"hit\":{hit}}}\n", window.name());
    let mut out = std::io::stdout().lock();
    // If the reader of the pipe is gone, the harness that would kill this process is gone too:
    // stopping would leave a stopped orphan, so go on instead.
    if out.write_all(line.as_bytes()).and_then(|()| out.flush()).is_ok() {
        process::stop_here();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_back_and_are_unique() {
        for window in Window::ALL {
            assert_eq!(window.name().parse::<Window>().unwrap(), *window);
        }
        let error = "flush.nowhere".parse::<Window>().unwrap_err().to_string();
        assert!(error.contains("flush.nowhere") && error.contains("flush.completed"), "{error}");
    }
}
