//! Storage engines under the [`Backend`](node_base::backend::Backend) seam, the durability protocol
//! that makes an engine without a write-ahead log safe, and the snapshots that carry an engine's
//! state between members.
//!
//! | module | what | names an engine's crate |
//! | --- | --- | --- |
//! | [`engine`] | which engines there are, and what a member needs of one beyond the seam | no |
//! | [`dispatch`] | from an engine's kind to its module | no |
//! | [`layout`] | the paths of a data directory, its lock, and its syncing at start | no |
//! | [`marker`] | which engine a data directory belongs to | no |
//! | [`migrate`] | changing a stopped member's engine | no |
//! | [`last_flushed_index`] | N on disk, with RocksDB | no |
//! | [`durability`] | RocksDB's protocol, as numbered claims: which N goes with which flush | no |
//! | [`snapshot`] | wire formats, writing, strict reading, conversion, exchange | no |
//! | [`redb`] | the engine; its own numbered claims | redb's |
//! | [`rocksdb`] | the engine; `rocksdb/sys.rs` holds all `unsafe` of this crate | RocksDB's |
//! | [`inspect`] | what a dead data directory proves, read from a copy | no |
//!
//! A start-up calls, in this order: [`layout::DataDir::lock`], [`migrate::resume`],
//! [`marker::claim`], [`snapshot::tidy`], [`layout::DataDir::sync_leftovers`], [`dispatch::open`],
//! its own check E ≥ N, [`engine::Engine::attach`].

#![deny(clippy::print_stdout, clippy::print_stderr, reason = "a print that fails panics: see `node_base::diagnostics`")]

pub mod dispatch;
pub mod durability;
pub mod engine;
pub mod inspect;
pub mod last_flushed_index;
pub mod layout;
pub mod marker;
pub mod migrate;
pub mod redb;
pub mod rocksdb;
pub mod snapshot;

/// Exit code of a process whose storage failed (a background error of the engine, a failed sync of
/// N): the `EX_IOERR` of sysexits. Not 65: nothing of ours is broken, the disk is.
pub const EXIT_STORAGE: i32 = 74;

/// Reports that storage failed while `doing` something, on standard error, and ends the process
/// with [`EXIT_STORAGE`], from any thread, the engine's own included.
///
/// There is no retry: after a failed sync it is unknown what is durable, and a second sync that
/// succeeds proves nothing about the pages that the first one dropped.
pub(crate) fn storage_failed(doing: &str, error: &(dyn std::error::Error + 'static)) -> ! {
    let failure = format!("{doing}: {}", node_base::chain::chain(error));
    node_base::say!("{}", node_base::durable::last_words(&failure, node_base::backend::is_damage(error)));
    node_base::process::end(EXIT_STORAGE)
}

/// The value behind a lock, whether or not another thread panicked while it held it: every critical
/// section here leaves its value whole between two statements.
pub(crate) fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
