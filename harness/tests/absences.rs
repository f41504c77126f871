//! Absences are invariants: sentences of `ARCHITECTURE.md` that hold because nothing breaks them,
//! checked here.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("harness/ stands in the workspace").to_owned()
}

fn rust_files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("a source directory is readable") {
        let path = entry.expect("a directory entry is readable").path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The harness's own sources.
const HARNESS: [&str; 4] = ["harness/src", "harness/evidence/src", "harness/golden/src", "harness/oracle/src"];
/// Both halves.
const ALL: [&str; 5] = [HARNESS[0], HARNESS[1], HARNESS[2], HARNESS[3], "node-under-test"];

/// Files under `within` (workspace-relative) that contain one of `words` in code, outside `allowed`
/// prefixes.
fn offenders(within: &[&str], words: &[&str], allowed: &[&str]) -> Vec<String> {
    let root = root();
    let mut files = Vec::new();
    for dir in within {
        rust_files(&root.join(dir), &mut files);
    }
    assert!(files.len() > 5, "the search found no sources under {within:?}: it would prove nothing");
    let mut found = Vec::new();
    for path in files {
        let relative = path.strip_prefix(&root).expect("found under the root").display().to_string();
        if allowed.iter().any(|prefix| relative.starts_with(prefix)) {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a source file is UTF-8");
        // Unit tests stand at the end of a file, and may do what the product may not.
        let product = text.split("#[cfg(test)]\nmod").next().unwrap_or_default();
        for (number, line) in product.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if words.iter().any(|word| code.contains(word)) {
                found.push(format!("{relative}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    found
}

/// The names of what the crate in `directory` depends on, its tests included.
fn dependencies(directory: &str) -> BTreeSet<String> {
    let manifest = std::fs::read_to_string(root().join(directory).join("Cargo.toml")).expect("a crate has a manifest");
    let mut names = BTreeSet::new();
    let mut listed = false;
    for line in manifest.lines() {
        if let Some(table) = line.strip_prefix('[') {
            listed = table.contains("dependencies");
            assert!(!table.contains("dependencies."), "{directory}/Cargo.toml: a dependency is a line: {line}");
        } else if listed && let Some(end) = line.find(['.', ' ', '=']) {
            names.insert(line[..end].trim_matches('"').to_owned());
        }
    }
    names
}

#[test]
fn the_searches_cover_every_crate_of_the_harness() {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).expect("the workspace has a manifest");
    let members = manifest.lines().find_map(|line| line.strip_prefix("members = ")).expect("the workspace has members");
    let ours = members.split('"').skip(1).step_by(2).filter(|member| member.starts_with("harness"));
    assert_eq!(ours.map(|member| format!("{member}/src")).collect::<Vec<_>>(), HARNESS);
}

#[test]
fn only_the_backend_crate_names_rocksdb() {
    let own = "node-under-test/backend/src/rocksdb";
    let always = ["use rocksdb", " ::rocksdb", "(::rocksdb", "<::rocksdb", "extern crate rocksdb", "librocksdb_sys"];
    let found = offenders(&ALL, &always, &[own]);
    assert!(found.is_empty(), "{found:#?}");
    // In the backend crate `rocksdb` is also a module of its own, which others may name.
    let bare = [" rocksdb::", "(rocksdb::", "<rocksdb::", "&rocksdb::", "[rocksdb::"];
    let found = offenders(&ALL, &bare, &["node-under-test/backend/src/"]);
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn only_its_engine_and_the_raft_logs_file_name_redb() {
    // The log is a redb file as well, whatever the engine; the engines' tests make strange files.
    let own = [
        "node-under-test/backend/src/redb/",
        // `disk.rs`, and `disk_without_sync.rs` for planted bugs.
        "node-under-test/raft/src/log_store/disk",
        "node-under-test/backend/tests/",
        // The second decoder of that file.
        "harness/oracle/src/raft_log.rs",
    ];
    let always = ["use redb", " ::redb", "(::redb", "<::redb", "extern crate redb", "redb::Database"];
    let found = offenders(&ALL, &always, &own);
    assert!(found.is_empty(), "{found:#?}");
    let bare = [" redb::", "(redb::", "<redb::", "&redb::", "[redb::"];
    let found = offenders(
        &ALL,
        &bare,
        &["node-under-test/backend/", "node-under-test/raft/src/log_store/disk", "harness/oracle/src/raft_log.rs"],
    );
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn only_the_raft_crate_names_openraft() {
    let found = offenders(&ALL, &["openraft::"], &["node-under-test/raft/"]);
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn the_judge_links_only_the_wire_formats_of_its_subject() {
    for own in ["harness", "harness/evidence", "harness/golden", "harness/oracle"] {
        let names = dependencies(own);
        for other in ["node-base", "node-backend", "node-raft", "node-under-test"] {
            assert!(!names.contains(other), "{own}/Cargo.toml must not depend on {other}");
        }
    }
    assert!(dependencies("harness").contains("node-proto"), "the manifest was not read right");
}

/// Code cannot use a crate that its manifest does not name, even if a dependency links that crate.
#[test]
fn the_judge_and_its_evidence_link_no_runtime_and_no_client() {
    for own in ["harness/evidence", "harness/oracle"] {
        let names = dependencies(own);
        for other in ["tokio", "tokio-stream", "futures-util", "tonic", "etcd-client", "rustix", "libc", "fuser"] {
            assert!(!names.contains(other), "{own}/Cargo.toml must not depend on {other}");
        }
        assert!(names.contains("serde"), "the manifest was not read right");
    }
    assert!(!dependencies("harness/evidence").contains("node-proto"), "evidence is the harness's own");
    let oracle = dependencies("harness/oracle");
    assert!(!oracle.contains("nix"), "a judge asks the system for nothing");
    let ours: Vec<_> = oracle.iter().filter(|name| name.starts_with("ninelives")).collect();
    assert_eq!(ours, ["ninelives-evidence", "ninelives-golden"]);
}

#[test]
fn the_oracles_never_talk_to_a_live_node() {
    let found = offenders(&["harness/oracle/src"], &["Client", "Channel", "tonic::", "etcd_client"], &[]);
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn one_place_starts_processes() {
    let found = offenders(&HARNESS, &["process::Command", "Command::new("], &["harness/src/process/"]);
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn one_place_mounts() {
    let found = offenders(&HARNESS, &["nix::mount", "rustix::mount", "fuser::"], &["harness/src/faultfs"]);
    assert!(found.is_empty(), "{found:#?}");
}

/// Other crates than `nix` are called only where `nix` has no such call: `libc` between fork and
/// exec and in the cases of the fault filesystem's tests, `rustix` for pidfds and for a priority.
#[test]
fn process_control_goes_through_nix() {
    let all = [&HARNESS[..], &["harness/tests", "harness/examples", "harness/benches"]].concat();
    let cases = "harness/src/faultfs/posix/";
    let own = ["harness/src/process/before_exec.rs", "harness/tests/absences.rs", cases];
    let found = offenders(&all, &["libc::"], &own);
    assert!(found.is_empty(), "{found:#?}");
    let pidfds = ["harness/src/process/child.rs", "harness/tests/lying_member.rs", "harness/tests/whole_run.rs"];
    let own = [&pidfds[..], &["harness/src/process/environment.rs", "harness/tests/absences.rs"]].concat();
    let found = offenders(&all, &["rustix::process"], &own);
    assert!(found.is_empty(), "{found:#?}");
    let moved = ["rustix::event", "rustix::mount", "rustix::fs::fallocate", "renameat_with", "fcntl_setfd"];
    let found = offenders(&all, &moved, &["harness/tests/absences.rs"]);
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn no_diagnostic_can_end_the_harness() {
    // The macros panic where a stream is full or closed; `output.rs` says what becomes of words
    // there.
    let found =
        offenders(&HARNESS, &["println!", "print!"], &["harness/src/faultfs/tests.rs", "harness/src/faultfs/posix/"]);
    assert!(found.is_empty(), "{found:#?}");
}

/// Replies of a member's control endpoint become evidence where they are received, and nothing
/// turns them back.
#[test]
fn wire_types_become_evidence_in_one_place() {
    let found = offenders(&HARNESS, &["node_proto::control"], &["harness/src/contact/"]);
    assert!(found.is_empty(), "{found:#?}");
    let back = ["for control::", "for RecoveryResponse", "for StatusResponse", "for FenceAnswerResponse"];
    let found = offenders(&HARNESS, &back, &[]);
    assert!(found.is_empty(), "{found:#?}");
}

/// The live run records evidence in its ledger; a stored history goes through the fold alone.
#[test]
fn one_fold_reads_histories_for_the_judges() {
    let own = ["harness/oracle/src/fold.rs", "harness/evidence/src/history.rs", "harness/oracle/src/judges/ledger.rs"];
    let found = offenders(&HARNESS, &["record_at("], &own);
    let found: Vec<_> = found.into_iter().filter(|line| !line.contains("tests.rs:")).collect();
    assert!(found.is_empty(), "{found:#?}");
    let found =
        offenders(&HARNESS, &["read_line("], &["harness/evidence/src/evidence/", "harness/evidence/src/history/"]);
    let found: Vec<_> = found.into_iter().filter(|line| !line.contains("tests.rs:")).collect();
    assert!(found.is_empty(), "{found:#?}");
}

/// A finding's sentence is for people. Code that needs to know what was found matches
/// `Finding::what`.
#[test]
fn nothing_matches_on_the_words_of_a_finding() {
    // Where findings are rendered: reports, the terminal, and the words of what a localiser could
    // not find out.
    let rendered = [
        "harness/evidence/src/verdict.rs",
        "harness/src/report/",
        "harness/src/cli.rs",
        "harness/src/cli/verify.rs",
        "harness/src/mutants/mod.rs",
        "harness/src/localise",
    ];
    let words = [".sentence()", "::sentence)", "what.to_string()", "finding.to_string()", "alarm.to_string()"];
    let in_product =
        |found: Vec<String>| -> Vec<String> { found.into_iter().filter(|line| !line.contains("tests.rs:")).collect() };
    let found = in_product(offenders(&HARNESS, &words, &rendered));
    assert!(found.is_empty(), "match `Finding::what` instead: {found:#?}");
    let rendering = in_product(offenders(&HARNESS, &words, &[]));
    assert!(rendering.len() > 3, "the search finds no sentence anywhere: it would prove nothing");
    let matching = ["contains(", "starts_with(", "ends_with(", "find(", "==", "!=", "matches"];
    let found: Vec<_> = rendering.iter().filter(|line| matching.iter().any(|word| line.contains(word))).collect();
    assert!(found.is_empty(), "match `Finding::what` instead: {found:#?}");
}
