//! Faults of disks: under which members, when, and what their disks do.
//!
//! ```text
//! fill follower#1 for 900ms at applied +12
//! fill all leaving 8192KiB for 900ms at raft.append hit 3
//! slow all by 40ms for 900ms at time 40ms
//! fail-sync leader keeping at applied +12
//! fail-sync follower#0 losing at time 40ms
//! ```
//!
//! The fault filesystem does all of it, so nothing happens to the machine's own disk.

use super::parse_fault::{check_lasting, check_ms, parse_ms, parse_when, parse_whom};
use super::{When, Whom};
use ninelives_evidence::limits;
use std::fmt;

/// A fault of the disks of some members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskFault {
    pub ailment: Ailment,
    pub whom: Whom,
    pub when: When,
}

/// What a disk does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ailment {
    /// Another program takes its room, for so long: all but `left_kib`, or all of it.
    Fill { left_kib: u64, ms: u64 },
    /// Each sync of a file takes longer, for so long: by up to `by_ms`, drawn by the seed.
    Slow { by_ms: u64, ms: u64 },
    /// The next sync of a file fails with EIO, once. `losing`: what it was to make durable counts
    /// as written from then on and is not, which the loss of power that follows shows.
    FailSync { losing: bool },
}

impl Ailment {
    /// Whether a member may end by it: it is asked for more than the node promises.
    pub fn may_end_a_member(self) -> bool {
        match self {
            Ailment::Fill { left_kib, .. } => left_kib == 0,
            Ailment::Slow { .. } => false,
            Ailment::FailSync { .. } => true,
        }
    }

    /// Milliseconds that it lasts, or that it waits for its moment.
    pub fn ms(self) -> u64 {
        match self {
            Ailment::Fill { ms, .. } | Ailment::Slow { ms, .. } => ms,
            Ailment::FailSync { .. } => limits::DISK_HIT_MS_MAX,
        }
    }

    /// Number of the kind: one step has at most one fault of each.
    pub(super) fn kind(self) -> u8 {
        match self {
            Ailment::Fill { .. } => 0,
            Ailment::FailSync { .. } => 1,
            Ailment::Slow { .. } => 2,
        }
    }
}

/// What becomes of the pages of a sync that failed, in the words of a plan.
const LOSING: &str = "losing";
const KEEPING: &str = "keeping";

impl fmt::Display for DiskFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ailment, whom, when } = self;
        match ailment {
            Ailment::Fill { left_kib: 0, ms } => write!(f, "fill {whom} for {ms}ms at {when}"),
            Ailment::Fill { left_kib, ms } => write!(f, "fill {whom} leaving {left_kib}KiB for {ms}ms at {when}"),
            Ailment::Slow { by_ms, ms } => write!(f, "slow {whom} by {by_ms}ms for {ms}ms at {when}"),
            Ailment::FailSync { losing } => {
                write!(f, "fail-sync {whom} {} at {when}", if *losing { LOSING } else { KEEPING })
            }
        }
    }
}

/// The fault of a disk that `verb` and `text` say; `None`: it has another form.
pub(super) fn parse(verb: &str, text: &str) -> Option<DiskFault> {
    match verb {
        "fill" => fill(text),
        "slow" => slow(text),
        "fail-sync" => fail_sync(text),
        _ => None,
    }
}

/// `WHOM [leaving NKiB] for Nms at WHEN`.
fn fill(text: &str) -> Option<DiskFault> {
    let (whom, rest) = text.split_once(" for ")?;
    let (ms, when) = rest.split_once(" at ")?;
    let (whom, left_kib) = match whom.split_once(" leaving ") {
        Some((whom, left)) => (whom, left.strip_suffix("KiB")?.parse().ok().filter(|left| *left > 0)?),
        None => (whom, 0),
    };
    let ailment = Ailment::Fill { left_kib, ms: parse_ms(ms)? };
    Some(DiskFault { ailment, whom: parse_whom(whom)?, when: parse_when(when)? })
}

/// `WHOM by Nms for Nms at WHEN`.
fn slow(text: &str) -> Option<DiskFault> {
    let (whom, rest) = text.split_once(" by ")?;
    let (by_ms, rest) = rest.split_once(" for ")?;
    let (ms, when) = rest.split_once(" at ")?;
    let ailment = Ailment::Slow { by_ms: parse_ms(by_ms)?, ms: parse_ms(ms)? };
    Some(DiskFault { ailment, whom: parse_whom(whom)?, when: parse_when(when)? })
}

/// `WHOM keeping|losing at WHEN`.
fn fail_sync(text: &str) -> Option<DiskFault> {
    let (whom, when) = text.split_once(" at ")?;
    let (whom, pages) = whom.split_once(' ')?;
    let losing = match pages {
        LOSING => true,
        KEEPING => false,
        _ => return None,
    };
    Some(DiskFault { ailment: Ailment::FailSync { losing }, whom: parse_whom(whom)?, when: parse_when(when)? })
}

/// Checks that the fault's place can be reached, and that its numbers are within reason.
pub(super) fn check(fault: &DiskFault) -> Result<(), String> {
    check_lasting(fault.when)?;
    match fault.ailment {
        Ailment::Fill { left_kib, ms } => {
            let (min, max) = limits::PLAN_LEFT_KIB;
            if left_kib != 0 && !(min..=max).contains(&left_kib) {
                return Err(format!(
                    "`leaving NKiB` with N of {min} to {max}, or no such words: then nothing is left, and members may end"
                ));
            }
            check_ms("for", ms, limits::PLAN_FILL_MS_MAX)
        }
        Ailment::Slow { by_ms, ms } => {
            check_ms("by", by_ms, limits::PLAN_SLOW_BY_MS_MAX)?;
            check_ms("for", ms, limits::PLAN_SLOW_MS_MAX)
        }
        Ailment::FailSync { .. } => Ok(()),
    }
}
