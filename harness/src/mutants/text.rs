//! The table as text.

use super::{Certificate, Row};

/// A line for each row, then whether the table holds, and what it cost.
pub fn render(certificate: &Certificate) -> String {
    let mut text = format!(
        "{:26} {:24} {:>7} {:>7} {:>7} {:>8}  {}\n",
        "bug", "expected", "caught", "median", "largest", "seconds", "ended otherwise"
    );
    for row in &certificate.rows {
        text.push_str(&line(row));
    }
    let mut binaries: Vec<_> = certificate.rows.iter().filter_map(binary).collect();
    binaries.dedup();
    binaries.into_iter().for_each(|line| text.push_str(&line));
    for bug in &certificate.elsewhere {
        text.push_str(&format!("{bug:26} not tried: a bug of another table, or without a row yet\n"));
    }
    for row in &certificate.rows {
        if let Some(why) = row.lacks() {
            text.push_str(&format!("does not hold: {} ({}): {why}\n", row.title(), row.scenario));
            for trial in &row.trials {
                if let Some(why) = &trial.why {
                    text.push_str(&format!("  seed {}: {}: {why}\n", trial.seed, trial.class));
                }
            }
        }
    }
    let runs: usize = certificate.rows.iter().map(|row| row.trials.len()).sum();
    let cycles: u64 = certificate.rows.iter().flat_map(|row| &row.trials).map(|trial| u64::from(trial.cycles)).sum();
    let busy: u64 = certificate.rows.iter().map(Row::elapsed_ms).sum();
    text.push_str(&format!(
        "{}: {runs} runs, {cycles} cycles, {} of running in {}; expected: all caught, a median of at most {} cycles, at most {}\n",
        if certificate.holds { "the table holds" } else { "the table does not hold" },
        seconds(busy),
        seconds(certificate.elapsed_ms),
        certificate.median_cycles_max,
        certificate.cycles_max
    ));
    text
}

/// The binary of a row that has one of its own.
fn binary(row: &Row) -> Option<String> {
    let (name, id) = (row.binary.as_ref()?, row.binary_id.as_ref()?);
    let version = id.version.as_deref().and_then(|version| version.lines().next()).unwrap_or("of unknown version");
    Some(format!("{name}: {version}, SHA-256 {}\n", id.sha256))
}

fn line(row: &Row) -> String {
    let expected = if row.is_control() { format!("pass ({})", row.scenario) } else { row.expected.join(" or ") };
    let number = |value: Option<u32>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
    let others: Vec<_> = row.others().iter().map(|(class, count)| format!("{class} {count}")).collect();
    let others = if others.is_empty() { "-".to_owned() } else { others.join(", ") };
    format!(
        "{:26} {expected:24} {:>7} {:>7} {:>7} {:>8}  {others}\n",
        row.title(),
        format!("{}/{}", row.caught(), row.planned),
        number(row.median()),
        number(row.largest()),
        format!("{:.1}", row.elapsed_ms() as f64 / 1000.0),
    )
}

fn seconds(ms: u64) -> String {
    format!("{:.1} s", ms as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::super::table::Expected;
    use super::super::{SCHEMA_VERSION, Trial};
    use super::*;
    use ninelives_evidence::record::BinaryId;
    use ninelives_evidence::verdict::Class;

    #[test]
    fn the_table_says_what_was_caught_and_what_was_not() {
        let mut row = Row::new(&Expected::for_test("replay-again", &[Class::StateHash], None), 3);
        let trial = |seed, caught, class: &str, cycles| Trial {
            seed,
            caught,
            class: class.into(),
            why: None,
            cycles,
            elapsed_ms: 1500,
        };
        let too_little = Trial { why: Some("too little".into()), ..trial(3, false, "inconclusive", 300) };
        row.trials = vec![trial(1, true, "state-hash", 2), trial(2, true, "state-hash", 9), too_little];
        let mut control = Row::new(&Expected::for_test("control", &[], None), 1);
        control.trials = vec![trial(1, true, "pass", 60)];
        let mut released = Row::new(&Expected::for_test("etcd#1", &[Class::StateHash], None), 1);
        released.trials = vec![trial(1, true, "state-hash", 5)];
        released.binary = Some("etcd-3".into());
        let version = Some("etcd Version: 3\nGit SHA: x".into());
        released.binary_id = Some(BinaryId { path: "/x/etcd-3".into(), sha256: "00ff".into(), version });
        let certificate = Certificate {
            schema_version: SCHEMA_VERSION,
            rows: vec![row, control, released],
            elsewhere: vec!["marker-no-dir-fsync".into()],
            median_cycles_max: 50,
            cycles_max: 300,
            elapsed_ms: 3_000,
            started_utc: String::new(),
            node: None,
            inspector: None,
            holds: false,
        };
        let text = render(&certificate);
        let lines: Vec<_> = text.lines().collect();
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(words(lines[1]), ["replay-again", "state-hash", "2/3", "9", "9", "4.5", "inconclusive", "1"]);
        assert_eq!(words(lines[2]), ["control", "pass", "(s.toml)", "1/1", "60", "60", "1.5", "-"]);
        assert_eq!(words(lines[3])[..5], ["etcd#1", "on", "etcd-3", "state-hash", "1/1"]);
        assert_eq!(lines[4], "etcd-3: etcd Version: 3, SHA-256 00ff");
        assert_eq!(lines[6], "does not hold: replay-again (s.toml): caught 2 of 3");
        assert_eq!(lines[7], "  seed 3: inconclusive: too little");
        assert!(
            lines[8].starts_with("the table does not hold: 5 runs, 376 cycles, 7.5 s of running in 3.0 s;"),
            "{text}"
        );
    }
}
