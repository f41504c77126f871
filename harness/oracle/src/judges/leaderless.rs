//! Promise: a member that is cut off from every quorum says so, within a bound. A watch that
//! requires a leader (metadata `hasleader`) ends with an error, so that its client goes to another
//! member, and Status names no leader any more.
//!
//! etcd ends such a stream at the third look without a leader, one election timeout apart. A cut
//! that ends before the bound proves nothing.

use ninelives_evidence::Leaderless;
use ninelives_evidence::stretched::Stretched;
use ninelives_evidence::verdict::Finding;
use ninelives_evidence::verdict::findings::{Answers, Watches, What};

/// `bound_ms`, on an idle machine, as the pace of this one stretches it.
fn bound(seen: &Leaderless, bound_ms: u64) -> Stretched {
    Stretched { idle_ms: bound_ms, factor_percent: seen.machine_percent }
}

/// Whether the cut lasted long enough to tell.
pub(super) fn lasted(seen: &Leaderless, bound_ms: u64) -> bool {
    seen.lasted_ms >= bound(seen, bound_ms).ms()
}

/// Judges what a client saw of a member without a quorum. `bound_ms`: on an idle machine.
pub(super) fn check_leaderless(seen: &Leaderless, bound_ms: u64) -> Vec<Finding> {
    let Leaderless { cycle, member, lasted_ms, .. } = *seen;
    let (bound, fault) = (bound(seen, bound_ms), || seen.fault.clone());
    let ended_ms = seen.ended.as_ref().map(|end| end.after_ms);
    let mut broken: Vec<What> = Vec::new();
    if ended_ms.map_or(lasted(seen, bound_ms), |ended_ms| ended_ms > bound.ms()) {
        broken.push(Watches::HeldWithoutLeader { member, fault: fault(), bound, ended_ms, lasted_ms }.into());
    }
    if let Some(end) = seen.ended.as_ref().filter(|end| !end.by_error) {
        let (after_ms, why) = (end.after_ms, end.why.clone());
        broken.push(Watches::EndedWithoutError { member, fault: fault(), after_ms, why }.into());
    }
    if let Some(named) = seen.named.filter(|named| named.leader != 0 && named.after_ms > bound.ms()) {
        let (leader, after_ms) = (named.leader, named.after_ms);
        broken.push(Answers::LostLeaderNamed { member, leader, fault: fault(), after_ms, bound }.into());
    }
    broken.into_iter().map(|what| Finding::new(what).in_cycle(cycle).at_member(member)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ninelives_evidence::stretched::AS_IDLE;
    use ninelives_evidence::verdict::Class;
    use ninelives_evidence::{LeaderNamed, WatchEnd};

    const BOUND_MS: u64 = 6_000;

    fn seen(lasted_ms: u64, ended: Option<(u64, bool)>, named: Option<(u64, u64)>) -> Leaderless {
        let fault = "isolate leader for 9000ms at time +0ms".to_owned();
        let ended = ended.map(|(after_ms, by_error)| WatchEnd { after_ms, by_error, why: String::new() });
        let named = named.map(|(after_ms, leader)| LeaderNamed { after_ms, leader });
        Leaderless { cycle: 3, fault, member: 2, lasted_ms, ended, named, machine_percent: AS_IDLE }
    }

    fn classes(seen: &Leaderless) -> Vec<Class> {
        let findings = check_leaderless(seen, BOUND_MS);
        assert!(findings.iter().all(|finding| (finding.cycle, finding.member) == (Some(3), Some(2))));
        findings.into_iter().map(|finding| finding.class()).collect()
    }

    #[test]
    fn a_watch_that_requires_a_leader_ends_with_an_error_within_its_bound() {
        assert_eq!(classes(&seen(9_000, Some((3_100, true)), None)), []);
        assert_eq!(classes(&seen(9_000, None, None)), [Class::Watch], "silent");
        assert_eq!(classes(&seen(5_999, None, None)), [], "too short to tell");
        assert_eq!(classes(&seen(9_000, Some((6_001, true)), None)), [Class::Watch], "late");
        assert_eq!(classes(&seen(9_000, Some((3_100, false)), None)), [Class::Watch], "in order");
        let slow = Leaderless { machine_percent: 200, ..seen(9_000, None, None) };
        assert_eq!(classes(&slow), []);
        assert!(!lasted(&slow, BOUND_MS) && lasted(&seen(9_000, None, None), BOUND_MS));
    }

    #[test]
    fn status_names_no_leader_that_is_lost() {
        let ended = Some((3_100, true));
        assert_eq!(classes(&seen(9_000, ended, Some((8_500, 0)))), []);
        assert_eq!(classes(&seen(9_000, ended, Some((8_500, 1)))), [Class::Model]);
        assert_eq!(classes(&seen(9_000, ended, Some((6_000, 1)))), [], "asked within the bound");
    }
}
