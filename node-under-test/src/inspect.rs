//! `inspect`: what a stopped member's directory says, read without starting the member.
//!
//! It is evidence against the node, so it shares only the file formats with the serving path: it
//! neither repairs the protocol's state nor judges it. Each part that cannot be read is reported,
//! not skipped.

use crate::cli::Inspect;
use crate::output;
use node_backend::inspect::inspect_dead;
use node_backend::layout::DataDir;
use node_raft::{LogError, LogFacts};
use serde::Serialize;
use std::process::ExitCode;

/// The JSON form. An absent number is `null`; a part that could not be read has its `…_error`.
#[derive(Debug, Default, Serialize)]
struct Report {
    /// The engine whose database is there.
    engine: Option<&'static str>,
    last_flushed_index: Option<u64>,
    last_flushed_index_error: Option<String>,
    engine_index: Option<u64>,
    engine_term: Option<u64>,
    engine_error: Option<String>,
    log_first: Option<u64>,
    log_last: Option<u64>,
    log_last_term: Option<u64>,
    last_purged: Option<u64>,
    /// The log's last commit had been answered.
    log_answered: Option<bool>,
    committed: Option<u64>,
    vote_term: Option<u64>,
    vote_node: Option<u64>,
    vote_committed: Option<bool>,
    log_error: Option<String>,
}

/// Prints the report of `options.data_dir` as one JSON object.
///
/// # Errors
/// The directory holds no member.
pub fn run(options: &Inspect) -> anyhow::Result<ExitCode> {
    let dir = DataDir::new(&options.data_dir);
    anyhow::ensure!(
        dir.member().is_dir() || dir.engine_marker().is_file(),
        "{}: expected a member's data directory (with `member/` or `engine-marker` in it), found neither",
        options.data_dir.display()
    );
    let mut report = Report::default();
    let engine = inspect_dead(&options.data_dir);
    match engine.engine {
        Ok(kind) => report.engine = kind,
        Err(error) => report.engine_error = Some(error),
    }
    match engine.last_flushed_index {
        Ok(index) => report.last_flushed_index = index,
        Err(error) => report.last_flushed_index_error = Some(error),
    }
    match engine.consistent_index {
        Ok(id) => (report.engine_index, report.engine_term) = (id.map(|id| id.index), id.map(|id| id.term)),
        Err(error) => report.engine_error = Some(error),
    }
    match LogFacts::read_dead(&dir.raft()) {
        Ok((facts, answered)) => report.set_log(facts, answered),
        // A first life that died between its marker and its log.
        Err(LogError::Missing(_)) if report.is_brand_new() => {}
        Err(error) => report.log_error = Some(error.to_string()),
    }
    output::line(serde_json::to_string_pretty(&report)?)?;
    Ok(ExitCode::SUCCESS)
}

impl Report {
    /// Nothing is there that was made after the log.
    fn is_brand_new(&self) -> bool {
        self.engine.is_none() && self.engine_error.is_none() && self.last_flushed_index.is_none()
    }

    fn set_log(&mut self, facts: LogFacts, answered: bool) {
        self.log_answered = Some(answered);
        self.log_first = facts.first;
        self.log_last = facts.last.map(|id| id.index);
        self.log_last_term = facts.last.map(|id| id.term);
        self.last_purged = facts.last_purged.map(|id| id.index);
        self.committed = facts.committed.map(|id| id.index);
        self.vote_term = facts.vote.as_ref().map(|vote| vote.term);
        self.vote_node = facts.vote.as_ref().map(|vote| vote.node_id);
        self.vote_committed = facts.vote.as_ref().map(|vote| vote.committed);
    }
}
