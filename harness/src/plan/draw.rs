//! Drawing a cycle's faults. Each kind of choice has a stream of its own, so that one more weight
//! moves as little of a plan as possible.

use super::corrupt::DrawCorruption;
use super::draw_disk::DrawDisk;
use super::draw_lasting::DrawLasting;
use super::quota::Lack;
use super::{At, Fault, Power, When, Whom};
use crate::scenario::{Scenario, WhenKind, WhomKind};
use crate::seed::{Seed, Stream};
use crate::subject::{Reach, Window};
use ninelives_evidence::limits;

pub(super) struct Draw<'a> {
    scenario: &'a Scenario,
    schedule: Stream,
    victims: Stream,
    again: Stream,
    power: Stream,
    strangers: Stream,
    lasting: DrawLasting<'a>,
    disks: DrawDisk<'a>,
    corruption: DrawCorruption<'a>,
    lack: Lack,
}

impl<'a> Draw<'a> {
    pub fn new(scenario: &'a Scenario, seed: &Seed) -> Self {
        let [schedule, victims, again, power, strangers] =
            ["schedule", "victims", "again", "power", "strangers"].map(|name| seed.stream(name));
        let (lasting, lack) = (DrawLasting::new(scenario, seed), Lack::new(scenario));
        let (disks, corruption) = (DrawDisk::new(scenario, seed), DrawCorruption::new(scenario, seed));
        Self { scenario, schedule, victims, again, power, strangers, lasting, disks, corruption, lack }
    }

    /// The faults of the next cycle.
    pub fn faults(&mut self) -> Vec<Fault> {
        // Drawn for every cycle, so that faults beside it, or in its place, move no other cycle's
        // kill.
        let kill = self.kill();
        let cut = self.cut(&kill);
        let disks = self.disks.faults(cut.as_ref().unwrap_or(&kill));
        let mut faults = self.lasting.beside(kill, cut, disks);
        let strangers = self.strangers();
        let alone = faults.iter().any(|fault| matches!(fault, Fault::Disk(_)) || fault.joins());
        if matches!(faults.last(), Some(Fault::Kill { .. })) && !alone {
            faults.extend(strangers);
        }
        let corruption = self.corruption.fault(&faults);
        faults.extend(corruption);
        for fault in &faults {
            if let Fault::Kill { whom, when: When::Window { window, .. }, .. } = fault {
                self.lack.planned(window, whom.kind);
            }
        }
        faults
    }

    fn kill(&mut self) -> Fault {
        let Self { scenario, schedule, victims, lack, .. } = self;
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
        // Drawn for a cell as well, so that the choice there moves no other draw.
        let by_weight = victims.weighted(&fit).copied().unwrap_or(WhomKind::Follower);
        let kind = cell.map_or(by_weight, |(_, kind)| kind);
        // The rank is drawn for every kind, so that one more weight for leaders does not move the
        // followers' ranks.
        let rank = victims.below(u64::from(scenario.cluster.members)) as u32;
        Fault::Kill { whom: whom(kind, rank), when, again: self.again(when), power: Power::Stays }
    }

    /// The same kill, with the power; `None`: nothing is lost in this scenario.
    fn cut(&mut self, kill: &Fault) -> Option<Fault> {
        let power = self.scenario.power?;
        // All of them are drawn, so that `all_lost_percent` moves no other draw.
        let all_lost = self.power.chance(power.all_lost_percent.into(), 100);
        let share = *self.power.pick(&limits::KEEP_PERCENT_DRAWN)?;
        let last_alone = self.power.chance(1, 2);
        let keep_percent = if all_lost { 0 } else { share };
        let mut cut = kill.clone();
        if let Fault::Kill { again, power, .. } = &mut cut {
            *power = match last_alone && !again.is_empty() {
                true => Power::FailsLast { keep_percent },
                false => Power::Fails { keep_percent },
            };
        }
        Some(cut)
    }

    /// Strangers for the places of the dead; `None`: this kill is followed by none.
    fn strangers(&mut self) -> Option<Fault> {
        let spec = self.scenario.strangers?;
        // Both are drawn, so that `kills_percent` moves no other draw.
        let come = self.strangers.chance(spec.kills_percent.into(), 100);
        let (low, high) = spec.stay_ms;
        let ms = self.strangers.between(low, high);
        come.then_some(Fault::Strangers { ms })
    }

    /// Windows in which the first victim is killed again, after a kill at `when`.
    fn again(&mut self, when: When) -> Vec<At> {
        let table = self.scenario.faults.again.iter().copied();
        let table: Vec<_> = table.filter(|(window, _)| window.is_none_or(|window| may_follow(when, window))).collect();
        let draws = [(); limits::AGAIN_DRAWN_MAX].map(|()| {
            let window = self.again.weighted(&table).copied().flatten();
            (window, self.again.next_u64())
        });
        let at = |(window, hit): (Option<&'static Window>, u64)| {
            window.map(|window| At { window, hit: 1 + hit % window.hit_max })
        };
        draws.into_iter().map_while(at).collect()
    }
}

/// Whether a member that died at `when` can be expected to pass `window` in a next life.
fn may_follow(when: When, window: &Window) -> bool {
    let died_at = |fits: fn(&Window) -> bool| matches!(when, When::Window { window, .. } if fits(window));
    match window.name {
        // Only then there is a flush that N does not cover yet.
        "recovery.replay-verify" => died_at(|window| {
            matches!(
                window.name,
                "flush.completed" | "index.tmp-written" | "index.tmp-synced" | "recovery.replay-verify"
            )
        }),
        _ if matches!(window.reach, Reach::SnapshotReceiver | Reach::Reinstall) => {
            died_at(|window| matches!(window.reach, Reach::SnapshotReceiver | Reach::Join))
        }
        _ => true,
    }
}

/// Victims with their rank, which is 0 where there is nothing to choose.
pub(super) fn whom(kind: WhomKind, rank: u32) -> Whom {
    Whom { kind, rank: if matches!(kind, WhomKind::Leader | WhomKind::All) { 0 } else { rank } }
}

fn draw_window(window: Option<&'static Window>, schedule: &mut Stream) -> When {
    match window {
        Some(window) => When::Window { window, hit: schedule.between(1, window.hit_max) },
        // A scenario with weights for windows but without one is refused when it is loaded.
        None => When::Time { ms: 0 },
    }
}
