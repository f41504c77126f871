//! `ninelives mutants`: the detection table.

use super::subject::on_path;
use super::{Binaries, With, absolute, beside_this_executable, interruption, is_free, job, load, say, shown};
use crate::exit::{Exit, Failure};
use crate::mutants::journal::{Head, Source};
use crate::mutants::{Certificate, Expected, Journal, Row, SCHEMA_VERSION, Table, Trial, judge, page, render};
use crate::plan::Plan;
use crate::probe::{Sighting, lanes, side_by_side};
use crate::progress::minutes_and_seconds;
use crate::run::Job;
use crate::seed::Seed;
use crate::{directory, output, provenance};
use anyhow::Context;
use clap::Args;
use ninelives_evidence::record::BinaryId;
use ninelives_evidence::{clock, limits};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(Debug, Args)]
#[command(after_help = MUTANTS_EXIT_CODES)]
pub struct MutantsArgs {
    /// Tables of planted bugs and controls.
    #[arg(value_name = "TABLE", default_value = "scenarios/mutants.toml")]
    pub tables: Vec<PathBuf>,
    /// Continue the certificate in this directory: its trials stay, and those that it lacks are
    /// made. Harness, binaries and tables have to be what they were.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["tables", "bugs", "seeds", "first_seed", "cycles_max", "node", "inspector", "report"])]
    pub resume: Option<PathBuf>,
    /// Run only these bugs; `control` stands for the runs without a bug, `control-SCENARIO` for one
    /// of them.
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

/// The certificate that is asked for.
struct Asked {
    tables: Vec<PathBuf>,
    bugs: Vec<String>,
    seeds: Option<u32>,
    first_seed: u64,
    cycles_max: u32,
    node: Option<PathBuf>,
    inspector: Option<PathBuf>,
}

impl Asked {
    fn by(args: &MutantsArgs) -> Result<Self, Failure> {
        Ok(Self {
            tables: args.tables.iter().map(|table| absolute(table)).collect::<Result<_, _>>()?,
            bugs: args.bugs.clone(),
            seeds: args.seeds,
            first_seed: args.first_seed,
            cycles_max: args.cycles_max,
            node: args.node.clone(),
            inspector: args.inspector.clone(),
        })
    }

    fn again(head: &Head) -> Self {
        let path = |source: &Option<Source>| source.as_ref().map(|source| source.path.clone());
        Self {
            tables: head.tables.iter().map(|table| table.path.clone()).collect(),
            bugs: head.bugs.clone(),
            seeds: head.seeds,
            first_seed: head.first_seed,
            cycles_max: head.cycles_max,
            node: path(&head.node),
            inspector: path(&head.inspector),
        }
    }

    /// The head of its journal, with digests as they are now.
    fn head(&self, chosen: &[Expected]) -> Result<Head, Failure> {
        let source = |path: &Path| -> Result<Source, Failure> {
            let path = absolute(path)?;
            Ok(Source { sha256: provenance::digest(&path)?, path })
        };
        let planted = chosen.iter().find(|expected| expected.binary.is_none());
        let (node, inspector) = match planted {
            Some(expected) => {
                let (node, inspector) = binaries(self, expected)?;
                (Some(source(&node)?), inspector.map(|path| source(&path)).transpose()?)
            }
            None => (None, None),
        };
        Ok(Head {
            schema_version: SCHEMA_VERSION,
            tables: self.tables.iter().map(|table| source(table)).collect::<Result<_, _>>()?,
            bugs: self.bugs.clone(),
            seeds: self.seeds,
            first_seed: self.first_seed,
            cycles_max: self.cycles_max,
            node,
            inspector,
            harness: provenance::own_build(),
        })
    }
}

/// The runs to be made.
struct Trials {
    rows: Vec<Row>,
    expected: Vec<Expected>,
    /// By run: its row, and its name.
    of: Vec<(usize, String)>,
    jobs: Vec<(Job, Duration)>,
}

/// A certificate that was begun or continued.
struct Begun {
    root: PathBuf,
    journal: Journal,
    head: Head,
    /// Bugs of the tables that have no row here.
    elsewhere: Vec<String>,
    trials: Trials,
}

fn begin(args: &MutantsArgs) -> Result<Begun, Failure> {
    let default_root = || Path::new("reports").join(format!("mutants-{}", clock::utc_stamp()));
    let root = absolute(&args.report.clone().unwrap_or_else(default_root))?;
    if !is_free(&root) {
        return Err(Failure::Usage(format!(
            "expected a fresh report directory, found something at {}: name another one with --report, or continue a certificate \
             with --resume",
            root.display()
        )));
    }
    let asked = Asked::by(args)?;
    let (table, chosen) = chosen(&asked)?;
    let trials = trials(&asked, chosen.clone(), &root, &BTreeMap::new())?;
    let head = asked.head(&chosen)?;
    std::fs::create_dir_all(&root).with_context(|| format!("cannot create {}", root.display()))?;
    let journal = Journal::begin(&root.join(JOURNAL), &head)?;
    Ok(Begun { root, journal, head, elsewhere: elsewhere(&asked, table), trials })
}

fn go_on(root: &Path) -> Result<Begun, Failure> {
    let root = absolute(root)?;
    let path = root.join(JOURNAL);
    let (journal, head, entries) = Journal::go_on(&path).map_err(|error| Failure::Usage(format!("{error:#}")))?;
    let asked = Asked::again(&head);
    let (table, chosen) = chosen(&asked)?;
    let differs = |why| Failure::Usage(format!("{}: {why}", path.display()));
    head.stands_for(&asked.head(&chosen)?).map_err(differs)?;
    let done = entries.into_iter().map(|entry| (entry.run, entry.trial)).collect();
    let trials = trials(&asked, chosen, &root, &done)?;
    Ok(Begun { root, journal, head, elsewhere: elsewhere(&asked, table), trials })
}

fn chosen(asked: &Asked) -> Result<(Table, Vec<Expected>), Failure> {
    let table = Table::load_all(&asked.tables).map_err(Failure::Usage)?;
    let chosen = table.select(&asked.bugs).map_err(Failure::Usage)?;
    Ok((table, chosen))
}

fn elsewhere(asked: &Asked, table: Table) -> Vec<String> {
    if asked.bugs.is_empty() { table.elsewhere } else { Vec::new() }
}

const JOURNAL: &str = "trials.jsonl";

pub(super) async fn mutants(args: &MutantsArgs) -> Result<Exit, Failure> {
    let begun = args.resume.as_ref().map_or_else(|| begin(args), |root| go_on(root))?;
    let Begun { root, mut journal, head, elsewhere, mut trials } = begun;
    let interrupt = interruption().context("cannot listen for signals")?;
    let lanes = args.jobs.map_or_else(lanes, |jobs| jobs as usize);
    let all = trials.jobs.len();
    say(&format!("{all} runs, {lanes} side by side; the table will be in {}\n", shown(&root)));
    let (started, started_utc) = (clock::now(), clock::utc_now());
    let (mut done, mut ids, mut broken) = (0, None, None);
    let jobs = std::mem::take(&mut trials.jobs);
    let roots: Vec<_> = jobs.iter().map(|(job, _)| job.paths.root().to_owned()).collect();
    let ended = |place: usize, sighting: Sighting| {
        let (row, run) = &trials.of[place];
        let row = *row;
        let trial = judge(&trials.expected[row], &sighting);
        done += 1;
        say(&line(&trials.rows[row].title(), &trial, done, all, clock::ms_since(started)));
        let id = sighting.summary.provenance.node.clone();
        if trials.rows[row].binary.is_some() {
            trials.rows[row].binary_id = Some(id);
        } else {
            ids.get_or_insert_with(|| (id, sighting.summary.provenance.inspector.clone()));
        }
        // An interrupted run does not count as a trial.
        if trial.caught || !sighting.summary.interrupted || sighting.late {
            broken = broken.take().or(journal.add(run, &trial).err());
            if trial.caught && !args.keep {
                broken = broken.take().or(directory::remove(&roots[place]).err());
            }
            trials.rows[row].trials.push(trial);
        }
        broken.is_none()
    };
    side_by_side(jobs, lanes, &interrupt, ended).await?;
    if let Some(error) = broken {
        return Err(error.into());
    }
    for row in &mut trials.rows {
        row.trials.sort_by_key(|trial| trial.seed);
    }
    let (node, inspector) = ids.unzip();
    let certificate = Certificate {
        schema_version: SCHEMA_VERSION,
        holds: trials.rows.iter().all(|row| row.lacks().is_none()),
        rows: trials.rows,
        elsewhere,
        tables: head.tables.clone(),
        median_cycles_max: limits::MUTANT_MEDIAN_CYCLES_MAX,
        cycles_max: limits::MUTANT_CYCLES_MAX,
        elapsed_ms: clock::ms_since(started),
        harness_cpu_ms: clock::process_time().map_or(0, clock::ms),
        started_utc,
        harness: head.harness,
        node: node.or_else(|| head.node.map(unread)),
        inspector: inspector.flatten().or_else(|| head.inspector.map(unread)),
    };
    let text = render(&certificate);
    write(&root, &certificate, &text)?;
    output::summary(&format!("{text}certificate: {}/certificate.html\n", shown(&root)));
    Ok(exit_of(&certificate, *interrupt.borrow()))
}

/// A binary that no run of this command has asked for its version.
fn unread(source: Source) -> BinaryId {
    BinaryId { path: source.path.display().to_string(), sha256: source.sha256, version: None }
}

fn trials(
    asked: &Asked,
    chosen: Vec<Expected>,
    root: &Path,
    done: &BTreeMap<String, Trial>,
) -> Result<Trials, Failure> {
    let mut trials = Trials { rows: Vec::new(), expected: Vec::new(), of: Vec::new(), jobs: Vec::new() };
    for expected in chosen {
        let path = expected.scenario_path();
        let scenario = load(&path)?;
        let cycles = expected.cycles.unwrap_or(scenario.cycles).min(asked.cycles_max);
        let seeds = asked.seeds.unwrap_or_else(|| expected.seeds());
        let (node, inspector) = binaries(asked, &expected)?;
        let mut row = Row::new(&expected, seeds);
        for seed in (asked.first_seed..).take(seeds as usize) {
            let name = expected.run_name();
            let on = expected.binary.as_ref().map_or_else(String::new, |binary| format!("-{}", file_name(binary)));
            let run = format!("{name}{on}-seed{seed}");
            if let Some(trial) = done.get(&run) {
                row.trials.push(trial.clone());
                continue;
            }
            let report = root.join(&run);
            // Left by a command that was killed while it made this run.
            if report.exists() {
                directory::remove(&report)?;
            }
            let plan = Plan::generate(&scenario, &Seed::new(seed), cycles, 1);
            let planted = !expected.is_control() && expected.binary.is_none();
            let with = With {
                binaries: Binaries { node: Some(node.clone()), inspector: inspector.clone() },
                report: Some(report),
                sabotage: planted.then(|| expected.name.clone()),
                keep: false,
            };
            let repro = format!(
                "ninelives run {} --seed {seed} --cycles {cycles}{}",
                super::word(&path),
                expected.binary.as_ref().map_or_else(String::new, |_| format!(" --node {}", super::word(&node)))
            );
            let job = job(scenario.clone(), plan, &with, repro)?;
            trials.jobs.push((Job { quiet: true, ..job }, limits::MUTANT_RUN));
            trials.of.push((trials.rows.len(), run));
        }
        trials.rows.push(row);
        trials.expected.push(expected);
    }
    Ok(trials)
}

/// The binary of a row, and its inspector: only the node has one.
fn binaries(asked: &Asked, expected: &Expected) -> Result<(PathBuf, Option<PathBuf>), Failure> {
    if let Some(program) = &expected.binary {
        let found = on_path(program).ok_or_else(|| {
            let name = &expected.name;
            Failure::Usage(format!("{name}: expected {program} to be an executable path or a name on PATH, found none"))
        });
        return Ok((found?, None));
    }
    let given_or = |given: &Option<PathBuf>, name| given.clone().map_or_else(|| beside_this_executable(name), Ok);
    Ok((given_or(&asked.node, "node-under-test-sabotaged")?, Some(given_or(&asked.inspector, "node-under-test")?)))
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

fn write(root: &Path, certificate: &Certificate, text: &str) -> anyhow::Result<()> {
    let json = serde_json::to_string_pretty(certificate).context("cannot encode the table")?;
    for (name, text) in
        [("mutants.txt", text), ("certificate.json", json.as_str()), ("certificate.html", &page(certificate))]
    {
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
