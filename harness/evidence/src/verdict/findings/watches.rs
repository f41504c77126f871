//! Watches: ordered, gap-free, atomic per revision, without duplicates across a crash, and
//! resumable.

use super::parts::FreshWatch;
use crate::member::Slot;
use crate::stretched::Stretched;

findings! {
    /// A watch delivers every revision once, in order and whole, and a fresh one what the history
    /// holds.
    Watches:

    /// The same revision twice, one in parts, or an older one.
    Watch DeliveredTwice { slot: Slot, revision: u64, after: u64 }
        "the watch of {slot} delivered revision {revision} after {after}: twice, in parts, or back";

    Watch RevisionsMissing { slot: Slot, after: u64, revision: u64 }
        "the watch of {slot} went from revision {after} to {revision}: {missing} are missing",
        missing = revision.saturating_sub(*after).saturating_sub(1);

    Watch DeliveredOtherwise { slot: Slot, revision: u64, holds: String }
        "the watch of {slot} has {holds} at revision {revision}, another slot's something else";

    Watch ToldOfNoCompaction { slot: Slot, compacted: u64, asked: u64 }
        "the watch of {slot} is told that {compacted} was compacted; only {asked} was asked for";

    /// The history says that the revision had been delivered before.
    HarnessError DeliveredAgainUnknown { slot: Slot, revision: u64 }
        "the watch of {slot} delivered revision {revision}, and the history does not have it";

    Watch FreshToldOtherCompaction { watch: FreshWatch, told: u64, least: u64, most: u64 }
        "{watch} is told that {told} was compacted, expected {least} to {most}";

    Watch FreshNotRefused { watch: FreshWatch, compacted: u64 }
        "{watch} is not refused, though everything below {compacted} was compacted";

    Watch FreshHasOtherChanges { watch: FreshWatch, revision: u64 }
        "{watch} has other changes at revision {revision} than the history";

    Watch FreshHasAnotherRevision { watch: FreshWatch, revision: u64, expected: u64 }
        "{watch} has revision {revision} where the history has {expected}";

    /// `ended`: why it ended; `None`: it fell silent.
    Watch FreshEnds { watch: FreshWatch, before: u64, upto: u64, ended: Option<String> }
        "{watch} ends before revision {before}, of {upto} to come: {ended}",
        ended = ended.as_deref().unwrap_or("silent");

    Watch FreshHasTooMuch { watch: FreshWatch, revision: u64 }
        "{watch} has revision {revision}, which the history has not";

    Watch FreshBrokeOff { member: u64, ended: String }
        "a watch that was opened anew on n{member} broke off: {ended}";

    /// `ended_ms`: when it ended; `None`: not while the cut lasted.
    Watch HeldWithoutLeader { member: u64, fault: String, bound: Stretched, ended_ms: Option<u64>, lasted_ms: u64 }
        "n{member} held a watch that requires a leader {held}, cut off from every quorum by \
         `{fault}`: expected it to end with an error within {bound}",
        held = ended_ms.map_or(format!("for all of {lasted_ms} ms"), |ms| format!("for {ms} ms"));

    Watch EndedWithoutError { member: u64, fault: String, after_ms: u64, why: String }
        "n{member} ended a watch that requires a leader {after_ms} ms after `{fault}` cut it off \
         from every quorum, and told its client of no error ({why})";

    Liveness WatchLate { member: u64, revision: u64, bound: Stretched, delivered: u64 }
        "expected n{member}'s watch to deliver revision {revision} of the fence within {bound}, \
         found it at {delivered}";
}
