//! From a failing run to a small plan that fails the same way again, against real members with a
//! planted bug.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn binary(name: &str) -> PathBuf {
    let beside = Path::new(env!("CARGO_BIN_EXE_ninelives")).with_file_name(name);
    assert!(beside.exists(), "{} is missing: `make test` builds it, and so does `make build`", beside.display());
    beside
}

fn ninelives(args: &[&str]) -> (Output, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ninelives"));
    command.args(args).arg("--node").arg(binary("node-under-test-sabotaged"));
    let output = command.arg("--inspector").arg(binary("node-under-test")).output().expect("ninelives starts");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output, said)
}

#[test]
fn a_failing_run_becomes_a_small_plan_that_fails_again() {
    let dir = tempfile::tempdir().unwrap();
    let report = dir.path().join("report");
    let report = report.to_str().unwrap();
    let scenario = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/teeth.toml");
    let run = ["run", scenario.to_str().unwrap(), "--seed", "1", "--sabotage", "replay-skips-one", "--report", report];
    let (output, said) = ninelives(&run);
    assert_eq!(output.status.code(), Some(1), "{said}");

    let (output, said) = ninelives(&["shrink", report, "--minutes", "1"]);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("runs ended as state-hash again") && said.contains("replay it: ninelives replay "), "{said}");
    let shrunk = Path::new(report).join("shrunk");
    for file in ["verdict.json", "plan.txt", "scenario.toml", "history.jsonl", "report.html", "repro.sh"] {
        assert!(shrunk.join(file).is_file(), "{file}");
    }
    assert!(!Path::new(report).join("shrunk.probes").exists());
    let plan = std::fs::read_to_string(shrunk.join("plan.txt")).unwrap();
    assert!(plan.lines().filter(|line| line.starts_with("cycle ")).count() <= 3, "{plan}");
    let text = std::fs::read_to_string(shrunk.join("scenario.toml")).unwrap();
    assert!(text.starts_with("# Shrunk from teeth (SHA-256 ") && text.contains("# Teeth: "), "{text}");

    let (output, said) = ninelives(&["replay", shrunk.to_str().unwrap(), "--times", "5"]);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let back = said.lines().find(|line| line.contains(" of 5 replays")).unwrap_or_default();
    assert!(back.contains("came back in 5 of 5") || back.contains("came back in 4 of 5"), "{said}");
}
