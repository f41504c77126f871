//! The planted bugs of this crate really produce, in dead data, what the harness must find there.
#![cfg(feature = "sabotage")]
#![allow(clippy::unwrap_used, reason = "a test may end where it fails")]

mod common;

use common::{Orders, Victim, model, rows, small};
use node_backend::engine::{Engine, EngineKind};
use node_backend::inspect::inspect_dead;
use node_backend::layout::DataDir;
use node_backend::rocksdb::RocksBackend;
use node_base::failpoint::Window;

const KILLS_MAX: u64 = 30;

#[test]
fn child() {
    let Some((root, _)) = common::orders_of_child() else { return };
    common::write_on(EngineKind::Rocksdb, &root, small());
}

/// Kills fresh members until `bitten` says of a dead directory that the bug shows; the number of
/// kills it took.
fn kills_until(bug: Option<&'static str>, window: Window, bitten: impl Fn(&std::path::Path) -> bool) -> Option<u64> {
    (1..=KILLS_MAX).find(|kill| {
        let tmp = tempfile::tempdir().unwrap();
        let orders = Orders { bug, arm: Some((window, 1 + kill % 4)), ..Orders::default() };
        let mut victim = Victim::spawn(tmp.path(), &orders);
        assert!(victim.wait_for(window.name()), "{bug:?} never came to {window:?}");
        victim.kill();
        bitten(tmp.path())
    })
}

fn index_ahead_of_engine(root: &std::path::Path) -> bool {
    inspect_dead(root).index_within_engine() == Some(false)
}

fn not_a_prefix(root: &std::path::Path) -> bool {
    let backend = RocksBackend::open(DataDir::new(root), small()).unwrap();
    let e = backend.opened().engine.map(|e| e.index);
    rows(&backend) != model(e)
}

#[test]
fn wrong_captures_put_n_ahead_of_the_engine() {
    for bug in ["capture-at-flush-begin", "capture-at-flush-end", "open-check-missing"] {
        let kills = kills_until(Some(bug), Window::IndexPersisted, index_ahead_of_engine);
        assert!(kills.is_some(), "{bug} survived {KILLS_MAX} kills");
    }
}

#[test]
fn n_before_its_flush_is_ahead_of_the_engine() {
    assert!(kills_until(Some("persist-before-flush"), Window::FlushBegin, index_ahead_of_engine).is_some());
}

#[test]
fn the_index_before_its_data_is_no_prefix() {
    assert!(kills_until(Some("index-before-data"), Window::ApplyAfter, not_a_prefix).is_some());
}

#[test]
fn the_control_stays_clean() {
    for window in [Window::IndexPersisted, Window::FlushBegin] {
        assert_eq!(kills_until(None, window, |root| index_ahead_of_engine(root) || not_a_prefix(root)), None);
    }
}
