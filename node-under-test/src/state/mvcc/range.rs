//! Range reads: which versions a request sees, and in what shape it gets them.
//!
//! Two steps, so that the first can run under the store's lock (it touches the key index only) and
//! the second on a view of the engine without it.

use super::budget::Room;
use super::interval::Interval;
use super::row::RowKey;
use super::state::State;
use super::{Rejection, Result};
use node_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use node_proto::etcdserverpb::{RangeRequest, RangeResponse, ResponseHeader};
use node_proto::mvccpb::KeyValue;

/// The part of the index that a range request matched.
pub struct Selection {
    /// The revision of the store when it was selected.
    revision: i64,
    /// Live keys in the interval, whatever the limit and the filters.
    count: i64,
    rows: Vec<RowKey>,
}

/// Selects at most one row more than the limit asks for, so that `more` can be answered.
///
/// # Errors
/// [`Rejection::COMPACTED`], [`Rejection::FUTURE_REVISION`].
pub fn select(state: &State, now: i64, request: &RangeRequest) -> std::result::Result<Selection, Rejection> {
    let at = if request.revision <= 0 { now } else { request.revision };
    check_revision(state, now, at)?;
    let interval = Interval::new(&request.key, &request.range_end);
    let cap = fetch_cap(request);
    let mut selection = Selection { revision: now, count: 0, rows: Vec::new() };
    for (_, version) in state.index.range(&interval, at) {
        selection.count += 1;
        let wanted = passes(request.min_mod_revision, request.max_mod_revision, version.revision.main)
            && passes(request.min_create_revision, request.max_create_revision, version.create);
        if wanted && !request.count_only && selection.rows.len() < cap {
            selection.rows.push(version.row());
        }
    }
    Ok(selection)
}

/// Checks whether a reader may look at revision `at`, when the newest is `now`.
///
/// # Errors
/// [`Rejection::COMPACTED`], [`Rejection::FUTURE_REVISION`].
pub fn check_revision(state: &State, now: i64, at: i64) -> std::result::Result<(), Rejection> {
    if at > now {
        return Err(Rejection::FUTURE_REVISION);
    }
    if at < state.compact {
        return Err(Rejection::COMPACTED);
    }
    Ok(())
}

fn fetch_cap(request: &RangeRequest) -> usize {
    let filtered =
        [request.min_mod_revision, request.max_mod_revision, request.min_create_revision, request.max_create_revision];
    let sorted = request.sort_order() != SortOrder::None;
    if request.limit <= 0 || sorted || filtered.iter().any(|bound| *bound != 0) {
        return usize::MAX;
    }
    usize::try_from(request.limit).map_or(usize::MAX, |limit| limit.saturating_add(1))
}

fn passes(min: i64, max: i64, value: i64) -> bool {
    (min == 0 || value >= min) && (max == 0 || value <= max)
}

/// Fetches what was selected, then sorts, cuts and strips it as asked.
///
/// # Errors
/// Whatever `fetch` answers; [`Rejection::ANSWER_TOO_LARGE`].
pub fn finish(
    request: &RangeRequest,
    selection: Selection,
    room: &mut Room,
    mut fetch: impl FnMut(RowKey) -> Result<KeyValue>,
) -> Result<RangeResponse> {
    // Values are let go one by one, unless they say in which order the keys come.
    let keys_only = request.keys_only && request.sort_target() != SortTarget::Value;
    let mut kvs = Vec::new();
    for row in selection.rows {
        let mut kv = fetch(row)?;
        if keys_only {
            kv.value.clear();
        }
        room.hold(&kv)?;
        kvs.push(kv);
    }
    sort(request, &mut kvs);
    let limit = usize::try_from(request.limit).ok().filter(|limit| *limit > 0).unwrap_or(usize::MAX);
    let more = kvs.len() > limit;
    kvs.truncate(limit);
    if request.keys_only {
        kvs.iter_mut().for_each(|kv| kv.value.clear());
    }
    Ok(RangeResponse { header: header(selection.revision), kvs, more, count: selection.count })
}

fn sort(request: &RangeRequest, kvs: &mut [KeyValue]) {
    match request.sort_target() {
        // Rows come in key order.
        SortTarget::Key => {}
        SortTarget::Version => kvs.sort_by_key(|kv| kv.version),
        SortTarget::Create => kvs.sort_by_key(|kv| kv.create_revision),
        SortTarget::Mod => kvs.sort_by_key(|kv| kv.mod_revision),
        SortTarget::Value => kvs.sort_by(|left, right| left.value.cmp(&right.value)),
    }
    if request.sort_order() == SortOrder::Descend {
        kvs.reverse();
    }
}

/// A header as apply can know it: the revision alone. The services fill in the rest.
pub fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader { revision, ..ResponseHeader::default() })
}
