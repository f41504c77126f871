//! The claims of the module, on a real file. `claim_n` is the n-th of them.

use super::*;
use crate::types::{Blob, RawPayload, RawSnapshot, SnapshotData};
use futures_util::{Stream, StreamExt};
use openraft::Vote;
use openraft::storage::{EntryResponder, RaftLogReader, RaftLogStorageExt, RaftSnapshotBuilder, RaftStateMachine};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::type_config::TypeConfigExt;
use openraft::type_config::alias::OneshotReceiverOf;
use std::sync::atomic::{AtomicBool, Ordering};
use tempfile::TempDir;

fn id(term: u64, index: u64) -> LogId {
    LogId::new(term, index)
}

fn raw(term: u64, index: u64) -> RawEntry {
    RawEntry { log_id: raw_log_id(id(term, index)), payload: RawPayload::Normal(Blob(vec![term as u8; 32].into())) }
}

fn open() -> (TempDir, LogStore) {
    let dir = tempfile::tempdir().unwrap();
    let log = LogStore::open(dir.path(), 7).unwrap();
    (dir, log)
}

async fn append(log: &LogStore, term: u64, indexes: std::ops::RangeInclusive<u64>) {
    let entries = indexes.map(|index| raw(term, index));
    RaftLogStorageExt::<TypeConfig>::blocking_append(&mut log.clone(), entries).await.unwrap();
}

/// Appends without waiting; the receiver hears when it is flushed.
async fn append_later(log: &LogStore, term: u64, index: u64) -> OneshotReceiverOf<TypeConfig, io::Result<()>> {
    let (flushed, receiver) = TypeConfig::oneshot();
    log.clone().append([raw(term, index)], IOFlushed::signal(flushed)).await.unwrap();
    receiver
}

fn indexes(log: &LogStore) -> Vec<u64> {
    log.read_range(0, u64::MAX).unwrap().iter().map(|entry| entry.log_id.index).collect()
}

fn marks(n: u64, e: u64) -> Arc<Watermarks> {
    Arc::new(Watermarks::at_start(Some(id(1, n)), Some(id(1, e)), None))
}

/// Waits until the disk is purged up to `index`.
async fn purged(log: &LogStore, index: u64) {
    let disk = log.inner.shared.lock().purged_on_disk.map(|id| id.index);
    if disk < Some(index) {
        // A waiter is answered after the chunk that reaches it.
        let (done, receiver) = oneshot::channel();
        log.inner.shared.lock().purge_waiters.push((index, done));
        log.inner.shared.work.notify_all();
        receiver.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn claim_1_flushes_are_announced_in_order_and_after_durable() {
    let (_dir, log) = open();
    let mut waiting = Vec::new();
    for index in 0..500 {
        waiting.push(append_later(&log, 1, index).await);
    }
    for (index, mut flushed) in waiting.into_iter().enumerate() {
        (&mut flushed).await.unwrap().unwrap();
        assert!(*log.durable().borrow() >= Some(index as u64), "announced before durable said so");
    }
    assert_eq!(log.facts().durable, Some(499));
}

#[tokio::test]
async fn claim_1_everything_written_is_there_after_reopening() {
    let (dir, log) = open();
    append(&log, 1, 0..=9).await;
    log.clone().save_vote(&Vote::new_committed(2, 3)).await.unwrap();
    log.clone().save_committed(Some(raw_log_id(id(1, 7)))).await.unwrap();
    let before = log.facts();
    assert!(matches!(LogStore::open(dir.path(), 7), Err(LogError::InUse(_))));
    drop(log);
    assert_eq!(LogFacts::read(dir.path()).unwrap(), before);
    let log = LogStore::open(dir.path(), 7).unwrap();
    assert_eq!(log.facts(), before);
    assert_eq!(before.vote, Some(VoteFacts { term: 2, node_id: 3, committed: true }));
    assert_eq!((before.first, before.last, before.committed), (Some(0), Some(id(1, 9)), Some(id(1, 7))));
    assert_eq!(log.log_id(4).unwrap(), Some(id(1, 4)));
    assert_eq!(log.log_id(10).unwrap(), None);
    assert_eq!(log.clone().try_get_log_entries(3..5).await.unwrap(), [raw(1, 3), raw(1, 4)]);
    log.sync_leftovers().unwrap();
}

#[tokio::test]
async fn facts_of_no_log_are_an_error_and_make_none() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(LogFacts::read(dir.path()), Err(LogError::Missing(_))));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

/// The rewritten entries are in memory at once; `durable` must not count them, nor the old ones,
/// before their fsync.
#[tokio::test]
async fn claim_2_truncation_lowers_durable_when_it_is_queued() {
    let (_dir, log) = open();
    append(&log, 1, 0..=9).await;
    let truncated = log.inner.shared.truncate_after(Some(id(1, 5))).unwrap();
    assert!(*log.durable().borrow() <= Some(5));
    truncated.await.unwrap().unwrap();
    let flushed = append_later(&log, 2, 6).await;
    flushed.await.unwrap().unwrap();
    assert_eq!(*log.durable().borrow(), Some(6));
    assert_eq!(log.log_id(6).unwrap(), Some(id(2, 6)));
    assert_eq!(indexes(&log), [0, 1, 2, 3, 4, 5, 6]);
}

/// A reader looks at what is published whenever the lock is free, while the log's end goes up and
/// down.
#[tokio::test]
async fn claim_2_durable_is_never_published_above_the_logs_end() {
    let (_dir, log) = open();
    append(&log, 1, 0..=9).await;
    let over = Arc::new(AtomicBool::new(false));
    let reader = std::thread::spawn({
        let (log, over) = (log.clone(), Arc::clone(&over));
        move || {
            let published = log.durable();
            while !over.load(Ordering::Relaxed) {
                let state = log.inner.shared.lock();
                let (durable, last) = (*published.borrow(), state.last.map(|id| id.index));
                assert!(durable <= last, "durable through {durable:?}, the log ends at {last:?}");
            }
        }
    });
    for term in 2..=60 {
        append(&log, term, 10..=19).await;
        log.inner.shared.truncate_after(Some(id(1, 9))).unwrap().await.unwrap().unwrap();
    }
    over.store(true, Ordering::Relaxed);
    reader.join().unwrap();
}

/// The I/O thread finishes an append while a truncation that takes part of it back is already
/// queued.
#[tokio::test]
async fn claim_2_a_finished_append_does_not_raise_durable_over_a_queued_truncation() {
    let (_dir, log) = open();
    append(&log, 1, 0..=9).await;
    let shared = &log.inner.shared;
    {
        // As `truncate_after` leaves it while the thread is still busy with the append.
        let mut state = shared.lock();
        let (done, _receiver) = oneshot::channel();
        state.queue.push_back(shared::Op::Truncate { from: 4, done });
        state.durable = Some(3);
    }
    shared.written(Some(9));
    assert_eq!(log.facts().durable, Some(3));
    shared.lock().queue.clear();
}

/// An append still waits while an installed snapshot purges the log beyond it: what is left must
/// not end before it begins.
#[tokio::test]
async fn an_append_that_a_purge_has_overtaken_is_not_written() {
    let (dir, log) = open();
    append(&log, 1, 0..=10).await;
    let (flushed, heard) = TypeConfig::oneshot();
    {
        let mut state = log.inner.shared.lock();
        let entries = (11..=20).map(|index| raw(1, index)).collect();
        state.queue.push_back(shared::Op::Append { entries, done: IOFlushed::signal(flushed) });
        state.purge_target = Some(id(2, 50));
    }
    log.inner.shared.work.notify_all();
    heard.await.unwrap().unwrap();
    purged(&log, 50).await;
    drop(log);
    let facts = LogStore::open(dir.path(), 7).unwrap().facts();
    assert_eq!((facts.first, facts.last, facts.last_purged), (None, Some(id(2, 50)), Some(id(2, 50))));
}

#[tokio::test]
async fn claim_3_entries_are_readable_before_they_are_durable() {
    let (_dir, log) = open();
    let flushed = append_later(&log, 1, 0).await;
    assert_eq!(log.clone().try_get_log_entries(0..1).await.unwrap(), [raw(1, 0)]);
    flushed.await.unwrap().unwrap();
}

#[tokio::test]
async fn an_append_that_would_leave_a_hole_is_refused() {
    let (_dir, log) = open();
    append(&log, 1, 0..=2).await;
    let (flushed, _receiver) = TypeConfig::oneshot();
    let error = log.clone().append([raw(1, 4)], IOFlushed::signal(flushed)).await.unwrap_err();
    assert!(error.to_string().contains("expected index 3, found 4"), "{error}");
}

#[tokio::test]
async fn claim_4_a_purge_stops_at_n_and_goes_on_when_n_grows() {
    let (dir, log) = open();
    append(&log, 1, 0..=1999).await;
    let marks = marks(600, 1999);
    log.attach(marks.clone());
    RaftLogStorage::purge(&mut log.clone(), raw_log_id(id(1, 1500))).await.unwrap();
    purged(&log, 600).await;
    assert_eq!(log.facts().last_purged, Some(id(1, 600)));
    assert_eq!(log.facts().first, Some(601));
    marks.persisted(id(1, 1000));
    log.recheck_purge();
    purged(&log, 1000).await;
    assert_eq!(log.facts().last_purged, Some(id(1, 1000)));
    marks.persisted(id(1, 1900));
    log.recheck_purge();
    purged(&log, 1500).await;
    drop(log);
    let facts = LogFacts::read(dir.path()).unwrap();
    assert_eq!((facts.first, facts.last_purged, facts.last), (Some(1501), Some(id(1, 1500)), Some(id(1, 1999))));
}

#[tokio::test]
async fn claim_4_a_log_without_n_is_not_purged() {
    let (_dir, log) = open();
    append(&log, 1, 0..=9).await;
    log.attach(Arc::new(Watermarks::at_start(None, Some(id(1, 9)), None)));
    RaftLogStorage::purge(&mut log.clone(), raw_log_id(id(1, 5))).await.unwrap();
    append(&log, 1, 10..=10).await;
    assert_eq!(log.facts().last_purged, None);
    assert_eq!(indexes(&log).len(), 11);
}

#[tokio::test]
async fn claim_4_a_snapshot_beyond_the_log_restarts_it_there() {
    let (dir, log) = open();
    append(&log, 1, 0..=9).await;
    let purging = log.clone();
    tokio::task::spawn_blocking(move || purging.purge_through_blocking(id(3, 50))).await.unwrap().unwrap();
    assert_eq!(*log.durable().borrow(), Some(50));
    append(&log, 3, 51..=53).await;
    assert_eq!(indexes(&log), [51, 52, 53]);
    assert_eq!(log.log_id(50).unwrap(), Some(id(3, 50)));
    drop(log);
    let log = LogStore::open(dir.path(), 7).unwrap();
    assert_eq!(indexes(&log), [51, 52, 53]);
    assert_eq!(log.facts().last_purged, Some(id(3, 50)));
}

/// A saved commit position beyond the log would keep raft from starting.
#[tokio::test]
async fn claim_5_the_commit_position_stays_within_the_log() {
    let (dir, log) = open();
    append(&log, 1, 0..=9).await;
    log.clone().save_committed(Some(raw_log_id(id(1, 20)))).await.unwrap();
    assert_eq!(log.facts().committed, None);
    log.clone().save_committed(Some(raw_log_id(id(1, 8)))).await.unwrap();
    log.drop_after(Some(id(1, 4))).await.unwrap();
    drop(log);
    assert_eq!(LogFacts::read(dir.path()).unwrap().committed, Some(id(1, 4)));
}

/// The first life is the one that counts, across a restart as well, and this log's own one is drawn
/// once.
#[tokio::test]
async fn claim_6_the_first_life_of_a_member_is_remembered() {
    let (dir, log) = open();
    assert_eq!((log.incarnation(), log.known_incarnation(2)), (7, None));
    let (first, second) = tokio::join!(log.meet(2, 20), log.meet(2, 21));
    assert_eq!((first.unwrap(), second.unwrap()), (20, 20));
    assert_eq!(log.meet(30, 300).await.unwrap(), 300);
    drop(log);
    let log = LogStore::open(dir.path(), 8).unwrap();
    assert_eq!((log.incarnation(), log.known_incarnation(2), log.known_incarnation(30)), (7, Some(20), Some(300)));
    assert_eq!(log.meet(2, 21).await.unwrap(), 20);
}

#[tokio::test]
async fn claim_6_the_first_cluster_is_remembered() {
    let (dir, log) = open();
    assert_eq!(log.cluster(), None);
    let (first, second) = tokio::join!(log.join(40), log.join(41));
    assert_eq!((first.unwrap(), second.unwrap(), log.cluster()), (40, 40, Some(40)));
    drop(log);
    let log = LogStore::open(dir.path(), 8).unwrap();
    assert_eq!((log.cluster(), log.join(41).await.unwrap()), (Some(40), 40));
}

/// A log that was made before there were incarnations gets one, and keeps it.
#[tokio::test]
async fn claim_6_an_old_log_gets_an_incarnation_when_it_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::open(dir.path(), Some(7)).unwrap();
    disk.transact(|changes| changes.forget_incarnation(), || {}).unwrap();
    assert_eq!(disk.found().unwrap().incarnation, None);
    drop(disk);
    for drawn in [9, 10] {
        assert_eq!(LogStore::open(dir.path(), drawn).unwrap().incarnation(), 9);
    }
}

#[tokio::test]
async fn a_closed_log_refuses_writes_instead_of_losing_them() {
    let (_dir, log) = open();
    log.close();
    let (flushed, _receiver) = TypeConfig::oneshot();
    assert!(log.clone().append([raw(1, 0)], IOFlushed::signal(flushed)).await.is_err());
    assert!(log.clone().save_vote(&Vote::new(1, 1)).await.is_err());
}

#[tokio::test]
async fn one_message_is_bounded_in_bytes() {
    let (_dir, log) = open();
    let big = |index| RawEntry {
        log_id: raw_log_id(id(1, index)),
        payload: RawPayload::Normal(Blob(vec![0; 3 << 20].into())),
    };
    RaftLogStorageExt::<TypeConfig>::blocking_append(&mut log.clone(), (0..12).map(big)).await.unwrap();
    // From disk (older) and from memory (newer).
    for first in [0, 10] {
        let read = log.clone().limited_get_log_entries(first, 12).await.unwrap();
        assert_eq!(read.iter().map(|entry| entry.log_id.index).collect::<Vec<_>>(), [first, first + 1]);
    }
}

/// The library's own storage suite, with a state machine that is just enough for it.
#[tokio::test]
async fn the_librarys_storage_suite() {
    Suite::<TypeConfig, LogStore, Memory, Builder, TempDir>::test_all(Builder).await.unwrap();
}

struct Builder;

impl StoreBuilder<TypeConfig, LogStore, Memory, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, Memory), openraft::StorageError<TypeConfig>> {
        let (dir, log) = open();
        Ok((dir, log, Memory::default()))
    }
}

#[derive(Default, Clone)]
struct Memory {
    applied: Option<RawLogId>,
    membership: crate::types::RawMembership,
    snapshot: Option<RawSnapshot>,
}

impl RaftStateMachine<TypeConfig> for Memory {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> io::Result<(Option<RawLogId>, crate::types::RawMembership)> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + Send,
    {
        while let Some(item) = entries.next().await {
            let (entry, responder) = item?;
            if let RawPayload::Membership(membership) = entry.payload {
                self.membership = crate::types::RawMembership::new(Some(entry.log_id), membership);
            }
            self.applied = Some(entry.log_id);
            if let Some(responder) = responder {
                responder.send(Blob::default());
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        let meta =
            crate::types::RawSnapshotMeta { last_log_id: self.applied, last_membership: self.membership.clone() };
        self.snapshot = Some(RawSnapshot { meta, snapshot: SnapshotData::Staged });
        self.clone()
    }

    async fn install_snapshot(&mut self, meta: &crate::types::RawSnapshotMeta, data: SnapshotData) -> io::Result<()> {
        (self.applied, self.membership) = (meta.last_log_id, meta.last_membership.clone());
        self.snapshot = Some(RawSnapshot { meta: meta.clone(), snapshot: data });
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<RawSnapshot>> {
        Ok(self.snapshot.clone())
    }
}

impl RaftSnapshotBuilder<TypeConfig> for Memory {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> io::Result<RawSnapshot> {
        self.snapshot.clone().ok_or_else(|| io::Error::other("no snapshot"))
    }
}

/// Pages of two places or moments are mixed, as a misdirected write or a power loss leaves them.
/// redb would panic on some of them if it did not verify the file when it opens it.
#[tokio::test]
async fn a_page_in_the_place_of_another_ends_in_words() {
    let (dir, log) = open();
    append(&log, 1, 1..=40).await;
    drop(log);
    let path = dir.path().join("raft-log.redb");
    let whole = std::fs::read(&path).unwrap();
    let sound = LogFacts::read(dir.path()).unwrap();
    let pages = (whole.len() / PAGE).min(12);
    let mut refused = 0;
    for (from, to) in (0..pages).flat_map(|from| (0..pages).map(move |to| (from, to))) {
        let mut damaged = whole.clone();
        damaged.copy_within(from * PAGE..(from + 1) * PAGE, to * PAGE);
        std::fs::write(&path, &damaged).unwrap();
        match LogFacts::verify(dir.path()) {
            Ok(facts) => assert_eq!(facts, sound, "page {from} at {to}"),
            Err(LogError::Unreadable { path: named, .. }) => {
                assert_eq!(named, path);
                refused += 1;
            }
            Err(error) => panic!("page {from} at {to}: {error}"),
        }
    }
    assert!(refused > pages, "{refused}: hardly any mixture was refused, so that the test proves nothing");
}

const PAGE: usize = 4096;

/// The directory as a kill leaves it: copied while the log is open.
fn killed(dir: &TempDir) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    for name in ["raft-log.redb", "raft-log.commits"] {
        std::fs::copy(dir.path().join(name), copy.path().join(name)).unwrap();
    }
    copy
}

/// redb opens the commit before the last where the last does not verify.
#[tokio::test]
async fn claim_7_a_log_whose_last_commit_is_damaged_is_refused() {
    let (dir, log) = open();
    append(&log, 1, 0..=9).await;
    append(&log, 1, 10..=12).await;
    let last = Some(id(1, 12));
    assert_eq!(LogStore::open(killed(&dir).path(), 7).unwrap().facts().last, last);
    let mut forgotten = 0;
    // The header, and both of redb's commit slots.
    for at in (0..320).step_by(5) {
        let copy = killed(&dir);
        let path = copy.path().join("raft-log.redb");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[at] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        match LogStore::open(copy.path(), 7) {
            Ok(log) => assert_eq!(log.facts().last, last, "byte {at}"),
            Err(error) => {
                let text = error.to_string();
                assert!(text.contains("raft-log.redb") && text.contains("under a new id"), "byte {at}: {text}");
                forgotten += u64::from(text.contains("which was answered"));
                // And again: the refusal has repaired nothing away.
                assert!(LogStore::open(copy.path(), 7).is_err(), "byte {at}");
                assert!(LogFacts::verify(copy.path()).is_err(), "byte {at}");
            }
        }
    }
    assert!(forgotten > 5, "{forgotten}: no flip took the last commit away, so that the test proves nothing");
}

/// redb verifies nothing by itself where a log was closed in order.
#[tokio::test]
async fn claim_7_a_closed_log_is_verified_as_well() {
    let (dir, log) = open();
    append(&log, 1, 0..=400).await;
    log.close();
    let path = dir.path().join("raft-log.redb");
    let bytes = std::fs::read(&path).unwrap();
    // The filler of an entry in the middle: nothing looks at its structure.
    let entry = [1; 32];
    let at = bytes.windows(entry.len()).position(|window| window == entry).unwrap();
    let mut damaged = bytes.clone();
    damaged[at] ^= 4;
    std::fs::write(&path, damaged).unwrap();
    let why = LogStore::open(dir.path(), 7).err().map(|error| error.to_string()).unwrap_or_default();
    assert!(why.contains("raft-log.redb"), "{why}");
}
