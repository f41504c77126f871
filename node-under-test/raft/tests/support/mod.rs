//! A cluster in one process. Each test binary uses its part of it.

#![allow(dead_code, reason = "shared by several test binaries")]

pub mod relay;

use bytes::Bytes;
use node_base::LogId;
use node_base::backend::Declared;
use node_base::watermarks::Watermarks;
use node_raft::{
    Dial, Enrolled, Entry, Farewell, LogFacts, LogStore, Member, OutgoingSnapshot, Payload, RaftNode, RaftOptions,
    SnapshotMeta, StartError, StateMachine, ToApply, decode_membership,
};
use relay::Relay;
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

/// Far above what anything here takes; a test that reaches it has hung.
const PATIENCE: Duration = Duration::from_secs(60);
const SNAPSHOT_EVERY: u64 = 40;
const KEEP: u64 = 10;
/// A command that begins so cannot be applied.
pub const UNFIT: &str = "unfit";
pub const CLUSTER_ID: u64 = 0xc1;
const SNAPSHOT_BYTES_MAX: u64 = 64 << 20;

/// The state that an engine would hold.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
struct State {
    at: Option<LogId>,
    membership: Option<Vec<u8>>,
    greatest_id: u64,
    commands: Vec<String>,
}

#[derive(Default)]
struct Engine {
    memory: State,
    /// The state that survives a restart.
    flushed: State,
    staged: Option<State>,
    installed: u64,
    /// Where `memory` stood when it was last settled, and how often it was.
    settled: (Option<LogId>, u64),
    /// Of the entries that it was handed at once, the greatest number.
    most_at_once: usize,
    /// Snapshots that were asked for; the first answer is "not yet".
    snapshots_asked: u64,
    /// Lets every command pass, as a member of another version might.
    lenient: bool,
}

/// Holds up the application of the command "stall" until it is opened, and that of the first
/// entries of terms if it is told to.
#[derive(Default)]
pub struct Gate {
    state: Mutex<(usize, bool)>,
    opened: Condvar,
    first_entries: AtomicBool,
}

impl Gate {
    /// The first entry of each later term comes to it as well.
    pub fn hold_first_entries(&self) {
        self.first_entries.store(true, Ordering::SeqCst);
    }

    fn holds(&self, payload: &Payload) -> bool {
        match payload {
            Payload::Command(command) => command == "stall",
            Payload::Blank => self.first_entries.load(Ordering::SeqCst),
            Payload::Membership(_) => false,
        }
    }

    fn wait(&self) {
        let mut state = self.state.lock().unwrap();
        state.0 += 1;
        drop(self.opened.wait_while(state, |(_, open)| !*open).unwrap());
    }

    /// Members that came to it.
    pub fn waiting(&self) -> usize {
        self.state.lock().unwrap().0
    }

    pub fn open(&self) {
        self.state.lock().unwrap().1 = true;
        self.opened.notify_all();
    }
}

/// A state machine that applies to memory and flushes when it is told to.
struct Memory {
    engine: Arc<Mutex<Engine>>,
    marks: Arc<Watermarks>,
    gate: Arc<Gate>,
}

impl Memory {
    fn lock(&self) -> MutexGuard<'_, Engine> {
        self.engine.lock().unwrap()
    }

    fn flush(&self) {
        let flushed = {
            let mut engine = self.lock();
            engine.flushed = engine.memory.clone();
            engine.flushed.at
        };
        if let Some(at) = flushed {
            self.marks.flushed(at);
            self.marks.persisted(at);
        }
    }

    fn apply_one(&self, entry: Entry) -> io::Result<Bytes> {
        if self.gate.holds(&entry.payload) {
            self.gate.wait();
        }
        let mut engine = self.lock();
        let expected = engine.memory.at.map_or(0, |at| at.index + 1);
        if entry.log_id.index != expected {
            return Err(io::Error::other(format!("expected index {expected}, found {}", entry.log_id)));
        }
        engine.memory.at = Some(entry.log_id);
        let answer = match entry.payload {
            Payload::Blank => Bytes::new(),
            Payload::Membership(membership) => {
                let ids = decode_membership(&membership)?.into_iter().map(|member| member.id);
                engine.memory.greatest_id = ids.fold(engine.memory.greatest_id, u64::max);
                engine.memory.membership = Some(membership.to_vec());
                Bytes::new()
            }
            Payload::Command(command) => {
                let command = String::from_utf8(command.to_vec()).map_err(io::Error::other)?;
                if command == "fail" {
                    return Err(io::Error::other("asked to fail"));
                }
                let answer = format!("applied {command}");
                engine.memory.commands.push(command);
                answer.into()
            }
        };
        drop(engine);
        self.marks.applied(entry.log_id);
        Ok(answer)
    }
}

impl StateMachine for Memory {
    fn replay_after(&self) -> Option<LogId> {
        self.lock().flushed.at
    }

    fn membership(&self) -> io::Result<Option<Bytes>> {
        Ok(self.lock().memory.membership.clone().map(Bytes::from))
    }

    fn greatest_member_id(&self) -> io::Result<u64> {
        Ok(self.lock().memory.greatest_id)
    }

    fn vet(&self, command: &Bytes) -> Result<(), String> {
        let fit = std::str::from_utf8(command).is_ok_and(|command| !command.starts_with(UNFIT));
        if fit || self.lock().lenient { Ok(()) } else { Err("expected a fit command".to_owned()) }
    }

    fn apply(&self, entries: Vec<ToApply>, answer: &mut dyn FnMut(Bytes) -> io::Result<()>) -> io::Result<()> {
        let mut engine = self.lock();
        engine.most_at_once = engine.most_at_once.max(entries.len());
        drop(engine);
        entries.into_iter().try_for_each(|ToApply { entry, .. }| answer(self.apply_one(entry)?))
    }

    fn settle(&self) -> io::Result<()> {
        let mut engine = self.lock();
        engine.settled = (engine.memory.at, engine.settled.1 + 1);
        Ok(())
    }

    fn open_snapshot(&self) -> io::Result<OutgoingSnapshot> {
        self.lock().snapshots_asked += 1;
        if self.lock().snapshots_asked == 1 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.flush();
        let state = self.lock().flushed.clone();
        let membership = state.membership.clone().unwrap_or_default().into();
        let log_id = state.at.ok_or_else(|| io::Error::other("nothing to send"))?;
        let body = postcard::to_stdvec(&state).map_err(io::Error::other)?;
        Ok(OutgoingSnapshot {
            meta: SnapshotMeta { log_id, membership },
            declared: Declared { wire_size: body.len() as u64, sha256: Some([7; 32]) },
            reader: Box::new(io::Cursor::new(body)),
        })
    }

    fn snapshot_room(&self) -> io::Result<u64> {
        Ok(SNAPSHOT_BYTES_MAX)
    }

    fn receive_snapshot(&self, meta: &SnapshotMeta, declared: Declared, reader: &mut dyn Read) -> io::Result<()> {
        let mut body = Vec::new();
        reader.read_to_end(&mut body)?;
        let state: State = postcard::from_bytes(&body).map_err(io::Error::other)?;
        let expected = Declared { wire_size: body.len() as u64, sha256: Some([7; 32]) };
        if declared != expected || state.at != Some(meta.log_id) {
            return Err(io::Error::other("not the snapshot that was announced"));
        }
        self.lock().staged = Some(state);
        Ok(())
    }

    fn install_snapshot(&self, meta: &SnapshotMeta, purge_log: &mut dyn FnMut() -> io::Result<()>) -> io::Result<()> {
        {
            let mut engine = self.lock();
            let state = engine.staged.take().ok_or_else(|| io::Error::other("nothing is staged"))?;
            engine.memory = state.clone();
            engine.flushed = state;
            engine.installed += 1;
        }
        self.marks.installed(meta.log_id);
        purge_log()
    }
}

struct Running {
    node: RaftNode,
    log: LogStore,
    machine: Arc<Memory>,
    marks: Arc<Watermarks>,
    stop_serving: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

pub struct Cluster {
    cluster_id: u64,
    /// The founding ones.
    members: Vec<Member>,
    /// Those that were added later, by id.
    joined: BTreeMap<u64, Member>,
    /// Address at which each member really listens, if it differs from the membership's.
    listens_at: BTreeMap<String, String>,
    dial: Dial,
    /// By who dials whom; none: they dial each other directly.
    relays: BTreeMap<(u64, u64), Relay>,
    /// Raft logs made so far: each gets its number as its incarnation.
    logs: u64,
    dirs: BTreeMap<u64, TempDir>,
    engines: BTreeMap<u64, Arc<Mutex<Engine>>>,
    running: BTreeMap<u64, Running>,
    pub gate: Arc<Gate>,
}

impl Cluster {
    pub fn new(size: u64) -> Self {
        // All are bound before any is released, so that no two members get the same port.
        let listeners: Vec<_> = (0..size).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let member = |(listener, id): (&TcpListener, u64)| Member {
            id,
            name: format!("m{id}"),
            peer_addr: listener.local_addr().unwrap().to_string(),
            client_addr: format!("127.0.0.1:{id}"),
        };
        Self {
            cluster_id: CLUSTER_ID,
            members: listeners.iter().zip(1..).map(member).collect(),
            joined: BTreeMap::new(),
            listens_at: BTreeMap::new(),
            dial: Dial::default(),
            relays: BTreeMap::new(),
            logs: 0,
            dirs: (1..=size).map(|id| (id, tempfile::tempdir().unwrap())).collect(),
            engines: (1..=size).map(|id| (id, Arc::default())).collect(),
            running: BTreeMap::new(),
            gate: Arc::default(),
        }
    }

    /// The membership names addresses where no process listens: every message that arrives took a
    /// detour.
    pub fn behind_detours(size: u64) -> Self {
        let mut cluster = Self::new(size);
        let detour = |member: &Member| (member.peer_addr.clone(), free_address());
        cluster.listens_at = cluster.members.iter().map(detour).collect();
        let parsed = |(from, to): (&String, &String)| (from.parse().unwrap(), to.parse().unwrap());
        cluster.dial = Dial::new(cluster.listens_at.iter().map(parsed)).unwrap();
        cluster
    }

    /// Another cluster of three, founded with other members, whose member `id` is where this one's
    /// was.
    pub fn successor_of(&self, id: u64) -> Self {
        let mut other = Self::new(3);
        other.cluster_id = self.cluster_id + 1;
        let address = self.peer_addr(id).to_owned();
        other.members.iter_mut().filter(|member| member.id == id).for_each(|member| member.peer_addr = address.clone());
        other
    }

    /// Each member dials each other one by way of a relay of its own.
    pub fn relayed(size: u64) -> Self {
        let mut cluster = Self::new(size);
        let pairs = (1..=size).flat_map(|from| (1..=size).map(move |to| (from, to))).filter(|(from, to)| from != to);
        let relay = |(from, to)| ((from, to), Relay::start(cluster.peer_addr(to).parse().unwrap()));
        cluster.relays = pairs.map(relay).collect();
        cluster
    }

    /// From here on `id` hears nothing, neither requests nor answers; what it sends arrives.
    pub fn deafen(&self, id: u64) {
        for ((from, to), relay) in &self.relays {
            if *to == id {
                relay.there.send_replace(false);
            } else if *from == id {
                relay.back.send_replace(false);
            }
        }
    }

    /// Lets everything through again.
    pub fn heal(&self) {
        for relay in self.relays.values() {
            relay.there.send_replace(true);
            relay.back.send_replace(true);
        }
    }

    fn dial_of(&self, id: u64) -> Dial {
        let own = self.relays.iter().filter(|((from, _), _)| *from == id);
        let detours: Vec<_> =
            own.map(|((_, to), relay)| (self.peer_addr(*to).parse().unwrap(), relay.address)).collect();
        if detours.is_empty() { self.dial.clone() } else { Dial::new(detours).unwrap() }
    }

    pub async fn start_all(&mut self) {
        for id in 1..=self.members.len() as u64 {
            self.start(id).await;
        }
    }

    pub async fn start(&mut self, id: u64) {
        self.try_start(id).await.unwrap();
    }

    pub async fn try_start(&mut self, id: u64) -> Result<(), StartError> {
        let engine = self.engines[&id].clone();
        let at = {
            let mut engine = engine.lock().unwrap();
            engine.memory = engine.flushed.clone();
            engine.memory.at
        };
        self.logs += 1;
        let log = LogStore::open(self.dirs[&id].path(), (self.cluster_id << 32) | self.logs).unwrap();
        let committed = log.facts().committed.map(|id| id.index);
        let marks = Arc::new(Watermarks::at_start(at, at, committed));
        let machine = Arc::new(Memory { engine, marks: marks.clone(), gate: self.gate.clone() });
        let joins = self.joined.get(&id).cloned();
        let options = RaftOptions {
            id,
            join: joins.is_some(),
            cluster: joins.is_none().then_some(self.cluster_id),
            members: joins.map_or_else(|| self.members.clone(), |own| vec![own]),
            heartbeat_ms: 30,
            election_ms: (100, 150),
            snapshot_every_entries: SNAPSHOT_EVERY,
            keep_entries: KEEP,
            dial: self.dial_of(id),
        };
        let node = RaftNode::start(options, log.clone(), machine.clone(), marks.clone()).await?;
        let listen_at = self.listens_at.get(self.peer_addr(id)).map_or(self.peer_addr(id), String::as_str);
        let incoming = TcpIncoming::bind(listen_at.parse().unwrap()).unwrap();
        let (stop_serving, stopped) = oneshot::channel::<()>();
        let server =
            Server::builder().add_service(node.peer_service()).serve_with_incoming_shutdown(incoming, async move {
                let _ = stopped.await;
            });
        let serving = tokio::spawn(async move { server.await.unwrap() });
        self.running.insert(id, Running { node, log, machine, marks, stop_serving, serving });
        Ok(())
    }

    pub async fn stop(&mut self, id: u64) {
        let Some(running) = self.running.remove(&id) else { return };
        running.node.shutdown().await;
        let _ = running.stop_serving.send(());
        // Connections of the others would keep a graceful end waiting, as they would not with a
        // killed process.
        running.serving.abort();
        let _ = running.serving.await;
        self.failed_over(id).await;
    }

    /// Waits until the running members, if they are a quorum, follow another member: a proposal
    /// that they forward to a member on its way out ends with an unknown outcome, and rightly so.
    async fn failed_over(&self, from: u64) {
        let Some(reader) = self.running.values().next() else { return };
        let roster = reader.node.roster().borrow().clone();
        let voters: Vec<_> = roster.members.iter().filter(|(_, learner)| !**learner).map(|(id, _)| *id).collect();
        let running = voters.iter().filter(|id| self.running.contains_key(id)).count();
        if running * 2 <= voters.len() {
            return;
        }
        for (_, running) in self.running.iter().filter(|(id, _)| roster.members.contains_key(id)) {
            let mut status = running.node.status_watch();
            let moved = status.wait_for(|status| status.leader.is_some_and(|leader| leader != from));
            tokio::time::timeout(PATIENCE, moved).await.expect("another leader in time").unwrap();
        }
    }

    pub async fn stop_all(&mut self) {
        for id in self.dirs.keys().copied().collect::<Vec<_>>() {
            self.stop(id).await;
        }
    }

    fn peer_addr(&self, id: u64) -> &str {
        let founding = self.members.iter().find(|member| member.id == id);
        &founding.or_else(|| self.joined.get(&id)).unwrap().peer_addr
    }

    /// Starts the member that was added as `id` with this peer address.
    pub async fn start_joined(&mut self, id: u64, peer_addr: &str) {
        let own = Member { id, name: format!("m{id}"), peer_addr: peer_addr.to_owned(), client_addr: format!("c{id}") };
        self.joined.insert(id, own);
        self.dirs.entry(id).or_insert_with(|| tempfile::tempdir().unwrap());
        self.engines.entry(id).or_default();
        self.start(id).await;
    }

    /// The stopped member loses everything that it had on disk.
    pub fn wipe(&mut self, id: u64) {
        self.dirs.insert(id, tempfile::tempdir().unwrap());
        self.engines.insert(id, Arc::default());
    }

    /// Proposes on any running member and waits until the whole running cluster has applied it.
    pub async fn write(&self, command: &str) {
        let node = self.running.values().next().unwrap().node.clone();
        node.propose(command.to_owned().into()).await.unwrap();
        self.settle().await;
    }

    /// Proposes at `id` until a proposal is certainly applied.
    pub async fn eventually_written(&self, id: u64, command: &str) {
        let node = self.node(id);
        let written = async { while node.propose(command.to_owned().into()).await.is_err() {} };
        tokio::time::timeout(PATIENCE, written).await.expect("a write in time");
    }

    pub fn leader(&self) -> u64 {
        self.running.values().find_map(|running| running.node.status().leader).unwrap()
    }

    /// True if no running member has to part.
    pub fn nobody_parts(&self) -> bool {
        self.running.values().all(|running| running.node.farewell().borrow().is_none())
    }

    /// Waits until member `id` must not go on.
    pub async fn farewell(&self, id: u64) -> Farewell {
        let mut farewell = self.running[&id].node.farewell();
        let why = farewell.wait_for(Option::is_some);
        let why = tokio::time::timeout(PATIENCE, why).await.expect("a farewell in time").unwrap();
        why.unwrap()
    }

    pub async fn restart(&mut self, id: u64) {
        self.stop(id).await;
        self.start(id).await;
    }

    pub fn node(&self, id: u64) -> RaftNode {
        self.running[&id].node.clone()
    }

    pub fn log(&self, id: u64) -> LogStore {
        self.running[&id].log.clone()
    }

    pub fn log_facts_of_stopped(&self, id: u64) -> LogFacts {
        LogFacts::read(self.dirs[&id].path()).unwrap()
    }

    /// Has member `id` let every command pass.
    pub fn make_lenient(&self, id: u64) {
        self.engines[&id].lock().unwrap().lenient = true;
    }

    pub fn flush(&self, id: u64) {
        self.running[&id].machine.flush();
    }

    /// Makes the stopped member's engine claim that it flushed only up to `at`.
    pub fn forget_flushes_after(&self, id: u64, at: LogId) {
        self.engines[&id].lock().unwrap().flushed.at = Some(at);
    }

    pub fn persisted(&self, id: u64) -> Option<LogId> {
        self.running[&id].marks.now().persisted
    }

    pub fn commands(&self, id: u64) -> Vec<String> {
        self.engines[&id].lock().unwrap().memory.commands.clone()
    }

    /// Where member `id`'s state machine was last told to settle, and how often it was.
    pub fn settled(&self, id: u64) -> (Option<LogId>, u64) {
        self.engines[&id].lock().unwrap().settled
    }

    /// The greatest number of entries that member `id`'s state machine was handed at once.
    pub fn most_at_once(&self, id: u64) -> usize {
        self.engines[&id].lock().unwrap().most_at_once
    }

    pub fn members_known_to(&self, id: u64) -> Vec<Enrolled> {
        let membership = self.engines[&id].lock().unwrap().memory.membership.clone().unwrap();
        decode_membership(&membership).unwrap()
    }

    /// Ids of voters and of learners, as member `id` has applied them.
    pub fn roles_known_to(&self, id: u64) -> (Vec<u64>, Vec<u64>) {
        let (learners, voters): (Vec<_>, Vec<_>) = self.members_known_to(id).into_iter().partition(|of| of.is_learner);
        (voters.iter().map(|member| member.id).collect(), learners.iter().map(|member| member.id).collect())
    }

    pub fn snapshots_installed(&self, id: u64) -> u64 {
        self.engines[&id].lock().unwrap().installed
    }

    /// Waits until member `id` has applied `index`.
    pub async fn applied(&self, id: u64, index: u64) {
        let mut marks = self.running[&id].marks.subscribe();
        let applied = marks.wait_for(|marks| marks.applied.map(|id| id.index) >= Some(index));
        tokio::time::timeout(PATIENCE, applied).await.expect("applied in time").unwrap();
    }

    /// Waits until every running member has applied what is committed now.
    pub async fn settle(&self) {
        let reader = self.running.values().next().unwrap();
        let index = reader.node.read_index().await.unwrap();
        for id in self.running.keys() {
            self.applied(*id, index).await;
        }
    }
}

/// An address without a listener.
pub fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// For what has no event to wait for: looks until it is so.
#[allow(clippy::disallowed_methods, reason = "what it waits for has no event")]
pub async fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let look = async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, look).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}
