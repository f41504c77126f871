//! The choice of victims: a pure function of the plan's *whom* and the present roles. Ranks count
//! slots, because the ids that live in them may change.

use crate::plan::Whom;
use crate::scenario::WhomKind;
use ninelives_evidence::member::Role;
use ninelives_evidence::record::Victim;

/// The choice of a check without a fault, which has no victims.
pub(super) const NOBODY: Whom = Whom { kind: WhomKind::All, rank: 0 };

/// The victims, the one that is armed first. `roles` has every member, ascending by slot, one of
/// them the leader.
pub(super) fn choose(whom: &Whom, roles: &[(u64, Role)]) -> Vec<Victim> {
    let minority = roles.len().saturating_sub(1) / 2;
    let all = |_: &Role| true;
    match whom.kind {
        WhomKind::Leader => take(roles, 0, 1, |role| *role == Role::Leader),
        WhomKind::Follower => take(roles, whom.rank, 1, |role| *role == Role::Follower),
        WhomKind::Minority => take(roles, whom.rank, minority, all),
        WhomKind::Majority => take(roles, whom.rank, minority + 1, all),
        WhomKind::All => take(roles, whom.rank, roles.len(), all),
    }
}

/// `count` of the members that fit, counted from the `rank`-th on.
fn take(roles: &[(u64, Role)], rank: u32, count: usize, fits: impl Fn(&Role) -> bool) -> Vec<Victim> {
    let fitting: Vec<_> = roles.iter().filter(|(_, role)| fits(role)).collect();
    let from = rank as usize % fitting.len().max(1);
    let rotated = fitting.iter().cycle().skip(from).take(count.min(fitting.len()));
    rotated.map(|(member, role)| Victim { member: *member, role: *role }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(kind: WhomKind, rank: u32, members: u64, leader: u64) -> Vec<u64> {
        let role = |id| if id == leader { Role::Leader } else { Role::Follower };
        let roles: Vec<_> = (1..=members).map(|id| (id, role(id))).collect();
        choose(&Whom { kind, rank }, &roles).into_iter().map(|victim| victim.member).collect()
    }

    #[test]
    fn ranks_count_ascending_slots_and_wrap() {
        assert_eq!(ids(WhomKind::Leader, 0, 3, 2), [2]);
        assert_eq!(ids(WhomKind::Follower, 0, 3, 2), [1]);
        assert_eq!(ids(WhomKind::Follower, 1, 3, 2), [3]);
        assert_eq!(ids(WhomKind::Follower, 2, 3, 2), [1]);
        assert_eq!(ids(WhomKind::Minority, 2, 3, 2), [3]);
        assert_eq!(ids(WhomKind::Majority, 2, 3, 2), [3, 1]);
        assert_eq!(ids(WhomKind::Minority, 4, 5, 2), [5, 1]);
        assert_eq!(ids(WhomKind::Majority, 3, 5, 2), [4, 5, 1]);
        assert_eq!(ids(WhomKind::All, 0, 3, 2), [1, 2, 3]);
    }
}
