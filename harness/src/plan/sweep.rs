//! The sweep: each step of the protocols once, and not at random.
//!
//! A kill at every window that a member of the cluster can pass, in each role that passes it, at
//! its first and at a later pass; kills in the recovery from a kill and in an installation, three
//! in a row; and, where the scenario has upgrades, an interruption of `migrate` at each of its
//! windows, ended by `migrate` and by `serve`; and, where it has restores, one interrupted at each
//! of its windows, founded by all members and by one. The seed decides only which follower is
//! first.

use super::{At, Fault, Plan, Power, Restore, Step, Then, Upgrade, Way, When, Whom};
use crate::scenario::{RestoreKind, Scenario, WayKind, whom_of};
use crate::seed::{Seed, Stream};
use crate::subject::{Reach, WINDOWS, Window};
use ninelives_evidence::member::{Role, Slot};
use ninelives_evidence::record::QuotaRecord;

impl Plan {
    /// The sweep of `scenario`, for `clusters` clusters side by side.
    pub fn sweep(scenario: &Scenario, seed: &Seed, clusters: u32) -> Self {
        let mut ranks = seed.stream("victims");
        let mut faults: Vec<Fault> = windows(scenario).flat_map(|window| kills(scenario, window, &mut ranks)).collect();
        faults.extend(again(scenario, &mut ranks));
        faults.extend(migrations(scenario, clusters));
        faults.extend(restores(scenario));
        let steps: Vec<Step> = (1..).zip(faults).map(|(cycle, fault)| Step { cycle, faults: vec![fault] }).collect();
        let cycles = steps.len() as u32;
        let (name, digest) = (scenario.name.clone(), scenario.digest());
        Self { scenario: name, scenario_digest: digest, seed: seed.root(), cycles, clusters: clusters.max(1), steps }
    }

    /// A kill in each cell of the window grid that this plan is for.
    pub fn cells(&self) -> Vec<QuotaRecord> {
        let mut cells: Vec<QuotaRecord> = Vec::new();
        for step in &self.steps {
            let [Fault::Kill { whom, when: When::Window { window, .. }, ref again, .. }] = step.faults[..] else {
                continue;
            };
            if !again.is_empty() {
                continue;
            }
            let role = [Role::Leader, Role::Follower].into_iter().find(|role| whom_of(*role) == whom.kind);
            let Some(role) = role else { continue };
            match cells.iter_mut().find(|cell| cell.window == window.name && cell.role == role) {
                Some(cell) => cell.kills += 1,
                None => cells.push(QuotaRecord { window: window.name.to_owned(), role, kills: 1 }),
            }
        }
        cells
    }
}

/// The windows that some member of the cluster can pass while it runs the engine with which it
/// started.
fn windows(scenario: &Scenario) -> impl Iterator<Item = &'static Window> {
    scenario.known_windows().filter(|window| !window.is_of_an_operation())
}

fn kills(scenario: &Scenario, window: &'static Window, ranks: &mut Stream) -> Vec<Fault> {
    let rank = ranks.below(u64::from(scenario.cluster.members)) as u32;
    let roles = [Role::Leader, Role::Follower].map(whom_of).into_iter().filter(|kind| kind.reaches(window.reach));
    let kill = |(kind, hit)| Fault::Kill {
        whom: Whom { kind, rank: if kind == whom_of(Role::Leader) { 0 } else { rank } },
        when: When::Window { window, hit },
        again: Vec::new(),
        power: Power::Stays,
    };
    roles.flat_map(|kind| hits(window).into_iter().map(move |hit| (kind, hit))).map(kill).collect()
}

/// A first and a later pass. A window that a member passes once in its life, or once in a transfer,
/// has no later pass.
fn hits(window: &Window) -> Vec<u64> {
    match window.reach {
        Reach::Load | Reach::LoadOfLeader => vec![1, window.hit_max.max(2)],
        _ if window.hit_max > 1 => vec![1, window.hit_max],
        _ => vec![1],
    }
}

/// Kills in the recovery from a kill, three in a row: each window of recovery after one under load,
/// and each window of an installation after the one before it.
fn again(scenario: &Scenario, ranks: &mut Stream) -> Vec<Fault> {
    let all = || windows(scenario);
    let installing: Vec<_> = all().filter(|window| window.reach == Reach::SnapshotReceiver).collect();
    let recovering = all().filter(|window| matches!(window.reach, Reach::Recovery | Reach::Start));
    let Some(first) = all().find(|window| ["flush.completed", "group.visible"].contains(&window.name)) else {
        return Vec::new();
    };
    let of_recovery = recovering.map(|window| [first, window, window]);
    let of_installs = installing.windows(3).map(|three| [three[0], three[1], three[2]]);
    let kill = |three: [&'static Window; 3]| {
        let at = |window: &&'static Window| At { window, hit: 1 };
        let whom =
            Whom { kind: whom_of(Role::Follower), rank: ranks.below(u64::from(scenario.cluster.members)) as u32 };
        let when = When::Window { window: three[0], hit: 1 };
        Fault::Kill { whom, when, again: three[1..].iter().map(at).collect(), power: Power::Stays }
    };
    of_recovery.chain(of_installs).map(kill).collect()
}

/// On the first slot of the cluster whose turn it is, there and back: each window is passed towards
/// one engine with `then migrate`, and towards the other with `then serve`.
fn migrations(scenario: &Scenario, clusters: u32) -> Vec<Fault> {
    let first = scenario.upgrade.as_ref().zip(scenario.cluster.engines.first().copied());
    let Some((spec, engine)) = first else { return Vec::new() };
    let cut = (spec.cut_percent > 0).then_some(0);
    let mut faults = Vec::new();
    for window in WINDOWS.iter().filter(|window| WayKind::Migrate.reaches(window.reach)) {
        for (to, then) in [(engine.other(), Then::Migrate), (engine, Then::Serve)] {
            let kill = Some((At { window, hit: 1 }, then));
            // Each cluster goes there before any comes back.
            let fault = Fault::Upgrade(Upgrade { slot: Slot(1), to, way: Way::Migrate { kill, cut } });
            faults.extend(std::iter::repeat_n(fault, clusters.max(1) as usize));
        }
    }
    faults
}

/// Each window of a restore, by all members and by one.
fn restores(scenario: &Scenario) -> Vec<Fault> {
    if scenario.restore.is_none() {
        return Vec::new();
    }
    let windows = WINDOWS.iter().filter(|window| RestoreKind::reaches(window.reach));
    let both = windows.flat_map(|window| RestoreKind::ALL.map(|by| (window, by)));
    let restore =
        |(window, by)| Restore { slot: Slot(1), by, other: false, kill: Some(At { window, hit: 1 }), unlike: None };
    both.map(restore).map(Fault::Restore).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::path::Path;

    fn scenario(name: &str) -> Scenario {
        Scenario::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios").join(name)).unwrap()
    }

    #[test]
    fn every_window_in_every_role_at_two_passes() {
        let scenario = scenario("sweep.toml");
        let plan = Plan::sweep(&scenario, &Seed::new(7), 1);
        let lines: BTreeSet<String> = plan.steps.iter().map(Step::action).collect();
        assert_eq!(lines.len(), plan.steps.len(), "nothing twice");
        for window in
            WINDOWS.iter().filter(|window| scenario.cluster.engines.iter().any(|engine| window.exists_on(*engine)))
        {
            let at = format!(" at {} hit ", window.name);
            let count = lines.iter().filter(|line| line.contains(&at) && !line.contains("then at")).count();
            let expected = match window.reach {
                Reach::Load => 4,
                Reach::Defragmentation | Reach::Recovery | Reach::Start => 2 * hits(window).len(),
                Reach::Migration | Reach::Restore | Reach::Founding => 2,
                _ => hits(window).len(),
            };
            assert_eq!(count, expected, "{}", window.name);
        }
        assert_eq!(plan.to_string().parse::<Plan>().unwrap(), plan);
        let again = lines.iter().filter(|line| line.matches("then at").count() == 2).count();
        assert!(again > 10, "{again}");
        assert_eq!(plan.cells().iter().map(|cell| cell.kills as usize).sum::<usize>() + again + 24, plan.steps.len());
    }

    /// Each window of files, before and after, on leaders and followers; none without the fault
    /// filesystem.
    #[test]
    fn a_server_is_swept_at_the_windows_of_its_files() {
        let files = scenario("etcd-files.toml");
        let plan = Plan::sweep(&files, &Seed::new(7), 1);
        assert_eq!(plan.steps.len(), 4 * crate::subject::FILE_WINDOWS.len());
        assert_eq!(plan.misfit(&files), None);
        assert_eq!(Plan::sweep(&scenario("etcd.toml"), &Seed::new(7), 1).steps, []);
    }

    #[test]
    fn with_several_clusters_each_migrates_there_and_back() {
        let plan = Plan::sweep(&scenario("sweep.toml"), &Seed::new(7), 3);
        for cluster in 1..=3 {
            let to: Vec<_> = plan
                .steps_of(cluster)
                .filter_map(|step| match step.faults[..] {
                    [Fault::Upgrade(upgrade)] => Some(upgrade.to),
                    _ => None,
                })
                .collect();
            assert_eq!(to.len(), 12);
            assert!(to.windows(2).all(|pair| pair[0] != pair[1]), "{to:?}");
        }
    }
}
