//! `node-under-test-sabotaged`: the same process, built with the feature that can plant bugs. It
//! has a name of its own so that it can stand beside the release binary and never be taken for it.

fn main() {
    node_under_test::main()
}
