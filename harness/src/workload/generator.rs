//! What a client does next, from its stream alone.

use super::WorkloadOptions;
use crate::seed::Stream;
use std::collections::VecDeque;

/// One step: the decision. The requests that carry it out (one, or a read and a write) get their parameters later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Reads the list at `key` and extends it, if nobody did meanwhile.
    Append {
        key: String,
    },
    /// Reads the counter at `key` and adds one, if nobody did meanwhile.
    Count {
        key: String,
    },
    /// Puts a value with `filler` bytes before its id.
    Put {
        key: String,
        filler: u64,
    },
    Delete {
        key: String,
    },
    /// Deletes `[from, to)`.
    DeleteRange {
        from: String,
        to: String,
    },
    /// Puts all of `puts` and deletes `delete`; if `guarded`, only if the first key is as it was just read.
    Multi {
        puts: Vec<String>,
        delete: Option<String>,
        guarded: bool,
        filler: u64,
    },
    Grant {
        lease: i64,
    },
    PutLeased {
        key: String,
        lease: i64,
        filler: u64,
    },
    Revoke {
        lease: i64,
    },
    Read {
        key: String,
        serializable: bool,
    },
    ReadRange {
        from: String,
        to: String,
        serializable: bool,
    },
    /// Reads `key` as it was `back` revisions ago.
    ReadOld {
        key: String,
        back: u64,
    },
    /// Compacts all but the last `keep` revisions, or less.
    Compact {
        keep: u64,
    },
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Append,
    Count,
    Put,
    Delete,
    DeleteRange,
    Multi,
    Lease,
    Read,
    ReadRange,
    ReadOld,
}

/// The operation mix. Most of it is what shows a repeated or a lost apply; reads are few because the watch and
/// the fence read everything anyway.
const MIX: [(Kind, u32); 10] = [
    (Kind::Append, 20),
    (Kind::Count, 16),
    (Kind::Put, 22),
    (Kind::Delete, 9),
    (Kind::DeleteRange, 3),
    (Kind::Multi, 10),
    (Kind::Lease, 9),
    (Kind::Read, 6),
    (Kind::ReadRange, 3),
    (Kind::ReadOld, 2),
];

/// Leases that a client holds at most; then it revokes the oldest.
const LEASES_MAX: usize = 4;
/// Keys that a range operation spans at most.
const SPAN_MAX: u64 = 4;
/// How far back a read of the past goes.
const BACK_MAX: u64 = 200;
/// Lease ids of a client: `(client + 1) * LEASE_STRIDE + n`.
const LEASE_STRIDE: i64 = 1_000_000_000;

#[derive(Debug)]
pub(super) struct Generator {
    client: u32,
    stream: Stream,
    keys: u64,
    filler_max: u64,
    compact_every: u64,
    compact_keep: u64,
    steps: u64,
    /// Leases that it asked for and did not revoke yet, whatever came of it.
    leases: VecDeque<i64>,
    leases_asked: i64,
}

impl Generator {
    pub fn new(client: u32, stream: Stream, options: &WorkloadOptions) -> Self {
        Self {
            client,
            stream,
            keys: u64::from(options.keys.max(1)),
            filler_max: u64::from(options.value_bytes_max.saturating_sub(32)),
            compact_every: if client == options.first_client { u64::from(options.compact_every) } else { 0 },
            compact_keep: options.compact_keep,
            steps: 0,
            leases: VecDeque::new(),
            leases_asked: 0,
        }
    }

    pub fn client(&self) -> u32 {
        self.client
    }

    pub fn next(&mut self) -> Step {
        self.steps += 1;
        if self.compact_every > 0 && self.steps.is_multiple_of(self.compact_every) {
            return Step::Compact { keep: self.compact_keep };
        }
        match self.stream.weighted(&MIX).copied().unwrap_or(Kind::Put) {
            Kind::Append => Step::Append { key: self.key("a") },
            Kind::Count => Step::Count { key: self.key("c") },
            Kind::Put => Step::Put { key: self.key("p"), filler: self.filler() },
            Kind::Delete => {
                let kind = *self.stream.pick(&["a", "c", "p", "p"]).unwrap_or(&"p");
                Step::Delete { key: self.key(kind) }
            }
            Kind::DeleteRange => {
                let (from, to) = self.span();
                Step::DeleteRange { from, to }
            }
            Kind::Multi => self.multi(),
            Kind::Lease => self.lease(),
            Kind::Read => {
                let kind = *self.stream.pick(&["a", "c", "p"]).unwrap_or(&"p");
                Step::Read { key: self.key(kind), serializable: self.stream.chance(1, 3) }
            }
            Kind::ReadRange => {
                let (from, to) = self.span();
                Step::ReadRange { from, to, serializable: self.stream.chance(1, 3) }
            }
            Kind::ReadOld => Step::ReadOld { key: self.key("c"), back: self.stream.between(1, BACK_MAX) },
        }
    }

    fn key(&mut self, kind: &str) -> String {
        format!("{kind}/{:05}", self.stream.below(self.keys))
    }

    fn filler(&mut self) -> u64 {
        self.stream.below(self.filler_max + 1)
    }

    fn span(&mut self) -> (String, String) {
        let from = self.stream.below(self.keys);
        let to = from + self.stream.between(1, SPAN_MAX);
        (format!("p/{from:05}"), format!("p/{to:05}"))
    }

    fn multi(&mut self) -> Step {
        let first = self.stream.below(self.keys);
        let wanted = self.stream.between(2, 4).min(self.keys);
        let puts = (0..wanted).map(|n| format!("p/{:05}", (first + n) % self.keys)).collect();
        let delete = self.stream.chance(1, 2).then(|| self.key("c"));
        Step::Multi { puts, delete, guarded: self.stream.chance(1, 2), filler: self.filler() / 2 }
    }

    fn lease(&mut self) -> Step {
        let draw = self.stream.below(5);
        match (self.leases.len(), draw) {
            (0, _) | (..LEASES_MAX, 0) => {
                self.leases_asked += 1;
                let lease = (i64::from(self.client) + 1) * LEASE_STRIDE + self.leases_asked;
                self.leases.push_back(lease);
                Step::Grant { lease }
            }
            (held, 1..=3) => {
                let lease = self.leases[self.stream.below(held as u64) as usize];
                let key = format!("l/{:03}/{}", self.client, self.stream.below(6));
                Step::PutLeased { key, lease, filler: self.filler() / 4 }
            }
            _ => Step::Revoke { lease: self.leases.pop_front().unwrap_or_default() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;
    use std::collections::BTreeSet;

    fn steps(seed: u64, client: u32, count: usize) -> Vec<Step> {
        let options = WorkloadOptions::default();
        let mut generator = Generator::new(client, Seed::new(seed).stream(&format!("client/{client}")), &options);
        (0..count).map(|_| generator.next()).collect()
    }

    #[test]
    fn the_seed_alone_decides() {
        assert_eq!(steps(7, 3, 500), steps(7, 3, 500));
        assert_ne!(steps(7, 3, 500), steps(8, 3, 500));
        assert_ne!(steps(7, 3, 500), steps(7, 4, 500));
    }

    #[test]
    fn every_kind_of_step_occurs_and_only_client_0_compacts() {
        let kinds = |client| {
            let name = |step: &Step| format!("{step:?}").split(' ').next().map(str::to_owned);
            steps(1, client, 2_000).iter().filter_map(name).collect::<BTreeSet<_>>()
        };
        assert_eq!(kinds(0).len(), 13, "{:?}", kinds(0));
        assert_eq!(kinds(1).len(), 12, "{:?}", kinds(1));
    }

    #[test]
    fn keys_are_bounded_and_leases_are_revoked_once() {
        let (mut keys, mut held, mut revoked) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for step in steps(5, 2, 20_000) {
            match step {
                Step::Append { key } | Step::Count { key } | Step::Put { key, .. } => drop(keys.insert(key)),
                Step::Multi { puts, .. } => {
                    assert_eq!(puts.iter().collect::<BTreeSet<_>>().len(), puts.len(), "a key once per transaction");
                    keys.extend(puts);
                }
                Step::Grant { lease } => assert!(held.insert(lease) && !revoked.contains(&lease)),
                Step::PutLeased { key, lease, .. } => {
                    assert!(held.contains(&lease));
                    keys.insert(key);
                }
                Step::Revoke { lease } => assert!(held.remove(&lease) && revoked.insert(lease)),
                _ => {}
            }
            assert!(held.len() <= LEASES_MAX);
        }
        assert!(keys.len() <= 3 * 64 + 6, "{}", keys.len());
        assert!(revoked.len() > 20);
    }
}
