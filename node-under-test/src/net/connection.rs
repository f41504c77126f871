//! One accepted connection: a socket, its place, and a term within which it has to speak.

use super::accept::Place;
use crate::clock;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tonic::transport::server::{Connected, TcpConnectInfo};

/// A client has so long to say that it speaks HTTP/2. What comes after that, pings watch over.
const PREFACE_TERM: Duration = Duration::from_secs(10);
/// "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
const PREFACE_BYTES: usize = 24;

type Term = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A connection that has not said all of the preface.
struct Silence {
    missing_bytes: usize,
    term: Term,
    /// Another connection needs its place; closed if none ever will.
    ended: Option<oneshot::Receiver<()>>,
}

impl Silence {
    /// Becomes ready when it has lasted too long.
    fn poll_over(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Some(ended) = &mut self.ended {
            match Pin::new(ended).poll(context) {
                Poll::Ready(Ok(())) => return Poll::Ready(()),
                Poll::Ready(Err(_)) => self.ended = None,
                Poll::Pending => {}
            }
        }
        self.term.as_mut().poll(context)
    }
}

pub struct Connection {
    stream: TcpStream,
    silent: Option<Silence>,
    _place: Place,
}

impl Connection {
    pub fn new(stream: TcpStream, place: Place) -> Self {
        let now = clock::now();
        let ended = Some(place.gate().note_silent(now));
        let term = Box::pin(clock::sleep_until(now + PREFACE_TERM));
        Self { stream, silent: Some(Silence { missing_bytes: PREFACE_BYTES, term, ended }), _place: place }
    }

    #[cfg(test)]
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, into);
        let Some(silence) = &mut self.silent else { return read };
        silence.missing_bytes = silence.missing_bytes.saturating_sub(into.filled().len() - before);
        if silence.missing_bytes == 0 {
            self.silent = None;
            return read;
        }
        if read.is_pending() && silence.poll_over(context).is_ready() {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the client did not speak HTTP/2 in time",
            )));
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

#[cfg(test)]
mod tests {
    use super::super::accept::{Gate, connections};
    use super::super::budget::Class;
    use super::*;
    use futures_util::StreamExt;
    use std::pin::pin;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// A client, and what the server has of it with a term that is over at once.
    async fn overdue() -> (TcpStream, Connection) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut connections = pin!(connections(listener, Gate::new(Class::Clients)));
        let mut connection = connections.next().await.unwrap().unwrap();
        let term = Box::pin(clock::sleep_until(clock::now()));
        connection.silent = Some(Silence { missing_bytes: PREFACE_BYTES, term, ended: None });
        (client, connection)
    }

    #[tokio::test]
    async fn a_client_that_never_speaks_is_let_go() {
        let (_client, mut connection) = overdue().await;
        let error = connection.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn half_a_preface_is_no_preface() {
        let (mut client, mut connection) = overdue().await;
        client.write_all(&[b'P'; PREFACE_BYTES - 1]).await.unwrap();
        connection.read_exact(&mut [0; PREFACE_BYTES - 1]).await.unwrap();
        assert_eq!(connection.read_u8().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_client_that_has_spoken_may_be_silent() {
        let (mut client, mut connection) = overdue().await;
        client.write_all(&[b'P'; PREFACE_BYTES]).await.unwrap();
        connection.read_exact(&mut [0; PREFACE_BYTES]).await.unwrap();
        assert!(futures_util::poll!(pin!(connection.read_u8())).is_pending());
        client.write_all(b"x").await.unwrap();
        assert_eq!(connection.read_u8().await.unwrap(), b'x');
    }
}
