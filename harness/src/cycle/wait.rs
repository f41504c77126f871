//! Waiting for a planned place while the load goes on.
//!
//! The load brings a member to a window, by the entries that the member applies. So a wait ends
//! without the window only when the load has really gone by ([`Stage::due`]) and the bound,
//! stretched by the machine's pace, is over as well, because timers bring some passes. The clock
//! alone ends a wait in two cases: no entry was applied for a whole bound, or the load was so slow
//! that the due entries were not applied within [`limits::WINDOW_BOUNDS_MAX`] bounds.

use super::Stage;
use super::reach::Reached;
use crate::cluster::Trouble;
use crate::pace::Lap;
use crate::plan::At;
use crate::scenario::{Scenario, TargetSpec};
use crate::subject::LoadShape;
use crate::timer;
use ninelives_evidence::limits;
use ninelives_evidence::stretched::Stretched;
use std::fmt;
use std::future::Future;
use std::time::Duration;

/// Reason why a planned place was not reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Miss {
    /// No member was in the state that leads there.
    NoWay,
    /// The member caught up without passing it.
    CaughtUp,
    /// The member answered the request without passing it.
    Answered,
    /// The member refused the request, or broke it off.
    Refused,
    /// The load that had to bring the pass has gone by.
    PassedBy { applied: u64, due: u64, waited: Stretched },
    /// Nothing was applied any more.
    Standstill { applied: u64, waited: Stretched },
    /// The load was too slow.
    Trickle { applied: u64, due: u64, waited: Stretched },
}

impl fmt::Display for Miss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Miss::NoWay => f.write_str("not reached: no member was in the state that leads there"),
            Miss::CaughtUp => f.write_str("not reached: the member caught up without passing it"),
            Miss::Answered => f.write_str("not reached: the member answered without passing it"),
            Miss::Refused => f.write_str("not reached: the member refused to do what passes it, or broke off"),
            Miss::PassedBy { applied, due, waited } => {
                write!(
                    f,
                    "not reached, though {applied} entries were applied meanwhile ({due} had to bring it) in {waited}"
                )
            }
            Miss::Standstill { applied, waited } => {
                write!(f, "not reached: {applied} entries were applied, then none for {waited}")
            }
            Miss::Trickle { applied, due, waited } => {
                write!(f, "not reached: of the {due} entries that had to bring it {applied} were applied in {waited}")
            }
        }
    }
}

/// Reason why a wait is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    PassedBy,
    Standstill,
    Trickle,
}

/// The reason to end a wait without success, after `applied` of `due` entries; `None`: it goes on.
fn over(applied: u64, due: u64, passed: Passed) -> Option<Over> {
    match passed {
        Passed { one: true, .. } if applied >= due => Some(Over::PassedBy),
        Passed { still: true, .. } => Some(Over::Standstill),
        Passed { all: true, .. } => Some(Over::Trickle),
        _ => None,
    }
}

/// The bounds that are over.
#[derive(Debug, Clone, Copy)]
struct Passed {
    /// One bound, since the wait began.
    one: bool,
    /// One bound, since the last entry was applied.
    still: bool,
    /// All bounds that a load gets while it goes on.
    all: bool,
}

impl Stage<'_> {
    /// Waits for `reached` while one of `members` applies `due` entries.
    pub(super) async fn while_the_load_goes_on<T>(
        &self,
        members: &[u64],
        due: u64,
        bound: Duration,
        reached: impl Future<Output = T>,
    ) -> Result<T, Miss> {
        let (from, began) = (self.applied_by(members), self.cluster.site.pace().begin());
        let (mut seen, mut moved) = (from, began.clone());
        tokio::pin!(reached);
        loop {
            if let Some(reached) = timer::within(limits::WINDOW_LOOK_PAUSE, &mut reached).await {
                return Ok(reached);
            }
            // The members are asked anew, because their own news come in large steps.
            tokio::select! {
                biased;
                reached = &mut reached => return Ok(reached),
                _ = self.cluster.statuses() => {}
            }
            let applied = self.applied_by(members);
            if applied > seen {
                (seen, moved) = (applied, self.cluster.site.pace().begin());
            }
            let passed = Passed {
                one: began.is_over(bound),
                still: moved.is_over(bound),
                all: began.is_over(bound * limits::WINDOW_BOUNDS_MAX),
            };
            if let Some(over) = over(seen - from, due, passed) {
                return Err(miss(over, (seen - from, due), (&began, &moved)));
            }
        }
    }

    /// The highest index that any of `members` was heard to have applied.
    fn applied_by(&self, members: &[u64]) -> u64 {
        let applied = self.cluster.members.iter().filter(|member| members.contains(&member.id));
        applied.map(|member| member.applied_received()).max().unwrap_or(0)
    }

    /// Waits until `first` has applied `ahead` entries more.
    pub(super) async fn reach_applied(&self, first: u64, ahead: u64) -> Result<Reached, Trouble> {
        let bound = self.window_bound();
        let member = self.member(first)?;
        let from = member.status().await?.applied.unwrap_or(0);
        // The wait has no bound of its own: the load ends it.
        let wait = member.wait_applied(from + ahead, bound * limits::WINDOW_BOUNDS_MAX);
        match self.while_the_load_goes_on(&[first], ahead.saturating_add(1), bound, wait).await {
            Ok(Ok(_)) => Ok(Reached::Yes),
            Ok(Err(Trouble::Late { bound: waited, .. })) => {
                let applied = self.applied_by(&[first]).saturating_sub(from);
                Ok(Reached::No(Miss::Trickle { applied, due: ahead, waited }))
            }
            Ok(Err(trouble)) => Err(trouble),
            Err(miss) => Ok(Reached::No(miss)),
        }
    }

    /// Entries that have to bring a member to `at`.
    pub(super) fn due(&self, at: At) -> u64 {
        at.window.entries_due(at.hit, &load_shape(self.scenario))
    }

    /// Entries that have to bring the logs of all others past the entries of a member that is away.
    pub(super) fn purge_due(&self) -> u64 {
        load_shape(self.scenario).purge()
    }

    /// Time for which the load may stand still, on an idle machine, before a window counts as not
    /// reached.
    pub(super) fn window_bound(&self) -> Duration {
        Duration::from_millis(self.scenario.bounds.window_wait_ms_max)
    }
}

fn miss(over: Over, (applied, due): (u64, u64), (began, moved): (&Lap, &Lap)) -> Miss {
    match over {
        Over::PassedBy => Miss::PassedBy { applied, due, waited: began.waited() },
        Over::Standstill => Miss::Standstill { applied, waited: moved.waited() },
        Over::Trickle => Miss::Trickle { applied, due, waited: began.waited() },
    }
}

/// The settings of `scenario` that determine how many entries bring a window.
fn load_shape(scenario: &Scenario) -> LoadShape {
    let snapshot_every_entries = match &scenario.target {
        TargetSpec::Node => scenario.cluster.snapshot_every_entries,
        TargetSpec::Server(server) => server.snapshot_every_entries,
    };
    LoadShape {
        clients: u64::from(scenario.load.clients),
        compact_every_ops: u64::from(scenario.load.compact_every_ops),
        value_bytes_max: u64::from(scenario.load.value_bytes_max),
        memtable_bytes: scenario.cluster.memtable_bytes.unwrap_or(0),
        snapshot_every_entries,
        keep_entries: scenario.cluster.keep_entries,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_load_ends_a_wait_and_no_clock_before_it() {
        let passed = |one, still, all| Passed { one, still, all };
        assert_eq!(over(10, 100, passed(false, false, false)), None);
        assert_eq!(over(10, 100, passed(true, false, false)), None, "the load is late, and goes on");
        assert_eq!(over(500, 100, passed(false, false, false)), None, "a timer may bring it as well");
        assert_eq!(over(100, 100, passed(true, false, false)), Some(Over::PassedBy));
        assert_eq!(over(10, 100, passed(true, true, false)), Some(Over::Standstill));
        assert_eq!(over(99, 100, passed(true, false, true)), Some(Over::Trickle));
        assert_eq!(over(100, 100, passed(true, true, true)), Some(Over::PassedBy));
    }

    #[test]
    fn a_miss_says_what_the_load_did() {
        let waited = Stretched { idle_ms: 4_000, factor_percent: 300 };
        let said = Miss::PassedBy { applied: 700, due: 640, waited }.to_string();
        assert!(said.starts_with("not reached, though 700 entries were applied meanwhile (640 had"), "{said}");
        assert!(said.ends_with("in 12000 ms (4000 ms × 3.00, the machine's factor)"), "{said}");
        let said = Miss::Standstill { applied: 3, waited }.to_string();
        assert!(said.contains("3 entries were applied, then none for 12000 ms"), "{said}");
    }
}
