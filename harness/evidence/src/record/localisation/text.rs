//! A localisation as text for a terminal, and the words that other renderings share with it.

use super::{Localisation, WatermarksRow};

/// Columns of a terminal that an excerpt's words may fill.
const WORDS_MAX: usize = 100;

impl Localisation {
    /// Some lines, each with its line break; the first one is the heading.
    pub fn text(&self) -> String {
        let mut out = format!("where it begins ({}):\n", self.about());
        for sentence in &self.sentences {
            out.push_str(&format!("  {sentence}\n"));
        }
        if !self.keys.is_empty() {
            out.push_str(&format!("  {}:\n", self.keys_title()));
            for key in &self.keys {
                out.push_str(&format!("    {}: must be {}\n", key.key, key.expected));
                for (members, value) in &key.found {
                    out.push_str(&format!("      {}: {value}\n", ids(members)));
                }
            }
        }
        if !self.watermarks.is_empty() {
            out.push_str("  watermarks (raft indexes):\n");
            let rows: Vec<[String; 9]> = std::iter::once(WatermarksRow::TITLES.map(str::to_owned))
                .chain(self.watermarks.iter().map(WatermarksRow::cells))
                .collect();
            out.push_str(&aligned(&rows));
        }
        if let Some(excerpt) = &self.excerpt {
            out.push_str(&format!("  raft log of n{}:\n", excerpt.member));
            for line in &excerpt.entries {
                let here = if line.here { '>' } else { ' ' };
                let revision = line.revision.map_or_else(|| "-".to_owned(), |revision| revision.to_string());
                let does = cut(&line.does);
                out.push_str(&format!(
                    "  {here} {:>8}  term {:<4} revision {revision:<8} {does}\n",
                    line.index, line.term
                ));
            }
        }
        for unknown in &self.unknown {
            out.push_str(&format!("  not known: {unknown}\n"));
        }
        out
    }

    /// The class of the finding, with cycle and cluster.
    pub fn about(&self) -> String {
        let cycle = self.cycle.map_or_else(String::new, |cycle| format!(", cycle {cycle}"));
        let cluster = self.cluster.map_or_else(String::new, |cluster| format!(", cluster {cluster}"));
        format!("{}{cycle}{cluster}", self.class)
    }

    /// A title for the keys.
    pub fn keys_title(&self) -> String {
        match &self.first {
            Some(first) => format!("keys of revision {}", first.revision),
            None => "keys that differ at the fence".to_owned(),
        }
    }
}

impl WatermarksRow {
    /// The titles of a row's cells.
    pub const TITLES: [&str; 9] =
        ["member", "when", "N", "flushed, E", "applied", "committed", "log to", "purged to", ""];

    /// The row as a table shows it.
    pub fn cells(&self) -> [String; 9] {
        let mark = |mark: Option<u64>| mark.map_or_else(|| "-".to_owned(), |mark| mark.to_string());
        [
            format!("n{}", self.member),
            self.when.clone(),
            mark(self.persisted),
            mark(self.flushed),
            mark(self.applied),
            mark(self.committed),
            mark(self.log_last),
            mark(self.purged),
            self.remark.clone().unwrap_or_default(),
        ]
    }
}

/// Members in a list.
pub fn ids(members: &[u64]) -> String {
    members.iter().map(|member| format!("n{member}")).collect::<Vec<_>>().join(", ")
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
