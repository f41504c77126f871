//! The `[quotas]` table: the number of kills that have to land in a window, by the role of the
//! member that stood in it.
//!
//! ```toml
//! [quotas]
//! each = 3                                         # every window in `[windows]`, in each role that can pass it
//! "flush.completed" = 10                           # both roles
//! "purge.between" = { leader = 1, follower = 4 }
//! ```
//!
//! Plans are drawn with quotas in mind, but only landed kills count. An unmet quota makes a run
//! inconclusive.

use super::raw::Check;
use super::{Refusal, WhomKind};
use crate::subject::{self, Window};
use ninelives_evidence::limits;
use ninelives_evidence::member::Role;
use ninelives_evidence::record::QuotaRecord;
use serde::Deserialize;
use std::collections::BTreeMap;
use toml::Spanned;

/// Kills that have to land in one cell of the grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    pub window: &'static Window,
    pub role: Role,
    /// In a run of all the scenario's cycles.
    pub kills: u32,
}

impl Quota {
    /// The share of this quota for a run of `cycles` of the scenario's `of` cycles; `None`: no
    /// kills.
    pub fn share(&self, cycles: u32, of: u32) -> Option<QuotaRecord> {
        let kills = u64::from(self.kills) * u64::from(cycles.min(of)) / u64::from(of.max(1));
        let kills = u32::try_from(kills).ok().filter(|kills| *kills > 0)?;
        Some(QuotaRecord { window: self.window.name.to_owned(), role: self.role, kills })
    }
}

/// The key that stands for every window.
const EACH: &str = "each";

#[derive(Deserialize, Clone, Copy)]
#[serde(untagged)]
pub(super) enum RawQuota {
    Both(u32),
    ByRole(RawByRole),
}

#[derive(Deserialize, Clone, Copy)]
#[serde(deny_unknown_fields)]
pub(super) struct RawByRole {
    #[serde(default)]
    leader: u32,
    #[serde(default)]
    follower: u32,
}

impl RawQuota {
    fn of(self, role: Role) -> u32 {
        match (self, role) {
            (RawQuota::Both(kills), _) => kills,
            (RawQuota::ByRole(by), Role::Leader) => by.leader,
            (RawQuota::ByRole(by), Role::Follower) => by.follower,
        }
    }
}

pub(super) type RawQuotas = BTreeMap<Spanned<String>, Spanned<RawQuota>>;

/// The choice of victims that brings a member of that role to the window.
pub fn whom_of(role: Role) -> WhomKind {
    match role {
        Role::Leader => WhomKind::Leader,
        Role::Follower => WhomKind::Follower,
    }
}

/// Whether a member of this role can be made to pass `window`, and is chosen at all.
fn is_cell(window: &Window, role: Role, whom: &[(WhomKind, u32)]) -> bool {
    let kind = whom_of(role);
    kind.reaches(window.reach) && whom.iter().any(|(known, weight)| *known == kind && *weight > 0)
}

impl Check<'_> {
    /// The quotas, in the order of the windows, leaders first.
    pub(super) fn quotas(
        &self,
        raw: &RawQuotas,
        cycles: u32,
        whom: &[(WhomKind, u32)],
        windows: &[(&'static Window, u32)],
    ) -> Result<Vec<Quota>, Refusal> {
        let mut each = None;
        let mut named: BTreeMap<&str, (&Spanned<String>, RawQuota)> = BTreeMap::new();
        for (name, quota) in raw {
            if name.get_ref() == EACH {
                let RawQuota::Both(kills) = *quota.get_ref() else {
                    return Err(self.refuse(quota, "`quotas.each`: expected a number, found a table".to_owned()));
                };
                each = Some(kills);
                continue;
            }
            let window = subject::find_window(name.get_ref()).ok_or_else(|| self.unknown_window("quotas", name))?;
            if !windows.iter().any(|(known, _)| *known == window) {
                let message = format!(
                    "`quotas.\"{0}\"` can never be met: expected `windows.\"{0}\"` above 0, found it 0 or absent",
                    window.name
                );
                return Err(self.refuse(name, message));
            }
            for role in [Role::Leader, Role::Follower] {
                let asked = matches!(quota.get_ref(), RawQuota::ByRole(_)) && quota.get_ref().of(role) > 0;
                if asked && !is_cell(window, role, whom) {
                    let message = format!(
                        "`quotas.\"{}\".{role}` can never be met: expected a role that passes this window and that `[whom]` \
                         chooses (`whom.{role}` above 0), found {role}",
                        window.name
                    );
                    return Err(self.refuse(quota, message));
                }
            }
            named.insert(window.name, (name, *quota.get_ref()));
        }
        let mut quotas = Vec::new();
        for (window, _) in windows {
            let quota = named.get(window.name).map(|(_, quota)| *quota).or(each.map(RawQuota::Both));
            let Some(quota) = quota else { continue };
            for role in [Role::Leader, Role::Follower] {
                let kills = quota.of(role);
                if kills > 0 && is_cell(window, role, whom) {
                    quotas.push(Quota { window, role, kills });
                }
            }
        }
        let planned: u64 = quotas.iter().map(|quota| u64::from(quota.kills + limits::QUOTA_MARGIN)).sum();
        if let (true, Some((name, _))) = (planned > u64::from(cycles), raw.iter().next()) {
            let message = format!(
                "`[quotas]` ask for {planned} kills, {} more than they demand in each cell because some are skipped: expected at \
                 most `cycles` = {cycles}",
                limits::QUOTA_MARGIN
            );
            return Err(self.refuse(name, message));
        }
        Ok(quotas)
    }
}
