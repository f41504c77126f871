//! Servers that are known by etcd's API only: real etcd passes, the node passes when it is treated
//! like one, and a member that lies is found, with what it lied about.
//!
//! These need etcd; `make setup` installs it, and leaves no service running.

use std::path::{Path, PathBuf};
use std::process::Command;

fn binary(name: &str) -> PathBuf {
    let beside = Path::new(env!("CARGO_BIN_EXE_ninelives")).with_file_name(name);
    assert!(beside.exists(), "{} is missing: `make test` builds it, and so does `make build`", beside.display());
    beside
}

fn scenarios() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios")
}

/// The exit code of `ninelives ARGS`, with all that it says.
fn ninelives(args: &[&str], paths: &[&Path]) -> (i32, String) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_ninelives")).args(args).args(paths).output().expect("ninelives starts");
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!text.contains("install it with"), "no etcd here; `make setup` installs it: {text}");
    (output.status.code().unwrap_or(-1), text)
}

fn verdict(report: &Path) -> serde_json::Value {
    let verdict = std::fs::read(report.join("verdict.json")).expect("there is a verdict.json");
    serde_json::from_slice(&verdict).expect("verdict.json is JSON")
}

/// The smoke scenario with another `[target]`.
fn smoke_of(target: &str) -> String {
    let text = std::fs::read_to_string(scenarios().join("etcd-smoke.toml")).expect("the scenario is there");
    let (before, rest) = text.split_once("[target.etcd]").expect("the scenario is about etcd");
    let (_, after) = rest.split_once("[cluster]").expect("and has a cluster");
    format!("{before}{target}\n[cluster]{after}")
}

/// Runs `scenario`, and leaves its report in `dir`.
fn run(dir: &Path, scenario: &str, cycles: &str) -> (i32, String) {
    let path = dir.join("scenario.toml");
    std::fs::write(&path, scenario).expect("the scenario can be written");
    let report = dir.join("report");
    ninelives(&["run", "--seed", "3", "--cycles", cycles, "--report"], &[&report, &path])
}

#[test]
fn etcd_passes_and_its_evidence_verifies() {
    let dir = tempfile::tempdir().unwrap();
    let scenario = std::fs::read_to_string(scenarios().join("etcd-smoke.toml")).unwrap();
    let (code, text) = run(dir.path(), &scenario, "15");
    assert_eq!(code, 0, "{text}");
    let report = dir.path().join("report");
    let run = verdict(&report);
    assert_eq!((run["backend"].as_str(), run["verdict"].as_str()), (Some("etcd"), Some("pass")));
    assert!(run["node"]["version"].as_str().is_some_and(|version| version.starts_with("etcd Version: 3.")), "{text}");
    let cycles = run["cycles"].as_array().unwrap();
    assert!(cycles.iter().all(|cycle| cycle["fence_index"].as_u64().is_some()), "every cycle ends in a fence");
    assert!(cycles.iter().any(|cycle| cycle["behind"].as_u64() > Some(0)), "no member had anything to catch up with");
    let (code, text) = ninelives(&["verify"], &[&report]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("agrees with the evidence"), "{text}");
}

/// The node without its control endpoint's help: what the API alone shows is enough to judge it.
#[test]
fn the_node_passes_as_a_server_among_others() {
    let dir = tempfile::tempdir().unwrap();
    let target = format!(
        "[target.command]\nstart = [{:?}, \"serve\", \"--id\", \"{{id}}\", \"--data-dir\", \"{{data_dir}}\", \"--backend\", \"rocksdb\", \
         \"--member\", \"{{peers}}\"]\npeer = \"{{id}}={{name}}@{{peer}}/{{client}}\"\n",
        binary("node-under-test").display().to_string()
    );
    let (code, text) = run(dir.path(), &smoke_of(&target), "12");
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("HashKV against the model: n/a on node-under-test"), "{text}");
}

/// A cluster of etcd in which n2 tells one lie.
fn with_a_liar(lie: &str, nth: u32) -> String {
    let liar = Path::new(env!("CARGO_BIN_EXE_ninelives")).with_file_name("examples").join("lying-member");
    assert!(liar.exists(), "{} is missing: cargo builds the examples with the tests", liar.display());
    let words = [
        &liar.display().to_string(),
        "--client",
        "{client}",
        "--lie",
        lie,
        "--nth",
        &nth.to_string(),
        "--only",
        "n2",
        "--name",
        "{name}",
        "--",
        "etcd",
        "--name",
        "{name}",
        "--data-dir",
        "{data_dir}",
        "--listen-peer-urls",
        "http://{peer}",
        "--initial-advertise-peer-urls",
        "http://{peer}",
        "--listen-client-urls",
        "http://@inner@",
        "--advertise-client-urls",
        "http://@inner@",
        "--initial-cluster",
        "{peers}",
        "--heartbeat-interval",
        "20",
        "--election-timeout",
        "200",
    ];
    smoke_of(&format!("[target.command]\nstart = {words:?}\n"))
}

/// Findings of the run.
fn findings(report: &Path) -> Vec<serde_json::Value> {
    verdict(report)["findings"].as_array().cloned().unwrap_or_default()
}

/// The first finding about n2 that is of one of these kinds.
fn about_the_liar(report: &Path, kinds: &[&str]) -> Option<serde_json::Value> {
    let fits = |one: &serde_json::Value| one["member"] == 2 && kinds.iter().any(|kind| one["what"] == *kind);
    findings(report).into_iter().find(fits)
}

/// Demands that `finding` has a revision and keys, and that the account of where it begins names
/// n2, that revision and such a key.
fn is_localised(report: &Path, finding: &serde_json::Value) {
    let (revision, keys) = (&finding["revision"], finding["keys"].as_array().cloned().unwrap_or_default());
    assert!(revision.as_u64() > Some(1) && !keys.is_empty(), "{finding}");
    let begins = verdict(report)["localisation"].clone();
    assert_eq!((&begins["first"]["member"], &begins["first"]["revision"]), (&2.into(), revision), "{begins:#}");
    let named = begins["keys"].as_array().cloned().unwrap_or_default();
    assert!(named.iter().any(|one| keys.contains(&one["key"])), "{begins:#}");
}

#[test]
fn a_forged_acknowledgement_is_found_with_its_member_revision_and_key() {
    let dir = tempfile::tempdir().unwrap();
    let (code, text) = run(dir.path(), &with_a_liar("forge-ack", 30), "15");
    assert_eq!(code, 1, "{text}");
    let report = dir.path().join("report");
    let found = about_the_liar(&report, &["not-held", "holds-another"]).unwrap_or_else(|| panic!("{text}"));
    is_localised(&report, &found);
}

#[test]
fn a_write_left_out_of_a_transaction_is_found_with_its_member_revision_and_key() {
    let dir = tempfile::tempdir().unwrap();
    let (code, text) = run(dir.path(), &with_a_liar("drop-write", 5), "15");
    assert_eq!(code, 1, "{text}");
    let report = dir.path().join("report");
    let found = about_the_liar(&report, &["other-effects"]).unwrap_or_else(|| panic!("{text}"));
    assert!(found["fields"]["difference"].as_str().is_some_and(|keys| keys.contains("missing: p/")), "{found}");
    is_localised(&report, &found);
}

/// Its own hash is right: only the keys that it shows are not.
#[test]
fn a_member_that_does_not_show_a_key_is_found_with_that_key() {
    let dir = tempfile::tempdir().unwrap();
    let (code, text) = run(dir.path(), &with_a_liar("hide-key", 20), "15");
    assert_eq!(code, 1, "{text}");
    let report = dir.path().join("report");
    let disagree = about_the_liar(&report, &["replicas-disagree"]).unwrap_or_else(|| panic!("{text}"));
    assert_eq!(disagree["fields"]["part"], "keys", "{disagree}");
    let found = about_the_liar(&report, &["row-missing"]).unwrap_or_else(|| panic!("{text}"));
    is_localised(&report, &found);
    let (code, text) = ninelives(&["verify"], &[&report]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("agrees with the evidence"), "{text}");
}
