//! Reads of one consistent state: memory, the engine's view that belongs to it, and what is not
//! committed yet.

use super::budget::Room;
use super::interval::Interval;
use super::range;
use super::row::{self, RowKey};
use super::state::State;
use super::{Error, Result};
use bytes::Bytes;
use node_base::backend::{Batch, ReadView};
use node_proto::etcdserverpb::{RangeRequest, RangeResponse};
use node_proto::mvccpb::KeyValue;

pub struct Reader<'a> {
    pub state: &'a State,
    pub view: &'a dyn ReadView,
    /// The changes of the entry that is being applied, and of those before it that the view does
    /// not hold.
    pub batch: Option<&'a Batch>,
    /// The newest revision that this reader sees.
    pub now: i64,
}

impl Reader<'_> {
    /// One of the ranges of a transaction.
    ///
    /// # Errors
    /// A rejection; the engine failed.
    pub fn range(&self, request: &RangeRequest, room: &mut Room) -> Result<RangeResponse> {
        room.pass(self.state, &Interval::new(&request.key, &request.range_end))?;
        let selection = range::select(self.state, self.now, request)?;
        range::finish(request, selection, room, |row| self.fetch(row))
    }

    /// The newest live version of `key`.
    pub fn newest(&self, key: &Bytes) -> Result<Option<KeyValue>> {
        self.state.index.newest(key).map(|version| self.fetch(version.row())).transpose()
    }

    /// The newest live versions in `interval`, ascending by key.
    ///
    /// # Errors
    /// The engine failed; [`super::Rejection::ANSWER_TOO_LARGE`].
    pub fn newest_of(&self, interval: &Interval, room: &mut Room) -> Result<Vec<KeyValue>> {
        let mut kvs = Vec::new();
        for (_, version) in self.state.index.range(interval, self.now) {
            let kv = self.fetch(version.row())?;
            room.hold(&kv)?;
            kvs.push(kv);
        }
        Ok(kvs)
    }

    pub fn fetch(&self, at: RowKey) -> Result<KeyValue> {
        let key = at.encode();
        let value = match self.batch {
            Some(batch) => batch.get(self.view, row::BUCKET, &key)?,
            None => self.view.get(row::BUCKET, &key)?,
        };
        expect_row(at, value)
    }
}

/// A row that the index names must be in the engine: they change together.
pub fn expect_row(at: RowKey, value: Option<Vec<u8>>) -> Result<KeyValue> {
    let value = value.ok_or_else(|| {
        let revision = at.revision;
        Error::Corrupt(format!("row {}.{} is in the index, but not in the engine", revision.main, revision.sub))
    })?;
    row::decode_value(at, &value)
}
