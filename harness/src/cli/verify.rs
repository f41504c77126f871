//! `ninelives verify`: compares what a report claims with its evidence.

use super::{say, shown};
use crate::exit::{Exit, Failure};
use crate::paths::Paths;
use crate::verify::{Claims, Counts, Verification, not_a_report, verify as judge};
use crate::{output, report};
use clap::Args;
use ninelives_evidence::limits;
use ninelives_evidence::record::{LeasesJudged, RunSummary};
use ninelives_evidence::verdict::Verdict;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Report directory. Its evidence is judged again; no file is changed and no process started.
    /// The exit code is that of the run's own verdict if report and evidence agree: 1 for a run
    /// that found a violation. It is also 1 if the evidence shows a violation that the report
    /// lacks, 70 if the report claims what the evidence does not show, and 64 if this is not a
    /// readable report.
    pub report_dir: PathBuf,
}

pub(super) fn verify(args: &VerifyArgs) -> Result<Exit, Failure> {
    let paths = Paths::new(&args.report_dir);
    if let Some(why) = not_a_report(&paths) {
        return Err(Failure::Usage(why));
    }
    let claims = Claims::read(&paths)?;
    say(&format!("judging the evidence in {} again\n", shown(paths.root())));
    let verification = judge(&paths, claims)?;
    output::summary(&words(&verification));
    Ok(verification.exit())
}

fn words(verification: &Verification) -> String {
    let Verification { run, counts, classes, torn, disagreements, .. } = verification;
    let mut lines: Vec<String> =
        run.findings.iter().take(limits::FINDINGS_PRINTED_MAX).map(ToString::to_string).collect();
    lines.push(verdict_line(run));
    lines.extend(run.leases.map(leases_line));
    lines.push(judged_line(counts));
    for (class, (judged, told)) in classes {
        let testimony = if *told > 0 { format!(", {told} as the run told them") } else { String::new() };
        lines.push(format!("findings of class {class}: {judged} judged again{testimony}"));
    }
    lines.extend(report::refused::line(run));
    lines.extend(report::suppressed::lines(run));
    lines.extend(run.skipped_checks.iter().map(|check| format!("skipped check: {check}")));
    if *torn > 0 {
        lines.push(format!(
            "the last line of {torn} histories is cut off, as by a kill of the harness, and was left out"
        ));
    }
    lines.push(format!(
        "plan {} and scenario {}: the same in the history and in the files",
        run.plan.digest, run.plan.scenario_digest
    ));
    if let Some((ledgers, fields)) = verification.books_compared() {
        lines.push(format!("books: {fields} fields of {ledgers} ledgers compared with those that the run left"));
    }
    lines.extend(disagreements.iter().map(|difference| format!("DISAGREES: {difference}")));
    lines.push(agreement_line(verification).to_owned());
    lines.push(exit_in_words(verification));
    lines.join("\n") + "\n"
}

fn verdict_line(run: &RunSummary) -> String {
    format!(
        "{}{}: {} of {} cycles, {} kills, {} writes acknowledged, {} unknown, {} reads",
        run.verdict,
        report::suppressed::beside_the_verdict(run),
        run.cycles.len(),
        run.plan.cycles,
        run.kills(),
        run.load.acked_writes,
        run.load.unknown_writes,
        run.load.reads
    )
}

fn leases_line(leases: LeasesJudged) -> String {
    let LeasesJudged { promises, renewals, expiries, revocations } = leases;
    format!(
        "leases of seconds: {promises} grants and renewals judged ({renewals} renewals), {expiries} expiries seen, {revocations} \
         revocations acknowledged"
    )
}

fn judged_line(counts: &Counts) -> String {
    format!(
        "judged again: {} operations, {} revisions ({} deliveries of them by other watches), {} fences, {} dead directories, {} \
         recoveries, {} raft logs, {} full reads; {} lines in all",
        counts.operations,
        counts.revisions,
        counts.redelivered,
        counts.fences,
        counts.dead_directories,
        counts.recoveries,
        counts.raft_logs,
        counts.last_reads,
        counts.lines
    )
}

fn agreement_line(verification: &Verification) -> &'static str {
    match &verification.claimed {
        Some(_) if verification.disagreements.is_empty() => "verdict.json agrees with the evidence",
        Some(_) => "verdict.json and the evidence disagree: one of them was changed, or the harness is at fault",
        None => "verdict.json is missing: the run ended before it wrote one",
    }
}

/// Explains the exit code, so that a failed run that verifies is not taken for a failed
/// verification.
fn exit_in_words(verification: &Verification) -> String {
    let claimed = verification.claimed.is_some();
    explain(verification.exit(), verification.run.verdict, claimed, verification.disagreements.is_empty())
}

/// `claimed`: there is a `verdict.json`; `agree`: nothing disagrees with the evidence.
fn explain(exit: Exit, verdict: Verdict, claimed: bool, agree: bool) -> String {
    let because = match (claimed, agree) {
        _ if exit == Exit::Interrupted => "the run was interrupted, and its evidence says so".to_owned(),
        (true, true) => format!("the run's own verdict ({verdict}), supported by its evidence"),
        (true, false) if exit == Exit::Harness => "verdict.json claims what its evidence does not show".to_owned(),
        (true, false) => "the evidence shows a violation that verdict.json lacks".to_owned(),
        (false, false) if exit == Exit::Harness => "the history records what its own evidence does not show".to_owned(),
        (false, _) => format!("the verdict of the evidence so far ({verdict})"),
    };
    format!("exit code {}: {because}", exit as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sentence_says_whose_verdict_the_exit_code_is() {
        let says = |exit, verdict, claimed, agree, words: &str| {
            assert_eq!(explain(exit, verdict, claimed, agree), format!("exit code {words}"));
        };
        let (claimed, missing, agree, disagree) = (true, false, true, false);
        let own = "supported by its evidence";
        says(Exit::Pass, Verdict::Pass, claimed, agree, &format!("0: the run's own verdict (pass), {own}"));
        let (violation, liveness) = (Verdict::Violation, Verdict::Liveness);
        says(Exit::Violation, violation, claimed, agree, &format!("1: the run's own verdict (violation), {own}"));
        says(Exit::Liveness, liveness, claimed, agree, &format!("3: the run's own verdict (liveness), {own}"));
        let harness = Verdict::HarnessError;
        says(Exit::Harness, harness, claimed, agree, &format!("70: the run's own verdict (harness-error), {own}"));
        let lacks = "1: the evidence shows a violation that verdict.json lacks";
        says(Exit::Violation, violation, claimed, disagree, lacks);
        let claims = "70: verdict.json claims what its evidence does not show";
        says(Exit::Harness, Verdict::Pass, claimed, disagree, claims);
        let inconclusive = Verdict::Inconclusive;
        let interrupted = "130: the run was interrupted, and its evidence says so";
        says(Exit::Interrupted, inconclusive, claimed, agree, interrupted);
        says(Exit::Interrupted, inconclusive, missing, agree, interrupted);
        let so_far = "2: the verdict of the evidence so far (inconclusive)";
        says(Exit::Inconclusive, inconclusive, missing, agree, so_far);
        let so_far = "1: the verdict of the evidence so far (violation)";
        says(Exit::Violation, violation, missing, disagree, so_far);
        // Not a verdict about the run: the harness's records contradict what they were made from.
        let records = "70: the history records what its own evidence does not show";
        says(Exit::Harness, inconclusive, missing, disagree, records);
    }
}
