//! The whole replicated state: keys with etcd's multi-version semantics, leases, and members.
//!
//! Contract: the state is a function of the applied commands alone. Nothing here reads a clock,
//! draws a random number or depends on the order of an unordered map; what could differ between
//! members was chosen before the command was proposed. A command that is refused changes nothing
//! but the consistent index, and every command can be applied: only the engine can fail. Everything
//! in memory (the key index, what is attached to which lease) can be rebuilt from the rows.
//!
//! | file | what |
//! | --- | --- |
//! | `error` | refusals in etcd's words, and what ends the process |
//! | `rows` | a walk over the rows of one bucket |
//! | `leases` | which leases exist, and which keys are attached to them |
//! | `mvcc` | the revisions of keys: rows, index, transactions, history |
//! | `command` | commands as they go through the raft log |
//! | `membership` | the members as rows |
//! | `hash` | the state hash |
//! | `fence` | this member's answers to fences |
//! | `interests` | which streams of watches wait for which keys |
//! | `store` | entries in, one batch out, and reads beside that |

pub mod command;
mod error;
pub mod fence;
pub mod hash;
mod interests;
pub mod leases;
pub mod membership;
pub mod mvcc;
pub mod rows;
mod store;

#[cfg(test)]
mod model_test;
#[cfg(test)]
mod total_test;

pub use error::{Error, Rejection, Result, is_damage};
pub use interests::Interest;
pub use leases::LeaseChanges;
pub use mvcc::{Applying, Change, FIRST_REVISION, History, Interval, Wanted};
pub use store::{Pending, Store, Sweep};
