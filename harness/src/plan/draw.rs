//! Drawing a cycle's faults. Each kind of choice has a stream of its own, so that one more weight moves as little of a plan
//! as possible.

use super::quota::Lack;
use super::{Fault, When, Whom};
use crate::limits;
use crate::scenario::{Scenario, WhenKind, WhomKind};
use crate::seed::{Seed, Stream};
use crate::target::Window;

pub(super) struct Draw<'a> {
    scenario: &'a Scenario,
    schedule: Stream,
    victims: Stream,
    lack: Lack,
}

impl<'a> Draw<'a> {
    pub fn new(scenario: &'a Scenario, seed: &Seed) -> Self {
        Self { scenario, schedule: seed.stream("schedule"), victims: seed.stream("victims"), lack: Lack::new(scenario) }
    }

    /// The faults of the next cycle.
    pub fn faults(&mut self) -> Vec<Fault> {
        vec![self.kill()]
    }

    fn kill(&mut self) -> Fault {
        let Self { scenario, schedule, victims, lack } = self;
        let mut cell = None;
        let when = match schedule.weighted(&scenario.when) {
            Some(WhenKind::Window) => {
                cell = lack.draw(schedule);
                let drawn = cell.map(|(window, _)| window);
                draw_window(drawn.or_else(|| schedule.weighted(&scenario.windows).copied()), schedule)
            }
            Some(WhenKind::Applied) => When::Applied { ahead: schedule.between(1, limits::APPLIED_AHEAD_MAX) },
            Some(WhenKind::Time) | None => When::Time { ms: schedule.between(0, limits::TIME_AHEAD_MS_MAX) },
        };
        let fit: Vec<_> = match when {
            When::Window { window, .. } => {
                scenario.whom.iter().copied().filter(|(kind, _)| kind.reaches(window.reach)).collect()
            }
            _ => scenario.whom.clone(),
        };
        // Drawn for a cell as well: who is chosen there moves nobody else.
        let by_weight = victims.weighted(&fit).copied().unwrap_or(WhomKind::Follower);
        let kind = cell.map_or(by_weight, |(_, kind)| kind);
        // The rank is drawn for every kind, so that one more weight for leaders does not move the followers' ranks.
        let rank = victims.below(u64::from(scenario.cluster.members)) as u32;
        if let When::Window { window, .. } = when {
            lack.planned(window, kind);
        }
        Fault::Kill { whom: whom(kind, rank), when, again: Vec::new() }
    }
}

/// Where there is nothing to choose, a rank says nothing.
fn whom(kind: WhomKind, rank: u32) -> Whom {
    Whom { kind, rank: if matches!(kind, WhomKind::Leader | WhomKind::All) { 0 } else { rank } }
}

fn draw_window(window: Option<&'static Window>, schedule: &mut Stream) -> When {
    match window {
        Some(window) => When::Window { window, hit: schedule.between(1, window.hit_max) },
        // A scenario with weights for windows but without one is refused when it is loaded.
        None => When::Time { ms: 0 },
    }
}
