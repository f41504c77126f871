//! One cycle: choose victims, begin lasting faults, strike, inspect the dead, let strangers into
//! their places, restart, let lasting faults end, catch up, fence, verify.
//!
//! Pauses and disturbances of the peer links begin first, each at its place, and end after their
//! time, whatever is going on by then: a kill may strike while they last, and a member may come
//! back into a partition. The cluster has to be live only after all of them have ended.
//!
//! Writes go on all the time. A failure on the way ends the cycle with a finding that names the
//! party to blame; a step that cannot be reached (no leader, a window not passed) ends as a
//! recorded skip. The history holds a cycle step by step, and each step is written before it is
//! taken.

mod again;
mod cost;
mod damage;
mod defragment;
mod disks;
mod explore;
mod fence;
mod fence_at_revision;
mod fence_by_command;
mod lasting;
mod migrate;
mod outlive;
mod proved_nothing;
mod reach;
mod replace;
mod restore;
mod revive;
mod second_look;
mod strangers;
mod strike;
mod unlike;
mod upgrade;
mod victims;
mod wait;
mod work;

pub use work::Work;

use crate::cluster::trouble::{credible, excused};
use crate::cluster::{Cluster, Death, Member, Trouble};
use crate::crowd::Crowd;
use crate::directory;
use crate::machine::{Machine, Shortage};
use crate::observe::Observer;
use crate::plan::Fault;
use crate::scenario::Scenario;
use crate::seed::Seed;
use crate::timer;
use crate::workload::{Load, ReadProber};
use ninelives_evidence::clock;
use ninelives_evidence::ended::Ended;
use ninelives_evidence::limits;
use ninelives_evidence::member::Role;
use ninelives_evidence::record::CycleRecord;
use ninelives_evidence::verdict::findings::Harness;
use ninelives_evidence::verdict::{Class, Finding};
use ninelives_evidence::{Did, Evidence, Look};
use ninelives_oracle::Ledger;
use proved_nothing::proved_nothing;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use work::Casualty;

/// State that cycles share and hand on.
pub struct Stage<'a> {
    /// Number of the cluster, from 1.
    number: u32,
    pub scenario: &'a Scenario,
    pub cluster: &'a mut Cluster,
    pub ledger: Arc<Ledger>,
    pub observer: &'a mut Observer,
    pub load: Load<'a>,
    /// It is there when a fault strikes.
    pub crowd: Option<&'a Crowd>,
    machine: Arc<Machine>,
    seed: Seed,
    fences: u64,
    /// Offset of the numbers of the prober's readers: a resumed run uses new ones.
    readers_from: u32,
    /// The prober, made at its first use.
    prober: Option<ReadProber>,
}

/// A cycle that ended, well or not.
#[derive(Debug)]
pub struct CycleEnd {
    pub record: CycleRecord,
    pub findings: Vec<Finding>,
}

impl<'a> Stage<'a> {
    pub fn new(
        number: u32,
        scenario: &'a Scenario,
        cluster: &'a mut Cluster,
        ledger: Arc<Ledger>,
        (observer, load, machine, seed): (&'a mut Observer, Load<'a>, Arc<Machine>, Seed),
    ) -> Self {
        let (crowd, fences, readers_from, prober) = (None, 0, 0, None);
        Self { number, scenario, cluster, ledger, observer, load, crowd, machine, seed, fences, readers_from, prober }
    }

    /// Carries out one step of the plan; [`Stage::close`] says what came of it.
    pub async fn run(&mut self, work: &mut Work) {
        let (cycle, action) = (work.step.cycle, work.step.action());
        self.ledger.record(&Evidence::Cycle { cycle, what: action });
        if let Err(trouble) = self.carry_out(work).await {
            self.outlive(work, &trouble).await;
        }
    }

    /// A step that is skipped is verified like any other: the writes that went on meanwhile have to
    /// be there.
    async fn carry_out(&mut self, work: &mut Work) -> Result<(), Trouble> {
        let mut term_before = 0;
        self.gather_crowd().await;
        match self.cluster.roles().await {
            Some(roles) => {
                term_before = self.term().await;
                let done = self.do_faults(work, &roles).await;
                self.unless_of_a_disk(work, done)?;
                work.keep_percent = None;
                work.record.phases.kill = work.lap.elapsed_ms();
            }
            None => {
                work.skip("no leader was elected in time, so no victim could be chosen");
                self.cluster.stray_death().map_or(Ok(()), Err)?;
            }
        }
        self.heal(work).await?;
        match self.prove(work, term_before).await {
            Err(Trouble::Died { member, .. }) if work.is_damaged(member) => {
                self.replace_damaged(work).await?;
                self.heal(work).await?;
                self.prove(work, term_before).await?;
            }
            proved => proved?,
        }
        self.explore_cuts(work).await?;
        self.replace_damaged(work).await
    }

    /// Fences and verifies. `term_before`: the term in which the cycle began.
    async fn prove(&mut self, work: &mut Work, term_before: u64) -> Result<(), Trouble> {
        let fence = match self.fence(work).await {
            // It was given an error before its disk was well again, and ended of it only now.
            Err(Trouble::Died { member, .. }) if self.ended_of_its_disk(member) => {
                self.heal(work).await?;
                self.fence(work).await?
            }
            fence => fence?,
        };
        if work.forces_no_election(self.cluster.members.len()) {
            // A member that could not be asked adds nothing, so the count is a lower bound.
            work.record.unforced_terms = Some(self.term().await.saturating_sub(term_before));
        }
        self.verify(work, &fence).await
    }

    /// Waits for the crowd. If it does not come in time, its number says so in the report.
    async fn gather_crowd(&self) {
        if let Some(crowd) = self.crowd {
            let bound = self.cluster.site.pace().begin().left(limits::CROWD_GATHERS);
            timer::within(bound, crowd.gathered()).await;
        }
    }

    async fn do_faults(&mut self, work: &mut Work, roles: &[(u64, Role)]) -> Result<(), Trouble> {
        self.begin_lasting(work, roles).await?;
        match work.step.faults.iter().find(|fault| !lasting::lasts(fault)).cloned() {
            Some(Fault::Kill { whom, when, again, power }) => {
                work.victims = victims::choose(&whom, roles);
                work.keep_percent = power.keeps(0, 1 + again.len());
                self.keep_older(work)?;
                self.strike(work, when).await?;
                self.strike_again(work, &again, power).await
            }
            Some(Fault::Upgrade(upgrade)) => self.upgrade(work, &upgrade, roles).await,
            // Boxed: it is the longest way through a cycle.
            Some(Fault::Restore(restore)) => Box::pin(self.restore(work, &restore, roles)).await,
            _ => {
                work.judge_lasting_alone();
                Ok(())
            }
        }
    }

    /// Looks at all members after a death of the harness, which killed them all: first at their
    /// directories, then at their recovery, like after any other kill. `work` is
    /// [`Work::without_fault`]. `migrating`: `migrate` may have been at work there.
    pub async fn look_at_the_dead(&mut self, work: &mut Work, times: u32, migrating: &BTreeSet<u64>) {
        // Never used before, as the clients' numbers.
        self.fences = u64::from(times) << 32;
        self.readers_from = times.saturating_mul(READERS_STRIDE);
        let looked = async {
            let members: Vec<_> = self.cluster.members.iter().map(|member| (member.id, member.engine)).collect();
            for (member, engine) in members {
                let death = Death { at: clock::now(), applied_received: None, ended: Ended::KilledByUs(SIGKILL) };
                self.casualty(work, Casualty { member, engine, death, dead: None });
                if migrating.contains(&member) {
                    self.inspect_migrated(work, member, Look::MigrateKilled).await?;
                }
            }
            self.inspect_dead(work).await?;
            let found: Vec<_> =
                work.last_casualties().filter_map(|one| Some((one.member, one.dead.as_ref()?.engine?))).collect();
            for (member, engine) in found {
                self.set_engine(member, engine)?;
            }
            self.restart(work).await?;
            self.catch_up(work).await?;
            let fence = self.fence(work).await?;
            self.verify(work, &fence).await
        };
        if let Err(trouble) = looked.await {
            self.outlive(work, &trouble).await;
        }
    }

    /// Waits, after the end of the load, until no lease of seconds is left or their bound has
    /// passed, and has them judged.
    pub async fn await_leases(&mut self, work: &mut Work) {
        let load = &self.scenario.load;
        if !load.has_short_leases() {
            return;
        }
        let bound = Duration::from_millis(limits::LEASE_END_MS_MAX);
        // The ages of the last requests are judged, and those requests were made before this. The
        // time that a lease itself takes is not stretched: a busy machine does not prolong it.
        let own = Duration::from_millis(u64::from(load.lease_ttl_seconds) * 2_000 + 100);
        let lap = self.cluster.site.pace().begin();
        while !self.ledger.short_leases().is_empty() && !lap.is_over(bound + own) {
            timer::sleep(limits::LEASE_PAUSE).await;
        }
        let bound_ms = lap.stretched(bound).ms();
        let answer = Some(self.cluster.site.pace().of_the_run().stretched(limits::STREAM_MEDIAN));
        self.judge(work, &Evidence::LeasesAwaited { bound_ms, answer });
    }

    /// Heals, fences and verifies once more, without a fault, before the last read. `work` is
    /// [`Work::without_fault`].
    pub async fn last_read(&mut self, work: &mut Work) {
        let looked = async {
            self.catch_up(work).await?;
            let fence = self.fence(work).await?;
            self.verify(work, &fence).await
        };
        if let Err(trouble) = looked.await {
            self.blame(work, &trouble);
        }
    }

    /// Takes the findings of `work` so far, however far it came, and writes them down. Findings of
    /// the cycle's steps come before those of the load.
    pub fn findings_of(&self, work: &mut Work) -> Vec<Finding> {
        self.drain(work);
        work.findings.sort_by_key(|raised| raised.by.kind.is_of_the_load());
        let findings: Vec<_> = work.findings.drain(..).map(|raised| raised.finding).collect();
        for finding in &findings {
            self.ledger.record(&Evidence::Finding { finding: finding.clone(), known: None });
        }
        findings
    }

    /// Records `evidence`, and hands all findings raised by now to `work`.
    fn judge(&self, work: &mut Work, evidence: &Evidence) {
        self.ledger.record(evidence);
        self.drain(work);
    }

    /// Hands the findings that this cycle's steps and the load have raised by now to `work`.
    fn drain(&self, work: &mut Work) {
        work.findings.extend(self.ledger.drain());
    }

    /// Records a finding that only the harness can have: it is testimony.
    fn tell(&self, work: &mut Work, finding: Finding) {
        self.judge(work, &Evidence::Told { finding });
    }

    /// The resources that this machine was short of, now or a moment ago.
    fn shortages(&self) -> Vec<Shortage> {
        self.machine.short(limits::SHORTAGE_AFTERMATH)
    }

    /// Blames a lateness on the machine if the machine was short of something.
    fn excuse(&self, finding: Finding) -> Finding {
        match self.shortages().first() {
            Some(short) if finding.class() == Class::Liveness => excused(finding, &short.to_string()),
            _ => finding,
        }
    }

    fn blame(&self, work: &mut Work, trouble: &Trouble) {
        let member = trouble.member().and_then(|id| self.cluster.member(id));
        let words = member.and_then(|member| member.last_words(&self.cluster.site));
        let short = credible(self.shortages(), member.is_some_and(Member::was_refused_room));
        let finding = trouble.weighed(&short, words.as_deref(), Some(work.step.cycle));
        if let Some(finding) = work.unexplained(trouble, finding) {
            self.tell(work, finding);
        }
    }

    /// A member is dead.
    fn casualty(&self, work: &mut Work, casualty: Casualty) {
        let (cycle, member, engine) = (work.step.cycle, casualty.member, Some(casualty.engine));
        if casualty.by_us() {
            self.ledger.record(&Evidence::Killed { cycle, member, engine });
        } else if casualty.by_its_disk() {
            self.ledger.record(&Evidence::EndedByDisk { cycle, member, ended: casualty.death.ended });
        }
        work.casualties.push(casualty);
    }

    /// The record of a cycle that was carried out, and its findings.
    pub fn close(&self, mut work: Work) -> CycleEnd {
        self.drain(&mut work);
        if work.findings.is_empty() {
            for finding in self.remove_retired(&work) {
                self.tell(&mut work, finding);
            }
        }
        let findings = self.findings_of(&mut work);
        let Work { lap, victims, casualties, kills_of_tools, lasting, mut record, .. } = work;
        // A cycle that ended early left lasting faults behind: they end here.
        drop(lasting);
        record.cluster = self.number;
        record.victims = victims;
        record.kills.landed = kills_of_tools;
        record.kills.disk_ends = casualties.iter().filter(|casualty| casualty.by_its_disk()).count() as u32;
        for casualty in casualties.iter().filter(|casualty| casualty.by_us()) {
            record.kills.landed += 1;
            *record.kills.by_engine.entry(casualty.engine).or_default() += 1;
        }
        record.findings = findings.len() as u32;
        record.duration_ms = lap.elapsed_ms();
        record.machine_percent = lap.factor_percent();
        record.proved_nothing = proved_nothing(&record);
        self.ledger.record(&Evidence::CycleEnd { record: record.clone() });
        CycleEnd { record, findings }
    }

    fn remove_retired(&self, work: &Work) -> Vec<Finding> {
        let paths = &self.cluster.site.paths;
        let removed = work.retired.iter().map(|id| directory::remove(&paths.node_data(*id)));
        let failed = |error: anyhow::Error| Finding::new(Harness::HarnessFailed { error: format!("{error:#}") });
        removed.filter_map(|removed| Some(failed(removed.err()?))).collect()
    }

    /// Writes a step down, before it is taken.
    fn note(&self, cycle: u32, did: Did, member: Option<u64>, what: Option<&str>) {
        let what = what.map(str::to_owned);
        self.ledger.record(&Evidence::Did { cycle, did, member, what });
    }
}

/// The signal that members get when their harness dies.
const SIGKILL: i32 = 9;
/// Numbers of readers between one resumption and the next, as of clients.
const READERS_STRIDE: u32 = 100_000;
