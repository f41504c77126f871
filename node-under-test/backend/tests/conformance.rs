//! One suite for every engine: what the seam promises.
//!
//! Each test is instantiated once per engine, so a run prints which engine holds which promise. The
//! memory engine takes what needs no disk.
#![allow(clippy::unwrap_used, reason = "a test may end where it fails")]

mod common;

use common::{Member, Orders, Victim, at, commit_up_to, entry, model, open_dead_on, rows_of, small};
use node_backend::dispatch;
use node_backend::engine::{Engine, EngineKind};
use node_backend::layout::DataDir;
use node_base::LogId;
use node_base::backend::{Backend, Batch, Bucket, CONSISTENT_INDEX, ReadView, consistent_index, hash};
use node_base::failpoint::Window;
use node_base::memory::MemoryBackend;
use node_base::watermarks::Watermarks;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The child writes on a member of the engine that its role names.
#[test]
fn child() {
    let Some((root, role)) = common::orders_of_child() else { return };
    common::write_on(common::engine_of(&role), &root, small());
}

fn open(kind: EngineKind, root: &Path) -> Arc<dyn Engine> {
    let backend = dispatch::open(DataDir::new(root), kind, small()).unwrap();
    let opened = backend.opened();
    let persisted = opened.persisted.map(at);
    backend.attach(Arc::new(Watermarks::at_start(persisted, opened.engine, Some(u64::MAX)))).unwrap();
    if let Some(engine) = opened.engine {
        backend.verified(engine).unwrap();
    }
    backend
}

// ---- a state machine against an ordered map ----

type Rows = BTreeMap<(Bucket, Vec<u8>), Vec<u8>>;
/// The changes of one entry: `None` deletes.
type Changes = Vec<(Bucket, Vec<u8>, Option<Vec<u8>>)>;

#[derive(Debug, Clone)]
enum Step {
    /// Of entries that share a commit.
    Commit(Vec<Changes>),
    Settle,
    Flush,
    Defrag,
    /// An orderly end and a new start; nothing is lost only because it was flushed.
    Reopen,
    /// A range with a limit on its rows.
    Range {
        bucket: Bucket,
        from: Vec<u8>,
        to: Option<Vec<u8>>,
        limit: usize,
    },
    /// Takes a view that must never change.
    Pin,
}

fn any_key() -> impl Strategy<Value = Vec<u8>> {
    // Few keys, so that steps meet; the empty one and those that end in 0xff are where bounds go
    // wrong.
    prop_oneof![
        prop::collection::vec(prop::sample::select(vec![0u8, b'a', b'b', 0xff]), 0..3),
        prop::collection::vec(any::<u8>(), 0..40)
    ]
}

fn any_bucket() -> impl Strategy<Value = Bucket> {
    prop::sample::select(Bucket::ALL.to_vec())
}

fn any_step() -> impl Strategy<Value = Step> {
    let value = prop::option::weighted(0.7, prop::collection::vec(any::<u8>(), 0..200));
    let change = (any_bucket(), any_key(), value);
    prop_oneof![
        12 => prop::collection::vec(prop::collection::vec(change, 0..6), 1..6).prop_map(Step::Commit),
        2 => Just(Step::Settle),
        2 => Just(Step::Flush),
        1 => Just(Step::Defrag),
        1 => Just(Step::Reopen),
        5 => (any_bucket(), any_key(), prop::option::of(any_key()), 0usize..6)
            .prop_map(|(bucket, from, to, limit)| Step::Range { bucket, from, to, limit }),
        1 => Just(Step::Pin),
    ]
}

/// The rows of a range, at most `limit` of them.
fn range(view: &dyn ReadView, bucket: Bucket, from: &[u8], to: Option<&[u8]>, limit: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut found = Vec::new();
    if limit > 0 {
        view.scan(bucket, from, to, &mut |key, value| {
            found.push((key.to_vec(), value.to_vec()));
            if found.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })
        .unwrap();
    }
    found
}

fn agrees_with_the_map(steps: &[Step], open: &mut dyn FnMut() -> Arc<dyn Backend>) -> Result<(), TestCaseError> {
    let mut backend = open();
    let (mut map, mut next) = (Rows::new(), 0);
    let mut pinned: Vec<Rows> = Vec::new();
    for step in steps {
        match step {
            Step::Commit(entries) => {
                let (mut batch, mut after) = (Batch::default(), map.clone());
                let view = backend.read();
                for (bucket, key, value) in entries.iter().flatten() {
                    let row = (*bucket, key.clone());
                    prop_assert_eq!(&batch.get(&*view, *bucket, key).unwrap(), &after.get(&row).cloned());
                    match value {
                        Some(value) => {
                            batch.put(*bucket, key.clone(), value.clone());
                            after.insert(row, value.clone());
                        }
                        None => {
                            batch.delete(*bucket, key.clone());
                            after.remove(&row);
                        }
                    }
                    prop_assert_eq!(&batch.get(&*view, *bucket, key).unwrap(), value, "a batch reads its own writes");
                }
                prop_assert_eq!(&rows_of(&*backend.read()), &map, "nothing is visible before the commit");
                drop(view);
                next += entries.len() as u64;
                backend.commit(batch, at(next - 1)).unwrap();
                map = after;
            }
            Step::Settle => backend.settle().unwrap(),
            Step::Flush => backend.flush().unwrap(),
            Step::Defrag => backend.defrag().unwrap(),
            Step::Reopen => {
                backend.flush().unwrap();
                backend.close().unwrap();
                prop_assert!(backend.settle().is_ok() || backend.commit(Batch::default(), at(next)).is_err());
                backend = open();
            }
            Step::Range { bucket, from, to, limit } => {
                let mut rows = map.clone();
                if let Some(last) = next.checked_sub(1) {
                    rows.insert((Bucket::Meta, CONSISTENT_INDEX.to_vec()), at(last).encode().to_vec());
                }
                let inside = rows
                    .iter()
                    .filter(|((of, key), _)| of == bucket && key >= from && to.as_ref().is_none_or(|to| key < to));
                let expected: Vec<_> =
                    inside.take(*limit).map(|((_, key), value)| (key.clone(), value.clone())).collect();
                let view = backend.read();
                prop_assert_eq!(range(&*view, *bucket, from, to.as_deref(), *limit), expected);
            }
            Step::Pin => pinned.push(map.clone()),
        }
        let view = backend.read();
        prop_assert_eq!(consistent_index(&*view).unwrap(), next.checked_sub(1).map(at));
        prop_assert_eq!(rows_of(&*view), map.clone());
    }
    // The same rows hash alike on every engine: the memory engine is the reference.
    let reference = MemoryBackend::default();
    let mut all = Batch::default();
    for ((bucket, key), value) in &map {
        all.put(*bucket, key.clone(), value.clone());
    }
    reference.commit(all, LogId::new(1, 1)).unwrap();
    prop_assert_eq!(backend.hash().unwrap(), reference.hash().unwrap());
    Ok(())
}

/// Views taken along the way: each must still see what it saw at first.
fn views_never_change(backend: &dyn Engine) {
    let mut views = Vec::new();
    for index in 0..40 {
        backend.commit(entry(index), at(index)).unwrap();
        if index % 10 == 0 {
            views.push((index, backend.read()));
            backend.flush().unwrap();
        }
    }
    for (index, view) in &views {
        assert_eq!(consistent_index(&**view).unwrap(), Some(at(*index)));
        assert!(rows_of(&**view) == model(Some(*index)), "the view of {index} has changed");
    }
}

/// Readers see whole entries while a writer goes on, and the writer does not wait for them.
fn readers_beside_a_writer(backend: &dyn Engine) {
    const ENTRIES: u64 = 400;
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let (mut seen, mut rounds) = (None, 0u64);
                    while !done.load(Ordering::Acquire) || rounds < 3 {
                        let view = backend.read();
                        let index = consistent_index(&*view).unwrap().map(|id| id.index);
                        assert!(index >= seen, "{index:?} came after {seen:?}");
                        assert!(rows_of(&*view) == model(index), "a torn entry at {index:?}");
                        (seen, rounds) = (index, rounds + 1);
                    }
                    rounds
                })
            })
            .collect();
        // Held all the while: it may hold up nothing.
        let held = backend.read();
        for first in (0..ENTRIES).step_by(16) {
            commit_up_to(backend, first, first + 16, first % 32 == 0);
            backend.settle().unwrap();
        }
        done.store(true, Ordering::Release);
        assert!(readers.into_iter().all(|reader| reader.join().unwrap() >= 3));
        assert_eq!(consistent_index(&*held).unwrap(), None);
    });
}

/// Defragmenting beside commits and readers loses nothing, and gives back what deletes had left.
fn defrag_under_load(backend: &dyn Engine) {
    let mut filler = Batch::default();
    for row in 0..2_000u32 {
        filler.put(Bucket::Lease, row.to_be_bytes(), vec![row as u8; 1_000]);
    }
    backend.commit(filler.clone(), at(0)).unwrap();
    let mut emptied = Batch::default();
    for (bucket, key, _) in filler.changes() {
        emptied.delete(bucket, key);
    }
    backend.commit(emptied, at(1)).unwrap();
    backend.flush().unwrap();
    let before = backend.size().unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for index in 2..300 {
                backend.commit(entry(index), at(index)).unwrap();
                backend.settle().unwrap();
            }
        });
        let pinned = backend.read();
        let seen = hash(&*pinned).unwrap();
        for _ in 0..3 {
            backend.defrag().unwrap();
        }
        writer.join().unwrap();
        assert_eq!(hash(&*pinned).unwrap(), seen, "a view outlives a defragmentation");
    });
    backend.defrag().unwrap();
    let (after, rows) = (backend.size().unwrap(), rows_of(&*backend.read()));
    assert!(after.allocated < before.allocated, "{before:?} became {after:?}");
    assert!(after.in_use <= after.allocated, "{after:?}");
    let expected = (2..300).fold(Rows::new(), |mut rows, index| {
        for (bucket, key, value) in entry(index).changes() {
            match value {
                Some(value) => rows.insert((bucket, key.to_vec()), value.to_vec()),
                None => rows.remove(&(bucket, key.to_vec())),
            };
        }
        rows
    });
    assert!(rows == expected);
}

/// A sweep removes rows and belongs to no entry: no index moves, beside a group that is under way
/// and without one, and what the next entries write stands on it.
fn a_sweep_moves_no_index(backend: &dyn Engine) {
    let gone = |from: u32, to: u32| {
        let mut batch = Batch::default();
        (from..to).for_each(|row| batch.delete(Bucket::Lease, row.to_be_bytes()));
        batch
    };
    let mut rows = Batch::default();
    (0..30u32).for_each(|row| rows.put(Bucket::Lease, row.to_be_bytes(), [1]));
    backend.commit(rows, at(0)).unwrap();
    backend.sweep(gone(0, 10)).unwrap();
    backend.flush().unwrap();
    backend.sweep(gone(10, 20)).unwrap();
    assert_eq!(consistent_index(&*backend.read()).unwrap(), Some(at(0)));
    let mut again = Batch::default();
    again.put(Bucket::Lease, 5u32.to_be_bytes(), [2]);
    backend.commit(again, at(1)).unwrap();
    backend.flush().unwrap();
    let left: Vec<_> = rows_of(&*backend.read()).into_iter().map(|((_, key), value)| (key, value)).collect();
    let row = |row: u32, value: u8| (row.to_be_bytes().to_vec(), vec![value]);
    let expected: Vec<_> = std::iter::once(row(5, 2)).chain((20..30).map(|number| row(number, 1))).collect();
    assert_eq!(left, expected);
    assert_eq!(consistent_index(&*backend.read()).unwrap(), Some(at(1)));
}

/// Kills of a real process in each window that the engine passes: what is left is a prefix, and N ≤
/// E.
fn a_kill_at_each_step_leaves_a_prefix(kind: EngineKind, windows: &[Window]) {
    let in_windows = windows.iter().flat_map(|window| [Some((*window, 1)), Some((*window, 3))]);
    // And in the middle of commits, wherever the child has come to then.
    for arm in in_windows.chain([None]) {
        let tmp = tempfile::tempdir().unwrap();
        let mut victim = Victim::spawn(tmp.path(), &Orders { role: kind.name(), arm, bug: None });
        let said = arm.map_or("applied 300", |(window, _)| window.name());
        assert!(victim.wait_for(said), "{arm:?} was not reached");
        victim.kill();
        let (n, e) = open_dead_on(kind, tmp.path());
        assert!(n <= e, "{arm:?}: N = {n:?}, E = {e:?}");
        if kind == EngineKind::Redb {
            assert_eq!(n, e, "{arm:?}: on redb N is E");
        }
        // A second life goes on from there.
        let mut member = Member::on(kind, tmp.path(), small());
        member.apply(50);
        assert!(rows_of(&*member.backend.read()) == model(Some(member.next - 1)));
    }
}

/// A directory as a crash between marker and engine leaves it, at every step: the next start makes
/// the engine.
fn a_crash_while_the_engine_is_made_is_no_loss(kind: EngineKind) {
    let leave: [(&str, fn(&DataDir)); 4] = [
        ("the marker alone", |_| ()),
        ("the directory above", |dir| std::fs::create_dir_all(dir.snap()).unwrap()),
        ("half a file under its first name", |dir| {
            std::fs::create_dir_all(dir.snap()).unwrap();
            std::fs::write(dir.fresh(), b"redb\x1a\x0a").unwrap();
        }),
        ("an empty directory of the LSM engine", |dir| {
            if node_backend::marker::read(dir).unwrap() == Some(EngineKind::Rocksdb) {
                std::fs::create_dir_all(dir.db()).unwrap();
            }
        }),
    ];
    for (what, leave) in leave {
        let tmp = tempfile::tempdir().unwrap();
        let dir = DataDir::new(tmp.path());
        node_backend::marker::claim(&dir, kind).unwrap();
        leave(&dir);
        node_backend::marker::claim(&dir, kind).unwrap();
        let mut member = Member::on(kind, tmp.path(), small());
        assert_eq!(member.next, 0, "{what}");
        member.apply(20);
        drop(member);
        node_backend::marker::claim(&dir, kind).unwrap();
        assert!(!dir.fresh().exists(), "{what}");
    }
}

macro_rules! suite {
    ($engine:ident, $kind:expr, $windows:expr) => {
        mod $engine {
            use super::*;

            proptest! {
                #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]
                #[test]
                fn agrees_with_an_ordered_map(steps in prop::collection::vec(any_step(), 1..40)) {
                    let tmp = tempfile::tempdir().unwrap();
                    agrees_with_the_map(&steps, &mut || open($kind, tmp.path()))?;
                }
            }

            fn with_fresh(test: fn(&dyn Engine)) {
                let tmp = tempfile::tempdir().unwrap();
                test(&*open($kind, tmp.path()));
            }

            #[test]
            fn a_view_never_changes() {
                with_fresh(views_never_change);
            }

            #[test]
            fn concurrent_readers_see_whole_entries() {
                with_fresh(readers_beside_a_writer);
            }

            #[test]
            fn a_defragmentation_under_load_loses_nothing() {
                with_fresh(defrag_under_load);
            }

            #[test]
            fn a_sweep_removes_rows_and_moves_no_index() {
                with_fresh(a_sweep_moves_no_index);
            }

            /// A reader that waits for an applied index finds what was published with it.
            #[test]
            fn a_commit_is_visible_before_it_counts_as_applied() {
                let tmp = tempfile::tempdir().unwrap();
                let backend = dispatch::open(DataDir::new(tmp.path()), $kind, small()).unwrap();
                let marks = Arc::new(Watermarks::at_start(None, None, Some(9)));
                backend.attach(marks.clone()).unwrap();
                let mut seen = Vec::new();
                backend.commit_then(entry(0), at(0), &mut || seen.push(marks.now().applied)).unwrap();
                assert_eq!((seen, marks.now().applied), (vec![None], Some(at(0))));
            }

            #[test]
            fn a_kill_at_each_step_leaves_a_prefix_of_the_log() {
                a_kill_at_each_step_leaves_a_prefix($kind, $windows);
            }

            #[test]
            fn a_crash_between_marker_and_engine_is_safe() {
                a_crash_while_the_engine_is_made_is_no_loss($kind);
            }
        }
    };
}

suite!(redb, EngineKind::Redb, &[Window::GroupVisible, Window::GroupDurable]);
suite!(
    rocksdb,
    EngineKind::Rocksdb,
    &[
        Window::FlushSealed,
        Window::FlushBegin,
        Window::FlushCompleted,
        Window::IndexTmpWritten,
        Window::IndexTmpSynced,
        Window::IndexRenamed,
        Window::IndexPersisted
    ]
);

mod memory {
    use super::*;

    proptest! {
        #[test]
        fn agrees_with_an_ordered_map(steps in prop::collection::vec(any_step(), 1..40)) {
            let backend = Arc::new(MemoryBackend::default());
            agrees_with_the_map(&steps, &mut || backend.clone())?;
        }
    }
}
