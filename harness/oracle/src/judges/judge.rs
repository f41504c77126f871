//! The one table of judges and their pieces of evidence, for the live run and for a fold over its
//! history.

use super::cost::{check_cost, tells};
use super::damage::{check_damaged_start, check_refusal};
use super::leaderless::{self, check_leaderless};
use super::lease_clock::judge_pulse;
use super::ledger::Books;
use super::liveness::{check_cut, check_healing};
use super::replay_start::{Restart, carry_install, check_dead, check_replay_start};
use super::strangers::{check_stranger, check_unlike};
use super::votes::check_vote;
use super::{check_fence, check_kept, check_kv_fence, check_last_read, check_missed, migration};
use ninelives_evidence::member::Engine;
use ninelives_evidence::operation::{Outcome, Reason};
use ninelives_evidence::verdict::findings::Restarts;
use ninelives_evidence::verdict::{Class, Finding};
use ninelives_evidence::{DeadMember, Evidence, KvAnswer, Look, Recovered};

/// Whether `evidence` is a cycle's fence at which replicas held other keys, or another history of
/// them.
fn keys_differ(evidence: &Evidence) -> bool {
    match evidence {
        Evidence::FenceAnswers { cycle: 1.., answers } => answers.0.windows(2).any(|pair| pair[0].1.kv != pair[1].1.kv),
        Evidence::KvFence { cycle: 1.., answers, .. } => !KvAnswer::agree(answers),
        _ => false,
    }
}

impl Books {
    /// Judges `evidence`, and raises its findings; alarms about operations and streams are filed on
    /// the way.
    pub(super) fn judge(&mut self, evidence: &Evidence) {
        let mut disagree = false;
        for mut finding in self.dispatch(evidence) {
            // The look without a fault does not count as a cycle.
            finding.cycle = finding.cycle.filter(|cycle| *cycle > 0);
            if self.suppress(&finding) {
                // Replicas that disagree do not have one state that could be compared with the
                // model.
                disagree |= finding.class() == Class::StateHash;
            } else {
                self.raise(finding);
            }
        }
        self.tally.fences_uncompared += u64::from(disagree && matches!(evidence, Evidence::FenceAnswers { .. }));
        self.tally.cycles_apart += u64::from(disagree && keys_differ(evidence));
    }

    fn dispatch(&mut self, evidence: &Evidence) -> Vec<Finding> {
        match evidence {
            Evidence::Invoke { op, endpoint, action, purpose } => {
                self.invoked(*op, *endpoint, action, purpose.as_ref());
            }
            Evidence::Done { op, revision, term, reply } => {
                let outcome = Outcome::Done { revision: *revision, term: *term, reply: reply.clone() };
                self.completed(*op, &outcome);
            }
            Evidence::Refused { op, why, reason } => {
                let reason = reason.clone().unwrap_or(Reason::Unrecorded);
                self.completed(*op, &Outcome::Refused { why: why.clone(), reason });
            }
            Evidence::Unknown { op, why } => self.completed(*op, &Outcome::Unknown { why: why.clone() }),
            Evidence::Revision { revision, slot, changes } => self.delivered(*slot, *revision, changes),
            Evidence::Again { revision, slot, digest } => self.delivered_again(*slot, *revision, *digest),
            Evidence::Skipped { slot, compacted } => self.stream_skipped(*slot, *compacted),
            Evidence::Cycle { cycle, .. } => self.begin_cycle(*cycle),
            Evidence::MovedIn { slot, member, .. } => {
                // Its watch has to go on where the one before it broke off.
                if let Some(old) = self.members.tenants.insert(*slot, *member) {
                    self.members.votes.remove(&old);
                }
                self.members.leaders.change();
            }
            Evidence::Damaged { member, damage, .. } => drop(self.members.damaged.insert(*member, damage.clone())),
            Evidence::RefusedDamage { cycle, member, refusal } => {
                self.operations.sessions.died(*member);
                let damage = self.members.damaged.get(member);
                return damage
                    .and_then(|damage| check_refusal((*cycle, *member), damage, refusal))
                    .into_iter()
                    .collect();
            }
            Evidence::Inspected { cycle, member, look, applied_received, dead } => {
                return self.inspected((*cycle, *member), look, *applied_received, dead);
            }
            Evidence::Stranger { cycle, slot, seen } => return check_stranger(*cycle, *slot, seen),
            Evidence::Unlike { cycle, member, ours, cluster, leader } => {
                return check_unlike(*cycle, *member, (*ours, *cluster, *leader)).into_iter().collect();
            }
            Evidence::RaftLog { log } => self.log_read(log),
            Evidence::Baseline { .. } => self.fences.baseline = self.baseline_now(),
            Evidence::Missed { cycle, member, index, recovery } => {
                return check_missed(*cycle, *member, *index, recovery).into_iter().collect();
            }
            Evidence::FenceAnswers { cycle, answers } => {
                let baseline = std::mem::take(&mut self.fences.baseline);
                return check_fence(self, *cycle, &baseline, &answers.0);
            }
            // Members that disagree in a first reading are read again and held to the same
            // baseline.
            Evidence::KvFence { reading: 1, answers, .. } if !KvAnswer::agree(answers) => {}
            Evidence::KvFence { cycle, revision, etcd, answers, .. } => {
                let baseline = std::mem::take(&mut self.fences.baseline);
                return check_kv_fence(self, *cycle, &baseline, (*revision, *etcd), answers);
            }
            Evidence::Recovery { cycle, member, recovery } => return self.recovered(*cycle, *member, recovery),
            Evidence::LastRead { member, revision, rows } => return check_last_read(self, *member, *revision, rows),
            Evidence::Readings { member, readings, .. } => self.said(*member, readings),
            Evidence::LeasesAwaited { bound_ms, answer } => {
                let mut findings = self.leases_awaited(*bound_ms);
                findings.extend(answer.and_then(|bound| self.leases.clock.judge_answers(bound)));
                return findings;
            }
            Evidence::Cost { cost, percent_max } => {
                self.tally.costs_unjudged += u64::from(!tells(cost));
                return check_cost(cost, *percent_max);
            }
            Evidence::Pulse { stream, answers, median_us, bound } => {
                return judge_pulse(*stream, (*answers, *median_us), *bound).into_iter().collect();
            }
            Evidence::Cut { cut, bound_ms } => return check_cut(cut, *bound_ms).into_iter().collect(),
            Evidence::Leaderless { leaderless, bound_ms } => {
                let judged = leaderless::lasted(leaderless, *bound_ms);
                let counter = if judged { &mut self.tally.leaderless } else { &mut self.tally.leaderless_unjudged };
                *counter += 1;
                return check_leaderless(leaderless, *bound_ms);
            }
            Evidence::Healed { healing, bounds } => return check_healing(healing, *bounds),
            Evidence::FreshWatch { member, asked, heard, .. } => self.watched_anew(*member, asked, heard),
            Evidence::Saving { member, .. } => self.fences.saving = Some((*member, self.baseline_now())),
            Evidence::Restored { cycle, revision, index, founders } => {
                return self.restored(*cycle, (*revision, *index), founders);
            }
            Evidence::Told { finding } => return vec![finding.clone()],
            // Its next life may have yet to replay the writes that it acknowledged.
            Evidence::Killed { member, .. } | Evidence::EndedByDisk { member, .. } => {
                self.operations.sessions.died(*member)
            }
            Evidence::Resumed { after_cycle, .. } => self.resumed(*after_cycle),
            Evidence::End(_) => self.position.ended = true,
            Evidence::Place { engine, .. } => self.members.server |= *engine == Engine::Opaque,
            Evidence::History(_)
            | Evidence::Watch { .. }
            | Evidence::WatchEnded { .. }
            | Evidence::Did { .. }
            | Evidence::Reading { .. }
            | Evidence::PowerLost { .. }
            | Evidence::Finding { .. } => {}
            Evidence::CycleEnd { .. } => self.members.leaders.settle(),
        }
        Vec::new()
    }

    /// Renewals have stopped; every lease had to end within `bound_ms` beyond its time.
    fn leases_awaited(&mut self, bound_ms: u64) -> Vec<Finding> {
        self.leases.clock.awaited(self.position.at_us, bound_ms, &self.model)
    }

    fn inspected(
        &mut self,
        (cycle, member): (u32, u64),
        look: &Look,
        applied_received: Option<u64>,
        dead: &DeadMember,
    ) -> Vec<Finding> {
        let mut dead = dead.clone();
        if let Some((before, _)) = self.members.dead.get(&member) {
            carry_install(before, &mut dead);
        }
        let seen = dead.clone();
        let restart = Restart { cycle, member, dead: &seen, applied_received };
        let findings = match look {
            Look::Killed => {
                let mut findings = check_dead(&restart);
                findings.extend(check_vote(&restart, self.members.votes.get(&member).copied()));
                findings.extend(self.members.leaders.found_dead(&restart, self.members.tenants.len()));
                if let Some(vote) = dead.vote() {
                    self.members.votes.insert(member, vote);
                }
                findings
            }
            Look::MigrateKilled => {
                let before = self.before(member);
                migration::settle_index(&before, &mut dead);
                check_kept(&restart, &before, None)
            }
            Look::Migrated { to, index } => {
                let mut findings = check_kept(&restart, &self.before(member), Some(*to));
                if findings.is_empty() {
                    findings.extend(check_dead(&restart));
                }
                if *index != dead.engine_index {
                    let what = Restarts::MigrationClaims { claimed: *index, found: dead.engine_index };
                    findings.push(Finding::new(what).in_cycle(cycle).at_member(member));
                }
                findings
            }
        };
        self.members.dead.insert(member, (dead, applied_received));
        findings
    }

    /// The result of the last look at the directory of `member`.
    fn before(&self, member: u64) -> DeadMember {
        self.members.dead.get(&member).map(|(dead, _)| dead.clone()).unwrap_or_default()
    }

    fn recovered(&mut self, cycle: u32, member: u64, recovery: &Recovered) -> Vec<Finding> {
        let mut findings = Vec::new();
        if !recovery.complete {
            findings.push(Finding::new(Restarts::RecoveryIncomplete {}).in_cycle(cycle).at_member(member));
        }
        if let Some((dead, applied_received)) = self.members.dead.get(&member) {
            let restart = Restart { cycle, member, dead, applied_received: *applied_received };
            findings.extend(match self.members.damaged.get(&member) {
                Some(damage) => check_damaged_start(&restart, damage, recovery),
                None => check_replay_start(&restart, recovery),
            });
        }
        findings
    }
}
