//! Multi-version keys with etcd's semantics, as a state machine: what a log of commands leaves behind.
//!
//! Contract: the state is a function of the applied commands alone. Nothing here reads a clock, draws a
//! random number or depends on the order of an unordered map; what could differ between members was chosen
//! before the command was proposed. A command that is refused changes nothing but the consistent index, and every
//! command can be applied: only the engine can fail.
//! Everything in memory (the key index, what is attached to which lease) can be rebuilt from the rows.

mod budget;
pub mod check;
mod error;
mod garbage;
mod history;
mod index;
mod interval;
mod interval_set;
mod range;
mod reader;
pub mod row;
pub(crate) mod state;
mod store;
mod txn;
mod versions;
mod writer;

#[cfg(test)]
mod model_test;
#[cfg(test)]
mod total_test;

pub use error::{Error, Rejection};
pub use history::{Change, History, Wanted};
pub use interval::Interval;
pub use store::{Applying, LeaseChanges, Store, Sweep};

pub type Result<T> = std::result::Result<T, Error>;

/// Key, in `Bucket::Meta`, of the compact revision (`u64`, big-endian); absent: never compacted.
pub const COMPACT_REVISION: &[u8] = b"compact_revision";

/// The revision of a store that nobody has written to.
pub const FIRST_REVISION: i64 = 1;
