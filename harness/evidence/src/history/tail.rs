//! The tail of a history: its newest lines, in a file that is only appended to.

use super::frames::PART_BYTES;
use super::stream::TailStart;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// Bytes of lines that wait to be written, at most, and a line more.
const WAITING_BYTES_MAX: usize = 64 << 10;

#[derive(Debug)]
pub(super) struct Tail {
    file: File,
    /// Whole lines that are to be written with the next ones.
    waiting: Vec<u8>,
    start: TailStart,
    /// The position at which its last whole line ends.
    whole: u64,
    /// It was said that there is enough for a frame.
    said: bool,
}

impl Tail {
    /// The tail in `file`, which is open for appending: from `start` on, up to `whole`.
    pub fn new(file: File, start: TailStart, whole: u64) -> Self {
        Self { file, waiting: Vec::new(), start, whole, said: false }
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

    /// Goes on in `file`, which holds what is behind `start`.
    pub fn replace(&mut self, file: File, start: TailStart) {
        (self.file, self.start, self.said) = (file, start, false);
    }

    /// Adds a line to those that wait. `json`: the object that it is, without `at_us`.
    pub fn push(&mut self, at_us: u64, json: &[u8]) {
        self.waiting.extend_from_slice(format!("{{\"at_us\":{at_us},").as_bytes());
        // An object begins with its brace.
        self.waiting.extend_from_slice(&json[1..]);
        self.waiting.push(b'\n');
    }

    /// [`Tail::write`], once enough wait.
    ///
    /// # Errors
    /// As there.
    pub fn write_if_many(&mut self) -> io::Result<()> {
        if self.waiting.len() < WAITING_BYTES_MAX { Ok(()) } else { self.write() }
    }

    /// Writes the lines that wait, in one write, or cuts off the part of them that was written: the
    /// file ends with a whole line.
    ///
    /// # Errors
    /// Those of writing a file.
    pub fn write(&mut self) -> io::Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let written = self.file.write_all(&self.waiting);
        match &written {
            Ok(()) => self.whole += self.waiting.len() as u64,
            // The error of the write is the one to report.
            Err(_) => drop(self.file.set_len(self.start.head + self.whole - self.start.from)),
        }
        self.waiting.clear();
        written
    }

    /// Whether there is enough for a frame since the last time that this was said.
    pub fn is_newly_full(&mut self) -> bool {
        let full = self.whole - self.start.from >= PART_BYTES as u64;
        full && !std::mem::replace(&mut self.said, full)
    }
}
