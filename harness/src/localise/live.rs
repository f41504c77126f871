//! The state of a living member over the client API: its history since a revision, and its keys at
//! a revision.

use crate::contact::rows;
use crate::observe;
use crate::pace::Pace;
use anyhow::{Context, bail};
use etcd_client::{Client, WatchOptions};
use ninelives_evidence::Change;
use ninelives_evidence::limits;
use ninelives_evidence::operation::KeyState;
use ninelives_oracle::localise::Shown;
use ninelives_oracle::log_replay::effect;

/// The member's rows of the revisions `from` to `through`: a new watch reads them from its engine,
/// as the hash does, tombstones included. An absent row has no event, so the end shows as a silence
/// after all writers have stopped. Compacted revisions are left out; the result names its first
/// revision.
pub(super) async fn history(client: &mut Client, (from, through): (u64, u64), pace: &Pace) -> anyhow::Result<Shown> {
    let mut shown = Shown { from, through, ..Shown::default() };
    while shown.from <= through {
        match follow(client, &mut shown, pace).await? {
            None => break,
            Some(compacted) if compacted >= shown.from => shown.from = compacted + 1,
            Some(compacted) => bail!("it was told that {compacted} is compacted, and had asked from {} on", shown.from),
        }
    }
    Ok(shown)
}

/// `Some`: everything through that revision is compacted.
async fn follow(client: &Client, shown: &mut Shown, pace: &Pace) -> anyhow::Result<Option<u64>> {
    let start = i64::try_from(shown.from).context("a revision beyond the wire's range")?;
    let options = WatchOptions::new().with_all_keys().with_start_revision(start);
    let mut watches = client.watch_client().max_decoding_message_size(limits::ANSWER_BYTES_MAX);
    let mut stream = watches.watch("", Some(options)).await?;
    loop {
        let message = pace.within(limits::LOCALISE_SILENCE, stream.message()).await;
        let Ok(message) = message else { return Ok(None) };
        let Some(response) = message? else { bail!("the server ended the stream") };
        if let Ok(compacted @ 1..) = u64::try_from(response.compact_revision()) {
            return Ok(Some(compacted));
        }
        if response.canceled() {
            bail!("the server cancelled the watch: {}", response.cancel_reason());
        }
        for event in response.events() {
            let (revision, change): (u64, Change) = observe::read_event(event).map_err(anyhow::Error::msg)?;
            shown.changes.entry(revision).or_default().push(effect(revision, &change));
        }
        if shown.changes.last_key_value().is_some_and(|(last, _)| *last >= shown.through) {
            return Ok(None);
        }
    }
}

/// All keys at `revision`, from this member's own state.
pub(super) async fn keys(client: &Client, revision: u64) -> anyhow::Result<Vec<KeyState>> {
    Ok(rows::at(client, revision).await?)
}
