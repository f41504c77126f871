//! One round of read index at a time, shared by every read that came before it started.
//!
//! A read may use any index that was confirmed after the read began, so reads that arrive while a
//! round is under way wait for the next one, all together: a thousand readers cost one heartbeat
//! round, not a thousand.

use crate::api::ProposeError;
use tokio::sync::{mpsc, oneshot};

/// Reads that may wait for the next round; more wait for a place.
const WAITING_MAX: usize = 4096;

type Waiter<T> = oneshot::Sender<T>;

/// A handle on the task that runs the rounds; it ends with the last handle.
pub struct ReadRounds<T> {
    waiters: mpsc::Sender<Waiter<T>>,
}

impl<T: Clone + Send + 'static> ReadRounds<T> {
    /// `round` asks once. Must be called in a runtime.
    pub fn spawn<F: Future<Output = T> + Send>(round: impl Fn() -> F + Send + 'static) -> Self {
        let (waiters, mut arriving) = mpsc::channel::<Waiter<T>>(WAITING_MAX);
        tokio::spawn(async move {
            while let Some(first) = arriving.recv().await {
                let mut waiting = vec![first];
                while let Ok(another) = arriving.try_recv() {
                    waiting.push(another);
                }
                let answer = round().await;
                for waiter in waiting {
                    // A reader that gave up no longer listens.
                    let _ = waiter.send(answer.clone());
                }
            }
        });
        Self { waiters }
    }

    /// The answer of a round that starts after this call.
    pub async fn next(&self) -> Result<T, ProposeError> {
        let (waiter, answer) = oneshot::channel();
        let stopped = || ProposeError::Fatal("the read index task has ended".to_owned());
        self.waiters.send(waiter).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use tokio::sync::Semaphore;

    /// Reads that come during a round must not get its answer, and share the next one.
    #[tokio::test]
    async fn reads_during_a_round_share_the_next_one() {
        let started = Arc::new(AtomicU64::new(0));
        let entered = Arc::new(Semaphore::new(0));
        let gate = Arc::new(Semaphore::new(0));
        let rounds = Arc::new(ReadRounds::spawn({
            let (started, entered, gate) = (started.clone(), entered.clone(), gate.clone());
            move || {
                let (started, entered, gate) = (started.clone(), entered.clone(), gate.clone());
                async move {
                    let round = started.fetch_add(1, Ordering::SeqCst) + 1;
                    entered.add_permits(1);
                    gate.acquire().await.unwrap().forget();
                    round
                }
            }
        }));
        let read = || {
            let rounds = rounds.clone();
            tokio::spawn(async move { rounds.next().await.unwrap() })
        };
        let first = read();
        entered.acquire().await.unwrap().forget();
        let later: Vec<_> = (0..10).map(|_| read()).collect();
        // The queue holds all ten before the first round may end.
        while WAITING_MAX - rounds.waiters.capacity() < 10 {
            tokio::task::yield_now().await;
        }
        gate.add_permits(2);
        assert_eq!(first.await.unwrap(), 1);
        for read in later {
            assert_eq!(read.await.unwrap(), 2);
        }
    }
}
