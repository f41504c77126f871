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

use crate::cluster::trouble::{credible, excused};
use crate::cluster::{Cluster, Death, Member, Trouble};
use crate::crowd::Crowd;
use crate::inspect::remove_dir;
use crate::machine::{Machine, Shortage};
use crate::observe::Observer;
use crate::pace::{Lap, Pace};
use crate::plan::{Fault, Power, Step, When};
use crate::scenario::Scenario;
use crate::seed::Seed;
use crate::timer;
use crate::workload::{Load, ReadProber};
use ninelives_evidence::clock;
use ninelives_evidence::ended::Ended;
use ninelives_evidence::limits;
use ninelives_evidence::member::{Engine, Role};
use ninelives_evidence::record::{
    CycleRecord, FaultOutcome, KillsRecord, PhasesMs, PlannedRecord, RecoveryRecord, Victim,
};
use ninelives_evidence::stretched::AS_IDLE;
use ninelives_evidence::verdict::findings::Harness;
use ninelives_evidence::verdict::{Class, Finding, Verdict};
use ninelives_evidence::{DeadMember, Did, Evidence, EvidenceKind, Look};
use ninelives_oracle::{Ledger, Raised};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

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

/// A kill of ours, or an end that we brought about, and what it left.
struct Casualty {
    member: u64,
    /// The engine that it ran when it died.
    engine: Engine,
    death: Death,
    dead: Option<DeadMember>,
}

impl Casualty {
    fn by_us(&self) -> bool {
        matches!(self.death.ended, Ended::KilledByUs(_))
    }

    /// Whether it ended by itself, of its disk. (A member that was removed may end with 0.)
    fn by_its_disk(&self) -> bool {
        matches!(self.death.ended, Ended::Exited(code) if code != 0)
    }
}

/// A cycle under way. The caller owns it, so that its findings outlive an interruption.
pub struct Work {
    step: Step,
    /// From its beginning.
    lap: Lap,
    /// The machine's highest factor over the steps of the healing, percent.
    healing_percent: u32,
    victims: Vec<Victim>,
    /// With the kill that is under way the power fails, and changes that were not synced survive
    /// with this chance; `None`: the power stays.
    keep_percent: Option<u32>,
    /// Faults that have begun and not ended.
    lasting: lasting::UnderWay,
    /// Syncs that disks were made to fail, and whose consequences are not drawn yet.
    failures: Vec<disks::Failure>,
    damages: damage::Damages,
    /// In the order of the kills; a member that is killed twice is here twice.
    casualties: Vec<Casualty>,
    /// Kills of `migrate` and of `snapshot restore`, which are not members.
    kills_of_tools: u32,
    /// Members that left the cluster; their directories are evidence only of a failure.
    retired: Vec<u64>,
    /// A member that was added on the way to a window of its first life, and is no voter yet.
    joined: Option<u64>,
    findings: Vec<Raised>,
    record: CycleRecord,
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
        let removed = work.retired.iter().map(|id| remove_dir(&paths.node_data(*id)));
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

fn kill_nobody() -> Fault {
    Fault::Kill { whom: victims::NOBODY, when: When::Time { ms: 0 }, again: Vec::new(), power: Power::Stays }
}

fn proved_nothing(record: &CycleRecord) -> Option<String> {
    let undisturbed =
        record.terms_passed == 0 && record.lasting.iter().all(|lasting| lasting.behind == 0 && lasting.met == 0);
    match &record.outcome {
        FaultOutcome::Skipped { why } if record.kills.landed == 0 => Some(why.clone()),
        _ if record.fence_index.is_none() => Some("no fence was answered".to_owned()),
        _ if record.damage.as_ref().is_some_and(|damage| damage.damage.is_some()) => None,
        _ if record.kills.none_planned && undisturbed => {
            Some("no member fell behind, no leader was elected, and no disk was asked for what it refused".to_owned())
        }
        _ if record.kills.none_planned => None,
        _ if record.recovery.snapshot_installed || record.restored => None,
        _ if record.killed_only_opaque() && record.recovery.behind == 0 => {
            Some("nothing was written between kill and restart".to_owned())
        }
        _ if record.killed_only_opaque() => None,
        _ if !record.killed_an_lsm() && record.recovery.lost_entries == 0 && record.recovery.replayed == 0 => {
            Some("nothing was lost or replayed".to_owned())
        }
        _ if !record.killed_an_lsm() => None,
        _ if record.recovery.lost_entries == 0 => Some("nothing was lost from a memtable".to_owned()),
        _ if record.recovery.replayed == 0 => Some("nothing was replayed".to_owned()),
        _ => None,
    }
}

impl Work {
    /// For a check of all members without a kill; its findings belong to no cycle.
    pub fn without_fault(pace: &Pace) -> Self {
        Self::new(&Step { cycle: 0, faults: vec![kill_nobody()] }, pace)
    }

    pub fn new(step: &Step, pace: &Pace) -> Self {
        let at = step.faults.iter().find_map(|fault| match fault {
            Fault::Kill { when: When::Window { window, hit }, .. } => Some((*window, *hit)),
            Fault::Upgrade(upgrade) => upgrade.kill().map(|at| (at.window, at.hit)),
            Fault::Restore(restore) => restore.kill.map(|at| (at.window, at.hit)),
            _ => None,
        });
        let kills = step.faults.iter().any(|fault| !lasting::lasts(fault));
        let (window, hit) = at.map(|(window, hit)| (window.name.to_owned(), hit)).unzip();
        let record = CycleRecord {
            cycle: step.cycle,
            cluster: 1,
            victims: Vec::new(),
            planned: PlannedRecord { trigger: step.action(), window, hit },
            outcome: FaultOutcome::Indeterminate { why: "the cycle ended before its kill".to_owned() },
            not_applicable: false,
            kills: KillsRecord { none_planned: !kills, ..KillsRecord::default() },
            lasting: Vec::new(),
            damage: None,
            terms_passed: 0,
            unforced_terms: None,
            machine_percent: AS_IDLE,
            upgraded: false,
            restored: false,
            recovery: RecoveryRecord::default(),
            fence_index: None,
            findings: 0,
            duration_ms: 0,
            phases: PhasesMs::default(),
            proved_nothing: None,
        };
        Self {
            step: step.clone(),
            lap: pace.begin(),
            healing_percent: AS_IDLE,
            victims: Vec::new(),
            keep_percent: None,
            lasting: lasting::UnderWay::default(),
            failures: Vec::new(),
            damages: damage::Damages::default(),
            casualties: Vec::new(),
            kills_of_tools: 0,
            retired: Vec::new(),
            joined: None,
            findings: Vec::new(),
            record,
        }
    }

    /// Whether no leader was touched and none can have lost its quorum. With pre-vote a returning
    /// follower starts no election, so a new term has another cause, in the members or in the
    /// machine.
    fn forces_no_election(&self, members: usize) -> bool {
        let followers_alone = self.victims.iter().all(|victim| victim.role == Role::Follower);
        let killed: BTreeSet<u64> = self.casualties.iter().map(|casualty| casualty.member).collect();
        let as_chosen = killed.iter().all(|member| self.victims.iter().any(|victim| victim.member == *member));
        let quorum_left = (members - killed.len().min(members)) * 2 > members;
        let kills_alone = self.record.lasting.is_empty() && self.retired.is_empty() && !self.record.upgraded;
        !self.victims.is_empty() && followers_alone && as_chosen && quorum_left && kills_alone
    }

    /// Whether a piece of evidence of this kind raised a finding in this cycle.
    fn found_by(&self, kind: EvidenceKind) -> bool {
        self.findings.iter().any(|raised| raised.by.kind == kind)
    }

    fn skip(&mut self, why: impl Into<String>) {
        self.record.outcome = FaultOutcome::Skipped { why: why.into() };
    }

    /// A skip because the step does not exist on the engine of the member that it is for.
    fn skip_as_not_applicable(&mut self, why: impl Into<String>) {
        self.skip(why);
        self.record.not_applicable = true;
    }

    /// The finding for a trouble. `None`: the member died because of its dead directory, which is
    /// already known to be wrong; its death adds words to that finding, but no second class.
    fn unexplained(&mut self, trouble: &Trouble, finding: Finding) -> Option<Finding> {
        let of_a_step = self.findings.iter_mut().filter(|raised| !raised.by.kind.is_of_the_load());
        let cause = of_a_step.map(|raised| &mut raised.finding).find(|known| {
            known.member == finding.member && finding.member.is_some() && known.class().verdict() == Verdict::Violation
        });
        match (cause, trouble) {
            (Some(cause), Trouble::Died { .. }) => {
                cause.then.push(finding.what);
                None
            }
            _ => Some(finding),
        }
    }

    /// The last kill of each member, ascending by member.
    fn last_casualties(&self) -> impl Iterator<Item = &Casualty> {
        let last: BTreeMap<u64, &Casualty> =
            self.casualties.iter().map(|casualty| (casualty.member, casualty)).collect();
        last.into_values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ninelives_evidence::record::{LastingKind, LastingRecord};
    use ninelives_oracle::Origin;

    fn work() -> Work {
        Work::new(&Step { cycle: 4, faults: vec![kill_nobody()] }, &Pace::idle())
    }

    fn died() -> Trouble {
        Trouble::Died { member: 2, ended: Ended::Exited(65), served: false, lived_before: true, remark: None }
    }

    fn raised(kind: EvidenceKind, member: u64) -> Raised {
        let finding = Finding::of_class(Class::IndexAheadOfEngine).in_cycle(4).at_member(member);
        Raised { finding, by: Origin { line: 9, kind } }
    }

    #[test]
    fn a_death_that_the_dead_directory_explains_keeps_its_class() {
        let mut work = work();
        work.findings.push(raised(EvidenceKind::Inspected, 2));
        assert_eq!(work.unexplained(&died(), died().finding(Some(4))), None);
        let found = &work.findings[0].finding;
        assert_eq!(found.class(), Class::IndexAheadOfEngine);
        assert_eq!(found.then, [died().finding(None).what]);
        assert!(found.sentence().contains("; then n2: expected it to start"), "{found}");
    }

    /// An alarm about a member's answers does not explain its death.
    #[test]
    fn a_death_beside_an_alarm_of_the_load_keeps_its_class() {
        let mut work = work();
        work.findings.push(raised(EvidenceKind::Done, 2));
        assert_eq!(work.unexplained(&died(), died().finding(Some(4))).unwrap().class(), Class::RefusedAfterOwnCrash);
    }

    #[test]
    fn a_death_that_nothing_explains_is_a_refusal() {
        let mut work = work();
        work.findings.push(raised(EvidenceKind::Inspected, 1));
        assert_eq!(work.unexplained(&died(), died().finding(Some(4))).unwrap().class(), Class::RefusedAfterOwnCrash);
    }

    #[test]
    fn a_cycle_says_when_it_proved_nothing() {
        let mut record = work().record;
        record.fence_index = Some(9);
        record.kills.landed = 1;
        record.kills.by_engine = [(Engine::Rocksdb, 1)].into();
        assert!(proved_nothing(&record).unwrap().contains("memtable"));
        record.recovery.lost_entries = 3;
        assert!(proved_nothing(&record).unwrap().contains("replayed"));
        record.recovery.replayed = 3;
        assert_eq!(proved_nothing(&record), None);
        record.fence_index = None;
        assert!(proved_nothing(&record).unwrap().contains("fence"));
    }

    /// A kill of the leader, of a majority, of another member on the way, or a pause can each force
    /// an election.
    #[test]
    fn only_kills_of_a_minority_of_followers_force_no_election() {
        let with = |victims: &[(u64, Role)], killed: &[u64]| {
            let mut work = work();
            work.victims = victims.iter().map(|(member, role)| Victim { member: *member, role: *role }).collect();
            let ended = Ended::KilledByUs(SIGKILL);
            let death = || Death { at: clock::now(), applied_received: None, ended };
            let casualty =
                |member: &u64| Casualty { member: *member, engine: Engine::Redb, death: death(), dead: None };
            work.casualties = killed.iter().map(casualty).collect();
            work
        };
        let follower = with(&[(2, Role::Follower)], &[2, 2]);
        assert!(follower.forces_no_election(3));
        assert!(!follower.forces_no_election(2));
        assert!(!with(&[(2, Role::Leader)], &[2]).forces_no_election(3));
        assert!(!with(&[(2, Role::Follower)], &[1, 2]).forces_no_election(3));
        assert!(!with(&[(2, Role::Follower), (3, Role::Follower)], &[2, 3]).forces_no_election(3));
        assert!(!with(&[], &[]).forces_no_election(3));
        let mut paused = with(&[(2, Role::Follower)], &[]);
        paused.record.lasting = vec![lasting(0)];
        assert!(!paused.forces_no_election(3));
    }

    fn lasting(behind: u64) -> LastingRecord {
        LastingRecord {
            fault: "pause leader for 9ms at time 0ms".to_owned(),
            kind: LastingKind::Pause,
            victims: Vec::new(),
            links: 0,
            lasted_ms: Some(9),
            behind,
            majority: Vec::new(),
            majority_wrote_ms: None,
            met: 0,
            operation: None,
            skipped: None,
            not_applicable: false,
        }
    }

    #[test]
    fn an_unnoticed_pause_proved_nothing() {
        let mut record = work().record;
        (record.fence_index, record.kills.none_planned, record.outcome) = (Some(9), true, FaultOutcome::Landed);
        record.lasting = vec![lasting(0)];
        assert!(proved_nothing(&record).unwrap().contains("no leader was elected"));
        record.terms_passed = 1;
        assert_eq!(proved_nothing(&record), None);
        (record.terms_passed, record.lasting) = (0, vec![lasting(0), lasting(4)]);
        assert_eq!(proved_nothing(&record), None);
        record.lasting = vec![LastingRecord { kind: LastingKind::Fill, met: 1, ..lasting(0) }];
        assert_eq!(proved_nothing(&record), None, "a disk was asked for room that it did not have");
    }

    #[test]
    fn a_step_without_a_kill_landed_if_all_of_it_began() {
        let mut work = work();
        let skipped = |not_applicable| LastingRecord { skipped: Some("why".into()), not_applicable, ..lasting(0) };
        for (second, outcome, not_applicable) in [
            (lasting(0), FaultOutcome::Landed, false),
            (skipped(false), FaultOutcome::Skipped { why: "why".into() }, false),
            (skipped(true), FaultOutcome::Skipped { why: "why".into() }, true),
        ] {
            work.record.lasting = vec![lasting(3), second];
            work.judge_lasting_alone();
            assert_eq!((&work.record.outcome, work.record.not_applicable), (&outcome, not_applicable));
        }
    }

    /// On such an engine a commit is durable once it is answered: only entries that are in the log
    /// and not in the engine can be missing.
    #[test]
    fn on_redb_a_replay_alone_is_proof() {
        let mut record = work().record;
        (record.fence_index, record.kills.landed, record.recovery.replayed) = (Some(9), 1, 2);
        record.kills.by_engine = [(Engine::Redb, 1)].into();
        assert_eq!(proved_nothing(&record), None);
        record.recovery.replayed = 0;
        assert!(proved_nothing(&record).unwrap().contains("lost or replayed"));
    }
}
