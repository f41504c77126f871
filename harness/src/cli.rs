//! The command line: arguments become a [`Job`], and its result a few lines and an exit code.

mod doctor;
mod export;
mod mutants;
mod replay;
mod resume;
mod shrink;
mod signals;
pub mod subject;
mod verify;

use crate::exit::{Exit, Failure};
use crate::output::{product, say};
use crate::paths::Paths;
use crate::plan::Plan;
use crate::report::grid::Grid;
use crate::report::split::Split;
use crate::report::worth::Worth;
use crate::run::{self, Job};
use crate::scenario::Scenario;
use crate::seed::Seed;
use crate::subject::Target;
use crate::{output, provenance, report, shell};
use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use ninelives_evidence::record::RunSummary;
use ninelives_evidence::{clock, limits};
use signals::interruption;
use std::path::{Path, PathBuf};

/// Crash-consistency gate for replicated stores: kills real nodes on a seeded schedule and proves
/// after every restart that nothing diverged.
#[derive(Debug, Parser)]
#[command(version, about, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 pass, 1 violation, 2 inconclusive, 3 liveness, 64 usage or bad scenario, \
                          70 the harness failed, 130 interrupted, resumable";

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a scenario and write a report.
    Run(RunArgs),
    /// Print the schedule of faults that a scenario and a seed make.
    Plan(PlanArgs),
    /// Run a report's stored plan again, once or many times.
    Replay(replay::ReplayArgs),
    /// Judge a report's stored evidence again, offline, without a cluster or a node binary.
    Verify(verify::VerifyArgs),
    /// Find the smallest plan and load that still fail as a report did.
    Shrink(shrink::ShrinkArgs),
    /// Write a run's history in a format that other checkers read.
    Export(export::ExportArgs),
    /// Run planted bugs until each is caught, to show that the harness has teeth.
    Mutants(mutants::MutantsArgs),
    /// Say what this machine lets a run inject, and what would change that.
    Doctor(doctor::DoctorArgs),
}

#[derive(Debug, Args)]
pub struct RunArgs {
    /// Scenario file, for example scenarios/smoke.toml.
    #[arg(required_unless_present = "resume")]
    pub scenario: Option<PathBuf>,
    /// Continue the run of this report, whose harness was killed or interrupted. Its members died
    /// with it, which counts as a kill of them all. At most one cycle is run again.
    #[arg(long, value_name = "REPORT_DIR", conflicts_with_all = ["scenario", "seed", "cycles", "sweep", "clusters", "report", "sabotage"])]
    pub resume: Option<PathBuf>,
    /// Seed of all random choices [default: from the clock; it is printed].
    #[arg(long)]
    pub seed: Option<u64>,
    #[command(flatten)]
    pub size: Size,
    #[command(flatten)]
    pub with: With,
}

#[derive(Debug, Args)]
pub struct PlanArgs {
    /// Scenario file, for example scenarios/gate.toml.
    pub scenario: PathBuf,
    /// Seed of all random choices.
    #[arg(long)]
    pub seed: u64,
    #[command(flatten)]
    pub size: Size,
}

/// The length of a plan, and the clusters that share it.
#[derive(Debug, Args)]
pub struct Size {
    /// Number of cycles [default: the scenario's].
    #[arg(long, conflicts_with = "sweep", value_parser = clap::value_parser!(u32).range(1..=i64::from(limits::CYCLES_MAX)))]
    pub cycles: Option<u32>,
    /// Draw nothing: kill at every window of the scenario, at a first and a later pass, in each
    /// role that passes it.
    #[arg(long)]
    pub sweep: bool,
    /// Clusters that share the cycles and run side by side: a number, or `auto` for as many as this
    /// machine's cores can carry.
    #[arg(long, default_value = "1", value_parser = clusters)]
    pub clusters: u32,
}

/// The programs of a run.
#[derive(Debug, Clone, Default, Args)]
pub struct Binaries {
    /// Node binary, or the server's [default: `node-under-test` beside this executable, or what the
    /// scenario's `[target]` names].
    #[arg(long)]
    pub node: Option<PathBuf>,
    /// Binary that reads the data directories of dead members [default: the node binary].
    #[arg(long)]
    pub inspector: Option<PathBuf>,
}

/// Options of both runs and replays.
#[derive(Debug, Clone, Args)]
pub struct With {
    #[command(flatten)]
    pub binaries: Binaries,
    /// Report directory, which must be absent or empty [default: reports/SCENARIO-seedN-STAMP].
    #[arg(long)]
    pub report: Option<PathBuf>,
    /// Bug to plant in every node; needs a node binary that was built with planted bugs.
    #[arg(long)]
    pub sabotage: Option<String>,
    /// Keep the members' data directories even after a pass.
    #[arg(long)]
    pub keep: bool,
}

/// Carries out the command.
pub async fn dispatch(cli: Cli) -> Result<Exit, Failure> {
    match cli.command {
        Command::Plan(args) => plan(&args),
        Command::Run(args) => {
            let job = run_job(&args)?;
            carry_out(job).await
        }
        Command::Replay(args) => replay::replay(&args).await,
        Command::Verify(args) => verify::verify(&args),
        Command::Shrink(args) => shrink::shrink(&args).await,
        Command::Export(args) => export::export(&args),
        Command::Mutants(args) => mutants::mutants(&args).await,
        Command::Doctor(args) => doctor::doctor(&args).await,
    }
}

fn plan(args: &PlanArgs) -> Result<Exit, Failure> {
    let scenario = load(&args.scenario)?;
    let plan = plan_of(args.size.sweep, &scenario, &Seed::new(args.seed), args.size.cycles, args.size.clusters);
    product(&plan.to_string())?;
    Ok(Exit::Pass)
}

fn plan_of(sweep: bool, scenario: &Scenario, seed: &Seed, cycles: Option<u32>, clusters: u32) -> Plan {
    match sweep {
        true => Plan::sweep(scenario, seed, clusters),
        false => Plan::generate(scenario, seed, cycles.unwrap_or(scenario.cycles), clusters),
    }
}

/// The value of `--clusters`.
///
/// # Errors
/// What was expected instead.
pub fn clusters(text: &str) -> Result<u32, String> {
    let max = limits::CLUSTERS_MAX;
    if text == "auto" {
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
        return Ok(((f64::from(cores) * limits::CLUSTERS_PER_CORE) as u32).clamp(1, max));
    }
    let given = text.parse().ok().filter(|clusters| (1..=max).contains(clusters));
    given.ok_or_else(|| format!("expected 1 to {max}, or `auto`"))
}

fn run_job(args: &RunArgs) -> Result<Job, Failure> {
    if let Some(report_dir) = &args.resume {
        return resume::job(report_dir, &args.with);
    }
    let Some(path) = &args.scenario else {
        return Err(Failure::Usage("expected a scenario, found none".to_owned()));
    };
    let scenario = load(path)?;
    let seed = Seed::new(args.seed.unwrap_or_else(clock::seed_from_time));
    let plan = plan_of(args.size.sweep, &scenario, &seed, args.size.cycles, args.size.clusters);
    let mut repro = format!("ninelives run {} --seed {}", word(path), seed.root());
    if args.size.sweep {
        repro.push_str(" --sweep");
    }
    if let Some(cycles) = args.size.cycles {
        repro.push_str(&format!(" --cycles {cycles}"));
    }
    if args.size.clusters > 1 {
        repro.push_str(&format!(" --clusters {}", args.size.clusters));
    }
    let mut job = job(scenario, plan, &args.with, repro)?;
    if args.size.sweep {
        job.sweep = true;
        job.quotas = job.plan.cells();
    }
    Ok(job)
}

/// Reads the stored verdict; `None`, with a note, if the run ended before it wrote one.
fn verdict_before(stored: &Paths) -> Result<Option<RunSummary>, Failure> {
    match report::read(stored) {
        Ok(run) => Ok(Some(run)),
        Err(report::Error::Io { path, source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            say(&format!(
                "note: {} is missing, so the binaries cannot be compared; name a planted bug with --sabotage\n",
                path.display()
            ));
            Ok(None)
        }
        Err(error) => Err(Failure::Usage(error.to_string())),
    }
}

/// Warns if a binary differs from the report's: that alone can keep the failure from coming back.
fn compare_binaries(before: &RunSummary, target: &Target) -> Result<(), Failure> {
    let inspectors =
        before.provenance.inspector.as_ref().zip(target.inspector()).map(|(then, now)| ("inspector", then, now));
    for (name, then, path) in [("node", &before.provenance.node, target.binary())].into_iter().chain(inspectors) {
        let now = provenance::digest(path)?;
        if now != then.sha256 {
            say(&format!(
                "note: this {name} binary is not the one of the report\n  then {}  {}\n  now  {now}  {}\n",
                then.sha256,
                then.path,
                path.display()
            ));
        }
    }
    Ok(())
}

fn job(scenario: Scenario, plan: Plan, with: &With, repro: String) -> Result<Job, Failure> {
    let default_report = || {
        let name = format!("{}-seed{}-{}", scenario.name, plan.seed, clock::utc_stamp());
        Path::new("reports").join(name)
    };
    let paths = Paths::new(absolute(&with.report.clone().unwrap_or_else(default_report))?);
    if !is_free(paths.root()) {
        return Err(Failure::Usage(format!(
            "expected a fresh report directory, found something at {}: name another one with --report",
            paths.root().display()
        )));
    }
    job_in(paths, scenario, plan, with, repro)
}

/// Like [`job`], with a report directory that may hold something.
fn job_in(paths: Paths, scenario: Scenario, plan: Plan, with: &With, mut repro: String) -> Result<Job, Failure> {
    for (flag, value) in [("--node", &with.binaries.node), ("--inspector", &with.binaries.inspector)] {
        if let Some(value) = value {
            repro.push_str(&format!(" {flag} {}", word(value)));
        }
    }
    if let Some(bug) = &with.sabotage {
        repro.push_str(&format!(" --sabotage {bug}"));
    }
    let target = subject::target(&scenario, with)?;
    if let Some(why) = plan.misfit(&scenario) {
        return Err(Failure::Usage(format!("the plan does not fit its scenario: {why}")));
    }
    let cycles = plan.steps.len() as u32;
    let quotas = scenario.quotas.iter().filter_map(|quota| quota.share(cycles, scenario.cycles)).collect();
    Ok(Job { quotas, sweep: false, scenario, plan, target, paths, keep: with.keep, resume: false, repro, quiet: false })
}

/// Whether `path` does not exist or is an empty directory.
fn is_free(path: &Path) -> bool {
    match std::fs::read_dir(path) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}

async fn carry_out(job: Job) -> Result<Exit, Failure> {
    let interrupt = interruption().context("cannot listen for signals")?;
    let (name, seed, steps) = (&job.scenario.name, job.plan.seed, job.plan.steps.len());
    say(&format!(
        "{name}: seed {seed}, {steps} cycles, {}{} members ({}); report in {}\n",
        if job.plan.clusters > 1 { format!("{} clusters of ", job.plan.clusters) } else { String::new() },
        job.scenario.cluster.members,
        job.scenario.backend(),
        shown(job.paths.root())
    ));
    let (summary, exit) = run::run(&job, interrupt).await?;
    output::summary(&ending(&job, &summary, exit));
    Ok(exit)
}

/// The last lines: findings, the verdict and its worth, and the command to paste next.
fn ending(job: &Job, summary: &RunSummary, exit: Exit) -> String {
    let mut text = found(summary);
    text.push_str(&verdict_line(summary, exit));
    for line in worth_lines(job, summary) {
        text.push_str(&line);
        text.push('\n');
    }
    text.push_str(&next_commands(job, summary, exit));
    text
}

/// Findings, and where they begin.
fn found(summary: &RunSummary) -> String {
    let mut text = String::new();
    for finding in summary.findings.iter().take(limits::FINDINGS_PRINTED_MAX) {
        text.push_str(&format!("{finding}\n"));
    }
    if summary.findings.len() > limits::FINDINGS_PRINTED_MAX {
        text.push_str(&format!("… and {} more findings\n", summary.findings.len() - limits::FINDINGS_PRINTED_MAX));
    }
    if let Some(found) = &summary.localisation {
        text.push_str(&found.text());
    }
    if let Some(found) = &summary.missing_sync {
        text.push_str(&report::missing_sync::text(found));
    }
    text
}

fn verdict_line(summary: &RunSummary, exit: Exit) -> String {
    let word_of_exit = if exit == Exit::Interrupted { "interrupted".to_owned() } else { summary.verdict.to_string() };
    format!(
        "{word_of_exit}{}: {} of {} cycles, {}, {}, {}, in {}.{} s\n",
        report::suppressed::beside_the_verdict(summary),
        summary.cycles.len(),
        summary.plan.cycles,
        report::worth::landed(summary),
        bite(summary),
        writes(summary),
        summary.elapsed_ms / 1000,
        summary.elapsed_ms % 1000 / 100,
    )
}

/// What the run is worth, a line for each thing that it met.
fn worth_lines(job: &Job, summary: &RunSummary) -> Vec<String> {
    let mut lines = Vec::new();
    lines.extend(Split::of(summary).map(|split| split.sentence()));
    lines.extend(summary.pace.map(|pace| format!("machine: {}", pace.sentence())));
    lines.extend(report::refused::line(summary));
    let worth = Worth::of(summary);
    let grid = Grid::of(summary, &worth);
    let tables = [job.sweep.then(|| grid.text()), Some(grid.files_text())];
    let tables = tables.into_iter().flatten().filter(|table| !table.is_empty());
    lines.extend(tables.map(|table| table.trim_end().to_owned()));
    if grid.is_planned() || !summary.is_opaque() {
        lines.push(format!("crash windows: {}", grid.sentence()));
    }
    lines.extend(report::missing_sync::explored(summary));
    lines.extend(summary.crowd.iter().flat_map(|crowd| crowd.sentences()).map(|line| format!("crowd: {line}")));
    lines.extend(summary.hostile.iter().map(|hostile| format!("hostile peers: {}", hostile.sentence())));
    lines.extend(summary.strangers.iter().map(|strangers| format!("strangers: {}", strangers.sentence())));
    lines.extend(summary.resumed.iter().map(|death| {
        let (cluster, cycle) = (death.cluster, death.after_cycle);
        format!("resumed: cluster {cluster} after cycle {cycle}; the harness died, which killed all members")
    }));
    lines.extend(report::suppressed::lines(summary));
    lines.extend(summary.skipped_checks.iter().map(|check| format!("skipped check: {check}")));
    lines
}

/// The report, and the commands to paste next.
fn next_commands(job: &Job, summary: &RunSummary, exit: Exit) -> String {
    let root = shown(job.paths.root());
    let mut text = format!("report: {root}/report.html\n");
    match exit {
        Exit::Pass => {}
        Exit::Interrupted => {
            text.push_str(&format!("continue it: ninelives run --resume {root}\nrun it again: {}\n", summary.repro));
        }
        _ => text.push_str(&format!("replay it: {}\n", replay_command("replay", &root, &job.target))),
    }
    if matches!(exit, Exit::Violation | Exit::Liveness) {
        text.push_str(&format!("make it small: {}\n", replay_command("shrink", &root, &job.target)));
    }
    text
}

/// The effect of the kills: `120 entries lost, 90 replayed`.
fn bite(run: &RunSummary) -> String {
    if run.is_opaque() {
        return format!("{} entries to catch up with", run.behind());
    }
    format!("{} entries lost, {} replayed", run.lost_entries(), run.replayed())
}

/// `2490 writes acknowledged (201 per second of load), 1.2 % unknown`.
fn writes(run: &RunSummary) -> String {
    let rate = run.writes_per_second().map_or_else(String::new, |rate| format!(" ({rate} per second of load)"));
    format!("{} writes acknowledged{rate}, {} unknown", run.load.acked_writes, report::percent(run.unknown_share()))
}

/// A command to paste; it names the inspector if that is not the node binary.
fn replay_command(what: &str, root: &str, target: &Target) -> String {
    let mut command = format!("ninelives {what} {root} --node {}", word(target.binary()));
    if let Some(inspector) = target.inspector().filter(|inspector| *inspector != target.binary()) {
        command.push_str(&format!(" --inspector {}", word(inspector)));
    }
    command
}

fn load(path: &Path) -> Result<Scenario, Failure> {
    Scenario::load(path).map_err(|refusal| Failure::Usage(refusal.to_string()))
}

fn beside_this_executable(name: &str) -> Result<PathBuf, Failure> {
    let own = std::env::current_exe().context("cannot find this executable")?;
    Ok(own.with_file_name(name))
}

/// Makes `path` absolute, because nodes may run in another directory.
fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    Ok(std::path::absolute(path).with_context(|| format!("cannot make {} absolute", path.display()))?)
}

/// `path` as a person in the current directory would type it.
fn shown(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    word(path.strip_prefix(here).unwrap_or(path))
}

/// `path` as one word of a shell command.
fn word(path: &Path) -> String {
    shell::quote(&path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn a_missing_node_binary_is_named_with_what_to_do() {
        let scenario = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/smoke.toml");
        let with = With {
            binaries: Binaries { node: Some("/nonexistent/node".into()), inspector: None },
            report: None,
            sabotage: None,
            keep: false,
        };
        let failure = run_job(&RunArgs {
            scenario: Some(scenario),
            resume: None,
            seed: Some(1),
            size: Size { cycles: None, sweep: false, clusters: 1 },
            with,
        })
        .unwrap_err();
        assert_eq!(failure.exit(), Exit::Usage);
        let text = failure.to_string();
        assert!(text.contains("/nonexistent/node") && text.contains("--node") && text.contains("make build"), "{text}");
    }

    #[test]
    fn commands_to_paste_survive_a_shell() {
        assert_eq!(word(Path::new("reports/gate-seed7")), "reports/gate-seed7");
        assert_eq!(word(Path::new("my runs/it's")), r"'my runs/it'\''s'");
    }
}
