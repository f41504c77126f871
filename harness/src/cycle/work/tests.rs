use super::*;
use crate::cycle::SIGKILL;
use ninelives_evidence::clock;
use ninelives_evidence::record::{LastingKind, LastingRecord};
use ninelives_evidence::verdict::Class;
use ninelives_oracle::Origin;

pub(in crate::cycle) fn work() -> Work {
    Work::new(&Step { cycle: 4, faults: vec![kill_nobody()] }, &Pace::idle())
}

fn died() -> Trouble {
    Trouble::Died { member: 2, ended: Ended::Exited(65), served: false, lived_before: true, remark: None }
}

fn raised(kind: EvidenceKind, member: u64) -> Raised {
    let finding = Finding::of_class(Class::IndexAheadOfEngine).in_cycle(4).at_member(member);
    Raised { finding, by: Origin { line: 9, kind } }
}

#[test]
fn a_death_that_the_dead_directory_explains_keeps_its_class() {
    let mut work = work();
    work.findings.push(raised(EvidenceKind::Inspected, 2));
    assert_eq!(work.unexplained(&died(), died().finding(Some(4))), None);
    let found = &work.findings[0].finding;
    assert_eq!(found.class(), Class::IndexAheadOfEngine);
    assert_eq!(found.then, [died().finding(None).what]);
    assert!(found.sentence().contains("; then n2: expected it to start"), "{found}");
}

/// An alarm about a member's answers does not explain its death.
#[test]
fn a_death_beside_an_alarm_of_the_load_keeps_its_class() {
    let mut work = work();
    work.findings.push(raised(EvidenceKind::Done, 2));
    assert_eq!(work.unexplained(&died(), died().finding(Some(4))).unwrap().class(), Class::RefusedAfterOwnCrash);
}

#[test]
fn a_death_that_nothing_explains_is_a_refusal() {
    let mut work = work();
    work.findings.push(raised(EvidenceKind::Inspected, 1));
    assert_eq!(work.unexplained(&died(), died().finding(Some(4))).unwrap().class(), Class::RefusedAfterOwnCrash);
}

/// A kill of the leader, of a majority, of another member on the way, or a pause can each force
/// an election.
#[test]
fn only_kills_of_a_minority_of_followers_force_no_election() {
    let with = |victims: &[(u64, Role)], killed: &[u64]| {
        let mut work = work();
        work.victims = victims.iter().map(|(member, role)| Victim { member: *member, role: *role }).collect();
        let ended = Ended::KilledByUs(SIGKILL);
        let death = || Death { at: clock::now(), applied_received: None, ended };
        let casualty = |member: &u64| Casualty { member: *member, engine: Engine::Redb, death: death(), dead: None };
        work.casualties = killed.iter().map(casualty).collect();
        work
    };
    let follower = with(&[(2, Role::Follower)], &[2, 2]);
    assert!(follower.forces_no_election(3));
    assert!(!follower.forces_no_election(2));
    assert!(!with(&[(2, Role::Leader)], &[2]).forces_no_election(3));
    assert!(!with(&[(2, Role::Follower)], &[1, 2]).forces_no_election(3));
    assert!(!with(&[(2, Role::Follower), (3, Role::Follower)], &[2, 3]).forces_no_election(3));
    assert!(!with(&[], &[]).forces_no_election(3));
    let mut paused = with(&[(2, Role::Follower)], &[]);
    paused.record.lasting = vec![lasting(0)];
    assert!(!paused.forces_no_election(3));
}

pub(in crate::cycle) fn lasting(behind: u64) -> LastingRecord {
    let fault = "pause leader for 9ms at time 0ms".to_owned();
    LastingRecord { lasted_ms: Some(9), behind, ..LastingRecord::planned(fault, LastingKind::Pause) }
}
