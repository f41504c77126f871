//! Known findings in reports: they do not count for the verdict, and must not be overlooked.

use super::text::{escape, number};
use ninelives_evidence::record::RunSummary;
use ninelives_evidence::record::suppressed::SuppressedRecord;
use ninelives_evidence::verdict::Class;

/// The words right behind the verdict's name: `, with 3 known findings suppressed`, or nothing.
pub fn beside_the_verdict(run: &RunSummary) -> String {
    match run.suppressed() {
        0 => String::new(),
        count => format!(", with {} suppressed", known_findings(count)),
    }
}

/// A line for each signature: the findings that it suppressed, or that it suppressed none.
pub fn lines(run: &RunSummary) -> Vec<String> {
    run.known.iter().map(|known| line(run, known)).collect()
}

fn line(run: &RunSummary, known: &SuppressedRecord) -> String {
    let SuppressedRecord { name, class, because, count, first } = known;
    match first {
        None => format!(
            "never seen: \"{name}\" ({class}), in {} cycles: delete it from the scenario once it is stale; {because}",
            number(run.cycles.len() as u64)
        ),
        Some(first) => {
            format!("known: {} suppressed as \"{name}\" ({class}): {because}; the first: {first}", findings(*count))
        }
    }
}

/// Reason why the absence of other findings of `class` does not show that the promise was kept;
/// `None`: none of them was suppressed.
pub fn of_class(run: &RunSummary, class: Class) -> Option<String> {
    let seen = run.known.iter().filter(|known| known.class == class && known.count > 0);
    let names: Vec<_> = seen.map(|known| format!("{} as \"{}\"", findings(known.count), known.name)).collect();
    (!names.is_empty()).then(|| format!("known, and suppressed: {}", names.join(", ")))
}

/// The table of all signatures; empty if there are none.
pub fn html(run: &RunSummary) -> String {
    if run.known.is_empty() {
        return String::new();
    }
    let row = |known: &SuppressedRecord| {
        let first = known.first.as_ref().map_or_else(|| "never seen".to_owned(), ToString::to_string);
        format!(
            "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>\n",
            escape(&known.name),
            known.class,
            number(known.count),
            escape(&known.because),
            escape(&first)
        )
    };
    let rows: String = run.known.iter().map(row).collect();
    format!(
        "<table><thead><tr><th>name</th><th>class</th><th>suppressed</th><th>because</th><th>the first</th></tr></thead>\n\
         <tbody>\n{rows}</tbody></table>\n<p class=\"note\">They count for no verdict. A signature that was never seen may be stale.</p>"
    )
}

fn findings(count: u64) -> String {
    format!("{} finding{}", number(count), if count == 1 { "" } else { "s" })
}

fn known_findings(count: u64) -> String {
    format!("{} known finding{}", number(count), if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{html, junit, sample};
    use ninelives_evidence::verdict::Finding;
    use ninelives_evidence::verdict::findings::Replicas;

    /// A pass in which one signature matched three times, and another never.
    fn run() -> RunSummary {
        let mut run = sample::run();
        let record = |name: &str, class, count, first| {
            let because = "fixed in <b>3.5.3</b>".to_owned();
            SuppressedRecord { name: name.to_owned(), class, because, count, first }
        };
        let first = Finding::new(Replicas::FenceNotFound { member: 3, index: 9 }).in_cycle(2).at_member(3);
        run.known = vec![record("etcd#13766", Class::StateHash, 3, Some(first)), record("old", Class::Watch, 0, None)];
        run
    }

    #[test]
    fn what_was_suppressed_and_what_never_came_are_told_apart() {
        let run = run();
        assert_eq!(beside_the_verdict(&run), ", with 3 known findings suppressed");
        assert_eq!(
            lines(&run),
            [
                "known: 3 findings suppressed as \"etcd#13766\" (state-hash): fixed in <b>3.5.3</b>; the first: state-hash, cycle 2, \
                 n3: expected n3 to find the fence at raft index 9, where it was committed; it applied that index, and found another \
                 entry: the logs have diverged",
                "never seen: \"old\" (watch), in 6 cycles: delete it from the scenario once it is stale; fixed in <b>3.5.3</b>"
            ]
        );
        assert_eq!((beside_the_verdict(&sample::run()), lines(&sample::run())), (String::new(), Vec::new()));
    }

    #[test]
    fn a_pass_beside_known_findings_is_not_green_in_their_class() {
        let text = junit::render(&run()).unwrap();
        assert!(
            text.contains("<skipped message=\"known, and suppressed: 3 findings as &quot;etcd#13766&quot;\""),
            "{text}"
        );
        assert_eq!(text.matches("<skipped").count(), 1, "{text}");
        assert!(text.contains("name=\"known-findings-suppressed\" value=\"3\""), "{text}");
        assert!(text.contains("never seen: \"old\" (watch)") || text.contains("never seen: &quot;old&quot;"), "{text}");
    }

    #[test]
    fn the_page_shows_them_beside_the_verdict_and_in_a_table() {
        let page = html::render(&run(), "r");
        assert!(page.contains("No divergence found in 6 cycles, with 3 known findings suppressed."), "{page}");
        assert!(page.contains("Known findings") && page.contains("fixed in &lt;b&gt;3.5.3&lt;/b&gt;"));
        assert!(page.contains("<td>never seen</td>") && page.contains("known findings are not counted"));
        assert!(!html::render(&sample::run(), "r").contains("nown finding"));
    }
}
