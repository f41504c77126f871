//! The plan: the schedule of faults as text, a line per cycle, that parses back to the same plan.
//!
//! ```text
//! plan 1
//! scenario gate 3f0c…
//! seed 7
//! cycles 1000
//! clusters 2
//! cycle 1  kill follower#1 at flush.completed hit 2
//! cycle 2  kill leader at applied +120
//! cycle 3  kill minority#2 at time 240ms
//! cycle 4  upgrade slot#2 to rocksdb by migrate at migrate.copied hit 1
//! cycle 5  kill follower#1 at snapshot.unpacked hit 1 then at recovery.engine-open hit 1
//! cycle 7  restore slot#1 by one into other
//! cycle 8  isolate leader for 800ms at applied +12 + kill follower#0 at time 240ms
//! ```
//!
//! A fault composes *what*, *whom* and *when* ([`fault`]). `#k` is a rank: members are counted in
//! ascending slot order from the k-th on (modulo their number), so that the plan is fixed before
//! the leader is known. An upgrade names a slot ([`upgrade`]), and so does a restore ([`restore`]).
//! How a window is reached (a prior kill, an election, a member kept away) follows from the window
//! ([`crate::subject::Reach`]). Faults that are joined by ` + ` go on at the same time: those that
//! end by themselves begin, each at its place, and then the kill strikes. Lines may be deleted, and
//! faults of a line: the rest is still a plan. The same scenario and seed give the same bytes.
//! Without a line `clusters` there is one.

pub mod corrupt;
pub mod disk;
mod draw;
mod draw_disk;
mod draw_lasting;
pub mod fault;
mod parse;
mod parse_fault;
mod quota;
pub mod restore;
mod sweep;
pub mod upgrade;

pub use corrupt::Corruption;
pub use disk::{Ailment, DiskFault};
pub use fault::{At, Fault, Link, Power, When, Whom};
pub use parse::PlanError;
pub use restore::{Restore, Unlike};
pub use upgrade::{Then, Upgrade, Way};

use crate::scenario::{Scenario, TargetSpec};
use crate::seed::Seed;
use draw::Draw;
use ninelives_evidence::hex::hex;
use ninelives_evidence::member::Engine;
use restore::Restores;
use sha2::{Digest, Sha256};
use std::fmt;
use upgrade::Walk;

/// Version of the text form.
pub const PLAN_VERSION: u32 = 1;

/// Joins the faults of one cycle.
const TOGETHER: &str = " + ";

/// One cycle's faults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// From 1; ascending within a plan.
    pub cycle: u32,
    /// Never empty. At most one of them is a kill; an upgrade is alone, and so is a restore.
    pub faults: Vec<Fault>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Name and digest of the scenario that it was made from.
    pub scenario: String,
    pub scenario_digest: String,
    pub seed: u64,
    /// Cycles as planned first; steps may be fewer once lines were deleted.
    pub cycles: u32,
    /// Clusters that carry it out side by side, at least 1: cycle c is cluster ((c − 1) mod
    /// clusters) + 1's, whatever lines were deleted.
    pub clusters: u32,
    pub steps: Vec<Step>,
}

impl Plan {
    /// The schedule that `scenario` and `seed` make, `cycles` steps long, for `clusters` clusters
    /// side by side.
    pub fn generate(scenario: &Scenario, seed: &Seed, cycles: u32, clusters: u32) -> Self {
        let clusters = clusters.max(1);
        let mut draw = Draw::new(scenario, seed);
        // A slot may have a different engine in each cluster.
        let mut walks: Vec<_> = (1..=clusters).map(|cluster| Walk::new(scenario, seed, cluster)).collect();
        let mut restores: Vec<_> = (1..=clusters).map(|cluster| Restores::new(scenario, seed, cluster)).collect();
        let steps = (1..=cycles).map(|cycle| {
            // Drawn for every cycle, so that upgrades and restores move no other cycle's faults.
            let faults = draw.faults();
            let (turn, at) = ((cycle - 1) / clusters + 1, ((cycle - 1) % clusters) as usize);
            if let Some(restore) = restores[at].as_mut().and_then(|restores| restores.step(turn)) {
                if let Some(walk) = walks[at].as_mut().filter(|_| restore.other) {
                    walk.all_change();
                }
                return Step { cycle, faults: vec![Fault::Restore(restore)] };
            }
            let upgrade = walks[at].as_mut().and_then(|walk| walk.step(turn));
            Step { cycle, faults: upgrade.map_or(faults, |upgrade| vec![Fault::Upgrade(upgrade)]) }
        });
        let steps = steps.collect();
        Self {
            scenario: scenario.name.clone(),
            scenario_digest: scenario.digest(),
            seed: seed.root(),
            cycles,
            clusters,
            steps,
        }
    }

    /// The steps of cluster `cluster`, from 1.
    pub fn steps_of(&self, cluster: u32) -> impl Iterator<Item = &Step> {
        let clusters = self.clusters.max(1);
        self.steps.iter().filter(move |step| step.cycle.saturating_sub(1) % clusters + 1 == cluster)
    }

    /// Reason why this plan cannot be run on `scenario`'s cluster; `None`: it can.
    pub fn misfit(&self, scenario: &Scenario) -> Option<String> {
        let (members, rocksdb) = (scenario.cluster.members, scenario.cluster.memtable_bytes.is_some());
        let exchanges = |step: &&Step| matches!(step.faults[..], [Fault::Upgrade(_) | Fault::Restore(_)]);
        if let Some(step) = self.steps.iter().find(exchanges).filter(|_| self.ails_disks()) {
            return Some(format!(
                "expected no upgrade and no restore in a plan in which disks fail, because a directory that is exchanged under a \
                 mount would leave it, found `{step}`"
            ));
        }
        let corrupts = |step: &&Step| step.faults.iter().any(|fault| matches!(fault, Fault::Corrupt(_)));
        if let Some(step) = self.steps.iter().find(corrupts).filter(|_| scenario.power.is_some() || self.ails_disks()) {
            return Some(format!(
                "expected no damage of files in a plan whose directories are under a mount, which would go on showing what it \
                 has read, found `{step}`"
            ));
        }
        self.steps.iter().find_map(|step| match (&step.faults[..], &scenario.target) {
            ([Fault::Upgrade(upgrade)], TargetSpec::Node) if upgrade.slot.0 > u64::from(members) => {
                Some(format!("expected a slot of 1 to {members}, found `{step}`"))
            }
            ([Fault::Upgrade(Upgrade { to: Engine::Rocksdb, .. })], TargetSpec::Node) if !rocksdb => {
                Some(format!("expected `cluster.memtable_bytes` in the scenario, because of `{step}`, found none"))
            }
            ([Fault::Restore(restore)], TargetSpec::Node) if restore.greatest_slot().0 > u64::from(members) => {
                Some(format!("expected a slot of 1 to {members}, found `{step}`"))
            }
            ([Fault::Restore(Restore { other: true, .. })], TargetSpec::Node) if !rocksdb => {
                Some(format!("expected `cluster.memtable_bytes` in the scenario, because of `{step}`, found none"))
            }
            ([Fault::Upgrade(Upgrade { way: Way::Replace { .. }, .. }) | Fault::Restore(_)], TargetSpec::Node)
                if scenario.power.is_some() =>
            {
                Some(format!(
                    "expected neither an upgrade by replace nor a restore beside `[power]`, because a directory that is exchanged \
                     under a mount would leave it, found `{step}`"
                ))
            }
            (faults, _) if scenario.power.is_none() && faults.iter().any(Fault::cuts) => {
                Some(format!("expected a table `[power]` in the scenario, because of `{step}`, found none"))
            }
            (faults, TargetSpec::Node)
                if scenario.power.is_none()
                    && faults.iter().any(|fault| fault.window_of_the_nodes_files().is_some()) =>
            {
                Some(format!(
                    "expected a table `[power]` in the scenario, because `{step}` strikes at an operation on files, which only the \
                     fault filesystem holds; found none"
                ))
            }
            (faults, TargetSpec::Server(server))
                if !faults.iter().all(|fault| fault.fits_a_server(server.fault_filesystem)) =>
            {
                let files = if server.fault_filesystem { ", and at windows of files" } else { "" };
                Some(format!(
                    "expected kills and pauses at applied indexes and times{files}, because only etcd's API is known of {}, found \
                     `{step}`",
                    server.name
                ))
            }
            _ => None,
        })
    }

    /// Whether any step needs the peer links to be under control.
    pub fn disturbs_links(&self) -> bool {
        self.steps.iter().flat_map(|step| &step.faults).any(|fault| matches!(fault, Fault::Network { .. }))
    }

    /// Whether any step needs the disks to be under control.
    pub fn ails_disks(&self) -> bool {
        self.steps.iter().flat_map(|step| &step.faults).any(|fault| matches!(fault, Fault::Disk(_)))
    }

    /// SHA-256 of the text form, lower-case hex.
    pub fn digest(&self) -> String {
        hex(&Sha256::digest(self.to_string().as_bytes()))
    }
}

impl Step {
    /// The step without its number: `kill leader at applied +120`.
    pub fn action(&self) -> String {
        self.faults.iter().map(Fault::to_string).collect::<Vec<_>>().join(TOGETHER)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cycle {}  {}", self.cycle, self.action())
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "plan {PLAN_VERSION}")?;
        writeln!(f, "scenario {} {}", self.scenario, self.scenario_digest)?;
        writeln!(f, "seed {}", self.seed)?;
        writeln!(f, "cycles {}", self.cycles)?;
        if self.clusters > 1 {
            writeln!(f, "clusters {}", self.clusters)?;
        }
        self.steps.iter().try_for_each(|step| writeln!(f, "{step}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{
        AilmentKind, DiskSpec, FaultKind, Quota, RestoreKind, StrangersSpec, UnlikeKind, WayKind, WhomKind,
    };
    use crate::subject::{FILE_OPERATIONS, FileLife, Reach, WINDOWS, Window, all_windows};
    use ninelives_evidence::limits;
    use ninelives_evidence::member::{Role, Slot};
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::path::Path;

    fn gate() -> Scenario {
        Scenario::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/gate.toml")).unwrap()
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes_and_another_does_not() {
        let scenario = gate();
        let text = |seed| Plan::generate(&scenario, &Seed::new(seed), 200, 1).to_string();
        assert_eq!(text(7), text(7));
        assert_ne!(text(7), text(8));
    }

    /// A longer plan begins with the shorter one: `--cycles` never changes what comes before.
    #[test]
    fn more_cycles_only_append() {
        let scenario = gate();
        let plan = |cycles| Plan::generate(&scenario, &Seed::new(7), cycles, 1).steps;
        assert_eq!(plan(300)[..100], plan(100));
    }

    #[test]
    fn every_step_can_be_carried_out_and_the_gate_uses_all_its_windows() {
        let scenario = gate();
        let plan = Plan::generate(&scenario, &Seed::new(7), 1000, 1);
        for step in &plan.steps {
            if let [Fault::Kill { whom, when: When::Window { window, hit }, .. }] = step.faults[..] {
                assert!(whom.kind.reaches(window.reach), "{step}");
                assert!((1..=window.hit_max).contains(&hit), "{step}");
            }
        }
        for (window, _) in &scenario.windows {
            let used = |step: &&Step| matches!(step.faults[..], [Fault::Kill { when: When::Window { window: used, .. }, .. }] if used == *window);
            assert!(plan.steps.iter().any(|step| used(&step)), "{} never drawn", window.name);
        }
    }

    fn chaos() -> Scenario {
        Scenario::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/chaos.toml")).unwrap()
    }

    #[test]
    fn chaos_draws_every_kind_of_fault_and_nothing_that_parsing_refuses() {
        let plan = Plan::generate(&chaos(), &Seed::new(7), 1000, 1);
        assert_eq!(plan.to_string().parse::<Plan>().unwrap(), plan);
        assert!(plan.disturbs_links() && !Plan::generate(&gate(), &Seed::new(7), 1000, 1).disturbs_links());
        let count = |wanted: &dyn Fn(&Step) -> bool| plan.steps.iter().filter(|step| wanted(step)).count();
        let kills = |step: &Step| step.faults.iter().any(|fault| matches!(fault, Fault::Kill { .. }));
        for link in ["isolate", "mute", "deafen", "delay", "pause"] {
            assert!(count(&|step| step.action().starts_with(link)) > 20, "{link}");
        }
        assert!(count(&|step| kills(step) && step.faults.len() > 1) > 50, "a kill beside something else");
        assert!(count(&|step| !kills(step) && step.faults.len() > 1) > 20, "several without a kill");
        for times in 1..=limits::AGAIN_DRAWN_MAX {
            let again = |fault: &Fault| matches!(fault, Fault::Kill { again, .. } if again.len() == times);
            assert!(count(&|step| step.faults.iter().any(again)) > 10, "{times} times again");
        }
    }

    /// Parsing accepts everything that is drawn from windows that a scenario may name in `[again]`.
    #[test]
    fn no_kill_again_is_drawn_where_it_cannot_follow() {
        let mut scenario = chaos();
        let passed_by_starting = |window: &&Window| {
            matches!(window.reach, Reach::Recovery | Reach::Start | Reach::Reinstall | Reach::SnapshotReceiver)
        };
        scenario.faults.again = WINDOWS.iter().filter(passed_by_starting).map(|window| (Some(window), 1)).collect();
        let plan = Plan::generate(&scenario, &Seed::new(7), 500, 1);
        assert_eq!(plan.to_string().parse::<Plan>().unwrap(), plan);
    }

    /// One more kind of fault takes the place of some kills, and moves none of the others.
    #[test]
    fn the_kills_are_what_they_would_be_alone() {
        let (with, mut alone) = (chaos(), chaos());
        alone.faults.kinds.retain(|(kind, _)| *kind == FaultKind::Kill);
        let [with, alone] = [with, alone].map(|scenario| Plan::generate(&scenario, &Seed::new(7), 300, 1).steps);
        let kill = |step: &Step| step.faults.iter().find(|fault| matches!(fault, Fault::Kill { .. })).cloned();
        let pairs: Vec<_> =
            with.iter().zip(&alone).filter_map(|(with, alone)| Some((kill(with)?, kill(alone)?))).collect();
        assert!(pairs.len() > 100);
        assert!(pairs.iter().all(|(with, alone)| with == alone));
    }

    /// Strangers follow kills, and move none of them.
    #[test]
    fn strangers_are_drawn_behind_kills_and_change_nothing_else() {
        let mut scenario = chaos();
        scenario.strangers = Some(StrangersSpec { kills_percent: 60, stay_ms: (300, 900) });
        let plan = Plan::generate(&scenario, &Seed::new(7), 300, 1);
        assert_eq!(plan.to_string().parse::<Plan>().unwrap(), plan);
        let stay = |fault: &Fault| matches!(fault, Fault::Strangers { ms: 300..=900 });
        let without = |step: &Step| step.faults.iter().filter(|fault| !stay(fault)).cloned().collect::<Vec<_>>();
        let alone = Plan::generate(&chaos(), &Seed::new(7), 300, 1).steps;
        assert!(plan.steps.iter().zip(&alone).all(|(with, alone)| without(with) == alone.faults));
        let kills = alone.iter().filter(|step| step.faults.iter().any(|fault| matches!(fault, Fault::Kill { .. })));
        let stays = plan.steps.iter().filter(|step| step.faults.iter().any(stay)).count();
        assert!((kills.count() * 2 / 5..300).contains(&stays) && stays < 240, "{stays}");
    }

    #[test]
    fn what_has_no_weight_is_beside_nothing() {
        let mut scenario = chaos();
        scenario.faults.kinds.retain(|(kind, _)| *kind != FaultKind::Network);
        let plan = Plan::generate(&scenario, &Seed::new(7), 300, 1);
        let pauses =
            plan.steps.iter().flat_map(|step| &step.faults).filter(|fault| matches!(fault, Fault::Pause { .. }));
        assert!(pauses.count() > 20 && !plan.disturbs_links());
    }

    #[test]
    fn a_plan_for_another_cluster_is_found_out() {
        let text =
            |line: &str| format!("plan 1\nscenario x ab\nseed 1\ncycles 9\ncycle 4  {line}\n").parse::<Plan>().unwrap();
        let on = |members, memtable_bytes| {
            let mut scenario = gate();
            (scenario.cluster.members, scenario.cluster.memtable_bytes) = (members, memtable_bytes);
            scenario
        };
        let far = text("upgrade slot#4 to redb by replace");
        assert!(far.misfit(&on(3, Some(1))).unwrap().contains("slot of 1 to 3"));
        assert_eq!(far.misfit(&on(5, None)), None);
        let rocksdb = text("upgrade slot#1 to rocksdb by migrate");
        assert!(rocksdb.misfit(&on(3, None)).unwrap().contains("memtable_bytes"));
        assert_eq!(rocksdb.misfit(&on(3, Some(1))), None);
        let restored = text("restore slot#4 by one into other");
        assert!(restored.misfit(&on(3, Some(1))).unwrap().contains("slot of 1 to 3"));
        assert!(restored.misfit(&on(5, None)).unwrap().contains("memtable_bytes"));
        assert_eq!(restored.misfit(&on(5, Some(1))), None);
        let unlike = text("restore slot#1 by all unlike slot#4 empty");
        assert!(unlike.misfit(&on(3, None)).unwrap().contains("slot of 1 to 3"));
        let both = text("upgrade slot#1 to redb by replace\ncycle 5  fill all for 9ms at time 3ms");
        assert!(both.misfit(&on(5, Some(1))).unwrap().contains("in which disks fail"));
        let lossy = text("fail-sync leader losing at time 3ms");
        assert!(lossy.misfit(&on(3, Some(1))).unwrap().contains("expected a table `[power]`"));
        assert_eq!(text("fail-sync leader keeping at time 3ms").misfit(&on(3, Some(1))), None);
        let cut = text("upgrade slot#1 to redb by migrate then cut");
        assert!(cut.misfit(&on(3, Some(1))).unwrap().contains("expected a table `[power]`"));
        let power = Scenario { power: power_files().power, ..on(3, Some(1)) };
        assert_eq!(cut.misfit(&power), None);
        let replaced = text("upgrade slot#1 to redb by replace");
        assert!(replaced.misfit(&power).unwrap().contains("beside `[power]`"));
    }

    #[test]
    fn a_server_that_is_known_by_its_api_has_no_windows() {
        let toml = "cycles = 1\n[target.etcd]\n[cluster]\nmembers = 3\n[load]\nclients = 1\nkeys = 1\nvalue_bytes_max = 64\n\
                    op_timeout_ms = 99\ncompact_every_ops = 9\n[whom]\nall = 1\n[when]\ntime = 1\n";
        let parse = |toml: &str| Scenario::parse(Path::new("etcd.toml"), toml.to_owned()).unwrap();
        let etcd = parse(toml);
        let misfits = |line: &str, scenario: &Scenario| {
            let plan: Plan = format!("plan 1\nscenario x ab\nseed 1\ncycles 9\ncycle 4  {line}\n").parse().unwrap();
            plan.misfit(scenario).is_some()
        };
        let misfit = |line: &str| misfits(line, &etcd);
        assert!(misfit("kill leader at applied +12 + strangers for 800ms"));
        assert!(!misfit("kill leader at applied +12") && !misfit("pause all for 9ms at time 4ms"));
        assert!(misfit("kill leader at flush.begin hit 1") && misfit("upgrade slot#1 to redb by replace"));
        assert!(misfit("restore slot#1 by all"));
        assert!(
            misfit("kill leader at time 3ms then at recovery.engine-open hit 1")
                && misfit("mute all for 9ms at time 4ms")
                && misfit("fill all for 9ms at time 4ms")
        );
        let files = parse(&toml.replacen("[target.etcd]", "[target.etcd]\nfault_filesystem = true", 1));
        for fits in ["kill leader at wal.sync hit 3", "pause all for 9ms at db.synced hit 1"] {
            assert!(misfit(fits) && !misfits(fits, &files), "{fits}");
        }
        assert!(misfits("kill leader at raft.fsync hit 1", &files));
        assert!(misfits("kill leader at file.raft-log.sync hit 1", &files), "the node's");
    }

    fn power_files() -> Scenario {
        Scenario::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/power-files.toml")).unwrap()
    }

    #[test]
    fn points_of_files_are_drawn_and_swept_and_need_the_fault_filesystem() {
        let scenario = power_files();
        let plan = Plan::generate(&scenario, &Seed::new(7), 2_000, 1);
        assert_eq!(plan.to_string().parse::<Plan>().unwrap(), plan);
        assert_eq!(plan.misfit(&scenario), None);
        for (window, _) in &scenario.windows {
            assert!(plan.to_string().contains(&format!(" at {} hit ", window.name)), "{} never drawn", window.name);
        }
        let sweep = Plan::sweep(&scenario, &Seed::new(7), 1);
        assert_eq!(sweep.to_string().parse::<Plan>().unwrap(), sweep);
        assert!(sweep.to_string().contains("kill follower#"), "{sweep}");
        assert!(sweep.to_string().contains(" at file.install.directory.sync hit 3"), "{sweep}");
        let plain = Scenario { power: None, ..scenario };
        let misfit = |line: &str| {
            let plan: Plan = format!("plan 1\nscenario x ab\nseed 1\ncycles 9\ncycle 4  {line}\n").parse().unwrap();
            plan.misfit(&plain)
        };
        for line in [
            "kill leader at file.raft-log.sync hit 3",
            "pause all for 9ms at file.sst.synced hit 1",
            "kill leader at flush.begin hit 1 then at file.start.current.rename hit 1",
        ] {
            assert!(misfit(line).is_some_and(|why| why.contains("`[power]`")), "{line}");
        }
        assert_eq!(misfit("kill leader at raft.fsync hit 3"), None);
    }

    /// A member that was just added can be killed again where it installs the snapshot that it is
    /// sent; nothing else leads to its first life.
    #[test]
    fn a_first_life_is_followed_by_an_installation() {
        let parse =
            |line: &str| format!("plan 1\nscenario x ab\nseed 1\ncycles 9\ncycle 4  {line}\n").parse::<Plan>().is_ok();
        assert!(parse("kill follower#1 at file.join.raft-log.renamed hit 1 then cut at snapshot.installed hit 1"));
        assert!(!parse("kill follower#1 at file.raft-log.sync hit 1 then cut at snapshot.installed hit 1"));
        assert!(!parse("kill follower#1 at raft.fsync hit 1 then cut at file.join.marker.sync hit 1"));
        assert!(!parse("kill leader at file.join.marker.sync hit 1"));
        assert!(parse("kill follower#1 at file.join.marker.sync hit 1"));
        assert!(!parse("pause leader for 9ms at time 4ms + kill follower#1 at file.join.marker.sync hit 1"));
    }

    /// Quotas of such windows are filled like any others.
    #[test]
    fn points_of_files_have_quotas() {
        let mut scenario = power_files();
        let of = |name: &str| crate::subject::find_window(name).unwrap();
        let cells = [("file.join.marker.renamed", Role::Follower), ("file.raft-log.synced", Role::Leader)];
        scenario.quotas = cells.map(|(window, role)| Quota { window: of(window), role, kills: 9 }).to_vec();
        let plan = Plan::generate(&scenario, &Seed::new(7), 100, 1).to_string();
        assert!(plan.matches(" at file.join.marker.renamed hit ").count() >= 9, "{plan}");
        let leaders =
            plan.lines().filter(|line| line.contains(" leader ") && line.contains(" at file.raft-log.synced"));
        assert!(leaders.count() >= 9, "{plan}");
    }

    /// Disks fail in their cycles alone, at times beside a kill, and move no other cycle.
    #[test]
    fn disks_fail_beside_what_there_is() {
        let mut scenario = gate();
        // Kills that are not planned would be made up for.
        scenario.quotas.clear();
        let alone = Plan::generate(&scenario, &Seed::new(7), 300, 1);
        scenario.faults.kinds = vec![(FaultKind::Kill, 1), (FaultKind::Disk, 1)];
        scenario.disk = Some(DiskSpec {
            ailments: vec![(AilmentKind::Fill, 3), (AilmentKind::FailSync, 1), (AilmentKind::Slow, 1)],
            fail_ms: limits::FAIL_MS_DRAWN,
            once_percent: 50,
            shorten_ms: limits::FILL_MS_DRAWN,
            fill_ms: limits::FILL_MS_DRAWN,
            left_kib: limits::LEFT_KIB_DRAWN,
            nothing_left_percent: 30,
            slow_ms: limits::FILL_MS_DRAWN,
            slow_by_ms: limits::SLOW_BY_MS_DRAWN,
            losing_percent: 50,
            with_kill_percent: 40,
        });
        let plan = Plan::generate(&scenario, &Seed::new(7), 300, 1);
        assert_eq!(plan.to_string().parse::<Plan>().unwrap(), plan);
        assert!(plan.ails_disks() && !alone.ails_disks());
        let is_disk = |fault: &Fault| matches!(fault, Fault::Disk(_));
        let disks: Vec<_> = plan.steps.iter().filter(|step| step.faults.iter().any(is_disk)).collect();
        let (with_kill, all) = (disks.iter().filter(|step| step.faults.len() == 2).count(), disks.len());
        assert!((100..200).contains(&all) && (all / 5..all * 3 / 5).contains(&with_kill), "{all}, {with_kill}");
        let loses = |step: &&&Step| step.faults.iter().any(Fault::cuts);
        assert!(
            disks.iter().filter(loses).count() > 5 && disks.iter().filter(loses).all(|step| step.faults.len() == 1)
        );
        let mortal = |step: &&&Step| matches!(step.faults[0], Fault::Disk(fault) if fault.ailment.may_end_a_member());
        assert!((all / 8..all * 2 / 3).contains(&disks.iter().filter(mortal).count()));
        let kills = |plan: &Plan| plan.steps.iter().map(|step| step.faults.last().cloned()).collect::<Vec<_>>();
        let pairs = kills(&plan).into_iter().zip(kills(&alone));
        assert!(pairs.filter(|(with, _)| !with.as_ref().is_some_and(is_disk)).all(|(with, alone)| with == alone));
    }

    /// Reads and writes that a member of the scenario makes fail. Where only a start makes them,
    /// the same members are killed.
    #[test]
    fn reads_and_writes_fail_where_a_member_makes_them() {
        let mut scenario =
            Scenario::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/io-error.toml")).unwrap();
        let disk = scenario.disk.as_mut().unwrap();
        disk.ailments = vec![(AilmentKind::FailRead, 1), (AilmentKind::FailWrite, 1), (AilmentKind::Shorten, 1)];
        (disk.once_percent, disk.with_kill_percent) = (50, 0);
        let plan = Plan::generate(&scenario, &Seed::new(7), 600, 1);
        assert_eq!(plan.to_string().parse::<Plan>().unwrap(), plan);
        let mut seen = BTreeSet::new();
        let mut once = 0;
        for step in &plan.steps {
            let Fault::Disk(fault) = &step.faults[0] else { continue };
            let operation = fault.ailment.operation().unwrap();
            assert!(operation.exists_on(Engine::Rocksdb), "{step}");
            assert_eq!(fault.ailment.may_end_a_member(), fault.ailment.meets_starts(), "{step}");
            once += u32::from(matches!(fault.ailment, Ailment::Fail { ms: 0, .. }));
            let killed = matches!(step.faults[1..], [Fault::Kill { whom, .. }] if whom == fault.whom);
            assert_eq!(killed, operation.brought_by == FileLife::Start, "{step}");
            seen.insert(operation.name);
        }
        let could = FILE_OPERATIONS.iter().filter(|one| one.exists_on(Engine::Rocksdb));
        let could: BTreeSet<_> = could.filter(|one| one.brought_by != FileLife::Snapshot).map(|one| one.name).collect();
        assert_eq!(seen, could);
        assert!(once > 20, "{once}");
    }

    /// A window of small weight, in the role that is chosen least, gets what its quota asks for,
    /// and more cycles still only append.
    #[test]
    fn a_plan_is_drawn_towards_its_quotas() {
        let mut scenario = gate();
        scenario.quotas = scenario
            .windows
            .iter()
            .filter(|(window, _)| WhomKind::Leader.reaches(window.reach))
            .map(|(window, _)| Quota { window, role: Role::Leader, kills: 8 })
            .collect();
        let plan = Plan::generate(&scenario, &Seed::new(7), 1000, 1);
        for Quota { window, kills, .. } in &scenario.quotas {
            let fits = |step: &&Step| matches!(step.faults[..], [Fault::Kill { whom, when: When::Window { window: at, .. }, .. }] if at == *window && whom.kind == WhomKind::Leader);
            let planned = plan.steps.iter().filter(fits).count();
            assert!(planned >= (*kills + limits::QUOTA_MARGIN) as usize, "{}: {planned}", window.name);
        }
        assert_eq!(plan.steps[..300], Plan::generate(&scenario, &Seed::new(7), 300, 1).steps);
    }

    #[test]
    fn cycles_are_dealt_out_to_the_clusters() {
        let plan = Plan::generate(&gate(), &Seed::new(7), 7, 3);
        let of = |cluster| plan.steps_of(cluster).map(|step| step.cycle).collect::<Vec<_>>();
        assert_eq!([of(1), of(2), of(3)], [vec![1, 4, 7], vec![2, 5], vec![3, 6]]);
        assert_eq!(
            plan.steps,
            Plan::generate(&gate(), &Seed::new(7), 7, 1).steps,
            "who carries it out changes no kill"
        );
        let text = |clusters: &str| {
            format!("plan 1\nscenario x ab\nseed 1\ncycles 9\n{clusters}cycle 4  kill all at time 3ms\n")
        };
        assert_eq!(text("").parse::<Plan>().unwrap().clusters, 1);
        assert_eq!(text("clusters 2\n").parse::<Plan>().unwrap().clusters, 2);
        assert!(
            text("clusters 0\n").parse::<Plan>().unwrap_err().to_string().contains("line 5: expected `clusters N`")
        );
    }

    fn any_whom() -> impl Strategy<Value = Whom> {
        (prop::sample::select(WhomKind::ALL.to_vec()), 0..7u32).prop_map(|(kind, rank)| {
            let rank = if matches!(kind, WhomKind::Leader | WhomKind::All) { 0 } else { rank };
            Whom { kind, rank }
        })
    }

    fn any_when() -> impl Strategy<Value = When> {
        prop_oneof![
            (prop::sample::select(all_windows().collect::<Vec<_>>()), 1..u64::MAX)
                .prop_map(|(window, hit)| When::Window { window, hit }),
            (0..=limits::PLAN_AHEAD_MAX).prop_map(|ahead| When::Applied { ahead }),
            (0..=limits::PLAN_TIME_MS_MAX).prop_map(|ms| When::Time { ms }),
        ]
    }

    fn any_again() -> impl Strategy<Value = Vec<At>> {
        let windows: Vec<_> =
            WINDOWS.iter().filter(|window| matches!(window.reach, Reach::Recovery | Reach::Start)).collect();
        let at = (prop::sample::select(windows), 1..u64::MAX).prop_map(|(window, hit)| At { window, hit });
        prop::collection::vec(at, 0..=limits::PLAN_AGAIN_MAX)
    }

    fn any_power() -> impl Strategy<Value = Power> {
        let keep_percent = 0..=100u32;
        prop_oneof![
            Just(Power::Stays),
            keep_percent.clone().prop_map(|keep_percent| Power::Fails { keep_percent }),
            keep_percent.prop_map(|keep_percent| Power::FailsLast { keep_percent }),
        ]
    }

    /// The last kill alone is one of several.
    fn fitting(power: Power, again: &[At]) -> Power {
        match power {
            Power::FailsLast { keep_percent } if again.is_empty() => Power::Fails { keep_percent },
            power => power,
        }
    }

    fn any_kill() -> impl Strategy<Value = Fault> {
        // A window must be one that its victims can pass, or parsing refuses it.
        (any_whom(), any_when(), any_again(), any_power())
            .prop_map(|(whom, when, again, power)| Fault::Kill { whom, when, power: fitting(power, &again), again })
            .prop_filter("victims that fit their window", |fault| match fault {
                Fault::Kill { whom, when: When::Window { window, .. }, .. } => whom.kind.reaches(window.reach),
                _ => true,
            })
    }

    fn any_lasting() -> impl Strategy<Value = Fault> {
        let when = any_when().prop_filter("a window that load leads to", |when| match when {
            When::Window { window, .. } => window.reach == Reach::Load,
            _ => true,
        });
        let link = prop_oneof![
            prop::sample::select(vec![Link::Isolate, Link::Mute, Link::Deafen]),
            (1..=limits::PLAN_DELAY_MS_MAX).prop_map(|by_ms| Link::Delay { by_ms }),
        ];
        let (pause, network) = (1..=limits::PLAN_PAUSE_MS_MAX, 1..=limits::PLAN_NETWORK_MS_MAX);
        (any_whom(), when, prop::option::of(link), pause, network).prop_map(|(whom, when, link, pause, network)| {
            match link {
                Some(link) => Fault::Network { link, whom, when, ms: network },
                None => Fault::Pause { whom, when, ms: pause },
            }
        })
    }

    fn any_failing() -> impl Strategy<Value = Ailment> {
        let operation = prop::sample::select(FILE_OPERATIONS.iter().collect::<Vec<_>>());
        let numbers = (1..=limits::PLAN_FAIL_HIT_MAX, 1..=limits::PLAN_FAIL_MS_MAX, 0..3u32);
        (operation, numbers).prop_map(|(operation, (hit, ms, how))| match how {
            0 if !operation.reads() => Ailment::Shorten { operation, ms },
            1 if !operation.reads() => Ailment::Fail { operation, hit, ms: 0 },
            _ => Ailment::Fail { operation, hit, ms },
        })
    }

    fn any_disk() -> impl Strategy<Value = Fault> {
        let (min, max) = limits::PLAN_LEFT_KIB;
        let left_kib = prop_oneof![Just(0), min..=max];
        let ailment = prop_oneof![
            (left_kib, 1..=limits::PLAN_FILL_MS_MAX).prop_map(|(left_kib, ms)| Ailment::Fill { left_kib, ms }),
            Just(Ailment::FailSync { losing: false }),
            any_failing(),
            (1..=limits::PLAN_SLOW_BY_MS_MAX, 1..=limits::PLAN_SLOW_MS_MAX)
                .prop_map(|(by_ms, ms)| Ailment::Slow { by_ms, ms }),
        ];
        (any_whom(), (0..=limits::PLAN_TIME_MS_MAX), ailment)
            .prop_map(|(whom, ms, ailment)| Fault::Disk(DiskFault { ailment, whom, when: When::Time { ms } }))
    }

    fn any_faults() -> impl Strategy<Value = Vec<Fault>> {
        let lasting = prop::collection::vec(any_lasting(), 0..limits::PLAN_FAULTS_MAX - 1);
        let together = (prop::option::of(any_kill()), prop::option::of(any_disk()), lasting);
        prop_oneof![
            any_upgrade().prop_map(|upgrade| vec![upgrade]),
            any_restore().prop_map(|restore| vec![restore]),
            any_strangers(),
            together
                .prop_map(|(kill, disk, lasting)| kill.into_iter().chain(disk).chain(lasting).collect::<Vec<_>>())
                .prop_filter("a fault", |faults| !faults.is_empty()),
        ]
        .prop_filter("a first life alone", |faults| faults.len() == 1 || !faults.iter().any(Fault::joins))
    }

    /// Behind a kill, which lasting faults may go on beside.
    fn any_strangers() -> impl Strategy<Value = Vec<Fault>> {
        let lasting = prop::collection::vec(any_lasting(), 0..limits::PLAN_FAULTS_MAX - 1);
        (lasting, any_kill(), 1..=limits::PLAN_STRANGERS_MS_MAX).prop_map(|(mut faults, kill, ms)| {
            faults.extend([kill, Fault::Strangers { ms }]);
            faults
        })
    }

    fn any_restore() -> impl Strategy<Value = Fault> {
        let windows: Vec<_> = WINDOWS.iter().filter(|window| RestoreKind::reaches(window.reach)).collect();
        let at = (prop::sample::select(windows), 1..u64::MAX).prop_map(|(window, hit)| At { window, hit });
        let by = prop::sample::select(RestoreKind::ALL.to_vec());
        let from = prop::sample::select(UnlikeKind::ALL.to_vec());
        let unlike = (1..9u64, from).prop_map(|(slot, from)| Unlike { slot: Slot(slot), from });
        (1..9u64, by, any::<bool>(), prop::option::of(at), prop::option::of(unlike)).prop_map(
            |(slot, by, other, kill, unlike)| {
                let unlike = unlike.filter(|_| by == RestoreKind::All && kill.is_none());
                Fault::Restore(Restore { slot: Slot(slot), by, other, kill, unlike })
            },
        )
    }

    fn any_upgrade() -> impl Strategy<Value = Fault> {
        let windows = |kind: WayKind| -> Vec<&'static Window> {
            WINDOWS.iter().filter(|window| kind.reaches(window.reach)).collect()
        };
        let at = move |kind| {
            let any = (prop::sample::select(windows(kind)), 1..u64::MAX).prop_map(|(window, hit)| At { window, hit });
            prop::option::of(any)
        };
        let then = prop::sample::select(vec![Then::Migrate, Then::Serve]);
        let way = prop_oneof![
            (at(WayKind::Migrate), then, prop::option::of(0..=100u32))
                .prop_map(|(at, then, cut)| Way::Migrate { kill: at.map(|at| (at, then)), cut }),
            at(WayKind::Replace).prop_map(|kill| Way::Replace { kill }),
        ];
        (1..9u64, prop::sample::select(Engine::ALL.to_vec()), way)
            .prop_map(|(slot, to, way)| Fault::Upgrade(Upgrade { slot: Slot(slot), to, way }))
    }

    proptest! {
        #[test]
        fn what_is_printed_parses_back(
            seed in any::<u64>(),
            clusters in 1..5u32,
            steps in prop::collection::vec((1..5u32, any_faults()), 0..40),
        ) {
            let mut cycle = 0;
            let steps: Vec<_> = steps.into_iter()
                // Gaps between the numbers: what deleting lines leaves.
                .map(|(gap, faults)| { cycle += gap; Step { cycle, faults } })
                .collect();
            let plan = Plan { scenario: "x-1".into(), scenario_digest: "ab".repeat(32), seed, cycles: cycle, clusters, steps };
            prop_assert_eq!(plan.to_string().parse::<Plan>().unwrap(), plan);
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "(plan 1\nscenario x y\nseed 1\ncycles 9\n)?(cycle 1  (kill|pause all for |delay all by |upgrade slot#|restore slot#)?)?[ -~\n]{0,200}") {
            let _ = text.parse::<Plan>();
        }
    }
}
