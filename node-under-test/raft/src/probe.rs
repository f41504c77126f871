//! Greeting the other members.
//!
//! Raft's own messages are not enough to know each other by. Two followers never talk while a leader serves both, so a
//! wiped one would find the other unprepared; a learner asks nobody for anything, so one that was removed before the
//! entry reached it would wait for ever. So each member greets those that it never met, and, while no leader talks to it, all.

use crate::clock::{self, Deadline};
use crate::propose::Router;
use futures_util::future::join_all;
use node_proto::peer::HelloRequest;
use std::time::Duration;
use tokio::sync::watch;

/// Between two rounds. Most rounds have nobody to greet.
const ROUND_EVERY: Duration = Duration::from_secs(1);
const HELLO_WAIT: Duration = Duration::from_millis(500);

/// Runs until `stopped`.
pub async fn run(router: Router, mut stopped: watch::Receiver<bool>) {
    let mut led = None;
    loop {
        let now = router.identity.leader_messages();
        let alone = led.replace(now) == Some(now) && !router.leads();
        let greeted = router.others().into_iter().filter(|id| alone || !router.identity.has_met(*id));
        let round = async {
            join_all(greeted.map(|id| greet(&router, id))).await;
            clock::pause(ROUND_EVERY).await;
        };
        tokio::select! {
            () = round => {}
            _ = stopped.wait_for(|stop| *stop) => return,
        }
    }
}

/// Whatever comes of it is in the identity afterwards.
async fn greet(router: &Router, id: u64) {
    let Some(mut client) = router.messages(id) else { return };
    let hello = HelloRequest { route: router.identity.route(id) };
    match Deadline::after(HELLO_WAIT).bound(client.hello(hello)).await {
        Some(Ok(answer)) => {
            if let Err(error) = router.identity.count(id, answer.into_inner().from).await {
                tracing::debug!(id, %error, "greeted somebody else");
            }
        }
        Some(Err(status)) => router.identity.heed(&status),
        None => {}
    }
}
