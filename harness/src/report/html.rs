//! `report.html`: one file, no external asset, readable offline, in light and in dark, with and
//! without scripts.
//!
//! Order: the verdict; the place where a divergence begins, and the findings, if there are any; the
//! worth of the verdict; then the evidence behind it. Every text that comes from outside goes
//! through [`escape`]; the page forbids itself any request.

use super::page::{page, section};
use super::split::Split;
use super::text::{duration, escape, number, percent};
use super::worth::{FAULT_CLASSES, Worth, landed};
use super::{chart, localisation, missing_sync, partial, suppressed, tables, verdict_sentence};
use ninelives_evidence::record::pace::thousandths;
use ninelives_evidence::record::{BinaryId, RunSummary, SlotRecord};
use ninelives_evidence::stretched::Factor;
use ninelives_evidence::verdict::{Class, Finding, Verdict};

/// More than these are counted, not listed: the page stays readable, `verdict.json` has them all.
const FINDINGS_LISTED_MAX: usize = 100;

/// The page; `report` is the report directory as the user would type it.
pub fn render(run: &RunSummary, report: &str) -> String {
    let worth = Worth::of(run);
    let body = [
        header(run),
        run.localisation
            .as_ref()
            .map_or_else(String::new, |found| section("Where it begins", &localisation::html(found))),
        run.missing_sync
            .as_ref()
            .map_or_else(String::new, |found| section("Which sync is missing", &missing_sync::html(found))),
        findings(run, report),
        section("Known findings", &suppressed::html(run)),
        section("What this verdict is worth", &tiles(run, &worth)),
        section("Refused operations", &super::refused::html(run)),
        section("Recovery and loss", &chart::render(&run.cycles)),
        section("Crash windows", &tables::window_grid(run, &worth)),
        section("Operations on files", &tables::file_grid(run, &worth)),
        section("Where the time went", &tables::phase_table(&run.cycles)),
        section("Cycles", &tables::cycle_table(run)),
        section("Do it again", &again(run, report)),
        section("Environment", &environment(run)),
    ]
    .concat();
    let title = format!("{} · {}, seed {}", run.verdict, escape(&run.plan.scenario), run.plan.seed);
    page(&title, &body, Some(include_str!("assets/sort.js")))
}

fn tone(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "tone-pass",
        Verdict::Violation | Verdict::Liveness => "tone-bad",
        Verdict::HarnessError | Verdict::Inconclusive => "tone-warn",
    }
}

/// The verdict's glyph: shape, not colour alone, tells a pass from the rest.
fn glyph(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "M14 25l7 7 14-16",
        Verdict::Violation | Verdict::Liveness => "M16 16l16 16M32 16L16 32",
        Verdict::HarnessError | Verdict::Inconclusive => "M24 14v13M24 33v1",
    }
}

fn header(run: &RunSummary) -> String {
    let banner = partial(run)
        .map_or_else(String::new, |why| format!("<p class=\"banner\" role=\"status\">{}</p>\n", escape(&why)));
    let planted = run.cluster.sabotage.as_ref().map_or_else(String::new, |bug| {
        format!("<p class=\"banner\">The nodes ran with the planted bug <code>{}</code>.</p>\n", escape(bug))
    });
    format!(
        "<header>\n<p class=\"kicker\">Ninelives · {scenario} · seed {seed}</p>\n<div class=\"verdict {tone}\">\
         <svg class=\"mark\" viewBox=\"0 0 48 48\" fill=\"none\" stroke=\"currentColor\" stroke-width=\"4\" \
         stroke-linecap=\"round\" stroke-linejoin=\"round\" aria-hidden=\"true\"><circle cx=\"24\" cy=\"24\" r=\"21\"/>\
         <path d=\"{glyph}\"/></svg><h1>{verdict}</h1><p>{sentence}. {members} members, {backend}, {kills}, \
         {elapsed}, started {started}.</p></div>\n{banner}{planted}</header>\n",
        scenario = escape(&run.plan.scenario),
        seed = run.plan.seed,
        tone = tone(run.verdict),
        glyph = glyph(run.verdict),
        verdict = run.verdict.name().replace('-', " "),
        sentence = verdict_sentence(run),
        members = run.cluster.members,
        backend = escape(&run.cluster.backend),
        kills = landed(run),
        elapsed = duration(run.elapsed_ms),
        started = escape(&run.started_utc),
    )
}

fn findings(run: &RunSummary, report: &str) -> String {
    if run.findings.is_empty() {
        return String::new();
    }
    let mut ordered: Vec<&Finding> = run.findings.iter().collect();
    ordered.sort_by_key(|finding| (finding.class().verdict(), finding.cycle));
    let mut content: String = ordered.iter().take(FINDINGS_LISTED_MAX).map(|found| finding(found, report)).collect();
    if ordered.len() > FINDINGS_LISTED_MAX {
        content += &format!(
            "<p class=\"note\">{} more in <code>verdict.json</code>.</p>",
            number((ordered.len() - FINDINGS_LISTED_MAX) as u64)
        );
    }
    section(&format!("Findings ({})", number(ordered.len() as u64)), &content)
}

fn finding(finding: &Finding, report: &str) -> String {
    let cycle = finding.cycle.map_or_else(|| " · whole run".to_owned(), |cycle| format!(" · cycle {cycle}"));
    let member = finding.member.map_or_else(String::new, |member| format!(" · n{member}"));
    let revision = finding.revision.map_or_else(String::new, |revision| format!(" · revision {revision}"));
    let keys =
        if finding.keys.is_empty() { String::new() } else { format!(" · {}", escape(&finding.keys.join(", "))) };
    format!(
        "<article class=\"finding {tone}\"><h3>{class}<span>{cycle}{member}{revision}{keys}</span></h3><p>{sentence}</p>\
         <pre>{next}</pre></article>\n",
        tone = tone(finding.class().verdict()),
        class = finding.class(),
        sentence = escape(&finding.sentence()),
        next = escape(&next_command(finding, report)),
    )
}

/// The command to paste next.
fn next_command(finding: &Finding, report: &str) -> String {
    let report = crate::shell::quote(report);
    match (finding.class(), finding.member) {
        (
            Class::Liveness
            | Class::SnapshotTransfer
            | Class::NodeDied
            | Class::RefusedAfterOwnCrash
            | Class::HarnessError
            | Class::MachineExhausted,
            Some(member),
        ) => {
            format!("tail -n 50 {report}/nodes/n{member}.log")
        }
        // Not `ninelives replay`: the script names the binaries, a planted bug's included.
        _ => format!("bash {report}/repro.sh"),
    }
}

/// A number of the run: its name, its value, and what is said beside it.
type Tile = (&'static str, String, String);

fn tiles(run: &RunSummary, worth: &Worth) -> String {
    let tiles = [tiles_of_cycles(run, worth), tiles_of_the_bite(run, worth), tiles_of_the_load(run, worth)].concat();
    let tiles = tiles
        .into_iter()
        .map(|(name, value, more)| format!("<div><dt>{name}</dt><dd>{value} <small>{more}</small></dd></div>"));
    let explored = missing_sync::explored(run).map_or_else(String::new, |line| format!("<p>{}.</p>", escape(&line)));
    format!(
        "<dl class=\"tiles\">{}</dl>\n<div class=\"note\">{}{explored}{}</div>",
        tiles.collect::<String>(),
        coverage(worth),
        skipped_checks(run)
    )
}

fn tiles_of_cycles(run: &RunSummary, worth: &Worth) -> Vec<Tile> {
    let share = |part: u32| percent(f64::from(part) / f64::from(worth.cycles_run.max(1)));
    let (per_minute, each) = Split::of(run).map_or_else(
        || ("unknown".to_owned(), String::new()),
        |split| (format!("{:.0}", split.cycles_per_minute), format!("{:.0} ms each", split.cycle)),
    );
    vec![
        ("cycles run", number(worth.cycles_run.into()), format!("of {}", number(worth.cycles_planned.into()))),
        ("kills landed", number(run.kills_alone()), format!("in {} cycles", number(worth.landed.into()))),
        ("power losses landed", number(worth.power_losses), String::new()),
        ("I/O errors", number(worth.io_errors), "syncs, reads and writes that failed".to_owned()),
        (
            "disks filled",
            number(worth.disks_filled),
            format!("{} members ended of their disks", number(worth.disk_ends)),
        ),
        ("cycles skipped", number(worth.skipped.into()), share(worth.skipped)),
        ("cycles indeterminate", number(worth.indeterminate.into()), share(worth.indeterminate)),
        ("cycles per minute", per_minute, each),
        (
            "elections that no fault forced",
            number(worth.unforced_terms),
            format!("in {} cycles that could tell", number(worth.quiet_cycles.into())),
        ),
    ]
}

/// What kills took away, and members got back.
fn tiles_of_the_bite(run: &RunSummary, worth: &Worth) -> Vec<Tile> {
    if run.is_opaque() {
        return vec![("entries that killed members caught up with", number(run.behind()), String::new())];
    }
    vec![
        ("entries lost by kills, at least", number(worth.entries_lost), String::new()),
        ("entries replayed", number(worth.entries_replayed), format!("+ {} verified", number(worth.entries_verified))),
        ("snapshots installed", number(worth.snapshots_installed.into()), String::new()),
    ]
}

fn tiles_of_the_load(run: &RunSummary, worth: &Worth) -> Vec<Tile> {
    let bound = worth.divergence_rate_max_95.map_or_else(|| "none".to_owned(), |rate| format!("≤ {}", percent(rate)));
    let rate = run.writes_per_second().map_or_else(|| "unknown".to_owned(), number);
    let mut tiles = vec![
        (
            "writes acknowledged",
            number(run.load.acked_writes),
            format!("+ {} unknown ({})", number(run.load.unknown_writes), percent(run.unknown_share())),
        ),
        ("writes acknowledged per second of load", rate, String::new()),
        ("reads", number(run.load.reads), String::new()),
        ("divergences per cycle, 95 % bound", bound, format!("{} trials", number(worth.trials.into()))),
    ];
    tiles.extend(run.pace.map(|pace| {
        let span = format!(
            "{} to {}; a cycle's floor took {} ms at launch, {} ms on average, {} ms where bounds were measured",
            Factor(pace.factor_percent_min),
            Factor(pace.factor_percent_max),
            thousandths(pace.launch_floor_us),
            thousandths(pace.mean_floor_us),
            thousandths(pace.reference_floor_us)
        );
        ("factor of the machine, by which bounds were stretched", Factor(pace.factor_percent_mean).to_string(), span)
    }));
    tiles.extend(run.leases.map(|leases| {
        let ends = format!("{} expiries, {} revocations", number(leases.expiries), number(leases.revocations));
        ("renewals of leases judged", number(leases.renewals), ends)
    }));
    tiles
}

fn coverage(worth: &Worth) -> String {
    let meaning = |class: &String| {
        let what = FAULT_CLASSES.iter().find(|(name, _)| name == class).map_or("", |(_, what)| what);
        format!("<strong>{}</strong> ({})", escape(class), escape(what))
    };
    let list = |classes: &[String]| match classes {
        [] => "nothing".to_owned(),
        classes => classes.iter().map(meaning).collect::<Vec<_>>().join("; "),
    };
    format!(
        "<p>The bound is a {}. A trial is a cycle whose kill landed, whose fence every replica answered, and which had \
         something to lose or replay.</p><p>Covers {}.</p><p>Does not cover {}.</p>",
        escape(&worth.divergence_rate_caveat),
        list(&worth.fault_classes_covered),
        list(&worth.fault_classes_not_covered),
    )
}

fn skipped_checks(run: &RunSummary) -> String {
    match run.skipped_checks.as_slice() {
        [] => String::new(),
        checks => format!("<p>Checks that did not run: {}.</p>", escape(&checks.join("; "))),
    }
}

fn again(run: &RunSummary, report: &str) -> String {
    format!(
        "<p class=\"lead\">The seed fixes the plan and the operations of each client, not how the system schedules its \
         threads: kills at named windows land on the same step, kills at times may not.</p><pre>{}</pre>",
        escape(&format!(
            "bash {}/repro.sh   # the stored plan, with the digests compared\n{}",
            crate::shell::quote(report),
            run.repro
        )),
    )
}

fn environment(run: &RunSummary) -> String {
    let binary = |id: &BinaryId| {
        let version = id.version.as_ref().map_or_else(String::new, |version| format!(" · {}", escape(version)));
        format!(
            "<code>{}</code>{version}<br><code class=\"soft\">sha256 {}</code>",
            escape(&id.path),
            escape(&id.sha256)
        )
    };
    let revision = run.provenance.git_revision.as_deref().unwrap_or("not a git checkout");
    let rows: String = [
        (
            "scenario",
            format!(
                "<code>{}</code><br><code class=\"soft\">sha256 {}</code>",
                escape(&run.plan.scenario_path),
                escape(&run.plan.scenario_digest)
            ),
        ),
        ("plan", format!("<code>plan.txt</code><br><code class=\"soft\">sha256 {}</code>", escape(&run.plan.digest))),
        ("seed", run.plan.seed.to_string()),
        ("node", binary(&run.provenance.node)),
        (
            "inspector",
            run.provenance.inspector.as_ref().map_or_else(|| "none: dead directories are not read".to_owned(), binary),
        ),
        ("harness", binary(&run.provenance.harness)),
        ("git revision", format!("<code>{}</code>", escape(revision))),
        ("members", slots(run)),
        ("kernel", escape(&run.provenance.kernel)),
        ("filesystem", escape(&run.provenance.filesystem)),
        ("started, took", format!("{}, {}", escape(&run.started_utc), duration(run.elapsed_ms))),
        ("schema version", run.schema_version.to_string()),
    ]
    .into_iter()
    .chain(inherited(run))
    .chain(resumed(run))
    .chain(run.crowd.as_ref().map(|crowd| ("crowd", crowd.sentences().join("<br>"))))
    .chain(run.hostile.as_ref().map(|hostile| ("hostile peers", hostile.sentence())))
    .chain(run.strangers.as_ref().map(|strangers| ("strangers", strangers.sentence())))
    .map(|(name, value)| format!("<dt>{name}</dt><dd>{value}</dd>\n"))
    .collect();
    format!("<dl class=\"env\">{rows}</dl>")
}

/// The part of the caller's environment that members and inspector had.
fn inherited(run: &RunSummary) -> Vec<(&'static str, String)> {
    let told = &run.provenance.environment;
    let code = |text: String| format!("<code>{}</code>", escape(&text));
    let variable = |(name, value): (&String, &Option<String>)| match value {
        Some(value) => code(format!("{name}={value}")),
        None => format!("{} (not set)", code(name.clone())),
    };
    let withheld = told.withheld.iter().cloned().map(code).collect::<Vec<_>>().join(" ");
    let rows = [
        ("variables passed on", told.variables.iter().map(variable).collect::<Vec<_>>().join("<br>")),
        ("variables withheld", withheld),
        (
            "inherited",
            told.inherited
                .iter()
                .map(|(name, value)| escape(&format!("{name}: {value}")))
                .collect::<Vec<_>>()
                .join("<br>"),
        ),
    ];
    rows.into_iter().filter(|(_, value)| !value.is_empty()).collect()
}

/// The places where the run went on after its harness had died, if it did.
fn resumed(run: &RunSummary) -> Option<(&'static str, String)> {
    let times = run.resumed.iter().map(|one| format!("cluster {} after cycle {}", one.cluster, one.after_cycle));
    let times: Vec<_> = times.collect();
    let why = "the harness's death was a kill of all members";
    (!times.is_empty()).then(|| ("resumed", format!("{}; {why}", times.join(", "))))
}

/// The member in each slot, and its engine, at the start and at the end.
fn slots(run: &RunSummary) -> String {
    let line = |slot: &SlotRecord| {
        let (start, end) = ((slot.member_at_start, slot.engine_at_start), (slot.member_at_end, slot.engine_at_end));
        let words = |(member, engine)| format!("n{member} on {engine}");
        let change = if start == end { String::new() } else { format!(", at the end {}", words(end)) };
        format!("{}: {}{change}", slot.slot, words(start))
    };
    run.cluster.slots.iter().map(line).collect::<Vec<_>>().join("<br>")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    /// The page without its style and script, which may change without a change of meaning.
    fn content(page: &str) -> &str {
        page.split_once("<main>").unwrap().1.split_once("</main>").unwrap().0
    }

    #[test]
    fn golden_pass() {
        ninelives_golden::assert_golden("report-pass.html", content(&render(&sample::run(), "reports/sample-seed7")));
    }

    #[test]
    fn golden_failing() {
        ninelives_golden::assert_golden(
            "report-failing.html",
            content(&render(&sample::failing(), "reports/it's a sample")),
        );
    }

    #[test]
    fn findings_come_before_the_worth_and_only_if_there_are_any() {
        let page = render(&sample::failing(), "r");
        assert!(page.find("Findings (3)").unwrap() < page.find("What this verdict is worth").unwrap());
        assert!(!render(&sample::run(), "r").contains("Findings"));
    }

    #[test]
    fn words_from_outside_stay_words() {
        let page = render(&sample::failing(), "r");
        assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
        assert!(!page.contains("<script>alert"));
        assert!(!page.contains("<b>"));
    }

    #[test]
    fn a_resumed_run_says_so() {
        let mut run = sample::run();
        assert!(!render(&run, "r").contains("<dt>resumed</dt>"));
        run.resumed = vec![ninelives_evidence::record::ResumedRecord { cluster: 2, after_cycle: 4 }];
        assert!(render(&run, "r").contains("<dt>resumed</dt><dd>cluster 2 after cycle 4; the harness's death"));
    }

    #[test]
    fn what_was_inherited_and_what_was_withheld_is_shown() {
        let mut run = sample::run();
        assert!(!render(&run, "r").contains("variables"));
        run.provenance.environment.variables =
            [("PATH".to_owned(), Some("/bin".to_owned())), ("GOGC".to_owned(), None)].into();
        run.provenance.environment.withheld = vec!["ETCD_<NAME>".to_owned()];
        run.provenance.environment.inherited = [("nice".to_owned(), "5".to_owned())].into();
        let page = render(&run, "r");
        for words in
            ["<code>PATH=/bin</code>", "<code>GOGC</code> (not set)", "<code>ETCD_&lt;NAME&gt;</code>", "nice: 5"]
        {
            assert!(page.contains(words), "{words}");
        }
    }

    #[test]
    fn the_page_fetches_nothing() {
        let page = render(&sample::failing(), "r");
        for request in ["http://", "https://", "src=\"", "@import", "url("] {
            assert!(!page.contains(request), "{request}");
        }
    }

    #[test]
    fn a_thousand_cycles_stay_under_a_megabyte() {
        let mut run = sample::run();
        run.cycles = (0..1000).map(|at| run.cycles[at % 6].clone()).collect();
        let bytes = render(&run, "r").len();
        assert!(bytes < 1_000_000, "{bytes} bytes");
    }

    #[test]
    fn a_run_without_a_cycle_has_a_page() {
        let mut run = sample::run();
        run.cycles.clear();
        run.verdict = Verdict::HarnessError;
        assert!(render(&run, "r").contains("0 of 6 planned cycles"));
    }

    /// A window that no kill hit has its row, so that a hole in the coverage is seen.
    #[test]
    fn the_grid_shows_every_window() {
        let page = render(&sample::run(), "r");
        for window in crate::subject::WINDOWS {
            assert!(page.contains(&format!(">{}</th>", window.name)), "{}", window.name);
        }
    }
}
