//! Who is who: an id is a life of one raft log.
//!
//! A member that comes back under its id without its log has forgotten votes and entries that it had acknowledged, and
//! raft's promises with them. So each log has an *incarnation*, random and made with the log; every request and every
//! answer between members carries (id, incarnation); and every member remembers, durably in its own log and before it
//! acts on or counts the first message, the first incarnation that it met of each id.
//!
//! 1. *Another life under a known id is refused*, as a sender and as the one who answers: its vote is not counted, nor is
//!    its word that it holds an entry.
//! 2. *The wiped member learns it* from the first member that knew its old life, whoever of the two asks first: a request
//!    names the life that it is meant for. It resolves [`Identity::farewell`].
//! 3. *A removed id is refused* by everybody who has applied its removal, and so hears of it, though the leader stops
//!    replicating to it before it may have got the entry.
//!
//! What this proves: two members that both met the old life never count a word of the new one, for as long as their own
//! logs live. What it cannot: a member that never met the old life takes the new one for the first (which is why members
//! greet each other when a membership comes into force, see `probe`), as does one that was itself wiped; and an older copy of
//! the *same* log put back has the same incarnation, and is not recognised at all.

use crate::api::{Farewell, Roster};
use crate::log_store::LogStore;
use bytes::Bytes;
use node_proto::peer::{Life, Refusal, Route, Wiped, refusal};
use prost::Message;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::watch;
use tonic::{Code, Status};

/// Clones share it.
#[derive(Clone)]
pub struct Identity {
    inner: Arc<Inner>,
}

struct Inner {
    own: Life,
    log: LogStore,
    roster: watch::Sender<Roster>,
    farewell: watch::Sender<Option<Farewell>>,
    /// Messages of leaders that were let in.
    led: AtomicU64,
}

impl Identity {
    pub fn new(own_id: u64, log: LogStore, roster: Roster) -> Self {
        let own = Life { id: own_id, incarnation: log.incarnation() };
        let removed = roster.is_removed(own_id).then_some(Farewell::Removed { id: own_id });
        let (roster, farewell) = (watch::Sender::new(roster), watch::Sender::new(removed));
        Self { inner: Arc::new(Inner { own, log, roster, farewell, led: AtomicU64::new(0) }) }
    }

    pub fn own_id(&self) -> u64 {
        self.inner.own.id
    }

    /// What an answer carries.
    pub fn own(&self) -> Option<Life> {
        Some(self.inner.own)
    }

    /// What a request to member `to` carries.
    pub fn route(&self, to: u64) -> Option<Route> {
        let to_incarnation = self.inner.log.known_incarnation(to).unwrap_or_default();
        Some(Route { to, to_incarnation, from: self.own() })
    }

    /// Why this member must not go on, once it must not.
    pub fn farewell(&self) -> watch::Receiver<Option<Farewell>> {
        self.inner.farewell.subscribe()
    }

    pub fn roster(&self) -> watch::Receiver<Roster> {
        self.inner.roster.subscribe()
    }

    /// Another membership was applied here.
    pub fn enrolled(&self, roster: Roster) {
        if roster.is_removed(self.inner.own.id) {
            self.part(Farewell::Removed { id: self.inner.own.id });
        }
        self.inner.roster.send_if_modified(|old| std::mem::replace(old, roster.clone()) != roster);
    }

    /// Whether a life of that member was ever met.
    pub fn has_met(&self, id: u64) -> bool {
        self.inner.log.known_incarnation(id).is_some()
    }

    pub fn note_leader(&self) {
        self.inner.led.fetch_add(1, Ordering::Relaxed);
    }

    /// Grows with every message from a leader.
    pub fn leader_messages(&self) -> u64 {
        self.inner.led.load(Ordering::Relaxed)
    }

    /// Whether a request may be acted on. When this returns, its sender is known durably.
    ///
    /// # Errors
    /// FAILED_PRECONDITION: it may not, and claims 1 to 3 say why.
    pub async fn admit(&self, route: Option<&Route>) -> Result<(), Status> {
        let own = self.inner.own;
        let malformed = || Status::invalid_argument("expected a request that says who asks whom, found none");
        let route = route.ok_or_else(malformed)?;
        let from = route.from.filter(is_life).ok_or_else(malformed)?;
        if route.to != own.id {
            let found = route.to;
            let sentence = format!("expected a message for member {}, found one for member {found}", own.id);
            return Err(Status::failed_precondition(sentence));
        }
        // The sender first: what a stranger says about our own life is nothing to go by.
        if self.inner.roster.borrow().is_removed(from.id) {
            return Err(refuse(Farewell::Removed { id: from.id }));
        }
        let known = self.known(from).await.map_err(|error| Status::internal(error.to_string()))?;
        if known != from.incarnation {
            return Err(refuse(Farewell::Wiped { id: from.id, expected: known, found: from.incarnation }));
        }
        if route.to_incarnation != 0 && route.to_incarnation != own.incarnation {
            let wiped = Farewell::Wiped { id: own.id, expected: route.to_incarnation, found: own.incarnation };
            self.part(wiped);
            return Err(refuse(wiped));
        }
        Ok(())
    }

    /// Whether an answer may be counted as that of member `asked`. When this returns, it is known durably.
    ///
    /// # Errors
    /// A sentence: it may not.
    pub async fn count(&self, asked: u64, from: Option<Life>) -> io::Result<()> {
        let from = from.filter(is_life).filter(|from| from.id == asked);
        let from =
            from.ok_or_else(|| io::Error::other(format!("expected an answer of member {asked}, found another's")))?;
        let known = self.known(from).await?;
        if known != from.incarnation {
            let wiped = Farewell::Wiped { id: from.id, expected: known, found: from.incarnation };
            tracing::warn!("an answer was not counted: {wiped}");
            return Err(io::Error::other(wiped.to_string()));
        }
        Ok(())
    }

    /// Looks whether a refusal of another member is about this one.
    pub fn heed(&self, status: &Status) {
        if status.code() != Code::FailedPrecondition || status.details().is_empty() {
            return;
        }
        let own = self.inner.own;
        match Refusal::decode(status.details()).ok().and_then(|refusal| refusal.why) {
            Some(refusal::Why::Removed(id)) if id == own.id => self.part(Farewell::Removed { id }),
            Some(refusal::Why::Wiped(Wiped { member, expected, found }))
                if member == own.id && found == own.incarnation =>
            {
                self.part(Farewell::Wiped { id: member, expected, found });
            }
            _ => {}
        }
    }

    /// The first life that was met of the member whose life `from` is.
    async fn known(&self, from: Life) -> io::Result<u64> {
        if from.id == self.inner.own.id {
            return Ok(self.inner.own.incarnation);
        }
        self.inner.log.meet(from.id, from.incarnation).await
    }

    /// The first reason stays.
    fn part(&self, why: Farewell) {
        self.inner.farewell.send_if_modified(|farewell| {
            let first = farewell.is_none();
            farewell.get_or_insert(why);
            first
        });
    }
}

fn is_life(life: &Life) -> bool {
    life.id != 0 && life.incarnation != 0
}

fn refuse(why: Farewell) -> Status {
    tracing::warn!("refused a message: {why}");
    let details = match why {
        Farewell::Removed { id } => refusal::Why::Removed(id),
        Farewell::Wiped { id, expected, found } => refusal::Why::Wiped(Wiped { member: id, expected, found }),
    };
    let details = Refusal { why: Some(details) }.encode_to_vec();
    Status::with_details(Code::FailedPrecondition, why.to_string(), Bytes::from(details))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    fn member(id: u64, incarnation: u64) -> (TempDir, Identity) {
        let dir = tempfile::tempdir().unwrap();
        let log = LogStore::open(dir.path(), incarnation).unwrap();
        let members = [(1, false), (2, false), (3, false)].into();
        (dir, Identity::new(id, log, Roster { members, greatest_id: 3 }))
    }

    #[tokio::test]
    async fn claim_1_another_life_is_neither_admitted_nor_counted() {
        let ((_a, one), (_b, two), (_c, wiped)) = (member(1, 10), member(2, 20), member(2, 21));
        one.admit(two.route(1).as_ref()).await.unwrap();
        let refused = one.admit(wiped.route(1).as_ref()).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        let sentence = "member 2 has lost its raft log (expected incarnation 0000000000000014, found 0000000000000015): remove \
             it and add it again under a new id";
        assert_eq!(refused.message(), sentence);
        assert_eq!(one.count(2, wiped.own()).await.unwrap_err().to_string(), sentence);
        one.count(2, two.own()).await.unwrap();
        assert!(one.count(3, two.own()).await.is_err(), "the answer of another member");
        assert_eq!(*one.farewell().borrow(), None);
        // Claim 2, when the wiped one asks first.
        wiped.heed(&refused);
        two.heed(&refused);
        assert_eq!(*wiped.farewell().borrow(), Some(Farewell::Wiped { id: 2, expected: 20, found: 21 }));
        assert_eq!(*two.farewell().borrow(), None, "it is about another life than this one");
    }

    #[tokio::test]
    async fn claim_2_a_request_for_the_old_life_tells_the_new_one() {
        let ((_a, one), (_b, two), (_c, wiped)) = (member(1, 10), member(2, 20), member(2, 21));
        one.count(2, two.own()).await.unwrap();
        let route = one.route(2);
        assert!(wiped.admit(route.as_ref()).await.is_err());
        assert!(matches!(*wiped.farewell().borrow(), Some(Farewell::Wiped { id: 2, expected: 20, found: 21 })));
        two.admit(route.as_ref()).await.unwrap();
    }

    #[tokio::test]
    async fn claim_3_a_removed_member_is_told() {
        let ((_a, one), (_b, two)) = (member(1, 10), member(2, 20));
        one.enrolled(Roster { members: [(1, false), (3, false)].into(), greatest_id: 3 });
        let refused = one.admit(two.route(1).as_ref()).await.unwrap_err();
        two.heed(&refused);
        assert_eq!(*two.farewell().borrow(), Some(Farewell::Removed { id: 2 }));
        // Not applied here yet, or never a member: that is not the same as removed.
        let (_d, four) = member(4, 40);
        one.admit(four.route(1).as_ref()).await.unwrap();
    }

    #[tokio::test]
    async fn a_request_without_a_sender_or_for_another_member_is_refused() {
        let ((_a, one), (_b, two)) = (member(1, 10), member(2, 20));
        assert_eq!(one.admit(None).await.unwrap_err().code(), Code::InvalidArgument);
        let nobody = Route { to: 1, to_incarnation: 0, from: None };
        assert_eq!(one.admit(Some(&nobody)).await.unwrap_err().code(), Code::InvalidArgument);
        let elsewhere = one.admit(two.route(3).as_ref()).await.unwrap_err();
        assert_eq!(elsewhere.message(), "expected a message for member 1, found one for member 3");
    }
}
