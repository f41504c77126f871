//! The fault classes that a run covers.

use ninelives_evidence::record::{CycleRecord, LastingKind, LastingRecord};
use std::collections::BTreeSet;

/// The fault classes that `cycles` cover.
pub(super) fn fault_classes(cycles: &[CycleRecord]) -> Vec<String> {
    let again = |cycle: &CycleRecord| {
        let members: BTreeSet<u64> = cycle.victims.iter().map(|victim| victim.member).collect();
        cycle.landed() && cycle.kills.landed as usize > members.len()
    };
    let upgraded = |cycle: &CycleRecord| cycle.landed() && cycle.upgraded;
    let restored = |cycle: &CycleRecord| cycle.landed() && cycle.restored;
    let damaged = |cycle: &CycleRecord| cycle.damage.as_ref().is_some_and(|damage| damage.damage.is_some());
    let lasted = |kind| {
        // A disk that was not asked for what it refused has tested nothing.
        let of_disks = !matches!(kind, LastingKind::Pause | LastingKind::Network);
        let met = move |lasting: &LastingRecord| !of_disks || lasting.met > 0;
        let ended = move |lasting: &LastingRecord| lasting.kind == kind && lasting.lasted_ms.is_some() && met(lasting);
        cycles.iter().any(|cycle| cycle.lasting.iter().any(ended))
    };
    let covered = [
        ("kill", cycles.iter().any(|cycle| cycle.kills.landed > cycle.kills.power_losses)),
        ("kill again", cycles.iter().any(again)),
        ("power-loss", cycles.iter().any(|cycle| cycle.kills.power_losses > 0)),
        ("pause", lasted(LastingKind::Pause)),
        ("network", lasted(LastingKind::Network)),
        ("disk-full", lasted(LastingKind::Fill)),
        ("slow-disk", lasted(LastingKind::Slow)),
        ("io-error", lasted(LastingKind::FailSync)),
        ("read-error", lasted(LastingKind::FailRead)),
        ("write-error", lasted(LastingKind::FailWrite)),
        ("short-write", lasted(LastingKind::Shorten)),
        ("corruption", cycles.iter().any(damaged)),
        ("upgrade", cycles.iter().any(upgraded)),
        ("restore", cycles.iter().any(restored)),
    ];
    covered.into_iter().filter(|(_, covered)| *covered).map(|(class, _)| class.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::floors::tests::{pause, run};
    use ninelives_evidence::record::FaultOutcome;

    #[test]
    fn killing_again_takes_a_member_that_died_twice() {
        let mut run = run(1, 0, 0);
        assert_eq!(fault_classes(&run.cycles), ["kill"]);
        run.cycles[0].kills.landed = 2;
        assert_eq!(fault_classes(&run.cycles), ["kill", "kill again"]);
        run.cycles[0].outcome = FaultOutcome::Skipped { why: "not reached".to_owned() };
        assert_eq!(fault_classes(&run.cycles), ["kill"]);
        assert!(fault_classes(&[]).is_empty());
    }

    #[test]
    fn a_disk_that_failed_is_covered_once_it_was_asked() {
        let mut run = run(1, 0, 0);
        for (kind, class) in [
            (LastingKind::Fill, "disk-full"),
            (LastingKind::FailSync, "io-error"),
            (LastingKind::FailRead, "read-error"),
            (LastingKind::FailWrite, "write-error"),
            (LastingKind::Shorten, "short-write"),
            (LastingKind::Slow, "slow-disk"),
        ] {
            let mut lasting = LastingRecord { kind, lasted_ms: Some(9), ..pause() };
            run.cycles[0].lasting = vec![lasting.clone()];
            assert_eq!(fault_classes(&run.cycles), ["kill"], "{class}");
            lasting.met = 1;
            run.cycles[0].lasting = vec![lasting];
            assert_eq!(fault_classes(&run.cycles), ["kill", class]);
        }
    }

    #[test]
    fn a_pause_is_covered_once_it_has_ended() {
        let mut run = run(1, 0, 0);
        let mut lasting = pause();
        run.cycles[0].lasting = vec![lasting.clone()];
        assert_eq!(fault_classes(&run.cycles), ["kill"]);
        lasting.lasted_ms = Some(9);
        run.cycles[0].lasting = vec![lasting.clone(), LastingRecord { kind: LastingKind::Network, ..lasting }];
        assert_eq!(fault_classes(&run.cycles), ["kill", "pause", "network"]);
    }
}
