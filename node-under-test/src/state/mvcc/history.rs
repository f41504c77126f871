//! History as watches want it: the changes after a revision, whole revisions at a time.

use super::row::Kind;
use node_proto::mvccpb::KeyValue;

/// One change of a key.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    pub kind: Kind,
    /// For a tombstone: the key and its mod revision only.
    pub kv: KeyValue,
    /// The version before it, if it was asked for and is not compacted.
    pub previous: Option<KeyValue>,
}

/// A gap-free piece of history.
#[derive(Debug, Default)]
pub struct History {
    /// In the order in which they happened.
    pub changes: Vec<Change>,
    /// Every change from the asked revision up to this one, itself included, is in `changes`.
    pub through: i64,
}

/// The part of history that a watch wants.
pub struct Wanted<'a> {
    /// The first revision.
    pub from: i64,
    /// No further revision is begun once the rows that were looked at have this many bytes.
    pub bytes_max: usize,
    /// True if each change is to have the version before it.
    pub with_previous: bool,
    /// True for the keys whose changes are wanted.
    pub key: &'a dyn Fn(&[u8]) -> bool,
}
