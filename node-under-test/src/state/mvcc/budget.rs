//! Bounds of a request's cost once it is let in: keys that it passes by, and bytes of its answer.
//!
//! Both are bounded because a small request can ask for much: ten bytes name a range over the whole
//! store, and a transaction has room for thousands of them.

use super::interval::Interval;
use super::state::State;
use super::{Rejection, Result};
use node_base::sabotage::{Bug, planted};
use node_proto::limits::{COMMAND_ANSWER_BYTES_MAX, READ_ANSWER_BYTES_MAX, TXN_KEYS_MAX};
use node_proto::mvccpb::KeyValue;
use prost::Message;

/// Keys that fetching a row counts as, whatever is in it.
const FETCH_KEYS: usize = 8;
/// Bytes of a row that count as one more.
const BYTES_PER_KEY: usize = 128;

/// Number of keys that the comparisons and deletes of one transaction may still pass by. Every
/// member evaluates them, and each must come to the same end: so this counts keys that are a
/// function of the applied commands (not those that a compaction is about to remove, each member in
/// its own time), and never time.
#[derive(Debug)]
pub struct Keys {
    left: usize,
}

impl Keys {
    pub fn of(state: &State) -> Self {
        Self { left: TXN_KEYS_MAX.saturating_add(2 * state.index.live()) }
    }

    /// Walks through `interval` in `state`.
    pub fn pass(&mut self, state: &State, interval: &Interval) -> std::result::Result<(), Rejection> {
        let passed = if interval.is_single() {
            1
        } else {
            state.index.count_up_to(interval, state.compact, self.left.saturating_add(1))
        };
        self.take(passed)
    }

    pub fn fetch(&mut self, row: &KeyValue) -> std::result::Result<(), Rejection> {
        self.take(FETCH_KEYS + row.value.len() / BYTES_PER_KEY)
    }

    fn take(&mut self, keys: usize) -> std::result::Result<(), Rejection> {
        self.left = self.left.checked_sub(keys).ok_or(Rejection::TOO_MANY_KEYS)?;
        Ok(())
    }
}

/// Bytes that an answer may still hold, and keys that may still be passed by for it.
#[derive(Debug)]
pub struct Room {
    bytes: usize,
    keys: usize,
}

impl Room {
    /// For a request that reads: one range, or a transaction of ranges over `state`.
    pub fn to_read(state: &State) -> Self {
        Self { bytes: READ_ANSWER_BYTES_MAX, keys: TXN_KEYS_MAX.saturating_add(2 * state.index.live()) }
    }

    /// For the answer to a command.
    fn of_command(state: &State) -> Self {
        Self { bytes: COMMAND_ANSWER_BYTES_MAX, ..Self::to_read(state) }
    }

    /// Walks through `interval` in `state`.
    pub fn pass(&mut self, state: &State, interval: &Interval) -> std::result::Result<(), Rejection> {
        let passed = state.index.count_up_to(interval, state.compact, self.keys.saturating_add(1));
        self.keys = self.keys.checked_sub(passed).ok_or(Rejection::ANSWER_TOO_LARGE)?;
        Ok(())
    }

    /// Makes room for `row`.
    pub fn hold(&mut self, row: &KeyValue) -> std::result::Result<(), Rejection> {
        self.bytes = self.bytes.checked_sub(row.encoded_len()).ok_or(Rejection::ANSWER_TOO_LARGE)?;
        Ok(())
    }
}

/// The rows for the answer to a command. They change nothing, so they are read only where a caller
/// waits for them: not by a follower, not in a replay, and no further once there is no room for
/// them.
#[derive(Debug)]
pub enum Gathered {
    /// The caller waits, and this is how much more it can be told.
    Into(Room),
    /// No caller waits.
    Skipped,
    /// The command is carried out to its end, and its caller is told that the answer was too large.
    TooLarge,
}

impl Gathered {
    pub fn new(awaited: bool, state: &State) -> Self {
        let gathered = awaited || planted(Bug::RangesEvaluatedEverywhere);
        if gathered { Self::Into(Room::of_command(state)) } else { Self::Skipped }
    }

    pub fn is_too_large(&self) -> bool {
        matches!(self, Self::TooLarge)
    }

    /// The rows that `read` finds; none if no caller waits for them, or the answer has no room for
    /// them.
    ///
    /// # Errors
    /// Those of `read` but for [`Rejection::ANSWER_TOO_LARGE`].
    pub fn rows<T: Default>(&mut self, read: impl FnOnce(&mut Room) -> Result<T>) -> Result<T> {
        let Self::Into(room) = self else { return Ok(T::default()) };
        match read(room) {
            Err(super::Error::Rejected(Rejection::ANSWER_TOO_LARGE)) => {
                *self = Self::TooLarge;
                Ok(T::default())
            }
            read => read,
        }
    }
}
