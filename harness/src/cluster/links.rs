//! The peer links of a cluster, one per directed pair of slots, and their disturbances.
//!
//! A link `a → b` carries what a *sends* to b: the requests on connections that a made, and the
//! answers on those that b made. So there are two proxies per pair of slots, one for each member
//! that dials, and each of them has both directions of the pair. Links belong to slots, not to the
//! members in them. Only runs whose plan disturbs links have proxies.

use super::proxy::{Passage, Proxy};
use crate::plan::Link;
use anyhow::Context;
use ninelives_evidence::member::Slot;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::watch;

/// The sending and the receiving slot.
type Pair = (Slot, Slot);

/// All links of one cluster.
#[derive(Debug)]
pub struct Links {
    passages: BTreeMap<Pair, watch::Sender<Passage>>,
    /// By the dialling slot and the dialled one.
    proxies: BTreeMap<Pair, Proxy>,
    /// Each slot's real peer address.
    peers: Vec<(Slot, SocketAddr)>,
}

impl Links {
    /// Puts a proxy in front of every peer address, for every other member.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start(peers: &[(Slot, SocketAddr)]) -> anyhow::Result<Self> {
        let pairs = peers.iter().flat_map(|(from, _)| peers.iter().map(move |(to, at)| ((*from, *to), *at)));
        let pairs: Vec<(Pair, SocketAddr)> = pairs.filter(|((from, to), _)| from != to).collect();
        let passages: BTreeMap<Pair, _> =
            pairs.iter().map(|(pair, _)| (*pair, watch::Sender::new(Passage::default()))).collect();
        let mut proxies = BTreeMap::new();
        for ((from, to), at) in pairs {
            let proxy = Proxy::start(at, passages[&(from, to)].subscribe(), passages[&(to, from)].subscribe()).await;
            proxies.insert((from, to), proxy.context("cannot listen for a peer link")?);
        }
        Ok(Self { passages, proxies, peers: peers.to_vec() })
    }

    /// For the member in `slot`: each other member's peer address, and the address to connect to
    /// instead.
    pub fn detours(&self, slot: Slot) -> Vec<(SocketAddr, SocketAddr)> {
        let detour = |(to, at): &(Slot, SocketAddr)| Some((*at, self.proxies.get(&(slot, *to))?.address()));
        self.peers.iter().filter_map(detour).collect()
    }

    /// Disturbs the links between `group` and the other slots until the result is dropped. If
    /// `group` holds all slots, the links between them are disturbed.
    pub fn disturb(&self, link: Link, group: &BTreeSet<Slot>) -> Disturbance {
        let everybody = self.peers.iter().all(|(slot, _)| group.contains(slot));
        let between = |(from, to): &Pair| match (group.contains(from), group.contains(to)) {
            (true, true) => everybody,
            (true, false) => link != Link::Deafen,
            (false, true) => link != Link::Mute,
            (false, false) => false,
        };
        let touched = self.passages.iter().filter(|(pair, _)| between(pair));
        let part = match link {
            Link::Delay { by_ms } => Passage { holds: 0, delay: Duration::from_millis(by_ms) },
            Link::Isolate | Link::Mute | Link::Deafen => Passage { holds: 1, delay: Duration::ZERO },
        };
        let passages: Vec<_> = touched.map(|(_, passage)| passage.clone()).collect();
        for passage in &passages {
            passage.send_modify(|now| *now = Passage { holds: now.holds + part.holds, delay: now.delay + part.delay });
        }
        Disturbance { part, passages }
    }
}

/// Links that are disturbed. Dropping it heals them.
#[derive(Debug)]
pub struct Disturbance {
    part: Passage,
    passages: Vec<watch::Sender<Passage>>,
}

impl Disturbance {
    /// Links, counted in directions.
    pub fn links(&self) -> usize {
        self.passages.len()
    }
}

impl Drop for Disturbance {
    fn drop(&mut self) {
        let Passage { holds, delay } = self.part;
        for passage in &self.passages {
            passage.send_modify(|now| {
                *now = Passage { holds: now.holds.saturating_sub(holds), delay: now.delay.saturating_sub(delay) };
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    async fn links() -> Links {
        // No process listens there, and none has to.
        let peers: Vec<_> = (1..=3).map(|n| (Slot(n), SocketAddr::from((Ipv4Addr::LOCALHOST, n as u16)))).collect();
        Links::start(&peers).await.unwrap()
    }

    fn cut(links: &Links) -> Vec<(u64, u64)> {
        let held = links.passages.iter().filter(|(_, passage)| passage.borrow().holds > 0);
        held.map(|((from, to), _)| (from.0, to.0)).collect()
    }

    fn group<const N: usize>(slots: [u64; N]) -> BTreeSet<Slot> {
        slots.map(Slot).into()
    }

    #[tokio::test]
    async fn a_group_is_parted_from_the_others_and_stays_together() {
        let links = links().await;
        let both = links.disturb(Link::Isolate, &group([1, 2]));
        assert_eq!(cut(&links), [(1, 3), (2, 3), (3, 1), (3, 2)]);
        drop(both);
        assert_eq!(cut(&links), []);
        let mute = links.disturb(Link::Mute, &group([2]));
        assert_eq!(cut(&links), [(2, 1), (2, 3)]);
        let deaf = links.disturb(Link::Deafen, &group([2]));
        assert_eq!((cut(&links).len(), mute.links(), deaf.links()), (4, 2, 2));
        drop(mute);
        assert_eq!(cut(&links), [(1, 2), (3, 2)]);
        drop(deaf);
        let all = links.disturb(Link::Isolate, &group([1, 2, 3]));
        assert_eq!((cut(&links).len(), all.links()), (6, 6));
    }

    #[tokio::test]
    async fn what_overlaps_heals_only_its_own_part() {
        let links = links().await;
        let passage = |from, to| *links.passages[&(Slot(from), Slot(to))].borrow();
        let slow = links.disturb(Link::Delay { by_ms: 20 }, &group([1]));
        let slower = links.disturb(Link::Delay { by_ms: 30 }, &group([1, 2, 3]));
        let cut = links.disturb(Link::Isolate, &group([1]));
        assert_eq!(passage(1, 2), Passage { holds: 1, delay: Duration::from_millis(50) });
        assert_eq!(passage(2, 3), Passage { holds: 0, delay: Duration::from_millis(30) });
        drop(slower);
        assert_eq!(passage(1, 2), Passage { holds: 1, delay: Duration::from_millis(20) });
        drop(cut);
        drop(slow);
        assert_eq!(passage(1, 2), Passage::default());
    }

    #[tokio::test]
    async fn each_member_dials_every_other_one_by_a_link_of_its_own() {
        let links = links().await;
        let detours: Vec<_> = (1..=3).map(|slot| links.detours(Slot(slot))).collect();
        assert!(detours.iter().all(|detours| detours.len() == 2));
        let fronts: BTreeSet<_> = detours.iter().flatten().map(|(_, front)| *front).collect();
        assert_eq!(fronts.len(), 6);
        assert_eq!(detours[1].iter().map(|(at, _)| at.port()).collect::<Vec<_>>(), [1, 3]);
    }
}
