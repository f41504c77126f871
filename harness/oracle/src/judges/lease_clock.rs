//! Promise: a lease of seconds whose grant or renewal was acknowledged lives for its time to live;
//! one that ended, or whose revocation was acknowledged, is never renewed; an unrenewed lease ends.
//!
//! Times are those of the history: it holds an invocation before its request is sent, and an answer
//! or a watch event after it came. That is the sound direction for each of these sentences:
//!
//! - *It lives*: the server counts from some moment after the request was sent, so the lease exists
//!   at least until *sent plus TTL*. Its end is known by the watch event of its key's delete, which
//!   comes after the delete (every delete is such an event, so no read could see more), or by an
//!   answer that there is no such lease. If even that is before the promised time, the lease ended
//!   too early. An acknowledged renewal that was sent after the end breaks the same promise.
//! - *It stays revoked*: a renewal that was sent after the revocation was answered finds nothing.
//! - *It is answered*: half of the renewals within a bound, however many share a stream. The bound
//!   begins with the first answer that the member gave after the renewal was sent: an election
//!   holds up all of them alike, and says nothing of messages that wait for one another.
//! - *It ends*: judged once, after the load has ended and the cluster was healed. A lease does not
//!   end if its last request is longer ago than twice its TTL (a new leader starts over) and the
//!   bound, and its key is still there.
//!
//! A renewal without an answer promises nothing. A restart of the harness forgets all promises,
//! because its clock starts over.

use super::Alarms;
use super::asked::Asked;
use crate::model::Model;
use ninelives_evidence::operation::{Action, OpId, Reply};
use ninelives_evidence::record::LeasesJudged;
use ninelives_evidence::record::crowd::Histogram;
use ninelives_evidence::stretched::Stretched;
use ninelives_evidence::verdict::Finding;
use ninelives_evidence::verdict::findings::parts::{LeaseEnd, LongStream};
use ninelives_evidence::verdict::findings::{Leases as Broken, Members};
use ninelives_evidence::{Change, limits};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// A lease that lives no longer than this may end while a run lasts, seconds.
const SHORT_SECONDS_MAX: i64 = limits::LEASE_TTL_SECONDS_MAX as i64;

pub fn is_short(ttl_seconds: i64) -> bool {
    ttl_seconds <= SHORT_SECONDS_MAX
}

const MICROS: u64 = 1_000_000;
/// Time for which an ended lease is remembered: many times as long as a request about it may take.
const REMEMBERED_US: u64 = 120 * MICROS;

/// The meaning of a revision for a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leased {
    /// It ended by itself.
    Ended,
    /// A revocation was sent; it may have done it.
    Revoked,
}

/// An acknowledged grant or renewal.
#[derive(Debug, Clone)]
struct Promise {
    asked: Arc<Asked>,
    sent_us: u64,
    ttl_seconds: u64,
}

impl Promise {
    fn until_us(&self) -> u64 {
        self.sent_us.saturating_add(self.ttl_seconds.saturating_mul(MICROS))
    }
}

#[derive(Debug, Default)]
struct Life {
    ttl_seconds: i64,
    /// The promise that reaches furthest.
    promise: Option<Promise>,
    revoke_sent: bool,
    /// The moment at which its revocation was acknowledged.
    revoked_us: Option<u64>,
    /// The moment at which it was known to have ended, and the way in which it ended.
    gone: Option<(u64, LeaseEnd)>,
    /// The moment of the last request or answer about it.
    touched_us: u64,
}

#[derive(Debug, Default)]
pub struct LeaseClock {
    lives: BTreeMap<i64, Life>,
    /// The moments at which unanswered requests about leases were sent.
    sent: BTreeMap<OpId, u64>,
    tally: LeasesJudged,
    answers: Answers,
    /// What each answered renewal waited for others.
    answered: Histogram,
}

/// The moments at which each member answered renewals, of the last [`REMEMBERED_US`].
#[derive(Debug, Default)]
struct Answers(BTreeMap<u64, BTreeSet<u64>>);

impl Answers {
    /// Takes in an answer of `member` at `at_us`. Returns for how long it came after the first
    /// answer since its renewal was sent, microseconds.
    fn waited(&mut self, member: u64, (sent_us, at_us): (u64, u64)) -> u64 {
        let answers = self.0.entry(member).or_default();
        answers.insert(at_us);
        while answers.first().is_some_and(|oldest| at_us.saturating_sub(*oldest) > REMEMBERED_US) {
            answers.pop_first();
        }
        answers.range(sent_us..).next().map_or(0, |first| at_us.saturating_sub(*first))
    }
}

/// The lease that an operation is about.
fn about(action: &Action) -> Option<i64> {
    match action {
        Action::Grant { lease, .. } | Action::KeepAlive { lease } | Action::Revoke { lease } => Some(*lease),
        _ => None,
    }
}

impl LeaseClock {
    pub fn tally(&self) -> LeasesJudged {
        self.tally
    }

    /// Forgets everything that depends on the clock.
    pub fn forget(&mut self) {
        self.lives.clear();
        self.sent.clear();
        self.answers = Answers::default();
    }

    pub(super) fn invoked(&mut self, at_us: u64, asked: &Asked) {
        if let Action::Grant { lease, ttl_seconds } = asked.action
            && is_short(ttl_seconds)
        {
            self.prune(at_us);
            self.lives.insert(lease, Life { ttl_seconds, ..Life::default() });
        }
        let life = about(&asked.action).and_then(|lease| self.lives.get_mut(&lease));
        if let Some(life) = life {
            life.touched_us = at_us;
            life.revoke_sent |= matches!(asked.action, Action::Revoke { .. });
            self.sent.insert(asked.id, at_us);
        }
    }

    /// Forgets leases that have ended long ago: late answers about them are not judged any more.
    fn prune(&mut self, at_us: u64) {
        let over = |life: &Life| life.gone.is_some() || life.revoked_us.is_some();
        self.lives.retain(|_, life| !over(life) || at_us.saturating_sub(life.touched_us) < REMEMBERED_US);
    }

    /// `asked` ended without an answer.
    pub(super) fn ended(&mut self, at_us: u64, asked: &Asked) {
        self.sent.remove(&asked.id);
        if let Some(life) = about(&asked.action).and_then(|lease| self.lives.get_mut(&lease)) {
            life.touched_us = at_us;
        }
    }

    pub(super) fn done(&mut self, at_us: u64, asked: &Arc<Asked>, reply: &Reply, alarms: &mut Alarms) {
        let (Some(sent_us), Some(lease)) = (self.sent.remove(&asked.id), about(&asked.action)) else { return };
        let Some(life) = self.lives.get_mut(&lease) else { return };
        life.touched_us = at_us;
        match reply {
            Reply::Granted => {
                self.tally.promises += 1;
                let ttl_seconds = u64::try_from(life.ttl_seconds).unwrap_or(0);
                life.promise(lease, Promise { asked: Arc::clone(asked), sent_us, ttl_seconds }, alarms);
            }
            Reply::Renewed { ttl_seconds: 1.. } => {
                self.tally.promises += 1;
                self.tally.renewals += 1;
                let waited_us = self.answers.waited(asked.member, (sent_us, at_us));
                self.answered.note(Duration::from_micros(waited_us));
                let Reply::Renewed { ttl_seconds } = reply else { return };
                let ttl_seconds = u64::try_from(*ttl_seconds).unwrap_or(0);
                life.promise(lease, Promise { asked: Arc::clone(asked), sent_us, ttl_seconds }, alarms);
            }
            Reply::Renewed { .. } => {
                let how = LeaseEnd::NotRenewed { member: asked.member, request: asked.request() };
                life.end(lease, at_us, how, alarms);
            }
            Reply::Revoked => {
                self.tally.revocations += 1;
                life.revoked_us.get_or_insert(at_us);
            }
            _ => {}
        }
    }

    /// The next revision of the history, and the state before it: the leases whose keys it deletes.
    pub(super) fn delivered(
        &mut self,
        at_us: u64,
        before: &Model,
        changes: &[Change],
        alarms: &mut Alarms,
    ) -> Vec<(i64, Leased)> {
        let mut ended = Vec::new();
        for change in changes {
            let Change::Delete { key } = change else { continue };
            let Some(lease) = before.live(key).map(|live| live.lease) else { continue };
            // A client's delete of such a key would not end the lease, but the load's clients
            // delete none.
            let Some(life) = self.lives.get_mut(&lease).filter(|life| life.gone.is_none()) else { continue };
            if life.revoke_sent {
                ended.push((lease, Leased::Revoked));
                continue;
            }
            self.tally.expiries += 1;
            let how = LeaseEnd::KeyDeleted { key: key.escape_ascii().to_string() };
            life.end(lease, at_us, how, alarms);
            ended.push((lease, Leased::Ended));
        }
        ended
    }

    /// The short leases that have a key in `model`, with their TTL in seconds.
    pub(super) fn alive(&self, model: &Model) -> Vec<(i64, i64)> {
        let has_key = |lease: &i64| !model.attached_at(*lease, model.revision()).is_empty();
        let lives = self.lives.iter().filter(|(lease, _)| has_key(lease));
        lives.map(|(lease, life)| (*lease, life.ttl_seconds)).collect()
    }

    /// Judges how long renewals waited for their answers, if there were enough.
    pub(super) fn judge_answers(&self, bound: Stretched) -> Option<Finding> {
        let (answers, median_us) = (self.answered.count(), self.answered.median_us()?);
        judge_pulse(LongStream::Renewals, (answers, median_us), bound)
    }

    /// Judges after all renewals have stopped. `bound_ms`: the time until an expired lease has to
    /// be revoked.
    pub(super) fn awaited(&self, at_us: u64, bound_ms: u64, model: &Model) -> Vec<Finding> {
        let overdue = |(lease, ttl_seconds): (i64, i64)| {
            let touched_us = self.lives.get(&lease)?.touched_us;
            let ttl_us = u64::try_from(ttl_seconds).unwrap_or(0).saturating_mul(MICROS);
            let due_us = touched_us.saturating_add(2 * ttl_us).saturating_add(bound_ms.saturating_mul(1_000));
            (at_us > due_us).then(|| {
                let idle_ms = (at_us - touched_us) / 1_000;
                Finding::new(Broken::LeaseOverdue { lease, ttl_seconds, idle_ms, bound_ms })
            })
        };
        self.alive(model).into_iter().filter_map(overdue).collect()
    }
}

impl Life {
    fn promise(&mut self, lease: i64, promise: Promise, alarms: &mut Alarms) {
        let asked = &promise.asked;
        if let Some(revoked_us) = self.revoked_us.filter(|revoked_us| *revoked_us < promise.sent_us) {
            alarms.push(asked.alarm(Broken::RenewedAfterRevocation {
                member: asked.member,
                request: asked.request(),
                lease,
                ttl_seconds: promise.ttl_seconds,
                after_ms: (promise.sent_us - revoked_us) / 1_000,
            }));
        } else if let Some((gone_us, how)) = &self.gone
            && !self.revoke_sent
        {
            broken(lease, &promise, *gone_us, how, alarms);
        }
        if self.promise.as_ref().is_none_or(|old| old.until_us() < promise.until_us()) {
            self.promise = Some(promise);
        }
    }

    fn end(&mut self, lease: i64, at_us: u64, how: LeaseEnd, alarms: &mut Alarms) {
        if let Some(promise) = self.promise.as_ref().filter(|_| !self.revoke_sent && self.gone.is_none()) {
            broken(lease, promise, at_us, &how, alarms);
        }
        self.gone.get_or_insert((at_us, how));
    }
}

/// Promise: half of the small messages on a long stream are answered within `bound`, because a
/// message does not wait for those before it.
pub(super) fn judge_pulse(stream: LongStream, (answers, median_us): (u64, u64), bound: Stretched) -> Option<Finding> {
    let late = answers >= limits::STREAM_ANSWERS_MIN && median_us > bound.ms().saturating_mul(1_000);
    late.then(|| Finding::new(Members::AnswersLate { stream, answers, median_us, bound }))
}

fn broken(lease: i64, promise: &Promise, gone_us: u64, how: &LeaseEnd, alarms: &mut Alarms) {
    let until_us = promise.until_us();
    if gone_us >= until_us {
        return;
    }
    let Promise { asked, sent_us, ttl_seconds } = promise;
    let ended_us = i128::from(gone_us) - i128::from(*sent_us);
    // Rounded down, so that an end before the sending never counts as 0.
    let ended_ms = i64::try_from(ended_us.div_euclid(1_000)).unwrap_or(i64::MAX);
    alarms.push(asked.alarm(Broken::LeaseEndedEarly {
        member: asked.member,
        request: asked.request(),
        lease,
        ttl_seconds: *ttl_seconds,
        ended_ms,
        how: how.clone(),
    }));
}

#[cfg(test)]
mod tests;
