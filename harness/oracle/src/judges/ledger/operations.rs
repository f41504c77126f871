//! Operations of clients: what is asked, and what each answer promises.

use super::{Books, OperationBooks, Pending};
use crate::judges::Alarms;
use crate::judges::asked::{Asked, Newest};
use crate::judges::lease_clock::is_short;
use crate::judges::reads::Claim;
use ninelives_evidence::member::Slot;
use ninelives_evidence::operation::{Action, Fate, OpId, Outcome, Purpose, Reason, Reply};
use ninelives_evidence::verdict::Finding;
use ninelives_evidence::verdict::findings::parts::NoEffect;
use ninelives_evidence::verdict::findings::{self, Answers};
use std::sync::Arc;

impl Books {
    /// `id` is about to be sent to the `endpoint`-th slot.
    pub fn invoked(&mut self, id: OpId, endpoint: usize, action: &Action, purpose: Option<&Purpose>) {
        let slot = Slot(endpoint as u64 + 1);
        let member = self.members.tenants.get(&slot).copied().unwrap_or(slot.0);
        let asked = Arc::new(Asked { id, member, action: action.clone(), purpose: purpose.cloned() });
        match action {
            Action::Grant { lease, ttl_seconds } => {
                self.leases.book.grant_sent(*lease, *ttl_seconds);
                if is_short(*ttl_seconds) {
                    // It may end by itself at any time: a revocation whose answer never comes.
                    self.operations.writes.invoke_expiry(*lease);
                }
            }
            Action::Revoke { lease } => self.leases.book.revoke_sent(*lease),
            Action::Compact { revision } => self.compactions.sent = self.compactions.sent.max(*revision),
            _ => {}
        }
        if action.writes_keys() {
            self.operations.writes.invoke(Arc::clone(&asked));
        }
        self.leases.clock.invoked(self.position.at_us, &asked);
        self.operations.linearizability.invoke(id, action);
        let (floor, own) = (self.operations.acked.clone(), self.operations.sessions.of(member));
        self.operations.pending.insert(id, Pending { asked, floor, own });
    }

    pub fn completed(&mut self, id: OpId, outcome: &Outcome) {
        let Some(Pending { asked, floor, own }) = self.operations.pending.remove(&id) else { return };
        self.operations.linearizability.complete(id, outcome);
        self.operations.refusals.count(asked.purpose.as_ref(), &asked.action, outcome);
        let mut alarms = Alarms::new();
        match outcome {
            Outcome::Done { revision, reply, .. } => {
                self.done(&asked, &floor, *revision, reply, &mut alarms);
                self.operations.sessions.check_answer(&asked, &own, *revision, &mut alarms);
                self.operations.acked.answered(*revision, &asked);
                self.operations.sessions.answered(&asked, &own, *revision);
            }
            Outcome::Refused { why, reason } => {
                self.refused(&asked, (why, reason), &mut alarms);
                self.operations.sessions.check_refusal(&asked, &own, why, &mut alarms);
            }
            Outcome::Unknown { .. } => {
                self.leases.clock.ended(self.position.at_us, &asked);
                if !asked.action.only_asks() {
                    self.tally.unknown_writes += 1;
                }
                if let Action::Revoke { lease } = asked.action {
                    self.leases.book.revoke_unknown(lease);
                }
                self.operations.writes.unknown(id);
            }
        }
        self.settle_stale(&mut alarms);
        self.file(None, alarms);
    }

    fn done(&mut self, asked: &Arc<Asked>, floor: &Newest, revision: u64, reply: &Reply, alarms: &mut Alarms) {
        let Asked { id, member, ref action, .. } = **asked;
        let beyond_limits = self.is_refused(action);
        let Books { model, operations, compactions, leases, tally, position, .. } = self;
        let OperationBooks { writes, claims, stale, .. } = operations;
        match action {
            Action::Read { .. } | Action::Check { .. } => tally.reads += 1,
            action if action.only_asks() => {}
            _ => tally.acked_writes += 1,
        }
        leases.clock.done(position.at_us, asked, reply, alarms);
        let mut wrote = false;
        match (action, reply) {
            (Action::Put { .. }, Reply::Put)
            | (Action::Txn { .. } | Action::Packed { .. }, Reply::Txn { succeeded: true }) => wrote = true,
            (Action::Check { when, .. }, Reply::Txn { succeeded }) => {
                let when = when.clone();
                let claim = if *succeeded { Claim::CompareHolds { when } } else { Claim::CompareFails { when } };
                claims.add(model, asked, revision, claim, alarms);
            }
            (Action::Delete { .. }, Reply::Deleted(1..)) => wrote = true,
            (Action::Delete { keys }, Reply::Deleted(0)) => {
                writes.wrote_nothing(id, NoEffect::DeletedNothing, alarms);
                claims.add(model, asked, revision, Claim::Empty { keys: keys.clone() }, alarms);
            }
            (Action::Txn { when, .. }, Reply::Txn { succeeded: false }) => {
                writes.wrote_nothing(id, NoEffect::ComparisonFailed, alarms);
                claims.add(model, asked, revision, Claim::CompareFails { when: when.clone() }, alarms);
            }
            (Action::Revoke { lease }, Reply::Revoked) => {
                leases.book.revoked(*lease);
                writes.forget_expiry(*lease);
                writes.revoked(model, id, revision);
                claims.add(model, asked, revision, Claim::Detached { lease: *lease }, alarms);
            }
            (Action::Grant { lease, .. }, Reply::Granted) => leases.book.granted(*lease),
            (Action::Defragment, Reply::Defragmented) | (Action::KeepAlive { .. }, Reply::Renewed { .. }) => {}
            (Action::Compact { revision }, Reply::Compacted) => compactions.acked = compactions.acked.max(*revision),
            (Action::Read { keys, revision: at, .. }, Reply::Read(rows)) => {
                let claim = Claim::Holds { keys: keys.clone(), rows: rows.to_vec() };
                claims.add(model, asked, at.unwrap_or(revision), claim, alarms);
            }
            _ => alarms.push(asked.alarm(Answers::AnotherAnswer { member, request: asked.request() })),
        }
        if beyond_limits {
            alarms.push(asked.alarm(Answers::CarriedOutBeyondLimits { member, request: asked.request() }));
        }
        if revision < floor.revision && promises_real_time(action, reply) {
            let what = Answers::StaleAnswer { member, request: asked.request(), revision, floor: floor.floor() };
            stale.entry(floor.revision).or_default().push(asked.alarm(what));
        }
        if wrote {
            writes.acked(model, id, revision, alarms);
            // Which of the two answers is wrong is not known here. If the history has yet to come
            // to that revision, it will show.
            if revision <= floor.revision && !writes.contested(revision) {
                let (request, floor) = (asked.request(), floor.floor());
                let what = findings::Writes::RevisionTaken { member, request, acknowledged: revision, floor };
                alarms.push(Finding::new(what));
            }
        }
    }

    /// Whether the members under test have to refuse `action` in any state.
    fn is_refused(&self, action: &Action) -> bool {
        match action.fate() {
            Fate::Refused => true,
            Fate::RefusedByNode => !self.members.server,
            Fate::Taken | Fate::Either => false,
        }
    }

    fn refused(&mut self, asked: &Asked, (why, reason): (&str, &Reason), alarms: &mut Alarms) {
        let (member, request, answer) = (asked.member, || asked.request(), || why.to_owned());
        if asked.action.fate() == Fate::Taken && reason.is_unfit() {
            alarms.push(asked.alarm(Answers::RefusedWithinLimits { member, request: request(), answer: answer() }));
        }
        if let (Reason::Judged { code, .. }, Some(codes)) = (reason, asked.action.refusal_codes())
            && self.is_refused(&asked.action)
            && !codes.contains(&code.as_str())
        {
            let (code, expected) = (code.clone(), codes.iter().map(|code| (*code).to_owned()).collect());
            let what = Answers::WrongRefusalCode { member, request: request(), answer: answer(), code, expected };
            alarms.push(asked.alarm(what));
        }
        self.leases.clock.ended(self.position.at_us, asked);
        match &asked.action {
            Action::Grant { lease, .. } => {
                self.leases.book.grant_refused(*lease);
                self.operations.writes.forget_expiry(*lease);
            }
            Action::Revoke { lease } => self.leases.book.revoke_refused(*lease, why, alarms),
            _ => {}
        }
        self.operations.writes.wrote_nothing(asked.id, NoEffect::Refused, alarms);
    }
}

/// Whether the answer was given at a revision that must not be older than anything acknowledged
/// before the request. (A grant or a compaction is not about keys, and a write that breaks this has
/// its own words.)
fn promises_real_time(action: &Action, reply: &Reply) -> bool {
    matches!(
        (action, reply),
        (Action::Read { revision: None, serializable: false, .. }, Reply::Read(_))
            | (Action::Check { .. }, Reply::Txn { .. })
            | (_, Reply::Txn { succeeded: false } | Reply::Deleted(0))
    )
}
