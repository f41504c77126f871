//! Drawing faults of disks. Everything that a fault may need is drawn in every cycle, from a stream
//! of its own, so that it moves no other part of a plan.

use super::draw_lasting::place;
use super::{Ailment, DiskFault, Fault, Power, When};
use crate::scenario::{AilmentKind, Scenario};
use crate::seed::{Seed, Stream};
use crate::subject::{FILE_OPERATIONS, FileLife, FileOperation};
use ninelives_evidence::limits;

pub(super) struct DrawDisk<'a> {
    scenario: &'a Scenario,
    disks: Stream,
    /// Which reads and writes fail.
    operations: Stream,
}

impl<'a> DrawDisk<'a> {
    pub fn new(scenario: &'a Scenario, seed: &Seed) -> Self {
        Self { scenario, disks: seed.stream("disks"), operations: seed.stream("disks/operations") }
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
        let fail_ms = self.operations.between(spec.fail_ms.0, spec.fail_ms.1);
        let shorten_ms = self.operations.between(spec.shorten_ms.0, spec.shorten_ms.1);
        let once = self.operations.chance(spec.once_percent.into(), 100);
        let (read, write) = (self.operation(FileOperation::reads)?, self.operation(|one| !one.reads())?);
        // It ends by itself, at a time that no kill and no start waits for.
        let shortened = self.operation(|one| !one.reads() && one.brought_by == FileLife::Load)?;
        let (hit, kill_ms) = (self.operations.next_u64(), self.operations.between(0, limits::TIME_AHEAD_MS_MAX));
        let fail =
            |operation: &'static FileOperation, ms| Ailment::Fail { operation, hit: 1 + hit % operation.hit_max, ms };
        let ailment = match kind {
            AilmentKind::Fill => Ailment::Fill { left_kib: if nothing_left { 0 } else { left_kib }, ms: fill_ms },
            AilmentKind::Slow => Ailment::Slow { by_ms, ms: slow_ms },
            AilmentKind::FailSync => Ailment::FailSync { losing },
            AilmentKind::FailRead => fail(read, fail_ms),
            AilmentKind::FailWrite => fail(write, if once { 0 } else { fail_ms }),
            AilmentKind::Shorten => Ailment::Shorten { operation: shortened, ms: shorten_ms },
        };
        let disk = Fault::Disk(DiskFault { ailment, whom, when });
        if ailment.operation().is_some_and(|operation| operation.brought_by == FileLife::Start) {
            let when = When::Time { ms: kill_ms };
            return Some(vec![disk, Fault::Kill { whom, when, again: Vec::new(), power: Power::Stays }]);
        }
        // It brings a loss of power of its own.
        let with_kill = with_kill && ailment != Ailment::FailSync { losing: true };
        Some([disk].into_iter().chain(with_kill.then(|| kill.clone())).collect())
    }

    /// One of the operations that `fit`, and that a member of this scenario has.
    fn operation(&mut self, fit: fn(&FileOperation) -> bool) -> Option<&'static FileOperation> {
        let engines = &self.scenario.cluster.engines;
        let has = |one: &&FileOperation| fit(one) && engines.iter().any(|engine| one.exists_on(*engine));
        let drawn = FILE_OPERATIONS.iter().filter(|one| one.brought_by != FileLife::Snapshot);
        self.operations.pick(&drawn.filter(has).collect::<Vec<_>>()).copied()
    }
}
