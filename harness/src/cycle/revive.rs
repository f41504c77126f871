//! The steps after the kill: the inspection of the dead directories, the restart, and the way back
//! to the state of the cluster.

use super::{Casualty, Stage, Work};
use crate::cluster::{Member, Trouble};
use crate::inspect::{Inspected, inspect};
use crate::machine::{self, Shortage};
use futures_util::future::join_all;
use ninelives_evidence::clock;
use ninelives_evidence::verdict::Finding;
use ninelives_evidence::verdict::findings::RaftLogs;
use ninelives_evidence::{DeadMember, Evidence, Look};
use ninelives_oracle::raft_log::{self, RaftLog};
use std::io::ErrorKind;
use std::time::{Duration, Instant};

impl Stage<'_> {
    /// Inspects every dead directory that has not been inspected, and judges its content. A finding
    /// does not end the cycle: the results of the restart and of the fence are evidence as well.
    pub(super) async fn inspect_dead(&mut self, work: &mut Work) -> Result<(), Trouble> {
        let start = clock::now();
        let cluster = &*self.cluster;
        let site = &cluster.site;
        let cycle = work.step.cycle;
        let Some(inspector) = site.target.inspector() else { return Ok(()) };
        let todo = work.casualties.iter_mut().filter(|casualty| casualty.dead.is_none()).map(|casualty| async move {
            let (data, copy) = (cluster.dead_directory(casualty.member), site.paths.dead_copy(casualty.member));
            let Inspected { dead, log } = inspect(&site.spawner, inspector, &data, &copy).await?;
            let index = casualty.death.applied_received;
            let dead = casualty.dead.insert(dead);
            Ok::<_, anyhow::Error>((casualty.member, index, dead.clone(), log))
        });
        let inspected = join_all(todo).await;
        for inspected in inspected {
            let (member, applied, dead, log) = inspected?;
            if let Some(why) = exhausted(&dead, &self.shortages()) {
                return Err(Trouble::NoRoomToInspect { member, why });
            }
            work.add_dead(member, applied, &dead);
            let inspected = Evidence::Inspected {
                cycle,
                member,
                look: Look::Killed,
                applied_received: applied,
                dead: dead.clone(),
            };
            self.judge(work, &inspected);
            self.read_log(work, member, applied.max(dead.engine_index), &dead, log);
        }
        work.record.phases.inspect += clock::ms_since(start);
        Ok(())
    }

    /// Replays the news in the dead member's raft log. `applied`: the highest index that it had
    /// certainly applied.
    fn read_log(
        &self,
        work: &mut Work,
        member: u64,
        applied: Option<u64>,
        dead: &DeadMember,
        log: Result<RaftLog, raft_log::Error>,
    ) {
        let cycle = work.step.cycle;
        match log {
            Ok(log) => {
                let evidence = self.ledger.log_evidence(cycle, member, &log, applied);
                self.judge(work, &Evidence::RaftLog { log: evidence });
            }
            // If the inspector cannot read the log either, that has been judged already.
            Err(_) if dead.log_error.is_some() => {}
            // Killed in its first life, before it had made one.
            Err(raft_log::Error::Io { source, .. })
                if source.kind() == ErrorKind::NotFound && dead.log_last.is_none() => {}
            Err(error) => {
                self.tell(work, Finding::new(unreadable(&error)).in_cycle(cycle).at_member(member));
            }
        }
    }

    /// Starts all members that are down, and waits until every member serves.
    pub(super) async fn restart(&mut self, work: &mut Work) -> Result<(), Trouble> {
        let start = clock::now();
        let down: Vec<_> =
            self.cluster.members.iter().filter(|member| !member.is_up()).map(|member| member.id).collect();
        for member in down {
            self.start(work, member, None).await?;
        }
        let bound = Duration::from_millis(self.scenario.bounds.restart_ms_max);
        let kills: Vec<(u64, Instant)> =
            work.casualties.iter().map(|casualty| (casualty.member, casualty.death.at)).collect();
        let waits = self.cluster.members.iter_mut().filter(|member| !member.is_serving()).map(|member| async {
            member.wait_serving(bound).await?;
            let killed = kills.iter().rev().find(|(id, _)| *id == member.id);
            Ok(killed.map_or(0, |(_, at)| clock::ms_since(*at)))
        });
        let slowest = first_trouble(join_all(waits).await)?.into_iter().max();
        // An upgrade restarts more than once.
        work.record.recovery.serving_ms = work.record.recovery.serving_ms.max(slowest.unwrap_or(0));
        let index = self.cluster.applied_max();
        let heard = |casualty: &Casualty| index.saturating_sub(casualty.death.applied_received.unwrap_or(index));
        let behind = work.casualties.iter().map(heard).max().unwrap_or(0);
        work.record.recovery.behind = work.record.recovery.behind.max(behind);
        work.record.phases.restart += clock::ms_since(start);
        Ok(())
    }

    /// Waits until every member has applied everything that any of them ever applied: applied
    /// entries are committed, so all members get there.
    pub(super) async fn catch_up(&mut self, work: &mut Work) -> Result<(), Trouble> {
        let lap = self.cluster.site.pace().begin();
        let index = self.cluster.applied_max();
        let bound = Duration::from_millis(self.scenario.bounds.catch_up_ms_max);
        let waits = self.cluster.members.iter().map(|member: &Member| member.catch_up(index, bound));
        first_trouble(join_all(waits).await)?;
        work.record.recovery.catch_up_ms = lap.elapsed_ms();
        work.record.phases.catch_up = work.record.recovery.catch_up_ms;
        work.healing_percent = work.healing_percent.max(lap.factor_percent());
        Ok(())
    }
}

impl Work {
    /// Adds the worth of the kill, by the dead directory of `member`.
    fn add_dead(&mut self, member: u64, applied: Option<u64>, dead: &DeadMember) {
        // Counted once per member, because the second kill of one cycle takes the same entries
        // again.
        let kills = self.casualties.iter().filter(|casualty| casualty.member == member).count();
        if kills == 1 {
            self.record.recovery.lost_entries += lost(applied, dead.engine_index);
        }
        if self.record.recovery.persisted_before.is_none() {
            self.record.recovery.persisted_before = dead.last_flushed_index;
        }
    }
}

/// The resource that an inspector of a copy ran out of, by its words and the kernel's account. In
/// that case the inspector says nothing about the content of the directory.
fn exhausted(dead: &DeadMember, short: &[Shortage]) -> Option<String> {
    let errors = [&dead.last_flushed_index_error, &dead.engine_error, &dead.log_error];
    errors.into_iter().flatten().find_map(|error| {
        let resource = machine::of_words(error)?;
        let short = short.iter().find(|one| one.resource == resource)?;
        Some(format!("{error}; the machine ran short ({short})"))
    })
}

/// The finding for a log that our own decoder refuses although the inspector reads it.
fn unreadable(error: &raft_log::Error) -> RaftLogs {
    match error {
        raft_log::Error::Order { .. } => RaftLogs::LogOutOfOrder { error: error.to_string() },
        _ => RaftLogs::LogUndecoded { error: error.to_string() },
    }
}

/// Lower bound of the applied entries that a kill took out of memory.
fn lost(applied_received: Option<u64>, engine_index: Option<u64>) -> u64 {
    let entries = |index: Option<u64>| index.map_or(0, |index| index + 1);
    entries(applied_received).saturating_sub(entries(engine_index))
}

/// All results, or the trouble that explains most: a death comes before a bound that passed in a
/// wait for the dead member.
pub(super) fn first_trouble<T>(results: Vec<Result<T, Trouble>>) -> Result<Vec<T>, Trouble> {
    let mut fine = Vec::new();
    let mut trouble: Option<Trouble> = None;
    for result in results {
        match result {
            Ok(value) => fine.push(value),
            Err(death @ Trouble::Died { .. }) => return Err(death),
            Err(other) => trouble = trouble.or(Some(other)),
        }
    }
    trouble.map_or(Ok(fine), Err)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ninelives_evidence::ended::Ended;
    use ninelives_evidence::resource::Resource;
    use ninelives_evidence::stretched::Stretched;
    use ninelives_evidence::verdict::Class;

    #[test]
    fn an_inspector_without_room_says_nothing_about_the_directory() {
        let words = "While appending to file: No space left on device".to_owned();
        let dead = DeadMember { engine_error: Some(words), ..DeadMember::default() };
        let short = [Shortage { resource: Resource::Disk, found: "0 KiB free".to_owned() }];
        assert!(exhausted(&dead, &short).is_some_and(|why| why.contains("0 KiB free")));
        assert_eq!(exhausted(&dead, &[]), None, "its words alone excuse nothing");
        let corrupt = DeadMember { engine_error: Some("checksum mismatch".to_owned()), ..DeadMember::default() };
        assert_eq!(exhausted(&corrupt, &short), None);
    }

    #[test]
    fn a_hole_in_a_log_is_its_writers_fault() {
        let (path, index, why) = (|| "raft-log.redb".into(), 8, || "expected entry 7 after 6".to_owned());
        let hole = unreadable(&raft_log::Error::Order { path: path(), index, why: why() });
        assert_eq!(hole.class(), Class::RaftLog);
        assert!(hole.to_string().contains("raft index 8: expected entry 7"), "{hole}");
        let strange = unreadable(&raft_log::Error::Entry { path: path(), index, why: why() });
        assert_eq!(strange.class(), Class::HarnessError);
    }

    #[test]
    fn index_zero_is_an_entry_and_nothing_is_not() {
        assert_eq!(lost(Some(0), None), 1);
        assert_eq!(lost(None, None), 0);
        assert_eq!(lost(Some(9), Some(4)), 5);
        assert_eq!(lost(Some(4), Some(9)), 0, "an engine ahead of what was received lost nothing that is known");
    }

    #[test]
    fn a_death_explains_the_others_lateness() {
        let late = || Err(Trouble::Late { member: 1, what: "serve".into(), bound: Stretched::idle(Duration::ZERO) });
        let died =
            Trouble::Died { member: 2, ended: Ended::Exited(65), served: true, lived_before: true, remark: None };
        let trouble = first_trouble::<()>(vec![late(), Err(died)]).unwrap_err();
        assert!(matches!(trouble, Trouble::Died { .. }));
        assert!(matches!(first_trouble(vec![Ok(()), late()]), Err(Trouble::Late { .. })));
        assert_eq!(first_trouble(vec![Ok(1), Ok(2)]).unwrap(), [1, 2]);
    }
}
