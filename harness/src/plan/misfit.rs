//! Whether a plan can be run on a scenario's cluster: a stored plan may be older than the scenario.

use super::{Fault, Plan, Step, Upgrade, Way};
use crate::scenario::{ClusterSpec, Scenario, TargetSpec};
use crate::subject::ServerSpec;
use ninelives_evidence::member::Engine;

impl Plan {
    /// Reason why this plan cannot be run on `scenario`'s cluster; `None`: it can.
    pub fn misfit(&self, scenario: &Scenario) -> Option<String> {
        let (power, disks) = (scenario.power.is_some(), self.ails_disks());
        self.steps.iter().find_map(|step| {
            let for_all = under_a_mount(step, power, disks).or_else(|| cut_without_power(step, power));
            for_all.or_else(|| match &scenario.target {
                TargetSpec::Node => {
                    file_window_without_power(step, power).or_else(|| on_the_node(step, &scenario.cluster))
                }
                TargetSpec::Server(server) => on_a_server(step, server),
            })
        })
    }
}

/// Reason why `step` cannot be taken where directories lie under mounts, because of `power` losses
/// or because `disks` fail.
fn under_a_mount(step: &Step, power: bool, disks: bool) -> Option<String> {
    let mounted = power || disks;
    let exchanges = step.faults.iter().any(|fault| match fault {
        Fault::Restore(_) | Fault::Upgrade(Upgrade { way: Way::Replace { .. }, .. }) => mounted,
        // It is not known how `migrate` has to end when its disk fails.
        Fault::Upgrade(_) => disks,
        _ => false,
    });
    if exchanges {
        let (upgrade, beside) = match disks {
            true => ("an upgrade", "in a plan in which disks fail"),
            false => ("an upgrade by replace", "beside `[power]`"),
        };
        return Some(format!(
            "expected neither {upgrade} nor a restore {beside}, because a directory that is exchanged under a mount would leave \
             it, found `{step}`"
        ));
    }
    let damages = mounted && step.faults.iter().any(|fault| matches!(fault, Fault::Corrupt(_)));
    damages.then(|| {
        format!(
            "expected no damage of files in a plan whose directories are under a mount, which would go on showing what it has \
             read, found `{step}`"
        )
    })
}

/// Reason why `step` cannot take the power without a table `[power]`.
fn cut_without_power(step: &Step, power: bool) -> Option<String> {
    (!power && step.faults.iter().any(Fault::cuts))
        .then(|| format!("expected a table `[power]` in the scenario, because of `{step}`, found none"))
}

/// Reason why `step` cannot strike at the node's files without a table `[power]`.
fn file_window_without_power(step: &Step, power: bool) -> Option<String> {
    let strikes = step.faults.iter().any(|fault| fault.window_of_the_nodes_files().is_some());
    (!power && strikes).then(|| {
        format!(
            "expected a table `[power]` in the scenario, because `{step}` strikes at an operation on files, which only the fault \
             filesystem holds; found none"
        )
    })
}

/// Reason why `step` does not fit the node's `cluster`: a slot or an engine that it does not have.
fn on_the_node(step: &Step, cluster: &ClusterSpec) -> Option<String> {
    let (slot, to_rocksdb) = match step.faults[..] {
        [Fault::Upgrade(Upgrade { slot, to, .. })] => (slot, to == Engine::Rocksdb),
        [Fault::Restore(restore)] => (restore.greatest_slot(), restore.other),
        _ => return None,
    };
    if slot.0 > u64::from(cluster.members) {
        return Some(format!("expected a slot of 1 to {}, found `{step}`", cluster.members));
    }
    (to_rocksdb && cluster.memtable_bytes.is_none())
        .then(|| format!("expected `cluster.memtable_bytes` in the scenario, because of `{step}`, found none"))
}

/// Reason why `step` cannot be taken with a server that is known by its API alone.
fn on_a_server(step: &Step, server: &ServerSpec) -> Option<String> {
    if step.faults.iter().all(|fault| fault.fits_a_server(server.fault_filesystem)) {
        return None;
    }
    let files = if server.fault_filesystem { ", and at windows of files" } else { "" };
    Some(format!(
        "expected kills and pauses at applied indexes and times{files}, because only etcd's API is known of {}, found `{step}`",
        server.name
    ))
}
