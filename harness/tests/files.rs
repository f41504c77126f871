//! The fault filesystem. Under real etcd: killed between two system calls, it loses nothing; a run
//! that was killed leaves no dead mount behind once it is resumed; and a machine without FUSE
//! proves nothing. Under the node: a power loss shows a missing sync, and a kill does not; disks
//! fill up, and syncs fail.
//!
//! On a machine, or for a user, that cannot mount, every one of these is the last one.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const NINELIVES: &str = env!("CARGO_BIN_EXE_ninelives");
const LACKING: &str =
    "asks for the fault filesystem (`fault_filesystem = true`, `[power]` or `[disk]`), which takes FUSE and root";

/// The scenario of files with `cycles` cycles, and quotas for the syncs of the log alone.
fn scenario(dir: &Path, cycles: u32) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/etcd-files.toml");
    let text = std::fs::read_to_string(path).expect("the scenario is there");
    let text = text.replacen("cycles = 300", &format!("cycles = {cycles}"), 1);
    let text = text.replacen("each = 2", "\"wal.sync\" = 1\n\"wal.synced\" = 1", 1);
    assert!(text.contains(&format!("cycles = {cycles}\n")) && !text.contains("each = "), "the scenario has changed");
    let path = dir.join("scenario.toml");
    std::fs::write(&path, text).expect("the scenario can be written");
    path
}

fn finish(command: &mut Command) -> (i32, String) {
    let output = command.output().expect("the program starts");
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!text.contains("install it with"), "no etcd here; `make setup` installs it: {text}");
    (output.status.code().unwrap_or(-1), text)
}

fn run(scenario: &Path, report: &Path) -> Command {
    let mut command = Command::new(NINELIVES);
    command.args(["run", "--seed", "3", "--report"]).args([report, scenario]);
    command
}

/// Arguments of `unshare` that start a program in a world of its own, where /dev/fuse is nothing.
const WITHOUT_FUSE: [&str; 5] = ["--mount", "sh", "-c", "mount --bind /dev/null /dev/fuse && exec \"$@\"", "sh"];

/// True if the kernel lets this process mount: CAP_SYS_ADMIN, and a FUSE device that opens.
fn can_mount() -> bool {
    const CAP_SYS_ADMIN: u64 = 1 << 21;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let admin = effective.and_then(|text| u64::from_str_radix(text.trim(), 16).ok()).unwrap_or(0) & CAP_SYS_ADMIN != 0;
    admin && std::fs::File::options().read(true).write(true).open("/dev/fuse").is_ok()
}

fn verdict(report: &Path) -> serde_json::Value {
    let verdict = std::fs::read(report.join("verdict.json")).expect("there is a verdict.json");
    serde_json::from_slice(&verdict).expect("verdict.json is JSON")
}

fn mounts_in(dir: &Path) -> usize {
    let mounts = std::fs::read_to_string("/proc/self/mounts").expect("/proc is there");
    mounts.lines().filter(|line| line.contains(&dir.display().to_string())).count()
}

#[test]
fn etcd_is_killed_between_two_system_calls_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let report = dir.path().join("report");
    let (code, text) = finish(&mut run(&scenario(dir.path(), 40), &report));
    if !can_mount() {
        assert_eq!(code, 2, "{text}");
        assert!(text.contains(LACKING), "{text}");
        return;
    }
    assert_eq!(code, 0, "{text}");
    let run = verdict(&report);
    let landed = |window: &str| {
        let cycles = run["cycles"].as_array().unwrap().iter();
        cycles.filter(|cycle| cycle["window"] == window && cycle["outcome"] == "landed").count()
    };
    assert!(landed("wal.sync") > 1 && landed("wal.synced") > 1, "{text}");
    assert!(text.contains("crash windows: ") && text.contains("4 of 4 quotas met"), "{text}");
    let page = std::fs::read_to_string(report.join("report.html")).unwrap();
    assert!(page.contains(">db.synced</th>") && !page.contains(">raft.append</th>"), "the grid is the target's own");
    assert_eq!(mounts_in(dir.path()), 0);
    let (code, text) = finish(Command::new(NINELIVES).arg("verify").arg(&report));
    assert_eq!(code, 0, "{text}");
}

/// The members die with the harness, and their mounts stay behind, dead.
#[test]
fn a_killed_run_is_resumed_over_its_dead_mounts() {
    if !can_mount() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let report = dir.path().join("report");
    let scenario = scenario(dir.path(), 20);
    let mut first = run(&scenario, &report).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let stderr = first.stderr.take().expect("standard error is piped");
    let under_way = BufReader::new(stderr).lines().map_while(Result::ok).any(|line| line.starts_with("cycle "));
    assert!(under_way, "the run ended before its first cycle");
    first.kill().unwrap();
    first.wait().unwrap();
    assert_eq!(mounts_in(dir.path()), 3);
    let (code, text) = finish(Command::new(NINELIVES).args(["run", "--keep", "--resume"]).arg(&report));
    assert_eq!(code, 0, "{text}");
    assert_eq!(mounts_in(dir.path()), 0);
    assert!(report.join("nodes/n1/member/snap/db").is_file(), "what is left is a plain directory");
}

/// What `doctor` says of the fault filesystem, and its exit code.
fn doctor(command: &mut Command) -> (bool, String) {
    let output = command.output().expect("the binary under test starts");
    let examined: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).expect("doctor prints JSON");
    let all = examined.iter().all(|one| one["able"] == true);
    assert_eq!(output.status.code(), Some(if all { 0 } else { 2 }), "{examined:?}");
    let files = examined.iter().find(|one| one["ability"] == "fault-filesystem").expect("it is examined");
    assert_eq!(files["able"] == true, files["remedies"] == serde_json::json!([]), "{files}");
    (files["able"] == true, files["found"].to_string())
}

#[test]
fn the_doctor_tells_a_machine_with_fuse_from_one_without() {
    let (able, found) = doctor(Command::new(NINELIVES).args(["doctor", "--json"]));
    assert_eq!(able, can_mount(), "{found}");
    if !able {
        return;
    }
    let (able, found) = doctor(Command::new("unshare").args(WITHOUT_FUSE).args([NINELIVES, "doctor", "--json"]));
    assert!(!able, "{found}");
    let one = ["doctor", "--json", "fault-filesystem"];
    assert!(doctor(Command::new(NINELIVES).args(one)).0);
    assert!(!doctor(Command::new("unshare").args(WITHOUT_FUSE).arg(NINELIVES).args(one)).0);
    let (code, loopback) = finish(Command::new("unshare").args(WITHOUT_FUSE).args([NINELIVES, "doctor", "loopback"]));
    assert!(code == 0 && !loopback.contains("fault-filesystem"), "{loopback}");
}

/// Without root, in a user namespace: enough to mount where all users may open the device.
#[test]
fn a_user_namespace_mounts_without_root() {
    if !can_mount() {
        return;
    }
    // A device that all users may open, as udev makes it, in a world of its own.
    let dir = tempfile::tempdir().unwrap();
    let (device, program) = (dir.path().join("fuse"), dir.path().join("ninelives"));
    // The build directory may be its owner's alone.
    std::fs::copy(NINELIVES, &program).unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let script = "mknod -m 666 \"$1\" c 10 229 && mount --bind \"$1\" /dev/fuse && shift && \
                  exec setpriv --reuid 65534 --regid 65534 --clear-groups unshare -Urm env TMPDIR=/tmp \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]).arg(&device).arg(&program).args(["doctor", "--json"]);
    let (able, found) = doctor(&mut command);
    assert!(able, "{found}");
}

#[test]
fn a_machine_without_fuse_proves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let report = dir.path().join("report");
    let mut command = run(&scenario(dir.path(), 20), &report);
    if can_mount() {
        let (program, args) =
            (command.get_program().to_owned(), command.get_args().map(ToOwned::to_owned).collect::<Vec<_>>());
        command = Command::new("unshare");
        command.args(WITHOUT_FUSE).arg(program).args(args);
    }
    let (code, text) = finish(&mut command);
    assert_eq!(code, 2, "{text}");
    assert!(text.contains(LACKING), "{text}");
    let run = verdict(&report);
    assert_eq!((run["verdict"].as_str(), run["cycles"].as_array().map(Vec::len)), (Some("inconclusive"), Some(0)));
}

/// The scenario `name` with `cycles` cycles, on a node with the planted bug `bug`.
fn with_a_bug(name: &str, cycles: u32, bug: &str, report: &Path) -> (i32, String) {
    let bins = Path::new(NINELIVES).parent().expect("a binary stands in a directory");
    let scenario = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios").join(name);
    let mut command = run(&scenario, report);
    command.args(["--cycles", &cycles.to_string(), "--sabotage", bug]);
    command.arg("--node").arg(bins.join("node-under-test-sabotaged"));
    command.arg("--inspector").arg(bins.join("node-under-test"));
    finish(&mut command)
}

#[test]
fn a_missing_sync_is_found_by_a_power_loss_and_not_by_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let report = |name: &str| dir.path().join(name);
    let (code, text) = with_a_bug("teeth-power.toml", 40, "index-no-fsync", &report("cut"));
    if !can_mount() {
        assert_eq!(code, 2, "{text}");
        assert!(text.contains(LACKING), "{text}");
        return;
    }
    assert_eq!(code, 1, "{text}");
    let run = verdict(&report("cut"));
    assert_eq!(run["findings"][0]["class"], "refused-after-own-crash", "{text}");
    assert!(run["worth"]["power_losses"].as_u64().is_some_and(|losses| losses > 0), "{text}");
    assert!(run["worth"]["fault_classes_covered"].as_array().unwrap().contains(&"power-loss".into()), "{text}");
    assert_eq!(mounts_in(dir.path()), 0);
    let (code, text) = finish(Command::new(NINELIVES).arg("verify").arg(report("cut")));
    assert_eq!(code, 1, "{text}");
    let (code, text) = with_a_bug("smoke.toml", 10, "index-no-fsync", &report("kill"));
    assert_eq!(code, 0, "{text}");
    let run = verdict(&report("kill"));
    assert!(run["worth"]["fault_classes_not_covered"].as_array().unwrap().contains(&"power-loss".into()), "{text}");
}

#[test]
fn honest_syncs_survive_power_losses() {
    if !can_mount() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let scenario = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/power.toml");
    let files = ["power-files.toml", "power-files-redb.toml"];
    for name in ["power.toml", "power-redb.toml", "power-all.toml"].into_iter().chain(files) {
        let report = dir.path().join(name);
        let (code, text) = finish(run(&scenario.with_file_name(name), &report).args(["--cycles", "8"]));
        assert_eq!(code, 0, "{name}: {text}");
        assert_eq!(text.contains("\nclass of file "), files.contains(&name), "{text}");
        assert!(verdict(&report)["worth"]["power_losses"].as_u64().is_some_and(|losses| losses > 4), "{text}");
    }
}

/// A disk that is full for a while ends no member that has room for what is under way, and of the
/// others each comes back with what it had acknowledged.
#[test]
fn members_outlive_full_disks() {
    if !can_mount() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for name in ["disk-full.toml", "disk-full-redb.toml"] {
        let scenario = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios").join(name);
        let report = dir.path().join(name);
        let (code, text) = finish(run(&scenario, &report).args(["--cycles", "8"]));
        assert_eq!(code, 0, "{name}: {text}");
        let run = verdict(&report);
        assert!(run["worth"]["disks_filled"].as_u64().is_some_and(|disks| disks > 3), "{text}");
        assert!(run["worth"]["fault_classes_covered"].as_array().unwrap().contains(&"disk-full".into()), "{text}");
        let (code, text) = finish(Command::new(NINELIVES).arg("verify").arg(&report));
        assert_eq!(code, 0, "{text}");
    }
    assert_eq!(mounts_in(dir.path()), 0);
}

#[test]
fn a_failed_sync_ends_a_member_and_one_that_goes_on_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let report = |name: &str| dir.path().join(name);
    let (code, text) = with_a_bug("io-error.toml", 20, "fsync-error-ignored", &report("bug"));
    if !can_mount() {
        assert_eq!(code, 2, "{text}");
        assert!(text.contains(LACKING), "{text}");
        return;
    }
    assert_eq!(code, 1, "{text}");
    assert_eq!(verdict(&report("bug"))["findings"][0]["class"], "failed-sync-believed", "{text}");
    let scenario = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/io-error.toml");
    let (code, text) = finish(run(&scenario, &report("honest")).args(["--cycles", "12"]));
    assert_eq!(code, 0, "{text}");
    let run = verdict(&report("honest"));
    assert!(run["worth"]["io_errors"].as_u64().is_some_and(|errors| errors > 2), "{text}");
    assert!(run["worth"]["disk_ends"].as_u64().is_some_and(|ends| ends > 2), "{text}");
    let (code, text) = finish(Command::new(NINELIVES).arg("verify").arg(report("honest")));
    assert_eq!(code, 0, "{text}");
}

/// A bug of `scenarios/power-mutants.toml` that one scenario shows, and the classes that it may
/// have.
fn expect_found(scenario: &str, cycles: u32, bug: &str, classes: &[&str]) {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let report = dir.path().join("bug");
    let (code, text) = with_a_bug(scenario, cycles, bug, &report);
    if !can_mount() {
        assert_eq!(code, 2, "{text}");
        assert!(text.contains(LACKING), "{text}");
        return;
    }
    assert_eq!(code, 1, "{text}");
    let class = verdict(&report)["findings"][0]["class"].clone();
    assert!(classes.iter().any(|known| class == **known), "{text}");
}

#[test]
fn a_migration_that_does_not_sync_its_exchange_is_found() {
    expect_found("teeth-power-migrate.toml", 60, "migrate-no-dir-fsync", &["refused-after-own-crash"]);
}

#[test]
fn a_migration_that_builds_on_what_was_not_synced_is_found() {
    let classes = ["lost-write", "vote-went-back", "refused-after-own-crash"];
    expect_found("teeth-power-migrate.toml", 200, "migrate-without-sync", &classes);
}

#[test]
fn a_write_that_failed_and_counts_as_done_is_found() {
    let classes = ["lost-write", "refused-after-own-crash", "raft-log", "vote-went-back"];
    expect_found("teeth-write-errors.toml", 60, "write-error-ignored", &classes);
}
