//! Tests of drawing plans, and of finding out those that do not fit.

use super::*;
use crate::scenario::{AilmentKind, DiskSpec, FaultKind, Quota, StrangersSpec, WhomKind};
use crate::subject::{FILE_OPERATIONS, FileLife, Reach, WINDOWS, Window};
use ninelives_evidence::limits;
use ninelives_evidence::member::{Engine, Role};
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
    let pairs: Vec<_> = with.iter().zip(&alone).filter_map(|(with, alone)| Some((kill(with)?, kill(alone)?))).collect();
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
    let pauses = plan.steps.iter().flat_map(|step| &step.faults).filter(|fault| matches!(fault, Fault::Pause { .. }));
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
    let leaders = plan.lines().filter(|line| line.contains(" leader ") && line.contains(" at file.raft-log.synced"));
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
    assert!(disks.iter().filter(loses).count() > 5 && disks.iter().filter(loses).all(|step| step.faults.len() == 1));
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
    assert_eq!(plan.steps, Plan::generate(&gate(), &Seed::new(7), 7, 1).steps, "who carries it out changes no kill");
    let text =
        |clusters: &str| format!("plan 1\nscenario x ab\nseed 1\ncycles 9\n{clusters}cycle 4  kill all at time 3ms\n");
    assert_eq!(text("").parse::<Plan>().unwrap().clusters, 1);
    assert_eq!(text("clusters 2\n").parse::<Plan>().unwrap().clusters, 2);
    assert!(text("clusters 0\n").parse::<Plan>().unwrap_err().to_string().contains("line 5: expected `clusters N`"));
}
