//! The leader's half of leases: it watches deadlines, revokes what ran out, and renews; all others
//! stand by.
//!
//! 1. *A lease is revoked by a leader that has just made sure that it leads, in that term, and the
//!    revocation is never forwarded.* Clients may have renewed it at a successor.
//! 2. *A lease is renewed by such a leader alone*, after it has applied its term's first entry;
//!    whatever an earlier leader revoked is gone by then.
//! 3. *A lease that is being revoked is not renewed.* The wish waits until the revocation has
//!    happened, or certainly was not proposed.
//!
//! Why a renewal holds: the quorum that confirmed the leader, after the wish arrived, elects no
//! other one before, and a successor gives every lease its whole TTL again. So the lease lives for
//! a TTL from the moment the wish was sent.
//!
//! Every wait is on an event (leadership, a lease that came or went, an answered revocation) or on
//! the earliest deadline.

use super::expiry::{Expiry, Renewal};
use crate::clock::{self, Moment};
use crate::state::command;
use crate::state::{LeaseChanges, Store};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use node_base::sabotage::{Bug, planted};
use node_proto::etcdserverpb::{LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, ResponseHeader};
use node_proto::lease as wire;
use node_proto::lease::answer::About as Answer;
use node_proto::lease::question::About as Question;
use node_raft::{LeaderService, ProposeError, RaftNode, RaftStatus};
use prost::Message;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Revocations in flight at once.
const REVOKES_MAX: usize = 64;
/// An expired lease that certainly was not revoked is tried again after this long, and so is a
/// confirmation.
const RETRY_EVERY: Duration = Duration::from_millis(500);
/// Time that a question waits for revocations; the asker then asks again.
const SETTLE_WAIT: Duration = Duration::from_secs(2);

/// The part of raft that a lessor needs.
pub trait Leadership: Clone + Send + Sync + 'static {
    /// Woken at every change of who leads.
    fn status_watch(&self) -> watch::Receiver<RaftStatus>;

    /// The term that this member leads, confirmed after the call.
    fn confirm(&self) -> impl Future<Output = Result<u64, ProposeError>> + Send;

    /// Proposes the revocation of `id` in `term` only, here only, and waits until it is applied.
    fn revoke(&self, term: u64, id: i64) -> impl Future<Output = Result<(), ProposeError>> + Send;
}

impl Leadership for RaftNode {
    fn status_watch(&self) -> watch::Receiver<RaftStatus> {
        RaftNode::status_watch(self)
    }

    async fn confirm(&self) -> Result<u64, ProposeError> {
        if planted(Bug::LeaseRevokedByDeposed) {
            return Ok(self.status().term);
        }
        self.confirm_leadership().await
    }

    async fn revoke(&self, term: u64, id: i64) -> Result<(), ProposeError> {
        let command = command::lease_revoke(id);
        let proposed = if planted(Bug::LeaseRevokedByDeposed) {
            self.propose(command).await
        } else {
            self.propose_in_term(term, command).await
        };
        proposed.map(|_| ())
    }
}

pub struct Lessor<L = RaftNode> {
    store: Arc<Store>,
    changes: Arc<LeaseChanges>,
    leadership: L,
    expiry: Mutex<Expiry>,
    /// Woken when a lease is not being revoked any more.
    settled: watch::Sender<()>,
}

impl<L: Leadership> Lessor<L> {
    pub fn new(store: Arc<Store>, leadership: L) -> Arc<Self> {
        let changes = store.lease_changes();
        Arc::new(Self { store, changes, leadership, expiry: Mutex::default(), settled: watch::Sender::new(()) })
    }

    fn expiry(&self) -> MutexGuard<'_, Expiry> {
        self.expiry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs for the life of the process.
    pub async fn run(self: Arc<Self>) {
        let mut status = self.leadership.status_watch();
        let mut revokes = JoinSet::new();
        let mut confirmation: Option<BoxFuture<'static, Result<u64, ProposeError>>> = None;
        let mut not_before = clock::now();
        loop {
            self.follow_leadership(*status.borrow_and_update());
            self.follow(&mut self.expiry());
            self.settled.send_replace(());
            let wake = self.wake(not_before, revokes.len()).filter(|_| confirmation.is_none());
            tokio::select! {
                changed = status.changed() => if changed.is_err() { return },
                () = self.changes.changed() => {}
                Some(_) = revokes.join_next() => {}
                () = sleep_until(wake) => {
                    let leadership = self.leadership.clone();
                    confirmation = Some(async move { leadership.confirm().await }.boxed());
                }
                confirmed = confirmed(&mut confirmation) => {
                    confirmation = None;
                    not_before = clock::now() + RETRY_EVERY;
                    match confirmed {
                        Ok(term) if planted(Bug::LeaseRevokedByDeposed) || self.expiry().term() == Some(term) => {
                            self.revoke_due(term, &mut revokes);
                            not_before = clock::now();
                        }
                        Ok(term) => tracing::debug!(term, "leases ran out in another term than the one that is led"),
                        Err(error) => tracing::debug!(%error, "leases ran out, and it is not certain who leads"),
                    }
                }
            }
        }
    }

    fn follow_leadership(&self, status: RaftStatus) {
        let leading = status.is_leader.then_some(status.term);
        let mut expiry = self.expiry();
        if expiry.term() == leading {
            return;
        }
        match leading {
            // The news of a confirmation may be newer than that of the metrics.
            Some(term) if expiry.term() > Some(term) => return,
            Some(term) => expiry.lead(term, self.store.leases(), clock::now()),
            // The planted bug goes on where it was.
            None if planted(Bug::LeaseRevokedByDeposed) => {}
            None if expiry.term() > Some(status.term) => return,
            None => expiry.stand_by(),
        }
        // Who waits for it looks at the expiry under the channel's lock.
        drop(expiry);
        self.settled.send_replace(());
    }

    /// Takes up what leases came and went since the last look.
    fn follow(&self, expiry: &mut Expiry) {
        for (id, granted) in self.changes.take() {
            match self.store.lease_ttl_seconds(id) {
                Some(ttl_seconds) => expiry.came(id, ttl_seconds, granted, clock::now()),
                None => expiry.went(id),
            }
        }
    }

    /// The moment at which to look for expired leases; `None`: not before something else has
    /// happened.
    fn wake(&self, not_before: Moment, revoking: usize) -> Option<Moment> {
        let expiry = self.expiry();
        expiry.next().filter(|_| revoking < REVOKES_MAX).map(|next| next.max(not_before))
    }

    /// Begins to revoke what is due in `term`, as far as there is room.
    fn revoke_due(self: &Arc<Self>, term: u64, revokes: &mut JoinSet<()>) {
        let now = clock::now();
        let mut expiry = self.expiry();
        // A lease that was granted again meanwhile under its id is not due.
        self.follow(&mut expiry);
        let term = if planted(Bug::LeaseRevokedByDeposed) { expiry.term().unwrap_or(term) } else { term };
        for id in expiry.due(now, REVOKES_MAX.saturating_sub(revokes.len())) {
            if expiry.begin_revoke(term, id, now) {
                revokes.spawn(self.clone().revoke(term, id));
            }
        }
    }

    /// Ends when `id` is gone, or may be renewed again, or nothing of `term` counts any more.
    async fn revoke(self: Arc<Self>, term: u64, id: i64) {
        match self.leadership.revoke(term, id).await {
            // Gone: the store has said so, or is about to.
            Ok(()) => {}
            Err(
                error @ (ProposeError::NoLeader
                | ProposeError::Unavailable(_)
                | ProposeError::Unfit(_)
                | ProposeError::TooLarge { .. }),
            ) => {
                tracing::debug!(lease = id, %error, "an expired lease was not revoked yet");
                self.release(term, id).await;
            }
            // It is in the log: it will be applied in this term, or a successor decides.
            Err(error @ (ProposeError::Unknown(_) | ProposeError::Fatal(_))) => {
                tracing::warn!(lease = id, %error, "the revocation of an expired lease has no outcome yet");
            }
        }
    }

    /// The refusal came from a leader that was deposed, with the revocation in its log, or from one
    /// that still leads, and then nothing was proposed: only a confirmation tells which.
    async fn release(&self, term: u64, id: i64) {
        let mut status = self.leadership.status_watch();
        while self.expiry().term() == Some(term) {
            if planted(Bug::LeaseRevokedByDeposed) || self.leadership.confirm().await == Ok(term) {
                self.expiry().not_revoked(term, id, clock::now() + RETRY_EVERY);
                self.settled.send_replace(());
                return;
            }
            tokio::select! {
                changed = status.changed() => if changed.is_err() { return },
                () = clock::sleep_until(clock::now() + RETRY_EVERY) => {}
            }
        }
    }

    /// In `term`, which was confirmed: the seconds that each lease has again (0: there is none), or
    /// that it is being revoked.
    fn renew(&self, term: u64, ids: &[i64]) -> Result<wire::Renewed, String> {
        let now = clock::now();
        let mut expiry = self.expiry();
        self.in_term(&mut expiry, term)?;
        let renew = |id: &i64| {
            let mut renewal = wire::Renewal { id: *id, ttl_seconds: 0, being_revoked: false };
            if expiry.is_being_revoked(*id) {
                renewal.being_revoked = true;
            } else if let Some(ttl_seconds) = self.store.lease_ttl_seconds(*id) {
                match expiry.renew(*id, ttl_seconds, now) {
                    Renewal::Renewed => renewal.ttl_seconds = ttl_seconds,
                    Renewal::BeingRevoked => renewal.being_revoked = true,
                }
            }
            renewal
        };
        Ok(wire::Renewed { renewals: ids.iter().map(renew).collect() })
    }

    /// Makes sure that `expiry` is about `term`, which was confirmed, and about the leases that are
    /// there now: the task may not have noticed either yet, and the deadline of a lease that was
    /// revoked would be taken for that of its successor under the same id.
    fn in_term(&self, expiry: &mut Expiry, term: u64) -> Result<(), String> {
        self.follow(expiry);
        if expiry.is_news(term) {
            expiry.lead(term, self.store.leases(), clock::now());
        }
        let planted = planted(Bug::KeepaliveUnconfirmed);
        if planted || expiry.term() == Some(term) { Ok(()) } else { Err(format!("term {term} is over")) }
    }

    async fn settle(&self, ids: &[i64]) {
        let mut settled = self.settled.subscribe();
        let all = settled.wait_for(|_| {
            let expiry = self.expiry();
            !ids.iter().any(|id| expiry.is_being_revoked(*id))
        });
        tokio::select! {
            _ = all => {}
            () = clock::sleep_until(clock::now() + SETTLE_WAIT) => {}
        }
    }

    fn time_to_live(&self, term: u64, request: &LeaseTimeToLiveRequest) -> Result<LeaseTimeToLiveResponse, String> {
        let id = request.id;
        let mut expiry = self.expiry();
        self.in_term(&mut expiry, term)?;
        let granted = self.store.lease_ttl_seconds(id);
        // A lease without a deadline yet was granted this very moment.
        let left = expiry.remaining(id, clock::now()).map(|left| i64::try_from(left.as_secs()).unwrap_or(i64::MAX));
        drop(expiry);
        let keys = if request.keys { self.store.lease_keys(id).unwrap_or_default() } else { Vec::new() };
        Ok(LeaseTimeToLiveResponse {
            header: Some(ResponseHeader { revision: self.store.revision(), ..ResponseHeader::default() }),
            id,
            ttl: granted.map_or(-1, |granted| left.unwrap_or(granted)),
            granted_ttl: granted.unwrap_or(0),
            keys,
        })
    }

    async fn answer_about(&self, term: u64, question: Bytes) -> Result<Bytes, String> {
        let question = wire::Question::decode(question).map_err(|error| format!("a question about leases: {error}"))?;
        let about = match question.about {
            Some(Question::Renew(renew)) => Answer::Renewed(self.renew(term, &renew.ids)?),
            Some(Question::Settle(settle)) => {
                self.settle(&settle.ids).await;
                Answer::Settled(wire::Settled {})
            }
            Some(Question::TimeToLive(request)) => Answer::TimeToLive(self.time_to_live(term, &request)?),
            None => return Err("a question about leases: expected what it is about, found nothing".to_owned()),
        };
        Ok(wire::Answer { about: Some(about) }.encode_to_vec().into())
    }
}

impl<L: Leadership> LeaderService for Lessor<L> {
    fn answer(&self, term: u64, question: Bytes) -> BoxFuture<'_, Result<Bytes, String>> {
        self.answer_about(term, question).boxed()
    }
}

async fn confirmed(
    confirmation: &mut Option<BoxFuture<'static, Result<u64, ProposeError>>>,
) -> Result<u64, ProposeError> {
    match confirmation {
        Some(confirmation) => confirmation.await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(wake: Option<Moment>) {
    match wake {
        Some(moment) => clock::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
