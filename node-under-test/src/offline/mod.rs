//! Work on a stopped member's directory, or on a saved snapshot: etcdutl's commands, for this
//! program's files.
//!
//! Each takes the directory's lock first, so a member that lives is never touched; none talks to a
//! cluster. Reading an engine is not always without a trace: redb repairs its file when a kill left
//! it half-written, exactly as a start would.

mod dump;
mod migrate;
mod saved;
mod verify;

pub use dump::dump;
pub use migrate::migrate;
pub use saved::{restore, status};
pub use verify::verify;

use crate::cli::{DataDirArgs, HashKv, WriteOut};
use crate::output;
use crate::state::hash::{self, short};
use crate::state::{Error, Rejection};
use anyhow::Context;
use node_backend::dispatch;
use node_backend::engine::{EngineKind, EngineOptions};
use node_backend::layout::{DataDir, DirLock};
use node_backend::marker;
use node_base::backend::ReadView;
use serde::Serialize;
use std::path::Path;
use std::process::ExitCode;

/// A stopped member's directory, held until this is dropped.
struct Stopped {
    dir: DataDir,
    engine: EngineKind,
    _lock: DirLock,
}

impl Stopped {
    /// # Errors
    /// The directory holds no member, its member is running, or a change of its engine was
    /// interrupted.
    fn open(path: &Path) -> anyhow::Result<Self> {
        let (dir, lock) = hold(path)?;
        anyhow::ensure!(
            !dir.engine_migration().exists(),
            "{}: a change of engine was interrupted: run `migrate` again, or start the member; either ends it",
            path.display()
        );
        let engine = marked(&dir)?;
        Ok(Self { dir, engine, _lock: lock })
    }

    /// The rows as the next start would find them.
    fn view(&self) -> anyhow::Result<Box<dyn ReadView>> {
        let path = self.dir.db();
        anyhow::ensure!(
            path.exists(),
            "{}: expected a database, found none: this member was never started",
            self.dir.root().display()
        );
        Ok(self.engine.open_image(&path)?)
    }
}

/// Takes the directory of a member that does not live.
fn hold(path: &Path) -> anyhow::Result<(DataDir, DirLock)> {
    let dir = DataDir::new(path);
    anyhow::ensure!(
        dir.engine_marker().exists(),
        "{}: expected a member's data directory (with an engine-marker in it), found none",
        path.display()
    );
    let lock = dir.lock()?;
    Ok((dir, lock))
}

/// The engine of a directory whose marker and database agree.
fn marked(dir: &DataDir) -> anyhow::Result<EngineKind> {
    let engine = marker::read(dir)?.with_context(|| format!("{}: no engine-marker", dir.root().display()))?;
    marker::check_nature(dir, engine)?;
    Ok(engine)
}

/// Prints a record: a line of JSON, or its fields as etcdutl's plain form has them, separated by
/// commas.
fn print<T: Serialize>(record: &T, plain: &[String], form: WriteOut) -> anyhow::Result<()> {
    match form {
        WriteOut::Json => output::line(serde_json::to_string(record)?),
        WriteOut::Simple => output::line(plain.join(", ")),
    }
}

/// `hashkv`: what a live member answers to HashKV at that revision.
///
/// # Errors
/// The revision is compacted or in the future; the directory is not a stopped member's.
pub fn hashkv(options: &HashKv) -> anyhow::Result<ExitCode> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Record {
        hash: u32,
        hash_revision: i64,
        compact_revision: i64,
    }
    let view = Stopped::open(&options.at.data_dir)?.view()?;
    let newest = hash::kv(&*view, i64::MAX)?;
    let (revision, compact) = (options.rev, newest.compact_revision);
    if revision > newest.revision {
        return Err(Error::from(Rejection::FUTURE_REVISION).into());
    }
    if revision > 0 && revision <= compact {
        return Err(Error::from(Rejection::COMPACTED).into());
    }
    let at = if revision > 0 { hash::kv(&*view, revision)? } else { newest };
    let hash_revision = if revision > 0 { revision } else { at.revision };
    // As the service answers before the first compaction.
    let compact_revision = if compact == 0 { -1 } else { compact };
    let record = Record { hash: short(&at.digest), hash_revision, compact_revision };
    let plain = [record.hash.to_string(), hash_revision.to_string(), compact_revision.to_string()];
    print(&record, &plain, options.write_out)?;
    Ok(ExitCode::SUCCESS)
}

/// `defrag`: gives a stopped member's unused space back.
///
/// # Errors
/// The directory is not a stopped member's, or its engine fails.
pub fn defrag(options: &DataDirArgs) -> anyhow::Result<ExitCode> {
    let stopped = Stopped::open(&options.data_dir)?;
    stopped.dir.sync_all().with_context(|| format!("syncing {}", stopped.dir.root().display()))?;
    let backend = dispatch::open(stopped.dir.clone(), stopped.engine, EngineOptions::default())?;
    let before = backend.size()?;
    backend.defrag()?;
    let after = backend.size()?;
    backend.close()?;
    output::line(format!("{}: {} bytes became {}", stopped.dir.db().display(), before.allocated, after.allocated))?;
    Ok(ExitCode::SUCCESS)
}
