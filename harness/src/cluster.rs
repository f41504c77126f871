//! The cluster: members in fixed slots. Each member lives many lives.
//!
//! A **slot** (1 to n) is a place: its ports, the clients' endpoint, the watch stream that follows
//! it. An **id** is a life of one raft log: its data directory, its log file, its votes, its
//! applied index. A member that is replaced leaves its slot to another id, and an id never comes
//! back: a member whose raft log is gone has forgotten its votes and its acknowledgements.
//!
//! [`Site`] is what all lives share; [`Member`] is one member, dead or alive; a [`Trouble`] is
//! anything that goes wrong with a member, and knows whom to blame.

pub mod kept;
pub mod links;
pub mod member;
pub mod membership;
pub mod migration;
pub mod pause;
pub mod ports;
pub mod proxy;
pub mod readings;
pub mod restoration;
pub mod strangers;
mod tool;
pub mod trouble;

pub use kept::Kept;
pub use links::{Disturbance, Links};
pub use member::{Death, Member};
pub use membership::Membership;
pub use pause::Paused;
pub use trouble::Trouble;

use crate::contact::Standing;
use crate::dial::url;
use crate::endpoints::Board;
use crate::pace::Pace;
use crate::paths::Paths;
use crate::process::Spawner;
use crate::subject::{Addresses, Target};
use crate::timer;
use anyhow::{Context, anyhow};
use futures_util::future::join_all;
use ninelives_evidence::limits;
use ninelives_evidence::member::{Engine, Role, Slot};
use ninelives_evidence::power::Names;
use ninelives_evidence::verdict::findings::Lack;
use ports::PortHolder;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use strangers::Strangers;

/// State that all lives of all members share.
#[derive(Debug)]
pub struct Site {
    pub spawner: Spawner,
    pub target: Target,
    pub paths: Paths,
    /// Ids and addresses of those that founded the cluster, ascending; at first each id is the
    /// number of its slot.
    pub founders: Vec<(u64, Addresses)>,
    /// Which members serve, by slot.
    pub board: Board,
    /// Proxies between the members; `None`: they reach each other directly.
    pub links: Option<Links>,
    /// Limit of open files of each member; `None`: the harness's own.
    pub nofile: Option<u64>,
    /// The slots whose members cannot write a diagnostic.
    pub full_logs: Vec<Slot>,
}

impl Site {
    /// The detours of the member in `slot`, as [`Links::detours`] has them; none without proxies.
    pub fn detours(&self, slot: Slot) -> Vec<(SocketAddr, SocketAddr)> {
        self.links.as_ref().map(|links| links.detours(slot)).unwrap_or_default()
    }
}

impl Site {
    /// The pace by which bounds on members are stretched.
    pub fn pace(&self) -> &Pace {
        self.spawner.pace()
    }
}

/// The member in one slot when a harness died.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seat {
    pub slot: Slot,
    /// The founder of the cluster in this slot; `None`: it was founded without a member here.
    pub founder: Option<u64>,
    pub member: u64,
    pub engine: Engine,
    pub at: Addresses,
}

/// All members of one run.
#[derive(Debug)]
pub struct Cluster {
    pub site: Site,
    /// One per slot, ascending by slot.
    pub members: Vec<Member>,
    /// Every id that any member ever had.
    ids_used: BTreeSet<u64>,
    /// The highest applied index that any of the members that are gone reported.
    applied_by_the_gone: u64,
    /// The other cluster whose members come to the places of dead ones; `None`: none has come yet.
    pub strangers: Option<Strangers>,
    /// Reservations of every port for the whole run.
    _ports: Vec<PortHolder>,
}

impl Cluster {
    /// Reserves ports and directories for members with the ids 1 to n that run `engines`; starts
    /// nothing.
    pub fn prepare(spawner: Spawner, target: Target, paths: Paths, engines: &[Engine]) -> anyhow::Result<Self> {
        std::fs::create_dir_all(paths.nodes()).with_context(|| format!("cannot create {}", paths.nodes().display()))?;
        let mut ports = Vec::new();
        let mut founders = Vec::new();
        for id in 1..=engines.len() as u64 {
            let mut reserve = || -> anyhow::Result<_> {
                let holder = PortHolder::reserve().context("cannot reserve a loopback port")?;
                let at = holder.address();
                ports.push(holder);
                Ok(at)
            };
            founders.push((id, Addresses { peer: reserve()?, client: reserve()?, control: reserve()? }));
        }
        let members =
            founders.iter().zip(engines).map(|((id, at), engine)| Member::founder(*id, *at, *engine)).collect();
        let ids_used = founders.iter().map(|(id, _)| *id).collect();
        let board = Board::new(founders.len());
        let site = Site { spawner, target, paths, founders, board, links: None, nofile: None, full_logs: Vec::new() };
        Ok(Self { site, members, ids_used, applied_by_the_gone: 0, strangers: None, _ports: ports })
    }

    /// The members of a run whose harness is dead: all of them are dead, and keep their addresses,
    /// because the membership names those.
    ///
    /// # Errors
    /// Another process listens at one of the addresses by now.
    pub fn of_the_dead(
        spawner: Spawner,
        target: Target,
        paths: Paths,
        seats: &[Seat],
        ids_used: BTreeSet<u64>,
    ) -> anyhow::Result<Self> {
        let addresses = seats.iter().flat_map(|seat| [seat.at.peer, seat.at.client, seat.at.control]);
        let reserve = |at| {
            PortHolder::reserve_again(at).with_context(|| {
                format!("expected {at} to be free, where a member of the run listened: end what listens there, and resume again")
            })
        };
        let ports = addresses.map(reserve).collect::<anyhow::Result<_>>()?;
        let member = |seat: &Seat| {
            let new = if Some(seat.member) == seat.founder {
                Member::founder_in(seat.slot, seat.member, seat.at, seat.engine)
            } else {
                Member::joiner(seat.slot, seat.member, seat.at, seat.engine)
            };
            new.returning()
        };
        let members = seats.iter().map(member).collect();
        let founders = seats.iter().filter_map(|seat| Some((seat.founder?, seat.at))).collect();
        let board = Board::new(seats.len());
        let site = Site { spawner, target, paths, founders, board, links: None, nofile: None, full_logs: Vec::new() };
        Ok(Self { site, members, ids_used, applied_by_the_gone: 0, strangers: None, _ports: ports })
    }

    /// Puts proxies between the members, so that their links can be disturbed. The caller does so
    /// before it starts any member.
    ///
    /// # Errors
    /// No port is free.
    pub async fn interpose(&mut self) -> anyhow::Result<()> {
        let peers: Vec<_> = self.members.iter().map(|member| (member.slot, member.addresses.peer)).collect();
        self.site.links = Some(Links::start(&peers).await?);
        Ok(())
    }

    /// The place where the harness reads the data directory of `member`, which is dead.
    pub fn dead_directory(&self, member: u64) -> PathBuf {
        self.member(member).map_or_else(|| self.site.paths.node_data(member), |one| one.dead_directory(&self.site))
    }

    /// Puts the data directories under the fault filesystem, if the target asks for it, or if what
    /// is not synced can be lost (`names`), or if `disks` are to fail. The caller does so before it
    /// starts any member.
    ///
    /// # Errors
    /// This machine, or this user, has no FUSE.
    pub fn mount(&mut self, names: Option<Names>, disks: bool) -> Result<(), Trouble> {
        if !self.site.target.fault_filesystem() && names.is_none() && !disks {
            return Ok(());
        }
        for member in &mut self.members {
            member
                .mount(&self.site, names)
                .map_err(|error| Trouble::Unproven(Lack::NoFaultFilesystem { error: format!("{error:#}") }))?;
        }
        Ok(())
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

    /// Client endpoints, `http://host:port`, by slot; the same for a whole run.
    pub fn endpoints(&self) -> Vec<(Slot, String)> {
        self.members.iter().map(|member| (member.slot, url(member.addresses.client))).collect()
    }

    /// The member in `slot`.
    pub fn in_slot(&self, slot: Slot) -> Option<&Member> {
        self.members.iter().find(|member| member.slot == slot)
    }

    /// Every id that any member ever had: none of them may be used again.
    pub fn ids_used(&self) -> &BTreeSet<u64> {
        &self.ids_used
    }

    /// Gives the slot of the dead member `old` to a new member with the id `id`, which joins the
    /// running cluster.
    ///
    /// # Errors
    /// `old` is not a member, it is not dead, the id was used before, or its directory cannot be
    /// put under the fault filesystem like the old one's.
    pub fn replace(&mut self, old: u64, id: u64, engine: Engine) -> Result<(), Trouble> {
        if !self.ids_used.insert(id) {
            return Err(Trouble::Harness(anyhow!(
                "n{id} was used before: a wiped member under its old id is amnesia, it has forgotten its votes and what it \
                 acknowledged; it needs a new id"
            )));
        }
        let member = self.members.iter_mut().find(|member| member.id == old && !member.is_up());
        let member =
            member.ok_or_else(|| Trouble::Harness(anyhow!("n{old} is to be replaced, and is not a dead member")))?;
        let gone = std::mem::replace(member, Member::joiner(member.slot, id, member.addresses, engine));
        member.mount_like(&self.site, &gone)?;
        self.applied_by_the_gone = self.applied_by_the_gone.max(gone.applied_received());
        Ok(())
    }

    /// Begins another cluster in the places of this one, whose members are all dead: each of
    /// `slots` gets a founder with an id that was never used, on that engine. Entries that were
    /// applied before do not count any more. The members of other slots stay dead until they are
    /// replaced.
    ///
    /// # Errors
    /// A member lives.
    pub fn refound(&mut self, slots: &[(Slot, Engine)]) -> Result<Vec<(Slot, u64, Engine)>, Trouble> {
        if let Some(alive) = self.members.iter().find(|member| member.is_up()) {
            return Err(Trouble::Harness(anyhow!(
                "n{} lives, and another cluster is to be founded in its place",
                alive.id
            )));
        }
        let mut founders = Vec::new();
        self.site.founders.clear();
        for (slot, engine) in slots {
            let id = self.ids_used.last().map_or(1, |last| last + 1);
            let Some(member) = self.members.iter_mut().find(|member| member.slot == *slot) else { continue };
            self.ids_used.insert(id);
            *member = Member::founder_in(*slot, id, member.addresses, *engine);
            self.site.founders.push((id, member.addresses));
            founders.push((*slot, id, *engine));
        }
        self.members.iter_mut().for_each(Member::forget_applied);
        self.applied_by_the_gone = 0;
        Ok(founders)
    }

    pub fn member(&self, id: u64) -> Option<&Member> {
        self.members.iter().find(|member| member.id == id)
    }

    pub fn member_mut(&mut self, id: u64) -> Option<&mut Member> {
        self.members.iter_mut().find(|member| member.id == id)
    }

    /// The highest applied index that any member has ever reported: an applied entry is committed,
    /// so every member has to get there again.
    pub fn applied_max(&self) -> u64 {
        self.members.iter().map(Member::applied_received).max().unwrap_or(0).max(self.applied_by_the_gone)
    }

    /// One reading of each member that is up and answers; a member that stands still does not
    /// answer.
    pub async fn statuses(&self) -> Vec<Standing> {
        join_all(self.members.iter().filter(|member| member.is_up() && !member.is_stopped()).map(Member::status))
            .await
            .into_iter()
            .filter_map(Result::ok)
            .collect()
    }

    /// Every member with its role, ascending by slot, once there is a leader that is up; `None`:
    /// there was none within the bound.
    pub async fn roles(&self) -> Option<Vec<(u64, Role)>> {
        let elected = async {
            loop {
                if let Some(leader) = leader_of(&self.statuses().await) {
                    return leader;
                }
                // An election has no event outside the members.
                timer::sleep(limits::LEADER_RETRY_PAUSE).await;
            }
        };
        let leader = self.site.pace().within(limits::LEADER_WAIT, elected).await.ok()?;
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
fn leader_of(statuses: &[Standing]) -> Option<u64> {
    let term = statuses.iter().map(|status| status.term).max()?;
    let leader = statuses.iter().find(|status| status.term == term && status.leader_id != 0)?.leader_id;
    statuses.iter().any(|status| status.member_id == leader && status.term == term).then_some(leader)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subject::Node;

    async fn cluster() -> (tempfile::TempDir, Cluster) {
        let dir = tempfile::tempdir().unwrap();
        let target = Target::Node(Node {
            node: "node".into(),
            inspector: "node".into(),
            memtable_bytes: None,
            keep_entries: 1,
            snapshot_every_entries: 1,
            sabotage: None,
        });
        let (spawner, paths) = (Spawner::start().unwrap(), Paths::new(dir.path()));
        (dir, Cluster::prepare(spawner, target, paths, &[Engine::Redb, Engine::Rocksdb, Engine::Redb]).unwrap())
    }

    #[tokio::test]
    async fn a_slot_keeps_its_place_and_its_new_id_everything_else() {
        let (_dir, mut cluster) = cluster().await;
        let (endpoints, place) = (cluster.endpoints(), cluster.members[1].addresses);
        cluster.replace(2, 4, Engine::Redb).unwrap();
        assert_eq!(cluster.endpoints(), endpoints);
        let member = cluster.in_slot(Slot(2)).unwrap();
        assert_eq!((member.id, member.engine, member.addresses), (4, Engine::Redb, place));
        assert!(cluster.member(2).is_none() && cluster.member(4).is_some());
        assert_eq!(cluster.members.iter().map(|member| member.slot.0).collect::<Vec<_>>(), [1, 2, 3]);
    }

    #[tokio::test]
    async fn an_id_is_never_used_twice() {
        let (_dir, mut cluster) = cluster().await;
        cluster.replace(2, 4, Engine::Redb).unwrap();
        for (old, id) in [(4, 2), (4, 4), (1, 3)] {
            let error = cluster.replace(old, id, Engine::Redb).unwrap_err().finding(None).sentence();
            assert!(error.contains("amnesia"), "{error}");
        }
        cluster.replace(4, 5, Engine::Rocksdb).unwrap();
        assert_eq!(cluster.ids_used().iter().copied().collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    }

    #[tokio::test]
    async fn a_restored_cluster_has_new_ids_in_the_old_places_and_has_applied_nothing() {
        let (_dir, mut cluster) = cluster().await;
        cluster.replace(2, 4, Engine::Redb).unwrap();
        cluster.applied_by_the_gone = 900;
        let places: Vec<_> = cluster.members.iter().map(|member| (member.slot, member.addresses)).collect();
        let founders = cluster.refound(&[(Slot(1), Engine::Rocksdb), (Slot(2), Engine::Redb), (Slot(3), Engine::Redb)]);
        let expected = [(Slot(1), 5, Engine::Rocksdb), (Slot(2), 6, Engine::Redb), (Slot(3), 7, Engine::Redb)];
        assert_eq!(founders.unwrap(), expected);
        assert_eq!(cluster.members.iter().map(|member| (member.slot, member.addresses)).collect::<Vec<_>>(), places);
        assert_eq!(cluster.site.founders.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [5, 6, 7]);
        assert_eq!((cluster.applied_max(), cluster.member(4).is_none()), (0, true));
        // By one: the others stay in their places, dead, until a member is added there.
        assert_eq!(cluster.refound(&[(Slot(2), Engine::Rocksdb)]).unwrap(), [(Slot(2), 8, Engine::Rocksdb)]);
        assert_eq!(cluster.members.iter().map(|member| member.id).collect::<Vec<_>>(), [5, 8, 7]);
        assert_eq!(cluster.site.founders.len(), 1);
    }

    fn status(member_id: u64, term: u64, leader_id: u64) -> Standing {
        Standing { member_id, term, leader_id, ..Standing::default() }
    }

    #[test]
    fn only_the_highest_term_names_the_leader() {
        assert_eq!(leader_of(&[status(1, 4, 1), status(2, 5, 2), status(3, 4, 1)]), Some(2));
        assert_eq!(leader_of(&[status(1, 4, 1), status(2, 5, 0), status(3, 4, 1)]), None, "an election is on");
        assert_eq!(leader_of(&[status(2, 5, 1), status(3, 5, 1)]), None, "the named leader does not answer");
        assert_eq!(leader_of(&[]), None);
    }
}
