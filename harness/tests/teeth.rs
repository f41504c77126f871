//! The harness has teeth: every planted bug ends in its class, and the same run without a bug
//! passes.
//!
//! These are whole runs of `ninelives` against real clusters, by the table of `ninelives mutants`,
//! with one seed each. `make test` builds what they need: the node, and the same node with the
//! feature `sabotage` under another name.

use ninelives::mutants::{CONTROL, Expected, Table};
use std::path::{Path, PathBuf};
use std::process::Command;

fn table_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/mutants.toml")
}

fn table() -> Table {
    Table::load(&table_path()).expect("the table of planted bugs is sound")
}

fn binary(name: &str) -> PathBuf {
    let beside = Path::new(env!("CARGO_BIN_EXE_ninelives")).with_file_name(name);
    assert!(beside.exists(), "{} is missing: `make test` builds it, and so does `make build`", beside.display());
    beside
}

/// Cycles of a run without a bug, at most: `make mutants` makes all of them.
const CYCLES_MAX: &str = "60";

/// Runs the row called `name` with one seed, and demands that it holds.
fn expect_to_hold(name: &str) {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let mut command = Command::new(env!("CARGO_BIN_EXE_ninelives"));
    command.arg("mutants").arg(table_path()).args(["--seeds", "1", "--jobs", "1"]);
    if name.starts_with(CONTROL) {
        command.args(["--cycles-max", CYCLES_MAX]);
    }
    command.arg("--node").arg(binary("node-under-test-sabotaged")).arg("--inspector").arg(binary("node-under-test"));
    command.arg("--report").arg(dir.path().join("report")).arg("--bug").arg(name);
    let output = command.output().expect("ninelives starts");
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{text}");
}

/// The row that the test `row` is about.
fn named(prefix: &str, row: &str) -> String {
    format!("{prefix}{}", row.replace('_', "-"))
}

/// Declares a test for each row of the table, so that a list of failed tests says which row did not
/// hold.
macro_rules! rows {
    ($module:ident, $prefix:literal: $($row:ident)+) => {
        mod $module {
            pub(super) fn names() -> Vec<String> {
                [$(stringify!($row)),+].map(|row| super::named($prefix, row)).to_vec()
            }

            $(
                #[test]
                fn $row() {
                    super::expect_to_hold(&super::named($prefix, stringify!($row)));
                }
            )+
        }
    };
}

rows! {
    caught_in_its_class, "":
    capture_at_flush_begin
    capture_at_flush_end
    persist_before_flush
    open_check_missing
    index_before_data
    replay_skips_one
    replay_again
    log_hole
    purge_past_flushed
    tombstone_lost
    hash_constant
    leader_restore
    noop_does_not_advance
    torn_index_file
    ack_before_quorum
    apply_not_deterministic
    hash_ignores_deletes
    hash_cached
    wire_size_body_only
    wire_size_too_big
    snapshot_index_off_by_one
    stale_read
    apply_not_total
    defrag_forgets_commits
    accept_without_limit
    lost_line_ends_member
    lease_revoked_by_deposed
    keepalive_unconfirmed
    deaf_leader_stays
    ack_before_own_apply
    compare_only_stale
    unknown_compare_holds
    half_close_ends_watch
    watch_gap
    hasleader_ignored
    status_names_lost_leader
    keepalive_one_at_a_time
    wrong_refusal_code
    ranges_evaluated_everywhere
    restore_forgets_position
    restore_drops_leases
    stranger_heeded
    unlike_founder_admitted
    hello_ends_member
    corrupt_block_served
    log_bitflip_truncates
}

rows! {
    stays_green_without_a_bug, "control-":
    teeth
    teeth_snapshots
    teeth_pauses
    teeth_partitions
    teeth_noops
    limits
    leases
    teeth_deaf
    teeth_sessions
    teeth_watches
    teeth_comparisons
    teeth_leaderless
    teeth_keepers
    teeth_cost
    teeth_restore
    strangers
    restore_unlike
    teeth_corruption
    long_work
    crowd
}

#[test]
fn every_row_of_the_table_has_a_test() {
    let rows = table().select(&[]).expect("no name is unknown where none is given");
    let rows: Vec<_> = rows.iter().map(Expected::run_name).collect();
    let tested = [caught_in_its_class::names(), stays_green_without_a_bug::names()].concat();
    assert_eq!(rows, tested, "left: scenarios/mutants.toml; right: the tests of this file");
}

#[test]
fn the_release_binary_contains_no_planted_bug() {
    let table = table();
    let bugs = table.bugs.iter().map(|expected| &expected.name);
    let names = bugs.chain(&table.elsewhere).map(String::as_bytes);
    let holds = |binary: &[u8], name: &[u8]| binary.windows(name.len()).any(|window| window == name);
    let release = std::fs::read(binary("node-under-test")).expect("the node's binary is readable");
    let sabotaged = std::fs::read(binary("node-under-test-sabotaged")).expect("the sabotaged binary is readable");
    for name in names {
        let text = String::from_utf8_lossy(name);
        assert!(holds(&sabotaged, name), "the search does not find {text} where it must be: it proves nothing");
        assert!(!holds(&release, name), "the release binary contains {text}");
    }
    let refused = Command::new(binary("node-under-test")).args(["serve", "--sabotage", "hash-constant"]).output();
    let stderr = String::from_utf8_lossy(&refused.expect("the node starts").stderr).into_owned();
    assert!(stderr.contains("unexpected argument '--sabotage'"), "{stderr}");
}
