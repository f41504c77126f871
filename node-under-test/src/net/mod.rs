//! Sockets: how many connections a member takes, from whom, and on which terms.
//!
//! 1. *No client starves the member.* File descriptors are divided by [`budget`]: first what the
//!    member needs of itself, then its engine, then connections, of members, of the control
//!    endpoint and of clients each in a share of its own. A class that has used its share up waits
//!    in the kernel's backlog until one of its own connections ends.
//! 2. *Waiting costs nothing* ([`accept`]): a full share and a process without descriptors wait for
//!    a connection to end, and never ask the kernel in a loop.
//! 3. *A connection that never speaks ends* ([`connection`]) after ten seconds, and where others
//!    wait for its place almost at once, so that idle sockets cannot keep clients out; a peer that
//!    is gone without a word is found by pings.
//! 4. *A small message leaves at once*: TCP_NODELAY is set on every accepted socket. `tonic` sets
//!    it only on those that it has accepted by itself.
//! 5. *A connection's memory and streams are bounded* by [`http2`].

mod accept;
pub mod budget;
mod connection;
mod http2;

pub use budget::Class;

use accept::Gate;
use std::net::SocketAddr;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::service::Routes;

/// Serves `routes` to all who connect, until `stopped`, and then until the requests under way are
/// answered.
///
/// # Errors
/// The transport failed as a whole; single connections fail by themselves.
pub async fn listen(
    listener: TcpListener,
    class: Class,
    routes: Routes,
    mut stopped: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let stop = async move {
        let _ = stopped.wait_for(|stop| *stop).await;
    };
    let incoming = accept::connections(listener, Gate::new(class));
    http2::server(class).add_routes(routes).serve_with_incoming_shutdown(incoming, stop).await?;
    Ok(())
}

/// # Errors
/// The address is taken, or is not one of this machine's.
pub async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}
