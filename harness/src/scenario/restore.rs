//! The `[restore]` table: the frequency with which a saved snapshot becomes a new cluster, the
//! founders of that cluster, and the windows that interrupt the restore.

use super::raw::Check;
use super::{ClusterSpec, Refusal};
use crate::subject::{self, Reach, Window};
use ninelives_evidence::limits;
use serde::Deserialize;
use std::collections::BTreeMap;
use toml::Spanned;

/// The founders of the restored cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RestoreKind {
    /// All members are restored from the same file, and found the cluster together.
    All,
    /// One member is restored and founds it alone; the others are added empty, as learners, and
    /// promoted.
    One,
}

impl RestoreKind {
    pub const ALL: [RestoreKind; 2] = [RestoreKind::All, RestoreKind::One];

    pub fn name(self) -> &'static str {
        match self {
            RestoreKind::All => "all",
            RestoreKind::One => "one",
        }
    }

    /// Whether a restore passes a window of this reach.
    pub fn reaches(reach: Reach) -> bool {
        matches!(reach, Reach::Restore | Reach::Founding)
    }
}

/// The state from which a founder is started that was not restored like the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum UnlikeKind {
    /// An earlier snapshot of the same cluster.
    Older,
    /// None: its directory is empty.
    Empty,
}

impl UnlikeKind {
    pub const ALL: [UnlikeKind; 2] = [UnlikeKind::Older, UnlikeKind::Empty];

    pub fn name(self) -> &'static str {
        match self {
            UnlikeKind::Older => "older",
            UnlikeKind::Empty => "empty",
        }
    }
}

/// Restores in a scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreSpec {
    /// Each cycle whose number is a multiple of this is a restore; it takes the place of an
    /// upgrade.
    pub every_cycles: u32,
    pub kinds: Vec<(RestoreKind, u32)>,
    /// Weights for members to change their engines on the way, or not.
    pub other: Vec<(bool, u32)>,
    /// `None`: no kill on the way.
    pub windows: Vec<(Option<&'static Window>, u32)>,
    /// Share of the restores by all, without a kill on the way, in which one founder is first
    /// started from another state than the others.
    pub unlike_percent: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRestore {
    every_cycles: Spanned<u32>,
    #[serde(default)]
    all: u32,
    #[serde(default)]
    one: u32,
    #[serde(default)]
    same: u32,
    #[serde(default)]
    other: u32,
    unlike_percent: Option<Spanned<u32>>,
    windows: BTreeMap<Spanned<String>, u32>,
}

impl RawRestore {
    /// Whether members may come to run a different engine from the one they began with.
    pub(super) fn changes_engines(&self) -> bool {
        self.other > 0
    }
}

/// The key of no kill at all.
const NO_KILL: &str = "none";

impl Check<'_> {
    pub(super) fn restore(&self, raw: &Spanned<RawRestore>, cluster: &ClusterSpec) -> Result<RestoreSpec, Refusal> {
        let table = raw.get_ref();
        let every_cycles = self.within("restore.every_cycles", &table.every_cycles, 1..=limits::CYCLES_MAX)?;
        let mut windows = Vec::new();
        for (name, weight) in &table.windows {
            windows.push((self.restore_window(name)?, *weight));
        }
        // In the order of the protocols, whatever the order in the file.
        windows.sort_by_key(|(window, _)| subject::all_windows().position(|known| Some(known) == *window));
        let kinds = vec![(RestoreKind::All, table.all), (RestoreKind::One, table.one)];
        let other = vec![(false, table.same), (true, table.other)];
        for (keys, none) in [
            ("`restore.all`, `restore.one`", table.all + table.one == 0),
            ("`restore.same`, `restore.other`", table.same + table.other == 0),
            ("`[restore.windows]`", windows.iter().all(|(_, weight)| *weight == 0)),
        ] {
            if none {
                let message = format!("expected a weight above 0 in one of {keys}, found none");
                return Err(self.refuse(raw, message));
            }
        }
        if cluster.keep_entries > limits::KEEP_ENTRIES_FOR_SNAPSHOTS_MAX {
            let message = format!(
                "a restored cluster grows by snapshots: expected `cluster.keep_entries` of at most {}, found {}",
                limits::KEEP_ENTRIES_FOR_SNAPSHOTS_MAX,
                cluster.keep_entries
            );
            return Err(self.refuse(raw, message));
        }
        let unlike_percent = match &table.unlike_percent {
            Some(percent) => self.within("restore.unlike_percent", percent, 0..=100)?,
            None => 0,
        };
        let whole = |(window, weight): &(Option<&Window>, u32)| window.is_none() && *weight > 0;
        let room = table.all > 0 && windows.iter().any(whole);
        if let Some(percent) = table.unlike_percent.as_ref().filter(|_| unlike_percent > 0 && !room) {
            let message = "`restore.unlike_percent` is above 0: expected `restore.all` and `restore.windows.none` above 0 as well, \
                           because several founders are compared, and none of them is killed";
            return Err(self.refuse(percent, message.to_owned()));
        }
        Ok(RestoreSpec { every_cycles, kinds, other, windows, unlike_percent })
    }

    fn restore_window(&self, name: &Spanned<String>) -> Result<Option<&'static Window>, Refusal> {
        if name.get_ref() == NO_KILL {
            return Ok(None);
        }
        let window =
            subject::find_window(name.get_ref()).ok_or_else(|| self.unknown_window("restore.windows", name))?;
        if RestoreKind::reaches(window.reach) {
            return Ok(Some(window));
        }
        let message = format!(
            "`restore.windows`: expected a window of restore.*, recovery.founded, or `none`, found {:?}, which no restore passes",
            window.name
        );
        Err(self.refuse(name, message))
    }
}
