//! `snapshot status` and `snapshot restore`: what `etcdctl snapshot save` has saved.
//!
//! A saved file is the stream as `Maintenance.Snapshot` sent it: RocksDB's form as it is, or a
//! legacy file with its SHA-256 behind it. It is proven and unpacked by the same reader as a stream
//! between members.

use super::print;
use crate::cli::{Restore, SnapshotStatus};
use crate::entropy;
use crate::output;
use crate::restored::{Image, POSITION};
use crate::state::hash::{self, short};
use anyhow::Context;
use node_backend::engine::EngineKind;
use node_backend::last_flushed_index::IndexFile;
use node_backend::layout::{DataDir, DirLock};
use node_backend::marker;
use node_backend::snapshot::saved::{Saved, unpack};
use node_base::backend::{Bucket, ReadView, consistent_index};
use node_base::durable;
use node_base::failpoint::{self, Window};
use node_base::sabotage::{Bug, planted};
use node_raft::LogStore;
use serde::Serialize;
use std::fs;
use std::io;
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
/// The file is not a snapshot of this program, or is damaged.
pub fn status(options: &SnapshotStatus) -> anyhow::Result<ExitCode> {
    let own = format!(".node-under-test-{}", std::process::id());
    let scratch = Scratch::new(std::env::temp_dir().join(own))?;
    let Saved { engine, view, wire_size } = unpack(&options.file, &scratch.image())?;
    let kv = hash::kv(&*view, i64::MAX)?;
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

/// Makes the data directory of one member of a *new* cluster: keys and leases of the snapshot, no
/// member, no vote, and a raft log that begins behind the image ([`crate::restored`]). Two ways
/// lead to a cluster: each founder's directory is restored from the same file, or that of a single
/// founder, which then adds the others.
///
/// Everything is made under a scratch name and synced; the rename is the moment at which the member
/// exists. A kill before it leaves no `--data-dir`, and a scratch directory that the next attempt
/// empties; a kill after it leaves the whole member.
///
/// # Errors
/// The file is not a snapshot of this program's; the directory exists. An error leaves nothing
/// behind, or only what the next attempt removes.
pub fn restore(options: &Restore) -> anyhow::Result<ExitCode> {
    #[cfg(feature = "sabotage")]
    if let Some(bug) = &options.sabotage {
        node_base::sabotage::plant(bug).map_err(anyhow::Error::msg)?;
    }
    for (window, hit) in &options.arm {
        failpoint::arm(*window, *hit);
    }
    let target = &options.data_dir;
    anyhow::ensure!(
        !target.exists(),
        "{}: expected a directory that does not exist yet, found one: a restore never overwrites a member",
        target.display()
    );
    let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    durable::create_dir_durably(parent).with_context(|| format!("creating {}", parent.display()))?;
    let scratch = Scratch::beside(target, parent)?;
    let Saved { engine, view, .. } = unpack(&options.file, &scratch.image())?;
    failpoint::pass(Window::RestoreUnpacked);
    let engine = options.backend.map_or(engine, |backend| backend.kind());
    let dir = scratch.member();
    let rows = build(&dir, engine, view)?;
    durable::sync_tree(dir.root()).with_context(|| format!("syncing {}", dir.root().display()))?;
    failpoint::pass(Window::RestoreSynced);
    fs::rename(dir.root(), target).with_context(|| format!("creating {}", target.display()))?;
    failpoint::pass(Window::RestoreRenamed);
    // A restore that was killed may have made `parent`, and not its name durable.
    for dir in [Some(parent), parent.parent()].into_iter().flatten() {
        let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        durable::sync_dir(dir).with_context(|| format!("syncing {}", dir.display()))?;
    }
    output::line(format!(
        "{}: {rows} rows restored for {engine}; start it with --backend={engine} and the new cluster's founders, each of them \
         restored from this file",
        target.display()
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// The image, N, and the raft log, each at [`POSITION`].
fn build(dir: &DataDir, engine: EngineKind, view: Box<dyn ReadView>) -> anyhow::Result<u64> {
    marker::claim(dir, engine)?;
    fs::create_dir_all(dir.snap()).with_context(|| format!("creating {}", dir.snap().display()))?;
    let rows = engine.write_image(&dir.db(), &Image::new(view)?, &mut |_| ())?;
    failpoint::pass(Window::RestoreImage);
    if planted(Bug::RestoreForgetsPosition) {
        return Ok(rows);
    }
    if engine == EngineKind::Rocksdb {
        IndexFile::open(dir.last_flushed_index())?.advance(POSITION.index)?;
    }
    LogStore::create_at(&dir.raft(), entropy::incarnation(), POSITION).context("making the raft log")?;
    failpoint::pass(Window::RestoreLogged);
    Ok(rows)
}

/// A directory of this process's own, removed at the end.
struct Scratch {
    path: PathBuf,
    _lock: DirLock,
}

impl Scratch {
    /// Takes `path`, empty, whatever a process that was killed had left there.
    ///
    /// # Errors
    /// Another process works there.
    fn new(path: PathBuf) -> anyhow::Result<Self> {
        fs::create_dir_all(&path).with_context(|| format!("creating {}", path.display()))?;
        let lock = DataDir::new(&path).lock()?;
        for left in [IMAGE, MEMBER].map(|name| path.join(name)) {
            if let Err(error) = remove(&left) {
                return Err(error).with_context(|| format!("removing {}", left.display()));
            }
        }
        Ok(Self { path, _lock: lock })
    }

    /// Beside `target`, so that a rename leads there: one restore at a time makes that directory.
    fn beside(target: &Path, parent: &Path) -> anyhow::Result<Self> {
        let name = target.file_name().with_context(|| format!("{}: expected a path with a name", target.display()))?;
        Self::new(parent.join(format!(".{}.restoring", name.to_string_lossy())))
    }

    fn image(&self) -> PathBuf {
        self.path.join(IMAGE)
    }

    fn member(&self) -> DataDir {
        DataDir::new(self.path.join(MEMBER))
    }
}

/// Contents of a scratch directory: the unpacked snapshot, and the member that is made of it.
const IMAGE: &str = "image";
const MEMBER: &str = "member";

fn remove(path: &Path) -> io::Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            node_base::say!("removing {}: {error}", self.path.display());
        }
    }
}
