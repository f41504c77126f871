//! Reads dead directories: evidence that does not pass through the node under test.
//!
//! The directory of a killed member is copied before anything may write to it again (SST files by
//! hard link, because they never change; everything else byte by byte), and a separate binary reads
//! the copy. The original is never opened, so that the next life finds exactly what the kill left.

use crate::directory;
use crate::process::{Launch, Spawner};
use crate::subject::Node;
use crate::subject::node::BALLAST;
use anyhow::{Context, bail};
use ninelives_evidence::DeadMember;
use ninelives_evidence::limits;
use ninelives_oracle::raft_log::{self, RaftLog};
use std::fs;
use std::path::Path;

/// A dead directory, read twice.
#[derive(Debug)]
pub struct Inspected {
    /// The inspector's account.
    pub dead: DeadMember,
    /// The raft log, by our own decoder.
    pub log: Result<RaftLog, raft_log::Error>,
}

/// Copies `data_dir` to `copy` (replacing what is there) and reads the copy: its raft log with our
/// own decoder, which writes nothing, then all of it with `inspector`.
///
/// # Errors
/// The copy or the inspector failed, or the output is not a [`DeadMember`]: that is the harness's
/// trouble, and not the node's. The fields that end in `_error` report faults *inside* the
/// directory.
pub async fn inspect(spawner: &Spawner, inspector: &Path, data_dir: &Path, copy: &Path) -> anyhow::Result<Inspected> {
    let (from, to) = (data_dir.to_owned(), copy.to_owned());
    let copied = move || copy_dead_dir(&from, &to).map(|()| (raft_log::read(&to), install_under_way(&to)));
    let (log, installing) = tokio::task::spawn_blocking(copied).await.context("the copying thread panicked")??;
    if holds_nothing(copy) {
        directory::remove(copy)?;
        return Ok(Inspected { dead: DeadMember { install_under_way: Some(false), ..DeadMember::default() }, log });
    }
    let launch = Launch::new(inspector, Node::inspect_args(copy));
    let output = spawner.output(launch, limits::INSPECT, limits::INSPECT_BYTES_MAX).await?;
    if !output.success() {
        bail!(
            "expected exit code 0 of `{} inspect --json {}`, found {}; run it by hand to see why{}",
            inspector.display(),
            copy.display(),
            output.ended,
            output.stderr_tail(),
        );
    }
    let dead: DeadMember = serde_json::from_slice(&output.stdout).with_context(|| {
        format!("expected one JSON object from `{} inspect`, found {:?}", inspector.display(), output.text())
    })?;
    directory::remove(copy)?;
    Ok(Inspected { dead: DeadMember { install_under_way: Some(installing), ..dead }, log })
}

/// True if the dead `data_dir` has neither a marker nor anything else of a member's, which the
/// inspector refuses to read: a first life that died before its first durable step leaves that. The
/// judges say what a member that had more has lost.
fn holds_nothing(data_dir: &Path) -> bool {
    ["member", "engine-marker"].iter().all(|name| !data_dir.join(name).exists())
}

/// Whether a snapshot was being installed in the dead `data_dir`: until an install is complete, the
/// staged database or the one that it replaced lies beside `db`.
fn install_under_way(data_dir: &Path) -> bool {
    let snap = data_dir.join("member/snap");
    ["db.incoming", "db.old"].iter().any(|name| snap.join(name).exists())
}

fn copy_dead_dir(from: &Path, to: &Path) -> anyhow::Result<()> {
    directory::remove(to)?;
    copy_tree(from, to).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))
}

fn copy_tree(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            copy_tree(&source, &target)?;
        } else if entry.file_name() == BALLAST {
            // Room that the member holds back, with nothing in it.
        } else if source.extension().is_some_and(|extension| extension == "sst") {
            fs::hard_link(&source, &target)?;
        } else {
            fs::copy(&source, &target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    /// Reading the copy must not be able to change the original, and must not cost its size in
    /// SSTs.
    #[test]
    fn only_ssts_share_their_bytes_with_the_original() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("n1"), dir.path().join("dead"));
        fs::create_dir_all(from.join("member/snap/db")).unwrap();
        fs::write(from.join("member/snap/db/000007.sst"), b"sst").unwrap();
        fs::write(from.join("member/snap/db/MANIFEST-000004"), b"manifest").unwrap();
        fs::create_dir_all(to.join("leftover")).unwrap();
        copy_dead_dir(&from, &to).unwrap();
        let inode = |dir: &Path, name: &str| fs::metadata(dir.join("member/snap/db").join(name)).unwrap().ino();
        assert_eq!(inode(&from, "000007.sst"), inode(&to, "000007.sst"));
        assert_ne!(inode(&from, "MANIFEST-000004"), inode(&to, "MANIFEST-000004"));
        assert!(!to.join("leftover").exists());
    }

    #[test]
    fn a_directory_without_a_first_durable_step_holds_nothing() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["lock", "engine-marker.tmp"] {
            fs::write(dir.path().join(name), b"").unwrap();
            assert!(holds_nothing(dir.path()), "{name}");
        }
        fs::write(dir.path().join("engine-marker"), b"").unwrap();
        assert!(!holds_nothing(dir.path()));
        fs::rename(dir.path().join("engine-marker"), dir.path().join("member")).unwrap();
        assert!(!holds_nothing(dir.path()));
    }

    #[test]
    fn an_install_is_seen_by_what_it_leaves_beside_the_database() {
        let dir = tempfile::tempdir().unwrap();
        let snap = dir.path().join("member/snap");
        fs::create_dir_all(snap.join("db")).unwrap();
        assert!(!install_under_way(dir.path()));
        fs::write(snap.join("db.incoming"), b"").unwrap();
        assert!(install_under_way(dir.path()));
        fs::rename(snap.join("db.incoming"), snap.join("db.old")).unwrap();
        assert!(install_under_way(dir.path()));
    }

    #[test]
    fn an_inspection_reads_back_whatever_is_absent() {
        let dead: DeadMember = serde_json::from_str(
            r#"{"last_flushed_index":4,"last_flushed_index_error":null,"engine_index":9,"later_field":1}"#,
        )
        .unwrap();
        assert_eq!((dead.last_flushed_index, dead.engine_index, dead.log_last), (Some(4), Some(9), None));
    }
}
