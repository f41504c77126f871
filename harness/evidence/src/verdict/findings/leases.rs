//! Leases: who has one, and how long it lives.

use super::parts::{Anchor, LeaseEnd, Request};

findings! {
    /// A lease lives as long as was acknowledged, is where it must be, and nowhere else.
    Leases:

    LostWrite LeaseGone { at: Anchor, lease: i64 }
        "{at}: lease {lease} was granted before the fence and never revoked, and is not there",
        at = at.around();

    LostWrite LeaseStillThere { at: Anchor, lease: i64 }
        "{at}: the revocation of lease {lease} was acknowledged before the fence, and the lease is \
         there",
        at = at.around();

    Phantom LeaseUnasked { at: Anchor, lease: i64 }
        "{at}: lease {lease} is there, and no client asked for it", at = at.around();

    Model LeaseOfAnotherTime { at: Anchor, lease: i64, ttl_seconds: i64, asked_seconds: i64 }
        "{at}: lease {lease} has a granted TTL of {ttl_seconds} s, {asked_seconds} s were asked \
         for", at = at.around();

    LostWrite RevocationRefused { lease: i64, answer: String }
        "lease {lease} was granted, and revoking it is refused: {answer}";

    Lease LeaseOverdue { lease: i64, ttl_seconds: i64, idle_ms: u64, bound_ms: u64 }
        "lease {lease} of {ttl_seconds} s was last asked for {idle_ms} ms ago, and its key is \
         still there: expected it to be gone after twice its time and {bound_ms} ms";

    Lease RenewedAfterRevocation { member: u64, request: Request, lease: i64, ttl_seconds: u64, after_ms: u64 }
        "n{member} answered {request} with a TTL of {ttl_seconds} s, {after_ms} ms after the \
         revocation of lease {lease} was acknowledged";

    /// `ended_ms`: when it was known to have ended, counted from when the request was sent.
    Lease LeaseEndedEarly {
        member: u64, request: Request, lease: i64, ttl_seconds: u64, ended_ms: i64, how: LeaseEnd,
    }
        "n{member} answered {request} with a TTL of {ttl_seconds} s for lease {lease}, {end}: \
         {how}",
        end = if *ended_ms < 0 {
            format!("though it had ended {} ms before that was sent", ended_ms.unsigned_abs())
        } else {
            format!("and it had ended {ended_ms} ms after that was sent")
        };
}
