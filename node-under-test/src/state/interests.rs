//! Streams of watches, and the keys that each waits for: a change wakes those that it concerns, and
//! no others.
//!
//! 1. *A stream that reads the published revision first and takes its mark second has missed no
//!    change up to that revision* in the intervals that it wants: a state becomes visible while its
//!    marks are made, and nothing here can be asked in between ([`Interests::publish`]).
//! 2. *An interval counts for every revision that is published after [`Interest::want`] returns.*
//! 3. A mark is the first revision since the last one was taken that may concern the stream. It may
//!    be set for nothing: where it is not known what an entry changed, all streams are marked.

use super::mvcc::{Interval, Made};
use bytes::Bytes;
use interavl::IntervalTree;
use node_base::sabotage::{Bug, planted};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// An end of an interval of keys.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Edge {
    Key(Bytes),
    BehindAll,
}

type StreamId = u64;

#[derive(Debug, Default)]
pub struct Interests(Mutex<Streams>);

#[derive(Debug, Default)]
struct Streams {
    by_interval: IntervalTree<Edge, BTreeSet<StreamId>>,
    by_id: BTreeMap<StreamId, Stream>,
    next_id: StreamId,
}

#[derive(Debug, Default)]
struct Stream {
    mark: Option<i64>,
    woken: Arc<Notify>,
    /// Its intervals, and the number of its watches that want each.
    wants: BTreeMap<(Edge, Edge), usize>,
}

/// The keys that an entry changed.
#[derive(Debug, Clone)]
pub enum Changed {
    /// By the entry that made this revision.
    By(i64, Arc<Made>),
    /// Any, from this revision on.
    Anything(i64),
}

impl Interests {
    /// A new stream, which wants nothing yet.
    pub fn join(self: &Arc<Self>) -> Interest {
        let mut streams = self.streams();
        let id = streams.next_id;
        streams.next_id += 1;
        let stream = Stream::default();
        let woken = Arc::clone(&stream.woken);
        streams.by_id.insert(id, stream);
        Interest { id, woken, all: Arc::clone(self) }
    }

    /// True if no stream is open. What an entry changes need not be known then.
    pub fn is_empty(&self) -> bool {
        self.streams().by_id.is_empty()
    }

    /// Marks the streams that `changed` concerns, lets `publish` make the new state visible, and
    /// then wakes them (claim 1). `changed` ascends by revision, and holds all that changed since
    /// the last call.
    pub fn publish(&self, changed: &[Changed], publish: impl FnOnce()) {
        let mut streams = self.streams();
        let woken: Vec<_> = changed.iter().flat_map(|changed| streams.mark(changed)).collect();
        publish();
        drop(streams);
        woken.iter().for_each(|woken| woken.notify_one());
    }

    fn streams(&self) -> MutexGuard<'_, Streams> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Streams {
    /// Those that had no mark before.
    fn mark(&mut self, changed: &Changed) -> Vec<Arc<Notify>> {
        let (revision, made) = match changed {
            Changed::By(revision, made) => (*revision, Some(made)),
            Changed::Anything(revision) => (*revision, None),
        };
        let Self { by_interval, by_id, .. } = self;
        let mut woken = Vec::new();
        let mut mark = |stream: &mut Stream| {
            if stream.mark.is_none() {
                stream.mark = Some(revision);
                woken.push(Arc::clone(&stream.woken));
            }
        };
        match made.and_then(|made| made.keys()) {
            Some(keys) => {
                let heeded = if planted(Bug::WatchGap) { 1 } else { usize::MAX };
                for key in keys.take(heeded) {
                    let key = edges(&Interval::new(key, &Bytes::new()));
                    for (_, ids) in by_interval.iter_overlaps(&(key.0..key.1)) {
                        ids.iter().filter_map(|id| by_id.get_mut(id).map(&mut mark)).for_each(drop);
                    }
                }
            }
            None => by_id.values_mut().for_each(mark),
        }
        woken
    }

    fn forget(&mut self, id: StreamId, (start, end): (Edge, Edge)) {
        let range: Range<Edge> = start..end;
        if let Some(ids) = self.by_interval.get_mut(&range) {
            ids.remove(&id);
            if ids.is_empty() {
                self.by_interval.remove(&range);
            }
        }
    }
}

/// Only of an interval that is not empty.
fn edges(interval: &Interval) -> (Edge, Edge) {
    let (start, end) = interval.clone().half_open();
    (Edge::Key(start), end.map_or(Edge::BehindAll, Edge::Key))
}

/// One stream's part in them. It ends with this.
#[derive(Debug)]
pub struct Interest {
    id: StreamId,
    woken: Arc<Notify>,
    all: Arc<Interests>,
}

impl Interest {
    /// One more watch of the stream wants `interval`, which is not empty.
    pub fn want(&mut self, interval: &Interval) {
        let (start, end) = edges(interval);
        let mut streams = self.all.streams();
        let Streams { by_interval, by_id, .. } = &mut *streams;
        let Some(stream) = by_id.get_mut(&self.id) else { return };
        let watches = stream.wants.entry((start.clone(), end.clone())).or_default();
        *watches += 1;
        if *watches == 1 {
            let range = start..end;
            match by_interval.get_mut(&range) {
                Some(ids) => drop(ids.insert(self.id)),
                None => drop(by_interval.insert(range, BTreeSet::from([self.id]))),
            }
        }
    }

    /// One watch less wants `interval`.
    pub fn forget(&mut self, interval: &Interval) {
        let edges = edges(interval);
        let mut streams = self.all.streams();
        let Some(stream) = streams.by_id.get_mut(&self.id) else { return };
        let Some(watches) = stream.wants.get_mut(&edges) else { return };
        *watches -= 1;
        if *watches == 0 {
            stream.wants.remove(&edges);
            streams.forget(self.id, edges);
        }
    }

    /// True if there is a mark to take.
    pub fn is_marked(&self) -> bool {
        self.all.streams().by_id.get(&self.id).is_some_and(|stream| stream.mark.is_some())
    }

    /// Takes the mark away, if there is one.
    pub fn take(&mut self) -> Option<i64> {
        self.all.streams().by_id.get_mut(&self.id).and_then(|stream| stream.mark.take())
    }

    /// The signal that a mark was made. It is kept until someone waits for it, and may come without
    /// a mark.
    pub fn woken(&self) -> Arc<Notify> {
        Arc::clone(&self.woken)
    }
}

impl Drop for Interest {
    fn drop(&mut self) {
        let mut streams = self.all.streams();
        let stream = streams.by_id.remove(&self.id);
        for edges in stream.into_iter().flat_map(|stream| stream.wants.into_keys()) {
            streams.forget(self.id, edges);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::mvcc::row::{Kind, Revision, RowKey};
    use node_proto::mvccpb::KeyValue;
    use proptest::prelude::*;

    fn bytes() -> impl Strategy<Value = Bytes> {
        proptest::collection::vec(0u8..3, 0..3).prop_map(Bytes::from)
    }

    fn made(key: &Bytes) -> Arc<Made> {
        let mut made = Made::default();
        let at = RowKey { revision: Revision { main: 2, sub: 0 }, kind: Kind::Put };
        made.add(at, &KeyValue { key: key.clone(), ..KeyValue::default() }, 1);
        Arc::new(made)
    }

    proptest! {
        /// Streams want and forget intervals. Several watches of a stream may want the same.
        #[test]
        fn a_change_marks_exactly_the_streams_that_want_its_key(
            steps in proptest::collection::vec((0usize..4, bytes(), bytes(), any::<bool>(), any::<bool>()), 1..60),
        ) {
            let all = Arc::new(Interests::default());
            let mut streams: Vec<(Interest, Vec<Interval>)> = (0..4).map(|_| (all.join(), Vec::new())).collect();
            for (at, (stream, key, end, forget, leave)) in steps.into_iter().enumerate() {
                let (interest, wanted) = &mut streams[stream];
                let interval = Interval::new(&key, &end);
                if forget {
                    if let Some(gone) = wanted.pop() {
                        interest.forget(&gone);
                    }
                } else if !interval.is_empty() {
                    interest.want(&interval);
                    wanted.push(interval);
                }
                if leave && forget {
                    streams[stream] = (all.join(), Vec::new());
                }
                let revision = at as i64;
                all.publish(&[Changed::By(revision, made(&key))], || {});
                for (interest, wanted) in &mut streams {
                    let concerned = wanted.iter().any(|interval| interval.contains(&key));
                    prop_assert_eq!(interest.take(), concerned.then_some(revision));
                }
            }
            drop(streams);
            prop_assert!(all.is_empty() && all.streams().by_interval.iter().next().is_none(), "nothing is left behind");
        }
    }

    #[tokio::test]
    async fn a_mark_is_the_first_of_its_revisions_and_wakes_once() {
        let all = Arc::new(Interests::default());
        let (mut one, other) = (all.join(), all.join());
        let key = Bytes::from_static(b"k");
        one.want(&Interval::new(&key, &Bytes::new()));
        let change = made(&key);
        all.publish(&[], || {});
        all.publish(&[Changed::By(7, Arc::clone(&change)), Changed::By(8, Arc::clone(&change))], || {});
        all.publish(&[Changed::By(9, change)], || {});
        one.woken().notified().await;
        assert_eq!((one.take(), one.take(), other.is_marked()), (Some(7), None, false));
        all.publish(&[Changed::Anything(10)], || assert!(all.0.try_lock().is_err(), "claim 1"));
        one.woken().notified().await;
        other.woken().notified().await;
        assert!(one.is_marked() && other.is_marked());
    }
}
