//! Which errors prove that a request was not done, and never will be. All others leave it unknown.
//!
//! Certain are:
//! - the connection could not be established, so nothing was sent (the transport does not retry a
//!   request);
//! - the client library refused the arguments, so nothing was sent;
//! - the server itself judged the request and said why: one of the codes below *and* a message that
//!   begins with `etcdserver: `, or gRPC's own of a request that is larger than the server takes.
//!   The code alone is not enough: the client's own transport also makes up `OutOfRange` (an answer
//!   too large to decode) and `InvalidArgument`.
//!
//! `Unavailable`, `DeadlineExceeded`, `Cancelled`, `Unknown`, `Internal`, `Aborted` and `DataLoss`
//! never prove anything, whatever they say: a proposal may have been replicated before its server
//! failed.

use crate::dial::in_words;
use etcd_client::Error;
use ninelives_evidence::operation::{Outcome, Reason};
use tonic::{Code, ConnectError, Status};

/// Codes with which the server rejects a request before or instead of applying it: malformed
/// (`InvalidArgument`); compacted or future revision (`OutOfRange`); no such lease (`NotFound`);
/// lease exists (`FailedPrecondition`, `AlreadyExists`); not allowed (`PermissionDenied`,
/// `Unauthenticated`); not offered (`Unimplemented`); too large or too many (`ResourceExhausted`).
const JUDGED: [Code; 9] = [
    Code::InvalidArgument,
    Code::OutOfRange,
    Code::NotFound,
    Code::FailedPrecondition,
    Code::AlreadyExists,
    Code::PermissionDenied,
    Code::Unauthenticated,
    Code::Unimplemented,
    Code::ResourceExhausted,
];

/// Characters of a refusal's text by which reasons are told apart.
const TEXT_CLASS_CHARS_MAX: usize = 120;

/// The outcome of a request that ended in `error`.
pub(super) fn outcome_of(error: &Error) -> Outcome {
    let why = error.to_string();
    match error {
        Error::GRpcStatus(status) => outcome_of_status(status),
        Error::InvalidArgs(_) | Error::InvalidUri(_) | Error::InvalidMetadataValue(_) => {
            Outcome::Refused { why, reason: Reason::NotSendable }
        }
        _ => Outcome::Unknown { why },
    }
}

/// The outcome of a request that ended in `status`.
pub(super) fn outcome_of_status(status: &Status) -> Outcome {
    let (code, why) = (format!("{:?}", status.code()), in_words(status));
    if never_sent(status) {
        Outcome::Refused { why, reason: Reason::NotSent }
    } else if judged(status) {
        Outcome::Refused { why, reason: Reason::Judged { code, text: text_class(status.message()) } }
    } else {
        Outcome::Unknown { why }
    }
}

/// The outcome of a request that no server takes in any state, and that ended in `status`. It was
/// not done and never will be, so any code of the server's own is a refusal, except those that
/// speak of the moment.
pub(super) fn outcome_of_unfit(status: &Status) -> Outcome {
    match outcome_of_status(status) {
        Outcome::Unknown { why } if !of_the_moment(status) && Outcome::is_servers_word(status.message()) => {
            let code = format!("{:?}", status.code());
            Outcome::Refused { why, reason: Reason::Judged { code, text: text_class(status.message()) } }
        }
        outcome => outcome,
    }
}

/// Whether a later try may be answered otherwise: an election, a timeout, a member that stops.
fn of_the_moment(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Aborted)
}

/// The words of a refusal without what differs from request to request, so that alike refusals
/// count together.
fn text_class(message: &str) -> String {
    let mut class = String::new();
    for c in message.chars().take(TEXT_CLASS_CHARS_MAX) {
        match c {
            _ if c.is_ascii_digit() && class.ends_with('#') => {}
            _ if c.is_ascii_digit() => class.push('#'),
            c => class.push(c),
        }
    }
    class
}

fn judged(status: &Status) -> bool {
    JUDGED.contains(&status.code()) && Outcome::is_servers_word(status.message())
}

fn never_sent(status: &Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if error.is::<ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certain(status: Status) -> bool {
        matches!(outcome_of(&Error::GRpcStatus(status)), Outcome::Refused { .. })
    }

    #[test]
    fn only_a_judgement_of_the_server_proves_absence() {
        assert!(certain(Status::out_of_range("etcdserver: mvcc: required revision has been compacted")));
        assert!(certain(Status::not_found("etcdserver: requested lease not found")));
        assert!(certain(Status::invalid_argument("etcdserver: duplicate key given in txn request")));
        assert!(certain(Status::resource_exhausted("grpc: received message larger than max (2098200 vs. 2097152)")));
        assert!(!certain(Status::resource_exhausted("carried out at revision 7, but the answer would hold too much")));
        assert!(!certain(Status::out_of_range("decoded message length too large: found 5 bytes")));
        for message in ["etcdserver: request timed out", "etcdserver: leader changed", "tcp connect error"] {
            assert!(!certain(Status::unavailable(message)), "{message}");
        }
        for code in [Code::Cancelled, Code::DeadlineExceeded, Code::Unknown, Code::Internal, Code::Aborted] {
            assert!(!certain(Status::new(code, "etcdserver: no")), "{code:?}");
        }
        assert!(!matches!(outcome_of(&Error::WatchError("x".into())), Outcome::Refused { .. }));
    }

    #[test]
    fn a_request_that_no_server_takes_is_refused_with_whatever_code() {
        let refused = |status: Status| matches!(outcome_of_unfit(&status), Outcome::Refused { .. });
        assert!(refused(Status::internal("etcdserver: no")) && refused(Status::unknown("etcdserver: no")));
        assert!(!refused(Status::unavailable("etcdserver: leader changed")));
        assert!(!refused(Status::internal("h2 protocol error")), "the transport's own");
    }

    #[test]
    fn alike_refusals_have_one_reason() {
        let reason = |message: &str| match outcome_of(&Error::GRpcStatus(Status::invalid_argument(message))) {
            Outcome::Refused { reason, .. } => reason.to_string(),
            other => panic!("{other:?}"),
        };
        let (one, other) = (reason("etcdserver: key 17 of 400 is bad"), reason("etcdserver: key 9 of 31 is bad"));
        assert_eq!(one, "InvalidArgument: etcdserver: key # of # is bad");
        assert_eq!(one, other);
        assert!(reason(&format!("etcdserver: {}", "x".repeat(9_999))).len() < 150);
    }

    #[test]
    fn a_refused_connection_sent_nothing() {
        let error = ConnectError(Box::new(std::io::Error::from(std::io::ErrorKind::ConnectionRefused)));
        assert!(certain(Status::from_error(Box::new(error))));
        let broken = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        assert!(!certain(Status::from_error(Box::new(broken))));
    }
}
