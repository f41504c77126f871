//! Whether a run that found nothing proved anything: each floor that was not reached is a finding.

use crate::record::RunSummary;
use crate::scenario::Floors;
use crate::verdict::{Class, Finding};

/// What the run lacks to be worth a pass. Empty: nothing.
pub(super) fn lacking(floors: &Floors, run: &RunSummary) -> Vec<Finding> {
    let cycles = run.cycles.len() as u64;
    let landed = run.landed() as u64;
    let bit = run.cycles.iter().filter(|cycle| cycle.landed() && cycle.proved_nothing.is_none()).count() as u64;
    let mut sentences = Vec::new();
    if cycles == 0 {
        sentences.push("no cycle was carried out".to_owned());
    }
    if landed * 100 < cycles * u64::from(floors.landed_percent_min) {
        let min = floors.landed_percent_min;
        sentences.push(format!(
            "expected at least {min} % of the planned kills to land, found {landed} of {cycles}; the skips say why"
        ));
    }
    if bit * 100 < landed * u64::from(floors.bit_percent_min) {
        let min = floors.bit_percent_min;
        sentences.push(format!(
            "expected at least {min} % of the kills that landed to lose something that had to be replayed, found {bit} of {landed}; \
             raise the load, or the memtable's size"
        ));
    }
    let floor = floors.acked_writes_per_cycle_min * cycles;
    if run.acked_writes < floor {
        let found = run.acked_writes;
        sentences.push(format!(
            "expected at least {floor} acknowledged writes in {cycles} cycles, found {found}: the load was not reached"
        ));
    }
    sentences.into_iter().map(|sentence| Finding::new(Class::NotProven, sentence)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Outcome;
    use crate::report::sample;

    fn run(landed: usize, skipped: usize, idle: usize) -> RunSummary {
        let mut run = sample::run();
        let mut cycle = run.cycles[0].clone();
        cycle.outcome = Outcome::Landed;
        cycle.proved_nothing = None;
        run.cycles = vec![cycle.clone(); landed];
        cycle.proved_nothing = Some("nothing was lost".to_owned());
        run.cycles.extend(vec![cycle.clone(); idle]);
        cycle.outcome = Outcome::Skipped { why: "not reached".to_owned() };
        run.cycles.extend(vec![cycle; skipped]);
        run.acked_writes = 100_000;
        run
    }

    #[test]
    fn floors_are_inclusive() {
        let floors = Floors { landed_percent_min: 95, bit_percent_min: 50, acked_writes_per_cycle_min: 20 };
        assert_eq!(lacking(&floors, &run(95, 5, 0)), []);
        assert!(lacking(&floors, &run(94, 6, 0))[0].sentence.contains("94 of 100"));
        assert_eq!(lacking(&floors, &run(50, 0, 50)), []);
        assert!(lacking(&floors, &run(49, 0, 51))[0].sentence.contains("49 of 100"));
    }

    #[test]
    fn an_idle_run_is_never_worth_a_pass() {
        let mut idle = run(10, 0, 0);
        idle.acked_writes = 199;
        assert!(lacking(&Floors::default(), &idle)[0].sentence.contains("199"));
        assert!(!lacking(&Floors::default(), &run(0, 0, 0)).is_empty());
    }
}
