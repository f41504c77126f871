//! The ways to the windows: bringing a member to the place where it is to be struck.
//!
//! A window stops the process by itself, so the kill lands exactly there. If the load goes by and
//! the window is not passed ([`super::wait`]), it is disarmed and recorded as a skip; members that
//! were killed on the way to it are still revived, fenced and verified like any other victim.

use super::strike::unknown;
use super::wait::Miss;
use super::{Stage, Work};
use crate::cluster::member::Stop;
use crate::cluster::{Member, Trouble};
use crate::plan::At;
use crate::subject::{Reach, find_window};
use crate::timer;
use futures_util::future::select_all;
use ninelives_evidence::Did;
use ninelives_evidence::limits;
use ninelives_evidence::member::Role;
use ninelives_evidence::record::Victim;
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
    pub(super) async fn reach_window(&mut self, work: &mut Work, first: u64, at: At) -> Result<Reached, Trouble> {
        self.note(work.step.cycle, Did::Arm, Some(first), Some(at.window.name));
        match at.window.reach {
            Reach::Load | Reach::LoadOfLeader => self.reach_by_load(first, at).await,
            Reach::Defragmentation => self.reach_by_defragmentation(work, first, at).await,
            Reach::Election => self.reach_by_election(work, first, at).await,
            Reach::Recovery | Reach::Start => self.reach_in_recovery(work, first, at).await,
            Reach::Reinstall => self.reach_after_an_install(work, first, at).await,
            Reach::SnapshotReceiver => self.reach_as_receiver(work, first, at).await,
            Reach::SnapshotSender => self.reach_as_sender(work, at).await,
            Reach::Join => self.reach_by_joining(work, first, at).await,
            // Parsing refuses such a plan.
            Reach::Migration | Reach::Restore | Reach::Founding => Ok(Reached::No(Miss::NoWay)),
        }
    }

    pub(super) async fn reach_by_load(&self, first: u64, at: At) -> Result<Reached, Trouble> {
        let member = self.member(first)?;
        if arm(member, at).await? {
            return Ok(Reached::Yes);
        }
        let (due, bound) = (self.due(at), self.window_bound());
        match self.while_the_load_goes_on(&[first], due, bound, member.stop(at.window.name)).await {
            Ok(stop) => self.stopped(first, stop).await,
            Err(miss) => disarm(member, at.window.name, miss).await,
        }
    }

    /// Arms all other members and kills the leader, so that the election brings one of them to the
    /// window. Which one is unknown beforehand (a candidate, for example, answers no vote). The
    /// first member that stands there is the victim; another one that got there before it was
    /// disarmed dies with it. A window of files is armed after the kill: before it, entries pass
    /// there as well.
    async fn reach_by_election(&mut self, work: &mut Work, first: u64, at: At) -> Result<Reached, Trouble> {
        let roles = self.cluster.roles().await.unwrap_or_default();
        let Some((leader, _)) = roles.into_iter().find(|(id, role)| *role == Role::Leader && *id != first) else {
            return Ok(Reached::No(Miss::NoWay));
        };
        let up = self.cluster.members.iter().filter(|member| member.is_up() && member.id != leader);
        let electorate: Vec<u64> = up.map(|member| member.id).collect();
        work.victims = vec![Victim { member: leader, role: Role::Leader }];
        if at.window.is_of_files() {
            self.kill(work, &[leader]).await?;
        }
        let mut there = Vec::new();
        let mut stops = Vec::new();
        for id in &electorate {
            let member = self.member(*id)?;
            if arm(member, at).await? {
                there.push(*id);
            }
            let (id, stop) = (*id, member.stop(at.window.name));
            stops.push(Box::pin(async move { (id, stop.await) }));
        }
        if !at.window.is_of_files() {
            self.kill(work, &[leader]).await?;
        }
        let mut miss = Miss::NoWay;
        if there.is_empty() && !stops.is_empty() {
            // Without a leader nothing is applied: entries that are, say that the election is over.
            let (due, bound) = (self.due(at), self.window_bound());
            match self.while_the_load_goes_on(&electorate, due, bound, select_all(stops)).await {
                Ok(((id, stop), ..)) if self.stopped(id, stop).await? == Reached::Yes => there.push(id),
                Ok(_) => {}
                Err(missed) => miss = missed,
            }
        }
        for id in electorate {
            if !there.contains(&id) && disarm(self.member(id)?, at.window.name, miss).await? == Reached::Yes {
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
    async fn reach_in_recovery(&mut self, work: &mut Work, first: u64, at: At) -> Result<Reached, Trouble> {
        if let Some(prior) = at.window.prior(self.member(first)?.engine).and_then(find_window)
            && let Reached::No(miss) = self.reach_by_load(first, At { window: prior, hit: 1 }).await?
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
        let reached = self.restart_towards(work, first, at).await?;
        Ok(self.strike_alone(work, first, reached).await?.into())
    }

    /// Kills the victim while it installs a snapshot, and brings it to the window while it recovers
    /// from that.
    async fn reach_after_an_install(&mut self, work: &mut Work, first: u64, at: At) -> Result<Reached, Trouble> {
        let prior = at.window.prior(self.member(first)?.engine).and_then(find_window);
        let Some(prior) = prior else { return Ok(Reached::No(Miss::NoWay)) };
        let reached = self.reach_as_receiver(work, first, At { window: prior, hit: 1 }).await?;
        if let Err(miss) = self.strike_alone(work, first, reached).await? {
            return Ok(Reached::No(miss));
        }
        self.inspect_dead(work).await?;
        self.restart_towards(work, first, at).await
    }

    /// Keeps the victim away until the others cannot serve it from their logs, and brings it to the
    /// window while it installs a snapshot.
    async fn reach_as_receiver(&mut self, work: &mut Work, first: u64, at: At) -> Result<Reached, Trouble> {
        self.kill(work, &[first]).await?;
        self.inspect_dead(work).await?;
        if let Some(miss) = self.away_until_purged(work, first).await? {
            return Ok(Reached::No(miss));
        }
        self.restart_towards(work, first, at).await
    }

    /// Keeps a follower away until the log is purged, and kills the leader while it sends a
    /// snapshot.
    async fn reach_as_sender(&mut self, work: &mut Work, at: At) -> Result<Reached, Trouble> {
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
        Ok(self.strike_the_sender(work, leader, laggard, at).await?.into())
    }

    /// Starts `laggard`, and kills `leader` in its window while it sends.
    pub(super) async fn strike_the_sender(
        &mut self,
        work: &mut Work,
        leader: u64,
        laggard: u64,
        at: At,
    ) -> Result<Result<(), Miss>, Trouble> {
        let member = self.member(leader)?;
        let (early, stop) = (arm(member, at).await?, member.stop(at.window.name));
        self.start(work, laggard, None).await?;
        let reached = if early { Reached::Yes } else { self.send_to(laggard, leader, at.window.name, stop).await? };
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

    /// Starts `first` with the window of `at` armed, and waits until it stands there or has caught
    /// up without passing it.
    pub(super) async fn restart_towards(&mut self, work: &mut Work, first: u64, at: At) -> Result<Reached, Trouble> {
        self.start(work, first, Some((at.window.name, at.hit))).await?;
        // Entries that its log still holds may be committed although no member has reported that
        // yet, and are then replayed. While the load goes on, the cluster reaches that index either
        // way.
        let dead = work.last_casualties().find(|casualty| casualty.member == first);
        let log_last = dead.and_then(|casualty| casualty.dead.as_ref()?.log_last).unwrap_or(0);
        let (index, bounds) = (self.cluster.applied_max().max(log_last), self.scenario.bounds);
        let (receives, bound) = (at.window.reach == Reach::SnapshotReceiver, self.window_bound());
        let member = self.cluster.member_mut(first).ok_or_else(|| unknown(first))?;
        let stop = member.stop(at.window.name);
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
            Err(Ok(())) => disarm(self.member(first)?, at.window.name, Miss::CaughtUp).await,
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
pub(super) async fn arm(member: &Member, at: At) -> Result<bool, Trouble> {
    tokio::select! {
        biased;
        stop = member.stop(at.window.name) => Ok(stop == Stop::AtWindow),
        armed = member.arm(at.window.name, at.hit) => armed.map(|()| false),
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
