//! The tail of a history: its newest lines, in a file that is only appended to.

use super::frames::PART_BYTES;
use super::stream::TailStart;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

#[derive(Debug)]
pub(super) struct Tail {
    file: File,
    start: TailStart,
    /// The position at which its last whole line ends.
    whole: u64,
    /// It was said that there is enough for a frame.
    said: bool,
}

impl Tail {
    /// The tail in `file`, which is open for appending: from `start` on, up to `whole`.
    pub fn new(file: File, start: TailStart, whole: u64) -> Self {
        Self { file, start, whole, said: false }
    }

    /// Opens the file at `path` for appending.
    ///
    /// # Errors
    /// Those of opening a file.
    pub fn open(path: &Path) -> io::Result<File> {
        OpenOptions::new().create(true).append(true).open(path)
    }

    pub fn start(&self) -> TailStart {
        self.start
    }

    /// The position at which the last whole line ends.
    pub fn whole(&self) -> u64 {
        self.whole
    }

    /// Appends whole `lines` in one write, or cuts off the part of them that was written: the file
    /// ends with a whole line.
    ///
    /// # Errors
    /// Those of writing a file.
    pub fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let written = self.file.write_all(lines);
        match &written {
            Ok(()) => self.whole += lines.len() as u64,
            // The error of the write is the one to report.
            Err(_) => drop(self.file.set_len(self.start.head + self.whole - self.start.from)),
        }
        written
    }

    /// Whether there is enough for a frame since the last time that this was said.
    pub fn is_newly_full(&mut self) -> bool {
        let full = self.whole - self.start.from >= PART_BYTES as u64;
        full && !std::mem::replace(&mut self.said, full)
    }
}
