//! The place where a divergence begins, as a section of `report.html`.

use super::text::escape;
use ninelives_evidence::record::localisation::{Excerpt, Localisation, WatermarksRow, WrongKey, ids};

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
        escape(&found.about()),
        html_keys(found),
        html_watermarks(&found.watermarks),
        found.excerpt.as_ref().map_or_else(String::new, html_excerpt),
    )
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
    let title = found.keys_title();
    table(&format!("{}{}", title[..1].to_uppercase(), &title[1..]), &["key", "must be", "is"], &rows)
}

fn html_watermarks(rows: &[WatermarksRow]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let row = |row: &WatermarksRow| {
        let cells: String = row.cells().iter().map(|cell| format!("<td>{}</td>", escape(cell))).collect();
        format!("<tr>{cells}</tr>\n")
    };
    let rows: String = rows.iter().map(row).collect();
    table("Watermarks through the cycle (raft indexes)", &WatermarksRow::TITLES, &rows)
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
        ninelives_golden::assert_golden("localisation.txt", &sample::localisation().text());
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
            found.text(),
            "where it begins (state-hash, cycle 3):\n  not known: what n3 holds, because it does not answer: n3 is down\n"
        );
    }
}
