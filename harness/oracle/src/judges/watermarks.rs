//! Promise: within one life of a member, by its own account,
//!
//! ```text
//!   purged ≤ persisted N ≤ flushed ≤ applied ≤ committed        log durable ≤ log last
//! ```
//!
//! and neither a watermark nor the revision nor the term ever goes back. (A log that is cut where a
//! new leader has other entries loses entries that were never committed: its ends may go back.) The
//! log is read after the watermarks, so the purged index is compared with the N of a later reading.
//!
//! A member asserts the middle of the chain itself at every move; this judge looks at the same
//! figures from outside. Readings of one life are compared in the order in which they were *asked
//! for*: a reading is older than another only if it was answered before the other was asked for
//! ([`Reading::after`]). Absent counts as below the first index.

use super::Alarms;
use ninelives_evidence::Reading;
use ninelives_evidence::verdict::Finding;
use ninelives_evidence::verdict::findings::Watermarks as Broken;
use ninelives_evidence::verdict::findings::parts::Watermark;
use std::collections::VecDeque;

/// The watermarks that never go back, beside the term.
fn ascending(reading: &Reading) -> [(Watermark, u64); 7] {
    [
        (Watermark::Purged, reading.purged),
        (Watermark::Persisted, reading.persisted),
        (Watermark::Flushed, reading.flushed),
        (Watermark::Applied, reading.applied),
        (Watermark::Committed, reading.committed),
        (Watermark::Revision, reading.revision),
        (Watermark::CompactRevision, reading.compacted),
    ]
}

/// Pairs that must be in this order, beside persisted and flushed.
fn order(reading: &Reading) -> [((Watermark, u64), (Watermark, u64)); 3] {
    [
        ((Watermark::Flushed, reading.flushed), (Watermark::Applied, reading.applied)),
        ((Watermark::Applied, reading.applied), (Watermark::Committed, reading.committed)),
        ((Watermark::LogDurable, reading.log_durable), (Watermark::LogLast, reading.log_last)),
    ]
}

/// The greater of each watermark that never goes back.
fn at_least(reading: Reading, other: &Reading) -> Reading {
    Reading {
        term: reading.term.max(other.term),
        purged: reading.purged.max(other.purged),
        persisted: reading.persisted.max(other.persisted),
        flushed: reading.flushed.max(other.flushed),
        applied: reading.applied.max(other.applied),
        committed: reading.committed.max(other.committed),
        revision: reading.revision.max(other.revision),
        compacted: reading.compacted.max(other.compacted),
        ..*other
    }
}

/// Readings that one may have been asked before: few requests are ever under way at once.
const OVERLAP_MAX: usize = 64;

/// One member's readings.
#[derive(Debug, Default)]
pub(super) struct WatermarkJudge {
    life: u64,
    answered: u64,
    /// The newest readings of this life, in the order of their answers.
    recent: VecDeque<Reading>,
    /// The floor that all earlier readings set.
    floor: Option<Reading>,
}

impl WatermarkJudge {
    pub fn reading(&mut self, reading: &Reading) -> Alarms {
        if reading.life != self.life {
            *self = Self { life: reading.life, ..Self::default() };
        }
        let mut alarms = Alarms::new();
        let (persisted, flushed) = (reading.persisted, reading.flushed);
        if persisted > flushed {
            alarms.push(Finding::new(Broken::PersistedAboveFlushed { persisted, flushed }));
        }
        for ((lower, low), (upper, high)) in order(reading) {
            if low > high {
                alarms.push(Finding::new(Broken::MarksOutOfOrder { lower, low, upper, high }));
            }
        }
        // Answered before this one was asked: everything but the newest ones.
        let older = self
            .recent
            .len()
            .saturating_sub(usize::try_from(self.answered - reading.after.min(self.answered)).unwrap_or(0));
        let before = self.floor.iter().chain(self.recent.iter().take(older));
        let before = before.fold(Reading::default(), at_least);
        if before.purged > persisted {
            alarms.push(Finding::new(Broken::PurgedAboveLaterN { purged: before.purged, persisted }));
        }
        if reading.term < before.term {
            alarms.push(Finding::new(Broken::TermWentBack { was: before.term, is: reading.term }));
        }
        for ((mark, was), (_, is)) in ascending(&before).into_iter().zip(ascending(reading)) {
            if is < was {
                alarms.push(Finding::new(Broken::MarkWentBack { mark, was, is }));
            }
        }
        self.answered += 1;
        self.recent.push_back(*reading);
        if self.recent.len() > OVERLAP_MAX
            && let Some(oldest) = self.recent.pop_front()
        {
            self.floor = Some(self.floor.map_or(oldest, |floor| at_least(floor, &oldest)));
        }
        alarms
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ninelives_evidence::verdict::Class;

    fn sound() -> Reading {
        Reading {
            life: 1,
            term: 3,
            purged: 10,
            persisted: 20,
            flushed: 30,
            applied: 40,
            committed: 50,
            log_durable: 50,
            log_last: 60,
            revision: 35,
            compacted: 5,
            ..Reading::default()
        }
    }

    fn classes(readings: &[Reading]) -> Vec<Class> {
        let mut book = WatermarkJudge::default();
        readings.iter().flat_map(|one| book.reading(one)).map(|alarm| alarm.class()).collect()
    }

    #[test]
    fn marks_stand_in_their_order() {
        assert_eq!(classes(&[sound(), Reading::default()]), [], "nothing is in order as well, in another life");
        let one = |alter: &dyn Fn(&mut Reading)| {
            let mut reading = sound();
            alter(&mut reading);
            classes(&[reading])
        };
        assert_eq!(one(&|r| r.persisted = 31), [Class::IndexAheadOfEngine]);
        assert_eq!(one(&|r| r.flushed = 41), [Class::Watermarks]);
        assert_eq!(one(&|r| r.committed = 39), [Class::Watermarks]);
        assert_eq!(one(&|r| r.log_durable = 61), [Class::Watermarks]);
    }

    #[test]
    fn within_a_life_no_mark_goes_back() {
        let two = |alter: &dyn Fn(&mut Reading)| {
            let mut second = Reading { after: 1, ..sound() };
            alter(&mut second);
            classes(&[sound(), second])
        };
        assert_eq!(two(&|_| {}), []);
        assert_eq!(classes(&[Reading { purged: 21, ..sound() }]), [], "N may have moved in between");
        let purged = [Reading { purged: 21, ..sound() }, Reading { purged: 21, after: 1, ..sound() }];
        assert_eq!(classes(&purged), [Class::PurgedAboveN]);
        assert_eq!(two(&|r| r.applied = 39), [Class::Watermarks]);
        assert_eq!(two(&|r| r.committed = 45), [Class::Watermarks]);
        assert_eq!(two(&|r| r.persisted = 19), [Class::Watermarks]);
        assert_eq!(two(&|r| r.revision = 34), [Class::Watermarks]);
        assert_eq!(two(&|r| r.term = 2), [Class::VoteWentBack]);
        assert_eq!(two(&|r| r.log_last = 55), [], "a tail that was never committed may be cut");
        assert_eq!(two(&|r| (r.life, r.after, r.applied, r.committed) = (2, 0, 30, 30)), [], "another life");
    }

    #[test]
    fn readings_that_were_under_way_at_once_have_no_order() {
        let late = Reading { after: 0, applied: 35, ..sound() };
        assert_eq!(classes(&[sound(), late]), [], "asked before the first was answered");
        assert_eq!(classes(&[sound(), late, Reading { after: 2, ..late }]), [Class::Watermarks]);
    }

    #[test]
    fn a_line_of_the_history_reads_back() {
        let text = serde_json::to_string(&sound()).unwrap();
        assert_eq!(text, "[1,0,3,0,10,20,30,40,50,50,60,35,5]");
        assert_eq!(serde_json::from_str::<Reading>(&text).unwrap(), sound());
    }

    #[test]
    fn what_was_forgotten_still_counts() {
        let mut book = WatermarkJudge::default();
        for after in 0..1_000 {
            assert_eq!(book.reading(&Reading { after, applied: if after == 0 { 45 } else { 46 }, ..sound() }), []);
        }
        assert!(book.recent.len() <= OVERLAP_MAX);
        assert_eq!(book.reading(&Reading { after: 1_000, ..sound() }).len(), 1);
    }
}
