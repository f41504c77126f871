//! Upgrade by `migrate`: kill, inspect, migrate (killed on the way, if the step says so), inspect,
//! and again.
//!
//! The power may fail with the kill of `migrate`, or when it has ended. The kill of the member
//! before it leaves the power on, so that `migrate` finds, and may build on, what no sync has made
//! durable. Such a cut is not kept for the search for a missing sync, nor explored: its crash
//! states are of two engines, and a member is started for one.

use super::{Stage, Work};
use crate::cluster::Trouble;
use crate::cluster::migration::{Migration, migrate};
use crate::inspect::inspect;
use crate::plan::{At, Then};
use crate::subject::events::Migrated;
use anyhow::anyhow;
use ninelives_evidence::member::Engine;
use ninelives_evidence::{DeadMember, Did, Evidence, Look};
use ninelives_oracle::settle_index;

impl Stage<'_> {
    pub(super) async fn upgrade_by_migrate(
        &mut self,
        work: &mut Work,
        id: u64,
        to: Engine,
        (kill, cut): (Option<(At, Then)>, Option<u32>),
    ) -> Result<(), Trouble> {
        self.kill(work, &[id]).await?;
        self.inspect_dead(work).await?;
        let at = kill.map(|(at, _)| at);
        match (self.migrate(work, id, to, at).await?, kill) {
            (Migration::Killed, Some((_, then))) => {
                work.kills_of_tools += 1;
                work.landed();
                let killed = Evidence::Killed { cycle: work.step.cycle, member: id, engine: None };
                self.ledger.record(&killed);
                self.cut_migrated(work, id, cut)?;
                self.inspect_migrated(work, id, Look::MigrateKilled).await?;
                match then {
                    Then::Migrate => self.migrate_to_the_end(work, id, to).await,
                    Then::Serve => self.serve_what_is_there(work, id, to).await,
                }
            }
            (Migration::Done(said), planned) => {
                match planned {
                    Some((at, _)) => work.skip(format!("{at}: `migrate` ended without passing it")),
                    None => {
                        work.landed();
                        self.cut_migrated(work, id, cut)?;
                    }
                }
                self.migrated(work, id, to, said).await
            }
            (Migration::Killed, None) => {
                Err(Trouble::Harness(anyhow!("`migrate` of n{id} was killed, which was not planned")))
            }
        }
    }

    async fn migrate(&self, work: &Work, id: u64, to: Engine, at: Option<At>) -> Result<Migration, Trouble> {
        let what = at.map_or_else(|| format!("to {to}"), |at| format!("to {to}, armed at {at}"));
        self.note(work.step.cycle, Did::Migrate, Some(id), Some(&what));
        let member = self.member(id)?;
        member.open_files();
        let migration = migrate(&self.cluster.site, id, to, at.map(|at| (at.window.name, at.hit))).await;
        member.close_files();
        migration
    }

    /// Lets the power fail under the directory of the dead member `id`, if the step says so.
    fn cut_migrated(&mut self, work: &mut Work, id: u64, cut: Option<u32>) -> Result<(), Trouble> {
        cut.map_or(Ok(()), |keep_percent| self.cut_knowing(work, id, keep_percent, None))
    }

    async fn migrate_to_the_end(&mut self, work: &mut Work, id: u64, to: Engine) -> Result<(), Trouble> {
        match self.migrate(work, id, to, None).await? {
            Migration::Done(said) => self.migrated(work, id, to, said).await,
            Migration::Killed => Err(Trouble::Harness(anyhow!("`migrate` of n{id} was killed, which was not planned"))),
        }
    }

    /// Judges the directory by the report of `migrate`; the next life runs on it.
    async fn migrated(&mut self, work: &mut Work, id: u64, to: Engine, said: Option<Migrated>) -> Result<(), Trouble> {
        let index = said.and_then(|said| said.index);
        self.inspect_migrated(work, id, Look::Migrated { to, index }).await?;
        self.set_engine(id, to)
    }

    /// Starts the member after an interrupted `migrate`: start-up itself has to finish the change
    /// or undo it, depending on the content of the directory. If it undoes the change, the
    /// directory is migrated once more.
    async fn serve_what_is_there(&mut self, work: &mut Work, id: u64, to: Engine) -> Result<(), Trouble> {
        let found = work.last_dead(id).and_then(|dead| dead.engine);
        let Some(found) = found else {
            return Err(Trouble::Harness(anyhow!(
                "the inspector does not say which engine n{id} has after an interrupted migration"
            )));
        };
        self.set_engine(id, found)?;
        self.restart(work).await?;
        if found == to {
            return Ok(());
        }
        self.catch_up(work).await?;
        self.kill(work, &[id]).await?;
        self.inspect_dead(work).await?;
        self.migrate_to_the_end(work, id, to).await
    }

    /// Reads the directory anew, and judges it against its earlier state; the next life starts from
    /// the new one.
    pub(super) async fn inspect_migrated(&self, work: &mut Work, id: u64, look: Look) -> Result<(), Trouble> {
        let site = &self.cluster.site;
        let Some(inspector) = site.target.inspector() else { return Ok(()) };
        let data = self.cluster.dead_directory(id);
        let mut dead = inspect(&site.spawner, inspector, &data, &site.paths.dead_copy(id)).await?.dead;
        let Some(casualty) = work.casualties.iter_mut().rev().find(|casualty| casualty.member == id) else {
            return Ok(());
        };
        let applied_received = casualty.death.applied_received;
        let inspected = Evidence::Inspected {
            cycle: work.step.cycle,
            member: id,
            look: look.clone(),
            applied_received,
            dead: dead.clone(),
        };
        self.ledger.record(&inspected);
        if look == Look::MigrateKilled {
            settle_index(&casualty.dead.take().unwrap_or_default(), &mut dead);
        }
        casualty.dead = Some(dead);
        self.drain(work);
        Ok(())
    }
}

impl Work {
    /// The result of the last inspection of member `id`.
    fn last_dead(&self, id: u64) -> Option<&DeadMember> {
        self.casualties.iter().rev().find(|casualty| casualty.member == id)?.dead.as_ref()
    }
}
