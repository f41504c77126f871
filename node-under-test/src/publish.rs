//! A member tells the cluster what it is called and where it serves clients, through the raft log.
//!
//! The membership says who there is; what a member is called it says itself when it runs, as in
//! etcd. Until then others list it without a name and without client addresses. A founding member's
//! row holds both from the start.

use crate::clock;
use crate::state::command;
use crate::state::membership;
use crate::state::{Error, Store};
use node_base::chain::chain;
use node_raft::{Member, RaftNode};
use std::sync::Arc;
use std::time::Duration;

/// Between two attempts: the first may have been made while there was no leader, or the engine not
/// have been readable.
const RETRY_EVERY: Duration = Duration::from_millis(500);

/// Runs until the row says what `own` says; waits until this member has a row.
pub async fn run(raft: RaftNode, store: Arc<Store>, own: Member) {
    let mut roster = raft.roster();
    if roster.wait_for(|roster| roster.members.contains_key(&own.id)).await.is_err() {
        return;
    }
    while roster.borrow_and_update().members.contains_key(&own.id) {
        match is_published(&store, &own).await {
            Ok(true) => return,
            Ok(false) => {}
            // A failing engine ends the process elsewhere; if it does not, the row still has to be
            // written.
            Err(error) => {
                tracing::error!(error = %chain(&error), "cannot read this member's own row");
                clock::sleep_until(clock::now() + RETRY_EVERY).await;
                continue;
            }
        }
        let command = command::publish_member(own.id, &own.name, &own.client_addr);
        match raft.propose(command).await {
            // It is applied on the leader; the next look at the row must not come before it is
            // applied here.
            Ok(proposed) => {
                let index = proposed.log_id.index;
                tracing::info!(index, "published this member's name and client address");
                let mut status = raft.status_watch();
                if status.wait_for(|status| status.applied >= Some(index)).await.is_err() {
                    return;
                }
            }
            // Publishing twice does no harm, so even an unknown outcome is tried again.
            Err(error) => {
                tracing::debug!(%error, "not published yet");
                clock::sleep_until(clock::now() + RETRY_EVERY).await;
            }
        }
    }
}

/// Off raft's threads: a view may have to wait while a snapshot is installed.
async fn is_published(store: &Store, own: &Member) -> crate::state::Result<bool> {
    let backend = store.backend().clone();
    let listed = tokio::task::spawn_blocking(move || membership::list(&*backend.read())).await;
    let rows = listed.map_err(|error| Error::Corrupt(format!("this member's rows were not read: {error}")))??;
    let row = rows.into_iter().find(|row| row.id == own.id);
    Ok(row.is_some_and(|row| row.name == own.name && row.client_addr == own.client_addr))
}
