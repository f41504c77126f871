//! The certificate as a page: one file, no external asset, no script.

use super::{Certificate, Row};
use crate::report::page::{self, section};
use crate::report::text::{duration, escape, number};
use ninelives_evidence::record::BinaryId;

/// The page.
pub fn page(certificate: &Certificate) -> String {
    let (title, tone) = match certificate.holds {
        true => ("The certificate holds", "tone-pass"),
        false => ("The certificate does not hold", "tone-bad"),
    };
    let header = format!(
        "<header>\n<p class=\"kicker\">Ninelives · detection certificate</p>\n<div class=\"verdict {tone}\"><h1>{title}</h1>\
         <p>{}</p></div>\n</header>\n",
        escape(&sentence(certificate))
    );
    let body = [
        header,
        section("Bugs and controls", &table(&certificate.rows)),
        section("Not tried", &not_tried(&certificate.elsewhere)),
        section("Does not hold", &failed(&certificate.rows)),
        section("Of what", &provenance(certificate)),
    ]
    .concat();
    page::page(title, &body, None)
}

fn sentence(certificate: &Certificate) -> String {
    let bugs: Vec<_> = certificate.rows.iter().filter(|row| !row.is_control()).collect();
    let (trials, caught) =
        bugs.iter().fold((0, 0), |(trials, caught), row| (trials + row.planned as usize, caught + row.caught()));
    let (alarms, controls) = certificate.false_alarms();
    format!(
        "{} bugs in {trials} runs, {caught} of them caught in the expected class; {controls} runs without a bug, {alarms} of \
         them no pass. Each bug has to be caught in every run, in a median of at most {} cycles and {} at most.",
        bugs.len(),
        certificate.median_cycles_max,
        certificate.cycles_max
    )
}

fn table(rows: &[Row]) -> String {
    let head = [
        "bug",
        "scenario",
        "expected",
        "caught",
        "median cycles",
        "largest",
        "CPU-seconds",
        "seconds",
        "ended otherwise",
    ];
    let head: String = head.iter().map(|name| format!("<th scope=\"col\">{name}</th>")).collect();
    let body: String = rows.iter().map(line).collect();
    format!(
        "<div class=\"scroll\">\n<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>\n</div>"
    )
}

/// Columns that hold numbers.
const NUMBERS: std::ops::RangeInclusive<usize> = 3..=7;

fn line(row: &Row) -> String {
    let count = |value: Option<u32>| value.map_or_else(|| "–".to_owned(), |value| number(value.into()));
    let cells = [
        row.title(),
        row.scenario.clone(),
        row.expected_in_words(),
        format!("{} of {}", row.caught(), row.planned),
        count(row.median()),
        count(row.largest()),
        tenths(row.cpu_ms()),
        tenths(row.elapsed_ms()),
        row.others_in_words(),
    ];
    let class = |at: usize| if NUMBERS.contains(&at) { " class=\"n\"" } else { "" };
    let cells: String =
        cells.iter().enumerate().map(|(at, cell)| format!("<td{}>{}</td>", class(at), escape(cell))).collect();
    format!("<tr>{cells}</tr>\n")
}

fn tenths(ms: u64) -> String {
    format!("{}.{}", number(ms / 1000), ms % 1000 / 100)
}

fn not_tried(elsewhere: &[String]) -> String {
    let names: String = elsewhere.iter().map(|name| format!("<li>{}</li>\n", escape(name))).collect();
    match names.is_empty() {
        true => String::new(),
        false => format!("<p>Bugs of another table, or without a row yet:</p>\n<ul>\n{names}</ul>"),
    }
}

fn failed(rows: &[Row]) -> String {
    let lacking = rows.iter().filter_map(|row| Some((row, row.lacks()?)));
    let items: String = lacking
        .map(|(row, why)| {
            let whys = row.trials.iter().filter_map(|trial| {
                let why = trial.why.as_ref()?;
                Some(format!("<li>seed {}: {}: {}</li>\n", trial.seed, escape(&trial.class), escape(why)))
            });
            let whys: String = whys.collect();
            format!(
                "<li>{} ({}): {}\n<ul>\n{whys}</ul>\n</li>\n",
                escape(&row.title()),
                escape(&row.scenario),
                escape(&why)
            )
        })
        .collect();
    match items.is_empty() {
        true => String::new(),
        false => format!("<ul>\n{items}</ul>"),
    }
}

fn provenance(certificate: &Certificate) -> String {
    let unknown = || "unknown".to_owned();
    let binary = |id: &Option<BinaryId>| {
        id.as_ref().map_or_else(unknown, |id| {
            format!("{}, SHA-256 {}", id.version.as_deref().unwrap_or("of unknown version"), id.sha256)
        })
    };
    let mut facts = vec![
        ("begun", certificate.started_utc.clone()),
        ("took", duration(certificate.elapsed_ms)),
        ("CPU time of the harness, in seconds", tenths(certificate.harness_cpu_ms)),
        ("harness, SHA-256", certificate.harness.clone().unwrap_or_else(unknown)),
        ("node", binary(&certificate.node)),
        ("inspector", binary(&certificate.inspector)),
    ];
    let of_rows = certificate.rows.iter().filter(|row| row.binary_id.is_some());
    facts.extend(of_rows.map(|row| ("binary of a row", format!("{}: {}", row.title(), binary(&row.binary_id)))));
    let tables = certificate.tables.iter();
    facts.extend(tables.map(|table| ("table", format!("{}, SHA-256 {}", table.path.display(), table.sha256))));
    let items: String =
        facts.iter().map(|(name, value)| format!("<dt>{name}</dt><dd>{}</dd>\n", escape(value))).collect();
    format!("<dl class=\"env\">\n{items}</dl>")
}

#[cfg(test)]
mod tests {
    use super::super::text::sample;
    use super::*;

    #[test]
    fn the_page_says_what_was_caught_at_what_cost_and_escapes_what_comes_from_outside() {
        let mut certificate = sample();
        certificate.rows[0].trials[2].why = Some("<b>n1</b> & n2".into());
        let page = page(&certificate);
        assert!(page.contains("<h1>The certificate does not hold</h1>"));
        assert!(page.contains(
            "2 bugs in 4 runs, 3 of them caught in the expected class; 1 runs without a bug, 0 of them no pass"
        ));
        assert!(
            page.contains(
                "<td>replay-again</td><td>s.toml</td><td>state-hash</td><td class=\"n\">2 of 3</td><td class=\"n\">9</td><td class=\"n\">9</td><td class=\"n\">6.0</td>"
            ),
            "{page}"
        );
        assert!(page.contains("seed 3: inconclusive: &lt;b&gt;n1&lt;/b&gt; &amp; n2") && !page.contains("<b>n1"));
        assert!(page.contains("<li>marker-no-dir-fsync</li>") && page.contains("harness, SHA-256</dt><dd>aa"));
        assert!(!page.contains("http://") && !page.contains("https://"), "the page loads nothing");
    }
}
