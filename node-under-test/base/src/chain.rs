//! Errors with all their causes, in one line.

use std::error::Error;
use std::fmt::{self, Write as _};
use std::io;

/// The text of `error` and of what caused it, joined by ": ". A cause that its effect quotes
/// already is left out: not every library keeps the two apart.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            // Writing to a string cannot fail.
            let _ = write!(text, ": {said}");
        }
        cause = error.source();
    }
    text
}

/// An error whose text is its whole [`chain`], for carriers that print the text alone. The causes
/// stay reachable, so that a later reader can ask for their kinds.
#[derive(Debug)]
pub struct Chained<E>(pub E);

impl<E: Error + 'static> fmt::Display for Chained<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&chain(&self.0))
    }
}

impl<E: Error + 'static> Error for Chained<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

/// `error` as one of the system's, whose text is the whole chain.
pub fn io_error(error: impl Error + Send + Sync + 'static) -> io::Error {
    io::Error::other(Chained(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("opening")]
    struct Quiet(#[source] Quoting);

    #[derive(Debug, thiserror::Error)]
    #[error("reading: {0}")]
    struct Quoting(#[source] io::Error);

    #[test]
    fn each_cause_is_said_once() {
        let error = Quiet(Quoting(io::Error::other("no room")));
        assert_eq!(chain(&error), "opening: reading: no room");
        let error = io_error(error);
        assert_eq!(chain(&error), "opening: reading: no room");
        assert!(error.source().is_some_and(|cause| cause.is::<Quiet>()), "the cause is lost: {error:?}");
    }
}
