//! `ninelives`: parse the command line, carry it out, end with the exit code that says what came of it.

use clap::Parser;
use ninelives::cli::{Cli, dispatch, say};
use ninelives::exit::Exit;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nobody may be reading; the exit code says it all the same.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage.into() } else { Exit::Pass.into() };
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            say(&format!("error: cannot start the runtime: {error}\n"));
            return Exit::Harness.into();
        }
    };
    match runtime.block_on(dispatch(cli)) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            say(&format!("error: {failure:#}\n"));
            failure.exit().into()
        }
    }
}
