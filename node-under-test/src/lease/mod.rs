//! Leases. Replicated: which exist, their granted TTL, which keys are attached. Local to the leader: when
//! each runs out.
//!
//! A deadline never goes through raft and is never stored: a new leader gives every lease its full TTL
//! again, so a change of leader can only prolong a lease. What ends a lease is a revoke, proposed like any
//! other command; so the keys vanish at the same revision everywhere.
//!
//! | file | what |
//! | --- | --- |
//! | `table` | the replicated half |
//! | `expiry`, `deadlines` | what the leader of a term knows, without I/O |
//! | `lessor` | the leader's task and its answers, with the promises that they keep |
//! | `ask` | questions to the leader, from whichever member a client asked |
//! | `renewals` | the renewals of many clients in one question |

mod ask;
mod deadlines;
mod expiry;
mod lessor;
mod renewals;
mod table;

pub use ask::{Ask, Renewed, time_to_live};
pub use lessor::Lessor;
pub use renewals::{Answers, Renewals};
pub use table::LeaseTable;

/// Shortest TTL; a grant that asks for less gets this. etcd derives its own from its election timeout.
pub const TTL_SECONDS_MIN: i64 = 1;
/// Longest TTL, as in etcd.
pub const TTL_SECONDS_MAX: i64 = 9_000_000_000;
