//! One greeting of one other member.

use crate::clock::Deadline;
use crate::identity::{Doubter, Identity};
use node_proto::peer::peer_client::PeerClient;
use node_proto::peer::{HelloRequest, Route};
use std::io;
use std::time::Duration;
use tonic::transport::Channel;

const HELLO_WAIT: Duration = Duration::from_millis(500);

/// Checks that member `id` is there and is the one that is known; the identity takes up what else
/// its answer tells.
///
/// # Errors
/// A sentence: it is not, or not in time.
pub async fn hello(client: &mut PeerClient<Channel>, identity: &Identity, id: u64) -> io::Result<()> {
    let hello = HelloRequest { route: identity.route(id) };
    match Deadline::after(HELLO_WAIT).bound(client.hello(hello)).await {
        Some(Ok(answer)) => identity.count(id, answer.into_inner().from).await,
        Some(Err(status)) => {
            identity.heed(id, &status);
            Err(io::Error::other(status.to_string()))
        }
        None => Err(io::Error::other(format!("no answer within {HELLO_WAIT:?}"))),
    }
}

/// Asks `doubter`, which takes this member for another life, whether it stands by it.
pub async fn ask(client: &mut PeerClient<Channel>, identity: &Identity, doubter: &Doubter, route: Route) {
    let asked = client.hello(HelloRequest { route: Some(route) });
    if let Some(Err(status)) = Deadline::after(HELLO_WAIT).bound(asked).await {
        identity.heed_doubter(doubter, &status);
    }
}
