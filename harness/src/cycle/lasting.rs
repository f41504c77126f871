//! Faults that end by themselves: members that stand still, links that are disturbed, and disks
//! that fail.
//!
//! All faults of a step wait for their places at once; the step goes on when each of them has
//! begun, or was not reached. From its beginning on each fault has a task of its own that ends it
//! when its time is over. The task holds the handle that undoes the fault, so members go on and
//! links heal however the task ends (a failed cycle, an interruption).
//!
//! A cut that leaves a majority whose members all hear each other must not keep that majority from
//! serving: the prober writes to it from the beginning on ([`connected_majority`]), and its first
//! acknowledgement is judged. The members that an isolation leaves without a quorum are watched by
//! a client that wants a member with a leader ([`leaderless`]).
//!
//! Shortly before the end the prober writes to the others, and then reads from the victims
//! ([`ReadProber`]): a victim that still believes that it leads must not answer from its old state.

mod patient;

use super::reach::Reached;
use super::revive::first_trouble;
use super::{Stage, Work, victims};
use crate::cluster::{Disturbance, Paused, Trouble};
use crate::dial::url;
use crate::observe::leaderless;
use crate::plan::{Ailment, At, DiskFault, Fault, Link, When, Whom};
use crate::subject::FileOperation;
use crate::timer;
use crate::workload::ReadProber;
use anyhow::{Context, anyhow};
use futures_util::future::join_all;
use ninelives_evidence::clock;
use ninelives_evidence::member::{Role, Slot};
use ninelives_evidence::record::{FaultOutcome, LastingKind, LastingRecord, Victim};
use ninelives_evidence::{Cut, Did, Evidence, Leaderless};
use patient::{Hold, LastingEnd, Patient, await_failures, await_refusals, look_after};
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// The tasks that end the lasting faults; dropping them ends the faults at once.
#[derive(Default)]
pub(super) struct UnderWay {
    /// By place in the record.
    tasks: Vec<Task>,
    /// The highest term of the cluster when the first one began.
    term: u64,
}

#[derive(Default)]
struct Task {
    /// Empty if the fault did not begin, or has ended.
    set: JoinSet<io::Result<LastingEnd>>,
    /// A member may end by it, and is started again only after it.
    mortal: bool,
    /// A member may end by it in its next start as well.
    meets_starts: bool,
}

/// What is done to the victims of a lasting fault.
#[derive(Clone, Copy)]
enum What {
    Pause,
    Network(Link),
    Disk(Ailment),
}

impl What {
    fn operation(self) -> Option<&'static FileOperation> {
        match self {
            What::Disk(ailment) => ailment.operation(),
            What::Pause | What::Network(_) => None,
        }
    }

    fn kind(self) -> LastingKind {
        match self {
            What::Pause => LastingKind::Pause,
            What::Network(_) => LastingKind::Network,
            What::Disk(Ailment::Fill { .. }) => LastingKind::Fill,
            What::Disk(Ailment::Slow { .. }) => LastingKind::Slow,
            What::Disk(Ailment::FailSync { .. }) => LastingKind::FailSync,
            What::Disk(Ailment::Fail { operation, .. }) if operation.reads() => LastingKind::FailRead,
            What::Disk(Ailment::Fail { .. }) => LastingKind::FailWrite,
            What::Disk(Ailment::Shorten { .. }) => LastingKind::Shorten,
        }
    }
}

/// Reason why a fault did not begin.
enum Skip {
    NotReached(String),
    /// Its window does not exist on the victim's engine.
    NotApplicable(String),
}

/// Whether `fault` ends by itself.
pub(super) fn lasts(fault: &Fault) -> bool {
    matches!(fault, Fault::Pause { .. } | Fault::Network { .. } | Fault::Disk(_))
}

/// The parts of a lasting fault: its victims, its moment, its milliseconds and what it does;
/// `None`: the fault does not last.
fn parts(fault: &Fault) -> Option<(Whom, When, u64, What)> {
    match *fault {
        Fault::Pause { whom, when, ms } => Some((whom, when, ms, What::Pause)),
        Fault::Network { link, whom, when, ms } => Some((whom, when, ms, What::Network(link))),
        Fault::Disk(DiskFault { ailment, whom, when }) => Some((whom, when, ailment.ms(), What::Disk(ailment))),
        Fault::Kill { .. } | Fault::Strangers { .. } | Fault::Corrupt(_) | Fault::Upgrade(_) | Fault::Restore(_) => {
            None
        }
    }
}

impl Stage<'_> {
    /// Begins all faults of the step that last. `roles` has every member, with one leader.
    pub(super) async fn begin_lasting(&mut self, work: &mut Work, roles: &[(u64, Role)]) -> Result<(), Trouble> {
        let planned: Vec<Fault> = work.step.faults.iter().filter(|fault| lasts(fault)).cloned().collect();
        if planned.is_empty() {
            return Ok(());
        }
        self.make_prober().await?;
        work.lasting.term = self.term().await;
        let begins = (0..).zip(&planned).map(|(nth, fault)| self.begin(work, (nth, fault), roles));
        let (records, tasks): (Vec<_>, Vec<_>) = first_trouble(join_all(begins).await)?.into_iter().unzip();
        (work.record.lasting, work.lasting.tasks) = (records, tasks);
        Ok(())
    }

    /// Brings the first victim to the planned place, and begins `fault` there.
    async fn begin(
        &self,
        work: &Work,
        (nth, fault): (u32, &Fault),
        roles: &[(u64, Role)],
    ) -> Result<(LastingRecord, Task), Trouble> {
        let (whom, when, ms, what) =
            parts(fault).ok_or_else(|| Trouble::Harness(anyhow!("`{fault}` does not end by itself")))?;
        let victims = victims::choose(&whom, roles);
        let mut record = LastingRecord {
            victims: victims.clone(),
            operation: what.operation().map(|operation| operation.name.to_owned()),
            ..LastingRecord::planned(fault.to_string(), what.kind())
        };
        let first = match self.bring_first(&victims, when, what).await? {
            Ok(first) => first,
            Err(skip) => {
                record.not_applicable = matches!(skip, Skip::NotApplicable(_));
                let (Skip::NotApplicable(why) | Skip::NotReached(why)) = skip;
                record.skipped = Some(why);
                return Ok((record, Task::default()));
            }
        };
        self.note(work.step.cycle, Did::Begin, Some(first), Some(&record.fault));
        let hold = match what {
            What::Pause => Hold::Pause(self.pause(&victims).await?),
            What::Network(link) => Hold::Network(self.disturb(link, &victims)?),
            What::Disk(ailment) => Hold::Disk(self.ail(work.step.cycle, ailment, &victims)?),
        };
        if let Hold::Network(disturbance) = &hold {
            record.links = disturbance.links() as u32;
        }
        if !matches!(what, What::Pause) && matches!(when, When::Window { .. }) {
            // The member stood still there by itself; the fault concerns its links or its disk, so
            // it goes on.
            self.member(first)?.pause().await?.go_on().await.context("cannot let a member go on")?;
        }
        let (mut patient, since) = (self.patient(work.step.cycle, (nth, &record.fault), &victims)?, clock::now());
        patient.writes = what.kind() != LastingKind::Fill;
        if let (What::Network(link), 1) = (what, work.step.faults.len()) {
            self.follow_a_cut(link, &mut patient, &mut record);
        }
        let task = self.ending(what, (hold, &victims), patient, (since, ms))?;
        Ok((record, task))
    }

    /// Brings the first of `victims` to the place where `what` begins. `Err` inside: the reason why
    /// it does not begin.
    async fn bring_first(&self, victims: &[Victim], when: When, what: What) -> Result<Result<u64, Skip>, Trouble> {
        let Some(first) = victims.first().map(|victim| victim.member) else {
            return Ok(Err(Skip::NotReached("no member has the role that it asks for".to_owned())));
        };
        let engine = self.member(first)?.engine;
        if let Some(operation) = what.operation().filter(|operation| !operation.exists_on(engine)) {
            return Ok(Err(Skip::NotApplicable(format!("n/a on {engine}: {}", operation.name))));
        }
        Ok(self.reach_begin(first, when).await?.map_or(Ok(first), Err))
    }

    /// Has the majority that `link` leaves connected written to, and the members that it leaves
    /// without a quorum looked at.
    fn follow_a_cut(&self, link: Link, patient: &mut Patient, record: &mut LastingRecord) {
        patient.majority = connected_majority(link, &patient.endpoints, self.cluster.members.len());
        record.majority = patient.majority.iter().map(|at| self.cluster.members[*at].id).collect();
        if link == Link::Isolate && !patient.majority.is_empty() {
            let others = self.cluster.members.iter().filter(|member| !record.majority.contains(&member.id));
            patient.leaderless = others.map(|member| (member.id, url(member.addresses.client))).collect();
        }
    }

    /// The task that ends the fault, which began at `since` and lasts `ms` milliseconds.
    fn ending(
        &self,
        what: What,
        (hold, victims): (Hold, &[Victim]),
        patient: Patient,
        (since, ms): (Instant, u64),
    ) -> Result<Task, Trouble> {
        let mut task = Task::default();
        if let What::Disk(ailment) = what {
            (task.mortal, task.meets_starts) = (ailment.may_end_a_member(), ailment.meets_starts());
        }
        let long = Duration::from_millis(ms);
        match (what, hold) {
            (What::Disk(Ailment::FailSync { losing }), Hold::Disk(ailing)) => {
                let failing = self.failing(ailing, victims)?;
                task.set.spawn(async move { await_failures(failing, &patient, since, (long, losing)).await })
            }
            (What::Disk(Ailment::Fail { .. }), Hold::Disk(ailing)) => {
                let refusing = self.refusing(ailing, victims);
                task.set.spawn(async move { await_refusals(refusing, &patient, since, long).await })
            }
            (_, hold) => task.set.spawn(async move { look_after(hold, &patient, since, ms).await }),
        };
        Ok(task)
    }

    /// Waits until `first` is at the place where a fault begins. `Some`: the reason why it did not
    /// get there.
    async fn reach_begin(&self, first: u64, when: When) -> Result<Option<Skip>, Trouble> {
        let reached = match when {
            When::Time { ms } => {
                timer::sleep(Duration::from_millis(ms)).await;
                Reached::Yes
            }
            When::Applied { ahead } => self.reach_applied(first, ahead).await?,
            When::Window { window, hit } => {
                let engine = self.member(first)?.engine;
                if !window.exists_on(engine) {
                    return Ok(Some(Skip::NotApplicable(format!(
                        "{}: n/a on {engine}, which n{first} runs",
                        window.name
                    ))));
                }
                self.reach_by_load(first, At { window, hit }).await?
            }
        };
        Ok(match reached {
            Reached::No(miss) => Some(Skip::NotReached(format!("{when}: {miss}"))),
            Reached::Yes | Reached::Struck => None,
        })
    }

    async fn pause(&self, victims: &[Victim]) -> Result<Vec<Paused>, Trouble> {
        let stops = victims.iter().map(|victim| async { self.member(victim.member)?.pause().await });
        first_trouble(join_all(stops).await)
    }

    fn disturb(&self, link: Link, victims: &[Victim]) -> Result<Disturbance, Trouble> {
        let links = self.cluster.site.links.as_ref();
        let links =
            links.ok_or_else(|| Trouble::Harness(anyhow!("the plan disturbs links, and no proxy was started")))?;
        let slot = |victim: &Victim| -> Result<Slot, Trouble> { Ok(self.member(victim.member)?.slot) };
        let group = victims.iter().map(slot).collect::<Result<BTreeSet<_>, _>>()?;
        Ok(links.disturb(link, &group))
    }

    fn patient(&self, cycle: u32, (nth, fault): (u32, &str), victims: &[Victim]) -> Result<Patient, Trouble> {
        let prober = self.prober.as_ref().ok_or_else(|| Trouble::Harness(anyhow!("there is no prober")))?;
        let place = |victim: &Victim| self.cluster.members.iter().position(|member| member.id == victim.member);
        let endpoints: Vec<_> = victims.iter().filter_map(place).collect();
        Ok(Patient {
            lap: self.cluster.site.pace().begin(),
            ledger: Arc::clone(&self.ledger),
            prober: prober.beside(nth),
            cycle,
            fault: fault.to_owned(),
            victims_applied: endpoints.iter().map(|at| self.cluster.members[*at].applied_follower()).collect(),
            all_applied: self.cluster.members.iter().map(|member| member.applied_follower()).collect(),
            endpoints,
            writes: true,
            majority: Vec::new(),
            leaderless: Vec::new(),
        })
    }

    pub(super) async fn make_prober(&mut self) -> Result<(), Trouble> {
        if self.prober.is_none() {
            let load = &self.scenario.load;
            let endpoints: Vec<_> = self.cluster.endpoints().into_iter().map(|(_, endpoint)| endpoint).collect();
            let ledger = Arc::clone(&self.ledger);
            let timeout = Duration::from_millis(load.op_timeout_ms);
            self.prober = Some(
                ReadProber::new(&endpoints, timeout, (self.readers_from + load.numbers(), load.keys), ledger).await?,
            );
        }
        Ok(())
    }

    pub(super) async fn term(&self) -> u64 {
        self.cluster.statuses().await.iter().map(|status| status.term).max().unwrap_or(0)
    }

    /// Waits until everything that lasts has ended.
    pub(super) async fn end_lasting(&mut self, work: &mut Work) -> Result<(), Trouble> {
        if work.record.lasting.is_empty() {
            return Ok(());
        }
        self.end_those(work, |_| true).await?;
        work.record.terms_passed = self.term().await.saturating_sub(work.lasting.term);
        Ok(())
    }

    /// Waits until everything has ended that a member may end by, and that it is not to meet in its
    /// next start.
    pub(super) async fn end_mortal(&mut self, work: &mut Work) -> Result<(), Trouble> {
        self.end_those(work, |task| task.mortal && !task.meets_starts).await
    }

    /// Waits until everything has ended that a member has ended by in its start.
    pub(super) async fn end_met_by_starts(&mut self, work: &mut Work) -> Result<(), Trouble> {
        self.end_those(work, |task| task.meets_starts).await
    }

    async fn end_those(&mut self, work: &mut Work, those: fn(&Task) -> bool) -> Result<(), Trouble> {
        let tasks = work.record.lasting.iter_mut().zip(&mut work.lasting.tasks);
        for (record, task) in tasks.filter(|(_, task)| those(task)) {
            let Some(ended) = task.set.join_next().await else { continue };
            let ended = ended.map_err(|error| Trouble::Harness(anyhow!("a fault ended by a panic: {error}")))?;
            let LastingEnd { lasted_ms, behind, met, majority_wrote_ms, leaderless, machine_percent, failures } =
                ended.context("cannot let a member go on")?;
            for (member, seen) in leaderless {
                let (cycle, fault, leaderless::Seen { ended, named }) = (work.step.cycle, record.fault.clone(), seen);
                let leaderless = Leaderless { cycle, fault, member, lasted_ms, ended, named, machine_percent };
                let bound_ms = self.scenario.bounds.leaderless_ms_max;
                self.ledger.record(&Evidence::Leaderless { leaderless, bound_ms });
            }
            (record.lasted_ms, record.behind, record.met) = (Some(lasted_ms), behind, met);
            work.failures.extend(failures);
            record.majority_wrote_ms = majority_wrote_ms;
            if !record.majority.is_empty() {
                let (fault, majority) = (record.fault.clone(), record.majority.clone());
                let (cycle, wrote_ms) = (work.step.cycle, majority_wrote_ms);
                let cut = Cut { cycle, fault, majority, lasted_ms, wrote_ms, machine_percent };
                let bound_ms = self.scenario.bounds.cut_write_ms_max;
                self.ledger.record(&Evidence::Cut { cut, bound_ms });
            }
        }
        self.drain(work);
        Ok(())
    }
}

/// The places of more than half of `members` members that certainly all hear each other while
/// `link` disturbs the members in the places `cut`; empty if no majority is left.
fn connected_majority(link: Link, cut: &[usize], members: usize) -> Vec<usize> {
    let others: Vec<_> = (0..members).filter(|at| !cut.contains(at)).collect();
    match link {
        // Nothing is cut: whether a leader keeps its followers depends on the delay.
        Link::Delay { .. } => Vec::new(),
        Link::Isolate | Link::Mute | Link::Deafen if others.len() * 2 > members => others,
        // If every member is disturbed, the links between all of them are cut.
        Link::Isolate | Link::Mute | Link::Deafen if !others.is_empty() && cut.len() * 2 > members => cut.to_vec(),
        Link::Isolate | Link::Mute | Link::Deafen => Vec::new(),
    }
}

impl Work {
    /// The outcome of a step without a kill: it landed if all of its faults began.
    pub(super) fn judge_lasting_alone(&mut self) {
        let skipped: Vec<_> = self.record.lasting.iter().filter(|lasting| lasting.skipped.is_some()).collect();
        let why: Vec<_> = skipped.iter().filter_map(|lasting| lasting.skipped.clone()).collect();
        let not_applicable = skipped.iter().all(|lasting| lasting.not_applicable);
        match why.is_empty() {
            true => self.record.outcome = FaultOutcome::Landed,
            false if not_applicable => self.skip_as_not_applicable(why.join("; ")),
            false => self.skip(why.join("; ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cycle::work::tests::{lasting, work};

    #[test]
    fn a_majority_is_connected_beside_a_cut_or_inside_it() {
        for link in [Link::Isolate, Link::Mute, Link::Deafen] {
            assert_eq!(connected_majority(link, &[1], 3), [0, 2]);
            assert_eq!(connected_majority(link, &[0, 2], 3), [0, 2], "they hear each other");
            assert_eq!(connected_majority(link, &[0, 1], 5), [2, 3, 4]);
            assert_eq!(connected_majority(link, &[0, 1, 2], 3), [0; 0], "no member hears another");
            assert_eq!(connected_majority(link, &[0, 1], 4), [0; 0], "half is not a majority");
        }
        assert_eq!(connected_majority(Link::Delay { by_ms: 5 }, &[1], 3), [0; 0]);
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
}
