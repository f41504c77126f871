//! Steps in which a member changes its engine.
//!
//! ```text
//! cycle 9  upgrade slot#2 to rocksdb by migrate at migrate.copied hit 1
//! cycle 12  upgrade slot#3 to rocksdb by migrate at migrate.index hit 1 then serve
//! cycle 13  upgrade slot#3 to redb by migrate cut keeping 50% at migrate.marker hit 1 then serve
//! cycle 14  upgrade slot#3 to rocksdb by migrate then cut
//! cycle 15  upgrade slot#1 to redb by replace at snapshot.exchanged hit 1
//! cycle 18  upgrade slot#2 to redb by replace
//! ```
//!
//! A step names a slot: the cluster decides which id lives there by then. It never names an id,
//! because a member that is replaced comes back under a new one.

use super::At;
use super::fault::Keeping;
use super::parse_fault::{keeping, parse_at, parse_keeping};
use crate::scenario::{Scenario, UpgradeSpec, WayKind};
use crate::seed::{Seed, Stream};
use crate::subject;
use ninelives_evidence::limits;
use ninelives_evidence::member::{Engine, Slot};
use std::fmt;

/// The way in which the member changes its engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Migrate {
        /// The window in which `migrate` is killed, and the next action.
        kill: Option<(At, Then)>,
        /// The power fails with that kill, or else when `migrate` has ended; changes that were not
        /// synced survive with a chance of so many percent.
        cut: Option<u32>,
    },
    Replace {
        /// The window in which the new member, or its sender, is killed.
        kill: Option<At>,
    },
}

/// After a `migrate` that was killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// The same again, to its end.
    Migrate,
    /// The member is started, and its start-up finishes the change or undoes it.
    Serve,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upgrade {
    pub slot: Slot,
    pub to: Engine,
    pub way: Way,
}

impl Upgrade {
    pub fn kill(&self) -> Option<At> {
        match self.way {
            Way::Migrate { kill, .. } => kill.map(|(at, _)| at),
            Way::Replace { kill } => kill,
        }
    }

    /// Whether the power fails in it.
    pub fn cuts(&self) -> bool {
        matches!(self.way, Way::Migrate { cut: Some(_), .. })
    }
}

/// Walks the slots: every member becomes rocksdb, one after the other, then every one redb again,
/// and so on. A slot that has the round's engine already is passed over.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    spec: &'a UpgradeSpec,
    engines: Vec<Engine>,
    target: Engine,
    stream: Stream,
    power: Stream,
    /// Share of the cuts that lose everything; `None`: the power stays.
    all_lost_percent: Option<u32>,
}

impl<'a> Walk<'a> {
    /// The walk of cluster `cluster`, from 1.
    pub fn new(scenario: &'a Scenario, seed: &Seed, cluster: u32) -> Option<Self> {
        let spec = scenario.upgrade.as_ref()?;
        let engines = scenario.cluster.engines.clone();
        let stream = if cluster == 1 { "upgrade".to_owned() } else { format!("cluster/{cluster}/upgrade") };
        let (power, stream) = (seed.stream(&format!("{stream}/power")), seed.stream(&stream));
        let all_lost_percent = scenario.power.map(|power| power.all_lost_percent);
        Some(Self { spec, engines, target: Engine::Rocksdb, stream, power, all_lost_percent })
    }

    /// The upgrade of the cluster's `turn`-th cycle, if it is one's turn.
    pub fn step(&mut self, turn: u32) -> Option<Upgrade> {
        if !turn.is_multiple_of(self.spec.every_cycles) {
            return None;
        }
        if self.engines.iter().all(|engine| *engine == self.target) {
            self.target = self.target.other();
        }
        let at = self.engines.iter().position(|engine| *engine != self.target)?;
        self.engines[at] = self.target;
        let slot = Slot(at as u64 + 1);
        Some(Upgrade { slot, to: self.target, way: self.way()? })
    }

    /// Notes that a restore changes the engines of all members.
    pub fn all_change(&mut self) {
        self.engines.iter_mut().for_each(|engine| *engine = engine.other());
    }

    fn way(&mut self) -> Option<Way> {
        let kind = *self.stream.weighted(&self.spec.ways)?;
        let window = *self.stream.weighted(&self.spec.windows_of(kind))?;
        // All are drawn for every step, so that one more weight moves as little as possible.
        let (hits, then) = (self.stream.next_u64(), self.stream.chance(1, 2));
        let at = window.map(|window| At { window, hit: 1 + hits % window.hit_max });
        let then = if then { Then::Serve } else { Then::Migrate };
        let cut = self.cut();
        Some(match kind {
            WayKind::Migrate => Way::Migrate { kill: at.map(|at| (at, then)), cut },
            WayKind::Replace => Way::Replace { kill: at },
        })
    }

    /// The share that survives if the power fails in this step.
    fn cut(&mut self) -> Option<u32> {
        let all_lost_percent = self.all_lost_percent?;
        let fails = self.power.chance(self.spec.cut_percent.into(), 100);
        let all_lost = self.power.chance(all_lost_percent.into(), 100);
        let share = *self.power.pick(&limits::KEEP_PERCENT_DRAWN)?;
        fails.then_some(if all_lost { 0 } else { share })
    }
}

impl fmt::Display for Upgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "upgrade {} to {} by ", self.slot, self.to)?;
        let kind = match self.way {
            Way::Migrate { .. } => WayKind::Migrate,
            Way::Replace { .. } => WayKind::Replace,
        };
        f.write_str(kind.name())?;
        match (self.way, self.kill()) {
            (Way::Migrate { cut: Some(keep_percent), .. }, Some(at)) => {
                write!(f, " cut{} at {at}", Keeping(keep_percent))?;
            }
            (Way::Migrate { cut: Some(keep_percent), .. }, None) => {
                write!(f, " then cut{}", Keeping(keep_percent))?;
            }
            (_, Some(at)) => write!(f, " at {at}")?,
            (_, None) => {}
        }
        match self.way {
            Way::Migrate { kill: Some((_, Then::Serve)), .. } => f.write_str(" then serve"),
            _ => Ok(()),
        }
    }
}

/// Reads what follows `upgrade `. `Ok(None)`: no upgrade at all.
///
/// # Errors
/// A form that is understood and must not be run: what was expected instead.
pub(super) fn parse(text: &str) -> Result<Option<Upgrade>, String> {
    let Some((slot, rest)) = text.strip_prefix("slot#").and_then(|rest| rest.split_once(" to ")) else {
        return Ok(None);
    };
    let Some((to, rest)) = rest.split_once(" by ") else { return Ok(None) };
    let (Some(slot), Some(to)) = (slot.parse().ok().filter(|slot| *slot > 0).map(Slot), Engine::parse(to)) else {
        return Ok(None);
    };
    let (kind, rest) = rest.split_once(' ').map_or((rest, ""), |(kind, rest)| (kind, rest));
    let Some(kind) = WayKind::ALL.into_iter().find(|known| known.name() == kind) else { return Ok(None) };
    refuse_an_id(kind, rest)?;
    if let Some(share) = rest.strip_prefix("then cut").filter(|_| kind == WayKind::Migrate) {
        let cut = parse_keeping(share);
        return Ok(cut.map(|cut| Upgrade { slot, to, way: Way::Migrate { kill: None, cut: Some(cut) } }));
    }
    let (rest, then) = match rest.strip_suffix("then serve").filter(|_| kind == WayKind::Migrate) {
        Some(rest) => (rest.trim_end_matches(' '), Then::Serve),
        None => (rest, Then::Migrate),
    };
    let (cut, place) = match rest.strip_prefix("cut").filter(|_| kind == WayKind::Migrate) {
        Some(rest) => keeping(rest).map_or((None, None), |(cut, place)| (Some(cut), Some(place))),
        None => (None, rest.strip_prefix("at ")),
    };
    let kill = match rest {
        // Without an interruption `serve` has nothing to finish.
        "" if then == Then::Serve => return Ok(None),
        "" => None,
        _ => {
            let Some(at) = place.and_then(parse_at) else { return Ok(None) };
            if !kind.reaches(at.window.reach) {
                return Err(fitting(kind));
            }
            Some(at)
        }
    };
    let way = match kind {
        WayKind::Migrate => Way::Migrate { kill: kill.map(|at| (at, then)), cut },
        WayKind::Replace => Way::Replace { kill },
    };
    Ok(Some(Upgrade { slot, to, way }))
}

fn fitting(kind: WayKind) -> String {
    let fit: Vec<_> =
        subject::WINDOWS.iter().filter(|window| kind.reaches(window.reach)).map(|window| window.name).collect();
    format!("one of {} as a window of an upgrade by {}", fit.join(", "), kind.name())
}

/// `by replace as n2`: the wiped member would come back under its old id.
fn refuse_an_id(kind: WayKind, rest: &str) -> Result<(), String> {
    let names_an_id = rest == "as" || rest.starts_with("as ") || rest.contains(" as ");
    if kind != WayKind::Replace || !names_an_id {
        return Ok(());
    }
    Err(WHY_NO_ID.to_owned())
}

/// Reason why a step must not name the id under which a wiped member comes back.
pub(super) const WHY_NO_ID: &str = "`by replace` without an id: the cluster picks one that was never used, because a wiped member \
                                    under its old id is amnesia: an id whose raft log is gone has forgotten its votes and \
                                    acknowledgements, and raft promises nothing then";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Fault, Plan};
    use std::path::Path;

    fn rolling() -> Scenario {
        Scenario::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/rolling-upgrade.toml")).unwrap()
    }

    fn upgrades(plan: &Plan) -> Vec<(u32, Upgrade)> {
        let of = |fault: &Fault| match fault {
            Fault::Upgrade(upgrade) => Some(*upgrade),
            _ => None,
        };
        plan.steps.iter().filter_map(|step| Some((step.cycle, step.faults.iter().find_map(of)?))).collect()
    }

    #[test]
    fn the_walk_turns_every_member_and_turns_them_back() {
        let scenario = rolling();
        let found = upgrades(&Plan::generate(&scenario, &Seed::new(7), 300, 1));
        let every = scenario.upgrade.as_ref().unwrap().every_cycles;
        assert_eq!(found.len() as u32, 300 / every);
        let walked: Vec<_> = found.iter().take(7).map(|(_, upgrade)| (upgrade.slot.0, upgrade.to)).collect();
        use Engine::{Redb, Rocksdb};
        let expected = [(1, Rocksdb), (2, Rocksdb), (3, Rocksdb), (1, Redb), (2, Redb), (3, Redb), (1, Rocksdb)];
        assert_eq!(walked, expected);
        assert!(found.iter().all(|(cycle, _)| cycle.is_multiple_of(every)));
    }

    #[test]
    fn both_ways_all_their_windows_and_both_continuations_are_drawn() {
        let scenario = rolling();
        let found = upgrades(&Plan::generate(&scenario, &Seed::new(7), 3000, 1));
        for (window, _) in &scenario.upgrade.as_ref().unwrap().windows {
            let drawn = found.iter().any(|(_, upgrade)| upgrade.kill().map(|at| at.window) == *window);
            assert!(drawn, "{window:?} never drawn");
        }
        for then in [Then::Migrate, Then::Serve] {
            let way = |way: Way| matches!(way, Way::Migrate { kill: Some((_, found)), .. } if found == then);
            assert!(found.iter().any(|(_, upgrade)| way(upgrade.way)), "{then:?} never drawn");
        }
    }

    /// Upgrades take the place of kills, and move none of the others.
    #[test]
    fn the_other_cycles_are_what_they_would_be_without_upgrades() {
        let scenario = rolling();
        let without = Scenario { upgrade: None, ..scenario.clone() };
        let (with, without) =
            [&scenario, &without].map(|scenario| Plan::generate(scenario, &Seed::new(7), 200, 1).steps).into();
        let kills = with.iter().zip(&without).filter(|(step, _)| matches!(step.faults[..], [Fault::Kill { .. }]));
        assert!(kills.clone().count() > 100);
        for (with, without) in kills {
            assert_eq!(with, without);
        }
    }

    #[test]
    fn a_slot_that_has_the_engine_is_passed_over() {
        let mut scenario = rolling();
        scenario.cluster.engines = vec![Engine::Redb, Engine::Rocksdb, Engine::Rocksdb];
        let found = upgrades(&Plan::generate(&scenario, &Seed::new(7), 60, 1));
        let walked: Vec<_> = found.iter().take(3).map(|(_, upgrade)| (upgrade.slot.0, upgrade.to)).collect();
        assert_eq!(walked, [(1, Engine::Rocksdb), (1, Engine::Redb), (2, Engine::Redb)]);
    }
}
