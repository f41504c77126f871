//! One member of a replicated key-value store that speaks etcd's v3 API.
//!
//! `request → propose → raft → apply → mvcc | lease → backend → flush → last-flushed index`

pub mod api;
pub mod applier;
pub mod cli;
pub mod clock;
pub mod command;
pub mod control;
pub mod entropy;
pub mod fence;
pub mod inspect;
pub mod lease;
pub mod membership;
pub mod mvcc;
pub mod offline;
pub mod publish;
pub mod recovery;
pub mod restored;
pub mod serve;
pub mod state_hash;

#[cfg(test)]
mod testing;

use clap::Parser;
use std::process::ExitCode;

/// Parses the command line and runs it; an error goes to standard error, with exit code 1.
pub fn main() -> ExitCode {
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
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
