//! The `[floors]` table: what a run has to reach to be worth a pass.

use super::Refusal;
use super::raw::Check;
use ninelives_evidence::limits;
use serde::Deserialize;
use toml::Spanned;

/// Floors, below which a run proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Floors {
    pub landed_percent_min: u32,
    pub bit_percent_min: u32,
    pub acked_writes_per_cycle_min: u64,
    /// 0: no floor.
    pub writes_per_second_min: u64,
    /// The least share of operations carried out, in per cent, of each kind and of all.
    pub carried_out_percent_min: u32,
}

impl Default for Floors {
    fn default() -> Self {
        Self {
            landed_percent_min: limits::LANDED_PERCENT_MIN,
            bit_percent_min: limits::BIT_PERCENT_MIN,
            acked_writes_per_cycle_min: limits::ACKED_WRITES_PER_CYCLE_MIN,
            writes_per_second_min: limits::WRITES_PER_SECOND_MIN,
            carried_out_percent_min: limits::CARRIED_OUT_PERCENT_MIN,
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawFloors {
    landed_percent_min: Option<Spanned<u32>>,
    bit_percent_min: Option<Spanned<u32>>,
    acked_writes_per_cycle_min: Option<Spanned<u64>>,
    writes_per_second_min: Option<Spanned<u64>>,
    carried_out_percent_min: Option<Spanned<u32>>,
}

impl Check<'_> {
    pub(super) fn floors(&self, raw: &RawFloors) -> Result<Floors, Refusal> {
        let percent = |field: &str, value: &Option<Spanned<u32>>, default: u32| match value {
            Some(value) => self.within(field, value, 0..=100),
            None => Ok(default),
        };
        let number = |field: &str, value: &Option<Spanned<u64>>, default: u64| match value {
            Some(value) => self.within(field, value, 0..=1_000_000),
            None => Ok(default),
        };
        let default = Floors::default();
        Ok(Floors {
            landed_percent_min: percent(
                "floors.landed_percent_min",
                &raw.landed_percent_min,
                default.landed_percent_min,
            )?,
            bit_percent_min: percent("floors.bit_percent_min", &raw.bit_percent_min, default.bit_percent_min)?,
            acked_writes_per_cycle_min: number(
                "floors.acked_writes_per_cycle_min",
                &raw.acked_writes_per_cycle_min,
                default.acked_writes_per_cycle_min,
            )?,
            writes_per_second_min: number(
                "floors.writes_per_second_min",
                &raw.writes_per_second_min,
                default.writes_per_second_min,
            )?,
            carried_out_percent_min: percent(
                "floors.carried_out_percent_min",
                &raw.carried_out_percent_min,
                default.carried_out_percent_min,
            )?,
        })
    }
}
