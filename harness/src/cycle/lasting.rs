//! Faults that end by themselves: members that stand still, and links that are disturbed.
//!
//! Each waits for its place, all at once; the step goes on when every one of them has begun, or was not reached. From its
//! beginning on each has a task of its own that ends it when its time is over. The task holds what undoes the fault: however it ends (a
//! cycle that fails, an interruption), members go on and links heal.
//!
//! Shortly before the end the others are written to, and then the victims read from ([`Prober`]): a victim that still takes
//! itself for the leader must not answer from what it has.

use super::revive::first_trouble;
use super::strike::Reached;
use super::{Stage, Work, victims};
use crate::cluster::{Disturbance, Paused, Trouble};
use crate::evidence::Evidence;
use crate::oracle::Ledger;
use crate::plan::{Fault, Link, When, Whom};
use crate::record::{LastingKind, LastingRecord, Outcome, Role, Victim};
use crate::target::Slot;
use crate::workload::Prober;
use crate::{clock, limits};
use anyhow::{Context, anyhow};
use futures_util::future::join_all;
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// The tasks that end what lasts; dropping them ends it at once.
#[derive(Default)]
pub(super) struct UnderWay {
    /// By place in the record; one task in each that began.
    tasks: Vec<JoinSet<io::Result<Ended>>>,
    /// The highest term of the cluster when the first one began.
    term: u64,
}

struct Ended {
    lasted_ms: u64,
    behind: u64,
}

/// What undoes a fault.
enum Hold {
    Pause(Vec<Paused>),
    Network(Disturbance),
}

/// Who is hit, and what is needed to look after it.
struct Patient {
    ledger: Arc<Ledger>,
    prober: Prober,
    cycle: u32,
    fault: String,
    /// Places of the victims among the endpoints.
    endpoints: Vec<usize>,
    /// Applied indexes, plus one, as they were received: the victims' and everybody's.
    victims_applied: Vec<Arc<AtomicU64>>,
    all_applied: Vec<Arc<AtomicU64>>,
}

/// Why a fault did not begin.
enum Skip {
    NotReached(String),
    /// Its window does not exist on the victim's engine.
    NotApplicable(String),
}

/// Whether `fault` ends by itself.
pub(super) fn lasts(fault: &Fault) -> bool {
    matches!(fault, Fault::Pause { .. } | Fault::Network { .. })
}

/// Whom, when, for how many milliseconds, and which links; `None`: it does not last.
fn parts(fault: &Fault) -> Option<(Whom, When, u64, Option<Link>)> {
    match *fault {
        Fault::Pause { whom, when, ms } => Some((whom, when, ms, None)),
        Fault::Network { link, whom, when, ms } => Some((whom, when, ms, Some(link))),
        Fault::Kill { .. } | Fault::Upgrade(_) | Fault::Restore(_) => None,
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
    ) -> Result<(LastingRecord, JoinSet<io::Result<Ended>>), Trouble> {
        let mut task = JoinSet::new();
        let (whom, when, ms, link) =
            parts(fault).ok_or_else(|| Trouble::Harness(anyhow!("`{fault}` does not end by itself")))?;
        let victims = victims::choose(&whom, roles);
        let kind = if link.is_some() { LastingKind::Network } else { LastingKind::Pause };
        let mut record = LastingRecord {
            fault: fault.to_string(),
            kind,
            victims: victims.clone(),
            links: 0,
            lasted_ms: None,
            behind: 0,
            skipped: None,
            not_applicable: false,
        };
        let Some(first) = victims.first().map(|victim| victim.member) else {
            record.skipped = Some("no member has the role that it asks for".to_owned());
            return Ok((record, task));
        };
        if let Some(skip) = self.reach_begin(first, when).await? {
            record.not_applicable = matches!(skip, Skip::NotApplicable(_));
            let (Skip::NotApplicable(why) | Skip::NotReached(why)) = skip;
            record.skipped = Some(why);
            return Ok((record, task));
        }
        self.note(work.step.cycle, "begin", Some(first), Some(&record.fault));
        let hold = match link {
            None => Hold::Pause(self.pause(&victims).await?),
            Some(link) => {
                let disturbance = self.disturb(link, &victims)?;
                record.links = disturbance.links() as u32;
                if matches!(when, When::Window { .. }) {
                    // It stood still there by itself; the fault is the link's, so it goes on.
                    self.member(first)?.pause().await?.go_on().await.context("cannot let a member go on")?;
                }
                Hold::Network(disturbance)
            }
        };
        let (patient, since) = (self.patient(work.step.cycle, (nth, &record.fault), &victims)?, clock::now());
        task.spawn(async move { look_after(hold, &patient, since, ms).await });
        Ok((record, task))
    }

    /// Waits until `first` is where a fault begins. `Some`: why it did not get there.
    async fn reach_begin(&self, first: u64, when: When) -> Result<Option<Skip>, Trouble> {
        let reached = match when {
            When::Time { ms } => {
                clock::sleep(Duration::from_millis(ms)).await;
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
                self.reach_by_load(first, window.name, hit).await?
            }
        };
        let bound = self.scenario.bounds.window_wait_ms_max;
        Ok((reached == Reached::No).then(|| Skip::NotReached(format!("{when}: not reached within {bound} ms"))))
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
            ledger: Arc::clone(&self.ledger),
            prober: prober.beside(nth),
            cycle,
            fault: fault.to_owned(),
            victims_applied: endpoints.iter().map(|at| self.cluster.members[*at].applied_follower()).collect(),
            all_applied: self.cluster.members.iter().map(|member| member.applied_follower()).collect(),
            endpoints,
        })
    }

    async fn make_prober(&mut self) -> Result<(), Trouble> {
        if self.prober.is_none() {
            let load = &self.scenario.load;
            let endpoints: Vec<_> = self.cluster.endpoints().into_iter().map(|(_, endpoint)| endpoint).collect();
            let ledger = Arc::clone(&self.ledger);
            let timeout = Duration::from_millis(load.op_timeout_ms);
            self.prober =
                Some(Prober::new(&endpoints, timeout, (self.readers_from + load.clients, load.keys), ledger).await?);
        }
        Ok(())
    }

    async fn term(&self) -> u64 {
        self.cluster.statuses().await.iter().map(|status| status.term).max().unwrap_or(0)
    }

    /// Waits until everything that lasts has ended.
    pub(super) async fn end_lasting(&mut self, work: &mut Work) -> Result<(), Trouble> {
        if work.record.lasting.is_empty() {
            return Ok(());
        }
        for (record, task) in work.record.lasting.iter_mut().zip(&mut work.lasting.tasks) {
            let Some(ended) = task.join_next().await else { continue };
            let ended = ended.map_err(|error| Trouble::Harness(anyhow!("a fault ended by a panic: {error}")))?;
            let Ended { lasted_ms, behind } = ended.context("cannot let a member go on")?;
            (record.lasted_ms, record.behind) = (Some(lasted_ms), behind);
        }
        work.record.terms_passed = self.term().await.saturating_sub(work.lasting.term);
        Ok(())
    }
}

/// Lets the fault last, has its victims read from, and ends it.
async fn look_after(hold: Hold, patient: &Patient, since: Instant, ms: u64) -> io::Result<Ended> {
    let end = since + Duration::from_millis(ms);
    let before = |lead| end.checked_sub(lead).unwrap_or(since);
    let write = async {
        clock::sleep_until(before(limits::PROBE_WRITE_LEAD)).await;
        patient.prober.write((0..patient.all_applied.len()).filter(|at| !patient.endpoints.contains(at))).await;
    };
    let read = async {
        clock::sleep_until(before(limits::PROBE_LEAD)).await;
        let reads = patient.endpoints.iter().map(|at| patient.prober.read_until(*at, end + limits::PROBE_TAIL));
        join_all(reads).await;
    };
    let undo = async {
        clock::sleep_until(end).await;
        let behind = patient.behind();
        let lasted_ms = clock::ms_since(since);
        let what = Some(format!("{}, after {lasted_ms} ms", patient.fault));
        patient.ledger.take(&Evidence::Did { cycle: patient.cycle, did: "end".to_owned(), member: None, what });
        match hold {
            Hold::Pause(paused) => {
                let went_on = join_all(paused.into_iter().map(Paused::go_on)).await;
                went_on.into_iter().collect::<io::Result<()>>()?;
            }
            Hold::Network(disturbance) => drop(disturbance),
        }
        Ok(Ended { lasted_ms, behind })
    };
    // Whoever is late with an answer must not make the fault last longer.
    let (ended, (), ()) = tokio::join!(undo, write, read);
    ended
}

impl Patient {
    fn behind(&self) -> u64 {
        let least = self.victims_applied.iter().map(|applied| applied.load(Ordering::Acquire)).min().unwrap_or(0);
        let most = self.all_applied.iter().map(|applied| applied.load(Ordering::Acquire)).max().unwrap_or(0);
        most.saturating_sub(least)
    }
}

impl Work {
    /// The outcome of a step without a kill: it landed if everything that it planned began.
    pub(super) fn judge_lasting_alone(&mut self) {
        let skipped: Vec<_> = self.record.lasting.iter().filter(|lasting| lasting.skipped.is_some()).collect();
        let why: Vec<_> = skipped.iter().filter_map(|lasting| lasting.skipped.clone()).collect();
        let not_applicable = skipped.iter().all(|lasting| lasting.not_applicable);
        match why.is_empty() {
            true => self.record.outcome = Outcome::Landed,
            false if not_applicable => self.skip_as_not_applicable(why.join("; ")),
            false => self.skip(why.join("; ")),
        }
    }
}
