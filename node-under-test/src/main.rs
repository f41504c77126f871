//! `node-under-test`: the member process that the harness starts, kills and starts again.

/// Serves Rust's allocations alone; RocksDB's go on to libc. libc's allocator took 8 to 9 % of a
/// member's CPU under load.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    node_under_test::main()
}
