//! The fence, and what is judged at it.
//!
//! A fence counts only if every member *applied* it: one that recovery or a snapshot skipped is `missed`, and another is
//! issued. Running out of tries is never a pass.

use super::revive::first_trouble;
use super::{Stage, Work};
use crate::cluster::{Member, Trouble};
use crate::evidence::{Answers, Evidence, Recovered};
use crate::verdict::{Class, Finding};
use crate::{clock, limits};
use futures_util::future::join_all;
use node_proto::control::{FenceAnswerResponse, FenceResponse, IndexRange, RecoveryResponse};
use std::time::Duration;

/// A fence that every member answered.
pub(super) struct Fence {
    answers: Vec<(u64, FenceAnswerResponse)>,
}

impl Stage<'_> {
    pub(super) async fn fence(&mut self, work: &mut Work) -> Result<Fence, Trouble> {
        let start = clock::now();
        let bound = Duration::from_millis(self.scenario.bounds.fence_ms_max);
        let mut missed = Vec::new();
        for _ in 0..limits::FENCE_TRIES_MAX {
            self.ledger.take(&Evidence::Mark { cycle: work.step.cycle });
            let proposed = self.propose(work, bound).await?;
            let answers = self.answers(proposed.index, bound).await?;
            if answers.iter().all(|(_, answer)| !answer.missed) {
                work.record.fence_index = Some(proposed.index);
                work.record.phases.fence = clock::ms_since(start);
                return Ok(Fence { answers });
            }
            let without = answers.iter().filter(|(_, answer)| answer.missed);
            missed = without.map(|(member, answer)| (*member, answer.index)).collect();
        }
        self.judge_missed(work, &missed).await?;
        let what = format!("apply one of {} fences instead of skipping it", limits::FENCE_TRIES_MAX);
        let first = self.cluster.members.first().map_or(0, |member| member.id);
        Err(Trouble::Late { member: first, what, bound: bound * limits::FENCE_TRIES_MAX })
    }

    async fn judge_missed(&self, work: &mut Work, missed: &[(u64, u64)]) -> Result<(), Trouble> {
        for (member, index) in missed {
            let Some(one) = self.cluster.member(*member) else { continue };
            let recovery = Recovered::from(&one.recovery().await?);
            let (cycle, member, index) = (work.step.cycle, *member, *index);
            work.findings.extend(self.ledger.take(&Evidence::Missed { cycle, member, index, recovery }));
        }
        Ok(())
    }

    /// Proposes on one member after the other until one takes it: during an election none does.
    async fn propose(&mut self, work: &Work, bound: Duration) -> Result<FenceResponse, Trouble> {
        let deadline = clock::now() + bound;
        let members: Vec<_> = self.cluster.members.iter().map(|member| member.id).collect();
        for member in members.iter().cycle() {
            let left = deadline.saturating_duration_since(clock::now());
            if left.is_zero() {
                break;
            }
            self.fences += 1;
            self.note(work.step.cycle, "fence", Some(*member), None);
            let proposed = match self.cluster.member(*member) {
                Some(one) => one.propose_fence(self.fences, left.min(limits::CONTROL_REQUEST)).await?,
                None => None,
            };
            if let Some(proposed) = proposed {
                return Ok(proposed);
            }
            clock::sleep(limits::FENCE_RETRY_PAUSE).await;
        }
        Err(Trouble::Late {
            member: members.first().copied().unwrap_or(0),
            what: "take a fence (nor did any other member)".into(),
            bound,
        })
    }

    async fn answers(&self, index: u64, bound: Duration) -> Result<Vec<(u64, FenceAnswerResponse)>, Trouble> {
        async fn ask(member: &Member, index: u64, bound: Duration) -> Result<(u64, FenceAnswerResponse), Trouble> {
            Ok((member.id, member.fence_answer(index, bound).await?))
        }
        first_trouble(join_all(self.cluster.members.iter().map(|member| ask(member, index, bound))).await)
    }

    /// Judges the fence's answers, and each restarted member's recovery: at the fence every entry that its log held at the
    /// start has been applied or replaced, so a recovery that is not complete now never will be.
    pub(super) async fn verify(&mut self, work: &mut Work, fence: &Fence) -> Result<(), Trouble> {
        let start = clock::now();
        let revision = fence.answers.first().and_then(|(_, answer)| u64::try_from(answer.revision).ok()).unwrap_or(0);
        self.observe(work, revision).await?;
        self.take_readings(work.step.cycle);
        let (cycle, answers) = (work.step.cycle, Answers::new(&fence.answers));
        work.findings.extend(self.ledger.take(&Evidence::FenceAnswers { cycle, answers }));
        let compacted = fence.answers.first().and_then(|(_, answer)| u64::try_from(answer.compact_revision).ok());
        self.second_look(work, revision, compacted.unwrap_or(0)).await;
        let restarted: Vec<_> = work.last_casualties().map(|casualty| casualty.member).collect();
        for member in restarted {
            if let Some(one) = self.cluster.member(member) {
                let recovery = one.recovery().await?;
                work.add_recovery(&recovery);
                let recovery = Recovered::from(&recovery);
                work.findings.extend(self.ledger.take(&Evidence::Recovery { cycle, member, recovery }));
            }
        }
        if let Some(one) = work.victims.first().and_then(|victim| self.cluster.member(victim.member)) {
            work.record.persisted_after = one.status().await?.persisted;
        }
        work.record.phases.verify = clock::ms_since(start);
        Ok(())
    }

    /// Waits until every member's watch has delivered `revision`: a watch that does not go on after a crash is found here.
    async fn observe(&self, work: &mut Work, revision: u64) -> Result<(), Trouble> {
        let deadline = clock::now() + Duration::from_millis(limits::OBSERVE_MS_MAX);
        let waits = self.cluster.members.iter().map(|member| async {
            // The watch is the slot's; what it fails to deliver is the member's.
            let delivered = self.observer.wait_revision(member.slot, revision, deadline).await?;
            Ok::<_, anyhow::Error>((member.id, delivered))
        });
        for waited in join_all(waits).await {
            let (member, delivered) = waited?;
            if delivered < revision {
                let why = format!(
                    "expected n{member}'s watch to deliver revision {revision} of the fence within {} ms, found it at {delivered}",
                    limits::OBSERVE_MS_MAX
                );
                self.tell(work, Finding::new(Class::Liveness, why).in_cycle(work.step.cycle).at_member(member));
            }
        }
        Ok(())
    }

    /// What members said of themselves since the last look.
    fn take_readings(&self, cycle: u32) {
        for member in &self.cluster.members {
            let readings = member.readings.take();
            self.ledger.take(&Evidence::Readings { cycle, member: member.id, readings });
        }
    }
}

impl Work {
    /// Adds what a restarted member had to do.
    fn add_recovery(&mut self, recovery: &RecoveryResponse) {
        let length = |range: Option<IndexRange>| range.map_or(0, |range| range.last.saturating_sub(range.first) + 1);
        self.record.verified += length(recovery.verified);
        self.record.replayed += length(recovery.replayed);
        self.record.snapshot_installed |= recovery.snapshot_installed.is_some();
    }
}
