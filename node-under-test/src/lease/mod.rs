//! The leader's half of leases: when each runs out. The replicated half (which exist, their granted
//! TTL, which keys are attached) is `crate::state::leases`.
//!
//! A deadline never goes through raft and is never stored: a new leader gives every lease its full
//! TTL again, so a change of leader can only prolong a lease. What ends a lease is a revoke,
//! proposed like any other command; so the keys vanish at the same revision everywhere.
//!
//! | file | what |
//! | --- | --- |
//! | `expiry`, `deadlines` | what the leader of a term knows, without I/O |
//! | `lessor` | the leader's task and its answers, with the promises that they keep |
//! | `ask` | questions to the leader, from whichever member a client asked |
//! | `renewals` | the renewals of many clients in one question |

mod ask;
mod deadlines;
mod expiry;
mod lessor;
mod renewals;

pub use ask::{Ask, Line, Renewed, time_to_live};
pub use lessor::{Leadership, Lessor};
pub use renewals::{Answers, Renewals};
