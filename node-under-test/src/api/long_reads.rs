//! Reads that may take as long as the store is large: off the threads that serve requests, few at a
//! time, and a bounded number of others in a queue.
//!
//! A count of a million keys costs a core for a while. On a runtime's worker it would hold up every
//! request behind it; many at once would take all cores from raft. So each takes a permit and a
//! blocking thread, the rest wait for a permit in the order in which they came, and what comes when
//! the queue is full is refused, as etcd refuses it.

use super::stopped;
use crate::state::Rejection;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Semaphore;
use tonic::Status;

/// Reads at once, at least: two, so that a second one need not wait for the first on a machine with
/// one core.
const RUNNING_MIN: usize = 2;
/// Reads that wait for their turn.
const WAITING_MAX: usize = 1_024;
/// Calls of the engine at once: they wait more than they compute. Of the pool's 512 threads, those
/// that receive and install snapshots stay free.
const ENGINE_CALLS_MAX: usize = 64;

#[derive(Clone)]
pub struct LongReads {
    permits: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
    waiting_max: usize,
}

impl Default for LongReads {
    /// As many at once as there are cores.
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(RUNNING_MIN, usize::from);
        Self::new(cores.max(RUNNING_MIN), WAITING_MAX)
    }
}

/// A place in the queue, given back when it is dropped: the client may go away while it waits.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl LongReads {
    /// For users that are bounded otherwise: any number may wait.
    pub fn with_endless_queue() -> Self {
        Self { waiting_max: usize::MAX, ..Self::default() }
    }

    /// For calls that an engine may hold up, as it does while it installs a snapshot: many at once.
    pub fn of_the_engine() -> Self {
        Self::new(ENGINE_CALLS_MAX, WAITING_MAX)
    }

    fn new(running_max: usize, waiting_max: usize) -> Self {
        Self { permits: Arc::new(Semaphore::new(running_max)), waiting: Arc::default(), waiting_max }
    }

    /// Runs `work` when it is its turn. A read that has begun is carried through, even if its
    /// client has gone.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED, if too many wait already; UNAVAILABLE while the server stops.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Status> {
        let place = self.queue()?;
        let permit = self.permits.clone().acquire_owned().await.map_err(|_| stopped())?;
        drop(place);
        let work = move || {
            let _permit = permit;
            work()
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| stopped())
    }

    fn queue(&self) -> Result<Place, Status> {
        // A read that gets its permit at once takes no place.
        let before = self.waiting.fetch_add(1, Ordering::AcqRel);
        let place = Place(self.waiting.clone());
        if before >= self.waiting_max && self.permits.available_permits() == 0 {
            return Err(Rejection::TOO_MANY_REQUESTS.into());
        }
        Ok(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use tonic::Code;

    /// Reads that never end hold the permits, not the runtime; the queue is bounded; and a turn
    /// that is given up is another's.
    #[tokio::test]
    async fn long_reads_hold_up_only_each_other() {
        let reads = LongReads::new(2, 1);
        let mut ends = Vec::new();
        let mut running = Vec::new();
        for _ in 0..2 {
            let (end, ended) = mpsc::channel::<()>();
            let (begun, has_begun) = tokio::sync::oneshot::channel();
            let reads = reads.clone();
            running.push(tokio::spawn(async move {
                reads
                    .run(move || {
                        let _ = begun.send(());
                        let _ = ended.recv();
                    })
                    .await
            }));
            has_begun.await.unwrap();
            ends.push(end);
        }
        // One waits. It is polled once, so that it has its place.
        let mut waiting = Box::pin(reads.run(|| 7));
        assert!(futures_util::poll!(&mut waiting).is_pending());
        let refused = reads.run(|| 8).await.unwrap_err();
        assert_eq!((refused.code(), refused.message()), (Code::ResourceExhausted, "etcdserver: too many requests"));
        drop(waiting);
        let waiting = reads.run(|| 9);
        drop(ends);
        assert_eq!(waiting.await.unwrap(), 9);
        for read in running {
            read.await.unwrap().unwrap();
        }
        assert_eq!(reads.waiting.load(Ordering::Acquire), 0);
    }
}
