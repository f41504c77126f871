//! Changing the engine of a stopped member: there and back, and killed at each step.
#![allow(clippy::unwrap_used, reason = "a test may end where it fails")]

mod common;

use common::{Member, Orders, Victim, model, open_dead_on, rows, small};
use node_backend::engine::EngineKind::{self, Redb, Rocksdb};
use node_backend::layout::DataDir;
use node_backend::migrate::{MigrateError, Migrated, Resumed, migrate, resume};
use node_backend::{last_flushed_index, marker};
use node_base::failpoint::Window;
use std::path::Path;

/// The child migrates its directory to the engine that its role names.
#[test]
fn child() {
    let Some((root, role)) = common::orders_of_child() else { return };
    migrate(&DataDir::new(root), common::engine_of(&role)).unwrap();
}

fn other(kind: EngineKind) -> EngineKind {
    if kind == Redb { Rocksdb } else { Redb }
}

/// A stopped member of `kind` at entry 699, with entries above N where the engine has such.
fn stopped(kind: EngineKind, root: &Path) {
    marker::claim(&DataDir::new(root), kind).unwrap();
    let mut member = Member::on(kind, root, small());
    member.apply(700);
    member.backend.flush().unwrap();
}

fn is_whole(kind: EngineKind, root: &Path) {
    let dir = DataDir::new(root);
    assert_eq!(marker::read(&dir).unwrap(), Some(kind));
    marker::claim(&dir, kind).unwrap();
    assert!(!dir.engine_migration().exists(), "the intent is gone");
    assert_eq!(open_dead_on(kind, root), (Some(699), Some(699)));
    let left: Vec<_> = std::fs::read_dir(dir.snap()).unwrap().map(|it| it.unwrap().file_name()).collect();
    let expected: &[&str] = if kind == Redb { &["db"] } else { &["db", "last-flushed-index"] };
    assert!(left.iter().all(|name| expected.iter().any(|it| name == it)), "{kind}: {left:?}");
}

#[test]
fn there_and_back_keeps_every_row() {
    for from in EngineKind::ALL {
        let tmp = tempfile::tempdir().unwrap();
        let dir = DataDir::new(tmp.path());
        stopped(from, tmp.path());
        for to in [other(from), from] {
            let done = migrate(&dir, to).unwrap().expect("another engine than it has");
            assert_eq!((done.from, done.to, done.index), (other(to), to, Some(common::at(699))));
            assert!(done.rows.is_some_and(|rows| rows > 0));
            is_whole(to, tmp.path());
            assert_eq!(migrate(&dir, to).unwrap(), None, "once is enough");
        }
        // And writing goes on.
        let mut member = Member::on(from, tmp.path(), small());
        member.apply(100);
        assert!(rows(&*member.backend) == model(Some(799)));
    }
}

const STEPS: [(Window, bool); 6] = [
    (Window::MigrateIntent, false),
    (Window::MigrateCopying, false),
    (Window::MigrateCopied, false),
    (Window::MigrateExchanged, true),
    (Window::MigrateIndex, true),
    (Window::MigrateMarker, true),
];

/// `what_next` finds the directory as the kill in that window left it; `past`: the exchange had
/// happened.
fn killed_at_each_step(what_next: impl Fn(&DataDir, EngineKind, EngineKind, bool)) {
    for from in EngineKind::ALL {
        for (window, past) in STEPS {
            let tmp = tempfile::tempdir().unwrap();
            let to = other(from);
            stopped(from, tmp.path());
            let mut victim = Victim::spawn(tmp.path(), &Orders { role: to.name(), arm: Some((window, 1)), bug: None });
            assert!(victim.wait_for(window.name()), "{from} to {to}: {window:?} was not reached");
            victim.kill();
            what_next(&DataDir::new(tmp.path()), from, to, past);
        }
    }
}

#[test]
fn a_start_after_a_kill_finishes_past_the_exchange_and_undoes_before_it() {
    killed_at_each_step(|dir, from, to, past| {
        let resumed = resume(dir).unwrap();
        let expected = if past { Resumed::Finished { from, to } } else { Resumed::Undone { from, to } };
        assert_eq!(resumed, Some(expected));
        is_whole(if past { to } else { from }, dir.root());
        assert_eq!(resume(dir).unwrap(), None);
    });
}

#[test]
fn the_same_migration_after_a_kill_ends_what_was_begun() {
    killed_at_each_step(|dir, from, to, past| {
        let done = migrate(dir, to).unwrap().expect("it had not come to its end");
        assert_eq!(
            done,
            Migrated { rows: if past { None } else { done.rows }, from, to, index: Some(common::at(699)) }
        );
        is_whole(to, dir.root());
    });
}

#[test]
fn the_way_back_after_a_kill_is_open_as_well() {
    killed_at_each_step(|dir, from, _, _| {
        migrate(dir, from).unwrap();
        is_whole(from, dir.root());
    });
}

#[test]
fn an_index_ahead_of_the_engine_is_not_hidden_by_a_copy() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = DataDir::new(tmp.path());
    stopped(Rocksdb, tmp.path());
    std::fs::write(dir.last_flushed_index(), last_flushed_index::encode(1_000)).unwrap();
    let refused = migrate(&dir, Redb).unwrap_err();
    assert!(matches!(refused, MigrateError::IndexAhead { persisted: 1_000, engine: Some(699), .. }), "{refused}");
    assert!(!dir.engine_migration().exists() && !dir.incoming().exists());
}

#[test]
fn what_is_no_member_is_refused() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = DataDir::new(tmp.path());
    assert!(matches!(migrate(&dir, Redb), Err(MigrateError::NoMember { .. })));
    marker::claim(&dir, Rocksdb).unwrap();
    assert!(matches!(migrate(&dir, Redb), Err(MigrateError::NoDatabase { .. })));
    std::fs::write(dir.engine_migration(), "sideways\n").unwrap();
    assert!(matches!(resume(&dir), Err(MigrateError::BadIntent { .. })));
}
