//! The disk that a mount pretends to have, and what is wrong with it.
//!
//! *Full.* From some moment on it has so many bytes left, and not what the disk below has. What is
//! written beyond that gets ENOSPC, after the part that fits; so does a file or directory that is
//! made, and room that is asked for in advance. What a file gives back (removed, cut short) is
//! there again. Bytes that have a place on the disk already can be written over, as on a real one.
//! `statfs` tells what is left.
//!
//! *A sync that fails.* The next sync of a file gets EIO, once. What it was to make durable may
//! stay to be made durable by a later one; or it counts as written, as in Linux's page cache after
//! an error, and no later sync makes it durable.
//!
//! *Reads and writes that fail, and short writes*: see `failing`.
//!
//! *Slow.* Each sync of a file takes longer. A sync covers what came before it was asked for, and
//! not what comes while it is delayed.
//!
//! Claims:
//! 1. A disk without an ailment changes nothing.
//! 2. While it is full, files grow by no more than what was left and what was given back, in
//!    blocks.
//! 3. The account says how often an operation met the ailment: a fault that was not met proves
//!    nothing.

pub(super) mod room;

use super::delayed::Delayed;
use super::failing::{Access, Failing, Fate, Short};
use super::point::Class;
use crate::seed::Stream;
use crate::timer;
use fuser::Errno;
use ninelives_evidence::ended::Ended;
use ninelives_evidence::verdict::findings::parts::{EXIT_NOT_STARTED, EXIT_STORAGE};
use room::Full;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::watch;

type Done<T> = Result<T, Errno>;

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Disk {
    state: Mutex<State>,
    /// The file whose sync failed, since this was asked for.
    failed: watch::Sender<Option<PathBuf>>,
    /// The file of the first read or write that failed, since this was asked for.
    refused: watch::Sender<Option<PathBuf>>,
    /// Delayed syncs, and how many of them are being carried out.
    delayed: Delayed,
}

#[derive(Debug, Default)]
struct State {
    full: Option<Full>,
    /// The next sync of a file fails; `true`: what it was for counts as written.
    sync_fails: Option<bool>,
    failing: Option<Failing>,
    short: Option<Short>,
    slow: Option<Slow>,
    /// In this life the member was given an error that it is not asked to survive.
    may_end: bool,
    /// In this life the member was told that there is no room.
    refused_room: bool,
    /// In this life a write of the member failed, or was cut short.
    wrote_less: bool,
}

#[derive(Debug)]
struct Slow {
    by_ms: u64,
    draws: Stream,
    /// Where delays are waited for.
    runtime: Handle,
    met: u64,
}

/// A disk with an ailment; it is well again when this is dropped.
#[derive(Debug)]
pub struct Ailing {
    disk: Arc<Disk>,
    what: Kind,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Full,
    FailsSync,
    Fails,
    Shortens,
    Slow,
}

impl Ailing {
    /// How many operations have met it.
    pub fn met(&self) -> u64 {
        match self.what {
            Kind::Full => self.disk.state().full.as_ref().map_or(0, |full| full.met),
            Kind::FailsSync => u64::from(self.disk.failed.borrow().is_some()),
            Kind::Fails => self.disk.state().failing.as_ref().map_or(0, |failing| failing.met),
            Kind::Shortens => self.disk.state().short.as_ref().map_or(0, |short| short.met),
            Kind::Slow => self.disk.state().slow.as_ref().map_or(0, |slow| slow.met),
        }
    }

    /// The file of the first operation that failed, as soon as one has.
    pub fn failed(&self) -> watch::Receiver<Option<PathBuf>> {
        match self.what {
            Kind::Fails => self.disk.refused.subscribe(),
            Kind::Full | Kind::FailsSync | Kind::Shortens | Kind::Slow => self.disk.failed.subscribe(),
        }
    }
}

impl Drop for Ailing {
    fn drop(&mut self) {
        match self.what {
            Kind::Full => self.disk.state().full = None,
            Kind::FailsSync => self.disk.state().sync_fails = None,
            Kind::Fails => self.disk.state().failing = None,
            Kind::Shortens => self.disk.state().short = None,
            Kind::Slow => {
                self.disk.state().slow = None;
                self.disk.delayed.end();
            }
        }
    }
}

impl Disk {
    /// Leaves only so many bytes on it; none at all is more than a member is asked to survive.
    pub fn fill(self: &Arc<Self>, left: u64) -> Ailing {
        self.state().full = Some(Full { left, mortal: left == 0, met: 0 });
        Ailing { disk: Arc::clone(self), what: Kind::Full }
    }

    /// Has each sync take up to `by_ms` longer, by the `draws`. Callers are within a tokio runtime.
    pub fn slow(self: &Arc<Self>, by_ms: u64, draws: Stream) -> Ailing {
        self.state().slow = Some(Slow { by_ms, draws, runtime: Handle::current(), met: 0 });
        Ailing { disk: Arc::clone(self), what: Kind::Slow }
    }

    /// Does `sync`, later if the disk is slow.
    pub(super) fn sync(self: &Arc<Self>, sync: impl FnOnce() + Send + 'static) {
        let delay = self.state().slow.as_mut().map(|slow| {
            slow.met += 1;
            (Duration::from_millis(slow.draws.between(0, slow.by_ms)), slow.runtime.clone())
        });
        let Some((delay, runtime)) = delay else { return sync() };
        let number = self.delayed.add(Box::new(sync));
        let disk = Arc::clone(self);
        runtime.spawn(async move {
            timer::sleep(delay).await;
            // It may wait for the disk below.
            let _ = tokio::task::spawn_blocking(move || disk.delayed.carry_out(number)).await;
        });
    }

    /// Waits until no delayed sync is left; those that are still delayed are carried out now.
    pub(super) fn settle(&self) {
        self.delayed.end();
    }

    /// Has the next sync of a file fail, once. `losing`: what it was for counts as written.
    pub fn fail_sync(self: &Arc<Self>, losing: bool) -> Ailing {
        self.failed.send_replace(None);
        self.state().sync_fails = Some(losing);
        Ailing { disk: Arc::clone(self), what: Kind::FailsSync }
    }

    /// Has the `hit`-th such operation from now on fail; unless `once`, all that come after it fail
    /// as well. `draws`: the parts of writes that are in the file all the same.
    pub fn fail(self: &Arc<Self>, access: Access, (hit, once): (u64, bool), draws: Stream) -> Ailing {
        self.refused.send_replace(None);
        self.state().failing = Some(Failing { access, hit, once, draws, passed: 0, met: 0 });
        Ailing { disk: Arc::clone(self), what: Kind::Fails }
    }

    /// Has each such write be carried out in part, by the `draws`.
    pub fn shorten(self: &Arc<Self>, access: Access, draws: Stream) -> Ailing {
        self.state().short = Some(Short { access, draws, met: 0 });
        Ailing { disk: Arc::clone(self), what: Kind::Shortens }
    }

    /// What becomes of a read or a write of `length` bytes. `path`: the file's, without a name
    /// nothing.
    pub(super) fn fate(&self, reads: bool, length: u64, path: impl FnOnce() -> Option<PathBuf>) -> Fate {
        {
            let state = self.state();
            if state.failing.is_none() && state.short.is_none() {
                return Fate::Whole;
            }
        }
        let Some(path) = path() else { return Fate::Whole };
        let Some(class) = Class::of(&path) else { return Fate::Whole };
        let fate = self.state().meet(Access { class, reads }, length);
        if matches!(fate, Fate::Fails(_)) {
            self.refused.send_if_modified(|first| {
                let is_first = first.is_none();
                first.get_or_insert(path);
                is_first
            });
        }
        fate
    }

    /// Whether a write of this life failed or was cut short.
    pub fn wrote_less(&self) -> bool {
        self.state().wrote_less
    }

    /// Whether this sync of a file fails, and then whether what it was for counts as written.
    /// `path`: the file's, without a name nothing.
    pub(super) fn fails_sync(&self, path: impl FnOnce() -> Option<PathBuf>) -> Option<bool> {
        let losing = {
            let mut state = self.state();
            let losing = state.sync_fails.take()?;
            state.may_end = true;
            losing
        };
        self.failed.send_replace(Some(path().unwrap_or_default()));
        Some(losing)
    }

    /// A new life of the member begins.
    pub fn begin_life(&self) {
        let mut state = self.state();
        (state.may_end, state.refused_room, state.wrote_less) = (false, false, false);
    }

    /// Whether this life may end so, because of an error that it was given. `served`: it had been
    /// serving.
    pub fn excuses(&self, ended: Ended, served: bool) -> bool {
        let documented = match ended {
            Ended::Exited(EXIT_STORAGE) => true,
            Ended::Exited(EXIT_NOT_STARTED) => !served,
            _ => false,
        };
        documented && self.state().may_end
    }

    /// True if this disk, and not the machine, refused this life room.
    pub fn refused_room(&self) -> bool {
        self.state().refused_room
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn meet(&mut self, access: Access, length: u64) -> Fate {
        let fails = self.failing.as_mut().map_or(Fate::Whole, |failing| failing.meet(access, length));
        let fate = match (fails, &mut self.short) {
            (Fate::Whole, Some(short)) => short.meet(access, length),
            (fails, _) => fails,
        };
        self.may_end |= matches!(fate, Fate::Fails(_));
        self.wrote_less |= fate != Fate::Whole && !access.reads;
        fate
    }
}
