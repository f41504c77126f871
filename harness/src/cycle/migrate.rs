//! Upgrade by `migrate`: kill, inspect, migrate (killed on the way, if the step says so), inspect, and again.

use super::{Stage, Work};
use crate::cluster::Trouble;
use crate::cluster::migration::{Migration, migrate};
use crate::inspect::{DeadMember, inspect};
use crate::oracle::{Restart, check_dead, check_kept};
use crate::plan::{At, Then};
use crate::process::Migrated;
use crate::target::Engine;
use crate::verdict::{Class, Finding};
use anyhow::anyhow;

impl Stage<'_> {
    pub(super) async fn upgrade_by_migrate(
        &mut self,
        work: &mut Work,
        id: u64,
        to: Engine,
        kill: Option<(At, Then)>,
    ) -> Result<(), Trouble> {
        self.kill(work, &[id]).await?;
        self.inspect_dead(work).await?;
        let at = kill.map(|(at, _)| at);
        match (self.migrate(work, id, to, at).await?, kill) {
            (Migration::Killed, Some((_, then))) => {
                work.kills_of_migrate += 1;
                work.landed();
                self.inspect_migrated(work, id, None).await?;
                match then {
                    Then::Migrate => self.migrate_to_the_end(work, id, to).await,
                    Then::Serve => self.serve_what_is_there(work, id, to).await,
                }
            }
            (Migration::Done(said), planned) => {
                match planned {
                    Some((at, _)) => work.skip(format!("{at}: `migrate` ended without passing it")),
                    None => work.landed(),
                }
                self.migrated(work, id, to, said).await
            }
            (Migration::Killed, None) => {
                Err(Trouble::Harness(anyhow!("`migrate` of n{id} was killed, and nobody planned it")))
            }
        }
    }

    async fn migrate(&self, work: &Work, id: u64, to: Engine, at: Option<At>) -> Result<Migration, Trouble> {
        let what = at.map_or_else(|| format!("to {to}"), |at| format!("to {to}, armed at {at}"));
        self.note(work.step.cycle, "migrate", Some(id), Some(&what));
        migrate(&self.cluster.site, id, to, at.map(|at| (at.window.name, at.hit))).await
    }

    async fn migrate_to_the_end(&mut self, work: &mut Work, id: u64, to: Engine) -> Result<(), Trouble> {
        match self.migrate(work, id, to, None).await? {
            Migration::Done(said) => self.migrated(work, id, to, said).await,
            Migration::Killed => Err(Trouble::Harness(anyhow!("`migrate` of n{id} was killed, and nobody planned it"))),
        }
    }

    /// The directory is what `migrate` says it is, and the next life runs on it.
    async fn migrated(&mut self, work: &mut Work, id: u64, to: Engine, said: Option<Migrated>) -> Result<(), Trouble> {
        self.history
            .record(&serde_json::json!({ "event": "migrated", "cycle": work.step.cycle, "member": id, "said": said }));
        self.inspect_migrated(work, id, Some(to)).await?;
        let (claimed, found) =
            (said.and_then(|said| said.index), work.last_dead(id).and_then(|dead| dead.engine_index));
        if claimed != found {
            let why = format!("`migrate` claims the state of index {claimed:?}, and what lies there is of {found:?}");
            work.findings.push(Finding::new(Class::ReplayStart, why).in_cycle(work.step.cycle).at_member(id));
        }
        self.set_engine(id, to)
    }

    /// After an interrupted `migrate`, start-up itself has to finish the change or undo it. Which one follows from what
    /// lies there; undone, it is migrated once more.
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

    /// Reads the directory anew, and judges it against what it was; from here on this is what the next life starts from.
    async fn inspect_migrated(&self, work: &mut Work, id: u64, to: Option<Engine>) -> Result<(), Trouble> {
        let site = &self.cluster.site;
        let mut dead =
            inspect(&site.spawner, &site.target, &site.paths.node_data(id), &site.paths.dead_copy(id)).await?.dead;
        let cycle = work.step.cycle;
        self.history.record(&serde_json::json!({ "event": "inspected", "cycle": cycle, "member": id, "dead": dead }));
        let Some(casualty) = work.casualties.iter_mut().rev().find(|casualty| casualty.member == id) else {
            return Ok(());
        };
        let applied_received = casualty.death.applied_received;
        let before = casualty.dead.take().unwrap_or_default();
        let restart = Restart { cycle, member: id, dead: &dead, applied_received };
        let mut findings = check_kept(&restart, &before, to);
        if to.is_some() && findings.is_empty() {
            findings.extend(check_dead(&restart));
        }
        if to.is_none() {
            settle_index(&before, &mut dead);
        }
        casualty.dead = Some(dead);
        work.findings.extend(findings);
        Ok(())
    }
}

/// N of an interrupted migration, as start-up has to leave it: the old one if it is undone, E if it is finished, because
/// the new engine holds a complete and synced image.
fn settle_index(before: &DeadMember, dead: &mut DeadMember) {
    dead.last_flushed_index = if dead.engine == before.engine { before.last_flushed_index } else { dead.engine_index };
    dead.last_flushed_index_error = None;
}

impl Work {
    /// What the last inspection of member `id` found.
    fn last_dead(&self, id: u64) -> Option<&DeadMember> {
        self.casualties.iter().rev().find(|casualty| casualty.member == id)?.dead.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn n_is_the_old_one_if_undone_and_e_if_finished() {
        let before = DeadMember {
            engine: Some(Engine::Rocksdb),
            last_flushed_index: Some(4),
            engine_index: Some(9),
            ..DeadMember::default()
        };
        let mut undone = DeadMember { last_flushed_index: None, ..before.clone() };
        settle_index(&before, &mut undone);
        assert_eq!(undone.last_flushed_index, Some(4));
        let mut finished = DeadMember { engine: Some(Engine::Redb), ..before.clone() };
        settle_index(&before, &mut finished);
        assert_eq!(finished.last_flushed_index, Some(9));
    }
}
