//! `ninelives verify`: what a report claims, against its evidence.

use super::{say, shown};
use crate::exit::{Exit, Failure};
use crate::limits;
use crate::paths::Paths;
use crate::record::LeasesJudged;
use crate::report;
use crate::verify::{Verification, verify as judge};
use clap::Args;
use std::io::Write;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// A report directory. Its evidence is judged again; nothing in it is changed, and nothing is started. The exit code is the
    /// verdict's; 1 as well if the evidence shows a violation that the report does not have, 70 if the report claims what the
    /// evidence does not show.
    pub report_dir: PathBuf,
}

pub(super) fn verify(args: &VerifyArgs) -> Result<Exit, Failure> {
    let paths = Paths::new(&args.report_dir);
    if !paths.root().is_dir() {
        let found = paths.root().display();
        return Err(Failure::Usage(format!("expected a report directory, found none at {found}")));
    }
    say(&format!("judging the evidence of {} again\n", shown(paths.root())));
    let verification = judge(&paths)?;
    let _ = std::io::stdout().lock().write_all(words(&verification).as_bytes());
    Ok(verification.exit())
}

fn words(verification: &Verification) -> String {
    let Verification { run, claimed, counts, classes, torn, disagreements } = verification;
    let mut text = String::new();
    let mut line = |words: String| {
        text.push_str(&words);
        text.push('\n');
    };
    for finding in run.findings.iter().take(limits::FINDINGS_PRINTED_MAX) {
        line(finding.to_string());
    }
    line(format!(
        "{}{}: {} of {} cycles, {} kills, {} writes acknowledged, {} unknown, {} reads",
        run.verdict,
        report::known::beside_the_verdict(run),
        run.cycles.len(),
        run.cycles_planned,
        run.kills(),
        run.acked_writes,
        run.unknown_writes,
        run.reads
    ));
    if let Some(LeasesJudged { promises, renewals, expiries, revocations }) = run.leases {
        line(format!(
            "leases of seconds: {promises} grants and renewals judged ({renewals} renewals), {expiries} expiries seen, {revocations} \
             revocations acknowledged"
        ));
    }
    line(format!(
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
    ));
    for (class, (judged, told)) in classes {
        let testimony = if *told > 0 { format!(", {told} told by the run, not judged again") } else { String::new() };
        line(format!("findings of class {class}: {judged} judged again{testimony}"));
    }
    report::known::lines(run).into_iter().for_each(&mut line);
    for check in &run.skipped_checks {
        line(format!("skipped check: {check}"));
    }
    if *torn > 0 {
        line(format!(
            "the last line of {torn} histories is cut off, as a kill of the harness leaves it: it was left out"
        ));
    }
    line(format!("plan {}, scenario {}: the history's, and the files'", run.plan_digest, run.scenario_digest));
    for difference in disagreements {
        line(format!("DISAGREES: {difference}"));
    }
    line(match claimed {
        Some(_) if disagreements.is_empty() => "verdict.json agrees with the evidence".to_owned(),
        Some(_) => {
            "verdict.json and the evidence disagree: one of them was changed, or the harness is at fault".to_owned()
        }
        None => "there is no verdict.json: the run ended before it could say".to_owned(),
    });
    text
}
