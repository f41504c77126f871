//! One client's stream of keep-alives.
//!
//! Requests are read as they come, whatever the leader or the client's reading does: h2 closes a
//! connection on which many small frames wait, with all its streams. What waits is a count per
//! lease, so a stream holds no more than its leases. Everything that waits is one wish to the
//! leader; a lease that is being revoked holds up its own answers, and those of no other.

use super::{REQUEST_TIMEOUT, propose_status};
use crate::clock::{self, Moment};
use crate::lease::{Answers, Ask, Renewals, Renewed};
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, Stream, StreamExt};
use node_base::sabotage::{Bug, planted};
use node_proto::etcdserverpb::{LeaseKeepAliveRequest, LeaseKeepAliveResponse, ResponseHeader};
use node_raft::ProposeError;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::Future;
use std::sync::Arc;
use tokio::sync::mpsc;
use tonic::Status;

/// Leases of one stream whose keep-alives may wait at a time.
const LEASES_MAX: usize = 65_536;

/// Number of keep-alives that wait, by lease.
type Counts = BTreeMap<i64, u64>;

enum Event {
    Answered(Result<Answers, ProposeError>),
    /// Leases that were being revoked: what came of some, and which still are.
    Settled(Result<Passed, Status>),
}

struct Passed {
    done: BTreeMap<i64, i64>,
    left: BTreeSet<i64>,
    deadline: Moment,
}

pub struct KeepAlive<A, H> {
    ask: Arc<A>,
    renewals: Renewals,
    header: H,
    /// Not yet part of a question.
    wanted: Counts,
    /// Part of the question under way.
    asked: Option<Counts>,
    /// Being revoked, as the leader has answered.
    settling: Counts,
    /// Lease, TTL in seconds, and how often it is to be answered.
    ready: VecDeque<(i64, i64, u64)>,
    events: FuturesUnordered<BoxFuture<'static, Event>>,
}

impl<A: Ask, H: Fn() -> Option<ResponseHeader>> KeepAlive<A, H> {
    pub fn new(ask: Arc<A>, renewals: Renewals, header: H) -> Self {
        Self {
            ask,
            renewals,
            header,
            wanted: Counts::new(),
            asked: None,
            settling: Counts::new(),
            ready: VecDeque::new(),
            events: FuturesUnordered::new(),
        }
    }

    /// Runs until the client goes away, or has ended its side and has every answer.
    ///
    /// # Errors
    /// No leader answered in time, `lost` has come, or the client keeps too many leases alive.
    pub async fn run(
        mut self,
        mut requests: impl Stream<Item = Result<LeaseKeepAliveRequest, Status>> + Unpin,
        answers: &mpsc::Sender<Result<LeaseKeepAliveResponse, Status>>,
        lost: impl Future<Output = Status>,
    ) -> Result<(), Status> {
        tokio::pin!(lost);
        let mut open = true;
        while open || !self.is_idle() {
            self.begin();
            tokio::select! {
                biased;
                () = answers.closed() => return Ok(()),
                status = &mut lost => return Err(status),
                place = answers.reserve(), if !self.ready.is_empty() => match (place, self.next_answer()) {
                    (Ok(place), Some(answer)) => place.send(Ok(answer)),
                    _ => return Ok(()),
                },
                request = requests.next(), if open => match request {
                    Some(Ok(request)) => self.want(request.id)?,
                    // A broken stream has no reader left.
                    Some(Err(_)) => return Ok(()),
                    None => open = false,
                },
                Some(event) = self.events.next() => self.take(event)?,
            }
        }
        Ok(())
    }

    fn is_idle(&self) -> bool {
        self.wanted.is_empty() && self.events.is_empty() && self.ready.is_empty()
    }

    fn want(&mut self, id: i64) -> Result<(), Status> {
        let full = self.wanted.len() + self.settling.len() >= LEASES_MAX;
        let counts = if self.settling.contains_key(&id) { &mut self.settling } else { &mut self.wanted };
        if full && !counts.contains_key(&id) {
            return Err(Status::resource_exhausted(format!(
                "expected keep-alives of at most {LEASES_MAX} leases on one stream, found more: use several streams"
            )));
        }
        let count = counts.entry(id).or_default();
        *count = count.saturating_add(1);
        Ok(())
    }

    /// Asks for everything that waits, if no question is under way and the client has taken the
    /// last answers.
    fn begin(&mut self) {
        if self.asked.is_some() || !self.ready.is_empty() || self.wanted.is_empty() {
            return;
        }
        let wanted = if planted(Bug::KeepaliveOneAtATime) {
            self.wanted.pop_first().into_iter().collect()
        } else {
            std::mem::take(&mut self.wanted)
        };
        let (renewals, ids) = (self.renewals.clone(), wanted.keys().copied().collect());
        self.asked = Some(wanted);
        self.events.push(async move { Event::Answered(renewals.renew(ids).await) }.boxed());
    }

    fn take(&mut self, event: Event) -> Result<(), Status> {
        match event {
            Event::Answered(answers) => {
                let answers = answers.map_err(propose_status)?;
                let mut revoked = BTreeSet::new();
                for (id, times) in self.asked.take().unwrap_or_default() {
                    match answers.get(&id) {
                        Some(Renewed::Ttl(ttl)) => self.ready.push_back((id, *ttl, times)),
                        Some(Renewed::BeingRevoked) => {
                            *self.settling.entry(id).or_default() += times;
                            revoked.insert(id);
                        }
                        None => return Err(Status::internal(format!("the leader did not answer for lease {id}"))),
                    }
                }
                if !revoked.is_empty() {
                    self.settle(revoked, clock::now() + REQUEST_TIMEOUT);
                }
            }
            Event::Settled(passed) => {
                let Passed { done, left, deadline } = passed?;
                for (id, ttl) in done {
                    let times = self.settling.remove(&id).unwrap_or_default();
                    self.ready.push_back((id, ttl, times));
                }
                if !left.is_empty() {
                    self.settle(left, deadline);
                }
            }
        }
        Ok(())
    }

    fn settle(&mut self, ids: BTreeSet<i64>, deadline: Moment) {
        let pass = settle(self.ask.clone(), self.renewals.clone(), ids, deadline);
        self.events.push(async move { Event::Settled(pass.await) }.boxed());
    }

    fn next_answer(&mut self) -> Option<LeaseKeepAliveResponse> {
        let (id, ttl, times) = self.ready.front_mut()?;
        let answer = LeaseKeepAliveResponse { header: (self.header)(), id: *id, ttl: *ttl };
        *times = times.saturating_sub(1);
        if *times == 0 {
            self.ready.pop_front();
        }
        Some(answer)
    }
}

/// Waits until the leader has done with `ids`, and renews those that are left.
async fn settle(
    ask: Arc<impl Ask>,
    renewals: Renewals,
    ids: BTreeSet<i64>,
    deadline: Moment,
) -> Result<Passed, Status> {
    let pass = async {
        ask.settle(ids.iter().copied().collect()).await?;
        renewals.renew(ids.clone()).await
    };
    let answers = tokio::select! {
        answers = pass => answers.map_err(propose_status)?,
        () = clock::sleep_until(deadline) => return Err(Status::unavailable("etcdserver: request timed out")),
    };
    let (mut left, mut done) = (ids, BTreeMap::new());
    left.retain(|id| match answers.get(id) {
        Some(Renewed::Ttl(ttl)) => done.insert(*id, *ttl).is_some(),
        Some(Renewed::BeingRevoked) | None => true,
    });
    Ok(Passed { done, left, deadline })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use tokio::sync::{Semaphore, watch};
    use tokio_stream::wrappers::UnboundedReceiverStream;

    /// A leader that knows leases 1 to 9, and is revoking those in `revoking`; answers when it is
    /// let.
    #[derive(Clone)]
    struct Leader {
        open: Arc<Semaphore>,
        asked: Arc<Mutex<Vec<Vec<i64>>>>,
        revoking: watch::Sender<BTreeSet<i64>>,
    }

    impl Leader {
        fn new() -> Self {
            Self {
                open: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
                asked: Arc::default(),
                revoking: watch::Sender::new(BTreeSet::new()),
            }
        }
    }

    impl Ask for Leader {
        async fn renew(&self, ids: Vec<i64>) -> Result<BTreeMap<i64, Renewed>, ProposeError> {
            self.asked.lock().unwrap().push(ids.clone());
            self.open.acquire().await.unwrap().forget();
            let revoking = self.revoking.borrow().clone();
            let renewed = |id: i64| match id {
                _ if revoking.contains(&id) => Renewed::BeingRevoked,
                1..=9 => Renewed::Ttl(5),
                _ => Renewed::Ttl(0),
            };
            Ok(ids.into_iter().map(|id| (id, renewed(id))).collect())
        }

        async fn settle(&self, ids: Vec<i64>) -> Result<(), ProposeError> {
            let mut revoking = self.revoking.subscribe();
            let settled = revoking.wait_for(|revoking| !ids.iter().any(|id| revoking.contains(id))).await;
            settled.map(|_| ()).map_err(|_| ProposeError::NoLeader)
        }
    }

    struct Stream {
        requests: Option<mpsc::UnboundedSender<Result<LeaseKeepAliveRequest, Status>>>,
        answers: mpsc::Receiver<Result<LeaseKeepAliveResponse, Status>>,
        ended: tokio::task::JoinHandle<Result<(), Status>>,
    }

    impl Stream {
        fn open(leader: &Leader, answers_max: usize) -> Self {
            let (requests, incoming) = mpsc::unbounded_channel();
            let (outgoing, answers) = mpsc::channel(answers_max);
            let keep_alive = KeepAlive::new(Arc::new(leader.clone()), Renewals::spawn(leader.clone()), || None);
            let incoming = UnboundedReceiverStream::new(incoming);
            let ended = tokio::spawn(async move { keep_alive.run(incoming, &outgoing, std::future::pending()).await });
            Self { requests: Some(requests), answers, ended }
        }

        fn send(&self, id: i64) {
            self.requests.as_ref().unwrap().send(Ok(LeaseKeepAliveRequest { id })).unwrap();
        }

        async fn next(&mut self) -> (i64, i64) {
            let answer = self.answers.recv().await.unwrap().unwrap();
            (answer.id, answer.ttl)
        }
    }

    #[tokio::test]
    async fn every_request_is_answered_and_then_a_half_closed_stream_ends() {
        let leader = Leader::new();
        let mut stream = Stream::open(&leader, 1);
        for id in [1, 77, 1, 2, 1] {
            stream.send(id);
        }
        stream.requests = None;
        let mut answers = Vec::new();
        while let Some(answer) = stream.answers.recv().await {
            let answer = answer.unwrap();
            answers.push((answer.id, answer.ttl));
        }
        answers.sort_unstable();
        assert_eq!(answers, [(1, 5), (1, 5), (1, 5), (2, 5), (77, 0)]);
        stream.ended.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn what_comes_while_a_question_is_under_way_shares_the_next_one() {
        let leader = Leader { open: Arc::new(Semaphore::new(0)), ..Leader::new() };
        let mut stream = Stream::open(&leader, 16);
        stream.send(1);
        while leader.asked.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        // Without answers and without a reader, the stream takes them all and holds two counts.
        for _ in 0..50_000 {
            stream.send(2);
            stream.send(3);
        }
        stream.requests = None;
        leader.open.add_permits(2);
        let mut answers = 0;
        while let Some(answer) = stream.answers.recv().await {
            assert_eq!(answer.unwrap().ttl, 5);
            answers += 1;
        }
        assert_eq!(answers, 100_001);
        assert_eq!(leader.asked.lock().unwrap().len(), 2, "one question for all that waited");
    }

    #[tokio::test]
    async fn a_lease_that_is_being_revoked_holds_up_no_other() {
        let leader = Leader::new();
        leader.revoking.send_replace([4].into());
        let mut stream = Stream::open(&leader, 16);
        stream.send(4);
        stream.send(4);
        stream.send(5);
        assert_eq!(stream.next().await, (5, 5));
        stream.send(4);
        stream.send(6);
        assert_eq!(stream.next().await, (6, 5));
        leader.revoking.send_replace(BTreeSet::new());
        for _ in 0..3 {
            assert_eq!(stream.next().await, (4, 5), "it was not revoked after all");
        }
    }

    #[tokio::test]
    async fn too_many_leases_end_the_stream_in_words() {
        let leader = Leader { open: Arc::new(Semaphore::new(0)), ..Leader::new() };
        let stream = Stream::open(&leader, 16);
        for id in 0..=LEASES_MAX as i64 * 2 {
            if stream.requests.as_ref().unwrap().send(Ok(LeaseKeepAliveRequest { id })).is_err() {
                break;
            }
        }
        let status = stream.ended.await.unwrap().unwrap_err();
        assert!(status.message().contains("use several streams"), "{status}");
    }
}
