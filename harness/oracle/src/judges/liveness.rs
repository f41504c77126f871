//! Promise: a majority whose members all hear each other takes a write within its bound, whichever
//! members are cut off from it; and after healing a cluster serves again, within its bounds: every
//! member has caught up, a leader takes a write and a quorum commits it, and every member serves a
//! linearizable read.
//!
//! Liveness is promised only under fair conditions: all members run, none stands still, and either
//! no link is disturbed or a majority is left undisturbed. A cut that ends before the bound, with
//! no write, proves nothing. A cluster counts as healed when the last fault of a cycle has ended
//! and every member serves; the bounds are the scenario's. The write is the fence, which goes
//! through the same log as any other write. The judge uses recorded times, so that it can judge
//! them again.

use ninelives_evidence::stretched::Stretched;
use ninelives_evidence::verdict::Finding;
use ninelives_evidence::verdict::findings::parts::Healed;
use ninelives_evidence::verdict::findings::{Answers, Members, What};
use ninelives_evidence::{Cut, Healing, HealingBounds, Served};

/// Judges `cut`. `bound_ms`: on an idle machine.
pub fn check_cut(cut: &Cut, bound_ms: u64) -> Option<Finding> {
    let Cut { cycle, fault, majority, lasted_ms, wrote_ms, machine_percent } = cut;
    let bound = Stretched { idle_ms: bound_ms, factor_percent: *machine_percent };
    let late = wrote_ms.map_or(*lasted_ms >= bound.ms(), |wrote_ms| wrote_ms > bound.ms());
    late.then(|| {
        let (majority, fault) = (majority.clone(), fault.clone());
        let what = Members::MajorityLate { majority, bound, fault, wrote_ms: *wrote_ms, lasted_ms: *lasted_ms };
        Finding::new(what).in_cycle(*cycle)
    })
}

/// Judges `healing`. A read from before the fence is stale, not late.
pub fn check_healing(healing: &Healing, bounds: HealingBounds) -> Vec<Finding> {
    let mut findings = Vec::new();
    let late = |task: Healed, took_ms: u64, idle_ms: u64| {
        let bound = bounds.stretched(idle_ms);
        (took_ms > bound.ms()).then(|| What::from(Members::HealedLate { task, bound, took_ms }))
    };
    findings.extend(late(Healed::CatchUp, healing.caught_up_ms, bounds.catch_up).map(Finding::new));
    findings.extend(late(Healed::Fence, healing.fence_ms, bounds.fence).map(Finding::new));
    for Served { member, ms, answer } in &healing.served {
        let (member, fence_revision) = (*member, healing.revision);
        let what = match answer {
            Err(why) => {
                let (bound, why) = (bounds.stretched(bounds.read), why.clone());
                Some(Members::ReadUnanswered { member, bound, took_ms: *ms, why }.into())
            }
            Ok(revision) if *revision < fence_revision => {
                Some(Answers::StaleBehindFence { member, revision: *revision, fence_revision }.into())
            }
            Ok(_) => late(Healed::Read, *ms, bounds.read),
        };
        findings.extend(what.map(|what| Finding::new(what).at_member(member)));
    }
    findings.into_iter().map(|finding| finding.in_cycle(healing.cycle)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ninelives_evidence::stretched::AS_IDLE;
    use ninelives_evidence::verdict::Class;

    const BOUNDS: HealingBounds = HealingBounds { catch_up: 100, fence: 50, read: 20, machine_percent: AS_IDLE };

    fn classes(alter: impl Fn(&mut Healing)) -> Vec<(Class, Option<u64>)> {
        let served = (1..=3).map(|member| Served { member, ms: 3, answer: Ok(40) }).collect();
        let mut healing = Healing { cycle: 7, caught_up_ms: 90, fence_ms: 50, revision: 40, served };
        alter(&mut healing);
        let findings = check_healing(&healing, BOUNDS);
        assert!(findings.iter().all(|finding| finding.cycle == Some(7)));
        findings.into_iter().map(|finding| (finding.class(), finding.member)).collect()
    }

    #[test]
    fn a_healed_cluster_serves_within_its_bounds() {
        assert_eq!(classes(|_| {}), []);
        assert_eq!(classes(|h| h.caught_up_ms = 101), [(Class::Liveness, None)]);
        assert_eq!(classes(|h| h.fence_ms = 51), [(Class::Liveness, None)]);
        assert_eq!(classes(|h| h.served[1].ms = 21), [(Class::Liveness, Some(2))]);
        assert_eq!(classes(|h| h.served[2].answer = Err("no answer".into())), [(Class::Liveness, Some(3))]);
    }

    fn judge(lasted_ms: u64, wrote_ms: Option<u64>, machine_percent: u32) -> Option<Finding> {
        let fault = "deafen leader for 6000ms at time +0ms".to_owned();
        check_cut(&Cut { cycle: 3, fault, majority: vec![1, 3], lasted_ms, wrote_ms, machine_percent }, 5_000)
    }

    #[test]
    fn bounds_are_stretched_by_the_machines_factor_and_both_are_told() {
        assert_eq!(judge(9_000, Some(7_400), 150), None);
        let found = judge(9_000, Some(7_501), 150).unwrap();
        assert!(found.sentence().contains("within 7500 ms (5000 ms × 1.50, the machine's factor)"), "{found}");
        let slow = HealingBounds { machine_percent: 200, ..BOUNDS };
        let healing = |fence_ms| Healing { cycle: 7, caught_up_ms: 0, fence_ms, revision: 40, served: Vec::new() };
        assert_eq!(check_healing(&healing(100), slow), []);
        let late = check_healing(&healing(101), slow);
        assert!(late[0].sentence().contains("100 ms (50 ms × 2.00"), "{}", late[0]);
    }

    #[test]
    fn a_connected_majority_writes_while_others_are_cut_off() {
        let judge = |lasted_ms, wrote_ms| judge(lasted_ms, wrote_ms, AS_IDLE);
        assert_eq!(judge(6_000, Some(900)), None);
        assert_eq!(judge(4_999, None), None, "too short to tell");
        let found = judge(6_000, None).unwrap();
        assert_eq!((found.class(), found.cycle), (Class::Liveness, Some(3)));
        assert!(
            found.sentence().contains("expected n1, n3, a majority") && found.sentence().contains("none in 6000 ms")
        );
        assert!(judge(6_000, Some(5_001)).unwrap().sentence().contains("the first after 5001 ms"));
    }

    #[test]
    fn a_read_from_before_the_fence_is_stale() {
        assert_eq!(classes(|h| h.served[0].answer = Ok(39)), [(Class::Linearizability, Some(1))]);
        assert_eq!(classes(|h| h.served[0].answer = Ok(41)), [], "writes go on");
    }
}
