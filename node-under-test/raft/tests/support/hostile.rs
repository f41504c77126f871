//! A member under hostile input: bytes that are not a message, and messages that no honest member
//! sends, alone and one after the other, from callers that know its cluster and its life.
//!
//! Whatever it receives, it answers, it neither ends nor parts, it still takes a vote request
//! afterwards, and it starts again from what is on its disk. The acts are plain data: a fuzzer
//! reads them from bytes, a property test draws them. What the library's messages look like on the
//! wire is spelled out here, so that lies need no constructor's consent.

use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use node_base::LogId;
use node_base::backend::Declared;
use node_base::watermarks::Watermarks;
use node_proto::peer::peer_server::PeerServer;
use node_proto::peer::{
    AskRequest, ChangeRequest, HelloRequest, Life, ProposeRequest, RaftMessage, ReadIndexRequest, Route, SnapshotFrame,
    SnapshotHead, change_request, snapshot_frame,
};
use node_proto::{PEER_METHODS, delimited};
use node_raft::{
    Dial, Entry, LogStore, Member, OutgoingSnapshot, Payload, PeerService, RaftNode, RaftOptions, SnapshotMeta,
    StateMachine, ToApply, decode_membership,
};
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tempfile::TempDir;
use tonic::codegen::{Service, http};

/// Far above what any answer takes.
const PATIENCE: Duration = Duration::from_secs(60);
const CLUSTER: u64 = 0xc1;
const VICTIM: u64 = 1;
/// The honest member that looks after the victim.
const OBSERVER: Life = Life { id: 3, incarnation: 33, cluster: CLUSTER };
/// A number in few bits: small, near a bound, or huge.
#[derive(Debug, Clone, Copy)]
pub struct Number(pub u8);

impl Number {
    fn value(self) -> u64 {
        const ODD: [u64; 12] = [
            u64::MAX,
            u64::MAX - 1,
            1 << 63,
            (1 << 63) - 1,
            1 << 62,
            (1 << 62) - 1,
            1 << 32,
            (1 << 32) + 1,
            u64::MAX - (1 << 32),
            1 << 40,
            1_000,
            256,
        ];
        match self.0 {
            small @ 0..=199 => u64::from(small % 24),
            odd => ODD[usize::from(odd) % ODD.len()],
        }
    }
}

/// A position, if there is one: term and index.
pub type At = Option<(Number, Number)>;

/// Term, candidate, committed.
pub type Vote = (Number, Number, bool);

#[derive(Debug, Clone)]
pub enum Body {
    Blank,
    Command,
    /// Voters and all members, by id.
    Membership(Vec<u8>, Vec<u8>),
}

#[derive(Debug, Clone)]
pub struct Append {
    pub vote: Vote,
    pub before: At,
    /// Term, index (counted from the position before them, if `follow`), body.
    pub entries: Vec<(Number, Number, Body)>,
    pub follow: bool,
    pub commit: At,
}

#[derive(Debug, Clone)]
pub enum Act {
    /// Any bytes for any call, with or without a frame around them.
    Bytes {
        rpc: u8,
        framed: bool,
        bytes: Vec<u8>,
    },
    /// Any bytes as the library's message, by a caller that is let in.
    Payload {
        rpc: u8,
        bytes: Vec<u8>,
    },
    /// A caller that is, or is not, who it says.
    Greeting {
        rpc: u8,
        to: Number,
        to_incarnation: Number,
        id: Number,
        incarnation: Number,
        cluster: Number,
    },
    Append(Append),
    /// Appends on one stream, sent without waiting for an answer; the first is an honest leader's
    /// round, if `led`.
    Stream {
        led: bool,
        appends: Vec<Append>,
    },
    Vote {
        pre: bool,
        vote: Vote,
        last: At,
        transfer: bool,
    },
    Transfer {
        vote: Vote,
        to: Number,
        last: At,
    },
    Snapshot {
        vote: Vote,
        at: At,
        members: Body,
        wire_size: Number,
        chunks: Vec<u16>,
        headless: bool,
    },
    Command(u16),
    Change {
        kind: u8,
        id: Number,
    },
    /// Any bytes as a question that only a leader answers.
    Ask(Vec<u8>),
    /// An honest leader's round: at its own next term, one entry behind what is committed.
    Lead,
}

/// The state that an engine would hold; it survives a restart whole.
#[derive(Default)]
struct Engine {
    at: Option<LogId>,
    membership: Option<Bytes>,
    greatest_id: u64,
    staged: Option<SnapshotMeta>,
}

struct Machine {
    engine: Arc<Mutex<Engine>>,
    marks: Arc<Watermarks>,
}

impl Machine {
    fn lock(&self) -> MutexGuard<'_, Engine> {
        self.engine.lock().unwrap()
    }

    fn apply_one(&self, entry: Entry) -> io::Result<Bytes> {
        let mut engine = self.lock();
        let expected = engine.at.map_or(0, |at| at.index + 1);
        if entry.log_id.index != expected {
            return Err(io::Error::other(format!("expected index {expected}, found {}", entry.log_id)));
        }
        engine.at = Some(entry.log_id);
        if let Payload::Membership(membership) = entry.payload {
            let ids = decode_membership(&membership)?.into_iter().map(|member| member.id);
            engine.greatest_id = ids.fold(engine.greatest_id, u64::max);
            engine.membership = Some(membership);
        }
        drop(engine);
        self.marks.applied(entry.log_id);
        self.marks.flushed(entry.log_id);
        self.marks.persisted(entry.log_id);
        Ok(Bytes::new())
    }
}

impl StateMachine for Machine {
    fn replay_after(&self) -> Option<LogId> {
        self.lock().at
    }

    fn membership(&self) -> io::Result<Option<Bytes>> {
        Ok(self.lock().membership.clone())
    }

    fn greatest_member_id(&self) -> io::Result<u64> {
        Ok(self.lock().greatest_id)
    }

    fn vet(&self, _: &Bytes) -> Result<(), String> {
        Ok(())
    }

    fn apply(&self, entries: Vec<ToApply>, answer: &mut dyn FnMut(Bytes) -> io::Result<()>) -> io::Result<()> {
        entries.into_iter().try_for_each(|ToApply { entry, .. }| answer(self.apply_one(entry)?))
    }

    fn settle(&self) -> io::Result<()> {
        Ok(())
    }

    fn open_snapshot(&self) -> io::Result<OutgoingSnapshot> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn snapshot_room(&self) -> io::Result<u64> {
        Ok(1 << 20)
    }

    fn receive_snapshot(&self, meta: &SnapshotMeta, declared: Declared, reader: &mut dyn Read) -> io::Result<()> {
        assert!(declared.wire_size <= 1 << 20, "more was let in than there is room for");
        let read = io::copy(&mut reader.take(declared.wire_size + 1), &mut io::sink())?;
        if read != declared.wire_size || read == 0 {
            return Err(io::Error::other(format!("expected {} bytes, found {read}", declared.wire_size)));
        }
        self.lock().staged = Some(meta.clone());
        Ok(())
    }

    fn install_snapshot(&self, meta: &SnapshotMeta, purge_log: &mut dyn FnMut() -> io::Result<()>) -> io::Result<()> {
        {
            let mut engine = self.lock();
            let staged = engine.staged.take().filter(|staged| staged == meta);
            let staged = staged.ok_or_else(|| io::Error::other("what was staged is another snapshot, or nothing"))?;
            let ids = decode_membership(&staged.membership)?.into_iter().map(|member| member.id);
            engine.greatest_id = ids.fold(engine.greatest_id, u64::max);
            engine.at = Some(staged.log_id);
            engine.membership = Some(staged.membership);
        }
        self.marks.installed(meta.log_id);
        purge_log()
    }
}

/// One of three members; no process listens at the addresses of the others.
pub struct Victim {
    dir: TempDir,
    engine: Arc<Mutex<Engine>>,
    incarnation: u64,
    running: Option<(RaftNode, PeerServer<PeerService>)>,
}

impl Victim {
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut victim = Self { dir, engine: Arc::default(), incarnation: 11, running: None };
        victim.run().await;
        victim
    }

    async fn run(&mut self) {
        let log = LogStore::open(self.dir.path(), self.incarnation).unwrap();
        let at = self.engine.lock().unwrap().at;
        let marks = Arc::new(Watermarks::at_start(at, at, log.facts().committed.map(|id| id.index)));
        let machine = Arc::new(Machine { engine: self.engine.clone(), marks: marks.clone() });
        let member = |id: u64| Member {
            id,
            name: format!("m{id}"),
            // Discard: no process listens there.
            peer_addr: format!("127.0.0.{id}:9"),
            client_addr: String::new(),
        };
        let options = RaftOptions {
            id: VICTIM,
            members: (1..=3).map(member).collect(),
            join: false,
            cluster: Some(CLUSTER),
            heartbeat_ms: 1_000,
            // It must not campaign in between: what it answers depends on what it heard alone.
            election_ms: (60_000, 90_000),
            snapshot_every_entries: 4,
            keep_entries: 2,
            dial: Dial::default(),
        };
        let node = RaftNode::start(options, log, machine, marks).await.expect("it starts from what it wrote");
        let service = node.peer_service();
        self.running = Some((node, service));
    }

    fn node(&self) -> &RaftNode {
        &self.running.as_ref().unwrap().0
    }

    /// Stops it, and starts it from its disk.
    pub async fn restart(&mut self) {
        if let Some((node, service)) = self.running.take() {
            node.shutdown().await;
            drop((node, service));
        }
        self.run().await;
    }

    pub async fn stop(&mut self) {
        if let Some((node, _)) = self.running.take() {
            node.shutdown().await;
        }
    }

    /// Sends what `act` says, and asserts that the victim answers, and lives.
    pub async fn suffer(&mut self, act: &Act) {
        let (rpc, bytes) = self.request(act);
        self.call(rpc, bytes).await;
        self.assert_alive().await;
    }

    /// The observer's preliminary vote goes through raft's core and changes nothing.
    async fn assert_alive(&self) {
        let term = self.node().status().term + 1;
        let asked = postcard::to_stdvec(&((term, Some(OBSERVER.id), false), None::<(u64, u64)>, false)).unwrap();
        let message = RaftMessage { route: Some(self.route(OBSERVER)), payload: asked.into(), short_of_space: false };
        let status = self.call("PreVote", frame(&message.encode_to_vec())).await;
        let removed = self.node().roster().borrow().is_removed(OBSERVER.id);
        assert!(status == "0" || (removed && status == "9"), "the victim answers with status {status}");
        assert_eq!(*self.node().farewell().borrow(), None, "it parts because of what it was told");
        assert!(now(self.node().fatal()).await.is_none(), "it ends because of what it was told");
    }

    fn route(&self, from: Life) -> Route {
        Route { to: VICTIM, to_incarnation: self.incarnation, from: Some(from), ..Route::default() }
    }

    /// The status, as gRPC has it.
    async fn call(&self, rpc: &str, bytes: Bytes) -> String {
        let request = http::Request::post(format!("http://victim/ninelives.peer.v1.Peer/{rpc}"))
            .header("content-type", "application/grpc")
            .body(Full::new(bytes))
            .unwrap();
        let mut service = self.running.as_ref().unwrap().1.clone();
        let answered = async {
            let response = service.call(request).await.unwrap();
            let early = response.headers().get("grpc-status").cloned();
            let body = response.into_body().collect().await.ok();
            let late = body.and_then(|body| body.trailers().and_then(|of| of.get("grpc-status").cloned()));
            early.or(late).map_or_else(String::new, |status| status.to_str().unwrap_or_default().to_owned())
        };
        tokio::time::timeout(PATIENCE, answered).await.expect("an answer in time")
    }

    fn request(&self, act: &Act) -> (&'static str, Bytes) {
        let liar = self.route(Life { id: 2, incarnation: 22, cluster: CLUSTER });
        let raft = |payload: Vec<u8>| {
            frame(
                &RaftMessage { route: Some(liar.clone()), payload: payload.into(), short_of_space: false }
                    .encode_to_vec(),
            )
        };
        let rpc_of = |rpc: u8| PEER_METHODS[usize::from(rpc) % PEER_METHODS.len()];
        match act {
            Act::Bytes { rpc, framed, bytes } => {
                (rpc_of(*rpc), if *framed { frame(bytes) } else { Bytes::copy_from_slice(bytes) })
            }
            Act::Payload { rpc, bytes } => (PEER_METHODS[usize::from(*rpc) % 5], raft(bytes.clone())),
            Act::Greeting { rpc, to, to_incarnation, id, incarnation, cluster } => {
                let cluster = if cluster.0 < 128 { CLUSTER } else { cluster.value() };
                // The observer's name is its own.
                let id = Some(id.value()).filter(|id| *id != OBSERVER.id).unwrap_or(2);
                let from = Some(Life { id, incarnation: incarnation.value(), cluster });
                let (to, to_incarnation) = (to.value(), to_incarnation.value());
                let route = Some(Route { to, to_incarnation, from, ..Route::default() });
                let rpc = rpc_of(*rpc);
                let bytes = match rpc {
                    "Hello" => HelloRequest { route }.encode_to_vec(),
                    "ReadIndex" => ReadIndexRequest { route }.encode_to_vec(),
                    "Ask" => AskRequest { route, question: Bytes::new() }.encode_to_vec(),
                    _ => RaftMessage { route, payload: Bytes::new(), short_of_space: false }.encode_to_vec(),
                };
                (rpc, frame(&bytes))
            }
            Act::Append(append) => ("AppendEntries", raft(append.to_wire())),
            Act::Stream { led, appends } => {
                let led = led.then(|| raft(self.round()));
                let appends = appends.iter().map(|append| raft(append.to_wire()));
                ("AppendStream", joined(led.into_iter().chain(appends)))
            }
            Act::Vote { pre, vote, last, transfer } => {
                (if *pre { "PreVote" } else { "Vote" }, raft(to_wire(&(vote_of(vote), at(last), transfer))))
            }
            Act::Transfer { vote, to, last } => {
                ("TransferLeader", raft(to_wire(&(vote_of(vote), to.value(), at(last)))))
            }
            Act::Snapshot { vote, at: position, members, wire_size, chunks, headless } => {
                let (term, index) = at(position).unwrap_or_default();
                let membership = match WireBody::of(members) {
                    WireBody::Membership(members) => to_wire(&(Some((term, index)), members)),
                    WireBody::Blank | WireBody::Normal(_) => Vec::new(),
                };
                let head = SnapshotHead {
                    route: Some(liar.clone()),
                    vote: to_wire(&vote_of(vote)).into(),
                    term,
                    index,
                    membership: membership.into(),
                    wire_size: wire_size.value(),
                    sha256: Bytes::new(),
                };
                let chunk = |len: &u16| snapshot_frame::Frame::Chunk(Bytes::from(vec![7; usize::from(*len)]));
                let head = (!headless).then_some(snapshot_frame::Frame::Head(head));
                let frames = head.into_iter().chain(chunks.iter().take(8).map(chunk));
                let frames = frames.map(|of| frame(&SnapshotFrame { frame: Some(of) }.encode_to_vec()));
                ("InstallSnapshot", joined(frames))
            }
            Act::Ask(question) => {
                let request = AskRequest { route: Some(liar.clone()), question: Bytes::copy_from_slice(question) };
                ("Ask", frame(&request.encode_to_vec()))
            }
            Act::Command(len) => {
                let commands = delimited::join(&[Bytes::from(vec![7; usize::from(*len)])]);
                let request = ProposeRequest { route: Some(liar.clone()), commands };
                ("Propose", frame(&request.encode_to_vec()))
            }
            Act::Change { kind, id } => {
                let change = match kind % 3 {
                    0 => Some(change_request::Change::Promote(id.value())),
                    1 => Some(change_request::Change::Remove(id.value())),
                    _ => None,
                };
                ("ChangeMembership", frame(&ChangeRequest { route: Some(liar.clone()), change }.encode_to_vec()))
            }
            Act::Lead => ("AppendEntries", raft(self.round())),
        }
    }

    /// An honest leader's round: the victim's next term, and one entry behind what is committed.
    fn round(&self) -> Vec<u8> {
        let term = self.node().status().term + 1;
        let end = self.engine.lock().unwrap().at;
        let next = end.map_or(0, |end| end.index + 1);
        let entries = vec![(term, next, WireBody::Blank)];
        let before = end.map(|end| (end.term, end.index));
        to_wire(&((term, Some(2_u64), true), before, entries, Some((term, next))))
    }
}

impl Append {
    fn to_wire(&self) -> Vec<u8> {
        let mut next = self.before.map_or(0, |(_, index)| index.value().wrapping_add(1));
        let mut entries = Vec::new();
        for (term, index, body) in &self.entries {
            let index = if self.follow { next } else { index.value() };
            entries.push((term.value(), index, WireBody::of(body)));
            next = index.wrapping_add(1);
        }
        to_wire(&(vote_of(&self.vote), at(&self.before), entries, at(&self.commit)))
    }
}

fn joined(frames: impl Iterator<Item = Bytes>) -> Bytes {
    let joined = frames.fold(BytesMut::new(), |mut all, one| {
        all.put(one);
        all
    });
    joined.freeze()
}

/// The result of `future`, if it has one by now.
async fn now<T>(future: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        done = future => Some(done),
        () = std::future::ready(()) => None,
    }
}

type WireMembers = (Vec<BTreeSet<u64>>, BTreeMap<u64, (String, String, String)>);

/// An entry's payload, by its tags.
#[derive(serde::Serialize)]
enum WireBody {
    Blank,
    Normal(&'static str),
    Membership(WireMembers),
}

impl WireBody {
    fn of(body: &Body) -> Self {
        match body {
            Body::Blank => Self::Blank,
            Body::Command => Self::Normal("x"),
            Body::Membership(voters, nodes) => {
                // Most include the victim and its observer: a membership without them may well part
                // them.
                let voters = voters.iter().map(|id| u64::from(id % 8)).collect();
                let node = |id: u64| (id, (String::new(), format!("127.0.0.{}:9", id % 8), String::new()));
                let own = [VICTIM, OBSERVER.id];
                let nodes = nodes.iter().map(|id| u64::from(id % 8)).chain(own).map(node).collect();
                Self::Membership((vec![voters], nodes))
            }
        }
    }
}

fn vote_of((term, node_id, committed): &Vote) -> (u64, Option<u64>, bool) {
    // Mostly the liar itself.
    let node_id = if node_id.0 < 160 { 2 } else { node_id.value() };
    (term.value(), Some(node_id), *committed)
}

fn at(at: &At) -> Option<(u64, u64)> {
    at.map(|(term, index)| (term.value(), index.value()))
}

fn to_wire(value: &impl serde::Serialize) -> Vec<u8> {
    postcard::to_stdvec(value).unwrap()
}

/// A gRPC message: not compressed, its length, itself.
fn frame(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(message.len() + 5);
    framed.put_u8(0);
    framed.put_u32(message.len() as u32);
    framed.put_slice(message);
    framed.freeze()
}
