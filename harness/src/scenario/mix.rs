//! The named mixes: the steps of a load, and so the work in a member's hands when it dies.
//!
//! A mix is a weight for each kind of step. Mix and seed decide which steps a client takes; the
//! generator decides their keys and values. The names are part of a scenario's form, and a stored
//! seed means the same steps for ever: a mix that was run before is not changed; a new one is added
//! instead.

use crate::subject::edits;

/// The kind of a client's next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Append,
    Count,
    Put,
    Delete,
    DeleteRange,
    Multi,
    Block,
    Lease,
    Read,
    ReadRange,
    ReadOld,
    Packed,
    /// A packed request that has to be refused.
    Refused,
    /// Comparisons, and nothing else.
    Check,
    /// Everything at once: all plain keys.
    ReadAll,
    DeleteAll,
    /// Unused space is given back.
    Defragment,
    Session,
}

/// A mix, as a scenario names it.
#[derive(Debug, PartialEq, Eq)]
pub struct Mix {
    pub name: &'static str,
    /// Its steps, in a few words.
    pub doc: &'static str,
    pub weights: &'static [(Kind, u32)],
    /// Plain values are at least half as long as they may be.
    pub large: bool,
}

/// The default mix. Most of its steps show a repeated or a lost apply; reads are few, because the
/// watch and the fence read everything anyway.
pub static MIXED: Mix = Mix {
    name: "mixed",
    doc: "a bit of everything",
    weights: &[
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
    ],
    large: false,
};

/// A read before each write halves the pressure, so appends and counters are few: just enough to
/// show a repeated apply.
static WRITES: Mix = Mix {
    name: "writes",
    doc: "put pressure: plain puts, some appends and counters",
    weights: &[(Kind::Put, 80), (Kind::Append, 8), (Kind::Count, 8), (Kind::Delete, 3), (Kind::Read, 1)],
    large: false,
};

/// Small transactions collide and fail their comparison, and big ones mostly do not: both branches
/// are taken.
static TRANSACTIONS: Mix = Mix {
    name: "transactions",
    doc: "transactions that compare and change up to 32 keys",
    weights: &[
        (Kind::Block, 55),
        (Kind::Multi, 20),
        (Kind::Append, 6),
        (Kind::Count, 6),
        (Kind::Put, 4),
        (Kind::DeleteRange, 3),
        (Kind::Read, 2),
        (Kind::ReadRange, 4),
    ],
    large: false,
};

/// No appends, because the length of a list depends only on the number of its entries.
static LARGE: Mix = Mix {
    name: "large",
    doc: "values of half of value_bytes_max and more",
    weights: &[
        (Kind::Put, 70),
        (Kind::Block, 4),
        (Kind::Delete, 8),
        (Kind::DeleteRange, 4),
        (Kind::Count, 6),
        (Kind::Read, 5),
        (Kind::ReadRange, 3),
    ],
    large: true,
};

static LEASES: Mix = Mix {
    name: "leases",
    doc: "leases granted, attached to keys and revoked with them",
    weights: &[
        (Kind::Lease, 80),
        (Kind::Put, 6),
        (Kind::Append, 4),
        (Kind::Count, 4),
        (Kind::Multi, 4),
        (Kind::Read, 2),
    ],
    large: false,
};

/// Deletes, with enough puts for them to find something.
static DELETES: Mix = Mix {
    name: "deletes",
    doc: "keys and ranges deleted as fast as puts bring them back",
    weights: &[
        (Kind::Put, 40),
        (Kind::Delete, 26),
        (Kind::DeleteRange, 14),
        (Kind::Multi, 10),
        (Kind::Lease, 4),
        (Kind::Read, 2),
        (Kind::ReadRange, 4),
    ],
    large: false,
};

/// Packed requests, with other requests beside them: after a packed request that ends a member,
/// everything else is lost as well.
static LIMITS: Mix = Mix {
    name: "limits",
    doc: "requests at the limits, which members take, and beyond them, which they refuse",
    weights: &[
        (Kind::Packed, 40),
        (Kind::Put, 20),
        (Kind::Append, 10),
        (Kind::Count, 10),
        (Kind::Multi, 6),
        (Kind::Lease, 6),
        (Kind::Delete, 4),
        (Kind::DeleteRange, 2),
        (Kind::Read, 1),
        (Kind::ReadRange, 1),
    ],
    large: false,
};

/// Blocks quickly bring back the keys that a delete of everything takes away; the rest is load
/// beside it.
static LONG: Mix = Mix {
    name: "long",
    doc: "reads and deletes of everything and defragmentations, beside blocks and puts",
    weights: &[
        (Kind::Block, 300),
        (Kind::Put, 400),
        (Kind::Count, 80),
        (Kind::Append, 80),
        (Kind::Lease, 60),
        (Kind::Read, 60),
        (Kind::ReadAll, 10),
        (Kind::DeleteAll, 4),
        (Kind::Defragment, 3),
    ],
    large: false,
};

/// Each member is asked for the write that it has just acknowledged: if it answered before it
/// applied the write, the next question shows that.
static SESSIONS: Mix = Mix {
    name: "sessions",
    doc: "puts, each read back at once from the member that answered it",
    weights: &[(Kind::Session, 80), (Kind::Count, 6), (Kind::Delete, 4), (Kind::Lease, 6), (Kind::Read, 4)],
    large: false,
};

/// Writes that others acknowledge meanwhile show a comparison that was answered from an old state.
static COMPARISONS: Mix = Mix {
    name: "comparisons",
    doc: "transactions that only compare, beside writes, and requests that have to be refused",
    weights: &[
        (Kind::Check, 50),
        (Kind::Put, 24),
        (Kind::Count, 6),
        (Kind::Append, 4),
        (Kind::Delete, 4),
        (Kind::Lease, 2),
        (Kind::Refused, 10),
    ],
    large: false,
};

/// All mixes, the default first.
pub static MIXES: [&Mix; 10] =
    [&MIXED, &WRITES, &TRANSACTIONS, &LARGE, &LEASES, &DELETES, &LIMITS, &LONG, &SESSIONS, &COMPARISONS];

/// The mix called `name`.
pub fn find(name: &str) -> Option<&'static Mix> {
    MIXES.into_iter().find(|mix| mix.name == name)
}

/// The mix that a user who typed `name` most likely meant: at most two edits away.
pub fn nearest(name: &str) -> Option<&'static str> {
    let by_edits = MIXES.iter().map(|mix| (edits(name, mix.name), mix.name)).min();
    by_edits.filter(|(distance, _)| *distance <= 2).map(|(_, found)| found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_a_slip_is_recognised() {
        for mix in MIXES {
            assert_eq!(find(mix.name), Some(mix), "a second mix of that name hides this one");
            assert!(!mix.doc.is_empty() && mix.weights.iter().all(|(_, weight)| *weight > 0));
        }
        assert_eq!(nearest("write"), Some("writes"));
        assert_eq!(nearest("transaction"), Some("transactions"));
        assert_eq!(nearest("everything"), None);
    }
}
