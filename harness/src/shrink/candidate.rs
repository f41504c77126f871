//! A plan and its scenario, which one trial of a shrinker runs.

use super::knobs::Knob;
use crate::plan::{Fault, Plan, Restore, Step, Way};
use crate::scenario::Scenario;
use std::path::Path;

/// A candidate that can be run as it stands: the plan parses back, fits the scenario, and bears the
/// scenario's digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    scenario: Scenario,
    plan: Plan,
}

impl Candidate {
    /// `plan` on `scenario`, under the plan's name for it.
    ///
    /// # Errors
    /// The reason why the two cannot be run together.
    pub fn new(scenario: Scenario, plan: Plan) -> Result<Self, String> {
        let scenario = Scenario { name: plan.scenario.clone(), ..scenario };
        let plan = Plan { scenario_digest: scenario.digest(), ..plan };
        let parsed: Plan = plan.to_string().parse().map_err(|error| format!("{error}"))?;
        if parsed != plan {
            return Err("the plan's text does not parse back to it".to_owned());
        }
        match plan.misfit(&scenario) {
            Some(why) => Err(why),
            None => Ok(Self { scenario, plan }),
        }
    }

    pub fn scenario(&self) -> &Scenario {
        &self.scenario
    }

    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    pub fn steps(&self) -> &[Step] {
        &self.plan.steps
    }

    /// Single things done to the cluster: each kill of a member that is killed again counts.
    pub fn faults(&self) -> usize {
        self.plan.steps.iter().flat_map(|step| &step.faults).map(weight).sum()
    }

    /// The same scenario with other steps. `None`: no step would be left, or the rest cannot be
    /// run.
    pub fn with_steps(&self, steps: Vec<Step>) -> Option<Self> {
        let cycles = steps.last()?.cycle;
        Self::new(self.scenario.clone(), Plan { cycles, steps, ..self.plan.clone() }).ok()
    }

    /// With `step` in place of the `at`-th one.
    pub fn with_step(&self, at: usize, step: Step) -> Option<Self> {
        let mut steps = self.plan.steps.clone();
        *steps.get_mut(at)? = step;
        self.with_steps(steps)
    }

    /// The same plan on a scenario that is smaller in one respect.
    ///
    /// # Errors
    /// The reason why there is no such scenario.
    pub fn with_knob(&self, knob: Knob, value: u32) -> Result<Self, String> {
        let text = knob.set(&self.scenario.text, value)?;
        self.with_text(&self.scenario.path, text)
    }

    /// The same plan on the scenario that `text` says.
    ///
    /// # Errors
    /// The reason why the text is not a scenario, or does not fit this plan.
    pub fn with_text(&self, path: &Path, text: String) -> Result<Self, String> {
        let scenario = Scenario::parse(path, text).map_err(|refusal| refusal.to_string())?;
        Self::new(scenario, self.plan.clone())
    }

    /// The key that tells it from every other candidate.
    pub fn key(&self) -> String {
        self.plan.to_string()
    }
}

fn weight(fault: &Fault) -> usize {
    match fault {
        Fault::Kill { again, .. } => 1 + again.len(),
        Fault::Pause { .. } | Fault::Network { .. } | Fault::Disk(_) | Fault::Strangers { .. } | Fault::Corrupt(_) => 1,
        Fault::Restore(Restore { kill, other, unlike, .. }) => {
            1 + usize::from(kill.is_some()) + usize::from(*other) + usize::from(unlike.is_some())
        }
        Fault::Upgrade(upgrade) => match upgrade.way {
            Way::Migrate { kill, cut } => 1 + usize::from(kill.is_some()) + usize::from(cut.is_some()),
            Way::Replace { kill } => 1 + usize::from(kill.is_some()),
        },
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::fmt::Write;

    /// The gate's scenario with these steps, one cycle after the other.
    pub(in crate::shrink) fn candidate(steps: &[&str]) -> Candidate {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/gate.toml");
        let mut text = format!("plan 1\nscenario gate ab\nseed 1\ncycles {}\n", steps.len().max(1));
        for (step, cycle) in steps.iter().zip(1..) {
            writeln!(text, "cycle {cycle}  {step}").unwrap();
        }
        Candidate::new(Scenario::load(&path).unwrap(), text.parse().unwrap()).unwrap()
    }

    #[test]
    fn every_kill_counts() {
        let three = "kill follower#0 at flush.completed hit 1 then at recovery.engine-open hit 1";
        let both = "pause leader for 300ms at applied +9 + kill follower#0 at time 4ms";
        assert_eq!(candidate(&[three, both]).faults(), 4);
    }

    #[test]
    fn the_digest_is_that_of_the_scenario_that_is_run() {
        let one = candidate(&["kill all at time 3ms"]);
        assert_eq!(one.plan().scenario_digest, one.scenario().digest());
        let smaller = one.with_knob(Knob::Clients, 2).unwrap();
        assert_eq!(smaller.scenario().load.clients, 2);
        assert_eq!(smaller.plan().scenario_digest, smaller.scenario().digest());
        assert_ne!(smaller.key(), one.key());
    }

    #[test]
    fn what_cannot_be_run_is_no_candidate() {
        let one = candidate(&["kill all at time 3ms"]);
        assert_eq!(one.with_steps(Vec::new()), None);
        let mut step = one.steps()[0].clone();
        let Fault::Kill { whom, .. } = &mut step.faults[0] else { panic!("{step}") };
        whom.rank = 3;
        assert_eq!(one.with_step(0, step.clone()), None, "`all` has no rank: it would not parse back");
        step.faults.clear();
        assert_eq!(one.with_step(0, step), None);
    }
}
