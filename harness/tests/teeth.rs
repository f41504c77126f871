//! The harness has teeth: every planted bug ends in its class, and the same run without a bug
//! passes.
//!
//! These are whole runs of `ninelives` against real clusters, by the table of `ninelives mutants`,
//! with one seed each. `make test` builds what they need: the node, and the same node with the
//! feature `sabotage` under another name.

use ninelives::mutants::Table;
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

/// Runs the rows called `names`, one seed each, and demands that they hold.
fn expect_to_hold(names: &[&str], more: &[&str]) {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let mut command = Command::new(env!("CARGO_BIN_EXE_ninelives"));
    command.arg("mutants").arg(table_path()).args(["--seeds", "1", "--jobs", "1"]).args(more);
    command.arg("--node").arg(binary("node-under-test-sabotaged")).arg("--inspector").arg(binary("node-under-test"));
    command.arg("--report").arg(dir.path().join("report")).arg("--bug").args(names);
    let output = command.output().expect("ninelives starts");
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{text}");
    assert_eq!(output.status.code(), Some(0), "{text}");
}

#[test]
fn every_planted_bug_is_caught_in_its_class() {
    let table = table();
    let names: Vec<_> = table.bugs.iter().map(|bug| bug.name.as_str()).collect();
    expect_to_hold(&names, &[]);
}

#[test]
fn the_control_with_no_bug_stays_green() {
    expect_to_hold(&["control"], &["--cycles-max", "60"]);
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
