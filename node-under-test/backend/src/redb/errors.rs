//! redb's errors, as the seam has them.

use node_base::backend::{BackendError, BackendErrorKind};
use node_base::chain::chain;
use node_base::durable;
use redb::Error;
use std::io;

/// An error of redb; one of the system under it keeps its number.
pub(super) fn failed(error: impl Into<Error>) -> BackendError {
    match error.into() {
        // A file that is not redb's, or is too short, comes as an error of the system.
        Error::Io(error) if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) => {
            BackendError::corrupt("redb").because(error)
        }
        Error::Io(error) => BackendError::io("redb", error),
        error => BackendError::new(kind_of(&error), "redb").because(error),
    }
}

fn kind_of(error: &Error) -> BackendErrorKind {
    match error {
        Error::Corrupted(_)
        | Error::TableTypeMismatch { .. }
        | Error::TypeDefinitionChanged { .. }
        | Error::TableIsMultimap(_)
        | Error::TableDoesNotExist(_) => BackendErrorKind::Corrupt,
        Error::Io(_) | Error::Backend(_) | Error::PreviousIo => BackendErrorKind::Io,
        Error::DatabaseClosed | Error::LockPoisoned(_) | Error::TransactionPoisoned => BackendErrorKind::Closed,
        _ => BackendErrorKind::Refused,
    }
}

/// The operator's next step when a file does not open for `error`.
pub(super) fn next_step(error: &BackendError) -> &'static str {
    durable::remedy(&chain(error)).unwrap_or(match error.kind() {
        BackendErrorKind::Io => "check the disk, then start again",
        BackendErrorKind::Refused => "stop the process that has it open, or start the version that made it",
        BackendErrorKind::Corrupt | BackendErrorKind::Closed => {
            "redb never leaves that behind after a kill: restore the file from a backup, or remove this member and add it \
             again under a new id"
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Advice to remove a member fits damage alone.
    #[test]
    fn only_damage_costs_a_member() {
        let of_system = |errno| failed(io::Error::from_raw_os_error(errno));
        for (error, kind, removes) in [
            (of_system(28), BackendErrorKind::Io, false),
            (of_system(5), BackendErrorKind::Io, false),
            (failed(Error::DatabaseAlreadyOpen), BackendErrorKind::Refused, false),
            (failed(Error::Corrupted("a page".into())), BackendErrorKind::Corrupt, true),
            (failed(io::Error::from(io::ErrorKind::InvalidData)), BackendErrorKind::Corrupt, true),
        ] {
            assert_eq!(error.kind(), kind, "{error:?}");
            assert_eq!(next_step(&error).contains("remove this member"), removes, "{error:?}");
        }
    }
}
