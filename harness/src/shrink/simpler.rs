//! Replacements of a step: each one does less, or says the same of fewer and nearer things.
//!
//! A window stays as it is, because it makes a replay land on the same step. A kill's applied index
//! and its time stay as well, because a smaller number makes a step no simpler.

use crate::plan::{Ailment, At, DiskFault, Fault, Link, Power, Restore, Step, Upgrade, Way, When, Whom};
use crate::scenario::WhomKind;

/// Shorter than this, a pause or a disturbance has no effect.
const LASTING_MS_MIN: u64 = 50;

/// Simpler steps than `step`, the simplest first. Some of them may not be steps that can be run.
pub fn simpler(step: &Step) -> Vec<Step> {
    let with = |faults: Vec<Fault>| Step { cycle: step.cycle, faults };
    let mut found = Vec::new();
    if step.faults.len() > 1 {
        found.extend(step.faults.iter().map(|fault| with(vec![fault.clone()])));
        let without =
            |at| step.faults.iter().enumerate().filter(move |(i, _)| *i != at).map(|(_, f)| f.clone()).collect();
        if step.faults.len() > 2 {
            found.extend((0..step.faults.len()).map(|at| with(without(at))));
        }
    }
    for (at, fault) in step.faults.iter().enumerate() {
        for replaced in simpler_fault(fault) {
            let mut faults = step.faults.clone();
            faults[at] = replaced;
            found.push(with(faults));
        }
    }
    found
}

fn simpler_fault(fault: &Fault) -> Vec<Fault> {
    match fault {
        Fault::Kill { whom, when, again, power } => {
            // A cut of the last kill alone is one of the first where no other is left.
            let kill = |whom, when, again: Vec<At>| {
                let power = match *power {
                    Power::FailsLast { keep_percent } if again.is_empty() => Power::Fails { keep_percent },
                    power => power,
                };
                Fault::Kill { whom, when, again, power }
            };
            let plain = (*power != Power::Stays).then(|| Fault::Kill {
                whom: *whom,
                when: *when,
                again: again.clone(),
                power: Power::Stays,
            });
            let fewer = shorter(again).into_iter().map(|again| kill(*whom, *when, again));
            let nearer = fewer_members(*whom).into_iter().map(|whom| kill(whom, *when, again.clone()));
            let first = first_hit(*when).into_iter().map(|when| kill(*whom, when, again.clone()));
            plain.into_iter().chain(fewer).chain(nearer).chain(first).collect()
        }
        Fault::Pause { whom, when, ms } => {
            let pause = |whom, when, ms| Fault::Pause { whom, when, ms };
            let nearer = fewer_members(*whom).into_iter().map(|whom| pause(whom, *when, *ms));
            let first = first_hit(*when).into_iter().map(|when| pause(*whom, when, *ms));
            let brief = briefer(*ms).into_iter().map(|ms| pause(*whom, *when, ms));
            nearer.chain(first).chain(brief).collect()
        }
        Fault::Network { link, whom, when, ms } => {
            let network = |link, whom, when, ms| Fault::Network { link, whom, when, ms };
            let nearer = fewer_members(*whom).into_iter().map(|whom| network(*link, whom, *when, *ms));
            let first = first_hit(*when).into_iter().map(|when| network(*link, *whom, when, *ms));
            let brief = briefer(*ms).into_iter().map(|ms| network(*link, *whom, *when, ms));
            let sooner = match link {
                Link::Delay { by_ms } => briefer(*by_ms),
                Link::Isolate | Link::Mute | Link::Deafen => Vec::new(),
            };
            let sooner = sooner.into_iter().map(|by_ms| network(Link::Delay { by_ms }, *whom, *when, *ms));
            nearer.chain(first).chain(brief).chain(sooner).collect()
        }
        Fault::Strangers { ms } => briefer(*ms).into_iter().map(|ms| Fault::Strangers { ms }).collect(),
        Fault::Corrupt(_) => Vec::new(),
        Fault::Disk(fault) => {
            let disk = |whom, when, ailment| Fault::Disk(DiskFault { ailment, whom, when });
            let nearer = fewer_members(fault.whom).into_iter().map(|whom| disk(whom, fault.when, fault.ailment));
            let first = first_hit(fault.when).into_iter().map(|when| disk(fault.whom, when, fault.ailment));
            let milder = milder(fault.ailment).into_iter().map(|ailment| disk(fault.whom, fault.when, ailment));
            nearer.chain(first).chain(milder).collect()
        }
        Fault::Upgrade(upgrade) => unharmed(*upgrade).into_iter().map(Fault::Upgrade).collect(),
        Fault::Restore(restore) => plainer(*restore).into_iter().map(Fault::Restore).collect(),
    }
}

/// What a disk does, for a shorter time, or without losing anything.
fn milder(ailment: Ailment) -> Vec<Ailment> {
    match ailment {
        Ailment::Fill { left_kib, ms } => briefer(ms).into_iter().map(|ms| Ailment::Fill { left_kib, ms }).collect(),
        Ailment::Slow { by_ms, ms } => {
            let brief = briefer(ms).into_iter().map(|ms| Ailment::Slow { by_ms, ms });
            brief.chain(briefer(by_ms).into_iter().map(|by_ms| Ailment::Slow { by_ms, ms })).collect()
        }
        Ailment::FailSync { losing: true } => vec![Ailment::FailSync { losing: false }],
        Ailment::FailSync { losing: false } => Vec::new(),
        Ailment::Fail { operation, hit, ms } => {
            let first = (hit > 1).then_some(Ailment::Fail { operation, hit: 1, ms });
            let once = (ms > 0 && !operation.reads()).then_some(Ailment::Fail { operation, hit, ms: 0 });
            let brief = briefer(ms).into_iter().map(|ms| Ailment::Fail { operation, hit, ms });
            once.into_iter().chain(first).chain(brief).collect()
        }
        Ailment::Shorten { operation, ms } => {
            briefer(ms).into_iter().map(|ms| Ailment::Shorten { operation, ms }).collect()
        }
    }
}

/// The further kills reduced: to none, by one of them, and to first hits.
fn shorter(again: &[At]) -> Vec<Vec<At>> {
    let mut found = Vec::new();
    if !again.is_empty() {
        found.push(Vec::new());
    }
    if again.len() > 1 {
        found.extend((0..again.len()).map(|without| {
            again.iter().enumerate().filter(|(i, _)| *i != without).map(|(_, at)| *at).collect::<Vec<_>>()
        }));
    }
    for at in again.iter().enumerate().filter(|(_, at)| at.hit > 1).map(|(i, _)| i) {
        let mut first = again.to_vec();
        first[at].hit = 1;
        found.push(first);
    }
    found
}

/// Fewer members, from a single follower on, and the first of the members that can be chosen.
fn fewer_members(whom: Whom) -> Vec<Whom> {
    use WhomKind::{All, Follower, Leader, Majority, Minority};
    let kinds: &[WhomKind] = match whom.kind {
        All => &[Follower, Minority, Majority],
        Majority => &[Follower, Minority],
        Minority => &[Follower],
        Leader | Follower => &[],
    };
    let fewer = kinds.iter().flat_map(|kind| {
        let ranks = if whom.rank == 0 { vec![0] } else { vec![0, whom.rank] };
        ranks.into_iter().map(|rank| Whom { kind: *kind, rank })
    });
    let first = (whom.rank > 0).then_some(Whom { rank: 0, ..whom });
    fewer.chain(first).collect()
}

fn first_hit(when: When) -> Option<When> {
    match when {
        When::Window { window, hit } if hit > 1 => Some(When::Window { window, hit: 1 }),
        _ => None,
    }
}

fn briefer(ms: u64) -> Vec<u64> {
    let mut found = vec![ms / 4, ms / 2];
    found.retain(|brief| *brief >= LASTING_MS_MIN);
    found
}

/// The same restore, interrupted by nothing, or at the first hit, of founders that are all alike,
/// and into the engines that the members have.
fn plainer(restore: Restore) -> Vec<Restore> {
    let unharmed = restore.kill.map(|_| Restore { kill: None, ..restore });
    let first = restore.kill.filter(|at| at.hit > 1).map(|at| Restore { kill: Some(At { hit: 1, ..at }), ..restore });
    let same = restore.other.then_some(Restore { other: false, ..restore });
    let alike = restore.unlike.map(|_| Restore { unlike: None, ..restore });
    unharmed.into_iter().chain(first).chain(alike).chain(same).collect()
}

/// The same change of engine, interrupted by nothing, or at the first hit.
fn unharmed(upgrade: Upgrade) -> Vec<Upgrade> {
    let by = |way| Upgrade { way, ..upgrade };
    match upgrade.way {
        Way::Migrate { kill, cut } => {
            let no_cut = cut.map(|_| by(Way::Migrate { kill, cut: None }));
            let no_kill = kill.map(|_| by(Way::Migrate { kill: None, cut }));
            let late = kill.filter(|(at, _)| at.hit > 1);
            let first = late.map(|(at, then)| by(Way::Migrate { kill: Some((At { hit: 1, ..at }, then)), cut }));
            no_cut.into_iter().chain(no_kill).chain(first).collect()
        }
        Way::Replace { kill: Some(at) } => {
            let first = (at.hit > 1).then(|| by(Way::Replace { kill: Some(At { hit: 1, ..at }) }));
            [by(Way::Replace { kill: None })].into_iter().chain(first).collect()
        }
        Way::Replace { kill: None } => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::candidate::tests::candidate;
    use super::*;

    fn of(step: &str) -> Vec<String> {
        simpler(&candidate(&[step]).steps()[0]).iter().map(Step::action).collect()
    }

    #[test]
    fn a_kill_loses_its_sequel_its_company_and_its_hits() {
        assert_eq!(
            of("kill majority#2 at flush.completed hit 2 then at recovery.engine-open hit 1"),
            [
                "kill majority#2 at flush.completed hit 2",
                "kill follower#0 at flush.completed hit 2 then at recovery.engine-open hit 1",
                "kill follower#2 at flush.completed hit 2 then at recovery.engine-open hit 1",
                "kill minority#0 at flush.completed hit 2 then at recovery.engine-open hit 1",
                "kill minority#2 at flush.completed hit 2 then at recovery.engine-open hit 1",
                "kill majority#0 at flush.completed hit 2 then at recovery.engine-open hit 1",
                "kill majority#2 at flush.completed hit 1 then at recovery.engine-open hit 1",
            ]
        );
        assert!(of("kill leader at applied +120").is_empty() && of("kill follower#0 at flush.begin hit 1").is_empty());
    }

    #[test]
    fn of_several_faults_each_is_tried_alone() {
        let alone = of("isolate leader for 800ms at applied +12 + kill follower#0 at time 240ms");
        assert_eq!(alone[..2], ["isolate leader for 800ms at applied +12", "kill follower#0 at time 240ms"]);
        assert!(alone.contains(&"isolate leader for 200ms at applied +12 + kill follower#0 at time 240ms".to_owned()));
        assert_eq!(
            of("delay leader by 80ms for 240ms at time 0ms"),
            ["delay leader by 80ms for 60ms at time 0ms", "delay leader by 80ms for 120ms at time 0ms"]
        );
    }

    /// A stay needs the kill that makes room for it; without one it would never be run.
    #[test]
    fn strangers_go_with_their_kill_or_stay_briefer() {
        let simpler = of("kill leader at applied +12 + strangers for 800ms");
        assert_eq!(simpler[0], "kill leader at applied +12");
        assert!(simpler.contains(&"kill leader at applied +12 + strangers for 200ms".to_owned()), "{simpler:?}");
        let alone = candidate(&["kill leader at applied +12 + strangers for 800ms"]);
        let stay = alone.steps()[0].faults[1].clone();
        assert_eq!(alone.with_steps(vec![Step { cycle: 1, faults: vec![stay] }]), None);
    }

    #[test]
    fn an_upgrade_is_left_alone_by_kills() {
        assert_eq!(
            of("upgrade slot#2 to redb by migrate at migrate.copied hit 1 then serve"),
            ["upgrade slot#2 to redb by migrate"]
        );
        assert!(of("upgrade slot#2 to redb by replace").is_empty());
    }

    #[test]
    fn a_restore_loses_its_kill_and_its_change_of_engine() {
        assert_eq!(
            of("restore slot#2 by one into other at restore.image hit 2"),
            [
                "restore slot#2 by one into other",
                "restore slot#2 by one into other at restore.image hit 1",
                "restore slot#2 by one at restore.image hit 2"
            ]
        );
        assert_eq!(of("restore slot#2 by all unlike slot#1 older"), ["restore slot#2 by all"]);
        assert!(of("restore slot#2 by all").is_empty());
    }
}
