//! The localiser's conclusions: the first wrong revision and raft index, the wrong members, and the
//! fault before it, from what the members showed before they were killed, and from their logs.
//!
//! The harness asks the members (`harness/src/localise.rs`) and fills in the [`Clues`]. What
//! follows needs no member: a replay of the committed entries ([`crate::log_replay`]) begins at the
//! last fence on which all members agreed and goes on to the end, and its rows of each revision are
//! the correct ones. It uses no member's apply code. A majority of the logs decides which entries
//! are committed, and no single log does (`quorum`). The first revision at which a member's rows
//! differ is the first wrong one; the replay knows which entry made it.
//!
//! The report names the limits of the search: a member that is down shows nothing; rows that a
//! compaction dropped are gone; if no raft log reaches back to the last fence, the search uses the
//! watches' history, which knows no raft index.

mod clues;
mod compare;
mod conclusion;
mod quorum;
mod sections;
mod sentences;
mod told;
mod trail;
mod without_logs;

pub use clues::{Clues, Witness, subject};
pub use compare::Shown;
pub use conclusion::{by_logs, empty};
pub use trail::Trail;
pub use without_logs::without_logs;
