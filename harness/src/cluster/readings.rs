//! Readings that a member gives of itself, kept until a cycle judges them: every answer with its
//! watermarks, to any task that asked. Their number is bounded: newer readings replace those that
//! are not taken.

use crate::contact::Standing;
use ninelives_evidence::Reading;
use ninelives_evidence::limits;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[derive(Debug, Default)]
struct Taken {
    life: u64,
    answered: u64,
    kept: VecDeque<Reading>,
}

/// Shared by all tasks that ask one member.
#[derive(Debug, Clone, Default)]
pub struct Readings(Arc<Mutex<Taken>>);

/// A question to one life, before its answer.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    life: u64,
    after: u64,
}

impl Readings {
    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a life: its readings have nothing to do with earlier ones.
    pub fn begin(&self, life: u64) {
        let mut taken = self.lock();
        (taken.life, taken.answered) = (life, 0);
    }

    /// Notes which answers came before a question that the caller is about to send.
    pub fn ask(&self) -> Asked {
        let taken = self.lock();
        Asked { life: taken.life, after: taken.answered }
    }

    /// Keeps the answer to a question.
    pub fn answered(&self, asked: Asked, status: &Standing) {
        let mut taken = self.lock();
        // An answer from the life before, which was read late.
        if asked.life != taken.life {
            return;
        }
        taken.answered += 1;
        taken.kept.push_back(reading(status, asked));
        if taken.kept.len() > limits::READINGS_MAX {
            taken.kept.pop_front();
        }
    }

    /// Takes the readings that were kept since the last call.
    pub fn take(&self) -> Vec<Reading> {
        self.lock().kept.drain(..).collect()
    }
}

/// The reading in `status`, as evidence. Indexes become counts of entries.
fn reading(status: &Standing, asked: Asked) -> Reading {
    let entries = |index: Option<u64>| index.map_or(0, |index| index + 1);
    let number = |number: i64| u64::try_from(number).unwrap_or(0);
    Reading {
        life: asked.life,
        after: asked.after,
        term: status.term,
        leader: status.leader_id,
        purged: entries(status.last_purged),
        persisted: entries(status.persisted),
        flushed: entries(status.flushed),
        applied: entries(status.applied),
        committed: entries(status.committed),
        log_durable: entries(status.log_durable),
        log_last: entries(status.log_last),
        revision: number(status.revision),
        compacted: number(status.compact_revision),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_knows_its_life_and_what_was_answered_before_it_was_asked() {
        let (readings, status) = (Readings::default(), Standing { applied: Some(7), ..Standing::default() });
        readings.begin(1);
        let (first, second) = (readings.ask(), readings.ask());
        readings.answered(first, &status);
        readings.answered(second, &status);
        readings.answered(readings.ask(), &status);
        let taken = readings.take();
        assert_eq!(
            taken.iter().map(|one| (one.life, one.after, one.applied)).collect::<Vec<_>>(),
            [(1, 0, 8), (1, 0, 8), (1, 2, 8)]
        );
        let late = readings.ask();
        readings.begin(2);
        readings.answered(late, &status);
        assert!(readings.take().is_empty(), "an answer of the life before");
    }

    #[test]
    fn untaken_readings_are_bounded() {
        let readings = Readings::default();
        (0..3 * limits::READINGS_MAX).for_each(|_| readings.answered(readings.ask(), &Standing::default()));
        assert_eq!(readings.take().len(), limits::READINGS_MAX);
    }
}
