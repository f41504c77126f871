//! One client: carries out its generator's steps one after the other, writing down each request
//! before it is sent and each answer after.
//!
//! It has a home member, moves on to the next one at an error, and comes home after a while. Once
//! as many requests in a row have failed as there are members, it pauses after each, briefly at
//! first. Members known not to serve are passed over; while none serves, nothing is sent. No
//! request is ever sent twice.

use super::WorkloadOptions;
use super::attempt::attempt;
use super::connection::Connection;
use super::generator::{Generator, Step};
use crate::endpoints::Board;
use crate::timer;
use ninelives_evidence::operation::{
    Action, Compare, Effect, Expected, KeyState, Keys, OpId, Outcome, Purpose, Reason, Reply,
};
use ninelives_oracle::Ledger;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// The first pause in a series of errors, and the longest one.
const PAUSE_MIN: Duration = Duration::from_millis(2);
const PAUSE_MAX: Duration = Duration::from_millis(40);
/// Steps after which a client that moved away tries its home again.
const HOME_AFTER_STEPS: u32 = 32;
/// No lease expires while a run lasts.
const LEASE_TTL_SECONDS: i64 = 30 * 24 * 3600;

pub(super) struct Client {
    generator: Generator,
    connections: Vec<Connection>,
    board: Board,
    options: WorkloadOptions,
    ledger: Arc<Ledger>,
    /// The step under way.
    purpose: Purpose,
    seq: u64,
    /// Leases whose revocation no server has answered yet.
    to_revoke: VecDeque<i64>,
    at: usize,
    steps_away: u32,
    /// Requests that failed since the last answer.
    failed: u32,
}

impl Client {
    pub fn new(
        generator: Generator,
        (connections, board): (Vec<Connection>, Board),
        options: WorkloadOptions,
        ledger: Arc<Ledger>,
    ) -> Self {
        let at = generator.client() as usize % connections.len().max(1);
        Self {
            generator,
            connections,
            board,
            options,
            ledger,
            purpose: Purpose { step: "none".into(), refusal: Expected::Never },
            seq: 0,
            to_revoke: VecDeque::new(),
            at,
            steps_away: 0,
            failed: 0,
        }
    }

    pub async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        if self.connections.is_empty() {
            return;
        }
        loop {
            tokio::select! {
                biased;
                _ = stopped.wait_for(|stop| *stop) => return,
                () = self.board.somebody_serves() => {}
            }
            let step = self.generator.next();
            self.come_home();
            self.step(step).await;
            let pause = pause(self.failed, self.connections.len()).max(self.options.pace);
            tokio::select! {
                biased;
                _ = stopped.wait_for(|stop| *stop) => return,
                () = timer::sleep(pause), if !pause.is_zero() => {}
                () = tokio::task::yield_now(), if pause.is_zero() => {}
            }
        }
    }

    fn home(&self) -> usize {
        self.generator.client() as usize % self.connections.len()
    }

    fn come_home(&mut self) {
        if self.at != self.home() {
            self.steps_away += 1;
            if self.steps_away >= HOME_AFTER_STEPS && self.board.serves(self.home()) {
                self.at = self.home();
                self.steps_away = 0;
            }
        }
    }

    async fn step(&mut self, step: Step) {
        self.purpose = step.purpose();
        match step {
            Step::Append { key } => self.swap(key, append).await,
            Step::Count { key } => self.swap(key, count).await,
            Step::Put { key, filler } => self.put(key, filler, 0).await,
            Step::Session { key, filler } => self.session(key, filler).await,
            Step::PutLeased { key, lease, filler } => self.put(key, filler, lease).await,
            Step::Delete { key } => drop(self.send(Action::Delete { keys: Keys::one(key) }).await),
            Step::DeleteRange { from, to } => {
                self.send(Action::Delete { keys: Keys { from, to: Some(to) } }).await;
            }
            Step::Multi { puts, delete, guarded, filler } => self.multi(puts, delete, guarded, filler).await,
            Step::Block { puts, deletes, filler } => self.block(puts, deletes, filler).await,
            Step::Packed { puts, shape, filler } => {
                let value = filled(filler, self.next_id());
                let then = puts.into_iter().map(|key| Effect::Put { key, value: value.clone() }).collect();
                self.send(Action::Packed { shape, then }).await;
            }
            Step::Check { keys, depth, read } => self.check(keys, depth, read).await,
            Step::Grant { lease } => drop(self.send(Action::Grant { lease, ttl_seconds: LEASE_TTL_SECONDS }).await),
            Step::Revoke { lease } => self.revoke(lease).await,
            Step::Read { key, serializable } => {
                self.send(Action::Read { keys: Keys::one(key), revision: None, serializable }).await;
            }
            Step::ReadRange { from, to, serializable } => {
                self.send(Action::Read { keys: Keys { from, to: Some(to) }, revision: None, serializable }).await;
            }
            Step::ReadOld { key, back } => {
                let revision = Some(self.ledger.revision().saturating_sub(back).max(1));
                self.send(Action::Read { keys: Keys::one(key), revision, serializable: false }).await;
            }
            Step::Defragment => drop(self.send(Action::Defragment).await),
            Step::Compact { keep } => self.compact(keep).await,
        }
    }

    async fn put(&mut self, key: String, filler: u64, lease: i64) {
        let value = filled(filler, self.next_id());
        self.send(Action::Put { key, value, lease }).await;
    }

    /// Writes to a member, and then reads there at the acknowledged revision: the member must be
    /// able to show it.
    async fn session(&mut self, key: String, filler: u64) {
        let value = filled(filler, self.next_id());
        let at = self.at;
        let put = self.send(Action::Put { key: key.clone(), value, lease: 0 }).await;
        match put {
            Outcome::Done { revision, .. } if self.at == at => {
                let keys = Keys::one(key);
                self.send(Action::Read { keys, revision: Some(revision), serializable: true }).await;
            }
            _ => self.skip(),
        }
    }

    /// Reads `key`, and writes what `change` makes of its value, unless the key changed in between.
    async fn swap(&mut self, key: String, change: fn(&str, OpId, usize) -> String) {
        let Some(now) = self.read_one(&key).await else { return self.skip() };
        let value = change(&now.value, self.next_id(), self.options.value_bytes_max as usize);
        let when = vec![Compare { key: key.clone(), mod_revision: now.mod_revision }];
        self.send(Action::Txn { when, then: vec![Effect::Put { key, value }] }).await;
    }

    async fn multi(&mut self, puts: Vec<String>, delete: Option<String>, guarded: bool, filler: u64) {
        let mut when = Vec::new();
        if let Some(key) = puts.first().filter(|_| guarded) {
            let Some(now) = self.read_one(key).await else { return self.skip() };
            when.push(Compare { key: key.clone(), mod_revision: now.mod_revision });
        }
        let value = filled(filler, self.next_id());
        let put = |key| Effect::Put { key, value: value.clone() };
        let mut then: Vec<Effect> = puts.into_iter().map(put).collect();
        then.extend(delete.map(|key| Effect::Delete { keys: Keys::one(key) }));
        self.send(Action::Txn { when, then }).await;
    }

    /// Reads the block, and changes all of it unless any of its keys changed in between.
    async fn block(&mut self, puts: Vec<String>, deletes: Vec<String>, filler: u64) {
        let mut keys: Vec<&String> = puts.iter().chain(&deletes).collect();
        keys.sort_unstable();
        let Some(when) = self.as_they_are(&keys).await else { return self.skip() };
        let value = filled(filler, self.next_id());
        let mut then: Vec<Effect> =
            puts.iter().map(|key| Effect::Put { key: key.clone(), value: value.clone() }).collect();
        then.extend(deletes.iter().map(|key| Effect::Delete { keys: Keys::one(key) }));
        self.send(Action::Txn { when, then }).await;
    }

    /// Asks whether the keys are as they were just read, or (unread) absent.
    async fn check(&mut self, keys: Vec<String>, depth: u32, read: bool) {
        let when = if read {
            let Some(when) = self.as_they_are(&keys.iter().collect::<Vec<_>>()).await else { return self.skip() };
            when
        } else {
            keys.into_iter().map(|key| Compare { key, mod_revision: 0 }).collect()
        };
        self.send(Action::Check { when, depth }).await;
    }

    /// Reads `keys`, which are neighbours in ascending order: the comparisons that hold of them
    /// until one changes.
    async fn as_they_are(&mut self, keys: &[&String]) -> Option<Vec<Compare>> {
        let (from, last) = (keys.first()?, keys.last()?);
        // Behind the last key, and before its successor, however many digits that has.
        let block = Keys { from: (*from).clone(), to: Some(format!("{last}/")) };
        let rows = self.read(block).await?;
        let found: BTreeMap<&[u8], u64> = rows.iter().map(|row| (row.key.as_slice(), row.mod_revision)).collect();
        let mod_revision = |key: &String| found.get(key.as_bytes()).copied().unwrap_or(0);
        Some(keys.iter().map(|key| Compare { key: (*key).clone(), mod_revision: mod_revision(key) }).collect())
    }

    /// Compacts no more than every member's watch has delivered: a watch that resumes further back
    /// would rightly be refused, and would prove nothing.
    async fn compact(&mut self, keep: u64) {
        let revision = self.ledger.revision().saturating_sub(keep).min(self.ledger.compaction_ceiling());
        if revision > 1 {
            self.send(Action::Compact { revision }).await;
        } else {
            self.skip();
        }
    }

    /// Revokes the lease that waits longest: this one, unless an earlier revocation never reached a
    /// server. A second revocation catches up, so that leases do not pile up over many outages.
    async fn revoke(&mut self, lease: i64) {
        self.to_revoke.push_back(lease);
        for _ in 0..2 {
            let Some(lease) = self.to_revoke.pop_front() else {
                self.skip();
                continue;
            };
            let outcome = self.send(Action::Revoke { lease }).await;
            if !outcome.is_answer() {
                self.to_revoke.push_back(lease);
            }
        }
    }

    /// A request of this step is not sent: it keeps its number, so that later ones have the same
    /// ids in every run.
    fn skip(&mut self) {
        self.seq += 1;
    }

    async fn read_one(&mut self, key: &str) -> Option<Now> {
        let rows = self.read(Keys::one(key)).await?;
        Some(rows.first().map_or_else(Now::default, Now::of))
    }

    async fn read(&mut self, keys: Keys) -> Option<Vec<KeyState>> {
        match self.send(Action::Read { keys, revision: None, serializable: false }).await {
            Outcome::Done { reply: Reply::Read(rows), .. } => Some(rows),
            _ => None,
        }
    }

    /// The id of the request that is sent next.
    fn next_id(&self) -> OpId {
        OpId { client: self.generator.client(), seq: self.seq }
    }

    /// Sends `action` to a member that is known to serve. If none does, it is not sent, and is not
    /// evidence.
    async fn send(&mut self, action: Action) -> Outcome {
        let op = self.next_id();
        self.seq += 1;
        if !self.board.serves(self.at) && !self.move_on() {
            return Outcome::Refused { why: "no member serves: not sent".to_owned(), reason: Reason::NotSent };
        }
        let to = (self.at, &mut self.connections[self.at]);
        let outcome = attempt(&self.ledger, op, to, (&action, self.purpose.clone())).await;
        self.after(&outcome);
        outcome
    }

    /// Stays with the server after an answer or the server's own refusal; leaves it after any other
    /// error.
    fn after(&mut self, outcome: &Outcome) {
        if outcome.is_answer() {
            self.failed = 0;
            return;
        }
        self.move_on();
        self.failed = self.failed.saturating_add(1);
    }

    /// Goes to the next member that serves, if there is one.
    fn move_on(&mut self) -> bool {
        let next = self.board.next_serving(self.at);
        if let Some(next) = next {
            (self.at, self.steps_away) = (next, 0);
        }
        next.is_some()
    }
}

/// The pause after `failed` requests in a row: none before each of the `members` had its turn, so
/// that one that died costs its clients a round trip.
fn pause(failed: u32, members: usize) -> Duration {
    match failed.checked_sub(members as u32) {
        None => Duration::ZERO,
        Some(more) => PAUSE_MIN.saturating_mul(1 << more.min(16)).min(PAUSE_MAX),
    }
}

/// A key as a client read it; absent: revision 0, no value.
#[derive(Debug, Default)]
struct Now {
    value: String,
    mod_revision: u64,
}

impl Now {
    fn of(row: &KeyState) -> Self {
        Self { value: String::from_utf8_lossy(&row.value).into_owned(), mod_revision: row.mod_revision }
    }
}

/// The list with `id` at its end; it starts over when it would grow beyond `bytes_max`.
fn append(list: &str, id: OpId, bytes_max: usize) -> String {
    let longer = format!("{list},{id}");
    if list.is_empty() || longer.len() > bytes_max { id.to_string() } else { longer }
}

/// One more than the number in front of the first comma.
fn count(value: &str, id: OpId, _bytes_max: usize) -> String {
    let before: u64 = value.split(',').next().and_then(|number| number.parse().ok()).unwrap_or(0);
    format!("{},{id}", before + 1)
}

fn filled(filler: u64, id: OpId) -> String {
    format!("{},{id}", "x".repeat(usize::try_from(filler).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_pause_once_every_member_failed_them_and_longer_each_time_up_to_a_bound() {
        assert_eq!([0, 1, 2].map(|failed| pause(failed, 3)), [Duration::ZERO; 3]);
        assert_eq!([3, 4, 5].map(|failed| pause(failed, 3).as_millis()), [2, 4, 8]);
        assert_eq!([8, 40, u32::MAX].map(|failed| pause(failed, 3)), [PAUSE_MAX; 3]);
    }

    #[test]
    fn values_show_who_wrote_them_and_stay_bounded() {
        let id = OpId { client: 3, seq: 17 };
        assert_eq!(append("", id, 64), "3.17");
        assert_eq!(append("2.9", id, 64), "2.9,3.17");
        assert_eq!(append("2.9", id, 7), "3.17");
        assert_eq!(count("", id, 64), "1,3.17");
        assert_eq!(count("41,2.9", id, 64), "42,3.17");
        for value in [append("2.9", id, 64), count("1,2.9", id, 64), filled(0, id), filled(9, id)] {
            assert_eq!(OpId::of_value(value.as_bytes()), Some(id));
        }
    }
}
