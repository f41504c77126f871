//! Greeting the other members.
//!
//! Raft's own messages are not enough for members to know each other. Two followers never talk
//! while a leader serves both, so a wiped one would find the other unprepared; a learner never asks
//! for votes, so one that was removed before the entry reached it would wait for ever. So each
//! member greets the members that it never met. It greets all members while no leader talks to it,
//! or when one of them took it for another life. A member that has not joined a cluster has no
//! identity to show, and greets only a member that takes it for another life.

use crate::clock;
use crate::hello::{self, hello};
use crate::identity::Doubter;
use crate::propose::Router;
use futures_util::future::join_all;
use node_proto::peer::Route;
use std::time::Duration;
use tokio::sync::watch;

/// Between two rounds. Most rounds have no member to greet.
const ROUND_EVERY: Duration = Duration::from_secs(1);

/// Runs until `stopped`.
pub async fn run(router: Router, mut stopped: watch::Receiver<bool>) {
    let mut led = None;
    loop {
        let now = router.identity.leader_messages();
        let alone = led.replace(now) == Some(now) && !router.leads();
        // No message ends a member: one that is taken for another life asks whether it is so.
        let all = alone || router.identity.was_doubted();
        let met = |id: &u64| router.identity.has_met(*id);
        let others = if router.identity.is_homeless() { Vec::new() } else { router.others() };
        let greeted = others.into_iter().filter(|id| all || !met(id));
        let round = async {
            if let Some((doubter, route)) = router.identity.doubter() {
                ask(&router, &doubter, route).await;
            }
            join_all(greeted.map(|id| greet(&router, id))).await;
            clock::pause(ROUND_EVERY).await;
        };
        tokio::select! {
            () = round => {}
            _ = stopped.wait_for(|stop| *stop) => return,
        }
    }
}

async fn greet(router: &Router, id: u64) {
    let Some(mut client) = router.messages(id) else { return };
    if let Err(error) = hello(&mut client, &router.identity, id).await {
        tracing::debug!(id, %error, "not greeted");
    }
}

/// Asks the member that takes this one, which belongs nowhere, for another life, whether it is so.
async fn ask(router: &Router, doubter: &Doubter, route: Route) {
    let Ok(mut client) = router.peers.stranger(&doubter.address.to_string()) else { return };
    hello::ask(&mut client, &router.identity, doubter, route).await;
}
