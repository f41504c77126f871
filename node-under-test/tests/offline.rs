//! The offline tool against real members: what is saved can be proven and restored, engines can be
//! changed, and nothing is done to a directory whose member lives.

mod common;

use common::{Member, refused_by};
use node_proto::etcdserverpb::{
    CompactionRequest, DefragmentRequest, DeleteRangeRequest, LeaseGrantRequest, SnapshotRequest,
};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

const ENGINES: [&str; 2] = ["redb", "rocksdb"];

fn other(engine: &str) -> &'static str {
    if engine == "redb" { "rocksdb" } else { "redb" }
}

/// Runs the tool: exit code, standard output, standard error.
fn tool(args: &[&str], dir: &[(&str, &Path)]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_node-under-test"));
    command.args(args);
    for (flag, path) in dir {
        command.args(Some(*flag).filter(|flag| !flag.is_empty())).arg(path);
    }
    let output = command.output().expect("the tool starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

/// The tool's one line of JSON.
fn json(args: &[&str], dir: &[(&str, &Path)]) -> Value {
    let (code, stdout, stderr) = tool(args, dir);
    assert_eq!(code, 0, "{args:?}: {stdout}{stderr}");
    serde_json::from_str(stdout.trim()).unwrap_or_else(|error| panic!("{args:?}: {error}: {stdout:?}"))
}

/// Puts, overwrites, deletes, a lease and a compaction: everything that a state consists of.
async fn fill(member: &Member) {
    for round in 0..5 {
        for key in 0..40 {
            member.put(&format!("key-{key}"), &format!("value-{round}-{key}")).await;
        }
    }
    let mut kv = member.kv().await;
    let delete = DeleteRangeRequest { key: "key-3".into(), range_end: "key-4".into(), ..Default::default() };
    kv.delete_range(delete).await.expect("a healthy member deletes");
    let compact = CompactionRequest { revision: 100, physical: true };
    kv.compact(compact).await.expect("a healthy member compacts");
    let grant = LeaseGrantRequest { ttl: 3_600, id: 77 };
    member.lease().await.lease_grant(grant).await.expect("a healthy member grants a lease");
    member.put("after", "the compaction").await;
}

/// Saves a snapshot as `etcdctl snapshot save` does: the blobs, one behind the other, into a file.
async fn save(member: &Member, path: &Path) {
    let mut stream = member.maintenance().await.snapshot(SnapshotRequest {}).await.expect("a stream").into_inner();
    let (mut bytes, mut remaining) = (Vec::new(), None);
    while let Some(message) = stream.message().await.expect("the stream ends in order") {
        bytes.extend_from_slice(&message.blob);
        if let Some(before) = remaining.replace(message.remaining_bytes) {
            assert_eq!(before - message.remaining_bytes, message.blob.len() as u64, "remaining_bytes counts down");
        }
    }
    assert_eq!(remaining, Some(0), "the last blob leaves nothing");
    assert_eq!(bytes.len() % 512, 32, "etcdctl wants a SHA-256 behind whole blocks");
    std::fs::write(path, bytes).expect("the snapshot can be saved");
}

#[tokio::test]
async fn a_saved_snapshot_is_proven_restored_and_hashes_as_the_old_cluster_did() {
    for engine in ENGINES {
        let tmp = tempfile::tempdir().expect("a temporary directory");
        let saved = tmp.path().join("saved.snap");
        let member = Member::start_on(&tmp.path().join("old"), engine);
        fill(&member).await;
        save(&member, &saved).await;
        let hash = member.hash_kv().await;
        member.kill();

        let status = json(&["snapshot", "status", "--write-out", "json"], &[("", &saved)]);
        assert_eq!((&status["hash"], &status["engine"]), (&hash.into(), &engine.into()), "{status}");
        assert_eq!(status["totalSize"], std::fs::metadata(&saved).expect("saved").len());
        for into in ENGINES {
            let dir: PathBuf = tmp.path().join(format!("restored-{into}"));
            let (code, said, error) =
                tool(&["snapshot", "restore", "--backend", into], &[("", &saved), ("--data-dir", &dir)]);
            assert_eq!(code, 0, "{said}{error}");
            let (code, _, error) = tool(&["snapshot", "restore"], &[("", &saved), ("--data-dir", &dir)]);
            assert!(code == 1 && error.contains("never overwrites a member"), "{code} {error}");
            // In place of a founding member of its new cluster it must not become a member of a
            // running one.
            let (code, _, error) = tool(
                &["serve", "--join", "--id", "9", "--backend", into, "--member", "9=n9@127.0.0.1:0/127.0.0.1:0"],
                &[("--data-dir", &dir)],
            );
            assert!(code == 1 && error.contains("cannot --join"), "{code} {error}");
            let restored = Member::start_on(&dir, into);
            assert_eq!(restored.hash_kv().await, hash, "{engine} restored into {into}");
            assert_eq!(restored.get("after").await.as_deref(), Some("the compaction"));
            assert_eq!(restored.get("key-3").await, None);
            restored.put("a new", "life").await;
            restored.kill();
        }
        let left: Vec<_> =
            std::fs::read_dir(tmp.path()).expect("readable").flatten().map(|it| it.file_name()).collect();
        assert_eq!(left.len(), 4, "old, saved, two restored, and nothing of the tool's own: {left:?}");
    }
}

#[tokio::test]
async fn a_damaged_file_is_refused_and_restores_nothing() {
    for engine in ENGINES {
        let tmp = tempfile::tempdir().expect("a temporary directory");
        let (saved, dir) = (tmp.path().join("saved.snap"), tmp.path().join("restored"));
        let member = Member::start_on(&tmp.path().join("old"), engine);
        member.put("a", "1").await;
        save(&member, &saved).await;
        let whole = std::fs::read(&saved).expect("saved");
        let flipped = |at: usize| [&whole[..at], &[whole[at] ^ 1], &whole[at + 1..]].concat();
        let cases = [
            flipped(whole.len() / 2),
            flipped(whole.len() - 1),
            whole[..whole.len() - 512].to_vec(),
            whole[..100].to_vec(),
            vec![b'x'; 4096 + 32],
            Vec::new(),
        ];
        for damaged in cases {
            std::fs::write(&saved, damaged).expect("writable");
            for (args, dirs) in [
                (["snapshot", "status"], vec![("", saved.as_path())]),
                (["snapshot", "restore"], vec![("", saved.as_path()), ("--data-dir", dir.as_path())]),
            ] {
                let (code, said, error) = tool(&args, &dirs);
                assert!(code == 1 && error.contains("snapshot refused"), "{args:?}: {code} {said}{error}");
            }
            assert!(!dir.exists());
        }
    }
}

#[tokio::test]
async fn a_member_changes_its_engine_and_back() {
    for engine in ENGINES {
        let tmp = tempfile::tempdir().expect("a temporary directory");
        let member = Member::start_on(tmp.path(), engine);
        fill(&member).await;
        let hash = member.hash_kv().await;
        // What a kill takes from a memtable only the raft log has: offline hashes see the engine
        // alone.
        member.flush().await;
        member.kill();
        for to in [other(engine), engine] {
            let (code, error) = refused_by(tmp.path(), to);
            assert!(code == 1 && error.contains(&format!("--to {to}")), "{code} {error}");
            let done = json(&["migrate", "--to", to], &[("--data-dir", tmp.path())]);
            assert_eq!((&done["event"], &done["to"]), (&"migrated".into(), &to.into()), "{done}");
            let offline = json(&["hashkv", "--write-out", "json"], &[("--data-dir", tmp.path())]);
            assert_eq!(offline["hash"], hash, "{offline}");
            let (code, said, _) = tool(&["verify"], &[("--data-dir", tmp.path())]);
            assert!(code == 0 && said.contains("all checks hold"), "{said}");
            let member = Member::start_on(tmp.path(), to);
            assert_eq!(member.hash_kv().await, hash);
            member.kill();
            let again = json(&["migrate", "--to", to], &[("--data-dir", tmp.path())]);
            assert_eq!(again["rows"], Value::Null, "it is there already: {again}");
        }
        let member = Member::start_on(tmp.path(), engine);
        member.put("key-0", "and writing goes on").await;
        assert_ne!(member.hash_kv().await, hash);
    }
}

#[tokio::test]
async fn a_live_members_directory_is_left_alone() {
    for engine in ENGINES {
        let tmp = tempfile::tempdir().expect("a temporary directory");
        let member = Member::start_on(tmp.path(), engine);
        member.put("a", "1").await;
        for args in [
            ["hashkv", "--rev", "0"].as_slice(),
            &["defrag"],
            &["migrate", "--to", other(engine)],
            &["dump"],
            &["verify"],
        ] {
            let (code, said, error) = tool(args, &[("--data-dir", tmp.path())]);
            assert!(code == 1 && error.contains("in use by another process"), "{args:?}: {code} {said}{error}");
        }
        member.put("b", "2").await;
    }
}

#[tokio::test]
async fn a_stopped_member_is_dumped_defragmented_and_hashed_at_a_revision() {
    for engine in ENGINES {
        let tmp = tempfile::tempdir().expect("a temporary directory");
        let at = [("--data-dir", tmp.path())];
        let member = Member::start_on(tmp.path(), engine);
        fill(&member).await;
        let hash = member.hash_kv().await;
        member.maintenance().await.defragment(DefragmentRequest {}).await.expect("a healthy member defragments");
        assert_eq!(member.hash_kv().await, hash);
        member.flush().await;
        member.kill();
        let (code, said, _) = tool(&["defrag"], &at);
        assert!(code == 0 && said.contains("bytes became"), "{said}");
        assert_eq!(json(&["hashkv", "--write-out", "json"], &at)["hash"], hash);
        assert_eq!(json(&["hashkv", "--rev", "150", "--write-out", "json"], &at)["compactRevision"], 100);
        for (rev, refusal) in [("50", "has been compacted"), ("100000", "is a future revision")] {
            let (code, _, error) = tool(&["hashkv", "--rev", rev], &at);
            assert!(code == 1 && error.contains(refusal), "{error}");
        }
        let (_, said, _) = tool(&["dump", "--bucket", "key"], &at);
        let rows: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
        assert!(rows.iter().all(|row| row["bucket"] == "key"));
        let last = rows.last().expect("rows");
        assert_eq!((&last["key"], &last["value"]), (&"after".into(), &"the compaction".into()));
        let (_, said, _) = tool(&["dump", "--bucket", "lease"], &at);
        assert_eq!(said.trim(), r#"{"bucket":"lease","granted_ttl_seconds":3600,"id":77}"#);
    }
}

#[tokio::test]
async fn verify_finds_what_is_wrong() {
    let tmp = tempfile::tempdir().expect("a temporary directory");
    let at = [("--data-dir", tmp.path())];
    let member = Member::start(tmp.path());
    fill(&member).await;
    member.flush().await;
    member.kill();
    let (code, said, _) = tool(&["verify"], &at);
    assert!(code == 0 && said.contains("ok      N ≤ E"), "{said}");
    // A block of an SST.
    let sst = std::fs::read_dir(tmp.path().join("member/snap/db"))
        .expect("readable")
        .map(|entry| entry.expect("an entry").path())
        .find(|path| path.extension().is_some_and(|extension| extension == "sst"))
        .expect("a flushed engine has an SST");
    let whole = std::fs::read(&sst).expect("readable");
    let mut damaged = whole.clone();
    damaged[200] ^= 1;
    std::fs::write(&sst, damaged).expect("writable");
    let (code, said, _) = tool(&["verify"], &at);
    assert!(code == 1 && said.contains("FAILED  engine checksums"), "{said}");
    std::fs::write(&sst, whole).expect("writable");
    // The intent of a migration.
    std::fs::write(tmp.path().join("engine-migration"), "rocksdb redb\n").expect("writable");
    let (code, said, _) = tool(&["verify"], &at);
    assert!(code == 1 && said.contains("FAILED  no change of engine under way"), "{said}");
    std::fs::remove_file(tmp.path().join("engine-migration")).expect("removable");
    // A page of the raft log.
    let log = tmp.path().join("member/raft/raft-log.redb");
    let mut bytes = std::fs::read(&log).expect("readable");
    let middle = bytes.iter().rposition(|byte| *byte != 0).expect("a log is not all zeroes");
    bytes[middle] ^= 1;
    std::fs::write(&log, bytes).expect("writable");
    let (code, said, _) = tool(&["verify"], &at);
    println!("{said}");
    assert_eq!(code, 1, "{said}");
}

#[tokio::test]
async fn a_directory_of_the_other_nature_and_a_stray_index_are_refused() {
    let tmp = tempfile::tempdir().expect("a temporary directory");
    Member::start_on(tmp.path(), "redb").kill();
    let stray = tmp.path().join("member/snap/last-flushed-index");
    std::fs::write(&stray, b"NLFI").expect("writable");
    let (code, error) = refused_by(tmp.path(), "redb");
    assert!(code == 1 && error.contains("only rocksdb has"), "{error}");
    std::fs::remove_file(stray).expect("removable");
    std::fs::write(tmp.path().join("engine-marker"), "rocksdb 1\n").expect("writable");
    let (code, error) = refused_by(tmp.path(), "rocksdb");
    assert!(
        code == 1 && error.contains("its db is a file") && error.contains("not opened as if it were empty"),
        "{error}"
    );
}
