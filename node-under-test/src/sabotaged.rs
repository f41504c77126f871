//! `node-under-test-sabotaged`: the same process, built with the feature that can plant bugs. It
//! has a name of its own so that it can stand beside the release binary and never be taken for it.

/// As in the release binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    node_under_test::main()
}
