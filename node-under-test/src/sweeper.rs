//! Removes in the background what compactions made unreachable.
//!
//! A compaction takes effect at once, by its entry, on every member alike; what is removed when is
//! each member's own matter. Each step is short, and between two there is a pause in which entries
//! are applied: removing a million rows takes a while, and only a client that asked for a
//! `physical` compaction waits for it.

use crate::clock::{self, Stopwatch};
use crate::state::{Error, Result, Store};
use node_backend::EXIT_STORAGE;
use node_base::chain::chain;
use std::sync::Arc;
use std::time::Duration;

/// Between two steps, at least; as in etcd.
const PAUSE_MIN: Duration = Duration::from_millis(10);
/// A pause is so many times as long as the step before it: on a slow disk, or a busy machine,
/// entries still have most of the time.
const PAUSE_STEPS: u32 = 2;

/// Runs for the life of the process, and begins with what the life before it had left.
pub async fn run(store: Arc<Store>) {
    let mut sweep = store.sweep_watch();
    while sweep.wait_for(|sweep| sweep.done < sweep.wanted).await.is_ok() {
        let stopwatch = Stopwatch::start();
        match step(&store).await {
            Ok(true) => {
                let pause = PAUSE_MIN.max(stopwatch.elapsed() * PAUSE_STEPS);
                clock::sleep_until(clock::now() + pause).await;
            }
            Ok(false) => {}
            Err(error) => {
                let next = "not retried: check the disk, then start the process again";
                node_base::say!("removing compacted rows failed: {}; {next}", chain(&error));
                node_base::process::end(EXIT_STORAGE);
            }
        }
    }
}

async fn step(store: &Arc<Store>) -> Result<bool> {
    let store = store.clone();
    match tokio::task::spawn_blocking(move || store.sweep_step()).await {
        Ok(stepped) => stepped,
        Err(error) => Err(Error::Corrupt(format!("a step did not come to its end: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestStore;
    use node_base::backend::Bucket;

    /// A waiter is woken when the removal is done, and a second life goes on where the first one
    /// was.
    #[tokio::test]
    async fn what_is_compacted_is_gone_in_the_end() {
        let mut real = TestStore::default();
        for value in 0..2_500 {
            real.put("a", &value.to_string());
        }
        real.compact(2_501);
        assert!(real.store.sweep_step().unwrap());
        real.reopen();
        let sweeper = tokio::spawn(run(real.store.clone()));
        let mut sweep = real.store.sweep_watch();
        sweep.wait_for(|sweep| sweep.done == 2_501).await.unwrap();
        assert_eq!(real.backend.row_count(Bucket::Key), 1);
        real.put("a", "again");
        real.compact(2_502);
        sweep.wait_for(|sweep| sweep.done == 2_502).await.unwrap();
        assert_eq!(real.backend.row_count(Bucket::Key), 1);
        sweeper.abort();
    }
}
