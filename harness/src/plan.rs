//! The plan: the schedule of faults as text, a line per cycle, that parses back to the same plan.
//!
//! ```text
//! plan 1
//! scenario gate 3f0c…
//! seed 7
//! cycles 1000
//! clusters 2
//! cycle 1  kill follower#1 at flush.completed hit 2
//! cycle 2  kill leader at applied +120
//! cycle 3  kill minority#2 at time 240ms
//! cycle 4  upgrade slot#2 to rocksdb by migrate at migrate.copied hit 1
//! cycle 5  kill follower#1 at snapshot.unpacked hit 1 then at recovery.engine-open hit 1
//! cycle 7  restore slot#1 by one into other
//! cycle 8  isolate leader for 800ms at applied +12 + kill follower#0 at time 240ms
//! ```
//!
//! A fault composes *what*, *whom* and *when* ([`fault`]). `#k` is a rank: members are counted in
//! ascending slot order from the k-th on (modulo their number), so that the plan is fixed before
//! the leader is known. An upgrade names a slot ([`upgrade`]), and so does a restore ([`restore`]).
//! How a window is reached (a prior kill, an election, a member kept away) follows from the window
//! ([`crate::subject::Reach`]). Faults that are joined by ` + ` go on at the same time: those that
//! end by themselves begin, each at its place, and then the kill strikes. Lines may be deleted, and
//! faults of a line: the rest is still a plan. The same scenario and seed give the same bytes.
//! Without a line `clusters` there is one.

pub mod corrupt;
pub mod disk;
mod draw;
mod draw_disk;
mod draw_lasting;
pub mod fault;
mod misfit;
mod parse;
mod parse_fault;
mod quota;
pub mod restore;
mod sweep;
pub mod upgrade;

pub use corrupt::Corruption;
pub use disk::{Ailment, DiskFault};
pub use fault::{At, Fault, Link, Power, When, Whom};
pub use parse::PlanError;
pub use restore::{Restore, Unlike};
pub use upgrade::{Then, Upgrade, Way};

use crate::scenario::Scenario;
use crate::seed::Seed;
use draw::Draw;
use ninelives_evidence::hex::hex;
use restore::Restores;
use sha2::{Digest, Sha256};
use std::fmt;
use upgrade::Walk;

/// Version of the text form.
pub const PLAN_VERSION: u32 = 1;

/// Joins the faults of one cycle.
const TOGETHER: &str = " + ";

/// One cycle's faults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// From 1; ascending within a plan.
    pub cycle: u32,
    /// Never empty. At most one of them is a kill; an upgrade is alone, and so is a restore.
    pub faults: Vec<Fault>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Name and digest of the scenario that it was made from.
    pub scenario: String,
    pub scenario_digest: String,
    pub seed: u64,
    /// Cycles as planned first; steps may be fewer once lines were deleted.
    pub cycles: u32,
    /// Clusters that carry it out side by side, at least 1: cycle c is cluster ((c − 1) mod
    /// clusters) + 1's, whatever lines were deleted.
    pub clusters: u32,
    pub steps: Vec<Step>,
}

impl Plan {
    /// The schedule that `scenario` and `seed` make, `cycles` steps long, for `clusters` clusters
    /// side by side.
    pub fn generate(scenario: &Scenario, seed: &Seed, cycles: u32, clusters: u32) -> Self {
        let clusters = clusters.max(1);
        let mut draw = Draw::new(scenario, seed);
        // A slot may have a different engine in each cluster.
        let mut walks: Vec<_> = (1..=clusters).map(|cluster| Walk::new(scenario, seed, cluster)).collect();
        let mut restores: Vec<_> = (1..=clusters).map(|cluster| Restores::new(scenario, seed, cluster)).collect();
        let steps = (1..=cycles).map(|cycle| {
            // Drawn for every cycle, so that upgrades and restores move no other cycle's faults.
            let faults = draw.faults();
            let (turn, at) = ((cycle - 1) / clusters + 1, ((cycle - 1) % clusters) as usize);
            if let Some(restore) = restores[at].as_mut().and_then(|restores| restores.step(turn)) {
                if let Some(walk) = walks[at].as_mut().filter(|_| restore.other) {
                    walk.all_change();
                }
                return Step { cycle, faults: vec![Fault::Restore(restore)] };
            }
            let upgrade = walks[at].as_mut().and_then(|walk| walk.step(turn));
            Step { cycle, faults: upgrade.map_or(faults, |upgrade| vec![Fault::Upgrade(upgrade)]) }
        });
        let steps = steps.collect();
        Self {
            scenario: scenario.name.clone(),
            scenario_digest: scenario.digest(),
            seed: seed.root(),
            cycles,
            clusters,
            steps,
        }
    }

    /// The steps of cluster `cluster`, from 1.
    pub fn steps_of(&self, cluster: u32) -> impl Iterator<Item = &Step> {
        let clusters = self.clusters.max(1);
        self.steps.iter().filter(move |step| step.cycle.saturating_sub(1) % clusters + 1 == cluster)
    }

    /// Whether any step needs the peer links to be under control.
    pub fn disturbs_links(&self) -> bool {
        self.steps.iter().flat_map(|step| &step.faults).any(|fault| matches!(fault, Fault::Network { .. }))
    }

    /// Whether any step needs the disks to be under control.
    pub fn ails_disks(&self) -> bool {
        self.steps.iter().flat_map(|step| &step.faults).any(|fault| matches!(fault, Fault::Disk(_)))
    }

    /// SHA-256 of the text form, lower-case hex.
    pub fn digest(&self) -> String {
        hex(&Sha256::digest(self.to_string().as_bytes()))
    }
}

impl Step {
    /// The step without its number: `kill leader at applied +120`.
    pub fn action(&self) -> String {
        self.faults.iter().map(Fault::to_string).collect::<Vec<_>>().join(TOGETHER)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cycle {}  {}", self.cycle, self.action())
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "plan {PLAN_VERSION}")?;
        writeln!(f, "scenario {} {}", self.scenario, self.scenario_digest)?;
        writeln!(f, "seed {}", self.seed)?;
        writeln!(f, "cycles {}", self.cycles)?;
        if self.clusters > 1 {
            writeln!(f, "clusters {}", self.clusters)?;
        }
        self.steps.iter().try_for_each(|step| writeln!(f, "{step}"))
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod text_test;
