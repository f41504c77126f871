//! `ninelives mutants`: the detection table.

use super::subject::on_path;
use super::{With, absolute, beside_this_executable, interruption, is_free, job, load, say, shown};
use crate::exit::{Exit, Failure};
use crate::mutants::{Certificate, Expected, Row, SCHEMA_VERSION, Table, Trial, judge, render};
use crate::plan::Plan;
use crate::probe::{Sighting, lanes, side_by_side};
use crate::progress::minutes_and_seconds;
use crate::run::Job;
use crate::seed::Seed;
use crate::{inspect, output};
use anyhow::Context;
use clap::Args;
use ninelives_evidence::record::BinaryId;
use ninelives_evidence::{clock, limits};
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(Debug, Args)]
#[command(after_help = MUTANTS_EXIT_CODES)]
pub struct MutantsArgs {
    /// Table of planted bugs and controls.
    #[arg(default_value = "scenarios/mutants.toml")]
    pub table: PathBuf,
    /// Run only these bugs; `control` stands for the runs without a bug.
    #[arg(long = "bug", num_args = 1.., value_name = "NAME")]
    pub bugs: Vec<String>,
    /// Seeds per bug [default: 20 if a kill at a window shows the bug, 5 otherwise].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=i64::from(limits::REPLAYS_MAX)))]
    pub seeds: Option<u32>,
    /// First seed.
    #[arg(long, default_value_t = 1)]
    pub first_seed: u64,
    /// Most cycles of one run.
    #[arg(long, default_value_t = limits::MUTANT_CYCLES_MAX, value_parser = clap::value_parser!(u32).range(1..=i64::from(limits::CYCLES_MAX)))]
    pub cycles_max: u32,
    /// Runs side by side [default: as many as this machine's cores can carry].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub jobs: Option<u32>,
    /// Node binary with the planted bugs, for rows that name no binary
    /// [default: `node-under-test-sabotaged` beside this executable].
    #[arg(long)]
    pub node: Option<PathBuf>,
    /// Binary without planted bugs that reads the data directories of dead members
    /// [default: `node-under-test` beside this executable].
    #[arg(long)]
    pub inspector: Option<PathBuf>,
    /// Report directory, which must be absent or empty [default: reports/mutants-STAMP].
    #[arg(long)]
    pub report: Option<PathBuf>,
    /// Keep the reports of all runs, not only of those that did not end as expected.
    #[arg(long)]
    pub keep: bool,
}

const MUTANTS_EXIT_CODES: &str = "Exit codes: 0 every bug was caught in its class within its budget and the control passed, \
                                  1 a run without a bug found a violation, 2 a bug survived or a control did not pass, \
                                  64 usage, 70 the harness failed, 130 interrupted";

/// One run to be made.
struct Trials {
    rows: Vec<Row>,
    expected: Vec<Expected>,
    /// By run: its row.
    row_of: Vec<usize>,
    jobs: Vec<(Job, Duration)>,
}

pub(super) async fn mutants(args: &MutantsArgs) -> Result<Exit, Failure> {
    let table = Table::load(&args.table).map_err(Failure::Usage)?;
    let chosen = table.select(&args.bugs).map_err(Failure::Usage)?;
    let default_root = || Path::new("reports").join(format!("mutants-{}", clock::utc_stamp()));
    let root = absolute(&args.report.clone().unwrap_or_else(default_root))?;
    if !is_free(&root) {
        return Err(Failure::Usage(format!(
            "expected a fresh report directory, found something at {}: name another one with --report",
            root.display()
        )));
    }
    let mut trials = trials(args, &table, chosen, &root)?;
    let interrupt = interruption().context("cannot listen for signals")?;
    let lanes = args.jobs.map_or_else(lanes, |jobs| jobs as usize);
    let all = trials.jobs.len();
    say(&format!("{all} runs, {lanes} side by side; the table will be in {}\n", shown(&root)));
    std::fs::create_dir_all(&root).with_context(|| format!("cannot create {}", root.display()))?;
    let (started, started_utc) = (clock::now(), clock::utc_now());
    let (mut done, mut ids, mut broken) = (0, None, None);
    let jobs = std::mem::take(&mut trials.jobs);
    let roots: Vec<_> = jobs.iter().map(|(job, _)| job.paths.root().to_owned()).collect();
    let ended = |place: usize, sighting: Sighting| {
        let row = trials.row_of[place];
        let trial = judge(&trials.expected[row], &sighting);
        done += 1;
        say(&line(&trials.rows[row].title(), &trial, done, all, clock::ms_since(started)));
        let id = sighting.summary.provenance.node.clone();
        if trials.rows[row].binary.is_some() {
            trials.rows[row].binary_id = Some(id);
        } else {
            ids.get_or_insert_with(|| (id, sighting.summary.provenance.inspector.clone()));
        }
        if trial.caught && !args.keep {
            broken = broken.take().or(inspect::remove_dir(&roots[place]).err());
        }
        // An interrupted run does not count as a trial.
        if trial.caught || !sighting.summary.interrupted || sighting.late {
            trials.rows[row].trials.push(trial);
        }
        true
    };
    side_by_side(jobs, lanes, &interrupt, ended).await?;
    if let Some(error) = broken {
        return Err(error.into());
    }
    for row in &mut trials.rows {
        row.trials.sort_by_key(|trial| trial.seed);
    }
    let elsewhere = if args.bugs.is_empty() { table.elsewhere.clone() } else { Vec::new() };
    let certificate = certificate(trials.rows, elsewhere, ids, started_utc, clock::ms_since(started));
    let text = render(&certificate);
    write(&root, &certificate, &text)?;
    output::summary(&format!("{text}table: {}/mutants.txt\n", shown(&root)));
    Ok(exit_of(&certificate, *interrupt.borrow()))
}

fn trials(args: &MutantsArgs, table: &Table, chosen: Vec<Expected>, root: &Path) -> Result<Trials, Failure> {
    let mut trials = Trials { rows: Vec::new(), expected: Vec::new(), row_of: Vec::new(), jobs: Vec::new() };
    for expected in chosen {
        let scenario = load(&table.scenario_path(&expected))?;
        let cycles = expected.cycles.unwrap_or(scenario.cycles).min(args.cycles_max);
        let seeds = args.seeds.unwrap_or_else(|| expected.seeds());
        let (node, inspector) = binaries(args, &expected)?;
        for seed in (args.first_seed..).take(seeds as usize) {
            let plan = Plan::generate(&scenario, &Seed::new(seed), cycles, 1);
            let control = expected.headline.is_empty();
            let name = if control { format!("control-{}", scenario.name) } else { expected.name.clone() };
            let on = expected.binary.as_ref().map_or_else(String::new, |binary| format!("-{}", file_name(binary)));
            let planted = !control && expected.binary.is_none();
            let with = With {
                node: Some(node.clone()),
                inspector: inspector.clone(),
                report: Some(root.join(format!("{name}{on}-seed{seed}"))),
                sabotage: planted.then(|| expected.name.clone()),
                keep: false,
            };
            let repro = format!(
                "ninelives run {} --seed {seed} --cycles {cycles}{}",
                super::word(&table.scenario_path(&expected)),
                expected.binary.as_ref().map_or_else(String::new, |_| format!(" --node {}", super::word(&node)))
            );
            let job = job(scenario.clone(), plan, &with, repro)?;
            trials.jobs.push((Job { quiet: true, ..job }, limits::MUTANT_RUN));
            trials.row_of.push(trials.rows.len());
        }
        trials.rows.push(Row::new(&expected, seeds));
        trials.expected.push(expected);
    }
    Ok(trials)
}

/// The binary of a row, and its inspector: only the node has one.
fn binaries(args: &MutantsArgs, expected: &Expected) -> Result<(PathBuf, Option<PathBuf>), Failure> {
    if let Some(program) = &expected.binary {
        let found = on_path(program).ok_or_else(|| {
            let name = &expected.name;
            Failure::Usage(format!("{name}: expected {program} to be an executable path or a name on PATH, found none"))
        });
        return Ok((found?, None));
    }
    let given_or = |given: &Option<PathBuf>, name| given.clone().map_or_else(|| beside_this_executable(name), Ok);
    Ok((given_or(&args.node, "node-under-test-sabotaged")?, Some(given_or(&args.inspector, "node-under-test")?)))
}

fn file_name(binary: &str) -> &str {
    binary.rsplit('/').next().unwrap_or(binary)
}

fn line(bug: &str, trial: &Trial, done: usize, all: usize, elapsed_ms: u64) -> String {
    let Trial { seed, class, cycles, caught, .. } = trial;
    let word = if *caught { "" } else { " (unexpected)" };
    let at = minutes_and_seconds(elapsed_ms / 1000);
    format!("{done}/{all} {at} {bug} seed {seed}: {class}{word} after {cycles} cycles\n")
}

fn certificate(
    rows: Vec<Row>,
    elsewhere: Vec<String>,
    ids: Option<(BinaryId, Option<BinaryId>)>,
    started_utc: String,
    elapsed_ms: u64,
) -> Certificate {
    let (node, inspector) = ids.unzip();
    Certificate {
        schema_version: SCHEMA_VERSION,
        holds: rows.iter().all(|row| row.lacks().is_none()),
        rows,
        elsewhere,
        median_cycles_max: limits::MUTANT_MEDIAN_CYCLES_MAX,
        cycles_max: limits::MUTANT_CYCLES_MAX,
        elapsed_ms,
        started_utc,
        node,
        inspector: inspector.flatten(),
    }
}

fn write(root: &Path, certificate: &Certificate, text: &str) -> anyhow::Result<()> {
    let json = serde_json::to_string_pretty(certificate).context("cannot encode the table")?;
    for (name, text) in [("mutants.txt", text), ("mutants.json", &json)] {
        let path = root.join(name);
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Classes in which a run without a bug can end without accusing the system.
const BLAMELESS: [&str; 3] = ["inconclusive", "harness-error", "machine-exhausted"];

fn exit_of(certificate: &Certificate, interrupted: bool) -> Exit {
    let violated = |row: &Row| {
        row.is_control() && row.trials.iter().any(|trial| !trial.caught && !BLAMELESS.contains(&trial.class.as_str()))
    };
    if certificate.rows.iter().any(violated) {
        Exit::Violation
    } else if interrupted {
        Exit::Interrupted
    } else if certificate.holds {
        Exit::Pass
    } else {
        Exit::Inconclusive
    }
}
