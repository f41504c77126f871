//! Identities of members: an id is a life of one raft log, in one cluster.
//!
//! Ports are used again, by members of other clusters too. And a member that comes back under its
//! id without its log has forgotten votes and entries that it had acknowledged, and raft's promises
//! with them. So each log has an *incarnation*, random and made with the log, and belongs to one
//! *cluster*; every request and every answer between members names a [`Life`]: id, incarnation,
//! cluster. Every member remembers, durably in its own log and before it acts on or counts the
//! first message, the first incarnation that it met of each id.
//!
//! 1. *A stranger is refused*: nothing that names another cluster is acted on, counted, remembered
//!    or heeded. The founding members know their cluster's id from the start. A member that joins
//!    does not ask; it takes the id from the first valid message of a leader that names its id and
//!    no other life of it, durably and for ever.
//! 2. *Another life under a known id is refused*, as a sender and as the one who answers: its vote
//!    is not counted, nor is its word that it holds an entry.
//! 3. *No message ends a member.* What ends it is the refusal of its own question: over a
//!    connection that it made itself, to an address of its own membership, by a member of its
//!    cluster whose life is not another than the one it knows, and that names the life that is
//!    refused: this one. A request that takes this member for another life is refused, and has it
//!    ask all members at once.
//! 4. *The wiped member learns it* so from the first member that knew its old life: it greets all
//!    members when it starts. One that waits to join has no membership to ask: it asks the member
//!    that took it for another life, at the address that this one gives, and goes by its word while
//!    no leader has welcomed it.
//! 5. *A removed id is refused* by every member that has applied its removal, and so hears of it,
//!    though the leader stops replicating to it before it may have got the entry.
//! 6. *What is remembered is bounded*: lives of members, and of at most [`UNKNOWN_MAX`] others whom
//!    a membership that is not applied here yet may name.
//!
//! This proves that two members that both met the old life never count a word of the new one, for
//! as long as their own logs live. It has limits. A member that never met the old life takes the
//! new one for the first (which is why members greet each other when a membership comes into force,
//! see `probe`), and so does one that was itself wiped. An older copy of the *same* log put back
//! has the same incarnation, and is not recognised at all. The protocol holds no secrets: a
//! malicious program that can reach the ports can claim to be any member.

use crate::api::{Farewell, Member, Roster};
use crate::clock::Pace;
use crate::log_store::LogStore;
use bytes::Bytes;
use node_base::sabotage::{Bug, planted};
use node_proto::peer::{Life, Refusal, Route, Wiped, refusal};
use prost::Message;
use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tonic::{Code, Status};

/// Members whose life may be remembered, beyond those that are known here; and how far their ids
/// may lie above the greatest known one. A member that lags learns of so many additions at once at
/// most.
pub const UNKNOWN_MAX: usize = 64;

/// Between two lines in the log about refusals; the others are counted.
const WARN_EVERY: Duration = Duration::from_secs(1);

/// Kind of a message that asks to be let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// Of a leader: it may tell a member that joins where it belongs.
    Leader,
    Other,
}

/// The sender of a request that may be acted on, once it is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sender {
    life: Life,
}

impl Sender {
    pub fn id(self) -> u64 {
        self.life.id
    }
}

/// A member that takes this one, which belongs nowhere yet, for another life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doubter {
    pub life: Life,
    pub address: SocketAddr,
}

/// Clones share it.
#[derive(Clone)]
pub struct Identity {
    inner: Arc<Inner>,
}

struct Inner {
    own_id: u64,
    log: LogStore,
    /// Whom the command line names.
    named: BTreeSet<u64>,
    own_addr: String,
    roster: watch::Sender<Roster>,
    farewell: watch::Sender<Option<Farewell>>,
    /// Messages of leaders that were let in.
    led: AtomicU64,
    /// A member took this one for another life.
    doubted: AtomicBool,
    /// The last that did so while this one belonged nowhere.
    doubter: Mutex<Option<Doubter>>,
    /// Messages that were not let in, and answers and refusals that were not believed.
    refused: AtomicU64,
    warnings: Pace,
}

impl Identity {
    /// `named`: whom the command line names.
    pub fn new(own_id: u64, log: LogStore, named: &[Member], roster: Roster) -> Self {
        let removed = roster.is_removed(own_id).then_some(Farewell::Removed { id: own_id });
        let own = named.iter().find(|member| member.id == own_id);
        let inner = Inner {
            own_id,
            log,
            named: named.iter().map(|member| member.id).collect(),
            own_addr: own.map_or_else(String::new, |member| member.peer_addr.clone()),
            roster: watch::Sender::new(roster),
            farewell: watch::Sender::new(removed),
            led: AtomicU64::new(0),
            doubted: AtomicBool::new(false),
            doubter: Mutex::new(None),
            refused: AtomicU64::new(0),
            warnings: Pace::new(WARN_EVERY),
        };
        Self { inner: Arc::new(inner) }
    }

    pub fn own_id(&self) -> u64 {
        self.inner.own_id
    }

    /// The life that an answer names.
    pub fn own(&self) -> Option<Life> {
        Some(self.life())
    }

    fn life(&self) -> Life {
        let Inner { own_id, log, .. } = &*self.inner;
        Life { id: *own_id, incarnation: log.incarnation(), cluster: log.cluster().unwrap_or(0) }
    }

    /// The route that a request to member `to` carries; `None` while this member has not joined a
    /// cluster, because it asks no member then.
    pub fn route(&self, to: u64) -> Option<Route> {
        let from = self.own().filter(|own| own.cluster != 0)?;
        let to_incarnation = self.inner.log.known_incarnation(to).unwrap_or_default();
        Some(Route { to, to_incarnation, from: Some(from), from_addr: self.inner.own_addr.clone() })
    }

    /// The member to ask, once, while this one belongs nowhere, and what the question carries.
    pub fn doubter(&self) -> Option<(Doubter, Route)> {
        let doubter = self.lock_doubter().take().filter(|_| self.is_homeless())?;
        let Doubter { life, .. } = doubter;
        // Where it would belong, if that member is right.
        let from = Some(Life { cluster: life.cluster, ..self.life() });
        let from_addr = self.inner.own_addr.clone();
        Some((doubter, Route { to: life.id, to_incarnation: life.incarnation, from, from_addr }))
    }

    fn lock_doubter(&self) -> MutexGuard<'_, Option<Doubter>> {
        self.inner.doubter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The term of this member's vote.
    pub fn term(&self) -> u64 {
        self.inner.log.vote_term()
    }

    /// True if this member has not joined a cluster yet.
    pub fn is_homeless(&self) -> bool {
        self.inner.log.cluster().is_none()
    }

    /// Reason why this member must not go on, once it must not.
    pub fn farewell(&self) -> watch::Receiver<Option<Farewell>> {
        self.inner.farewell.subscribe()
    }

    pub fn roster(&self) -> watch::Receiver<Roster> {
        self.inner.roster.subscribe()
    }

    /// Another membership was applied here.
    pub fn enrolled(&self, roster: Roster) {
        if roster.is_removed(self.inner.own_id) {
            self.part(Farewell::Removed { id: self.inner.own_id });
        }
        self.inner.roster.send_if_modified(|old| std::mem::replace(old, roster.clone()) != roster);
    }

    /// True if a life of that member was ever met.
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

    /// Number of messages that were refused, and of answers that were not believed.
    pub fn refused(&self) -> u64 {
        self.inner.refused.load(Ordering::Relaxed)
    }

    /// True if a member took this one for another life since the last call.
    pub fn was_doubted(&self) -> bool {
        self.inner.doubted.swap(false, Ordering::Relaxed)
    }

    /// Decides whether a request may be acted on, once it proved valid and its sender is remembered
    /// ([`Identity::remember`]). Changes nothing.
    ///
    /// # Errors
    /// FAILED_PRECONDITION or UNAVAILABLE: it may not, and claims 1 to 6 say why. INVALID_ARGUMENT:
    /// it is malformed.
    pub fn examine(&self, route: Option<&Route>, word: Word) -> Result<Sender, Status> {
        let own = self.life();
        let malformed = || Status::invalid_argument("expected a request that says who asks whom, found none");
        let route = route.ok_or_else(malformed)?;
        let from = route.from.filter(is_life).ok_or_else(malformed)?;
        if own.cluster != 0 && is_stranger(own, from) {
            return Err(self.refuse(Why::Stranger(from)));
        }
        if route.to != own.id {
            let sentence = format!("expected a message for member {}, found one for member {}", own.id, route.to);
            return Err(Status::failed_precondition(sentence));
        }
        if from.id == own.id {
            return Err(Status::invalid_argument("expected a message of another member, found one of this one"));
        }
        let wiped = |id, expected, found| self.refuse(Why::Farewell(Farewell::Wiped { id, expected, found }));
        if route.to_incarnation != 0 && route.to_incarnation != own.incarnation {
            self.inner.doubted.store(true, Ordering::Relaxed);
            if planted(Bug::HelloEndsMember) {
                self.part(Farewell::Wiped { id: own.id, expected: route.to_incarnation, found: own.incarnation });
            }
            if let Some(address) = route.from_addr.parse().ok().filter(|_| own.cluster == 0) {
                *self.lock_doubter() = Some(Doubter { life: from, address });
            }
            return Err(wiped(own.id, route.to_incarnation, own.incarnation));
        }
        if own.cluster == 0 && word != Word::Leader {
            return Err(Status::unavailable("this member has not joined a cluster yet: it waits for a leader"));
        }
        if self.inner.roster.borrow().is_removed(from.id) {
            return Err(self.refuse(Why::Farewell(Farewell::Removed { id: from.id })));
        }
        match self.inner.log.known_incarnation(from.id) {
            Some(known) if known == from.incarnation => Ok(Sender { life: from }),
            Some(known) => Err(wiped(from.id, known, from.incarnation)),
            None if self.may_be_met(from.id) => Ok(Sender { life: from }),
            None => Err(Status::unavailable(format!("member {} is not in any membership known here yet", from.id))),
        }
    }

    /// Claim 6.
    fn may_be_met(&self, id: u64) -> bool {
        let roster = self.inner.roster.borrow();
        let is_known = |id: &u64| roster.members.contains_key(id) || self.inner.named.contains(id);
        let greatest = self.inner.named.iter().copied().fold(roster.greatest_id, u64::max);
        let unknown = || self.inner.log.met_members().iter().filter(|id| !is_known(id)).count();
        is_known(&id) || (id <= greatest.saturating_add(UNKNOWN_MAX as u64) && unknown() < UNKNOWN_MAX)
    }

    /// Remembers `sender`: when this returns, it is known durably, and this member belongs to its
    /// cluster.
    ///
    /// # Errors
    /// FAILED_PRECONDITION: another one was met, or joined, meanwhile. INTERNAL: the log failed.
    pub async fn remember(&self, sender: Sender) -> Result<(), Status> {
        let Life { id, incarnation, cluster } = sender.life;
        let failed = |error: io::Error| Status::internal(error.to_string());
        if self.is_homeless() {
            tracing::info!("joining cluster {cluster:016x}, in which member {id} leads");
        }
        if self.inner.log.join(cluster).await.map_err(failed)? != cluster {
            return Err(self.refuse(Why::Stranger(sender.life)));
        }
        let known = self.inner.log.meet(id, incarnation).await.map_err(failed)?;
        if known != incarnation {
            return Err(self.refuse(Why::Farewell(Farewell::Wiped { id, expected: known, found: incarnation })));
        }
        Ok(())
    }

    /// Decides whether an answer may be counted as that of member `asked`. When this returns, that
    /// member's life is known durably.
    ///
    /// # Errors
    /// A sentence: it may not.
    pub async fn count(&self, asked: u64, from: Option<Life>) -> io::Result<()> {
        let own = self.life();
        let from = from.filter(is_life).filter(|from| from.id == asked && from.cluster == own.cluster);
        let from = from.filter(|from| from.id != own.id).ok_or_else(|| {
            io::Error::other(format!("expected an answer of member {asked} of this cluster, found another's"))
        })?;
        let known = self.inner.log.meet(from.id, from.incarnation).await?;
        if known != from.incarnation {
            let wiped = Farewell::Wiped { id: from.id, expected: known, found: from.incarnation };
            self.warn(|| format!("an answer was not counted: {wiped}"));
            return Err(io::Error::other(wiped.to_string()));
        }
        Ok(())
    }

    /// Looks whether member `asked`, which this one asked over a connection of its own, refused it
    /// for good. Claim 3.
    pub fn heed(&self, asked: u64, status: &Status) {
        if status.code() != Code::FailedPrecondition || status.details().is_empty() {
            return;
        }
        let own = self.life();
        let Ok(Refusal { why: Some(why), from: Some(by) }) = Refusal::decode(status.details()) else { return };
        let known = self.inner.log.known_incarnation(asked);
        let is_asked = is_life(&by) && by.id == asked && known.is_none_or(|known| known == by.incarnation);
        if !is_asked || is_stranger(own, by) {
            return self.warn(|| format!("a refusal was not heeded: expected one of member {asked}, found {by:?}"));
        }
        match why {
            refusal::Why::Removed(id) if id == own.id => self.part(Farewell::Removed { id }),
            refusal::Why::Wiped(Wiped { member, expected, found })
                if member == own.id && found == own.incarnation && expected != found && expected != 0 =>
            {
                self.part(Farewell::Wiped { id: member, expected, found });
            }
            _ => {}
        }
    }

    /// Looks whether `doubter`, which this one asked, stands by it. A leader may have welcomed this
    /// member meanwhile.
    pub fn heed_doubter(&self, doubter: &Doubter, status: &Status) {
        let own = self.life();
        let Ok(Refusal { why: Some(refusal::Why::Wiped(wiped)), from }) = Refusal::decode(status.details()) else {
            return;
        };
        let Wiped { member, expected, found } = wiped;
        let is_about_this = member == own.id && found == own.incarnation && expected != found && expected != 0;
        if own.cluster == 0 && from == Some(doubter.life) && is_about_this {
            self.part(Farewell::Wiped { id: member, expected, found });
        }
    }

    /// The first reason stays.
    fn part(&self, why: Farewell) {
        self.inner.farewell.send_if_modified(|farewell| {
            let first = farewell.is_none();
            farewell.get_or_insert(why);
            first
        });
    }

    /// A message of `sender` that does not decode, or cannot be true.
    pub fn refuse_invalid(&self, sender: Sender, why: &str) -> Status {
        self.warn(|| format!("refused a message of member {}: {why}", sender.id()));
        Status::invalid_argument(why)
    }

    fn refuse(&self, why: Why) -> Status {
        let sentence = match why {
            Why::Farewell(farewell) => farewell.to_string(),
            Why::Stranger(life) => format!(
                "member {} belongs to cluster {:016x}, and this one to {:016x}: it has an address that was used before, or \
                 the two were not given the same founding members, or were not restored from the same snapshot",
                life.id,
                life.cluster,
                self.life().cluster
            ),
        };
        self.warn(|| format!("refused a message: {sentence}"));
        let details = match why {
            Why::Farewell(Farewell::Removed { id }) => refusal::Why::Removed(id),
            Why::Farewell(Farewell::Wiped { id, expected, found }) => {
                refusal::Why::Wiped(Wiped { member: id, expected, found })
            }
            Why::Stranger(life) => refusal::Why::Stranger(life.cluster),
        };
        let details = Refusal { why: Some(details), from: self.own() }.encode_to_vec();
        Status::with_details(Code::FailedPrecondition, sentence, Bytes::from(details))
    }

    fn warn(&self, sentence: impl FnOnce() -> String) {
        self.inner.refused.fetch_add(1, Ordering::Relaxed);
        if let Some(unsaid) = self.inner.warnings.admit() {
            tracing::warn!(unsaid, "{}", sentence());
        }
    }
}

/// Reason why a request is refused.
#[derive(Clone, Copy)]
enum Why {
    Farewell(Farewell),
    Stranger(Life),
}

/// True if the two lives are of different clusters.
fn is_stranger(own: Life, other: Life) -> bool {
    own.cluster != other.cluster && !planted(Bug::StrangerHeeded)
}

fn is_life(life: &Life) -> bool {
    life.id != 0 && life.incarnation != 0 && life.cluster != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    const HOME: u64 = 0xa;

    fn named(ids: &[u64]) -> Vec<Member> {
        let member = |id: &u64| Member {
            id: *id,
            name: String::new(),
            peer_addr: format!("127.0.0.1:{id}"),
            client_addr: String::new(),
        };
        ids.iter().map(member).collect()
    }

    /// A member of three, of cluster `cluster`; 0: it has not joined one, and knows no other
    /// member.
    async fn member_of(cluster: u64, id: u64, incarnation: u64) -> (TempDir, Identity) {
        let dir = tempfile::tempdir().unwrap();
        let log = LogStore::open(dir.path(), incarnation).unwrap();
        if cluster == 0 {
            return (dir, Identity::new(id, log, &named(&[id]), Roster::default()));
        }
        log.join(cluster).await.unwrap();
        let members = [(1, false), (2, false), (3, false)].into();
        (dir, Identity::new(id, log, &named(&[1, 2, 3]), Roster { members, greatest_id: 3 }))
    }

    async fn member(id: u64, incarnation: u64) -> (TempDir, Identity) {
        member_of(HOME, id, incarnation).await
    }

    async fn admit(to: &Identity, route: Option<Route>, word: Word) -> Result<(), Status> {
        to.remember(to.examine(route.as_ref(), word)?).await
    }

    #[tokio::test]
    async fn claim_1_a_stranger_is_neither_admitted_nor_counted_nor_heeded_nor_remembered() {
        let ((_a, one), (_b, two)) = (member(1, 10).await, member(2, 20).await);
        let (_c, stranger) = member_of(0xb, 2, 21).await;
        for word in [Word::Leader, Word::Other] {
            let refused = admit(&one, stranger.route(1), word).await.unwrap_err();
            assert_eq!(refused.code(), Code::FailedPrecondition);
            assert!(refused.message().contains("member 2 belongs to cluster 000000000000000b, and this one to "));
            stranger.heed(1, &refused);
        }
        assert!(one.count(2, stranger.own()).await.is_err());
        assert!(!one.has_met(2), "its own member 2 must not be taken for a wiped one later");
        // It takes what it was asked for a message to its own member 2, whose old life it knows.
        stranger.inner.log.meet(1, 99).await.unwrap();
        one.inner.log.meet(2, 20).await.unwrap();
        let refused = admit(&stranger, one.route(2), Word::Other).await.unwrap_err();
        one.heed(2, &refused);
        let forged = stranger.refuse(Why::Farewell(Farewell::Wiped { id: 1, expected: 99, found: 10 }));
        one.heed(2, &forged);
        one.heed(2, &stranger.refuse(Why::Farewell(Farewell::Removed { id: 1 })));
        assert_eq!((*one.farewell().borrow(), *stranger.farewell().borrow()), (None, None));
        admit(&one, two.route(1), Word::Other).await.unwrap();
    }

    #[tokio::test]
    async fn claim_1_a_member_that_joins_takes_its_cluster_from_its_first_leader_durably() {
        let ((_a, one), (_c, stranger)) = (member(1, 10).await, member_of(0xb, 1, 11).await);
        let (dir, joiner) = member_of(0, 4, 40).await;
        assert_eq!(joiner.route(1), None, "it asks no member");
        let early = admit(&joiner, one.route(4), Word::Other).await.unwrap_err();
        assert_eq!((early.code(), joiner.is_homeless()), (Code::Unavailable, true));
        // A stranger that knew another life at this address is not the one that it waits for.
        stranger.inner.log.meet(4, 44).await.unwrap();
        assert!(admit(&joiner, stranger.route(4), Word::Leader).await.is_err());
        assert_eq!((joiner.is_homeless(), *joiner.farewell().borrow()), (true, None));
        let (doubter, _) = joiner.doubter().expect("it asks that one");
        admit(&joiner, one.route(4), Word::Leader).await.unwrap();
        joiner.heed_doubter(
            &doubter,
            &stranger.refuse(Why::Farewell(Farewell::Wiped { id: 4, expected: 44, found: 40 })),
        );
        assert_eq!(*joiner.farewell().borrow(), None, "it was welcomed meanwhile");
        assert_eq!(joiner.route(1).unwrap().from.unwrap().cluster, HOME);
        drop(joiner);
        let log = LogStore::open(dir.path(), 41).unwrap();
        assert_eq!((log.cluster(), log.known_incarnation(1)), (Some(HOME), Some(10)));
        let joiner = Identity::new(4, log, &named(&[4]), Roster::default());
        let (_d, other) = member_of(0xb, 2, 22).await;
        assert!(admit(&joiner, other.route(4), Word::Leader).await.is_err(), "it has joined for ever");
    }

    #[tokio::test]
    async fn claim_2_another_life_is_neither_admitted_nor_counted() {
        let ((_a, one), (_b, two), (_c, wiped)) = (member(1, 10).await, member(2, 20).await, member(2, 21).await);
        admit(&one, two.route(1), Word::Other).await.unwrap();
        let refused = admit(&one, wiped.route(1), Word::Other).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        let sentence = "member 2 has lost its raft log (expected incarnation 0000000000000014, found 0000000000000015): remove \
             it and add it again under a new id";
        assert_eq!(refused.message(), sentence);
        assert_eq!(one.count(2, wiped.own()).await.unwrap_err().to_string(), sentence);
        one.count(2, two.own()).await.unwrap();
        assert!(one.count(3, two.own()).await.is_err(), "the answer of another member");
        assert_eq!(*one.farewell().borrow(), None);
        // Claim 4, over the connection that the wiped one made.
        wiped.heed(1, &refused);
        two.heed(1, &refused);
        assert_eq!(*wiped.farewell().borrow(), Some(Farewell::Wiped { id: 2, expected: 20, found: 21 }));
        assert_eq!(*two.farewell().borrow(), None, "it is about another life than this one");
    }

    #[tokio::test]
    async fn claim_3_a_request_ends_nobody_and_a_refusal_only_the_one_who_asked_its_author() {
        let ((_a, one), (_b, two), (_c, wiped)) = (member(1, 10).await, member(2, 20).await, member(2, 21).await);
        one.count(2, two.own()).await.unwrap();
        let route = || one.route(2);
        assert!(!wiped.was_doubted());
        assert!(admit(&wiped, route(), Word::Leader).await.is_err());
        assert_eq!(*wiped.farewell().borrow(), None, "any program can say so");
        assert!(wiped.was_doubted() && !wiped.was_doubted(), "but it has to ask");
        assert!(!wiped.has_met(1), "and nothing is remembered");
        admit(&two, route(), Word::Leader).await.unwrap();
        let refused = admit(&one, wiped.route(1), Word::Other).await.unwrap_err();
        wiped.heed(3, &refused);
        assert_eq!(*wiped.farewell().borrow(), None, "member 3 was asked, and member 1 answered");
        wiped.inner.log.meet(1, 11).await.unwrap();
        wiped.heed(1, &refused);
        assert_eq!(*wiped.farewell().borrow(), None, "the member 1 that it knows is another one");
        let (_d, three) = member(3, 30).await;
        let unnamed = Status::with_details(Code::FailedPrecondition, "", Bytes::from_static(&[0x10, 3]));
        three.heed(1, &unnamed);
        let nothing = one.refuse(Why::Farewell(Farewell::Wiped { id: 3, expected: 0, found: 30 }));
        three.heed(1, &nothing);
        let itself = one.refuse(Why::Farewell(Farewell::Wiped { id: 3, expected: 30, found: 30 }));
        three.heed(1, &itself);
        assert_eq!(*three.farewell().borrow(), None);
    }

    #[tokio::test]
    async fn claim_4_a_wiped_member_that_waits_to_join_asks_who_knew_it() {
        let ((_a, one), (_b, two)) = (member(1, 10).await, member(2, 20).await);
        let (_c, wiped) = member_of(0, 4, 41).await;
        one.inner.log.meet(4, 40).await.unwrap();
        assert!(admit(&wiped, one.route(4), Word::Leader).await.is_err());
        let (doubter, route) = wiped.doubter().unwrap();
        assert_eq!((doubter.address.port(), wiped.doubter()), (1, None));
        let refused = admit(&one, Some(route), Word::Other).await.unwrap_err();
        let other = two.refuse(Why::Farewell(Farewell::Wiped { id: 4, expected: 40, found: 41 }));
        wiped.heed_doubter(&doubter, &other);
        assert_eq!(*wiped.farewell().borrow(), None, "that is not the one that it asked");
        wiped.heed_doubter(&doubter, &refused);
        assert_eq!(*wiped.farewell().borrow(), Some(Farewell::Wiped { id: 4, expected: 40, found: 41 }));
    }

    #[tokio::test]
    async fn claim_5_a_removed_member_is_told() {
        let ((_a, one), (_b, two)) = (member(1, 10).await, member(2, 20).await);
        one.enrolled(Roster { members: [(1, false), (3, false)].into(), greatest_id: 3 });
        let refused = admit(&one, two.route(1), Word::Other).await.unwrap_err();
        two.heed(1, &refused);
        assert_eq!(*two.farewell().borrow(), Some(Farewell::Removed { id: 2 }));
        // Not applied here yet, or never a member: that is not the same as removed.
        let (_d, four) = member(4, 40).await;
        admit(&one, four.route(1), Word::Other).await.unwrap();
    }

    #[tokio::test]
    async fn claim_6_lives_of_unknown_members_are_bounded() {
        let (_a, one) = member(1, 10).await;
        let life = |id| Some(Life { id, incarnation: id + 100, cluster: HOME });
        let route = |id| Some(Route { to: 1, from: life(id), ..Route::default() });
        let far = admit(&one, route(4 + UNKNOWN_MAX as u64), Word::Leader).await.unwrap_err();
        assert_eq!(far.code(), Code::Unavailable);
        assert!(admit(&one, route(u64::MAX), Word::Leader).await.is_err());
        for id in 4..4 + UNKNOWN_MAX as u64 {
            admit(&one, route(id), Word::Leader).await.unwrap();
        }
        // A membership that names one of them makes room for another one.
        let members = [(1, false), (2, false), (3, false), (4, true)].into();
        one.enrolled(Roster { members, greatest_id: 4 });
        admit(&one, route(4 + UNKNOWN_MAX as u64), Word::Leader).await.unwrap();
        assert!(admit(&one, route(5 + UNKNOWN_MAX as u64), Word::Leader).await.is_err());
        admit(&one, route(2), Word::Other).await.unwrap();
        admit(&one, route(5), Word::Other).await.unwrap();
    }

    #[tokio::test]
    async fn a_request_without_a_sender_or_for_another_member_is_refused() {
        let ((_a, one), (_b, two)) = (member(1, 10).await, member(2, 20).await);
        let code = |route: Option<Route>| one.examine(route.as_ref(), Word::Leader).unwrap_err().code();
        assert_eq!(code(None), Code::InvalidArgument);
        assert_eq!(code(Some(Route { to: 1, ..Route::default() })), Code::InvalidArgument);
        let itself = Route { to: 1, to_incarnation: 10, from: one.own(), ..Route::default() };
        assert_eq!(code(Some(itself)), Code::InvalidArgument);
        let elsewhere = one.examine(two.route(3).as_ref(), Word::Other).unwrap_err();
        assert_eq!(elsewhere.message(), "expected a message for member 1, found one for member 3");
    }
}
