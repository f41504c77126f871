//! Whole runs of `ninelives` against real members: side by side, and killed in the middle.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::io::{BufRead, BufReader};
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

/// The harness does not link the node, so the node is asked: whoever adds a window on one side hears of the other.
#[test]
fn the_node_and_the_harness_name_the_same_windows() {
    let refused = Command::new(node()).args(["serve", "--arm", "nowhere=1"]).output().expect("the node starts");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    let (_, known) = said.split_once("the windows are: ").unwrap_or_else(|| panic!("no list of windows: {said}"));
    let mut node: Vec<_> = known.lines().next().unwrap_or_default().split(", ").map(str::trim).collect();
    let mut harness: Vec<_> = ninelives::target::WINDOWS.iter().map(|window| window.name).collect();
    node.sort_unstable();
    harness.sort_unstable();
    assert_eq!(node, harness);
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
}

/// Once around: each of three members becomes rocksdb, and redb again, by one way or the other, killed on the way or not.
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
        let ready = poll(&mut [PollFd::new(end, PollFlags::IN)], Some(&Timespec { tv_sec: 20, tv_nsec: 0 })).unwrap();
        assert_eq!(ready, 1, "a member outlived the harness by 20 s: {:?}", processes_of(dir.path()));
    }
    assert_eq!(processes_of(dir.path()), Vec::<i32>::new());
}
