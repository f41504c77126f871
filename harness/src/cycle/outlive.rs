//! The way on after a known trouble ended a cycle half-way: all members begin anew.

use super::{Stage, Work};
use crate::cluster::Trouble;
use crate::plan::Fault;
use anyhow::anyhow;
use ninelives_evidence::Did;
use std::collections::BTreeSet;

impl Stage<'_> {
    /// Blames `trouble` on its cause. If all of it is known, the next cycle gets members that are
    /// up and have no window armed.
    pub(super) async fn outlive(&mut self, work: &mut Work, trouble: &Trouble) {
        let mut dead = BTreeSet::new();
        if let Trouble::Died { member, .. } = trouble {
            dead.insert(*member);
        }
        self.blame(work, trouble);
        // Another member's death must not be hidden by the known one.
        for member in &self.cluster.members {
            if let Some(death) = member.stray_death().filter(|_| !dead.contains(&member.id)) {
                self.blame(work, &death);
                dead.insert(member.id);
            }
        }
        if work.findings.is_empty() && work.is_half_restored() {
            let why =
                "a restore ended half-way by what is known, and left no cluster to go on with: run the plan without it";
            self.blame(work, &Trouble::Harness(anyhow!(why)));
        }
        if work.findings.is_empty()
            && let Err(trouble) = self.begin_anew(work, &dead).await
        {
            self.blame(work, &trouble);
        }
    }

    /// Ends all lives and starts all members again, because windows may be armed, and the members
    /// in `dead` died of a trouble.
    async fn begin_anew(&mut self, work: &mut Work, dead: &BTreeSet<u64>) -> Result<(), Trouble> {
        drop(std::mem::take(&mut work.lasting));
        self.note(work.step.cycle, Did::BeginAnew, None, None);
        let all: Vec<_> = self.cluster.members.iter().map(|member| member.id).collect();
        match self.kill(work, &all).await {
            Ok(()) => {}
            Err(Trouble::Died { member, .. }) if dead.contains(&member) => {}
            Err(trouble) => return Err(trouble),
        }
        self.inspect_dead(work).await?;
        self.restart(work).await?;
        self.catch_up(work).await
    }
}

impl Work {
    /// Whether its step is a restore that was not completed.
    fn is_half_restored(&self) -> bool {
        !self.record.restored && self.step.faults.iter().any(|fault| matches!(fault, Fault::Restore(_)))
    }
}
