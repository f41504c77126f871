//! Deadlines of leases, on the member that leads.

use crate::clock::Moment;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Deadlines by lease and by time. Invariant: both hold the same pairs.
#[derive(Debug, Default)]
pub struct Deadlines {
    by_id: BTreeMap<i64, Moment>,
    by_time: BTreeSet<(Moment, i64)>,
}

impl Deadlines {
    /// Sets or moves the deadline of `id` to a whole TTL from `now`.
    pub fn renew(&mut self, id: i64, ttl_seconds: i64, now: Moment) {
        let ttl = Duration::from_secs(u64::try_from(ttl_seconds).unwrap_or(0));
        self.set(id, now + ttl);
    }

    pub fn set(&mut self, id: i64, deadline: Moment) {
        self.forget(id);
        self.by_id.insert(id, deadline);
        self.by_time.insert((deadline, id));
    }

    pub fn forget(&mut self, id: i64) {
        if let Some(deadline) = self.by_id.remove(&id) {
            self.by_time.remove(&(deadline, id));
        }
    }

    pub fn clear(&mut self) {
        *self = Self::default();
    }

    pub fn contains(&self, id: i64) -> bool {
        self.by_id.contains_key(&id)
    }

    pub fn remaining(&self, id: i64, now: Moment) -> Option<Duration> {
        self.by_id.get(&id).map(|deadline| deadline.saturating_duration_since(now))
    }

    pub fn next(&self) -> Option<Moment> {
        self.by_time.first().map(|(deadline, _)| *deadline)
    }

    /// At most `max` leases whose deadline has come, the longest overdue first.
    pub fn due(&self, now: Moment, max: usize) -> Vec<i64> {
        self.by_time.iter().take_while(|(deadline, _)| *deadline <= now).take(max).map(|(_, id)| *id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn a_renewed_lease_is_due_later_and_once() {
        let now = clock::now();
        let second = Duration::from_secs(1);
        let mut deadlines = Deadlines::default();
        deadlines.renew(1, 1, now);
        deadlines.renew(2, 2, now);
        deadlines.renew(1, 3, now);
        assert!(deadlines.due(now + second, 9).is_empty());
        assert_eq!(deadlines.due(now + 2 * second, 9), [2]);
        assert_eq!(deadlines.due(now + 3 * second, 9), [2, 1]);
        deadlines.forget(2);
        assert_eq!(deadlines.next(), Some(now + 3 * second));
        assert_eq!(deadlines.remaining(1, now + 9 * second), Some(Duration::ZERO));
    }
}
