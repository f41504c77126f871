//! `snapshot status` and `snapshot restore`: what `etcdctl snapshot save` has saved.
//!
//! A saved file is the stream as `Maintenance.Snapshot` sent it: RocksDB's form as it is, or a legacy file with its SHA-256
//! behind it. It is proven and unpacked by the same reader as a stream between members.

use super::print;
use crate::cli::{Restore, SnapshotStatus};
use crate::mvcc::COMPACT_REVISION;
use crate::output;
use crate::state_hash::{self, short};
use anyhow::Context;
use node_backend::engine::EngineKind;
use node_backend::layout::DataDir;
use node_backend::marker;
use node_backend::snapshot::saved::{Saved, unpack};
use node_base::backend::{Bucket, ReadView, Result, consistent_index};
use node_base::durable;
use serde::Serialize;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    /// HashKV at the newest revision, as a member would answer it.
    hash: u32,
    revision: i64,
    total_key: u64,
    total_size: u64,
    engine: &'static str,
    raft_index: u64,
    raft_term: u64,
}

/// # Errors
/// The file is no snapshot of this program's, or is damaged.
pub fn status(options: &SnapshotStatus) -> anyhow::Result<ExitCode> {
    let scratch = Scratch::new(&std::env::temp_dir())?;
    let Saved { engine, view, wire_size } = unpack(&options.file, &scratch.0.join("image"))?;
    let kv = state_hash::kv(&*view, i64::MAX)?;
    let mut total_key = 0;
    view.scan(Bucket::Key, &[], None, &mut |_, _| {
        total_key += 1;
        ControlFlow::Continue(())
    })?;
    let at = consistent_index(&*view)?.context("the image has no consistent index: nothing was ever applied to it")?;
    let status = Status {
        hash: short(&kv.digest),
        revision: kv.revision,
        total_key,
        total_size: wire_size,
        engine: engine.name(),
        raft_index: at.index,
        raft_term: at.term,
    };
    let plain = [
        format!("{:x}", status.hash),
        status.revision.to_string(),
        status.total_key.to_string(),
        format!("{} bytes", status.total_size),
        status.engine.to_owned(),
        format!("at {at}"),
    ];
    print(&status, &plain, options.write_out)?;
    Ok(ExitCode::SUCCESS)
}

/// Makes the data directory of one member of a *new* cluster: keys and leases of the snapshot, no member, no log, no vote. To
/// be run with the same file for each member; then all of them are started with new ids, as the founders of that cluster.
///
/// # Errors
/// The file is no snapshot of this program's; the directory exists. Nothing is left behind, or what the next attempt removes.
pub fn restore(options: &Restore) -> anyhow::Result<ExitCode> {
    let target = &options.data_dir;
    anyhow::ensure!(
        !target.exists(),
        "{}: expected a directory that does not exist yet, found one: a restore never overwrites a member",
        target.display()
    );
    let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    durable::create_dir_durably(parent).with_context(|| format!("creating {}", parent.display()))?;
    let scratch = Scratch::new(parent)?;
    let Saved { engine, view, .. } = unpack(&options.file, &scratch.0.join("image"))?;
    let engine = options.backend.map_or(engine, |backend| backend.kind());
    let dir = DataDir::new(scratch.0.join("member"));
    let rows = build(&dir, engine, view)?;
    // Complete and durable under another name; the rename is the moment at which it exists.
    durable::sync_tree(dir.root()).with_context(|| format!("syncing {}", dir.root().display()))?;
    fs::rename(dir.root(), target).with_context(|| format!("creating {}", target.display()))?;
    durable::sync_dir(parent).with_context(|| format!("syncing {}", parent.display()))?;
    output::line(format!(
        "{}: {rows} rows restored for {engine}; start it with --backend={engine} and the new cluster's members",
        target.display()
    ))?;
    Ok(ExitCode::SUCCESS)
}

fn build(dir: &DataDir, engine: EngineKind, view: Box<dyn ReadView>) -> anyhow::Result<u64> {
    marker::claim(dir, engine)?;
    fs::create_dir_all(dir.snap()).with_context(|| format!("creating {}", dir.snap().display()))?;
    Ok(engine.write_image(&dir.db(), &Restored(view), &mut |_| ())?)
}

/// What of a snapshot a new cluster starts from. The members, raft's membership and the position in a log that does not
/// exist any more are the old cluster's.
struct Restored(Box<dyn ReadView>);

impl Restored {
    fn keeps(bucket: Bucket, key: &[u8]) -> bool {
        match bucket {
            Bucket::Key | Bucket::Lease | Bucket::Auth => true,
            Bucket::Member => false,
            Bucket::Meta => key == COMPACT_REVISION,
        }
    }
}

impl ReadView for Restored {
    fn get(&self, bucket: Bucket, key: &[u8]) -> Result<Option<Vec<u8>>> {
        if Self::keeps(bucket, key) { self.0.get(bucket, key) } else { Ok(None) }
    }

    fn scan(
        &self,
        bucket: Bucket,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<()> {
        self.0.scan(bucket, from, to, &mut |key, value| {
            if Self::keeps(bucket, key) { visit(key, value) } else { ControlFlow::Continue(()) }
        })
    }
}

/// A directory of this process's own, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(parent: &Path) -> anyhow::Result<Self> {
        let path = parent.join(format!(".node-under-test-{}", std::process::id()));
        // Left by a process of the same id that was killed.
        if path.exists() {
            fs::remove_dir_all(&path).with_context(|| format!("removing {}", path.display()))?;
        }
        fs::create_dir(&path).with_context(|| format!("creating {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!("removing {}: {error}", self.0.display());
        }
    }
}
