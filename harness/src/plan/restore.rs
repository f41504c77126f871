//! Steps in which a saved snapshot becomes a new cluster.
//!
//! ```text
//! cycle 6  restore slot#2 by all
//! cycle 12  restore slot#1 by one into other at restore.logged hit 1
//! cycle 18  restore slot#1 by all unlike slot#3 older
//! ```
//!
//! The slot names the member that is asked for the snapshot; with `by one` its place is also that
//! of the single founder. `into other`: every member gets the engine that it did not have. Like an
//! upgrade it never names an id: all members get new ones, because an id is a life of one raft log,
//! and a restored cluster begins another.

use super::At;
use super::parse_fault::parse_at;
use crate::scenario::{RestoreKind, RestoreSpec, Scenario, UnlikeKind};
use crate::seed::{Seed, Stream};
use crate::subject;
use ninelives_evidence::member::Slot;
use std::fmt;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restore {
    pub slot: Slot,
    pub by: RestoreKind,
    /// Into the other engine.
    pub other: bool,
    /// The window in which the first `snapshot restore` is killed, or the first founder in its
    /// first life.
    pub kill: Option<At>,
    /// The founder that is first started from another state than the others, which must not let it
    /// in. Only where several founders are restored and all of them live.
    pub unlike: Option<Unlike>,
}

/// A founder that was not restored like the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unlike {
    pub slot: Slot,
    pub from: UnlikeKind,
}

/// The restores of one cluster.
#[derive(Debug)]
pub(super) struct Restores<'a> {
    spec: &'a RestoreSpec,
    members: u64,
    stream: Stream,
    unlike: Stream,
}

impl<'a> Restores<'a> {
    /// The restores of cluster `cluster`, from 1.
    pub fn new(scenario: &'a Scenario, seed: &Seed, cluster: u32) -> Option<Self> {
        let spec = scenario.restore.as_ref()?;
        let stream = |name: &str| match cluster {
            1 => seed.stream(name),
            _ => seed.stream(&format!("cluster/{cluster}/{name}")),
        };
        let (stream, unlike) = (stream("restore"), stream("unlike"));
        Some(Self { spec, members: u64::from(scenario.cluster.members), stream, unlike })
    }

    /// The restore of the cluster's `turn`-th cycle, if it is one's turn.
    pub fn step(&mut self, turn: u32) -> Option<Restore> {
        if !turn.is_multiple_of(self.spec.every_cycles) {
            return None;
        }
        // All are drawn for every step, so that one more weight moves as little as possible.
        let slot = Slot(1 + self.stream.below(self.members));
        let by = *self.stream.weighted(&self.spec.kinds)?;
        let other = *self.stream.weighted(&self.spec.other)?;
        let window = *self.stream.weighted(&self.spec.windows)?;
        let hits = self.stream.next_u64();
        let kill = window.map(|window| At { window, hit: 1 + hits % window.hit_max });
        let unlike = self.unlike().filter(|_| by == RestoreKind::All && kill.is_none());
        Some(Restore { slot, by, other, kill, unlike })
    }

    fn unlike(&mut self) -> Option<Unlike> {
        // All are drawn, so that the share moves no other draw.
        let one_is = self.unlike.chance(self.spec.unlike_percent.into(), 100);
        let slot = Slot(1 + self.unlike.below(self.members));
        let from = *self.unlike.pick(&UnlikeKind::ALL)?;
        one_is.then_some(Unlike { slot, from })
    }
}

impl Restore {
    /// The greatest of the slots that it names.
    pub fn greatest_slot(&self) -> Slot {
        self.unlike.map_or(self.slot, |unlike| unlike.slot.max(self.slot))
    }
}

impl fmt::Display for Restore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "restore {} by {}", self.slot, self.by.name())?;
        f.write_str(if self.other { " into other" } else { "" })?;
        if let Some(Unlike { slot, from }) = self.unlike {
            write!(f, " unlike {slot} {}", from.name())?;
        }
        self.kill.map_or(Ok(()), |at| write!(f, " at {at}"))
    }
}

/// Reads what follows `restore `. `Ok(None)`: no restore at all.
///
/// # Errors
/// A form that is understood and must not be run: what was expected instead.
pub(super) fn parse(text: &str) -> Result<Option<Restore>, String> {
    let Some((slot, rest)) = text.strip_prefix("slot#").and_then(|rest| rest.split_once(" by ")) else {
        return Ok(None);
    };
    let Some(slot) = slot.parse().ok().filter(|slot| *slot > 0).map(Slot) else { return Ok(None) };
    let (kind, rest) = rest.split_once(' ').map_or((rest, ""), |(kind, rest)| (kind, rest));
    let Some(by) = RestoreKind::ALL.into_iter().find(|known| known.name() == kind) else { return Ok(None) };
    let (other, rest) = match rest.strip_prefix("into other") {
        Some("") => (true, ""),
        Some(rest) => match rest.strip_prefix(' ') {
            Some(rest) => (true, rest),
            None => return Ok(None),
        },
        None => (false, rest),
    };
    let (unlike, rest) = match rest.strip_prefix("unlike ") {
        Some(rest) => match unlike(rest) {
            Some((unlike, rest)) => (Some(unlike), rest),
            None => return Ok(None),
        },
        None => (None, rest),
    };
    if unlike.is_some() && (by != RestoreKind::All || !rest.is_empty()) {
        return Err("`unlike` of a restore `by all` that no window interrupts".to_owned());
    }
    let kill = match rest {
        "" => None,
        rest => {
            let Some(at) = rest.strip_prefix("at ").and_then(parse_at) else { return Ok(None) };
            if !RestoreKind::reaches(at.window.reach) {
                return Err(fitting());
            }
            Some(at)
        }
    };
    Ok(Some(Restore { slot, by, other, kill, unlike }))
}

/// `slot#K older|empty`, and what follows.
fn unlike(text: &str) -> Option<(Unlike, &str)> {
    let (slot, rest) = text.strip_prefix("slot#")?.split_once(' ')?;
    let slot = slot.parse().ok().filter(|slot| *slot > 0).map(Slot)?;
    let (kind, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    let from = UnlikeKind::ALL.into_iter().find(|known| known.name() == kind)?;
    Some((Unlike { slot, from }, rest))
}

fn fitting() -> String {
    let fit = subject::all_windows().filter(|window| RestoreKind::reaches(window.reach));
    let names: Vec<_> = fit.map(|window| window.name).collect();
    format!("one of {} as a window of a restore", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Fault, Plan, Step};
    use std::path::Path;

    fn scenario() -> Scenario {
        Scenario::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/restore.toml")).unwrap()
    }

    fn restores(steps: &[Step]) -> Vec<(u32, Restore)> {
        let of = |fault: &Fault| match fault {
            Fault::Restore(restore) => Some(*restore),
            _ => None,
        };
        steps.iter().filter_map(|step| Some((step.cycle, step.faults.iter().find_map(of)?))).collect()
    }

    #[test]
    fn both_kinds_both_engines_and_all_windows_are_drawn() {
        let scenario = scenario();
        let spec = scenario.restore.as_ref().unwrap();
        let plan = Plan::generate(&scenario, &Seed::new(7), 2000, 1);
        let found = restores(&plan.steps);
        assert_eq!(found.len() as u32, 2000 / spec.every_cycles);
        assert!(found.iter().all(|(cycle, _)| cycle.is_multiple_of(spec.every_cycles)));
        for (window, _) in &spec.windows {
            let drawn = |one: &Restore| one.kill.map(|at| at.window) == *window;
            assert!(found.iter().any(|(_, one)| drawn(one)), "{window:?} never drawn");
        }
        for by in RestoreKind::ALL {
            for other in [false, true] {
                assert!(found.iter().any(|(_, one)| one.by == by && one.other == other), "{by:?} {other}");
            }
        }
        assert_eq!(plan.to_string().parse::<Plan>().unwrap(), plan);
    }

    /// Without the key a plan has the bytes that it had before there was one.
    #[test]
    fn a_share_of_the_whole_restores_by_all_has_a_founder_that_is_unlike() {
        let with = scenario();
        let mut some = with.clone();
        some.restore.as_mut().unwrap().unlike_percent = 50;
        let [none, some] = [&with, &some].map(|scenario| Plan::generate(scenario, &Seed::new(7), 1200, 1));
        assert_eq!(some.to_string().parse::<Plan>().unwrap(), some);
        let [none, some] = [&none.steps, &some.steps].map(|steps| restores(steps));
        let plain = |(cycle, one): &(u32, Restore)| (*cycle, Restore { unlike: None, ..*one });
        assert_eq!(none, some.iter().map(plain).collect::<Vec<_>>());
        for from in UnlikeKind::ALL {
            let unlike = |one: &Restore| one.unlike.is_some_and(|unlike| unlike.from == from);
            assert!(some.iter().any(|(_, one)| unlike(one)), "{from:?} never drawn");
        }
        let fits = |one: &Restore| one.unlike.is_none() || (one.by == RestoreKind::All && one.kill.is_none());
        assert!(some.iter().all(|(_, one)| fits(one)));
    }

    /// Restores take the place of kills, and move none of the others.
    #[test]
    fn the_other_cycles_are_what_they_would_be_without_restores() {
        let with = Scenario { upgrade: None, ..scenario() };
        let without = Scenario { restore: None, ..with.clone() };
        let [with, without] = [&with, &without].map(|scenario| Plan::generate(scenario, &Seed::new(7), 200, 1).steps);
        let kills = with.iter().zip(&without).filter(|(step, _)| restores(&[(*step).clone()]).is_empty());
        assert!(kills.clone().count() > 100);
        assert!(kills.into_iter().all(|(with, without)| with == without));
    }
}
