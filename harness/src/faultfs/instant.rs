//! The instant of a power loss, kept: all that it takes to make other crash states of it than the
//! one that the cut left.
//!
//! ```text
//!   keep(live directory, graves, changes) ──▶ AT/live, AT/graves, and the log of changes
//!   materialise(crash state, TO) ──▶ a copy of both in TO, with the lost changes taken back
//! ```
//!
//! 1. What it makes of the cut's own crash state is what the cut left.
//! 2. Making a state changes nothing that was kept: SSTs that lose nothing are shared by hard link,
//!    because they never change, and all else is copied.

use super::crash::Crash;
use super::effect::{Digest, Effects};
use super::tree::by_descriptor;
use super::unsynced::{Ino, Unsynced};
use super::walked::{Numbers, Walked};
use crate::directory;
use crate::seed::Stream;
use crate::subject::node::BALLAST;
use anyhow::Context;
use ninelives_evidence::power::{Lost, Names};
use rustix::fd::OwnedFd;
use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// See the module's documentation.
#[derive(Debug)]
pub struct Instant {
    dir: PathBuf,
    numbers: Numbers,
    unsynced: Unsynced,
    /// The crash state that the cut left.
    crash: Crash,
    /// What was kept, once it is read.
    effects: Mutex<Option<Arc<Effects>>>,
}

/// A crash state as a directory.
#[derive(Debug)]
pub struct State {
    pub data_dir: PathBuf,
    pub lost: Lost,
}

impl Instant {
    /// Keeps the directory below `root`, its `graves`, and the changes in it, in `dir`.
    pub(super) fn keep(
        (root, graves): (&OwnedFd, &OwnedFd),
        unsynced: &Unsynced,
        crash: &Crash,
        dir: &Path,
    ) -> anyhow::Result<Self> {
        directory::replace(dir)?;
        // A cut takes data back in place, so a file that can lose data is no longer what it was.
        let numbers = Numbers::new();
        let mut copying = Copying::new(&numbers, |ino| unsynced.can_lose_data(ino));
        copying.tree(&by_descriptor(root), &dir.join(LIVE))?;
        copying.tree(&by_descriptor(graves), &dir.join(GRAVES))?;
        let (dir, numbers) = (dir.to_owned(), copying.numbers);
        Ok(Self { dir, numbers, unsynced: unsynced.clone(), crash: crash.clone(), effects: Mutex::default() })
    }

    /// The mode of names that the directory was mounted with.
    pub fn mode(&self) -> Names {
        self.unsynced.mode()
    }

    /// The crash state that the cut left.
    pub fn of_the_cut(&self) -> &Crash {
        &self.crash
    }

    /// The crash state that loses everything that was not synced.
    ///
    /// # Errors
    /// What was kept cannot be read.
    pub fn all_lost(&self, draws: &mut Stream) -> anyhow::Result<Crash> {
        self.drawn(0, draws)
    }

    /// A crash state in which each change survives with a chance of `keep_percent`.
    ///
    /// # Errors
    /// What was kept cannot be read.
    pub fn drawn(&self, keep_percent: u32, draws: &mut Stream) -> anyhow::Result<Crash> {
        let live = self.effects()?;
        self.unsynced
            .crash(keep_percent, draws, |ino, page| live.read_page(ino, page))
            .context("cannot read what was kept")
    }

    /// The digest of the names and contents that a crash state has ([`Effects::digest`]).
    ///
    /// # Errors
    /// What was kept cannot be read.
    pub fn effect(&self, crash: &Crash) -> anyhow::Result<Digest> {
        self.effects()?.digest(crash)
    }

    fn effects(&self) -> anyhow::Result<Arc<Effects>> {
        let mut effects = self.effects.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(effects) = &*effects {
            return Ok(Arc::clone(effects));
        }
        let (root, graves) = opened(&self.dir)?;
        let walked = Walked::of(&root, &graves, &self.numbers)?;
        Ok(Arc::clone(effects.insert(Arc::new(Effects::of(&walked, &graves)?))))
    }

    /// The same instant, kept in `dir` as well, which is replaced.
    ///
    /// # Errors
    /// It cannot be copied.
    pub fn copied_to(&self, dir: &Path) -> anyhow::Result<Self> {
        let numbers = self.copy_to(dir, &BTreeSet::new());
        let numbers = numbers.with_context(|| format!("cannot copy an instant to {}", dir.display()))?;
        let (unsynced, crash) = (self.unsynced.clone(), self.crash.clone());
        Ok(Self { dir: dir.to_owned(), numbers, unsynced, crash, effects: Mutex::default() })
    }

    /// The part of `crash` that loses no other operations than these, as far as `mode` lets them be
    /// lost.
    pub fn part(&self, crash: &Crash, operations: &BTreeSet<u64>, mode: Names) -> Crash {
        self.unsynced.part(crash, operations, mode)
    }

    /// Makes the crash state in `to`, a directory that is replaced.
    ///
    /// # Errors
    /// It cannot be written, or what was kept cannot be read.
    pub fn materialise(&self, crash: &Crash, to: &Path) -> anyhow::Result<State> {
        let damaged: BTreeSet<Ino> = crash.files.iter().map(|damage| damage.ino).collect();
        let numbers = self.copy_to(to, &damaged).with_context(|| format!("cannot write {}", to.display()))?;
        let (root, graves) = opened(to)?;
        let lost = Walked::of(&root, &graves, &numbers)?.lose(crash, (&root, &graves), &self.unsynced)?;
        Ok(State { data_dir: to.join(LIVE), lost })
    }

    fn copy_to(&self, to: &Path, damaged: &BTreeSet<Ino>) -> anyhow::Result<Numbers> {
        directory::replace(to)?;
        let mut copying = Copying::new(&self.numbers, |ino| damaged.contains(&ino));
        copying.tree(&self.dir.join(LIVE), &to.join(LIVE))?;
        copying.tree(&self.dir.join(GRAVES), &to.join(GRAVES))?;
        Ok(copying.numbers)
    }
}

impl Drop for Instant {
    fn drop(&mut self) {
        // Nothing reads it any more; the next instant's place is emptied first.
        let _ = directory::remove(&self.dir);
    }
}

const LIVE: &str = "live";
const GRAVES: &str = "graves";

fn opened(dir: &Path) -> anyhow::Result<(OwnedFd, OwnedFd)> {
    let open = |name: &str| fs::File::open(dir.join(name)).map(OwnedFd::from);
    let both = open(LIVE).and_then(|live| Ok((live, open(GRAVES)?)));
    both.with_context(|| format!("cannot open {}", dir.display()))
}

/// A copy under way, of trees whose files may have several names.
struct Copying<'a, C> {
    numbers_from: &'a Numbers,
    changes: C,
    numbers: Numbers,
    /// The first copy of each file.
    copied: HashMap<Ino, PathBuf>,
}

impl<'a, C: Fn(Ino) -> bool> Copying<'a, C> {
    /// `numbers`: those of the inodes that are read. `changes`: whether a file is about to be
    /// changed, here or there, so that its bytes cannot be shared.
    fn new(numbers: &'a Numbers, changes: C) -> Self {
        Self { numbers_from: numbers, changes, numbers: Numbers::new(), copied: HashMap::new() }
    }

    fn tree(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        fs::create_dir(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            let (source, target, kind) = (entry.path(), to.join(entry.file_name()), entry.file_type()?);
            let inode = entry.metadata()?.ino();
            let ino = self.numbers_from.get(&inode).copied().unwrap_or(inode);
            if kind.is_dir() {
                self.tree(&source, &target)?;
            } else if entry.file_name() == BALLAST {
                // Room that the member holds back, with nothing in it.
                continue;
            } else if kind.is_symlink() {
                std::os::unix::fs::symlink(fs::read_link(&source)?, &target)?;
            } else {
                self.file(ino, &source, &target)?;
            }
            self.numbers.insert(fs::symlink_metadata(&target)?.ino(), ino);
        }
        Ok(())
    }

    fn file(&mut self, ino: Ino, source: &Path, target: &Path) -> io::Result<()> {
        if let Some(copied) = self.copied.get(&ino) {
            return fs::hard_link(copied, target);
        }
        self.copied.insert(ino, target.to_owned());
        let is_sst = source.extension().is_some_and(|extension| extension == "sst");
        // In a grave it has a number for a name, and is copied.
        if is_sst && !(self.changes)(ino) {
            match fs::hard_link(source, target) {
                Err(error) if error.kind() == ErrorKind::CrossesDevices => {}
                linked => return linked,
            }
        }
        fs::copy(source, target).map(drop)
    }
}
