//! The strike: bringing the victims to the planned place, and killing them there.
//!
//! A window stops the process by itself, so the kill lands exactly there. If the load goes by and
//! the window is not passed ([`super::wait`]), it is disarmed and recorded as a skip; members that
//! were killed on the way to it are still revived, fenced and verified like any other victim.

use super::wait::Miss;
use super::{Casualty, Stage, Work};
use crate::cluster::member::Stop;
use crate::cluster::{Cluster, Member, Trouble};
use crate::contact::Standing;
use crate::plan::When;
use crate::subject::{Reach, Window, find_window};
use crate::timer;
use anyhow::anyhow;
use futures_util::future::{join_all, select_all};
use ninelives_evidence::limits;
use ninelives_evidence::member::Role;
use ninelives_evidence::record::{FaultOutcome, Victim};
use ninelives_evidence::{Did, Evidence};
use ninelives_oracle::alone::Known;
use std::future::Future;
use std::time::Duration;

/// Result of the way to the planned place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reached {
    /// The first victim is there, alive: now the victims die.
    Yes,
    /// The planned kill was part of the way, and is done.
    Struck,
    No(Miss),
}

impl From<Result<(), Miss>> for Reached {
    fn from(struck: Result<(), Miss>) -> Self {
        struck.map_or_else(Reached::No, |()| Reached::Struck)
    }
}

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
            When::Window { window, hit } => self.reach_window(work, first, window, hit).await?,
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

    async fn reach_window(
        &mut self,
        work: &mut Work,
        first: u64,
        window: &Window,
        hit: u64,
    ) -> Result<Reached, Trouble> {
        self.note(work.step.cycle, Did::Arm, Some(first), Some(window.name));
        match window.reach {
            Reach::Load | Reach::LoadOfLeader => self.reach_by_load(first, window, hit).await,
            Reach::Defragmentation => self.reach_by_defragmentation(work, first, window, hit).await,
            Reach::Election => self.reach_by_election(work, first, window, hit).await,
            Reach::Recovery | Reach::Start => self.reach_in_recovery(work, first, window, hit).await,
            Reach::Reinstall => self.reach_after_an_install(work, first, window, hit).await,
            Reach::SnapshotReceiver => self.reach_as_receiver(work, first, window, hit).await,
            Reach::SnapshotSender => self.reach_as_sender(work, window, hit).await,
            Reach::Join => self.reach_by_joining(work, first, window, hit).await,
            // Parsing refuses such a plan.
            Reach::Migration | Reach::Restore | Reach::Founding => Ok(Reached::No(Miss::NoWay)),
        }
    }

    pub(super) async fn reach_by_load(&self, first: u64, window: &Window, hit: u64) -> Result<Reached, Trouble> {
        let member = self.member(first)?;
        if arm(member, window.name, hit).await? {
            return Ok(Reached::Yes);
        }
        let (due, bound) = (self.due(window, hit), self.window_bound());
        match self.while_the_load_goes_on(&[first], due, bound, member.stop(window.name)).await {
            Ok(stop) => self.stopped(first, stop).await,
            Err(miss) => disarm(member, window.name, miss).await,
        }
    }

    /// Arms all other members and kills the leader, so that the election brings one of them to the
    /// window. Which one is unknown beforehand (a candidate, for example, answers no vote). The
    /// first member that stands there is the victim; another one that got there before it was
    /// disarmed dies with it. A window of files is armed after the kill: before it, entries pass
    /// there as well.
    async fn reach_by_election(
        &mut self,
        work: &mut Work,
        first: u64,
        window: &Window,
        hit: u64,
    ) -> Result<Reached, Trouble> {
        let roles = self.cluster.roles().await.unwrap_or_default();
        let Some((leader, _)) = roles.into_iter().find(|(id, role)| *role == Role::Leader && *id != first) else {
            return Ok(Reached::No(Miss::NoWay));
        };
        let up = self.cluster.members.iter().filter(|member| member.is_up() && member.id != leader);
        let electorate: Vec<u64> = up.map(|member| member.id).collect();
        work.victims = vec![Victim { member: leader, role: Role::Leader }];
        if window.is_of_files() {
            self.kill(work, &[leader]).await?;
        }
        let mut there = Vec::new();
        let mut stops = Vec::new();
        for id in &electorate {
            let member = self.member(*id)?;
            if arm(member, window.name, hit).await? {
                there.push(*id);
            }
            let (id, stop) = (*id, member.stop(window.name));
            stops.push(Box::pin(async move { (id, stop.await) }));
        }
        if !window.is_of_files() {
            self.kill(work, &[leader]).await?;
        }
        let mut miss = Miss::NoWay;
        if there.is_empty() && !stops.is_empty() {
            // Without a leader nothing is applied: entries that are, say that the election is over.
            let (due, bound) = (self.due(window, hit), self.window_bound());
            match self.while_the_load_goes_on(&electorate, due, bound, select_all(stops)).await {
                Ok(((id, stop), ..)) if self.stopped(id, stop).await? == Reached::Yes => there.push(id),
                Ok(_) => {}
                Err(missed) => miss = missed,
            }
        }
        for id in electorate {
            if !there.contains(&id) && disarm(self.member(id)?, window.name, miss).await? == Reached::Yes {
                there.push(id);
            }
        }
        // If the election is over, its leader says so. That is evidence of the votes of those that
        // are about to die only while they have not come back.
        self.cluster.statuses().await;
        self.take_readings(work.step.cycle);
        let victims = there.iter().map(|member| Victim { member: *member, role: Role::Follower });
        work.victims.splice(..0, victims);
        Ok(if there.is_empty() { Reached::No(miss) } else { Reached::Yes })
    }

    /// Kills the victims, and the first one again while it recovers.
    async fn reach_in_recovery(
        &mut self,
        work: &mut Work,
        first: u64,
        window: &Window,
        hit: u64,
    ) -> Result<Reached, Trouble> {
        if let Some(prior) = window.prior(self.member(first)?.engine).and_then(find_window)
            && let Reached::No(miss) = self.reach_by_load(first, prior, 1).await?
        {
            return Ok(Reached::No(miss));
        }
        let all: Vec<_> = work.victims.iter().map(|victim| victim.member).collect();
        self.kill(work, &all).await?;
        self.inspect_dead(work).await?;
        for member in all.iter().filter(|member| **member != first) {
            self.start(work, *member, None).await?;
        }
        // Only the first one dies again: the others are at their own recovery.
        let reached = self.restart_towards(work, first, window, hit).await?;
        Ok(self.strike_alone(work, first, reached).await?.into())
    }

    /// Kills the victim while it installs a snapshot, and brings it to the window while it recovers
    /// from that.
    async fn reach_after_an_install(
        &mut self,
        work: &mut Work,
        first: u64,
        window: &Window,
        hit: u64,
    ) -> Result<Reached, Trouble> {
        let prior = window.prior(self.member(first)?.engine).and_then(find_window);
        let Some(prior) = prior else { return Ok(Reached::No(Miss::NoWay)) };
        let reached = self.reach_as_receiver(work, first, prior, 1).await?;
        if let Err(miss) = self.strike_alone(work, first, reached).await? {
            return Ok(Reached::No(miss));
        }
        self.inspect_dead(work).await?;
        self.restart_towards(work, first, window, hit).await
    }

    /// Keeps the victim away until the others cannot serve it from their logs, and brings it to the
    /// window while it installs a snapshot.
    async fn reach_as_receiver(
        &mut self,
        work: &mut Work,
        first: u64,
        window: &Window,
        hit: u64,
    ) -> Result<Reached, Trouble> {
        self.kill(work, &[first]).await?;
        self.inspect_dead(work).await?;
        if let Some(miss) = self.away_until_purged(work, first).await? {
            return Ok(Reached::No(miss));
        }
        self.restart_towards(work, first, window, hit).await
    }

    /// Keeps a follower away until the log is purged, and kills the leader while it sends a
    /// snapshot.
    async fn reach_as_sender(&mut self, work: &mut Work, window: &Window, hit: u64) -> Result<Reached, Trouble> {
        let followers = self.cluster.roles().await.unwrap_or_default();
        let Some((laggard, _)) = followers.into_iter().find(|(_, role)| *role == Role::Follower) else {
            return Ok(Reached::No(Miss::NoWay));
        };
        self.kill(work, &[laggard]).await?;
        self.inspect_dead(work).await?;
        if let Some(miss) = self.away_until_purged(work, laggard).await? {
            return Ok(Reached::No(miss));
        }
        // The wait was long enough for another leader; the plan's victim is the present one.
        let Some((leader, _)) =
            self.cluster.roles().await.unwrap_or_default().into_iter().find(|(_, role)| *role == Role::Leader)
        else {
            return Ok(Reached::No(Miss::NoWay));
        };
        work.victims =
            [(leader, Role::Leader), (laggard, Role::Follower)].map(|(member, role)| Victim { member, role }).to_vec();
        Ok(self.strike_the_sender(work, leader, laggard, (window, hit)).await?.into())
    }

    /// Starts `laggard`, and kills `leader` in its window while it sends.
    pub(super) async fn strike_the_sender(
        &mut self,
        work: &mut Work,
        leader: u64,
        laggard: u64,
        (window, hit): (&Window, u64),
    ) -> Result<Result<(), Miss>, Trouble> {
        let member = self.member(leader)?;
        let (early, stop) = (arm(member, window.name, hit).await?, member.stop(window.name));
        self.start(work, laggard, None).await?;
        let reached = if early { Reached::Yes } else { self.send_to(laggard, leader, window.name, stop).await? };
        self.strike_alone(work, leader, reached).await
    }

    /// Lets `laggard` catch up from `leader`, until `leader` stands in its window or has nothing
    /// left to send.
    async fn send_to(
        &mut self,
        laggard: u64,
        leader: u64,
        window: &str,
        stop: impl Future<Output = Stop>,
    ) -> Result<Reached, Trouble> {
        let (index, bounds) = (self.cluster.applied_max(), self.scenario.bounds);
        let laggard = self.cluster.member_mut(laggard).ok_or_else(|| unknown(laggard))?;
        let stop = tokio::select! {
            biased;
            stop = stop => Some(stop),
            // A later step judges whether it caught up, as for every member.
            _ = catch_up(laggard, index, bounds.restart_ms_max, bounds.catch_up_ms_max) => None,
        };
        match stop {
            Some(stop) => self.stopped(leader, stop).await,
            None => disarm(self.member(leader)?, window, Miss::CaughtUp).await,
        }
    }

    /// Kills `member`, and none of the other victims, if it stands in its window. `Err`: the reason
    /// why it does not.
    pub(super) async fn strike_alone(
        &mut self,
        work: &mut Work,
        member: u64,
        reached: Reached,
    ) -> Result<Result<(), Miss>, Trouble> {
        match reached {
            Reached::Yes => Ok(Ok(self.strike_down(work, &[member]).await?)),
            Reached::Struck => Ok(Ok(())),
            Reached::No(miss) => Ok(Err(miss)),
        }
    }

    /// Starts `first` with `window` armed, and waits until it stands there or has caught up without
    /// passing it.
    pub(super) async fn restart_towards(
        &mut self,
        work: &mut Work,
        first: u64,
        window: &Window,
        hit: u64,
    ) -> Result<Reached, Trouble> {
        self.start(work, first, Some((window.name, hit))).await?;
        // Entries that its log still holds may be committed although no member has reported that
        // yet, and are then replayed. While the load goes on, the cluster reaches that index either
        // way.
        let dead = work.last_casualties().find(|casualty| casualty.member == first);
        let log_last = dead.and_then(|casualty| casualty.dead.as_ref()?.log_last).unwrap_or(0);
        let (index, bounds) = (self.cluster.applied_max().max(log_last), self.scenario.bounds);
        let (receives, bound) = (window.reach == Reach::SnapshotReceiver, self.window_bound());
        let member = self.cluster.member_mut(first).ok_or_else(|| unknown(first))?;
        let stop = member.stop(window.name);
        let caught_up = async {
            catch_up(member, index, bounds.restart_ms_max, bounds.catch_up_ms_max).await?;
            if receives { past_the_image(member, bound).await } else { Ok(()) }
        };
        let end = tokio::select! {
            biased;
            stop = stop => Ok(stop),
            caught_up = caught_up => Err(caught_up),
        };
        match end {
            Ok(stop) => self.stopped(first, stop).await,
            Err(Ok(())) => disarm(self.member(first)?, window.name, Miss::CaughtUp).await,
            Err(Err(trouble)) => Err(trouble),
        }
    }

    /// Waits until every member that is up has purged its log past the entries of `away`. `Some`:
    /// the reason why they did not.
    async fn away_until_purged(&mut self, work: &Work, away: u64) -> Result<Option<Miss>, Trouble> {
        let dead = work
            .casualties
            .iter()
            .rev()
            .find(|casualty| casualty.member == away)
            .and_then(|casualty| casualty.dead.as_ref());
        let Some(log_last) = dead.and_then(|dead| dead.log_last) else {
            return Ok(Some(Miss::NoWay));
        };
        let purged = async {
            loop {
                let statuses = self.cluster.statuses().await;
                if let Some(trouble) = self.cluster.stray_death() {
                    return Err(trouble);
                }
                if !statuses.is_empty() && statuses.iter().all(|status| status.last_purged > Some(log_last)) {
                    return Ok(());
                }
                timer::sleep(limits::PURGE_RETRY_PAUSE).await;
            }
        };
        let others: Vec<_> = self.cluster.members.iter().map(|member| member.id).filter(|id| *id != away).collect();
        let bound = Duration::from_millis(self.scenario.bounds.away_ms_max);
        match self.while_the_load_goes_on(&others, self.purge_due(), bound, purged).await {
            Ok(purged) => purged.map(|()| None),
            Err(miss) => Ok(Some(miss)),
        }
    }

    /// Interprets the end of a wait for a window. The pipe of a dying member closes before the
    /// kernel reports its death, so this asks for that news before it blames the harness.
    pub(super) async fn stopped(&self, member: u64, stop: Stop) -> Result<Reached, Trouble> {
        match stop {
            Stop::AtWindow => Ok(Reached::Yes),
            Stop::Ended => Err(self.member(member)?.trouble_of_a_broken_pipe().await),
        }
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

async fn catch_up(member: &mut Member, index: u64, restart_ms: u64, catch_up_ms: u64) -> Result<(), Trouble> {
    member.wait_serving(Duration::from_millis(restart_ms)).await?;
    member.catch_up(index, Duration::from_millis(catch_up_ms)).await
}

/// Waits until a member that has caught up applies one entry more. An installation moves the
/// applied index before its last steps, and the entry that follows the image is applied after them.
async fn past_the_image(member: &Member, bound: Duration) -> Result<(), Trouble> {
    let applied = member.status().await?.applied.unwrap_or(0);
    match member.wait_applied(applied + 1, bound).await {
        // If the load stands still, no entry follows. The cycle checks the member later anyway.
        Ok(_) | Err(Trouble::Late { .. }) => Ok(()),
        Err(trouble) => Err(trouble),
    }
}

/// Arms a window. Returns whether the process stands still there already, which may happen before
/// its answer is out.
pub(super) async fn arm(member: &Member, window: &str, hit: u64) -> Result<bool, Trouble> {
    tokio::select! {
        biased;
        stop = member.stop(window) => Ok(stop == Stop::AtWindow),
        armed = member.arm(window, hit) => armed.map(|()| false),
    }
}

/// Disarms a window that was missed. A stop may have come first: another answer afterwards proves
/// that none has.
pub(super) async fn disarm(member: &Member, window: &str, miss: Miss) -> Result<Reached, Trouble> {
    let disarmed = async {
        member.arm(window, 0).await?;
        member.status().await
    };
    tokio::select! {
        biased;
        stop = member.stop(window) => Ok(if stop == Stop::AtWindow { Reached::Yes } else { Reached::No(miss) }),
        disarmed = disarmed => disarmed.map(|_| Reached::No(miss)),
    }
}
