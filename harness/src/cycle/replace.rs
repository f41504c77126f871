//! Replacement: remove and kill the member, add a learner, start it empty, let it receive
//! everything, promote it. An upgrade is carried out so, and so is a member brought to a window of
//! its first life.
//!
//! The slot stays, and gets a new member with a new id: an id stands for the life of one raft log,
//! and a wiped member under its old id would have amnesia.

use super::reach::Reached;
use super::strike::unknown;
use super::wait::Miss;
use super::{Casualty, Stage, Work};
use crate::cluster::{Membership, Trouble};
use crate::dial::url;
use crate::plan::At;
use crate::subject::Reach;
use ninelives_evidence::member::{Engine, Role};
use ninelives_evidence::record::Victim;
use ninelives_evidence::{Did, Evidence};
use std::time::Duration;

impl Stage<'_> {
    pub(super) async fn upgrade_by_replace(
        &mut self,
        work: &mut Work,
        old: u64,
        to: Engine,
        kill: Option<At>,
    ) -> Result<(), Trouble> {
        let others = self.membership_without(old);
        self.retire(work, old, &others).await?;
        let id = self.add(work, old, to, &others).await?;
        match kill {
            None => {
                self.start(work, id, None).await?;
                work.landed();
            }
            Some(at) => match self.first_life(work, id, at).await? {
                Ok(()) => work.landed(),
                Err(miss) => work.skip(format!("{at}: {miss}")),
            },
        }
        self.inspect_dead(work).await?;
        self.restart(work).await?;
        self.bring_in(work, id, &others).await
    }

    /// Puts a new member on the same engine in the place of `old`, and brings it to `at` in its
    /// first life. It is made a voter when the cycle has restarted it ([`Stage::bring_in`]).
    pub(super) async fn reach_by_joining(&mut self, work: &mut Work, old: u64, at: At) -> Result<Reached, Trouble> {
        let (engine, others) = (self.member(old)?.engine, self.membership_without(old));
        self.retire(work, old, &others).await?;
        let id = self.add(work, old, engine, &others).await?;
        work.victims = vec![Victim { member: id, role: Role::Follower }];
        work.joined = Some(id);
        self.restart_towards(work, id, at).await
    }

    /// The members that may be asked to change the membership: all but `id`.
    pub(super) fn membership_without(&self, id: u64) -> Membership {
        let endpoints = self.cluster.members.iter().zip(self.cluster.endpoints());
        let others = endpoints.filter(|(member, _)| member.id != id);
        Membership::through(
            others.map(|(member, (_, endpoint))| (member.id, endpoint)).collect(),
            self.cluster.site.pace().clone(),
        )
    }

    /// Removes `old` from the cluster, and kills what is left of it.
    async fn retire(&mut self, work: &mut Work, old: u64, others: &Membership) -> Result<(), Trouble> {
        let cycle = work.step.cycle;
        self.note(cycle, Did::MemberRemove, Some(old), None);
        others.remove(old).await?;
        self.note(cycle, Did::Kill, Some(old), None);
        let member = self.cluster.member_mut(old).ok_or_else(|| unknown(old))?;
        let engine = member.engine;
        if let Some(death) = member.kill_removed().await {
            self.casualty(work, Casualty { member: old, engine, death: death?, dead: None });
        }
        self.inspect_dead(work).await
    }

    /// Has a learner added in place of `old`, and gives it the slot.
    pub(super) async fn add(
        &mut self,
        work: &mut Work,
        old: u64,
        to: Engine,
        others: &Membership,
    ) -> Result<u64, Trouble> {
        let member = self.member(old)?;
        let (slot, peer) = (member.slot, url(member.addresses.peer));
        self.note(work.step.cycle, Did::MemberAdd, None, Some(&peer));
        let id = others.add_learner(&peer, self.cluster.ids_used()).await?;
        self.note(work.step.cycle, Did::MemberAdded, Some(id), Some(&format!("{slot}, {to}")));
        // It unmounts and mounts, where members lie under the fault filesystem.
        tokio::task::block_in_place(|| self.cluster.replace(old, id, to))?;
        self.ledger.record(&Evidence::MovedIn { cycle: work.step.cycle, slot, member: id, engine: to });
        work.retired.push(old);
        Ok(id)
    }

    /// Starts the new member, on an empty directory; kills it, or the leader that sends it the
    /// state, in the planned window. `Err`: the reason why the window was not reached.
    async fn first_life(&mut self, work: &mut Work, id: u64, at: At) -> Result<Result<(), Miss>, Trouble> {
        if at.window.reach != Reach::SnapshotSender {
            work.victims.insert(0, Victim { member: id, role: Role::Follower });
            let reached = self.restart_towards(work, id, at).await?;
            return self.strike_alone(work, id, reached).await;
        }
        let roles = self.cluster.roles().await.unwrap_or_default();
        let Some((leader, _)) = roles.into_iter().find(|(member, role)| *role == Role::Leader && *member != id) else {
            self.start(work, id, None).await?;
            return Ok(Err(Miss::NoWay));
        };
        work.victims.insert(0, Victim { member: leader, role: Role::Leader });
        self.note(work.step.cycle, Did::Arm, Some(leader), Some(at.window.name));
        self.strike_the_sender(work, leader, id, at).await
    }

    /// Waits until the new member has everything that the cluster had, and makes it a voter.
    pub(super) async fn bring_in(&mut self, work: &mut Work, id: u64, others: &Membership) -> Result<(), Trouble> {
        let bound = Duration::from_millis(self.scenario.bounds.catch_up_ms_max);
        self.member(id)?.catch_up(self.cluster.applied_max(), bound).await?;
        self.note(work.step.cycle, Did::MemberPromote, Some(id), None);
        others.promote(id, bound).await?;
        // Not asked before: the applied index moves with an install, and a member writes its
        // account of it down after that.
        let recovery = self.member(id)?.recovery().await?;
        work.record.recovery.snapshot_installed |=
            recovery.is_some_and(|recovery| recovery.snapshot_installed.is_some());
        Ok(())
    }
}
