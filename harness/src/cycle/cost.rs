//! The cost of the dearest transactions that members take: processor time of each member, while a
//! follower is asked for them and nothing else is asked of the members.

use super::strike::unknown;
use super::{Stage, Work};
use crate::cluster::Trouble;
use ninelives_evidence::member::Role;
use ninelives_evidence::{Cost, Evidence, limits};
use std::time::Duration;

impl Stage<'_> {
    /// Sends the scenario's dear transactions, after the end of the load, and has their cost
    /// judged.
    pub async fn spend(&mut self, work: &mut Work) {
        let requests = self.scenario.load.dear_transactions;
        if requests == 0 {
            return;
        }
        match self.measure(requests).await {
            Ok(Some(cost)) => self.judge(work, &Evidence::Cost { cost, percent_max: limits::COST_PERCENT_MAX }),
            // Without a leader nothing can be asked, and the fence that follows says so.
            Ok(None) => {}
            Err(trouble) => self.blame(work, &trouble),
        }
    }

    async fn measure(&mut self, requests: u32) -> Result<Option<Cost>, Trouble> {
        self.make_prober().await?;
        let Some(roles) = self.cluster.roles().await else { return Ok(None) };
        let follower = roles.iter().find(|(_, role)| *role == Role::Follower);
        let (Some((asked, _)), Some(prober)) = (follower, &self.prober) else { return Ok(None) };
        let place = self.cluster.members.iter().position(|member| member.id == *asked);
        let Some(place) = place else { return Err(unknown(*asked)) };
        let before = self.cpu_ms();
        prober.spend(place, requests).await;
        let applied = self.member(*asked)?.status().await?.applied.unwrap_or(0);
        for member in &self.cluster.members {
            member.wait_applied(applied, Duration::from_millis(self.scenario.bounds.catch_up_ms_max)).await?;
        }
        let spent = self.cpu_ms().into_iter().zip(before);
        let cpu_ms = spent.map(|((member, now), (_, then))| (member, now.saturating_sub(then))).collect();
        Ok(Some(Cost { requests, asked: *asked, cpu_ms }))
    }

    /// Processor time of each member so far.
    fn cpu_ms(&self) -> Vec<(u64, u64)> {
        self.cluster.members.iter().map(|member| (member.id, member.cpu_ms())).collect()
    }
}
