//! Promise: a change of engine on a dead directory keeps the state's index, the raft log and the
//! vote, wherever it is interrupted: there is always one engine that opens, with exactly the same
//! state as before.

use super::replay_start::Restart;
use ninelives_evidence::DeadMember;
use ninelives_evidence::member::Engine;
use ninelives_evidence::verdict::Finding;
use ninelives_evidence::verdict::findings::Restarts;
use ninelives_evidence::verdict::findings::parts::{DeadWatermark, Migration, Store};
use std::cmp::Ordering;

/// Judges the directory `restart.dead` after a `migrate`, against `before` it. `to`: the engine
/// that it must have by now; `None`: `migrate` was interrupted, and it may be either. N is not
/// judged here: it is written late, and the judge of recovery looks at it.
pub fn check_kept(restart: &Restart<'_>, before: &DeadMember, to: Option<Engine>) -> Vec<Finding> {
    let dead = restart.dead;
    let after = if to.is_some() { Migration::Finished } else { Migration::Killed };
    let mut findings = Vec::new();
    for (store, error) in [(Store::Engine, &dead.engine_error), (Store::RaftLog, &dead.log_error)] {
        if let Some(error) = error.clone() {
            findings.push(restart.finding(Restarts::UnreadableAfterMigration { after, store, error }));
        }
    }
    if !findings.is_empty() {
        return findings;
    }
    if let (Some(to), Some(found)) = (to, dead.engine)
        && to != found
    {
        findings.push(restart.finding(Restarts::MigratedToAnother { to, found }));
    }
    for (mark, was, is) in [
        (DeadWatermark::Engine, before.engine_index, dead.engine_index),
        (DeadWatermark::LogLast, before.log_last, dead.log_last),
        (DeadWatermark::LastPurged, before.last_purged, dead.last_purged),
    ] {
        match is.cmp(&was) {
            Ordering::Less => findings.push(restart.finding(Restarts::MigrationLost { after, mark, was, is })),
            Ordering::Greater => findings.push(restart.finding(Restarts::MigrationGained { after, mark, was, is })),
            Ordering::Equal => {}
        }
    }
    let (was, is) = (before.vote(), dead.vote());
    if was != is {
        findings.push(restart.finding(Restarts::MigrationChangedVote { after, was, is }));
    }
    findings
}

/// N of an interrupted migration, as start-up has to leave it: the old one if it is undone, E if it
/// is finished, because the new engine holds a complete and synced image.
pub fn settle_index(before: &DeadMember, dead: &mut DeadMember) {
    dead.last_flushed_index = if dead.engine == before.engine { before.last_flushed_index } else { dead.engine_index };
    dead.last_flushed_index_error = None;
}

#[cfg(test)]
mod tests {
    use super::*;
    use ninelives_evidence::verdict::Class;

    fn before() -> DeadMember {
        DeadMember {
            engine: Some(Engine::Redb),
            last_flushed_index: Some(9),
            engine_index: Some(9),
            log_last: Some(12),
            last_purged: Some(4),
            vote_term: Some(3),
            vote_node: Some(1),
            ..DeadMember::default()
        }
    }

    fn classes(to: Option<Engine>, change: impl Fn(&mut DeadMember)) -> Vec<Class> {
        let mut dead = before();
        change(&mut dead);
        let restart = Restart { cycle: 4, member: 2, dead: &dead, applied_received: Some(11) };
        check_kept(&restart, &before(), to).into_iter().map(|finding| finding.class()).collect()
    }

    #[test]
    fn what_is_kept_passes_and_n_may_be_late() {
        assert_eq!(classes(None, |_| {}), []);
        assert_eq!(classes(None, |dead| dead.last_flushed_index = None), []);
        assert_eq!(classes(None, |dead| dead.engine = Some(Engine::Rocksdb)), []);
        assert_eq!(classes(Some(Engine::Rocksdb), |dead| dead.engine = Some(Engine::Rocksdb)), []);
    }

    #[test]
    fn what_is_not_kept_is_named() {
        assert_eq!(classes(Some(Engine::Rocksdb), |_| {}), [Class::RefusedAfterOwnCrash], "it is still redb");
        assert_eq!(classes(None, |dead| dead.engine_index = Some(8)), [Class::LostWrite]);
        assert_eq!(classes(None, |dead| dead.engine_index = Some(10)), [Class::ReplayStart]);
        assert_eq!(classes(None, |dead| dead.log_last = None), [Class::LostWrite]);
        assert_eq!(classes(None, |dead| dead.vote_term = Some(2)), [Class::VoteWentBack]);
        let neither = |dead: &mut DeadMember| dead.engine_error = Some("no database".to_owned());
        assert_eq!(classes(None, neither), [Class::RefusedAfterOwnCrash]);
    }

    #[test]
    fn n_is_the_old_one_if_undone_and_e_if_finished() {
        let before = DeadMember {
            engine: Some(Engine::Rocksdb),
            last_flushed_index: Some(4),
            engine_index: Some(9),
            ..DeadMember::default()
        };
        let mut undone = DeadMember { last_flushed_index: None, ..before.clone() };
        settle_index(&before, &mut undone);
        assert_eq!(undone.last_flushed_index, Some(4));
        let mut finished = DeadMember { engine: Some(Engine::Redb), ..before.clone() };
        settle_index(&before, &mut finished);
        assert_eq!(finished.last_flushed_index, Some(9));
    }
}
