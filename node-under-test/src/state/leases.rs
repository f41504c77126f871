//! The replicated half of leases: ids, granted TTLs, attached keys.

use bytes::Bytes;
use rpds::{RedBlackTreeMapSync, RedBlackTreeSetSync};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use tokio::sync::Notify;

/// Shortest TTL; a grant that asks for less gets this. etcd derives its own from its election
/// timeout.
pub const TTL_SECONDS_MIN: i64 = 1;
/// Longest TTL, as in etcd.
pub const TTL_SECONDS_MAX: i64 = 9_000_000_000;

#[derive(Debug, Default, Clone)]
struct Lease {
    granted_ttl_seconds: i64,
    keys: RedBlackTreeSetSync<Bytes>,
}

/// Invariant: a key is in at most one lease's set, and then `holder` names that lease. Clones share
/// everything and are taken in constant time.
#[derive(Debug, Default, Clone)]
pub struct LeaseTable {
    leases: RedBlackTreeMapSync<i64, Lease>,
    holder: RedBlackTreeMapSync<Bytes, i64>,
}

impl LeaseTable {
    pub fn contains(&self, id: i64) -> bool {
        self.leases.contains_key(&id)
    }

    pub fn granted_ttl_seconds(&self, id: i64) -> Option<i64> {
        self.leases.get(&id).map(|lease| lease.granted_ttl_seconds)
    }

    /// Ids and granted TTLs, ascending by id.
    pub fn granted(&self) -> impl Iterator<Item = (i64, i64)> {
        self.leases.iter().map(|(id, lease)| (*id, lease.granted_ttl_seconds))
    }

    /// The keys attached to `id`, ascending; `None` if there is no such lease.
    pub fn keys(&self, id: i64) -> Option<Vec<Bytes>> {
        self.leases.get(&id).map(|lease| lease.keys.iter().cloned().collect())
    }

    pub fn grant(&mut self, id: i64, granted_ttl_seconds: i64) {
        self.leases.insert_mut(id, Lease { granted_ttl_seconds, keys: RedBlackTreeSetSync::default() });
    }

    pub fn revoke(&mut self, id: i64) {
        let Some(lease) = self.leases.get(&id).cloned() else { return };
        self.leases.remove_mut(&id);
        for key in lease.keys.iter() {
            self.holder.remove_mut(key);
        }
    }

    /// Attaches `key` to the lease `id` and to no other; 0, or a lease that is gone: to none.
    pub fn attach(&mut self, key: &Bytes, id: i64) {
        if let Some(old) = self.holder.get(key).copied() {
            self.holder.remove_mut(key);
            if let Some(lease) = self.leases.get_mut(&old) {
                lease.keys.remove_mut(key);
            }
        }
        if id == 0 || !self.leases.contains_key(&id) {
            return;
        }
        if let Some(lease) = self.leases.get_mut(&id) {
            // A key from a request is a slice of the whole request: keeping it would keep the value
            // too.
            let key = Bytes::copy_from_slice(key);
            lease.keys.insert_mut(key.clone());
            self.holder.insert_mut(key, id);
        }
    }
}

/// The set of leases that came or went since the last look: its size is bounded by the leases, not
/// by time.
#[derive(Debug, Default)]
pub struct LeaseChanges {
    /// Id → whether it was granted (again) since.
    touched: Mutex<BTreeMap<i64, bool>>,
    notify: Notify,
}

impl LeaseChanges {
    /// Publishes a state in which `leases` came or went, as one step for everyone who takes: a
    /// reader that saw the state finds them here, and those found here are in the state.
    pub(super) fn publish(&self, leases: impl IntoIterator<Item = (i64, bool)>, publish: impl FnOnce()) {
        let mut touched = self.touched.lock().unwrap_or_else(PoisonError::into_inner);
        publish();
        let mut any = false;
        for (id, granted) in leases {
            any = true;
            *touched.entry(id).or_default() |= granted;
        }
        if any {
            self.notify.notify_one();
        }
    }

    /// The leases that came or went, and whether each was granted since the last look: one that was
    /// revoked and granted again in between is another lease, with a deadline of its own.
    pub fn take(&self) -> BTreeMap<i64, bool> {
        std::mem::take(&mut *self.touched.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Completes when there is something to take.
    pub async fn changed(&self) {
        self.notify.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_lease() {
        let mut table = LeaseTable::default();
        let key = Bytes::from("k");
        table.grant(1, 10);
        table.grant(2, 20);
        table.attach(&key, 1);
        table.attach(&key, 2);
        assert_eq!(table.keys(1), Some(Vec::new()));
        assert_eq!(table.keys(2), Some(vec![key.clone()]));
        table.revoke(2);
        assert_eq!((table.keys(2), table.holder.size()), (None, 0));
        table.attach(&key, 2);
        assert_eq!(table.holder.size(), 0, "a lease that is gone holds nothing");
    }
}
