//! Options that databases are opened with. The comments say which setting the protocol stands on.

use super::sys;
use crate::engine::EngineOptions;
use node_base::backend::{BackendError, Result};
use node_base::sabotage::{Bug, planted};
use rocksdb::{
    BlockBasedOptions, Cache, DBCompressionType, FlushOptions, InfoLogger, LogLevel, Options, ReadOptions, WriteOptions,
};

/// A copy's memtables: with one being filled and one being flushed, what a copy holds in memory.
const COPY_MEMTABLE_BYTES: usize = 16 << 20;

/// RocksDB silently raises a smaller limit of open tables to this, so a smaller one is refused
/// instead.
const OPEN_FILES_MIN: u32 = 20;

/// Tables that a copy or its reader holds open: they are read one after the other.
const OPEN_FILES_COPY: i32 = 32;

/// RocksDB silently raises a smaller write buffer to this, so a smaller one is refused instead.
pub const MEMTABLE_BYTES_MIN: usize = 64 << 10;

pub(super) fn check(options: &EngineOptions) -> Result<()> {
    if options.memtable_bytes < MEMTABLE_BYTES_MIN {
        return Err(BackendError::refused(format!(
            "memtable size must be at least {MEMTABLE_BYTES_MIN} bytes (rocksdb's own minimum), found {}",
            options.memtable_bytes
        )));
    }
    if options.open_files_max < OPEN_FILES_MIN {
        return Err(BackendError::refused(format!(
            "limit of open tables must be at least {OPEN_FILES_MIN} (rocksdb's own minimum), found {}",
            options.open_files_max
        )));
    }
    if options.lag_entries_max == 0 || options.lag_bytes_max == 0 {
        return Err(BackendError::refused("limits of unflushed entries and bytes must be at least 1, found 0"));
    }
    Ok(())
}

/// Options of the live database.
pub(super) fn live(options: &EngineOptions, create: bool, listener: impl sys::FlushListener) -> Options {
    let mut db = read_only();
    db.create_if_missing(create);
    // A table that cannot be opened is a failed read, and fatal: this has to fit in what the
    // process may open.
    db.set_max_open_files(i32::try_from(options.open_files_max).unwrap_or(i32::MAX));
    sys::add_listener(&mut db, listener);
    sys::set_unwrapped_options(&mut db);

    db.set_write_buffer_size(options.memtable_bytes);
    // A memtable is full when its arena blocks are, so blocks must be small beside it or small
    // memtables would overshoot by whole blocks; RocksDB's own rule is an eighth.
    db.set_arena_block_size((options.memtable_bytes / 8).clamp(4 << 10, 1 << 20));
    // One writer: concurrent inserts would only add per-core arena shards, which distort small
    // memtables.
    db.set_allow_concurrent_memtable_write(false);
    // A burst may seal several memtables while one flush syncs; only then does the writer stall.
    db.set_max_write_buffer_number(6);
    db.set_min_write_buffer_number_to_merge(1);
    // Small memtables make many small files at level 0: let compaction merge them early, stall
    // late.
    db.set_level_zero_file_num_compaction_trigger(4);
    db.set_level_zero_slowdown_writes_trigger(40);
    db.set_level_zero_stop_writes_trigger(64);
    db.set_max_background_jobs(2);
    // A mempurge would "flush" a memtable into another memtable. 0 is the default; the protocol
    // stands on it.
    db.set_experimental_mempurge_threshold(0.0);

    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&Cache::new_lru_cache(options.cache_bytes));
    table.set_bloom_filter(10.0, false);
    table.set_format_version(6);
    db.set_block_based_table_factory(&table);
    db.set_compression_type(DBCompressionType::Lz4);
    db
}

/// Options to write a copy with: it has no reader meanwhile, and its write-ahead log stays empty.
pub(super) fn copy() -> Options {
    let mut db = read_only();
    db.create_if_missing(true);
    db.set_error_if_exists(true);
    db.set_write_buffer_size(COPY_MEMTABLE_BYTES);
    db.set_max_background_jobs(2);
    db.set_compression_type(DBCompressionType::Lz4);
    db
}

/// Options that suffice to read a database: a checkpoint, a staged snapshot, a dead directory's
/// copy.
pub(super) fn read_only() -> Options {
    let mut db = Options::default();
    // At open, every SST that the MANIFEST names has to be there, with its size: a missing one is
    // found then, not by an unlucky read later.
    db.set_paranoid_checks(true);
    db.set_max_open_files(OPEN_FILES_COPY);
    db.set_stats_dump_period_sec(0);
    db.set_stats_persist_period_sec(0);
    // Warnings go to our own log, and no LOG files appear among the data (or in a checkpoint).
    db.set_info_logger(InfoLogger::new_callback_logger(LogLevel::Warn, |level, message| match level {
        LogLevel::Warn => tracing::warn!(target: "rocksdb", "{}", message.trim_end()),
        LogLevel::Error | LogLevel::Fatal => tracing::error!(target: "rocksdb", "{}", message.trim_end()),
        // "Header" lines (the options' dump) pass every level's filter.
        _ => {}
    }));
    db.set_log_level(LogLevel::Warn);
    db
}

/// Writes skip the write-ahead log: the raft log is the only one.
pub(super) fn write() -> WriteOptions {
    let mut options = WriteOptions::default();
    options.disable_wal(true);
    options
}

pub(super) fn flush(wait: bool) -> FlushOptions {
    let mut options = FlushOptions::default();
    options.set_wait(wait);
    options
}

/// A read, checksums verified.
pub(super) fn read() -> ReadOptions {
    let mut options = ReadOptions::default();
    options.set_verify_checksums(!planted(Bug::CorruptBlockServed));
    options
}

/// A scan of keys in `[from, to)`, checksums verified.
pub(super) fn scan(from: Vec<u8>, to: Vec<u8>) -> ReadOptions {
    let mut options = read();
    options.set_iterate_lower_bound(from);
    options.set_iterate_upper_bound(to);
    options
}
