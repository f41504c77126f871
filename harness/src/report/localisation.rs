//! The place where a divergence begins, for human readers: lines for a terminal, a section for
//! `report.html`.

use super::text::escape;
use ninelives_evidence::record::localisation::{Excerpt, Localisation, Watermarks, WrongKey};

/// Columns of a terminal that an excerpt's words may fill.
const WORDS_MAX: usize = 100;

/// Some lines, each with its line break; the first one is the heading.
pub fn text(found: &Localisation) -> String {
    let mut out = format!("where it begins ({}):\n", about(found));
    for sentence in &found.sentences {
        out.push_str(&format!("  {sentence}\n"));
    }
    if !found.keys.is_empty() {
        out.push_str(&format!("  {}:\n", keys_title(found)));
        for key in &found.keys {
            out.push_str(&format!("    {}: must be {}\n", key.key, key.expected));
            for (members, value) in &key.found {
                out.push_str(&format!("      {}: {value}\n", ids(members)));
            }
        }
    }
    if !found.watermarks.is_empty() {
        out.push_str("  watermarks (raft indexes):\n");
        let rows: Vec<[String; 9]> =
            std::iter::once(TITLES.map(str::to_owned)).chain(found.watermarks.iter().map(cells)).collect();
        out.push_str(&aligned(&rows));
    }
    if let Some(excerpt) = &found.excerpt {
        out.push_str(&format!("  raft log of n{}:\n", excerpt.member));
        for line in &excerpt.entries {
            let here = if line.here { '>' } else { ' ' };
            let revision = line.revision.map_or_else(|| "-".to_owned(), |revision| revision.to_string());
            let does = cut(&line.does);
            out.push_str(&format!("  {here} {:>8}  term {:<4} revision {revision:<8} {does}\n", line.index, line.term));
        }
    }
    for unknown in &found.unknown {
        out.push_str(&format!("  not known: {unknown}\n"));
    }
    out
}

/// The section's content.
pub(super) fn html(found: &Localisation) -> String {
    let sentences: String = found.sentences.iter().map(|sentence| format!("<p>{}</p>\n", escape(sentence))).collect();
    let unknown: String = found
        .unknown
        .iter()
        .map(|unknown| format!("<p class=\"note\">Not known: {}.</p>\n", escape(unknown)))
        .collect();
    format!(
        "<article class=\"finding tone-bad\"><h3>{}</h3>\n{sentences}{unknown}</article>\n{}{}{}",
        escape(&about(found)),
        html_keys(found),
        html_watermarks(&found.watermarks),
        found.excerpt.as_ref().map_or_else(String::new, html_excerpt),
    )
}

fn about(found: &Localisation) -> String {
    let cycle = found.cycle.map_or_else(String::new, |cycle| format!(", cycle {cycle}"));
    let cluster = found.cluster.map_or_else(String::new, |cluster| format!(", cluster {cluster}"));
    format!("{}{cycle}{cluster}", found.class)
}

fn keys_title(found: &Localisation) -> String {
    match &found.first {
        Some(first) => format!("keys of revision {}", first.revision),
        None => "keys that differ at the fence".to_owned(),
    }
}

fn ids(members: &[u64]) -> String {
    members.iter().map(|member| format!("n{member}")).collect::<Vec<_>>().join(", ")
}

const TITLES: [&str; 9] = ["member", "when", "N", "flushed, E", "applied", "committed", "log to", "purged to", ""];

fn cells(row: &Watermarks) -> [String; 9] {
    let mark = |mark: Option<u64>| mark.map_or_else(|| "-".to_owned(), |mark| mark.to_string());
    [
        format!("n{}", row.member),
        row.when.clone(),
        mark(row.persisted),
        mark(row.flushed),
        mark(row.applied),
        mark(row.committed),
        mark(row.log_last),
        mark(row.purged),
        row.remark.clone().unwrap_or_default(),
    ]
}

fn aligned(rows: &[[String; 9]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..9).map(width).collect();
    rows.iter()
        .map(|row| {
            let cells: Vec<String> = (0..9)
                .map(|column| match column {
                    0 | 1 | 8 => format!("{:<width$}", row[column], width = widths[column]),
                    _ => format!("{:>width$}", row[column], width = widths[column]),
                })
                .collect();
            format!("    {}\n", cells.join("  ").trim_end())
        })
        .collect()
}

fn cut(words: &str) -> String {
    match words.char_indices().nth(WORDS_MAX) {
        Some((at, _)) => format!("{}…", &words[..at]),
        None => words.to_owned(),
    }
}

fn html_keys(found: &Localisation) -> String {
    if found.keys.is_empty() {
        return String::new();
    }
    let row = |key: &WrongKey| {
        let values: Vec<String> =
            key.found.iter().map(|(members, value)| format!("{}: {}", ids(members), escape(value))).collect();
        format!(
            "<tr><th scope=\"row\" class=\"id\">{}</th><td>{}</td><td>{}</td></tr>\n",
            escape(&key.key),
            escape(&key.expected),
            values.join("<br>")
        )
    };
    let rows: String = found.keys.iter().map(row).collect();
    let title = keys_title(found);
    table(&format!("{}{}", title[..1].to_uppercase(), &title[1..]), &["key", "must be", "is"], &rows)
}

fn html_watermarks(rows: &[Watermarks]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let row = |row: &Watermarks| {
        let cells: String = cells(row).iter().map(|cell| format!("<td>{}</td>", escape(cell))).collect();
        format!("<tr>{cells}</tr>\n")
    };
    let rows: String = rows.iter().map(row).collect();
    table("Watermarks through the cycle (raft indexes)", &TITLES, &rows)
}

fn html_excerpt(excerpt: &Excerpt) -> String {
    let rows: String = excerpt
        .entries
        .iter()
        .map(|line| {
            let (open, close) = if line.here { ("<strong>", "</strong>") } else { ("", "") };
            let revision = line.revision.map_or_else(|| "–".to_owned(), |revision| revision.to_string());
            format!(
                "<tr><th scope=\"row\" class=\"id\">{open}{}{close}</th><td>{}</td><td>{revision}</td><td>{open}{}{close}</td></tr>\n",
                line.index,
                line.term,
                escape(&line.does)
            )
        })
        .collect();
    table(&format!("Raft log of n{}", excerpt.member), &["index", "term", "revision", "entry"], &rows)
}

fn table(title: &str, columns: &[&str], rows: &str) -> String {
    let columns: String = columns.iter().map(|column| format!("<th scope=\"col\">{column}</th>")).collect();
    format!(
        "<h3>{title}</h3>\n<div class=\"scroll\"><table><thead><tr>{columns}</tr></thead><tbody>{rows}</tbody></table></div>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn golden_text() {
        ninelives_golden::assert_golden("localisation.txt", &text(&sample::localisation()));
    }

    #[test]
    fn golden_html() {
        ninelives_golden::assert_golden("localisation.html", &html(&sample::localisation()));
    }

    /// Keys and values are the store's, and may be anything.
    #[test]
    fn words_from_outside_stay_words() {
        let page = html(&sample::localisation());
        assert!(page.contains("&lt;b&gt;") && !page.contains("<b>"), "{page}");
    }

    #[test]
    fn what_is_not_known_is_said_even_alone() {
        let mut found = sample::localisation();
        (found.sentences, found.keys, found.watermarks) = Default::default();
        (found.first, found.excerpt) = (None, None);
        assert_eq!(
            text(&found),
            "where it begins (state-hash, cycle 3):\n  not known: what n3 holds, because it does not answer: n3 is down\n"
        );
    }
}
