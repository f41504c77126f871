//! The promises, and their judges. No judge talks to a live node: it is given evidence and
//! answers with findings.
//!
//! | file | promise |
//! | --- | --- |
//! | [`ledger`] | the one place where evidence meets: operations, watch streams, the model |
//! | `judge` | which piece of evidence goes to which judge |
//! | `raised` | the one queue by which findings leave, each with the evidence that raised it |
//! | `sums` | what a cluster's part of a run adds up to |
//! | `asked` | an operation in a sentence: what was asked, and of whom |
//! | `durability` | every acknowledged write is there, at its revision, with its effects; nothing else is |
//! | `exactly_once` | what was asked for once happened at most once, and counts for one |
//! | [`linearizability`] | one order of all operations explains every answer, and keeps real time |
//! | `refusals` | (none by itself) how many operations were refused, and why |
//! | `reads` | what a read returned is what the model holds at that revision |
//! | `sessions` | a member never answers from before what it acknowledged itself |
//! | `leases` | acknowledged grants are there, acknowledged revocations are not |
//! | `lease_clock` | a lease lives as long as was acknowledged, and no longer than it has to |
//! | [`streams`] | watches are ordered, gap-free, atomic per revision, without duplicates across a crash, and resumable |
//! | [`liveness`] | a connected majority serves beside a cut, and a healed cluster serves again, within their bounds |
//! | [`fence`] | at a fence all replicas have one state, and it is the model's |
//! | [`kv_fence`] | at a revision all replicas show the same keys and history, and they are the model's |
//! | [`replay_start`] | a restart begins where the dead directory says, and skips and repeats nothing |
//! | [`log_replay`] | the committed entries of the raft logs, replayed, make what the watches delivered |
//! | [`votes`] | a vote never goes back, and a term has one leader, durably elected |
//! | [`watermarks`] | within one life watermarks stand in their order and never go back |
//! | [`damage`] | a member with a damaged file refuses clearly, or has all that it had acknowledged |
//! | [`alone`] | a dead directory, and its member's start alone, are what a crash may leave |
//! | [`migration`] | a change of engine, interrupted or not, keeps what it found |
//! | `strangers` | a member of another cluster stays in it, and gets no key of ours |
//! | [`last_read`] | a full read at the end holds the model's rows, no fewer and no more |
//!
//! Readings are compared at an exact revision or raft index, never "now": a second reading could
//! not differ, so an alarm needs none. A judge of readings without such an anchor has to wait and
//! read again first.

pub mod alone;
mod asked;
mod cost;
pub mod damage;
mod durability;
mod exactly_once;
pub mod fence;
mod judge;
pub mod kv_fence;
pub mod last_read;
mod leaderless;
pub mod lease_clock;
mod leases;
pub mod ledger;
pub mod linearizability;
pub mod liveness;
pub mod log_replay;
pub mod migration;
mod predict;
mod raised;
mod reads;
mod refusals;
pub mod replay_start;
mod sessions;
mod strangers;
pub mod streams;
mod sums;
#[cfg(test)]
mod testing;
pub mod votes;
pub mod watermarks;

use fence::{check_fence, check_missed};
use kv_fence::check_kv_fence;
use last_read::check_last_read;
pub use ledger::{Baseline, Ledger};
use migration::check_kept;
pub use migration::settle_index;
pub use raised::{LISTED_PER_CLASS_MAX, Origin, Raised};
pub use replay_start::Restart;
pub use sums::{Sums, Tally};

use ninelives_evidence::verdict::Finding;

/// Alarms raised while judging one piece of evidence: findings without a cycle, and without a
/// member unless they are about what one answered. The ledger adds both as far as it knows them.
pub type Alarms = Vec<Finding>;
