//! The fence, and what is judged at it.
//!
//! A fence counts only if every member *applied* it: one that recovery or a snapshot skipped is `missed`, and another is
//! issued. Running out of tries is never a pass.

use super::revive::first_trouble;
use super::{Stage, Work};
use crate::cluster::{Member, Trouble};
use crate::oracle::{FenceMark, Restart, check_fence, check_replay_start};
use crate::scenario::hex;
use crate::verdict::{Class, Finding};
use crate::{clock, limits};
use futures_util::future::join_all;
use node_proto::control::{FenceAnswerResponse, FenceResponse, RecoveryResponse};
use std::time::Duration;

/// A fence that every member answered.
pub(super) struct Fence {
    /// What was certain before it was proposed.
    mark: FenceMark,
    answers: Vec<(u64, FenceAnswerResponse)>,
}

impl Stage<'_> {
    pub(super) async fn fence(&mut self, work: &mut Work) -> Result<Fence, Trouble> {
        let start = clock::now();
        let bound = Duration::from_millis(self.scenario.bounds.fence_ms_max);
        let mut missed = Vec::new();
        for _ in 0..limits::FENCE_TRIES_MAX {
            let mark = self.ledger.mark();
            let proposed = self.propose(work, bound).await?;
            let answers = self.answers(proposed.index, bound).await?;
            if answers.iter().all(|(_, answer)| !answer.missed) {
                work.record.fence_index = Some(proposed.index);
                work.record.phases.fence = clock::ms_since(start);
                return Ok(Fence { mark, answers });
            }
            let without = answers.iter().filter(|(_, answer)| answer.missed);
            missed = without.map(|(member, answer)| (*member, answer.index)).collect();
        }
        self.judge_missed(work, &missed).await?;
        let what = format!("apply one of {} fences instead of skipping it", limits::FENCE_TRIES_MAX);
        let first = self.cluster.members.first().map_or(0, |member| member.id);
        Err(Trouble::Late { member: first, what, bound: bound * limits::FENCE_TRIES_MAX })
    }

    /// A fence is missed rightly only where recovery or a snapshot covered its index. A member that applied that index by
    /// itself, and found no fence there, has another log than the member that committed one.
    async fn judge_missed(&self, work: &mut Work, missed: &[(u64, u64)]) -> Result<(), Trouble> {
        for (member, index) in missed {
            let Some(one) = self.cluster.member(*member) else { continue };
            if applied_by_itself(&one.recovery().await?, *index) {
                let why = format!(
                    "expected n{member} to find the fence at raft index {index}, where it was committed; it applied that index, \
                     and found another entry: the logs have diverged"
                );
                work.findings.push(Finding::new(Class::StateHash, why).in_cycle(work.step.cycle).at_member(*member));
            }
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
        self.record_answers(work.step.cycle, &fence.answers);
        work.findings.extend(check_fence(&self.ledger, work.step.cycle, &fence.mark, &fence.answers));
        let restarted: Vec<_> = work.last_casualties().map(|casualty| casualty.member).collect();
        for member in restarted {
            if let Some(one) = self.cluster.member(member) {
                let recovery = one.recovery().await?;
                self.record_recovery(work.step.cycle, member, &recovery);
                self.judge_recovery(work, member, &recovery);
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
                work.findings.push(Finding::new(Class::Liveness, why).in_cycle(work.step.cycle).at_member(member));
            }
        }
        Ok(())
    }

    /// Evidence is written down before it is judged.
    fn record_answers(&self, cycle: u32, answers: &[(u64, FenceAnswerResponse)]) {
        let answers: Vec<_> = answers
            .iter()
            .map(|(member, answer)| {
                serde_json::json!({
                    "member": member, "index": answer.index, "term": answer.term, "revision": answer.revision,
                    "compact_revision": answer.compact_revision, "kv_rows": answer.kv_rows, "kv": hex(&answer.kv),
                    "lease": hex(&answer.lease), "auth": hex(&answer.auth), "membership": hex(&answer.membership),
                })
            })
            .collect();
        self.history.record(&serde_json::json!({ "event": "fence-answers", "cycle": cycle, "answers": answers }));
    }

    fn record_recovery(&self, cycle: u32, member: u64, recovery: &RecoveryResponse) {
        let range = |range: Option<node_proto::control::IndexRange>| range.map(|range| [range.first, range.last]);
        self.history.record(&serde_json::json!({
            "event": "recovery", "cycle": cycle, "member": member,
            "last_flushed_index": recovery.last_flushed_index, "engine_index": recovery.engine_index,
            "log_first": recovery.log_first, "log_last": recovery.log_last, "last_purged": recovery.last_purged,
            "scan_start": recovery.scan_start, "verified": range(recovery.verified),
            "replayed": range(recovery.replayed), "complete": recovery.complete,
            "open_micros": recovery.open_micros, "snapshot_installed": recovery.snapshot_installed,
        }));
    }

    fn judge_recovery(&self, work: &mut Work, member: u64, recovery: &RecoveryResponse) {
        let length = |range: Option<node_proto::control::IndexRange>| {
            range.map_or(0, |range| range.last.saturating_sub(range.first) + 1)
        };
        work.record.verified += length(recovery.verified);
        work.record.replayed += length(recovery.replayed);
        work.record.snapshot_installed |= recovery.snapshot_installed.is_some();
        let cycle = work.step.cycle;
        let mut findings = Vec::new();
        if !recovery.complete {
            let why = "a fence above everything in its log is applied, and its recovery is not complete: entries were skipped";
            findings.push(Finding::new(Class::ReplayStart, why).in_cycle(cycle).at_member(member));
        }
        let dead = work
            .last_casualties()
            .find(|casualty| casualty.member == member)
            .and_then(|casualty| Some((casualty.dead.as_ref()?, casualty.death.applied_received)));
        if let Some((dead, applied_received)) = dead {
            findings.extend(check_replay_start(&Restart { cycle, member, dead, applied_received }, recovery));
        }
        work.findings.extend(findings);
    }
}

/// Whether the life that `recovery` tells of applied `index` entry by entry. With a snapshot in that life: not certainly.
fn applied_by_itself(recovery: &RecoveryResponse, index: u64) -> bool {
    recovery.snapshot_installed.is_none()
        && recovery.scan_start.is_some_and(|start| start <= index)
        && recovery.verified.is_none_or(|verified| verified.last < index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use node_proto::control::IndexRange;

    #[test]
    fn only_an_index_that_was_applied_here_must_hold_its_fence() {
        let life = RecoveryResponse {
            scan_start: Some(10),
            verified: Some(IndexRange { first: 10, last: 20 }),
            ..RecoveryResponse::default()
        };
        assert!(applied_by_itself(&life, 21));
        assert!(!applied_by_itself(&life, 20), "recovery skipped it");
        assert!(!applied_by_itself(&life, 9), "an earlier life had it");
        assert!(!applied_by_itself(&RecoveryResponse { scan_start: None, ..life }, 21), "nothing was scanned");
        assert!(
            !applied_by_itself(&RecoveryResponse { snapshot_installed: Some(15), ..life }, 21),
            "a snapshot may have"
        );
    }
}
