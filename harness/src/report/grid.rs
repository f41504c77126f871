//! The grid of crash windows: window × role, kills landed, the quota, breadth; and of the windows
//! of the node's files, class of file × operation. For the report and for the terminal.

use super::worth::{NO_WINDOW, WindowHits, Worth};
use crate::faultfs::STEPS;
use crate::subject::{FILE_WINDOWS, WINDOWS, Window, find_window, node_file_windows};
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

/// A class of the node's files, with the part of a member's life before it, if it has one.
pub struct FileRow<'a> {
    pub class: &'a str,
    /// Kills that landed at each of [`STEPS`]; `None`: it was not part of the plan.
    pub landed: [Option<u32>; STEPS.len()],
}

pub struct Grid<'a> {
    /// Known windows in the order of the protocols, then strange ones, then the kills outside of
    /// any window.
    pub rows: Vec<Row<'a>>,
}

impl<'a> Grid<'a> {
    pub fn of(run: &'a RunSummary, worth: &'a Worth) -> Self {
        // The windows that the members could pass, planned or not.
        let mut could: Vec<&Window> = if run.is_opaque() { FILE_WINDOWS } else { WINDOWS }.iter().collect();
        if worth.windows.keys().any(|name| is_of_the_nodes_files(name)) {
            could.extend(node_file_windows());
        }
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

    /// The planned windows of the node's files, by class of file; empty: none was planned.
    pub fn files(&self) -> Vec<FileRow<'a>> {
        let mut rows: Vec<FileRow<'a>> = Vec::new();
        for (row, hits) in self.rows.iter().filter_map(|row| Some((row, row.hits?))) {
            let named = row.window.strip_prefix("file.").and_then(|rest| rest.rsplit_once('.'));
            let Some((class, step)) = named else { continue };
            let Some(at) = STEPS.iter().position(|(known, ..)| *known == step) else { continue };
            let known = rows.iter().position(|row| row.class == class).unwrap_or_else(|| {
                rows.push(FileRow { class, landed: [None; STEPS.len()] });
                rows.len() - 1
            });
            rows[known].landed[at] = Some(hits.landed());
        }
        rows
    }

    /// The same as a table for a terminal.
    pub fn files_text(&self) -> String {
        let rows = self.files();
        if rows.is_empty() {
            return String::new();
        }
        let line = |class: &str, cells: [String; STEPS.len()]| {
            let cells = cells.map(|cell| format!(" {cell:>8}")).concat();
            format!("{class:<26}{cells}\n")
        };
        let heads = line("class of file", STEPS.map(|(step, ..)| step.to_owned()));
        let cells =
            |row: &FileRow<'_>| row.landed.map(|landed| landed.map_or("-".to_owned(), |count| count.to_string()));
        rows.iter().fold(heads, |text, row| text + &line(row.class, cells(row)))
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

fn is_of_the_nodes_files(window: &str) -> bool {
    find_window(window).is_some_and(Window::is_of_the_nodes_files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;
    use ninelives_evidence::record::FaultOutcome;
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

    /// A run with windows of files shows all of them, planned or not, and its kills by class and
    /// operation; one without shows none.
    #[test]
    fn kills_at_operations_on_files_are_counted_by_class_and_operation() {
        let plain = sample::run();
        let worth = Worth::of(&plain);
        assert!(Grid::of(&plain, &worth).files_text().is_empty());
        assert!(Grid::of(&plain, &worth).rows.iter().all(|row| !row.window.starts_with("file.")));
        let mut run = sample::run();
        let windows = ["file.sst.sync", "file.sst.synced", "file.install.directory.sync"];
        for (cycle, window) in run.cycles.iter_mut().zip(windows) {
            (cycle.planned.window, cycle.planned.hit) = (Some(window.to_owned()), Some(1));
            cycle.outcome = FaultOutcome::Landed;
        }
        let worth = Worth::of(&run);
        let grid = Grid::of(&run, &worth);
        assert!(grid.rows.iter().any(|row| row.window == "file.join.marker.rename" && row.hits.is_none()));
        let text = grid.files_text();
        let cells: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(cells[0][3..], STEPS.map(|(step, ..)| step), "{text}");
        assert_eq!(cells[1], ["sst", "-", "-", "-", "-", "1", "1", "-", "-", "-", "-"], "{text}");
        assert_eq!(cells[2], ["install.directory", "-", "-", "-", "-", "1", "-", "-", "-", "-", "-"], "{text}");
    }

    #[test]
    fn a_role_that_cannot_pass_a_window_is_no_hole() {
        assert!(!is_possible("vote.saved", Role::Leader) && is_possible("vote.saved", Role::Follower));
        assert!(is_possible("snapshot.send", Role::Leader) && !is_possible("snapshot.send", Role::Follower));
        assert!(is_possible("no.such-window", Role::Leader));
    }
}
