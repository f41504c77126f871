use super::*;
use crate::judges::testing::{dead, recovered};
use ninelives_evidence::verdict::Class;

fn killed(dead: &DeadMember, applied_received: Option<u64>) -> Restart<'_> {
    Restart { cycle: 1, member: 2, dead, applied_received }
}

fn directory(alter: impl Fn(&mut DeadMember)) -> Vec<Class> {
    directory_after(None, alter)
}

fn directory_after(applied: Option<u64>, alter: impl Fn(&mut DeadMember)) -> Vec<Class> {
    let mut dead = dead();
    alter(&mut dead);
    check_dead(&killed(&dead, applied)).into_iter().map(|finding| finding.class()).collect()
}

fn restart(alter: impl Fn(&mut DeadMember, &mut Recovered)) -> Vec<String> {
    restart_after(None, alter)
}

fn restart_after(applied: Option<u64>, alter: impl Fn(&mut DeadMember, &mut Recovered)) -> Vec<String> {
    let (mut dead, mut recovery) = (dead(), recovered());
    alter(&mut dead, &mut recovery);
    let findings = check_replay_start(&killed(&dead, applied), &recovery);
    assert!(findings.iter().all(|f| f.class() == Class::ReplayStart && f.member == Some(2) && f.cycle == Some(1)));
    findings.into_iter().map(|finding| finding.sentence()).collect()
}

#[test]
fn a_sound_directory_passes_and_each_broken_promise_has_its_class() {
    assert_eq!(directory(|_| {}), []);
    assert_eq!(directory(|d| d.engine_index = Some(10)), [], "E = N");
    assert_eq!(directory(|d| d.last_purged = Some(10)), [], "purged through N");
    assert_eq!(directory(|d| *d = DeadMember::default()), [], "nothing happened yet");
    assert_eq!(directory(|d| (d.last_flushed_index, d.last_purged) = (None, None)), [], "nothing flushed yet");
    assert_eq!(directory(|d| d.engine_index = Some(9)), [Class::IndexAheadOfEngine]);
    assert_eq!(directory(|d| d.engine_index = None), [Class::IndexAheadOfEngine]);
    assert_eq!(directory(|d| d.last_purged = Some(11)), [Class::PurgedAboveN]);
    assert_eq!(directory(|d| d.last_flushed_index = None), [Class::PurgedAboveN], "purged, and nothing flushed");
    assert_eq!(directory(|d| d.last_flushed_index_error = Some("bad checksum".into())), [Class::RefusedAfterOwnCrash]);
    assert_eq!(directory(|d| d.engine_error = Some("missing SST".into())), [Class::RefusedAfterOwnCrash]);
    let unreadable = |d: &mut DeadMember| {
        *d = DeadMember { log_error: Some("bad record".into()), engine_index: Some(14), ..DeadMember::default() };
    };
    assert_eq!(directory_after(Some(20), unreadable), [Class::RefusedAfterOwnCrash]);
}

#[test]
fn what_was_applied_is_in_the_dead_log() {
    assert_eq!(directory_after(Some(20), |_| {}), []);
    assert_eq!(directory_after(Some(21), |_| {}), [Class::LostWrite]);
    let empty = |d: &mut DeadMember| *d = DeadMember::default();
    assert_eq!(directory_after(None, empty), []);
    assert_eq!(directory_after(Some(0), empty), [Class::LostWrite]);
    let all_purged = |d: &mut DeadMember| {
        (d.last_flushed_index, d.engine_index) = (Some(30), Some(30));
        (d.log_first, d.log_last, d.last_purged) = (None, None, Some(30));
    };
    assert_eq!(directory_after(Some(30), all_purged), []);
}

#[test]
fn only_an_install_under_way_excuses_an_engine_ahead_of_the_log() {
    let ahead = |installing: Option<bool>| {
        move |d: &mut DeadMember| (d.engine_index, d.install_under_way) = (Some(50), installing)
    };
    for applied in [None, Some(25)] {
        assert_eq!(directory_after(applied, ahead(Some(true))), [], "killed inside an install");
        assert_eq!(directory_after(applied, ahead(Some(false))), [Class::LostWrite], "{applied:?}");
        assert_eq!(directory_after(applied, ahead(None)), [], "a record that is older than the question");
    }
    assert_eq!(
        directory_after(Some(21), |d| d.install_under_way = Some(true)),
        [Class::LostWrite],
        "E does not cover it"
    );
}

#[test]
fn an_install_that_a_start_was_finishing_is_carried_on() {
    let look = |engine_index, installing| DeadMember {
        engine_index: Some(engine_index),
        install_under_way: Some(installing),
        ..dead()
    };
    let carried = |before: &DeadMember, engine_index| {
        let mut dead = look(engine_index, false);
        carry_install(before, &mut dead);
        dead.install_under_way
    };
    assert_eq!(carried(&look(50, true), 50), Some(true));
    assert_eq!(carried(&look(50, true), 51), Some(false), "another state");
    assert_eq!(carried(&look(50, false), 50), Some(false), "nothing to carry");
    assert_eq!(carried(&look(14, true), 14), Some(false), "received, and not exchanged yet");
}

#[test]
fn a_replay_reaches_what_was_applied_before() {
    let to = |last: u64| {
        move |_: &mut DeadMember, r: &mut Recovered| {
            r.replayed = Some(IndexRange { first: 15, last });
        }
    };
    assert_eq!(restart_after(Some(18), to(18)), [""; 0], "the tail was overwritten");
    assert_eq!(restart_after(Some(18), to(17)).len(), 1);
    assert_eq!(restart_after(Some(15), |_, r| r.replayed = None).len(), 1);
    assert_eq!(restart_after(Some(14), |_, r| r.replayed = None), [""; 0], "E proves all of it");
}

#[test]
fn a_sound_restart_passes() {
    assert_eq!(restart(|_, _| {}), [""; 0]);
    let nothing_verified = |d: &mut DeadMember, r: &mut Recovered| {
        (d.engine_index, r.engine_index, r.verified) = (Some(10), Some(10), None);
        r.replayed = Some(IndexRange { first: 11, last: 20 });
    };
    assert_eq!(restart(nothing_verified), [""; 0]);
    let nothing_to_scan = |d: &mut DeadMember, r: &mut Recovered| {
        (d.last_flushed_index, d.engine_index, d.log_last) = (Some(20), Some(20), Some(20));
        (r.last_flushed_index, r.engine_index, r.log_last) = (Some(20), Some(20), Some(20));
        (r.scan_start, r.verified, r.replayed) = (None, None, None);
    };
    assert_eq!(restart(nothing_to_scan), [""; 0]);
    let never_flushed = |d: &mut DeadMember, r: &mut Recovered| {
        *d = DeadMember { log_first: Some(0), log_last: Some(20), ..DeadMember::default() };
        (r.last_flushed_index, r.engine_index, r.last_purged, r.verified) = (None, None, None, None);
        (r.scan_start, r.replayed) = (Some(0), Some(IndexRange { first: 0, last: 20 }));
    };
    assert_eq!(restart(never_flushed), [""; 0]);
}

#[test]
fn each_way_to_start_wrong_is_refused() {
    assert_eq!(restart(|_, r| r.scan_start = Some(12)).len(), 1, "one skipped");
    assert_eq!(restart(|_, r| r.scan_start = Some(10)).len(), 1, "one repeated");
    assert_eq!(restart(|_, r| r.scan_start = None).len(), 1, "never scanned");
    assert_eq!(restart(|_, r| r.verified = None).len(), 1);
    assert_eq!(restart(|_, r| r.verified = Some(IndexRange { first: 11, last: 13 })).len(), 1);
    assert_eq!(restart(|_, r| r.replayed = Some(IndexRange { first: 14, last: 20 })).len(), 1, "E applied twice");
    assert_eq!(restart(|_, r| r.replayed = Some(IndexRange { first: 16, last: 20 })).len(), 1, "E+1 skipped");
    assert_eq!(restart(|_, r| r.replayed = Some(IndexRange { first: 15, last: 21 })).len(), 1, "beyond the log");
    assert_eq!(restart(|_, r| r.last_flushed_index = Some(9)).len(), 1, "another N than the directory's");
    assert_eq!(restart(|_, r| r.engine_index = Some(15)).len(), 1, "another E");
}

#[test]
fn a_snapshot_excuses_what_it_replaced_and_nothing_else() {
    let installed = |start: Option<u64>, at: u64| {
        restart(move |_, r| {
            (r.snapshot_installed, r.scan_start, r.verified, r.replayed) = (Some(at), start, None, None);
        })
    };
    assert_eq!(installed(None, 50), [""; 0]);
    assert_eq!(installed(Some(51), 50), [""; 0]);
    assert_eq!(installed(Some(11), 50), [""; 0], "the scan had begun");
    assert_eq!(installed(Some(12), 50).len(), 1);
    assert_eq!(installed(Some(11), 10).len(), 1, "a snapshot at N is refused");
    let after_replay = |verified: Option<IndexRange>| {
        restart_after(Some(20), move |_, r| {
            (r.snapshot_installed, r.verified) = (Some(50), verified);
            r.replayed = Some(IndexRange { first: 15, last: 16 });
        })
    };
    assert_eq!(after_replay(Some(IndexRange { first: 11, last: 14 })), [""; 0]);
    assert_eq!(after_replay(Some(IndexRange { first: 11, last: 13 })).len(), 1);
    assert_eq!(after_replay(None).len(), 1, "applied from E+1 on, and (N, E] was not looked at");
}

/// The same member on redb: N = E = 14, nothing to verify.
fn on_redb(dead: &mut DeadMember, recovery: &mut Recovered) {
    (dead.engine, dead.last_flushed_index) = (Some(Engine::Redb), Some(14));
    (recovery.last_flushed_index, recovery.verified, recovery.scan_start) = (Some(14), None, Some(15));
}

#[test]
fn on_redb_n_is_e() {
    assert_eq!(restart(on_redb), Vec::<String>::new());
    let silent = restart(|dead, recovery| {
        on_redb(dead, recovery);
        recovery.last_flushed_index = None;
    });
    assert_eq!(silent, Vec::<String>::new(), "it may leave N at its definition");
    let again = restart(|dead, recovery| {
        on_redb(dead, recovery);
        recovery.replayed = Some(IndexRange { first: 14, last: 20 });
    });
    assert!(again.len() == 1 && again[0].contains("E+1 = 15"), "{again:?}");
}

/// Killed behind the exchange: the database is the snapshot, and the log still ends before it.
#[test]
fn on_redb_an_interrupted_install_is_finished_at_open() {
    let finish = |dead: &mut DeadMember, recovery: &mut Recovered| {
        on_redb(dead, recovery);
        (dead.last_flushed_index, dead.engine_index) = (Some(90), Some(90));
        (recovery.last_flushed_index, recovery.engine_index) = (Some(90), Some(90));
        (recovery.snapshot_installed, recovery.scan_start, recovery.replayed) = (Some(90), Some(91), None);
    };
    assert_eq!(restart(finish), Vec::<String>::new());
    let older = restart(|dead, recovery| {
        finish(dead, recovery);
        recovery.snapshot_installed = Some(80);
    });
    assert!(older.iter().any(|why| why.contains("it must be above")), "{older:?}");
}
