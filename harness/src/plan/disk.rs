//! Faults of disks: under which members, when, and what their disks do.
//!
//! ```text
//! fill follower#1 for 900ms at applied +12
//! fill all leaving 8192KiB for 900ms at raft.append hit 3
//! slow all by 40ms for 900ms at time 40ms
//! fail-sync leader keeping at applied +12
//! fail-sync follower#0 losing at time 40ms
//! fail leader raft-log.write hit 3 once at applied +12
//! fail follower#1 sst.read hit 1 for 900ms at time 40ms
//! shorten all database.write for 900ms at applied +12
//! ```
//!
//! The fault filesystem does all of it, so nothing happens to the machine's own disk.

use super::parse_fault::{check_lasting, check_ms, parse_ms, parse_when, parse_whom};
use super::{When, Whom};
use crate::subject::{FILE_OPERATIONS, FileOperation};
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
    /// The `hit`-th such operation fails with EIO, and for so long from then on all others of its
    /// kind; with 0 it fails alone.
    Fail { operation: &'static FileOperation, hit: u64, ms: u64 },
    /// Each such write is carried out in part, for so long, and says so.
    Shorten { operation: &'static FileOperation, ms: u64 },
}

impl Ailment {
    /// Whether a member may end by it: it is asked for more than the node promises.
    pub fn may_end_a_member(self) -> bool {
        match self {
            Ailment::Fill { left_kib, .. } => left_kib == 0,
            Ailment::Slow { .. } | Ailment::Shorten { .. } => false,
            Ailment::FailSync { .. } | Ailment::Fail { .. } => true,
        }
    }

    /// Whether a member is started while its disk has it: only then a start can meet it.
    pub fn meets_starts(self) -> bool {
        matches!(self, Ailment::Fail { .. })
    }

    /// The reads or writes that it is about.
    pub fn operation(self) -> Option<&'static FileOperation> {
        match self {
            Ailment::Fail { operation, .. } | Ailment::Shorten { operation, .. } => Some(operation),
            Ailment::Fill { .. } | Ailment::Slow { .. } | Ailment::FailSync { .. } => None,
        }
    }

    /// Milliseconds that it lasts (of reads and writes that fail, from the first on), or that it
    /// waits for its moment.
    pub fn ms(self) -> u64 {
        match self {
            Ailment::Fill { ms, .. }
            | Ailment::Slow { ms, .. }
            | Ailment::Fail { ms, .. }
            | Ailment::Shorten { ms, .. } => ms,
            Ailment::FailSync { .. } => limits::DISK_HIT_MS_MAX,
        }
    }

    /// Number of the kind: one step has at most one fault of each.
    pub(super) fn kind(self) -> u8 {
        match self {
            Ailment::Fill { .. } => 0,
            Ailment::FailSync { .. } => 1,
            Ailment::Slow { .. } => 2,
            Ailment::Fail { .. } => 3,
            Ailment::Shorten { .. } => 4,
        }
    }
}

/// What becomes of the pages of a sync that failed, in the words of a plan.
const LOSING: &str = "losing";
const KEEPING: &str = "keeping";
/// A write that fails alone, in the words of a plan.
const ONCE: &str = "once";

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
            Ailment::Fail { operation, hit, ms: 0 } => {
                write!(f, "fail {whom} {} hit {hit} {ONCE} at {when}", operation.name)
            }
            Ailment::Fail { operation, hit, ms } => {
                write!(f, "fail {whom} {} hit {hit} for {ms}ms at {when}", operation.name)
            }
            Ailment::Shorten { operation, ms } => {
                write!(f, "shorten {whom} {} for {ms}ms at {when}", operation.name)
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
        "fail" => fail(text),
        "shorten" => shorten(text),
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

/// `WHOM CLASS.read|write hit N once|for Nms at WHEN`.
fn fail(text: &str) -> Option<DiskFault> {
    let (text, when) = text.split_once(" at ")?;
    let (whom, rest) = text.split_once(' ')?;
    let (name, rest) = rest.split_once(" hit ")?;
    let (hit, long) = rest.split_once(' ')?;
    let ms = match long.strip_prefix("for ") {
        Some(ms) => parse_ms(ms).filter(|ms| *ms > 0)?,
        None => (long == ONCE).then_some(0)?,
    };
    let ailment = Ailment::Fail { operation: FileOperation::find(name)?, hit: hit.parse().ok()?, ms };
    Some(DiskFault { ailment, whom: parse_whom(whom)?, when: parse_when(when)? })
}

/// `WHOM CLASS.write for Nms at WHEN`.
fn shorten(text: &str) -> Option<DiskFault> {
    let (text, when) = text.split_once(" at ")?;
    let (whom, rest) = text.split_once(' ')?;
    let (name, ms) = rest.split_once(" for ")?;
    let ailment = Ailment::Shorten { operation: FileOperation::find(name)?, ms: parse_ms(ms)? };
    Some(DiskFault { ailment, whom: parse_whom(whom)?, when: parse_when(when)? })
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
        Ailment::Fail { operation, hit, ms } => {
            if !(1..=limits::PLAN_FAIL_HIT_MAX).contains(&hit) {
                return Err(format!("`hit N` with N of 1 to {}", limits::PLAN_FAIL_HIT_MAX));
            }
            if ms == 0 && operation.reads() {
                return Err(
                    "`for Nms` behind a read that fails: the kernel repeats at once what it could not read ahead, so \
                            that no member would be given an error that comes once"
                        .to_owned(),
                );
            }
            if ms == 0 { Ok(()) } else { check_ms("for", ms, limits::PLAN_FAIL_MS_MAX) }
        }
        Ailment::Shorten { operation, ms } => {
            if operation.reads() {
                let writes: Vec<_> = FILE_OPERATIONS.iter().filter(|one| !one.reads()).map(|one| one.name).collect();
                return Err(format!(
                    "one of {} as what is cut short: a short read is the end of a file",
                    writes.join(", ")
                ));
            }
            check_ms("for", ms, limits::PLAN_FAIL_MS_MAX)
        }
    }
}
