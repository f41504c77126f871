//! The `[bounds]` table: the times beyond which the system under test is not live.

use super::Refusal;
use super::raw::Check;
use ninelives_evidence::limits;
use serde::Deserialize;
use toml::Spanned;

/// Bounds in milliseconds, beyond which the system under test is not live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    pub window_wait_ms_max: u64,
    pub restart_ms_max: u64,
    pub catch_up_ms_max: u64,
    pub fence_ms_max: u64,
    pub away_ms_max: u64,
    pub cut_write_ms_max: u64,
    pub leaderless_ms_max: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            window_wait_ms_max: limits::WINDOW_WAIT_MS_MAX,
            restart_ms_max: limits::RESTART_MS_MAX,
            catch_up_ms_max: limits::CATCH_UP_MS_MAX,
            fence_ms_max: limits::FENCE_MS_MAX,
            away_ms_max: limits::AWAY_MS_MAX,
            cut_write_ms_max: limits::CUT_WRITE_MS_MAX,
            leaderless_ms_max: limits::LEADERLESS_MS_MAX,
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawBounds {
    window_wait_ms_max: Option<Spanned<u64>>,
    restart_ms_max: Option<Spanned<u64>>,
    catch_up_ms_max: Option<Spanned<u64>>,
    fence_ms_max: Option<Spanned<u64>>,
    away_ms_max: Option<Spanned<u64>>,
    cut_write_ms_max: Option<Spanned<u64>>,
    leaderless_ms_max: Option<Spanned<u64>>,
}

impl Check<'_> {
    pub(super) fn bounds(&self, raw: &RawBounds) -> Result<Bounds, Refusal> {
        let ms = |field: &str, value: &Option<Spanned<u64>>, default: u64| match value {
            Some(value) => self.within(field, value, 1..=3_600_000),
            None => Ok(default),
        };
        let default = Bounds::default();
        Ok(Bounds {
            window_wait_ms_max: ms("bounds.window_wait_ms_max", &raw.window_wait_ms_max, default.window_wait_ms_max)?,
            restart_ms_max: ms("bounds.restart_ms_max", &raw.restart_ms_max, default.restart_ms_max)?,
            catch_up_ms_max: ms("bounds.catch_up_ms_max", &raw.catch_up_ms_max, default.catch_up_ms_max)?,
            fence_ms_max: ms("bounds.fence_ms_max", &raw.fence_ms_max, default.fence_ms_max)?,
            away_ms_max: ms("bounds.away_ms_max", &raw.away_ms_max, default.away_ms_max)?,
            cut_write_ms_max: ms("bounds.cut_write_ms_max", &raw.cut_write_ms_max, default.cut_write_ms_max)?,
            leaderless_ms_max: ms("bounds.leaderless_ms_max", &raw.leaderless_ms_max, default.leaderless_ms_max)?,
        })
    }
}
