//! The strike: bringing the victims to the planned place, and killing them there.

use super::reach::Reached;
use super::{Casualty, Stage, Work};
use crate::cluster::{Cluster, Member, Trouble};
use crate::contact::Standing;
use crate::plan::{At, When};
use crate::timer;
use anyhow::anyhow;
use futures_util::future::join_all;
use ninelives_evidence::limits;
use ninelives_evidence::record::FaultOutcome;
use ninelives_evidence::{Did, Evidence};
use ninelives_oracle::alone::Known;
use std::time::Duration;

impl Stage<'_> {
    pub(super) async fn strike(&mut self, work: &mut Work, when: When) -> Result<(), Trouble> {
        let Some(first) = work.victims.first().map(|victim| victim.member) else {
            work.skip("no member has the role that the step asks for");
            return Ok(());
        };
        if let (When::Window { window, .. }, Some(one)) = (when, self.cluster.member(first))
            && !window.exists_on(one.engine)
        {
            work.skip_as_not_applicable(format!("{}: n/a on {}, which n{first} runs", window.name, one.engine));
            return Ok(());
        }
        let reached = match when {
            When::Time { ms } => {
                // Beside lasting faults, the time counts from the moment when they have begun.
                let gone = if work.record.lasting.is_empty() { work.lap.elapsed() } else { Duration::ZERO };
                timer::sleep(Duration::from_millis(ms).saturating_sub(gone)).await;
                Reached::Yes
            }
            When::Applied { ahead } => self.reach_applied(first, ahead).await?,
            When::Window { window, hit } => self.reach_window(work, first, At { window, hit }).await?,
        };
        match reached {
            Reached::Yes => {
                let planned: Vec<_> = work.victims.iter().map(|victim| victim.member).collect();
                self.strike_down(work, &planned).await?;
                match work.casualties.iter().any(Casualty::by_us) {
                    true => work.record.outcome = FaultOutcome::Landed,
                    false => work.skip("its victims had ended before, of their disks"),
                }
            }
            Reached::Struck => work.record.outcome = FaultOutcome::Landed,
            Reached::No(miss) => work.skip(format!("{when}: {miss}")),
        }
        Ok(())
    }

    /// Kills `members` as the plan has it: with the power, or without.
    pub(super) async fn strike_down(&mut self, work: &mut Work, members: &[u64]) -> Result<(), Trouble> {
        let Some(keep_percent) = work.keep_percent else { return self.kill(work, members).await };
        let up = self.cluster.members.iter().filter(|member| members.contains(&member.id) && member.is_up());
        let doomed: Vec<_> = up.map(|member| member.id).collect();
        self.take_last_readings(work, &doomed).await;
        // One instant for all of them.
        self.cluster.members.iter().filter(|member| doomed.contains(&member.id)).for_each(Member::freeze);
        self.end_lives(work, &doomed).await?;
        doomed.into_iter().try_for_each(|id| self.cut_power(work, id, keep_percent))
    }

    /// Takes from the dead member `id` what was not synced.
    pub(super) fn cut_power(&mut self, work: &mut Work, id: u64, keep_percent: u32) -> Result<(), Trouble> {
        let cycle = work.step.cycle;
        let death = work.last_casualties().find(|casualty| casualty.member == id).map(|casualty| casualty.death);
        let (applied, vote) = (death.and_then(|death| death.applied_received), self.ledger.vote_of(id));
        // A directory that is wrong already was left so by the cut before.
        let wrong = work.findings.iter().any(|raised| raised.finding.member == Some(id));
        let known = (!wrong).then_some(Known { cycle, member: id, applied, vote });
        self.cut_knowing(work, id, keep_percent, known)
    }

    /// [`Stage::cut_power`]. `known`: what the crash states of this instant are judged by; `None`:
    /// it is not kept.
    pub(super) fn cut_knowing(
        &mut self,
        work: &mut Work,
        id: u64,
        keep_percent: u32,
        known: Option<Known>,
    ) -> Result<(), Trouble> {
        let cycle = work.step.cycle;
        self.note(cycle, Did::CutPower, Some(id), None);
        let mut draws = self.seed.stream(&format!("survivors/{cycle}/{id}/{}", work.record.kills.power_losses));
        let Cluster { members, site, .. } = &mut *self.cluster;
        let member = members.iter_mut().find(|member| member.id == id).ok_or_else(|| unknown(id))?;
        // It unmounts and mounts, and waits for the threads of the mount.
        let lost = tokio::task::block_in_place(|| member.cut(site, (keep_percent, &mut draws), known))?;
        work.record.kills.power_losses += 1;
        self.ledger.record(&Evidence::PowerLost { cycle, member: id, keep_percent, lost });
        Ok(())
    }

    /// Kills those of `members` that are up, all at once.
    pub(super) async fn kill(&mut self, work: &mut Work, members: &[u64]) -> Result<(), Trouble> {
        self.take_last_readings(work, members).await;
        self.end_lives(work, members).await
    }

    /// Asks `members` how much there is to lose. A member that stands still cannot answer, so the
    /// last index that its follower task heard has to do.
    async fn take_last_readings(&self, work: &Work, members: &[u64]) {
        let readings = self
            .cluster
            .members
            .iter()
            .filter(|member| members.contains(&member.id) && member.is_up() && !member.is_stopped());
        let readings =
            readings.map(|member| async { (member.id, timer::within(limits::LAST_READING, member.status()).await) });
        for (member, reading) in join_all(readings).await {
            if let Some(Ok(status)) = reading {
                self.record_reading(work.step.cycle, member, &status);
            }
        }
    }

    async fn end_lives(&mut self, work: &mut Work, members: &[u64]) -> Result<(), Trouble> {
        for member in members {
            self.note(work.step.cycle, Did::Kill, Some(*member), None);
        }
        let doomed = self.cluster.members.iter_mut().filter(|member| members.contains(&member.id));
        let deaths =
            join_all(doomed.map(|member| async move { (member.id, member.engine, member.kill().await) })).await;
        let mut trouble = None;
        for (member, engine, death) in deaths {
            match death {
                Some(Ok(death)) => self.casualty(work, Casualty { member, engine, death, dead: None }),
                Some(Err(error)) => trouble = trouble.or(Some(error)),
                None => {}
            }
        }
        trouble.map_or(Ok(()), Err)
    }

    fn record_reading(&self, cycle: u32, member: u64, status: &Standing) {
        self.ledger.record(&Evidence::Reading { cycle, member, status: status.watermarks() });
    }

    pub(super) async fn start(&mut self, work: &Work, member: u64, arm: Option<(&str, u64)>) -> Result<(), Trouble> {
        self.note(work.step.cycle, Did::Start, Some(member), arm.map(|(window, _)| window));
        let site = &self.cluster.site;
        let member = self.cluster.members.iter_mut().find(|one| one.id == member).ok_or_else(|| unknown(member))?;
        member.start(site, arm).await
    }

    pub(super) fn member(&self, id: u64) -> Result<&Member, Trouble> {
        self.cluster.member(id).ok_or_else(|| unknown(id))
    }
}

pub(super) fn unknown(member: u64) -> Trouble {
    Trouble::Harness(anyhow!("there is no member n{member}"))
}
