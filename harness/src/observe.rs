//! The observer: one etcd watch of all keys per slot, from revision 1, resumed across every crash
//! at the revision after the last one it delivered. Each whole revision goes to the ledger, which
//! judges the stream and grows the model.
//!
//! A broken stream is not judged, because members are killed all the time. It has to go on exactly
//! where it broke off.

pub mod fresh;
pub mod leaderless;
pub mod live;

use crate::endpoints::Board;
use crate::pace::Lap;
use crate::timer;
use anyhow::bail;
use etcd_client::{Client, ConnectOptions, EventType, WatchClient, WatchOptions, WatchResponse};
use ninelives_evidence::limits;
use ninelives_evidence::member::Slot;
use ninelives_evidence::{Change, Evidence, Heard};
use ninelives_oracle::Ledger;
use node_proto::mvccpb;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// A connection on loopback takes microseconds; a stopped process may never take it.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// Pause before a broken stream is opened again: at first, and at most. A member that was killed is
/// back within tens of milliseconds.
const PAUSE_MIN: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// Running watches. Dropping it ends them.
#[derive(Debug)]
pub struct Observer {
    delivered: BTreeMap<Slot, watch::Receiver<u64>>,
    tasks: JoinSet<()>,
}

impl Observer {
    /// Starts a watch per slot on the current tokio runtime: `slots` is (slot, `http://host:port`),
    /// each with a member that is dead or alive; `board` says which of them serve, in the same
    /// order.
    ///
    /// # Errors
    /// An endpoint is not a URI.
    pub async fn start(slots: &[(Slot, String)], board: &Board, ledger: Arc<Ledger>) -> anyhow::Result<Self> {
        let (mut delivered, mut tasks) = (BTreeMap::new(), JoinSet::new());
        for (place, (slot, endpoint)) in slots.iter().enumerate() {
            let options = ConnectOptions::new().with_connect_timeout(CONNECT_TIMEOUT);
            let client = Client::connect([endpoint], Some(options))
                .await
                .map_err(|error| anyhow::anyhow!("expected a client endpoint, found {endpoint:?}: {error}"))?;
            let watches = client.watch_client().max_decoding_message_size(limits::ANSWER_BYTES_MAX);
            let (sender, receiver) = watch::channel(ledger.delivered(*slot));
            delivered.insert(*slot, receiver);
            let (board, ledger) = (board.clone(), Arc::clone(&ledger));
            tasks.spawn(Stream { slot: *slot, place, board, watches, ledger, delivered: sender }.run());
        }
        Ok(Self { delivered, tasks })
    }

    /// Waits until `slot`'s stream has delivered everything up to `revision`. Returns what it has
    /// delivered: less than `revision` if `bound`, counted from `lap` on, was over first.
    ///
    /// # Errors
    /// The slot is not observed, or its task ended.
    pub async fn wait_revision(
        &self,
        slot: Slot,
        revision: u64,
        (lap, bound): (&Lap, Duration),
    ) -> anyhow::Result<u64> {
        let Some(receiver) = self.delivered.get(&slot) else { bail!("{slot} is not observed") };
        let mut receiver = receiver.clone();
        match lap.within(bound, receiver.wait_for(|delivered| *delivered >= revision)).await {
            Ok(Ok(delivered)) => Ok(*delivered),
            Ok(Err(_)) => bail!("the watch task of {slot} has ended"),
            Err(_) => Ok(self.delivered(slot)),
        }
    }

    /// The revision up to which `slot`'s stream has delivered; 0 if it is not observed.
    pub fn delivered(&self, slot: Slot) -> u64 {
        self.delivered.get(&slot).map_or(0, |receiver| *receiver.borrow())
    }

    /// Ends all watches.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}

struct Stream {
    slot: Slot,
    place: usize,
    board: Board,
    watches: WatchClient,
    ledger: Arc<Ledger>,
    delivered: watch::Sender<u64>,
}

impl Stream {
    async fn run(mut self) {
        let mut pause = PAUSE_MIN;
        loop {
            self.board.wait_serves(self.place).await;
            let from = self.ledger.delivered(self.slot) + 1;
            let why = self.follow(from).await;
            let moved = self.ledger.delivered(self.slot) >= from;
            self.ledger.record(&Evidence::WatchEnded { slot: self.slot, why });
            pause = if moved { PAUSE_MIN } else { (pause * 2).min(PAUSE_MAX) };
            timer::sleep(pause).await;
        }
    }

    /// Follows one watch from `from` until it breaks; returns why.
    async fn follow(&mut self, from: u64) -> String {
        let start = i64::try_from(from).unwrap_or(i64::MAX);
        let options = WatchOptions::new().with_all_keys().with_start_revision(start);
        let mut stream = match self.watches.watch("", Some(options)).await {
            Ok(stream) => stream,
            Err(error) => return error.to_string(),
        };
        self.ledger.record(&Evidence::Watch { slot: self.slot, from });
        loop {
            let response = match stream.message().await {
                Ok(Some(response)) => response,
                Ok(None) => return "the server ended the stream".to_owned(),
                Err(error) => return error.to_string(),
            };
            if let Err(why) = self.deliver(&response) {
                return why;
            }
            if response.canceled() || response.compact_revision() > 0 {
                return self.canceled(&response);
            }
        }
    }

    /// Hands the revisions of one response on. A revision never spans two responses: its second
    /// part would be judged as a repetition.
    fn deliver(&self, response: &WatchResponse) -> Result<(), String> {
        for (revision, changes) in whole_revisions(response)? {
            self.ledger.deliver(self.slot, revision, &changes);
            self.delivered.send_replace(self.ledger.delivered(self.slot));
        }
        Ok(())
    }

    fn canceled(&self, response: &WatchResponse) -> String {
        if let Ok(compacted @ 1..) = u64::try_from(response.compact_revision()) {
            self.ledger.skipped(self.slot, compacted);
            self.delivered.send_replace(self.ledger.delivered(self.slot));
            return format!("everything below revision {compacted} is compacted");
        }
        format!("cancelled by the server: {}", response.cancel_reason())
    }
}

/// The revisions of one response, each with its changes.
fn whole_revisions(response: &WatchResponse) -> Result<Vec<(u64, Vec<Change>)>, String> {
    whole(response.events().iter().map(read_event))
}

/// The revisions of one response's events.
fn whole(events: impl Iterator<Item = Result<(u64, Change), String>>) -> Result<Vec<(u64, Vec<Change>)>, String> {
    let mut whole: Vec<(u64, Vec<Change>)> = Vec::new();
    for event in events {
        let (revision, change) = event?;
        match whole.last_mut() {
            Some((last, changes)) if *last == revision => changes.push(change),
            _ => whole.push((revision, vec![change])),
        }
    }
    Ok(whole)
}

/// One event as (revision, change).
///
/// # Errors
/// The part that the event lacks.
pub(crate) fn read_event(event: &etcd_client::Event) -> Result<(u64, Change), String> {
    let kv = event.kv().ok_or("an event has no key")?;
    let row = Row {
        key: kv.key(),
        value: kv.value(),
        create_revision: kv.create_revision(),
        mod_revision: kv.mod_revision(),
        version: kv.version(),
        lease: kv.lease(),
    };
    row.change(event.event_type() == EventType::Delete)
}

/// One event as (revision, change), from a response that this program decoded.
///
/// # Errors
/// The part that the event lacks.
fn change(event: &mvccpb::Event) -> Result<(u64, Change), String> {
    let kv = event.kv.as_ref().ok_or("an event has no key")?;
    let row = Row {
        key: &kv.key,
        value: &kv.value,
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        lease: kv.lease,
    };
    row.change(event.r#type() == mvccpb::event::EventType::Delete)
}

/// Why the server cancelled a watch, if a response says so: that it did, or the revision below
/// which everything is compacted, which is noted in `heard`.
fn cancelled(heard: &mut Heard, (canceled, compacted): (bool, i64), reason: &str) -> Option<String> {
    if !canceled && compacted <= 0 {
        return None;
    }
    heard.compacted = u64::try_from(compacted).ok().filter(|at| *at > 0);
    Some(format!("cancelled by the server: {reason}"))
}

/// The row of an event, whichever client received it.
struct Row<'a> {
    key: &'a [u8],
    value: &'a [u8],
    create_revision: i64,
    mod_revision: i64,
    version: i64,
    lease: i64,
}

impl Row<'_> {
    fn change(&self, deleted: bool) -> Result<(u64, Change), String> {
        let number = |value: i64| u64::try_from(value).map_err(|_| format!("an event has a negative number: {value}"));
        let key = self.key.to_vec();
        let change = if deleted {
            Change::Delete { key }
        } else {
            Change::Put {
                key,
                value: self.value.to_vec(),
                create_revision: number(self.create_revision)?,
                version: number(self.version)?,
                lease: self.lease,
            }
        };
        Ok((number(self.mod_revision)?, change))
    }
}
