//! Failures of a storage engine: the kind, what was being done, and the cause.

use crate::chain::{Chained, chain};
use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;

/// Kind of a failure: the state that it leaves the engine in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackendErrorKind {
    /// The stored data is damaged, incomplete, or not this program's.
    Corrupt,
    /// The system or the disk did not do what it was asked for.
    Io,
    /// The call does not fit the options or the state of the engine, and changed nothing.
    Refused,
    /// The database is closed, or cannot be used any more in this life of the process.
    Closed,
}

/// A storage engine failed. There is no retry: the caller ends the process, because an engine that
/// failed once (above all at a sync) can no longer say what is durable.
///
/// Its text says what was being done; [`chain`](crate::chain::chain()) adds the causes.
#[derive(Debug, Clone)]
pub struct BackendError {
    kind: BackendErrorKind,
    what: String,
    /// Shared, because a view that could not be opened tells all its readers.
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl BackendError {
    pub fn new(kind: BackendErrorKind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), source: None }
    }

    pub fn corrupt(what: impl Into<String>) -> Self {
        Self::new(BackendErrorKind::Corrupt, what)
    }

    pub fn refused(what: impl Into<String>) -> Self {
        Self::new(BackendErrorKind::Refused, what)
    }

    pub fn closed(what: impl Into<String>) -> Self {
        Self::new(BackendErrorKind::Closed, what)
    }

    /// Names what the system refused to do.
    pub fn io(what: impl Into<String>, source: io::Error) -> Self {
        Self::new(BackendErrorKind::Io, what).because(source)
    }

    /// Names the cause.
    #[must_use]
    pub fn because(self, source: impl Error + Send + Sync + 'static) -> Self {
        Self { source: Some(Arc::new(source)), ..self }
    }

    /// Says in what larger task it failed.
    #[must_use]
    pub fn during(self, task: impl fmt::Display) -> Self {
        Self { what: format!("{task}: {}", self.what), ..self }
    }

    /// Says what failed, why, and last what to do about it.
    #[must_use]
    pub fn advising(self, task: impl fmt::Display, next: &str) -> Self {
        let why = self.source.as_deref().map_or_else(|| self.what.clone(), |source| chain(source));
        Self { what: format!("{task}: {why}; {next}"), ..self }
    }

    pub fn kind(&self) -> BackendErrorKind {
        self.kind
    }
}

/// Whether `error`, or a cause of it, is an engine's that says that the stored data is damaged.
pub fn is_damage(error: &(dyn Error + 'static)) -> bool {
    let mut causes = std::iter::successors(Some(error), |cause| (**cause).source());
    causes
        .any(|cause| cause.downcast_ref::<BackendError>().is_some_and(|error| error.kind == BackendErrorKind::Corrupt))
}

impl fmt::Display for BackendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "storage engine: {}", self.what)
    }
}

impl Error for BackendError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        let source = self.source.as_deref()?;
        Some(source)
    }
}

/// Its text has the whole chain.
impl From<BackendError> for io::Error {
    fn from(error: BackendError) -> Self {
        io::Error::other(Chained(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file system's own words are no sign of damage, and no carrier takes the kind away.
    #[test]
    fn damage_is_told_by_its_kind_through_every_carrier() {
        let damaged = BackendError::corrupt("a page").during("reading");
        assert!(is_damage(&damaged) && is_damage(&io::Error::from(damaged)));
        let of_words = BackendError::io("DB corrupted", io::Error::other("Corruption: corrupt state: "));
        assert!(!is_damage(&of_words) && !is_damage(&io::Error::from(of_words)));
    }

    /// A full disk is told from damage by the cause alone, so no layer may drop it.
    #[test]
    fn the_cause_survives_every_carrier() {
        let full = || BackendError::io("redb", io::Error::from_raw_os_error(28)).during("cannot open db");
        let text = "storage engine: cannot open db: redb: No space left on device (os error 28)";
        assert_eq!(chain(&full()), text);
        assert_eq!(chain(&full().clone()), text);
        assert_eq!(io::Error::from(full()).to_string(), text);
        let error = full();
        let source = error.source().and_then(<dyn Error>::downcast_ref::<io::Error>);
        assert_eq!(source.and_then(io::Error::raw_os_error), Some(28));
        assert_eq!(error.kind(), BackendErrorKind::Io);
        let advice = "storage engine: cannot open db: No space left on device (os error 28); make room";
        assert_eq!(chain(&error.advising("cannot open db", "make room")), advice);
    }
}
