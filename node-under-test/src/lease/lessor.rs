//! The leader's half of leases: it watches deadlines and proposes revokes; everybody else stands by.
//!
//! Every wait is on an event (leadership, a lease that came or went, an answered revoke) or on the earliest
//! deadline.

use super::deadlines::Deadlines;
use crate::clock::{self, Moment};
use crate::command;
use crate::mvcc::Store;
use node_raft::{RaftNode, RaftStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;

/// Revokes in flight at once.
const REVOKES_MAX: usize = 64;
/// An expired lease that still exists this long after its revoke was proposed is proposed again.
const REVOKE_RETRY: Duration = Duration::from_secs(2);

pub struct Lessor {
    store: Arc<Store>,
    raft: RaftNode,
    deadlines: Mutex<Deadlines>,
}

impl Lessor {
    pub fn new(store: Arc<Store>, raft: RaftNode) -> Arc<Self> {
        Arc::new(Self { store, raft, deadlines: Mutex::default() })
    }

    fn deadlines(&self) -> MutexGuard<'_, Deadlines> {
        self.deadlines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// On the leader: gives `id` its whole TTL again, and says how many seconds that is; `None` if this
    /// member knows no such lease.
    pub fn renew(&self, id: i64) -> Option<i64> {
        let ttl_seconds = self.store.lease_ttl_seconds(id)?;
        self.deadlines().renew(id, ttl_seconds, clock::now());
        Some(ttl_seconds)
    }

    /// On the leader: the whole seconds that `id` has left.
    pub fn remaining_seconds(&self, id: i64) -> Option<i64> {
        let granted = self.store.lease_ttl_seconds(id)?;
        // A lease without a deadline yet was granted this very moment.
        let left = self.deadlines().remaining(id, clock::now());
        Some(left.map_or(granted, |left| i64::try_from(left.as_secs()).unwrap_or(i64::MAX)))
    }

    /// Runs for the life of the process.
    pub async fn run(self: Arc<Self>) {
        let mut status = self.raft.status_watch();
        let changes = self.store.lease_changes();
        let mut leading = None;
        let mut revokes = JoinSet::new();
        loop {
            let now_leading = leads(*status.borrow_and_update());
            if leading != now_leading {
                leading = now_leading;
                self.start_term(leading.is_some());
            }
            self.follow(changes.take(), leading.is_some());
            let wake = leading.and_then(|_| self.revoke_due(&mut revokes));
            tokio::select! {
                changed = status.changed() => if changed.is_err() { return },
                () = changes.changed() => {}
                Some(_) = revokes.join_next() => {}
                () = sleep_until(wake) => {}
            }
        }
    }

    /// A new leader cannot know how much of a lease its predecessor had seen pass: every lease starts over.
    fn start_term(&self, leading: bool) {
        let mut deadlines = self.deadlines();
        deadlines.clear();
        if leading {
            let now = clock::now();
            self.store.leases().into_iter().for_each(|(id, ttl_seconds)| deadlines.renew(id, ttl_seconds, now));
        }
    }

    fn follow(&self, touched: impl IntoIterator<Item = (i64, bool)>, leading: bool) {
        let mut deadlines = self.deadlines();
        for (id, granted) in touched {
            match self.store.lease_ttl_seconds(id) {
                Some(ttl_seconds) if leading && (granted || !deadlines.contains(id)) => {
                    deadlines.renew(id, ttl_seconds, clock::now());
                }
                Some(_) => {}
                None => deadlines.forget(id),
            }
        }
    }

    /// Proposes what is due, as far as there is room, and says when to look again.
    fn revoke_due(&self, revokes: &mut JoinSet<()>) -> Option<Moment> {
        let now = clock::now();
        let mut deadlines = self.deadlines();
        for id in deadlines.due(now, REVOKES_MAX.saturating_sub(revokes.len())) {
            // Renewed in the very moment in which it was revoked: there is nothing left to revoke.
            if self.store.lease_ttl_seconds(id).is_none() {
                deadlines.forget(id);
                continue;
            }
            deadlines.set(id, now + REVOKE_RETRY);
            let raft = self.raft.clone();
            revokes.spawn(async move {
                if let Err(error) = raft.propose(command::lease_revoke(id)).await {
                    tracing::warn!(lease = id, %error, "an expired lease was not revoked yet");
                }
            });
        }
        // With no room left the next answered revoke wakes us, not the clock.
        deadlines.next().filter(|_| revokes.len() < REVOKES_MAX)
    }
}

/// The term that this member leads.
fn leads(status: RaftStatus) -> Option<u64> {
    status.is_leader.then_some(status.term)
}

async fn sleep_until(wake: Option<Moment>) {
    match wake {
        Some(moment) => clock::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
