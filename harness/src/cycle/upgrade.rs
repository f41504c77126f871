//! A member changes its engine while the others serve: by `migrate` on its dead directory, or
//! replaced under a new id.
//!
//! Both ways begin with a member that dies by our SIGKILL and is inspected like any other, and end
//! with all members serving; the cycle then catches up, fences and verifies as always.

use super::strike::unknown;
use super::{Stage, Work};
use crate::cluster::Trouble;
use crate::plan::{Upgrade, Way};
use ninelives_evidence::member::Role;
use ninelives_evidence::record::{FaultOutcome, Victim};

impl Stage<'_> {
    /// Carries `upgrade` out. `roles` has every member, with one leader.
    pub(super) async fn upgrade(
        &mut self,
        work: &mut Work,
        upgrade: &Upgrade,
        roles: &[(u64, Role)],
    ) -> Result<(), Trouble> {
        let Some(member) = self.cluster.in_slot(upgrade.slot) else {
            work.skip(format!("there is no {}", upgrade.slot));
            return Ok(());
        };
        let (id, engine) = (member.id, member.engine);
        if engine == upgrade.to {
            work.skip(format!("{} runs {engine} already", upgrade.slot));
            return Ok(());
        }
        let role = roles.iter().find(|(member, _)| *member == id).map_or(Role::Follower, |(_, role)| *role);
        work.victims = vec![Victim { member: id, role }];
        match upgrade.way {
            Way::Migrate { kill, cut } => self.upgrade_by_migrate(work, id, upgrade.to, (kill, cut)).await?,
            Way::Replace { kill } => self.upgrade_by_replace(work, id, upgrade.to, kill).await?,
        }
        work.record.upgraded = true;
        Ok(())
    }

    /// What member `id` runs from its next life on.
    pub(super) fn set_engine(&mut self, id: u64, engine: ninelives_evidence::member::Engine) -> Result<(), Trouble> {
        self.cluster.member_mut(id).ok_or_else(|| unknown(id))?.engine = engine;
        Ok(())
    }
}

impl Work {
    pub(super) fn landed(&mut self) {
        self.record.outcome = FaultOutcome::Landed;
    }
}
