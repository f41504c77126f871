//! `ninelives shrink`: turns a failing report into a small one that fails in the same class.

use super::replay::Stored;
use super::{Binaries, With, absolute, interruption, is_free, say, shown, word};
use crate::exit::{Exit, Failure};
use crate::paths::Paths;
use crate::plan::Plan;
use crate::probe::{headline, lanes};
use crate::progress::minutes_and_seconds;
use crate::run::Job;
use crate::scenario::Scenario;
use crate::shrink::prober::Confirmed;
use crate::shrink::progress::size;
use crate::shrink::{Budget, Candidate, Prober, Shrunk, minimise};
use crate::{output, report};
use anyhow::Context;
use clap::Args;
use ninelives_evidence::limits;
use ninelives_evidence::record::RunSummary;
use ninelives_evidence::verdict::{Class, Finding, Verdict};
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(Debug, Args)]
pub struct ShrinkArgs {
    /// Report directory of a run that failed.
    pub report_dir: PathBuf,
    /// Class that has to come back [default: the one that heads the report].
    #[arg(long, value_parser = class)]
    pub class: Option<Class>,
    /// Most minutes to spend.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=i64::from(limits::SHRINK_MINUTES_MAX)))]
    pub minutes: u32,
    /// Most runs of the search.
    #[arg(long, default_value_t = limits::SHRINK_PROBES)]
    pub probes: u32,
    /// Runs side by side [default: up to 2, as this machine's cores can carry].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=limits::LANES_MAX as i64))]
    pub jobs: Option<u32>,
    #[command(flatten)]
    pub binaries: Binaries,
    /// Directory for the small report [default: REPORT_DIR/shrunk].
    #[arg(long)]
    pub report: Option<PathBuf>,
    /// Bug to plant in every node [default: the report's].
    #[arg(long)]
    pub sabotage: Option<String>,
}

/// The failure that has to come back.
struct Failed {
    finding: Finding,
    elapsed_ms: u64,
}

pub(super) async fn shrink(args: &ShrinkArgs) -> Result<Exit, Failure> {
    let stored = Stored::open(&args.report_dir)?;
    let failed = failed(stored.before.as_ref(), &args.report_dir)?;
    let class = args.class.unwrap_or(failed.finding.class());
    let out = absolute(&args.report.clone().unwrap_or_else(|| args.report_dir.join("shrunk")))?;
    let probes_dir = beside(&out);
    if !is_free(&probes_dir) {
        return Err(Failure::Usage(format!(
            "expected nothing at {}, found the rest of a shrinker that was killed: remove it",
            probes_dir.display()
        )));
    }
    let with = With {
        binaries: args.binaries.clone(),
        report: Some(out.clone()),
        sabotage: args.sabotage.clone(),
        keep: false,
    };
    // The command that repeats the small report's run.
    let base = stored.job(stored.plan.clone(), &with, format!("ninelives replay {}", word(&out)))?;
    let start = start(&stored, &failed.finding, class, &out)?;
    let interrupt = interruption().context("cannot listen for signals")?;
    say(&format!(
        "shrinking {class} of {}: {} of {} steps lead to it; the small report will be in {}\n",
        shown(&args.report_dir),
        start.steps().len(),
        stored.plan.steps.len(),
        shown(&out)
    ));
    let budget = Budget { total: Duration::from_secs(u64::from(args.minutes) * 60), probes: args.probes };
    let lanes = args.jobs.map_or_else(|| lanes().min(2), |jobs| jobs as usize);
    let mut prober =
        Prober::new(base.clone(), class, failed.elapsed_ms, &probes_dir, lanes, budget, interrupt.clone())?;
    let rate = prober.measure(&start).await?;
    if rate.hits == 0 {
        say(&format!(
            "{class} did not come back in {} runs of the plan up to the cycle that failed (instead: {}): nothing to shrink\n\
             count how often it does: {} --times 20\n\
             to shrink another class, name it with --class\n",
            rate.tries,
            prober.instead(),
            super::replay_command("replay", &shown(&args.report_dir), &base.target)
        ));
        return Ok(if *interrupt.borrow() { Exit::Interrupted } else { Exit::Inconclusive });
    }
    let shrunk = minimise(start, async |candidate: &Candidate| prober.ask(candidate).await).await;
    if let Some(error) = prober.take_failure() {
        return Err(error.into());
    }
    let confirmed = prober.confirm(&shrunk).await?;
    let small = install(&confirmed, &base, &out)?;
    let text = ending(&stored, &shrunk, &confirmed, &prober, &base, class);
    output::summary(&text);
    Ok(if *interrupt.borrow() && !shrunk.complete { Exit::Interrupted } else { exit_of(&small) })
}

/// A small report that fails is this command's success.
fn exit_of(small: &RunSummary) -> Exit {
    match small.verdict {
        Verdict::Violation | Verdict::Liveness => Exit::Pass,
        verdict => verdict.into(),
    }
}

/// A class by its name.
fn class(name: &str) -> Result<Class, String> {
    serde_json::from_value(serde_json::Value::from(name)).map_err(|error| error.to_string())
}

/// The finding that heads the report.
fn failed(before: Option<&RunSummary>, dir: &Path) -> Result<Failed, Failure> {
    let nothing = |found: &str| {
        Failure::Usage(format!(
            "expected a report of a run that failed in {}, found {found}: nothing to shrink",
            dir.display()
        ))
    };
    let before = before.ok_or_else(|| nothing("no verdict.json"))?;
    let finding = before.findings.first().filter(|_| headline(before).is_some());
    match finding {
        Some(finding) if finding.class() == Class::HarnessError => Err(nothing("a harness that failed")),
        Some(finding) if finding.class() == Class::MachineExhausted => Err(nothing("a machine that was exhausted")),
        Some(finding) => Ok(Failed { finding: finding.clone(), elapsed_ms: before.elapsed_ms }),
        None => Err(nothing(&format!("the verdict {}", before.verdict))),
    }
}

/// The plan up to the cycle that failed, of the cluster that failed, on its scenario with a word
/// about where it comes from.
fn start(stored: &Stored, finding: &Finding, class: Class, out: &Path) -> Result<Candidate, Failure> {
    let cluster = finding.cluster.unwrap_or(1);
    let steps = stored.plan.steps_of(cluster).filter(|step| finding.cycle.is_none_or(|cycle| step.cycle <= cycle));
    let steps: Vec<_> = steps.cloned().collect();
    let cycles = steps.last().map_or(stored.plan.cycles, |step| step.cycle);
    let plan = Plan { steps, cycles, clusters: 1, ..stored.plan.clone() };
    let when = finding.cycle.map_or_else(|| "in its last read".to_owned(), |cycle| format!("in cycle {cycle}"));
    let text = format!(
        "# Shrunk from {} (SHA-256 {}), seed {}, which failed {when} as {class}. Shrinking removed\n\
         # what this failure does not need. The weights were not used; the plan beside this file was run.\n\n{}",
        stored.plan.scenario, stored.plan.scenario_digest, stored.plan.seed, stored.scenario.text
    );
    let path = Paths::new(out).scenario_toml();
    let scenario = Scenario::parse(&path, text).map_err(|refusal| Failure::Usage(refusal.to_string()))?;
    Candidate::new(scenario, plan).map_err(Failure::Usage)
}

/// The directory for the reports of probes: beside the small report, so that one of them becomes
/// the small report by a rename.
fn beside(out: &Path) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(".probes");
    name.into()
}

/// Makes the report of the confirmed candidate's last failing run the small report.
fn install(confirmed: &Confirmed, base: &Job, out: &Path) -> Result<RunSummary, Failure> {
    // An empty directory may stand there.
    let _ = std::fs::remove_dir(out);
    std::fs::rename(&confirmed.evidence, out)
        .with_context(|| format!("cannot rename {} to {}", confirmed.evidence.display(), out.display()))?;
    let paths = Paths::new(out);
    let small = report::read(&paths).map_err(anyhow::Error::from)?;
    let small = RunSummary { repro: base.repro.clone(), ..small };
    // Its files name the directory that they are in.
    report::write(&paths, &small).map_err(anyhow::Error::from)?;
    Ok(small)
}

fn ending(
    stored: &Stored,
    shrunk: &Shrunk,
    confirmed: &Confirmed,
    prober: &Prober,
    base: &Job,
    class: Class,
) -> String {
    let Confirmed { candidate, rate, unreliable, .. } = confirmed;
    let mut text = String::new();
    for (steps, faults, rate) in unreliable {
        text.push_str(&format!(
            "not taken: {steps} steps, {faults} faults, which came back in {} of {} runs only\n",
            rate.hits, rate.tries
        ));
    }
    for why in &shrunk.refused {
        text.push_str(&format!("not tried: {why}\n"));
    }
    if !shrunk.complete {
        text.push_str("the search ended before it had tried everything: more --minutes may make it smaller still\n");
    }
    let before = Candidate::new(stored.scenario.clone(), stored.plan.clone());
    let before = before.map_or_else(|_| format!("{} steps", stored.plan.steps.len()), |before| size(&before));
    let confirmed = match rate.tries {
        0 => format!("{class} came back in the search, and was not confirmed by further runs"),
        tries => format!("{} of {tries} confirming runs ended as {class} again", rate.hits),
    };
    text.push_str(&format!(
        "before: {before}\nafter:  {}\n{confirmed}; {} probes in {} min\n",
        size(candidate),
        prober.probes(),
        minutes_and_seconds(prober.elapsed().as_secs())
    ));
    for step in candidate.steps() {
        text.push_str(&format!("  {step}\n"));
    }
    let root = shown(base.paths.root());
    text.push_str(&format!("report: {root}/report.html\n"));
    text.push_str(&format!("replay it: {} --times 20\n", super::replay_command("replay", &root, &base.target)));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn only_a_failure_of_the_system_is_shrunk() {
        let dir = Path::new("r");
        let refused =
            |run: Option<&RunSummary>| failed(run, dir).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(refused(None).contains("no verdict.json"));
        assert!(refused(Some(&sample::run())).contains("the verdict pass"));
        let mut broken = sample::failing();
        assert!(failed(Some(&broken), dir).is_ok());
        broken.findings = vec![Finding::of_class(Class::HarnessError)];
        assert!(refused(Some(&broken)).contains("a harness that failed"));
    }

    #[test]
    fn a_class_is_known_by_its_name() {
        assert_eq!(class("purged-above-n"), Ok(Class::PurgedAboveN));
        assert!(class("state-hsah").unwrap_err().contains("state-hash"));
    }

    #[test]
    fn the_start_is_what_led_to_the_failure_on_its_own_cluster() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/smoke.toml");
        let scenario = Scenario::load(&path).unwrap();
        let plan = Plan::generate(&scenario, &crate::seed::Seed::new(1), 20, 2);
        let stored = Stored { scenario, plan, before: None };
        let mut finding = Finding::of_class(Class::Model).in_cycle(8);
        finding.cluster = Some(2);
        let start = start(&stored, &finding, Class::Model, Path::new("out")).unwrap();
        assert_eq!(start.steps().iter().map(|step| step.cycle).collect::<Vec<_>>(), [2, 4, 6, 8]);
        assert_eq!((start.plan().clusters, start.plan().cycles), (1, 8));
        assert!(start.scenario().text.starts_with("# Shrunk from smoke (SHA-256 "), "{}", start.scenario().text);
        assert_eq!(start.plan().scenario_digest, start.scenario().digest());
        assert_eq!(start.scenario().name, "smoke");
    }
}
