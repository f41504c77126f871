//! Multi-version keys with etcd's semantics: what an entry makes of them, and reads of any revision
//! that is not compacted. [`State`](state::State) is what the store keeps in memory; a
//! [`Writer`](writer::Writer) changes it.

pub(super) mod budget;
pub mod check;
pub(super) mod garbage;
mod history;
pub(super) mod index;
mod interval;
mod interval_set;
pub(super) mod key;
pub(super) mod range;
pub(super) mod reader;
pub(super) mod recent;
pub mod row;
pub(super) mod state;
pub(super) mod txn;
mod versions;
pub(super) mod writer;

pub use history::{Change, History, Wanted};
pub use interval::Interval;
pub use recent::Made;
pub use writer::Applying;

use super::error::{Error, Rejection, Result};

/// Key, in `Bucket::Meta`, of the compact revision (`u64`, big-endian); absent: never compacted.
pub const COMPACT_REVISION: &[u8] = b"compact_revision";

/// The revision of an empty store.
pub const FIRST_REVISION: i64 = 1;
