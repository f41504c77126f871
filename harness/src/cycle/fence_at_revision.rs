//! The fence at a revision: every replica shows its state as of the newest revision, while newer ones come.
//!
//! 1. A linearizable read names the revision; the raft index where that member stands then is at or above it.
//! 2. Every member applies through that index.
//! 3. Every member is asked for its own hash at the revision and for all of its keys there. Hashes can be compared only under one compact
//!    revision: if a compaction came in between, all is asked again.
//!
//! The revision makes the answers comparable for ever, so a difference is a divergence. It is looked at a second time all the
//! same, when all have come to rest: both readings are in the history.

use super::fence::Fence;
use super::revive::first_trouble;
use super::{Stage, Work};
use crate::cluster::{Member, Trouble};
use crate::evidence::{Evidence, KvAnswer};
use crate::target::KvLook;
use crate::{clock, limits};
use futures_util::future::join_all;
use std::time::Duration;

impl Stage<'_> {
    pub(super) async fn fence_at_revision(&mut self, work: &mut Work) -> Result<Fence, Trouble> {
        let bound = Duration::from_millis(self.scenario.bounds.fence_ms_max);
        let (mut reading, mut at) = (1, None);
        for _ in 0..limits::LOOKS_MAX {
            // The second reading is of the first one's revision: what was acknowledged in between is not in it.
            if at.is_none() {
                self.ledger.take(&Evidence::Mark { cycle: work.step.cycle });
            }
            let (revision, index) = self.anchor(work, bound).await?;
            let revision = at.take().unwrap_or(revision);
            let catch_up = self.cluster.members.iter().map(|member| member.catch_up(index, bound));
            first_trouble(join_all(catch_up).await)?;
            let looks = self.cluster.members.iter().map(|member| look(member, revision, bound));
            let looks: Option<Vec<_>> = first_trouble(join_all(looks).await)?.into_iter().collect();
            let comparable = looks
                .filter(|looks| looks.windows(2).all(|pair| pair[0].1.compact_revision == pair[1].1.compact_revision));
            let Some(looks) = comparable else {
                clock::sleep(limits::FENCE_RETRY_PAUSE).await;
                continue;
            };
            let answers: Vec<_> = looks.iter().map(|(member, look)| KvAnswer::new(*member, look)).collect();
            let agreed = KvAnswer::agree(&answers);
            let compacted = answers.first().map_or(0, |answer| answer.compact_revision);
            let etcd = self.cluster.site.target.is_etcd();
            let evidence = Evidence::KvFence { cycle: work.step.cycle, index, revision, reading, etcd, answers };
            if agreed || reading == 2 {
                return Ok(Fence { index, revision, compacted, evidence, looks });
            }
            // Recorded, and judged only with the second reading.
            work.findings.extend(self.ledger.take(&evidence));
            (reading, at) = (2, Some(revision));
            self.come_to_rest().await;
        }
        let first = self.cluster.members.first().map_or(0, |member| member.id);
        let what = format!(
            "show one revision under one compact revision, as the others do, in one of {} looks",
            limits::LOOKS_MAX
        );
        Err(Trouble::Late { member: first, what, bound: bound * limits::LOOKS_MAX })
    }

    /// The newest revision, and a raft index at or above the one that made it.
    async fn anchor(&self, work: &Work, bound: Duration) -> Result<(u64, u64), Trouble> {
        let deadline = clock::now() + bound;
        for member in self.cluster.members.iter().cycle() {
            let left = deadline.saturating_duration_since(clock::now());
            if left.is_zero() {
                break;
            }
            self.note(work.step.cycle, "fence", Some(member.id), None);
            if let Some(revision) = member.newest_revision(left.min(limits::CONTROL_REQUEST)).await? {
                let index = member.status().await?.applied.unwrap_or(0);
                return Ok((revision, index));
            }
            clock::sleep(limits::FENCE_RETRY_PAUSE).await;
        }
        let first = self.cluster.members.first().map_or(0, |member| member.id);
        Err(Trouble::Late { member: first, what: "answer a read (nor did any other member)".into(), bound })
    }

    /// Waits, within a bound, until all members have applied what any of them has by now.
    async fn come_to_rest(&self) {
        clock::sleep(limits::SECOND_READING_PAUSE).await;
        let mark = self.cluster.statuses().await.iter().filter_map(|status| status.applied).max().unwrap_or(0);
        let waits = self.cluster.members.iter().map(|member| member.wait_applied(mark, limits::LOCALISE_REST));
        join_all(waits).await;
    }
}

async fn look(member: &Member, revision: u64, bound: Duration) -> Result<Option<(u64, KvLook)>, Trouble> {
    Ok(member.look(revision, bound).await?.map(|look| (member.id, look)))
}
