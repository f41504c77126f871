//! Reading a plan back.

use super::{PLAN_VERSION, Plan, Step, parse_fault};
use ninelives_evidence::limits;
use std::str::FromStr;

/// A text that does not parse as a plan: the line (from 1), and the expected and the found text.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("line {line}: expected {expected}, found {found:?}")]
pub struct PlanError {
    pub line: usize,
    pub expected: String,
    pub found: String,
}

impl FromStr for Plan {
    type Err = PlanError;

    fn from_str(text: &str) -> Result<Self, PlanError> {
        let mut lines = Lines { lines: text.lines(), number: 0, line: "" };
        let version = PLAN_VERSION.to_string();
        lines.header("plan", &format!("`plan {version}`"), |rest| (rest == version).then_some(()))?;
        let (scenario, scenario_digest) = lines.header("scenario", "`scenario NAME DIGEST`", |rest| {
            let (name, digest) = rest.split_once(' ')?;
            (!name.is_empty() && !digest.contains(' ')).then(|| (name.to_owned(), digest.to_owned()))
        })?;
        let seed = lines.header("seed", "`seed N`", |rest| rest.parse().ok())?;
        let cycles = lines.header("cycles", "`cycles N`", |rest| rest.parse().ok())?;
        let mut clusters = 1;
        let mut steps: Vec<Step> = Vec::new();
        while lines.advance() {
            if let (true, Some(rest)) = (steps.is_empty(), lines.line.strip_prefix("clusters ")) {
                let given = rest.parse().ok().filter(|clusters| (1..=limits::CLUSTERS_MAX).contains(clusters));
                clusters = given
                    .ok_or_else(|| lines.expected(&format!("`clusters N` with N of 1 to {}", limits::CLUSTERS_MAX)))?;
                continue;
            }
            let step = step(lines.line).map_err(|expected| lines.expected(&expected))?;
            let after = steps.last().map_or(0, |last| last.cycle);
            if step.cycle <= after || step.cycle > cycles {
                return Err(lines.expected(&format!("a cycle number in {}..={cycles}", after + 1)));
            }
            parse_fault::check_together(&step.faults).map_err(|expected| lines.expected(&expected))?;
            steps.push(step);
        }
        Ok(Plan { scenario, scenario_digest, seed, cycles, clusters, steps })
    }
}

const STEP: &str = "`cycle N  FAULT [+ FAULT …]` with FAULT one of `kill WHOM at WHEN [then at WINDOW hit N …]`, \
                    `pause WHOM for Nms at WHEN`, `isolate|mute|deafen WHOM for Nms at WHEN`, \
                    `delay WHOM by Nms for Nms at WHEN`, `fill WHOM [leaving NKiB] for Nms at WHEN`, \
                    `slow WHOM by Nms for Nms at WHEN`, `fail-sync WHOM keeping|losing at WHEN`, \
                    `fail WHOM CLASS.read|write hit N once|for Nms at WHEN`, `shorten WHOM CLASS.write for Nms at WHEN`, and behind a kill `strangers for Nms` \
                    (WHOM: follower#K, leader, minority#K, majority#K, all; WHEN: WINDOW hit N, applied +N, time Nms), \
                    or `cycle N  upgrade slot#K to ENGINE by migrate|replace [[cut [keeping N%]] at WINDOW hit N [then serve]]`, \
                    or `cycle N  upgrade slot#K to ENGINE by migrate then cut [keeping N%]`, \
                    or `cycle N  restore slot#K by all|one [into other] [unlike slot#K older|empty | at WINDOW hit N]`";

struct Lines<'a> {
    lines: std::str::Lines<'a>,
    number: usize,
    line: &'a str,
}

impl<'a> Lines<'a> {
    /// Goes to the next line that is not empty.
    fn advance(&mut self) -> bool {
        loop {
            self.number += 1;
            self.line = match self.lines.next() {
                Some(line) => line.trim_end(),
                None => {
                    self.line = "";
                    return false;
                }
            };
            if !self.line.is_empty() {
                return true;
            }
        }
    }

    fn header<T>(
        &mut self,
        key: &str,
        expected: &str,
        value: impl FnOnce(&'a str) -> Option<T>,
    ) -> Result<T, PlanError> {
        let found = self.advance();
        let rest = self.line.strip_prefix(key).and_then(|rest| rest.strip_prefix(' '));
        rest.filter(|_| found).and_then(value).ok_or_else(|| self.expected(expected))
    }

    fn expected(&self, expected: &str) -> PlanError {
        PlanError { line: self.number, expected: expected.to_owned(), found: self.line.to_owned() }
    }
}

/// The step, or the expected form instead.
fn step(line: &str) -> Result<Step, String> {
    let numbered = line.strip_prefix("cycle ").and_then(|rest| rest.split_once("  "));
    let numbered = numbered.and_then(|(cycle, action)| Some((cycle.parse().ok()?, action)));
    let (cycle, action) = numbered.ok_or(STEP)?;
    let faults = action.split(super::TOGETHER).map(|fault| parse_fault::parse(fault)?.ok_or_else(|| STEP.to_owned()));
    Ok(Step { cycle, faults: faults.collect::<Result<_, String>>()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        text.parse::<Plan>().unwrap_err().to_string()
    }

    const HEAD: &str = "plan 1\nscenario gate ab\nseed 7\ncycles 20\n";

    #[test]
    fn a_broken_line_is_named() {
        assert_eq!(error("plan 2\n"), "line 1: expected `plan 1`, found \"plan 2\"");
        assert_eq!(error("plan 1\nscenario gate ab\n"), "line 3: expected `seed N`, found \"\"");
        let text = error(&format!("{HEAD}cycle 1  kill nobody at time 3ms\n"));
        assert!(
            text.starts_with("line 5: expected `cycle N  FAULT [+ FAULT …]`") && text.ends_with("nobody at time 3ms\""),
            "{text}"
        );
    }

    #[test]
    fn cycles_ascend_and_victims_fit_their_window() {
        let text = error(&format!("{HEAD}cycle 4  kill all at time 3ms\ncycle 4  kill all at time 3ms\n"));
        assert!(text.contains("line 6: expected a cycle number in 5..=20"), "{text}");
        let text = error(&format!("{HEAD}cycle 4  kill all at snapshot.send hit 1\n"));
        assert!(text.contains("expected leader as the one that passes snapshot.send"), "{text}");
    }

    #[test]
    fn a_slip_of_the_finger_is_refused() {
        let step = |when: &str| format!("{HEAD}cycle 4  kill all at {when}\n");
        assert!(error(&step("applied +1000001")).contains("line 5: expected `applied +N` with N of at most 1000000"));
        assert!(error(&step("time 600001ms")).contains("line 5: expected `time Nms` with N of at most 600000"));
        assert!(step("applied +1000000").parse::<Plan>().is_ok() && step("time 600000ms").parse::<Plan>().is_ok());
    }

    #[test]
    fn a_wiped_member_never_comes_back_under_its_old_id() {
        for step in [
            "replace slot#2 as n2",
            "upgrade slot#2 to redb by replace as n2",
            "upgrade slot#2 to redb by replace at snapshot.send hit 1 as n7",
        ] {
            let text = error(&format!("{HEAD}cycle 4  {step}\n"));
            assert!(text.starts_with("line 5: expected `by replace` without an id"), "{text}");
            assert!(text.contains("amnesia") && text.contains("votes and acknowledgements"), "{text}");
        }
    }

    #[test]
    fn an_upgrade_is_interrupted_where_it_passes() {
        let step = |rest: &str| format!("{HEAD}cycle 4  upgrade slot#2 to redb by {rest}\n");
        for good in [
            "migrate",
            "replace",
            "migrate at migrate.copied hit 1 then serve",
            "replace at snapshot.send hit 1",
            "migrate then cut",
            "migrate then cut keeping 50%",
            "migrate cut at migrate.marker hit 1",
            "migrate cut keeping 10% at migrate.marker hit 1 then serve",
        ] {
            let plan: Plan = step(good).parse().unwrap_or_else(|error| panic!("{good}: {error}"));
            assert_eq!(plan.to_string(), step(good));
        }
        assert!(error(&step("migrate at snapshot.send hit 1")).contains("one of migrate.intent, "));
        assert!(error(&step("replace at migrate.copied hit 1")).contains("as a window of an upgrade by replace"));
        for bad in [
            "migrate then serve",
            "replace at snapshot.send hit 1 then serve",
            "prayer",
            "migrate then cut keeping 0%",
            "migrate then cut then serve",
            "migrate cut",
            "migrate cut keeping 101% at migrate.marker hit 1",
            "replace then cut",
            "replace cut at snapshot.send hit 1",
            "migrate at migrate.copied hit 0",
        ] {
            assert!(error(&step(bad)).contains("or `cycle N  upgrade slot#K"), "{bad}");
        }
        let kill = error(&format!("{HEAD}cycle 4  kill all at migrate.copied hit 1\n"));
        assert!(kill.contains("passed by an upgrade by migrate alone"), "{kill}");
    }

    #[test]
    fn a_founder_that_is_unlike_is_one_of_several_that_live() {
        let step = |rest: &str| format!("{HEAD}cycle 4  restore slot#2 {rest}\n");
        for good in ["by all unlike slot#1 older", "by all into other unlike slot#3 empty"] {
            let plan: Plan = step(good).parse().unwrap_or_else(|error| panic!("{good}: {error}"));
            assert_eq!(plan.to_string(), step(good));
        }
        for bad in ["by one unlike slot#1 older", "by all unlike slot#1 older at restore.logged hit 1"] {
            assert!(error(&step(bad)).contains("`unlike` of a restore `by all`"), "{bad}");
        }
        for bad in
            ["by all unlike slot#0 older", "by all unlike slot#1", "by all unlike slot#1 newer", "by all unlike older"]
        {
            assert!(error(&step(bad)).contains("[unlike slot#K older|empty"), "{bad}");
        }
    }

    /// Faults that must be refused, and words from the reasons.
    #[test]
    fn faults_that_cannot_be_carried_out_are_refused() {
        let step = |faults: &str| error(&format!("{HEAD}cycle 4  {faults}\n"));
        for (faults, why) in [
            ("pause leader for 0ms at time 3ms", "`for Nms` with N of 1 to 3000"),
            ("pause leader for 3001ms at time 3ms", "`for Nms` with N of 1 to 3000"),
            ("isolate leader for 10001ms at time 3ms", "`for Nms` with N of 1 to 10000"),
            ("delay leader by 501ms for 9ms at time 3ms", "`by Nms` with N of 1 to 500"),
            ("pause leader for 9ms at recovery.engine-open hit 1", "one of raft.append, "),
            ("mute leader for 9ms at snapshot.send hit 1", "as the window in which a pause or a disturbance begins"),
            ("delay leader for 9ms at time 3ms", "`delay WHOM by Nms for Nms at WHEN`"),
            ("fill leader for 5001ms at time 3ms", "`for Nms` with N of 1 to 5000"),
            ("fill leader leaving 4095KiB for 9ms at time 3ms", "`leaving NKiB` with N of 4096 to "),
            ("fill leader leaving 0KiB for 9ms at time 3ms", "`fill WHOM [leaving NKiB] for Nms at WHEN`"),
            ("slow leader by 301ms for 9ms at time 3ms", "`by Nms` with N of 1 to 300"),
            ("slow leader for 9ms at time 3ms", "`slow WHOM by Nms for Nms at WHEN`"),
            ("fail-sync leader at time 3ms", "`fail-sync WHOM keeping|losing at WHEN`"),
            ("fail-sync leader losing at time 3ms + kill all at time 4ms", "without a kill or a cut beside it"),
            ("fill leader for 9ms at recovery.engine-open hit 1", "one of raft.append, "),
            ("fail leader sst.read hit 1 once at time 3ms", "`for Nms` behind a read that fails"),
            ("fail leader sst.read hit 0 for 9ms at time 3ms", "`hit N` with N of 1 to 1000"),
            ("fail leader sst.read hit 1 for 5001ms at time 3ms", "`for Nms` with N of 1 to 5000"),
            ("fail leader sst.read hit 1 for 0ms at time 3ms", "`fail WHOM CLASS.read|write hit N once|for Nms"),
            ("fail leader sst.sync hit 1 once at time 3ms", "`fail WHOM CLASS.read|write hit N once|for Nms"),
            ("fail leader raft-log.write hit 1 once at recovery.engine-open hit 1", "one of raft.append, "),
            ("shorten leader sst.read for 9ms at time 3ms", "one of raft-log.write, "),
            ("shorten leader sst.write hit 1 for 9ms at time 3ms", "`shorten WHOM CLASS.write for Nms at WHEN`"),
            ("fill leader for 9ms at time 3ms + fill all for 9ms at time 3ms", "at most one of each fault of disks"),
            ("kill leader at time 3ms then at raft.append hit 1", "recovery.*"),
            (
                "kill leader at time 3ms then at snapshot.unpack hit 1",
                "only after a kill in another window of an installation",
            ),
            ("kill leader at time 3ms then at time 9ms", "`cycle N  FAULT"),
            ("kill leader at time 3ms + kill all at time 4ms", "at most one kill in a cycle"),
            ("kill leader at time 3ms + upgrade slot#1 to redb by migrate", "an upgrade alone"),
            ("kill leader at time 3ms +", "`cycle N  FAULT"),
            ("kill leader at time 3ms + ", "`cycle N  FAULT"),
            ("isolate nobody for 9ms at time 3ms", "WHOM: follower#K"),
            ("strangers for 9ms", "behind the kill"),
            ("pause all for 9ms at time 0ms + strangers for 9ms", "behind the kill"),
            ("strangers for 9ms + kill all at time 3ms", "behind the kill"),
            ("kill all at time 3ms + strangers for 9ms + strangers for 9ms", "behind the kill"),
            ("kill all at time 3ms + strangers for 10001ms", "`for Nms` with N of 1 to 10000"),
            ("kill all at time 3ms + strangers", "`cycle N  FAULT"),
        ] {
            let text = step(faults);
            assert!(text.starts_with("line 5: expected ") && text.contains(why), "{faults}: {text}");
        }
        let pauses = ["pause all for 1ms at time 0ms"; 5].join(" + ");
        assert!(step(&pauses).contains("at most 4 faults in one cycle"));
        let often = "then at recovery.engine-open hit 1 ".repeat(5);
        assert!(step(&format!("kill all at time 0ms {}", often.trim_end())).contains("at most 4 times `then at`"));
    }

    #[test]
    fn several_faults_and_several_kills_of_one_member_are_one_line() {
        let line = "kill follower#1 at snapshot.unpacked hit 1 then at snapshot.persist hit 1 then at recovery.replay-apply \
                    hit 2 + pause leader for 400ms at applied +12 + delay all by 20ms for 900ms at raft.append hit 3";
        for (line, faults) in
            [(line, 3), ("mute leader for 9ms at time 0ms + kill all at time 0ms + strangers for 9ms", 3)]
        {
            let text = format!("{HEAD}cycle 4  {line}\n");
            let plan: Plan = text.parse().unwrap();
            assert_eq!(plan.steps[0].faults.len(), faults);
            assert_eq!(plan.to_string(), text);
        }
    }

    #[test]
    fn deleted_lines_leave_a_plan() {
        let text =
            format!("{HEAD}\ncycle 4  kill all at time 3ms\n\ncycle 9  kill follower#1 at index.renamed hit 1\n");
        assert_eq!(text.parse::<Plan>().unwrap().steps.len(), 2);
    }
}
