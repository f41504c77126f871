//! Promise: a lease whose grant was acknowledged before a fence is in every replica's list at the
//! fence, with its TTL, unless its revocation was sent; a lease whose revocation was acknowledged
//! before is not; and the lists hold no lease that no client granted.
//!
//! Leases have no revision: at a fence only those facts are certain that were acknowledged before
//! the fence was proposed ([`LeaseBaseline`]). Most leases live so long that they do not expire in
//! a run. A lease of seconds may be gone at any time, as if its revocation had been sent and never
//! answered (`lease_clock` judges when).

use super::Alarms;
use super::lease_clock::is_short;
use ninelives_evidence::verdict::Finding;
use ninelives_evidence::verdict::findings::Leases as Broken;
use ninelives_evidence::verdict::findings::parts::Anchor;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Default)]
struct Lease {
    ttl_seconds: i64,
    granted: bool,
    /// A revocation was sent, and is not certainly without effect.
    revoke_sent: bool,
    /// A revocation was sent whose answer never came.
    revoke_unknown: bool,
    revoked: bool,
}

/// Facts about leases that are certain at any fence that is proposed from here on.
#[derive(Debug, Clone, Default)]
pub(super) struct LeaseBaseline {
    present: Vec<i64>,
    absent: BTreeSet<i64>,
}

#[derive(Debug, Default)]
pub(super) struct LeaseBook {
    leases: BTreeMap<i64, Lease>,
}

impl LeaseBook {
    pub fn grant_sent(&mut self, lease: i64, ttl_seconds: i64) {
        let uncertain = is_short(ttl_seconds);
        let entry = Lease { ttl_seconds, revoke_sent: uncertain, revoke_unknown: uncertain, ..Lease::default() };
        self.leases.insert(lease, entry);
    }

    /// It was seen to end by itself.
    pub fn expired(&mut self, lease: i64) {
        self.revoked(lease);
    }

    pub fn granted(&mut self, lease: i64) {
        if let Some(lease) = self.leases.get_mut(&lease) {
            lease.granted = true;
        }
    }

    pub fn grant_refused(&mut self, lease: i64) {
        self.leases.remove(&lease);
    }

    pub fn revoke_sent(&mut self, lease: i64) {
        if let Some(lease) = self.leases.get_mut(&lease) {
            lease.revoke_sent = true;
        }
    }

    pub fn revoked(&mut self, lease: i64) {
        if let Some(lease) = self.leases.get_mut(&lease) {
            lease.revoked = true;
        }
    }

    /// The revocation's answer never came: the next one may find nothing.
    pub fn revoke_unknown(&mut self, lease: i64) {
        if let Some(lease) = self.leases.get_mut(&lease) {
            lease.revoke_unknown = true;
        }
    }

    /// The revocation was refused. Of a lease that was granted and never revoked, "not found" means
    /// that it is lost.
    pub fn revoke_refused(&mut self, id: i64, why: &str, alarms: &mut Alarms) {
        let Some(lease) = self.leases.get_mut(&id) else { return };
        let not_found = lease.granted && why.contains("not found");
        match (not_found, lease.revoke_unknown) {
            (true, true) => lease.revoked = true,
            (true, false) => {
                let (lease, answer) = (id, why.to_owned());
                alarms.push(Finding::new(Broken::RevocationRefused { lease, answer }));
                self.leases.remove(&id);
            }
            (false, uncertain) => lease.revoke_sent = uncertain,
        }
    }

    /// The cluster was restored from a snapshot that was asked for when `saved` was taken. Facts
    /// that were certain then are still certain, unless a revocation was sent since; the first list
    /// settles whether the snapshot holds the other leases.
    pub fn restored(&mut self, saved: &LeaseBaseline) {
        for (id, lease) in &mut self.leases {
            let present = saved.present.contains(id) && !lease.revoke_sent;
            let absent = saved.absent.contains(id);
            (lease.granted, lease.revoked) = (present || absent, absent);
            (lease.revoke_sent, lease.revoke_unknown) = (!present, !present && !absent);
        }
    }

    /// The baseline for a fence. The caller takes it before it proposes the fence.
    pub fn baseline(&self) -> LeaseBaseline {
        let of = |keep: fn(&Lease) -> bool| self.leases.iter().filter(move |(_, l)| keep(l)).map(|(id, _)| *id);
        LeaseBaseline { present: of(|l| l.granted && !l.revoke_sent).collect(), absent: of(|l| l.revoked).collect() }
    }

    /// Judges a list (id, granted TTL in seconds if it is known) that was made at the fence `at`,
    /// after `baseline` was taken.
    pub fn judge(&self, baseline: &LeaseBaseline, at: Anchor, list: &[(i64, Option<i64>)], alarms: &mut Alarms) {
        let listed: BTreeMap<i64, Option<i64>> = list.iter().copied().collect();
        for id in baseline.present.iter().filter(|id| !listed.contains_key(id)) {
            if self.leases.get(id).is_some_and(|lease| !lease.revoke_sent) {
                alarms.push(Finding::new(Broken::LeaseGone { at, lease: *id }));
            }
        }
        for (id, ttl) in listed {
            let wrong = match (self.leases.get(&id), ttl) {
                _ if baseline.absent.contains(&id) => Some(Broken::LeaseStillThere { at, lease: id }),
                (None, _) => Some(Broken::LeaseUnasked { at, lease: id }),
                (Some(lease), Some(ttl_seconds)) if ttl_seconds != lease.ttl_seconds => {
                    let asked_seconds = lease.ttl_seconds;
                    Some(Broken::LeaseOfAnotherTime { at, lease: id, ttl_seconds, asked_seconds })
                }
                (Some(_), _) => None,
            };
            alarms.extend(wrong.map(Finding::new));
        }
    }

    /// Forgets the leases that were certainly over when `baseline` was taken: every list since has
    /// been judged.
    pub fn forget(&mut self, baseline: &LeaseBaseline) {
        for id in &baseline.absent {
            self.leases.remove(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ninelives_evidence::verdict::Class;

    fn classes(book: &mut LeaseBook, baseline: &LeaseBaseline, list: &[(i64, i64)]) -> Vec<Class> {
        let mut alarms = Alarms::new();
        let list: Vec<_> = list.iter().map(|(id, ttl)| (*id, Some(*ttl))).collect();
        book.judge(baseline, Anchor::Fence { index: 9 }, &list, &mut alarms);
        book.forget(baseline);
        alarms.into_iter().map(|alarm| alarm.class()).collect()
    }

    #[test]
    fn certain_leases_must_be_listed_and_uncertain_ones_may() {
        let mut book = LeaseBook::default();
        for id in 1..=4 {
            book.grant_sent(id, 600);
        }
        book.granted(1);
        book.granted(2);
        let baseline = book.baseline();
        book.granted(3);
        book.revoke_sent(2);
        assert_eq!(classes(&mut book, &baseline, &[(1, 600)]), [], "2 may be revoked already, 3 and 4 not granted yet");
        assert_eq!(classes(&mut book, &baseline, &[(1, 600), (2, 600), (3, 600), (4, 600)]), []);
        assert_eq!(classes(&mut book, &baseline, &[(2, 600)]), [Class::LostWrite]);
        assert_eq!(classes(&mut book, &baseline, &[(1, 600), (9, 600)]), [Class::Phantom]);
        assert_eq!(classes(&mut book, &baseline, &[(1, 599)]), [Class::Model]);
    }

    #[test]
    fn a_revoked_lease_stays_away_and_is_forgotten() {
        let mut book = LeaseBook::default();
        book.grant_sent(1, 600);
        book.granted(1);
        book.revoke_sent(1);
        let early = book.baseline();
        book.revoked(1);
        assert_eq!(classes(&mut book, &early, &[(1, 600)]), [], "the fence may precede the revocation");
        let late = book.baseline();
        assert_eq!(classes(&mut book, &late, &[(1, 600)]), [Class::LostWrite]);
        assert_eq!(book.leases.len(), 0);
        let after = book.baseline();
        assert_eq!(classes(&mut book, &after, &[(1, 600)]), [Class::Phantom], "it came back");
    }

    #[test]
    fn a_granted_lease_that_cannot_be_found_is_lost_and_an_unanswered_one_is_not() {
        let mut book = LeaseBook::default();
        for id in 1..=3 {
            book.grant_sent(id, 600);
            book.revoke_sent(id);
        }
        book.granted(1);
        book.granted(3);
        let mut alarms = Alarms::new();
        book.revoke_refused(2, "etcdserver: requested lease not found", &mut alarms);
        assert_eq!(alarms, []);
        book.revoke_unknown(3);
        book.revoke_refused(3, "etcdserver: requested lease not found", &mut alarms);
        assert_eq!(alarms, [], "an earlier revocation may have done it");
        book.revoke_refused(1, "etcdserver: requested lease not found", &mut alarms);
        assert_eq!(alarms.len(), 1);
    }

    #[test]
    fn after_a_restore_certain_is_what_was_so_when_the_snapshot_was_asked_for() {
        let mut book = LeaseBook::default();
        (1..=5).for_each(|id| book.grant_sent(id, 600));
        (1..=4).for_each(|id| book.granted(id));
        book.revoke_sent(4);
        book.revoked(4);
        let saved = book.baseline();
        // The grant may have come too late for the snapshot, or in time: that is unknown.
        book.granted(5);
        book.revoke_sent(3);
        book.revoked(3);
        book.revoke_sent(2);
        book.restored(&saved);
        let baseline = book.baseline();
        assert_eq!(
            (baseline.present.as_slice(), baseline.absent.iter().copied().collect::<Vec<_>>()),
            (&[1][..], vec![4])
        );
        for list in [&[(1, 600)][..], &[(1, 600), (2, 600), (3, 600), (5, 600)]] {
            assert_eq!(classes(&mut book, &baseline, list), [], "{list:?}");
        }
        assert_eq!(classes(&mut book, &baseline, &[(2, 600)]), [Class::LostWrite], "1 was in it for certain");
    }
}
