//! The `[disk]` table: how disks fail. It takes the fault filesystem, and so root and `/dev/fuse`.
//!
//! ```toml
//! [disk]
//! fill = 1                     # weights; another program fills the disk
//! fill_ms = [600, 1500]        # for so long, ...
//! left_kib = [6144, 16384]     # ... and leaves so much, ...
//! nothing_left_percent = 20    # ... or nothing at all, so that members may end
//! slow = 1                     # syncs take longer, ...
//! slow_ms = [500, 1500]        # ... for so long, ...
//! slow_by_ms = [5, 80]         # ... each by up to so much
//! fail_sync = 1                # a sync fails, ...
//! losing_percent = 50          # ... and so often the power after it: needs `[power]`
//! fail_read = 1                # a read fails, and all like it ...
//! fail_write = 1               # a write fails, and all like it ...
//! fail_ms = [100, 800]         # ... for so long, ...
//! once_percent = 50            # ... or, of writes and so often, that one alone
//! shorten = 1                  # writes are carried out in part, ...
//! shorten_ms = [500, 1500]     # ... for so long
//! with_kill_percent = 30       # so many such cycles have a kill beside it
//! ```

use super::raw::{Check, Raw};
use super::{FaultKind, FaultMix, Refusal, TargetSpec};
use ninelives_evidence::limits;
use serde::Deserialize;
use std::ops::{Range, RangeInclusive};
use toml::Spanned;

/// How disks fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskSpec {
    pub ailments: Vec<(AilmentKind, u32)>,
    pub fill_ms: (u64, u64),
    pub left_kib: (u64, u64),
    pub nothing_left_percent: u32,
    pub slow_ms: (u64, u64),
    pub slow_by_ms: (u64, u64),
    pub losing_percent: u32,
    pub fail_ms: (u64, u64),
    pub once_percent: u32,
    pub shorten_ms: (u64, u64),
    pub with_kill_percent: u32,
}

/// What a disk does, without its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AilmentKind {
    Fill,
    FailSync,
    Slow,
    FailRead,
    FailWrite,
    Shorten,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawDisk {
    #[serde(default)]
    fill: u32,
    #[serde(default)]
    fail_sync: u32,
    #[serde(default)]
    slow: u32,
    #[serde(default)]
    fail_read: u32,
    #[serde(default)]
    fail_write: u32,
    #[serde(default)]
    shorten: u32,
    fill_ms: Option<Spanned<[u64; 2]>>,
    left_kib: Option<Spanned<[u64; 2]>>,
    nothing_left_percent: Option<Spanned<u32>>,
    slow_ms: Option<Spanned<[u64; 2]>>,
    slow_by_ms: Option<Spanned<[u64; 2]>>,
    losing_percent: Option<Spanned<u32>>,
    fail_ms: Option<Spanned<[u64; 2]>>,
    once_percent: Option<Spanned<u32>>,
    shorten_ms: Option<Spanned<[u64; 2]>>,
    with_kill_percent: Option<Spanned<u32>>,
}

impl Check<'_> {
    pub(super) fn disk(&self, raw: &Raw, faults: &FaultMix, target: &TargetSpec) -> Result<Option<DiskSpec>, Refusal> {
        let fails = faults.weight(FaultKind::Disk) > 0;
        let Some(at) = &raw.disk else {
            return match raw.faults.as_ref().filter(|_| fails) {
                Some(faults) => {
                    let message = "`faults.disk` is above 0: expected a table `[disk]`, which says how disks fail";
                    Err(self.refuse(faults, message.to_owned()))
                }
                None => Ok(None),
            };
        };
        if !fails {
            let message =
                "`[disk]` is given, but `faults.disk` is 0 or absent, so that no disk would fail: expected it above 0";
            return Err(self.refuse(at, message.to_owned()));
        }
        self.disk_fits(at, raw, target)?;
        let spec = at.get_ref();
        let ailments = vec![
            (AilmentKind::Fill, spec.fill),
            (AilmentKind::FailSync, spec.fail_sync),
            (AilmentKind::Slow, spec.slow),
            (AilmentKind::FailRead, spec.fail_read),
            (AilmentKind::FailWrite, spec.fail_write),
            (AilmentKind::Shorten, spec.shorten),
        ];
        if ailments.iter().all(|(_, weight)| *weight == 0) {
            let message = "expected a weight above 0 in one of `disk.fill`, `disk.fail_sync`, `disk.slow`, `disk.fail_read`, \
                           `disk.fail_write`, `disk.shorten`, found none: `faults.disk` is above 0, and would do nothing";
            return Err(self.refuse(at, message.to_owned()));
        }
        self.unused(spec)?;
        let percent = |field: &str, value: &Option<Spanned<u32>>, default: u32| match value {
            Some(value) => self.within(field, value, 0..=100),
            None => Ok(default),
        };
        let (low, high) = limits::PLAN_LEFT_KIB;
        Ok(Some(DiskSpec {
            ailments,
            fill_ms: self.range("disk.fill_ms", &spec.fill_ms, 1..=limits::PLAN_FILL_MS_MAX, limits::FILL_MS_DRAWN)?,
            left_kib: self.range("disk.left_kib", &spec.left_kib, low..=high, limits::LEFT_KIB_DRAWN)?,
            nothing_left_percent: percent("disk.nothing_left_percent", &spec.nothing_left_percent, 0)?,
            slow_ms: self.range("disk.slow_ms", &spec.slow_ms, 1..=limits::PLAN_SLOW_MS_MAX, limits::FILL_MS_DRAWN)?,
            slow_by_ms: self.range(
                "disk.slow_by_ms",
                &spec.slow_by_ms,
                1..=limits::PLAN_SLOW_BY_MS_MAX,
                limits::SLOW_BY_MS_DRAWN,
            )?,
            losing_percent: self.losing(spec, raw.power.is_some())?,
            fail_ms: self.range("disk.fail_ms", &spec.fail_ms, 1..=limits::PLAN_FAIL_MS_MAX, limits::FAIL_MS_DRAWN)?,
            once_percent: percent("disk.once_percent", &spec.once_percent, 0)?,
            shorten_ms: self.range(
                "disk.shorten_ms",
                &spec.shorten_ms,
                1..=limits::PLAN_FAIL_MS_MAX,
                limits::FILL_MS_DRAWN,
            )?,
            with_kill_percent: percent("disk.with_kill_percent", &spec.with_kill_percent, 0)?,
        }))
    }

    /// Refuses disks that fail where it is not known how a member has to end of it, or where a
    /// directory would leave the mount.
    fn disk_fits(&self, at: &Spanned<RawDisk>, raw: &Raw, target: &TargetSpec) -> Result<(), Refusal> {
        if matches!(target, TargetSpec::Server(_)) {
            let message = "`[disk]` beside `[target]`: expected one of them, because only of the node it is known how it has to end \
                           when its disk fails";
            return Err(self.refuse(at, message.to_owned()));
        }
        for (table, other) in [("[upgrade]", raw.upgrade.is_some()), ("[restore]", raw.restore.is_some())] {
            if other {
                let message = format!(
                    "`[disk]` beside `{table}`: expected one of them, because a directory that is exchanged under a mount would \
                     leave it"
                );
                return Err(self.refuse(at, message));
            }
        }
        Ok(())
    }

    /// Refuses the numbers of an ailment that has no weight.
    fn unused(&self, spec: &RawDisk) -> Result<(), Refusal> {
        fn span<T>(value: &Option<Spanned<T>>) -> Option<Range<usize>> {
            value.as_ref().map(Spanned::span)
        }
        let failing: &[_] = &[("fail_read", spec.fail_read), ("fail_write", spec.fail_write)];
        let fill: &[_] = &[("fill", spec.fill)];
        let slow: &[_] = &[("slow", spec.slow)];
        let numbers = [
            ("fail_ms", span(&spec.fail_ms), failing),
            ("fill_ms", span(&spec.fill_ms), fill),
            ("left_kib", span(&spec.left_kib), fill),
            ("nothing_left_percent", span(&spec.nothing_left_percent), fill),
            ("losing_percent", span(&spec.losing_percent), &[("fail_sync", spec.fail_sync)]),
            ("slow_ms", span(&spec.slow_ms), slow),
            ("slow_by_ms", span(&spec.slow_by_ms), slow),
            ("once_percent", span(&spec.once_percent), &[("fail_write", spec.fail_write)]),
            ("shorten_ms", span(&spec.shorten_ms), &[("shorten", spec.shorten)]),
        ];
        for (key, at, weights) in numbers {
            let Some(at) = at.filter(|_| weights.iter().all(|(_, weight)| *weight == 0)) else { continue };
            let (verb, expected) = if weights.len() == 1 { ("is", "it") } else { ("are", "one of them") };
            let weights: Vec<_> = weights.iter().map(|(weight, _)| format!("`disk.{weight}`")).collect();
            let weights = weights.join(" and ");
            let message =
                format!("`disk.{key}` is given, but {weights} {verb} 0 or absent: expected {expected} above 0");
            return Err(self.refuse_at(at, message));
        }
        Ok(())
    }

    fn losing(&self, spec: &RawDisk, power: bool) -> Result<u32, Refusal> {
        let Some(percent) = &spec.losing_percent else { return Ok(0) };
        if !power && *percent.get_ref() > 0 {
            let message = "`disk.losing_percent` is above 0: expected a table `[power]`, which says what is lost";
            return Err(self.refuse(percent, message.to_owned()));
        }
        self.within("disk.losing_percent", percent, 0..=100)
    }

    fn range(
        &self,
        field: &str,
        raw: &Option<Spanned<[u64; 2]>>,
        range: RangeInclusive<u64>,
        default: (u64, u64),
    ) -> Result<(u64, u64), Refusal> {
        let Some(raw) = raw else { return Ok(default) };
        let [low, high] = *raw.get_ref();
        if low > high || !range.contains(&low) || !range.contains(&high) {
            let message = format!(
                "`{field}`: expected two numbers, ascending, from {} to {}, found [{low}, {high}]",
                range.start(),
                range.end()
            );
            return Err(self.refuse(raw, message));
        }
        Ok((low, high))
    }
}
