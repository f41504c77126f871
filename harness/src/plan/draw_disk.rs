//! Drawing faults of disks. Everything that a fault may need is drawn in every cycle, from a stream
//! of its own, so that it moves no other part of a plan.

use super::draw_lasting::place;
use super::{Ailment, DiskFault, Fault};
use crate::scenario::{AilmentKind, Scenario};
use crate::seed::{Seed, Stream};

pub(super) struct DrawDisk<'a> {
    scenario: &'a Scenario,
    disks: Stream,
}

impl<'a> DrawDisk<'a> {
    pub fn new(scenario: &'a Scenario, seed: &Seed) -> Self {
        Self { scenario, disks: seed.stream("disks") }
    }

    /// The faults of a cycle in which disks fail, with `kill` beside them at times. `None`: they do
    /// not fail in this scenario.
    pub fn faults(&mut self, kill: &Fault) -> Option<Vec<Fault>> {
        let spec = self.scenario.disk.as_ref()?;
        let kind = *self.disks.weighted(&spec.ailments)?;
        let (whom, when) = place(self.scenario, &mut self.disks);
        let fill_ms = self.disks.between(spec.fill_ms.0, spec.fill_ms.1);
        let left_kib = self.disks.between(spec.left_kib.0, spec.left_kib.1);
        let nothing_left = self.disks.chance(spec.nothing_left_percent.into(), 100);
        let with_kill = self.disks.chance(spec.with_kill_percent.into(), 100);
        let losing = self.disks.chance(spec.losing_percent.into(), 100);
        let slow_ms = self.disks.between(spec.slow_ms.0, spec.slow_ms.1);
        let by_ms = self.disks.between(spec.slow_by_ms.0, spec.slow_by_ms.1);
        let ailment = match kind {
            AilmentKind::Fill => Ailment::Fill { left_kib: if nothing_left { 0 } else { left_kib }, ms: fill_ms },
            AilmentKind::Slow => Ailment::Slow { by_ms, ms: slow_ms },
            AilmentKind::FailSync => Ailment::FailSync { losing },
        };
        let disk = Fault::Disk(DiskFault { ailment, whom, when });
        // It brings a loss of power of its own.
        let with_kill = with_kill && ailment != Ailment::FailSync { losing: true };
        Some([disk].into_iter().chain(with_kill.then(|| kill.clone())).collect())
    }
}
