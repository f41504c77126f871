//! The tables `[faults]`, `[links]` and `[again]`: the kinds of a cycle's faults; victims and
//! moments are in other tables.
//!
//! ```toml
//! [faults]            # without this table: kills alone
//! kill = 6
//! pause = 2
//! network = 3
//! several = 3         # a pause or a disturbance, and a kill or another one beside it
//! cut = 5             # a kill with which the power fails: needs `[power]`
//! disk = 5            # disks fail: needs `[disk]`
//!
//! [links]             # without this table: all of them alike
//! isolate = 2
//! mute = 1
//! deafen = 1
//! delay = 1
//!
//! [again]             # after a kill: where the member is killed again; drawn up to three times
//! none = 8
//! "recovery.engine-open" = 1
//! "recovery.replay-apply" = 2
//! ```

use super::raw::Check;
use super::{ClusterSpec, Refusal};
use crate::subject::{self, Reach, Window};
use serde::Deserialize;
use std::collections::BTreeMap;
use toml::Spanned;

/// The kind of a cycle's faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    Kill,
    Pause,
    Network,
    Several,
    /// A kill, and what was not synced is lost.
    Cut,
    /// Disks fail, perhaps with a kill beside that.
    Disk,
}

/// The kind of a disturbance, without its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LinkKind {
    Isolate,
    Mute,
    Deafen,
    Delay,
}

/// The mix of faults. Weight tables are in a fixed order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultMix {
    pub kinds: Vec<(FaultKind, u32)>,
    pub links: Vec<(LinkKind, u32)>,
    /// `None`: no further kill. Empty: a kill is never followed by another.
    pub again: Vec<(Option<&'static Window>, u32)>,
}

impl FaultMix {
    pub fn weight(&self, kind: FaultKind) -> u32 {
        self.kinds.iter().find(|(known, _)| *known == kind).map_or(0, |(_, weight)| *weight)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawFaults {
    kill: u32,
    pause: u32,
    pub(super) network: u32,
    several: u32,
    pub(super) cut: u32,
    disk: u32,
}

impl Default for RawFaults {
    fn default() -> Self {
        Self { kill: 1, pause: 0, network: 0, several: 0, cut: 0, disk: 0 }
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawLinks {
    isolate: u32,
    mute: u32,
    deafen: u32,
    delay: u32,
}

pub(super) type RawAgain = BTreeMap<Spanned<String>, Spanned<u32>>;

/// The key of no further kill.
const NO_KILL: &str = "none";

impl Check<'_> {
    pub(super) fn faults(
        &self,
        faults: Option<&Spanned<RawFaults>>,
        links: Option<&Spanned<RawLinks>>,
        again: &RawAgain,
        (cluster, upgrades): (&ClusterSpec, bool),
        windows: &[(&'static Window, u32)],
    ) -> Result<FaultMix, Refusal> {
        let default = RawFaults::default();
        let raw = faults.map_or(&default, Spanned::get_ref);
        let kinds = vec![
            (FaultKind::Kill, raw.kill),
            (FaultKind::Pause, raw.pause),
            (FaultKind::Network, raw.network),
            (FaultKind::Several, raw.several),
            (FaultKind::Cut, raw.cut),
            (FaultKind::Disk, raw.disk),
        ];
        if let Some(at) = faults {
            self.check_kinds(at)?;
        }
        let links = self.links(links, raw.network)?;
        let again = self.again(again, raw.kill + raw.several + raw.cut + raw.disk, (cluster, upgrades), windows)?;
        Ok(FaultMix { kinds, links, again })
    }

    fn check_kinds(&self, at: &Spanned<RawFaults>) -> Result<(), Refusal> {
        let RawFaults { kill, pause, network, several, cut, disk } = at.get_ref();
        if [kill, pause, network, several, cut, disk].iter().all(|weight| **weight == 0) {
            let message = "expected a weight above 0 in one of `faults.kill`, `faults.pause`, `faults.network`, `faults.several`, \
                           `faults.cut`, `faults.disk`, found none: there would be no fault";
            return Err(self.refuse(at, message.to_owned()));
        }
        if *several > 0 && *pause == 0 && *network == 0 {
            let message = "`faults.several` is above 0, but `faults.pause` and `faults.network` are 0 or absent: expected one of them \
                           above 0, because several faults at once are a pause or a disturbance of links and something beside it";
            return Err(self.refuse(at, message.to_owned()));
        }
        Ok(())
    }

    fn links(&self, raw: Option<&Spanned<RawLinks>>, network: u32) -> Result<Vec<(LinkKind, u32)>, Refusal> {
        let Some(at) = raw else {
            let all = [LinkKind::Isolate, LinkKind::Mute, LinkKind::Deafen, LinkKind::Delay];
            return Ok(all.map(|kind| (kind, 1)).to_vec());
        };
        let RawLinks { isolate, mute, deafen, delay } = *at.get_ref();
        let table = vec![
            (LinkKind::Isolate, isolate),
            (LinkKind::Mute, mute),
            (LinkKind::Deafen, deafen),
            (LinkKind::Delay, delay),
        ];
        if network == 0 {
            let message = "`[links]` is given, but `faults.network` is 0 or absent, so that none would be used: expected it above 0";
            return Err(self.refuse(at, message.to_owned()));
        }
        if table.iter().all(|(_, weight)| *weight == 0) {
            let message = "expected a weight above 0 in one of `links.isolate`, `links.mute`, `links.deafen`, `links.delay`, found \
                           none: `faults.network` is above 0, and would do nothing";
            return Err(self.refuse(at, message.to_owned()));
        }
        Ok(table)
    }

    fn again(
        &self,
        raw: &RawAgain,
        kills: u32,
        (cluster, upgrades): (&ClusterSpec, bool),
        windows: &[(&'static Window, u32)],
    ) -> Result<Vec<(Option<&'static Window>, u32)>, Refusal> {
        let mut table = Vec::new();
        for (name, weight) in raw {
            let window = self.again_window(name)?;
            if let Some(window) = window.filter(|_| *weight.get_ref() > 0) {
                self.window_exists("again", window, weight, cluster, upgrades)?;
                let installs =
                    windows.iter().any(|(known, _)| matches!(known.reach, Reach::SnapshotReceiver | Reach::Join));
                if window.needs_a_snapshot() && !installs {
                    let message = format!(
                        "`again.\"{}\"` is above 0, but only a kill in another window of an installation, or in a first life, \
                         leads to it: expected one of snapshot.* that a receiver passes in `[windows]`, found none",
                        window.name
                    );
                    return Err(self.refuse(weight, message));
                }
            }
            table.push((window, *weight.get_ref()));
        }
        // In the order of the protocols, whatever the order in the file.
        table.sort_by_key(|(window, _)| subject::all_windows().position(|known| Some(known) == *window));
        let some = raw.iter().find(|(name, weight)| name.get_ref() != NO_KILL && *weight.get_ref() > 0);
        match (some, raw.iter().next()) {
            (None, Some((name, _))) => {
                let message =
                    "`[again]` is given, but no window in it has a weight above 0: expected one, or no such table";
                Err(self.refuse(name, message.to_owned()))
            }
            (Some((name, _)), _) if kills == 0 => {
                let message = "`[again]` has weights, but `faults.kill` and `faults.several` are 0, so that there would be no kill \
                               before it: expected one of them above 0";
                Err(self.refuse(name, message.to_owned()))
            }
            _ => Ok(table),
        }
    }

    fn again_window(&self, name: &Spanned<String>) -> Result<Option<&'static Window>, Refusal> {
        if name.get_ref() == NO_KILL {
            return Ok(None);
        }
        let window = subject::find_window(name.get_ref()).ok_or_else(|| self.unknown_window("again", name))?;
        if matches!(window.reach, Reach::Recovery | Reach::Start | Reach::Reinstall | Reach::SnapshotReceiver) {
            return Ok(Some(window));
        }
        let message = format!(
            "`again`: expected a window of recovery.*, one of snapshot.* that a receiver passes, or `none`, found {:?}, which a member \
             does not pass by starting",
            window.name
        );
        Err(self.refuse(name, message))
    }
}
