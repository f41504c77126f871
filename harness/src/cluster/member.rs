//! One member (an id in a slot) and its lives.
//!
//! While it is up, a task follows its applied index, because the highest index *received* before a
//! kill is the harness's own evidence of what there was to lose. Every request is raced against the
//! process's end, so that a death is reported as a death and not as a timeout.

mod ask;
mod death;
mod disk;
mod start;
mod window;

pub use death::Death;
pub use window::Stop;

use super::Trouble;
use super::kept::Kept;
use super::readings::Readings;
use crate::contact::Contact;
use crate::endpoints::Board;
use crate::faultfs::Mount;
use crate::pace::Pace;
use crate::process::{Child, Signals};
use crate::subject::Addresses;
use crate::subject::events::NodeState;
use anyhow::anyhow;
use ninelives_evidence::member::{Engine, Slot};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A member, dead or alive.
#[derive(Debug)]
pub struct Member {
    pub id: u64,
    pub slot: Slot,
    /// The engine that its next life runs.
    pub engine: Engine,
    pub addresses: Addresses,
    /// It was added to the running cluster.
    joined: bool,
    lives: u64,
    life: Option<Life>,
    /// The mount over its data directory; declared after the life, because a process dies before
    /// its disk goes. `None`: a plain directory.
    files: Option<Mount>,
    /// Its last cut.
    kept: Option<Kept>,
    /// Highest applied index ever received from it, plus one; 0: none.
    applied: Arc<AtomicU64>,
    /// Readings that it gave of itself since the last judgement.
    pub readings: Readings,
    /// The length of its log file when its life began, in bytes.
    log_from: u64,
}

#[derive(Debug)]
struct Life {
    child: Child,
    said: watch::Receiver<NodeState>,
    contact: Contact,
    board: Board,
    /// The pace by which bounds on it are stretched.
    pace: Pace,
    follower: Option<JoinHandle<()>>,
    /// Windows in which it stood still and went on again.
    windows_left: Arc<AtomicU64>,
}

impl Drop for Life {
    fn drop(&mut self) {
        if let Some(follower) = &self.follower {
            follower.abort();
        }
    }
}

impl Member {
    /// A member that founds the cluster: its id is the number of its slot.
    pub fn founder(id: u64, addresses: Addresses, engine: Engine) -> Self {
        Self {
            id,
            slot: Slot(id),
            engine,
            addresses,
            joined: false,
            lives: 0,
            life: None,
            files: None,
            kept: None,
            applied: Arc::default(),
            readings: Readings::default(),
            log_from: 0,
        }
    }

    /// [`Member::founder`] in a slot that had other members before.
    pub fn founder_in(slot: Slot, id: u64, addresses: Addresses, engine: Engine) -> Self {
        Self { slot, ..Self::founder(id, addresses, engine) }
    }

    /// Forgets its applied index: its cluster is gone, and so are the entries that it had applied.
    pub(super) fn forget_applied(&mut self) {
        self.applied = Arc::default();
    }

    /// A member that is added to the running cluster, in `slot`.
    pub fn joiner(slot: Slot, id: u64, addresses: Addresses, engine: Engine) -> Self {
        Self { id, slot, joined: true, ..Self::founder(id, addresses, engine) }
    }

    /// A member that lived before, under a harness that is dead: it starts from the directory that
    /// a kill left.
    pub fn returning(self) -> Self {
        Self { lives: 1, ..self }
    }

    pub fn is_up(&self) -> bool {
        self.life.is_some()
    }

    /// Its endpoint's place on the board.
    fn place(&self) -> usize {
        self.slot.0.saturating_sub(1) as usize
    }

    /// Highest applied index ever received from it, plus one, as it moves.
    pub fn applied_follower(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.applied)
    }

    /// Highest applied index ever received from it; 0 if none was.
    pub fn applied_received(&self) -> u64 {
        self.applied.load(Ordering::Acquire).saturating_sub(1)
    }

    /// The state of its process, as it changes in this life.
    pub fn process(&self) -> Result<watch::Receiver<Signals>, Trouble> {
        Ok(self.life()?.child.subscribe())
    }

    /// Whether it has served in this life, and its applied index is followed.
    pub fn is_serving(&self) -> bool {
        self.life.as_ref().is_some_and(|life| life.follower.is_some())
    }

    /// Processor time that its process has taken, milliseconds; 0: it is dead.
    pub fn cpu_ms(&self) -> u64 {
        self.life.as_ref().map_or(0, |life| life.child.cpu_ms())
    }

    fn life(&self) -> Result<&Life, Trouble> {
        self.life.as_ref().ok_or_else(|| Trouble::Harness(anyhow!("n{} is down, and was asked for something", self.id)))
    }
}
