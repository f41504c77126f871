//! The faults of a step: *what* is done to *whom*, and *when*.
//!
//! ```text
//! kill follower#1 at flush.completed hit 2
//! kill follower#1 at flush.completed hit 2 then at recovery.engine-open hit 1 then at recovery.replay-apply hit 2
//! cut majority#0 at raft.append hit 9
//! cut leader keeping 50% at flush.completed hit 2 then at recovery.engine-open hit 1
//! kill follower#1 at flush.completed hit 2 then cut at recovery.engine-open hit 1
//! pause leader for 400ms at applied +12
//! isolate minority#0 for 800ms at time 40ms
//! mute leader for 500ms at applied +3
//! deafen follower#1 for 500ms at raft.append hit 9
//! delay all by 20ms for 900ms at time 0ms
//! slow all by 40ms for 900ms at time 40ms
//! fail-sync leader keeping at applied +12
//! fail leader raft-log.write hit 3 once at applied +12
//! shorten all sst.write for 900ms at applied +12
//! fill follower#1 leaving 8192KiB for 900ms at applied +12
//! upgrade slot#2 to rocksdb by migrate at migrate.copied hit 1
//! upgrade slot#2 to rocksdb by migrate cut keeping 50% at migrate.copied hit 1
//! restore slot#2 by one into other
//! kill follower#1 at applied +12 + strangers for 800ms
//! kill follower#1 at applied +12 + corrupt sst by bit-flip
//! ```

use super::corrupt::Corruption;
use super::disk::{Ailment, DiskFault};
use super::restore::Restore;
use super::upgrade::Upgrade;
use crate::scenario::WhomKind;
use crate::subject::{Reach, Window};
use ninelives_evidence::member::Engine;
use std::fmt;

/// The members that a fault is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Whom {
    pub kind: WhomKind,
    /// The rank at which counting starts; always 0 where there is nothing to choose (the leader,
    /// all).
    pub rank: u32,
}

/// The event that a fault waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    Window {
        window: &'static Window,
        hit: u64,
    },
    /// This many entries above what the first victim has applied when the wait begins.
    Applied {
        ahead: u64,
    },
    /// Milliseconds after the wait begins.
    Time {
        ms: u64,
    },
}

/// The end of a life: of the process alone, or of the machine's power as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power {
    Stays,
    /// The power fails with every kill of the fault; changes that were not synced survive with a
    /// chance of `keep_percent`.
    Fails {
        keep_percent: u32,
    },
    /// It fails with the last kill alone, so that it takes what an earlier life had not synced.
    FailsLast {
        keep_percent: u32,
    },
}

impl Power {
    /// The chance of a change to survive the `nth` of `kills` kills, from 0; `None`: the power
    /// stays.
    pub fn keeps(self, nth: usize, kills: usize) -> Option<u32> {
        match self {
            Power::Stays => None,
            Power::Fails { keep_percent } => Some(keep_percent),
            Power::FailsLast { keep_percent } => (nth + 1 == kills).then_some(keep_percent),
        }
    }
}

/// A window and its hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct At {
    pub window: &'static Window,
    pub hit: u64,
}

/// A disturbance of the peer links between the victims and the others; for all members, of every
/// link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// Nothing passes, either way.
    Isolate,
    /// Nothing that the victims send arrives.
    Mute,
    /// Nothing that is sent to the victims arrives.
    Deafen,
    /// Everything arrives, in order, this much later, either way.
    Delay { by_ms: u64 },
}

impl Link {
    pub fn name(self) -> &'static str {
        match self {
            Link::Isolate => "isolate",
            Link::Mute => "mute",
            Link::Deafen => "deafen",
            Link::Delay { .. } => "delay",
        }
    }
}

/// A fault that is done to the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL, with the power or without.
    Kill {
        whom: Whom,
        when: When,
        /// Windows in which the first victim is killed again, each one in its next life.
        again: Vec<At>,
        power: Power,
    },
    /// SIGSTOP, and SIGCONT after this long.
    Pause { whom: Whom, when: When, ms: u64 },
    /// A disturbance of the peer links, and its end after this long.
    Network { link: Link, whom: Whom, when: When, ms: u64 },
    /// After the kill that it stands behind, and before the members that are dead come back:
    /// members of another cluster listen at their peer addresses, for this long.
    Strangers { ms: u64 },
    /// After the kill that it stands behind, and before the member comes back: a file of it is
    /// damaged.
    Corrupt(Corruption),
    /// Disks fail.
    Disk(DiskFault),
    /// A member changes its engine.
    Upgrade(Upgrade),
    /// The cluster is restored from a snapshot that one of its members sent.
    Restore(Restore),
}

impl fmt::Display for Whom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            WhomKind::Leader | WhomKind::All => f.write_str(self.kind.name()),
            _ => write!(f, "{}#{}", self.kind.name(), self.rank),
        }
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            When::Window { window, hit } => write!(f, "{} hit {hit}", window.name),
            When::Applied { ahead } => write!(f, "applied +{ahead}"),
            When::Time { ms } => write!(f, "time {ms}ms"),
        }
    }
}

/// The share that a cut keeps, in the words of a plan: none is not mentioned.
pub(super) struct Keeping(pub u32);

impl fmt::Display for Keeping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            percent => write!(f, " keeping {percent}%"),
        }
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let At { window, hit } = *self;
        write!(f, "{}", When::Window { window, hit })
    }
}

impl Fault {
    /// Whether the power of a member fails in it.
    pub fn cuts(&self) -> bool {
        matches!(
            self,
            Fault::Kill { power: Power::Fails { .. } | Power::FailsLast { .. }, .. }
                | Fault::Disk(DiskFault { ailment: Ailment::FailSync { losing: true }, .. })
        ) || matches!(self, Fault::Upgrade(upgrade) if upgrade.cuts())
    }

    /// Whether it strikes a member's first life, and so changes the membership on the way there.
    pub fn joins(&self) -> bool {
        matches!(self, Fault::Kill { when: When::Window { window, .. }, .. } if window.reach == Reach::Join)
    }

    /// The first of its windows that only the fault filesystem makes on the node.
    pub fn window_of_the_nodes_files(&self) -> Option<&'static Window> {
        let (when, again) = match self {
            Fault::Kill { when, again, .. } => (when, &again[..]),
            Fault::Pause { when, .. } | Fault::Network { when, .. } | Fault::Disk(DiskFault { when, .. }) => {
                (when, &[][..])
            }
            Fault::Strangers { .. } | Fault::Corrupt(_) | Fault::Upgrade(_) | Fault::Restore(_) => return None,
        };
        let first = match when {
            When::Window { window, .. } => Some(*window),
            When::Applied { .. } | When::Time { .. } => None,
        };
        first.into_iter().chain(again.iter().map(|at| at.window)).find(|window| window.is_of_the_nodes_files())
    }

    /// Whether it can be done to a server that is known by its API only. `files`: the server is
    /// under the fault filesystem.
    pub fn fits_a_server(&self, files: bool) -> bool {
        let fits = |when: &When| match when {
            When::Window { window, .. } => files && window.exists_on(Engine::Opaque),
            When::Applied { .. } | When::Time { .. } => true,
        };
        match self {
            Fault::Kill { when, again, .. } => again.is_empty() && fits(when),
            Fault::Pause { when, .. } => fits(when),
            // Only of the node it is known how it has to end when its disk fails.
            Fault::Network { .. }
            | Fault::Disk(_)
            | Fault::Strangers { .. }
            | Fault::Corrupt(_)
            | Fault::Upgrade(_)
            | Fault::Restore(_) => false,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Kill { whom, when, again, power } => {
                match power {
                    Power::Fails { keep_percent } => write!(f, "cut {whom}{}", Keeping(*keep_percent))?,
                    Power::Stays | Power::FailsLast { .. } => write!(f, "kill {whom}")?,
                }
                write!(f, " at {when}")?;
                again.iter().enumerate().try_for_each(|(nth, at)| match power {
                    Power::FailsLast { keep_percent } if nth + 1 == again.len() => {
                        write!(f, " then cut{} at {at}", Keeping(*keep_percent))
                    }
                    _ => write!(f, " then at {at}"),
                })
            }
            Fault::Pause { whom, when, ms } => write!(f, "pause {whom} for {ms}ms at {when}"),
            Fault::Network { link, whom, when, ms } => {
                write!(f, "{} {whom} ", link.name())?;
                if let Link::Delay { by_ms } = link {
                    write!(f, "by {by_ms}ms ")?;
                }
                write!(f, "for {ms}ms at {when}")
            }
            Fault::Strangers { ms } => write!(f, "strangers for {ms}ms"),
            Fault::Corrupt(corruption) => corruption.fmt(f),
            Fault::Disk(fault) => fault.fmt(f),
            Fault::Upgrade(upgrade) => upgrade.fmt(f),
            Fault::Restore(restore) => restore.fmt(f),
        }
    }
}
