//! The command line as the shell sees it: exit codes, and what is printed where.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn ninelives(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ninelives")).args(args).output().expect("the binary under test starts")
}

fn scenario(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios").join(name).display().to_string()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A directory whose `node-under-test` is this shell script.
fn node(dir: &Path, script: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let path = dir.join("node");
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("a script can be written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("a script can be made executable");
    path
}

#[test]
fn the_same_seed_prints_the_same_bytes() {
    let gate = scenario("gate.toml");
    let once = ninelives(&["plan", &gate, "--seed", "7"]);
    assert_eq!(once.status.code(), Some(0));
    assert_eq!(once.stdout, ninelives(&["plan", &gate, "--seed", "7"]).stdout);
    assert_ne!(once.stdout, ninelives(&["plan", &gate, "--seed", "8"]).stdout);
    assert_eq!(text(&once.stdout).lines().filter(|line| line.starts_with("cycle ")).count(), 1000);
}

#[test]
fn what_cannot_be_understood_exits_64() {
    for args in [
        &["rum"][..],
        &["plan", "x.toml"],
        &["run", &scenario("smoke.toml"), "--cycles", "0"],
        &["replay", "/nonexistent"],
    ] {
        let output = ninelives(args);
        assert_eq!(output.status.code(), Some(64), "{args:?}: {}", text(&output.stderr));
        assert!(!output.stderr.is_empty() && output.stdout.is_empty(), "{args:?}");
    }
    assert_eq!(ninelives(&["--help"]).status.code(), Some(0));
}

#[test]
fn a_bad_scenario_exits_64_with_file_and_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bad.toml");
    let good = std::fs::read_to_string(scenario("smoke.toml")).unwrap();
    std::fs::write(&path, good.replace("cycles = 25", "cycles = 0")).unwrap();
    let output = ninelives(&["plan", &path.display().to_string(), "--seed", "1"]);
    assert_eq!(output.status.code(), Some(64));
    assert!(
        text(&output.stderr).contains("bad.toml:6: `cycles`: expected 1 to 100000, found 0"),
        "{}",
        text(&output.stderr)
    );
}

/// A node that cannot even start says nothing about durability: the harness's trouble, with a
/// complete report.
#[test]
fn a_node_that_never_starts_is_no_violation() {
    let dir = tempfile::tempdir().unwrap();
    let node = node(dir.path(), "echo 'no such flag' >&2; exit 3").display().to_string();
    let report = dir.path().join("report");
    let output = ninelives(&[
        "run",
        &scenario("smoke.toml"),
        "--seed",
        "1",
        "--node",
        &node,
        "--report",
        &report.display().to_string(),
    ]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(70), "{said}{}", text(&output.stderr));
    assert!(said.contains("exit code 3") && said.contains("replay it: ninelives replay "), "{said}");
    for file in ["verdict.json", "plan.txt", "scenario.toml", "history.jsonl", "report.html", "junit.xml", "repro.sh"] {
        assert!(report.join(file).is_file(), "{file}");
    }
    assert!(text(&std::fs::read(report.join("nodes/n1.log")).unwrap()).contains("no such flag"));

    let again = ninelives(&[
        "run",
        &scenario("smoke.toml"),
        "--seed",
        "1",
        "--node",
        &node,
        "--report",
        &report.display().to_string(),
    ]);
    assert_eq!(again.status.code(), Some(64));
    assert!(text(&again.stderr).contains("expected a fresh report directory"), "{}", text(&again.stderr));

    let other = report.with_file_name("replayed").display().to_string();
    std::fs::write(&node, "#!/bin/sh\nexit 4\n").unwrap();
    let replay = ninelives(&["replay", &report.display().to_string(), "--node", &node, "--report", &other]);
    assert_eq!(replay.status.code(), Some(70));
    assert!(text(&replay.stderr).contains("this node binary is not the one of the report"), "{}", text(&replay.stderr));
    let plan = |dir: &Path| std::fs::read(dir.join("plan.txt")).unwrap();
    assert_eq!(plan(&report), plan(Path::new(&other)), "a replay runs the stored plan");

    let other = report.with_file_name("third").display().to_string();
    let replay = || ninelives(&["replay", &report.display().to_string(), "--node", &node, "--report", &other]);
    std::fs::write(report.join("verdict.json"), "{").unwrap();
    let malformed = replay();
    assert_eq!(malformed.status.code(), Some(64));
    assert!(text(&malformed.stderr).contains("verdict.json"), "{}", text(&malformed.stderr));
    let changed = std::fs::read_to_string(report.join("scenario.toml")).unwrap() + "\n";
    std::fs::write(report.join("scenario.toml"), changed).unwrap();
    let altered = replay();
    assert_eq!(altered.status.code(), Some(64));
    assert!(text(&altered.stderr).contains("a plan for the scenario"), "{}", text(&altered.stderr));
}

/// The inspector takes no part before something dies.
#[test]
fn the_command_to_replay_names_another_inspector() {
    let dir = tempfile::tempdir().unwrap();
    let node = node(dir.path(), "exit 3").display().to_string();
    let report = dir.path().join("report").display().to_string();
    let run = |report: &str, inspector: &str| {
        let args = ["run", &scenario("smoke.toml"), "--seed", "1", "--node", &node, "--report", report];
        ninelives(&[&args[..], &["--inspector", inspector]].concat())
    };
    assert!(text(&run(&report, "/bin/sh").stdout).contains(" --inspector /bin/sh\n"));
    assert!(!text(&run(&format!("{report}2"), &node).stdout).contains("--inspector"));
}

/// An ignored SIGCHLD is inherited, and makes the kernel reap children unseen.
#[test]
fn a_parent_that_ignores_its_children_hides_no_end() {
    let dir = tempfile::tempdir().unwrap();
    let node = node(dir.path(), "exit 3").display().to_string();
    let report = dir.path().join("report").display().to_string();
    let output = Command::new("/bin/sh")
        .args(["-c", "trap '' CHLD; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_ninelives"), "run"])
        .args([&scenario("smoke.toml"), "--seed", "1", "--node", &node, "--report", &report])
        .output()
        .unwrap();
    assert!(text(&output.stdout).contains("exit code 3"), "{}", text(&output.stdout));
}

#[test]
fn nobody_has_to_listen() {
    let dir = tempfile::tempdir().unwrap();
    let node = node(dir.path(), "exit 3").display().to_string();
    let report = dir.path().join("report").display().to_string();
    let status = Command::new(env!("CARGO_BIN_EXE_ninelives"))
        .args(["run", &scenario("smoke.toml"), "--seed", "1", "--node", &node, "--report", &report])
        .stdout(closed())
        .stderr(closed())
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(70));
}

/// Runs with a member that never serves, sends `signals` once all of them run, and demands a
/// partial report.
fn interrupted_by(signals: &[&str]) {
    let dir = tempfile::tempdir().expect("a real process and real files");
    let pids = dir.path().join("pids");
    // It never serves: the run waits for it when the signal comes.
    let script = format!("[ \"$1\" = serve ] || exit 1; echo $$ >> {}; exec sleep 1000", pids.display());
    let node = node(dir.path(), &script).display().to_string();
    let report = dir.path().join("report");
    let path = report.display().to_string();
    let mut harness = Command::new(env!("CARGO_BIN_EXE_ninelives"))
        .args(["run", &scenario("smoke.toml"), "--seed", "1", "--node", &node, "--report", &path])
        .spawn()
        .expect("a real process and real files");
    let running = || std::fs::read_to_string(&pids).unwrap_or_default().lines().map(str::to_owned).collect::<Vec<_>>();
    while running().len() < 3 {
        assert!(
            harness.try_wait().expect("a real process and real files").is_none(),
            "the harness ended before its nodes ran"
        );
        std::thread::yield_now();
    }
    let id = harness.id().to_string();
    for signal in signals {
        // The second one may find it gone already, as a zombie.
        assert!(
            Command::new("kill")
                .args([&format!("-{signal}"), id.as_str()])
                .status()
                .expect("a real process and real files")
                .success()
        );
    }
    assert_eq!(harness.wait().expect("a real process and real files").code(), Some(130), "{signals:?}");
    let verdict: serde_json::Value =
        serde_json::from_slice(&std::fs::read(report.join("verdict.json")).expect("a real process and real files"))
            .expect("a real process and real files");
    assert_eq!(verdict["interrupted"], true, "{signals:?}");
    assert!(report.join("junit.xml").is_file(), "{signals:?}");
    for pid in running() {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        assert!(stat.is_empty() || stat.contains(") Z"), "{signals:?}: {stat}");
    }
}

#[test]
fn an_interruption_ends_with_a_partial_report_and_no_nodes() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).map(|mask| mask.trim().to_owned());
    // Under `nohup` a hang-up ends nothing, and that is right.
    let nohup = ignored.and_then(|mask| u64::from_str_radix(&mask, 16).ok()).is_some_and(|mask| mask & 1 == 1);
    for signals in [&["TERM"][..], &["INT"], &["INT", "TERM"], &["HUP"], &["HUP", "TERM"]] {
        if !(nohup && signals.contains(&"HUP")) {
            interrupted_by(signals);
        }
    }
}

/// The exit code of `ninelives ARGS` with its streams elsewhere.
fn code_of(args: &[&str], stdout: Stdio, stderr: Stdio) -> Option<i32> {
    Command::new(env!("CARGO_BIN_EXE_ninelives"))
        .args(args)
        .stdout(stdout)
        .stderr(stderr)
        .status()
        .expect("streams can be made")
        .code()
}

fn full() -> Stdio {
    std::fs::OpenOptions::new().write(true).open("/dev/full").expect("streams can be made").into()
}

fn closed() -> Stdio {
    let (reader, writer) = std::io::pipe().expect("streams can be made");
    drop(reader);
    writer.into()
}

/// Diagnostics never end the program, and a summary that cannot be written changes no verdict; a
/// product that is lost is a failure.
#[test]
fn a_stream_that_takes_nothing_changes_no_exit_code_but_a_products() {
    let dir = tempfile::tempdir().unwrap();
    let node = node(dir.path(), "exit 3").display().to_string();
    let report = dir.path().join("report").display().to_string();
    let smoke = scenario("smoke.toml");
    let fresh = || {
        let _ = std::fs::remove_dir_all(&report);
        ["run", &smoke, "--seed", "1", "--node", &node, "--report", &report].map(str::to_owned)
    };
    for (out, err) in [(full(), full()), (closed(), closed()), (full(), Stdio::null()), (Stdio::null(), full())] {
        let args = fresh();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        assert_eq!(code_of(&args, out, err), Some(70), "the verdict's own code");
        assert!(Path::new(&report).join("verdict.json").is_file());
    }
    // Of one operation, so that there is something to write.
    let history =
        r#"{"at_us":1,"event":"invoke","op":"1.1","endpoint":0,"action":{"do":"delete","keys":{"from":"k"}}}"#;
    let small = dir.path().join("small");
    std::fs::create_dir(&small).unwrap();
    std::fs::write(small.join("history.jsonl"), format!("{history}\n")).unwrap();
    let small = small.display().to_string();
    let products: [&[&str]; 5] = [
        &["--help"],
        &["--version"],
        &["plan", &smoke, "--seed", "1"],
        &["export", "--edn", &small],
        &["export", "--lines", &small],
    ];
    for args in products {
        assert_eq!(code_of(args, full(), Stdio::null()), Some(70), "{args:?}");
        assert_eq!(code_of(args, closed(), Stdio::null()), Some(0), "{args:?}");
        assert_eq!(code_of(args, Stdio::null(), full()), Some(0), "{args:?}");
    }
    let said: [(&[&str], i32); 4] = [
        (&["verify", &report], 70),
        (&["shrink", &report, "--node", &node], 64),
        (&["rum"], 64),
        (&["plan", "/nonexistent.toml", "--seed", "1"], 64),
    ];
    for (args, code) in said {
        for (out, err) in [(full(), full()), (closed(), closed())] {
            assert_eq!(code_of(args, out, err), Some(code), "{args:?}");
        }
    }
    for (nth, (out, err)) in [(full(), full()), (closed(), closed())].into_iter().enumerate() {
        let replays = dir.path().join(format!("replays{nth}")).display().to_string();
        let args = ["replay", &report, "--node", &node, "--times", "1", "--report", &replays];
        assert_eq!(code_of(&args, out, err), Some(70), "{args:?}");
    }
}

/// A caller that configures etcd, ignores hang-ups, holds a descriptor open and has a strange
/// umask: a member sees none of it.
#[test]
fn a_member_is_given_nothing_that_the_report_does_not_tell() {
    let dir = tempfile::tempdir().unwrap();
    let seen = dir.path().join("seen");
    let script = format!(
        "[ \"$1\" = serve ] && {{ env; echo umask=$(umask); grep SigIgn /proc/self/status; ls -l /proc/self/fd; }} >> {}\nexit 3",
        seen.display()
    );
    let node = node(dir.path(), &script).display().to_string();
    let path = dir.path().join("scenario.toml");
    let smoke = std::fs::read_to_string(scenario("smoke.toml")).unwrap();
    std::fs::write(&path, format!("{smoke}\n[environment]\npass = [\"GODEBUG\"]\nset = {{ GOGC = \"50\" }}\n"))
        .unwrap();
    let report = dir.path().join("report");
    let held = dir.path().join("held");
    let output = Command::new("/bin/sh")
        .args(["-c", "trap '' HUP; umask 077; exec 7>\"$0\"; exec \"$@\"", &held.display().to_string()])
        .args([env!("CARGO_BIN_EXE_ninelives"), "run", &path.display().to_string(), "--seed", "1", "--node", &node])
        .args(["--report", &report.display().to_string()])
        .env("ETCD_AUTO_COMPACTION_RETENTION", "1s")
        .env("GODEBUG", "madvdontneed=1")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(70), "{}", text(&output.stderr));
    let seen = std::fs::read_to_string(&seen).unwrap();
    for there in ["GODEBUG=madvdontneed=1\n", "GOGC=50\n", "PATH=", "umask=0022\n"] {
        assert!(seen.contains(there), "{there}: {seen}");
    }
    for absent in ["ETCD_", "CARGO", &held.display().to_string()] {
        assert!(!seen.contains(absent), "{absent}: {seen}");
    }
    let ignored = seen.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    // Signals 32 and 33 are the C library's own; it lets no program change them.
    let ignored = u64::from_str_radix(ignored.trim(), 16).unwrap() & !(0b11 << 31);
    assert_eq!(ignored, 0, "{ignored:x}");
    let verdict: serde_json::Value =
        serde_json::from_slice(&std::fs::read(report.join("verdict.json")).unwrap()).unwrap();
    let environment = &verdict["environment"];
    assert_eq!(environment["variables"]["GOGC"], "50");
    let withheld = environment["withheld"].as_array().unwrap();
    assert!(withheld.iter().any(|name| name == "ETCD_AUTO_COMPACTION_RETENTION"), "{withheld:?}");
    assert!(environment["inherited"]["limit: max open files"].is_string(), "{environment}");
}

#[test]
fn what_is_no_report_exits_64() {
    const COMMANDS: [&[&str]; 5] = [&["verify"], &["replay"], &["shrink"], &["run", "--resume"], &["export", "--edn"]];
    let dir = tempfile::tempdir().unwrap();
    let (empty, file) = (dir.path().join("empty"), dir.path().join("file"));
    std::fs::create_dir(&empty).unwrap();
    std::fs::write(&file, "no directory").unwrap();
    for command in COMMANDS {
        for (path, lacks) in
            [(&empty, " in it: name the directory that `ninelives run` printed"), (&file, "found none at")]
        {
            let output = ninelives(&[command, &[&path.display().to_string()]].concat());
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(64), "{command:?}: {said}");
            assert!(said.contains("expected a report directory") && said.contains(lacks), "{command:?}: {said}");
            assert!(output.stdout.is_empty(), "{command:?}");
        }
    }
}

/// A report that is damaged is none: nothing that it says, or does not say, is a verdict of the
/// harness.
#[test]
fn what_cannot_be_read_as_a_report_exits_64() {
    let dir = tempfile::tempdir().unwrap();
    let node = node(dir.path(), "exit 3").display().to_string();
    let report = dir.path().join("report");
    let path = report.display().to_string();
    ninelives(&["run", &scenario("smoke.toml"), "--seed", "1", "--node", &node, "--report", &path]);
    assert_eq!(ninelives(&["verify", &path]).status.code(), Some(70), "the run's own verdict");
    for part in ["scenario.toml", "plan.txt", "verdict.json"] {
        let whole = std::fs::read(report.join(part)).unwrap();
        for damaged in [&[][..], &whole[..whole.len() / 2], b"\xff\xfe"] {
            std::fs::write(report.join(part), damaged).unwrap();
            for command in ["verify", "replay"] {
                let output = ninelives(&[command, &path, "--node", &node][..if command == "verify" { 2 } else { 4 }]);
                let said = text(&output.stderr);
                assert_eq!(output.status.code(), Some(64), "{command} {part} of {} bytes: {said}", damaged.len());
                assert!(said.contains(part) || said.contains("digest"), "{command} {part}: {said}");
            }
        }
        std::fs::write(report.join(part), whole).unwrap();
    }
    std::fs::remove_file(report.join("history.jsonl")).unwrap();
    let output = ninelives(&["verify", &path]);
    assert!(output.status.code() == Some(64) && text(&output.stderr).contains("found no history.jsonl in it"));
}

#[test]
fn a_replay_many_times_counts_and_keeps_what_it_found() {
    let dir = tempfile::tempdir().unwrap();
    let node = node(dir.path(), "exit 3").display().to_string();
    let report = dir.path().join("report").display().to_string();
    ninelives(&["run", &scenario("smoke.toml"), "--seed", "1", "--node", &node, "--report", &report]);

    let many = ninelives(&["replay", &report, "--node", &node, "--times", "2"]);
    let (said, progress) = (text(&many.stdout), text(&many.stderr));
    assert_eq!(many.status.code(), Some(70), "{said}{progress}");
    assert!(said.starts_with("harness-error came back in 2 of 2 replays (100 %)"), "{said}");
    assert!(progress.contains("replay 1/2: harness-error") && !progress.contains("cycle 1/"), "{progress}");
    let stamps: Vec<_> = std::fs::read_dir(Path::new(&report).join("replays")).unwrap().flatten().collect();
    assert_eq!(stamps.len(), 1);
    for number in ["001", "002"] {
        assert!(stamps[0].path().join(number).join("verdict.json").is_file(), "{number}");
    }

    let small = ninelives(&["shrink", &report, "--node", &node]);
    assert_eq!(small.status.code(), Some(64), "{}", text(&small.stderr));
    assert!(text(&small.stderr).contains("found a harness that failed: nothing to shrink"), "{}", text(&small.stderr));
}

#[test]
fn a_bug_that_is_not_in_the_table_exits_64() {
    let output = ninelives(&["mutants", &scenario("mutants.toml"), "--bug", "hash-constnat"]);
    assert_eq!(output.status.code(), Some(64));
    assert!(text(&output.stderr).contains("unknown bug hash-constnat; expected one of "), "{}", text(&output.stderr));
    // A node that cannot start says nothing about the harness's teeth.
    let dir = tempfile::tempdir().unwrap();
    let node = node(dir.path(), "exit 3").display().to_string();
    let report = dir.path().join("report").display().to_string();
    let args = ["mutants", &scenario("mutants.toml"), "--bug", "hash-constant", "--seeds", "2", "--jobs", "2"];
    let output = ninelives(&[&args[..], &["--node", &node, "--inspector", &node, "--report", &report]].concat());
    assert_eq!(output.status.code(), Some(2), "{}{}", text(&output.stdout), text(&output.stderr));
    let table = std::fs::read_to_string(Path::new(&report).join("mutants.txt")).unwrap();
    assert!(table.contains("caught 0 of 2") && table.contains("harness-error 2"), "{table}");
    assert!(Path::new(&report).join("hash-constant-seed2/verdict.json").is_file(), "a survivor's report is kept");
}
