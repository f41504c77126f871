//! Fresh clients of a member: one reads, one opens a watch in the past. Each has a connection of
//! its own and a bound, and is gone afterwards; nothing is judged here.

use super::{CONNECT_TIMEOUT, whole_revisions};
use crate::pace::Lap;
use crate::timer;
use etcd_client::{Client, ConnectOptions, WatchOptions};
use ninelives_evidence::limits;
use ninelives_evidence::{Heard, Resumption, digest_of_changes};
use std::time::Duration;

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
    let followed = lap.within(bound, follow(endpoint, asked, &mut heard)).await;
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
        for (revision, changes) in whole_revisions(&response)? {
            if revision <= asked.upto {
                heard.revisions.push((revision, digest_of_changes(&changes)));
            }
            if revision >= asked.upto {
                return Ok(());
            }
        }
        if response.canceled() || response.compact_revision() > 0 {
            heard.compacted = u64::try_from(response.compact_revision()).ok().filter(|at| *at > 0);
            return Err(format!("cancelled by the server: {}", response.cancel_reason()));
        }
    }
}
