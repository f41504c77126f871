//! Data directories that a member must refuse, each with its clear error, and those that it must
//! not.

mod common;

use common::{Member, copy_tree, refused};
use std::path::{Path, PathBuf};

fn index_file(data_dir: &Path) -> PathBuf {
    data_dir.join("member/snap/last-flushed-index")
}

/// A stopped member with some flushed entries and a raft log that was purged; its N.
async fn stopped_after_purge(data_dir: &Path) -> u64 {
    let member = Member::start(data_dir);
    let mut round = 0;
    let status = loop {
        member.put(&format!("key-{}", round % 7), &format!("value-{round}")).await;
        let status = member.flush().await;
        // A purge follows a flush on the node's own time: keep writing until one is seen.
        if status.last_purged.is_some() {
            break status;
        }
        round += 1;
        assert!(round < 1_000, "1,000 flushes with nothing to keep, and no purge: {status:?}");
    };
    member.kill();
    status.persisted.expect("a flush persists N")
}

#[tokio::test]
async fn a_killed_member_comes_back_with_everything_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let member = Member::start(dir.path());
    member.put("flushed", "1").await;
    member.flush().await;
    member.put("in the memtable only", "2").await;
    member.kill();
    let member = Member::start(dir.path());
    assert_eq!(member.get("flushed").await.as_deref(), Some("1"));
    assert_eq!(member.get("in the memtable only").await.as_deref(), Some("2"));
    assert_eq!(member.get("never written").await, None);
}

#[tokio::test]
async fn a_missing_index_is_fine_before_the_first_purge() {
    let dir = tempfile::tempdir().unwrap();
    let member = Member::start(dir.path());
    member.put("a", "1").await;
    assert_eq!(member.status().await.last_purged, None);
    member.kill();
    assert!(!index_file(dir.path()).exists(), "nothing was flushed, so nothing was persisted");
    let member = Member::start(dir.path());
    assert_eq!(member.get("a").await.as_deref(), Some("1"));
}

#[tokio::test]
async fn a_missing_index_after_a_purge_is_refused_and_names_the_purged_index() {
    let dir = tempfile::tempdir().unwrap();
    stopped_after_purge(dir.path()).await;
    std::fs::remove_file(index_file(dir.path())).unwrap();
    let (code, error) = refused(dir.path());
    assert_eq!(code, 1, "{error}");
    assert!(error.contains("no last-flushed-index file") && error.contains("was purged up to index"), "{error}");
}

#[tokio::test]
async fn a_corrupt_index_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    stopped_after_purge(dir.path()).await;
    let path = index_file(dir.path());
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[8] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let (code, error) = refused(dir.path());
    assert_eq!(code, 1, "{error}");
    assert!(error.contains("last-flushed-index") && error.contains("checksum"), "{error}");
}

/// E < N: the engine is put back to an older state than the one that N vouches for.
#[tokio::test]
async fn an_index_above_what_the_ssts_prove_ends_with_65() {
    let dir = tempfile::tempdir().unwrap();
    let older = tempfile::tempdir().unwrap();
    let member = Member::start(dir.path());
    member.put("a", "1").await;
    member.flush().await;
    member.kill();
    copy_tree(&dir.path().join("member/snap/db"), &older.path().join("db"));
    let member = Member::start(dir.path());
    member.put("b", "2").await;
    member.flush().await;
    member.kill();
    std::fs::remove_dir_all(dir.path().join("member/snap/db")).unwrap();
    copy_tree(&older.path().join("db"), &dir.path().join("member/snap/db"));
    let (code, error) = refused(dir.path());
    assert_eq!(code, 65, "{error}");
    assert!(error.contains("flushed data vanished"), "{error}");
}

#[tokio::test]
async fn a_missing_sst_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    stopped_after_purge(dir.path()).await;
    let sst = std::fs::read_dir(dir.path().join("member/snap/db"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|extension| extension == "sst"))
        .expect("a flushed engine has an SST");
    std::fs::remove_file(&sst).unwrap();
    let (code, error) = refused(dir.path());
    assert_eq!(code, 1, "{error}");
    let name = sst.file_name().unwrap().to_string_lossy().into_owned();
    assert!(error.contains(&name), "the error should name {name}: {error}");
}

#[tokio::test]
async fn a_second_process_on_the_same_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let member = Member::start(dir.path());
    let (code, error) = refused(dir.path());
    assert_eq!(code, 1, "{error}");
    assert!(error.contains("in use by another process"), "{error}");
    member.put("still", "serving").await;
}
