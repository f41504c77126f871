//! Room on the disk: writes stop before there is none.
//!
//! A member cannot go on after ENOSPC: a transaction that failed, a flush that failed and a sync
//! that failed are not tried again (the process ends, exit 74). So the disk must not become full
//! while there is something to write.
//!
//! 1. *A reserve.* With less than [`Space::reserve`] bytes free, a member is *short*, and says so
//!    with every message of raft (`node_raft`'s `space`). While any member that the leader hears
//!    from is short, requests that add data are refused by all, as etcd refuses them under its
//!    NOSPACE alarm; reads, deletes, compactions, revokes and membership changes go on.
//! 2. *The reserve covers what is under way*: proposals that were accepted before (their bytes are
//!    bounded), in the log and again in the engine, memtables that are still to be flushed, votes,
//!    N.
//! 3. *A ballast.* Another program may fill the disk faster than that. So the member keeps a file
//!    of a quarter of the reserve, and removes it when half of the reserve is gone.
//! 4. *It heals by itself.* With a quarter more than the reserve free the member is no longer
//!    short, and with twice the reserve it takes its ballast back. Between the two limits nothing
//!    changes, so that it does not waver.
//!
//! There is no timer: each question looks, but at most every [`LOOK_EVERY`]. Quotas of users are
//! not seen by the system call; they end the process like a full disk, with the same advice.

use crate::clock::{self, Moment};
use node_base::backend::Backend;
use node_base::chain::chain;
use node_base::durable;
use rustix::fs::{FallocateFlags, fallocate, statvfs};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// At a gigabyte a second, 10 MB can vanish between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Without a flag: an eighth of the filesystem, within these bounds. The upper one is what full
/// memtables, their flush and the log need at the default sizes, twice.
const RESERVE_BYTES: std::ops::RangeInclusive<u64> = 16 << 20..=256 << 20;
const BALLAST_BYTES_MAX: u64 = 16 << 20;

/// One filesystem's answer, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Room {
    free: u64,
    total: u64,
}

/// The room of one member's data directory.
pub struct Space {
    dir: PathBuf,
    reserve: u64,
    measure: Box<dyn Fn(&Path) -> io::Result<Room> + Send + Sync>,
    state: Mutex<State>,
}

struct State {
    looked: Option<Moment>,
    free: u64,
    short: bool,
    ballast: Ballast,
}

#[derive(Debug, PartialEq, Eq)]
enum Ballast {
    Held,
    Released,
    /// The filesystem cannot allocate ahead.
    Impossible,
}

impl Space {
    /// The room of `dir`, which exists. `reserve`: in bytes, 0 for none; by default it follows the
    /// size of the filesystem.
    ///
    /// Takes the ballast if there is room for it; if the disk is full, an earlier life's is
    /// released before anything is opened.
    ///
    /// # Errors
    /// The filesystem cannot be asked.
    pub fn claim(dir: &Path, reserve: Option<u64>) -> io::Result<Self> {
        Self::claim_with(dir, reserve, Box::new(room))
    }

    fn claim_with(
        dir: &Path,
        reserve: Option<u64>,
        measure: Box<dyn Fn(&Path) -> io::Result<Room> + Send + Sync>,
    ) -> io::Result<Self> {
        let total = measure(dir)?.total;
        let reserve = reserve.unwrap_or((total / 8).clamp(*RESERVE_BYTES.start(), *RESERVE_BYTES.end()));
        let held = ballast_path(dir).exists();
        let ballast = if held { Ballast::Held } else { Ballast::Released };
        let state = Mutex::new(State { looked: None, free: 0, short: false, ballast });
        let space = Self { dir: dir.to_owned(), reserve, measure, state };
        if reserve == 0 {
            // What an earlier life held back would be kept for nothing.
            space.release(&mut space.state.lock().unwrap_or_else(PoisonError::into_inner));
        }
        space.look(|_| ());
        Ok(space)
    }

    /// Bytes that are kept free.
    pub fn reserve(&self) -> u64 {
        self.reserve
    }

    /// True if requests that add data have to be refused.
    pub fn is_short(&self) -> bool {
        self.look(|state| state.short)
    }

    /// True if a file of so many bytes, made at once, would leave the reserve free.
    pub fn fits(&self, bytes: u64) -> bool {
        self.reserve == 0 || self.look(|state| state.free.saturating_sub(bytes) >= self.reserve)
    }

    /// # Errors
    /// The sentence says how many bytes more there would have to be.
    pub fn for_bytes(&self, bytes: u64) -> Result<(), String> {
        if self.fits(bytes) {
            return Ok(());
        }
        let reserve = self.reserve;
        Err(format!("expected room for {bytes} bytes beside the {reserve} that are kept free on the disk, found less"))
    }

    /// The same for an image of the state, or for a defragmented copy of it: of an engine whose
    /// images are copies.
    pub fn for_image(&self, engine: &dyn Backend) -> Result<(), String> {
        if !engine.images_are_copies() {
            return Ok(());
        }
        let size = engine.size().map_err(|error| chain(&error))?;
        self.for_bytes(size.in_use)
    }

    fn look<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = clock::now();
        if self.reserve > 0 && state.looked.is_none_or(|at| now >= at + LOOK_EVERY) {
            state.looked = Some(now);
            match (self.measure)(&self.dir) {
                Ok(room) => self.judge(&mut state, room.free),
                // It could be asked at start. What was known stays known.
                Err(error) => tracing::error!(%error, dir = %self.dir.display(), "cannot ask for the room on the disk"),
            }
        }
        read(&state)
    }

    fn judge(&self, state: &mut State, free: u64) {
        state.free = free;
        let was = state.short;
        state.short = if was { free < self.reserve + self.reserve / 4 } else { free < self.reserve };
        if state.short != was {
            let (free, reserve) = (free, self.reserve);
            if state.short {
                tracing::error!(free, reserve, "the disk is nearly full: writes are refused until there is room");
            } else {
                tracing::warn!(free, reserve, "there is room on the disk again: writes are taken");
            }
        }
        if state.ballast == Ballast::Held && free < self.reserve / 2 {
            self.release(state);
        } else if state.ballast == Ballast::Released && free >= self.reserve.saturating_mul(2) {
            self.take(state);
        }
    }

    fn release(&self, state: &mut State) {
        state.ballast = Ballast::Released;
        match std::fs::remove_file(ballast_path(&self.dir)) {
            Ok(()) => tracing::warn!("the ballast is released"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::error!(%error, "cannot release the ballast"),
        }
    }

    fn take(&self, state: &mut State) {
        let path = ballast_path(&self.dir);
        let bytes = (self.reserve / 4).min(BALLAST_BYTES_MAX);
        let taken = File::create(&path)
            .and_then(|file| fallocate(&file, FallocateFlags::empty(), 0, bytes).map_err(io::Error::from));
        state.ballast = match taken {
            Ok(()) => Ballast::Held,
            Err(error) => {
                // Part of one is of no use. Removing what could not be made may fail as well, and
                // costs nothing then.
                let _ = std::fs::remove_file(&path);
                if durable::is_full(&error) {
                    Ballast::Released
                } else {
                    tracing::warn!(%error, "no ballast: the filesystem cannot allocate ahead");
                    Ballast::Impossible
                }
            }
        };
    }
}

fn ballast_path(dir: &Path) -> PathBuf {
    dir.join("ballast")
}

fn room(dir: &Path) -> io::Result<Room> {
    let found = statvfs(dir)?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    Ok(Room { free: bytes(found.f_bavail), total: bytes(found.f_blocks) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    const MIB: u64 = 1 << 20;

    struct Rig {
        dir: tempfile::TempDir,
        free: Arc<AtomicU64>,
        space: Space,
    }

    fn claim(dir: &Path, free: u64, reserve: Option<u64>) -> (Arc<AtomicU64>, Space) {
        let free = Arc::new(AtomicU64::new(free));
        let measured = free.clone();
        let measure = move |_: &Path| Ok(Room { free: measured.load(Ordering::Relaxed), total: 128 * MIB });
        let space = Space::claim_with(dir, reserve, Box::new(measure)).unwrap();
        (free, space)
    }

    fn rig(free: u64) -> Rig {
        let dir = tempfile::tempdir().unwrap();
        let (free, space) = claim(dir.path(), free, None);
        Rig { dir, free, space }
    }

    impl Rig {
        /// Sets the free bytes; returns whether the member is then short, and whether it holds its
        /// ballast.
        fn at(&self, free: u64) -> (bool, bool) {
            self.free.store(free, Ordering::Relaxed);
            self.space.state.lock().unwrap().looked = None;
            (self.space.is_short(), ballast_path(self.dir.path()).exists())
        }
    }

    #[test]
    fn it_is_short_below_the_reserve_and_not_again_before_there_is_a_quarter_more() {
        let rig = rig(100 * MIB);
        assert_eq!(rig.space.reserve(), 16 * MIB);
        assert_eq!(rig.at(16 * MIB), (false, true));
        assert_eq!(rig.at(16 * MIB - 1), (true, true));
        assert_eq!(rig.at(20 * MIB - 1), (true, true));
        assert_eq!(rig.at(20 * MIB), (false, true));
        assert_eq!(rig.at(16 * MIB), (false, true));
    }

    #[test]
    fn the_ballast_goes_with_half_of_the_reserve_and_comes_back_with_twice_as_much() {
        let rig = rig(100 * MIB);
        let ballast = ballast_path(rig.dir.path()).metadata().unwrap();
        assert_eq!(ballast.len(), 4 * MIB);
        assert!(std::os::unix::fs::MetadataExt::blocks(&ballast) * 512 >= 4 * MIB, "allocated, not sparse");
        assert_eq!(rig.at(8 * MIB - 1), (true, false));
        assert_eq!(rig.at(31 * MIB), (false, false));
        assert_eq!(rig.at(32 * MIB), (false, true));
    }

    /// Recovery itself needs room: a ballast of an earlier life is given up before anything is
    /// opened.
    #[test]
    fn a_start_on_a_full_disk_releases_the_ballast_of_an_earlier_life() {
        let dir = tempfile::tempdir().unwrap();
        drop(claim(dir.path(), 100 * MIB, None));
        assert!(ballast_path(dir.path()).exists());
        let (_, space) = claim(dir.path(), 0, None);
        assert!(!ballast_path(dir.path()).exists() && space.is_short());
    }

    #[test]
    fn what_is_made_at_once_has_to_leave_the_reserve() {
        let rig = rig(100 * MIB);
        assert!(rig.space.fits(84 * MIB));
        assert!(!rig.space.fits(84 * MIB + 1));
    }

    #[test]
    fn no_reserve_is_never_short() {
        let dir = tempfile::tempdir().unwrap();
        drop(claim(dir.path(), 100 * MIB, None));
        let (_, space) = claim(dir.path(), 0, Some(0));
        assert!(!space.is_short() && space.fits(u64::MAX));
        assert!(!ballast_path(dir.path()).exists());
    }

    #[test]
    fn the_real_filesystem_answers() {
        let dir = tempfile::tempdir().unwrap();
        let found = room(dir.path()).unwrap();
        assert!(found.total > 0 && found.free <= found.total);
    }
}
