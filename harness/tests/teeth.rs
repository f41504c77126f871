//! The harness has teeth: every planted bug ends in its class, and the same run without a bug passes.
//!
//! These are whole runs of `ninelives` against real clusters. `make test` builds what they need: the node, and
//! the same node with the feature `sabotage` under another name.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Seed of every run here, so that a failure can be repeated by hand.
const SEED: &str = "1";

/// A planted bug, the classes that may head its report, and those of which one must be among its findings.
struct Expected {
    bug: &'static str,
    headline: &'static [&'static str],
    symptom: &'static [&'static str],
}

const fn bug(bug: &'static str, headline: &'static [&'static str]) -> Expected {
    Expected { bug, headline, symptom: headline }
}

const BUGS: &[Expected] = &[
    bug("capture-at-flush-begin", &["index-ahead-of-engine"]),
    bug("capture-at-flush-end", &["index-ahead-of-engine"]),
    bug("persist-before-flush", &["index-ahead-of-engine"]),
    // The judge's own look at the dead data sees the cause; the node serves all the same, so the effect must show as well.
    Expected {
        bug: "open-check-missing",
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
];

fn binary(name: &str) -> PathBuf {
    let beside = Path::new(env!("CARGO_BIN_EXE_ninelives")).with_file_name(name);
    assert!(beside.exists(), "{} is missing: `make test` builds it, and so does `make build`", beside.display());
    beside
}

/// Runs the scenario and returns its exit code, its output and `verdict.json`.
fn run(node: &Path, bug: Option<&str>, cycles: Option<&str>) -> (i32, String, Value) {
    let report = tempfile::tempdir().expect("a temporary directory can be made");
    let dir = report.path().join("report");
    let mut command = Command::new(env!("CARGO_BIN_EXE_ninelives"));
    command
        .arg("run")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/teeth.toml"))
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
    for Expected { bug, headline, symptom } in BUGS {
        let (code, text, verdict) = run(&node, Some(bug), None);
        let found = classes(&verdict);
        let cycles = verdict["cycles"].as_array().map_or(0, Vec::len);
        println!("{bug:24} {cycles:3} cycles  exit {code}  {found:?}");
        let headed = found.first().is_some_and(|first| headline.contains(first));
        if code != 1 || !headed || !found.iter().any(|class| symptom.contains(class)) {
            let expected = format!("exit 1, headed by one of {headline:?}, with one of {symptom:?}");
            wrong.push(format!("{bug}: expected {expected}, found exit {code} and {found:?}\n{text}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_control_with_no_bug_stays_green() {
    let (code, text, verdict) = run(&binary("node-under-test-sabotaged"), None, Some("60"));
    assert_eq!((code, classes(&verdict)), (0, vec![]), "{text}");
}

#[test]
fn the_release_binary_contains_no_planted_bug() {
    let names: Vec<_> = BUGS.iter().map(|expected| expected.bug.as_bytes()).collect();
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
