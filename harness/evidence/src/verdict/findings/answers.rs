//! Answers: each fits the state at its revision, and none is older than the revision that had been
//! acknowledged before.

use super::parts::{Floor, Reader, Request};
use crate::stretched::Stretched;

findings! {
    /// An answer says the same about the state as the model at its revision, and one order explains
    /// all answers.
    Answers:

    LostWrite RowMissing { by: Reader, key: String, written: u64 }
        "{by} does not return {key}, written at revision {written}";

    LostWrite RowTooOld { by: Reader, key: String, revision: u64, version: u64, revision_expected: u64, version_expected: u64 }
        "{by} returns {key} as of revision {revision}, version {version}; the history has revision \
         {revision_expected}, version {version_expected}";

    Model RowDiffers { by: Reader, key: String, revision: u64, version: u64, revision_expected: u64, version_expected: u64 }
        "{by} returns {key} as of revision {revision}, version {version}; the history has revision \
         {revision_expected}, version {version_expected}";

    Phantom RowUnknown { by: Reader, key: String, revision: u64 }
        "{by} returns {key} of revision {revision}, which is not there";

    Model DeletedTooLittle { by: Reader, key: String }
        "{by} deleted nothing, but {key} was there";

    LostWrite StillAttached { by: Reader, lease: i64, key: String }
        "{by} revoked lease {lease}, but {key} is still attached";

    /// `keys`: the first few that were compared.
    Model ComparisonHolds { by: Reader, keys: String }
        "{by} failed, but its comparison holds ({keys})";

    /// `broken`: the first comparison that does not hold.
    Model ComparisonFails { by: Reader, broken: String }
        "{by} found that all its comparisons hold, but {broken}";

    HarnessError FullReadUnjudged { revision: u64, oldest: u64, newest: u64 }
        "a full read at revision {revision} cannot be judged: the model knows {oldest} to {newest}";

    Model AnotherAnswer { member: u64, request: Request }
        "n{member} answered {request} as another kind of operation";

    Model CarriedOutBeyondLimits { member: u64, request: Request }
        "n{member} carried out {request}, which is beyond what any member takes: expected a \
         refusal";

    Model RefusedWithinLimits { member: u64, request: Request, answer: String }
        "n{member} refused {request}, which keeps every limit: expected an answer, found \
         {answer:?}";

    Linearizability StaleAnswer { member: u64, request: Request, revision: u64, floor: Floor }
        "n{member} answered {request}, which has to be linearizable, at revision {revision}, \
         though {floor} before it was sent, and that is there: stale";

    /// `after_ms`: from the beginning of the cut to the question.
    Model LostLeaderNamed { member: u64, leader: u64, fault: String, after_ms: u64, bound: Stretched }
        "n{member} names {leader} as the leader {after_ms} ms after `{fault}` cut it off from \
         every quorum: expected no leader after {bound}";

    /// `expected`: the codes that would be right.
    Model WrongRefusalCode { member: u64, request: Request, answer: String, code: String, expected: Vec<String> }
        "n{member} refused {request} with the code {code} ({answer:?}): expected {expected}, by \
         which clients know that it is the request's own fault",
        expected = expected.join(" or ");

    /// A member is behind what it acknowledged itself.
    Linearizability BehindItself { member: u64, request: Request, revision: u64, floor: Floor }
        "n{member} answered {request} as of revision {revision}, though {floor} before it was sent";

    Linearizability OwnRevisionRefused { member: u64, request: Request, answer: String, floor: Floor }
        "n{member} refused {request}: {answer}, though {floor} before it was sent";

    /// A read right after a fence, which asks a quorum.
    Linearizability StaleBehindFence { member: u64, revision: u64, fence_revision: u64 }
        "n{member} answered a linearizable read at revision {revision}, after the fence of \
         revision {fence_revision} was answered: stale";

    /// `last`: the last answer that has a place in the order; `next`: the one that has none;
    /// `beside`: the state before it, and what was open then.
    Linearizability NotLinearizable { key: String, ordered: u64, last: Option<String>, next: String, beside: String }
        "the history of {key} is not linearizable: {ordered} answers have an order{last}, but none \
         goes on to {next}; {beside}",
        last = last.as_ref().map_or_else(String::new, |last| format!(", the last of them {last}"));

    /// `why`: the bound of the search that was reached.
    NotProven LinearizabilityUnproven {
        key: String, why: String, next: String, judged: u64, answers: u64, beside: String,
    }
        "the linearizability of {key} is not proven to the end: {why} at the answer to {next}, \
         {judged} of {answers} answers since the last fence were judged; {beside}";
}
