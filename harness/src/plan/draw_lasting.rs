//! Drawing pauses and disturbances of links. All draws that a fault may need are made for each,
//! used or not, so that one more weight moves as little of a plan as possible.

use super::draw::whom;
use super::{Fault, Link, When, Whom};
use crate::scenario::{FaultKind, LinkKind, Scenario, WhenKind, WhomKind};
use crate::seed::{Seed, Stream};
use crate::subject::Reach;
use ninelives_evidence::limits;

pub(super) struct DrawLasting<'a> {
    scenario: &'a Scenario,
    mix: Stream,
    pauses: Stream,
    links: Stream,
}

impl<'a> DrawLasting<'a> {
    pub fn new(scenario: &'a Scenario, seed: &Seed) -> Self {
        let [mix, pauses, links] = ["faults", "pauses", "links"].map(|name| seed.stream(name));
        Self { scenario, mix, pauses, links }
    }

    /// The faults of the next cycle; `kill` may be among them, `cut` in its place, or `disks`.
    pub fn beside(&mut self, kill: Fault, cut: Option<Fault>, disks: Option<Vec<Fault>>) -> Vec<Fault> {
        let kind = self.mix.weighted(&self.scenario.faults.kinds).copied().unwrap_or(FaultKind::Kill);
        let weight = |kind| self.scenario.faults.weight(kind);
        let (pause_weight, network_weight) = (weight(FaultKind::Pause), weight(FaultKind::Network));
        let pause_first =
            self.mix.below((u64::from(pause_weight) + u64::from(network_weight)).max(1)) < u64::from(pause_weight);
        let (with_kill, both) = (self.mix.chance(2, 3), self.mix.chance(1, 4));
        let (pause, network) = (self.pause(), self.network(kind == FaultKind::Several));
        match kind {
            FaultKind::Kill => vec![kill],
            FaultKind::Cut => vec![cut.unwrap_or(kill)],
            FaultKind::Disk => disks.unwrap_or_else(|| vec![kill]),
            FaultKind::Pause => vec![pause],
            FaultKind::Network => vec![network],
            FaultKind::Several => {
                let (first, second, other_weight) = match pause_first {
                    true => (pause, network, network_weight),
                    false => (network, pause, pause_weight),
                };
                // A fault without a weight is not part of the mix; then a kill stands beside it.
                let with_kill = with_kill || other_weight == 0;
                let both = other_weight > 0 && (both || !with_kill);
                let second = both.then_some(second);
                [first].into_iter().chain(second).chain(with_kill.then_some(kill)).collect()
            }
        }
    }

    fn pause(&mut self) -> Fault {
        let (whom, when) = place(self.scenario, &mut self.pauses);
        let (low, high) = self.scenario.lasting.pause_ms;
        Fault::Pause { whom, when, ms: self.pauses.between(low, high) }
    }

    /// `longer`: a kill and a restart have to fit into it.
    fn network(&mut self, longer: bool) -> Fault {
        let (whom, when) = place(self.scenario, &mut self.links);
        let (low, high) = self.scenario.lasting.network_ms;
        let ms = self.links.between(low, high) + if longer { limits::NETWORK_MS_DRAWN.0 } else { 0 };
        let (low, high) = limits::DELAY_MS_DRAWN;
        let by_ms = self.links.between(low, high);
        let link = match self.links.weighted(&self.scenario.faults.links) {
            Some(LinkKind::Mute) => Link::Mute,
            Some(LinkKind::Deafen) => Link::Deafen,
            Some(LinkKind::Delay) => Link::Delay { by_ms },
            Some(LinkKind::Isolate) | None => Link::Isolate,
        };
        Fault::Network { link, whom, when, ms }
    }
}

/// Victims and moment, by the scenario's weights for kills; of its windows only those that load
/// alone reaches.
pub(super) fn place(scenario: &Scenario, stream: &mut Stream) -> (Whom, When) {
    let windows: Vec<_> = scenario.windows.iter().copied().filter(|(window, _)| window.reach == Reach::Load).collect();
    let kind = stream.weighted(&scenario.when).copied();
    let window = stream.weighted(&windows).copied();
    let hit = stream.next_u64();
    let (ahead, ms) = (stream.between(1, limits::APPLIED_AHEAD_MAX), stream.between(0, limits::TIME_AHEAD_MS_MAX));
    let when = match (kind, window) {
        (Some(WhenKind::Window), Some(window)) => When::Window { window, hit: 1 + hit % window.hit_max },
        (Some(WhenKind::Applied), _) => When::Applied { ahead },
        _ => When::Time { ms },
    };
    let kind = stream.weighted(&scenario.whom).copied().unwrap_or(WhomKind::Follower);
    let rank = stream.below(u64::from(scenario.cluster.members)) as u32;
    (whom(kind, rank), when)
}
