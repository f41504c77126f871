//! The fold over a stored history: its lines, recorded one after the other in a ledger of its own.
//!
//! The live run records its evidence in a ledger ([`Ledger::record`]); `verify` and `run --resume`
//! fold the stored evidence. Both go through the same judges in the same order, so they come to
//! equal books, which `verify` compares field by field.

use crate::judges::Ledger;
use ninelives_evidence::history::{self, GoOn, Lines};
use ninelives_evidence::signature::Signature;
use ninelives_evidence::{Evidence, HISTORY_VERSION, Head};
use std::path::Path;
use std::sync::Arc;

/// An error of a fold.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Unreadable(#[from] history::Error),
    #[error("{path}: expected a first line that says what the history is about, found none")]
    Headless { path: String },
    #[error(
        "{path} has version {version}, this binary reads {HISTORY_VERSION}: verify or resume it with the binary that wrote it"
    )]
    Version { path: String, version: u32 },
}

/// A history under way, and the ledger that has recorded it so far.
#[derive(Debug)]
pub struct Fold {
    lines: Lines,
    head: Head,
    ledger: Arc<Ledger>,
}

impl Fold {
    /// Opens the history at `path`, and records its first line. `known`: signatures of the
    /// scenario.
    ///
    /// # Errors
    /// The file cannot be read, or begins with no head of this version.
    pub fn open(path: &Path, known: &[Signature]) -> Result<Self, Error> {
        let mut lines = Lines::open(path)?;
        let named = || path.display().to_string();
        let Some((_, Evidence::History(head))) = lines.read()? else {
            return Err(Error::Headless { path: named() });
        };
        if head.version != HISTORY_VERSION {
            return Err(Error::Version { path: named(), version: head.version });
        }
        let ledger = Ledger::new(&head.slots);
        ledger.know(known);
        ledger.record_at(lines.at_us(), &Evidence::History(head.clone()));
        Ok(Self { lines, head, ledger })
    }

    pub fn head(&self) -> &Head {
        &self.head
    }

    pub fn ledger(&self) -> Arc<Ledger> {
        Arc::clone(&self.ledger)
    }

    /// Records the next line, and hands it on with its number; `None` at the end.
    ///
    /// # Errors
    /// As [`Lines::read`].
    pub fn step(&mut self) -> Result<Option<(u64, Evidence)>, history::Error> {
        let read = self.lines.read()?;
        if let Some((_, evidence)) = &read {
            self.ledger.record_at(self.lines.at_us(), evidence);
        }
        Ok(read)
    }

    /// Whether the last line was cut off.
    pub fn torn(&self) -> bool {
        self.lines.torn()
    }

    /// The place at which the history goes on, once all lines have been recorded.
    pub fn go_on(&self) -> GoOn {
        self.lines.go_on()
    }
}
