//! Whole runs of `ninelives` against real members: side by side, and killed in the middle.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

fn node() -> PathBuf {
    let beside = Path::new(env!("CARGO_BIN_EXE_ninelives")).with_file_name("node-under-test");
    assert!(beside.exists(), "{} is missing: `make test` builds it, and so does `make build`", beside.display());
    beside
}

fn start(report: &Path, scenario: &str, seed: &str, cycles: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_ninelives"))
        .arg("run")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios").join(scenario))
        .args(["--seed", seed, "--cycles", cycles])
        .arg("--node")
        .arg(node())
        .arg("--report")
        .arg(report)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("ninelives starts")
}

/// Ids of the processes whose command line names `dir`.
fn processes_of(dir: &Path) -> Vec<i32> {
    let name = dir.display().to_string();
    let entries = std::fs::read_dir("/proc").expect("/proc is readable").flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(&name)
        })
        .collect()
}

/// The harness does not link the node, so the node is asked, and a window added on one side only
/// fails here.
#[test]
fn the_node_and_the_harness_name_the_same_windows() {
    let refused = Command::new(node()).args(["serve", "--arm", "nowhere=1"]).output().expect("the node starts");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    let (_, known) = said.split_once("the windows are: ").unwrap_or_else(|| panic!("no list of windows: {said}"));
    let mut node: Vec<_> = known.lines().next().unwrap_or_default().split(", ").map(str::trim).collect();
    let mut harness: Vec<_> = ninelives::subject::WINDOWS.iter().map(|window| window.name).collect();
    node.sort_unstable();
    harness.sort_unstable();
    assert_eq!(node, harness);
}

/// The exit code of `ninelives ARGS`, with all that it says.
fn ninelives(args: &[&str], report: &Path) -> (i32, String) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_ninelives")).args(args).arg(report).output().expect("ninelives starts");
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.code().unwrap_or(-1), text)
}

fn verdict(report: &Path) -> serde_json::Value {
    let verdict = std::fs::read(report.join("verdict.json")).expect("there is a verdict.json");
    serde_json::from_slice(&verdict).expect("verdict.json is JSON")
}

/// Killed with SIGKILL in mid-run, resumed, and none of its cycles missing or there twice; what it
/// says its evidence shows.
#[test]
fn a_killed_run_is_resumed_and_verifies() {
    let dir = tempfile::tempdir().unwrap();
    let report = dir.path().join("report");
    let mut run = start(&report, "smoke.toml", "5", "14");
    let stderr = run.stderr.take().expect("standard error is piped");
    let cycles = || {
        let (code, lines) = ninelives(&["export", "--lines"], &report);
        assert_eq!(code, 0, "{lines}");
        lines.matches("\"event\":\"cycle-end\"").count()
    };
    // Its own lines say when to look, and are read on so that it never waits for us.
    let under_way = BufReader::new(stderr).lines().map_while(Result::ok).any(|line| line.starts_with("cycle "));
    assert!(under_way, "the run ended before its first cycle");
    run.kill().unwrap();
    run.wait().unwrap();
    let before = cycles();
    let (code, text) = ninelives(&["verify"], &report);
    assert_eq!(code, 2, "what is there proves no pass: {text}");
    let (code, text) = ninelives(&["run", "--resume"], &report);
    assert_eq!(code, 0, "{text}");
    let resumed = verdict(&report);
    let numbers: Vec<_> =
        resumed["cycles"].as_array().unwrap().iter().map(|one| one["cycle"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=14).collect::<Vec<_>>());
    assert_eq!(resumed["resumed"][0]["after_cycle"].as_u64(), Some(before as u64));
    let (code, text) = ninelives(&["verify"], &report);
    assert_eq!(code, 0, "{text}");
    assert_eq!(cycles(), 14);
    let (code, text) = ninelives(&["run", "--resume"], &report);
    assert_eq!(code, 64, "a complete report: {text}");
}

/// Compares, field by field, what the ledger of a run held in the end and what a fold over its
/// stored history holds.
#[test]
fn a_fold_over_the_history_comes_to_the_books_of_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let report = dir.path().join("report");
    let output = start(&report, "smoke.toml", "7", "8").wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    let said = verdict(&report);
    let fields = said["books"][0]["fields"].as_object().expect("the run left its books");
    for field in ["model", "writes", "replay", "linearizability", "watermarks", "tally"] {
        assert!(fields.contains_key(field), "{field} of {fields:?}");
    }
    let (code, text) = ninelives(&["verify"], &report);
    let compared = format!("books: {} fields of 1 ledgers compared", fields.len());
    assert!(code == 0 && text.contains(&compared), "{text}");
    let mut other = said.clone();
    other["books"][0]["fields"]["writes"] = "0123456789abcdef".into();
    std::fs::write(report.join("verdict.json"), other.to_string()).unwrap();
    let (code, text) = ninelives(&["verify"], &report);
    assert!(code == 70 && text.contains("DISAGREES: books of cluster 1, field writes"), "{text}");
    let (code, text) = ninelives(&["export", "--edn"], &report);
    assert!(code == 0 && text.contains(":type :ok"), "{text}");
}

#[test]
fn a_report_of_a_planted_bug_verifies() {
    let dir = tempfile::tempdir().unwrap();
    let report = dir.path().join("report");
    let sabotaged = node().with_file_name("node-under-test-sabotaged");
    let output = Command::new(env!("CARGO_BIN_EXE_ninelives"))
        .args(["run", concat!(env!("CARGO_MANIFEST_DIR"), "/../scenarios/teeth.toml"), "--seed", "1"])
        .args(["--sabotage", "replay-skips-one", "--node"])
        .arg(&sabotaged)
        .arg("--inspector")
        .arg(node())
        .arg("--report")
        .arg(&report)
        .output()
        .expect("ninelives starts");
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
    let (code, text) = ninelives(&["verify"], &report);
    assert!(code == 1 && text.contains("verdict.json agrees"), "{text}");
    // A pass in its place is found out.
    let mut forged = verdict(&report);
    forged["verdict"] = "pass".into();
    forged["findings"] = serde_json::json!([]);
    std::fs::write(report.join("verdict.json"), forged.to_string()).unwrap();
    let (code, text) = ninelives(&["verify"], &report);
    assert!(code == 1 && text.contains("DISAGREES: verdict"), "{text}");
}

#[test]
fn two_runs_at_once_both_pass() {
    let dir = tempfile::tempdir().unwrap();
    let runs = ["1", "2"].map(|seed| start(&dir.path().join(seed), "smoke.toml", seed, "25"));
    for run in runs {
        let output = run.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{}{text}", String::from_utf8_lossy(&output.stdout));
    }
    for seed in ["1", "2"] {
        let (code, text) = ninelives(&["verify"], &dir.path().join(seed));
        assert_eq!(code, 0, "{text}");
    }
}

/// Once around: each of three members becomes rocksdb, and redb again, by one way or the other,
/// killed on the way or not.
#[test]
fn a_rolling_upgrade_there_and_back_passes() {
    let dir = tempfile::tempdir().unwrap();
    let report = dir.path().join("report");
    let output = start(&report, "rolling-upgrade.toml", "1", "24").wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{}{text}", String::from_utf8_lossy(&output.stdout));
    let verdict = std::fs::read(report.join("verdict.json")).unwrap();
    let verdict: serde_json::Value = serde_json::from_slice(&verdict).unwrap();
    let upgraded = verdict["cycles"].as_array().unwrap().iter().filter(|cycle| cycle["upgraded"] == true);
    assert_eq!(upgraded.count(), 6, "{}", verdict["slots"]);
}

/// Restored four times, by one founder and by all, in the same engines and in others; the evidence
/// judged again says the same.
#[test]
fn a_cluster_that_is_restored_again_and_again_passes_and_verifies() {
    let dir = tempfile::tempdir().unwrap();
    let report = dir.path().join("report");
    let output = start(&report, "restore.toml", "1", "16").wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{}{text}", String::from_utf8_lossy(&output.stdout));
    let said = verdict(&report);
    let restored = said["cycles"].as_array().unwrap().iter().filter(|cycle| cycle["restored"] == true);
    assert_eq!(restored.count(), 4, "{}", said["slots"]);
    assert!(said["fault_classes"].as_array().unwrap().contains(&"restore".into()), "{}", said["fault_classes"]);
    let (code, text) = ninelives(&["verify"], &report);
    assert_eq!(code, 0, "{text}");
}

#[test]
fn a_killed_harness_leaves_no_member_behind() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = start(&dir.path().join("report"), "smoke.toml", "3", "1000");
    let stderr = run.stderr.take().expect("standard error is piped");
    let under_way = BufReader::new(stderr).lines().map_while(Result::ok).any(|line| line.starts_with("cycle "));
    assert!(under_way, "the run ended before its first cycle");
    let members: Vec<_> = processes_of(dir.path()).into_iter().filter(|pid| *pid != run.id() as i32).collect();
    let ends: Vec<_> =
        members.iter().filter_map(|pid| pidfd_open(Pid::from_raw(*pid)?, PidfdFlags::empty()).ok()).collect();
    assert!(ends.len() >= 2, "expected members of a running cluster, found {members:?}");

    run.kill().unwrap();
    run.wait().unwrap();
    // A pidfd becomes readable when its process ends.
    for end in &ends {
        let mut ended = [PollFd::new(end.as_fd(), PollFlags::POLLIN)];
        let ready = poll(&mut ended, PollTimeout::from(20_000u16)).unwrap();
        assert_eq!(ready, 1, "a member outlived the harness by 20 s: {:?}", processes_of(dir.path()));
    }
    assert_eq!(processes_of(dir.path()), Vec::<i32>::new());
}
