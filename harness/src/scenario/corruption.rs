//! The `[corruption]` table: after how many of the kills a file of the dead member is damaged, of
//! which class, and how.
//!
//! ```toml
//! [corruption]
//! kills_percent = 60       # of the kills of one member, so many are followed by damage
//!
//! [corruption.classes]     # weights
//! raft-log = 3
//! sst = 3
//!
//! [corruption.kinds]       # weights
//! bit-flip = 3
//! truncation = 1
//! ```

use super::raw::{Check, Raw};
use super::{ClusterSpec, CorruptionSpec, Refusal, TargetSpec};
use ninelives_evidence::damage::{DamageKind, FileClass};
use serde::Deserialize;
use std::collections::BTreeMap;
use toml::Spanned;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCorruption {
    kills_percent: Spanned<u32>,
    classes: Spanned<BTreeMap<FileClass, u32>>,
    kinds: Spanned<BTreeMap<DamageKind, u32>>,
}

impl Check<'_> {
    pub(super) fn corruption(
        &self,
        raw: &Raw,
        cluster: &ClusterSpec,
        target: &TargetSpec,
    ) -> Result<Option<CorruptionSpec>, Refusal> {
        let Some(at) = &raw.corruption else { return Ok(None) };
        if matches!(target, TargetSpec::Server(_)) {
            let message = "`[corruption]` beside `[target]`: expected one of them, because only of the node it is known which files \
                           it has, and how it has to end when they are damaged";
            return Err(self.refuse(at, message.to_owned()));
        }
        for (table, other) in [
            ("[power]", raw.power.is_some()),
            ("[disk]", raw.disk.is_some()),
            ("[strangers]", raw.strangers.is_some()),
            ("[hostile]", raw.hostile.is_some()),
            ("[upgrade]", raw.upgrade.is_some()),
            ("[restore]", raw.restore.is_some()),
        ] {
            if other {
                let message = format!(
                    "`[corruption]` beside `{table}`: expected one of them, because an end of a member, and a changed id, must have \
                     one cause"
                );
                return Err(self.refuse(at, message));
            }
        }
        let RawCorruption { kills_percent, classes, kinds } = at.get_ref();
        let kills_percent = self.within("corruption.kills_percent", kills_percent, 1..=100)?;
        let weighed_classes: Vec<_> = classes.get_ref().iter().map(|(class, weight)| (*class, *weight)).collect();
        let weighed_kinds: Vec<_> = kinds.get_ref().iter().map(|(kind, weight)| (*kind, *weight)).collect();
        for (class, _) in weighed_classes.iter().filter(|(_, weight)| *weight > 0) {
            if !cluster.engines.iter().any(|engine| class.exists_on(*engine)) {
                let message = format!(
                    "`corruption.classes.{class}` is above 0, and no member has such a file: expected another engine in \
                     `cluster.backend`, or no weight"
                );
                return Err(self.refuse(classes, message));
            }
            if !weighed_kinds.iter().any(|(kind, weight)| *weight > 0 && class.takes(*kind)) {
                let fit: Vec<_> =
                    DamageKind::ALL.iter().filter(|kind| class.takes(**kind)).map(|kind| kind.name()).collect();
                let message = format!(
                    "`corruption.classes.{class}` is above 0: expected a weight above 0 in `corruption.kinds` of one of {}, found \
                     none",
                    fit.join(", ")
                );
                return Err(self.refuse(kinds, message));
            }
        }
        if weighed_classes.iter().all(|(_, weight)| *weight == 0) {
            let message = "expected a weight above 0 in `corruption.classes`, found none: no file would be damaged";
            return Err(self.refuse(classes, message.to_owned()));
        }
        Ok(Some(CorruptionSpec { kills_percent, classes: weighed_classes, kinds: weighed_kinds }))
    }
}
