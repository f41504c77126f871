//! Standard output of the offline commands: it is their product, so a line that cannot be written
//! is an error.

use anyhow::Context;
use std::fmt::Display;
use std::io::{self, Write};

/// Writes `text` and a line feed.
///
/// # Errors
/// Standard output is closed, its reader is gone (`| head`), or its disk is full.
pub fn line(text: impl Display) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).context(FAILED)
}

/// First words of an error of standard output.
pub const FAILED: &str = "cannot write to standard output; what was printed is incomplete";
