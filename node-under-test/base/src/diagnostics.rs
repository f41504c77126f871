//! Words for people, on standard error. They can be lost, and they never end or hold up the
//! process.
//!
//! 1. *A line that cannot be written is lost*, and counted: the log's disk is full, or its reader
//!    is gone. `eprintln!` would panic there, and so does the fallback of `tracing` when its own
//!    writer fails.
//! 2. *A reader that stands still is waited for once*, for [`PATIENCE`]. Until it reads again,
//!    lines that do not fit are lost at once, so that no thread of raft waits behind a pipe.
//! 3. *The next line that can be written says how many were lost.*
//!
//! Lines go out in pieces of at most `PIPE_BUF` bytes, each after `poll` has promised room for it;
//! a pipe takes such a piece whole. Only another writer of the same pipe can take that room away in
//! between.

use crate::sabotage::{Bug, planted};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::fmt;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::{Mutex, PoisonError};

/// Time that a line waits for a reader that does not keep up.
const PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
/// Bytes that a pipe takes whole once it is writable (`PIPE_BUF`).
const PIECE_BYTES: usize = 4096;

static STATE: Mutex<State> = Mutex::new(State { lost: 0, unsaid: 0, stalled: false });

struct State {
    /// Lines that were lost since the process began.
    lost: u64,
    /// Of these, the ones that no line has told of yet.
    unsaid: u64,
    /// The reader did not read within [`PATIENCE`].
    stalled: bool,
}

/// Writes a line to standard error, or loses it.
#[macro_export]
macro_rules! say {
    ($($arg:tt)*) => { $crate::diagnostics::line(::std::format_args!($($arg)*)) };
}

/// Writes `text` and a line feed; see [`say!`](crate::say).
pub fn line(text: fmt::Arguments<'_>) {
    write_line(format!("{text}\n").as_bytes());
}

/// Number of lines that were lost since the process began.
pub fn lost() -> u64 {
    state().lost
}

/// Standard error as a writer that never fails, for the subscriber of `tracing`, which hands over
/// whole lines.
#[derive(Debug, Clone, Copy, Default)]
pub struct Lines;

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        write_line(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Makes a panic's message a diagnostic like any other.
pub fn catch_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("unnamed");
        say!("thread {name:?} panicked: {panic}\n{}", std::backtrace::Backtrace::capture());
    }));
}

fn state() -> std::sync::MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn write_line(bytes: &[u8]) {
    state().write_to(&io::stderr(), bytes);
}

impl State {
    /// `out` is used through its descriptor alone: no buffer, no lock but this one.
    fn write_to(&mut self, out: &impl AsFd, line: &[u8]) {
        let told = match self.unsaid {
            0 => Ok(()),
            lost => self.write_all(out, format!("({lost} diagnostics before this one were lost)\n").as_bytes()),
        };
        if told.is_ok() {
            self.unsaid = 0;
        }
        if told.and_then(|()| self.write_all(out, line)).is_err() {
            if planted(Bug::LostLineEndsMember) && self.lost == 2 {
                std::process::exit(101);
            }
            self.lost += 1;
            self.unsaid += 1;
        }
    }

    fn write_all(&mut self, out: &impl AsFd, bytes: &[u8]) -> io::Result<()> {
        for piece in bytes.chunks(PIECE_BYTES) {
            let mut rest = piece;
            while !rest.is_empty() {
                self.wait(out)?;
                match rustix::io::write(out, rest) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(count) => rest = &rest[count..],
                    Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    /// Waits until `out` takes a piece, or fails at once if it is not the first time that it does
    /// not.
    fn wait(&mut self, out: &impl AsFd) -> io::Result<()> {
        let patience = if self.stalled { AT_ONCE } else { PATIENCE };
        let mut polled = [PollFd::new(out, PollFlags::OUT)];
        let ready = loop {
            match poll(&mut polled, Some(&patience)) {
                Err(rustix::io::Errno::INTR) => {}
                ready => break ready?,
            }
        };
        self.stalled = ready == 0;
        if self.stalled { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Read;

    fn fresh() -> State {
        State { lost: 0, unsaid: 0, stalled: false }
    }

    #[test]
    fn a_full_disk_and_a_reader_that_is_gone_lose_the_line_and_no_more() {
        let mut state = fresh();
        let full = File::options().write(true).open("/dev/full").unwrap();
        state.write_to(&full, b"lost\n");
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        state.write_to(&writer, b"lost as well\n");
        assert_eq!((state.lost, state.unsaid), (2, 2));
    }

    /// The writer would wait for ever behind a pipe that is full: this test then never ends.
    #[test]
    fn a_reader_that_stands_still_holds_nobody_up() {
        let mut state = fresh();
        let (mut reader, writer) = io::pipe().unwrap();
        let line = [b'x'; 1000];
        let mut written = 0_usize;
        while state.lost == 0 {
            state.write_to(&writer, &line);
            written += 1;
        }
        state.write_to(&writer, &line);
        assert_eq!((state.lost, state.stalled), (2, true));
        let mut all = vec![0; (written - 1) * line.len()];
        reader.read_exact(&mut all).unwrap();
        state.write_to(&writer, b"back\n");
        drop(writer);
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "(2 diagnostics before this one were lost)\nback\n");
        assert_eq!((state.lost, state.unsaid), (2, 0));
    }

    #[test]
    fn a_long_line_arrives_whole() {
        let mut state = fresh();
        let (mut reader, writer) = io::pipe().unwrap();
        let line: Vec<u8> = (0..3 * PIECE_BYTES + 7).map(|place| place as u8).collect();
        state.write_to(&writer, &line);
        drop(writer);
        let mut all = Vec::new();
        reader.read_to_end(&mut all).unwrap();
        assert_eq!((all, state.lost), (line, 0));
    }
}
