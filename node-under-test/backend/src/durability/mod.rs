//! The durability protocol of an engine without a write-ahead log.
//!
//! **N** is the index in `last-flushed-index`; **E** is the consistent index of the state that the
//! engine recovers; **applied**, **flushed** and **persisted** are the marks of
//! [`node_base::watermarks`]. The raft log is the only synchronous log: what a kill takes out of
//! the memtable is replayed from there, starting at N+1.
//!
//! # Claims
//! Each claim says what holds, why, and what would break it; tests carry the claim's number.
//!
//! 1. **Every recovered state is an exact prefix of the raft log.** An entry's rows and its LogId
//!    are one batch, the LogId last, in one column family, written by one thread. RocksDB commits
//!    flushes to its MANIFEST in memtable order. *Broken by* two batches per entry (etcd#13766), a
//!    second column family without atomic flush, a second writer.
//! 2. **The index that goes with a flush is the greatest one whose batch the flush contains.**
//!    After each write the writer records (sequence number → LogId) in a [`ring`]; a completed
//!    flush names its largest sequence number; the greatest record not above it is *flushed*.
//!    *Broken by* reading "applied" in a callback: when a flush begins, its memtables were sealed a
//!    while ago, and the next one already takes writes.
//! 3. **A record that is missing only makes N lower.** A flush may contain a batch whose write has
//!    returned but whose record is not in the ring yet: the search then ends at an older record.
//!    *Broken by* recording before writing.
//! 4. **Completions may overlap and arrive in any order.** Each one proves "everything up to here",
//!    so the maximum is proven whatever the order. *Broken by* taking the last one that arrived.
//! 5. **N ≤ E at every instant, so also after a kill at any instant.** The callback fires after SST
//!    and MANIFEST are synced; N follows by way of a channel, written by one thread to a temporary
//!    file, synced, renamed, its directory synced. *Broken by* writing N before the completion, or
//!    writing in place.
//! 6. **persisted ≤ log-durable.** `commit` is called only once the local raft log is durable
//!    through the batch (its caller waits), only LogIds that this life committed or verified can
//!    become N, and flushed ≤ applied. *Broken by* an N taken from E at open without asking the
//!    log: after a crash inside an install, E lies beyond its end.
//! 7. **A manual flush covers what was applied before it was issued.** The target is read first,
//!    under the writer's lock; the flush is waited for; then the target is proven, whatever the
//!    callbacks said. *Broken by* reading the target afterwards.
//! 8. **No N outlives its database.** The persister owns the index file and gives it back when it
//!    ends; an install takes it back before it exchanges directories, so no flush of the old
//!    database can write N afterwards. *Broken by* a persister that is not joined.
//! 9. **A storage error ends the process.** The first background error, or a failed step of N,
//!    exits with [`EXIT_STORAGE`](crate::EXIT_STORAGE). *Broken by* RocksDB's default, which
//!    resumes for ever.
//! 10. **The replay is bounded.** When the entries, or their bytes, that are applied and not
//!     flushed pass a limit, the persister asks for a flush; the writer never waits for it. *Broken
//!     by* a workload of small entries that never fills a memtable.
//!
//! Is N redundant, once E is known? E says what *is* there; N says what *was* there, so it shows at
//! open that flushed data vanished (E < N). It also gates the purge, and bounds the replay.

pub mod persister;
pub mod ring;

pub use persister::{Event, Persister, Progress};
pub use ring::Ring;
