//! The look after an answered fence: does the cluster serve again? It reads linearizably at every
//! member, and opens watches in the past on each restarted one. It takes a few milliseconds;
//! the oracle judges the results.

use super::{Stage, Work};
use crate::cluster::Member;
use crate::cluster::trouble::excused;
use crate::dial::url;
use crate::observe::{fresh, live};
use crate::pace::Lap;
use futures_util::future::{join_all, join3};
use ninelives_evidence::operation::Keys;
use ninelives_evidence::verdict::findings::Watches;
use ninelives_evidence::verdict::{Class, Finding};
use ninelives_evidence::{Evidence, Healing, HealingBounds, Heard, Resumption, Served};
use ninelives_evidence::{clock, limits};
use ninelives_oracle::liveness::check_healing;
use std::collections::BTreeSet;

impl Stage<'_> {
    /// `revision` and `compacted`: of the fence, which every member has applied.
    pub(super) async fn second_look(&self, work: &mut Work, revision: u64, compacted: u64) {
        self.judge_reads(work, revision).await;
        self.judge_watches(work, revision, compacted).await;
    }

    async fn judge_reads(&self, work: &mut Work, revision: u64) {
        let lap = self.cluster.site.pace().begin();
        let reads = self.cluster.members.iter().map(|member| async {
            let start = clock::now();
            let answer = fresh::read(&url(member.addresses.client), (&lap, limits::SECOND_LOOK)).await;
            Served { member: member.id, ms: clock::ms_since(start), answer }
        });
        let served = join_all(reads).await;
        let bounds = HealingBounds {
            catch_up: self.scenario.bounds.catch_up_ms_max,
            // The cycle may need several fences, each with its bound.
            fence: self.scenario.bounds.fence_ms_max * u64::from(limits::FENCE_TRIES_MAX),
            read: u64::try_from(limits::SECOND_LOOK.as_millis()).unwrap_or(u64::MAX),
            machine_percent: work.healing_percent.max(lap.factor_percent()),
        };
        let (cycle, phases) = (work.step.cycle, work.record.phases);
        let healing = Healing { cycle, caught_up_ms: phases.catch_up, fence_ms: phases.fence, revision, served };
        let late = check_healing(&healing, bounds).into_iter().find(|finding| finding.class() == Class::Liveness);
        match late.map(|late| self.excuse(late)) {
            // Timings on a machine that ran short prove nothing.
            Some(excused) if excused.class() != Class::Liveness => self.tell(work, excused),
            _ => self.judge(work, &Evidence::Healed { healing, bounds }),
        }
    }

    /// Judges watches on each restarted member: some in the past, some of what is still to come,
    /// and one whose client ends its own side. They are open at the same time, so together they
    /// take no longer than the slowest.
    async fn judge_watches(&self, work: &mut Work, revision: u64, compacted: u64) {
        let lap = &self.cluster.site.pace().begin();
        let restarted: BTreeSet<u64> = work.last_casualties().map(|casualty| casualty.member).collect();
        let members = self.cluster.members.iter().filter(|member| restarted.contains(&member.id));
        let members: Vec<&Member> = members.collect();
        let resumed = members.iter().flat_map(|member| {
            // How far back differs from cycle to cycle; a prime spreads it.
            let draw = u64::from(work.step.cycle) * 7_919 + member.id;
            let endpoint = url(member.addresses.client);
            self.ledger.fresh_watches(revision, draw, compacted).into_iter().map(move |asked| {
                let (member, endpoint, lap) = (member.id, endpoint.clone(), lap.clone());
                async move {
                    let heard = fresh::watch(&endpoint, &asked, (&lap, limits::SECOND_LOOK)).await;
                    (member, asked, heard)
                }
            })
        });
        let half_closed = members.iter().map(|member| self.hear_half_closed(member, lap));
        let live = members.iter().map(|member| self.hear_live(member, lap));
        let (resumed, half_closed, live) = join3(join_all(resumed), join_all(half_closed), join_all(live)).await;
        let heard = resumed.into_iter().chain(half_closed.into_iter().flatten()).chain(live.into_iter().flatten());
        self.judge_heard(work, heard);
    }

    /// Opens a watch on a restarted member, from the revision that comes next, and ends the
    /// client's side of its stream at once. It has to deliver all the same what the slot's own
    /// watch delivers meanwhile.
    ///
    /// `None`: too little was written meanwhile to tell.
    async fn hear_half_closed(&self, member: &Member, lap: &Lap) -> Option<(u64, Resumption, Heard)> {
        let from = self.ledger.revision() + 1;
        let upto = from + limits::HALF_CLOSED_REVISIONS - 1;
        let asked = Resumption { from, keys: None, upto, half_closed: true };
        let endpoint = url(member.addresses.client);
        let news = self.observer.wait_revision(member.slot, upto, (lap, limits::NEWS));
        let watch = fresh::watch(&endpoint, &asked, (lap, limits::SECOND_LOOK));
        tokio::pin!(news, watch);
        let (mut heard, delivered) = tokio::select! {
            heard = &mut watch => (heard, news.await.ok()?),
            delivered = &mut news => {
                let delivered = delivered.ok().filter(|delivered| *delivered >= upto)?;
                (watch.await, delivered)
            }
        };
        let upto = upto.min(delivered);
        heard.revisions.retain(|(revision, _)| *revision <= upto);
        Some((member.id, Resumption { upto, ..asked.clone() }, heard))
    }

    /// Opens watches of some of the keys on a restarted member, from the revision that comes next.
    /// They have to deliver what the slot's own watch of all keys delivers of theirs meanwhile. A
    /// watch whose keys did not change is not judged.
    async fn hear_live(&self, member: &Member, lap: &Lap) -> Vec<(u64, Resumption, Heard)> {
        let from = self.ledger.revision() + 1;
        let keys = live::stripes(self.scenario.load.keys);
        let goals = async {
            let upto = from + limits::LIVE_REVISIONS - 1;
            let news = self.observer.wait_revision(member.slot, upto, (lap, limits::NEWS)).await;
            // Without an observer the run is ending.
            let delivered = news.map_or(0, |delivered| delivered.min(upto));
            let mut told = self.ledger.told_since(from);
            told.retain(|(revision, _)| *revision <= delivered);
            let last = |keys: &Keys| told.iter().rfind(|(_, change)| keys.contains(change.key()));
            keys.iter().map(|keys| last(keys).map(|(revision, _)| *revision)).collect()
        };
        let endpoint = url(member.addresses.client);
        let heard = live::watch(&endpoint, (&keys, from), goals, (lap, limits::SECOND_LOOK)).await;
        let asked = keys.iter().zip(heard).filter_map(|(keys, (goal, heard))| {
            let asked = Resumption { from, keys: Some(keys.clone()), upto: goal?, half_closed: false };
            Some((member.id, asked, heard))
        });
        asked.collect()
    }

    fn judge_heard(&self, work: &mut Work, heard: impl Iterator<Item = (u64, Resumption, Heard)>) {
        for (member, asked, heard) in heard {
            let cycle = work.step.cycle;
            // A stream that breaks on a machine that ran short accuses no member.
            if let (Some(why), Some(short)) = (&heard.ended, self.shortages().first()) {
                let broken = Finding::new(Watches::FreshBrokeOff { member, ended: why.clone() });
                self.tell(work, excused(broken.in_cycle(cycle).at_member(member), &short.to_string()));
                continue;
            }
            self.judge(work, &Evidence::FreshWatch { cycle, member, asked, heard });
        }
    }
}
