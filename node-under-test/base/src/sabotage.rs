//! Planted bugs: the harness's proof that it has teeth.
//!
//! They exist only with the feature `sabotage`; without it [`planted`] is a constant `false`, the
//! compiler removes every branch that asks for it, and the binary holds none of the names.

macro_rules! bugs {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// A planted bug; at most one is active in a process, chosen at start.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Bug { $($(#[$doc])* $variant,)* }

        #[cfg(feature = "sabotage")]
        impl Bug {
            pub const ALL: &'static [Bug] = &[$(Bug::$variant,)*];

            pub fn name(self) -> &'static str {
                match self { $(Bug::$variant => $name,)* }
            }
        }
    };
}

bugs! {
    /// N = applied, read in OnFlushBegin, where the next memtable already takes writes.
    CaptureAtFlushBegin = "capture-at-flush-begin",
    /// N = applied, read when the flush completes.
    CaptureAtFlushEnd = "capture-at-flush-end",
    /// N is persisted before the flush is done.
    PersistBeforeFlush = "persist-before-flush",
    /// `capture-at-flush-begin`, and the check E ≥ N at open is gone.
    OpenCheckMissing = "open-check-missing",
    /// The consistent index is written in an earlier batch than its entry's data.
    IndexBeforeData = "index-before-data",
    /// Replay starts at N+2 and nothing checks contiguity.
    ReplaySkipsOne = "replay-skips-one",
    /// Entries in (N, E] are applied again.
    ReplayAgain = "replay-again",
    /// The raft log is purged up to applied instead of N.
    PurgePastFlushed = "purge-past-flushed",
    /// Deletes are not replayed after a restart.
    TombstoneLost = "tombstone-lost",
    /// The node answers every fence with the same hash.
    HashConstant = "hash-constant",
    /// A restarted leader resumes its old term without an election.
    LeaderRestore = "leader-restore",
    /// A sender counts the body of its snapshot alone; only the form with header and trailer has
    /// more.
    WireSizeBodyOnly = "wire-size-body-only",
    /// A sender announces a block more than it sends.
    WireSizeTooBig = "wire-size-too-big",
    /// A snapshot's meta claims one entry more than its image holds.
    SnapshotIndexOffByOne = "snapshot-index-off-by-one",
    /// A sync of the raft log's file that failed is tried once more, and believed.
    FsyncErrorIgnored = "fsync-error-ignored",
    /// A write of the raft log's file that failed counts as done.
    WriteErrorIgnored = "write-error-ignored",
    /// A change of engine does not sync the directory in which it exchanged the databases.
    MigrateNoDirFsync = "migrate-no-dir-fsync",
    /// A change of engine does not sync what the life before left in the page cache.
    MigrateWithoutSync = "migrate-without-sync",
    /// An install does not sync the directory in which it exchanged the database.
    SnapshotNoDirFsync = "snapshot-no-dir-fsync",
    /// A member that believes that it leads confirms reads by itself, without its quorum.
    StaleRead = "stale-read",
    /// A proposal is answered as soon as the leader's own log holds it.
    AckBeforeQuorum = "ack-before-quorum",
    /// A lease's granted TTL depends on a hash map's order.
    ApplyNotDeterministic = "apply-not-deterministic",
    /// Entries that write nothing do not advance the consistent index, and N counts them.
    NoopDoesNotAdvance = "noop-does-not-advance",
    /// `last-flushed-index` is written in place.
    TornIndexFile = "torn-index-file",
    /// A fence's digest of the keys leaves tombstones out.
    HashIgnoresDeletes = "hash-ignores-deletes",
    /// Every few fences, a fence is answered with the digests of the one before it.
    HashCached = "hash-cached",
    /// Now and then an entry is not written to the raft log's file, and only the tail in memory has
    /// it.
    LogHole = "log-hole",
    /// A leader that no quorum answers goes on sending heartbeats.
    DeafLeaderStays = "deaf-leader-stays",
    /// A member that forwarded a proposal answers when the leader has applied it, before it has
    /// done so itself.
    AckBeforeOwnApply = "ack-before-own-apply",
    /// A restored member begins at no position with an empty raft log: a newcomer replays from
    /// entry 0 onto nothing.
    RestoreForgetsPosition = "restore-forgets-position",
    /// A restored member lacks the leases of its snapshot.
    RestoreDropsLeases = "restore-drops-leases",
    /// The engine marker's name is not synced before the engine is made.
    MarkerNoDirFsync = "marker-no-dir-fsync",
    /// `last-flushed-index` is renamed over the old one before its data is synced.
    IndexNoFsync = "index-no-fsync",
    /// The rename of `last-flushed-index` is not made durable.
    IndexNoDirFsync = "index-no-dir-fsync",
    /// A start does not sync what the life before left in the page cache.
    ReopenWithoutSync = "reopen-without-sync",
    /// The raft log's commits are not synced: an entry is acknowledged before it is durable.
    RaftLogNoFsync = "raft-log-no-fsync",
    /// A commit of the raft log that holds a vote alone is not synced before the vote is answered.
    VoteNotPersisted = "vote-not-persisted",
    /// A received image is installed without having been synced.
    CheckpointNotSynced = "checkpoint-not-synced",
    /// A group of entries on redb counts as durable without the commit that makes it so.
    RedbNoSync = "redb-no-sync",
    /// A client may send commands that apply cannot decode, and a committed command that cannot be
    /// decoded ends the process.
    ApplyNotTotal = "apply-not-total",
    /// Clients get connections for as long as there are descriptors, those that the engine and the
    /// log need included.
    AcceptWithoutLimit = "accept-without-limit",
    /// A defragmentation does not copy again what was committed while it copied.
    DefragForgetsCommits = "defrag-forgets-commits",
    /// The third diagnostic of a life that cannot be written ends the process.
    LostLineEndsMember = "lost-line-ends-member",
    /// A member that was deposed goes on revoking the leases that it saw run out, through its
    /// successor.
    LeaseRevokedByDeposed = "lease-revoked-by-deposed",
    /// A member that believes that it leads renews leases from its own memory, without its quorum.
    KeepaliveUnconfirmed = "keepalive-unconfirmed",
    /// A transaction that only compares, in a nested one, is answered without a read index.
    CompareOnlyStale = "compare-only-stale",
    /// A comparison that this version does not know is taken for one that it knows.
    UnknownCompareHolds = "unknown-compare-holds",
    /// A stream of watches ends with the client's side of it.
    HalfCloseEndsWatch = "half-close-ends-watch",
    /// Of the keys that an entry changes, the first alone wakes the watches that wait for it.
    WatchGap = "watch-gap",
    /// The metadata `hasleader` is not read.
    HasleaderIgnored = "hasleader-ignored",
    /// Status names the leader that a member last heard of, however long ago that was.
    StatusNamesLostLeader = "status-names-lost-leader",
    /// The leader is asked for one lease of a stream after the other.
    KeepaliveOneAtATime = "keepalive-one-at-a-time",
    /// A transaction of too many operations is refused as if the member had too much to do.
    WrongRefusalCode = "wrong-refusal-code",
    /// What a transaction reads is evaluated by every member that applies it.
    RangesEvaluatedEverywhere = "ranges-evaluated-everywhere",
    /// A member neither compares the cluster that a request names with its own, nor that of a
    /// refusal, which it heeds.
    StrangerHeeded = "stranger-heeded",
    /// A request that takes a member for another life ends it.
    HelloEndsMember = "hello-ends-member",
    /// A cluster's id leaves out the state that its founders were restored from.
    UnlikeFounderAdmitted = "unlike-founder-admitted",
    /// The checksums of the engine's blocks are not looked at.
    CorruptBlockServed = "corrupt-block-served",
    /// A raft log whose last commit is damaged goes on from the one before it.
    LogBitflipTruncates = "log-bitflip-truncates",
}

#[cfg(feature = "sabotage")]
mod active {
    use super::Bug;
    use std::sync::OnceLock;

    static ACTIVE: OnceLock<Bug> = OnceLock::new();

    /// Plants the bug called `name` for the rest of this process's life.
    ///
    /// # Errors
    /// The bug is unknown, or another one is planted already.
    pub fn plant(name: &str) -> Result<(), String> {
        let bug = Bug::ALL.iter().copied().find(|bug| bug.name() == name).ok_or_else(|| {
            let known: Vec<_> = Bug::ALL.iter().map(|bug| bug.name()).collect();
            format!("unknown planted bug {name:?}; known: {}", known.join(", "))
        })?;
        ACTIVE.set(bug).map_err(|_| "a bug is planted already".to_owned())
    }

    pub fn planted(bug: Bug) -> bool {
        ACTIVE.get() == Some(&bug)
    }
}

#[cfg(feature = "sabotage")]
pub use active::{plant, planted};

/// True if `bug` is planted in this process: never, without the feature.
#[cfg(not(feature = "sabotage"))]
#[inline(always)]
pub const fn planted(_bug: Bug) -> bool {
    false
}
