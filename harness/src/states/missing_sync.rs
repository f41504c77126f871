//! The search for the missing sync: which of the operations that a cut lost are enough for the
//! finding after it.
//!
//! 1. The crash state of the cut is made again, and has to fail as it did.
//! 2. ddmin over its lost operations: without any of those that are left, the state passes. Kept
//!    changes of names keep what they need, so what a set loses can be less than the set.
//! 3. For each weaker mode of names: whether the same losses, or else everything that can be lost
//!    in it, fail as well.

use super::bench::{Bench, Depth};
use super::ddmin::ddmin;
use crate::cluster::{Cluster, Member};
use crate::faultfs::Crash;
use crate::seed::Seed;
use ninelives_evidence::limits;
use ninelives_evidence::power::{Lost, Names};
use ninelives_evidence::record::missing_sync::MissingSync;
use ninelives_evidence::verdict::findings::{Members, RaftLogs, Restarts, What};
use ninelives_evidence::verdict::{Finding, Verdict};
use std::collections::BTreeSet;

/// How a state is tried for a finding; `None`: no look at one directory shows it.
fn depth(finding: &Finding) -> Option<Depth> {
    match &finding.what {
        What::Restarts(
            Restarts::IndexUnreadable { .. }
            | Restarts::EngineUnreadable { .. }
            | Restarts::RaftLogUnreadable { .. }
            | Restarts::PersistedAheadOfEngine { .. }
            | Restarts::PurgedAbovePersisted { .. }
            | Restarts::AppliedBeyondLog { .. }
            | Restarts::EngineBeyondLog { .. },
        )
        | What::RaftLogs(RaftLogs::VoteGone { .. } | RaftLogs::VoteOfOlderTerm { .. } | RaftLogs::VoteMoved { .. }) => {
            Some(Depth::Look)
        }
        What::Members(Members::RefusedToStart { .. }) => Some(Depth::Start),
        What::Restarts(_) if finding.state.is_some() => Some(Depth::Start),
        _ => None,
    }
}

/// Looks into the first of `findings` that a crash state of a cut alone can show; `None`: no cut
/// was kept in its cycle, or none broke a promise. Kills all members.
pub async fn missing_sync(cluster: &mut Cluster, findings: &[Finding]) -> Option<MissingSync> {
    let after_a_cut = |finding: &&Finding| {
        let of_its_cycle = |member: &Member| member.kept().is_some_and(|kept| Some(kept.known.cycle) == finding.cycle);
        finding.class().verdict() == Verdict::Violation && cluster.members.iter().any(of_its_cycle)
    };
    let finding = findings.iter().filter(after_a_cut).min_by_key(|finding| match depth(finding) {
        Some(Depth::Look) => 0,
        Some(Depth::Start) => 1,
        None => 2,
    })?;
    let mut found = empty(finding);
    let (Some(depth), Some(id)) = (depth(finding), finding.member) else {
        let class = finding.class();
        found.unknown.push(format!(
            "which sync is missing: the look at one directory does not show {class}, it takes the cluster"
        ));
        return Some(found);
    };
    cluster.kill_all().await;
    let member = cluster.members.iter().find(|member| member.id == id);
    let bench = match member.map(|member| Bench::of(&cluster.site, member)).transpose() {
        Ok(bench) => bench.flatten(),
        Err(error) => {
            found.unknown.push(format!("which sync is missing: {error:#}"));
            return Some(found);
        }
    };
    let Some(bench) = bench else {
        found.unknown.push(format!("which sync is missing: no cut of n{id} was kept"));
        return Some(found);
    };
    let searched = async { Search { bench: &bench, finding, depth, tried: 0 }.run(&mut found).await };
    match cluster.site.pace().within(limits::MISSING_SYNC, searched).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => found.unknown.push(format!("which sync is missing: {error:#}")),
        Err(bound) => found.unknown.push(format!("which sync is missing: the search did not end within {bound}")),
    }
    if let Err(error) = bench.clear() {
        found.unknown.push(format!("{error:#}"));
    }
    Some(found)
}

fn empty(finding: &Finding) -> MissingSync {
    MissingSync {
        class: finding.class(),
        cycle: finding.cycle,
        cluster: finding.cluster,
        member: finding.member,
        names: None,
        lost: Lost::default(),
        of: 0,
        tried: 0,
        smallest: false,
        unknown: Vec::new(),
    }
}

struct Search<'a> {
    bench: &'a Bench<'a>,
    finding: &'a Finding,
    depth: Depth,
    tried: u64,
}

impl Search<'_> {
    async fn run(&mut self, found: &mut MissingSync) -> anyhow::Result<()> {
        let kept = self.bench.kept();
        let (instant, own) = (&kept.instant, kept.instant.mode());
        let whole = kept.failing(self.finding.state).clone();
        let all = whole.operations();
        found.of = all.len() as u64;
        if !self.fails(&whole).await? {
            found.tried = self.tried;
            found.unknown.push(format!(
                "which sync is missing: the crash state of the cut passes when n{} is looked at alone, so it takes what came \
                 after the cut, or the other members",
                kept.known.member
            ));
            return Ok(());
        }
        let mut failed = None;
        let smallest = ddmin(all, async |operations: &BTreeSet<u64>| {
            if self.tried >= limits::MISSING_SYNC_STATES_MAX {
                return None;
            }
            match self.fails(&instant.part(&whole, operations, own)).await {
                Ok(fails) => Some(fails),
                Err(error) => {
                    failed = Some(error);
                    None
                }
            }
        })
        .await;
        failed.map_or(Ok(()), Err)?;
        if smallest.set.is_empty() {
            found.tried = self.tried;
            found.unknown.push(format!(
                "which sync is missing: n{} fails with none of the losses of its cut, so something before it left that",
                kept.known.member
            ));
            return Ok(());
        }
        let part = instant.part(&whole, &smallest.set, own);
        found.names = Some(self.weakest(&whole, &smallest.set, &part).await?);
        // The state once more, for the words of what it lost.
        let tried = self.bench.try_one(&part, self.depth).await?;
        (found.lost, found.smallest, found.tried) = (tried.lost, smallest.is_smallest, self.tried);
        Ok(())
    }

    /// The weakest mode of names in which some crash state of the instant fails as `part` does.
    async fn weakest(&mut self, whole: &Crash, set: &BTreeSet<u64>, part: &Crash) -> anyhow::Result<Names> {
        let instant = &self.bench.kept().instant;
        let own = instant.mode();
        // Everything is lost, so nothing is drawn from this stream that matters.
        let all_lost = instant.all_lost(&mut Seed::new(0).stream("all lost"))?;
        let everything = all_lost.operations().into_iter().collect();
        for mode in Names::ALL.into_iter().filter(|mode| *mode < own) {
            let same = instant.part(whole, set, mode) == *part;
            if same || self.fails(&instant.part(&all_lost, &everything, mode)).await? {
                return Ok(mode);
            }
        }
        Ok(own)
    }

    /// Whether a state fails as the finding says.
    async fn fails(&mut self, crash: &Crash) -> anyhow::Result<bool> {
        self.tried += 1;
        let wanted = self.finding.what.name();
        let tried = self.bench.try_one(crash, self.depth).await?;
        Ok(tried.findings.iter().any(|found| found.what.name() == wanted))
    }
}
