//! Changing the engine of a stopped member. Raft log and vote stay; the rows move.
//!
//! | step | durable after it | a kill here: the next start, or the next `migrate`, |
//! | --- | --- | --- |
//! | 0 | everything that the member's last life left, the raft log and the vote included | has nothing to do |
//! | 1 | the intent, `engine-migration` | undoes it: the intent is removed |
//! | 2 | the new image in `db.incoming`, proven to hold the same rows and consistent index | undoes it: image and intent are removed |
//! | 3 | `db` and `db.incoming` exchanged | finishes it |
//! | 4 | N in the new engine's way: the file `last-flushed-index` = E for RocksDB, no such file for redb | finishes it |
//! | 5 | the marker of the new engine | finishes it |
//! | 6 | the old database is gone | finishes it |
//! | 7 | the intent is gone | has nothing to do |
//!
//! The exchange is the point of no return. On which side of it a kill fell, the nature of `db`
//! says: a file is redb's, a directory RocksDB's. Steps 4 to 7 can be repeated without harm, so
//! finishing is doing them all again.
//!
//! Step 0 is for a power loss after a kill: a new image that is durable must not stand beside a
//! log, a vote or an index that only the page cache has. So the member is in every case what it was
//! before the change began.
//!
//! N = E is right for the new image: all its rows are durable before it is exchanged, and apply had
//! waited until the local log was durable through E, so the log knows E, or an interrupted install
//! is finished by the start as ever (E = N there too).

use crate::engine::EngineKind;
use crate::last_flushed_index::IndexFile;
use crate::layout::DataDir;
use crate::marker::{self, MarkerError};
use crate::snapshot::install;
use node_base::LogId;
use node_base::backend::{BackendError, consistent_index};
use node_base::durable;
use node_base::failpoint::{Window, pass};
use node_base::sabotage::{Bug, planted};
use std::io;

#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    #[error(transparent)]
    Marker(#[from] MarkerError),
    #[error("{dir}: expected a member's data directory (with an engine-marker), found none: nothing to migrate")]
    NoMember { dir: String },
    #[error("{dir}: expected a database, found none: start the member once, then migrate it")]
    NoDatabase { dir: String },
    #[error(
        "{dir}: N = {persisted}, but the engine proves only {engine:?}: flushed data vanished, and a migrated copy would hide \
         that. Keep this directory for analysis; remove the member and add it under a new id"
    )]
    IndexAhead { dir: String, persisted: u64, engine: Option<u64> },
    #[error(
        "{path}: expected \"<engine> <engine>\", found {found:?}: this is not an intent of this program; if no migration was under \
         way, remove it"
    )]
    BadIntent { path: String, found: String },
    #[error(
        "the copy in {to} differs from what {from} holds (rows or consistent index): nothing was changed; try again"
    )]
    CopyDiffers { from: EngineKind, to: EngineKind },
    #[error("migration: {what}")]
    Io { what: &'static str, source: io::Error },
    #[error("migration")]
    Engine(#[from] BackendError),
}

fn io_error(what: &'static str) -> impl FnOnce(io::Error) -> MigrateError {
    move |source| MigrateError::Io { what, source }
}

/// The result of a migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migrated {
    pub from: EngineKind,
    pub to: EngineKind,
    /// The consistent index, of the old database and the new one.
    pub index: Option<LogId>,
    /// Rows copied; `None`: an earlier attempt had copied them.
    pub rows: Option<u64>,
}

/// The end of a migration that a kill had interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resumed {
    Undone { from: EngineKind, to: EngineKind },
    Finished { from: EngineKind, to: EngineKind },
}

/// Makes `to` the engine of `dir`, whose lock the caller holds. `None`: it is already.
///
/// # Errors
/// Nothing was changed, or what was is finished or undone by the next attempt.
pub fn migrate(dir: &DataDir, to: EngineKind) -> Result<Option<Migrated>, MigrateError> {
    if !planted(Bug::MigrateWithoutSync) {
        dir.sync_all().map_err(io_error("syncing the data directory"))?;
    }
    if let Some(Resumed::Finished { from, to: finished }) = resume(dir)?
        && finished == to
    {
        let index = to.image_index(&dir.db())?;
        return Ok(Some(Migrated { from, to, index, rows: None }));
    }
    let name = || dir.root().display().to_string();
    let from = marker::read(dir)?.ok_or_else(|| MigrateError::NoMember { dir: name() })?;
    marker::check_nature(dir, from)?;
    if from == to {
        return Ok(None);
    }
    install::tidy(dir).map_err(io_error("cleaning up after an interrupted snapshot"))?;
    if !dir.db().exists() {
        return Err(MigrateError::NoDatabase { dir: name() });
    }
    let (index, rows) = copy(dir, from, to)?;
    exchange_and_finish(dir, to)?;
    Ok(Some(Migrated { from, to, index, rows: Some(rows) }))
}

/// Steps 1 and 2.
fn copy(dir: &DataDir, from: EngineKind, to: EngineKind) -> Result<(Option<LogId>, u64), MigrateError> {
    let source = from.open_image(&dir.db())?;
    let index = consistent_index(&*source)?;
    if let Some(persisted) = crate::dispatch::persisted_index(dir, from, index)?
        && index.is_none_or(|engine| engine.index < persisted)
    {
        let engine = index.map(|id| id.index);
        return Err(MigrateError::IndexAhead { dir: dir.root().display().to_string(), persisted, engine });
    }
    let intent = format!("{from} {to}\n");
    durable::replace_file(&dir.engine_migration(), intent.as_bytes(), |_| {})
        .map_err(io_error("writing the intent"))?;
    pass(Window::MigrateIntent);
    let incoming = dir.incoming();
    let mut told = false;
    let rows = to.write_image(&incoming, &*source, &mut |_| {
        if !std::mem::replace(&mut told, true) {
            pass(Window::MigrateCopying);
        }
    })?;
    if !to.is_copy(&incoming, &*source)? {
        return Err(MigrateError::CopyDiffers { from, to });
    }
    durable::sync_tree(&incoming)
        .and_then(|()| durable::sync_dir(&dir.snap()))
        .map_err(io_error("syncing the new image"))?;
    pass(Window::MigrateCopied);
    Ok((index, rows))
}

/// Steps 3 to 7.
fn exchange_and_finish(dir: &DataDir, to: EngineKind) -> Result<(), MigrateError> {
    install::swap(dir).map_err(io_error("exchanging db and db.incoming"))?;
    pass(Window::MigrateExchanged);
    finish(dir, to)
}

/// Steps 4 to 7, after an exchange that may not be durable yet.
fn finish(dir: &DataDir, to: EngineKind) -> Result<(), MigrateError> {
    sync_exchange(dir).map_err(io_error("syncing the exchange"))?;
    persist_index(dir, to)?;
    pass(Window::MigrateIndex);
    marker::write(dir, to).map_err(io_error("writing the marker"))?;
    pass(Window::MigrateMarker);
    install::delete_old(dir).map_err(io_error("deleting the old database"))?;
    remove_intent(dir)
}

/// Makes the names beside the databases durable, which were exchanged.
fn sync_exchange(dir: &DataDir) -> io::Result<()> {
    if planted(Bug::MigrateNoDirFsync) {
        // Kills keep the page cache: only a power loss takes the exchange back, after the marker
        // stood on it.
        return Ok(());
    }
    durable::sync_dir(&dir.snap())
}

fn persist_index(dir: &DataDir, to: EngineKind) -> Result<(), MigrateError> {
    let path = dir.last_flushed_index();
    match to {
        EngineKind::Redb => {
            install::remove(&path).map_err(io_error("removing last-flushed-index"))?;
            sync_exchange(dir).map_err(io_error("removing last-flushed-index"))
        }
        EngineKind::Rocksdb => {
            let Some(index) = to.image_index(&dir.db())? else { return Ok(()) };
            let mut file = IndexFile::open(path).map_err(BackendError::from)?;
            file.advance(index.index).map_err(io_error("writing last-flushed-index"))
        }
    }
}

fn remove_intent(dir: &DataDir) -> Result<(), MigrateError> {
    install::remove(&dir.engine_migration()).map_err(io_error("removing the intent"))?;
    durable::sync_dir(dir.root()).map_err(io_error("removing the intent"))
}

/// Finishes or undoes a migration that a kill interrupted; `None`: nothing was under way. Every
/// start calls it before it looks at the marker, and holds the lock of `dir` meanwhile.
pub fn resume(dir: &DataDir) -> Result<Option<Resumed>, MigrateError> {
    let Some((from, to)) = read_intent(dir)? else { return Ok(None) };
    // Where names cannot be exchanged, a kill between two renames leaves no `db`.
    install::put_back_old(dir).map_err(io_error("putting the old database back"))?;
    let nature = EngineKind::by_nature(&dir.db()).map_err(io_error("looking at db"))?;
    if nature == Some(to) {
        finish(dir, to)?;
        return Ok(Some(Resumed::Finished { from, to }));
    }
    install::remove(&dir.incoming()).map_err(io_error("removing the new image"))?;
    durable::sync_dir(&dir.snap()).map_err(io_error("removing the new image"))?;
    remove_intent(dir)?;
    Ok(Some(Resumed::Undone { from, to }))
}

/// The intent on disk: from which engine to which.
fn read_intent(dir: &DataDir) -> Result<Option<(EngineKind, EngineKind)>, MigrateError> {
    let path = dir.engine_migration();
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("reading the intent")(error)),
    };
    let parsed = text.strip_suffix('\n').and_then(|line| {
        let (from, to) = line.split_once(' ')?;
        Some((EngineKind::parse(from)?, EngineKind::parse(to)?))
    });
    parsed.map(Some).ok_or_else(|| MigrateError::BadIntent { path: path.display().to_string(), found: text })
}
