//! The way of evidence into the history, and from there to the judges.
//!
//! Clients do not wait for the judges: what they asked and were answered is written down under a
//! lock of its own, and put in a queue in the same order. A holder of the books judges the queue
//! before it looks at them or records anything else. So evidence is judged in the order in which it
//! is written down, and a look at the books shows everything that was recorded before it.

use super::Books;
use ninelives_evidence::Evidence;
use ninelives_evidence::history::{History, Text};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Pieces that wait for the judges before those who record wait as well: some milliseconds of a
/// load at its fastest, a few megabytes.
pub(super) const WAITING_MAX: usize = 4096;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Recorder {
    history: Arc<History>,
    queue: Mutex<Queue>,
}

/// Pieces that were written down and not yet judged, each with the moment at which it was recorded.
#[derive(Debug, Default)]
struct Queue {
    waiting: Vec<(u64, Evidence)>,
    /// The last piece of evidence was written down.
    ended: bool,
}

impl Recorder {
    pub fn new(history: Arc<History>) -> Self {
        Self { history, queue: Mutex::default() }
    }

    /// Writes `evidence` down, to be judged. Returns how many pieces wait for that.
    pub fn record(&self, evidence: Evidence) -> usize {
        let text = Text::of(&evidence);
        let mut queue = self.queue();
        self.write(&mut queue, &text, evidence);
        queue.waiting.len()
    }

    /// Judges what waits, writes `evidence` down behind it, and judges it.
    pub fn record_in_turn(&self, books: &mut Books, evidence: Evidence) {
        let text = Text::of(&evidence);
        loop {
            let mut queue = self.queue();
            if queue.waiting.is_empty() {
                self.write(&mut queue, &text, evidence);
                break;
            }
            let waiting = std::mem::take(&mut queue.waiting);
            drop(queue);
            books.judge_all(waiting);
        }
        self.judge(books);
    }

    /// Judges all that waits, and what is recorded meanwhile.
    pub fn judge(&self, books: &mut Books) {
        while self.judge_some(books) {}
    }

    /// Judges what waits now; false: nothing does.
    pub fn judge_some(&self, books: &mut Books) -> bool {
        let waiting = std::mem::take(&mut self.queue().waiting);
        let some = !waiting.is_empty();
        books.judge_all(waiting);
        some
    }

    /// Writes the lines down that wait for an announcement.
    pub fn flush(&self) {
        self.history.flush();
    }

    /// Nothing is recorded after the end, until the run is resumed.
    fn write(&self, queue: &mut Queue, text: &Text, evidence: Evidence) {
        if queue.ended && !matches!(evidence, Evidence::Resumed { .. }) {
            return;
        }
        queue.ended = matches!(evidence, Evidence::End(_));
        let at_us = self.history.now_us();
        self.history.append(at_us, text);
        queue.waiting.push((at_us, evidence));
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use crate::fold::Fold;
    use crate::judges::Ledger;
    use ninelives_evidence::history::History;
    use ninelives_evidence::member::Slot;
    use ninelives_evidence::operation::{Action, Expected, OpId, Outcome, Purpose, Reply};
    use ninelives_evidence::signature::Signature;
    use ninelives_evidence::verdict::Class;
    use ninelives_evidence::{End, Evidence, HISTORY_VERSION, Head};
    use std::path::PathBuf;
    use std::sync::Arc;
    use std::thread;

    fn recorded() -> (tempfile::TempDir, PathBuf, Arc<Ledger>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history.jsonl");
        let ledger = Ledger::recorded(&[Slot(1)], History::create(&path).unwrap());
        (dir, path, ledger)
    }

    /// A put that is answered as a grant.
    fn answered_strangely(ledger: &Ledger, op: OpId) {
        let action = Action::Put { key: "p/1".into(), value: format!("x,{op}"), lease: 0 };
        ledger.ask(op, 0, action, Purpose { step: "put".into(), refusal: Expected::Never });
        ledger.complete(op, &Outcome::Done { revision: 1, term: 1, reply: Reply::Granted });
    }

    #[test]
    fn clients_go_on_while_others_are_judged_and_are_judged_before_anyone_looks() {
        let (_dir, _, ledger) = recorded();
        let judging = ledger.unjudged();
        // It ends while the books are held, or never.
        thread::scope(|scope| {
            let client = scope.spawn(|| answered_strangely(&ledger, OpId { client: 1, seq: 1 }));
            client.join().unwrap();
        });
        assert_eq!(judging.tally.acked_writes, 0);
        drop(judging);
        assert_eq!(ledger.tally().acked_writes, 1);
        assert_eq!(ledger.drain().len(), 1);
    }

    /// Known findings are written down while others record, and nothing behind the end.
    #[test]
    fn what_many_record_at_once_is_judged_in_the_order_of_the_history() {
        let (_dir, path, ledger) = recorded();
        let known = [Signature::of("odd answers", Class::Model)];
        ledger.know(&known);
        ledger.record(&Evidence::History(Head {
            version: HISTORY_VERSION,
            cluster: 1,
            slots: vec![Slot(1)],
            scenario_digest: String::new(),
            plan_digest: String::new(),
            seed: 1,
            job: None,
        }));
        thread::scope(|scope| {
            for client in 0..4 {
                let ledger = &ledger;
                scope.spawn(move || (0..200).for_each(|seq| answered_strangely(ledger, OpId { client, seq })));
            }
            for cycle in 1..=50 {
                ledger.record(&Evidence::Baseline { cycle });
                assert_eq!(ledger.drain(), []);
            }
            ledger.record(&Evidence::End(End::default()));
        });
        let mut fold = Fold::open(&path, &known).unwrap();
        let mut last = None;
        while let Some((_, evidence)) = fold.step().unwrap() {
            last = Some(evidence);
        }
        assert_eq!(last, Some(Evidence::End(End::default())));
        assert_eq!(fold.ledger().sums(1, None), ledger.sums(1, None));
    }
}
