//! The harness has teeth: every planted bug ends in its class, and the same run without a bug passes.
//!
//! These are whole runs of `ninelives` against real clusters. `make test` builds what they need: the node, and
//! the same node with the feature `sabotage` under another name.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Seed of every run here, so that a failure can be repeated by hand.
const SEED: &str = "1";

/// The scenario that shows most bugs, and the one for those that only a snapshot shows.
const TEETH: &str = "teeth.toml";
const SNAPSHOTS: &str = "teeth-snapshots.toml";

/// Exit codes of the verdicts.
const VIOLATION: i32 = 1;
const LIVENESS: i32 = 3;

/// A planted bug, the scenario that it needs, the exit code, the classes that may head its report, and those of which one
/// must be among its findings.
struct Expected {
    bug: &'static str,
    scenario: &'static str,
    exit: i32,
    headline: &'static [&'static str],
    symptom: &'static [&'static str],
}

const fn bug(bug: &'static str, headline: &'static [&'static str]) -> Expected {
    Expected { bug, scenario: TEETH, exit: VIOLATION, headline, symptom: headline }
}

const fn snapshot_bug(bug: &'static str, exit: i32, headline: &'static [&'static str]) -> Expected {
    Expected { bug, scenario: SNAPSHOTS, exit, headline, symptom: headline }
}

const BUGS: &[Expected] = &[
    bug("capture-at-flush-begin", &["index-ahead-of-engine"]),
    bug("capture-at-flush-end", &["index-ahead-of-engine"]),
    bug("persist-before-flush", &["index-ahead-of-engine"]),
    // The judge's own look at the dead data sees the cause; the node serves all the same, so the effect must show as well.
    Expected {
        bug: "open-check-missing",
        scenario: TEETH,
        exit: VIOLATION,
        headline: &["index-ahead-of-engine"],
        symptom: &["state-hash", "lost-write"],
    },
    bug("index-before-data", &["state-hash"]),
    bug("replay-skips-one", &["state-hash"]),
    bug("replay-again", &["state-hash"]),
    bug("purge-past-flushed", &["purged-above-n"]),
    bug("tombstone-lost", &["state-hash"]),
    bug("hash-constant", &["model"]),
    // One (term, index), two entries: which replica is asked first decides what is seen first.
    bug("leader-restore", &["state-hash", "lost-write"]),
    // No snapshot is ever installed, so whoever needs one never catches up.
    snapshot_bug("wire-size-body-only", LIVENESS, &["snapshot-transfer"]),
    snapshot_bug("wire-size-too-big", LIVENESS, &["snapshot-transfer"]),
    snapshot_bug("snapshot-index-off-by-one", VIOLATION, &["state-hash"]),
];

/// Bugs that only a power loss shows: nothing here can catch them, and the release binary has none of them either.
const POWER_LOSS_BUGS: &[&str] = &["snapshot-no-dir-fsync", "marker-no-dir-fsync"];

fn binary(name: &str) -> PathBuf {
    let beside = Path::new(env!("CARGO_BIN_EXE_ninelives")).with_file_name(name);
    assert!(beside.exists(), "{} is missing: `make test` builds it, and so does `make build`", beside.display());
    beside
}

/// Runs `scenario` and returns its exit code, its output and `verdict.json`.
fn run(node: &Path, scenario: &str, bug: Option<&str>, cycles: Option<&str>) -> (i32, String, Value) {
    let report = tempfile::tempdir().expect("a temporary directory can be made");
    let dir = report.path().join("report");
    let mut command = Command::new(env!("CARGO_BIN_EXE_ninelives"));
    command
        .arg("run")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios").join(scenario))
        .args(["--seed", SEED])
        .arg("--node")
        .arg(node)
        .arg("--inspector")
        .arg(binary("node-under-test"))
        .arg("--report")
        .arg(&dir);
    command.args(cycles.map(|cycles| ["--cycles", cycles]).into_iter().flatten());
    command.args(bug.map(|bug| ["--sabotage", bug]).into_iter().flatten());
    let output = command.output().expect("ninelives starts");
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let verdict =
        std::fs::read(dir.join("verdict.json")).unwrap_or_else(|error| panic!("no verdict.json: {error}\n{text}"));
    let verdict = serde_json::from_slice(&verdict).expect("verdict.json is JSON");
    (output.status.code().unwrap_or(-1), text, verdict)
}

fn classes(verdict: &Value) -> Vec<&str> {
    let findings = verdict["findings"].as_array().map(Vec::as_slice).unwrap_or_default();
    findings.iter().filter_map(|finding| finding["class"].as_str()).collect()
}

#[test]
fn every_planted_bug_is_caught_in_its_class() {
    let node = binary("node-under-test-sabotaged");
    let mut wrong = Vec::new();
    for Expected { bug, scenario, exit, headline, symptom } in BUGS {
        let (code, text, verdict) = run(&node, scenario, Some(bug), None);
        let found = classes(&verdict);
        let cycles = verdict["cycles"].as_array().map_or(0, Vec::len);
        println!("{bug:24} {cycles:3} cycles  exit {code}  {found:?}");
        let headed = found.first().is_some_and(|first| headline.contains(first));
        if code != *exit || !headed || !found.iter().any(|class| symptom.contains(class)) {
            let expected = format!("exit {exit}, headed by one of {headline:?}, with one of {symptom:?}");
            wrong.push(format!("{bug}: expected {expected}, found exit {code} and {found:?}\n{text}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_control_with_no_bug_stays_green() {
    for (scenario, cycles) in [(TEETH, "60"), (SNAPSHOTS, "20")] {
        let (code, text, verdict) = run(&binary("node-under-test-sabotaged"), scenario, None, Some(cycles));
        assert_eq!((code, classes(&verdict)), (0, vec![]), "{scenario}\n{text}");
    }
}

#[test]
fn the_release_binary_contains_no_planted_bug() {
    let names = BUGS.iter().map(|expected| expected.bug).chain(POWER_LOSS_BUGS.iter().copied()).map(str::as_bytes);
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
