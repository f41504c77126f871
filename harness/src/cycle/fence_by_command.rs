//! The fence that is a raft command: every replica hashes its state at exactly its index.
//!
//! A replica may skip a fence, because its recovery or a snapshot covered it. That proves nothing,
//! so another fence follows once all members have applied everything, until the bound is over.
//! Where logs are cut short at once, a member that lags behind a load gets snapshot after snapshot,
//! each as late as the last one, so after some tries the clients rest. A fence that is still
//! skipped when the bound is over says nothing against the system.

use super::fence::Fence;
use super::revive::first_trouble;
use super::{Stage, Work};
use crate::cluster::{Member, Trouble};
use crate::timer;
use futures_util::future::join_all;
use ninelives_evidence::limits;
use ninelives_evidence::verdict::findings::Lack;
use ninelives_evidence::{Answers, Did, Evidence, EvidenceKind, FenceAnswer};
use std::time::Duration;

impl Stage<'_> {
    pub(super) async fn fence_by_command(&mut self, work: &mut Work) -> Result<Fence, Trouble> {
        let bound = Duration::from_millis(self.scenario.bounds.fence_ms_max);
        let (lap, mut tries, mut pause) = (self.cluster.site.pace().begin(), 0, limits::FENCE_RETRY_PAUSE);
        let mut rest = None;
        loop {
            tries += 1;
            self.ledger.record(&Evidence::Baseline { cycle: work.step.cycle });
            let index = self.propose(work, bound).await?;
            let answers = self.answers(index, bound).await?;
            if answers.iter().all(|(_, answer)| !answer.missed) {
                let first = answers.first().map(|(_, answer)| (answer.revision, answer.compact_revision));
                let (revision, compacted) = first.unwrap_or_default();
                let unsigned = |number: i64| u64::try_from(number).unwrap_or(0);
                let (cycle, answers) = (work.step.cycle, Answers::new(&answers));
                return Ok(Fence {
                    index,
                    revision: unsigned(revision),
                    compacted: unsigned(compacted),
                    evidence: Evidence::FenceAnswers { cycle, answers },
                    looks: Vec::new(),
                });
            }
            let without = answers.iter().filter(|(_, answer)| answer.missed);
            let missed: Vec<_> = without.map(|(member, answer)| (*member, answer.index)).collect();
            let diverged = self.judge_missed(work, &missed).await?;
            let (waited_ms, over) = (lap.elapsed_ms(), lap.is_over(bound * limits::FENCE_TRIES_MAX));
            if diverged || (tries >= limits::FENCE_TRIES_MAX && over) {
                let skipped = missed.iter().map(|(member, _)| *member).collect();
                let keep_entries = self.scenario.cluster.keep_entries;
                return Err(Trouble::Unproven(Lack::FenceNeverApplied { tries, waited_ms, skipped, keep_entries }));
            }
            if tries >= limits::FENCE_TRIES_UNDER_LOAD && rest.is_none() {
                rest = Some(self.cluster.site.board.rest());
            }
            timer::sleep(pause).await;
            pause = (pause * 2).min(limits::FENCE_RETRY_PAUSE_MAX);
            let index = self.cluster.applied_max();
            first_trouble(join_all(self.cluster.members.iter().map(|member| member.catch_up(index, bound))).await)?;
        }
    }

    /// Judges the members that skipped a fence, and returns whether one of them has applied another
    /// entry in its place.
    async fn judge_missed(&self, work: &mut Work, missed: &[(u64, u64)]) -> Result<bool, Trouble> {
        for (member, index) in missed {
            let Some(one) = self.cluster.member(*member) else { continue };
            let Some(recovery) = one.recovery().await? else { continue };
            let (cycle, member, index) = (work.step.cycle, *member, *index);
            self.judge(work, &Evidence::Missed { cycle, member, index, recovery });
        }
        Ok(work.found_by(EvidenceKind::Missed))
    }

    /// Proposes the fence to one member after the other until one takes it; during an election none
    /// does.
    async fn propose(&mut self, work: &Work, bound: Duration) -> Result<u64, Trouble> {
        let lap = self.cluster.site.pace().begin();
        let members: Vec<_> = self.cluster.members.iter().map(|member| member.id).collect();
        for member in members.iter().cycle() {
            let left = lap.left(bound);
            if left.is_zero() {
                break;
            }
            self.fences += 1;
            self.note(work.step.cycle, Did::Fence, Some(*member), None);
            let proposed = match self.cluster.member(*member) {
                Some(one) => one.propose_fence(self.fences, left.min(limits::CONTROL_REQUEST)).await?,
                None => None,
            };
            if let Some(proposed) = proposed {
                return Ok(proposed);
            }
            timer::sleep(limits::FENCE_RETRY_PAUSE).await;
        }
        Err(Trouble::Late {
            member: members.first().copied().unwrap_or(0),
            what: "take a fence (nor did any other member)".into(),
            bound: lap.stretched(bound),
        })
    }

    async fn answers(&self, index: u64, bound: Duration) -> Result<Vec<(u64, FenceAnswer)>, Trouble> {
        async fn ask(member: &Member, index: u64, bound: Duration) -> Result<(u64, FenceAnswer), Trouble> {
            Ok((member.id, member.fence_answer(index, bound).await?))
        }
        first_trouble(join_all(self.cluster.members.iter().map(|member| ask(member, index, bound))).await)
    }
}
