//! Writes: each that was acknowledged is in the history, once, at its revision, with its effects;
//! nothing else is.

use super::parts::{Floor, NoEffect, Request};
use crate::operation::OpId;

findings! {
    /// Every acknowledged write is there, and nothing that no client wrote.
    Writes:

    Model HeldElsewhere { member: u64, request: Request, acknowledged: u64, revision: u64 }
        "n{member} acknowledged {request} at revision {acknowledged}, but revision {revision} \
         holds it";

    LostWrite NotHeld { member: u64, request: Request, acknowledged: u64 }
        "n{member} acknowledged {request} at revision {acknowledged}, which does not hold it";

    LostWrite HoldsAnother { member: u64, request: Request, acknowledged: u64, holds: String }
        "n{member} acknowledged {request} at revision {acknowledged}, which holds {holds} instead";

    /// Which of the two answers is wrong cannot be said.
    LostWrite RevisionTaken { member: u64, request: Request, acknowledged: u64, floor: Floor }
        "n{member} acknowledged {request} at revision {acknowledged}, though {floor} before it was \
         sent: what was there is gone";

    Phantom HeldAllTheSame { member: u64, request: Request, answered: NoEffect, revision: u64 }
        "{request}, sent to n{member}, {answered}, but revision {revision} holds it";

    /// A value that is not of the load, or several operations in one revision.
    Phantom ForeignValue { revision: u64, holds: String }
        "revision {revision} holds {holds}, which no operation writes";

    Phantom SettledBefore { revision: u64, holds: String, operation: OpId }
        "revision {revision} holds {holds} of operation {operation}, which was settled before: \
         refused, answered as having written nothing, or never sent";

    Phantom DoneByNone { revision: u64, holds: String }
        "revision {revision} holds {holds}, which no open operation does";

    Phantom DoneByNoCandidate { revision: u64, holds: String }
        "revision {revision} holds {holds}, and every operation that could have done it did not";

    /// `why`: the first comparison that fails.
    Model AppliedAgainstComparison { member: u64, request: Request, revision: u64, why: String }
        "{request}, sent to n{member}, was applied at revision {revision}, but its comparison \
         fails there: {why}";

    /// `difference`: the keys that are missing, not asked for, or different.
    Model OtherEffects { member: u64, request: Request, revision: u64, holds: String, difference: String }
        "revision {revision} holds {holds}, which is not what {request}, sent to n{member}, does \
         to the state before; {difference}";

    ExactlyOnce HeldTwice { operation: OpId, first: u64, second: u64 }
        "operation {operation} is in the history twice, at revisions {first} and {second}";

    /// `is`: what the counter counts, if that can be read.
    ExactlyOnce Miscounted { revision: u64, key: String, was: u64, is: Option<u64> }
        "at revision {revision} {key} counts {is} after {was}: {made} increments were made since \
         it was reset",
        is = is.map_or_else(|| "nothing readable".to_owned(), |is| is.to_string()), made = was + 1;

    /// The ends of the list, before and after.
    ExactlyOnce Misappended { revision: u64, key: String, before: String, after: String }
        "at revision {revision} {key} ends with {after:?} after {before:?}: not the list and one \
         more entry";

    Model PutMisversioned {
        revision: u64, key: String, create_revision: u64, version: u64, create_revision_expected: u64,
        version_expected: u64,
    }
        "revision {revision}: the put of {key} claims create revision {create_revision} and \
         version {version}, the history makes it {create_revision_expected} and {version_expected}";

    Model DeletesNothing { revision: u64, key: String }
        "revision {revision} deletes {key}, which does not exist before it";

    LostWrite SnapshotTooOld { member: u64, revision: u64, acknowledged: u64 }
        "the snapshot that n{member} sent holds revision {revision}, and revision {acknowledged} \
         had been acknowledged before it was asked for";

    Phantom SnapshotTooNew { member: u64, revision: u64, told: u64 }
        "the snapshot that n{member} sent holds revision {revision}, and the watches told {told}";
}
