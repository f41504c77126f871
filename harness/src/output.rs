//! Output of commands. The reader may be gone, and a stream may be full or closed: none of that
//! ends the program.
//!
//! Standard error is for human readers: if words cannot be written there, only the words are lost.
//! Standard output carries one of two things. A *product* is the purpose of the command (a plan, a
//! history, a help text): if it cannot be written, the command failed. A *summary* repeats the
//! report directory and the exit code: if it cannot be written, the exit code stays the verdict's.
//! A reader that has seen enough (`| head -1`) is never a failure.

use anyhow::Context;
use std::io::{self, ErrorKind, Write};

/// Says `text` on standard error.
pub fn say(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Prints a command's product.
///
/// # Errors
/// Standard output did not take all of it, for a reason other than that its reader went away.
pub fn product(text: &str) -> anyhow::Result<()> {
    delivered(print(text))
}

/// The delivery of a product: it is complete if its reader went away, because the reader had enough
/// of it.
///
/// # Errors
/// Any other trouble with standard output.
pub fn delivered(written: io::Result<()>) -> anyhow::Result<()> {
    match written {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error)
            .context("cannot write to standard output: free its disk, or send it elsewhere, and run this again"),
        _ => Ok(()),
    }
}

/// Prints the summary of what a report directory holds.
pub fn summary(text: &str) {
    if let Err(error) = delivered(print(text)) {
        say(&format!("note: {error:#}; the exit code is the verdict's all the same\n"));
    }
}

fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_reader_that_left_may_miss_a_product() {
        let trouble = |kind: ErrorKind| delivered(Err(io::Error::from(kind)));
        assert!(delivered(Ok(())).is_ok() && trouble(ErrorKind::BrokenPipe).is_ok());
        let error = format!("{:#}", trouble(ErrorKind::StorageFull).unwrap_err());
        assert!(error.starts_with("cannot write to standard output"), "{error}");
    }
}
