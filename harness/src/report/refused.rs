//! Refused operations, wherever a report is read: a load that was refused never happened.

use super::text::{escape, number};
use ninelives_evidence::record::RunSummary;
use ninelives_evidence::record::operations::{StepRecord, all};

/// Kinds of operations that the terminal names; `verdict.json` and `report.html` have them all.
const NAMED_MAX: usize = 5;

/// A line for the terminal, or none: `refused: 2,743 of 6,415 operations; block txn 2,743 of 2,743
/// (InvalidArgument: …)`.
pub fn line(run: &RunSummary) -> Option<String> {
    let sum = all(&run.load.operations);
    if sum.refused + sum.expected == 0 {
        return None;
    }
    if sum.refused == 0 {
        let (expected, sent) = (number(sum.expected), number(sum.sent()));
        return Some(format!("refused: {expected} of {sent} operations, all as the load expects"));
    }
    let mut worst: Vec<&StepRecord> = run.load.operations.iter().filter(|record| record.refused > 0).collect();
    worst.sort_by_key(|record| std::cmp::Reverse(record.refused));
    let more = worst.len().saturating_sub(NAMED_MAX);
    let mut words = vec![format!("refused: {} of {} operations", number(sum.refused), number(sum.sent()))];
    words.extend(worst.iter().take(NAMED_MAX).map(|record| {
        format!("{} {} of {} ({})", record.title(), number(record.refused), number(record.sent()), reasons(record))
    }));
    if more > 0 {
        words.push(format!("{more} more kinds"));
    }
    if sum.expected > 0 {
        words.push(format!("and {} as the load expects", number(sum.expected)));
    }
    Some(words.join("; "))
}

/// The reasons of `record`, the most frequent one first.
pub fn reasons(record: &StepRecord) -> String {
    let mut reasons: Vec<_> = record.reasons.iter().collect();
    reasons.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    match reasons.as_slice() {
        [(only, _)] => (*only).clone(),
        all => {
            all.iter().map(|(reason, count)| format!("{} × {reason}", number(**count))).collect::<Vec<_>>().join(", ")
        }
    }
}

/// A table of all kinds of operations; empty: nothing was refused.
pub fn html(run: &RunSummary) -> String {
    let sum = all(&run.load.operations);
    if sum.refused + sum.expected == 0 {
        return String::new();
    }
    let row = |record: &StepRecord| {
        let numbers = [record.done, record.refused, record.expected, record.unknown, record.not_sent];
        let cells = numbers.map(|value| format!("<td class=\"n\">{}</td>", number(value))).concat();
        format!(
            "<tr><th scope=\"row\">{}</th>{cells}<td>{}</td></tr>\n",
            escape(&record.title()),
            escape(&reasons(record))
        )
    };
    let rows: String = run.load.operations.iter().chain([&sum]).map(row).collect();
    format!(
        "<p class=\"lead\">A refused operation is not in any member's hands when one dies. Expected: the load asks for requests \
         that have to be refused, or that others may have overtaken.</p><div class=\"scroll\"><table><thead><tr>\
         <th scope=\"col\">step and operation</th><th scope=\"col\" class=\"n\">carried out</th><th scope=\"col\" class=\"n\">refused</th>\
         <th scope=\"col\" class=\"n\">expected</th><th scope=\"col\" class=\"n\">no answer</th><th scope=\"col\" class=\"n\">not sent</th>\
         <th scope=\"col\">why</th></tr></thead><tbody>{rows}</tbody></table></div>"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn refusals_are_named_with_their_reason_wherever_there_are_any() {
        let mut run = sample::run();
        assert!(line(&run).is_none() && html(&run).is_empty());
        let why = "InvalidArgument: etcdserver: too many <operations>";
        run.load.operations = vec![
            StepRecord {
                step: "block".to_owned(),
                action: "txn".to_owned(),
                refused: 2_743,
                reasons: [(why.to_owned(), 2_743)].into(),
                ..StepRecord::default()
            },
            StepRecord { step: "read".to_owned(), action: "read".to_owned(), done: 3_672, ..StepRecord::default() },
        ];
        let said = line(&run).unwrap();
        assert_eq!(said, format!("refused: 2,743 of 6,415 operations; block txn 2,743 of 2,743 ({why})"));
        run.load.operations[0].expected = 3;
        assert!(line(&run).unwrap().ends_with("; and 3 as the load expects"));
        let page = html(&run);
        assert!(page.contains(">block txn</th>") && page.contains("too many &lt;operations&gt;"), "{page}");
        assert!(page.contains(">all operations</th>"), "{page}");
        run.load.operations[0].refused = 0;
        assert_eq!(line(&run).unwrap(), "refused: 3 of 3,675 operations, all as the load expects");
    }
}
