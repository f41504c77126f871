//! Changes of names.

use super::unsynced::Ino;
use ninelives_evidence::power::Names;
use std::ffi::OsString;

/// A name in a directory.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    pub dir: Ino,
    pub name: OsString,
}

/// A change of names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Change {
    /// A file, link or directory was made.
    Bind { at: Place, ino: Ino },
    /// It was removed.
    Unbind { at: Place, ino: Ino },
    /// It was renamed, and replaced another one.
    Move { from: Place, to: Place, ino: Ino, replaced: Option<Ino> },
    /// Two names changed places.
    Exchange { one: Place, other: Place, ino: Ino, of_other: Ino },
}

impl Change {
    pub fn places(&self) -> [Option<&Place>; 2] {
        match self {
            Change::Bind { at, .. } | Change::Unbind { at, .. } => [Some(at), None],
            Change::Move { from, to, .. } => [Some(to), Some(from)],
            Change::Exchange { one, other, .. } => [Some(one), Some(other)],
        }
    }

    fn files(&self) -> [Option<Ino>; 2] {
        match self {
            Change::Bind { ino, .. } | Change::Unbind { ino, .. } => [Some(*ino), None],
            Change::Move { ino, replaced, .. } => [Some(*ino), *replaced],
            Change::Exchange { ino, of_other, .. } => [Some(*ino), Some(*of_other)],
        }
    }

    pub fn shares_a_place(&self, other: &Change) -> bool {
        self.places().iter().flatten().any(|place| other.places().iter().flatten().any(|theirs| theirs == place))
    }

    pub fn concerns(&self, ino: Ino) -> bool {
        self.files().contains(&Some(ino))
    }

    /// The file that lost a name by this change and has to be kept while the change can be lost.
    pub fn unnamed(&self) -> Option<Ino> {
        match self {
            Change::Unbind { ino, .. } => Some(*ino),
            Change::Move { replaced, .. } => *replaced,
            Change::Bind { .. } | Change::Exchange { .. } => None,
        }
    }

    pub fn is_in(&self, dir: Ino) -> bool {
        match self {
            // A rename is durable with the directory that it leads to.
            Change::Move { to, .. } => to.dir == dir,
            _ => self.places().iter().flatten().any(|place| place.dir == dir),
        }
    }

    /// Whether it gave `ino` a name.
    pub fn binds(&self, ino: Ino) -> bool {
        match self {
            Change::Bind { ino: own, .. } | Change::Move { ino: own, .. } => *own == ino,
            Change::Exchange { .. } => self.concerns(ino),
            Change::Unbind { .. } => false,
        }
    }
}

/// A change of names with its number among all operations.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Numbered {
    pub operation: u64,
    pub change: Change,
    /// The weakest mode in which it can still be lost.
    pub weakest: Names,
}
