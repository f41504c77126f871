//! The tables of `report.html`: the grid of crash windows, the operations on files, and a row per
//! cycle.

use super::grid::{Cell, FileRow, Grid, Row};
use super::text::{escape, number, quantile};
use super::worth::{NO_WINDOW, Worth};
use crate::faultfs::STEPS;
use ninelives_evidence::damage::{DamageRecord, Refusal};
use ninelives_evidence::record::{AgainRecord, CycleRecord, FaultOutcome, LastingKind, LastingRecord, RunSummary};

/// Window × role, with the number of kills that landed, and beside it the quota. Every known window
/// has a row, hit or not: a hole in the coverage must be seen. Windows that the run has and this
/// binary does not know come last, with the kills outside of any window, whose number does not
/// enter the shading.
pub fn window_grid(run: &RunSummary, worth: &Worth) -> String {
    let grid = Grid::of(run, worth);
    let windows = || worth.windows.iter().filter(|(name, _)| *name != NO_WINDOW).map(|(_, hits)| hits);
    let most = windows().map(|hits| hits.leader.max(hits.follower)).max().unwrap_or(0).max(1);
    let rows: String = grid.rows.iter().map(|row| grid_row(row, most)).collect();
    format!(
        "<p class=\"lead\">{}. A hatched cell was never hit in that role; a window without any count was not part of this \
         run's plan; “impossible”: no member passes it in that role; n/a: it does not exist on the engine of the member that it was for. Breadth: at how many \
         different passes of the window kills landed.</p><div class=\"scroll fit\"><table class=\"grid\"><thead><tr>\
         <th scope=\"col\">window</th><th scope=\"col\">leader</th><th scope=\"col\">follower</th>\
         <th scope=\"col\">breadth</th><th scope=\"col\">planned, not landed</th></tr></thead><tbody>{rows}</tbody></table></div>",
        escape(&grid.sentence()),
    )
}

/// Class of file × operation, with the number of kills that landed; empty if the plan had none.
pub fn file_grid(run: &RunSummary, worth: &Worth) -> String {
    let rows = Grid::of(run, worth).files();
    if rows.is_empty() {
        return String::new();
    }
    let cell = |landed: Option<u32>| match landed {
        None => "<td></td>".to_owned(),
        Some(0) => "<td class=\"none missed\">0</td>".to_owned(),
        Some(count) => format!("<td class=\"hit\">{}</td>", number(count.into())),
    };
    let row = |row: &FileRow<'_>| {
        let cells = row.landed.map(cell).concat();
        format!("<tr><th scope=\"row\" class=\"id\">{}</th>{cells}</tr>\n", escape(row.class))
    };
    let heads = STEPS.map(|(step, ..)| format!("<th scope=\"col\">{step}</th>")).concat();
    format!(
        "<p class=\"lead\">Kills that landed before and after an operation on a class of file. An empty cell was not part of the \
         plan.</p><div class=\"scroll fit\"><table class=\"grid\"><thead><tr><th scope=\"col\">class</th>{heads}</tr></thead>\
         <tbody>{}</tbody></table></div>",
        rows.iter().map(row).collect::<String>()
    )
}

fn grid_row(row: &Row<'_>, most: u32) -> String {
    let none = "<td class=\"none\">–</td>";
    let cell = |cell: &Cell| {
        let quota = cell.quota.map_or_else(String::new, |quota| format!(" <small>of {}</small>", number(quota.into())));
        match cell.landed {
            None if cell.impossible => "<td><small>impossible</small></td>".to_owned(),
            None | Some(0) if quota.is_empty() => none.to_owned(),
            None | Some(0) => format!("<td class=\"none missed\">0{quota}</td>"),
            Some(count) => {
                // From 8 % to 50 % of the accent colour: visible at one hit, still readable at the
                // most.
                let heat = 8 + 42 * count.min(most) / most;
                format!("<td class=\"hit\" style=\"--heat:{heat}\">{}{quota}</td>", number(count.into()))
            }
        }
    };
    let (class, tail) = match row.hits {
        Some(hits) => {
            let other = match hits.not_applicable {
                0 => String::new(),
                count => format!(" + {count} n/a"),
            };
            let missed = match hits.missed {
                0 => format!("<td>0{other}</td>"),
                missed => format!("<td class=\"missed\">{missed}{other}</td>"),
            };
            ("id", format!("<td>{}</td>{missed}", number(hits.breadth.into())))
        }
        None => ("id unplanned", "<td></td><td></td>".to_owned()),
    };
    format!(
        "<tr><th scope=\"row\" class=\"{class}\">{}</th>{}{}{tail}</tr>\n",
        escape(row.window),
        cell(&row.leader),
        cell(&row.follower)
    )
}

/// The heading, whether the column is numeric, and its meaning.
const COLUMNS: &[(&str, bool, &str)] = &[
    ("cycle", true, "number of the cycle"),
    ("victim", false, "members killed, with the role that they had"),
    ("fault", false, "the plan's step"),
    ("outcome", false, "how the fault ended"),
    ("lost", true, "applied entries that the kill took out of memtables, a lower bound"),
    ("verified", true, "entries of (N, E] that the restart verified"),
    ("replayed", true, "entries above E that the restart applied again"),
    ("N before", true, "persisted index of the first victim, from its dead directory"),
    ("N after", true, "persisted index of the first victim at the end of the cycle"),
    ("recovery ms", true, "kill until serving again, the slowest victim"),
    ("catch-up ms", true, "serving until caught up, the slowest victim"),
    ("fence", true, "raft index at which every replica was hashed"),
    ("cycle ms", true, "the whole cycle"),
];

/// A row per cycle, sortable by its headings.
pub fn cycle_table(run: &RunSummary) -> String {
    let heads: String = COLUMNS
        .iter()
        .map(|(name, numeric, title)| {
            let class = if *numeric { " class=\"n\"" } else { "" };
            format!("<th scope=\"col\"{class} title=\"{title}\"><button type=\"button\">{name}</button></th>")
        })
        .collect();
    let rows: String = run.cycles.iter().map(cycle_row).collect();
    format!(
        "<p class=\"lead\"><label><input type=\"checkbox\" id=\"only-odd\"> only cycles that were skipped, proved nothing \
         or have findings</label></p><div class=\"scroll tall\" tabindex=\"0\" role=\"region\" aria-label=\"cycles\">\
         <table id=\"cycles\"><thead><tr>{heads}</tr></thead><tbody>\n{rows}</tbody></table></div>"
    )
}

fn again_note(again: &AgainRecord) -> String {
    let AgainRecord { member, window, hit, skipped } = again;
    match skipped {
        None => format!("n{member} killed again at {window} hit {hit}"),
        Some(why) => format!("not killed again at {window} hit {hit}: {why}"),
    }
}

fn damage_note(record: &DamageRecord) -> String {
    let DamageRecord { class, kind, damage, skipped, refusal, .. } = record;
    let what = match (damage, skipped) {
        (Some(damage), _) => damage.to_string(),
        (None, Some(why)) => return format!("no {kind} of {class}: {why}"),
        (None, None) => return format!("no {kind} of {class}"),
    };
    match refusal {
        Some(Refusal { ended, words, .. }) => format!("{what}: it ended with {ended}: {words}"),
        None => format!("{what}: it served, and was replaced"),
    }
}

fn lasting_note(lasting: &LastingRecord) -> String {
    let members: Vec<_> = lasting.victims.iter().map(|victim| format!("n{} {}", victim.member, victim.role)).collect();
    let members = members.join(", ");
    let operation = lasting.operation.as_deref().unwrap_or_default();
    let what = match lasting.kind {
        LastingKind::Pause => format!("{members} stood still"),
        LastingKind::Network => format!("{} links of {members} disturbed", lasting.links),
        LastingKind::Fill => format!("the disk of {members} full, met by {} operations", lasting.met),
        LastingKind::Slow => format!("{} syncs of {members} slow", lasting.met),
        LastingKind::FailSync => format!("{} syncs of {members} failed", lasting.met),
        LastingKind::FailRead | LastingKind::FailWrite => format!("{} × {operation} of {members} failed", lasting.met),
        LastingKind::Shorten => format!("{} × {operation} of {members} cut short", lasting.met),
    };
    match (&lasting.skipped, lasting.lasted_ms) {
        (Some(why), _) => format!("{}: skipped: {why}", lasting.fault),
        (None, Some(ms)) if lasting.behind > 0 => {
            format!("{what} for {ms} ms, {} entries behind{}", lasting.behind, majority_note(lasting))
        }
        (None, Some(ms)) => format!("{what} for {ms} ms{}", majority_note(lasting)),
        (None, None) => format!("{what} until the run ended"),
    }
}

/// A note on the majority that the cut left connected.
fn majority_note(lasting: &LastingRecord) -> String {
    match lasting.majority_wrote_ms {
        _ if lasting.majority.is_empty() => String::new(),
        Some(ms) => format!(", the others wrote after {ms} ms"),
        None => ", and the others did not write".to_owned(),
    }
}

fn cycle_row(cycle: &CycleRecord) -> String {
    let class = match cycle {
        _ if cycle.findings > 0 => " class=\"bad\"",
        _ if !cycle.landed() || cycle.proved_nothing.is_some() => " class=\"odd\"",
        _ => "",
    };
    let victims: Vec<String> =
        cycle.victims.iter().map(|victim| format!("n{} {}", victim.member, victim.role)).collect();
    let mut outcome = match &cycle.outcome {
        FaultOutcome::Landed => "landed".to_owned(),
        FaultOutcome::Skipped { why } => format!("skipped: {why}"),
        FaultOutcome::Indeterminate { why } => format!("indeterminate: {why}"),
    };
    for note in [
        (cycle.findings > 0)
            .then(|| format!("{} finding{}", cycle.findings, if cycle.findings == 1 { "" } else { "s" })),
        cycle.proved_nothing.as_ref().map(|why| format!("proved nothing: {why}")),
        cycle.recovery.snapshot_installed.then(|| "snapshot installed".to_owned()),
        cycle.upgraded.then(|| "engine changed".to_owned()),
        cycle.restored.then(|| "cluster restored".to_owned()),
    ]
    .into_iter()
    .flatten()
    .chain(cycle.kills.again.iter().map(again_note))
    .chain(cycle.damage.as_deref().into_iter().map(damage_note))
    .chain(cycle.lasting.iter().map(lasting_note))
    {
        outcome.push_str("; ");
        outcome.push_str(&note);
    }
    let numbers: String = [
        Some(cycle.recovery.lost_entries),
        Some(cycle.recovery.verified),
        Some(cycle.recovery.replayed),
        cycle.recovery.persisted_before,
        cycle.recovery.persisted_after,
        Some(cycle.recovery.serving_ms),
        Some(cycle.recovery.catch_up_ms),
        cycle.fence_index,
        Some(cycle.duration_ms),
    ]
    .map(|value| format!("<td class=\"n\">{}</td>", value.map_or_else(|| "–".to_owned(), number)))
    .concat();
    format!(
        "<tr{class}><td class=\"n\">{}</td><td>{}</td><td class=\"id\">{}</td><td>{}</td>{numbers}</tr>\n",
        cycle.cycle,
        escape(&victims.join(", ")),
        escape(&cycle.planned.trigger),
        escape(&outcome),
    )
}

/// Median, 95 % and maximum of each phase.
pub fn phase_table(cycles: &[CycleRecord]) -> String {
    type Phase = (&'static str, fn(&CycleRecord) -> u64);
    const PHASES: &[Phase] = &[
        ("kill: cycle start until the last victim is dead", |cycle| cycle.phases.kill),
        ("inspect: copying and reading the dead directories", |cycle| cycle.phases.inspect),
        ("restart: spawn until serving", |cycle| cycle.phases.restart),
        ("catch up: serving until caught up", |cycle| cycle.phases.catch_up),
        ("fence: proposed until every member answered", |cycle| cycle.phases.fence),
        ("verify: checking the evidence", |cycle| cycle.phases.verify),
        ("whole cycle", |cycle| cycle.duration_ms),
    ];
    let rows: String = PHASES
        .iter()
        .map(|(name, of)| {
            let mut values: Vec<u64> = cycles.iter().map(of).collect();
            values.sort_unstable();
            let cells =
                [0.5, 0.95, 1.0].map(|share| format!("<td class=\"n\">{}</td>", number(quantile(&values, share))));
            format!("<tr><th scope=\"row\">{name}</th>{}</tr>\n", cells.concat())
        })
        .collect();
    format!(
        "<div class=\"scroll\"><table><thead><tr><th scope=\"col\">phase, milliseconds</th><th scope=\"col\" class=\"n\">\
         median</th><th scope=\"col\" class=\"n\">95 %</th><th scope=\"col\" class=\"n\">longest</th></tr></thead>\
         <tbody>{rows}</tbody></table></div>"
    )
}
