//! `verify`: whether a stopped member could start, and whether what it holds can be trusted. Every
//! check is made, whatever the ones before it found; nothing is repaired beyond what opening
//! repairs.

use super::hold;
use crate::cli::DataDirArgs;
use crate::output;
use crate::state::hash;
use node_backend::dispatch;
use node_backend::engine::EngineKind;
use node_backend::layout::DataDir;
use node_backend::snapshot::format::hex;
use node_base::LogId;
use node_base::backend::{ReadView, consistent_index, hash};
use node_base::chain::chain;
use node_base::durable::remedy;
use node_raft::LogFacts;
use std::process::ExitCode;

/// Checks made so far; each is printed as it is made.
#[derive(Default)]
struct Checks {
    failed: u32,
    /// Of the failed ones, those for which the machine and not the data is to blame, and what helps
    /// against the last of them.
    machine: u32,
    remedy: Option<&'static str>,
    /// The first failure to print.
    unprinted: Option<anyhow::Error>,
}

impl Checks {
    /// Prints the check, and passes on what it found.
    fn check<T>(&mut self, what: &str, found: anyhow::Result<(T, String)>) -> Option<T> {
        match found {
            Ok((value, detail)) => {
                self.print(format!("ok      {what}: {detail}"));
                Some(value)
            }
            Err(error) => {
                self.failed += 1;
                let line = format!("FAILED  {what}: {}", chain(error.as_ref()));
                if let Some(remedy) = remedy(&line) {
                    self.machine += 1;
                    self.remedy = Some(remedy);
                }
                self.print(line);
                None
            }
        }
    }

    /// A check that cannot be made counts as failed.
    fn skip(&mut self, what: &str, why: &str) {
        self.failed += 1;
        self.machine += u32::from(self.remedy.is_some());
        self.print(format!("skipped {what}: {why}"));
    }

    fn print(&mut self, line: String) {
        if let (Err(error), None) = (output::line(line), &self.unprinted) {
            self.unprinted = Some(error);
        }
    }

    /// The operator's next step after failed checks: damage is worse than trouble with the machine,
    /// and says more.
    fn next_step(&self) -> &'static str {
        let damage = "do not start this member; restore it, or remove it and add it under a new id";
        self.remedy.filter(|_| self.machine == self.failed).unwrap_or(damage)
    }
}

/// Exit 0 if every check holds, 1 otherwise.
///
/// # Errors
/// The directory is not a member's, or its member is running.
pub fn verify(options: &DataDirArgs) -> anyhow::Result<ExitCode> {
    let (dir, _lock) = hold(&options.data_dir)?;
    let mut checks = Checks::default();
    checks.check("no change of engine under way", no_migration(&dir));
    let engine = checks.check("marker and database agree", marked(&dir));
    let view = engine.and_then(|engine| checks.check("engine checksums", engine_checksums(&dir, engine)));
    if let Some(view) = &view {
        checks.check("rows decode", rows_decode(&**view));
    } else {
        checks.skip("rows decode", "the engine cannot be read");
    }
    let log = checks.check("raft log checksums and entries", raft_log(&dir));
    let indexes = engine.zip(view.as_ref()).map(|(engine, view)| indexes(&dir, engine, &**view));
    let indexes = indexes.and_then(|indexes| checks.check("N ≤ E", indexes));
    match (indexes, log) {
        (Some((n, e)), Some(log)) => {
            checks.check("the raft log reaches back to N+1", reaches_back(n, &log));
            checks.check("the raft log knows E", knows_engine(n, e, &log));
        }
        _ => checks.skip("the raft log reaches back to N+1", "N, E or the log cannot be read"),
    }
    let holds = checks.failed == 0;
    let conclusion = if holds {
        "all checks hold".to_owned()
    } else {
        format!("{} checks failed: {}", checks.failed, checks.next_step())
    };
    checks.print(conclusion);
    checks.unprinted.map_or(Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE }), Err)
}

fn no_migration(dir: &DataDir) -> anyhow::Result<((), String)> {
    let path = dir.engine_migration();
    anyhow::ensure!(
        !path.exists(),
        "expected no {}, found one: a kill interrupted `migrate`; run it again, or start the member",
        path.display()
    );
    Ok(((), "none".to_owned()))
}

fn marked(dir: &DataDir) -> anyhow::Result<(EngineKind, String)> {
    let engine = super::marked(dir)?;
    anyhow::ensure!(dir.db().exists(), "marked {engine}, but {} does not exist", dir.db().display());
    Ok((engine, engine.to_string()))
}

/// Reads every row: RocksDB verifies the checksum of each block that it reads, redb those of all
/// pages as it opens.
fn engine_checksums(dir: &DataDir, engine: EngineKind) -> anyhow::Result<(Box<dyn ReadView>, String)> {
    let view = engine.open_foreign_image(&dir.db())?;
    let hash = hex(&hash(&*view)?);
    Ok((view, format!("content hash {hash}")))
}

fn rows_decode(view: &dyn ReadView) -> anyhow::Result<((), String)> {
    let hash = hash::compute(view)?;
    let (rows, revision, leases) = (hash.kv.rows, hash.kv.revision, hash.leases.len());
    Ok(((), format!("{rows} live rows up to revision {revision}, {leases} leases")))
}

fn raft_log(dir: &DataDir) -> anyhow::Result<(LogFacts, String)> {
    let facts = LogFacts::verify(&dir.raft())?;
    let words = |index: Option<u64>| index.map_or("nothing".to_owned(), |index| index.to_string());
    let detail = format!("from {} to {}", words(facts.first), words(facts.last.map(|id| id.index)));
    Ok((facts, detail))
}

/// N and E.
type Indexes = (Option<u64>, Option<LogId>);

fn indexes(dir: &DataDir, engine: EngineKind, view: &dyn ReadView) -> anyhow::Result<(Indexes, String)> {
    let e = consistent_index(view)?;
    let n = dispatch::persisted_index(dir, engine, e)?;
    anyhow::ensure!(
        n <= e.map(|e| e.index),
        "N = {n:?} says what was durable, E = {e:?} is all that the engine proves: flushed data vanished"
    );
    Ok(((n, e), format!("N = {n:?}, E = {:?}", e.map(|e| e.index))))
}

fn reaches_back(n: Option<u64>, log: &LogFacts) -> anyhow::Result<((), String)> {
    let purged = log.last_purged.map(|id| id.index);
    anyhow::ensure!(purged <= n, "purged up to {purged:?}, N = {n:?}: entries that the engine may lack are gone");
    Ok(((), format!("purged up to {purged:?}")))
}

/// Apply waits for the local log, so it ends at E or later; or an install was interrupted, and the
/// next start finishes it.
fn knows_engine(n: Option<u64>, e: Option<LogId>, log: &LogFacts) -> anyhow::Result<((), String)> {
    let (last, e) = (log.last.map(|id| id.index), e.map(|e| e.index));
    if last >= e {
        return Ok(((), format!("the log ends at {last:?}, E = {e:?}")));
    }
    anyhow::ensure!(
        log.vote.is_some(),
        "the log ends at {last:?} before E = {e:?} and has no vote: no crash of this program leaves that"
    );
    Ok((
        (),
        format!("the log ends at {last:?}, E = {e:?}, N = {n:?}: the next start finishes the install of a snapshot"),
    ))
}
