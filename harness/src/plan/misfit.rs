//! Whether a plan can be run on a scenario's cluster: a stored plan may be older than the scenario.

use super::{Fault, Plan, Restore, Step, Upgrade, Way};
use crate::scenario::{Scenario, TargetSpec};
use ninelives_evidence::member::Engine;

impl Plan {
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
}
