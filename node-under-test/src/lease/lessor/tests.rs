use super::*;
use crate::lease::Renewed;
use crate::testing::TestStore;
use node_proto::command::command::Request;
use node_proto::etcdserverpb::{LeaseGrantRequest, LeaseRevokeRequest};
use tokio::sync::mpsc;

type Verdict = Result<(), ProposeError>;

/// Leadership as a test tells it: each confirmation gives what `confirmed` holds, each revocation
/// waits for its verdict.
#[derive(Clone)]
struct Fake {
    status: watch::Sender<RaftStatus>,
    confirmed: watch::Sender<Result<u64, ProposeError>>,
    confirmations: watch::Sender<u64>,
    revokes: mpsc::UnboundedSender<(u64, i64, tokio::sync::oneshot::Sender<Verdict>)>,
}

type Revokes = mpsc::UnboundedReceiver<(u64, i64, tokio::sync::oneshot::Sender<Verdict>)>;

impl Leadership for Fake {
    fn status_watch(&self) -> watch::Receiver<RaftStatus> {
        self.status.subscribe()
    }

    async fn confirm(&self) -> Result<u64, ProposeError> {
        self.confirmations.send_modify(|count| *count += 1);
        self.confirmed.borrow().clone()
    }

    async fn revoke(&self, term: u64, id: i64) -> Verdict {
        let (verdict, decided) = tokio::sync::oneshot::channel();
        self.revokes.send((term, id, verdict)).unwrap();
        decided.await.unwrap()
    }
}

/// A lessor at work over a store that has lease 1, of one second.
struct Bench {
    store: TestStore,
    fake: Fake,
    lessor: Arc<Lessor<Fake>>,
    revokes: Revokes,
}

fn leading(term: u64) -> RaftStatus {
    RaftStatus { term, is_leader: true, ..RaftStatus::default() }
}

fn lost_quorum() -> ProposeError {
    ProposeError::Unavailable("it lost contact with its quorum".to_owned())
}

impl Bench {
    fn new(status: RaftStatus, confirmed: Result<u64, ProposeError>) -> Self {
        let mut store = TestStore::default();
        store.apply(Request::LeaseGrant(LeaseGrantRequest { id: 1, ttl: 1 }));
        let (sent, revokes) = mpsc::unbounded_channel();
        let fake = Fake {
            status: watch::Sender::new(status),
            confirmed: watch::Sender::new(confirmed),
            confirmations: watch::Sender::new(0),
            revokes: sent,
        };
        let lessor = Lessor::new(store.store.clone(), fake.clone());
        tokio::spawn(lessor.clone().run());
        Self { store, fake, lessor, revokes }
    }

    async fn ask(&self, term: u64, about: Question) -> Result<Answer, String> {
        let question = wire::Question { about: Some(about) }.encode_to_vec().into();
        let answer = self.lessor.answer(term, question).await?;
        Ok(wire::Answer::decode(answer).unwrap().about.unwrap())
    }

    async fn renew(&self, term: u64, id: i64) -> Result<Renewed, String> {
        match self.ask(term, Question::Renew(wire::Renew { ids: vec![id] })).await? {
            Answer::Renewed(wire::Renewed { renewals }) if renewals[0].being_revoked => Ok(Renewed::BeingRevoked),
            Answer::Renewed(wire::Renewed { renewals }) => Ok(Renewed::Ttl(renewals[0].ttl_seconds)),
            other => panic!("{other:?}"),
        }
    }

    async fn settled(&self, term: u64, id: i64) {
        while self.renew(term, id).await == Ok(Renewed::BeingRevoked) {
            self.ask(term, Question::Settle(wire::Settle { ids: vec![id] })).await.unwrap();
        }
    }

    /// Sets the result of each confirmation from here on.
    fn confirm(&self, gives: Result<u64, ProposeError>) {
        drop(self.fake.confirmed.send_replace(gives));
    }

    async fn confirmations(&self, at_least: u64) {
        self.fake.confirmations.subscribe().wait_for(|count| *count >= at_least).await.unwrap();
    }
}

#[tokio::test]
async fn a_leader_that_cannot_confirm_revokes_nothing_and_its_successor_starts_over() {
    let mut bench = Bench::new(leading(3), Err(lost_quorum()));
    bench.confirmations(3).await;
    assert!(bench.revokes.try_recv().is_err(), "overdue, and not certain who leads");
    bench.fake.status.send_replace(RaftStatus { term: 4, ..RaftStatus::default() });
    bench.confirm(Ok(5));
    bench.fake.status.send_replace(leading(5));
    let (term, id, _) = bench.revokes.recv().await.unwrap();
    assert_eq!((term, id), (5, 1), "in its own term");
}

#[tokio::test]
async fn a_confirmation_of_another_term_revokes_nothing() {
    let mut bench = Bench::new(leading(3), Ok(5));
    bench.confirmations(2).await;
    assert!(bench.revokes.try_recv().is_err(), "the deadlines are those of term 3");
}

#[tokio::test]
async fn a_renewal_waits_for_a_revocation_in_flight() {
    let mut bench = Bench::new(leading(3), Ok(3));
    let (_, _, verdict) = bench.revokes.recv().await.unwrap();
    assert_eq!(bench.renew(3, 1).await, Ok(Renewed::BeingRevoked));
    bench.store.apply(Request::LeaseRevoke(LeaseRevokeRequest { id: 1 }));
    verdict.send(Ok(())).unwrap();
    bench.settled(3, 1).await;
    assert_eq!(bench.renew(3, 1).await, Ok(Renewed::Ttl(0)), "it is gone");
}

#[tokio::test]
async fn a_revocation_that_was_certainly_not_proposed_gives_way_to_a_renewal() {
    let mut bench = Bench::new(leading(3), Ok(3));
    let (_, _, verdict) = bench.revokes.recv().await.unwrap();
    verdict.send(Err(lost_quorum())).unwrap();
    bench.settled(3, 1).await;
    assert_eq!(bench.renew(3, 1).await, Ok(Renewed::Ttl(1)));
}

/// The refusal of a leader that was deposed with the revocation in its log looks the same.
#[tokio::test]
async fn a_refused_revocation_is_not_forgotten_before_the_leadership_is_confirmed() {
    let mut bench = Bench::new(leading(3), Ok(3));
    let (_, _, verdict) = bench.revokes.recv().await.unwrap();
    let before = *bench.fake.confirmations.borrow();
    bench.confirm(Err(lost_quorum()));
    verdict.send(Err(lost_quorum())).unwrap();
    bench.confirmations(before + 2).await;
    assert_eq!(bench.renew(3, 1).await, Ok(Renewed::BeingRevoked));
}

#[tokio::test]
async fn a_revocation_without_an_outcome_holds_until_the_term_ends() {
    let mut bench = Bench::new(leading(3), Ok(3));
    let (_, _, verdict) = bench.revokes.recv().await.unwrap();
    verdict.send(Err(ProposeError::Unknown("not committed yet".to_owned()))).unwrap();
    bench.ask(3, Question::Settle(wire::Settle { ids: vec![1] })).await.unwrap();
    assert_eq!(bench.renew(3, 1).await, Ok(Renewed::BeingRevoked), "it may be committed any moment");
    bench.confirm(Err(lost_quorum()));
    bench.fake.status.send_replace(leading(6));
    bench.settled(6, 1).await;
    assert_eq!(bench.renew(6, 1).await, Ok(Renewed::Ttl(1)), "applied in term 6, and still there");
}

#[tokio::test]
async fn questions_are_answered_in_the_confirmed_term_alone() {
    let bench = Bench::new(leading(3), Err(lost_quorum()));
    assert_eq!(bench.renew(3, 1).await, Ok(Renewed::Ttl(1)));
    assert!(bench.renew(2, 1).await.unwrap_err().contains("term 2 is over"));
    // The confirmation may be faster than the metrics.
    assert_eq!(bench.renew(7, 1).await, Ok(Renewed::Ttl(1)));
    assert!(bench.renew(3, 1).await.unwrap_err().contains("term 3 is over"));
    assert_eq!(bench.renew(7, 99).await, Ok(Renewed::Ttl(0)));
}

#[tokio::test]
async fn a_time_to_live_is_the_leaders() {
    let bench = Bench::new(leading(3), Err(lost_quorum()));
    let ask = |id| bench.ask(3, Question::TimeToLive(LeaseTimeToLiveRequest { id, keys: true }));
    let Answer::TimeToLive(answer) = ask(1).await.unwrap() else { panic!("another answer") };
    assert_eq!((answer.granted_ttl, answer.keys.len()), (1, 0));
    assert!((0..=1).contains(&answer.ttl));
    let Answer::TimeToLive(answer) = ask(9).await.unwrap() else { panic!("another answer") };
    assert_eq!((answer.ttl, answer.granted_ttl), (-1, 0));
    assert!(bench.lessor.answer(3, Bytes::from_static(&[0xff])).await.is_err());
}

/// Without a turn of the lessor's task in between.
#[tokio::test]
async fn a_lease_that_was_granted_again_under_its_id_has_a_deadline_of_its_own() {
    let mut bench = Bench::new(leading(3), Err(lost_quorum()));
    bench.confirmations(1).await;
    bench.store.apply(Request::LeaseRevoke(LeaseRevokeRequest { id: 1 }));
    bench.store.apply(Request::LeaseGrant(LeaseGrantRequest { id: 1, ttl: 60 }));
    bench.lessor.revoke_due(3, &mut JoinSet::new());
    assert!(!bench.lessor.expiry().is_being_revoked(1), "it has a minute left, and its predecessor was overdue");

    bench.store.apply(Request::LeaseRevoke(LeaseRevokeRequest { id: 1 }));
    bench.store.apply(Request::LeaseGrant(LeaseGrantRequest { id: 1, ttl: 5 }));
    let question = Question::TimeToLive(LeaseTimeToLiveRequest { id: 1, keys: false });
    let Answer::TimeToLive(answer) = bench.ask(3, question).await.unwrap() else { panic!("another answer") };
    assert!(answer.granted_ttl == 5 && answer.ttl <= 5, "{answer:?}");
}
