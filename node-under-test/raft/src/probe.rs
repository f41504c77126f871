//! Greeting the other members.
//!
//! Raft's own messages are not enough to know each other by. Two followers never talk while a leader serves both, so a
//! wiped one would find the other unprepared; a learner asks nobody for anything, so one that was removed before the
//! entry reached it would wait for ever. So each member greets those that it never met, and, while no leader talks to it, all.

use crate::clock::{self, Deadline};
use crate::identity::Identity;
use crate::propose::Router;
use futures_util::future::join_all;
use node_proto::peer::HelloRequest;
use node_proto::peer::peer_client::PeerClient;
use std::io;
use std::time::Duration;
use tokio::sync::watch;
use tonic::transport::Channel;

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

async fn greet(router: &Router, id: u64) {
    let Some(mut client) = router.messages(id) else { return };
    if let Err(error) = hello(&mut client, &router.identity, id).await {
        tracing::debug!(id, %error, "not greeted");
    }
}

/// Whether member `id` is there and is the one that is known; what else its answer tells is in the identity afterwards.
///
/// # Errors
/// A sentence: it is not, or not in time.
pub async fn hello(client: &mut PeerClient<Channel>, identity: &Identity, id: u64) -> io::Result<()> {
    let hello = HelloRequest { route: identity.route(id) };
    match Deadline::after(HELLO_WAIT).bound(client.hello(hello)).await {
        Some(Ok(answer)) => identity.count(id, answer.into_inner().from).await,
        Some(Err(status)) => {
            identity.heed(&status);
            Err(io::Error::other(status.to_string()))
        }
        None => Err(io::Error::other(format!("no answer within {HELLO_WAIT:?}"))),
    }
}
