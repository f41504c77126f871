//! A link from one member to another that can be cut in a single direction: the bytes are held, as
//! TCP holds them while its segments are lost.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Ends with its connections when it is dropped.
pub struct Relay {
    pub address: SocketAddr,
    /// True while the dialler's bytes pass.
    pub there: watch::Sender<bool>,
    /// True while the answers to it pass.
    pub back: watch::Sender<bool>,
    _tasks: JoinSet<()>,
}

impl Relay {
    /// Listens for who dials `target`. Must be called in a runtime.
    pub fn start(target: SocketAddr) -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let listener = TcpListener::from_std(listener).unwrap();
        let (there, back) = (watch::Sender::new(true), watch::Sender::new(true));
        let passages = (there.clone(), back.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((dialler, _)) = listener.accept().await {
                connections.spawn(connect(dialler, target, passages.0.subscribe(), passages.1.subscribe()));
            }
        });
        Self { address, there, back, _tasks: tasks }
    }
}

async fn connect(
    dialler: TcpStream,
    target: SocketAddr,
    mut there: watch::Receiver<bool>,
    back: watch::Receiver<bool>,
) {
    if there.wait_for(|passes| *passes).await.is_err() {
        return;
    }
    let Ok(listener) = TcpStream::connect(target).await else { return };
    let _ = (dialler.set_nodelay(true), listener.set_nodelay(true));
    let (from_dialler, to_dialler) = dialler.into_split();
    let (from_listener, to_listener) = listener.into_split();
    let _ = tokio::try_join!(copy(from_dialler, to_listener, there), copy(from_listener, to_dialler, back));
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut passage: watch::Receiver<bool>) -> io::Result<()> {
    let mut chunk = vec![0; 16 << 10];
    loop {
        let read = from.read(&mut chunk).await?;
        passage.wait_for(|passes| *passes).await.map_err(io::Error::other)?;
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(&chunk[..read]).await?;
    }
}
