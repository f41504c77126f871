//! `ninelives replay`: runs a report's stored plan again, once, or many times to count failures.

use super::{
    With, absolute, carry_out, compare_binaries, interruption, is_free, job, say, shown, verdict_before, word,
};
use crate::exit::{Exit, Failure};
use crate::paths::Paths;
use crate::plan::Plan;
use crate::replays::{Replays, up_to_the_failure};
use crate::run::{self, Job};
use crate::scenario::Scenario;
use crate::{directory, output};
use anyhow::Context;
use clap::Args;
use ninelives_evidence::record::RunSummary;
use ninelives_evidence::verdict::Verdict;
use ninelives_evidence::{clock, limits};
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// Report directory.
    pub report_dir: PathBuf,
    /// Run it this many times, each time up to the cycle that failed, and count how often the same
    /// class comes back. Reports go to REPORT_DIR/replays or into --report; replays that found
    /// nothing are removed unless --keep is given. The exit code is that of the worst replay, or 2
    /// if the report had failed and no replay did.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=i64::from(limits::REPLAYS_MAX)))]
    pub times: Option<u32>,
    #[command(flatten)]
    pub with: With,
}

/// The part of a run that a report directory stores.
pub(super) struct Stored {
    pub scenario: Scenario,
    pub plan: Plan,
    /// `None`: the run ended before it wrote a verdict.
    pub before: Option<RunSummary>,
}

impl Stored {
    /// Reads scenario, plan and verdict.
    ///
    /// # Errors
    /// A part is missing or damaged, or the parts are not those of one run.
    pub fn open(dir: &Path) -> Result<Self, Failure> {
        let (scenario, plan) = Self::read(dir)?;
        let before = verdict_before(&Paths::new(dir))?;
        Ok(Self { scenario, plan, before })
    }

    /// Reads only scenario and plan.
    ///
    /// # Errors
    /// As [`Stored::open`].
    pub fn read(dir: &Path) -> Result<(Scenario, Plan), Failure> {
        let stored = Paths::new(dir);
        if let Some(why) = stored.lacking(&[stored.scenario_toml(), stored.plan_txt()]) {
            return Err(Failure::Usage(why));
        }
        run::read_inputs(&stored)
    }

    /// The job that runs `plan` again, with the report's planted bug unless another one is named.
    /// Warns if the binaries differ from the report's.
    ///
    /// # Errors
    /// Those of a job that cannot be run.
    pub fn job(&self, plan: Plan, with: &With, repro: String) -> Result<Job, Failure> {
        let mut with = with.clone();
        with.sabotage = with.sabotage.or_else(|| self.before.as_ref().and_then(|run| run.cluster.sabotage.clone()));
        let job = job(self.scenario.clone(), plan, &with, repro)?;
        if let Some(before) = &self.before {
            compare_binaries(before, &job.target)?;
        }
        Ok(job)
    }
}

pub(super) async fn replay(args: &ReplayArgs) -> Result<Exit, Failure> {
    let stored = Stored::open(&args.report_dir)?;
    let repro = format!("ninelives replay {}", word(&args.report_dir));
    match args.times {
        None => {
            let plan = stored.plan.clone();
            carry_out(stored.job(plan, &args.with, repro)?).await
        }
        Some(times) => many(args, &stored, times, repro).await,
    }
}

async fn many(args: &ReplayArgs, stored: &Stored, times: u32, repro: String) -> Result<Exit, Failure> {
    let plan = up_to_the_failure(&stored.plan, stored.before.as_ref());
    let default_root = || args.report_dir.join("replays").join(clock::utc_stamp());
    let root = absolute(&args.with.report.clone().unwrap_or_else(default_root))?;
    if !is_free(&root) {
        return Err(Failure::Usage(format!(
            "expected a fresh directory for the replays, found something at {}: name another one with --report",
            root.display()
        )));
    }
    let with = With { report: Some(root.clone()), ..args.with.clone() };
    let job = stored.job(plan, &with, repro)?;
    let job = Job { quiet: true, ..job };
    let interrupt = interruption().context("cannot listen for signals")?;
    let (cycles, of) = (job.plan.steps.len(), stored.plan.steps.len());
    say(&format!(
        "{}: seed {}, {times} replays of {cycles} of {of} cycles; reports in {}\n",
        job.scenario.name,
        job.plan.seed,
        shown(&root)
    ));
    let started = clock::now();
    let mut replays = Replays::of(stored.before.as_ref(), times);
    for number in 1..=times {
        if *interrupt.borrow() {
            break;
        }
        let paths = Paths::new(root.join(format!("{number:03}")));
        let job = Job { paths, ..job.clone() };
        let (summary, _) = run::run(&job, interrupt.clone()).await?;
        say(&replays.take(&summary));
        let worthless = summary.verdict == Verdict::Pass || summary.verdict == Verdict::Inconclusive;
        if worthless && !args.with.keep {
            directory::remove(job.paths.root())?;
        }
    }
    // Removes the directories only if they are empty.
    let _ = std::fs::remove_dir(&root);
    let _ = root.parent().filter(|_| args.with.report.is_none()).map(std::fs::remove_dir);
    output::summary(&replays.text(clock::ms_since(started)));
    Ok(replays.exit())
}
