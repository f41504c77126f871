//! The `[lasting]` table: the durations of drawn pauses and disturbances of links.
//!
//! ```toml
//! [lasting]           # without this table: what it takes for the others to elect
//! pause_ms = [1500, 3000]
//! network_ms = [3000, 6000]
//! ```

use super::Refusal;
use super::raw::Check;
use ninelives_evidence::limits;
use serde::Deserialize;
use toml::Spanned;

/// Milliseconds, from and to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lasting {
    pub pause_ms: (u64, u64),
    /// Beside a kill a disturbance lasts the lower bound longer.
    pub network_ms: (u64, u64),
}

impl Default for Lasting {
    fn default() -> Self {
        Self { pause_ms: limits::PAUSE_MS_DRAWN, network_ms: limits::NETWORK_MS_DRAWN }
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawLasting {
    pause_ms: Option<Spanned<[u64; 2]>>,
    network_ms: Option<Spanned<[u64; 2]>>,
}

impl Check<'_> {
    /// `pauses` and `networks`: whether the plan may have any.
    pub(super) fn lasting(&self, raw: &RawLasting, (pauses, networks): (bool, bool)) -> Result<Lasting, Refusal> {
        let default = Lasting::default();
        let pause = (&raw.pause_ms, limits::PLAN_PAUSE_MS_MAX, pauses);
        // Room for the lower bound that a kill adds.
        let network = (&raw.network_ms, limits::PLAN_NETWORK_MS_MAX - limits::NETWORK_MS_DRAWN.0, networks);
        Ok(Lasting {
            pause_ms: self.span("pause", pause)?.unwrap_or(default.pause_ms),
            network_ms: self.span("network", network)?.unwrap_or(default.network_ms),
        })
    }

    fn span(
        &self,
        kind: &str,
        (raw, max, used): (&Option<Spanned<[u64; 2]>>, u64, bool),
    ) -> Result<Option<(u64, u64)>, Refusal> {
        let Some(raw) = raw else { return Ok(None) };
        if !used {
            let message =
                format!("`lasting.{kind}_ms` is given, but `faults.{kind}` is 0 or absent: expected it above 0");
            return Err(self.refuse(raw, message));
        }
        self.span_ms(&format!("lasting.{kind}_ms"), raw, max).map(Some)
    }

    /// Two numbers of milliseconds, from and to.
    pub(super) fn span_ms(&self, field: &str, raw: &Spanned<[u64; 2]>, max: u64) -> Result<(u64, u64), Refusal> {
        let [low, high] = *raw.get_ref();
        if low == 0 || low > high || high > max {
            let message = format!(
                "`{field}`: expected two numbers of milliseconds, ascending, from 1 to {max}, found [{low}, {high}]"
            );
            return Err(self.refuse(raw, message));
        }
        Ok((low, high))
    }
}
