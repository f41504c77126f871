//! The `[crowd]` table: clients that hold connections and streams at each member, and never use
//! them.

use super::raw::Check;
use super::{CrowdSpec, Refusal};
use ninelives_evidence::limits;
use serde::Deserialize;
use toml::Spanned;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCrowd {
    idle: Option<Spanned<u32>>,
    half_open: Option<Spanned<u32>>,
    stalled_watches: Option<Spanned<u32>>,
    stalled_snapshots: Option<Spanned<u32>>,
}

impl Check<'_> {
    pub(super) fn crowd(&self, raw: &RawCrowd) -> Result<CrowdSpec, Refusal> {
        let number = |key: &str, value: &Option<Spanned<u32>>| match value {
            Some(value) => self.within(&format!("crowd.{key}"), value, 0..=limits::CROWD_MAX),
            None => Ok(0),
        };
        Ok(CrowdSpec {
            idle: number("idle", &raw.idle)?,
            half_open: number("half_open", &raw.half_open)?,
            stalled_watches: number("stalled_watches", &raw.stalled_watches)?,
            stalled_snapshots: number("stalled_snapshots", &raw.stalled_snapshots)?,
        })
    }
}
