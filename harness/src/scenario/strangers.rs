//! The `[strangers]` table: after how many of the kills members of another cluster come to the
//! places of the dead, and for how long.
//!
//! ```toml
//! [strangers]
//! kills_percent = 60       # of the kills, so many are followed by strangers
//! stay_ms = [300, 1500]    # optional: how long they stay before the dead come back
//! ```

use super::raw::Check;
use super::{Refusal, StrangersSpec};
use ninelives_evidence::limits;
use serde::Deserialize;
use toml::Spanned;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawStrangers {
    kills_percent: Spanned<u32>,
    stay_ms: Option<Spanned<[u64; 2]>>,
}

impl Check<'_> {
    pub(super) fn strangers(&self, raw: &Spanned<RawStrangers>) -> Result<StrangersSpec, Refusal> {
        let RawStrangers { kills_percent, stay_ms } = raw.get_ref();
        let kills_percent = self.within("strangers.kills_percent", kills_percent, 1..=100)?;
        let stay_ms = match stay_ms {
            None => limits::STRANGERS_MS_DRAWN,
            Some(raw) => self.span_ms("strangers.stay_ms", raw, limits::PLAN_STRANGERS_MS_MAX)?,
        };
        Ok(StrangersSpec { kills_percent, stay_ms })
    }
}
