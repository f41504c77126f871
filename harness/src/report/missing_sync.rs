//! The missing sync behind a finding, and the crash states that were explored, for human readers.

use super::text::{escape, number};
use ninelives_evidence::record::RunSummary;
use ninelives_evidence::record::explored::ExploredRecord;
use ninelives_evidence::record::missing_sync::MissingSync;

/// Some lines, each with its line break; the first one is the heading.
pub fn text(found: &MissingSync) -> String {
    let mut out = format!("which sync is missing ({}):\n", about(found));
    for sentence in found.sentences() {
        out.push_str(&format!("  {sentence}\n"));
    }
    for unknown in &found.unknown {
        out.push_str(&format!("  not known: {unknown}\n"));
    }
    out
}

/// The section's content.
pub(super) fn html(found: &MissingSync) -> String {
    let sentences: String =
        found.sentences().iter().map(|sentence| format!("<p>{}.</p>\n", escape(&capital(sentence)))).collect();
    let unknown: String =
        found.unknown.iter().map(|why| format!("<p class=\"note\">Not known: {}.</p>\n", escape(why))).collect();
    format!("<article class=\"finding tone-bad\"><h3>{}</h3>\n{sentences}{unknown}</article>\n", escape(&about(found)))
}

/// The sum of the explored crash states, as a sentence; `None`: the run explored none.
pub fn explored(run: &RunSummary) -> Option<String> {
    let all = || run.cycles.iter().flat_map(|cycle| &cycle.kills.explored);
    let (states, per_minute) = ExploredRecord::per_minute(all())?;
    let (states, instants, per_minute) = (number(states), all().count(), number(per_minute));
    let equal = number(all().map(|one| one.equal).sum());
    let place = if all().all(|one| one.in_memory) { "in memory" } else { "on a disk" };
    Some(format!(
        "explored: {states} distinct crash states of {instants} cuts, each recovered alone {place}, {per_minute} a minute; {equal} \
         more equalled one of them"
    ))
}

fn about(found: &MissingSync) -> String {
    let cycle = found.cycle.map_or_else(String::new, |cycle| format!(", cycle {cycle}"));
    let cluster = found.cluster.map_or_else(String::new, |cluster| format!(", cluster {cluster}"));
    let member = found.member.map_or_else(String::new, |member| format!(", n{member}"));
    format!("{}{cycle}{cluster}{member}", found.class)
}

fn capital(sentence: &str) -> String {
    let mut chars = sentence.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;
    use ninelives_evidence::power::{Lost, LostName, NameChange, Names};
    use ninelives_evidence::verdict::Class;

    fn found() -> MissingSync {
        let creation = LostName {
            operation: 812,
            change: NameChange::Creation,
            path: "member/<b>".into(),
            from: None,
            synced: Some(805),
        };
        MissingSync {
            class: Class::PurgedAboveN,
            cycle: Some(12),
            cluster: None,
            member: Some(2),
            names: Some(Names::Journal),
            lost: Lost { operations: 870, names: vec![creation], files: Vec::new() },
            of: 57,
            tried: 14,
            smallest: true,
            unknown: vec!["a <i>question</i>".to_owned()],
        }
    }

    #[test]
    fn a_conclusion_and_its_limits_are_shown() {
        let text = text(&found());
        assert!(
            text.starts_with("which sync is missing (purged-above-n, cycle 12, n2):\n  the creation of "),
            "{text}"
        );
        assert!(text.ends_with("  not known: a <i>question</i>\n"), "{text}");
    }

    #[test]
    fn words_from_outside_stay_words() {
        let page = html(&found());
        assert!(page.contains("<p>The creation of member/&lt;b&gt;, operation 812, was lost"), "{page}");
        assert!(page.contains("a &lt;i&gt;question&lt;/i&gt;") && !page.contains("<b>"), "{page}");
    }

    #[test]
    fn states_per_minute_are_those_of_the_time_that_exploring_took() {
        let mut run = sample::run();
        assert_eq!(explored(&run), None);
        let one =
            ExploredRecord { member: 2, operations: 9, states: 100, equal: 7, elapsed_ms: 30_000, in_memory: true };
        run.cycles[0].kills.explored = vec![one];
        run.cycles[1].kills.explored = vec![ExploredRecord { states: 1_400, elapsed_ms: 60_000, ..one }];
        let line = explored(&run).unwrap();
        assert!(
            line.starts_with(
                "explored: 1,500 distinct crash states of 2 cuts, each recovered alone in memory, 1,000 a minute; 14"
            ),
            "{line}"
        );
    }
}
