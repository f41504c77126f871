//! The mean time that each phase of a cycle takes.

use ninelives_evidence::record::{PhasesMs, RunSummary};

/// The phases in their order: the name of each, and the milliseconds that it took.
type Phase = (&'static str, fn(&PhasesMs) -> u64);

const PHASES: [Phase; 6] = [
    ("reach the place, and kill", |phases| phases.kill),
    ("copy and inspect the dead", |phases| phases.inspect),
    ("restart until all serve", |phases| phases.restart),
    ("catch up", |phases| phases.catch_up),
    ("fence", |phases| phases.fence),
    ("verify", |phases| phases.verify),
];

/// Milliseconds, in the mean over all cycles of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Split {
    pub cycle: f64,
    /// Only those that took any time.
    pub phases: Vec<(&'static str, f64)>,
    /// Cycles per minute of all clusters together.
    pub cycles_per_minute: f64,
}

impl Split {
    /// `None`: no cycle was carried out.
    pub fn of(run: &RunSummary) -> Option<Self> {
        let count = Some(run.cycles.len() as f64).filter(|count| *count > 0.0)?;
        let mean = |sum: u64| sum as f64 / count;
        let phase = |(name, of): &Phase| (*name, mean(run.cycles.iter().map(|cycle| of(&cycle.phases)).sum()));
        Some(Self {
            cycle: mean(run.cycles.iter().map(|cycle| cycle.duration_ms).sum()),
            phases: PHASES.iter().map(phase).filter(|(_, ms)| *ms > 0.0).collect(),
            cycles_per_minute: run.cycles_of_this_life() as f64 * 60_000.0 / (run.elapsed_ms.max(1) as f64),
        })
    }

    /// `142 cycles per minute; of the 420 ms of one: reach the place, and kill 240 · fence 60`.
    pub fn sentence(&self) -> String {
        let phases = self.phases.iter().map(|(name, ms)| format!("{name} {ms:.0}")).collect::<Vec<_>>().join(" · ");
        format!("{:.0} cycles per minute; of the {:.0} ms of one: {phases}", self.cycles_per_minute, self.cycle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;
    use ninelives_evidence::record::ResumedRecord;

    #[test]
    fn a_mean_is_over_all_cycles() {
        let mut run = sample::run();
        run.cycles.truncate(2);
        for (cycle, ms) in run.cycles.iter_mut().zip([100, 300]) {
            cycle.duration_ms = ms;
            cycle.phases = PhasesMs { kill: ms / 2, fence: 40, ..PhasesMs::default() };
        }
        run.elapsed_ms = 1_000;
        let said = Split::of(&run).unwrap().sentence();
        assert_eq!(said, "120 cycles per minute; of the 200 ms of one: reach the place, and kill 100 · fence 40");
        let resumed = |after_cycle| ResumedRecord { cluster: run.cycles[0].cluster, after_cycle };
        run.resumed = vec![resumed(0), resumed(run.cycles[0].cycle)];
        let said = Split::of(&run).unwrap().sentence();
        assert!(said.starts_with("60 cycles per minute; of the 200 ms"), "the other was before it was resumed: {said}");
        run.cycles.clear();
        assert_eq!(Split::of(&run), None);
    }
}
