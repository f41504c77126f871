//! One member of a replicated key-value store that speaks etcd's v3 API.
//!
//! `request → propose → raft → apply → mvcc | lease → backend → flush → last-flushed index`

#![deny(clippy::print_stdout, clippy::print_stderr, reason = "a print that fails panics: see `output`, `diagnostics`")]

#[cfg(feature = "member")]
pub mod api;
#[cfg(feature = "member")]
pub mod applier;
#[cfg(feature = "member")]
pub mod cli;
pub mod clock;
#[cfg(feature = "member")]
pub mod control;
pub mod entropy;
#[cfg(feature = "member")]
pub mod inspect;
pub mod lease;
#[cfg(feature = "member")]
pub mod net;
#[cfg(feature = "member")]
pub mod offline;
#[cfg(feature = "member")]
pub mod output;
#[cfg(feature = "member")]
pub mod publish;
#[cfg(feature = "member")]
pub mod recovery;
pub mod requests;
#[cfg(feature = "member")]
pub mod restored;
#[cfg(feature = "member")]
pub mod serve;
pub mod space;
pub mod state;
#[cfg(feature = "member")]
pub mod sweeper;

#[cfg(test)]
mod testing;

#[cfg(feature = "member")]
use clap::Parser;
#[cfg(feature = "member")]
use node_base::chain::chain;
#[cfg(feature = "member")]
use node_base::durable::{DAMAGED, remedy};
#[cfg(feature = "member")]
use node_base::{diagnostics, process, say};
#[cfg(feature = "member")]
use std::process::ExitCode;

/// Parses the command line, runs it, and ends the process; an error goes to standard error, with
/// exit code 1.
///
/// Ends without the static destructors of C++, which RocksDB's threads outlive: see
/// [`process::end`]. All that goes to standard output is flushed where it is written.
#[cfg(feature = "member")]
pub fn main() -> ! {
    diagnostics::catch_panics();
    let done = match cli::Cli::parse().command {
        cli::Command::Serve(options) => serve::run(*options),
        cli::Command::Inspect(options) => inspect::run(&options),
        cli::Command::Snapshot(cli::Snapshot::Status(options)) => offline::status(&options),
        cli::Command::Snapshot(cli::Snapshot::Restore(options)) => offline::restore(&options),
        cli::Command::Hashkv(options) => offline::hashkv(&options),
        cli::Command::Defrag(options) => offline::defrag(&options),
        cli::Command::Migrate(options) => offline::migrate(&options),
        cli::Command::Dump(options) => offline::dump(&options),
        cli::Command::Verify(options) => offline::verify(&options),
    };
    let code = done.unwrap_or_else(|error| {
        let damaged = state::is_damage(error.as_ref());
        let error = chain(error.as_ref());
        let damaged = (damaged && !error.contains("under a new id")).then_some(DAMAGED);
        match remedy(&error).or(damaged).filter(|next| !error.contains(next)) {
            Some(next) => say!("error: {error}; {next}"),
            None => say!("error: {error}"),
        }
        ExitCode::FAILURE
    });
    process::end(i32::from(code != ExitCode::SUCCESS))
}
