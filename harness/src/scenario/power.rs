//! The `[power]` table: what a power loss takes. With it the data directories of all members lie
//! under the fault filesystem, which takes root and `/dev/fuse`.
//!
//! ```toml
//! [power]
//! names = "inode"          # or "journal", or "posix": which syncs make names durable
//! all_lost_percent = 50    # so many cuts lose everything that is not synced, the others a part
//! explore = 200            # so many crash states of each cut's instant are tried offline
//! ```

use super::raw::{Check, Raw};
use super::{FaultKind, FaultMix, PowerSpec, Refusal};
use crate::subject::{self, Reach, Window};
use ninelives_evidence::limits;
use ninelives_evidence::power::Names;
use serde::Deserialize;
use toml::Spanned;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPower {
    names: Spanned<String>,
    all_lost_percent: Option<Spanned<u32>>,
    /// Servers that are known by their API alone do not have this key.
    pub(super) explore: Option<Spanned<u32>>,
}

/// Half of the cuts find what a missing sync leaves, the other half what a partial one does.
const ALL_LOST_PERCENT: u32 = 50;

impl Check<'_> {
    /// Windows of the node's files are points of the fault filesystem, and only power losses put
    /// the node's directories there. A first life needs a membership that can be changed.
    pub(super) fn file_windows(
        &self,
        raw: &Raw,
        windows: &[(&'static Window, u32)],
        faults: &FaultMix,
    ) -> Result<(), Refusal> {
        let joins = windows.iter().find(|(window, _)| window.reach == Reach::Join);
        if let (Some((window, _)), Some(at), 1..) = (joins, &raw.faults, faults.weight(FaultKind::Several)) {
            let message = format!(
                "`faults.several` is above 0 beside `windows.\"{}\"`: expected one of them, because members cannot be replaced while \
                 others are cut off or stand still",
                window.name
            );
            return Err(self.refuse(at, message));
        }
        let weights = raw.windows.iter().map(|row| ("windows", row)).chain(raw.again.iter().map(|row| ("again", row)));
        for (table, (name, weight)) in weights.filter(|_| raw.power.is_none()) {
            let window = subject::find_window(name.get_ref()).filter(|window| window.is_of_the_nodes_files());
            if let Some(window) = window.filter(|_| *weight.get_ref() > 0) {
                let message = format!(
                    "`{table}.\"{}\"` is above 0, and only under the fault filesystem a member stands still at an operation on its \
                     files: expected a table `[power]`, found none",
                    window.name
                );
                return Err(self.refuse(weight, message));
            }
        }
        Ok(())
    }

    pub(super) fn power(&self, raw: &Raw, faults: &FaultMix) -> Result<Option<PowerSpec>, Refusal> {
        let cuts = faults.weight(FaultKind::Cut) > 0;
        let Some(at) = &raw.power else {
            return match raw.faults.as_ref().filter(|_| cuts) {
                Some(faults) => {
                    let message =
                        "`faults.cut` is above 0: expected a table `[power]` with `names`, which says what is lost";
                    Err(self.refuse(faults, message.to_owned()))
                }
                None => Ok(None),
            };
        };
        if !cuts {
            let message = "`[power]` is given, but `faults.cut` is 0 or absent, so that nothing would be lost: expected it \
                           above 0";
            return Err(self.refuse(at, message.to_owned()));
        }
        let RawPower { names, all_lost_percent, explore } = at.get_ref();
        let Some(mode) = Names::ALL.into_iter().find(|mode| mode.name() == names.get_ref()) else {
            let known = Names::ALL.map(Names::name).join(", ");
            let message = format!("`power.names`: expected one of {known}, found {:?}", names.get_ref());
            return Err(self.refuse(names, message));
        };
        raw.upgrade.as_ref().map_or(Ok(()), |upgrade| self.upgrade_beside_power(upgrade))?;
        if raw.restore.is_some() {
            let message = "`[power]` beside `[restore]`: expected one of them, because a directory that is exchanged under a mount \
                           would leave it";
            return Err(self.refuse(at, message.to_owned()));
        }
        let all_lost_percent = match all_lost_percent {
            Some(percent) => self.within("power.all_lost_percent", percent, 0..=100)?,
            None => ALL_LOST_PERCENT,
        };
        let explore = match explore {
            Some(states) => self.within("power.explore", states, 1..=limits::EXPLORE_MAX)?,
            None => 0,
        };
        Ok(Some(PowerSpec { names: mode, all_lost_percent, explore }))
    }
}
