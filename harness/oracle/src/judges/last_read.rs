//! Promise: read in full at the end (or when a digest is wrong, to name the rows), a member's keys
//! are the model's, no fewer and no more.

use super::ledger::Books;
use super::reads::compare_rows;
use ninelives_evidence::operation::{KeyState, Keys};
use ninelives_evidence::verdict::Finding;
use ninelives_evidence::verdict::findings::Answers;
use ninelives_evidence::verdict::findings::parts::Reader;

/// Compares `rows`, every key of `member` at `revision` in ascending order, with the model.
///
/// A key that is missing or older than the history has it is a lost write: whatever a watch
/// delivered was committed. A key that is newer, or that no revision holds, is a phantom.
pub(super) fn check_last_read(books: &Books, member: u64, revision: u64, rows: &[KeyState]) -> Vec<Finding> {
    let model = &books.model;
    if revision > model.revision() || revision < model.compacted() {
        let what = Answers::FullReadUnjudged { revision, oldest: model.compacted(), newest: model.revision() };
        return vec![Finding::new(what).at_member(member)];
    }
    let all = Keys { from: String::new(), to: Some("\u{10ffff}".to_owned()) };
    let broken = compare_rows(model, &all, revision, rows, || Reader::FullRead { revision });
    broken.map(|broken| broken.at_member(member)).into_iter().collect()
}
