//! The watches of one stream, and what each is to be sent next. No I/O but reads of the store.
//!
//! Invariants: a watch has been sent every matching event below its `next` revision, in order, and
//! nothing else; the events of a revision are in one response (or in consecutive fragments, if it
//! asked for those).

use crate::state::mvcc::row::Kind;
use crate::state::{Change, Error, History, Interval, Rejection, Store, Wanted};
use node_proto::etcdserverpb::watch_create_request::FilterType;
use node_proto::etcdserverpb::watch_request::RequestUnion;
use node_proto::etcdserverpb::{WatchCreateRequest, WatchRequest, WatchResponse};
use node_proto::mvccpb::Event;
use node_proto::mvccpb::event::EventType;
use prost::Message;
use std::collections::BTreeMap;
use std::sync::Arc;

/// History that one step reads, in bytes of rows; a revision is never cut.
const HISTORY_BYTES: usize = 512 * 1024;
/// Size from which a response is sent in fragments, in bytes.
const FRAGMENT_BYTES: usize = 1_536 * 1024;
/// etcd's id for what concerns no watch in particular.
const NO_WATCH: i64 = -1;

/// A response that still needs its header.
#[derive(Debug)]
pub struct Step {
    pub revision: i64,
    pub response: WatchResponse,
}

struct Watcher {
    interval: Interval,
    next: i64,
    puts: bool,
    deletes: bool,
    previous: bool,
    fragment: bool,
    progress: bool,
    /// It was sent something since the last periodic progress.
    active: bool,
}

impl Watcher {
    fn event(&self, change: &Change) -> Option<Event> {
        let wanted = match change.kind {
            Kind::Put => self.puts,
            Kind::Tombstone => self.deletes,
        };
        if change.kv.mod_revision < self.next || !wanted || !self.interval.contains(&change.kv.key) {
            return None;
        }
        let r#type = match change.kind {
            Kind::Put => EventType::Put,
            Kind::Tombstone => EventType::Delete,
        };
        let prev_kv = change.previous.clone().filter(|_| self.previous);
        Some(Event { r#type: r#type.into(), kv: Some(change.kv.clone()), prev_kv })
    }
}

pub struct Session {
    store: Arc<Store>,
    watchers: BTreeMap<i64, Watcher>,
    next_id: i64,
    /// The client asked how far its watches have come.
    progress_wanted: bool,
}

impl Session {
    pub fn new(store: Arc<Store>) -> Self {
        Self { store, watchers: BTreeMap::new(), next_id: 0, progress_wanted: false }
    }

    /// True if a watch, or an answer, waits for [`Session::step`].
    pub fn is_behind(&self) -> bool {
        self.progress_wanted || self.oldest_next().is_some_and(|next| next <= self.store.revision())
    }

    fn oldest_next(&self) -> Option<i64> {
        self.watchers.values().map(|watcher| watcher.next).min()
    }

    pub fn handle(&mut self, request: WatchRequest) -> Vec<Step> {
        match request.request_union {
            Some(RequestUnion::CreateRequest(request)) => self.create(request),
            Some(RequestUnion::CancelRequest(request)) => self.cancel(request.watch_id),
            Some(RequestUnion::ProgressRequest(_)) => {
                self.progress_wanted = true;
                Vec::new()
            }
            None => Vec::new(),
        }
    }

    fn create(&mut self, request: WatchCreateRequest) -> Vec<Step> {
        let revision = self.store.revision();
        let filters: Vec<FilterType> = request.filters().collect();
        // etcd: no key means the smallest one.
        let key = if request.key.is_empty() { vec![0].into() } else { request.key };
        let interval = Interval::new(&key, &request.range_end);
        let refusal = if interval.is_empty() {
            Some("mvcc: watcher range is empty")
        } else if request.watch_id != 0 && self.watchers.contains_key(&request.watch_id) {
            Some("mvcc: duplicate watch ID provided on the WatchStream")
        } else {
            None
        };
        if let Some(reason) = refusal {
            let canceled = WatchResponse { watch_id: NO_WATCH, created: true, ..canceled(NO_WATCH, reason) };
            return vec![Step { revision, response: canceled }];
        }
        let id = if request.watch_id != 0 { request.watch_id } else { self.free_id() };
        let watcher = Watcher {
            interval,
            next: if request.start_revision > 0 { request.start_revision } else { revision + 1 },
            puts: !filters.contains(&FilterType::Noput),
            deletes: !filters.contains(&FilterType::Nodelete),
            previous: request.prev_kv,
            fragment: request.fragment,
            progress: request.progress_notify,
            active: false,
        };
        let compact_revision = self.store.compact_revision();
        let compacted = watcher.next < compact_revision;
        self.watchers.insert(id, watcher);
        let created = WatchResponse { watch_id: id, created: true, ..WatchResponse::default() };
        let mut steps = vec![Step { revision, response: created }];
        if compacted {
            steps.extend(self.cancel_compacted(id, compact_revision));
        }
        steps
    }

    fn free_id(&mut self) -> i64 {
        while self.watchers.contains_key(&self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        self.next_id - 1
    }

    fn cancel(&mut self, id: i64) -> Vec<Step> {
        let known = self.watchers.remove(&id).is_some();
        let revision = self.store.revision();
        known.then(|| Step { revision, response: canceled(id, "") }).into_iter().collect()
    }

    fn cancel_compacted(&mut self, id: i64, compact_revision: i64) -> Option<Step> {
        self.watchers.remove(&id)?;
        let response = WatchResponse { compact_revision, ..canceled(id, Rejection::COMPACTED.message) };
        Some(Step { revision: self.store.revision(), response })
    }

    /// Reads one piece of history and says what each watch gets of it. A piece may be as large as
    /// the store.
    ///
    /// # Errors
    /// The engine failed.
    pub fn step(&mut self) -> Result<Vec<Step>, Error> {
        let read = |store: &Store, wanted: &Wanted<'_>| store.history(wanted).map(Some);
        Ok(self.step_by(read)?.unwrap_or_default())
    }

    /// The same if that is short work; else `None`, and nothing has happened.
    ///
    /// # Errors
    /// As [`Session::step`].
    pub fn short_step(&mut self) -> Result<Option<Vec<Step>>, Error> {
        self.step_by(Store::history_if_short)
    }

    fn step_by(
        &mut self,
        read: impl FnOnce(&Store, &Wanted<'_>) -> Result<Option<History>, Error>,
    ) -> Result<Option<Vec<Step>>, Error> {
        let now = self.store.revision();
        let Some(from) = self.oldest_next().filter(|next| *next <= now) else { return Ok(Some(self.progress(now))) };
        let with_previous = self.watchers.values().any(|watcher| watcher.previous);
        let key = |key: &[u8]| self.watchers.values().any(|watcher| watcher.interval.contains(key));
        match read(&self.store, &Wanted { from, bytes_max: HISTORY_BYTES, with_previous, key: &key }) {
            Ok(history) => Ok(history.map(|history| self.deliver(&history))),
            Err(Error::Rejected(_)) => Ok(Some(self.overtaken(self.store.compact_revision()))),
            Err(error) => Err(error),
        }
    }

    fn deliver(&mut self, history: &History) -> Vec<Step> {
        let mut steps = Vec::new();
        for (id, watcher) in &mut self.watchers {
            let events: Vec<Event> = history.changes.iter().filter_map(|change| watcher.event(change)).collect();
            watcher.next = watcher.next.max(history.through + 1);
            if !events.is_empty() {
                watcher.active = true;
                let responses = responses(*id, events, watcher.fragment);
                steps.extend(responses.map(|response| Step { revision: history.through, response }));
            }
        }
        steps
    }

    /// A compaction overtook watches that were far behind: they are told, and end.
    fn overtaken(&mut self, compact_revision: i64) -> Vec<Step> {
        let lost: Vec<i64> =
            self.watchers.iter().filter(|(_, watcher)| watcher.next < compact_revision).map(|(id, _)| *id).collect();
        lost.into_iter().filter_map(|id| self.cancel_compacted(id, compact_revision)).collect()
    }

    /// The answer to a progress request, once every watch has everything up to `now`.
    fn progress(&mut self, now: i64) -> Vec<Step> {
        let wanted = std::mem::take(&mut self.progress_wanted);
        let response = WatchResponse { watch_id: NO_WATCH, ..WatchResponse::default() };
        wanted.then_some(Step { revision: now, response }).into_iter().collect()
    }

    /// Progress for the watches that asked for it, after an interval without events.
    pub fn periodic_progress(&mut self) -> Vec<Step> {
        let now = self.store.revision();
        let mut steps = Vec::new();
        for (id, watcher) in &mut self.watchers {
            if watcher.progress && !std::mem::take(&mut watcher.active) {
                let response = WatchResponse { watch_id: *id, ..WatchResponse::default() };
                steps.push(Step { revision: now.min(watcher.next - 1), response });
            }
        }
        steps
    }
}

fn canceled(id: i64, reason: &str) -> WatchResponse {
    WatchResponse { watch_id: id, canceled: true, cancel_reason: reason.to_owned(), ..WatchResponse::default() }
}

/// One response, or as many fragments as it takes.
fn responses(id: i64, events: Vec<Event>, fragment: bool) -> impl Iterator<Item = WatchResponse> {
    let mut parts: Vec<Vec<Event>> = vec![Vec::new()];
    let mut bytes = 0;
    for event in events {
        let event_bytes = event.encoded_len();
        if fragment && bytes > 0 && bytes + event_bytes > FRAGMENT_BYTES {
            parts.push(Vec::new());
            bytes = 0;
        }
        bytes += event_bytes;
        if let Some(part) = parts.last_mut() {
            part.push(event);
        }
    }
    let last = parts.len() - 1;
    parts.into_iter().enumerate().map(move |(place, events)| WatchResponse {
        watch_id: id,
        fragment: place < last,
        events,
        ..WatchResponse::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestStore;
    use node_proto::etcdserverpb::{WatchCancelRequest, WatchProgressRequest};
    use proptest::prelude::*;

    fn create(session: &mut Session, request: WatchCreateRequest) -> Vec<WatchResponse> {
        let request_union = Some(RequestUnion::CreateRequest(request));
        session.handle(WatchRequest { request_union }).into_iter().map(|step| step.response).collect()
    }

    fn drain(session: &mut Session) -> Vec<Step> {
        let mut steps = Vec::new();
        while session.is_behind() {
            steps.extend(session.step().unwrap());
        }
        steps
    }

    fn all_keys(start_revision: i64) -> WatchCreateRequest {
        WatchCreateRequest { key: vec![0].into(), range_end: vec![0].into(), start_revision, ..Default::default() }
    }

    proptest! {
        /// Whatever the pace, each watch gets every matching event once, in order, with revisions
        /// whole.
        #[test]
        fn every_watch_gets_its_events_once_and_in_order(
            ops in proptest::collection::vec(("[a-c]", any::<bool>(), any::<bool>()), 1..60),
            starts in proptest::collection::vec(0i64..20, 1..4),
        ) {
            let mut real = TestStore::default();
            let mut session = Session::new(real.store.clone());
            let mut sent: BTreeMap<i64, Vec<(i64, bool)>> = BTreeMap::new();
            for start in &starts {
                let id = create(&mut session, all_keys(*start))[0].watch_id;
                sent.insert(id, Vec::new());
            }
            let mut log = Vec::new();
            for (key, put, look) in ops {
                let before = real.store.revision();
                if put { real.put(&key, "v") } else { real.delete(&key) }
                if real.store.revision() > before {
                    log.push((real.store.revision(), put));
                }
                if look {
                    collect(&mut session, &mut sent);
                }
            }
            collect(&mut session, &mut sent);
            for (start, events) in starts.iter().zip(sent.values()) {
                let first = if *start == 0 { 2 } else { *start };
                let expected: Vec<_> = log.iter().copied().filter(|(revision, _)| *revision >= first).collect();
                prop_assert_eq!(events, &expected);
            }
        }
    }

    fn collect(session: &mut Session, sent: &mut BTreeMap<i64, Vec<(i64, bool)>>) {
        for Step { revision, response } in drain(session) {
            for event in response.events {
                let put = event.r#type() == EventType::Put;
                let main = event.kv.unwrap().mod_revision;
                assert!(main <= revision);
                sent.get_mut(&response.watch_id).unwrap().push((main, put));
            }
        }
    }

    #[test]
    fn a_compacted_start_is_created_then_canceled() {
        let mut real = TestStore::default();
        for value in ["1", "2", "3"] {
            real.put("a", value);
        }
        real.delete("a");
        real.compact(5);
        let mut session = Session::new(real.store.clone());
        let [created, gone] = create(&mut session, all_keys(4)).try_into().unwrap();
        assert!(created.created && !created.canceled);
        assert!(gone.canceled && gone.compact_revision == 5 && gone.watch_id == created.watch_id);
        // What the client is told to start from must work, deletes included.
        create(&mut session, all_keys(gone.compact_revision));
        let steps = drain(&mut session);
        assert_eq!(steps[0].response.events[0].r#type(), EventType::Delete);
    }

    #[test]
    fn a_compaction_that_overtakes_a_slow_watch_ends_it() {
        let mut real = TestStore::default();
        let mut session = Session::new(real.store.clone());
        create(&mut session, all_keys(0));
        for value in ["1", "2", "3"] {
            real.put("a", value);
        }
        real.compact(4);
        let steps = drain(&mut session);
        assert_eq!(steps.len(), 1);
        assert!(steps[0].response.canceled && steps[0].response.compact_revision == 4);
        assert!(session.watchers.is_empty());
    }

    #[test]
    fn filters_previous_values_and_cancel() {
        let mut real = TestStore::default();
        real.put("a", "1");
        let mut session = Session::new(real.store.clone());
        let filters = vec![FilterType::Nodelete.into()];
        create(&mut session, WatchCreateRequest { prev_kv: true, filters, ..all_keys(0) });
        real.put("a", "2");
        real.delete("a");
        let steps = drain(&mut session);
        let [event] = steps[0].response.events.as_slice() else { panic!("{steps:?}") };
        assert_eq!(event.prev_kv.as_ref().unwrap().value, "1");
        let request_union = Some(RequestUnion::CancelRequest(WatchCancelRequest { watch_id: 0 }));
        assert!(session.handle(WatchRequest { request_union })[0].response.canceled);
        real.put("a", "3");
        assert!(!session.is_behind());
    }

    /// Progress is claimed only once everything before it was sent.
    #[test]
    fn progress_comes_after_the_events() {
        let mut real = TestStore::default();
        let mut session = Session::new(real.store.clone());
        create(&mut session, all_keys(0));
        real.put("a", "1");
        session.handle(WatchRequest { request_union: Some(RequestUnion::ProgressRequest(WatchProgressRequest {})) });
        let steps = drain(&mut session);
        assert_eq!(steps.iter().map(|step| step.response.watch_id).collect::<Vec<_>>(), [0, NO_WATCH]);
        assert_eq!(steps[1].revision, 2);
    }

    #[test]
    fn fragments_are_marked_and_lose_nothing() {
        let event = || Event {
            kv: Some(node_proto::mvccpb::KeyValue { value: vec![0; 700_000].into(), ..Default::default() }),
            ..Default::default()
        };
        let parts: Vec<_> = responses(3, vec![event(), event(), event(), event(), event()], true).collect();
        let shape: Vec<_> = parts.iter().map(|part| (part.events.len(), part.fragment)).collect();
        assert_eq!(shape, [(2, true), (2, true), (1, false)]);
        assert_eq!(responses(3, vec![event(), event(), event()], false).count(), 1);
    }
}
