//! The fence: one comparable state of every replica while writes go on, and the judgement of it.
//!
//! The target determines the kind of fence ([`Fences`]). A fence counts only if every member
//! answered for it; a cycle that runs out of tries never passes.

use super::{Stage, Work};
use crate::cluster::Trouble;
use crate::contact::KvLook;
use crate::subject::Fences;
use futures_util::future::join_all;
use ninelives_evidence::verdict::Finding;
use ninelives_evidence::verdict::findings::Watches;
use ninelives_evidence::{Evidence, IndexRange, Recovered};
use ninelives_evidence::{clock, limits};
use std::time::Duration;

/// A fence that every member has answered.
pub(super) struct Fence {
    /// Raft index: of the command, or one that every member had applied when it was asked.
    pub index: u64,
    pub revision: u64,
    /// 0: never compacted.
    pub compacted: u64,
    /// The answers to judge.
    pub evidence: Evidence,
    /// The rows behind the answers, by member, if they were read: a digest shows only that keys
    /// differ, and the rows name them.
    pub looks: Vec<(u64, KvLook)>,
}

impl Stage<'_> {
    pub(super) async fn fence(&mut self, work: &mut Work) -> Result<Fence, Trouble> {
        let lap = self.cluster.site.pace().begin();
        // Boxed, because together they are too large for the stack of a thread in an unoptimized
        // build.
        let fence = match self.cluster.site.target.fences() {
            Fences::ByCommand => Box::pin(self.fence_by_command(work)).await?,
            Fences::AtRevision => Box::pin(self.fence_at_revision(work)).await?,
        };
        work.record.fence_index = Some(fence.index);
        work.record.phases.fence = lap.elapsed_ms();
        work.healing_percent = work.healing_percent.max(lap.factor_percent());
        Ok(fence)
    }

    /// Judges the fence's answers, and each restarted member's recovery. At the fence a member has
    /// applied or replaced every entry that its log held at the start, so a recovery that is
    /// incomplete now never becomes complete.
    pub(super) async fn verify(&mut self, work: &mut Work, fence: &Fence) -> Result<(), Trouble> {
        let (start, cycle) = (clock::now(), work.step.cycle);
        self.observe(work, fence.revision).await?;
        self.take_readings(cycle);
        self.judge(work, &fence.evidence);
        if work.found_by(fence.evidence.kind()) {
            for (member, look) in &fence.looks {
                let (member, revision, rows) = (*member, fence.revision, look.rows.clone());
                self.judge(work, &Evidence::LastRead { member, revision, rows });
            }
        }
        self.second_look(work, fence.revision, fence.compacted).await;
        let restarted: Vec<_> = work.last_casualties().map(|casualty| casualty.member).collect();
        for member in restarted {
            if let Some(one) = self.cluster.member(member) {
                let Some(recovery) = one.recovery().await? else { continue };
                work.add_recovery(&recovery);
                self.judge(work, &Evidence::Recovery { cycle, member, recovery });
            }
        }
        if let Some(one) = work.victims.first().and_then(|victim| self.cluster.member(victim.member)) {
            work.record.recovery.persisted_after = one.status().await?.persisted;
        }
        work.record.phases.verify = clock::ms_since(start);
        Ok(())
    }

    /// Waits until every member's watch has delivered `revision`: a watch that does not go on after
    /// a crash is found here.
    async fn observe(&self, work: &mut Work, revision: u64) -> Result<(), Trouble> {
        let (lap, bound) = (self.cluster.site.pace().begin(), Duration::from_millis(limits::OBSERVE_MS_MAX));
        let waits = self.cluster.members.iter().map(|member| async {
            // The watch belongs to the slot, but the member is to blame for a revision that it does
            // not deliver.
            let delivered = self.observer.wait_revision(member.slot, revision, (&lap, bound)).await?;
            Ok::<_, anyhow::Error>((member.id, delivered))
        });
        for waited in join_all(waits).await {
            let (member, delivered) = waited?;
            if delivered < revision {
                let what = Watches::WatchLate { member, revision, bound: lap.stretched(bound), delivered };
                let late = Finding::new(what).in_cycle(work.step.cycle).at_member(member);
                self.tell(work, self.excuse(late));
            }
        }
        Ok(())
    }

    /// Takes the readings that members gave of themselves since the last look.
    pub(super) fn take_readings(&self, cycle: u32) {
        for member in &self.cluster.members {
            let readings = member.readings.take();
            self.ledger.record(&Evidence::Readings { cycle, member: member.id, readings });
        }
    }
}

impl Work {
    /// Adds the work of a restarted member's recovery.
    fn add_recovery(&mut self, recovery: &Recovered) {
        let length = |range: Option<IndexRange>| range.map_or(0, |range| range.last.saturating_sub(range.first) + 1);
        self.record.recovery.verified += length(recovery.verified);
        self.record.recovery.replayed += length(recovery.replayed);
        self.record.recovery.snapshot_installed |= recovery.snapshot_installed.is_some();
    }
}
