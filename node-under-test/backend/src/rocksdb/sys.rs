//! All `unsafe` of this crate: the parts of RocksDB's C API that the `rocksdb` crate does not wrap,
//! and a snapshot that owns its database.
#![allow(unsafe_code, reason = "RocksDB's event listener exists only in its C API; this is the one file that may")]

use librocksdb_sys as ffi;
use rocksdb::{AsRawPtr, DB, Options, SnapshotWithThreadMode};
use std::ffi::{CStr, c_char, c_void};
use std::sync::Arc;

/// Receiver of RocksDB's callbacks. They come on RocksDB's threads and, for `memtable_sealed`, on
/// the writer's. An implementation must not call the database and must not block on anything that
/// waits for it; a panic in it aborts the process, because unwinding stops at an `extern "C"`
/// function.
pub trait FlushListener: Send + Sync + 'static {
    /// A memtable was sealed and is already in the immutable list: a flush may have taken it before
    /// this call.
    fn memtable_sealed(&self);
    /// A flush has picked its memtables; the writer goes on meanwhile.
    fn flush_begin(&self);
    /// SST and MANIFEST are durable, for all sequence numbers up to `largest_seqno`.
    fn flush_completed(&self, largest_seqno: u64);
    /// A compaction has picked its SSTs.
    fn compaction_begin(&self);
    /// A compaction's SSTs and the MANIFEST that names them are durable.
    fn compaction_completed(&self);
    /// A background job failed.
    fn background_error(&self, message: String);
}

/// Lets every database opened with `options` report to `listener`, which is dropped with the last
/// of them.
pub fn add_listener<L: FlushListener>(options: &mut Options, listener: L) {
    let state = Box::into_raw(Box::new(listener)).cast::<c_void>();
    // SAFETY: the callbacks match the C declarations, each is given `state` as its first argument,
    // and all are set, because the C++ side calls them without a null check. The listener object
    // belongs to a shared pointer in the options and in each database opened with them; it calls
    // `drop_listener` once, when the last is gone, and nothing afterwards.
    unsafe {
        let raw = ffi::rocksdb_eventlistener_create(
            state,
            Some(drop_listener::<L>),
            Some(on_flush_begin::<L>),
            Some(on_flush_completed::<L>),
            Some(on_compaction_begin::<L>),
            Some(on_compaction_completed::<L>),
            Some(ignore_subcompaction),
            Some(ignore_subcompaction),
            Some(ignore_ingestion),
            Some(on_background_error::<L>),
            Some(ignore_stall),
            Some(on_memtable_sealed::<L>),
        );
        ffi::rocksdb_options_add_eventlistener(options.as_raw_ptr(), raw);
    }
}

/// The options that the `rocksdb` crate has no setters for: the first background error is final,
/// and closing a database flushes nothing (a close is then no different from a kill, so no second
/// path needs proof).
pub fn set_unwrapped_options(options: &mut Options) {
    // SAFETY: the pointer is valid while `options` is borrowed; both setters only store the value.
    unsafe {
        ffi::rocksdb_options_set_max_bgerror_resume_count(options.as_raw_ptr(), 0);
        ffi::rocksdb_options_set_avoid_flush_during_shutdown(options.as_raw_ptr(), 1);
    }
}

/// # Safety
/// `state` is the pointer that [`add_listener`] made for `L`, and not yet dropped.
unsafe fn listener<'a, L>(state: *mut c_void) -> &'a L {
    // SAFETY: by this function's contract; `L` is `Sync`, so shared references on many threads are
    // fine.
    unsafe { &*state.cast::<L>() }
}

unsafe extern "C" fn drop_listener<L: FlushListener>(state: *mut c_void) {
    // SAFETY: called once, last, with the pointer from `Box::into_raw`.
    drop(unsafe { Box::from_raw(state.cast::<L>()) });
}

unsafe extern "C" fn on_memtable_sealed<L: FlushListener>(state: *mut c_void, _: *const ffi::rocksdb_memtableinfo_t) {
    // SAFETY: RocksDB passes the state it was given.
    unsafe { listener::<L>(state) }.memtable_sealed();
}

unsafe extern "C" fn on_flush_begin<L: FlushListener>(
    state: *mut c_void,
    _: *mut ffi::rocksdb_t,
    _: *const ffi::rocksdb_flushjobinfo_t,
) {
    // SAFETY: RocksDB passes the state it was given.
    unsafe { listener::<L>(state) }.flush_begin();
}

unsafe extern "C" fn on_flush_completed<L: FlushListener>(
    state: *mut c_void,
    _: *mut ffi::rocksdb_t,
    info: *const ffi::rocksdb_flushjobinfo_t,
) {
    // SAFETY: `info` is valid for the duration of the callback; the state is the one RocksDB was
    // given.
    let largest_seqno = unsafe { ffi::rocksdb_flushjobinfo_largest_seqno(info) };
    // SAFETY: as above.
    unsafe { listener::<L>(state) }.flush_completed(largest_seqno);
}

unsafe extern "C" fn on_background_error<L: FlushListener>(
    state: *mut c_void,
    _reason: u32,
    status: *mut ffi::rocksdb_status_ptr_t,
) {
    let mut message: *mut c_char = std::ptr::null_mut();
    // SAFETY: `status` is valid for the duration of the callback; the message, if there is one, is
    // a NUL-terminated string that is ours to free.
    let message = unsafe {
        ffi::rocksdb_status_ptr_get_error(status, &mut message);
        if message.is_null() {
            "no message".to_owned()
        } else {
            let text = CStr::from_ptr(message).to_string_lossy().into_owned();
            ffi::rocksdb_free(message.cast());
            text
        }
    };
    // SAFETY: RocksDB passes the state it was given.
    unsafe { listener::<L>(state) }.background_error(message);
}

unsafe extern "C" fn on_compaction_begin<L: FlushListener>(
    state: *mut c_void,
    _: *mut ffi::rocksdb_t,
    _: *const ffi::rocksdb_compactionjobinfo_t,
) {
    // SAFETY: RocksDB passes the state it was given.
    unsafe { listener::<L>(state) }.compaction_begin();
}

unsafe extern "C" fn on_compaction_completed<L: FlushListener>(
    state: *mut c_void,
    _: *mut ffi::rocksdb_t,
    _: *const ffi::rocksdb_compactionjobinfo_t,
) {
    // SAFETY: RocksDB passes the state it was given.
    unsafe { listener::<L>(state) }.compaction_completed();
}

unsafe extern "C" fn ignore_subcompaction(_: *mut c_void, _: *const ffi::rocksdb_subcompactionjobinfo_t) {}
unsafe extern "C" fn ignore_ingestion(
    _: *mut c_void,
    _: *mut ffi::rocksdb_t,
    _: *const ffi::rocksdb_externalfileingestioninfo_t,
) {
}
unsafe extern "C" fn ignore_stall(_: *mut c_void, _: *const ffi::rocksdb_writestallinfo_t) {}

/// A snapshot of a database, together with the share of the database that keeps it open.
pub struct PinnedSnapshot<D: std::borrow::Borrow<DB> + Send + Sync + 'static> {
    /// Declared, and so dropped, before the database that it borrows from.
    snapshot: SnapshotWithThreadMode<'static, DB>,
    _db: Arc<D>,
}

impl<D: std::borrow::Borrow<DB> + Send + Sync + 'static> PinnedSnapshot<D> {
    pub fn new(db: Arc<D>) -> Self {
        // SAFETY: the reference points into the allocation of `db`, which neither moves nor goes
        // away while `_db` holds a share of it; `snapshot` is dropped before `_db`, and is only
        // lent out with a shorter life.
        let borrowed: &'static DB = unsafe { &*std::ptr::from_ref::<DB>((*db).borrow()) };
        Self { snapshot: borrowed.snapshot(), _db: db }
    }

    pub fn get<'a>(&'a self) -> &'a SnapshotWithThreadMode<'a, DB> {
        &self.snapshot
    }
}
