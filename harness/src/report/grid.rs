//! The grid of crash windows: window × role, kills landed, the quota, breadth. For the report and
//! for the terminal.

use super::worth::{NO_WINDOW, WindowHits, Worth};
use crate::subject::{FILE_WINDOWS, WINDOWS, find_window};
use ninelives_evidence::member::Role;
use ninelives_evidence::record::RunSummary;
use std::fmt::Write;

pub struct Cell {
    /// `None`: the window was not part of the plan, or no member passes it in that role.
    pub landed: Option<u32>,
    pub quota: Option<u32>,
    pub impossible: bool,
}

pub struct Row<'a> {
    pub window: &'a str,
    /// `None`: not part of the plan.
    pub hits: Option<&'a WindowHits>,
    pub leader: Cell,
    pub follower: Cell,
}

pub struct Grid<'a> {
    /// Known windows in the order of the protocols, then strange ones, then the kills outside of
    /// any window.
    pub rows: Vec<Row<'a>>,
}

impl<'a> Grid<'a> {
    pub fn of(run: &'a RunSummary, worth: &'a Worth) -> Self {
        // The windows that the members could pass, planned or not.
        let could = if run.is_opaque() { FILE_WINDOWS } else { WINDOWS };
        let known = could.iter().map(|window| window.name);
        let strange =
            worth.windows.keys().map(String::as_str).filter(|name| !could.iter().any(|window| window.name == *name));
        let rows = known.chain(strange).map(|window| {
            let hits = worth.windows.get(window);
            let cell = |role| Cell {
                landed: hits.filter(|_| is_possible(window, role)).map(|hits| hits.of(role)),
                quota: run.plan.quotas.iter().find(|one| one.window == window && one.role == role).map(|one| one.kills),
                impossible: !is_possible(window, role),
            };
            Row { window, hits, leader: cell(Role::Leader), follower: cell(Role::Follower) }
        });
        Self { rows: rows.collect() }
    }

    fn cells(&self) -> impl Iterator<Item = &Cell> {
        self.rows.iter().filter(|row| row.window != NO_WINDOW).flat_map(|row| [&row.leader, &row.follower])
    }

    /// Whether any window was part of the plan.
    pub fn is_planned(&self) -> bool {
        self.rows.iter().any(|row| row.window != NO_WINDOW && row.hits.is_some())
    }

    /// A sentence on how much of the grid was hit.
    pub fn sentence(&self) -> String {
        let windows = self.rows.iter().filter(|row| row.window != NO_WINDOW);
        let planned: Vec<_> = windows.filter_map(|row| row.hits).collect();
        let hit = planned.iter().filter(|hits| hits.landed() > 0).count();
        let cells: Vec<_> = self.cells().filter_map(|cell| cell.landed).collect();
        let cells_hit = cells.iter().filter(|landed| **landed > 0).count();
        let quotas: Vec<_> = self.cells().filter(|cell| cell.quota.is_some()).collect();
        let met = quotas.iter().filter(|cell| cell.landed.unwrap_or(0) >= cell.quota.unwrap_or(0)).count();
        let quotas = match quotas.len() {
            0 => String::new(),
            all => format!(", {met} of {all} quotas met"),
        };
        format!("{hit} of {} planned windows hit, {cells_hit} of their {} cells{quotas}", planned.len(), cells.len())
    }

    /// The planned windows as a table for a terminal.
    pub fn text(&self) -> String {
        let mut text =
            format!("{:<26} {:>10} {:>10} {:>8} {:>10}\n", "window", "leader", "follower", "breadth", "not landed");
        for (row, hits) in self.rows.iter().filter_map(|row| Some((row, row.hits?))) {
            let cell = |cell: &Cell| match (cell.landed, cell.quota) {
                (None, _) => "-".to_owned(),
                (Some(landed), None) => landed.to_string(),
                (Some(landed), Some(quota)) => format!("{landed}/{quota}"),
            };
            let other = if hits.not_applicable > 0 { format!(" + {} n/a", hits.not_applicable) } else { String::new() };
            let missed = format!("{}{other}", hits.missed);
            // Writing into a String cannot fail.
            let _ = writeln!(
                text,
                "{:<26} {:>10} {:>10} {:>8} {missed:>10}",
                if row.window == NO_WINDOW { "(no window)" } else { row.window },
                cell(&row.leader),
                cell(&row.follower),
                hits.breadth,
            );
        }
        text
    }
}

/// Whether a member can pass `window` in this role; unknown windows, and kills without a window,
/// are possible in any role.
fn is_possible(window: &str, role: Role) -> bool {
    // An upgrade's or a restore's window has the role of the member whose directory it is.
    find_window(window).is_none_or(|known| known.passed_by(role).is_ok() || known.is_of_an_operation())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;
    use ninelives_evidence::record::QuotaRecord;

    #[test]
    fn golden() {
        let mut run = sample::run();
        let quota = |window: &str, role, kills| QuotaRecord { window: window.to_owned(), role, kills };
        run.plan.quotas = vec![quota("flush.completed", Role::Follower, 2), quota("flush.completed", Role::Leader, 1)];
        let worth = Worth::of(&run);
        let grid = Grid::of(&run, &worth);
        ninelives_golden::assert_golden("grid.txt", &format!("{}{}\n", grid.text(), grid.sentence()));
    }

    #[test]
    fn a_role_that_cannot_pass_a_window_is_no_hole() {
        assert!(!is_possible("vote.saved", Role::Leader) && is_possible("vote.saved", Role::Follower));
        assert!(is_possible("snapshot.send", Role::Leader) && !is_possible("snapshot.send", Role::Follower));
        assert!(is_possible("no.such-window", Role::Leader));
    }
}
