//! The `[upgrade]` table: the frequency and the way of a member's changes of engine, and the
//! windows that interrupt them.

use super::raw::Check;
use super::{ClusterSpec, Refusal};
use crate::subject::{self, Reach, Window};
use ninelives_evidence::limits;
use serde::Deserialize;
use std::collections::BTreeMap;
use toml::Spanned;

/// The way in which a member changes its engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum WayKind {
    /// Offline, on its data directory: raft log and vote are kept.
    Migrate,
    /// Removed, and added under a new id with an empty directory.
    Replace,
}

impl WayKind {
    pub const ALL: [WayKind; 2] = [WayKind::Migrate, WayKind::Replace];

    pub fn name(self) -> &'static str {
        match self {
            WayKind::Migrate => "migrate",
            WayKind::Replace => "replace",
        }
    }

    /// Whether an upgrade of this kind passes a window of this reach.
    pub fn reaches(self, reach: Reach) -> bool {
        match self {
            WayKind::Migrate => reach == Reach::Migration,
            // A new member is empty: it starts for the first time, and is sent a snapshot.
            WayKind::Replace => matches!(reach, Reach::SnapshotReceiver | Reach::SnapshotSender | Reach::Start),
        }
    }
}

/// Upgrades in a scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpgradeSpec {
    /// Each cycle whose number is a multiple of this is an upgrade.
    pub every_cycles: u32,
    pub ways: Vec<(WayKind, u32)>,
    /// Share of the changes by `migrate` in which the power fails, percent.
    pub cut_percent: u32,
    /// `None`: no kill on the way.
    pub windows: Vec<(Option<&'static Window>, u32)>,
}

impl UpgradeSpec {
    /// The windows that an upgrade of `kind` may be interrupted in.
    pub fn windows_of(&self, kind: WayKind) -> Vec<(Option<&'static Window>, u32)> {
        let fits = |window: &Option<&Window>| window.is_none_or(|window| kind.reaches(window.reach));
        self.windows.iter().copied().filter(|(window, weight)| *weight > 0 && fits(window)).collect()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawUpgrade {
    every_cycles: Spanned<u32>,
    #[serde(default)]
    migrate: u32,
    #[serde(default)]
    replace: u32,
    cut_percent: Option<Spanned<u32>>,
    windows: BTreeMap<Spanned<String>, Spanned<u32>>,
}

/// The key of no kill at all.
const NO_KILL: &str = "none";

impl Check<'_> {
    pub(super) fn upgrade(
        &self,
        raw: &Spanned<RawUpgrade>,
        cluster: &ClusterSpec,
        power: bool,
    ) -> Result<UpgradeSpec, Refusal> {
        let table = raw.get_ref();
        let every_cycles = self.within("upgrade.every_cycles", &table.every_cycles, 1..=limits::CYCLES_MAX)?;
        let ways = vec![(WayKind::Migrate, table.migrate), (WayKind::Replace, table.replace)];
        let mut windows = Vec::new();
        for (name, weight) in &table.windows {
            let window = self.upgrade_window(name)?;
            windows.push((window, *weight.get_ref()));
            let Some(window) = window.filter(|_| *weight.get_ref() > 0) else { continue };
            self.way_is_open(window, weight, &ways)?;
        }
        // In the order of the protocols, whatever the order in the file.
        windows.sort_by_key(|(window, _)| subject::all_windows().position(|known| Some(known) == *window));
        let cut_percent = self.upgrade_cuts(table, power)?;
        let spec = UpgradeSpec { every_cycles, ways, cut_percent, windows };
        let open: Vec<_> = spec.ways.iter().filter(|(_, weight)| *weight > 0).map(|(kind, _)| *kind).collect();
        if open.is_empty() {
            let message = "expected a weight above 0 in one of `upgrade.migrate`, `upgrade.replace`, found none: no member would \
                           change its engine";
            return Err(self.refuse(raw, message.to_owned()));
        }
        if let Some(kind) = open.iter().find(|kind| spec.windows_of(**kind).is_empty()) {
            let message = format!(
                "`upgrade.{}` is above 0, but no window of it in `[upgrade.windows]`, nor `none`, has a weight above 0: expected one",
                kind.name()
            );
            return Err(self.refuse(raw, message));
        }
        if open.contains(&WayKind::Replace) && cluster.keep_entries > limits::KEEP_ENTRIES_FOR_SNAPSHOTS_MAX {
            let message = format!(
                "`upgrade.replace` needs a log that is purged, or the new member is sent that instead of a snapshot: expected \
                 `cluster.keep_entries` of at most {}, found {}",
                limits::KEEP_ENTRIES_FOR_SNAPSHOTS_MAX,
                cluster.keep_entries
            );
            return Err(self.refuse(raw, message));
        }
        Ok(spec)
    }

    fn upgrade_cuts(&self, table: &RawUpgrade, power: bool) -> Result<u32, Refusal> {
        let Some(percent) = &table.cut_percent else { return Ok(0) };
        if *percent.get_ref() > 0 && !power {
            let message = "`upgrade.cut_percent` is above 0: expected a table `[power]`, which says what is lost";
            return Err(self.refuse(percent, message.to_owned()));
        }
        if *percent.get_ref() > 0 && table.migrate == 0 {
            let message =
                "`upgrade.cut_percent` is above 0, but `upgrade.migrate` is 0 or absent: expected that above 0";
            return Err(self.refuse(percent, message.to_owned()));
        }
        self.within("upgrade.cut_percent", percent, 0..=100)
    }

    /// A member that is replaced under the fault filesystem would leave a mount behind.
    pub(super) fn upgrade_beside_power(&self, raw: &Spanned<RawUpgrade>) -> Result<(), Refusal> {
        if raw.get_ref().replace == 0 {
            return Ok(());
        }
        let message = "`[power]` beside `upgrade.replace`: expected one of them, because a directory that is exchanged under a mount \
                       would leave it; `upgrade.migrate` may stand there";
        Err(self.refuse(raw, message.to_owned()))
    }

    fn upgrade_window(&self, name: &Spanned<String>) -> Result<Option<&'static Window>, Refusal> {
        if name.get_ref() == NO_KILL {
            return Ok(None);
        }
        let window =
            subject::find_window(name.get_ref()).ok_or_else(|| self.unknown_window("upgrade.windows", name))?;
        if WayKind::ALL.iter().any(|kind| kind.reaches(window.reach)) && !window.is_of_files() {
            return Ok(Some(window));
        }
        let message = format!(
            "`upgrade.windows`: expected a window of migrate.* or snapshot.*, one of start-up, or `none`, found {:?}, which no upgrade passes",
            window.name
        );
        Err(self.refuse(name, message))
    }

    fn way_is_open(&self, window: &Window, weight: &Spanned<u32>, ways: &[(WayKind, u32)]) -> Result<(), Refusal> {
        match ways.iter().find(|(kind, _)| kind.reaches(window.reach)) {
            Some((kind, 0)) => Err(self.refuse(
                weight,
                format!(
                    "`upgrade.windows.\"{}\"` is above 0, but only `upgrade.{}` passes it: expected that above 0, found 0",
                    window.name,
                    kind.name()
                ),
            )),
            _ => Ok(()),
        }
    }
}
