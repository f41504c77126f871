//! Errors of a request, in etcd's own words, and errors of the store.
//!
//! Clients match these strings and codes, so they are etcd's to the letter.

use node_base::backend::{self, BackendError, BackendErrorKind};
use node_base::chain::chain;
use node_proto::command::Failure;
use tonic::{Code, Status};

/// A request that was understood and refused; nothing changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Rejection {
    pub code: Code,
    pub message: &'static str,
}

macro_rules! rejections {
    ($($name:ident = $code:ident, $message:literal;)*) => {
        impl Rejection {
            $(pub const $name: Rejection = Rejection { code: Code::$code, message: $message };)*
        }
    };
}

rejections! {
    EMPTY_KEY = InvalidArgument, "etcdserver: key is not provided";
    KEY_NOT_FOUND = InvalidArgument, "etcdserver: key not found";
    VALUE_PROVIDED = InvalidArgument, "etcdserver: value is provided";
    LEASE_PROVIDED = InvalidArgument, "etcdserver: lease is provided";
    TOO_MANY_OPS = InvalidArgument, "etcdserver: too many operations in txn request";
    DUPLICATE_KEY = InvalidArgument, "etcdserver: duplicate key given in txn request";
    INVALID_SORT_OPTION = InvalidArgument, "etcdserver: invalid sort option";
    REQUEST_TOO_LARGE = InvalidArgument, "etcdserver: request is too large";
    MALFORMED = InvalidArgument, "etcdserver: the command cannot be decoded, or is of another version";
    INVALID_COMPARE = InvalidArgument, "etcdserver: invalid compare in txn request: unknown result or target";
    TOO_MANY_KEYS = ResourceExhausted,
        "etcdserver: the transaction compares or deletes more keys than one request may pass by";
    ANSWER_TOO_LARGE = ResourceExhausted,
        "etcdserver: the answer would be too large: ask for fewer keys, with a limit, or for keys only";
    TOO_MANY_REQUESTS = ResourceExhausted, "etcdserver: too many requests";
    COMPACTED = OutOfRange, "etcdserver: mvcc: required revision has been compacted";
    FUTURE_REVISION = OutOfRange, "etcdserver: mvcc: required revision is a future revision";
    LEASE_NOT_FOUND = NotFound, "etcdserver: requested lease not found";
    LEASE_EXISTS = FailedPrecondition, "etcdserver: lease already exists";
    MEMBER_NOT_FOUND = NotFound, "etcdserver: member not found";
    MEMBER_NOT_LEARNER = FailedPrecondition, "etcdserver: can only promote a learner member";
    LEARNER_NOT_READY = FailedPrecondition,
        "etcdserver: can only promote a learner member which is in sync with leader";
    PEER_URL_EXISTS = FailedPrecondition, "etcdserver: Peer URLs already exists";
    MEMBER_BAD_URLS = InvalidArgument, "etcdserver: given member URLs are invalid";
    NOT_ENOUGH_STARTED = FailedPrecondition,
        "etcdserver: re-configuration failed due to not enough started members";
    LEASE_TTL_TOO_LARGE = OutOfRange, "etcdserver: too large lease TTL";
}

impl From<Rejection> for Failure {
    fn from(rejection: Rejection) -> Self {
        Failure { code: rejection.code as i32, message: rejection.message.to_owned() }
    }
}

impl From<Rejection> for Status {
    fn from(rejection: Rejection) -> Self {
        Status::new(rejection.code, rejection.message)
    }
}

pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The engine failed; the apply thread must end the process.
    #[error(transparent)]
    Engine(#[from] BackendError),
    /// The engine or the log holds bytes that this program cannot have written.
    #[error("corrupt state: {0}")]
    Corrupt(String),
}

/// Whether `error`, or a cause of it, says that stored data is damaged: the engine's kind, or that
/// of the state above it.
pub fn is_damage(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut causes = std::iter::successors(Some(error), |cause| (**cause).source());
    causes.any(|cause| match cause.downcast_ref::<Error>() {
        Some(Error::Corrupt(_)) => true,
        Some(Error::Engine(engine)) => backend::is_damage(engine),
        Some(Error::Rejected(_)) => false,
        None => backend::is_damage(cause),
    })
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        match &error {
            Error::Rejected(rejection) => (*rejection).into(),
            // Another member can answer.
            Error::Engine(engine) if engine.kind() == BackendErrorKind::Closed => Status::unavailable(chain(engine)),
            Error::Engine(_) | Error::Corrupt(_) => Status::internal(chain(&error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use node_base::chain::io_error;
    use std::io;

    /// Damage costs the member, so it is never told by the words of an error, and no carrier takes
    /// its kind away.
    #[test]
    fn damage_is_told_by_kinds() {
        let engine = || BackendError::corrupt("a page");
        for damage in [Error::Corrupt("a row".to_owned()), Error::Engine(engine())] {
            assert!(is_damage(&damage), "{damage:?}");
            assert!(is_damage(&io_error(damage)));
        }
        assert!(is_damage(&io_error(engine())));
        let words = "Corruption: DB corrupted, corrupt state: a row";
        for other in [Error::Engine(BackendError::io(words, io::Error::other(words))), Rejection::COMPACTED.into()] {
            assert!(!is_damage(&other) && !is_damage(&io_error(other)));
        }
    }
}
