//! An etcd-v3 server that lies, once: the harness's own test is that it finds the lie, and whose it
//! is.
//!
//! It stands in front of one real server, which it starts, and which dies with it. Where the
//! server's arguments say `@inner@`, it gets an address of its own; at `--client` this program
//! serves, once the server does, and passes everything on, but for one lie:
//!
//! | lie | told about the Nth | what is false |
//! | --- | --- | --- |
//! | `forge-ack` | put | it is acknowledged, and was never passed on |
//! | `drop-write` | transaction that succeeds and has two puts or more | its last put is left out |
//! | `hide-key` | range that returns a key, and every serializable one after it | that key, its first, is left out |
//!
//! One cluster has one liar: all its members are started alike, with `--name` for the name of each
//! and `--only` for the name of the liar. Every other member becomes the real server, with no proxy
//! in between.
//!
//! A SIGSTOP stops the lies and not the server.

use clap::{Parser, ValueEnum};
use ninelives::cluster::ports::PortHolder;
use ninelives::process::before_exec::begin_clean;
use ninelives::timer;
use node_proto::etcdserverpb::kv_client::KvClient;
use node_proto::etcdserverpb::kv_server::{Kv, KvServer};
use node_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use node_proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse,
    RangeRequest, RangeResponse, RequestOp, ResponseHeader, ResponseOp, StatusRequest, TxnRequest, TxnResponse,
    request_op, response_op,
};
use std::convert::Infallible;
use std::future::poll_fn;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{self as unix, UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, ExitStatus};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tonic::body::Body;
use tonic::codegen::{Body as HttpBody, BoxFuture, Bytes, Context, Poll, Service, StdError, http};
use tonic::service::Routes;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status};

/// Stands for the real server's client address in its arguments.
const INNER: &str = "@inner@";
/// Between two attempts to reach a server that is starting.
const STARTING_PAUSE: Duration = Duration::from_millis(15);

#[derive(Debug, Parser)]
struct Args {
    /// Address at which clients find this member
    #[arg(long)]
    client: SocketAddr,
    #[arg(long)]
    lie: Lie,
    /// Number of the request of its kind that is lied about, from 1
    #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(u64).range(1..))]
    nth: u64,
    /// The one member that lies; without it this one does
    #[arg(long, requires = "name")]
    only: Option<String>,
    /// This member
    #[arg(long)]
    name: Option<String>,
    /// The real server, and its arguments
    #[arg(last = true, required = true)]
    server: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Lie {
    ForgeAck,
    DropWrite,
    HideKey,
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    if args.only.is_some() && args.only != args.name {
        return Err(server(&args, args.client).exec().into());
    }
    let life = outlive_the_last_one(args.client)?;
    let inner = PortHolder::reserve()?;
    let mut command = server(&args, inner.address());
    // The standard input is the one descriptor of ours that a child which begins clean keeps.
    command.stdin(OwnedFd::from(life.try_clone()?));
    // The runtime's first task runs in this very thread, and spawns in it.
    begin_clean(&mut command);
    tokio::runtime::Runtime::new()?.block_on(async {
        let mut server = tokio::process::Command::from(command).spawn()?;
        tokio::select! {
            ended = server.wait() => Ok(code_of(ended?)),
            served = serve(&args, inner.address()) => served.map(|()| ExitCode::SUCCESS),
        }
    })
}

/// The real server, serving clients at `address`.
fn server(args: &Args, address: SocketAddr) -> Command {
    let mut words = args.server.iter().map(|word| word.replace(INNER, &address.to_string()));
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words);
    command
}

/// Waits until the server of an earlier life behind `client` is gone: it is killed a moment later
/// than the liar before it, and the harness, which restarts members, knows of the liar alone. The
/// new liar and its server must both hold the returned name, so that it is free once both are dead.
fn outlive_the_last_one(client: SocketAddr) -> io::Result<UnixListener> {
    let name = unix::SocketAddr::from_abstract_name(format!("lying-member/{client}"))?;
    loop {
        match UnixListener::bind_addr(&name) {
            Ok(life) => return Ok(life),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                // The listener never accepts; the connection ends with the last holder.
                if let Ok(mut last) = UnixStream::connect_addr(&name) {
                    last.read_exact(&mut [0]).ok();
                }
            }
            Err(error) => return Err(error),
        }
    }
}

fn code_of(ended: ExitStatus) -> ExitCode {
    ended.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}

async fn serve(args: &Args, inner: SocketAddr) -> anyhow::Result<()> {
    let channel = Endpoint::from_shared(format!("http://{inner}"))?.connect_lazy();
    // A client that asks whether this member serves has to get the server's answer.
    while MaintenanceClient::new(channel.clone()).status(StatusRequest {}).await.is_err() {
        timer::sleep(STARTING_PAUSE).await;
    }
    let kv = KvServer::new(Liar {
        inner: KvClient::new(channel.clone()).max_decoding_message_size(usize::MAX),
        lie: args.lie,
        nth: args.nth,
        met: AtomicU64::new(0),
        told: AtomicBool::new(false),
        hidden: OnceLock::new(),
    });
    let routes = Routes::new(kv.max_decoding_message_size(usize::MAX));
    let routes = Routes::from(routes.into_axum_router().fallback_service(Passage(channel)));
    let incoming = TcpIncoming::from(TcpListener::bind(args.client).await?).with_nodelay(Some(true));
    Ok(Server::builder().add_routes(routes).serve_with_incoming(incoming).await?)
}

/// Passes a request of any service on as it is, and its answer back, streams included.
#[derive(Debug, Clone)]
struct Passage(Channel);

impl<B> Service<http::Request<B>> for Passage
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<StdError>,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let Self(mut channel) = self.clone();
        Box::pin(async move {
            let answered = match poll_fn(|context| channel.poll_ready(context)).await {
                Ok(()) => channel.call(request.map(Body::new)).await,
                Err(error) => Err(error),
            };
            Ok(answered.unwrap_or_else(|error| Status::unavailable(error.to_string()).into_http()))
        })
    }
}

/// The one service that is lied about.
#[derive(Debug)]
struct Liar {
    inner: KvClient<Channel>,
    lie: Lie,
    nth: u64,
    /// Requests so far that the lie could have been told about.
    met: AtomicU64,
    told: AtomicBool,
    /// The key that is hidden from now on.
    hidden: OnceLock<Bytes>,
}

impl Liar {
    /// Counts a request that `lie` can be told about, and answers whether it is to be told now. A
    /// caller that cannot tell it after all calls [`Liar::keep`].
    fn due(&self, lie: Lie) -> bool {
        self.lie == lie
            && self.met.fetch_add(1, Ordering::Relaxed) + 1 >= self.nth
            && !self.told.swap(true, Ordering::Relaxed)
    }

    /// The lie was not told: the next request is as good.
    fn keep(&self) {
        self.told.store(false, Ordering::Relaxed);
    }

    /// The header that a write would get now.
    async fn next_header(&self) -> Result<Option<ResponseHeader>, Status> {
        let newest = RangeRequest { key: Bytes::from_static(b"\0"), count_only: true, ..RangeRequest::default() };
        let header = self.inner.clone().range(newest).await?.into_inner().header;
        Ok(header.map(|header| ResponseHeader { revision: header.revision + 1, ..header }))
    }
}

fn is_put(op: &RequestOp) -> bool {
    matches!(op.request, Some(request_op::Request::RequestPut(_)))
}

#[tonic::async_trait]
impl Kv for Liar {
    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        if !self.due(Lie::ForgeAck) {
            return self.inner.clone().put(request).await;
        }
        let header = self.next_header().await.inspect_err(|_| self.keep())?;
        let (key, at) = (request.get_ref().key.escape_ascii(), header.map_or(0, |header| header.revision));
        eprintln!("lying-member: acknowledges put {key} at revision {at}, and does not do it");
        Ok(Response::new(PutResponse { header, prev_kv: None }))
    }

    async fn txn(&self, mut request: Request<TxnRequest>) -> Result<Response<TxnResponse>, Status> {
        let success = &mut request.get_mut().success;
        let last = success.iter().rposition(is_put).filter(|_| success.iter().filter(|op| is_put(op)).count() > 1);
        let Some(last) = last.filter(|_| self.due(Lie::DropWrite)) else {
            return self.inner.clone().txn(request).await;
        };
        let dropped = success.remove(last);
        let mut answer = self.inner.clone().txn(request).await.inspect_err(|_| self.keep())?;
        let TxnResponse { succeeded: true, header, responses } = answer.get_mut() else {
            self.keep();
            return Ok(answer);
        };
        // As in the other answers of a transaction, the header has nothing but a revision.
        let revision = header.map_or(0, |header| header.revision);
        let header = Some(ResponseHeader { revision, ..ResponseHeader::default() });
        let response = response_op::Response::ResponsePut(PutResponse { header, prev_kv: None });
        responses.insert(last.min(responses.len()), ResponseOp { response: Some(response) });
        if let Some(request_op::Request::RequestPut(put)) = dropped.request {
            let key = put.key.escape_ascii();
            eprintln!("lying-member: answers a transaction of revision {revision} without its put {key}");
        }
        Ok(answer)
    }

    async fn range(&self, request: Request<RangeRequest>) -> Result<Response<RangeResponse>, Status> {
        let serializable = request.get_ref().serializable;
        let mut answer = self.inner.clone().range(request).await?;
        let RangeResponse { kvs, count, .. } = answer.get_mut();
        if let Some(first) = kvs.first()
            && self.due(Lie::HideKey)
        {
            eprintln!("lying-member: hides {}", first.key.escape_ascii());
            self.hidden.get_or_init(|| first.key.clone());
        }
        if let Some(hidden) = self.hidden.get().filter(|_| serializable) {
            let before = kvs.len();
            kvs.retain(|row| row.key != *hidden);
            *count -= i64::try_from(before - kvs.len()).unwrap_or(0);
        }
        Ok(answer)
    }

    async fn delete_range(
        &self,
        request: Request<DeleteRangeRequest>,
    ) -> Result<Response<DeleteRangeResponse>, Status> {
        self.inner.clone().delete_range(request).await
    }

    async fn compact(&self, request: Request<CompactionRequest>) -> Result<Response<CompactionResponse>, Status> {
        self.inner.clone().compact(request).await
    }
}
