//! Disaster recovery: a live member is saved under load, all are killed, and the snapshot becomes a
//! new cluster in the same places.
//!
//! Every directory of the old cluster is inspected like any dead one, and then left behind. The
//! restored cluster has new ids, a raft log that begins behind the image, and the revision of the
//! snapshot; the ledger cuts the history there ([`Evidence::Restored`]). Load and watches end with
//! the old cluster and begin anew with the new one, so that no answer of the old one is taken for
//! an answer of the new one. All members found the new cluster, or one founds it and the others are
//! added empty. One of several founders may first be started from another state, which the others
//! must not let in ([`super::unlike`]). The cycle then catches up, fences and verifies as always.

use super::strike::unknown;
use super::{Stage, Work};
use crate::cluster::restoration::{self, Restoration};
use crate::cluster::{Membership, Trouble};
use crate::dial::url;
use crate::inspect::inspect;
use crate::observe::Observer;
use crate::plan::{At, Restore};
use crate::scenario::{RestoreKind, UnlikeKind};
use crate::subject::Reach;
use anyhow::{Context, anyhow};
use ninelives_evidence::limits;
use ninelives_evidence::member::{Engine, Role, Slot};
use ninelives_evidence::record::Victim;
use ninelives_evidence::{Did, Evidence};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

impl Stage<'_> {
    /// Carries `restore` out. `roles` has every member, with one leader.
    pub(super) async fn restore(
        &mut self,
        work: &mut Work,
        restore: &Restore,
        roles: &[(u64, Role)],
    ) -> Result<(), Trouble> {
        let Some(source) = self.cluster.in_slot(restore.slot).map(|member| member.id) else {
            work.skip(format!("there is no {}", restore.slot));
            return Ok(());
        };
        let of = |(member, role): &(u64, Role)| Victim { member: *member, role: *role };
        work.victims = roles.iter().map(of).collect();
        let (file, older) =
            (self.cluster.site.paths.saved(work.step.cycle), self.cluster.site.paths.older(work.step.cycle));
        if restore.unlike.is_some_and(|unlike| unlike.from == UnlikeKind::Older) {
            self.save_older(work, source, &older).await?;
        }
        let revision = self.save(work, (source, restore.slot), &file).await?;
        let all: Vec<u64> = self.cluster.members.iter().map(|member| member.id).collect();
        self.kill(work, &all).await?;
        self.inspect_dead(work).await?;
        self.end_load_and_watches().await?;
        let gone: Vec<_> = self.cluster.members.iter().map(|member| (member.slot, member.engine)).collect();
        let into = |engine: Engine| if restore.other { engine.other() } else { engine };
        let places: Vec<_> = gone.into_iter().map(|(slot, engine)| (slot, into(engine))).collect();
        let founding = match restore.by {
            RestoreKind::All => places.clone(),
            RestoreKind::One => places.iter().copied().filter(|(slot, _)| *slot == restore.slot).collect(),
        };
        let founders = self.cluster.refound(&founding)?;
        work.retired.extend(all);
        for (nth, (_, id, engine)) in founders.iter().enumerate() {
            let armed = restore.kill.filter(|at| nth == 0 && at.window.reach == Reach::Restore);
            self.restore_one(work, (*id, *engine), &file, armed).await?;
        }
        self.cut(work, revision, founders.clone()).await?;
        let untried = match restore.unlike {
            Some(unlike) => self.try_unlike(work, &founders, unlike, (&older, revision)).await?,
            None => None,
        };
        self.found(work, &founders, restore.kill).await?;
        if restore.by == RestoreKind::One {
            self.grow(work, &places, restore.slot).await?;
        }
        match untried {
            Some(why) => work.skip(why),
            None if restore.kill.is_none() => work.landed(),
            None => {}
        }
        work.record.restored = true;
        // The snapshots of a cycle with a finding stay, as evidence.
        for saved in [file, older].iter().filter(|saved| saved.exists()) {
            std::fs::remove_file(saved).with_context(|| format!("cannot remove {}", saved.display()))?;
        }
        Ok(())
    }

    /// Saves a snapshot of `source` from which one founder alone is restored, and lets the load go
    /// on, so that the others' one holds something else.
    async fn save_older(&mut self, work: &Work, source: u64, file: &Path) -> Result<(), Trouble> {
        self.note(work.step.cycle, Did::Save, Some(source), Some("for one founder alone"));
        let endpoint = url(self.member(source)?.addresses.client);
        let saved = restoration::save(&endpoint, file, self.cluster.site.pace()).await;
        saved.with_context(|| format!("cannot save a snapshot of n{source}"))?;
        // A load that cannot go on is a finding of the cycles that are about it.
        let _ = self.reach_applied(source, limits::RESTORE_LOSES).await?;
        Ok(())
    }

    /// Saves the snapshot of `source`, and lets the load go on for a while: the restore loses the
    /// writes that are acknowledged after the snapshot.
    async fn save(&mut self, work: &Work, (source, slot): (u64, Slot), file: &Path) -> Result<u64, Trouble> {
        let cycle = work.step.cycle;
        self.note(cycle, Did::Save, Some(source), None);
        self.ledger.record(&Evidence::Saving { cycle, member: source });
        let endpoint = url(self.member(source)?.addresses.client);
        let saved = restoration::save(&endpoint, file, self.cluster.site.pace()).await;
        saved.with_context(|| format!("cannot save a snapshot of n{source}"))?;
        let revision = restoration::status(&self.cluster.site, file).await?.revision;
        let (lap, bound) = (self.cluster.site.pace().begin(), Duration::from_millis(limits::OBSERVE_MS_MAX));
        let told = self.observer.wait_revision(slot, revision, (&lap, bound)).await?;
        if told < revision {
            let what = format!("tell by a watch what its snapshot holds, which is revision {revision} and not {told}");
            return Err(Trouble::Late { member: source, what, bound: lap.stretched(bound) });
        }
        // A load that cannot go on is a finding of the cycles that are about it.
        let _ = self.reach_applied(source, limits::RESTORE_LOSES).await?;
        Ok(revision)
    }

    /// Ends the load, so that nothing is in flight, and the watches. New ones wait until a member
    /// serves.
    async fn end_load_and_watches(&mut self) -> Result<(), Trouble> {
        self.load.stop().await?;
        let endpoints = self.cluster.endpoints();
        let anew = Observer::start(&endpoints, &self.cluster.site.board, Arc::clone(&self.ledger)).await?;
        std::mem::replace(self.observer, anew).stop().await;
        Ok(())
    }

    /// Makes the directory of the founder `id`. A kill on the way leaves none, or a whole one.
    async fn restore_one(
        &mut self,
        work: &mut Work,
        (id, engine): (u64, Engine),
        file: &Path,
        at: Option<At>,
    ) -> Result<(), Trouble> {
        let cycle = work.step.cycle;
        let what = at.map_or_else(|| format!("into {engine}"), |at| format!("into {engine}, armed at {at}"));
        self.note(cycle, Did::Restore, Some(id), Some(&what));
        let arm = at.map(|at| (at.window.name, at.hit));
        let dir = self.cluster.site.paths.node_data(id);
        let done = restoration::restore(&self.cluster.site, (id, &dir), file, engine, arm).await?;
        match (done, at) {
            (Restoration::Done, None) => return Ok(()),
            (Restoration::Done, Some(at)) => {
                work.skip(format!("{at}: `snapshot restore` ended without passing it"));
                return Ok(());
            }
            (Restoration::Killed, None) => {
                return Err(Trouble::Harness(anyhow!("`snapshot restore` of n{id} was killed, which was not planned")));
            }
            (Restoration::Killed, Some(_)) => {}
        }
        work.kills_of_tools += 1;
        work.landed();
        self.ledger.record(&Evidence::Killed { cycle, member: id, engine: None });
        if dir.exists() {
            return Ok(());
        }
        self.note(cycle, Did::Restore, Some(id), Some(&format!("into {engine}, once more")));
        match restoration::restore(&self.cluster.site, (id, &dir), file, engine, None).await? {
            Restoration::Done => Ok(()),
            Restoration::Killed => {
                Err(Trouble::Harness(anyhow!("`snapshot restore` of n{id} was killed, which was not planned")))
            }
        }
    }

    /// Cuts the history, and begins another load and other watches.
    async fn cut(&mut self, work: &mut Work, revision: u64, founders: Vec<(Slot, u64, Engine)>) -> Result<(), Trouble> {
        let (cycle, site) = (work.step.cycle, &self.cluster.site);
        let mut index = None;
        if let (Some(inspector), Some((_, id, _))) = (site.target.inspector(), founders.first()) {
            let (data, copy) = (site.paths.node_data(*id), site.paths.dead_copy(*id));
            index = inspect(&site.spawner, inspector, &data, &copy).await?.dead.engine_index;
        }
        self.judge(work, &Evidence::Restored { cycle, revision, index, founders });
        let endpoints: Vec<_> = self.cluster.endpoints().into_iter().map(|(_, endpoint)| endpoint).collect();
        self.load.begin_anew((&endpoints, self.cluster.site.board.clone()), Arc::clone(&self.ledger)).await?;
        Ok(())
    }

    /// Starts the founders that are not up; the first one is killed in its first life if `kill`
    /// says so.
    async fn found(
        &mut self,
        work: &mut Work,
        founders: &[(Slot, u64, Engine)],
        kill: Option<At>,
    ) -> Result<(), Trouble> {
        let Some((_, first, _)) = founders.first().copied() else { return Ok(()) };
        for (_, id, _) in founders.iter().filter(|(_, id, _)| *id != first) {
            self.start_unless_up(work, *id).await?;
        }
        match kill.filter(|at| at.window.reach == Reach::Founding) {
            None => self.start_unless_up(work, first).await?,
            Some(at) => {
                let reached = self.restart_towards(work, first, at).await?;
                match self.strike_alone(work, first, reached).await? {
                    Ok(()) => work.landed(),
                    Err(miss) => work.skip(format!("{at}: {miss}")),
                }
                self.inspect_dead(work).await?;
                self.start_unless_up(work, first).await?;
            }
        }
        self.founders_serve(founders).await
    }

    pub(super) async fn start_unless_up(&mut self, work: &Work, id: u64) -> Result<(), Trouble> {
        if self.member(id)?.is_up() { Ok(()) } else { self.start(work, id, None).await }
    }

    /// Waits until each of `founders` serves.
    pub(super) async fn founders_serve(&mut self, founders: &[(Slot, u64, Engine)]) -> Result<(), Trouble> {
        let bound = Duration::from_millis(self.scenario.bounds.restart_ms_max);
        for (_, id, _) in founders {
            let member = self.cluster.member_mut(*id).ok_or_else(|| unknown(*id))?;
            if !member.is_serving() {
                member.wait_serving(bound).await?;
            }
        }
        Ok(())
    }

    /// Adds a learner in every slot but the founder's, and promotes each once it has what the
    /// cluster has.
    async fn grow(&mut self, work: &mut Work, places: &[(Slot, Engine)], founder: Slot) -> Result<(), Trouble> {
        let doors: Vec<_> =
            self.cluster.in_slot(founder).into_iter().map(|member| (member.id, member.addresses)).collect();
        let doors = doors.into_iter().map(|(id, at)| (id, url(at.client)));
        let through = Membership::through(doors.collect(), self.cluster.site.pace().clone());
        for (slot, engine) in places.iter().filter(|(slot, _)| *slot != founder) {
            let old = self.cluster.in_slot(*slot).map(|member| member.id);
            let old = old.ok_or_else(|| anyhow!("there is no {slot}, which is to get a new member"))?;
            let id = self.add(work, old, *engine, &through).await?;
            self.start(work, id, None).await?;
            let bound = Duration::from_millis(self.scenario.bounds.restart_ms_max);
            self.cluster.member_mut(id).ok_or_else(|| unknown(id))?.wait_serving(bound).await?;
            self.bring_in(work, id, &through).await?;
        }
        Ok(())
    }
}
