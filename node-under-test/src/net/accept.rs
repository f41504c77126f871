//! Taking connections, as many as a class's share allows.

use super::budget::Class;
use super::connection::Connection;
use crate::clock::{self, Moment};
use futures_util::{Stream, stream};
use node_base::process::is_out_of_descriptors;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, oneshot};

/// Descriptors that something else than a connection of ours gives back come without an event: then
/// it is looked again after this time.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A client speaks as soon as it is connected. One that has said nothing for so long gives its
/// place up if another one waits.
const SILENCE: Duration = Duration::from_millis(250);

/// Connections that have spoken are forgotten once there are so many beyond the open ones.
const FORGOTTEN_MAX: usize = 64;

/// The places of one class. One task takes them; any task gives one back.
pub struct Gate {
    class: Class,
    open: AtomicU64,
    closed: Notify,
    limit: fn(Class) -> u64,
    /// Connections that have not spoken, the oldest first; those that have are closed channels.
    silent: Mutex<VecDeque<(Moment, oneshot::Sender<()>)>>,
}

impl Gate {
    pub fn new(class: Class) -> Arc<Self> {
        Self::limited(class, Class::connections_max)
    }

    fn limited(class: Class, limit: fn(Class) -> u64) -> Arc<Self> {
        Arc::new(Self { class, open: AtomicU64::new(0), closed: Notify::new(), limit, silent: Mutex::default() })
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
            let look_again = self.let_go_of_the_silent(clock::now());
            tokio::select! {
                // A place that was given back since the look above has left its permit here.
                () = self.closed.notified() => {}
                () = sleep_until(look_again) => {}
            }
        }
    }

    /// Ends the oldest connection that has been silent for long enough. When the next one will have
    /// been, if one is silent.
    fn let_go_of_the_silent(&self, now: Moment) -> Option<Moment> {
        let mut silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        silent.retain(|(_, end)| !end.is_closed());
        if silent.front().is_some_and(|(since, _)| *since + SILENCE <= now)
            && let Some((_, end)) = silent.pop_front()
        {
            // It may have spoken in this moment, and stays; then the next one is looked at.
            let _ = end.send(());
        }
        silent.front().map(|(since, _)| *since + SILENCE)
    }

    /// Remembers a connection that has not spoken yet; the receiver hears when it has to go, and is
    /// dropped when it speaks.
    pub fn note_silent(&self, since: Moment) -> oneshot::Receiver<()> {
        let (end, ended) = oneshot::channel();
        let mut silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        if silent.len() as u64 > self.open.load(Ordering::Acquire) + FORGOTTEN_MAX as u64 {
            silent.retain(|(_, end)| !end.is_closed());
        }
        silent.push_back((since, end));
        ended
    }
}

/// Completes at `moment`, or never.
async fn sleep_until(moment: Option<Moment>) {
    match moment {
        Some(moment) => clock::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// One open connection's place.
pub struct Place(Arc<Gate>);

impl Place {
    pub fn gate(&self) -> &Gate {
        &self.0
    }
}

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

/// An error of `accept` is about the connection that is gone, so that the next one can be taken at
/// once, or about this process: then the same connection is still there, and asking again at once
/// would go round in circles.
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
        gate.silent.lock().unwrap().clear();
        let mut third = connections.next();
        assert!(matches!(futures_util::poll!(&mut third), Poll::Pending));
        assert_eq!(gate.open.load(Ordering::Acquire), 2);
        drop(first);
        third.await.unwrap().unwrap();
    }

    /// Silent earlier connections must not keep a client out: otherwise this never ends.
    #[tokio::test]
    async fn the_silent_make_room_for_those_who_wait() {
        let listener = listener().await;
        let address = listener.local_addr().unwrap();
        let mut connections = pin!(connections(listener, Gate::limited(Class::Clients, |_| 2)));
        let mut clients = Vec::new();
        let mut taken = tokio::task::JoinSet::new();
        for _ in 0..8 {
            clients.push(TcpStream::connect(address).await.unwrap());
            let mut connection = connections.next().await.unwrap().unwrap();
            // As the transport does: it reads until the connection ends.
            taken.spawn(async move { tokio::io::AsyncReadExt::read_u8(&mut connection).await });
        }
        let ended = taken.join_next().await.unwrap().unwrap();
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn those_who_have_spoken_stay_and_the_silent_get_a_moment() {
        let gate = Gate::limited(Class::Clients, |_| 2);
        let start = clock::now();
        let (spoke, silent) = (gate.note_silent(start), gate.note_silent(start));
        drop(spoke);
        assert_eq!(gate.let_go_of_the_silent(start), Some(start + SILENCE));
        assert_eq!(gate.let_go_of_the_silent(start + SILENCE), None);
        assert_eq!(silent.await, Ok(()));
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
