//! One peer link, from one member to another: a listener that the first member dials, and that
//! copies bytes to the second and back.
//!
//! Each direction of a link has a [`Passage`], which decides what happens to its bytes. A cut
//! *holds* them, as TCP does while its segments are lost and sent again: nothing arrives, and after
//! the healing everything arrives, in order, if the connection still exists. So late messages of a
//! leader that was cut off arrive at members that have another leader by then. A network never
//! drops bytes out of the middle of a TCP stream, so a link does not either.
//! - While a link is cut, it takes new connections and does not serve them, as if a SYN were lost.
//! - The end of a stream is held like its bytes: a member that is cut off does not learn that the
//!   other one died.
//! - Memory is bounded: a direction that stands still reads at most [`CHUNKS_MAX`] chunks ahead,
//!   then TCP's own window stops the sender.

use crate::timer;
use ninelives_evidence::clock;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

/// Bytes that are read at once.
const CHUNK_BYTES: usize = 16 * 1024;
/// Chunks that a direction reads ahead of what it may pass on: 1 MiB.
const CHUNKS_MAX: usize = 64;
/// Pause before the proxy closes a connection to a member that is down. Without a proxy the kernel
/// would refuse such a connection; a member whose connection breaks tries again at once, and would
/// keep a core busy.
const REFUSED_PAUSE: Duration = Duration::from_millis(20);

/// The state of one direction of a link. Disturbances overlap: each adds its part, and takes it
/// away again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Passage {
    /// Disturbances that let nothing pass.
    pub holds: u32,
    /// The sum of the delays.
    pub delay: Duration,
}

/// A link's listener and its connections; they end when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// Listens on a port of 127.0.0.1 in place of `target`. `there` is what happens to the
    /// dialler's bytes, `back` to those of the answers.
    pub async fn start(
        target: SocketAddr,
        there: watch::Receiver<Passage>,
        back: watch::Receiver<Passage>,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, target, there, back));
        Ok(Self { address, _tasks: tasks })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn accept(
    listener: TcpListener,
    target: SocketAddr,
    there: watch::Receiver<Passage>,
    back: watch::Receiver<Passage>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((dialler, _)) => {
                    connections.spawn(connect(dialler, target, there.clone(), back.clone()));
                }
                // Descriptors have run out, or the dialler is gone again: neither ends the link.
                Err(_) => timer::sleep(REFUSED_PAUSE).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Connects to `target`, once the link lets anything pass, and copies both ways until one side is
/// gone.
async fn connect(
    mut dialler: TcpStream,
    target: SocketAddr,
    mut there: watch::Receiver<Passage>,
    back: watch::Receiver<Passage>,
) {
    if there.wait_for(|passage| passage.holds == 0).await.is_err() {
        return;
    }
    let Ok(mut listener) = TcpStream::connect(target).await else {
        return timer::sleep(REFUSED_PAUSE).await;
    };
    // Messages are small, and waiting to fill a segment would be an unplanned delay.
    let _ = (dialler.set_nodelay(true), listener.set_nodelay(true));
    let (from_dialler, to_dialler) = dialler.split();
    let (from_listener, to_listener) = listener.split();
    // An error on either side ends both; an orderly end of one side is handed on, and the other
    // side may go on.
    let _ = tokio::try_join!(copy(from_dialler, to_listener, there), copy(from_listener, to_dialler, back));
}

/// Copies until the stream ends, as `passage` allows.
async fn copy(from: ReadHalf<'_>, to: WriteHalf<'_>, passage: watch::Receiver<Passage>) -> io::Result<()> {
    let (push, pull) = mpsc::channel(CHUNKS_MAX);
    let read = async {
        read(from, push).await;
        Ok(())
    };
    // A side that cannot be written to closes both, even if the other side sends nothing more.
    tokio::try_join!(read, write(to, pull, passage)).map(drop)
}

/// Hands chunks on with the time at which they were read. An error ends the stream like its orderly
/// end: chunks that were read before it are still on their way.
async fn read(mut from: ReadHalf<'_>, chunks: mpsc::Sender<(Instant, Vec<u8>)>) {
    loop {
        let mut chunk = vec![0; CHUNK_BYTES];
        match from.read(&mut chunk).await {
            Ok(0) | Err(_) => return,
            Ok(length) => chunk.truncate(length),
        }
        if chunks.send((clock::now(), chunk)).await.is_err() {
            return;
        }
    }
}

async fn write(
    mut to: WriteHalf<'_>,
    mut chunks: mpsc::Receiver<(Instant, Vec<u8>)>,
    mut passage: watch::Receiver<Passage>,
) -> io::Result<()> {
    while let Some((read, chunk)) = chunks.recv().await {
        let_pass(read, &mut passage).await;
        to.write_all(&chunk).await?;
    }
    let_pass(clock::now(), &mut passage).await;
    to.shutdown().await
}

/// Waits until a chunk that was read at `read` may pass. The end of a disturbance lets it pass at
/// once.
async fn let_pass(read: Instant, passage: &mut watch::Receiver<Passage>) {
    loop {
        let now = *passage.borrow_and_update();
        let changed = match now {
            Passage { holds: 0, delay } if read + delay <= clock::now() => return,
            Passage { holds: 0, delay } => timer::before(read + delay, passage.changed()).await,
            _ => Some(passage.changed().await),
        };
        // The run is over, so the link will not be healed.
        if let Some(Err(_)) = changed {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An echo server, a link to it, and a connection through that.
    struct Line {
        there: watch::Sender<Passage>,
        back: watch::Sender<Passage>,
        stream: TcpStream,
        proxy: Proxy,
        _echo: JoinSet<()>,
    }

    const HELD: Passage = Passage { holds: 1, delay: Duration::ZERO };

    async fn line() -> Line {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let target = server.local_addr().unwrap();
        let mut echo = JoinSet::new();
        echo.spawn(async move {
            while let Ok((mut stream, _)) = server.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        let (there, back) = (watch::Sender::new(Passage::default()), watch::Sender::new(Passage::default()));
        let proxy = Proxy::start(target, there.subscribe(), back.subscribe()).await.unwrap();
        let stream = TcpStream::connect(proxy.address()).await.unwrap();
        Line { there, back, stream, proxy, _echo: echo }
    }

    impl Line {
        async fn say(&mut self, word: &[u8]) {
            self.stream.write_all(word).await.unwrap();
        }

        async fn hear(&mut self, length: usize) -> Vec<u8> {
            let mut heard = vec![0; length];
            self.stream.read_exact(&mut heard).await.unwrap();
            heard
        }

        /// Nothing comes, for as long as a test can wait.
        async fn hears_nothing(&mut self) {
            let mut byte = [0];
            assert!(timer::within(Duration::from_millis(80), self.stream.read(&mut byte)).await.is_none());
        }
    }

    #[tokio::test]
    async fn an_open_link_passes_everything_and_its_end() {
        let mut line = line().await;
        let much: Vec<u8> = (0..1_000_000_u32).map(|n| n as u8).collect();
        let (mut from, mut to) = line.stream.split();
        let mut heard = Vec::new();
        let (said, ended) = tokio::join!(
            async {
                to.write_all(&much).await?;
                to.shutdown().await
            },
            from.read_to_end(&mut heard)
        );
        said.unwrap();
        ended.unwrap();
        assert_eq!(heard.len(), much.len());
        assert!(heard == much, "bytes were changed or reordered");
    }

    #[tokio::test]
    async fn a_cut_holds_either_direction_and_healing_delivers_in_order() {
        let mut line = line().await;
        for forward in [true, false] {
            let cut = if forward { &line.there } else { &line.back }.clone();
            cut.send_replace(HELD);
            line.say(b"one").await;
            line.hears_nothing().await;
            line.say(b"two").await;
            cut.send_replace(Passage::default());
            assert_eq!(line.hear(6).await, b"onetwo");
        }
    }

    #[tokio::test]
    async fn one_way_is_one_way() {
        // The other side's bytes pass although ours are held: the server speaks first.
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let (there, back) = (watch::Sender::new(Passage::default()), watch::Sender::new(Passage::default()));
        let proxy = Proxy::start(server.local_addr().unwrap(), there.subscribe(), back.subscribe()).await.unwrap();
        let mut dialler = TcpStream::connect(proxy.address()).await.unwrap();
        let (mut listener, _) = server.accept().await.unwrap();
        there.send_replace(HELD);
        dialler.write_all(b"lost").await.unwrap();
        listener.write_all(b"heard").await.unwrap();
        let mut heard = [0; 5];
        dialler.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"heard");
        assert!(timer::within(Duration::from_millis(80), listener.read(&mut heard)).await.is_none());
        there.send_replace(Passage::default());
        assert_eq!(listener.read(&mut heard).await.unwrap(), 4);
    }

    #[tokio::test]
    async fn a_delay_keeps_the_order_and_ends_with_the_disturbance() {
        let mut line = line().await;
        let delay = Duration::from_millis(60);
        line.there.send_replace(Passage { holds: 0, delay });
        let start = clock::now();
        line.say(b"one").await;
        line.say(b"two").await;
        assert_eq!(line.hear(6).await, b"onetwo");
        assert!(start.elapsed() >= delay, "{:?}", start.elapsed());
        line.there.send_replace(Passage { holds: 0, delay: Duration::from_secs(600) });
        line.say(b"late").await;
        line.hears_nothing().await;
        line.there.send_replace(Passage::default());
        assert_eq!(line.hear(4).await, b"late");
    }

    #[tokio::test]
    async fn a_connection_that_is_made_while_cut_is_of_use_after_the_healing() {
        let mut line = line().await;
        line.there.send_replace(HELD);
        line.stream = TcpStream::connect(line.proxy.address()).await.unwrap();
        line.say(b"new").await;
        line.hears_nothing().await;
        line.there.send_replace(Passage::default());
        assert_eq!(line.hear(3).await, b"new");
    }

    #[tokio::test]
    async fn a_member_that_is_down_ends_its_connections() {
        let gone = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
        let open = watch::Sender::new(Passage::default());
        let proxy = Proxy::start(gone, open.subscribe(), open.subscribe()).await.unwrap();
        let mut dialler = TcpStream::connect(proxy.address()).await.unwrap();
        let mut byte = [0];
        let ended = timer::within(Duration::from_secs(5), dialler.read(&mut byte)).await;
        assert!(matches!(ended, Some(Ok(0) | Err(_))), "{ended:?}");
    }

    #[tokio::test]
    async fn a_dropped_link_ends_its_connections() {
        let mut line = line().await;
        line.say(b"x").await;
        assert_eq!(line.hear(1).await, b"x");
        let Line { proxy, mut stream, .. } = line;
        drop(proxy);
        let mut byte = [0];
        let ended = timer::within(Duration::from_secs(5), stream.read(&mut byte)).await;
        assert!(matches!(ended, Some(Ok(0) | Err(_))), "{ended:?}");
    }
}
