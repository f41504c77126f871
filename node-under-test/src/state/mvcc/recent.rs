//! The newest changes, kept in memory for all watches together: what many watches want to hear of
//! is read from the engine by none of them.
//!
//! 1. *What is kept has no gap*: the changes of the newest revisions, each whole. A revision whose
//!    changes are not known (it was too large to keep, or came before) ends what was kept before
//!    it.
//! 2. *It is what the engine's rows say.* A test compares the two for any history.
//! 3. *It is bounded in bytes*. Each change has its own copy of key and value, because a slice of a
//!    request would keep the whole request in memory.

use super::history::{Change, History, Wanted};
use super::row::RowKey;
use bytes::Bytes;
use node_proto::mvccpb::KeyValue;
use std::collections::VecDeque;
use std::mem::size_of;
use std::sync::Arc;

/// Bytes of rows that are kept.
const BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of rows of one revision beyond which it is not kept.
const REVISION_BYTES_MAX: usize = 256 * 1024;

/// The changes that one entry makes, gathered while it is applied.
#[derive(Debug, Default)]
pub struct Made {
    changes: Vec<Change>,
    /// Bytes of the rows.
    bytes: usize,
    /// What the changes take in memory, beside the values that they share with nothing.
    overhead: usize,
}

impl Made {
    /// A change as the row at `at`, whose value is `encoded` long.
    pub fn add(&mut self, at: RowKey, row: &KeyValue, encoded: usize) {
        self.bytes += at.encode().len() + encoded;
        self.overhead += size_of::<Change>();
        if self.is_too_large() {
            self.changes = Vec::new();
            return;
        }
        let kv = KeyValue {
            key: Bytes::copy_from_slice(&row.key),
            value: Bytes::copy_from_slice(&row.value),
            ..row.clone()
        };
        self.changes.push(Change { kind: at.kind, kv, previous: None });
    }

    fn is_too_large(&self) -> bool {
        self.size() > REVISION_BYTES_MAX
    }

    fn size(&self) -> usize {
        self.bytes + self.overhead
    }

    /// Its keys, in the order of the changes; `None`: they are too many to be known.
    pub fn keys(&self) -> Option<impl Iterator<Item = &Bytes>> {
        (!self.is_too_large()).then(|| self.changes.iter().map(|change| &change.kv.key))
    }
}

#[derive(Debug)]
pub struct Recent {
    /// One for each of the revisions up to `through`.
    revisions: VecDeque<Arc<Made>>,
    through: i64,
    size: usize,
}

impl Recent {
    /// Nothing is kept of what came up to `through`.
    pub fn after(through: i64) -> Self {
        Self { revisions: VecDeque::new(), through, size: 0 }
    }

    /// Adds the changes of `revision`; `None`: they are not known.
    pub fn add(&mut self, revision: i64, made: Option<Arc<Made>>) {
        let Some(made) = made.filter(|made| !made.is_too_large()) else {
            *self = Self::after(revision);
            return;
        };
        if revision != self.through + 1 {
            *self = Self::after(revision - 1);
        }
        self.through = revision;
        self.size += made.size();
        self.revisions.push_back(made);
        while self.size > BYTES_MAX
            && let Some(oldest) = self.revisions.pop_front()
        {
            self.size -= oldest.size();
        }
    }

    /// The revisions from `from` on, up to the one that reaches `bytes_max`, and the last of them;
    /// `None`: they are not all kept, or there are none.
    pub fn since(&self, from: i64, bytes_max: usize) -> Option<Piece> {
        let kept = i64::try_from(self.revisions.len()).ok()?;
        let skipped = usize::try_from(from - (self.through - kept + 1)).ok()?;
        let mut piece = Piece { revisions: Vec::new(), through: from - 1 };
        let mut bytes = 0;
        for made in self.revisions.iter().skip(skipped) {
            if !piece.revisions.is_empty() && bytes >= bytes_max {
                break;
            }
            bytes += made.bytes;
            piece.revisions.push(Arc::clone(made));
            piece.through += 1;
        }
        (!piece.revisions.is_empty()).then_some(piece)
    }
}

/// Consecutive revisions, whole.
#[derive(Debug)]
pub struct Piece {
    revisions: Vec<Arc<Made>>,
    through: i64,
}

impl Piece {
    /// The changes that are wanted of it; without the versions before them.
    pub fn history(&self, wanted: &Wanted<'_>) -> History {
        let changes = self.revisions.iter().flat_map(|made| &made.changes);
        let changes = changes.filter(|change| (wanted.key)(&change.kv.key)).cloned().collect();
        History { changes, through: self.through }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::mvcc::row::{Kind, Revision};

    fn row_at(main: i64, kind: Kind) -> RowKey {
        RowKey { revision: Revision { main, sub: 0 }, kind }
    }

    fn made(main: i64, bytes: usize) -> Arc<Made> {
        let mut made = Made::default();
        let row = KeyValue { mod_revision: main, value: vec![7; bytes].into(), ..KeyValue::default() };
        made.add(row_at(main, Kind::Put), &row, bytes);
        Arc::new(made)
    }

    fn kept(recent: &Recent, from: i64, bytes_max: usize) -> Option<(Vec<i64>, i64)> {
        let wanted = Wanted { from, bytes_max, with_previous: false, key: &|_| true };
        let history = recent.since(from, bytes_max)?.history(&wanted);
        Some((history.changes.iter().map(|change| change.kv.mod_revision).collect(), history.through))
    }

    /// Claim 1.
    #[test]
    fn what_is_not_kept_is_not_skipped() {
        let mut recent = Recent::after(4);
        assert_eq!(kept(&recent, 5, 100), None, "nothing has come");
        recent.add(5, Some(made(5, 60)));
        recent.add(6, Some(made(6, 60)));
        assert_eq!(kept(&recent, 4, 100), None, "4 came before");
        assert_eq!(kept(&recent, 5, 1000), Some((vec![5, 6], 6)));
        assert_eq!(kept(&recent, 5, 10), Some((vec![5], 5)), "a piece is at least one revision");
        assert_eq!(kept(&recent, 6, 10), Some((vec![6], 6)));
        assert_eq!(kept(&recent, 7, 10), None);
        recent.add(7, None);
        assert_eq!(kept(&recent, 6, 10), None, "a piece from 6 on would end before 7");
        recent.add(8, Some(made(8, 1)));
        assert_eq!((kept(&recent, 7, 10), kept(&recent, 8, 10)), (None, Some((vec![8], 8))));
        recent.add(12, Some(made(12, 1)));
        assert_eq!((kept(&recent, 8, 10), kept(&recent, 12, 10)), (None, Some((vec![12], 12))));
    }

    /// Claim 3.
    #[test]
    fn it_is_bounded_in_bytes() {
        let mut recent = Recent::after(0);
        recent.add(1, Some(made(1, REVISION_BYTES_MAX)));
        assert_eq!(kept(&recent, 1, 1), None, "too large to keep");
        let each = REVISION_BYTES_MAX / 2;
        for revision in 2..200 {
            recent.add(revision, Some(made(revision, each)));
            assert!(recent.size <= BYTES_MAX);
        }
        assert!(kept(&recent, 199, 1).is_some() && recent.revisions.len() >= BYTES_MAX / each - 1);
        for revision in 200..100_000 {
            recent.add(revision, Some(made(revision, 0)));
            assert!(recent.size <= BYTES_MAX, "many small ones are bounded as well");
        }
    }

    /// Claim 3: a request is freed once it is applied, although its changes are kept.
    #[test]
    fn changes_share_nothing_with_their_requests() {
        let request = Bytes::from(vec![1; 1000]);
        let row = KeyValue { key: request.slice(0..3), value: request.slice(3..6), ..KeyValue::default() };
        let mut made = Made::default();
        made.add(row_at(2, Kind::Put), &row, 6);
        drop(row);
        assert!(request.is_unique());
    }
}
