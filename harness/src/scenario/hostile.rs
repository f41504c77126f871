//! The `[hostile]` table: programs that speak to the members' peer ports and say what no member
//! says.

use super::raw::{Check, Raw};
use super::{HostileSpec, Refusal};
use ninelives_evidence::limits;
use serde::Deserialize;
use toml::Spanned;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawHostile {
    peers: Spanned<u32>,
}

impl Check<'_> {
    pub(super) fn hostile(&self, raw: &Raw) -> Result<Option<HostileSpec>, Refusal> {
        let Some(at) = &raw.hostile else { return Ok(None) };
        for (table, other) in [("[upgrade]", raw.upgrade.is_some()), ("[restore]", raw.restore.is_some())] {
            if other {
                let message = format!(
                    "`[hostile]` beside `{table}`: expected one of them, because a hostile peer uses an id that no member ever \
                     gets, and there members get new ones"
                );
                return Err(self.refuse(at, message));
            }
        }
        let peers = self.within("hostile.peers", &at.get_ref().peers, 1..=limits::HOSTILE_PEERS_MAX)?;
        Ok(Some(HostileSpec { peers }))
    }
}
