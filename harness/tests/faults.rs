//! Faults beside the plain kill, against real members: a run whose plan has one of each kind.

use ninelives::scenario::Scenario;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A kill into a partition and a restart within it, a pause, kills in recovery itself, and links
/// that are slow and one-way.
const STEPS: &str = "\
cycle 1  isolate leader for 700ms at applied +5 + kill leader at time 100ms
cycle 2  pause leader for 1000ms at applied +5
cycle 3  kill follower#0 at apply.after-batch hit 60 then at recovery.engine-opened hit 1 then at recovery.replay-apply hit 1
cycle 4  delay all by 20ms for 400ms at time 0ms + mute leader for 500ms at time 0ms
cycle 5  deafen follower#1 for 400ms at raft.append hit 5
";

fn node() -> PathBuf {
    let beside = Path::new(env!("CARGO_BIN_EXE_ninelives")).with_file_name("node-under-test");
    assert!(beside.exists(), "{} is missing: `make test` builds it, and so does `make build`", beside.display());
    beside
}

fn members_of(fault: &Value) -> Vec<u64> {
    let victims = fault["victims"].as_array().map(Vec::as_slice).unwrap_or_default();
    victims.iter().filter_map(|victim| victim["member"].as_u64()).collect()
}

#[test]
fn every_kind_of_fault_lands_ends_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (stored, report) = (dir.path().join("stored"), dir.path().join("report"));
    let scenario = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/chaos.toml");
    std::fs::create_dir(&stored).unwrap();
    std::fs::copy(&scenario, stored.join("scenario.toml")).unwrap();
    let digest = Scenario::load(&scenario).unwrap().digest();
    let plan = format!("plan 1\nscenario chaos {digest}\nseed 1\ncycles 5\n{STEPS}");
    std::fs::write(stored.join("plan.txt"), plan).unwrap();

    let mut command = Command::new(env!("CARGO_BIN_EXE_ninelives"));
    command.arg("replay").arg(&stored).arg("--node").arg(node()).arg("--report").arg(&report);
    let output = command.output().expect("ninelives starts");
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{text}");

    let verdict: Value = serde_json::from_slice(&std::fs::read(report.join("verdict.json")).unwrap()).unwrap();
    assert_eq!(verdict["fault_classes"], serde_json::json!(["kill", "kill again", "pause", "network"]));
    let cycles = verdict["cycles"].as_array().unwrap();
    assert!(cycles.iter().all(|cycle| cycle["outcome"] == "landed"), "{cycles:#?}");
    let lasting: Vec<&Value> = cycles
        .iter()
        .filter_map(|cycle| cycle["lasting"].as_array())
        .flatten()
        .inspect(|one| println!("{one}"))
        .collect();
    assert_eq!(lasting.len(), 5);
    for (fault, ms) in lasting.iter().zip([700, 1000, 400, 500, 400]) {
        assert!(fault["lasted_ms"].as_u64().is_some_and(|lasted| lasted >= ms), "{fault}");
    }
    let links: Vec<_> = lasting.iter().filter_map(|fault| fault["links"].as_u64()).collect();
    assert_eq!(links, [4, 0, 6, 2, 2]);
    // Who was cut off died, and came back into the partition; the others had elected meanwhile.
    assert_eq!(members_of(lasting[0]), members_of(&cycles[0]));
    assert!(cycles[0]["terms_passed"].as_u64() >= Some(1), "{}", cycles[0]);
    assert!(cycles[1]["terms_passed"].as_u64() >= Some(1), "a leader that stands still is replaced: {}", cycles[1]);
    assert_eq!(cycles[2]["kills"], 3, "{}", cycles[2]);
    assert!(cycles[2]["again"].as_array().unwrap().iter().all(|again| again["skipped"].is_null()), "{}", cycles[2]);
}
