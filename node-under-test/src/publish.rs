//! A member tells the cluster what it is called and where it serves clients, through the raft log.
//!
//! The membership says who there is; what a member is called it says itself when it runs, as in
//! etcd. Until then others list it without a name and without client addresses. A founding member's
//! row holds both from the start.

use crate::clock;
use crate::state::command;
use crate::state::membership;
use crate::state::{Error, Store};
use node_base::chain::chain;
use node_raft::{Member, RaftNode};
use std::sync::Arc;
use std::time::Duration;

/// Between two attempts: the first may have been made while there was no leader, or the engine not
/// have been readable.
const RETRY_EVERY: Duration = Duration::from_millis(500);

/// Runs until the row says what `own` says; waits until this member has a row.
pub async fn run(raft: RaftNode, store: Arc<Store>, own: Member) {
    let mut roster = raft.roster();
    if roster.wait_for(|roster| roster.members.contains_key(&own.id)).await.is_err() {
        return;
    }
    while roster.borrow_and_update().members.contains_key(&own.id) {
        match is_published(&store, &own).await {
            Ok(true) => return,
            Ok(false) => {}
            // A failing engine ends the process elsewhere; if it does not, the row still has to be
            // written.
            Err(error) => {
                tracing::error!(error = %chain(&error), "cannot read this member's own row");
                clock::sleep_until(clock::now() + RETRY_EVERY).await;
                continue;
            }
        }
        let command = command::publish_member(own.id, &own.name, &own.client_addr);
        match raft.propose(command).await {
            // It is applied on the leader; the next look at the row must not come before it is
            // applied here.
            Ok(proposed) => {
                let index = proposed.log_id.index;
                tracing::info!(index, "published this member's name and client address");
                let mut status = raft.status_watch();
                if status.wait_for(|status| status.applied >= Some(index)).await.is_err() {
                    return;
                }
            }
            // Publishing twice does no harm, so even an unknown outcome is tried again.
            Err(error) => {
                tracing::debug!(%error, "not published yet");
                clock::sleep_until(clock::now() + RETRY_EVERY).await;
            }
        }
    }
}

/// Off raft's threads: a view may have to wait while a snapshot is installed.
async fn is_published(store: &Store, own: &Member) -> crate::state::Result<bool> {
    let backend = store.backend().clone();
    let listed = tokio::task::spawn_blocking(move || membership::list(&*backend.read())).await;
    let rows = listed.map_err(|error| Error::Corrupt(format!("this member's rows were not read: {error}")))??;
    let row = rows.into_iter().find(|row| row.id == own.id);
    Ok(row.is_some_and(|row| row.name == own.name && row.client_addr == own.client_addr))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Stopwatch;
    use crate::state::Applying;
    use crate::testing::MemoryBackend;
    use bytes::Bytes;
    use node_base::LogId;
    use node_base::backend::{
        Backend, BackendError, Batch, Bucket, Declared, ReadView, Result, Size, Snapshot, SnapshotError,
    };
    use node_base::chain::io_error;
    use node_base::watermarks::Watermarks;
    use node_raft::{Dial, LogStore, OutgoingSnapshot, Payload, RaftOptions, SnapshotMeta, StateMachine, ToApply};
    use std::io::{self, Read};
    use std::ops::ControlFlow;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// State machine of a cluster of one: it applies, and neither sends nor receives a snapshot.
    struct Machine {
        store: Store,
        marks: Arc<Watermarks>,
    }

    impl Machine {
        fn apply_one(&self, ToApply { entry, awaited }: ToApply) -> io::Result<Bytes> {
            let (at, backend) = (entry.log_id, self.store.backend());
            let batch = match entry.payload {
                Payload::Command(command) => {
                    let answer = self.store.apply(at, &command, Applying { awaited, replaying: false });
                    self.marks.applied(at);
                    return answer.map_err(io_error);
                }
                Payload::Blank => Batch::default(),
                Payload::Membership(raft) => membership::apply(&*backend.read(), &raft).map_err(io_error)?,
            };
            backend.commit(batch, at).map_err(io_error)?;
            self.marks.applied(at);
            Ok(Bytes::new())
        }
    }

    impl StateMachine for Machine {
        fn replay_after(&self) -> Option<LogId> {
            None
        }

        fn membership(&self) -> io::Result<Option<Bytes>> {
            let stored = membership::raft_membership(&*self.store.backend().read()).map_err(io_error)?;
            Ok(stored.map(Bytes::from))
        }

        fn greatest_member_id(&self) -> io::Result<u64> {
            membership::greatest_id(&*self.store.backend().read()).map_err(io_error)
        }

        fn vet(&self, command: &Bytes) -> std::result::Result<(), String> {
            command::vet(command).map_err(|rejection| rejection.to_string())
        }

        fn apply(&self, entries: Vec<ToApply>, answer: &mut dyn FnMut(Bytes) -> io::Result<()>) -> io::Result<()> {
            entries.into_iter().try_for_each(|entry| answer(self.apply_one(entry)?))
        }

        fn settle(&self) -> io::Result<()> {
            Ok(())
        }

        fn open_snapshot(&self) -> io::Result<OutgoingSnapshot> {
            Err(io::ErrorKind::WouldBlock.into())
        }

        fn snapshot_room(&self) -> io::Result<u64> {
            Ok(0)
        }

        fn receive_snapshot(&self, _: &SnapshotMeta, _: Declared, _: &mut dyn Read) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn install_snapshot(&self, _: &SnapshotMeta, _: &mut dyn FnMut() -> io::Result<()>) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    /// Cannot be read so many times.
    struct Failing {
        inner: Arc<MemoryBackend>,
        failures: AtomicU32,
    }

    struct Unreadable;

    impl ReadView for Unreadable {
        fn get(&self, _: Bucket, _: &[u8]) -> Result<Option<Vec<u8>>> {
            Err(BackendError::refused("injected"))
        }

        fn scan(
            &self,
            _: Bucket,
            _: &[u8],
            _: Option<&[u8]>,
            _: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
        ) -> Result<()> {
            Err(BackendError::refused("injected"))
        }
    }

    impl Backend for Failing {
        fn read(&self) -> Box<dyn ReadView + '_> {
            let left = self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
            if left.is_ok() { Box::new(Unreadable) } else { self.inner.read() }
        }

        fn commit_then(&self, batch: Batch, at: LogId, visible: &mut dyn FnMut()) -> Result<()> {
            self.inner.commit_then(batch, at, visible)
        }

        fn sweep(&self, batch: Batch) -> Result<()> {
            self.inner.sweep(batch)
        }

        fn settle(&self) -> Result<()> {
            self.inner.settle()
        }

        fn flush(&self) -> Result<()> {
            self.inner.flush()
        }

        fn snapshot(&self) -> std::result::Result<Snapshot, SnapshotError> {
            self.inner.snapshot()
        }

        fn size(&self) -> Result<Size> {
            self.inner.size()
        }

        fn defrag(&self) -> Result<()> {
            self.inner.defrag()
        }

        fn close(&self) -> Result<()> {
            self.inner.close()
        }
    }

    async fn member_of_one(founder: Member, backend: Arc<MemoryBackend>, log: LogStore) -> RaftNode {
        let marks = Arc::new(Watermarks::at_start(None, None, None));
        let machine = Machine { store: Store::open(backend).unwrap(), marks: marks.clone() };
        let options = RaftOptions {
            id: founder.id,
            members: vec![founder],
            join: false,
            cluster: Some(1),
            heartbeat_ms: 30,
            election_ms: (100, 150),
            snapshot_every_entries: 100,
            keep_entries: 100,
            dial: Dial::default(),
        };
        RaftNode::start(options, log, Arc::new(machine), marks).await.unwrap()
    }

    /// A member would otherwise be listed for ever without its name and without its address.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_member_whose_row_cannot_be_read_is_published_later() {
        const FAILURES: u32 = 2;
        let (tmp, backend) = (tempfile::tempdir().unwrap(), Arc::new(MemoryBackend::default()));
        let founder =
            Member { id: 1, name: String::new(), peer_addr: "127.0.0.1:9".into(), client_addr: String::new() };
        let own = Member { name: "own".to_owned(), client_addr: "127.0.0.1:8".to_owned(), ..founder.clone() };
        let log = LogStore::open(tmp.path(), 7).unwrap();
        let raft = member_of_one(founder, backend.clone(), log).await;
        let failing = Arc::new(Failing { inner: backend.clone(), failures: AtomicU32::new(0) });
        let store = Arc::new(Store::open(failing.clone()).unwrap());
        failing.failures.store(FAILURES, Ordering::SeqCst);
        let stopwatch = Stopwatch::start();
        run(raft.clone(), store, own.clone()).await;
        // At least: a sleep may end late, and never early.
        assert!(stopwatch.elapsed() >= RETRY_EVERY * FAILURES, "{:?} for {FAILURES} pauses", stopwatch.elapsed());
        assert_eq!(failing.failures.load(Ordering::SeqCst), 0);
        let rows = membership::list(&*backend.read()).unwrap();
        let said: Vec<_> = rows.iter().map(|row| (row.id, &*row.name, &*row.client_addr)).collect();
        assert_eq!(said, [(1, "own", "127.0.0.1:8")]);
        raft.shutdown().await;
    }
}
