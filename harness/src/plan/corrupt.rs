//! Damage of a file of the member that a step kills, while it is dead.
//!
//! ```text
//! cycle 4  kill follower#1 at applied +12 + corrupt sst by bit-flip
//! cycle 9  kill leader at time 240ms + corrupt raft-log by older-chunk
//! ```
//!
//! A step names what is damaged, and how; the place within the file is drawn from the seed when the
//! member is dead, because sizes are known only then. One member is damaged at a time, so that the
//! others have an intact copy of everything.

use super::{Fault, Power, Whom};
use crate::scenario::{Scenario, WhomKind};
use crate::seed::{Seed, Stream};
use ninelives_evidence::damage::{DamageKind, FileClass};
use std::fmt;

/// A class of file, and what happens to one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Corruption {
    pub class: FileClass,
    pub kind: DamageKind,
}

impl fmt::Display for Corruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "corrupt {} by {}", self.class, self.kind)
    }
}

/// `CLASS by KIND`.
pub(super) fn parse(text: &str) -> Option<Corruption> {
    let (class, kind) = text.split_once(" by ")?;
    let class = FileClass::parse(class)?;
    let kind = DamageKind::ALL.into_iter().find(|one| one.name() == kind)?;
    Some(Corruption { class, kind })
}

/// Whether a file of the member that `kill` takes may be damaged: it has to be the only one, and
/// nothing else may happen to its files.
fn fits(kill: &Fault) -> bool {
    let alone = |whom: &Whom| matches!(whom.kind, WhomKind::Follower | WhomKind::Leader);
    matches!(kill, Fault::Kill { whom, again, power: Power::Stays, .. } if alone(whom) && again.is_empty())
        && !kill.joins()
}

/// Checks that the damages of a step stand behind the kill that they need.
pub(super) fn check_together(faults: &[Fault]) -> Result<(), String> {
    let count = faults.iter().filter(|fault| matches!(fault, Fault::Corrupt(_))).count();
    let behind_a_kill = matches!(faults, [kill, Fault::Corrupt(_)] if fits(kill));
    if count > usize::from(behind_a_kill) {
        return Err("`corrupt CLASS by KIND` once, behind a kill (no cut, without `then at`) of a follower or the leader, and nothing \
                    else: one member is damaged at a time, and the others are well"
            .to_owned());
    }
    Ok(())
}

pub(super) fn check(Corruption { class, kind }: Corruption) -> Result<(), String> {
    match class.takes(kind) {
        true => Ok(()),
        false => Err(format!("another damage than {kind} for {class}: its files have no other chunk of that sort")),
    }
}

pub(super) struct DrawCorruption<'a> {
    scenario: &'a Scenario,
    draws: Stream,
}

impl<'a> DrawCorruption<'a> {
    pub fn new(scenario: &'a Scenario, seed: &Seed) -> Self {
        Self { scenario, draws: seed.stream("corruption") }
    }

    /// The damage behind `faults`, if they are one kill; `None`: there is none this time.
    pub fn fault(&mut self, faults: &[Fault]) -> Option<Fault> {
        let spec = self.scenario.corruption.as_ref()?;
        // All of them are drawn in every cycle, so that a weight moves as little as possible.
        let comes = self.draws.chance(spec.kills_percent.into(), 100);
        let class = *self.draws.weighted(&spec.classes)?;
        let kinds: Vec<_> = spec.kinds.iter().copied().filter(|(kind, _)| class.takes(*kind)).collect();
        let kind = *self.draws.weighted(&kinds)?;
        (comes && matches!(faults, [kill] if fits(kill))).then_some(Fault::Corrupt(Corruption { class, kind }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Plan;

    fn plan(step: &str) -> Result<Plan, String> {
        let text = format!("plan 1\nscenario x ab\nseed 1\ncycles 1\ncycle 1  {step}\n");
        text.parse::<Plan>().map_err(|error| error.to_string())
    }

    #[test]
    fn what_can_be_damaged_parses_back() {
        for class in FileClass::ALL {
            for kind in DamageKind::ALL {
                let step = format!("kill leader at applied +12 + corrupt {class} by {kind}");
                match plan(&step) {
                    Ok(plan) => {
                        assert!(class.takes(kind), "{step}");
                        assert_eq!(plan.steps[0].action(), step);
                    }
                    Err(why) => assert!(!class.takes(kind) && why.contains("another damage"), "{step}: {why}"),
                }
            }
        }
    }

    /// Damage follows kills, and moves none of them.
    #[test]
    fn a_share_of_the_kills_is_followed_by_damage() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/corruption.toml");
        let with = Scenario::load(&path).unwrap();
        let without = Scenario { corruption: None, ..with.clone() };
        let steps = |scenario: &Scenario| Plan::generate(scenario, &Seed::new(7), 200, 1).steps;
        let (with, without) = (steps(&with), steps(&without));
        assert!(with.iter().zip(&without).all(|(with, without)| with.faults[0] == without.faults[0]));
        let damaged = with.iter().filter(|step| matches!(step.faults[..], [_, Fault::Corrupt(_)])).count();
        assert!((120..180).contains(&damaged), "{damaged}");
        assert!(with.iter().all(|step| check_together(&step.faults).is_ok()));
    }

    #[test]
    fn one_member_is_damaged_at_a_time_and_only_while_it_is_dead() {
        assert!(plan("kill follower#1 at time 3ms + corrupt raft-log by truncation").is_ok());
        for step in [
            "corrupt raft-log by truncation",
            "kill all at time 3ms + corrupt raft-log by truncation",
            "kill minority#0 at time 3ms + corrupt raft-log by truncation",
            "cut leader at time 3ms + corrupt raft-log by truncation",
            "kill leader at time 3ms then at recovery.engine-open hit 1 + corrupt raft-log by truncation",
            "corrupt raft-log by truncation + kill leader at time 3ms",
            "kill leader at time 3ms + corrupt raft-log by truncation + corrupt marker by bit-flip",
            "slow all by 40ms for 900ms at time 40ms + kill leader at time 3ms + corrupt marker by bit-flip",
        ] {
            assert!(plan(step).is_err(), "{step}");
        }
        assert!(plan("kill leader at time 3ms + corrupt letters by bit-flip").is_err());
    }
}
