//! Running one member: open → recover → raft → listeners → wait for the end.

use crate::api;
use crate::applier::Applier;
use crate::cli::{LogFormat, Serve};
use crate::clock::{self, Stopwatch};
use crate::control::ControlService;
use crate::entropy;
use crate::net::{self, Class, budget};
use crate::output;
use crate::publish;
use crate::recovery::{self, Evidence, Found, Replay};
use crate::restored;
use crate::space::Space;
use crate::state::{self, FIRST_REVISION, Store};
use crate::sweeper;
use anyhow::Context;
use node_backend::EXIT_STORAGE;
use node_backend::engine::{Engine, EngineOptions};
use node_backend::layout::{DataDir, DirLock};
use node_backend::{dispatch, marker, migrate, snapshot};
use node_base::LogId;
use node_base::chain::chain;
use node_base::diagnostics::Lines;
use node_base::durable;
use node_base::failpoint::{self, Window};
use node_base::process::hangup_is_ignored;
use node_base::sabotage::{Bug, planted};
use node_base::say;
use node_base::watermarks::Watermarks;
use node_raft::{Farewell, LogStore, RaftNode, RaftOptions, StateMachine, ToApply};
use serde::Serialize;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch::{self, error::RecvError};
use tonic::service::Routes;

/// Runs until a signal or its own removal (exit 0), a refusal because it lost its log (exit 1), or
/// a storage failure (exit 74).
///
/// # Errors
/// Whatever keeps the member from starting; nothing on disk was changed beyond what recovery
/// repairs.
pub fn run(options: Serve) -> anyhow::Result<ExitCode> {
    options.validate()?;
    start_logging(options.log_format);
    #[cfg(feature = "sabotage")]
    if let Some(bug) = &options.sabotage {
        node_base::sabotage::plant(bug).map_err(anyhow::Error::msg)?;
    }
    for (window, hit) in &options.arm {
        failpoint::arm(*window, *hit);
    }
    let engine_files = budget::claim()?;
    if options.recover_only {
        return recover_only(&options, engine_files);
    }
    let raft = runtime("raft", WORKERS)?;
    let clients = runtime("clients", client_workers())?;
    // Listeners come first: a second process with the same addresses must fail before it touches
    // data.
    let listeners = raft.block_on(Listeners::bind(&options))?;
    let member = open(&options, engine_files)?;
    let code = raft.block_on(serve(&options, listeners, member, clients.handle()));
    // Requests may still read; the engine must not end under them.
    clients.shutdown_timeout(LAST_READS);
    code
}

/// Raft's own threads: its core, its timers, peers, the control endpoint. What clients ask for runs
/// on others, so that no number of requests, and no size of an answer, keeps a heartbeat or a vote
/// waiting. Each task that becomes ready wakes another thread that is idle, and most of a write's
/// cost is such wake-ups: so there are few threads, and one more than a long message keeps busy.
const WORKERS: usize = 2;
/// Time that reads under way may take while the process ends.
const LAST_READS: Duration = Duration::from_secs(5);

fn client_workers() -> usize {
    std::thread::available_parallelism().map_or(2, |cores| cores.get().max(2))
}

fn runtime(name: &str, workers: usize) -> std::io::Result<Runtime> {
    Builder::new_multi_thread().thread_name(name).worker_threads(workers).enable_all().build()
}

fn start_logging(format: LogFormat) {
    let filter = tracing_subscriber::EnvFilter::try_from_env("NODE_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,openraft=error"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| Lines).with_ansi(false);
    match format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
}

struct Listeners {
    peer: TcpListener,
    client: TcpListener,
    control: Option<TcpListener>,
}

impl Listeners {
    async fn bind(options: &Serve) -> anyhow::Result<Self> {
        let own = options.own();
        Ok(Self {
            peer: bind(own.peer_addr.parse()?, "peers").await?,
            client: bind(own.client_addr.parse()?, "clients").await?,
            control: match options.control {
                Some(address) => Some(bind(address, "control").await?),
                None => None,
            },
        })
    }
}

async fn bind(address: SocketAddr, purpose: &str) -> anyhow::Result<TcpListener> {
    net::bind(address)
        .await
        .with_context(|| format!("cannot listen for {purpose} on {address}; is another member running there?"))
}

/// The parts of a member that recovery opened.
struct Opened {
    log: LogStore,
    marks: Arc<Watermarks>,
    applier: Arc<Applier>,
    space: Arc<Space>,
    open_micros: u64,
    /// No other process works on the directory while this lives.
    _lock: DirLock,
}

/// The start-up sequence of [`recovery`], claims 1 to 5.
fn open(options: &Serve, engine_files: u32) -> anyhow::Result<Opened> {
    let stopwatch = Stopwatch::start();
    let dir = DataDir::new(&options.data_dir);
    let kind = options.backend.kind();
    durable::create_dir_durably(dir.root()).context("cannot create the data directory")?;
    let lock = dir.lock()?;
    let space = Space::claim(dir.root(), options.disk_reserve_bytes).context("cannot ask for the room on the disk")?;
    let space = Arc::new(space);
    if let Some(resumed) = migrate::resume(&dir)? {
        tracing::warn!(?resumed, "an interrupted change of engine");
    }
    marker::claim(&dir, kind)?;
    failpoint::pass(Window::RecoveryMarked);
    durable::create_dir_durably(&dir.snap()).context("cannot create the data directory")?;
    let log = LogStore::open(&dir.raft(), entropy::incarnation()).context("cannot open the raft log")?;
    failpoint::pass(Window::RecoveryLogOpened);
    for done in snapshot::tidy(&dir).context("cannot clean up after an interrupted snapshot")? {
        tracing::info!("{done}");
    }
    failpoint::pass(Window::RecoveryTidied);
    log.sync_leftovers().context("cannot sync the raft log")?;
    dir.sync_leftovers().context("cannot sync the data directory")?;
    failpoint::pass(Window::RecoveryOpen);
    let engine = dispatch::open(dir, kind, engine_options(options, engine_files)?)?;
    let found = locate(&log, &*engine)?;
    failpoint::pass(Window::RecoveryOpened);
    tracing::info!(?found, "recovered");
    let mut replay = Replay::new(found);
    let in_log = found.engine.map(|id| log.log_id(id.index)).transpose().context("cannot read the raft log")?.flatten();
    if let Some(image) = recovery::interrupted_install(&found, in_log) {
        tracing::warn!(%image, "finishing the install of a snapshot");
        failpoint::pass(Window::RecoveryInstall);
        engine.finish_install()?;
        failpoint::pass(Window::RecoveryInstalled);
        replay.installed(image);
    }
    let persisted = replay.position().min(found.engine);
    let committed = log.facts().committed.map(|id| id.index);
    let marks = Arc::new(Watermarks::at_start(persisted, found.engine, committed));
    log.attach(marks.clone());
    engine.attach(marks.clone())?;
    if let Some(engine_id) = found.engine {
        // The log holds this very LogId, or the install that brought it is finished: a flush may
        // make it N.
        engine.verified(engine_id)?;
    }
    let unread = || format!("cannot read the state out of {}", engine.dir().db().display());
    let store = Arc::new(Store::open(engine.clone()).with_context(unread)?);
    refuse_misplaced(options, &found, &log, &store)?;
    let applier = Arc::new(Applier::new(store, engine, replay, space.clone()));
    Ok(Opened { log, marks, applier, space, open_micros: stopwatch.elapsed_micros(), _lock: lock })
}

/// Claims 1 to 6 of [`recovery`] without raft: the entries that are certainly committed are
/// applied, which are those that the log has saved as such and those that the engine holds.
fn recover_only(options: &Serve, engine_files: u32) -> anyhow::Result<ExitCode> {
    let Opened { log, applier, open_micros, _lock, .. } = open(options, engine_files)?;
    let committed = log.facts().committed.map(|id| id.index).max(applier.evidence().found.engine.map(|id| id.index));
    let next = applier.replay_after().map_or(0, |last| last.index + 1);
    if let Some(last) = committed.filter(|last| *last >= next) {
        let entries = log.read_range(next, last).context("cannot read the raft log")?;
        let entries = entries.into_iter().map(|entry| ToApply { entry, awaited: false });
        applier.apply(entries.collect(), &mut |_| Ok(()))?;
        applier.settle()?;
    }
    output::line(serde_json::to_string(&Account::of(&applier.evidence(), open_micros))?)?;
    Ok(ExitCode::SUCCESS)
}

/// The account of a recovery, by the names that the control endpoint uses.
#[derive(Debug, Serialize)]
struct Account {
    last_flushed_index: Option<u64>,
    engine_index: Option<u64>,
    log_first: Option<u64>,
    log_last: Option<u64>,
    last_purged: Option<u64>,
    scan_start: Option<u64>,
    verified: Option<[u64; 2]>,
    replayed: Option<[u64; 2]>,
    complete: bool,
    open_micros: u64,
    snapshot_installed: Option<u64>,
}

impl Account {
    fn of(evidence: &Evidence, open_micros: u64) -> Self {
        let Evidence { found, scan_start, verified, replayed, complete, snapshot_installed } = evidence;
        let index = |id: Option<LogId>| id.map(|id| id.index);
        let span = |range: &RangeInclusive<u64>| [*range.start(), *range.end()];
        Self {
            last_flushed_index: index(found.last_flushed),
            engine_index: index(found.engine),
            log_first: found.log_first,
            log_last: index(found.log_last),
            last_purged: index(found.last_purged),
            scan_start: *scan_start,
            verified: verified.as_ref().map(span),
            replayed: replayed.as_ref().map(span),
            complete: *complete,
            open_micros,
            snapshot_installed: *snapshot_installed,
        }
    }
}

/// A restored directory founds a new cluster, with founders that were restored alike. Entries from
/// a running cluster's beginning would be applied on top of another cluster's keys; so would a
/// founder's first entry on a directory that stands at no position, as earlier versions restored
/// it, while a newcomer would apply it to nothing.
fn refuse_misplaced(options: &Serve, found: &Found, log: &LogStore, store: &Store) -> anyhow::Result<()> {
    let dir = options.data_dir.display();
    anyhow::ensure!(
        !(options.join && restored::is_unfounded(found.engine, &log.facts())),
        "{dir}: holds the keys of a restored snapshot, which founds a new cluster: it cannot --join a running one; give the new \
         member an empty directory"
    );
    let nowhere = found.engine.is_none() && (store.revision() > FIRST_REVISION || !store.leases().is_empty());
    anyhow::ensure!(
        !nowhere || planted(Bug::RestoreForgetsPosition),
        "{dir}: holds keys and leases, but no raft position: an earlier version restored it, and members that are added later \
         would not get what it holds. Restore the snapshot again, with this version"
    );
    Ok(())
}

fn locate(log: &LogStore, engine: &dyn Engine) -> anyhow::Result<Found> {
    let (facts, opened) = (log.facts(), engine.opened());
    let position = opened.persisted.map(|index| log.log_id(index)).transpose().context("cannot read the raft log")?;
    let unfit = || {
        let dir = engine.dir();
        let files = [dir.raft(), dir.last_flushed_index(), dir.db()].map(|path| path.display().to_string());
        format!("{} do not fit together, so that one of them is damaged", files.join(", "))
    };
    recovery::locate(opened.persisted, position.flatten(), opened.engine, &facts).with_context(unfit)
}

fn engine_options(options: &Serve, open_files_max: u32) -> anyhow::Result<EngineOptions> {
    let default = EngineOptions::default();
    Ok(EngineOptions {
        memtable_bytes: options.memtable_bytes.map_or(Ok(default.memtable_bytes), usize::try_from)?,
        lag_entries_max: options.unflushed_entries_max.unwrap_or(default.lag_entries_max),
        open_files_max,
        ..default
    })
}

async fn serve(options: &Serve, listeners: Listeners, member: Opened, clients: &Handle) -> anyhow::Result<ExitCode> {
    let Opened { log, marks, applier, space, open_micros, _lock } = member;
    let cluster = api::cluster_id(options, applier.store())?;
    let raft = RaftNode::start(raft_options(options, cluster)?, log.clone(), applier.clone(), marks.clone()).await?;
    failpoint::pass(Window::RecoveryRaftStarted);
    let mut farewell = raft.farewell();
    if let Some(why) = *farewell.borrow_and_update() {
        return Ok(part(why));
    }
    let (stop, stopped) = watch::channel(false);
    let control = ControlService {
        member_id: options.id,
        raft: raft.clone(),
        log,
        marks: marks.clone(),
        applier: applier.clone(),
        open_micros,
    };
    tokio::spawn(publish::run(raft.clone(), applier.store().clone(), options.own().clone()));
    tokio::spawn(sweeper::run(applier.store().clone()));
    let client = api::routes(options, raft.clone(), applier.store().clone(), marks, space)?;
    let mut servers = tokio::task::JoinSet::new();
    servers.spawn(net::listen(listeners.peer, Class::Peers, Routes::new(raft.peer_service()), stopped.clone()));
    servers.spawn_on(net::listen(listeners.client, Class::Clients, client, stopped.clone()), clients);
    if let Some(listener) = listeners.control {
        servers.spawn(net::listen(listener, Class::Control, Routes::new(control.into_server()), stopped));
    }
    // A process that hears that it serves may stop it at once.
    let mut signals = StopSignals::catch()?;
    announce("serving");
    let code = tokio::select! {
        signal = signals.next() => {
            tracing::info!(signal, "stopping");
            ExitCode::SUCCESS
        }
        reason = raft.fatal() => {
            say!("{}", durable::last_words(&chain(&*reason), state::is_damage(&*reason)));
            node_base::process::end(EXIT_STORAGE)
        }
        Ok(why) = told_to_part(&mut farewell) => {
            // A client that asked this member for its own removal gets the answer.
            let _ = stop.send(true);
            let drained = async { while servers.join_next().await.is_some() {} };
            tokio::select! {
                () = drained => {}
                () = clock::sleep_until(clock::now() + DRAIN) => {}
            }
            part(why)
        }
        Some(ended) = servers.join_next() => {
            ended??;
            anyhow::bail!("a listener ended by itself");
        }
    };
    raft.shutdown().await;
    let _ = stop.send(true);
    Ok(code)
}

/// Time for which a member that was removed goes on answering what it was asked before.
const DRAIN: Duration = Duration::from_secs(1);

async fn told_to_part(farewell: &mut watch::Receiver<Option<Farewell>>) -> Result<Farewell, RecvError> {
    let why = farewell.wait_for(Option::is_some).await?;
    Ok(why.unwrap_or(Farewell::Removed { id: 0 }))
}

/// A removed member is done (exit 0); one that lost its log must not go on (exit 1).
fn part(why: Farewell) -> ExitCode {
    match why {
        Farewell::Removed { .. } => {
            say!("{why}; stopping");
            ExitCode::SUCCESS
        }
        Farewell::Wiped { .. } => {
            say!("error: {why}");
            ExitCode::FAILURE
        }
    }
}

fn raft_options(options: &Serve, cluster: Option<u64>) -> anyhow::Result<RaftOptions> {
    Ok(RaftOptions {
        id: options.id,
        members: options.members.clone(),
        join: options.join,
        cluster,
        heartbeat_ms: options.heartbeat_ms,
        election_ms: (options.election_ms, options.election_ms * 3 / 2),
        snapshot_every_entries: options.snapshot_every_entries,
        keep_entries: options.keep_entries,
        dial: options.dial()?,
    })
}

/// One JSON line on standard output, for the parent process.
fn announce(event: &str) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{{\"event\":\"{event}\"}}").and_then(|()| out.flush());
}

/// The signals that end this member in order, caught from now on. SIGHUP is one of them, unless it
/// was ignored when the process began: that is what `nohup` asks for.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Option<Signal>,
}

impl StopSignals {
    fn catch() -> std::io::Result<Self> {
        let hangup = if hangup_is_ignored() { None } else { Some(signal(SignalKind::hangup())?) };
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())?, hangup })
    }

    /// The name of the first that comes.
    async fn next(&mut self) -> &'static str {
        let hung_up = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            _ = hung_up => "SIGHUP",
        }
    }
}
