//! `node-under-test`: the member process that the harness starts, kills and starts again.

fn main() {
    node_under_test::main()
}
