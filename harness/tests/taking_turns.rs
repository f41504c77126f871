//! Tests that start clusters take turns (`.config/nextest.toml`): side by side they would measure
//! each other.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Folders of test binaries, one a file; some of those start clusters.
const FOLDERS: [&str; 3] = ["harness/tests", "node-under-test/tests", "node-under-test/raft/tests"];
/// Marks of a file that starts members: a binary of ours, or the helpers that start some.
const STARTS: [&str; 4] = ["CARGO_BIN_EXE_", "mod common;", "mod support;", "mod hostile;"];
/// Files that run a binary and start no member: one gives the harness shell scripts in the place of
/// nodes, the other asks whether the documents' commands parse.
const NO_MEMBERS: [&str; 2] = ["command_line", "documents"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("harness/ stands in the workspace").to_owned()
}

/// Test binaries whose file says that they start members.
fn starters() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for folder in FOLDERS {
        for entry in std::fs::read_dir(root().join(folder)).expect("a folder of tests is readable") {
            let path = entry.expect("a directory entry is readable").path();
            if path.extension().is_none_or(|extension| extension != "rs") || path.ends_with("taking_turns.rs") {
                continue;
            }
            let text = std::fs::read_to_string(&path).expect("a source file is UTF-8");
            if STARTS.iter().any(|word| text.contains(word)) {
                found.insert(path.file_stem().expect("a file has a name").to_string_lossy().into_owned());
            }
        }
    }
    found
}

/// Test binaries that the configuration lets take turns: the alternatives of its
/// `binary(/^(a|b)$/)`.
fn in_turn() -> BTreeSet<String> {
    let text = std::fs::read_to_string(root().join(".config/nextest.toml")).expect("nextest has a configuration");
    let filters = text.split("binary(/^(").skip(1).filter_map(|rest| rest.split_once(")$/)"));
    filters.flat_map(|(names, _)| names.split('|')).map(str::to_owned).collect()
}

#[test]
fn every_test_that_starts_a_cluster_takes_its_turn() {
    let mut starters = starters();
    for name in NO_MEMBERS {
        assert!(starters.remove(name), "the search does not find {name}");
    }
    assert_eq!(starters, in_turn(), "left: files that start members; right: .config/nextest.toml");
}
