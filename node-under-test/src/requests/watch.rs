//! The watches of one stream, and what each is to be sent next. No I/O but reads of the store.
//!
//! Invariants: a watch has been sent every matching event below its `next` revision, in order, and
//! nothing else; the events of a revision are in one response (or in consecutive fragments, if it
//! asked for those).

use crate::state::mvcc::row::Kind;
use crate::state::{Change, Error, History, Interest, Interval, Rejection, Store, Wanted};
use node_proto::etcdserverpb::watch_create_request::FilterType;
use node_proto::etcdserverpb::watch_request::RequestUnion;
use node_proto::etcdserverpb::{WatchCreateRequest, WatchRequest, WatchResponse};
use node_proto::mvccpb::Event;
use node_proto::mvccpb::event::EventType;
use prost::Message;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::Notify;

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
    interest: Interest,
    /// History has to be read up to this revision; beyond it, no change concerned a watch.
    goal: i64,
    watchers: BTreeMap<i64, Watcher>,
    next_id: i64,
    /// The client asked how far its watches have come.
    progress_wanted: bool,
}

impl Session {
    pub fn new(store: Arc<Store>) -> Self {
        let interest = store.join();
        Self { store, interest, goal: 0, watchers: BTreeMap::new(), next_id: 0, progress_wanted: false }
    }

    /// True if a watch, or an answer, waits for [`Session::step`].
    pub fn is_behind(&self) -> bool {
        self.progress_wanted || self.interest.is_marked() || self.lags()
    }

    /// True if there is history to read.
    fn lags(&self) -> bool {
        self.oldest_next().is_some_and(|next| next <= self.goal)
    }

    /// The signal that the watches may be behind.
    pub fn woken(&self) -> Arc<Notify> {
        self.interest.woken()
    }

    /// Takes in what was published since, and returns a revision up to which every change that
    /// concerns a watch is known. Watches that had everything up to the goal have everything up to
    /// the next mark, however far that is.
    fn refresh(&mut self) -> i64 {
        // In this order: see `state::Interest`.
        let published = self.store.revision();
        let mark = self.interest.take();
        if !self.lags() {
            let unmarked = mark.unwrap_or(i64::MAX).min(published + 1);
            self.watchers.values_mut().for_each(|watcher| watcher.next = watcher.next.max(unmarked));
        }
        if mark.is_some() {
            // The changes behind the mark may be later than what was read before it.
            self.goal = self.goal.max(self.store.revision());
        }
        published
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
        let revision = self.refresh();
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
        self.interest.want(&interval);
        // What is published later is marked.
        let revision = self.store.revision();
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
        if watcher.next <= revision {
            self.goal = self.goal.max(revision);
        }
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
        let known = self.remove(id);
        let revision = self.store.revision();
        known.then(|| Step { revision, response: canceled(id, "") }).into_iter().collect()
    }

    fn remove(&mut self, id: i64) -> bool {
        let removed = self.watchers.remove(&id);
        removed.inspect(|watcher| self.interest.forget(&watcher.interval)).is_some()
    }

    fn cancel_compacted(&mut self, id: i64, compact_revision: i64) -> Option<Step> {
        if !self.remove(id) {
            return None;
        }
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
        let now = self.refresh();
        let Some(from) = self.oldest_next().filter(|next| *next <= self.goal) else {
            return Ok(Some(self.progress(now)));
        };
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
        let now = self.refresh();
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
    use bytes::Bytes;
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

    /// A step of a client, or of those who write.
    #[derive(Debug, Clone)]
    enum Deed {
        Put(String),
        Delete(String),
        /// So many keys in one revision.
        PutMany(usize),
        /// Key, end, and how far back the watch starts.
        Watch(String, String, i64),
        Cancel,
        /// The stream reads what has come.
        Look,
    }

    fn deed() -> impl Strategy<Value = Deed> {
        let key = "[a-c]{1,2}";
        prop_oneof![
            4 => key.prop_map(Deed::Put),
            2 => key.prop_map(Deed::Delete),
            1 => (1usize..4).prop_map(Deed::PutMany),
            3 => (key, prop_oneof![Just(String::new()), Just("\0".to_owned()), "[a-d]"], -2i64..6)
                .prop_map(|(key, end, back)| Deed::Watch(key, end, back)),
            1 => Just(Deed::Cancel),
            3 => Just(Deed::Look),
        ]
    }

    /// Events of one watch: revision, key, and true for a put.
    type Heard = Vec<(i64, Bytes, bool)>;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

        /// At any pace, each watch gets every matching event once, in order, with revisions whole.
        /// A stream may have many watches, which start in the past or the future.
        #[test]
        fn every_watch_gets_its_events_once_and_in_order(
            before in 0usize..4,
            deeds in proptest::collection::vec(deed(), 1..60),
        ) {
            let mut real = TestStore::default();
            (0..before).for_each(|_| real.put("b", "v"));
            let mut session = Session::new(real.store.clone());
            let mut log: Heard = (2..).take(before).map(|revision| (revision, "b".into(), true)).collect();
            // Interval, first revision, and what was heard.
            let mut watches: BTreeMap<i64, (Interval, i64, Heard)> = BTreeMap::new();
            for deed in deeds {
                let known = real.store.revision();
                match deed {
                    Deed::Put(key) => real.put(&key, "v"),
                    Deed::Delete(key) => real.delete(&key),
                    Deed::PutMany(count) => real.put_all((0..count).map(|at| format!("b{at}"))),
                    Deed::Watch(key, end, back) => {
                        let (key, range_end) = (Bytes::from(key), Bytes::from(end));
                        let interval = Interval::new(&key, &range_end);
                        let start_revision = if back == 0 { 0 } else { (known - back).max(1) };
                        let request = WatchCreateRequest { key, range_end, start_revision, ..Default::default() };
                        let [created] = create(&mut session, request).try_into().unwrap();
                        let first = if back == 0 { known + 1 } else { start_revision };
                        prop_assert_eq!(created.canceled, interval.is_empty());
                        if !created.canceled {
                            watches.insert(created.watch_id, (interval, first, Vec::new()));
                        }
                    }
                    Deed::Cancel => {
                        if let Some((id, (interval, first, heard))) = watches.pop_first() {
                            let request_union = Some(RequestUnion::CancelRequest(WatchCancelRequest { watch_id: id }));
                            let told = session.handle(WatchRequest { request_union });
                            prop_assert!(told[0].response.canceled);
                            let expected = matching(&log, &interval, first);
                            prop_assert_eq!(&heard, &expected[..heard.len()]);
                        }
                    }
                    Deed::Look => collect(&mut session, &mut watches),
                }
                log.extend(real.changes_since(known));
            }
            collect(&mut session, &mut watches);
            for (interval, first, heard) in watches.into_values() {
                prop_assert_eq!(heard, matching(&log, &interval, first));
            }
        }
    }

    fn matching(log: &Heard, interval: &Interval, first: i64) -> Heard {
        let matches = |(revision, key, _): &&(i64, Bytes, bool)| *revision >= first && interval.contains(key);
        log.iter().filter(matches).cloned().collect()
    }

    fn collect(session: &mut Session, watches: &mut BTreeMap<i64, (Interval, i64, Heard)>) {
        for Step { revision, response } in drain(session) {
            for event in response.events {
                let put = event.r#type() == EventType::Put;
                let kv = event.kv.unwrap();
                assert!(kv.mod_revision <= revision);
                let (_, _, heard) = watches.get_mut(&response.watch_id).unwrap();
                heard.push((kv.mod_revision, kv.key, put));
            }
        }
    }

    /// Streams that are woken, and never look otherwise, miss nothing while another thread writes.
    #[test]
    fn no_change_passes_between_a_look_and_the_wait_for_the_next() {
        const PUTS: usize = 2_000;
        let mut real = TestStore::default();
        let keys = ["a", "b", "c", "d"];
        let streams: Vec<_> = keys
            .map(|key| {
                let store = real.store.clone();
                std::thread::spawn(move || {
                    let mut session = Session::new(store);
                    let request = WatchCreateRequest { key: key.into(), start_revision: 2, ..Default::default() };
                    create(&mut session, request);
                    let woken = session.woken();
                    let mut heard = 0;
                    while heard < PUTS / keys.len() {
                        let steps = drain(&mut session);
                        heard += steps.iter().map(|step| step.response.events.len()).sum::<usize>();
                        if !session.is_behind() && heard < PUTS / keys.len() {
                            wait(&woken);
                        }
                    }
                    heard
                })
            })
            .into_iter()
            .collect();
        (0..PUTS).for_each(|at| real.put(keys[at % keys.len()], "v"));
        for stream in streams {
            assert_eq!(stream.join().unwrap(), PUTS / keys.len());
        }
    }

    fn wait(woken: &Notify) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(woken.notified());
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
