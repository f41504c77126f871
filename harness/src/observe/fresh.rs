//! Fresh clients of a member: one reads, one opens a watch in the past. Each has a connection of
//! its own and a bound, and is gone afterwards; nothing is judged here.

use super::{CONNECT_TIMEOUT, cancelled, change, whole, whole_revisions};
use crate::dial::in_words;
use crate::pace::Lap;
use crate::timer;
use etcd_client::{Client, ConnectOptions, WatchOptions};
use ninelives_evidence::limits;
use ninelives_evidence::{Change, Heard, Resumption, digest_of_changes};
use node_proto::etcdserverpb::watch_client::WatchClient;
use node_proto::etcdserverpb::watch_request::RequestUnion;
use node_proto::etcdserverpb::{WatchCreateRequest, WatchRequest};
use std::time::Duration;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

async fn connect(endpoint: &str) -> Result<Client, String> {
    let options = ConnectOptions::new().with_connect_timeout(CONNECT_TIMEOUT);
    Client::connect([endpoint], Some(options)).await.map_err(|error| error.to_string())
}

/// Reads linearizably at `endpoint`, again and again while the answer is that the read cannot be
/// served now. Returns the revision of the answer.
///
/// # Errors
/// The reason why there is no answer within `bound`, counted from `lap` on.
pub async fn read(endpoint: &str, (lap, bound): (&Lap, Duration)) -> Result<u64, String> {
    let mut last = None;
    let asked = async {
        loop {
            match read_once(endpoint).await {
                Err((true, why)) => last = Some(why),
                Err((false, why)) => return Err(why),
                Ok(revision) => return Ok(revision),
            }
            timer::sleep(limits::SECOND_LOOK_RETRY_PAUSE).await;
        }
    };
    match lap.within(bound, asked).await {
        Ok(answer) => answer,
        Err(_) => Err(last.map_or_else(|| "no answer".to_owned(), |why| format!("no answer but {why:?}"))),
    }
}

/// # Errors
/// Whether a second try may succeed in a moment, and the reason why there is no answer.
async fn read_once(endpoint: &str) -> Result<u64, (bool, String)> {
    let mut client = connect(endpoint).await.map_err(|why| (true, why))?;
    let answer = client.get("p/", None).await.map_err(|error| (is_passing(&error), error.to_string()))?;
    let revision = answer.header().and_then(|header| u64::try_from(header.revision()).ok());
    revision.ok_or_else(|| (false, "an answer without a revision".to_owned()))
}

/// Whether an error comes from an election or a broken connection, and does not judge the request.
fn is_passing(error: &etcd_client::Error) -> bool {
    use tonic::Code;
    match error {
        etcd_client::Error::GRpcStatus(status) => {
            matches!(
                status.code(),
                Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown | Code::Internal
            )
        }
        etcd_client::Error::TransportError(_) => true,
        _ => false,
    }
}

/// Opens the watch that was `asked` for at `endpoint`, and hears it to its last revision, within
/// `bound`, counted from `lap` on.
pub async fn watch(endpoint: &str, asked: &Resumption, (lap, bound): (&Lap, Duration)) -> Heard {
    let mut heard = Heard::default();
    let followed = if asked.half_closed {
        lap.within(bound, follow_half_closed(endpoint, asked, &mut heard)).await
    } else {
        lap.within(bound, follow(endpoint, asked, &mut heard)).await
    };
    heard.ended = match followed {
        Ok(Ok(())) => None,
        Ok(Err(why)) => Some(why),
        Err(bound) => Some(format!("silent for {bound}")),
    };
    heard
}

async fn follow(endpoint: &str, asked: &Resumption, heard: &mut Heard) -> Result<(), String> {
    let mut watches = connect(endpoint).await?.watch_client().max_decoding_message_size(limits::ANSWER_BYTES_MAX);
    let start = i64::try_from(asked.from).map_err(|error| error.to_string())?;
    let options = WatchOptions::new().with_start_revision(start);
    let (key, options) = match &asked.keys {
        None => ("", options.with_all_keys()),
        Some(keys) => (keys.from.as_str(), options.with_range(keys.to.as_deref().unwrap_or_default())),
    };
    let mut stream = watches.watch(key, Some(options)).await.map_err(|error| error.to_string())?;
    loop {
        let response = match stream.message().await {
            Ok(Some(response)) => response,
            Ok(None) => return Err("the server ended the stream".to_owned()),
            Err(error) => return Err(error.to_string()),
        };
        if hear(whole_revisions(&response)?, asked, heard) {
            return Ok(());
        }
        let said = (response.canceled(), response.compact_revision());
        if let Some(why) = cancelled(heard, said, response.cancel_reason()) {
            return Err(why);
        }
    }
}

/// Hears `revisions`; true: all that was asked for has come.
fn hear(revisions: Vec<(u64, Vec<Change>)>, asked: &Resumption, heard: &mut Heard) -> bool {
    for (revision, changes) in revisions {
        if revision <= asked.upto {
            heard.revisions.push((revision, digest_of_changes(&changes)));
        }
        if revision >= asked.upto {
            return true;
        }
    }
    false
}

/// Follows a watch of all keys whose client ends its own side with the request for it. The library
/// keeps that side open, so this one is made by hand.
async fn follow_half_closed(endpoint: &str, asked: &Resumption, heard: &mut Heard) -> Result<(), String> {
    let from = i64::try_from(asked.from).map_err(|error| error.to_string())?;
    let channel = by_hand(endpoint).map_err(|status| in_words(&status))?;
    let mut watches = WatchClient::new(channel).max_decoding_message_size(limits::ANSWER_BYTES_MAX);
    let requests = futures_util::stream::iter([watch_from(from)]);
    let mut responses = watches.watch(requests).await.map_err(|status| in_words(&status))?.into_inner();
    while let Some(response) = responses.message().await.map_err(|status| in_words(&status))? {
        if hear(whole(response.events.iter().map(change))?, asked, heard) {
            return Ok(());
        }
        let said = (response.canceled, response.compact_revision);
        if let Some(why) = cancelled(heard, said, &response.cancel_reason) {
            return Err(why);
        }
    }
    Err("the server ended the stream".to_owned())
}

/// A channel for what the library does not send; it connects when it is used.
pub(super) fn by_hand(endpoint: &str) -> Result<Channel, Status> {
    let endpoint =
        Endpoint::from_shared(endpoint.to_owned()).map_err(|error| Status::invalid_argument(error.to_string()))?;
    Ok(endpoint.connect_timeout(CONNECT_TIMEOUT).connect_lazy())
}

/// The request for a watch of all keys; from revision 0: from now on.
pub(super) fn watch_from(start_revision: i64) -> WatchRequest {
    let all = WatchCreateRequest {
        key: vec![0].into(),
        range_end: vec![0].into(),
        start_revision,
        ..WatchCreateRequest::default()
    };
    WatchRequest { request_union: Some(RequestUnion::CreateRequest(all)) }
}
