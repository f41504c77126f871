//! A client of a member that is being cut off from every quorum, which wants a member with a
//! leader: it opens a watch that says so (metadata `hasleader`), and asks who leads.

use super::fresh::{by_hand, watch_from};
use crate::dial::in_words;
use crate::timer;
use futures_util::{StreamExt, stream};
use ninelives_evidence::{LeaderNamed, WatchEnd, clock, limits};
use node_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use node_proto::etcdserverpb::watch_client::WatchClient;
use node_proto::etcdserverpb::{StatusRequest, WatchResponse};
use std::time::Instant;
use tonic::metadata::MetadataValue;
use tonic::{Request, Status, Streaming};

const HAS_LEADER: &str = "hasleader";

/// What a client saw.
#[derive(Debug)]
pub struct Seen {
    pub ended: Option<WatchEnd>,
    pub named: Option<LeaderNamed>,
}

/// Looks at the member at `endpoint` from now, shortly after `since`, until `end`. `None`: the
/// watch could not be opened.
pub async fn look(endpoint: &str, since: Instant, end: Instant) -> Option<Seen> {
    let mut events = timer::within(limits::CONTROL_CONNECT, open(endpoint)).await?.ok()?;
    let ended = async {
        tokio::select! {
            (by_error, why) = last_word(&mut events) => {
                Some(WatchEnd { after_ms: clock::ms_since(since), by_error, why })
            }
            () = timer::sleep_until(end) => None,
        }
    };
    let named = async {
        timer::sleep_until(end.checked_sub(limits::LEADERLESS_ASK_LEAD).unwrap_or(since)).await;
        let after_ms = clock::ms_since(since);
        tokio::select! {
            leader = leader(endpoint) => Some(LeaderNamed { after_ms, leader: leader.ok()? }),
            () = timer::sleep_until(end) => None,
        }
    };
    let (ended, named) = tokio::join!(ended, named);
    Some(Seen { ended, named })
}

/// Opens the watch. The stream of requests stays open: its end could be taken for the watch's.
async fn open(endpoint: &str) -> Result<Streaming<WatchResponse>, Status> {
    let requests = stream::iter([watch_from(0)]).chain(stream::pending());
    let mut request = Request::new(requests);
    request.metadata_mut().insert(HAS_LEADER, MetadataValue::from_static("true"));
    Ok(WatchClient::new(by_hand(endpoint)?).watch(request).await?.into_inner())
}

/// Whether the stream ends with an error, and the member's words.
async fn last_word(events: &mut Streaming<WatchResponse>) -> (bool, String) {
    loop {
        match events.message().await {
            Ok(Some(response)) if response.canceled => {
                return (true, format!("cancelled by the server: {}", response.cancel_reason));
            }
            Ok(Some(_)) => {}
            Ok(None) => return (false, "the server ended the stream".to_owned()),
            Err(status) => return (true, in_words(&status)),
        }
    }
}

async fn leader(endpoint: &str) -> Result<u64, Status> {
    Ok(MaintenanceClient::new(by_hand(endpoint)?).status(StatusRequest {}).await?.into_inner().leader)
}
