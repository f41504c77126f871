//! Any bytes as requests: what a service lets in is applied by every member alike, now and in a
//! later life; what it refuses changes nothing; bytes that are committed without having been let in
//! change nothing either; and nothing that a client sends panics.
//!
//! The input is a log: a byte that says which request follows (or that raw bytes of a command, or
//! of a question to the leader, do), two for its length, and its bytes.
//!
//! | RPC | how far its bytes get |
//! | --- | --- |
//! | Range, Put, DeleteRange, Txn, Compact, LeaseGrant, LeaseRevoke | checked, applied, read |
//! | Watch | the whole session of a stream, beside the log |
//! | LeaseKeepAlive, LeaseTimeToLive | the whole way to the leader's answer, but for raft's |
//! | LeaseLeases, MemberList, Hash, HashKV | decoded, and what they read is read |
//! | MemberAdd, MemberUpdate | their addresses are checked, and entered as a member's |
//! | MemberRemove, MemberPromote | decoded: an id, about which only the running raft can say more |
//! | Alarm | checked |
//! | Status, Snapshot, Defragment | decoded: they say nothing, and their work is an engine's |
//!
//! Not reached: gRPC's frames and metadata (`api/message_size.rs`, `api/leader_required.rs`), which
//! take a server; and the checks of a change of membership, which take raft's view of who runs
//! (`raft/src/change.rs`). This server has no MoveLeader, no Downgrade and no Auth.

#![no_main]

use bytes::Bytes;
use futures_util::stream;
use libfuzzer_sys::fuzz_target;
use node_base::LogId;
use node_base::backend::{Backend, consistent_index};
use node_base::memory::MemoryBackend;
use node_proto::command::command::Request;
use node_proto::etcdserverpb::*;
use node_raft::{LeaderService, ProposeError, RaftStatus};
use node_under_test::lease::{self, Leadership, Lessor, Line, Renewals};
use node_under_test::requests::check as request_check;
use node_under_test::requests::keep_alive::KeepAlive;
use node_under_test::requests::watch::Session;
use node_under_test::state::mvcc::check;
use node_under_test::state::{Applying, Error, Store, command, membership};
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, watch};
use tonic::transport::Endpoint;

/// The term of the log.
const TERM: u64 = 1;
/// Members whose addresses are changed in turn.
const MEMBERS: u64 = 8;
/// More than any input makes.
const STEPS_MAX: usize = 1 << 16;

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().enable_time().build().expect("a runtime of one thread"));

/// One part of the input, decoded.
enum Item {
    Command(Bytes),
    Range(RangeRequest),
    Txn(TxnRequest),
    Watch(WatchRequest),
    KeepAlive(LeaseKeepAliveRequest),
    TimeToLive(LeaseTimeToLiveRequest),
    /// As another member asks the leader.
    Question(Bytes),
    HashKv(HashKvRequest),
    Alarm(AlarmRequest),
    /// Peer URLs, and whether the member learns.
    Member(Vec<String>, bool),
    /// A request that asks to read what is there.
    Read,
    /// Bytes that are not a request: the transport refuses them.
    Nothing,
}

fn item(kind: u8, bytes: &[u8]) -> Item {
    fn decoded<M: Message + Default>(bytes: &[u8], item: impl FnOnce(M) -> Item) -> Item {
        M::decode(bytes).map_or(Item::Nothing, item)
    }
    fn encoded<M: Message + Default>(bytes: &[u8], request: fn(M) -> Request) -> Item {
        decoded(bytes, |message| Item::Command(command::encode(request(message))))
    }
    match kind % 26 {
        0 | 9 => encoded(bytes, Request::Put),
        1 => encoded(bytes, Request::DeleteRange),
        2 => encoded(bytes, Request::Compact),
        3 => encoded(bytes, Request::LeaseGrant),
        4 => encoded(bytes, Request::LeaseRevoke),
        5 => decoded(bytes, Item::Range),
        6 | 7 => decoded(bytes, Item::Txn),
        // As a peer proposes it, or a log of another version holds it.
        8 => Item::Command(Bytes::copy_from_slice(bytes)),
        10 | 11 => decoded(bytes, Item::Watch),
        12 => decoded(bytes, Item::KeepAlive),
        13 => decoded(bytes, Item::TimeToLive),
        14 => Item::Question(Bytes::copy_from_slice(bytes)),
        15 => decoded(bytes, Item::HashKv),
        16 => decoded(bytes, Item::Alarm),
        17 => decoded(bytes, |add: MemberAddRequest| Item::Member(add.peer_ur_ls, add.is_learner)),
        18 => decoded(bytes, |update: MemberUpdateRequest| Item::Member(update.peer_ur_ls, false)),
        19 => decoded(bytes, |_: MemberRemoveRequest| Item::Nothing),
        20 => decoded(bytes, |_: MemberPromoteRequest| Item::Nothing),
        21 => decoded(bytes, |_: MemberListRequest| Item::Read),
        22 => decoded(bytes, |_: LeaseLeasesRequest| Item::Read),
        23 => decoded(bytes, |_: HashRequest| Item::Read),
        24 => decoded(bytes, |_: StatusRequest| Item::Nothing),
        _ => {
            // Only decoded: what they ask for is the engine's work. Decoding must not panic.
            let _ = (SnapshotRequest::decode(bytes), DefragmentRequest::decode(bytes));
            Item::Nothing
        }
    }
}

struct Member {
    backend: Arc<MemoryBackend>,
    store: Arc<Store>,
    applying: Applying,
}

impl Member {
    fn new(applying: Applying) -> Self {
        let backend = Arc::new(MemoryBackend::default());
        let store = Arc::new(Store::open(backend.clone()).expect("an empty store opens"));
        Self { backend, store, applying }
    }

    fn apply(&self, index: u64, command: &Bytes) {
        let at = LogId::new(TERM, index);
        let outcome = self.store.apply(at, command, self.applying).expect("a member that applies whatever comes");
        assert_eq!(consistent_index(&*self.backend.read()).expect("a view of memory"), Some(at));
        if self.applying.awaited {
            command::decode_outcome(outcome).expect("an answer that can be read");
        }
    }

    fn enter(&self, index: u64, membership: &[u8]) {
        let batch = membership::apply(&*self.backend.read(), membership).expect("a membership that was let in");
        self.backend.commit(batch, LogId::new(TERM, index)).expect("a commit to memory");
    }
}

/// A leader that needs no quorum, and the way to it.
#[derive(Clone)]
struct Leader {
    status: watch::Receiver<RaftStatus>,
}

impl Leadership for Leader {
    fn status_watch(&self) -> watch::Receiver<RaftStatus> {
        self.status.clone()
    }

    async fn confirm(&self) -> Result<u64, ProposeError> {
        Ok(TERM)
    }

    async fn revoke(&self, _: u64, _: i64) -> Result<(), ProposeError> {
        Err(ProposeError::NoLeader)
    }
}

#[derive(Clone)]
struct ToLeader(Arc<Lessor<Leader>>);

impl Line for ToLeader {
    async fn ask_leader(&self, question: Bytes) -> Result<Bytes, ProposeError> {
        // Fatal, because the asker would try again for a while.
        self.0.answer(TERM, question).await.map_err(ProposeError::Fatal)
    }
}

/// The leader's services to one client. The leader's own task, which goes by the clock, does not
/// run: what an input does must not depend on time. So no lease runs out.
struct Services {
    leader: Member,
    line: ToLeader,
    session: Session,
    /// What the client has sent on its stream of keep-alives.
    keep_alives: Vec<LeaseKeepAliveRequest>,
}

impl Services {
    fn new() -> Self {
        let leader = Member::new(Applying { awaited: true, replaying: false });
        let status = RaftStatus { term: TERM, leader: Some(1), is_leader: true, ..RaftStatus::default() };
        // The sender is gone: the status changes no more.
        let leadership = Leader { status: watch::channel(status).1 };
        let line = ToLeader(Lessor::new(leader.store.clone(), leadership));
        let session = Session::new(leader.store.clone());
        Self { leader, line, session, keep_alives: Vec::new() }
    }

    /// Sends what the watches have not seen, which a compaction may have overtaken meanwhile. Each
    /// step brings them further.
    fn deliver(&mut self) {
        for _ in 0..STEPS_MAX {
            if !self.session.is_behind() {
                return;
            }
            let short = self.session.short_step().expect("a read of memory");
            let steps = short.unwrap_or_else(|| self.session.step().expect("a read of memory"));
            for step in steps {
                let newest =
                    step.response.events.iter().filter_map(|event| event.kv.as_ref()).map(|kv| kv.mod_revision);
                assert!(newest.max() <= Some(step.revision), "events beyond the revision of their header");
            }
        }
        panic!("a watch that is always behind");
    }

    /// Ends the client's side of the stream of keep-alives.
    fn renew(&mut self) {
        let requests = std::mem::take(&mut self.keep_alives);
        if requests.is_empty() {
            return;
        }
        let (count, mut asked): (_, Vec<_>) = (requests.len(), requests.iter().map(|request| request.id).collect());
        let (answers, mut received) = mpsc::channel(count);
        RUNTIME.block_on(async {
            let keep_alive = KeepAlive::new(Arc::new(self.line.clone()), Renewals::spawn(self.line.clone()), || None);
            let requests = stream::iter(requests.into_iter().map(Ok));
            keep_alive.run(requests, &answers, std::future::pending()).await.expect("answers of a leader that leads");
        });
        let mut answered = Vec::new();
        while let Ok(answer) = received.try_recv() {
            let answer = answer.expect("an answer");
            assert_eq!(answer.ttl, self.leader.store.lease_ttl_seconds(answer.id).unwrap_or(0));
            answered.push(answer.id);
        }
        asked.sort_unstable();
        answered.sort_unstable();
        assert_eq!(answered, asked, "an answer for each request");
    }

    fn time_to_live(&self, request: LeaseTimeToLiveRequest) {
        let answer = RUNTIME.block_on(lease::time_to_live(&self.line, request)).expect("the leader's answer");
        let granted = self.leader.store.lease_ttl_seconds(request.id);
        assert_eq!(answer.granted_ttl, granted.unwrap_or(0));
        assert_eq!(answer.ttl >= 0, granted.is_some(), "{answer:?}");
    }

    fn answer(&self, question: Bytes) {
        // What is not a question is refused; nothing may panic.
        let _ = RUNTIME.block_on(self.line.0.answer(TERM, question));
    }

    fn read_everything(&self) {
        self.leader.store.leases();
        membership::list(&*self.leader.backend.read()).expect("rows that this program wrote");
    }
}

/// A membership entry in which member `id` has the address that was let in, as raft encodes it.
fn with_address(id: u64, index: u64, addresses: &BTreeMap<u64, (String, bool)>) -> Vec<u8> {
    type Nodes = BTreeMap<u64, (String, String, String)>;
    assert!(addresses.contains_key(&id));
    let voters: BTreeSet<u64> = addresses.iter().filter(|(_, (_, learns))| !learns).map(|(id, _)| *id).collect();
    let node = |(id, (address, _)): (&u64, &(String, bool))| (*id, (String::new(), address.clone(), String::new()));
    let nodes: Nodes = addresses.iter().map(node).collect();
    postcard::to_stdvec(&(Some((TERM, index)), (vec![voters], nodes))).expect("an encoded membership")
}

/// The address that these URLs let in: one that can be listed and sent back, parsed, and dialled.
fn let_in(urls: &[String]) -> Option<String> {
    let address = request_check::peer_addr(urls).ok()?;
    assert_eq!(request_check::peer_addr(&[format!("http://{address}")]).ok().as_ref(), Some(&address));
    address.parse::<SocketAddr>().expect("an address");
    Endpoint::from_shared(format!("http://{address}")).expect("an address that can be dialled");
    Some(address)
}

fn is_answer<T>(read: Result<T, Error>) {
    if let Err(error) = read {
        assert!(matches!(error, Error::Rejected(_)), "a read of memory failed: {error}");
    }
}

fuzz_target!(|input: &[u8]| {
    let mut services = Services::new();
    let mut follower = Member::new(Applying { awaited: false, replaying: true });
    let mut addresses = BTreeMap::new();
    let (mut rest, mut index) = (input, 0);
    while let [kind, high, low, more @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(more.len());
        let (bytes, more) = more.split_at(length);
        rest = more;
        let item = item(*kind, bytes);
        if !matches!(item, Item::KeepAlive(_)) {
            services.renew();
        }
        let leader = &services.leader;
        let proposed = match item {
            Item::Command(command) => Some(command),
            Item::Range(range) => {
                if check::range(&range).is_ok() {
                    is_answer(leader.store.range_if_short(&range));
                    is_answer(leader.store.range(&range));
                }
                None
            }
            Item::Txn(txn) => match check::txn(&txn) {
                Ok(()) if check::is_read_only(&txn) => {
                    // Each answer is right here; to come to it must not panic.
                    let _ = check::is_serializable(&txn);
                    is_answer(leader.store.read_txn_if_short(&txn));
                    is_answer(leader.store.read_txn(&txn));
                    None
                }
                Ok(()) => {
                    let request = Request::Txn(txn);
                    // As above.
                    let _ = request_check::adds_data(&request);
                    let command = command::encode(request);
                    assert!(command::vet(&command).is_ok(), "let in, and cannot be applied");
                    Some(command)
                }
                Err(_) => None,
            },
            Item::Watch(request) => {
                services.session.handle(request);
                services.session.periodic_progress();
                services.deliver();
                None
            }
            Item::KeepAlive(request) => {
                services.keep_alives.push(request);
                None
            }
            Item::TimeToLive(request) => {
                services.time_to_live(request);
                None
            }
            Item::Question(bytes) => {
                services.answer(bytes);
                None
            }
            Item::HashKv(request) => {
                is_answer(leader.store.kv_hash(request.revision));
                None
            }
            Item::Alarm(request) => {
                // As above.
                let _ = request_check::alarm(&request);
                None
            }
            Item::Member(urls, is_learner) => {
                if let Some(address) = let_in(&urls) {
                    index += 1;
                    let id = 1 + index % MEMBERS;
                    addresses.insert(id, (address, is_learner));
                    let entry = with_address(id, index, &addresses);
                    leader.enter(index, &entry);
                    follower.enter(index, &entry);
                }
                None
            }
            Item::Read => {
                services.read_everything();
                None
            }
            Item::Nothing => None,
        };
        let Some(command) = proposed else { continue };
        let leader = &services.leader;
        index += 1;
        let before = leader.store.state_hash().expect("a state of memory");
        leader.apply(index, &command);
        follower.apply(index, &command);
        let after = leader.store.state_hash().expect("a state of memory");
        if command::admit(&command).is_err() {
            assert_eq!(after, before, "refused, and yet something changed");
        }
        assert_eq!(follower.store.state_hash().expect("a state of memory"), after);
        if index % 4 == 0 {
            let reopened = Store::open(follower.backend.clone()).expect("a store that reads what it wrote");
            follower.store = Arc::new(reopened);
        }
    }
    services.renew();
    services.deliver();
});
