//! The replicated half of leases: ids, granted TTLs, attached keys.

use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Default, Clone)]
struct Lease {
    granted_ttl_seconds: i64,
    keys: BTreeSet<Bytes>,
}

/// Invariant: a key is in at most one lease's set, and then `holder` names that lease.
#[derive(Debug, Default, Clone)]
pub struct LeaseTable {
    leases: BTreeMap<i64, Lease>,
    holder: BTreeMap<Bytes, i64>,
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
        self.leases.insert(id, Lease { granted_ttl_seconds, keys: BTreeSet::new() });
    }

    pub fn revoke(&mut self, id: i64) {
        for key in self.leases.remove(&id).unwrap_or_default().keys {
            self.holder.remove(&key);
        }
    }

    /// Attaches `key` to the lease `id` and to no other; 0, or a lease that is gone: to none.
    pub fn attach(&mut self, key: &Bytes, id: i64) {
        if let Some(lease) = self.holder.remove(key).and_then(|old| self.leases.get_mut(&old)) {
            lease.keys.remove(key);
        }
        if let Some(lease) = self.leases.get_mut(&id).filter(|_| id != 0) {
            // A key from a request is a slice of the whole request: keeping it would keep the value too.
            let key = Bytes::copy_from_slice(key);
            lease.keys.insert(key.clone());
            self.holder.insert(key, id);
        }
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
        assert_eq!((table.keys(2), table.holder.len()), (None, 0));
        table.attach(&key, 2);
        assert_eq!(table.holder.len(), 0, "a lease that is gone holds nothing");
    }
}
