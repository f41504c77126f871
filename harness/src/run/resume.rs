//! Resuming: a cluster's part of a run whose harness was killed.
//!
//! The parent-death signal killed all members with the harness, so its death was a kill of them
//! all, and is judged like one: the directories are read as they are, the members start on them,
//! catch up, are fenced and verified, before any cycle begins. The ledger is built again from the
//! lines of the history. Operations that were under way have an unknown outcome; watches go on
//! where they broke off; clients begin anew under numbers that were never used. The cycle that was
//! under way is run again: at most one is lost.

use super::Job;
use crate::cluster::{Cluster, Seat};
use crate::process::Spawner;
use crate::subject::Addresses;
use anyhow::{Context, bail};
use ninelives_evidence::history::History;
use ninelives_evidence::record::CycleRecord;
use ninelives_evidence::{Did, End, Evidence, Look};
use ninelives_oracle::fold::{self, Fold};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Numbers of clients between one resumption and the next: more than any load and its readers take.
pub(super) const CLIENTS_STRIDE: u32 = 100_000;

/// The state that a cluster's history leads to.
#[derive(Default)]
pub(super) struct Reopened {
    pub cycles: Vec<CycleRecord>,
    /// The cluster's part was complete.
    pub end: Option<End>,
    /// The number of times that it was resumed, this time included.
    pub times: u32,
    seats: Vec<Seat>,
    ids_used: BTreeSet<u64>,
    /// Members whose directory `migrate` was working on, or may have been.
    pub migrating: BTreeSet<u64>,
    /// A member was being replaced, or was to be, or the cluster restored.
    replacing: bool,
    began: bool,
}

/// Folds the history of cluster `number`, as far as it goes.
///
/// # Errors
/// It cannot be read, or is another run's.
pub(super) fn read(job: &Job, number: u32) -> anyhow::Result<(Fold, Reopened)> {
    let path = job.paths.of_cluster(number).history_jsonl();
    let mut fold = match Fold::open(&path, &job.scenario.known) {
        Err(fold::Error::Headless { path }) => {
            bail!("{path}: nothing was written down yet: remove the report, and run it anew")
        }
        opened => opened?,
    };
    let head = fold.head();
    if head.plan_digest != job.plan.digest() || head.scenario_digest != job.scenario.digest() {
        bail!("{}: expected the history of this plan and scenario, found another run's", path.display());
    }
    let mut reopened = Reopened::default();
    while let Some((_, evidence)) = fold.step()? {
        reopened.follow(evidence);
    }
    Ok((fold, reopened))
}

impl Reopened {
    /// Reopens the history of cluster `number`, which `fold` has read, and has its ledger write
    /// there from now on.
    ///
    /// # Errors
    /// The run in the history cannot be resumed, or the history cannot be written.
    pub fn go_on(&mut self, job: &Job, number: u32, fold: Fold) -> anyhow::Result<Arc<History>> {
        let path = job.paths.of_cluster(number).history_jsonl();
        if !self.began {
            bail!("{}: no cycle had begun: remove the report, and run it anew", path.display());
        }
        if self.replacing {
            bail!(
                "{}: cannot resume: the membership is unknown after a replacement or a restore that the harness did not finish, and a \
                 member with a damaged file was to be replaced: run the plan anew with `ninelives replay`",
                path.display()
            );
        }
        self.times += 1;
        let history = History::go_on(&path, fold.go_on())
            .with_context(|| format!("cannot go on with the history at {}", path.display()))?;
        if self.end.is_none() {
            let ledger = fold.ledger();
            ledger.go_on(Arc::clone(&history));
            let after_cycle = self.done_cycles();
            ledger.record(&Evidence::Resumed { times: self.times, after_cycle });
        }
        Ok(history)
    }

    fn follow(&mut self, evidence: Evidence) {
        match evidence {
            Evidence::Place { slot, member, engine, peer, client, control } => {
                self.ids_used.insert(member);
                let at = Addresses { peer, client, control };
                self.seats.push(Seat { slot, founder: Some(member), member, engine, at });
            }
            Evidence::MovedIn { slot, member, engine, .. } => {
                self.ids_used.insert(member);
                for seat in self.seats.iter_mut().filter(|seat| seat.slot == slot) {
                    (seat.member, seat.engine) = (member, engine);
                }
            }
            Evidence::Restored { founders, .. } => {
                self.seats.iter_mut().for_each(|seat| seat.founder = None);
                for (slot, member, engine) in founders {
                    self.ids_used.insert(member);
                    for seat in self.seats.iter_mut().filter(|seat| seat.slot == slot) {
                        (seat.founder, seat.member, seat.engine) = (Some(member), member, engine);
                    }
                }
            }
            Evidence::Inspected { member, dead, look, .. } => {
                if let Some(engine) = dead.engine {
                    self.seats.iter_mut().filter(|seat| seat.member == member).for_each(|seat| seat.engine = engine);
                }
                if matches!(look, Look::Migrated { .. }) {
                    self.migrating.remove(&member);
                }
            }
            Evidence::Did { did, member, .. } => match (did, member) {
                (Did::Migrate, Some(member)) => drop(self.migrating.insert(member)),
                (Did::MemberRemove | Did::Save | Did::Damage, _) => self.replacing = true,
                _ => {}
            },
            Evidence::Cycle { .. } => self.began = true,
            Evidence::CycleEnd { record } => {
                self.replacing = false;
                self.migrating.clear();
                self.cycles.push(record);
            }
            Evidence::Resumed { times, .. } => (self.times, self.end) = (times, None),
            Evidence::End(end) if !end.interrupted => self.end = Some(end),
            _ => {}
        }
    }

    /// The cluster as it is: all members are dead, and have the addresses of the membership.
    pub fn cluster(&self, job: &Job, number: u32, spawner: Spawner) -> anyhow::Result<Cluster> {
        let paths = job.paths.of_cluster(number);
        Cluster::of_the_dead(spawner, job.target.clone(), paths, &self.seats, self.ids_used.clone())
    }

    /// The last cycle that was carried out; 0: none was.
    pub fn done_cycles(&self) -> u32 {
        self.cycles.last().map_or(0, |record| record.cycle)
    }

    /// Milliseconds for which the load ran before: the sum over the cycles that were carried out.
    /// (The load of the cycle in which the harness died counts among the writes and not here.)
    pub fn load_ms(&self) -> u64 {
        self.cycles.iter().map(|record| record.duration_ms).sum()
    }

    /// The number of the first client.
    pub fn first_client(&self) -> u32 {
        self.times.saturating_mul(CLIENTS_STRIDE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ninelives_evidence::DeadMember;
    use ninelives_evidence::member::{Engine, Slot};

    fn place(slot: u64) -> Evidence {
        let at = "127.0.0.1:9".parse().unwrap();
        Evidence::Place { slot: Slot(slot), member: slot, engine: Engine::Redb, peer: at, client: at, control: at }
    }

    #[test]
    fn who_is_where_is_what_was_seen_last() {
        let mut reopened = Reopened::default();
        (1..=3).for_each(|slot| reopened.follow(place(slot)));
        reopened.follow(Evidence::MovedIn { cycle: 2, slot: Slot(2), member: 4, engine: Engine::Redb });
        let dead = DeadMember { engine: Some(Engine::Rocksdb), ..DeadMember::default() };
        let did = |did| Evidence::Did { cycle: 3, did, member: Some(1), what: None };
        reopened.follow(did(Did::Migrate));
        assert_eq!(reopened.migrating.len(), 1);
        let look = Look::Migrated { to: Engine::Rocksdb, index: None };
        reopened.follow(Evidence::Inspected { cycle: 3, member: 1, look, applied_received: None, dead });
        let now = [(1, Engine::Rocksdb), (3, Engine::Redb), (4, Engine::Redb)].into();
        let seats = reopened.seats.iter().map(|seat| (seat.member, seat.engine)).collect::<BTreeSet<_>>();
        assert_eq!(seats, now);
        assert_eq!((reopened.ids_used.len(), reopened.migrating.len(), reopened.replacing), (4, 0, false));
        reopened.follow(did(Did::MemberRemove));
        assert!(reopened.replacing);
    }

    #[test]
    fn after_a_restore_the_founders_are_those_that_were_restored() {
        let mut reopened = Reopened::default();
        (1..=3).for_each(|slot| reopened.follow(place(slot)));
        let founders = vec![(Slot(2), 4, Engine::Rocksdb)];
        reopened.follow(Evidence::Restored { cycle: 6, revision: 90, index: Some(1), founders });
        reopened.follow(Evidence::MovedIn { cycle: 6, slot: Slot(1), member: 5, engine: Engine::Redb });
        let seats: Vec<_> = reopened.seats.iter().map(|seat| (seat.member, seat.founder, seat.engine)).collect();
        let founder = (4, Some(4), Engine::Rocksdb);
        assert_eq!(seats, [(5, None, Engine::Redb), founder, (3, None, Engine::Redb)]);
        assert_eq!(reopened.ids_used.last(), Some(&5));
    }
}
