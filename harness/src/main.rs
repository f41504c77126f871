//! `ninelives`: parse the command line, carry it out, end with the exit code of the result.

use clap::Parser;
use ninelives::cli::{Cli, dispatch};
use ninelives::exit::Exit;
use ninelives::output::{delivered, say};
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return answer(&error).into(),
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

/// Prints a usage error, or the requested help or version, which is a product.
fn answer(error: &clap::Error) -> Exit {
    let printed = error.print();
    if error.use_stderr() {
        // The reader may be gone; the exit code still tells.
        return Exit::Usage;
    }
    match delivered(printed.and_then(|()| std::io::stdout().flush())) {
        Ok(()) => Exit::Pass,
        Err(failure) => {
            say(&format!("error: {failure:#}\n"));
            Exit::Harness
        }
    }
}
