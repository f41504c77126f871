//! The fence at a revision: every replica shows its state as of the newest revision, while newer
//! ones come.
//!
//! 1. A linearizable read names the revision; the raft index of that member after the read is at or
//!    above the one that made the revision.
//! 2. Every member applies through that index.
//! 3. Every member is asked for its own hash at the revision and for all of its keys there. Hashes
//!    can be compared only under one compact revision: after a compaction in between, all members
//!    are asked again.
//!
//! The revision makes the answers comparable for ever, so a difference is a divergence. All the
//! same, the members are read a second time once they have come to rest, and both readings are in
//! the history.
//!
//! Looks go on until the bound is over. A member whose compact revision stood still all that time,
//! below another's, is late. If all compact revisions moved on and no look was comparable, nothing
//! is proven, and no member is to blame.

use super::fence::Fence;
use super::revive::first_trouble;
use super::{Stage, Work};
use crate::cluster::{Member, Trouble};
use crate::contact::KvLook;
use crate::timer;
use futures_util::future::join_all;
use ninelives_evidence::limits;
use ninelives_evidence::stretched::Stretched;
use ninelives_evidence::verdict::findings::Lack;
use ninelives_evidence::verdict::findings::parts::Shown;
use ninelives_evidence::{Did, Evidence, KvAnswer};
use std::collections::BTreeMap;
use std::time::Duration;

impl Stage<'_> {
    pub(super) async fn fence_at_revision(&mut self, work: &mut Work) -> Result<Fence, Trouble> {
        let bound = Duration::from_millis(self.scenario.bounds.fence_ms_max);
        let (mut reading, mut at) = (1, None);
        let (lap, mut levels, mut pause) =
            (self.cluster.site.pace().begin(), Levels::default(), limits::FENCE_RETRY_PAUSE);
        while levels.looks < limits::LOOKS_MIN || !lap.is_over(bound) {
            // The second reading is at the revision of the first one: writes that were acknowledged
            // in between are not in it.
            if at.is_none() {
                self.ledger.record(&Evidence::Baseline { cycle: work.step.cycle });
            }
            let (revision, index) = self.anchor(work, bound).await?;
            let revision = at.take().unwrap_or(revision);
            let catch_up = self.cluster.members.iter().map(|member| member.catch_up(index, bound));
            first_trouble(join_all(catch_up).await)?;
            let looks = self.cluster.members.iter().map(|member| look(member, revision, bound));
            let looks = first_trouble(join_all(looks).await)?;
            levels.add(looks.iter().map(|(id, look)| (*id, look.as_ref().map(|look| look.compact_revision))));
            let looks: Option<Vec<_>> = looks.into_iter().map(|(id, look)| Some((id, look?))).collect();
            let comparable = looks
                .filter(|looks| looks.windows(2).all(|pair| pair[0].1.compact_revision == pair[1].1.compact_revision));
            let Some(looks) = comparable else {
                timer::sleep(pause).await;
                pause = (pause * 2).min(limits::FENCE_RETRY_PAUSE_MAX);
                continue;
            };
            let answers: Vec<_> = looks.iter().map(|(member, look)| look.answer(*member)).collect();
            let agreed = KvAnswer::agree(&answers);
            let compacted = answers.first().map_or(0, |answer| answer.compact_revision);
            let etcd = self.cluster.site.target.is_etcd();
            let evidence = Evidence::KvFence { cycle: work.step.cycle, index, revision, reading, etcd, answers };
            if agreed || reading == 2 {
                return Ok(Fence { index, revision, compacted, evidence, looks });
            }
            // This reading is recorded, and judged only with the second one.
            self.judge(work, &evidence);
            (reading, at) = (2, Some(revision));
            self.come_to_rest().await;
        }
        Err(levels.trouble(lap.waited()))
    }

    /// The newest revision, and a raft index at or above the one that made it.
    async fn anchor(&self, work: &Work, bound: Duration) -> Result<(u64, u64), Trouble> {
        let lap = self.cluster.site.pace().begin();
        for member in self.cluster.members.iter().cycle() {
            let left = lap.left(bound);
            if left.is_zero() {
                break;
            }
            self.note(work.step.cycle, Did::Fence, Some(member.id), None);
            if let Some(revision) = member.newest_revision(left.min(limits::CONTROL_REQUEST)).await? {
                let index = member.status().await?.applied.unwrap_or(0);
                return Ok((revision, index));
            }
            timer::sleep(limits::FENCE_RETRY_PAUSE).await;
        }
        let first = self.cluster.members.first().map_or(0, |member| member.id);
        Err(Trouble::Late {
            member: first,
            what: "answer a read (nor did any other member)".into(),
            bound: lap.stretched(bound),
        })
    }

    /// Waits, within a bound, until all members have applied what any of them has by now.
    async fn come_to_rest(&self) {
        timer::sleep(limits::SECOND_READING_PAUSE).await;
        let index = self.cluster.statuses().await.iter().filter_map(|status| status.applied).max().unwrap_or(0);
        let waits = self.cluster.members.iter().map(|member| member.wait_applied(index, limits::LOCALISE_REST));
        join_all(waits).await;
    }
}

async fn look(member: &Member, revision: u64, bound: Duration) -> Result<(u64, Option<KvLook>), Trouble> {
    Ok((member.id, member.look(revision, bound).await?))
}

/// The compact revisions that members showed in the first and in the last look; `None`: it had
/// compacted the revision asked for.
#[derive(Debug, Default)]
struct Levels {
    looks: u32,
    first: BTreeMap<u64, Option<u64>>,
    last: BTreeMap<u64, Option<u64>>,
}

impl Levels {
    fn add(&mut self, look: impl Iterator<Item = (u64, Option<u64>)>) {
        self.looks += 1;
        self.last = look.collect();
        if self.looks == 1 {
            self.first = self.last.clone();
        }
    }

    /// The trouble behind the fact that no look was comparable, in all the time that was `waited`.
    fn trouble(&self, waited: Stretched) -> Trouble {
        let highest = self.last.values().flatten().max().copied();
        let stuck = |(id, level): (&u64, &Option<u64>)| {
            let behind = level.is_some() && *level < highest && self.first.get(id) == Some(level);
            behind.then_some((*id, level.unwrap_or(0)))
        };
        let looks = self.looks;
        if let (Some((member, level)), Some(highest)) = (self.last.iter().find_map(stuck), highest) {
            let what = format!(
                "come to the compact revision that others show (it showed {level} from the first of {looks} looks to the last, others {highest} \
                 by then)"
            );
            return Trouble::Late { member, what, bound: waited };
        }
        let shown = self.last.iter().map(|(id, level)| Shown { member: *id, compact_revision: *level }).collect();
        Trouble::Unproven(Lack::LooksNeverComparable { looks, waited, shown })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ninelives_evidence::verdict::Class;

    fn finding(looks: &[[Option<u64>; 3]]) -> ninelives_evidence::verdict::Finding {
        let mut levels = Levels::default();
        for look in looks {
            levels.add((1..).zip(look.iter().copied()));
        }
        levels.trouble(Stretched::idle(Duration::from_millis(30_040))).finding(None)
    }

    #[test]
    fn a_member_whose_compact_revision_stands_still_is_late_and_named() {
        let found = finding(&[[Some(40), Some(40), Some(44)], [Some(57), Some(40), Some(57)]]);
        assert_eq!((found.class(), found.member), (Class::Liveness, Some(2)));
        let words =
            "showed 40 from the first of 2 looks to the last, others 57 by then) within 30040 ms (30040 ms × 1.00";
        assert!(found.sentence().contains(words), "{found}");
    }

    #[test]
    fn compactions_that_outrun_the_looks_accuse_no_member() {
        let found = finding(&[[Some(40), Some(40), Some(44)], [Some(57), None, Some(60)]]);
        assert_eq!((found.class(), found.member), (Class::NotProven, None));
        for words in ["2 over 30040 ms (", "n1 showed 57, n2 had compacted that revision, n3 showed 60)"] {
            assert!(found.sentence().contains(words), "{found}");
        }
    }
}
