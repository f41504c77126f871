//! `ninelives run --resume`: reads from a report's history how its run was started.

use super::{Binaries, With, absolute, job_in, word};
use crate::exit::Failure;
use crate::paths::Paths;
use crate::report;
use crate::run::Job;
use anyhow::Context;
use ninelives_evidence::history::Lines;
use ninelives_evidence::{Evidence, JobRecord};
use std::path::Path;

/// The job that continues the run of `report_dir`; `with` can replace binaries and `keep`.
///
/// # Errors
/// The directory holds no run, or a complete one.
pub(super) fn job(report_dir: &Path, with: &With) -> Result<Job, Failure> {
    let paths = Paths::new(absolute(report_dir)?);
    if let Some(why) = paths.lacking(&[]) {
        return Err(Failure::Usage(why));
    }
    match report::read(&paths) {
        Ok(run) if !run.interrupted => {
            return Err(Failure::Usage(format!(
                "{} is complete, with the verdict {}: nothing to resume; run it again with `ninelives replay {}`",
                report_dir.display(),
                run.verdict,
                word(report_dir)
            )));
        }
        Ok(_) => {}
        Err(report::Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(Failure::Usage(error.to_string())),
    }
    let stored = super::replay::Stored::read(report_dir)?;
    let asked = asked(&paths)?;
    let with = With {
        binaries: Binaries {
            node: with.binaries.node.clone().or(Some(asked.node)),
            inspector: with.binaries.inspector.clone().or(asked.inspector),
        },
        report: None,
        sabotage: asked.sabotage,
        keep: with.keep || asked.keep,
    };
    let job = job_in(paths, stored.0, stored.1, &with, String::new())?;
    Ok(Job { resume: true, sweep: asked.sweep, quotas: asked.quotas, repro: asked.repro, ..job })
}

fn asked(paths: &Paths) -> Result<JobRecord, Failure> {
    let path = paths.history_jsonl();
    let nothing = |found: &str| {
        let path = path.display();
        Failure::Usage(format!("expected the history of a run at {path}, found {found}: nothing to resume"))
    };
    let mut lines = Lines::open(&path).map_err(|error| nothing(&error.to_string()))?;
    match lines.read().context("cannot read the history")? {
        Some((_, Evidence::History(head))) => {
            head.job.ok_or_else(|| nothing("one that does not say how the run was started"))
        }
        _ => Err(nothing("an empty one")),
    }
}
