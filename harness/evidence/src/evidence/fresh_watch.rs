//! Watches that are opened anew on a member that came back.

use super::logged::Digest;
use crate::operation::Keys;
use serde::{Deserialize, Serialize};

/// A watch to be opened anew: what it is to deliver is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resumption {
    pub from: u64,
    /// `None`: all keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<Keys>,
    /// The last revision of the history that it has to deliver; 0: it has to be refused.
    pub upto: u64,
    /// The client ends its side of the stream as soon as it has asked for the watch.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub half_closed: bool,
}

/// The deliveries of a watch that was opened anew, up to the revision that it was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// Each revision, with the digest of its changes.
    pub revisions: Vec<(u64, Digest<8>)>,
    /// It was cancelled because everything below this revision is compacted.
    pub compacted: Option<u64>,
    /// Why it ended before it had delivered everything.
    pub ended: Option<String>,
}
