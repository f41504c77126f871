//! The types that the rest of the node sees.

use crate::dial::Dial;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use node_base::LogId;
use node_base::backend::Declared;
use std::collections::BTreeMap;
use std::io::{self, Read};

/// One member of the cluster, as it is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Not 0.
    pub id: u64,
    pub name: String,
    /// `host:port` of the peer listener.
    pub peer_addr: String,
    /// `host:port` of the client listener.
    pub client_addr: String,
}

/// One member of a membership in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolled {
    pub id: u64,
    /// `host:port` of the peer listener.
    pub peer_addr: String,
    /// As the founding list has them; empty for a member that was added later.
    pub name: String,
    pub client_addr: String,
    /// Gets the log, and has no vote.
    pub is_learner: bool,
}

/// The members of a membership in force, in the terms that this crate keeps them in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roster {
    /// By id; the value says whether it is a learner.
    pub members: BTreeMap<u64, bool>,
    /// The greatest id that any member ever had.
    pub greatest_id: u64,
}

impl Roster {
    /// True if `id` was a member once and is not a member any more. Ids are given in ascending
    /// order and never again, so this stays true once it is.
    pub fn is_removed(&self, id: u64) -> bool {
        id <= self.greatest_id && !self.members.contains_key(&id)
    }
}

/// A change of the membership.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MembershipChange {
    /// The id is chosen by the leader.
    Add {
        peer_addr: String,
        is_learner: bool,
    },
    /// A learner becomes a voter.
    Promote {
        id: u64,
    },
    Remove {
        id: u64,
    },
    /// The member has moved to another peer address.
    Update {
        id: u64,
        peer_addr: String,
    },
}

/// A change of the membership that was committed and applied on the leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Changed {
    pub log_id: LogId,
    /// The member that was added, promoted, removed or updated.
    pub member_id: u64,
}

/// Reason why a change of the membership makes no sense as things are. Certainly not proposed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChangeRefusal {
    #[error("there is no such member")]
    NotFound,
    #[error("another member has that peer address")]
    AddressInUse,
    #[error("the member is not a learner")]
    NotALearner,
    #[error("the learner has not caught up with the leader")]
    NotInSync,
    #[error("too few of the voters that there would be are running")]
    NotEnoughStarted,
}

/// Reason why a change of the membership did not come about, as far as is known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    #[error(transparent)]
    Refused(#[from] ChangeRefusal),
    /// As for a proposal.
    #[error(transparent)]
    Failed(#[from] ProposeError),
}

/// Reason why this member must not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Farewell {
    #[error("member {id} was removed from the cluster")]
    Removed { id: u64 },
    #[error(
        "member {id} has lost its raft log (expected incarnation {expected:016x}, found {found:016x}): remove it and add \
         it again under a new id"
    )]
    Wiped { id: u64, expected: u64, found: u64 },
}

#[derive(Debug, Clone)]
pub struct RaftOptions {
    pub id: u64,
    /// The founding members, this one included; the same list on each of them. With `join`: this
    /// one, and others that it may be reached by until the log says who there is.
    pub members: Vec<Member>,
    /// This member was added to a running cluster: it founds nothing, and waits for the leader.
    pub join: bool,
    /// The id of the cluster that this member belongs to, not 0, as far as its state or the
    /// founding list says; what its log says goes before. `None`: the first leader that it hears
    /// from will tell.
    pub cluster: Option<u64>,
    /// Milliseconds between two heartbeats of a leader.
    pub heartbeat_ms: u64,
    /// The bounds (milliseconds, low < high) from which each election timeout is drawn.
    pub election_ms: (u64, u64),
    /// A new snapshot position, and with it a purge, each time N has grown by this many entries. At
    /// least 1.
    pub snapshot_every_entries: u64,
    /// Entries at or below the snapshot position that stay in the log, so that a slow member needs
    /// no snapshot.
    pub keep_entries: u64,
    /// Addresses to connect to instead of those that the membership names; for tests and relays.
    pub dial: Dial,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// The first entry of a new leader.
    Blank,
    Command(Bytes),
    /// The membership in force from here on, its own position included. The state machine stores it
    /// as it is and hands it back; [`crate::decode_membership`] lists the members.
    Membership(Bytes),
}

/// A committed entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub log_id: LogId,
    pub payload: Payload,
}

/// An entry to apply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToApply {
    pub entry: Entry,
    /// It has a proposer, which waits on this member.
    pub awaited: bool,
}

/// Position and membership of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotMeta {
    /// The last entry that the image holds.
    pub log_id: LogId,
    /// As in [`Payload::Membership`]; empty: none.
    pub membership: Bytes,
}

/// A snapshot that can be sent once.
pub struct OutgoingSnapshot {
    pub meta: SnapshotMeta,
    /// Its `wire_size` is exactly what `reader` yields.
    pub declared: Declared,
    pub reader: Box<dyn Read + Send>,
}

/// The state machine that raft drives. `apply` is called from one thread at a time, in log order,
/// starting at N+1.
///
/// Every error ends the process, except that of `receive_snapshot`, and "not yet" of
/// `open_snapshot`.
pub trait StateMachine: Send + Sync + 'static {
    /// LogId(N): where raft's replay starts after.
    fn replay_after(&self) -> Option<LogId>;

    /// The last membership that was applied, as [`Payload::Membership`] brought it.
    ///
    /// # Errors
    /// The engine failed; an empty membership in its place would take this member out of its
    /// cluster.
    fn membership(&self) -> io::Result<Option<Bytes>>;

    /// The greatest id that any member ever had in a membership that was applied; 0: there was
    /// none. Equal on every replica that has applied the same.
    ///
    /// # Errors
    /// The engine failed.
    fn greatest_member_id(&self) -> io::Result<u64>;

    /// Checks whether `command` can be applied, as far as its bytes alone can tell. Only commands
    /// that pass are proposed, whichever member asks for it.
    ///
    /// # Errors
    /// Why not, in a sentence for the proposer.
    fn vet(&self, command: &Bytes) -> Result<(), String>;

    /// Applies (or, while recovering, verifies) committed entries, which may become visible
    /// together. Total: an entry that says nothing sensible changes nothing.
    ///
    /// Calls `answer` once for each entry, in their order, with the bytes that answer its proposer
    /// (none, if no proposer waits), as soon as readers see what the entry changed. Entries may be
    /// left without an answer only by an error, that of `answer` included.
    fn apply(&self, entries: Vec<ToApply>, answer: &mut dyn FnMut(Bytes) -> io::Result<()>) -> io::Result<()>;

    /// Enough was applied, or time enough has passed since: the group may be made durable now.
    /// Called from the thread that applies, and blocking.
    fn settle(&self) -> io::Result<()>;

    /// Takes an image to send. Blocking. Its position M is that of the image; persisted N ≥ M when
    /// it returns. [`io::ErrorKind::WouldBlock`]: not yet, it is asked for again.
    fn open_snapshot(&self) -> io::Result<OutgoingSnapshot>;

    /// Bytes that a snapshot may have at most to be received. One that announces more is refused,
    /// before the first of them is taken.
    ///
    /// # Errors
    /// As for `receive_snapshot`.
    fn snapshot_room(&self) -> io::Result<u64>;

    /// Unpacks and verifies a stream into a staging area, replacing what an earlier call
    /// left there. Blocking; one call at a time. Err: refused, the old state is untouched.
    fn receive_snapshot(&self, meta: &SnapshotMeta, declared: Declared, reader: &mut dyn Read) -> io::Result<()>;

    /// Installs what `receive_snapshot` staged: exchange, sync, persist N = M, then `purge_log()`
    /// (returns when the log is durably purged up to M), then delete the old. Blocking.
    fn install_snapshot(&self, meta: &SnapshotMeta, purge_log: &mut dyn FnMut() -> io::Result<()>) -> io::Result<()>;

    /// True if this member's disk has too little room for more writes. Asked for with each message:
    /// cheap.
    fn is_short_of_space(&self) -> bool {
        false
    }
}

/// Answers what members ask their leader. Asking must be harmless: a question may arrive more than
/// once.
pub trait LeaderService: Send + Sync + 'static {
    /// Answers `question` on the leader of `term`: a quorum has confirmed it after the question
    /// arrived, and the term's first entry is applied. An error says why this member does not
    /// answer, for example because the term is over; the caller asks again.
    fn answer(&self, term: u64, question: Bytes) -> BoxFuture<'_, Result<Bytes, String>>;
}

/// A proposal that was committed and applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposed {
    pub log_id: LogId,
    /// The bytes with which [`StateMachine::apply`] answered it on the leader.
    pub response: Bytes,
}

/// Reason why a proposal or a read index has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Certainly not proposed.
    #[error("no leader was elected in time; certainly not proposed, try again")]
    NoLeader,
    /// It was sent, and may or may not be committed, now or later; or it was, and this member has
    /// not applied it yet. Never to be retried blindly.
    #[error("outcome unknown: {0}")]
    Unknown(String),
    /// Certainly not proposed, and never to be: it could not be applied.
    #[error("not a command that can be applied, not proposed: {0}")]
    Unfit(String),
    /// Certainly not proposed.
    #[error("unavailable, certainly not proposed: {0}")]
    Unavailable(String),
    /// Asked for, and more than a message holds; certainly not proposed.
    #[error("{what}: expected at most {max} bytes, found {found}")]
    TooLarge { what: &'static str, found: usize, max: usize },
    /// This member's storage failed or raft was shut down: the process is ending. The outcome is
    /// unknown.
    #[error("raft has stopped on this member, outcome unknown: {0}")]
    Fatal(String),
}

/// One reading of raft's own state on this member.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RaftStatus {
    pub term: u64,
    /// `None`: no leader known.
    pub leader: Option<u64>,
    pub last_log: Option<u64>,
    pub committed: Option<u64>,
    pub applied: Option<u64>,
    pub is_leader: bool,
}
