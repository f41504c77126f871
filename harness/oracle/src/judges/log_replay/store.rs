//! The rules of the store, written a third time: the effects of a committed entry on keys and
//! leases.
//!
//! It uses neither the node's apply code nor the watch-fed model ([`crate::model`]): it starts from
//! the log and says what the watches must deliver.

use ninelives_evidence::logged::{Change, Condition, Number, Order, Span, Step, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// etcd's own bounds of a lease's time to live, in seconds.
const TTL_SECONDS_MIN: i64 = 1;
const TTL_SECONDS_MAX: i64 = 9_000_000_000;

/// A key that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    pub value: Value,
    pub created: u64,
    pub changed: u64,
    pub version: u64,
    pub lease: i64,
}

/// A change of a key, as a watch has to deliver it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    pub key: String,
    /// `None`: deleted.
    pub row: Option<Row>,
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(row) = self.row else { return write!(f, "delete {}", self.key) };
        let (key, value, version, created) = (&self.key, row.value, row.version, row.created);
        write!(f, "put {key} = {value} (version {version}, created at {created}")?;
        if row.lease == 0 { write!(f, ")") } else { write!(f, ", lease {})", row.lease) }
    }
}

/// The newest state; no history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    pub revision: u64,
    pub compact: u64,
    pub keys: BTreeMap<String, Row>,
    /// Granted seconds by id.
    pub leases: BTreeMap<i64, i64>,
}

impl Default for Store {
    fn default() -> Self {
        Self { revision: 1, compact: 0, keys: BTreeMap::new(), leases: BTreeMap::new() }
    }
}

impl Store {
    /// Applies `step`, and returns its changes, in order; there are none if it was refused or had
    /// nothing to change. All changes are of one revision, which is `self.revision` afterwards.
    ///
    /// # Errors
    /// The step is beyond this model; nothing was changed.
    pub fn apply(&mut self, step: &Step) -> Result<Vec<Effect>, String> {
        let mut effects = Vec::new();
        let at = self.revision + 1;
        match step {
            Step::Blank | Step::Membership | Step::Publish | Step::Fence(_) | Step::Refused(_) => {}
            Step::Put(key, value, lease) => {
                if self.takes(key, *lease) {
                    self.put(at, key, *value, *lease, &mut effects);
                }
            }
            Step::Delete(span) => self.delete(span, &mut effects),
            Step::Txn { when, then, or } => {
                let mut taken = Vec::new();
                self.decide((when, then, or), &mut taken);
                self.branch(at, &taken, &mut effects)?;
            }
            Step::Compact(revision) => {
                if let Ok(revision) = u64::try_from(*revision)
                    && revision > self.compact
                    && revision <= self.revision
                {
                    self.compact = revision;
                }
            }
            Step::Grant(id, seconds) => {
                if *id != 0 && *seconds <= TTL_SECONDS_MAX {
                    self.leases.entry(*id).or_insert((*seconds).max(TTL_SECONDS_MIN));
                }
            }
            Step::Revoke(id) => {
                if self.leases.remove(id).is_some() {
                    let attached = self.keys.iter().filter(|(_, row)| row.lease == *id);
                    let attached: Vec<String> = attached.map(|(key, _)| key.clone()).collect();
                    attached.into_iter().for_each(|key| self.remove(key, &mut effects));
                }
            }
            Step::Beyond(what) => return Err(what.clone()),
        }
        if !effects.is_empty() {
            self.revision = at;
        }
        Ok(effects)
    }

    /// Whether a put is not refused.
    fn takes(&self, key: &str, lease: i64) -> bool {
        !key.is_empty() && (lease == 0 || self.leases.contains_key(&lease))
    }

    /// The puts and deletes of the branches that a transaction takes, in order: all of them are
    /// chosen before the first change.
    fn decide<'s>(&self, (when, then, or): (&'s [Condition], &'s [Change], &'s [Change]), taken: &mut Vec<&'s Change>) {
        let holds = when.iter().all(|condition| self.holds(condition));
        for change in if holds { then } else { or } {
            match change {
                Change::Txn { when, then, or } => self.decide((when, then, or), taken),
                Change::Put(..) | Change::Delete(_) => taken.push(change),
            }
        }
    }

    fn branch(&mut self, at: u64, changes: &[&Change], effects: &mut Vec<Effect>) -> Result<(), String> {
        let mut puts = BTreeSet::new();
        let deletes: Vec<&Span> = changes
            .iter()
            .filter_map(|change| match change {
                Change::Delete(span) => Some(span),
                Change::Put(..) | Change::Txn { .. } => None,
            })
            .collect();
        for change in changes {
            if let Change::Put(key, _, lease) = change {
                if !puts.insert(key) || deletes.iter().any(|span| within(span, key)) {
                    return Err(format!("a transaction that changes {key} twice"));
                }
                // A step changes all or nothing.
                if !self.takes(key, *lease) {
                    return Ok(());
                }
            }
        }
        for change in changes {
            match change {
                Change::Put(key, value, lease) => self.put(at, key, *value, *lease, effects),
                Change::Delete(span) => self.delete(span, effects),
                // Decided before.
                Change::Txn { .. } => {}
            }
        }
        Ok(())
    }

    fn put(&mut self, at: u64, key: &str, value: Value, lease: i64, effects: &mut Vec<Effect>) {
        let (created, version) = self.keys.get(key).map_or((at, 1), |row| (row.created, row.version + 1));
        let row = Row { value, created, changed: at, version, lease };
        self.keys.insert(key.to_owned(), row);
        effects.push(Effect { key: key.to_owned(), row: Some(row) });
    }

    fn delete(&mut self, span: &Span, effects: &mut Vec<Effect>) {
        let keys: Vec<String> = match &span.1 {
            None => self.keys.get_key_value(&span.0).map(|(key, _)| key.clone()).into_iter().collect(),
            Some(_) => {
                let from = self.keys.range(span.0.clone()..).map(|(key, _)| key);
                from.take_while(|key| within(span, key)).cloned().collect()
            }
        };
        keys.into_iter().for_each(|key| self.remove(key, effects));
    }

    fn remove(&mut self, key: String, effects: &mut Vec<Effect>) {
        self.keys.remove(&key);
        effects.push(Effect { key, row: None });
    }

    fn holds(&self, Condition(key, number, order, with): &Condition) -> bool {
        let row = self.keys.get(key);
        let revision = |revision: u64| i64::try_from(revision).unwrap_or(i64::MAX);
        let found = row.map_or(0, |row| match number {
            Number::Version => revision(row.version),
            Number::Created => revision(row.created),
            Number::Changed => revision(row.changed),
            Number::Lease => row.lease,
        });
        match order {
            Order::Equal => found == *with,
            Order::NotEqual => found != *with,
            Order::Greater => found > *with,
            Order::Less => found < *with,
        }
    }
}

fn within(Span(from, to): &Span, key: &str) -> bool {
    match to.as_deref() {
        None => key == from,
        Some("\0") => key >= from.as_str(),
        Some(to) => key >= from.as_str() && key < to,
    }
}
