//! Taking connections, as many as a class's share allows.

use super::budget::Class;
use super::connection::Connection;
use crate::clock;
use futures_util::{Stream, stream};
use node_base::process::is_out_of_descriptors;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// Descriptors that something else than a connection of ours gives back come without an event: then it is looked again after
/// this time.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The places of one class. One task takes them; any task gives one back.
pub struct Gate {
    class: Class,
    open: AtomicU64,
    closed: Notify,
    limit: fn(Class) -> u64,
}

impl Gate {
    pub fn new(class: Class) -> Arc<Self> {
        Self::limited(class, Class::connections_max)
    }

    fn limited(class: Class, limit: fn(Class) -> u64) -> Arc<Self> {
        Arc::new(Self { class, open: AtomicU64::new(0), closed: Notify::new(), limit })
    }

    /// Waits for a free place.
    async fn enter(self: &Arc<Self>) -> Place {
        let mut told = false;
        loop {
            let (open, most) = (self.open.load(Ordering::Acquire), (self.limit)(self.class));
            if open < most {
                self.open.fetch_add(1, Ordering::AcqRel);
                return Place(self.clone());
            }
            if !std::mem::replace(&mut told, true) {
                tracing::warn!(class = self.class.name(), open, "no place for more connections: new ones wait");
            }
            // A place that was given back since the look above has left its permit here.
            self.closed.notified().await;
        }
    }
}

/// One open connection's place.
pub struct Place(Arc<Gate>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::AcqRel);
        self.0.closed.notify_one();
    }
}

/// The connections that `listener` gets, each with its place. Never ends.
pub fn connections(listener: TcpListener, gate: Arc<Gate>) -> impl Stream<Item = Result<Connection, Infallible>> {
    stream::unfold((listener, gate), |(listener, gate)| async move {
        let place = gate.enter().await;
        let stream = accept(&listener, &gate).await;
        Some((Ok(Connection::new(stream, place)), (listener, gate)))
    })
}

/// The next connection on which small messages leave at once.
async fn accept(listener: &TcpListener, gate: &Gate) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => match stream.set_nodelay(true) {
                Ok(()) => return stream,
                // It is gone again already.
                Err(error) => tracing::debug!(%error, "a connection ended before it began"),
            },
            Err(error) => wait_after(&error, gate).await,
        }
    }
}

/// An error of `accept` is about the connection that is gone, so that the next one can be taken at once, or about this process:
/// then the same connection is still there, and asking again at once would go round in circles.
async fn wait_after(error: &io::Error, gate: &Gate) {
    if !is_out_of_descriptors(error) {
        tracing::debug!(%error, "a connection ended before it was taken");
        return;
    }
    tracing::error!(%error, class = gate.class.name(), "cannot take a connection until another one ends");
    tokio::select! {
        () = gate.closed.notified() => {}
        () = clock::sleep_until(clock::now() + LOOK_AGAIN) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::StreamExt;
    use std::pin::pin;
    use std::task::Poll;

    async fn listener() -> TcpListener {
        TcpListener::bind("127.0.0.1:0").await.unwrap()
    }

    #[tokio::test]
    async fn accepted_connections_have_nodelay() {
        let listener = listener().await;
        let address = listener.local_addr().unwrap();
        let mut connections = pin!(connections(listener, Gate::limited(Class::Clients, |_| 2)));
        let _client = TcpStream::connect(address).await.unwrap();
        let connection = connections.next().await.unwrap().unwrap();
        assert!(connection.stream().nodelay().unwrap());
    }

    /// Without the gate the third connection would be taken at once.
    #[tokio::test]
    async fn a_connection_beyond_the_share_waits_until_another_ends() {
        let listener = listener().await;
        let address = listener.local_addr().unwrap();
        let gate = Gate::limited(Class::Clients, |_| 2);
        let mut connections = pin!(connections(listener, gate.clone()));
        let mut clients = Vec::new();
        for _ in 0..3 {
            clients.push(TcpStream::connect(address).await.unwrap());
        }
        let first = connections.next().await.unwrap().unwrap();
        let _second = connections.next().await.unwrap().unwrap();
        let mut third = connections.next();
        assert!(matches!(futures_util::poll!(&mut third), Poll::Pending));
        assert_eq!(gate.open.load(Ordering::Acquire), 2);
        drop(first);
        third.await.unwrap().unwrap();
    }

    #[test]
    fn only_this_processes_own_trouble_makes_it_wait() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let gate = Gate::limited(Class::Clients, |_| 1);
            let aborted = io::Error::from_raw_os_error(103);
            assert!(matches!(futures_util::poll!(pin!(wait_after(&aborted, &gate))), Poll::Ready(())));
            let exhausted = io::Error::from_raw_os_error(24);
            let mut waiting = pin!(wait_after(&exhausted, &gate));
            assert!(matches!(futures_util::poll!(&mut waiting), Poll::Pending));
            drop(gate.enter().await);
            waiting.await;
        });
    }
}
