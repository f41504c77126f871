//! Raft for one member: the consensus library, its log on disk, and the transport between members.
//!
//! The only crate that names `openraft`. Above it there is a [`StateMachine`] that is fed one
//! committed entry at a time, a [`LogStore`] whose facts start-up needs before raft exists, and a
//! [`RaftNode`] to propose on.
//!
//! The following holds across a kill of any member at any time:
//!
//! 1. *An acknowledgement follows an fsync.* A vote is answered, an append acknowledged, and an
//!    entry applied only after the local log is durable through it (see `log_store`); so the engine
//!    is never ahead of the log.
//! 2. *A leader starts with an election.* A restarted leader that resumed its term could write
//!    another entry at an index that it had replicated before its own fsync.
//! 3. *The log is purged only up to N*, the persisted last-flushed index, whatever the library asks
//!    for.
//! 4. *A snapshot promises N and carries M ≥ N.* What the library is told about a snapshot never
//!    exceeds what this life has applied; the image that is sent is taken when it is sent.
//! 5. *Reads are confirmed by a quorum* (read index). Leases restart at zero with the process, so
//!    they are not used.
//! 6. *A proposal is sent at most once.* Whether one that was sent is committed may stay unknown
//!    for ever.
//! 7. *A storage error is the end*: [`RaftNode::fatal`] resolves, and nothing is retried.
//! 8. *An id is a life of one raft log, in one cluster* (see `identity`): a stranger is refused,
//!    and so is a member that lost its log under its old id. What a member says is held against
//!    what is known before the library hears it (`checked`), and ends no member.
//! 9. *A leader that no quorum answers falls silent* (see `silence`), so that a majority that is
//!    connected elects another.
//! 10. *The membership changes by one entry at a time, one voter at a time*, and an id is never
//!     given twice (see `membership`).
//! 11. *What only the leader may say, it says after a quorum has confirmed it* (see `ask`), in the
//!     confirmed term.

#![deny(clippy::print_stdout, clippy::print_stderr, reason = "a print that fails panics: see `node_base::diagnostics`")]

mod api;
mod appends;
mod ask;
mod belief;
mod carry;
mod change;
mod checked;
mod clock;
mod dial;
mod forward;
mod hello;
mod identity;
mod log_store;
mod membership;
mod network;
mod node;
mod peers;
mod pipeline;
mod probe;
mod propose;
mod read_index;
mod server;
mod silence;
mod snapshot_stream;
mod space;
mod startup;
mod state_machine;
#[cfg(test)]
mod testing;
mod types;

pub use api::{
    ChangeError, ChangeRefusal, Changed, Enrolled, Entry, Farewell, LeaderService, Member, MembershipChange,
    OutgoingSnapshot, Payload, ProposeError, Proposed, RaftOptions, RaftStatus, Roster, SnapshotMeta, StateMachine,
    ToApply,
};
pub use dial::Dial;
pub use log_store::{LogError, LogFacts, LogStore, VoteFacts};
pub use node::RaftNode;
pub use server::PeerService;
pub use startup::StartError;
pub use types::decode_membership;
