//! Promise: a member of another cluster that listens where a member of this one did stays in its
//! own cluster, and nothing of this one's state reaches it. The other direction needs no judge of
//! its own: a key of a stranger in this cluster is a change that no operation made. And a founder
//! that was started from another state than the others is such a stranger.

use ninelives_evidence::StrangerSeen;
use ninelives_evidence::member::Slot;
use ninelives_evidence::verdict::Finding;
use ninelives_evidence::verdict::findings::Members;

/// Judges what the stranger in `slot` showed before it was killed.
pub fn check_stranger(cycle: u32, slot: Slot, seen: &StrangerSeen) -> Vec<Finding> {
    let mut broken = Vec::new();
    if seen.cluster != seen.founded {
        broken.push(Members::StrangerMoved { slot, founded: seen.founded, found: seen.cluster });
    }
    if !seen.foreign.is_empty() {
        broken.push(Members::StrangerHolds { slot, keys: seen.foreign.clone() });
    }
    broken.into_iter().map(|what| Finding::new(what).in_cycle(cycle)).collect()
}

/// Judges a founder of cluster `ours` that was started from another state: it has to be of another
/// cluster, alone.
pub fn check_unlike(cycle: u32, member: u64, (ours, cluster, leader): (u64, u64, u64)) -> Option<Finding> {
    let admitted = cluster == ours || leader != 0;
    let what = Members::UnlikeFounderAdmitted { member, ours, cluster, leader };
    admitted.then(|| Finding::new(what).in_cycle(cycle).at_member(member))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ninelives_evidence::verdict::Class;

    #[test]
    fn a_founder_that_is_unlike_is_alone_in_another_cluster() {
        let class = |cluster, leader| check_unlike(4, 2, (7, cluster, leader)).map(|found| found.class());
        assert_eq!(class(8, 0), None);
        assert_eq!(
            (class(7, 0), class(8, 1), class(7, 1)),
            (Some(Class::Model), Some(Class::Model), Some(Class::Model))
        );
    }

    #[test]
    fn a_stranger_stays_where_it_is_and_holds_its_own_keys_alone() {
        let classes = |cluster, foreign: &[&str]| {
            let foreign = foreign.iter().map(|key| (*key).to_owned()).collect();
            let seen = StrangerSeen { founded: 7, cluster, keys: 3, foreign };
            check_stranger(4, Slot(2), &seen).into_iter().map(|found| found.class()).collect::<Vec<_>>()
        };
        assert_eq!(classes(7, &[]), []);
        assert_eq!(classes(8, &[]), [Class::Model]);
        assert_eq!(classes(7, &["p/1"]), [Class::Phantom]);
        assert_eq!(classes(8, &["p/1"]), [Class::Model, Class::Phantom]);
    }
}
