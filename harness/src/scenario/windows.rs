//! The `[windows]` table: the steps of the protocols at which kills land, with their weights.

use super::raw::{Check, Raw};
use super::{ClusterSpec, Refusal, WhomKind};
use crate::subject::{self, Reach, Window};
use ninelives_evidence::limits;
use ninelives_evidence::member::Engine;
use std::collections::BTreeMap;
use toml::Spanned;

impl Check<'_> {
    /// The window table, in the order of the protocols; checked against the possible victims and
    /// the purges.
    pub(super) fn windows(
        &self,
        raw: &Raw,
        whom: &[(WhomKind, u32)],
        cluster: &ClusterSpec,
    ) -> Result<Vec<(&'static Window, u32)>, Refusal> {
        let mut weights = BTreeMap::new();
        for (name, weight) in &raw.windows {
            let window = subject::find_window(name.get_ref()).ok_or_else(|| self.unknown_window("windows", name))?;
            self.window_is_possible(window, weight, whom, cluster)?;
            self.window_exists("windows", window, weight, cluster, raw.changes_engines())?;
            weights.insert(window.name, *weight.get_ref());
        }
        let table: Vec<_> = subject::all_windows()
            .filter_map(|window| weights.get(window.name).map(|weight| (window, *weight)))
            .filter(|(_, weight)| *weight > 0)
            .collect();
        match (raw.when.get_ref().window, table.is_empty()) {
            (1.., true) => Err(self.refuse(
                &raw.when,
                "`when.window` is above 0, but no window in `[windows]` has a weight above 0: expected one, or `when.window = 0`"
                    .to_owned(),
            )),
            (0, false) => Err(self.refuse(
                &raw.when,
                "`[windows]` has weights, but `when.window` is 0, so that none would be used: expected it above 0".to_owned(),
            )),
            _ => Ok(table),
        }
    }

    pub(super) fn unknown_window(&self, table: &str, name: &Spanned<String>) -> Refusal {
        let known = subject::all_windows().map(|window| window.name).collect::<Vec<_>>().join(", ");
        let refusal =
            self.refuse(name, format!("`{table}`: unknown window {:?}; expected one of {known}", name.get_ref()));
        match subject::nearest_window(name.get_ref()) {
            Some(near) => refusal.hint(format!("did you mean \"{near}\"?")),
            None => refusal,
        }
    }

    /// `upgrades`: members change their engine, so that each may run either.
    pub(super) fn window_exists(
        &self,
        table: &str,
        window: &Window,
        weight: &Spanned<u32>,
        cluster: &ClusterSpec,
        upgrades: bool,
    ) -> Result<(), Refusal> {
        let exists = cluster.engines.iter().any(|engine| window.exists_on(*engine));
        if exists || (upgrades && !window.is_of_files()) || *weight.get_ref() == 0 {
            return Ok(());
        }
        if window.exists_on(Engine::Opaque) {
            let message = format!(
                "`{table}.\"{}\"` is above 0, and only a server under the fault filesystem passes it: expected a window of the node's \
                 own, or `[target.etcd]` with `fault_filesystem = true`",
                window.name
            );
            return Err(self.refuse(weight, message));
        }
        let (missing, other) = (cluster.engines[0], cluster.engines[0].other());
        let message = format!(
            "`{table}.\"{}\"` is above 0, and does not exist on {missing}: expected a {other} member in `cluster.backend`, or an \
             `[upgrade]` table, found neither",
            window.name
        );
        Err(self.refuse(weight, message))
    }

    fn window_is_possible(
        &self,
        window: &Window,
        weight: &Spanned<u32>,
        whom: &[(WhomKind, u32)],
        cluster: &ClusterSpec,
    ) -> Result<(), Refusal> {
        if *weight.get_ref() == 0 {
            return Ok(());
        }
        if window.is_of_an_operation() {
            let (operation, table) = match window.reach {
                Reach::Migration => ("an upgrade by migrate", "upgrade"),
                _ => ("a restore", "restore"),
            };
            let message = format!(
                "`windows.\"{0}\"` is above 0, but no member that is killed passes it, only {operation}: expected it as \
                 `{table}.windows.\"{0}\"`",
                window.name
            );
            return Err(self.refuse(weight, message));
        }
        if !whom.iter().any(|(kind, weight)| *weight > 0 && kind.reaches(window.reach)) {
            let fit = WhomKind::ALL.iter().filter(|kind| kind.reaches(window.reach));
            let names = fit.map(|kind| format!("`whom.{}`", kind.name())).collect::<Vec<_>>().join(" or ");
            let message = format!(
                "`windows.\"{}\"` is above 0, but only {names} can pass it: expected that above 0, found 0",
                window.name
            );
            return Err(self.refuse(weight, message));
        }
        let keep = cluster.keep_entries;
        if window.needs_a_snapshot() && keep > limits::KEEP_ENTRIES_FOR_SNAPSHOTS_MAX {
            let message = format!(
                "`windows.\"{}\"` needs a log that is purged while a member is away: expected `cluster.keep_entries` of at most {}, \
                 found {keep}",
                window.name,
                limits::KEEP_ENTRIES_FOR_SNAPSHOTS_MAX
            );
            return Err(self.refuse(weight, message));
        }
        Ok(())
    }
}
