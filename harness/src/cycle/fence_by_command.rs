//! The fence that is a raft command: every replica hashes its state at exactly its index.

use super::fence::Fence;
use super::revive::first_trouble;
use super::{Stage, Work};
use crate::cluster::{Member, Trouble};
use crate::evidence::{Answers, Evidence, Recovered};
use crate::{clock, limits};
use futures_util::future::join_all;
use node_proto::control::{FenceAnswerResponse, FenceResponse};
use std::time::Duration;

impl Stage<'_> {
    pub(super) async fn fence_by_command(&mut self, work: &mut Work) -> Result<Fence, Trouble> {
        let bound = Duration::from_millis(self.scenario.bounds.fence_ms_max);
        let mut missed = Vec::new();
        for _ in 0..limits::FENCE_TRIES_MAX {
            self.ledger.take(&Evidence::Mark { cycle: work.step.cycle });
            let proposed = self.propose(work, bound).await?;
            let answers = self.answers(proposed.index, bound).await?;
            if answers.iter().all(|(_, answer)| !answer.missed) {
                let first = answers.first().map(|(_, answer)| (answer.revision, answer.compact_revision));
                let (revision, compacted) = first.unwrap_or_default();
                let unsigned = |number: i64| u64::try_from(number).unwrap_or(0);
                let (cycle, answers) = (work.step.cycle, Answers::new(&answers));
                return Ok(Fence {
                    index: proposed.index,
                    revision: unsigned(revision),
                    compacted: unsigned(compacted),
                    evidence: Evidence::FenceAnswers { cycle, answers },
                    looks: Vec::new(),
                });
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
            let Some(recovery) = one.recovery().await? else { continue };
            let recovery = Recovered::from(&recovery);
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
}
