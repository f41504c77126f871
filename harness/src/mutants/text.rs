//! The table as text.

use super::{Certificate, Row};

/// A line for each row, then whether the table holds, and what it cost.
pub fn render(certificate: &Certificate) -> String {
    let mut text = format!(
        "{:26} {:24} {:>7} {:>7} {:>7} {:>8} {:>8}  {}\n",
        "bug", "expected", "caught", "median", "largest", "CPU s", "seconds", "ended otherwise"
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
    let cpu: u64 = certificate.rows.iter().map(Row::cpu_ms).sum();
    let (alarms, controls) = certificate.false_alarms();
    text.push_str(&format!(
        "cost: {} of CPU time in members and inspectors, {} in the harness; false alarms: {alarms} in {controls} runs without a bug\n",
        seconds(cpu),
        seconds(certificate.harness_cpu_ms)
    ));
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
    let expected = row.expected_in_words();
    let expected = if row.is_control() { format!("{expected} ({})", row.scenario) } else { expected };
    let number = |value: Option<u32>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
    let others = Some(row.others_in_words()).filter(|others| !others.is_empty());
    let others = others.unwrap_or_else(|| "-".to_owned());
    format!(
        "{:26} {expected:24} {:>7} {:>7} {:>7} {:>8} {:>8}  {others}\n",
        row.title(),
        format!("{}/{}", row.caught(), row.planned),
        number(row.median()),
        number(row.largest()),
        format!("{:.1}", row.cpu_ms() as f64 / 1000.0),
        format!("{:.1}", row.elapsed_ms() as f64 / 1000.0),
    )
}

fn seconds(ms: u64) -> String {
    format!("{:.1} s", ms as f64 / 1000.0)
}

/// A certificate for the tests of what it looks like.
#[cfg(test)]
pub(super) fn sample() -> Certificate {
    use super::journal::Source;
    use super::{Expected, SCHEMA_VERSION, Trial};
    use ninelives_evidence::record::BinaryId;
    use ninelives_evidence::verdict::Class;

    let trial = |seed, caught, class: &str, cycles| Trial {
        seed,
        caught,
        class: class.into(),
        why: None,
        cycles,
        elapsed_ms: 1500,
        cpu_ms: 2000,
    };
    let mut row = Row::new(&Expected::for_test("replay-again", &[Class::StateHash], None), 3);
    let too_little = Trial { why: Some("too little".into()), ..trial(3, false, "inconclusive", 300) };
    row.trials = vec![trial(1, true, "state-hash", 2), trial(2, true, "state-hash", 9), too_little];
    let mut control = Row::new(&Expected::for_test("control", &[], None), 1);
    control.trials = vec![trial(1, true, "pass", 60)];
    let mut released = Row::new(&Expected::for_test("etcd#1", &[Class::StateHash], None), 1);
    released.trials = vec![trial(1, true, "state-hash", 5)];
    released.binary = Some("etcd-3".into());
    let version = Some("etcd Version: 3\nGit SHA: x".into());
    released.binary_id = Some(BinaryId { path: "/x/etcd-3".into(), sha256: "00ff".into(), version });
    Certificate {
        schema_version: SCHEMA_VERSION,
        tables: vec![Source { path: "t.toml".into(), sha256: "bb".into() }],
        rows: vec![row, control, released],
        elsewhere: vec!["marker-no-dir-fsync".into()],
        median_cycles_max: 50,
        cycles_max: 300,
        elapsed_ms: 3_000,
        harness_cpu_ms: 4_000,
        started_utc: String::new(),
        harness: Some("aa".into()),
        node: None,
        inspector: None,
        holds: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_says_what_was_caught_and_what_was_not() {
        let text = render(&sample());
        let lines: Vec<_> = text.lines().collect();
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(words(lines[1]), ["replay-again", "state-hash", "2/3", "9", "9", "6.0", "4.5", "inconclusive", "1"]);
        assert_eq!(words(lines[2]), ["control", "pass", "(s.toml)", "1/1", "60", "60", "2.0", "1.5", "-"]);
        assert_eq!(words(lines[3])[..5], ["etcd#1", "on", "etcd-3", "state-hash", "1/1"]);
        assert_eq!(lines[4], "etcd-3: etcd Version: 3, SHA-256 00ff");
        assert_eq!(lines[6], "does not hold: replay-again (s.toml): caught 2 of 3");
        assert_eq!(lines[7], "  seed 3: inconclusive: too little");
        assert_eq!(
            lines[8],
            "cost: 10.0 s of CPU time in members and inspectors, 4.0 s in the harness; false alarms: 0 in 1 runs without a bug"
        );
        assert!(
            lines[9].starts_with("the table does not hold: 5 runs, 376 cycles, 7.5 s of running in 3.0 s;"),
            "{text}"
        );
    }
}
