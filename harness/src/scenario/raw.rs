//! The file's form, and the checks that turn it into a [`Scenario`]. Every value carries its place
//! in the file, so that a refusal can name the line.

use super::bounds::RawBounds;
use super::cluster::RawCluster;
use super::corruption::RawCorruption;
use super::crowd::RawCrowd;
use super::disk::RawDisk;
use super::environment::RawEnvironment;
use super::faults::{RawAgain, RawFaults, RawLinks};
use super::floors::RawFloors;
use super::hostile::RawHostile;
use super::known::RawKnown;
use super::lasting::RawLasting;
use super::load::RawLoad;
use super::power::RawPower;
use super::quotas::RawQuotas;
use super::restore::RawRestore;
use super::strangers::RawStrangers;
use super::target::RawTarget;
use super::upgrade::RawUpgrade;
use super::{FaultKind, Refusal, Scenario, WhenKind, WhomKind};
use ninelives_evidence::limits;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};
use std::path::Path;
use toml::Spanned;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    cycles: Spanned<u32>,
    target: Option<Spanned<RawTarget>>,
    cluster: RawCluster,
    pub(super) load: RawLoad,
    crowd: Option<RawCrowd>,
    pub(super) hostile: Option<Spanned<RawHostile>>,
    pub(super) strangers: Option<Spanned<RawStrangers>>,
    pub(super) corruption: Option<Spanned<RawCorruption>>,
    pub(super) power: Option<Spanned<RawPower>>,
    pub(super) disk: Option<Spanned<RawDisk>>,
    whom: Spanned<RawWhom>,
    pub(super) when: Spanned<RawWhen>,
    #[serde(default)]
    pub(super) windows: BTreeMap<Spanned<String>, Spanned<u32>>,
    pub(super) faults: Option<Spanned<RawFaults>>,
    links: Option<Spanned<RawLinks>>,
    #[serde(default)]
    lasting: RawLasting,
    #[serde(default)]
    pub(super) again: RawAgain,
    #[serde(default)]
    quotas: RawQuotas,
    pub(super) upgrade: Option<Spanned<RawUpgrade>>,
    pub(super) restore: Option<Spanned<RawRestore>>,
    #[serde(default)]
    environment: RawEnvironment,
    #[serde(default)]
    bounds: RawBounds,
    #[serde(default)]
    floors: RawFloors,
    #[serde(default)]
    known: Vec<RawKnown>,
}

impl Raw {
    /// Whether members may come to run a different engine from the one they began with.
    pub(super) fn changes_engines(&self) -> bool {
        self.upgrade.is_some() || self.restore.as_ref().is_some_and(|restore| restore.get_ref().changes_engines())
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct RawWhom {
    follower: u32,
    leader: u32,
    minority: u32,
    majority: u32,
    all: u32,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawWhen {
    pub(super) window: u32,
    applied: u32,
    time: u32,
}

pub(super) fn parse(path: &Path, text: String) -> Result<Scenario, Refusal> {
    let check = Check { path, text: &text };
    let raw: Raw = toml::from_str(&text).map_err(|error| check.not_toml(&error))?;
    let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let cycles = check.within("cycles", &raw.cycles, 1..=limits::CYCLES_MAX)?;
    let target = check.target(raw.target.as_ref())?;
    check.fits_target(&raw, &target)?;
    let cluster = check.cluster(&raw.cluster, &target, raw.changes_engines())?;
    let load = check.load(&raw.load, cluster.members)?;
    let crowd = raw.crowd.as_ref().map(|crowd| check.crowd(crowd)).transpose()?;
    let hostile = check.hostile(&raw)?;
    let strangers = raw.strangers.as_ref().map(|strangers| check.strangers(strangers)).transpose()?;
    let whom = check.whom(&raw.whom)?;
    let when = check.when(&raw.when)?;
    let windows = check.windows(&raw, &whom, &cluster)?;
    let possible = (&cluster, raw.changes_engines());
    let faults = check.faults(raw.faults.as_ref(), raw.links.as_ref(), &raw.again, possible, &windows)?;
    let corruption = check.corruption(&raw, &cluster, &target)?;
    let power = check.power(&raw, &faults)?;
    check.file_windows(&raw, &windows, &faults)?;
    let disk = check.disk(&raw, &faults, &target)?;
    let lasts = (faults.weight(FaultKind::Pause) > 0, faults.weight(FaultKind::Network) > 0);
    let lasting = check.lasting(&raw.lasting, lasts)?;
    let quotas = check.quotas(&raw.quotas, cycles, &whom, &windows)?;
    let upgrade = raw.upgrade.as_ref().map(|upgrade| check.upgrade(upgrade, &cluster, power.is_some())).transpose()?;
    let environment = check.environment(&raw.environment)?;
    let restore = raw.restore.as_ref().map(|restore| check.restore(restore, &cluster)).transpose()?;
    let bounds = check.bounds(&raw.bounds)?;
    let floors = check.floors(&raw.floors)?;
    let known = check.known(&raw.known)?;
    let path = path.to_owned();
    Ok(Scenario {
        name,
        path,
        cycles,
        target,
        cluster,
        load,
        crowd,
        hostile,
        strangers,
        corruption,
        power,
        disk,
        whom,
        when,
        windows,
        faults,
        lasting,
        quotas,
        upgrade,
        environment,
        restore,
        bounds,
        floors,
        known,
        text,
    })
}

pub(super) struct Check<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Check<'_> {
    pub(super) fn refuse<T>(&self, at: &Spanned<T>, message: String) -> Refusal {
        self.refuse_at(at.span(), message)
    }

    pub(super) fn refuse_at(&self, at: Range<usize>, message: String) -> Refusal {
        Refusal::at(self.path, self.text, at, message)
    }

    /// A refusal by the parser: syntax, an unknown or missing key, a value of the wrong type.
    fn not_toml(&self, error: &toml::de::Error) -> Refusal {
        let message = error.message().trim().replace('\n', "; ");
        let Some(span) = error.span() else {
            return Refusal::whole(self.path, message);
        };
        let refusal = Refusal::at(self.path, self.text, span.clone(), &*message);
        let wrong_value = message.starts_with("invalid type") || message.starts_with("invalid value");
        let Some(key) = refusal.key().filter(|_| wrong_value) else {
            return refusal;
        };
        let named = Refusal::at(self.path, self.text, span, format!("`{key}`: {message}"));
        match unit_of(key) {
            Some(unit) => {
                named.hint(format!("the unit is in the name: `{key}` is a whole number of {unit}, without quotes"))
            }
            None => named,
        }
    }

    pub(super) fn within<T: Copy + PartialOrd + std::fmt::Display>(
        &self,
        field: &str,
        value: &Spanned<T>,
        range: RangeInclusive<T>,
    ) -> Result<T, Refusal> {
        let found = *value.get_ref();
        if range.contains(&found) {
            return Ok(found);
        }
        Err(self.refuse(value, format!("`{field}`: expected {} to {}, found {found}", range.start(), range.end())))
    }

    fn whom(&self, raw: &Spanned<RawWhom>) -> Result<Vec<(WhomKind, u32)>, Refusal> {
        let weights = raw.get_ref();
        let table = vec![
            (WhomKind::Follower, weights.follower),
            (WhomKind::Leader, weights.leader),
            (WhomKind::Minority, weights.minority),
            (WhomKind::Majority, weights.majority),
            (WhomKind::All, weights.all),
        ];
        if table.iter().all(|(_, weight)| *weight == 0) {
            let names = WhomKind::ALL.map(|kind| format!("`whom.{}`", kind.name())).join(", ");
            return Err(self.refuse(
                raw,
                format!("expected a weight above 0 in one of {names}, found none: no member would be killed"),
            ));
        }
        Ok(table)
    }

    fn when(&self, raw: &Spanned<RawWhen>) -> Result<Vec<(WhenKind, u32)>, Refusal> {
        let weights = raw.get_ref();
        let table = vec![
            (WhenKind::Window, weights.window),
            (WhenKind::Applied, weights.applied),
            (WhenKind::Time, weights.time),
        ];
        if table.iter().all(|(_, weight)| *weight == 0) {
            return Err(self.refuse(
                raw,
                "expected a weight above 0 in one of `when.window`, `when.applied`, `when.time`, found none: there would be no kill"
                    .to_owned(),
            ));
        }
        Ok(table)
    }
}

/// The unit that a key's name ends in, before a `_max` or `_min`.
fn unit_of(key: &str) -> Option<&'static str> {
    let parts: Vec<_> = key.split('_').collect();
    let last = parts.iter().rev().find(|part| !matches!(**part, "max" | "min"))?;
    match *last {
        "ms" => Some("milliseconds"),
        "bytes" => Some("bytes"),
        "entries" => Some("log entries"),
        "ops" => Some("operations"),
        "revisions" => Some("revisions"),
        "percent" => Some("per cent"),
        _ => None,
    }
}
