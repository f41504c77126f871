//! Which errors prove that a request was not done, and never will be. All others leave it unknown.
//!
//! Certain are:
//! - the connection could not be established, so nothing was sent (the transport does not retry a request);
//! - the client library refused the arguments, so nothing was sent;
//! - the server itself judged the request and said why: one of the codes below *and* a message that begins
//!   with `etcdserver: `, or gRPC's own of a request that is larger than the server takes. The code alone is not
//!   enough: the client's own transport also makes up `OutOfRange` (an answer too large to decode) and `InvalidArgument`.
//!
//! `Unavailable`, `DeadlineExceeded`, `Cancelled`, `Unknown`, `Internal`, `Aborted` and `DataLoss` never prove
//! anything, whatever they say: a proposal may have been replicated before its server failed.

use crate::operation::Outcome;
use etcd_client::Error;
use tonic::{Code, ConnectError, Status};

/// Codes with which the server rejects a request before or instead of applying it: malformed
/// (`InvalidArgument`); compacted or future revision (`OutOfRange`); no such lease (`NotFound`); lease exists
/// (`FailedPrecondition`, `AlreadyExists`); not allowed (`PermissionDenied`, `Unauthenticated`); not offered
/// (`Unimplemented`); too large or too many
/// (`ResourceExhausted`).
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

/// The outcome of a request that ended in `error`.
pub(super) fn outcome_of(error: &Error) -> Outcome {
    let why = error.to_string();
    match error {
        Error::GRpcStatus(status) => outcome_of_status(status),
        Error::InvalidArgs(_) | Error::InvalidUri(_) | Error::InvalidMetadataValue(_) => Outcome::Refused { why },
        _ => Outcome::Unknown { why },
    }
}

/// The outcome of a request that ended in `status`.
pub(super) fn outcome_of_status(status: &Status) -> Outcome {
    let why = format!("{:?}: {}", status.code(), status.message());
    if never_sent(status) || judged(status) { Outcome::Refused { why } } else { Outcome::Unknown { why } }
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
    fn a_refused_connection_sent_nothing() {
        let error = ConnectError(Box::new(std::io::Error::from(std::io::ErrorKind::ConnectionRefused)));
        assert!(certain(Status::from_error(Box::new(error))));
        let broken = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        assert!(!certain(Status::from_error(Box::new(broken))));
    }
}
