//! The changes of one entry: every one of them at the entry's main revision, in one batch, which
//! may hold those of the entries before it as well.

use super::budget::{Gathered, Room};
use super::garbage::Garbage;
use super::interval::Interval;
use super::range::header;
use super::reader::Reader;
use super::recent::Made;
use super::row::{self, Kind, Revision, RowKey};
use super::state::State;
use super::{COMPACT_REVISION, Rejection, Result};
use crate::state::leases::{TTL_SECONDS_MAX, TTL_SECONDS_MIN};
use bytes::Bytes;
use node_base::backend::{Batch, Bucket, ReadView};
use node_base::sabotage::{Bug, planted};
use node_proto::command::LeaseRecord;
use node_proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, LeaseGrantRequest,
    LeaseGrantResponse, LeaseRevokeRequest, LeaseRevokeResponse, PutRequest, PutResponse, RangeRequest, RangeResponse,
};
use node_proto::mvccpb::KeyValue;
use prost::Message;

/// Circumstances in which an entry is applied.
#[derive(Debug, Clone, Copy)]
pub struct Applying {
    /// Its proposer waits for the outcome here.
    pub awaited: bool,
    /// An earlier life had applied it, and lost it.
    pub replaying: bool,
}

pub struct Writer<'a> {
    pub state: &'a mut State,
    garbage: &'a mut Garbage,
    pub view: &'a dyn ReadView,
    /// Its changes, on top of those that the entries before it left in the batch.
    pub batch: Batch,
    /// The main revision of this entry's changes, if it makes any.
    main: i64,
    /// Changes made so far, which is also the next sub revision.
    changes: i64,
    /// Leases that came or went: the id, and true if it was granted (or else revoked).
    pub touched_leases: Vec<(i64, bool)>,
    /// This entry was applied by an earlier life, which lost it.
    replaying: bool,
    gathered: Gathered,
    /// Its changes, if someone may want to hear of them.
    made: Option<Made>,
}

/// What remains to be done of an entry when its changes are made.
pub struct Finished {
    pub batch: Batch,
    /// Leases that came or went: the id, and true if it was granted (or else revoked).
    pub leases: Vec<(i64, bool)>,
    /// The changes of keys, if they were to be kept.
    pub made: Option<Made>,
}

impl<'a> Writer<'a> {
    pub fn new(state: &'a mut State, garbage: &'a mut Garbage, view: &'a dyn ReadView, applying: Applying) -> Self {
        let main = state.revision + 1;
        let gathered = Gathered::new(applying.awaited, state);
        let (batch, touched_leases, replaying) = (Batch::default(), Vec::new(), applying.replaying);
        Self { state, garbage, view, batch, main, changes: 0, touched_leases, replaying, gathered, made: None }
    }

    /// Adds to `batch`, the changes of entries before it that the view does not hold.
    pub fn after(mut self, batch: Batch) -> Self {
        self.batch = batch;
        self
    }

    /// Keeps the changes as well, for those who watch.
    pub fn watched(mut self) -> Self {
        self.made = Some(Made::default());
        self
    }

    /// The newest revision that a read inside this entry sees.
    pub fn now(&self) -> i64 {
        if self.changes > 0 { self.main } else { self.main - 1 }
    }

    pub fn reader(&self) -> Reader<'_> {
        Reader { state: self.state, view: self.view, batch: Some(&self.batch), now: self.now() }
    }

    /// True if the answer to this entry grew beyond what its caller can be told.
    pub fn answer_is_too_large(&self) -> bool {
        self.gathered.is_too_large()
    }

    /// Rows that `read` finds in the state as this entry has made it so far.
    fn rows<T: Default>(&mut self, read: impl FnOnce(&Reader<'_>, &mut Room) -> Result<T>) -> Result<T> {
        let now = self.now();
        let reader = Reader { state: self.state, view: self.view, batch: Some(&self.batch), now };
        self.gathered.rows(|room| read(&reader, room))
    }

    /// # Errors
    /// A rejection; the engine failed.
    pub fn range(&mut self, request: &RangeRequest) -> Result<RangeResponse> {
        self.rows(|reader, room| reader.range(request, room))
    }

    /// Ends the entry: the state moves to its revision.
    pub fn finish(self) -> Finished {
        self.state.revision = self.now();
        Finished { batch: self.batch, leases: self.touched_leases, made: self.made }
    }

    fn next_revision(&mut self) -> Revision {
        let revision = Revision { main: self.main, sub: self.changes };
        self.changes += 1;
        revision
    }

    /// # Errors
    /// Rejections of a put, before anything is changed.
    pub fn put(&mut self, request: &PutRequest) -> Result<PutResponse> {
        let (keep_value, keep_lease) = (request.ignore_value, request.ignore_lease);
        let kept = if keep_value || keep_lease { self.reader().newest(&request.key)? } else { None };
        let prev_kv = match request.prev_kv {
            true => self.rows(|reader, room| {
                let previous = reader.newest(&request.key)?;
                previous.iter().try_for_each(|kv| room.hold(kv))?;
                Ok(previous)
            })?,
            false => None,
        };
        let mut row = KeyValue {
            key: request.key.clone(),
            value: request.value.clone(),
            lease: request.lease,
            ..KeyValue::default()
        };
        if keep_value || keep_lease {
            let old = kept.ok_or(Rejection::KEY_NOT_FOUND)?;
            row.value = if keep_value { old.value } else { row.value };
            row.lease = if keep_lease { old.lease } else { row.lease };
        }
        if row.lease != 0 && !self.state.leases.contains(row.lease) {
            return Err(Rejection::LEASE_NOT_FOUND.into());
        }
        self.write(row);
        Ok(PutResponse { header: header(self.now()), prev_kv })
    }

    fn write(&mut self, mut row: KeyValue) {
        let revision = self.next_revision();
        let version = self.state.index.put(&row.key, revision, self.garbage);
        self.state.leases.attach(&row.key, row.lease);
        row.create_revision = version.create;
        row.mod_revision = revision.main;
        row.version = version.version;
        self.write_row(version.row(), &row);
    }

    pub fn delete_range(&mut self, request: &DeleteRangeRequest) -> Result<DeleteRangeResponse> {
        let interval = Interval::new(&request.key, &request.range_end);
        let prev_kvs = match request.prev_kv {
            true => self.rows(|reader, room| reader.newest_of(&interval, room))?,
            false => Vec::new(),
        };
        let keys: Vec<Bytes> = self.state.index.range(&interval, self.now()).map(|(key, _)| key.clone()).collect();
        keys.iter().for_each(|key| self.delete(key));
        let deleted = i64::try_from(keys.len()).unwrap_or(i64::MAX);
        Ok(DeleteRangeResponse { header: header(self.now()), deleted, prev_kvs })
    }

    fn delete(&mut self, key: &Bytes) {
        let revision = self.next_revision();
        if planted(Bug::TombstoneLost) && self.replaying {
            return;
        }
        self.state.index.delete(key, revision, self.garbage);
        self.state.leases.attach(key, 0);
        let row = KeyValue { key: key.clone(), mod_revision: revision.main, ..KeyValue::default() };
        let at = RowKey { revision, kind: Kind::Tombstone };
        self.write_row(at, &row);
    }

    fn write_row(&mut self, at: RowKey, row: &KeyValue) {
        let encoded = row.encode_to_vec();
        if let Some(made) = &mut self.made {
            made.add(at, row, encoded.len());
        }
        self.batch.put(row::BUCKET, at.encode(), encoded);
    }

    /// Moves the compact revision, at once and on every member alike. What it makes unreachable is
    /// removed later, in bounded steps ([`crate::state::Store::sweep_step`]), and how far those got
    /// no reader and no hash can see.
    pub fn compact(&mut self, request: &CompactionRequest) -> Result<CompactionResponse> {
        if request.revision <= self.state.compact {
            return Err(Rejection::COMPACTED.into());
        }
        if request.revision > self.state.revision {
            return Err(Rejection::FUTURE_REVISION.into());
        }
        self.state.compact = request.revision;
        self.batch.put(Bucket::Meta, COMPACT_REVISION, request.revision.to_be_bytes());
        Ok(CompactionResponse { header: header(self.now()) })
    }

    /// # Errors
    /// An id of 0 (one must be chosen before the command is proposed), one in use, a TTL out of
    /// bounds.
    pub fn lease_grant(&mut self, request: &LeaseGrantRequest) -> Result<LeaseGrantResponse> {
        if request.id == 0 {
            return Err(Rejection::LEASE_NOT_FOUND.into());
        }
        if request.ttl > TTL_SECONDS_MAX {
            return Err(Rejection::LEASE_TTL_TOO_LARGE.into());
        }
        if self.state.leases.contains(request.id) {
            return Err(Rejection::LEASE_EXISTS.into());
        }
        let mut ttl = request.ttl.max(TTL_SECONDS_MIN);
        if planted(Bug::ApplyNotDeterministic) {
            // What a hash map yields first: another on each member, and now and then the wrong one.
            let candidates: std::collections::HashMap<i64, ()> = (0..16).map(|extra| (extra, ())).collect();
            ttl += i64::from(candidates.keys().next() == Some(&1));
        }
        self.state.leases.grant(request.id, ttl);
        self.touched_leases.push((request.id, true));
        let record = LeaseRecord { id: request.id, granted_ttl_seconds: ttl };
        self.batch.put(Bucket::Lease, request.id.to_be_bytes(), record.encode_to_vec());
        Ok(LeaseGrantResponse { header: header(self.now()), id: request.id, ttl, error: String::new() })
    }

    /// Deletes the attached keys, ascending, in one revision.
    pub fn lease_revoke(&mut self, request: &LeaseRevokeRequest) -> Result<LeaseRevokeResponse> {
        let keys = self.state.leases.keys(request.id).ok_or(Rejection::LEASE_NOT_FOUND)?;
        keys.iter().for_each(|key| self.delete(key));
        self.state.leases.revoke(request.id);
        self.touched_leases.push((request.id, false));
        self.batch.delete(Bucket::Lease, request.id.to_be_bytes());
        Ok(LeaseRevokeResponse { header: header(self.now()) })
    }
}
