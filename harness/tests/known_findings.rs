//! Whole runs of `ninelives` whose scenario knows what they find: it is suppressed, counted, shown,
//! and hides nothing else.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Kills at times alone, on redb: no floor depends on a window that may be missed or a memtable
/// that may be empty.
const SCENARIO: &str = r#"cycles = 6
[cluster]
members = 3
backend = "redb"
keep_entries = 400
snapshot_every_entries = 200
[load]
clients = 8
keys = 200
value_bytes_max = 256
op_timeout_ms = 2000
compact_every_ops = 40
[whom]
follower = 1
leader = 1
[when]
time = 1
"#;

/// The findings to which the planted bug `hash-constant` leads at every fence.
const CONSTANT_HASH: &str = r#"
[[known]]
name = "constant hash"
class = "model"
what = "kv-section-differs"
because = "planted"
[[known]]
name = "stale"
class = "watch"
because = "long gone"
"#;

fn binary(name: &str) -> PathBuf {
    let beside = Path::new(env!("CARGO_BIN_EXE_ninelives")).with_file_name(name);
    assert!(beside.exists(), "{} is missing: `make test` builds it, and so does `make build`", beside.display());
    beside
}

struct Run {
    dir: tempfile::TempDir,
    child: Child,
}

impl Run {
    /// Starts a run of the scenario with `known` in it.
    fn start(known: &str, node: &str, more: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let scenario = dir.path().join("known.toml");
        std::fs::write(&scenario, format!("{SCENARIO}{known}")).expect("the scenario can be written");
        let child = Command::new(env!("CARGO_BIN_EXE_ninelives"))
            .arg("run")
            .arg(scenario)
            .args(["--seed", "1", "--node"])
            .arg(binary(node))
            .arg("--inspector")
            .arg(binary("node-under-test"))
            .args(more)
            .arg("--report")
            .arg(dir.path().join("report"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("ninelives starts");
        Self { dir, child }
    }

    fn sabotaged(known: &str) -> Self {
        Self::start(known, "node-under-test-sabotaged", &["--sabotage", "hash-constant"])
    }

    fn report(&self) -> PathBuf {
        self.dir.path().join("report")
    }

    /// Waits for the first cycle to end; what the run says later is thrown away.
    fn first_cycle(&mut self) {
        let stderr = self.child.stderr.take().expect("standard error is piped");
        let mut lines = BufReader::new(stderr).lines().map_while(Result::ok);
        assert!(lines.any(|line| line.starts_with("cycle ")), "the run ended before its first cycle");
        std::thread::spawn(move || lines.for_each(drop));
    }

    /// Its exit code, and its last words.
    fn end(&mut self) -> (i32, String) {
        let mut text = String::new();
        let stdout = self.child.stdout.take().expect("standard output is piped");
        BufReader::new(stdout).lines().map_while(Result::ok).for_each(|line| text += &format!("{line}\n"));
        (self.child.wait().expect("it ends").code().unwrap_or(-1), text)
    }

    /// The exit code of `ninelives ARGS REPORT`, with all that it says.
    fn then(&self, args: &[&str]) -> (i32, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ninelives"));
        let output = command.args(args).arg(self.report()).output().expect("ninelives starts");
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        (output.status.code().unwrap_or(-1), text)
    }

    /// Number of findings that the report has suppressed, by signature.
    fn counts(&self) -> Vec<(String, u64)> {
        let verdict = std::fs::read(self.report().join("verdict.json")).expect("there is a verdict.json");
        let verdict: serde_json::Value = serde_json::from_slice(&verdict).expect("verdict.json is JSON");
        let known = verdict["known"].as_array().expect("there are known findings");
        let count = |one: &serde_json::Value| Some((one["name"].as_str()?.to_owned(), one["count"].as_u64()?));
        known.iter().map(|one| count(one).expect("each has a name and a count")).collect()
    }
}

/// Each of six cycles finds it, and so does the last read; killed and resumed in between, all the
/// same.
#[test]
fn a_known_bug_is_counted_and_ends_nothing() {
    let mut run = Run::sabotaged(CONSTANT_HASH);
    run.first_cycle();
    run.child.kill().expect("it can be killed");
    run.child.wait().expect("it ends");
    let (code, text) = run.then(&["run", "--resume"]);
    assert_eq!(code, 0, "{text}");
    let counts = run.counts();
    let fences = counts[0].1;
    assert!(fences >= 7, "six cycles and the last read, and more where it was resumed: {fences}");
    assert_eq!(counts[1], ("stale".to_owned(), 0));
    for said in [
        format!("pass, with {fences} known findings suppressed: 6 of 6 cycles"),
        format!(
            "known: {fences} findings suppressed as \"constant hash\" (model): planted; the first: model, cycle 1: "
        ),
        "never seen: \"stale\" (watch), in 6 cycles".to_owned(),
    ] {
        assert!(text.contains(&said), "expected {said} in {text}");
    }
    let (code, text) = run.then(&["verify"]);
    assert!(code == 0 && text.contains("verdict.json agrees with the evidence"), "{text}");
    assert!(text.contains(&format!("pass, with {fences} known findings suppressed")), "{text}");
}

/// The same bug, and a signature that is about something else.
#[test]
fn a_signature_that_does_not_match_hides_nothing() {
    let mut run = Run::sabotaged(&CONSTANT_HASH.replace("kv-section-differs", "lease-section-not-its-list"));
    let (code, text) = run.end();
    assert!(code == 1 && text.contains("model, cycle 1: "), "{text}");
    assert!(text.contains("violation: 1 of 6 cycles") && text.contains("never seen: \"constant hash\""), "{text}");
    assert_eq!(run.counts()[0].1, 0);
}

/// A member that dies in the middle of a cycle takes the cycle with it, and not the run: all
/// members are killed and come back.
#[test]
fn a_run_goes_on_after_a_death_that_is_known() {
    let known = "[[known]]\nname = \"aborts\"\nclass = \"node-died\"\nwhat = \"died\"\nfields = { ended = { killed-by-other = 6 } }\nbecause = \"this test's\"\n";
    let mut run = Run::start(known, "node-under-test", &["--cycles", "12"]);
    run.first_cycle();
    let member = member_of(&run.report()).expect("a member is alive");
    kill(member, Signal::SIGABRT).expect("it can be signalled");
    let (code, text) = run.end();
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("pass, with 1 known finding suppressed: 12 of 12 cycles"), "{text}");
    assert!(
        text.contains("skipped check: the fence of 1 of 12 cycles: a known finding ended them before it"),
        "{text}"
    );
    let (code, text) = run.then(&["verify"]);
    assert!(code == 0 && text.contains("verdict.json agrees with the evidence"), "{text}");
}

/// A process that works on `n1` of the report.
fn member_of(report: &Path) -> Option<Pid> {
    let data = report.join("nodes/n1").display().to_string();
    let entries = std::fs::read_dir("/proc").expect("/proc is readable").flatten();
    let mut pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.find(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        line.contains("serve") && line.split('\0').any(|word| word == data)
    })
    .map(Pid::from_raw)
}
