//! The knowledge that the leader of a term has of leases running out. Pure: every moment comes from
//! outside.
//!
//! Invariants: a lease that is being revoked has no deadline, and cannot be renewed; all that is
//! known belongs to one term, and is forgotten with it.

use super::deadlines::Deadlines;
use crate::clock::Moment;
use std::collections::BTreeSet;
use std::time::Duration;

/// Outcome of a wish to renew a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    Renewed,
    /// It ran out and its revocation was proposed, or is about to be.
    BeingRevoked,
}

#[derive(Debug, Default)]
pub struct Expiry {
    /// The term that this member leads.
    term: Option<u64>,
    /// The newest term that it ever led.
    newest: u64,
    deadlines: Deadlines,
    revoking: BTreeSet<i64>,
}

impl Expiry {
    pub fn term(&self) -> Option<u64> {
        self.term
    }

    /// True if this member may have begun to lead `term` without having noticed yet.
    pub fn is_news(&self, term: u64) -> bool {
        term > self.newest
    }

    /// A new leader cannot know how much of a lease its predecessor saw pass: every lease starts
    /// over.
    pub fn lead(&mut self, term: u64, leases: impl IntoIterator<Item = (i64, i64)>, now: Moment) {
        self.stand_by();
        (self.term, self.newest) = (Some(term), self.newest.max(term));
        leases.into_iter().for_each(|(id, ttl_seconds)| self.deadlines.renew(id, ttl_seconds, now));
    }

    pub fn stand_by(&mut self) {
        self.term = None;
        self.deadlines.clear();
        self.revoking.clear();
    }

    /// Gives `id` a whole TTL from `now`.
    pub fn renew(&mut self, id: i64, ttl_seconds: i64, now: Moment) -> Renewal {
        if self.revoking.contains(&id) {
            return Renewal::BeingRevoked;
        }
        self.deadlines.renew(id, ttl_seconds, now);
        Renewal::Renewed
    }

    /// `id` exists; `granted`: anew, so that nothing of an earlier lease of that id counts.
    pub fn came(&mut self, id: i64, ttl_seconds: i64, granted: bool, now: Moment) {
        if granted {
            self.revoking.remove(&id);
        }
        let known = self.deadlines.contains(id) || self.revoking.contains(&id);
        if self.term.is_some() && (granted || !known) {
            self.deadlines.renew(id, ttl_seconds, now);
        }
    }

    /// `id` does not exist any more.
    pub fn went(&mut self, id: i64) {
        self.deadlines.forget(id);
        self.revoking.remove(&id);
    }

    /// At most `max` leases that ran out and are not being revoked, the longest overdue first.
    pub fn due(&self, now: Moment, max: usize) -> Vec<i64> {
        self.deadlines.due(now, max)
    }

    /// The next moment at which a lease runs out that is not being revoked.
    pub fn next(&self) -> Option<Moment> {
        self.deadlines.next()
    }

    /// From here on `id` is being revoked; false, if it is not due any more, or `term` is over.
    pub fn begin_revoke(&mut self, term: u64, id: i64, now: Moment) -> bool {
        let due = self.deadlines.remaining(id, now).is_some_and(|left| left.is_zero());
        let begins = self.term == Some(term) && due;
        if begins {
            self.deadlines.forget(id);
            self.revoking.insert(id);
        }
        begins
    }

    /// The revocation of `id` was certainly not proposed in `term`: it may be renewed again, and is
    /// due at `again`.
    pub fn not_revoked(&mut self, term: u64, id: i64, again: Moment) {
        if self.term == Some(term) && self.revoking.remove(&id) {
            self.deadlines.set(id, again);
        }
    }

    pub fn is_being_revoked(&self, id: i64) -> bool {
        self.revoking.contains(&id)
    }

    /// Time that `id` still lives; `None`: nothing is known of it.
    pub fn remaining(&self, id: i64, now: Moment) -> Option<Duration> {
        if self.revoking.contains(&id) { Some(Duration::ZERO) } else { self.deadlines.remaining(id, now) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn what_is_being_revoked_is_not_renewed() {
        let (mut expiry, start) = (Expiry::default(), clock::now());
        expiry.lead(3, [(1, 5)], start);
        assert!(!expiry.begin_revoke(3, 1, start + seconds(4)), "it has a second left");
        assert_eq!(expiry.due(start + seconds(5), 9), [1]);
        assert!(expiry.begin_revoke(3, 1, start + seconds(5)));
        assert_eq!(expiry.renew(1, 5, start + seconds(6)), Renewal::BeingRevoked);
        assert_eq!(expiry.remaining(1, start), Some(Duration::ZERO));
        assert_eq!((expiry.due(start + seconds(99), 9), expiry.next()), (Vec::new(), None), "it is revoked once");
        expiry.not_revoked(3, 1, start + seconds(8));
        assert_eq!(expiry.renew(1, 5, start + seconds(7)), Renewal::Renewed);
        assert_eq!(expiry.next(), Some(start + seconds(12)));
    }

    #[test]
    fn a_renewal_that_comes_first_prevents_the_revocation() {
        let (mut expiry, start) = (Expiry::default(), clock::now());
        expiry.lead(3, [(1, 5)], start);
        assert_eq!(expiry.due(start + seconds(5), 9), [1], "a revocation is decided on");
        assert_eq!(expiry.renew(1, 5, start + seconds(5)), Renewal::Renewed);
        assert!(!expiry.begin_revoke(3, 1, start + seconds(6)), "and does not begin");
    }

    #[test]
    fn nothing_outlives_its_term() {
        let (mut expiry, start) = (Expiry::default(), clock::now());
        expiry.lead(3, [(1, 5), (2, 5)], start);
        assert!(expiry.begin_revoke(3, 1, start + seconds(5)));
        expiry.stand_by();
        assert_eq!((expiry.due(start + seconds(99), 9), expiry.is_being_revoked(1)), (Vec::new(), false));
        assert!(!expiry.is_news(3) && expiry.is_news(4));
        expiry.lead(5, [(1, 5), (2, 5)], start + seconds(10));
        assert!(!expiry.begin_revoke(3, 1, start + seconds(99)), "decided on in an earlier term");
        expiry.not_revoked(3, 1, start);
        assert_eq!(expiry.next(), Some(start + seconds(15)), "every lease starts over");
    }

    #[test]
    fn a_lease_that_is_granted_again_is_another_one() {
        let (mut expiry, start) = (Expiry::default(), clock::now());
        expiry.lead(3, [(1, 5)], start);
        assert!(expiry.begin_revoke(3, 1, start + seconds(5)));
        expiry.came(1, 5, false, start + seconds(5));
        assert!(expiry.is_being_revoked(1), "a word that it exists changes nothing");
        expiry.came(1, 7, true, start + seconds(6));
        assert_eq!(expiry.renew(1, 7, start + seconds(6)), Renewal::Renewed);
        expiry.went(1);
        assert_eq!((expiry.next(), expiry.remaining(1, start)), (None, None));
        expiry.stand_by();
        expiry.came(1, 5, true, start);
        assert_eq!(expiry.next(), None, "not the leader's");
    }
}
