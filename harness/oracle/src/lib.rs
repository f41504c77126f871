//! The judges of the harness, and what they judge with: a model of the state, a decoder of raft
//! logs, the fold over a stored history, and the conclusions of the localiser.
//!
//! Evidence goes in, findings come out. The crate never talks to a live member, starts no process
//! and reads no clock: it links no runtime and no client. Of the node it links the wire formats,
//! because a raft log holds commands in them.
//!
//! - [`Ledger`]: the one place where evidence meets the judges, one promise a file.
//! - [`fold`]: a stored history, recorded in a ledger of its own.
//! - [`model`]: the state by revision, as the watches spelt it out.
//! - [`raft_log`]: the second decoder of a member's raft log.
//! - [`localise`]: where a divergence begins, from what was seen of it.
//! - [`edn`]: a history for other checkers.

pub mod edn;
pub mod fold;
mod judges;
pub mod localise;
pub mod model;
pub mod raft_log;

pub use judges::*;
