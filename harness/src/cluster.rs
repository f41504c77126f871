//! The cluster: members with fixed ids, addresses and directories, each of which lives many lives.
//!
//! [`Site`] is what all lives share; [`Member`] is one member, dead or alive; whatever goes wrong with one is a
//! [`Trouble`], which knows whom to blame.

pub mod member;
pub mod ports;
pub mod trouble;

pub use member::{Death, Member};
pub use trouble::Trouble;

use crate::paths::Paths;
use crate::process::Spawner;
use crate::record::Role;
use crate::target::{Addresses, Target};
use crate::{clock, limits};
use anyhow::Context;
use futures_util::future::join_all;
use node_proto::control::StatusResponse;
use ports::PortHolder;
use std::time::Duration;

/// What all lives of all members share.
#[derive(Debug)]
pub struct Site {
    pub spawner: Spawner,
    pub target: Target,
    pub paths: Paths,
    /// Ids and addresses, ascending by id.
    pub addresses: Vec<(u64, Addresses)>,
}

/// All members of one run.
#[derive(Debug)]
pub struct Cluster {
    pub site: Site,
    /// Ascending by id.
    pub members: Vec<Member>,
    /// Reserve every port for the whole run.
    _ports: Vec<PortHolder>,
}

impl Cluster {
    /// Reserves ports and directories for `count` members with the ids 1 to `count`; starts nothing.
    pub fn prepare(spawner: Spawner, target: Target, paths: Paths, count: u32) -> anyhow::Result<Self> {
        std::fs::create_dir_all(paths.nodes()).with_context(|| format!("cannot create {}", paths.nodes().display()))?;
        let mut ports = Vec::new();
        let mut addresses = Vec::new();
        for id in 1..=u64::from(count) {
            let mut reserve = || -> anyhow::Result<_> {
                let holder = PortHolder::reserve().context("cannot reserve a loopback port")?;
                let at = holder.address();
                ports.push(holder);
                Ok(at)
            };
            addresses.push((id, Addresses { peer: reserve()?, client: reserve()?, control: reserve()? }));
        }
        let members = addresses.iter().map(|(id, at)| Member::new(*id, *at)).collect();
        Ok(Self { site: Site { spawner, target, paths, addresses }, members, _ports: ports })
    }

    /// Starts every member that is down, all at once, and waits until each serves.
    pub async fn start_all(&mut self, bound: Duration) -> Result<(), Trouble> {
        let site = &self.site;
        let starts = self.members.iter_mut().filter(|member| !member.is_up()).map(|member| async move {
            member.start(site, None).await?;
            member.wait_serving(bound).await
        });
        join_all(starts).await.into_iter().collect()
    }

    /// Client endpoints, `http://host:port`, ascending by id.
    pub fn endpoints(&self) -> Vec<(u64, String)> {
        self.site.addresses.iter().map(|(id, at)| (*id, format!("http://{}", at.client))).collect()
    }

    pub fn member(&self, id: u64) -> Option<&Member> {
        self.members.iter().find(|member| member.id == id)
    }

    pub fn member_mut(&mut self, id: u64) -> Option<&mut Member> {
        self.members.iter_mut().find(|member| member.id == id)
    }

    /// The highest applied index that any member has ever reported: an applied entry is committed, so every
    /// member has to get there again.
    pub fn applied_mark(&self) -> u64 {
        self.members.iter().map(Member::applied_received).max().unwrap_or(0)
    }

    /// One reading of each member that is up and answers.
    pub async fn statuses(&self) -> Vec<StatusResponse> {
        join_all(self.members.iter().filter(|member| member.is_up()).map(Member::status))
            .await
            .into_iter()
            .filter_map(Result::ok)
            .collect()
    }

    /// Every member with its role, once there is a leader and it is up; `None` if there is none within the bound.
    pub async fn roles(&self) -> Option<Vec<(u64, Role)>> {
        let elected = async {
            loop {
                if let Some(leader) = leader_of(&self.statuses().await) {
                    return leader;
                }
                // An election has no event outside the members.
                clock::sleep(limits::LEADER_RETRY_PAUSE).await;
            }
        };
        let leader = clock::within(limits::LEADER_WAIT, elected).await?;
        let role = |id| if id == leader { Role::Leader } else { Role::Follower };
        Some(self.members.iter().map(|member| (member.id, role(member.id))).collect())
    }

    /// A member that ended without having been killed, if there is one.
    pub fn stray_death(&self) -> Option<Trouble> {
        self.members.iter().find_map(Member::stray_death)
    }

    /// Kills every member that is up, and waits until all are dead.
    pub async fn kill_all(&mut self) {
        join_all(self.members.iter_mut().map(Member::kill)).await;
    }
}

/// The leader that the highest term names, if it is itself of that term.
fn leader_of(statuses: &[StatusResponse]) -> Option<u64> {
    let term = statuses.iter().map(|status| status.term).max()?;
    let leader = statuses.iter().find(|status| status.term == term && status.leader_id != 0)?.leader_id;
    statuses.iter().any(|status| status.member_id == leader && status.term == term).then_some(leader)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(member_id: u64, term: u64, leader_id: u64) -> StatusResponse {
        StatusResponse { member_id, term, leader_id, ..StatusResponse::default() }
    }

    #[test]
    fn only_the_highest_term_names_the_leader() {
        assert_eq!(leader_of(&[status(1, 4, 1), status(2, 5, 2), status(3, 4, 1)]), Some(2));
        assert_eq!(leader_of(&[status(1, 4, 1), status(2, 5, 0), status(3, 4, 1)]), None, "an election is on");
        assert_eq!(leader_of(&[status(2, 5, 1), status(3, 5, 1)]), None, "the named leader does not answer");
        assert_eq!(leader_of(&[]), None);
    }
}
