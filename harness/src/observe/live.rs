//! Watches of some of the keys while these change: many on one stream, open before their changes
//! are made.
//!
//! A watch of all keys has something to say at each revision, so it hides a server that forgets to
//! wake the watches that a change concerns. These have something to say now and then.

use super::fresh::by_hand;
use super::{cancelled, change, whole};
use crate::dial::in_words;
use crate::pace::Lap;
use futures_util::StreamExt;
use ninelives_evidence::operation::Keys;
use ninelives_evidence::{Heard, digest_of_changes, limits};
use node_proto::etcdserverpb::watch_client::WatchClient;
use node_proto::etcdserverpb::watch_request::RequestUnion;
use node_proto::etcdserverpb::{WatchCreateRequest, WatchRequest, WatchResponse};
use std::time::Duration;

/// Ranges that hold half of the load's `count` keys `p/N`: every second one of at most twice
/// [`limits::LIVE_WATCHES`] stretches. And one range of all keys behind those.
pub fn stripes(count: u32) -> Vec<Keys> {
    let width = count.div_ceil(2 * limits::LIVE_WATCHES).max(1);
    let edge = |number: u32| format!("p/{number:05}");
    let striped = (0..count).step_by(2 * width as usize);
    let behind = Keys { from: "p0".to_owned(), to: Some("~".to_owned()) };
    striped.map(|first| Keys { from: edge(first), to: Some(edge(first + width)) }).chain([behind]).collect()
}

/// Opens a watch for each of `keys` from revision `from` on, on one stream of `endpoint`, and hears
/// them until each has come to its goal: the last revision that it has to deliver, if there is one.
/// `goals` are known later. Returns what each has heard up to its goal, within `bound`, counted
/// from `lap` on.
pub async fn watch(
    endpoint: &str,
    (keys, from): (&[Keys], u64),
    goals: impl Future<Output = Vec<Option<u64>>>,
    (lap, bound): (&Lap, Duration),
) -> Vec<(Option<u64>, Heard)> {
    let mut watches = vec![Heard::default(); keys.len()];
    let mut known: Option<Vec<Option<u64>>> = None;
    tokio::pin!(goals);
    let followed = async {
        let requests = keys.iter().zip(1..).map(|(keys, id)| create(keys, from, id)).collect::<Result<Vec<_>, _>>()?;
        let channel = by_hand(endpoint).map_err(|status| in_words(&status))?;
        let mut client = WatchClient::new(channel).max_decoding_message_size(limits::ANSWER_BYTES_MAX);
        // The client's side stays open.
        let requests = futures_util::stream::iter(requests).chain(futures_util::stream::pending());
        let mut responses = client.watch(requests).await.map_err(|status| in_words(&status))?.into_inner();
        while !known.as_ref().is_some_and(|goals| have_come(&watches, goals)) {
            tokio::select! {
                told = &mut goals, if known.is_none() => known = Some(told),
                response = responses.message() => match response.map_err(|status| in_words(&status))? {
                    Some(response) => take_in(&mut watches, &response)?,
                    None => return Err("the server ended the stream".to_owned()),
                },
            }
        }
        Ok(())
    };
    let ended = match lap.within(bound, followed).await {
        Ok(Ok(())) => None,
        Ok(Err(why)) => Some(why),
        Err(bound) => Some(format!("silent for {bound}")),
    };
    let goals = match known {
        Some(goals) => goals,
        None => goals.await,
    };
    let heard = watches.into_iter().zip(goals).map(|(mut heard, goal)| {
        heard.revisions.retain(|(revision, _)| Some(*revision) <= goal);
        heard.ended = heard.ended.or_else(|| ended.clone());
        (goal, heard)
    });
    heard.collect()
}

fn create(keys: &Keys, from: u64, watch_id: i64) -> Result<WatchRequest, String> {
    let create = WatchCreateRequest {
        key: keys.from.clone().into(),
        range_end: keys.to.clone().unwrap_or_default().into(),
        start_revision: i64::try_from(from).map_err(|error| error.to_string())?,
        watch_id,
        ..WatchCreateRequest::default()
    };
    Ok(WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) })
}

/// Whether each watch has heard its goal, or has ended.
fn have_come(watches: &[Heard], goals: &[Option<u64>]) -> bool {
    let last = |heard: &Heard| heard.revisions.last().map(|(revision, _)| *revision);
    watches.iter().zip(goals).all(|(heard, goal)| heard.ended.is_some() || last(heard) >= *goal)
}

/// # Errors
/// What is wrong with the response.
fn take_in(watches: &mut [Heard], response: &WatchResponse) -> Result<(), String> {
    let id = response.watch_id;
    let (count, place) = (watches.len(), usize::try_from(id).ok().and_then(|id| id.checked_sub(1)));
    let heard = place.and_then(|place| watches.get_mut(place));
    let heard = heard.ok_or_else(|| format!("expected a watch with an id from 1 to {count}, found {id}"))?;
    for (revision, changes) in whole(response.events.iter().map(change))? {
        heard.revisions.push((revision, digest_of_changes(&changes)));
    }
    heard.ended = cancelled(heard, (response.canceled, response.compact_revision), &response.cancel_reason);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stripes_hold_every_second_stretch_of_the_keys_and_do_not_touch() {
        for count in [1, 2, 31, 32, 200, 400, 4_000] {
            let stripes = stripes(count);
            assert!(stripes.len() <= limits::LIVE_WATCHES as usize + 1, "{count}");
            let holders =
                |number| stripes.iter().filter(|keys| keys.contains(format!("p/{number:05}").as_bytes())).count();
            let held: Vec<usize> = (0..count).map(holders).collect();
            assert!(held.iter().all(|holders| *holders <= 1), "{count}");
            let held = held.iter().sum::<usize>() as u32;
            assert!(held >= count / 2 && (held < count || count == 1), "{count}: {held}");
            assert!(stripes.last().is_some_and(|keys| keys.contains(b"q/1") && !keys.contains(b"p/00000")));
        }
    }

    fn response(watch_id: i64, revision: i64) -> WatchResponse {
        let kv = node_proto::mvccpb::KeyValue { key: "p/1".into(), mod_revision: revision, ..Default::default() };
        let event = node_proto::mvccpb::Event { kv: Some(kv), ..Default::default() };
        WatchResponse { watch_id, events: vec![event], ..WatchResponse::default() }
    }

    #[test]
    fn each_watch_hears_its_own_and_is_waited_for_until_its_goal() {
        let mut watches = vec![Heard::default(); 2];
        take_in(&mut watches, &response(2, 7)).unwrap();
        assert!(have_come(&watches, &[None, Some(7)]) && !have_come(&watches, &[Some(6), Some(7)]));
        take_in(&mut watches, &WatchResponse { watch_id: 1, canceled: true, ..WatchResponse::default() }).unwrap();
        assert!(have_come(&watches, &[Some(6), Some(7)]), "a watch that is over is not waited for");
        assert_eq!((watches[0].revisions.len(), watches[1].revisions.len()), (0, 1));
        for strange in [-1, 0, 3] {
            let why = take_in(&mut watches, &response(strange, 8)).unwrap_err();
            assert!(why.contains("from 1 to 2"), "{why}");
        }
    }
}
