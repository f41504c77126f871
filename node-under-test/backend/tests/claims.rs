//! The claims of `durability`, each by number, against a real engine; crashes are SIGKILLs of a
//! real process. Claims 2, 3 and 4 have their models beside the ring; 8 is also shown by the
//! installs of `snapshot.rs`.

#![allow(clippy::unwrap_used, reason = "a test may end where it fails")]

mod common;

use common::{Member, Orders, Victim, at, entry, open_dead, small};
use node_backend::engine::{Engine, EngineKind, EngineOptions};
use node_backend::layout::DataDir;
use node_backend::rocksdb::RocksBackend;
use node_backend::{inspect, last_flushed_index};
use node_base::backend::{Backend, Bucket};
use node_base::chain::chain;
use node_base::failpoint::Window;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

#[test]
fn child() {
    let Some((root, role)) = common::orders_of_child() else { return };
    if role == "disk-gone" {
        let mut member = Member::start(&root, small());
        member.apply(10);
        std::fs::remove_dir_all(DataDir::new(&root).db()).unwrap();
        while member.backend.commit(entry(member.next), at(member.next)).is_ok() {
            member.next += 1;
        }
        // The writer was told first. Ending here is the callback's business: without it, this test
        // hangs.
        loop {
            std::thread::park();
        }
    }
    common::write_on(EngineKind::Rocksdb, &root, small());
}

fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

fn n_of(root: &std::path::Path) -> Option<u64> {
    last_flushed_index::read(&DataDir::new(root).last_flushed_index()).unwrap()
}

/// Kills at unrelated moments, life after life on the same directory: each state is a prefix, and N
/// ≤ E.
#[test]
fn claims_1_and_5_hold_at_any_kill() {
    let tmp = tempfile::tempdir().unwrap();
    let mut before = None;
    for life in 0..15 {
        // Every third life lasts until N has moved, so that a slow disk cannot make this test
        // vacuous.
        let arm = (life % 3 == 2).then_some((Window::IndexPersisted, 1));
        let mut victim = Victim::spawn(tmp.path(), &Orders { arm, ..Orders::default() });
        if arm.is_some() {
            assert!(victim.wait_for("index.persisted"));
        } else {
            for _ in 0..=(life * 7 % 11) {
                assert!(victim.wait_for("applied"));
            }
        }
        victim.kill();
        let (n, e) = open_dead(tmp.path());
        assert!(n <= e, "claim 5: N {n:?} > E {e:?}");
        assert!(before <= n, "N went back from {before:?} to {n:?}");
        before = n;
    }
    assert!(before > Some(0), "nothing was ever flushed: this test showed nothing");
}

/// N follows the flush, not the other way round: killed at the completion of a flush, E knows more
/// than N. (In one of a few kills at least: a stop takes effect only microseconds after its
/// window.)
#[test]
fn claim_5_the_flush_comes_first() {
    let e_ahead = (0..5).any(|_| {
        let tmp = tempfile::tempdir().unwrap();
        let mut victim =
            Victim::spawn(tmp.path(), &Orders { arm: Some((Window::FlushCompleted, 1)), ..Orders::default() });
        assert!(victim.wait_for("flush.completed"));
        victim.kill();
        let (n, e) = open_dead(tmp.path());
        assert!(n <= e);
        n < e
    });
    assert!(e_ahead);
}

#[test]
fn claim_5_holds_in_every_window_of_a_flush() {
    let windows = [
        Window::FlushSealed,
        Window::FlushBegin,
        Window::FlushCompleted,
        Window::IndexTmpWritten,
        Window::IndexTmpSynced,
        Window::IndexRenamed,
        Window::IndexPersisted,
    ];
    for window in windows {
        let tmp = tempfile::tempdir().unwrap();
        let mut victim = Victim::spawn(tmp.path(), &Orders { arm: Some((window, 3)), ..Orders::default() });
        assert!(victim.wait_for(window.name()), "{window:?} was not reached");
        victim.kill();
        let (n, e) = open_dead(tmp.path());
        assert!(n <= e, "{window:?}: N {n:?} > E {e:?}");
        let after_a_flush = !matches!(window, Window::FlushSealed | Window::FlushBegin);
        assert!(!after_a_flush || e.is_some(), "{window:?} comes after a flush, found an empty engine");
    }
}

/// A flush that holds everything applied gives an N that is E, neither more nor one less; N comes
/// from the completion event alone here.
#[test]
fn claim_2_n_is_exactly_what_the_flush_holds() {
    let tmp = tempfile::tempdir().unwrap();
    let options = EngineOptions { lag_entries_max: 100, ..EngineOptions::default() };
    for life in 1..=5 {
        let mut member = Member::start(tmp.path(), options.clone());
        let mut moves = member.marks.subscribe();
        member.apply(101);
        let last = at(101 * life - 1);
        block_on(moves.wait_for(|marks| marks.persisted >= Some(last))).unwrap();
        drop((moves, member));
        assert_eq!(open_dead(tmp.path()), (Some(last.index), Some(last.index)));
    }
}

#[test]
fn claim_6_e_at_open_does_not_become_n_before_it_is_verified() {
    let tmp = tempfile::tempdir().unwrap();
    let mut member = Member::start(tmp.path(), small());
    member.apply(50);
    member.backend.flush().unwrap();
    drop(member);
    // As after a kill between the exchange and N of an install: E = 49, N older.
    let index = DataDir::new(tmp.path()).last_flushed_index();
    std::fs::write(&index, last_flushed_index::encode(10)).unwrap();

    let backend = RocksBackend::open(DataDir::new(tmp.path()), small()).unwrap();
    assert_eq!((backend.opened().persisted, backend.opened().engine), (Some(10), Some(at(49))));
    let marks = Arc::new(node_base::watermarks::Watermarks::at_start(Some(at(10)), Some(at(49)), None));
    backend.attach(marks.clone()).unwrap();
    backend.flush().unwrap();
    assert!(backend.snapshot().is_err(), "no image at 49 is sent while N cannot follow");
    assert_eq!(n_of(tmp.path()), Some(10));
    assert!(backend.verified(at(50)).is_err());
    backend.verified(at(49)).unwrap();
    backend.flush().unwrap();
    assert_eq!((n_of(tmp.path()), marks.now().persisted), (Some(49), Some(at(49))));
}

/// Flushes from several threads beside a busy writer: each covers what was applied before it; no
/// assertion of the marks (flushed ≤ applied among them) ends the process.
#[test]
fn claim_7_a_flush_covers_what_was_applied_before_it() {
    let tmp = tempfile::tempdir().unwrap();
    let mut member = Member::start(tmp.path(), small());
    member.apply(1);
    let (backend, marks) = (member.backend.clone(), member.marks.clone());
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..20 {
                    let applied = marks.now().applied;
                    backend.flush().unwrap();
                    assert!(marks.now().persisted >= applied, "{:?} was applied before the flush", applied);
                }
            });
        }
        member.apply(20_000);
    });
    drop((member, backend));
    let (n, e) = open_dead(tmp.path());
    assert!(n <= e);
}

#[test]
fn claim_9_the_first_background_error_ends_the_process() {
    let tmp = tempfile::tempdir().unwrap();
    let victim = Victim::spawn(tmp.path(), &Orders { role: "disk-gone", ..Orders::default() });
    assert_eq!(victim.exit_code(), Some(node_backend::EXIT_STORAGE));
}

#[test]
fn claim_10_small_entries_are_flushed_by_their_number() {
    let tmp = tempfile::tempdir().unwrap();
    let options = EngineOptions { lag_entries_max: 100, ..EngineOptions::default() };
    let mut member = Member::start(tmp.path(), options);
    let mut moves = member.marks.subscribe();
    member.apply(101);
    let reached = block_on(moves.wait_for(|marks| marks.persisted >= Some(at(100)))).unwrap().persisted;
    assert_eq!(reached, Some(at(100)));
}

#[test]
fn a_view_does_not_change_and_outlives_commits() {
    let tmp = tempfile::tempdir().unwrap();
    let mut member = Member::start(tmp.path(), small());
    member.apply(10);
    let view = member.backend.read();
    let last = |view: &dyn node_base::backend::ReadView| view.get(Bucket::Meta, b"last").unwrap();
    member.backend.commit(entry(10), at(10)).unwrap();
    assert_eq!(last(&*view), Some(8u64.to_be_bytes().to_vec()));
    assert_eq!(last(&*member.backend.read()), Some(10u64.to_be_bytes().to_vec()));
    let mut seen = Vec::new();
    view.scan(Bucket::Key, b"row/00000002", Some(b"row/00000006"), &mut |key, _| {
        seen.push(String::from_utf8_lossy(key).into_owned());
        if seen.len() == 3 { std::ops::ControlFlow::Break(()) } else { std::ops::ControlFlow::Continue(()) }
    })
    .unwrap();
    assert_eq!(seen, ["row/00000002", "row/00000003", "row/00000005"]);
}

/// Damage that no kill of ours leaves: each is refused, with what was found and what to do.
#[test]
fn damage_is_refused_by_name() {
    let tmp = tempfile::tempdir().unwrap();
    let mut member = Member::start(tmp.path(), small());
    member.apply(1_000);
    member.backend.flush().unwrap();
    drop(member);
    let dir = DataDir::new(tmp.path());
    let refusal = |damage: &dyn Fn(&DataDir)| {
        let copy = tempfile::tempdir().unwrap();
        inspect::copy_dead(tmp.path(), copy.path(), &|_| false).unwrap();
        let copied = DataDir::new(copy.path());
        damage(&copied);
        chain(&RocksBackend::open(copied, small()).err().expect("must be refused"))
    };
    let corrupt = refusal(&|dir| std::fs::write(dir.last_flushed_index(), [0; 16]).unwrap());
    assert!(corrupt.contains("corrupt") && corrupt.contains("restore"), "{corrupt}");
    let no_database = refusal(&|dir| std::fs::remove_dir_all(dir.db()).unwrap());
    assert!(no_database.contains("holds no database") && no_database.contains("999"), "{no_database}");
    let missing_sst = refusal(&|dir| {
        let mut ssts = std::fs::read_dir(dir.db()).unwrap().map(|entry| entry.unwrap().path());
        std::fs::remove_file(ssts.find(|path| path.extension().is_some_and(|it| it == "sst")).unwrap()).unwrap();
    });
    assert!(missing_sst.contains(".sst") && missing_sst.contains("restore"), "{missing_sst}");
    // An N above E opens, so that start-up can name both; it must see them.
    std::fs::write(dir.last_flushed_index(), last_flushed_index::encode(5_000)).unwrap();
    let found = inspect::inspect_dead(tmp.path());
    assert_eq!(
        (found.last_flushed_index.clone(), found.consistent_index.clone()),
        (Ok(Some(5_000)), Ok(Some(at(999))))
    );
    assert_eq!(found.index_within_engine(), Some(false));
}
