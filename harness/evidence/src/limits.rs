//! The bounds on scenarios, on the system under test, and on what the harness takes of the machine,
//! each with its reason. A scenario may set those that have a key of the same name under `[bounds]`
//! or `[floors]`; the value here is its default.
//!
//! A bound that serves one file stands in that file: the memory of one judge, the chunks of the
//! proxy, the length of a list in a sentence, the limits of a wire format.
//!
//! Bounds on the system under test, and on what the harness's own mechanics take, are those of an
//! idle machine; `pace.rs` stretches them by what this one does now.

use std::time::Duration;

// ---- bounds on what a scenario may ask for ------------------------------------------------------

/// A gate runs 1,000 cycles; a hundred times that keeps the in-memory records (~1 KB each) below
/// 100 MB.
pub const CYCLES_MAX: u32 = 100_000;
/// Clusters side by side: each is three processes or more, with its load; beyond a few per core
/// they only wait for each other.
pub const CLUSTERS_MAX: u32 = 16;
/// Clusters for each core with `--clusters auto`: a cluster spends about half of a cycle waiting
/// for a window to be passed.
pub const CLUSTERS_PER_CORE: f64 = 1.5;
/// Raft gains nothing from an even number; a single member cannot be compared with another; the
/// node takes up to five.
pub const MEMBERS: [u32; 2] = [3, 5];
/// More clients than this exhaust file descriptors (1,024 by default) before they exhaust a node.
pub const CLIENTS_MAX: u32 = 256;
/// Each client has a connection to each member: this many leave room, among 1,024 file descriptors,
/// for the harness's own.
pub const CONNECTIONS_MAX: u32 = 900;
/// Clients of each kind in a crowd, at each member: more than any listener keeps waiting, and well
/// below the number of ports of a machine.
pub const CROWD_MAX: u32 = 5_000;
/// Hostile peers at each member: each uses an id beyond the members', and a member remembers 64 of
/// those.
pub const HOSTILE_PEERS_MAX: u32 = 8;
/// Refusals of one member without which hostile peers were not heard there: each of their calls
/// twice, in each of their names.
pub const HOSTILE_REFUSED_MIN: u64 = 100;
/// Limit of open files of a member: fewer than this leave a server nothing to start with.
pub const NOFILE_MIN: u64 = 64;
/// The kernel's default maximum for a process (`fs.nr_open`).
pub const NOFILE_MAX: u64 = 1 << 20;
/// Holders of short leases: each is a client like the others.
pub const LEASE_HOLDERS_MAX: u32 = 64;
/// Transactions of the dearest kind, one after the other: each takes some dozens of milliseconds.
pub const DEAR_TRANSACTIONS_MAX: u32 = 1_000;
/// Leases that are kept alive on one stream: each is a client like the others, and all clients of a
/// load, with its readers, are fewer than the numbers between one restore and the next.
pub const KEPT_LEASES_MAX: u32 = 400;
/// Time to live of a holder's leases, where a scenario does not say: etcd grants no less by
/// default.
pub const LEASE_TTL_SECONDS: u32 = 2;
/// Longer leases would not end within a cycle.
pub const LEASE_TTL_SECONDS_MAX: u32 = 60;
/// Each key's history is held by the model; compaction bounds its length, this its number.
pub const KEYS_MAX: u32 = 100_000;
/// Room for an append list's first entries beside the id of the operation that wrote it.
pub const VALUE_BYTES_MIN: u32 = 64;
/// etcd refuses requests above 1.5 MiB; a value above 64 KiB only slows the disk.
pub const VALUE_BYTES_MAX: u32 = 64 * 1024;
/// Keys and values of one transaction: all of it comes back in one answer when its keys are read,
/// and etcd refuses requests above 1.5 MiB.
pub const BLOCK_BYTES_MAX: u64 = 1024 * 1024;
/// Revisions that a compaction leaves, where a scenario does not say: a few hundred milliseconds of
/// history, so that a watch that broke finds where it was, and the store stays small.
pub const COMPACT_KEEP_REVISIONS: u32 = 300;
/// A history of more revisions than this is hundreds of megabytes in every member and in the model.
pub const COMPACT_KEEP_REVISIONS_MAX: u32 = 1_000_000;
/// RocksDB raises a smaller write buffer to this by itself: a smaller number would silently mean
/// another one.
pub const MEMTABLE_BYTES_MIN: u64 = 64 * 1024;
/// Beyond this a memtable never fills within a cycle, so that the flush windows would never be
/// passed.
pub const MEMTABLE_BYTES_MAX: u64 = 64 * 1024 * 1024;

// ---- bounds on the system under test ------------------------------------------------------------

/// Milliseconds for which an armed window may stay unpassed, at least, before the step is a
/// recorded skip, if the load has made its progress by then (`cycle/wait.rs`); and for which the
/// load may stand still. A flush of a small memtable comes every few hundred milliseconds under
/// load; this is ten times that, and cheap enough to wait for.
pub const WINDOW_WAIT_MS_MAX: u64 = 4_000;
/// After as many of these bounds a load that goes on, and is slow, is waited for no longer.
pub const WINDOW_BOUNDS_MAX: u32 = 8;
/// Between two looks at how far the load is.
pub const WINDOW_LOOK_PAUSE: Duration = Duration::from_millis(250);
/// Times the entries that bring a window on average, before it counts as passed by: batches and
/// memtables differ.
pub const WINDOW_DUE_FACTOR: u64 = 2;
/// Bytes that one entry leaves in a memtable at least: its rows' keys and positions, without a
/// value.
pub const MEMTABLE_BYTES_PER_ENTRY_MIN: u64 = 100;
/// Files of one memtable each that RocksDB lets pile up before it compacts them.
pub const FLUSHES_PER_COMPACTION: u64 = 4;
/// A segment of etcd's log.
pub const SEGMENT_BYTES: u64 = 64 * 1024 * 1024;
/// Spawn until serving. Opening takes ~10 ms for the engine and up to ~300 ms for a log of 200,000
/// entries; shared disks stall for up to 150 ms per sync, and a neighbour may take both cores.
pub const RESTART_MS_MAX: u64 = 30_000;
/// Serving until everything the cluster had is applied: measured 0.2–0.6 s, with an election and a
/// snapshot transfer on a busy machine a few seconds.
pub const CATCH_UP_MS_MAX: u64 = 60_000;
/// One fence, from proposal to the last answer; includes an election after a leader was killed.
pub const FENCE_MS_MAX: u64 = 30_000;
/// A connected majority, from the beginning of a cut that leaves one until it acknowledges a write:
/// etcd's leader steps down and another one is elected within 4 s, ours falls silent after three
/// election timeouts, and a neighbour may take both cores.
pub const CUT_WRITE_MS_MAX: u64 = 5_000;
/// A member that is cut off from every quorum, until it ends a watch that requires a leader. An
/// etcd forgets its leader within two of its election timeouts, a second each, and looks for one
/// once a timeout, three times; ours takes three seconds.
pub const LEADERLESS_MS_MAX: u64 = 6_000;
/// Before the end of such a cut, the member is asked for its leader.
pub const LEADERLESS_ASK_LEAD: Duration = Duration::from_millis(500);
/// Until the other members have purged past the log of a member that is kept down.
pub const AWAY_MS_MAX: u64 = 20_000;
/// The observer's watches until they have delivered a fence's revision.
pub const OBSERVE_MS_MAX: u64 = 30_000;
/// One change of the membership, from the first request until an answer or the member list settles
/// it: an election or two may come in between.
pub const MEMBERSHIP: Duration = Duration::from_secs(30);
/// `migrate` on a dead directory: a state of a few hundred keys and their history is a few
/// megabytes.
pub const MIGRATE: Duration = Duration::from_secs(60);
/// One run of `snapshot restore`: as much data, written once, and synced.
pub const RESTORE: Duration = Duration::from_secs(60);
/// A defragmentation of a member's file of some megabytes, beside a load.
pub const DEFRAGMENT: Duration = Duration::from_secs(30);
/// A snapshot saved from a live member: some megabytes over loopback, perhaps after an election.
pub const SAVE: Duration = Duration::from_secs(60);
/// Entries that are applied between a saved snapshot and the kill of all: what a restore has to
/// lose.
pub const RESTORE_LOSES: u64 = 40;
/// Fences per cycle, at least. A fence that a replica skipped (recovery or a snapshot covered it)
/// proves nothing, so another one follows, until this many times the bound of one have passed.
pub const FENCE_TRIES_MAX: u32 = 3;
/// Time for a crowd to come to members that serve; one that was not there by then shows in the
/// report.
pub const CROWD_GATHERS: Duration = Duration::from_secs(15);
/// Skipped fences of a cycle after which the clients rest: about two seconds, so that a member that
/// only lags for a moment is compared under load.
pub const FENCE_TRIES_UNDER_LOAD: u32 = 12;

/// Beyond twice its TTL, how long an unrenewed lease may take to end: the revocation is one
/// write, and on a busy machine an election may come in between.
pub const LEASE_END_MS_MAX: u64 = 30_000;

/// The share of the processor time of the member that evaluates dear transactions that another
/// member may take for them: it applies a write, which costs a hundredth of the reads.
pub const COST_PERCENT_MAX: u64 = 50;
/// Processor time of that member from which on that is judged: the kernel counts in hundredths of
/// a second, and members do other things meanwhile.
pub const COST_CPU_MS_MIN: u64 = 200;

/// Median time until a small message on a long stream is answered (a renewal: since the first that
/// was asked for with it): some milliseconds under load, and many times that where each of some
/// hundreds waits for the one before it.
pub const STREAM_MEDIAN: Duration = Duration::from_millis(100);
/// Answers from which on that is judged: of fewer, those in an election may be half.
pub const STREAM_ANSWERS_MIN: u64 = 200;

/// Between two looks whether leases have ended: each reads what the watches told.
pub const LEASE_PAUSE: Duration = Duration::from_millis(20);

/// Looks at the state at a revision, at least, and until the bound of a fence has passed. A
/// compaction may make each of them worthless: one in fifty under load.
pub const LOOKS_MIN: u32 = 8;
/// Before replicas that disagree are looked at again: many times what a write takes to reach all of
/// them.
pub const SECOND_READING_PAUSE: Duration = Duration::from_millis(500);

// ---- floors below which a run proves nothing ----------------------------------------------------

/// Planned faults that must land. The rest are recorded skips.
pub const LANDED_PERCENT_MIN: u32 = 95;
/// Landed cycles in which something was lost from a memtable, and a replay or a snapshot brought it
/// back. In the others the kill met an engine that had just flushed, and recovery had nothing to
/// do.
pub const BIT_PERCENT_MIN: u32 = 50;
/// Kills from which on that is judged: of fewer, a few that met an engine which had just flushed
/// are most.
pub const BIT_JUDGED_MIN: u64 = 10;
/// Cycles that have to come as far as a fence that all members answer; only a known finding ends
/// one before that, and a run that is nothing but the known bug proves nothing.
pub const VERIFIED_PERCENT_MIN: u32 = 50;
/// A window that was planned this often, and never reached, is a hole in the fault mix; less may be
/// chance.
pub const WINDOW_PLANNED_MIN: u32 = 3;
/// Elections in a hundred cycles whose faults can cause none: more, and the machine is too busy for
/// the run to be worth much, or the members hold up their own heartbeats.
pub const UNFORCED_TERMS_PERCENT_MAX: u32 = 25;
/// Fewer such cycles than this are too few to judge by.
pub const QUIET_CYCLES_MIN: u32 = 20;
/// Kills that a plan schedules beyond a cell's quota, because some of them will be skipped.
pub const QUOTA_MARGIN: u32 = 2;
/// Acknowledged writes per cycle, on average: with less, hardly anything stands between two kills.
pub const ACKED_WRITES_PER_CYCLE_MIN: u64 = 20;
/// Acknowledged writes per second of load: none, because it is the machine's and the target's; a
/// scenario that is made to press says how hard.
pub const WRITES_PER_SECOND_MIN: u64 = 0;
/// Operations of one kind that have to be carried out and not refused, of those that were answered:
/// with less, the mix is not the one that the scenario names.
pub const CARRIED_OUT_PERCENT_MIN: u32 = 50;
/// Answers of one kind of operation from which on that is judged: of fewer, a few bad moments are
/// most.
pub const CARRIED_OUT_JUDGED_MIN: u64 = 20;

// ---- looking for the first wrong entry ----------------------------------------------------------

/// All of it: three watches, three reads, three logs. It comes after a finding, so patience costs
/// nothing but time.
pub const LOCALISE: Duration = Duration::from_secs(45);
/// Until the load has stopped: its requests have bounds of their own, of a few seconds.
pub const LOCALISE_LOAD: Duration = Duration::from_secs(10);
/// Until all members that can have applied the same.
pub const LOCALISE_REST: Duration = Duration::from_secs(5);
/// While no client writes, a watch that has delivered nothing for this long has delivered
/// everything: it reads tens of thousands of rows a second.
pub const LOCALISE_SILENCE: Duration = Duration::from_millis(700);
/// The search for the missing sync behind a finding after a power loss: a few dozen inspections.
pub const MISSING_SYNC: Duration = Duration::from_secs(120);
/// Crash states that this search tries; one cause among a thousand operations takes about forty.
pub const MISSING_SYNC_STATES_MAX: u64 = 300;
/// Crash states to explore at one cut: an hour at most, on a machine that tries three in a second.
pub const EXPLORE_MAX: u32 = 10_000;
/// States that are tried side by side for each core: most of a start is waiting for its syncs.
pub const EXPLORED_PER_CORE: usize = 4;
/// Draws for each distinct state that is wanted: an instant with few operations has few states.
pub const DRAWS_PER_STATE_MAX: u64 = 2;
/// Lost changes that a conclusion names one by one.
pub const LOST_OPERATIONS_LISTED_MAX: usize = 8;
/// Entries of the raft log that are shown on each side of the wrong one.
pub const EXCERPT_ENTRIES: u64 = 4;
/// Keys that are shown.
pub const WRONG_KEYS_MAX: usize = 6;

// ---- the harness's own mechanics ----------------------------------------------------------------

/// After a SIGKILL the kernel ends a process within milliseconds; one in an uninterruptible disk
/// wait may take longer. Past this the machine, not the system under test, is the matter.
pub const DEATH: Duration = Duration::from_secs(20);
/// One control request that answers at once.
pub const CONTROL_REQUEST: Duration = Duration::from_secs(5);
/// Establishing a control connection on loopback.
pub const CONTROL_CONNECT: Duration = Duration::from_secs(5);
/// Between two attempts to propose a fence while there is no leader: an election takes 100–150 ms,
/// so a tenth of it loses nothing.
pub const FENCE_RETRY_PAUSE: Duration = Duration::from_millis(15);
/// The longest pause before another fence, or another look, after one that proved nothing. A
/// snapshot or a compaction covered it, and these come a few times a second.
pub const FENCE_RETRY_PAUSE_MAX: Duration = Duration::from_millis(250);
/// Between two reads at a healed member that answers with an error: an election takes 100 ms and
/// more.
pub const SECOND_LOOK_RETRY_PAUSE: Duration = Duration::from_millis(50);
/// Between two requests to change the membership, when the first was refused for now.
pub const MEMBERSHIP_RETRY_PAUSE: Duration = Duration::from_millis(20);
/// Between two looks for a leader when a member that could be asked knows none.
pub const LEADER_RETRY_PAUSE: Duration = Duration::from_millis(15);
/// Time for the cluster to elect a leader before a step that needs one is skipped.
pub const LEADER_WAIT: Duration = Duration::from_secs(10);
/// The applied-index follower asks for the next this-many entries at once: small enough for a tight
/// lower bound of what a kill takes away, large enough to cost two requests per hundred entries at
/// most.
pub const APPLIED_STRIDE: u64 = 24;
/// Between two readings of an index that is followed by asking (a purge that has no event of its
/// own).
pub const PURGE_RETRY_PAUSE: Duration = Duration::from_millis(20);
/// One inspection of a copied directory: an engine open and a log open.
pub const INSPECT: Duration = Duration::from_secs(30);
/// Bytes that an inspection may print; its JSON is a few hundred bytes.
pub const INSPECT_BYTES_MAX: u64 = 64 * 1024;
/// One start of a member alone: it opens, replays what its log has saved as committed, and ends.
pub const START_ALONE: Duration = Duration::from_secs(30);
/// Bytes that it may print; its account is a few hundred, and its log a few lines.
pub const START_ALONE_BYTES_MAX: u64 = 1024 * 1024;
/// One line of a node's event pipe.
pub const EVENT_LINE_BYTES_MAX: usize = 4 * 1024;
/// Asking a binary for its `--version`.
pub const VERSION: Duration = Duration::from_secs(5);
/// Entries that a kill at an applied index lies ahead of the moment of planning it.
pub const APPLIED_AHEAD_MAX: u64 = 200;
/// Milliseconds that a kill at a time lies ahead of the beginning of its cycle: the span of a few
/// flushes.
pub const TIME_AHEAD_MS_MAX: u64 = 300;
/// Entries ahead that a plan written by hand may ask for; a greater number is a slip of the finger.
pub const PLAN_AHEAD_MAX: u64 = 1_000_000;
/// Milliseconds ahead that a plan written by hand may ask for.
pub const PLAN_TIME_MS_MAX: u64 = 600_000;
/// Milliseconds that a drawn pause lasts: from above the longest election timeout (150 ms), so that
/// the others elect, to a few elections.
pub const PAUSE_MS_DRAWN: (u64, u64) = (200, 800);
/// Milliseconds that a drawn disturbance of links lasts. Beside a kill it lasts the lower bound
/// longer, so that the restart falls into it.
pub const NETWORK_MS_DRAWN: (u64, u64) = (300, 1_000);
/// Milliseconds by which a drawn disturbance delays: from a delay without effect to one that makes
/// a heartbeat late.
pub const DELAY_MS_DRAWN: (u64, u64) = (2, 60);
/// Further kills that are drawn for one member: three deaths in a row in its recovery.
pub const AGAIN_DRAWN_MAX: usize = 3;
/// Faults that one step of a plan may join: more at once cannot be interpreted.
pub const PLAN_FAULTS_MAX: usize = 4;
/// Kills that a step may add to its first one, each in the next life: after four in a row a fifth
/// meets nothing new.
pub const PLAN_AGAIN_MAX: usize = 4;
/// Milliseconds that a plan may let a member stand still: below [`CONTROL_REQUEST`], so that a
/// request to the member does not time out.
pub const PLAN_PAUSE_MS_MAX: u64 = 3_000;
/// Milliseconds that a plan may disturb the peer links: several elections, and well below the
/// bounds on what comes after.
pub const PLAN_NETWORK_MS_MAX: u64 = 10_000;
/// Least share of the planned damages that have to change a file, percent. A file may not be there
/// yet, and a chunk may never have been another one.
pub const DAMAGED_PERCENT_MIN: u32 = 60;

/// Milliseconds that strangers stay, where a scenario does not say: from a few heartbeats of the
/// others (50 ms) to a round of greetings (1 s) and an election among themselves.
pub const STRANGERS_MS_DRAWN: (u64, u64) = (300, 1_500);
/// Milliseconds that a plan may let strangers stay: the dead members are away for as long.
pub const PLAN_STRANGERS_MS_MAX: u64 = 10_000;
/// Foreign keys of a stranger that a finding names. A stranger that was let in has a whole store.
pub const FOREIGN_KEYS_NAMED: usize = 8;
/// Milliseconds that a plan may delay what passes a link; an election's timeout is below that.
pub const PLAN_DELAY_MS_MAX: u64 = 500;
/// Milliseconds that a plan may keep a disk full: the members go on within the bounds on what comes
/// after.
pub const PLAN_FILL_MS_MAX: u64 = 5_000;
/// KiB that a plan may leave on a full disk, from and to. A node's reserve covers what is under way
/// when writes stop: a few MiB at the loads of scenarios. With more than the upper bound no member
/// would be short.
pub const PLAN_LEFT_KIB: (u64, u64) = (4 << 10, 128 << 10);
/// Milliseconds that a drawn shortage lasts: some dozens of heartbeats, by which members hear of
/// each other's shortage.
pub const FILL_MS_DRAWN: (u64, u64) = (500, 1_500);
/// Milliseconds that a plan may keep a disk slow.
pub const PLAN_SLOW_MS_MAX: u64 = 5_000;
/// Milliseconds by which a plan may delay a sync: beyond an election timeout, because heartbeats do
/// not wait for the disk.
pub const PLAN_SLOW_BY_MS_MAX: u64 = 300;
/// Milliseconds by which syncs of a disk that is drawn to be slow take longer at most.
pub const SLOW_BY_MS_DRAWN: (u64, u64) = (5, 80);
/// Milliseconds for which a plan may have reads and writes fail, or be short.
pub const PLAN_FAIL_MS_MAX: u64 = 5_000;
/// Greatest pass of a read or a write that a plan may have fail: under load hundreds come within
/// seconds.
pub const PLAN_FAIL_HIT_MAX: u64 = 1_000;
/// Milliseconds for which reads and writes are drawn to fail: a member that ends of them is started
/// again while they still do.
pub const FAIL_MS_DRAWN: (u64, u64) = (100, 800);
/// Milliseconds until a read or a write has to come, so that it can fail: beside a kill, until the
/// member has been inspected and has started again.
pub const DISK_MEET_MS_MAX: u64 = 8_000;
/// Milliseconds until a sync has to come, so that it can fail: under load one comes every few
/// milliseconds.
pub const DISK_HIT_MS_MAX: u64 = 3_000;
/// Time within which a member has to end after a sync that failed. The requests that it still reads
/// for may take five seconds of it.
pub const DISK_END: Duration = Duration::from_secs(15);
/// KiB that a drawn shortage leaves.
pub const LEFT_KIB_DRAWN: (u64, u64) = (4 << 10, 16 << 10);
/// Between two writes at a majority that was cut off from a leader, while it refuses them.
pub const CUT_RETRY_PAUSE: Duration = Duration::from_millis(20);
/// Lead of the write to the others before the end of a pause or a disturbance: a committed write
/// takes a few milliseconds, on a busy disk a few dozen.
pub const PROBE_WRITE_LEAD: Duration = Duration::from_millis(100);
/// Lead of the reads from the victims before the end of a pause or a disturbance: sending takes
/// well below a millisecond, and the shorter the lead, the newer are the writes that a stale answer
/// would miss.
pub const PROBE_LEAD: Duration = Duration::from_millis(15);
/// Time after that end during which the reads go on: a heartbeat of the new leader reaches the
/// victim within one interval of 30 ms, and ends its belief.
pub const PROBE_TAIL: Duration = Duration::from_millis(40);
/// With more entries kept than this, a member that is away is caught up from the log within its
/// bound, and no snapshot is ever sent: at ~1,500 writes per second this is about three seconds of
/// load.
pub const KEEP_ENTRIES_FOR_SNAPSHOTS_MAX: u64 = 5_000;
/// A broken connection is often the first news of a process's death; the kernel's own follows
/// within this.
pub const DEATH_NEWS: Duration = Duration::from_secs(2);
/// A last reading of the applied index before a kill. It only sharpens a lower bound, so it must
/// not delay the kill.
pub const LAST_READING: Duration = Duration::from_millis(100);
/// Between two questions to a member that is known by its API alone, while it does not serve yet:
/// it takes 60 ms at the least.
pub const SERVES_RETRY_PAUSE: Duration = Duration::from_millis(3);
/// Between two questions to such a member about an index that it has not applied yet: a few writes
/// at the fastest.
pub const APPLIED_RETRY_PAUSE: Duration = Duration::from_millis(5);
/// Keys that one answer of a full read holds: with the largest values 64 MiB.
pub const ROWS_PER_PAGE: i64 = 1_000;
/// Reading all keys of a member once, at the end: a few hundred keys, or a few ten thousand.
pub const LAST_READ: Duration = Duration::from_secs(30);
/// Known findings of one signature that are written down as such in each cycle: all are counted,
/// and the evidence that leads to each is in the history anyway. A diverged store answers thousands
/// of reads wrongly in a cycle.
pub const KNOWN_WRITTEN_PER_CYCLE_MAX: u32 = 20;
/// One page of a full read, or one message of a watch that catches up, which may hold a thousand
/// revisions: gRPC's own limit of 4 MiB is that of one request. It is a bound, and no memory before
/// it is filled.
pub const ANSWER_BYTES_MAX: usize = 1024 * 1024 * 1024;
/// Findings printed at the end of a run; the report has them all.
pub const FINDINGS_PRINTED_MAX: usize = 10;
/// Steps of the linearizability search on one key at one fence, ~0.2 µs each. Revisions make it a
/// few steps per answer, so this is a hundred times what a busy key needs; a count and not a time,
/// so that a run judged again offline ends the same.
pub const LINEARIZABILITY_STEPS_MAX: u64 = 2_000_000;
/// Explanations of one key's history that are kept apart at a time, ~150 bytes each: a few
/// megabytes, then the key is given up.
pub const LINEARIZABILITY_CONFIGS_MAX: usize = 20_000;
/// Revisions that a fresh watch on a restarted member goes back, at most: a few milliseconds of
/// load, and about as many as a compaction keeps.
pub const RESUMED_REVISIONS_MAX: u64 = 200;
/// Revisions that are still to come when a client opens a watch and ends its own side of the
/// stream.
pub const HALF_CLOSED_REVISIONS: u64 = 5;
/// Watches of some of the keys, on one stream of a restarted member: their many edges are where a
/// change of several keys concerns a watch with one key that is not the first.
pub const LIVE_WATCHES: u32 = 16;
/// Revisions that are still to come when they are opened: some concern them.
pub const LIVE_REVISIONS: u64 = 20;
/// Until revisions that are still to come have come: the load makes hundreds in a second.
pub const NEWS: Duration = Duration::from_millis(500);
/// A fresh watch, or read, on a healed member: milliseconds where nothing is wrong, an election or
/// two on a machine that is busy.
pub const SECOND_LOOK: Duration = Duration::from_secs(30);
/// Readings of one member that are kept until its cycle is verified: its applied index is followed
/// with about sixty a second.
pub const READINGS_MAX: usize = 4_096;

// ---- the machine ---------------------------------------------------------------------------

/// Between two looks at what the machine has left: a statvfs and three small files, some 20 µs; a
/// disk is rarely full for less.
pub const MACHINE_LOOK_PAUSE: Duration = Duration::from_millis(20);
/// Below this the disk is short: a database makes room in pieces of some megabytes, which fail
/// before the last byte is taken.
pub const DISK_LOW_BYTES: u64 = 16 * 1024 * 1024;
pub const DISK_LOW_INODES: u64 = 100;
/// Below this it is full: not even a history's lines find room for long.
pub const DISK_FULL_BYTES: u64 = 128 * 1024;
/// Percentage of the system's file table in use from which on it counts as short.
pub const FILE_TABLE_PERCENT: u64 = 95;
/// For how long a shortage that is over explains what a member does: a failed write ends a process
/// at once, or the requests that wait for it once their bounds are over.
pub const SHORTAGE_AFTERMATH: Duration = Duration::from_secs(60);
/// Room for a member's last words, which is taken from the disk before it is started, …
pub const LAST_WORDS_BYTES: u64 = 64 * 1024;
/// … and how many of them are looked at.
pub const LAST_WORDS_READ: u64 = 16 * 1024;
/// Characters of a member's last line that a finding quotes.
pub const REMARK_CHARS_MAX: usize = 300;
/// Room for `verdict.json` and for `junit.xml` that is taken before a run begins: for what is there
/// without a cycle, …
pub const REPORT_BYTES: u64 = 512 * 1024;
/// … and for each cycle.
pub const REPORT_BYTES_PER_CYCLE: u64 = 2 * 1024;

// ---- the machine's pace --------------------------------------------------------------------

/// The floor of a cycle (see `pace.rs`) where the bounds in this file were measured: beside one run
/// of `smoke.toml` on two cores that did nothing else, 43 ms on average: 36 ms for the burst, 5 ms
/// for the syncs and 2 ms for the round trips. Before a run it is 9 ms; beside a load of 8 as well,
/// 110 ms.
pub const FLOOR_REFERENCE: Duration = Duration::from_millis(40);
/// The processor time in that floor: more than two slices of the scheduler, so that a competing
/// thread has to wait for others.
pub const FLOOR_BURST: Duration = Duration::from_millis(8);
/// Syncs of one page in a floor, …
pub const FLOOR_SYNCS: u32 = 2;
/// … and round trips over the loopback.
pub const FLOOR_TRIPS: u32 = 8;
/// After this a round trip over the loopback is given up, and counts as what it took.
pub const FLOOR_TRIP_MAX: Duration = Duration::from_secs(5);
/// Between two measurements: each keeps a core busy for [`FLOOR_BURST`], 2 % of it in this rhythm.
pub const PACE_PAUSE: Duration = Duration::from_millis(500);
/// Measurements whose mean is the pace: those of the last two seconds. One slow sync does not make
/// a busy machine.
pub const PACE_SAMPLES: usize = 4;
/// The most by which a bound is stretched. A machine that is slower still is of no use, and without
/// an end a member that hangs would never be late.
pub const PACE_FACTOR_MAX: f64 = 8.0;

// ---- the fault filesystem -----------------------------------------------------------------------

/// Chances of survival, in percent: a cut that does not lose everything draws one of them.
pub const KEEP_PERCENT_DRAWN: [u32; 4] = [10, 50, 90, 100];
/// Threads that serve one mount: a sync below takes milliseconds, and beside it a server writes its
/// log, its state and reads.
pub const FAULTFS_THREADS: usize = 4;
/// Time for which the kernel may cache names and attributes: the directory is changed only through
/// the mount.
pub const KERNEL_REMEMBERS: Duration = Duration::from_secs(3600);
/// Dead mounts over one directory: one for each time that a run was killed and resumed.
pub const STALE_MOUNTS_MAX: u32 = 100;

// ---- many runs ----------------------------------------------------------------------------------

/// Runs side by side that a shrinker or a table of planted bugs starts by itself: a cluster keeps
/// about a core busy, and with more than a few of them the disk's syncs, not the processors, are
/// what they wait for.
pub const LANES_MAX: usize = 4;
/// Replays of one report: more tell no more about how often it fails than this many do (to within 3
/// %).
pub const REPLAYS_MAX: u32 = 1_000;
/// Minutes that a shrinker may be given: a working day.
pub const SHRINK_MINUTES_MAX: u32 = 480;
/// Runs of a shrinker's search: a search that needs more has a failure before it that is too rare
/// to shrink.
pub const SHRINK_PROBES: u32 = 400;
/// Runs of the whole plan in which a failure has to come back once, or there is nothing to shrink:
/// at least, whatever they take, …
pub const SHRINK_START_TRIES: u32 = 8;
/// … and at most, while a quarter of the time is not over: what comes back more rarely is not
/// shrunk in any time.
pub const SHRINK_START_TRIES_MAX: u32 = 40;
/// Divisor of the time that a window may stay unpassed: under less load a wait up to that share is
/// accepted, however short the wait under all of the load was.
pub const SHRINK_WAIT_SHARE: u32 = 8;
/// Runs that confirm what a shrinker found: nine of ten have to fail again. What fails in four of
/// five only, passes here in three of eight times.
pub const SHRINK_CONFIRMING_RUNS: u32 = 10;
/// A probe that takes this many times as long as the longest that failed will not fail as that one
/// did.
pub const SHRINK_PROBE_FACTOR: u32 = 4;
/// But it is always given this long: a launch on a busy machine takes seconds.
pub const SHRINK_PROBE_MIN: Duration = Duration::from_secs(20);
/// Cycles within which a planted bug has to be caught, in the median and at most: a developer waits
/// for the first, a night bears the second.
pub const MUTANT_MEDIAN_CYCLES_MAX: u32 = 50;
pub const MUTANT_CYCLES_MAX: u32 = 300;
/// Seeds that a planted bug is tried with if a window pins it: with 20 of 20 caught, it is missed
/// in less than 14 % (95 %).
pub const MUTANT_SEEDS_PINNED: u32 = 20;
/// And if not: each run may be long.
pub const MUTANT_SEEDS: u32 = 5;
/// One run of a planted bug: 300 cycles of two seconds each are ten minutes.
pub const MUTANT_RUN: Duration = Duration::from_secs(30 * 60);
