//! `node-under-test`: the member process that the harness starts, kills and starts again.

use std::process::ExitCode;

fn main() -> ExitCode {
    node_under_test::main()
}
