//! The worth of a verdict: how much happened, how much of it can count as evidence, and which bound
//! follows.
//!
//! A pure function of the run's record. A cycle counts as a **trial** only if its fault landed,
//! every replica answered its fence and something was there to lose or replay; all others are
//! counted, and shown, as what they are. The bound is the rule of three: no divergence in *n*
//! independent trials puts the rate below 3/n with 95 % confidence. The trials of one run share
//! machine, mix and history, so the caveat travels with the number.

use ninelives_evidence::member::Role;
use ninelives_evidence::record::{CycleRecord, FaultOutcome, LastingKind, RunSummary};
use ninelives_evidence::verdict::Verdict;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Must stand beside the bound wherever it is shown.
pub const CAVEAT: &str =
    "rule of three: holds if the cycles were independent trials, for this workload and fault mix only";

/// Fault classes that a run may cover, with what each one tests. A run names those that it did
/// cover.
pub const FAULT_CLASSES: &[(&str, &str)] = &[
    ("kill", "SIGKILL: the process dies, the page cache stays; tests replay, never a missing fsync"),
    ("kill again", "SIGKILL of a member that has not yet recovered from the one before"),
    ("upgrade", "a member changes its engine, offline or replaced under a new id, while the others serve"),
    ("power-loss", "un-synced data and names are lost, torn or reordered"),
    ("io-error", "EIO of a sync: a failed sync must not be tried again and believed"),
    ("read-error", "EIO of a read: the member ends or says so, and answers nothing wrong"),
    ("write-error", "EIO of a write that may have left a part: nothing acknowledged is lost"),
    ("short-write", "a write is carried out in part: the writer has to write the rest"),
    ("slow-disk", "syncs that take longer, and let others overtake them"),
    ("corruption", "a file of a dead member is damaged: it refuses, or answers rightly, and nothing is lost"),
    ("disk-full", "ENOSPC: all room or nearly all of it is gone for a while, and comes back"),
    ("network", "partitions, one-way loss, delay"),
    ("pause", "SIGSTOP, later SIGCONT"),
];

/// Landed and missed faults of one crash window (or of the kills without one), by the role of the
/// victim.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowHits {
    pub leader: u32,
    pub follower: u32,
    /// Cycles whose fault was planned here and did not land here.
    pub missed: u32,
    /// Different hits at which kills landed.
    #[serde(default)]
    pub breadth: u32,
    /// Cycles whose victim ran an engine without this window; they do not count as misses.
    #[serde(default)]
    pub not_applicable: u32,
}

impl WindowHits {
    pub fn landed(&self) -> u32 {
        self.leader + self.follower
    }

    pub fn of(&self, role: Role) -> u32 {
        match role {
            Role::Leader => self.leader,
            Role::Follower => self.follower,
        }
    }
}

/// Sums over a run; the `worth` object of `verdict.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Worth {
    pub cycles_planned: u32,
    pub cycles_run: u32,
    /// Cycles whose fault landed as planned, was skipped, or ended indeterminate: they sum to
    /// `cycles_run`.
    pub landed: u32,
    pub skipped: u32,
    pub indeterminate: u32,
    /// SIGKILLs that landed, all victims counted.
    pub kills: u64,
    /// Those of them with which the power failed.
    #[serde(default)]
    pub power_losses: u64,
    /// Disks that were full, and were asked for room meanwhile.
    #[serde(default)]
    pub disks_filled: u64,
    /// Syncs, reads and writes that failed.
    #[serde(default)]
    pub io_errors: u64,
    /// Writes that were carried out in part.
    #[serde(default)]
    pub short_writes: u64,
    /// Members that ended by themselves, of an error that their disks were made to give them.
    #[serde(default)]
    pub disk_ends: u64,
    /// Files of dead members that were damaged.
    #[serde(default)]
    pub damages: u64,
    /// Members that ended of a damaged file.
    #[serde(default)]
    pub damages_refused: u64,
    /// Cycles that count as evidence (see the module).
    pub trials: u32,
    /// Lower bound of applied entries that the kills took out of memtables.
    pub entries_lost: u64,
    pub entries_verified: u64,
    pub entries_replayed: u64,
    pub snapshots_installed: u32,
    /// Cycles whose fault cannot have caused an election, and the terms that passed in them all the
    /// same, because of the members or of the machine.
    #[serde(default)]
    pub quiet_cycles: u32,
    #[serde(default)]
    pub unforced_terms: u64,
    /// By window name; kills at an applied index or a time are under [`NO_WINDOW`].
    pub windows: BTreeMap<String, WindowHits>,
    /// Upper end of the 95 % interval of the divergence rate per cycle; `None` after a violation or
    /// without a trial.
    pub divergence_rate_max_95: Option<f64>,
    pub divergence_rate_caveat: String,
    pub fault_classes_covered: Vec<String>,
    pub fault_classes_not_covered: Vec<String>,
}

/// The name, in a skipped check, of the floor that needs a memtable to lose.
pub const BIT_FLOOR: &str = "floors.bit_percent_min";

/// Key, in [`Worth::windows`], of the kills that were planned at an applied index or a time.
pub const NO_WINDOW: &str = "no window (applied index, time)";

/// The kills that landed, in words; with which of them the power failed.
pub fn landed(run: &RunSummary) -> String {
    let counts = [
        (run.disks_filled(), "disks were full"),
        (run.met(LastingKind::FailSync), "syncs failed"),
        (run.met(LastingKind::FailRead), "reads failed"),
        (run.met(LastingKind::FailWrite), "writes failed"),
        (run.met(LastingKind::Shorten), "writes were cut short"),
        (run.disk_ends(), "members ended of their disks"),
        (run.damages().0, "files were damaged"),
        (run.damages_refused(), "members ended of a damaged file"),
    ];
    let disks: String =
        counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!(", {count} {what}")).collect();
    match run.power_losses() {
        0 => format!("{} kills landed{disks}", run.kills()),
        losses => format!("{} kills and {losses} power losses landed{disks}", run.kills_alone()),
    }
}

impl Worth {
    pub fn of(run: &RunSummary) -> Self {
        let count = |wanted: fn(&CycleRecord) -> bool| run.cycles.iter().filter(|cycle| wanted(cycle)).count() as u32;
        let trials = count(is_trial);
        let violated = run.findings.iter().any(|finding| finding.class().verdict() == Verdict::Violation);
        let covers = |class: &str| run.fault_classes.iter().any(|covered| covered == class);
        Self {
            cycles_planned: run.plan.cycles,
            cycles_run: run.cycles.len() as u32,
            landed: count(|cycle| cycle.outcome == FaultOutcome::Landed),
            skipped: count(|cycle| matches!(cycle.outcome, FaultOutcome::Skipped { .. })),
            indeterminate: count(|cycle| matches!(cycle.outcome, FaultOutcome::Indeterminate { .. })),
            kills: run.kills(),
            power_losses: run.power_losses(),
            disks_filled: run.disks_filled(),
            io_errors: run.io_errors(),
            short_writes: run.met(LastingKind::Shorten),
            disk_ends: run.disk_ends(),
            damages: run.damages().0,
            damages_refused: run.damages_refused(),
            trials,
            entries_lost: run.lost_entries(),
            entries_verified: run.cycles.iter().map(|cycle| cycle.recovery.verified).sum(),
            entries_replayed: run.replayed(),
            snapshots_installed: count(|cycle| cycle.recovery.snapshot_installed),
            quiet_cycles: count(|cycle| cycle.unforced_terms.is_some()),
            unforced_terms: run.cycles.iter().filter_map(|cycle| cycle.unforced_terms).sum(),
            windows: windows(&run.cycles),
            divergence_rate_max_95: (trials > 0 && !violated).then(|| (3.0 / f64::from(trials)).min(1.0)),
            divergence_rate_caveat: caveat(run),
            fault_classes_covered: run.fault_classes.clone(),
            fault_classes_not_covered: FAULT_CLASSES
                .iter()
                .filter(|(class, _)| !covers(class))
                .map(|(class, _)| (*class).to_owned())
                .collect(),
        }
    }
}

fn caveat(run: &RunSummary) -> String {
    match run.suppressed() {
        0 => CAVEAT.to_owned(),
        _ => format!("{CAVEAT}; known findings are not counted"),
    }
}

fn is_trial(cycle: &CycleRecord) -> bool {
    cycle.landed() && cycle.fence_index.is_some() && cycle.proved_nothing.is_none()
}

fn windows(cycles: &[CycleRecord]) -> BTreeMap<String, WindowHits> {
    let mut windows: BTreeMap<String, WindowHits> = BTreeMap::new();
    let mut hits_seen: BTreeSet<(&str, u64)> = BTreeSet::new();
    for cycle in cycles.iter().filter(|cycle| !cycle.kills.none_planned) {
        let hits = windows.entry(cycle.planned.window.clone().unwrap_or_else(|| NO_WINDOW.to_owned())).or_default();
        if cycle.not_applicable {
            hits.not_applicable += 1;
            continue;
        }
        if !cycle.landed() {
            hits.missed += 1;
            continue;
        }
        if let (Some(window), Some(hit)) = (&cycle.planned.window, cycle.planned.hit) {
            hits.breadth += u32::from(hits_seen.insert((window, hit)));
        }
        // Only the first victim passed the window; the others died on the way to it, or with it.
        let there = if cycle.planned.window.is_some() { 1 } else { cycle.victims.len() };
        for victim in cycle.victims.iter().take(there) {
            match victim.role {
                Role::Leader => hits.leader += 1,
                Role::Follower => hits.follower += 1,
            }
        }
    }
    for again in cycles.iter().flat_map(|cycle| &cycle.kills.again) {
        let hits = windows.entry(again.window.clone()).or_default();
        match again.skipped {
            // A member that was just started does not lead.
            None => {
                hits.follower += 1;
                hits.breadth += u32::from(hits_seen.insert((&again.window, again.hit)));
            }
            Some(_) => hits.missed += 1,
        }
    }
    windows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;
    use ninelives_evidence::record::{AgainRecord, LastingKind, LastingRecord, Victim};
    use ninelives_evidence::verdict::{Class, Finding};

    /// A skipped cycle, one without a fence and one that proved nothing must not narrow the bound.
    #[test]
    fn only_cycles_that_prove_something_are_trials() {
        let run = sample::run();
        let worth = Worth::of(&run);
        assert_eq!((worth.cycles_run, worth.landed, worth.skipped, worth.indeterminate), (6, 4, 1, 1));
        assert_eq!(worth.landed + worth.skipped + worth.indeterminate, worth.cycles_run);
        assert_eq!(worth.trials, 3);
        assert_eq!(worth.divergence_rate_max_95, Some(1.0));
    }

    #[test]
    fn a_thousand_trials_bound_the_rate_at_three_in_a_thousand() {
        let mut run = sample::run();
        run.cycles = vec![run.cycles[0].clone(); 1000];
        assert_eq!(Worth::of(&run).divergence_rate_max_95, Some(0.003));
        run.findings.push(Finding::of_class(Class::StateHash));
        assert_eq!(Worth::of(&run).divergence_rate_max_95, None, "a divergence was seen: no bound from its absence");
        run.findings.clear();
        run.cycles.clear();
        assert_eq!(Worth::of(&run).divergence_rate_max_95, None, "no trial: no bound");
    }

    #[test]
    fn a_kill_run_never_claims_power_loss() {
        let worth = Worth::of(&sample::run());
        assert_eq!(worth.fault_classes_covered, ["kill"]);
        assert!(worth.fault_classes_not_covered.iter().any(|class| class == "power-loss"));
    }

    #[test]
    fn disks_are_counted_that_were_asked() {
        let mut run = sample::run();
        let kills = run.kills();
        let lasting = |kind, met| LastingRecord {
            fault: "fill minority#0 for 9ms at time 0ms".to_owned(),
            kind,
            victims: [2, 3].map(|member| Victim { member, role: Role::Follower }).into(),
            links: 0,
            lasted_ms: Some(9),
            behind: 0,
            majority: Vec::new(),
            majority_wrote_ms: None,
            met,
            operation: None,
            skipped: None,
            not_applicable: false,
        };
        let kinds = [
            (LastingKind::Fill, 7),
            (LastingKind::Fill, 0),
            (LastingKind::FailSync, 2),
            (LastingKind::FailWrite, 5),
            (LastingKind::Shorten, 9),
        ];
        run.cycles[0].lasting = kinds.map(|(kind, met)| lasting(kind, met)).into();
        run.cycles[1].kills.disk_ends = 3;
        // The power fails after a failed sync, without a kill.
        let cut = &mut run.cycles[2].kills;
        (cut.none_planned, cut.landed, cut.power_losses) = (true, 0, 2);
        let worth = Worth::of(&run);
        assert_eq!((worth.disks_filled, worth.io_errors, worth.short_writes, worth.disk_ends), (2, 7, 9, 3));
        let said = landed(&run);
        let disks = " landed, 2 disks were full, 2 syncs failed, 5 writes failed, 9 writes were cut short, 3 members ended of \
                     their disks";
        assert!(said.ends_with(disks), "{said}");
        assert!(
            run.kills_alone() < kills && said.starts_with(&format!("{} kills and 2 power losses", run.kills())),
            "{said}"
        );
    }

    /// An election is reached by killing the leader, who never stood in the window.
    #[test]
    fn only_the_member_in_the_window_counts_for_it() {
        let mut run = sample::run();
        let mut election = run.cycles[0].clone();
        election.planned.window = Some("vote.saved".to_owned());
        election.victims =
            [(2, Role::Follower), (1, Role::Leader)].map(|(member, role)| Victim { member, role }).into();
        run.cycles.push(election);
        assert_eq!(
            Worth::of(&run).windows["vote.saved"],
            WindowHits { follower: 1, breadth: 1, ..WindowHits::default() }
        );
    }

    #[test]
    fn what_does_not_exist_there_is_no_miss() {
        let mut run = sample::run();
        (run.cycles[4].not_applicable, run.cycles[4].recovery.snapshot_installed) = (true, false);
        assert_eq!(Worth::of(&run).windows["purge.between"], WindowHits { not_applicable: 1, ..WindowHits::default() });
    }

    #[test]
    fn a_kill_again_counts_for_its_own_window_and_a_step_without_a_kill_for_none() {
        let mut run = sample::run();
        let again = |hit, skipped| AgainRecord { member: 2, window: "recovery.replay-apply".to_owned(), hit, skipped };
        run.cycles[0].kills.again =
            vec![again(1, None), again(3, None), again(1, None), again(2, Some("caught up".to_owned()))];
        (run.cycles[2].kills.none_planned, run.cycles[2].kills.landed) = (true, 0);
        let windows = Worth::of(&run).windows;
        let expected = WindowHits { follower: 3, missed: 1, breadth: 2, ..WindowHits::default() };
        assert_eq!(windows["recovery.replay-apply"], expected);
        assert!(!windows.contains_key(NO_WINDOW), "{windows:?}");
    }

    #[test]
    fn a_window_that_was_only_missed_has_a_row() {
        let worth = Worth::of(&sample::run());
        assert_eq!(worth.windows["purge.between"], WindowHits { missed: 1, ..WindowHits::default() });
        assert_eq!(worth.windows[NO_WINDOW].landed(), 3, "all three members died in one cycle");
    }
}
