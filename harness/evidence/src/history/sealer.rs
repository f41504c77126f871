//! Sealing: lines move from a history's tail into its frames, on a thread of their own.
//!
//! Once the tail has lines for a frame, or the history ends, the thread
//!
//! - appends the frame of the oldest ones to the file of frames, in one write, and the next frame,
//!   while there are lines for one;
//! - writes the lines behind them to a new file, under a head with their position, and renames it
//!   over the tail.
//!
//! What records meanwhile waits for the rename, and for the copy of the lines that came since the
//! copying began; never for the compression.
//!
//! Claims:
//!
//! 1. A kill at any byte leaves every line in the tail, in a whole frame, or in both: the tail
//!    loses lines by the rename alone, and all of them are in whole frames by then.
//! 2. Frames hold what the tail holds in whole lines, and nothing else: no piece of a line that
//!    could not be written. A frame ends where a line ends, unless the line is longer than a frame.
//!
//! Neither file is synced, as lines are not: a power loss of this machine is out of scope.

use super::Shared;
use super::frames::{PART_BYTES, Packer};
use super::stream::{GoOn, TailHead, TailStart, frames_of};
use super::tail::Tail;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

/// The thread that seals. Dropping it seals all that there is, and waits for that.
#[derive(Debug)]
pub(super) struct Sealing {
    /// `None`: it is to end.
    full: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Sealing {
    /// Starts the thread for the history at `path`, which goes on at `at`.
    ///
    /// # Errors
    /// No thread can be started, or the compressor cannot allocate its memory.
    pub fn start(path: PathBuf, at: GoOn, shared: Arc<Shared>) -> io::Result<Self> {
        let sealer = Sealer::new(path, at)?;
        let (full, told) = sync_channel(1);
        let thread = thread::Builder::new().name("history".to_owned()).spawn(move || sealer.run(&shared, &told))?;
        Ok(Self { full: Some(full), thread: Some(thread) })
    }

    /// Says that there are lines for a frame.
    pub fn tell(&self) {
        // What was said before and not heard yet says the same; a thread that ended has said why.
        let _ = self.full.as_ref().map(|full| full.try_send(()));
    }
}

impl Drop for Sealing {
    fn drop(&mut self) {
        self.full = None;
        if let Some(thread) = self.thread.take() {
            // A panic leaves the lines in the tail, where they are as good.
            let _ = thread.join();
        }
    }
}

#[derive(Debug)]
pub(super) struct Sealer {
    path: PathBuf,
    /// The position at which the frames end, and the bytes of their file.
    sealed: u64,
    frames: u64,
    packer: Packer,
    part: Vec<u8>,
}

impl Sealer {
    pub fn new(path: PathBuf, at: GoOn) -> io::Result<Self> {
        Ok(Self { path, sealed: at.sealed, frames: at.frames, packer: Packer::new()?, part: Vec::new() })
    }

    fn run(mut self, shared: &Shared, told: &Receiver<()>) {
        loop {
            let ends = told.recv().is_err();
            if let Err(error) = self.seal(shared, ends) {
                return shared.failed.set(error);
            }
            if ends {
                return;
            }
        }
    }

    /// Seals the lines that fill a frame, or `all` of them.
    ///
    /// # Errors
    /// Those of reading and writing files.
    pub fn seal(&mut self, shared: &Shared, all: bool) -> io::Result<()> {
        let mut tail = File::open(&self.path)?;
        let (start, mut whole) = {
            let tail = shared.tail();
            (tail.start(), tail.whole())
        };
        while self.sealed < whole && (all || whole - self.sealed >= PART_BYTES as u64) {
            self.append_frame(&mut tail, start, whole)?;
            whole = shared.tail().whole();
        }
        if self.sealed == start.from {
            return Ok(());
        }
        self.replace_tail(tail, start, shared)
    }

    /// Appends the frame of the lines from where the frames end, at most up to `whole`.
    fn append_frame(&mut self, tail: &mut File, start: TailStart, whole: u64) -> io::Result<()> {
        seek(tail, start, self.sealed)?;
        let bytes = (whole - self.sealed).min(PART_BYTES as u64);
        self.part.resize(bytes as usize, 0);
        tail.read_exact(&mut self.part)?;
        if let Some(end) = self.part.iter().rposition(|byte| *byte == b'\n') {
            self.part.truncate(end + 1);
        }
        let frame = self.packer.frame(&self.part)?;
        let mut file = OpenOptions::new().create(true).append(true).open(frames_of(&self.path))?;
        if let Err(error) = file.write_all(&frame) {
            // The error of the write is the one to report. Readers take what is left of the frame
            // for one that was cut off.
            let _ = file.set_len(self.frames);
            return Err(error);
        }
        self.frames += frame.len() as u64;
        self.sealed += self.part.len() as u64;
        Ok(())
    }

    /// Makes a tail of the lines behind the frames.
    fn replace_tail(&self, mut old: File, start: TailStart, shared: &Shared) -> io::Result<()> {
        let mut path = self.path.clone().into_os_string();
        path.push(".new");
        let mut new = Tail::open(path.as_ref())?;
        // A kill may have left one.
        new.set_len(0)?;
        let mut head = serde_json::to_vec(&TailHead { sealed_bytes: self.sealed })?;
        head.push(b'\n');
        new.write_all(&head)?;
        seek(&mut old, start, self.sealed)?;
        let until = shared.tail().whole();
        let copied = io::copy(&mut (&old).take(until - self.sealed), &mut new)?;
        let mut tail = shared.tail();
        io::copy(&mut (&old).take(tail.whole() - self.sealed - copied), &mut new)?;
        fs::rename(&path, &self.path)?;
        let start = TailStart { from: self.sealed, head: head.len() as u64 };
        tail.replace(new, start);
        Ok(())
    }
}

/// Goes to `position` in the tail that begins at `start`.
fn seek(tail: &mut File, start: TailStart, position: u64) -> io::Result<()> {
    tail.seek(SeekFrom::Start(start.head + position - start.from)).map(drop)
}
