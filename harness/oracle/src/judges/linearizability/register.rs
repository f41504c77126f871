//! The sequential specification: one key, the effect of one operation on it, and the answers that
//! are allowed.

use ninelives_evidence::operation::KeyState;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Equal for equal values; the value itself need not be kept.
pub(super) fn fingerprint(value: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// A key that exists. A revision is unknown while nothing told at which one an unanswered put
/// happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Row {
    pub modified: Option<u64>,
    pub created: Option<u64>,
    pub version: u64,
    pub value: u64,
    pub lease: i64,
}

impl Row {
    pub fn of(state: &KeyState) -> Self {
        Self {
            modified: Some(state.mod_revision),
            created: Some(state.create_revision),
            version: state.version,
            value: fingerprint(&state.value),
            lease: state.lease,
        }
    }

    /// This row, completed by `seen`, a complete row; `None`: they are not the same row.
    fn confirmed(self, seen: Row) -> Option<Row> {
        let agree = |mine: Option<u64>, theirs| mine.is_none() || mine == theirs;
        let same = (self.version, self.value, self.lease) == (seen.version, seen.value, seen.lease);
        (same && agree(self.modified, seen.modified) && agree(self.created, seen.created)).then_some(seen)
    }
}

/// The key at some moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Register {
    /// The newest revision that is known to have been reached. An empty store is at revision 1.
    pub revision: u64,
    pub row: Option<Row>,
}

impl Default for Register {
    fn default() -> Self {
        Self { revision: 1, row: None }
    }
}

/// A place in the order of all operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Place {
    /// A write is that revision. An answer about the state lies behind that revision, and before
    /// the next.
    At(u64),
    /// Not after this revision.
    UpTo(u64),
    /// Its answer never came: anywhere, or nowhere.
    Anywhere,
}

/// The part of one operation that concerns one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Does {
    /// `when`: only if the key was last changed at this revision (0: if it is absent).
    Put { when: Option<u64>, value: u64, lease: i64 },
    /// `found`: it was answered that the key existed.
    Delete { when: Option<u64>, found: bool },
    /// A lease is revoked: the key goes if it is attached to it.
    Detach { lease: i64 },
    /// A read returned this.
    Reads(Option<Row>),
    /// A comparison held, of a transaction that leaves this key alone.
    Holds { modified: u64 },
    /// The only comparison of a transaction failed.
    Fails { modified: u64 },
}

impl Does {
    pub fn writes(self) -> bool {
        matches!(self, Does::Put { .. } | Does::Delete { .. } | Does::Detach { .. })
    }

    /// The register after this operation; `None`: it cannot be here.
    pub fn apply(self, place: Place, before: Register) -> Option<Register> {
        let revision = match place {
            Place::At(at) if self.writes() => (before.revision < at).then_some(at)?,
            Place::At(at) => (before.revision <= at).then_some(at)?,
            Place::UpTo(at) => (before.revision <= at).then_some(before.revision)?,
            Place::Anywhere => before.revision,
        };
        let own = match place {
            Place::At(at) => Some(at),
            _ => None,
        };
        let row = match self {
            Does::Put { when, value, lease } => {
                may_be(before.row, when).then_some(())?;
                let (created, version) = before.row.map_or((own, 1), |row| (row.created, row.version + 1));
                Some(Row { modified: own, created, version, value, lease })
            }
            Does::Delete { when, found } => {
                (may_be(before.row, when) && (before.row.is_some() || !found)).then_some(None)?
            }
            Does::Detach { lease } => before.row.filter(|row| row.lease != lease),
            Does::Reads(None) => before.row.is_none().then_some(None)?,
            Does::Reads(Some(seen)) => Some(before.row?.confirmed(seen)?),
            Does::Holds { modified } => may_be(before.row, Some(modified)).then_some(before.row)?,
            Does::Fails { modified } => match before.row {
                None => (modified != 0).then_some(None)?,
                Some(row) => (row.modified != Some(modified)).then_some(Some(row))?,
            },
        };
        // Without a revision of its own, a change still takes one.
        let revision = if own.is_none() && row != before.row && self.writes() { revision + 1 } else { revision };
        match place {
            Place::UpTo(at) if revision > at => None,
            _ => Some(Register { revision, row }),
        }
    }
}

/// Whether the row may have been changed last at `when`; where that is unknown, it may.
fn may_be(row: Option<Row>, when: Option<u64>) -> bool {
    match (row, when) {
        (_, None) => true,
        (None, Some(at)) => at == 0,
        (Some(row), Some(at)) => at != 0 && row.modified.is_none_or(|modified| modified == at),
    }
}
