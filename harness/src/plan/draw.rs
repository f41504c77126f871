//! Drawing a cycle's faults. Each kind of choice has a stream of its own, so that one more weight moves as little of a plan
//! as possible.

use super::{Fault, When, Whom};
use crate::limits;
use crate::scenario::{Scenario, WhenKind, WhomKind};
use crate::seed::{Seed, Stream};

pub(super) struct Draw<'a> {
    scenario: &'a Scenario,
    schedule: Stream,
    victims: Stream,
}

impl<'a> Draw<'a> {
    pub fn new(scenario: &'a Scenario, seed: &Seed) -> Self {
        Self { scenario, schedule: seed.stream("schedule"), victims: seed.stream("victims") }
    }

    /// The faults of the next cycle.
    pub fn faults(&mut self) -> Vec<Fault> {
        vec![self.kill()]
    }

    fn kill(&mut self) -> Fault {
        let Self { scenario, schedule, victims } = self;
        let when = match schedule.weighted(&scenario.when) {
            Some(WhenKind::Window) => draw_window(scenario, schedule),
            Some(WhenKind::Applied) => When::Applied { ahead: schedule.between(1, limits::APPLIED_AHEAD_MAX) },
            Some(WhenKind::Time) | None => When::Time { ms: schedule.between(0, limits::TIME_AHEAD_MS_MAX) },
        };
        let fit: Vec<_> = match when {
            When::Window { window, .. } => {
                scenario.whom.iter().copied().filter(|(kind, _)| kind.reaches(window.reach)).collect()
            }
            _ => scenario.whom.clone(),
        };
        let kind = victims.weighted(&fit).copied().unwrap_or(WhomKind::Follower);
        // The rank is drawn for every kind, so that one more weight for leaders does not move the followers' ranks.
        let rank = victims.below(u64::from(scenario.cluster.members)) as u32;
        Fault::Kill { whom: whom(kind, rank), when, again: Vec::new() }
    }
}

/// Where there is nothing to choose, a rank says nothing.
fn whom(kind: WhomKind, rank: u32) -> Whom {
    Whom { kind, rank: if matches!(kind, WhomKind::Leader | WhomKind::All) { 0 } else { rank } }
}

fn draw_window(scenario: &Scenario, schedule: &mut Stream) -> When {
    match schedule.weighted(&scenario.windows) {
        Some(window) => When::Window { window, hit: schedule.between(1, window.hit_max) },
        // A scenario with weights for windows but without one is refused when it is loaded.
        None => When::Time { ms: 0 },
    }
}
