//! Renewals of one member's clients on their way to the leader: one question at a time, which holds
//! every lease that waited when it was asked. So a thousand clients cost the leader one
//! confirmation, and none waits behind another.

use super::ask::{Ask, Renewed};
use node_raft::ProposeError;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Streams that may wait for the next question; more wait for a place.
const WAITING_MAX: usize = 4096;
/// Leases in one question, but for what one stream adds to it.
const IDS_MAX: usize = 16_384;

/// By lease.
pub type Answers = Arc<BTreeMap<i64, Renewed>>;

struct Waiter {
    ids: BTreeSet<i64>,
    answer: oneshot::Sender<Result<Answers, ProposeError>>,
}

/// A handle on the task that asks; it ends with the last handle.
#[derive(Clone)]
pub struct Renewals {
    waiters: mpsc::Sender<Waiter>,
}

impl Renewals {
    /// Must be called in a runtime.
    pub fn spawn(ask: impl Ask) -> Self {
        let (waiters, mut arriving) = mpsc::channel::<Waiter>(WAITING_MAX);
        tokio::spawn(async move {
            while let Some(first) = arriving.recv().await {
                let (mut ids, mut waiting) = (first.ids, vec![first.answer]);
                while ids.len() < IDS_MAX
                    && let Ok(another) = arriving.try_recv()
                {
                    ids.extend(another.ids);
                    waiting.push(another.answer);
                }
                let answers = ask.renew(ids.into_iter().collect()).await.map(Arc::new);
                for waiter in waiting {
                    // A client that went away no longer listens.
                    let _ = waiter.send(answers.clone());
                }
            }
        });
        Self { waiters }
    }

    /// The answers to a question that is asked after this call; they may be about further leases.
    ///
    /// # Errors
    /// No leader answered.
    pub async fn renew(&self, ids: BTreeSet<i64>) -> Result<Answers, ProposeError> {
        let (answer, answered) = oneshot::channel();
        let stopped = || ProposeError::Fatal("the task that renews leases has ended".to_owned());
        self.waiters.send(Waiter { ids, answer }).await.map_err(|_| stopped())?;
        answered.await.map_err(|_| stopped())?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use tokio::sync::Semaphore;

    /// Answers when it is let; remembers what it was asked.
    #[derive(Clone)]
    struct Gate {
        asked: Arc<Mutex<Vec<Vec<i64>>>>,
        entered: Arc<Semaphore>,
        open: Arc<Semaphore>,
    }

    impl Ask for Gate {
        async fn renew(&self, ids: Vec<i64>) -> Result<BTreeMap<i64, Renewed>, ProposeError> {
            self.asked.lock().unwrap().push(ids.clone());
            self.entered.add_permits(1);
            self.open.acquire().await.unwrap().forget();
            Ok(ids.into_iter().map(|id| (id, Renewed::Ttl(id))).collect())
        }

        async fn settle(&self, _: Vec<i64>) -> Result<(), ProposeError> {
            unreachable!("nothing is being revoked here")
        }
    }

    #[tokio::test]
    async fn what_waits_during_a_question_shares_the_next_one() {
        let gate =
            Gate { asked: Arc::default(), entered: Arc::new(Semaphore::new(0)), open: Arc::new(Semaphore::new(0)) };
        let renewals = Renewals::spawn(gate.clone());
        let renew = |ids: &[i64]| {
            let (renewals, ids) = (renewals.clone(), ids.iter().copied().collect());
            tokio::spawn(async move { renewals.renew(ids).await.unwrap() })
        };
        let first = renew(&[1]);
        gate.entered.acquire().await.unwrap().forget();
        let later: Vec<_> = (2..=11).map(|id| renew(&[1, id])).collect();
        while WAITING_MAX - renewals.waiters.capacity() < 10 {
            tokio::task::yield_now().await;
        }
        gate.open.add_permits(2);
        assert_eq!(first.await.unwrap().len(), 1);
        for (answers, id) in later.into_iter().zip(2..) {
            assert_eq!(answers.await.unwrap()[&id], Renewed::Ttl(id));
        }
        assert_eq!(*gate.asked.lock().unwrap(), [vec![1], (1..=11).collect()], "two questions, each lease once");
    }
}
